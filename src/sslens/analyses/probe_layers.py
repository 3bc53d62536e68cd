"""Linear probes of every depth, and of the last layer with an intermediate one (figures 2b, 2c, 5
of Shekhar et al., 2023; claim C8)."""

from collections.abc import Iterator, Mapping

from sslens.capture import Features
from sslens.comparisons import choices, probing
from sslens.comparisons.depth_lines import lines_by_depth
from sslens.comparisons.inputs import FeatureSets, Labels, Models, ProbeSettings
from sslens.comparisons.probe_choices import list_probe_choices
from sslens.comparisons.probe_split import SPLIT, Split
from sslens.comparisons.probing import (
    DIFFERENCE,
    GAIN,
    PLUS,
    TEXTS,
    UNITS,
    Gains,
    ModelProbes,
    ProbeSetup,
    compare_gains_of_families,
)
from sslens.comparisons.readings import (
    find_last_tap,
    list_depths,
    list_poolings,
    list_sides,
    name_reading,
    split_panels,
)
from sslens.comparisons.rows import Row, make_results
from sslens.comparisons.tuned import is_control, match_origins
from sslens.figure import Figure, Lines
from sslens.probes.linear.heads import Head
from sslens.statistics.gains import estimate_gain
from sslens.statistics.proportions import difference_of_shares, estimate_share
from sslens.table import Results

TITLE = "Do intermediate layers know what the last one does not?"
CAPTION = (
    "Accuracy of linear probes (logistic regressions on features of mean 0 and variance 1) on the"
    " features after every block and after the last layer: of one depth alone at the top, and"
    " below what an intermediate block adds when it is concatenated with the last layer, paired"
    " on the same images. Pooled as the CLS token (the mean where a model has none, and for a"
    f" tuned model what its classifier read), and as the mean of the patch tokens. {SPLIT}. Bands"
    " are 95 % intervals: Wilson's of an accuracy, score intervals of a gain. Which intermediate"
    " block is spoken of was chosen on the validation images. Dashed lines are controls: random"
    " initialisations, and raw pixels at 8 × 8."
)
#: the columns of each table: those that exhibits of probes share; the gain of a fine-tuned model
#: less its gain before; its accuracy and that before; and what to use of each model
TABLES: Mapping[str, tuple[str, ...]] = {
    **probing.TABLES,
    "fine-tuned": (
        *("model", "members", "control", "main", "pooling", "layers"),
        *(*GAIN, *DIFFERENCE, "settled", "why", "images"),
    ),
    "before-after": (
        *("model", "members", "control", "accuracy", "low", "high", "against", "before"),
        *("before_low", "before_high", "change", "change_low", "change_high"),
        *("settled", "why", "images"),
    ),
    "choices": choices.CHOICES,
}
CHANGE = {
    "before": "accuracy of the usual probe of the same model before fine-tuning",
    "before_low": "lower end of its 95 % Wilson interval",
    "before_high": "upper end",
    "change": "accuracy less that before, on the same images",
    "change_low": "lower end of its 95 % interval over test images, paired",
    "change_high": "upper end",
}


def compute(
    models: Models,
    *,
    features: FeatureSets,
    labels: Labels,
    probes: ProbeSettings,
    seed: int = 0,
) -> Results:
    """Train linear probes of every depth, and of the last layer together with each block.

    The gain is the accuracy of a block concatenated with the last layer, less the accuracy of the
    last layer alone. The table `probes` has a row for each probe, `families` the mean gain by
    family, `fine-tuned` the gain of a fine-tuned model less the gain of the same model before
    fine-tuning, and `before-after` the accuracy of its usual probe less that before.
    """
    setup = ProbeSetup(models, features, Split.of(features, labels, seed), probes, seed)
    units = choices.UNITS | UNITS | CHANGE
    return make_results(_rows(setup), TABLES, units, (*TEXTS, *choices.TEXTS))


def _rows(setup: ProbeSetup) -> Iterator[tuple[str, Row]]:
    """All rows, each with the name of its table."""
    gains: dict[str, dict[str, Gains]] = {}
    unsettled: dict[str, dict[str, str]] = {}
    every: list[ModelProbes] = []
    for name, features in setup.features.images.items():
        trained = setup.train(name, list_heads(features), label="probes by layer")
        every.append(trained)
        for pooling in list_poolings(features):
            last = Head(((find_last_tap(features), pooling),))
            heads = [head for head in trained.outcomes if head.columns[0][1] == pooling]
            yield from _compare_heads(trained, heads, last)
            pairs = [head for head in heads if len(head.columns) == 2]
            for reading in list_sides(features, pooling) if pairs else ():
                best = trained.best(pairs)
                gains.setdefault(reading, {})[name] = trained.gains(best, last)
                why = trained.explain_unsettled([last, best])
                unsettled.setdefault(reading, {})[name] = why
        yield from trained.penalties()
    yield from list_probe_choices(setup.models, every)
    yield from _compare_usual(setup.models, {one.name: one for one in every})
    for reading, by_model in gains.items():
        about = {
            "main": reading == "main",
            "pooling": "" if reading == "main" else reading,
            "less": "the last layer",
            "layers": 1,
        }
        yield from compare_gains_of_families(setup.models, by_model, about, unsettled[reading])
        yield from _compare_tuned(setup.models, by_model, about, unsettled[reading])


