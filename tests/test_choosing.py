"""Choosing a checkpoint without labels: alignment, uniformity, and what each measure chooses."""

import math

import numpy as np
import pytest
import torch

from given import make_models
from sslens.analyses.checkpoints import (
    NUMBERS,
    TABLES,
    TEXTS,
    UNITS,
    choose_checkpoints,
    sort_checkpoints,
)
from sslens.comparisons.movement import measure_movement, measure_overlap
from sslens.comparisons.rows import make_results
from sslens.errors import InputError
from sslens.probes import alignment
from sslens.probes.alignment import measure_alignment, measure_uniformity
from sslens.report.writing import sentences
from sslens.statistics.proportions import estimate_share


def test_alignment_and_uniformity_are_the_papers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the authors' definition written with all distances, in blocks of rows too."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 11, 3, generator=generator, dtype=torch.float64)
    unit = torch.nn.functional.normalize(x, dim=1)
    other = torch.nn.functional.normalize(y, dim=1)
    aligned = (unit - other).norm(dim=1).pow(2).mean().item()
    assert measure_alignment(x.float(), y.float()) == pytest.approx(aligned, rel=1e-6)
    uniform = torch.pdist(unit).pow(2).mul(-2).exp().mean().log().item()
    assert measure_uniformity(x) == pytest.approx(uniform, rel=1e-12)
    monkeypatch.setattr(alignment, "ROWS", 4)
    assert measure_uniformity(x) == pytest.approx(uniform, rel=1e-12)
    assert measure_uniformity(torch.ones(3, 2)) == pytest.approx(0.0, abs=1e-12)
    assert math.isnan(measure_uniformity(torch.zeros(3, 2)))
    with pytest.raises(InputError, match="two images"):
        measure_uniformity(torch.ones(1, 2))
    with pytest.raises(InputError, match="same images"):
        measure_alignment(x, y[:3])


def test_movement_is_one_less_the_correlation_of_cosines() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((12, 4)), rng.standard_normal((12, 6))
    near, far = (x @ x.T / np.outer(*[np.linalg.norm(x, axis=1)] * 2) for x in (a, b))
    moved = measure_movement(torch.from_numpy(a), torch.from_numpy(b)).numpy()
    for row in range(12):
        rest = np.arange(12) != row
        expected = 1 - np.corrcoef(near[row, rest], far[row, rest])[0, 1]
        assert moved[row] == pytest.approx(expected, rel=1e-9)
    turned = torch.from_numpy(a) @ torch.linalg.qr(torch.from_numpy(rng.random((4, 4))))[0]
    assert measure_movement(torch.from_numpy(a), 5 * turned).abs().max() < 1e-12
    assert measure_overlap(torch.from_numpy(a), 5 * turned, 3).tolist() == [1.0] * 12
    assert torch.isnan(measure_movement(torch.ones(4, 2), torch.from_numpy(b[:4]))).all()


def test_checkpoints_are_in_the_order_of_their_steps() -> None:
    names = ["step_10", "step_9", "step_100"]
    bare = make_models(names, (), {name: {} for name in names})
    assert sort_checkpoints(bare) == ["step_9", "step_10", "step_100"]
    steps = {"step_10": 3, "step_9": 1, "step_100": 2}
    written = make_models(names, (), {name: {"step": steps[name]} for name in names})
    assert sort_checkpoints(written) == ["step_9", "step_100", "step_10"]


def test_each_measure_chooses_by_its_own_best() -> None:
    """Of 100 images the middle checkpoint has 90 right, the first 50 and the last 89."""
    right = {name: np.arange(100) < count for name, count in (("a", 50), ("b", 90), ("c", 89))}
    measured = [
        {"model": name, "rank": rank, "alignment": near, "uniformity": even}
        | {"alignment_uniformity": near + even}
        for name, rank, near, even in (
            ("a", 3.0, 0.1, -1.0),
            ("b", 5.0, 0.2, -2.0),
            ("c", 5.0, 0.3, -3.0),  # of equal ranks the later one is taken
        )
    ]
    chosen = {row["by"]: row for row in choose_checkpoints(measured, right)}
    assert {by: row["model"] for by, row in chosen.items()} == {
        "last": "c",
        "rank": "c",
        "alignment": "a",
        "uniformity": "c",
        "alignment_uniformity": "c",
    }
    assert chosen["last"]["best"] == "b"
    assert chosen["last"]["loss"] == pytest.approx(0.01)
    assert chosen["alignment"]["loss"] == pytest.approx(0.4)
    assert chosen["alignment"]["loss_low"] > 0.2
    assert chosen["last"]["loss_low"] <= 0  # one image of 100 decides nothing


def test_checkpoints_that_tell_the_same_are_not_chosen_among() -> None:
    right = dict.fromkeys("abc", np.arange(100) < 90)
    same = {"control": False, "images": 100, "rank": 5.0, "alignment": 0.1, "uniformity": -2.0}
    measured = [
        {"model": name, "place": place, **same, "alignment_uniformity": -1.9}
        | {"rank": 5.0 + place * 1e-4}
        | estimate_share(right[name]).columns("accuracy", ("low", "high"))
        for place, name in enumerate("abc")
    ]
    chosen = list(choose_checkpoints(measured, right | {"pixels": np.arange(100) < 50}))
    bare = [("checkpoints", row) for row in measured]
    rows = [*bare, *(("choices", row | {"chance": 0.1}) for row in chosen)]
    (first, *_) = sentences("checkpoints", make_results(rows, TABLES, UNITS, TEXTS))
    assert first.startswith(
        "By 20-NN all 3 checkpoints have 90.0% [82.6%, 94.5%] of 100 images, ab"
    )
    assert "chooses" not in first
    (unlabelled, *_) = sentences("checkpoints", make_results(bare, TABLES, UNITS, TEXTS))
    assert unlabelled == (
        "Without labels: the effective rank 5.00 in all, alignment 0.10 in all, uniformity -2.00"
        " in all."
    )


@pytest.mark.parametrize(
    ("pixels", "chance", "said"),
    [
        (50, 0.1, "above raw pixels (+40.0 points ["),
        (88, 0.1, "not decided against raw pixels (+2.0 points [-"),
        (0, 0.9, "not shown to be above chance 90.0%"),
    ],
)
def test_the_best_checkpoint_is_held_against_controls_and_chance(
    pixels: int, chance: float, said: str
) -> None:
    right = {name: np.arange(100) < count for name, count in (("a", 50), ("b", 90))}
    same = {"control": False, "images": 100, **dict.fromkeys(NUMBERS, 1.0)}
    measured = [
        {"model": name, "place": place, **same}
        | estimate_share(right[name]).columns("accuracy", ("low", "high"))
        for place, name in enumerate("ab")
    ]
    chosen = list(choose_checkpoints(measured, right | {"pixels": np.arange(100) < pixels}))
    rows = [("checkpoints", row) for row in measured]
    rows += [("choices", row | {"chance": chance}) for row in chosen]
    (first, *_) = sentences("checkpoints", make_results(rows, TABLES, UNITS, TEXTS))
    best = "By 20-NN b is the best of 2 checkpoints, with 90.0% [82.6%, 94.5%] of the 100 images"
    assert first.startswith(f"{best} that chose it, {said}")
