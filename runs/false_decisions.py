"""How often a difference is called decided where there is none, on real models and images.

    python runs/false_decisions.py                      500 repetitions, about a minute of a core
    python runs/false_decisions.py --trials 100 --models scenes_mae scenes_moco_v3 scenes_dino
    python runs/false_decisions.py trainings            studies of two seeds of each objective

`images` (unless given): two models A and B are held against each other, and both against a third.
In each repetition their values are exchanged at random, image by image or minibatch by minibatch,
so that no true difference is left; everything after that is the code of the analyses. At most 5 %
of the differences may be decided (an interval that leaves out 0, `Estimate.sign`):

- the gain of A over B in 20-NN accuracy, and in the accuracy of a ridge probe;
- the mean gain of a family of two, A and the third less B and the third;
- the difference of tau, F1 and kappa, A with the third less B with the third;
- the difference of CKA, A with the third less B with the third, last block.

`trainings`: two seeds of one objective stand on both sides of every claim. Copies of their files
say that one seed was trained by a joint-embedding objective and the other one by MAE, so that what
is true of one side is true of the other but for the seed. Whole studies run on these copies: with
one training a side, with two objectives of one training, and with two trainings of one objective.
No verdict may be about objectives, and no sentence may decide a difference of families without
"in these models". Beside it stands how many verdicts are decided about these models: seeds differ.
A simulated null of four trainings a side is in `runs/coverage.py trainings`.
"""

import argparse
import html
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

import sslens
from sslens import zoo
from sslens.capture import Grams
from sslens.data.images import ImageSet
from sslens.measures.cka import Comparison
from sslens.models.vit import ViTArch, describe
from sslens.probes.agreement import Draws, Predicted, agreement
from sslens.probes.knn import knn
from sslens.probes.ridge import ridge
from sslens.statistics.estimate import Estimate
from sslens.statistics.gains import estimate_gain
from sslens.statistics.sampled import Sampled
from sslens.store import Store, write_tensors
from sslens.study.asked import Study
from sslens.study.running import run

#: two seeds of each objective
SEEDS = (("scenes_mae", "scenes_mae_seed1"), ("scenes_moco_v3", "scenes_moco_v3_seed1"))
#: the analyses that compare families of pre-trained models
ANALYSES = (
    "cka-blocks",
    "cka-layer-types",
    "cka-targets",
    "knn-depth",
    "probe-depth",
    "probe-layers",
    "agreement",
)


@dataclass(frozen=True, eq=False)
class Read:
    """What is read of a model: which images 20-NN has right, a probe's logits, and the Grams."""

    near: np.ndarray
    logits: torch.Tensor
    grams: Grams


def read(name: str, images: ImageSet, labels: np.ndarray) -> Read:
    """Pass the images through a model once for its features and once for its Grams."""
    model = sslens.load(name)
    features = sslens.features(model, images)
    values = features.read(features.taps[-1].name, "cls")
    classes = torch.tensor(labels)
    near = knn(values, values, classes, k=20, how="weighted", leave_one_out=True) == labels
    targets = torch.nn.functional.one_hot(classes).double()
    left_out = ridge(values, targets).left_out
    logits = left_out[int((left_out - targets).square().mean((1, 2)).argmin())]
    return Read(near, logits, sslens.grams(model, images).at("block"))


