"""Advice: which block, pooling and probe to use for these images, and the gain in accuracy over the
usual probe and over raw pixels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import pandas as pd

from sslens.comparisons.choices import Choice, read_choices
from sslens.comparisons.options import is_above_chance, is_better
from sslens.comparisons.probing import (
    PLUS,
    find_settled,
    judge_gain,
    read_accuracy,
    read_gain,
)
from sslens.comparisons.roles import PIXELS
from sslens.statistics.estimate import Answer, Contrast, Estimate
from sslens.table import Results

WORDS = "Another block or pooling than the usual one is worth its while."
#: the exhibits that train probes
PROBES = ("probe-depth", "probe-layers")
READS = (*PROBES, "knn-depth")


@final
@dataclass(frozen=True)
class ProbeChoice:
    """A probe of a model that may be chosen, or k-NN, which trains nothing.

    Attributes:
        taps: names of the taps that the probe reads; the features of two taps are concatenated.
        pooling: how the tokens are pooled.
        layers: number of layers of the probe; 1 is linear, and 0 is k-NN.
        accuracy: share of test images that the probe classifies correctly.
        validation: share of validation images that the probe classifies correctly; nan where it is
            not known.
        k: number of neighbours of k-NN; 0 of a probe.
        features: "raw" or "standardised" features of k-NN; empty of a probe, which standardises.
    """

    taps: tuple[str, ...]
    pooling: str
    layers: int
    accuracy: Estimate
    validation: float
    k: int = 0
    features: str = ""


@final
@dataclass(frozen=True)
class KnnChoice:
    """k-NN at one tap, as an alternative that needs no training.

    Attributes:
        tap: name of the tap that gives the features.
        k: number of neighbours.
        accuracy: share of images that k-NN classifies correctly.
    """

    tap: str
    k: int
    accuracy: Estimate


@final
@dataclass(frozen=True)
class Recommendation:
    """The recommended probe of a model, compared with the usual probe and with the best one.

    Attributes:
        model: name of the model.
        use: the probe to use.
        usual: the usual choice, a linear probe of the last layer with the model's usual pooling
            (`readings.choose_pooling`).
        best: the probe with the highest accuracy on the validation images.
        answer: whether the best probe should replace the usual one: "holds" if the gain is half a
            point or more and its interval lies above 0, "the same" if the interval lies within half
            a point, "contradicted" if the best probe is clearly worse on the test images, else
            "undecided".
        gain: the accuracy of the best probe less the accuracy of the usual one, on the test images;
            None if the usual probe is the best one.
        probes: number of probes that were chosen from: those that converged, with a setting
            inside those that were tried.
        knn: k-NN at the tap of the probe; None where it was not run there.
        unsettled: why the usual probe cannot be relied on, as a clause; then nothing is advised.
        chosen_on: the number of images on which the choice was made; 0 where it is not known.
        over_pixels: the accuracy of `use` less that of the best choice of raw pixels, on the same
            images; None where there are no raw pixels.
        untrained: the untrained network with the highest accuracy; None where there is none.
        chance: share of the most frequent class; nan where it is not known.
        models: the number of models of which something is recommended.
    """

    model: str
    use: ProbeChoice
    usual: ProbeChoice
    best: ProbeChoice
    answer: Answer
    gain: Contrast | None
    probes: int
    knn: KnnChoice | None = None
    unsettled: str = ""
    chosen_on: int = 0
    over_pixels: Estimate | None = None
    untrained: Choice | None = None
    chance: float = float("nan")
    models: int = 1

    @property
    def is_chance(self) -> bool:
        """Whether `use` is not shown to be above chance, by intervals that hold for all models at
        once: then nothing is recommended."""
        known = self.chance == self.chance and self.use.accuracy.defined
        return known and not is_above_chance(self.use.accuracy, self.chance, self.models)


def judge(results: Mapping[str, Results]) -> tuple[Recommendation, ...]:
    """Recommend a linear probe for each model, or k-NN where no probes were trained.

    The linear probe with the highest validation accuracy is compared with the usual one, of the
    last layer with its usual pooling, on the test images, which played no part in the choice. If
    several probes tie, the usual one comes first, then the simplest one. Probes that have not
    converged, or with a setting at the end of those that were tried, are left out. The best one is
    recommended where its gain is decided and it is above chance, by intervals that hold for all
    models at once. Without probes
    it is k-NN that is recommended, chosen on about a third of the images and compared on the
    others.

    Args:
        results: the results of the analyses that ran, by the analysis' name.

    Returns:
        One recommendation per model; nothing if none of the analyses of `READS` ran.
    """
    exhibits = [results[name] for name in PROBES if name in results]
    if not exhibits:
        neighbours = results.get("knn-depth")
        if neighbours is None or "choices" not in neighbours:
            return ()
        choices = read_choices(neighbours["choices"])
        untrained = _find_best_untrained(choices)
        studied = [one for one in choices if not one.control]
        return tuple(
            replace(_recommend_neighbours(one, len(studied)), untrained=untrained)
            for one in studied
        )
    tables = [exhibit["probes"] for exhibit in exhibits]
    probes = pd.concat([table[~table.control] for table in tables], ignore_index=True)
    probes = probes[probes.layers == 1].drop_duplicates(["model", "tap", "pooling"])
    probes = probes.assign(two=probes.tap.str.contains(PLUS, regex=False))
    knn = results["knn-depth"]["accuracies"] if "knn-depth" in results else None
    if knn is not None:
        knn = knn[knn.features == "raw"]
    beside = [
        one
        for exhibit in exhibits
        if "choices" in exhibit
        for one in read_choices(exhibit["choices"])
    ]
    models = probes.model.nunique()
    found = (
        _recommend(str(name), rows, knn, models)
        for name, rows in probes.groupby("model", sort=False)
    )
    chosen_on = {choice.model: choice.chosen_on for choice in beside}
    return tuple(
        replace(
            one,
            over_pixels=_find_over_pixels(one, beside),
            chosen_on=chosen_on.get(one.model, 0),
            untrained=_find_best_untrained(beside),
        )
        for one in found
    )


def _find_over_pixels(one: Recommendation, choices: Sequence[Choice]) -> Estimate | None:
    """The gain of the recommended probe over raw pixels, from the exhibit that chose it; None where
    that is not known."""
    for choice in choices:
        if choice.model != one.model:
            continue
        chosen = choice.taps, choice.pooling, choice.layers
        if one.use == one.usual:
            gain = choice.gains["usual_over_pixels"]
        elif chosen == (one.use.taps, one.use.pooling, one.use.layers):
            gain = choice.gains["over_pixels"]
        else:
            continue
        return gain if gain.defined else None
    return None


def _find_best_untrained(choices: Sequence[Choice]) -> Choice | None:
    """The untrained network with the highest accuracy, by what is to be used of it; None where
    there is none. Probes of several layers are left out, as they are of models."""
    untrained = [
        one
        for one in choices
        if one.control and one.model != PIXELS and not (one.replaces_usual and one.layers > 1)
    ]
    return max(untrained, key=lambda one: one.use.value, default=None)


def _recommend_neighbours(choice: Choice, models: int) -> Recommendation:
    """Recommend k-NN of one of some models."""
    nan = float("nan")
    usual = ProbeChoice(
        choice.usual_taps, choice.usual_pooling, 0, choice.usual, nan, choice.k, "raw"
    )
    best = ProbeChoice(
        choice.taps,
        choice.pooling,
        0,
        choice.accuracy,
        choice.validation,
        choice.k,
        choice.features,
    )
    over, pixels = choice.gains["over_usual"], choice.over_pixels
    gain = Contrast("the best choice", "the usual choice", over) if over.defined else None
    return Recommendation(
        choice.model,
        best if choice.replaces_usual else usual,
        usual,
        best if over.defined else usual,
        _judge(gain, choice.accuracy, choice.chance, models),
        gain,
        choice.options,
        chosen_on=choice.chosen_on,
        over_pixels=pixels if pixels.defined else None,
        chance=choice.chance,
        models=models,
    )


def _judge(gain: Contrast | None, accuracy: Estimate, chance: float, models: int) -> Answer:
    """Whether the best choice should replace the usual one, as `judge_gain` says of the gain; it
    "holds" only above chance."""
    answer = judge_gain(gain, models)
    if gain is None or answer != "holds":
        return answer
    better = is_better(gain.difference, accuracy, chance, models)
    return "holds" if better else "undecided"


def _recommend(
    model: str, rows: pd.DataFrame, knn: pd.DataFrame | None, models: int
) -> Recommendation:
    """Recommend a probe for one model.

    Args:
        model: its name.
        rows: its probes.
        knn: the table of k-NN; None where it was not run.
        models: the number of models of which a probe is recommended.
    """
    usual = rows[rows.usual].iloc[0].to_dict()
    settled = rows[find_settled(rows)]
    if not settled.usual.any():
        choice = _read_choice(usual)
        why = usual.get("why") or "its training has not converged"
        return Recommendation(model, choice, choice, choice, "undecided", None, 0, unsettled=why)
    ordered = settled.sort_values(
        ["validation", "usual", "two"],
        ascending=[False, False, True],
        kind="stable",
    )
    best = ordered.iloc[0].to_dict()
    probes = _read_choice(best), _read_choice(usual)
    gain = None
    if not best["usual"]:
        gain = Contrast("the best probe", "the usual choice", read_gain(best, "over"))
    chance = float(usual["chance"])
    answer = _judge(gain, probes[0].accuracy, chance, models)
    use = probes[0] if answer == "holds" else probes[1]
    beside = _find_knn(knn, usual if best["two"] else best)
    return Recommendation(
        model,
        use,
        probes[1],
        probes[0],
        answer,
        gain,
        len(settled),
        beside,
        chance=chance,
        models=models,
    )


def _read_choice(row: Mapping[str, Any]) -> ProbeChoice:
    """A row of the table of probes."""
    return ProbeChoice(
        tuple(row["tap"].split(PLUS)),
        row["pooling"],
        int(row["layers"]),
        read_accuracy(row),
        row["validation"],
    )


def _find_knn(knn: pd.DataFrame | None, place: Mapping[str, Any]) -> KnnChoice | None:
    """k-NN at the tap and pooling of a probe."""
    if knn is None:
        return None
    same = (knn[column] == place[column] for column in ("model", "tap", "pooling"))
    rows = knn[(knn.vote == "weighted") & pd.concat(list(same), axis=1).all(axis=1)]
    if rows.empty:
        return None
    row = rows.iloc[0].to_dict()
    return KnnChoice(row["tap"], int(row["k"]), read_accuracy(row))
