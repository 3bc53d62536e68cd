"""The results of a k-NN sweep, in sentences and as a short list."""

from collections.abc import Mapping, Sequence
from typing import Any

from sslens.comparisons.knn_sweep import Sweep
from sslens.counts import spell_count
from sslens.report.writing.answer_rows import is_known, write_reading
from sslens.report.writing.numbers import (
    compare,
    spell_classes,
    spell_over,
    spell_points,
    spell_share,
)
from sslens.statistics.estimate import Estimate
from sslens.statistics.proportions import estimate_share

#: lines of layers in a terminal
MOST = 14


def sentences(sweeps: Sequence[Sweep]) -> tuple[str, ...]:
    """Write of how many classes accuracies are, where these are not all; then for each model the
    accuracy of the usual choice and of the best one, what standardised
    features change in the usual one, the gain on other images, and the best control.

    Args:
        sweeps: one sweep per model.
    """
    classes = spell_classes(*sweeps[0].classes.values()) if sweeps else ""
    written = [f"All accuracies here are of {classes}."] if classes else []
    written += [_write_model(sweep) for sweep in sweeps if not sweep.control]
    controls = [sweep for sweep in sweeps if sweep.control]
    if controls:
        top = max(controls, key=lambda sweep: sweep.accuracy(sweep.best))
        written.append(f"The best control, {top.model}, has {_write_choice(top, top.best)}.")
    return tuple(written)


def write_over_pixels(rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Write what each model that has raw pixels beside it gains over them, by the features to use.

    >>> row = {"model": "mae", "control": False, "knn_tap": "norm", "knn_pooling": "cls"}
    >>> row |= {"knn_features": "raw", "knn_images": 262, "knn_over_pixels": -0.01}
    >>> row |= {"knn_over_pixels_low": -0.08, "knn_over_pixels_high": 0.06}
    >>> write_over_pixels([row])
    ('mae by norm, CLS, on 262 images: not decided against raw pixels (-1.0 points [-8.0, +6.0]).',)
    """
    written = []
    for row in rows:
        if row["control"] or not is_known(row, "knn_over_pixels"):
            continue
        value, low, high = (float(row[f"knn_over_pixels{end}"]) for end in ("", "_low", "_high"))
        gain = Estimate(value, low, high, "images", int(row["knn_images"]))
        told = compare(gain, "raw pixels", "accuracy")
        reading = write_reading(row["knn_tap"], row["knn_pooling"], row["knn_features"])
        written.append(f"{row['model']} by {reading}, on {spell_over(gain)}: {told}.")
    return tuple(written)


def _write_model(sweep: Sweep) -> str:
    """Write the usual choice, the best choice and the gain of one model."""
    usual, best = (_write_choice(sweep, place) for place in (sweep.usual, sweep.best))
    return (
        f"{sweep.model}: the usual choice has {usual}{_write_standardising(sweep)}; the best"
        f" of {len(sweep.choices):,} has {best}. {_write_gain(sweep.gain())}"
    )


def _write_standardising(sweep: Sweep) -> str:
    """Write what standardised features change in the usual choice, where they change something."""
    change = sweep.standardising()
    return f", on standardised features {spell_points(change)}" if change.sign else ""


def _write_gain(gain: Estimate) -> str:
    """Write the gain of the best choice on images that did not find it."""
    if gain.sign is None:
        return "There are too few images to tell what choosing is worth."
    verdict = {1: "more", 0: "not clearly more", -1: "less"}[gain.sign]
    return (
        f"A best that is chosen on about a third of the images has {spell_points(gain)} on the"
        f" others: {verdict} than usual."
    )


def _write_choice(sweep: Sweep, place: int) -> str:
    """Write a choice with its accuracy."""
    accuracy = spell_share(Estimate(sweep.accuracy(place)))
    return f"{_name_choice(sweep, place)}: {accuracy}"


def _name_choice(sweep: Sweep, place: int) -> str:
    tap, pooling, scale, k, temperature = sweep.choices[place]
    votes = "majority" if temperature is None else f"τ = {temperature:g}"
    return f"{tap}/{pooling}{'' if scale == 'raw' else f', {scale}'}, k = {k}, {votes}"


def list_layers(sweep: Sweep, most: int = MOST) -> str:
    """List the accuracy of each layer at the usual choice, a line each, for a terminal; of many
    layers the first, the last, the best and some between them."""
    layers = sweep.read_layers()
    count = len(layers)
    best = max(range(count), key=lambda place: layers[place][1].value)
    shown = set(range(count))
    if count > most:
        steps = most - 2  # the best may be one more
        shown = {round(place * (count - 1) / steps) for place in range(steps + 1)} | {best}
    choice = layers[-1][0]
    votes = "majority" if choice.temperature is None else f"τ = {choice.temperature:g}"
    names = [f"{one.tap}/{one.pooling}" for one, _ in layers]
    width = max(map(len, [*names, "layer"])) + 1
    lines = [
        f"{'layer':<{width}} {sweep.model}, k = {choice.k}, {votes}, of"
        f" {spell_count(len(sweep.features), 'image')}; 95 %"
    ]
    for place in sorted(shown):
        accuracy = spell_share(layers[place][1])
        lines.append(f"{names[place]:<{width}} {accuracy}{'  highest' if place == best else ''}")
    if left := count - len(shown):
        lines.append(f"{'':<{width}} {spell_count(left, 'more layer', 'are')} in the table")
    return "\n".join(lines)


def list_choices(sweeps: Sequence[Sweep]) -> str:
    """List the usual choice of each model and control with its interval, the best of all on the
    same images without one, and chance, one line each, for a terminal."""
    names = [f"{sweep.model}{' (control)' if sweep.control else ''}" for sweep in sweeps]
    width = max(map(len, [*names, "chance"])) + 1
    usual = [spell_share(estimate_share(sweep.right[sweep.usual])) for sweep in sweeps]
    wide = max(map(len, usual))
    lines = [f"{'model':<{width}} {'usual':<{wide}}  {'best':>7}  where"]
    for name, sweep, own in zip(names, sweeps, usual, strict=True):
        best = spell_share(Estimate(sweep.accuracy(sweep.best)))
        lines.append(f"{name:<{width}} {own:<{wide}}  {best:>7}  {_name_choice(sweep, sweep.best)}")
    chance = spell_share(Estimate(sweeps[0].chance))
    lines.append(
        f"{'chance':<{width}} {chance:<{wide}}  {chance:>7}  always the most frequent class"
    )
    return "\n".join(lines)
