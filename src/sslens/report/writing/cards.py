"""Cards in words: what to use of a model, and what that gains."""

from sslens.claims.advice import ProbeChoice, Recommendation
from sslens.comparisons.choices import is_hard_to_choose
from sslens.comparisons.dense_advice import DenseRecommendation
from sslens.comparisons.probing import PLUS
from sslens.comparisons.readings import name_pooling
from sslens.report.front.screen import Card
from sslens.report.writing.advice import name_probe, write_unsure, write_untrained
from sslens.report.writing.dense_advice import spell_background
from sslens.report.writing.numbers import spell_count, spell_points, spell_share
from sslens.statistics.estimate import SMALLEST, Answer, Contrast, Estimate

NOTHING = "nothing beats the usual choice"


def write_card(one: Recommendation, *, places: bool = False) -> Card:
    """Write what to use of one model for classes of images.

    Args:
        one: what is recommended.
        places: whether the model's mean is over places (`readings.find_over_places`).
    """
    usual = name_probe(one.usual, places=places)
    if one.unsettled:
        return Card(one.model, "undecided", f"{usual} is not to be relied on: {one.unsettled}", "")
    judged = spell_count(one.usual.accuracy.n)
    count = f"{spell_count(one.chosen_on)} " if one.chosen_on else ""
    hard = is_hard_to_choose(one.probes, one.chosen_on)
    hardly = ", which can hardly tell them apart" if hard else ""
    how = (
        f"chosen of {one.probes} probes on {count}validation images{hardly}, judged on {judged}"
        " test images"
        if one.usual.layers
        else f"chosen of {one.probes} on {count or 'about a third of the '}images{hardly}, judged"
        f" on the {judged} others"
    )
    used = f"{_name_use(one.use, places=places)}: {spell_share(one.use.accuracy)}"
    return Card(
        one.model,
        f"nothing recommended, {write_unsure(one)}: {used}" if one.is_chance else used,
        _write_gain(one.answer, one.gain, unit=one.over_pixels is None),
        _write_pixels(one),
        f"{how}; {_name_both(name_probe(one.best, places=places), usual)}",
        _beats_pixels(one.over_pixels),
    )


def write_dense_card(one: DenseRecommendation) -> Card:
    """Write what to use of one model for dense tasks; nothing where it is shown to be below a
    control."""
    taps = one.use.replace(PLUS, " and ")
    best = f"patch tokens at {one.best.replace(PLUS, ' and ')}"
    probe = f"linear probe of the patch tokens at {taps}"
    miou = f"mIoU {spell_share(one.miou)}"
    above = one.above_control
    return Card(
        f"{one.model}, dense tasks",
        f"nothing recommended: a {probe} has {miou}" if one.is_beaten else f"a {probe}: {miou}",
        _write_gain(one.answer, one.gain),
        _write_over(above, one.control) if above.defined else "",
        f"chosen of {one.probes} probes on held-out images, judged on {spell_count(one.miou.n)};"
        f" {_name_both(best, f'the last block, {one.usual}')}; the least to beat is"
        f" {spell_background(one.background)}",
        _beats_pixels(above) if above.defined else None,
    )


def _name_use(choice: ProbeChoice, *, places: bool = False) -> str:
    """Name a choice in a few words.

    >>> _name_use(ProbeChoice(("norm",), "cls", 0, Estimate(0.9), 0.9, 20, "raw"))
    '20-NN, CLS, norm'
    """
    how = f"{choice.k}-NN" if choice.k else "linear probe"
    if choice.layers > 1:
        how = f"probe of {spell_count(choice.layers, 'layer')}"
    scaled = "standardised" if choice.k and choice.features == "standardised" else ""
    taps, tokens = " and ".join(choice.taps), name_pooling(choice.pooling, places=places)
    return ", ".join(filter(None, (how, tokens.removesuffix(" token"), taps, scaled)))


def _name_both(best: str, usual: str) -> str:
    """Name the best choice and the usual one."""
    return "the usual choice is the best" if best == usual else f"best {best}, usual {usual}"


def _write_gain(answer: Answer, gain: Contrast | None, *, unit: bool = True) -> str:
    """Write what the best choice gains over the usual one, or that nothing beats that; where it is
    undecided, without the unit if the line above has it."""
    if gain is None:
        return NOTHING
    spelt = spell_points(gain.difference)
    if answer == "holds":
        return f"{spelt} over the usual choice"
    if answer == "undecided":
        spelt = spelt if unit else spelt.replace(" points", "")
        return f"usual choice; best features {spelt}, undecided"
    return f"{NOTHING} (best features {spelt})"


def _write_pixels(one: Recommendation) -> str:
    """Write what the features to use gain over raw pixels, or that they do not beat them, and which
    untrained network has as much."""
    gain, beside = one.over_pixels, write_untrained(one)
    if gain is None:
        return beside.removeprefix("; ")
    side, spelt = gain.find_side(SMALLEST["accuracy"]), spell_points(gain)
    if side == "less":
        return f"below raw pixels ({spelt}){beside}"
    if side == "the same":
        return f"nothing beats raw pixels ({spelt}){beside}"
    return f"{_write_over(gain, 'raw pixels')}{beside}"


def _write_over(gain: Estimate, control: str) -> str:
    """Write what is gained over a control, or that the control is not beaten."""
    side, spelt = gain.find_side(SMALLEST["accuracy"]), spell_points(gain)
    if side in ("less", "the same"):
        word = "below" if side == "less" else "no better than"
        return f"{word} {control}, the best control ({spelt})"
    return f"{spelt} over {control}" if side == "more" else f"undecided against {control} ({spelt})"


def _beats_pixels(gain: Estimate | None) -> bool | None:
    """Whether a choice beats a control; None where that is not known or undecided."""
    if gain is None:
        return None
    side = gain.find_side(SMALLEST["accuracy"])
    return None if side in ("undecided", "too few") else side == "more"
