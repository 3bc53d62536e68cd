"""The exhibit of paths of fine-tuning: which path belongs to a model, and what is concluded of
known straightness."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from scipy.stats import ttest_ind

from sslens.comparisons.inputs import ModelInfo, Models, Paths
from sslens.comparisons.paths import find_path
from sslens.errors import InputError
from sslens.figure import Heatmap, Lines
from sslens.find import plugin
from sslens.models.about import About
from sslens.paths.path import PathMeter
from sslens.report.writing.finetune_path import sentences
from sslens.statistics.runs import difference_of_means
from sslens.table import Results, Table

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


def compute(**runs: tuple[dict[str, Any], Table]) -> Results:
    """The results of runs, each of which has what is known of it and its path."""
    members = [ModelInfo(name, about=About.from_json(known)) for name, (known, _) in runs.items()]
    paths: Paths = {name: table for name, (_, table) in runs.items()}
    results: Results = EXHIBIT.compute(Models(tuple(members)), paths=paths)
    return results


def apart(results: Results, role: str, less: str, group: str = "attention") -> Any:
    rows = results["differences"]
    chosen = rows[(rows.measure == "straightness") & (rows.group == group)]
    (row,) = chosen[(chosen.role == role) & (chosen.less == less)].itertuples()
    return row


def test_one_run_of_each_has_a_difference_and_no_interval() -> None:
    runs = {"mae": (about("REC", "mae"), path(0.5, 2)), "dino": (about("JE", "dino"), path(2.0, 2))}
    results = compute(**runs, random=(CONTROL, path(1.0, 2)))
    row = apart(results, "REC", "JE")
    assert row.value == pytest.approx(straightness(0.5), abs=1e-12)
    assert row.difference == pytest.approx(straightness(0.5) - straightness(2.0), abs=1e-12)
    assert np.isnan(row.difference_low)
    assert apart(results, "REC", "control").difference == pytest.approx(
        straightness(0.5) - 2**-0.5, abs=1e-12
    )
    assert apart(results, "JE", "control").difference == pytest.approx(
        straightness(2.0) - 2**-0.5, abs=1e-12
    )
    assert apart(results, "REC", "JE", "mlp").difference == 0
    written = sentences(results)
    assert len(written) == 2
    assert written[0].startswith(
        "In fine-tuning the attention parameters of REC have a straightness of 0.89 (REC: mae; JE:"
        " dino), not decided against that of JE (+0.45, which has no interval)"
    )
    assert written[1].count("which has no interval") == 2
    assert written[1].startswith(
        "Straightness of attention parameters, beside what the recipe does to random weights"
        " (random), which have 0.71: REC (mae) has 0.89, which is not decided against theirs (+"
    )
    unknown: dict[str, Any] = {"tuned": True}
    *_, last = sentences(compute(**runs, random=(CONTROL, path(1.0, 2)), own=(unknown, path(0, 2))))
    assert last.startswith("own: straightness after 2 epochs or checkpoints attention 1")
    assert last.endswith("It is of no family that is held against another.")


def test_the_path_of_a_converted_copy_is_no_second_run() -> None:
    known = About.from_json(about("REC", "mae"))
    models = Models(
        (ModelInfo("mae", about=known), ModelInfo("rounded", about=known, copy_of="mae"))
    )
    paths: Paths = {"mae": path(0.5), "rounded": path(0.5001)}
    records = EXHIBIT.compute(models, paths=paths)["records"]
    assert set(records.model) == {"mae"}


@pytest.mark.parametrize("JE", [[1.0, 1.2], [1.0, 1.2, 1.1, 1.05]])
def test_several_seeds_give_welchs_interval(JE: list[float]) -> None:
    turns = {"REC": [0.1, 0.2, 0.3, 0.25], "JE": JE, "control": [0.15, 0.35, 0.12, 0.32]}
    objective = {"REC": "mae", "JE": "dino", "control": None}
    runs = {
        f"{side}{i}": (about(side, objective[side]), path(t, 2))
        for side, all_ in turns.items()
        for i, t in enumerate(all_)
    }
    results = compute(**runs)
    for less in ("JE", "control"):
        row = apart(results, "REC", less)
        sides = [[straightness(t) for t in turns[side]] for side in ("REC", less)]
        peer = ttest_ind(*sides, equal_var=False).confidence_interval()
        assert (row.difference_low, row.difference_high) == pytest.approx(
            (peer.low, peer.high), abs=1e-12
        )
    written = sentences(results)
    assert not any("of no family" in text for text in written)
    if len(JE) < 4:  # two trainings cannot reach 5 % in any way that they are ordered
        assert "not decided against that of JE (+0." in written[0]
        assert "of 2 trainings a side, which are too few" in written[0]
    else:
        assert "more than that of JE (+0." in written[0]
    assert re.search(r"REC \(.+\) has 0\.\d+, which is not decided against theirs \(", written[1])


def test_models_without_a_path_are_named_and_a_checkpoint_written_twice_counts_once() -> None:
    straight = path(0.0, 2)
    frame = straight.frame
    again = frame[frame.record == 2].assign(record=3, at="last", move_of_whole=0.0)
    twice = replace(straight, frame=pd.concat([frame, again], ignore_index=True))
    members = [
        ModelInfo("mae", about=About.from_json(about("REC", "mae"))),
        ModelInfo("other", about=About.from_json(about("JE", "dino"))),
        ModelInfo("teacher", about=About("JE", "dino")),
    ]
    results = EXHIBIT.compute(Models(tuple(members)), paths={"mae": twice})
    first, *absent = sentences(results)
    assert first.startswith("mae: straightness after 2 epochs or checkpoints")
    assert absent == [
        "Not shown: other (no path of its weights was recorded beside its file).",
        "Not shown: teacher (it is not fine-tuned).",
    ]


def test_objectives_count_the_same_whatever_the_number_of_their_runs() -> None:
    """By hand: means 2 and 4 on one side; v = 2/2/4 + 1/3/4, and of the other 8/2."""
    estimate = difference_of_means({"a": [1.0, 3.0], "b": [3.0, 4.0, 5.0]}, {"c": [0.0, 4.0]})
    shares, freedom = np.array([0.25, 1 / 12, 4.0]), np.array([1, 2, 1])
    degrees = shares.sum() ** 2 / (shares**2 / freedom).sum()
    assert (estimate.value, estimate.over, estimate.n) == (1.0, "trainings", 2)
    from scipy.stats import t

    assert estimate.high - estimate.value == pytest.approx(
        t.ppf(0.975, degrees) * shares.sum() ** 0.5
    )


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (path(1.0, 4), "they were looked at 2 and 4 times"),
        (path(1.0, 2, {"settings.mixup": "0"}), "they differ in settings.mixup"),
    ],
)
def test_paths_of_other_recipes_are_not_held_against_each_other(other: Table, why: str) -> None:
    mine = path(0.5, 2, {"settings.mixup": "0.8"})
    results = compute(mae=(about("REC", "mae"), mine), dino=(about("JE", "dino"), other))
    assert np.isnan(apart(results, "REC", "JE").difference)
    (sentence,) = sentences(results)
    assert sentence.endswith(f"it is not held against that of JE, for {why}.")


def test_a_single_epoch_and_another_architecture_decide_nothing() -> None:
    once = compute(
        mae=(about("REC", "mae"), path(0.5, 1)), dino=(about("JE", "dino"), path(1.0, 1))
    )
    assert apart(once, "REC", "JE").unlike == "of one epoch every path is straight"
    cnn = {**about("JE", "dino"), "arch": "resnet50"}
    mixed = compute(mae=(about("REC", "mae"), path(0.5, 2)), dino=(cnn, path(1.0, 2)))
    assert apart(mixed, "REC", "JE").unlike == "their architectures are resnet50 and vit"
    shipped = [
        about(*who) | {"recipe": recipe}
        for who, recipe in ((("REC", "mae"), "0"), (("JE", "dino"), "1"))
    ]
    packed = compute(
        mae=(shipped[0], path(0.5, 2)), dino=(shipped[1], path(1.0, 2))
    )  # without their settings
    assert apart(packed, "REC", "JE").unlike == "their recipes differ"


def test_two_models_of_one_run_are_one_and_the_control_is_dashed() -> None:
    mae = about("REC", "mae")
    results = compute(best=(mae, path(0.5)), last=(mae, path(0.5)), random=(CONTROL, path(1.0)))
    panels = {panel.title: panel for panel in EXHIBIT.draw(results).shown()}
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
        InputError,
        match="There is no path to draw: give models that were fine-tuned with path=True",
    ):
        EXHIBIT.draw(EXHIBIT.compute(Models((ModelInfo("mae"),)), paths={}))


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
        table = find_path(str(source), tuned)
        assert table is not None
        assert len(table.frame) == len(path(0.5).frame)
        assert table.provenance == {"recipe": {"training.epochs": "3"}}
    assert find_path(str(run), replace(tuned, tuned=False)) is None
    assert find_path(str(run / "other.pth"), tuned) is None  # whatever it is, it is not of this run
    (run / "path.csv").write_text("record,at\n1,a\n")
    with pytest.raises(
        InputError, match=r"path.csv is no table of a path \(it has no column step\)"
    ):
        find_path(str(run), tuned)


def test_a_table_of_checkpoints_is_of_those_that_it_names(tmp_path: Path) -> None:
    table = path(0.5)
    named = table.frame.assign(at="checkpoint-" + table.frame["at"] + ".pth")
    Table(named, table.units).save(tmp_path / "path.csv")
    for name in ("checkpoint-3.pth", "elsewhere.pth"):
        (tmp_path / name).touch()
    plain = About(tuned="fine-tuned")
    assert find_path(str(tmp_path / "checkpoint-3.pth"), plain) is not None
    assert find_path(str(tmp_path / "elsewhere.pth"), plain) is None
    (tmp_path / "path.csv").write_text("x,y\n1,2\n")
    assert find_path(str(tmp_path / "checkpoint-3.pth"), plain) is None
