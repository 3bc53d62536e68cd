"""The exhibit of paths of fine-tuning: whose path is found, and what is concluded of straightness
that was built in."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from scipy.stats import ttest_ind

from sslens.comparisons import paths as _paths
from sslens.comparisons.inputs import Inputs
from sslens.errors import InputError
from sslens.figure import Heatmap, Lines
from sslens.find import plugin
from sslens.models.about import About
from sslens.paths.path import PathMeter
from sslens.statistics import runs as _runs
from sslens.table import Table

EXHIBIT = plugin("analyses", "finetune-path")
TUNED = {
    "family": "REC",
    "tuned": "fine-tuned",
    "arch": "vit",
    "pretrained": {"source": "runs/mae"},
}


def path(turn: float, epochs: int = 3, recipe: dict[str, str] | None = None) -> Table:
    """Attention goes one ahead and, each second epoch, `turn` aside; the MLP goes straight."""

    def weights(epoch: int) -> dict[str, torch.Tensor]:
        attention = torch.tensor([1.0 + epoch, turn * (epoch % 2)], dtype=torch.float64)
        return {"blocks.0.attn.qkv.bias": attention, "blocks.1.mlp.fc1.bias": attention[:1]}

    trail = PathMeter.begin(weights(0))
    for epoch in range(1, epochs + 1):
        trail.add(weights(epoch), str(epoch), step=4 * epoch, step_length=np.full(6, 4.0 * epoch))
    return replace(trail.path.table(), provenance={"recipe": recipe or {}})


def straightness(turn: float) -> float:
    """Of two epochs, by hand: 2 ahead on two sides of √(1 + turn²)."""
    return float(1 / np.sqrt(1 + turn**2))


def about(family: str, objective: str | None, source: str = "runs/a") -> dict[str, Any]:
    return {**TUNED, "family": family, "objective": objective, "pretrained": {"source": source}}


CONTROL = about("control", None, "random:vit:0")


def given(**runs: tuple[dict[str, Any], Table]) -> Inputs:
    names = tuple(runs)
    known = {name: About.from_json(said) for name, (said, _) in runs.items()}
    return Inputs(names, (), about=known, paths={name: table for name, (_, table) in runs.items()})


def apart(table: Table, one: str, less: str, group: str = "attention") -> Any:
    frame = table.frame
    chosen = frame[
        (frame.row == "difference") & (frame.measure == "straightness") & (frame.group == group)
    ]
    (row,) = chosen[(chosen.model == one) & (chosen.less == less)].itertuples()
    return row


def test_one_run_of_each_has_a_difference_and_no_interval() -> None:
    runs = {"mae": (about("REC", "mae"), path(0.5, 2)), "dino": (about("JE", "dino"), path(2.0, 2))}
    table = EXHIBIT.compute(given(**runs, random=(CONTROL, path(1.0, 2))))
    row = apart(table, "REC", "JE")
    assert row.value == pytest.approx(straightness(0.5), abs=1e-12)
    assert row.difference == pytest.approx(straightness(0.5) - straightness(2.0), abs=1e-12)
    assert np.isnan(row.difference_low)
    assert apart(table, "REC", "control").difference == pytest.approx(
        straightness(0.5) - 2**-0.5, abs=1e-12
    )
    assert apart(table, "JE", "control").difference == pytest.approx(
        straightness(2.0) - 2**-0.5, abs=1e-12
    )
    assert apart(table, "REC", "JE", "mlp").difference == 0
    said = EXHIBIT.findings(table)
    assert len(said) == 3
    assert said[0].startswith(
        "In fine-tuning the attention parameters of REC have a straightness of 0.89 (REC: mae; JE:"
        " dino), +0.45 more"
    )
    assert all("one run of an objective has no interval" in one for one in said)


def test_several_seeds_give_welchs_interval() -> None:
    turns = {"REC": [0.1, 0.2, 0.3], "JE": [1.0, 1.2], "control": [0.15, 0.35]}
    objective = {"REC": "mae", "JE": "dino", "control": None}
    runs = {
        f"{side}{i}": (about(side, objective[side]), path(t, 2))
        for side, all_ in turns.items()
        for i, t in enumerate(all_)
    }
    table = EXHIBIT.compute(given(**runs))
    for less in ("JE", "control"):
        row = apart(table, "REC", less)
        sides = [[straightness(t) for t in turns[side]] for side in ("REC", less)]
        peer = ttest_ind(*sides, equal_var=False).confidence_interval()
        assert (row.difference_low, row.difference_high) == pytest.approx(
            (peer.low, peer.high), abs=1e-12
        )
    said = EXHIBIT.findings(table)
    assert "more than those of the JE: they go straighter" in said[0]
    assert "more than those of the control, which is not decided" in said[1]


def test_objectives_count_the_same_whatever_the_number_of_their_runs() -> None:
    """By hand: means 2 and 4 on one side; v = 2/2/4 + 1/3/4, and of the other 8/2."""
    found = _runs.difference_of_means({"a": [1.0, 3.0], "b": [3.0, 4.0, 5.0]}, {"c": [0.0, 4.0]})
    shares, freedom = np.array([0.25, 1 / 12, 4.0]), np.array([1, 2, 1])
    degrees = shares.sum() ** 2 / (shares**2 / freedom).sum()
    assert found.value == 1.0
    from scipy.stats import t

    assert found.high - found.value == pytest.approx(t.ppf(0.975, degrees) * shares.sum() ** 0.5)


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (path(1.0, 4), "they were looked at 2 and 4 times"),
        (path(1.0, 2, {"settings.mixup": "0"}), "they differ in settings.mixup"),
    ],
)
def test_paths_of_other_recipes_are_not_held_against_each_other(other: Table, why: str) -> None:
    mine = path(0.5, 2, {"settings.mixup": "0.8"})
    table = EXHIBIT.compute(
        given(mae=(about("REC", "mae"), mine), dino=(about("JE", "dino"), other))
    )
    assert np.isnan(apart(table, "REC", "JE").difference)
    (said,) = EXHIBIT.findings(table)
    assert said.endswith(f"it is not held against that of the JE, for {why}.")


def test_a_single_epoch_and_another_architecture_decide_nothing() -> None:
    once = given(mae=(about("REC", "mae"), path(0.5, 1)), dino=(about("JE", "dino"), path(1.0, 1)))
    assert apart(EXHIBIT.compute(once), "REC", "JE").unlike == "of one epoch every path is straight"
    cnn = {**about("JE", "dino"), "arch": "resnet50"}
    mixed = EXHIBIT.compute(
        given(mae=(about("REC", "mae"), path(0.5, 2)), dino=(cnn, path(1.0, 2)))
    )
    assert apart(mixed, "REC", "JE").unlike == "their architectures are resnet50 and vit"
    shipped = [
        about(*who) | {"recipe": recipe}
        for who, recipe in ((("REC", "mae"), "0"), (("JE", "dino"), "1"))
    ]
    packed = EXHIBIT.compute(
        given(mae=(shipped[0], path(0.5, 2)), dino=(shipped[1], path(1.0, 2)))
    )  # without their settings
    assert apart(packed, "REC", "JE").unlike == "their recipes differ"


def test_two_models_of_one_run_are_one_and_the_control_is_dashed() -> None:
    mae = about("REC", "mae")
    table = EXHIBIT.compute(
        given(best=(mae, path(0.5)), last=(mae, path(0.5)), random=(CONTROL, path(1.0)))
    )
    panels = {panel.title: panel for panel in EXHIBIT.draw(table).shown()}
    attention = panels["Straightness: attention"]
    assert isinstance(attention, Lines)
    assert [(line.name, line.control) for line in attention.lines] == [
        ("best", False),
        ("random", True),
    ]
    np.testing.assert_allclose(attention.lines[0].y[:2], [1, straightness(0.5)], atol=1e-12)
    moves = panels["Moves: attention"]
    assert isinstance(moves, Lines)
    ends = [
        line.y.sum() * straight.y[-1]
        for line, straight in zip(moves.lines, attention.lines, strict=True)
    ]
    np.testing.assert_allclose(ends, 1, atol=1e-12)  # the paper's moves add up to 1 / straightness
    kinds = panels["Straightness of kinds of parameters"]
    assert isinstance(kinds, Heatmap)
    assert kinds.rows == ("random", "best")
    assert kinds.values[:, kinds.columns.index("mlp")].tolist() == [1.0, 1.0]


def test_without_a_path_nothing_is_drawn_and_that_is_said() -> None:
    with pytest.raises(
        InputError, match="There is no path to draw: give models that were fine-tuned with --path"
    ):
        EXHIBIT.draw(EXHIBIT.compute(Inputs(("mae",), ())))


def run_folder(folder: Path) -> Path:
    folder.mkdir()
    for name in ("last.safetensors", "best.safetensors", "other.pth"):
        (folder / name).touch()
    config = {"pretrained": {"digest": "0"}, "training": {"epochs": 3, "seed": 5}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    path(0.5).save(folder / "path.csv")
    return folder


def test_the_path_of_a_run_lies_beside_its_models(tmp_path: Path) -> None:
    run, tuned = run_folder(tmp_path / "run"), About.from_json(TUNED)
    for source in (run, run / "best.safetensors", run / "last.safetensors"):
        found = _paths.path_of(str(source), tuned)
        assert found is not None
        assert len(found.frame) == len(path(0.5).frame)
        assert found.provenance == {"recipe": {"training.epochs": "3"}}
    assert _paths.path_of(str(run), replace(tuned, tuned=False)) is None
    assert (
        _paths.path_of(str(run / "other.pth"), tuned) is None
    )  # whatever it is, it is not of this run
    (run / "path.csv").write_text("record,at\n1,a\n")
    with pytest.raises(
        InputError, match=r"path.csv is no table of a path \(it has no column step\)"
    ):
        _paths.path_of(str(run), tuned)


def test_a_table_of_checkpoints_is_of_those_that_it_names(tmp_path: Path) -> None:
    table = path(0.5)
    named = table.frame.assign(at="checkpoint-" + table.frame["at"] + ".pth")
    Table(named, table.units).save(tmp_path / "path.csv")
    for name in ("checkpoint-3.pth", "elsewhere.pth"):
        (tmp_path / name).touch()
    plain = About(tuned="fine-tuned")
    assert _paths.path_of(str(tmp_path / "checkpoint-3.pth"), plain) is not None
    assert _paths.path_of(str(tmp_path / "elsewhere.pth"), plain) is None
    (tmp_path / "path.csv").write_text("x,y\n1,2\n")
    assert _paths.path_of(str(tmp_path / "checkpoint-3.pth"), plain) is None
