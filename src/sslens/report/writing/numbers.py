"""The text of numbers in sentences: every estimate with its interval, in the same format
everywhere."""

import math
import re

from sslens.comparisons.roles import list_names as list_names
from sslens.counts import spell_count as spell_count
from sslens.statistics.estimate import FEWEST, LARGEST, NARROWEST, SMALLEST, Contrast, Estimate

#: kinds of numbers of which differences are spelt in points
IN_POINTS = ("accuracy", "ap")
#: a difference is 0 but for rounding if its value and its ends are all smaller
ROUNDING = 1e-9
#: a hyphen that stands for a minus: before a number, and after a space or an opening bracket
_MINUS = re.compile(r"(?<![^\s(\[])-(?=\d+(?:\.\d+)?(?:e-?\d+)?(?![\w-]))")
#: a word of a right-to-left script, up to a space or a mark that ends it
_LEFTWARDS = re.compile(r"[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc][^\s,;:()\[\]]*")


def typeset(text: str) -> str:
    """Give the numbers of a text a minus sign in place of the hyphen, as the page shows them; files
    keep the hyphen, which programs read. Words of a right-to-left script are isolated (U+2068 and
    U+2069), so that the numbers after them keep their order.

    >>> typeset("-0.08 [-0.10, -0.06] of blocks-3 by 20-NN")
    '−0.08 [−0.10, −0.06] of blocks-3 by 20-NN'
    >>> typeset("over שם, 5").encode("ascii", "namereplace").count(b"ISOLATE")
    2
    """
    return set_minus(_LEFTWARDS.sub("\u2068\\g<0>\u2069", text))


def set_minus(text: str) -> str:
    """Give the numbers of a text a minus sign in place of the hyphen, and nothing else.

    >>> set_minus("-0.01 of blocks-3")
    '−0.01 of blocks-3'
    """
    return _MINUS.sub("−", text)


def spell(estimate: Estimate) -> str:
    """Format a similarity or a share of variance, with its interval if there is one.

    >>> spell(Estimate(0.714, 0.69, 0.74, "minibatches", 32)), spell(Estimate(0.714))
    ('0.71 [0.69, 0.74]', '0.71')
    """
    if math.isnan(estimate.low):
        return f"{estimate.value:.2f}"
    return f"{estimate.value:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"


def spell_level(value: float) -> str:
    """Format a similarity without an interval.

    >>> spell_level(0.714)
    '0.71'
    """
    return f"{value:.2f}"


def spell_share(estimate: Estimate) -> str:
    """Format a share of images in percent, with its interval if there is one.

    >>> spell_share(Estimate(0.5, 0.375, 0.625, "images", 64)), spell_share(Estimate(0.5))
    ('50.0% [37.5%, 62.5%]', '50.0%')
    >>> spell_share(Estimate(3e-6, 0.0, 8e-6, "images", 64))
    '0.0% [0.0%, <0.1%]'
    """
    if math.isnan(estimate.low):
        return f"{estimate.value:.1%}"
    low, high = _spell_percents(estimate)
    return f"{estimate.value:.1%} [{low}%, {high}%]"


def _spell_percents(share: Estimate, decimals: int = 1) -> tuple[str, str]:
    """The ends of the interval of a share in percent; an upper end above 0 that is rounded to 0
    has a <, for an interval of no width would be read as a certainty."""
    low, high = (f"{100 * end:.{decimals}f}" for end in (share.low, share.high))
    small = share.high > 0 and float(high) == 0
    return low, f"<{10.0**-decimals:g}" if small else high


def spell_cell(share: Estimate, decimals: int = 1) -> str:
    """Format a share of images for a column of percents, with its interval.

    >>> spell_cell(Estimate(0.5, 0.375, 0.625, "images", 64)), spell_cell(Estimate(0.5))
    ('50.0 [37.5, 62.5]', '50.0')
    >>> spell_cell(Estimate(0.5, 0.376, 0.624, "images", 64), decimals=0)
    '50.0 [38, 62]'
    """
    ends = ", ".join(_spell_percents(share, decimals))
    return f"{100 * share.value:.1f}" + ("" if math.isnan(share.low) else f" [{ends}]")