def exchange(one: torch.Tensor, other: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """The first, with the rows of the other where `rows` says so."""
    return torch.where(rows.view(-1, *[1] * (one.ndim - 1)), other, one)


@dataclass(frozen=True)
class Swapped:
    """A `Ratios` of one pair of taps, from its parts."""

    cross: torch.Tensor
    own_a: torch.Tensor
    own_b: torch.Tensor
    defined: torch.Tensor
    seen: None = None


def exchange_images(names: Sequence[str], source: str, trials: int) -> None:
    """Print the percentage of repetitions in which each difference is decided."""
    images = sslens.open_images(source)
    labels = np.asarray(images.labels)
    a, b, third = (read(name, images, labels) for name in names)
    beside = [Comparison.of(one.grams, third.grams) for one in (a, b)]
    rng, draws = np.random.default_rng(0), Draws.of(len(labels))
    reference = Predicted.of(third.logits, labels, 5)
    decided: dict[str, list[bool]] = {}

    def note(name: str, estimate: Estimate) -> None:
        decided.setdefault(name, []).append(estimate.sign in (1, -1))

    right = [Predicted.of(one.logits, labels, 5).right for one in (a, b, third)]
    for _ in range(trials):
        swap = rng.random(len(labels)) < 0.5
        sign = np.where(swap, -1.0, 1.0)
        note("gain, 20-NN", estimate_gain(sign * (a.near.astype(float) - b.near)))
        gain = sign * (right[0].astype(float) - right[1])
        note("gain, probe", estimate_gain(gain))
        note("mean gain of two", estimate_gain(gain / 2))
        rows = torch.from_numpy(swap)
        logits = exchange(a.logits, b.logits, rows), exchange(b.logits, a.logits, rows)
        sides = [agreement(Predicted.of(one, labels, 5), reference, [5], draws) for one in logits]
        for key in sides[0]:
            low, high = (sides[0][key].sampled - sides[1][key].sampled).interval()
            estimate = Estimate(0.0, float(low), float(high), "images", sides[0][key].images)
            note(f"difference of {key.measure}, {key.images}", estimate)
        batches = torch.from_numpy(rng.random(beside[0].cross.shape[-1]) < 0.5)
        values = []
        for one, other in (beside, beside[::-1]):
            cross = torch.where(batches, other.cross[-1:, -1:], one.cross[-1:, -1:])
            own = torch.where(batches, other.own_a[-1:], one.own_a[-1:])
            parts = Swapped(cross, own, one.own_b[-1:], one.defined[-1:, -1:])
            values.append(Sampled.of(parts)[0])
        low, high = (values[0] - values[1]).interval()
        ends = float(low[0]), float(high[0])
        note("difference of CKA", Estimate(0.0, *ends, "minibatches", len(batches)))
    print(f"| {len(labels)} images, {' · '.join(names)} | decided, % |\n|---|---|")
    for name, outcomes in decided.items():
        print(f"| {name} | {100 * np.mean(outcomes):.1f} |")


# ------------------------------------------------------------------------------------------------
# two seeds of one objective


@dataclass(frozen=True)
class Cast:
    """Who plays what in a study of a null: the objective that a model's file is said to be of."""

    title: str
    roles: Mapping[str, str]


def list_casts(seeds: Sequence[Sequence[str]]) -> list[Cast]:
    """Put two seeds of each objective on both sides.

    Args:
        seeds: two models of one objective each.
    """
    casts = [Cast("one training a side", {one: "dino", other: "mae"}) for one, other in seeds]
    (a, b), (c, d) = seeds
    for turned in (False, True):
        third, fourth = (d, c) if turned else (c, d)
        casts.append(
            Cast(
                "two objectives against two trainings",
                {a: "dino", third: "moco-v3", b: "mae", fourth: "mae"},
            )
        )
        casts.append(
            Cast(
                "two trainings a side",
                {a: "dino", third: "dino", b: "mae", fourth: "mae"},
            )
        )
    return casts


def write_copy(source: str, objective: str, folder: Path) -> str:
    """Copy a model into a file that says another objective; returns the folder of the file."""
    model = sslens.load(source)
    family = "REC" if objective == "mae" else "JE"
    about = model.about.to_json() | {"family": family, "objective": objective}
    arch = ViTArch.parse(str(model.about.arch))
    header = zoo.make_header(source, describe(arch), about, model.transform.spec())
    write_tensors(folder / source / zoo.ENCODER, model.network.state_dict(), header)
    return str(folder / source)


def find_decided_sentences(text: str) -> list[str]:
    """The sentences of a report that decide a difference of families and say no scope."""
    sentences = re.split(r"(?<=\.) (?=[A-Z])", text)
    return [
        one
        for one in sentences
        if re.search(r"\b(JE|REC)\b", one)
        and re.search(r" (more|less) than ", one)
        and "in these models" not in one
    ]


def study_trainings(
    seeds: Sequence[Sequence[str]], source: str, bank: str | None, analyses: Sequence[str]
) -> None:
    """Print how many verdicts are decided about objectives and about the models under study."""
    columns = "study", "models", "verdicts", "of objectives", "of these models", "of no scope"
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    with tempfile.TemporaryDirectory() as place:
        store = Store(Path(place, "store"))
        for number, cast in enumerate(list_casts(seeds)):
            folder = Path(place, str(number))
            files = [write_copy(name, role, folder) for name, role in cast.roles.items()]
            study = Study(
                tuple(files),
                source,
                tuple(analyses),
                bank=bank,
                limit=None,
                controls=False,
                batch=16,
            )
            report = run(study, folder / "out", store=store, quiet=True)
            verdicts = pd.read_csv(folder / "out" / "verdicts.csv", keep_default_na=False)
            outcomes = verdicts.drop_duplicates(["claim", "tokens"]).outcome
            judged = outcomes[outcomes != "not run"]
            counts = [judged.str.endswith(scope).sum() for scope in ("objectives", "models")]
            loose = find_decided_sentences(read_text(report))
            cells = [cast.title, " · ".join(cast.roles), len(judged), *counts, len(loose)]
            print(f"| {' | '.join(map(str, cells))} |", *loose, sep="\n", flush=True)


def read_text(report: Path | None) -> str:
    """The words of a report."""
    text = html.unescape(report.read_text()) if report else ""
    text = re.sub(r"<(script|style|svg).*?</\1>", " ", text, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", text))


def main() -> None:
    """Print the table of one kind of null."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("null", nargs="?", choices=["images", "trainings"], default="images")
    parser.add_argument(
        "--models", nargs=3, default=["scenes_mae", "scenes_moco_v3", "scenes_dino"]
    )
    parser.add_argument(
        "--images", default=None, help="scenes:1:480, and scenes:1:160 of trainings"
    )
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--bank", default=None, help="labelled images that vote, of trainings")
    parser.add_argument("--analyses", nargs="+", default=list(ANALYSES), help="of trainings")
    arguments = parser.parse_args()
    if arguments.null == "images":
        source = arguments.images or "scenes:1:480"
        exchange_images(arguments.models, source, arguments.trials)
    else:
        source = arguments.images or "scenes:1:160"
        study_trainings(SEEDS, source, arguments.bank, arguments.analyses)


if __name__ == "__main__":
    main()