def list_heads(features: Features) -> list[Head]:
    """List the linear probes of each pooling: each block and the last layer alone, then each block
    of smaller depth than the last layer concatenated with the last layer."""
    end = features.taps[-1]
    heads = []
    for pooling in list_poolings(features):
        taps = [features.taps[place] for place in list_depths(features, pooling)]
        heads += [Head(((tap.name, pooling),)) for tap in taps]
        heads += [
            Head(((tap.name, pooling), (end.name, pooling)))
            for tap in taps
            if tap.depth < end.depth
        ]
    return heads


def _compare_heads(
    trained: ModelProbes, heads: list[Head], last: Head
) -> Iterator[tuple[str, Row]]:
    """Make the rows of `probes` of one model and pooling, with gains over the last layer alone."""
    sides = ([head for head in heads if len(head.columns) == count] for count in (1, 2))
    chosen = [trained.best(side) for side in sides if side]
    for head in heads:
        yield "probes", trained.row(head, last, "the last layer", chosen=head in chosen)


def _compare_tuned(
    models: Models,
    gains: Mapping[str, Gains],
    about: Row,
    unsettled: Mapping[str, str],
) -> Iterator[tuple[str, Row]]:
    """Make the rows of `fine-tuned`: the gain of each fine-tuned model or control, and its
    difference from the gain of the same model before fine-tuning."""
    for tuned, first in match_origins(models).items():
        if tuned in gains and first in gains:
            row = about | {"model": tuned, "members": f"{tuned} from {first}", "against": first}
            row["control"] = is_control(models.about(tuned))
            why = "; ".join(filter(None, (unsettled[name] for name in (first, tuned))))
            row |= {"settled": not why, "why": why}
            row |= estimate_gain(gains[tuned]).columns("gain")
            row |= estimate_gain(gains[tuned] - gains[first], bound=2.0).columns("difference")
            yield "fine-tuned", row | {"images": len(gains[tuned])}


def _compare_usual(models: Models, trained: Mapping[str, ModelProbes]) -> Iterator[tuple[str, Row]]:
    """Make the rows of `before-after`: the accuracy of the usual probe of each fine-tuned model or
    control, and of the same model before, both on the same test images."""
    for tuned, first in match_origins(models).items():
        if tuned in trained and first in trained:
            sides = [trained[name] for name in (tuned, first)]
            after, before = (one.outcomes[one.usual].right for one in sides)
            row: Row = {"model": tuned, "members": f"{tuned} from {first}", "against": first}
            row["control"] = is_control(models.about(tuned))
            why = "; ".join(filter(None, (one.explain_unsettled([one.usual]) for one in sides)))
            row |= {"settled": not why, "why": why, "images": len(after)}
            row |= estimate_share(after).columns("accuracy", ("low", "high"))
            row |= estimate_share(before).columns("before")
            yield "before-after", row | difference_of_shares(after, before).columns("change")


def draw(results: Results) -> Figure:
    """Draw a column of two panels for each pooling, with one curve per model: the accuracy against
    depth, and below it the gain of a block that is concatenated with the last layer."""
    frame = results["probes"]
    frame = frame.assign(two=frame.tap.str.contains(PLUS, regex=False))
    sides = split_panels(frame)
    top = [
        Lines(
            name_reading(side),
            "relative depth",
            "test accuracy",
            tuple(lines_by_depth(side[~side.two], ("accuracy", "low", "high"))),
            None,
            facets={"pooling": name_reading(side), "probed": "one block"},
        )
        for side in sides
    ]
    below = [
        Lines(
            f"last + one: {name_reading(side)}",
            "relative depth of the intermediate block",
            "gain in accuracy",
            tuple(lines_by_depth(side[side.two], ("gain", "gain_low", "gain_high"))),
            None,
            facets={"pooling": name_reading(side), "probed": "a block beside the last"},
        )
        for side in sides
    ]
    rows = (tuple(top), tuple(below)) if frame.two.any() else (tuple(top),)
    return Figure("probe-layers", rows)