def spell_margin(share: Estimate) -> str:
    """Format a share of images for a narrow column of percents, with the wider half of its
    interval.

    >>> spell_margin(Estimate(0.5, 0.375, 0.65, "images", 64))
    '50.0 ±15.0'
    """
    if math.isnan(share.low):
        return f"{100 * share.value:.1f}"
    margin = max(share.high - share.value, share.value - share.low)
    return f"{100 * share.value:.1f} ±{100 * margin:.1f}"


def spell_points(difference: Estimate) -> str:
    """Format a difference of two shares of images in percentage points, with its interval.

    >>> spell_points(Estimate(0.125, -0.0625, 0.25, "images", 64))
    '+12.5 points [-6.2, +25.0]'
    """
    value, low, high = (
        100 * number for number in (difference.value, difference.low, difference.high)
    )
    spelt = f"{value:+.1f} points"
    return spelt if math.isnan(low) else f"{spelt} [{low:+.1f}, {high:+.1f}]"


def spell_difference(difference: Estimate) -> str:
    """Format a difference, with its interval if there is one.

    It has two decimals; an interval that leaves out 0 has more, up to six, if its end nearest to 0
    would otherwise be rounded to 0, or both its ends to one number.

    >>> spell_difference(Estimate(0.125, -0.0625, 0.25, "minibatches", 32))
    '+0.12 [-0.06, +0.25]'
    >>> spell_difference(Estimate(-0.0021, -0.0042, -0.0004, "minibatches", 32))  # not -0.00
    '-0.0021 [-0.0042, -0.0004]'
    >>> spell_difference(Estimate(-0.08, -0.083, -0.077, "minibatches", 32))  # not [-0.08, -0.08]
    '-0.080 [-0.083, -0.077]'
    >>> spell_difference(Estimate(1e-16, -1e-17, 1e-16, "minibatches", 32))  # a thing less itself
    '+0.00 [+0.00, +0.00]'
    """
    ends = () if math.isnan(difference.low) else (difference.low, difference.high)
    numbers = [difference.value, *ends]
    sizes = [abs(number) for number in numbers]
    if max(sizes) < ROUNDING:
        numbers, sizes = [0.0 for _ in numbers], [0.0 for _ in sizes]
    decided = min(numbers) > 0 or max(numbers) < 0
    telling = min(sizes) if decided else max(sizes)
    digits = min(max(2, -math.floor(math.log10(telling))), 6) if telling > 0 else 2
    while decided and ends and digits < 6 and f"{ends[0]:.{digits}f}" == f"{ends[1]:.{digits}f}":
        digits += 1
    value, *rest = (f"{number:+.{digits}f}" for number in numbers)
    return f"{value} [{', '.join(rest)}]" if rest else value


def spell_change(size: float) -> str:
    """Format the size of a change of similarity, which has no interval.

    >>> spell_change(0.0123), spell_change(2.4e-7), spell_change(0.0)
    ('0.012', '2e-7', '0.000')
    """
    if 0 < abs(size) < 5e-4:
        return f"{size:.0e}".replace("e-0", "e-")
    return f"{size:.3f}"


def spell_relative(size: float) -> str:
    """Format the size of a change relative to the size of what changed: in percent, or where it is
    below 0.1 % as a power of ten.

    >>> spell_relative(0.1234), spell_relative(0.0123), spell_relative(1.9e-6), spell_relative(0.0)
    ('12%', '1.2%', '2e-6', '0')
    """
    if size >= 1e-3:
        return f"{size:.0%}" if size >= 0.0995 else f"{size:.1%}"
    digits, _, power = f"{size:.0e}".partition("e")
    return f"{digits}e{int(power)}" if size > 0 else "0"


def spell_degrees(angle: float) -> str:
    """Format an angle in degrees.

    >>> spell_degrees(12.34), spell_degrees(0.123)
    ('12.3°', '0.12°')
    """
    return f"{angle:.1f}°" if angle >= 1 else f"{angle:.2g}°"


def spell_printed(value: float, kind: str) -> str:
    """Format a number as papers print it.

    Args:
        value: the number.
        kind: "share" of images, "points" (a difference of shares), "ap" (an average precision), or
            "plain".

    >>> spell_printed(0.3025, "ap"), spell_printed(0.0103, "points"), spell_printed(0.9341, "plain")
    ('30.25', '+1.03 points', '0.934')
    >>> spell_printed(0.83664, "share")
    '83.66%'
    """
    if kind == "ap":
        return f"{100 * value:.2f}"
    if kind == "share":
        return f"{value:.2%}"
    if kind == "points":
        return f"{100 * value:+.2f} points"
    return f"{value:.3f}"


