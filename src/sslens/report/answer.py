"""The answer of a study in one table: of each model and control the layer and pooling to use, how
well k-NN and a probe do there, and the model that is most like it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sslens.claims.advice import PROBES
from sslens.comparisons.choices import Choice, merge_choices, read_choices
from sslens.comparisons.inputs import Models
from sslens.comparisons.likeness import Likeness, compare_alike, read_likenesses
from sslens.comparisons.options import is_better
from sslens.comparisons.parts import find_row
from sslens.comparisons.roles import PIXELS
from sslens.comparisons.rows import Row
from sslens.comparisons.with_pixels import WithPixels
from sslens.report.answer_alone import add_alone
from sslens.report.writing.answer_rows import has_numbers
from sslens.statistics.estimate import Estimate
from sslens.statistics.proportions import difference_of_shares, estimate_share
from sslens.table import Results, Table

if TYPE_CHECKING:
    from sslens.comparisons.knn_sweep import Sweep
    from sslens.probes.linear.choosing import Outcome

#: the exhibits of which the average precision is told, the first that ran
DETECTION = ("detection-frozen", "detection-finetuned")
NAN = float("nan")
_USE = (
    "that are to be used, on images that did not choose: the usual ones, or those that other images"
    " chose where they are better; of controls the chosen ones"
)
UNITS: dict[str, str] = {
    "model": "name",
    "control": "whether it is a control",
    "best_tap": "layer to use: the probe's where probes were trained, else that of k-NN",
    "best_pooling": "how its tokens are pooled",
    "knn": f"share of images that k-NN classifies correctly, with the features {_USE}",
    "knn_low": "lower end of its 95 % Wilson interval",
    "knn_high": "upper end",
    "probe": f"share of images that a probe classifies correctly, of the features {_USE}",
    "probe_low": "lower end of its 95 % Wilson interval",
    "probe_high": "upper end",
    "nearest_relative": (
        "the model under study with the highest CKA to this one; of a control any other model"
    ),
    "cka_to_it": "mean CKA of the two at the same depth",
    "cka_low": "lower end of its 95 % interval over minibatches",
    "cka_high": "upper end",
    "cka_minibatches": "minibatches that the interval is over",
    "cka_depths": "at how many depths it is defined, of how many; empty where at all",
    "cka_to_pixels": "mean CKA with the raw pixels",
    "cka_to_pixels_low": "lower end of its 95 % interval over minibatches",
    "cka_to_pixels_high": "upper end",
    "pixels_regressed_out": "whether it is deconfounded CKA, as on the first screen of the report",
    "knn_tap": "layer to use by k-NN",
    "knn_pooling": "how it pools",
    "k": "neighbours that vote",
    "knn_features": "raw or standardised",
    "probe_tap": "layer to use by the probe",
    "probe_pooling": "how it pools",
    "probe_layers": "layers of the probe; 1 is linear",
    "over_pixels": (
        "accuracy of the probe less that of raw pixels' probe, on the same images; of k-NN where no"
        " probe was trained"
    ),
    "over_pixels_low": "lower end of its 95 % interval, images paired, of this model alone",
    "over_pixels_high": "upper end",
    "knn_over_pixels": "accuracy of k-NN less k-NN's of raw pixels, on the same `knn_images`",
    "knn_over_pixels_low": "lower end of its 95 % interval, images paired, of this model alone",
    "knn_over_pixels_high": "upper end",
    "probe_over_pixels": (
        "accuracy of the probe less that of raw pixels' probe, on the same `probe_images`"
    ),
    "probe_over_pixels_low": "lower end of its 95 % interval, images paired, of this model alone",
    "probe_over_pixels_high": "upper end",
    "usual": "accuracy of the usual choice: the last layer, with the model's usual pooling",
    "over_usual": (
        "accuracy of the probe (or k-NN) that was chosen less that, on the same images; empty where"
        " the usual choice was chosen"
    ),
    "over_usual_low": "lower end of its 95 % interval, images paired",
    "over_usual_high": "upper end",
    "knn_usual": "accuracy of the usual choice by k-NN, on `knn_images`",
    "knn_over_usual": "accuracy of k-NN with what was chosen less that, on the same images",
    "knn_over_usual_low": "lower end of its 95 % interval, images paired",
    "knn_over_usual_high": "upper end",
    "knn_images": "images on which k-NN is judged",
    "knn_chosen_on": "images on which the features of k-NN were chosen",
    "probe_images": "images on which probes are judged",
    "probe_chosen_on": "images on which the probe was chosen",
    "options": "probes (or features of k-NN) that were chosen from",
    "chance": "share of the most frequent class among all labelled images",
    "ap": "average precision of boxes of a detector on the frozen network, else on the tuned one",
    "ap_low": "lower end of its 95 % interval over images",
    "ap_high": "upper end",
    "ap_images": "images in which detectors are judged",
}
TEXTS = (
    *("best_tap", "best_pooling", "nearest_relative", "knn_tap", "knn_pooling", "knn_features"),
    *("probe_tap", "probe_pooling", "cka_depths"),
)


def make_answer(results: Mapping[str, Results], models: Models) -> Table:
    """Make the table of the answer, with a row for each model, then for each control; where
    detectors are compared, only for the controls that have one.

    Numbers are missing, and texts empty, where no analysis tells them; where none of them is known,
    what other analyses say of each model is added (`answer_alone`). What is to be used of each
    model is what the report's cards recommend: the usual choice, or what some of the images chose
    where it is better on the others, which judge both. Of probes, of which two exhibits may have
    trained some, the chosen one is the one that the validation images prefer
    (`choices.merge_choices`).

    Args:
        results: the results of the analyses that ran, by the analysis' name.
        models: the models and the controls.
    """
    neighbours = {one.model: one for one in _read(results, ("knn-depth",))}
    probes = merge_choices(_read(results, PROBES))
    every = read_likenesses(results["cka-blocks"]) if "cka-blocks" in results else ()
    nearest, pixels = _find_nearest(every, models), WithPixels.of(every).cka
    detectors = any(exhibit in results for exhibit in DETECTION)
    known = {
        name: _describe_neighbours(neighbours.get(name))
        | _describe_probe(probes.get(name))
        | _describe_nearest(name, nearest.get(name))
        | (pixels[name].columns("cka_to_pixels") if name in pixels else {})
        | _describe_detector(name, results)
        for name in models.names
    }
    table = _tabulate(
        {"model": name, "control": models.is_control(name)} | row
        for name, row in known.items()
        if row or not (detectors and models.is_control(name))
    )
    return table if any(known.values()) else add_alone(table, results)


def leave_out_unknown(table: Table) -> Table:
    """Return the table of the answer with the models alone, and what was added of them, where its
    own columns are empty, as of files that were compared without images; else as it is.

    >>> leave_out_unknown(_tabulate([{"model": "a", "control": False}])).csv().splitlines()
    ['model,control', 'a,False']
    """
    rows = table.frame.to_dict("records")
    if any(has_numbers(row) for row in rows):
        return table
    columns = ["model", "control", *(name for name in table.frame if name not in UNITS)]
    return Table(table.frame[columns], {name: table.units[name] for name in columns})


def answer_sweeps(sweeps: "Sequence[Sweep]") -> Table:
    """Make the table of the answer of k-NN alone, with a row for each sweep: the usual choice, or
    what was chosen on about a third of the images where that is better on the others, which judge
    both; of controls what was chosen."""
    pixels = next((sweep for sweep in sweeps if sweep.model == PIXELS), None)
    rows = []
    for sweep in sweeps:
        chosen, others = sweep.choose()
        usual = sweep.right[sweep.usual][others]
        gain = sweep.gain() if chosen != sweep.usual else Estimate(NAN)
        best, _ = accuracies = [
            estimate_share(sweep.right[one][others]) if others.any() else Estimate(NAN)
            for one in (chosen, sweep.usual)
        ]
        better = sweep.control or is_better(gain, best, sweep.chance)
        use, judged = ((chosen, sweep.usual)[not better], accuracies[not better])
        choice = sweep.choices[use]
        rows.append(
            {
                "model": sweep.model,
                "control": sweep.control,
                **{f"{name}_tap": choice.tap for name in ("best", "knn")},
                **{f"{name}_pooling": choice.pooling for name in ("best", "knn")},
                **judged.columns("knn"),
                "k": choice.k,
                "knn_features": choice.scale,
                "knn_images": int(others.sum()),
                "knn_chosen_on": int((~others).sum()) if others.any() else NAN,
                "options": len(sweep.choices),
                "usual": float(usual.mean()) if others.any() else NAN,
                **gain.columns("over_usual"),
                "knn_usual": float(usual.mean()) if others.any() else NAN,
                **gain.columns("knn_over_usual"),
                **_describe_gain("knn", _subtract(sweep, use, pixels)),
                "chance": sweep.chance,
            }
        )
    return _tabulate(rows)


def _subtract(sweep: "Sweep", use: int, pixels: "Sweep | None") -> Estimate:
    """The accuracy of a choice less that of raw pixels, on the images that chose neither; undefined
    without raw pixels, or of these."""
    _, others = sweep.choose()
    if pixels is None or pixels is sweep or not others.any():
        return Estimate(NAN)
    own, _ = pixels.choose()
    return difference_of_shares(sweep.right[use][others], pixels.right[own][others])


def answer_outcomes(model: str, outcomes: "Sequence[Outcome]", chance: float) -> Table:
    """Make the table of the answer of probes alone, with a row for the model: the probe that the
    validation images prefer, judged on the test images.

    Args:
        model: the name of the model.
        outcomes: what became of each probe.
        chance: share of the most frequent class among all labelled images.
    """
    best = max(outcomes, key=lambda outcome: outcome.validation)
    taps, poolings = zip(*best.head.columns, strict=True)
    tap, pooling = " + ".join(taps), " + ".join(dict.fromkeys(poolings))
    row = {
        "model": model,
        "control": False,
        **{f"{name}_tap": tap for name in ("best", "probe")},
        **{f"{name}_pooling": pooling for name in ("best", "probe")},
        "probe": best.accuracy,
        "probe_low": best.low,
        "probe_high": best.high,
        "probe_layers": best.head.layers,
        "probe_images": len(best.right),
        "chance": chance,
    }
    return _tabulate([row])


def _tabulate(rows: Iterable[Mapping[str, Any]]) -> Table:
    """Make the table of rows of which some columns are known."""
    import pandas as pd

    empty = dict.fromkeys(UNITS, NAN) | dict.fromkeys(TEXTS, "") | {"pixels_regressed_out": False}
    return Table(pd.DataFrame([{**empty, **row} for row in rows], columns=list(UNITS)), UNITS)


def _read(results: Mapping[str, Results], names: Sequence[str]) -> Iterator[Choice]:
    """The choices of the first of these analyses, then of the others."""
    for name in names:
        if name in results and "choices" in results[name]:
            yield from read_choices(results[name]["choices"])


def _describe_neighbours(choice: Choice | None) -> Row:
    """The columns of k-NN."""
    if choice is None:
        return {}
    return {
        **_describe_use(choice, "knn"),
        "knn_usual": choice.usual.value,
        **choice.gains["over_usual"].columns("knn_over_usual"),
        "k": choice.k,
        "knn_features": choice.use_features,
    }


def _describe_probe(choice: Choice | None) -> Row:
    """The columns of the probe."""
    if choice is None:
        return {}
    return {**_describe_use(choice, "probe"), "probe_layers": choice.layers}


def _describe_use(choice: Choice, name: str) -> Row:
    """The columns of what is to be used of a model by k-NN or a probe."""
    tap = " + ".join(choice.use_taps)
    return {
        **{f"{one}_tap": tap for one in ("best", name)},
        **{f"{one}_pooling": choice.use_pooling for one in ("best", name)},
        **choice.use.columns(name),
        **_describe_gain(name, choice.over_pixels),
        **_describe_usual(choice),
        f"{name}_images": choice.use.n,
        f"{name}_chosen_on": choice.chosen_on or NAN,
        "chance": choice.chance,
    }


def _describe_gain(classifier: str, gain: Estimate) -> Row:
    """The columns of what a classifier gains over raw pixels: its own, and those of the answer."""
    own = gain.columns(f"{classifier}_over_pixels")
    return own | gain.columns("over_pixels")


def _describe_usual(choice: Choice) -> Row:
    """The columns of the usual choice, and of what was chosen from."""
    over = choice.gains["over_usual"].columns("over_usual")
    return {"usual": choice.usual.value, "options": choice.options, **over}


def _find_nearest(every: Sequence[Likeness], models: Models) -> dict[str, Likeness]:
    """The pair of each model with its nearest relative.

    All pairs of models under study have one kind of CKA, as on the first screen of the report: with
    the pixels regressed out where that is defined for all of them. Of controls, only pairs with
    that kind of CKA count.
    """
    studied = compare_alike([pair for pair in every if not pair.control])
    beyond = all(pair.beyond for pair in studied)
    nearest = {}
    for name in models.names:
        pairs = [*studied]
        if models.is_control(name):
            pairs += [pair for pair in every if pair.control and pair.beyond == beyond]
        own = [pair for pair in pairs if name in (pair.a, pair.b)]
        if own:
            nearest[name] = max(own, key=lambda pair: pair.value.value)
    return nearest


def _describe_detector(name: str, results: Mapping[str, Results]) -> Row:
    """The columns of a detector."""
    for exhibit in DETECTION:
        row = find_row(
            results.get(exhibit, Results({})), "models", model=name, kind="box", measure="AP"
        )
        if row is not None:
            ends = {"ap_low": row["low"], "ap_high": row["high"]}
            return {"ap": row["ap"], **ends, "ap_images": row["images"]}
    return {}


def _describe_nearest(name: str, pair: Likeness | None) -> Row:
    """The columns of the nearest relative."""
    if pair is None:
        return {}
    other = pair.b if pair.a == name else pair.a
    return {
        "nearest_relative": other,
        "pixels_regressed_out": pair.beyond,
        "cka_depths": "{} of {}".format(*pair.depths) if pair.depths else "",
        **pair.value.columns("cka_to_it", ("cka_low", "cka_high")),
        "cka_minibatches": pair.value.n or NAN,
    }
