"""Advice: which block, pooling and probe to use for these images, and what is gained over the usual
choice."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import pandas as pd

from sslens.comparisons.probing import PLUS, read_accuracy, read_gain
from sslens.statistics import estimate
from sslens.statistics.estimate import Answer, Contrast, Estimate
from sslens.table import Results

WORDS = "Another block, pooling or probe than the usual one is worth its while."
READS = ("probe-depth", "probe-layers", "knn-depth")
#: the share of images under which a gain is worth no change, however sure it is
WORTH = 0.005


@final
@dataclass(frozen=True)
class ProbeChoice:
    """A probe of a model that may be chosen.

    Attributes:
        taps: where it reads; two are concatenated.
        pooling: how the tokens are pooled.
        layers: of the probe; 1 is linear.
        accuracy: share of test images that it has right.
        validation: share of validation images that it has right.
    """

    taps: tuple[str, ...]
    pooling: str
    layers: int
    accuracy: Estimate
    validation: float


@final
@dataclass(frozen=True)
class KnnChoice:
    """k-NN, which trains nothing, at a tap.

    Attributes:
        tap: where the features are read.
        k: neighbours.
        accuracy: share of images that it has right.
    """

    tap: str
    k: int
    accuracy: Estimate


@final
@dataclass(frozen=True)
class Recommendation:
    """Which probe of a model to use.

    Attributes:
        model: name of the model.
        use: the probe to use.
        usual: the usual choice, a linear probe of the last layer's CLS token.
        best: the probe with most validation images right.
        answer: whether the best one is worth a change: it "holds" where the gain is sure and large
            enough, is "contradicted" where the best is worse, else "undecided".
        gain: the accuracy of the best less that of the usual choice, on the test images; None where
            the usual choice is the best.
        probes: number of probes that were chosen from.
        knn: k-NN at the tap of the probe; None where it was not run there.
    """

    model: str
    use: ProbeChoice
    usual: ProbeChoice
    best: ProbeChoice
    answer: Answer
    gain: Contrast | None
    probes: int
    knn: KnnChoice | None = None


def judge(results: Mapping[str, Results]) -> tuple[Recommendation, ...]:
    """Which probe of each model to use; nothing without probe-depth and probe-layers.

    Of all probes of a model the one with most validation images right is held against the usual
    choice, a linear probe of the last layer's CLS token, on the test images, which had no part in
    the choice. Of equals the usual and the simpler are taken.

    Args:
        results: by analysis, of those that ran.
    """
    tables = [
        results[name]["probes"] for name in ("probe-depth", "probe-layers") if name in results
    ]
    if not tables:
        return ()
    probes = pd.concat([table[~table.control] for table in tables], ignore_index=True)
    probes = probes.drop_duplicates(["model", "tap", "pooling", "layers"])
    probes = probes.assign(two=probes.tap.str.contains(PLUS, regex=False))
    knn = results["knn-depth"]["accuracies"] if "knn-depth" in results else None
    return tuple(
        _recommend(str(name), rows, knn) for name, rows in probes.groupby("model", sort=False)
    )


def _recommend(model: str, rows: pd.DataFrame, knn: pd.DataFrame | None) -> Recommendation:
    """What to use of one model.

    Args:
        model: its name.
        rows: its probes.
        knn: the table of k-NN; None where it was not run.
    """
    ordered = rows.sort_values(
        ["validation", "usual", "layers", "two"],
        ascending=[False, False, True, True],
        kind="stable",
    )
    usual, best = rows[rows.usual].iloc[0].to_dict(), ordered.iloc[0].to_dict()
    probes = _read_choice(best), _read_choice(usual)
    gain = None
    answer: Answer = "undecided"
    if not best["usual"]:
        gain = Contrast("the best probe", "the usual choice", read_gain(best, "over"))
        answer = estimate.judge(gain, smallest=WORTH)
    use = probes[0] if answer == "holds" else probes[1]
    beside = _find_knn(knn, usual if best["two"] else best)
    return Recommendation(model, use, probes[1], probes[0], answer, gain, len(rows), beside)


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
