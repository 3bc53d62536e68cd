"""Probes of 1, 2 and 3 layers on the last features (figure 2a of Shekhar et al., 2023; claim
C7)."""

from collections.abc import Iterator, Mapping, Sequence

import pandas as pd

from sslens.comparisons import choices, probing
from sslens.comparisons.inputs import FeatureSets, Labels, Models, ProbeSettings
from sslens.comparisons.probe_choices import list_probe_choices
from sslens.comparisons.probe_split import SPLIT, Split
from sslens.comparisons.probe_training import CONVERGED
from sslens.comparisons.probing import (
    GAIN,
    PROBE,
    TEXTS,
    UNITS,
    Gains,
    ModelProbes,
    ProbeSetup,
    compare_gains_of_families,
)
from sslens.comparisons.readings import (
    choose_main_pooling,
    find_last_tap,
    list_poolings,
    list_sides,
    name_reading,
    split_panels,
)
from sslens.comparisons.rows import Row, make_results
from sslens.figure import Figure, Line, Lines
from sslens.probes.linear.heads import Head
from sslens.statistics.gains import estimate_gain
from sslens.table import Results

TITLE = "Does a deeper probe find more?"
CAPTION = (
    "Accuracy of probes of 1, 2 and 3 layers (Linear, BatchNorm, ReLU) on the features after the"
    " last layer: the CLS token (the mean where a model has none, and for a tuned model what its"
    f" classifier read), and the mean of the patch tokens. {SPLIT}. Bands are 95 % Wilson"
    " intervals. A linear probe is a logistic regression at its optimum, deeper ones are trained"
    " until the validation loss stops falling; where the papers' grid was asked for, the mean and"
    " standard deviation of the five points that are best on the test images stand below, as the"
    " papers report, a little optimistic. Gains are paired on the same images. Dashed lines are"
    " controls: random initialisations, and raw pixels at 8 × 8. Deeper probes of the usual"
    " features of which the interval decides the gain are trained again from other first weights,"
    " in the table; of a grid all are. Probes that have not converged, or with a setting at the end"
    " of those that were tried, are marked in the table, and no sentence rests on them."
)
LAYERS = (1, 2, 3)
#: the columns of each table: those that exhibits of probes share; a probe that was trained again;
#: and what to use of each model
TABLES: Mapping[str, tuple[str, ...]] = {
    **probing.TABLES,
    "second-seeds": (*PROBE, *GAIN),
    "choices": choices.CHOICES,
}


def compute(
    models: Models,
    *,
    features: FeatureSets,
    labels: Labels,
    probes: ProbeSettings,
    seed: int = 0,
) -> Results:
    """Train probes of 1, 2 and 3 layers for each model and control.

    The table `probes` has a row for each probe. `families` has the mean gain of 2 and of 3 layers
    over 1 layer, by family. `second-seeds` has the deeper probes of each model under study, on its
    usual features, of which the interval decides the gain over 1 layer, trained again from other
    initial weights; where a grid was asked for, all probes on these.
    """
    split = Split.of(features, labels, seed)
    setup = ProbeSetup(models, features, split, probes, seed)
    return make_results(_rows(setup), TABLES, choices.UNITS | UNITS, (*TEXTS, *choices.TEXTS))


def _rows(setup: ProbeSetup) -> Iterator[tuple[str, Row]]:
    """All rows, each with the name of its table."""
    gains: dict[tuple[str, int], dict[str, Gains]] = {}
    unsettled: dict[tuple[str, int], dict[str, str]] = {}
    every: list[ModelProbes] = []
    for name, features in setup.features.images.items():
        ladders = {
            pooling: [Head(((find_last_tap(features), pooling),), layers) for layers in LAYERS]
            for pooling in list_poolings(features)
        }
        heads = [head for ladder in ladders.values() for head in ladder]
        trained = setup.train(name, heads, label="deeper probes")
        every.append(trained)
        main = choose_main_pooling(features)
        for pooling, ladder in ladders.items():
            best, linear = trained.best(ladder), ladder[0]
            for head in ladder:
                yield "probes", trained.row(head, linear, "1 layer", chosen=head == best)
                for reading in list_sides(features, pooling) if head != linear else ():
                    key = reading, head.layers
                    gains.setdefault(key, {})[name] = trained.gains(head, linear)
                    why = trained.explain_unsettled([linear, head])
                    unsettled.setdefault(key, {})[name] = why
        yield from trained.penalties()
        if not setup.models.is_control(name):
            yield from _train_again(setup, trained, ladders[main])
    yield from list_probe_choices(setup.models, every)
    for (reading, layers), by_model in gains.items():
        about = {
            "layers": layers,
            "main": reading == "main",
            "pooling": "" if reading == "main" else reading,
            "less": "1 layer",
        }
        yield from compare_gains_of_families(
            setup.models, by_model, about, unsettled[reading, layers]
        )


def _train_again(
    setup: ProbeSetup, first: ModelProbes, heads: Sequence[Head]
) -> Iterator[tuple[str, Row]]:
    """Make the rows of `second-seeds`: probes trained again from other initial weights, with their
    gain over the first training.

    Without a grid these are the deeper probes of which the interval decides the gain over the
    linear one: an undecided gain says nothing that other weights could overturn. A converged linear
    probe has one optimum, whatever its initial weights are.
    """
    if setup.settings.grid == CONVERGED:
        linear, *deeper = heads
        heads = [head for head in deeper if estimate_gain(first.gains(head, linear)).sign]
    if not heads:
        return
    second = setup.train(first.name, heads, label="second seed", seed=setup.seed + 1)
    for head in heads:
        gains = second.outcomes[head].right.astype(float) - first.outcomes[head].right
        row = {column: second.rows[head][column] for column in PROBE} | {"less": "the first seed"}
        yield "second-seeds", row | estimate_gain(gains).columns("gain")


def draw(results: Results) -> Figure:
    """Draw a column of two panels for each pooling, with one curve per model.

    The upper panel has the test accuracy of the setting that the validation images choose. With a
    grid, the lower panel has the papers' number: the mean over the five points that are best on the
    test images, which is a little optimistic.
    """
    frame = results["probes"]
    spread = frame["std"].fillna(0)
    frame = frame.assign(below=frame.best - spread, above=frame.best + spread)
    sides = split_panels(frame)
    drawn: Mapping[str, tuple[str, str, str]] = {
        "test accuracy": ("accuracy", "low", "high"),
        "best five points": ("best", "below", "above"),
    }
    grid = [
        tuple(
            Lines(
                name_reading(side),
                "layers of the probe",
                label,
                tuple(_lines(side, columns)),
                None,
                facets={"pooling": name_reading(side), "accuracy": label},
            )
            for side in sides
        )
        for label, columns in drawn.items()
        if frame[columns[0]].notna().any()
    ]
    return Figure("probe-depth", tuple(grid))


def _lines(frame: pd.DataFrame, columns: tuple[str, str, str]) -> Iterator[Line]:
    """Draw one curve per model, against the number of layers."""
    for name, rows in frame.groupby("model", sort=False):
        y, low, high = (rows[column].to_numpy(float) for column in columns)
        control = bool(rows.control.iloc[0])
        yield Line(str(name), rows.layers.to_numpy(float), y, low, high, control=control)