def spell_over(difference: Estimate) -> str:
    """Say what the interval of a difference is over, and of how many.

    >>> spell_over(Estimate(0.1, 0.05, 0.15, "minibatches", 32))
    '32 minibatches of images'
    >>> spell_over(Estimate(0.1, 0.05, 0.15, "minibatches and trainings", 4))
    'images and trainings, 4 or more a side'
    """
    if "trainings" in difference.over:
        over = "trainings" if difference.over == "trainings" else "images and trainings"
        return f"{over}, {difference.n} or more a side"
    if difference.over == "minibatches":
        return f"{difference.n} {'minibatch' if difference.n == 1 else 'minibatches'} of images"
    return f"{spell_count(difference.n)} image{'' if difference.n == 1 else 's'}"


def spell_classes(count: int, every: int) -> str:
    """Say of how many classes numbers are, where these are not all.

    >>> spell_classes(32, 1000), spell_classes(10, 10)
    ('32 of 1,000 classes', '')
    """
    return f"{spell_count(count)} of {spell_count(every)} classes" if count < every else ""


def spell_effect(difference: Estimate, kind: str = "cka") -> str:
    """Format a difference of the kind of number that `SMALLEST` names: accuracies and average
    precisions in points. The interval is cut to what is possible, and said to be all of that where
    it is.

    >>> spell_effect(Estimate(0.125, -0.0625, 0.25, "images", 64), "accuracy")
    '+12.5 points [-6.2, +25.0]'
    >>> spell_effect(Estimate(0.0412, -1.46, 1.69, "images and trainings", 2))
    '+0.04 [-1.00, +1.00], all that is possible'
    """
    cut = difference.cut_to_possible(kind)
    spelt = spell_points(cut) if kind in IN_POINTS else spell_difference(cut)
    reach = LARGEST.get(kind)
    return f"{spelt}, all that is possible" if -cut.low == reach == cut.high else spelt


def spell_number(number: Estimate, *, interval: bool = True) -> str:
    """Format a number of any table with four significant digits, its interval, what that is over,
    and why it may decide nothing.

    Args:
        number: the number.
        interval: whether its table has intervals of such numbers.

    >>> spell_number(Estimate(0.75, 0.7, 0.8, "images", 1000))
    '0.75 [0.7, 0.8] over 1,000 images'
    >>> spell_number(Estimate(12.0), interval=False)
    '12, which has no interval'
    >>> spell_number(Estimate(0.75, 0.7, 0.8, "minibatches", 3))
    '0.75 [0.7, 0.8] over 3 minibatches, which are under 6'
    """
    if not number.defined:
        return "it is undefined"
    spelt = f"{number.value:.4g}"
    if not interval:
        return f"{spelt}, which has no interval"
    if math.isnan(number.low):
        return f"{spelt}, of which no interval could be made"
    few = f", which are under {FEWEST[number.over]}" if number.n < FEWEST[number.over] else ""
    return (
        f"{spelt} [{number.low:.4g}, {number.high:.4g}] over {spell_count(number.n)}"
        f" {number.over}{few}"
    )


def spell_ends(difference: Estimate, kind: str = "cka") -> str:
    """Format only the interval of a difference, as `spell_effect` does.

    >>> spell_ends(Estimate(0.125, -0.0625, 0.25, "images and trainings", 4))
    '[-0.06, +0.25]'
    """
    spelt = spell_effect(difference, kind)
    return spelt[spelt.index("[") :]


def compare(
    difference: Estimate,
    other: str,
    kind: str = "cka",
    *,
    more: str = "more than",
    less: str = "less than",
) -> str:
    """Say on which side of something else a value lies, with the difference; all sentences about a
    difference are made here.

    Args:
        difference: the value less the other value.
        other: the other thing, as a noun.
        kind: the kind of number, a key of `SMALLEST`.
        more: what stands before `other` if the value is larger.
        less: what stands before `other` if the value is smaller.

    >>> compare(Estimate(0.1, 0.05, 0.15, "minibatches", 32), "that with REC")
    'more than that with REC (+0.10 [+0.05, +0.15])'
    >>> compare(Estimate(0.003, 0.001, 0.005, "minibatches", 32), "that with REC")
    'the same as that with REC within 0.02 (+0.003 [+0.001, +0.005])'
    >>> compare(Estimate(0.1, -0.1, 0.3, "minibatches", 32), "that with REC")
    'not decided against that with REC (+0.10 [-0.10, +0.30])'
    >>> compare(Estimate(0.1, 0.05, 0.15, "minibatches", 3), "that with REC")
    'not decided against that with REC (+0.10 [+0.05, +0.15], of 3 minibatches, which are too few)'
    >>> compare(Estimate(0.013, 0.002, 0.024, "minibatches", 32), "that with REC")
    'not decided against that with REC (+0.013 [+0.002, +0.024], maybe under 0.02)'
    """
    if not difference.defined:
        return f"not comparable with {other}, for one of the two is undefined"
    spelt, smallest = spell_effect(difference, kind), SMALLEST[kind]
    side = difference.find_side(smallest)
    if side == "more":
        return f"{more} {other} ({spelt})"
    if side == "less":
        return f"{less} {other} ({spelt})"
    least = "half a point" if kind in IN_POINTS else f"{smallest:g}"
    if side == "the same":
        return f"the same as {other} within {least} ({spelt})"
    why = _write_too_few(difference) or (f", maybe under {least}" if difference.sign else "")
    return f"not decided against {other} ({spelt}{why})"


def _write_too_few(difference: Estimate) -> str:
    """Say why an interval decides nothing, if it is not that it holds 0."""
    if difference.sign is None:
        if math.isnan(difference.low):
            return ", which has no interval"
        over = "trainings a side" if "trainings" in difference.over else difference.over
        if difference.n == 1:
            single = "minibatch" if over == "minibatches" else over.replace("s", "", 1)
            return f", of one {single}, which is too few"
        return f", of {difference.n} {over}, which are too few"
    if difference.high - difference.low < NARROWEST:
        return ", an interval of no width"
    return ""


def explain_width(contrast: Contrast) -> str:
    """Say why the interval of a difference is wider than an ordinary paired one; empty if it is not
    (docs/intervals.md). Trainings are never paired.

    >>> gain = Estimate(0.1, -0.1, 0.3, "images", 64)
    >>> [explain_width(Contrast("a", "b", gain, paired=paired)) for paired in (False, True)]
    ['unpaired, so wider', '']
    >>> explain_width(Contrast("a", "b", gain, together=6))
    'one of 6 that hold at once, so wider'
    """
    if contrast.together > 1:
        return f"one of {contrast.together} that hold at once, so wider"
    unpaired = not contrast.paired and "trainings" not in contrast.difference.over
    return "unpaired, so wider" if unpaired else ""


def bracket(*reasons: str) -> str:
    """Put reasons in brackets, with a space before them; empty if there are none.

    >>> bracket("unpaired, so wider", "", "the interval holds 0")
    ' (unpaired, so wider; the interval holds 0)'
    >>> bracket("")
    ''
    """
    said = "; ".join(filter(None, reasons))
    return f" ({said})" if said else ""


def explain_undecided(contrast: Contrast) -> str:
    """Format a contrast and say why it does not decide a claim, as the end of a sentence.

    >>> explain_undecided(Contrast("a", "b", Estimate(0.1, -0.1, 0.3, "minibatches", 32)))
    '+0.10 [-0.10, +0.30], which is not decided'
    >>> explain_undecided(Contrast("a", "b", Estimate(0.1, 0.05, 0.15, "minibatches", 3)))
    '+0.10 [+0.05, +0.15], and 3 minibatches cannot decide'
    """
    spelt = spell_difference(contrast.difference)
    if contrast.sign is not None:
        return f"{spelt}, which is not decided"
    count, over = contrast.difference.n, contrast.difference.over
    things = "trainings" if "trainings" in over else over
    single = "minibatch" if things == "minibatches" else things.removesuffix("s")
    return f"{spelt}, and {f'one {single}' if count == 1 else f'{count} {things}'} cannot decide"
