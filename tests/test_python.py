"""What Python is given: the same study as the command's, its answer as tables and figures, short
reprs, and nothing written unless it is saved."""

import html
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import sslens
from sslens.arguments.answers import Reply, describe_training, print_reply, read_rows, show
from sslens.capture import Features
from sslens.cli import main
from sslens.comparisons import choices
from sslens.comparisons.choices import list_choices
from sslens.comparisons.inputs import ModelInfo, Models
from sslens.comparisons.likeness import compare_alike, read_likenesses
from sslens.comparisons.options import Option, Options
from sslens.comparisons.rows import make_results
from sslens.errors import Caution, Doubt, InputError
from sslens.report.answer import UNITS, make_answer
from sslens.report.writing.alike import Beside, write_alike, write_as_pixels
from sslens.report.writing.answer import MOST, AnswerLine, Told, write_answer
from sslens.study import Result, Study
from sslens.study.planning import open_study_images
from sslens.table import Results, Table

#: the probes have tests of their own
pytestmark = pytest.mark.usefixtures("short_probes")

NANO, OTHER, IMAGES = "random:vit_nano_patch8_32", "random:vit_nano_patch8_32:7", "scenes:0:96"
ANALYSES = ("cka-blocks", "knn-depth")


class Own(nn.Module):
    """A network of a user's own."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 4, stride=4), nn.ReLU(), nn.Conv2d(8, 16, 2, stride=2), nn.ReLU()
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(autouse=True)
def _in_home(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SSLENS_HOME", str(home))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def result(home: Path) -> Result:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSLENS_HOME", str(home))
        return sslens.compare([NANO, OTHER], IMAGES, analyses=ANALYSES, quiet=True)


# ---- the answer ----


def make_choices(accuracies: dict[str, tuple[float, float]], layers: int) -> Results:
    """The table `choices` of models with one option each: (validation, accuracy) of 100 images."""
    options = [
        Options(
            name,
            name == "pixels",
            [
                Option(
                    f"blocks.{layers}",
                    "cls",
                    validation,
                    np.arange(100) < 100 * accuracy,
                    layers=layers,
                    k=0 if layers else 20,
                    usual=True,
                )
            ],
        )
        for name, (validation, accuracy) in accuracies.items()
    ]
    rows = list_choices(options, chance=0.25)
    return make_results(rows, {"choices": choices.CHOICES}, choices.UNITS, choices.TEXTS)


def make_means(*rows: tuple[str, str, bool, float, float]) -> Results:
    """The table `means`: (model_a, model_b, control, cka, deconfounded)."""
    columns = ["model_a", "model_b", "control", "cka", "deconfounded"]
    frame = pd.DataFrame(rows, columns=columns).assign(tokens="all", kind="block", minibatches=8)
    for name in ("low", "deconfounded_low", "high", "deconfounded_high"):
        side = -0.1 if name.endswith("low") else 0.1
        frame[name] = frame["deconfounded" if name.startswith("dec") else "cka"] + side
    return Results({"means": Table(frame, dict.fromkeys(frame.columns, ""))})


MODELS = Models((ModelInfo("a"), ModelInfo("b"), ModelInfo("c"), ModelInfo("pixels", True)))


def test_the_answer_has_the_choices_of_the_cards_and_the_kind_of_cka_of_the_first_screen() -> None:
    nan = float("nan")
    results = {
        "knn-depth": make_choices({"a": (0.5, 0.4), "pixels": (0.3, 0.2)}, 0),
        # the validation images prefer the second exhibit's probe of a, and the first one's of b
        "probe-depth": make_choices({"a": (0.6, 0.9), "b": (0.8, 0.7)}, 2),
        "probe-layers": make_choices({"a": (0.7, 0.5), "b": (0.1, 0.99)}, 1),
        # without the pixels a is nearest to c, with them to b; pixels have no deconfounded CKA
        "cka-blocks": make_means(
            ("a", "b", False, 0.9, 0.2), ("a", "c", False, 0.5, 0.4), ("b", "c", False, 0.3, 0.1),
            ("a", "pixels", True, 0.99, nan), ("a", "a", False, 1.0, 1.0),
        ),
    }  # fmt: skip
    table = make_answer(results, MODELS)
    assert list(table.frame.columns) == list(UNITS)
    rows = table.frame.set_index("model")
    assert rows.probe.round(2).fillna(-1).tolist() == [0.5, 0.7, -1, -1]
    assert rows.probe_layers.fillna(-1).tolist() == [1, 2, -1, -1]
    assert rows.best_tap.tolist() == ["blocks.1", "blocks.2", "", "blocks.0"]
    assert rows.knn.round(2).fillna(-1).tolist() == [0.4, -1, -1, 0.2]
    assert rows.nearest_relative.tolist() == ["c", "a", "a", ""]
    assert rows.cka_to_it.round(2).fillna(-1).tolist() == [0.4, 0.2, 0.4, -1]
    assert rows.cka_low.round(2).fillna(-1).tolist() == [0.3, 0.1, 0.3, -1]
    assert rows.pixels_regressed_out.tolist() == [True, True, True, False]
    # by hand: Wilson of 50 of 100
    assert rows.probe_low["a"] == pytest.approx(0.4038, abs=1e-4)
    assert rows.over_pixels.isna().tolist() == [True, True, True, True]  # of probes none are there


def test_the_answer_says_where_the_pixels_leave_nothing_of_some_depths() -> None:
    """Of four depths the pixels explain two: the mean is over the others, with them 0.75 there."""
    means = make_means(("a", "b", False, 0.5, 0.9))
    frame = pd.DataFrame({"cka": [0.25, 0.25, 0.7, 0.8]}).assign(
        model_a="a", model_b="b", tokens="all", kind="block"
    )
    frame["deconfounded"] = [float("nan"), float("nan"), 0.95, 0.85]
    depths = Table(frame, dict.fromkeys(frame.columns, ""))
    results = Results({**means.tables, "same-depth": depths})
    rows = make_answer({"cka-blocks": results}, MODELS).frame.set_index("model")
    assert rows.cka_depths.tolist() == ["2 of 4", "2 of 4", "", ""]
    answer = write_alike(read_likenesses(results), (), Beside(), "")
    assert answer.effect == (
        "mean CKA at the same depth 0.90 [0.80, 1.00] with pixels regressed out at 2 of 4 depths"
        " (0.75 with them there, 0.50 [0.40, 0.60] at all)"
    )
    (plain,) = compare_alike([replace(read_likenesses(results)[0], beyond=False)])
    assert plain.depths is None


def test_the_answer_takes_plain_cka_where_the_pixels_explain_a_pair() -> None:
    nan = float("nan")
    means = make_means(("a", "b", False, 0.9, nan), ("a", "c", False, 0.5, 0.4))
    rows = make_answer({"cka-blocks": means}, MODELS).frame.set_index("model")
    assert rows.nearest_relative.tolist() == ["b", "a", "a", ""]
    assert not rows.pixels_regressed_out.any()
    assert rows.knn.isna().all()
    assert rows.cka_to_pixels.isna().all()


def test_the_answer_says_which_models_are_as_alike_to_raw_pixels() -> None:
    nan = float("nan")
    pairs = [("a", "b", False, 0.7, nan), ("a", "c", False, 0.4, 0.4), ("b", "c", False, 0.3, nan)]
    pairs += [("a", "pixels", True, 0.71, nan), ("b", "pixels", True, 0.99, nan)]
    answer = make_answer(
        {"cka-blocks": make_means(*pairs, ("c", "pixels", True, 0.1, nan))}, MODELS
    )
    rows = answer.frame.set_index("model")
    assert rows.cka_to_pixels.fillna(-1).tolist() == [0.71, 0.99, 0.1, -1]
    assert rows.cka_to_pixels_low.round(2).fillna(-1).tolist() == [0.61, 0.89, 0.0, -1]
    text = " ".join(line.text for line in write_answer(answer.frame.to_dict("records"), Told("3")))
    assert "Nearest by mean CKA at the same depth." in text
    # b is nearer to the pixels than to a for sure, and c to a
    assert "Raw pixels are nearer: b 0.99 [0.89, 1.09]." in text
    assert "Raw pixels are not told apart from that relative: a 0.71 [0.61, 0.81]." in text
    beyond = make_means(("a", "b", False, 0.7, 0.5), ("a", "pixels", True, 0.71, nan))
    rows_beyond = make_answer({"cka-blocks": beyond}, MODELS).frame.to_dict("records")
    assert "Raw pixels are" not in " ".join(
        line.text for line in write_answer(rows_beyond, Told("2"))
    )


def test_of_too_few_minibatches_nothing_is_said_of_raw_pixels() -> None:
    few: dict[str, Any] = {"control": False, "pixels_regressed_out": False, "cka_depths": ""}
    few |= {"model": "a", "nearest_relative": "b", "cka_to_it": 0.5, "cka_low": 0.4}
    few |= {"cka_high": 0.6, "cka_to_pixels": 0.9, "cka_to_pixels_low": 0.8}
    few |= {"cka_to_pixels_high": 1.0}
    for minibatches, said in ((5, []), (6, ["Raw pixels are nearer: a 0.90 [0.80, 1.00]."])):
        assert write_as_pixels([few | {"cka_minibatches": minibatches}]) == said


def test_an_untrained_network_above_all_models_is_shown() -> None:
    rows = make_rows([f"model {number}" for number in range(8)])
    told = Told("t", ["one"] * 3, path="report.html", saved="answer.csv")

    def show() -> list[str]:
        lines = write_answer(rows, told)
        return [line.text.split("  ")[0] for line in lines if line.kind in ("model", "control")]

    assert "random #1 *" not in show()
    rows[9]["probe"] = 0.95  # its k-NN stays below that of all models
    assert rows[9]["model"] == "random #1"
    assert {"random #1 *", "pixels *", "model 0"} <= {*show()}


def make_rows(names: list[str], controls: int = 3) -> list[dict[str, Any]]:
    """Rows of an answer, the first the most accurate."""
    rows = []
    for number, name in enumerate([*names, *(f"random #{i}" for i in range(controls)), "pixels"]):
        share = 0.9 - 0.001 * number
        row: dict[str, Any] = dict.fromkeys(UNITS, 0.5)
        row |= {"model": name, "control": number >= len(names), "best_tap": "blocks.11"}
        row |= {f"{one}_tap": "blocks.11" for one in ("knn", "probe")}
        row |= {f"{one}_pooling": "patch" for one in ("knn", "probe", "best")}
        row |= {"probe": share, "probe_low": share - 0.02, "probe_high": share + 0.03}
        row |= {"knn": 0.5, "knn_low": 0.48, "knn_high": 0.52, "nearest_relative": names[0]}
        row |= {"knn_images": 683, "probe_images": 256, "ap": float("nan")}
        row |= {"knn_features": "raw"}
        rows.append(row | {"pixels_regressed_out": True, "cka_depths": ""})
    return rows


@pytest.mark.parametrize("width", [80, 100, 120])
@pytest.mark.parametrize("count", [1, 3, 40])
def test_the_answer_fits_a_terminal(width: int, count: int) -> None:
    names = [f"model_{number}_vitb16" for number in range(count)]
    notes = ["Faces are blurred. " * 30, *(f"note {number}" for number in range(9))]
    told = Told("models on birds/val", notes, path="report/report.html", saved="answer.csv")
    lines = write_answer(make_rows(names), told, width)
    assert len(lines) <= MOST
    assert max(len(line.text) for line in lines) <= width
    assert lines[0] == AnswerLine("models on birds/val", "title")
    assert lines[-1] == AnswerLine("report/report.html", "path")
    text = "\n".join(line.text for line in lines)
    assert "90.0" in text
    assert "pixels *" in text
    assert "* a control." in text
    told_below = " ".join(text.split())
    assert "raw pixels regressed out" in told_below
    assert "683 (k-NN) and 256 (probe) images that did not choose" in told_below
    assert "notes in the report" in text
    assert ("more rows" in told_below) == (count == 40)
    # the best come first, and no row is there twice
    shown = [line.text.split()[0] for line in lines if line.kind == "model"]
    assert shown == names[: len(shown)]
    assert len(shown) == (count if count < 40 else len(shown))
    assert len(shown) >= min(count, 5)


@pytest.mark.parametrize("room", ["ample", "short"])
def test_findings_that_do_not_fit_say_where_they_are_whole(room: str) -> None:
    count = 3 if room == "ample" else 60
    findings = [
        " ".join(f"model {number} is blind." for number in range(count)),
        "The end is here.",
    ]
    told = Told("What " + "many, " * 60, findings=findings, path="report/report.html")
    lines = write_answer([], told, 80)
    assert len(lines) <= MOST
    assert [line.text[-1] for line in lines if line.kind == "title"] == [",", "…"]
    text = " ".join(line.text for line in lines if line.kind == "finding")
    assert text.endswith("The end is here." if room == "ample" else "… (whole in the report)")
    whole = [line.text for line in write_answer([], replace(told, findings=["one", "two"]), 80)]
    assert whole[2:] == ["one", "two", "report/report.html"]


def test_a_narrow_terminal_shows_what_the_choice_names() -> None:
    """In 60 columns the table leaves out nearest relatives before models, and those that the choice
    does not name before those that it names."""
    choice = (
        "Nothing is shown to beat raw pixels. By a linear probe model_2 beats them. " + "So. " * 30
    )
    told = Told("3 models", path="report.html", saved="answer.csv", choice=choice)
    rows = [
        row | {"probe_tap": "blocks.3", "knn_features": "standardised"}
        for row in make_rows([f"model_{number}" for number in range(4)])
    ]
    lines = write_answer(rows, told, 60)
    assert len(lines) <= MOST
    assert max(len(line.text) for line in lines) <= 60
    text = "\n".join(line.text for line in lines)
    assert "nearest relative" not in text.partition("\nmodel ")[2].partition("\n")[0]
    shown = [line.text.split()[0] for line in lines if line.kind in ("model", "control")]
    assert {"model_2", "pixels"} <= {*shown}
    assert "model_3" not in shown
    assert "nearest relative" in "\n".join(one.text for one in write_answer(rows, told, 100))


@pytest.mark.parametrize("width", [40, 60, 80, 100])
def test_no_terminal_is_too_narrow_for_the_interval_of_a_cka(width: int) -> None:
    """It stands beside the CKA, or below the name, or neither is shown and the file is named."""
    rows = make_rows([f"model_{number}" for number in range(3)])
    for row in rows:
        row |= {"nearest_relative": "model_0", "cka_to_it": 0.731, "cka_minibatches": 8}
        row |= {"cka_low": 0.71, "cka_high": 0.75, "pixels_regressed_out": False}
    for alone in (False, True):
        if alone:  # no accuracies, as of fingerprints
            empty = dict.fromkeys(("knn", "probe"), float("nan")) | {"best_tap": ""}
            rows = [row | empty for row in rows]
        lines = write_answer(rows, Told("3 models", saved="answer.csv"), width)
        text = " ".join(line.text for line in lines)
        assert text.count("0.73") == text.count("0.73 [0.71, 0.75]")
        assert "0.73 [0.71, 0.75]" in text or "CKA in answer.csv." in text or width < 64
        assert "0.73 [0.71, 0.75]" in text or not alone


def test_raw_pixels_are_shown_beside_long_names() -> None:
    names = [f"model_{number}_{'x' * 70}" for number in range(8)]  # they take all lines
    lines = write_answer(make_rows(names, controls=1), Told("long", saved="answer.csv"), 80)
    assert len(lines) <= MOST
    assert next(line.text for line in lines if line.kind == "control") == "pixels *"
    text = " ".join(line.text for line in lines)
    assert "* a control." in text
    assert "more rows in answer.csv." in text


@pytest.mark.parametrize("width", [80, 100])
def test_architectures_of_controls_go_below_a_narrow_table(width: int) -> None:
    """A CNN and a transformer have two random networks each, with their architectures' names."""
    archs = ("resnet18", "vit_128x4_patch4_32_heads4")
    named = [f"random #{seed} ({arch})" for arch in archs for seed in (0, 1)]
    rows = make_rows(["rn18", "vit"], controls=4)
    for row, name in zip(rows[2:], named, strict=False):
        row["model"] = name
    rows[-1]["nearest_relative"] = named[-1]
    told = Told("two", ["one note"], path="report.html", saved="answer.csv", choice="None.")
    lines = write_answer(rows, told, width)
    assert len(lines) <= MOST
    assert max(len(line.text) for line in lines) <= width
    models = [line.text.split()[0] for line in lines if line.kind == "model"]
    assert models == ["rn18", "vit"]
    controls = [line.text for line in lines if line.kind == "control"]
    assert controls[-1].startswith("pixels *")
    assert "random #1 b" in controls[-1]
    assert controls[0].startswith("random #0 a *")
    text = " ".join(line.text for line in lines)
    assert "* a control; a: resnet18, b: vit_128x4_patch4_32_heads4." in text
    # where there is room, names stay as they are
    wide = " ".join(line.text for line in write_answer(rows, Told("two"), 200))
    assert "random #0 (resnet18) *" in wide
    assert "a: resnet18" not in wide


def test_cautions_come_first_and_whole() -> None:
    heads = Caution("a.pth is read with 12 heads of attention, as usual: " + "word " * 30 + "end.")
    notes = ["A lesser note. " * 20, heads, "another one"]
    told = Told("two", notes, path="report.html", saved="answer.csv")
    lines = write_answer(make_rows(["a", "b"]), told, 100)
    assert len(lines) <= MOST
    said = " ".join(line.text for line in lines if line.kind == "note")
    assert f"note: {heads} note: 2 more notes in the report." in said
    assert [line.text[:6] for line in lines if line.kind == "control"][-1] == "pixels"


@pytest.mark.parametrize("width", [60, 80, 100, 120])
@pytest.mark.parametrize("count", [1, 3, 8])
def test_no_caution_is_left_out_silently(width: int, count: int) -> None:
    long = [Caution(f"file {number} was guessed: " + "word " * 40 + "end.") for number in range(3)]
    told = Told("t " * 60, ["few images", *long], path="report.html", choice="Use a: " + "b " * 99)
    rows = make_rows([f"model_{'x' * 30}_{number}" for number in range(count)])
    lines = write_answer(rows, told, width)
    assert len(lines) <= MOST
    said = " ".join(line.text for line in lines if line.kind == "note")
    begun = sum(f"note: file {number}" in said for number in range(3))
    whole = sum(str(one) in said for one in long)
    assert whole < len(long)  # there is no room for all of them
    left = len(long) - begun
    if width >= 80:
        assert whole < begun
        assert f"note: … is whole in the report; {left + 1} more note" in said
    else:
        assert f"note: {left + 1} notes in the report, {left} of them cautions." in said
    assert ("cautions" in said or "a caution" in said) == bool(left)


#: the answers of a newcomer's comparisons: of a CNN and a ViT without known heads, and of a network
#: of the user's own with fresh weights
HEADS = Caution(
    "vit_lightning.ckpt is read with 1 head, guessed: give @heads=NUMBER behind it. No file tells"
    " how many the training had (for a width of 64), and with a wrong number the features are"
    " wrong."
)
VIEWS = Caution(
    "What differs between cnn and vit_lightning is not the models alone: cnn saw the central 87.5 %"
    " of an image's shorter side (224 of 256 px) and vit_lightning 100.0 % (64 of 64 px)."
)
FRESH = Caution(
    "mynet:build: The network seems untrained: all 7 normalisations are as at initialisation"
    " (weight 1, bias 0)."
)
SHOWN = Caution(
    "mynet:build does not say how its images are prepared: the shorter side to 64 px, the central"
    " 64 px and ImageNet's colours are assumed."
)
PLAIN = [
    "No file tells how images are prepared for cnn and vit_lightning " * 2,
    "And another. " * 9,
]


def test_all_of_three_models_are_shown_beside_many_cautions() -> None:
    rows = make_rows(["vit", "scenes_mae", "cnn"], controls=6)
    archs = ("resnet18", "vit_mini_patch8_32", "vit_96x4_patch8_64_heads4")
    for number, row in enumerate(rows[3:9]):
        row["model"] = f"random #{number % 2} ({archs[number // 2]})"
    rows[9]["nearest_relative"] = "random #0 (vit_96x4_patch8_64_heads4)"
    for row in rows:
        row["probe"] = float("nan")
    choice = (
        f"Nothing is shown to beat raw pixels by 20-NN on 66 images: vit, {'the nearest ' * 4}."
    )
    told = Told("3 models", [HEADS, VIEWS, FRESH, SHOWN], (), "j7/report.html", "a.csv", choice)
    lines = write_answer(rows, told, 100)
    assert len(lines) <= MOST
    shown = [line.text.split()[0] for line in lines if line.kind in ("model", "control")]
    assert shown == ["vit", "scenes_mae", "cnn", "pixels"]
    text = " ".join(line.text for line in lines)
    assert "c: vit_96x4_patch8_64_heads4." in text
    assert "resnet18" not in text  # of no row that is shown
    assert re.search(r"Chance:? 50\.0%", text)
    assert "cautions" in text


@pytest.mark.parametrize("width", [80, 100, 120])
@pytest.mark.parametrize("cautions", [(HEADS, VIEWS), (FRESH, SHOWN)])
@pytest.mark.parametrize("models", [2, 4, 7])
def test_cautions_come_before_plain_notes_and_what_stands_below(
    width: int, cautions: tuple[Caution, ...], models: int
) -> None:
    """Each caution is there with what to type; whole where there is room beside three rows."""
    rows = make_rows([f"model {number}" for number in range(models)], controls=4)
    for row, number in zip(rows[models:], (0, 1, 0, 1), strict=False):
        row["model"] = f"random #{number} ({'resnet_16x32x64x128_1x1x1x1'[: 20 + number]})"
    choice = (
        "Nothing is shown to beat raw pixels by 20-NN on 130 images: cnn, the nearest, has +9.2"
    )
    choice += " points [-1.2, +19.6] over them."
    told = Told("2 models", [*cautions, *PLAIN], (), "j7/report.html", "answer.csv", choice)
    lines = write_answer(rows, told, width)
    assert len(lines) <= MOST
    assert max(len(line.text) for line in lines) <= width
    notes = [line.text for line in lines if line.kind == "note"]
    said = " ".join(notes)
    for one in cautions:  # for heads these words have what to type
        assert f"note: {' '.join(str(one).split()[:9])}" in said
    if models == 2 and width >= 100:
        assert all(str(one) in said for one in cautions)
    assert "683 (k-NN) and 256 (probe) images" in said
    shown = [line.text for line in lines if line.kind in ("model", "control")]
    assert sum(one.startswith("model") for one in shown) >= 2
    assert any(one.startswith("pixels *") for one in shown)
    if not any(name.startswith("random") for name in shown):
        assert "a: resnet" not in said  # letters are explained where they stand


def test_the_answer_has_the_choice_of_the_first_screen_and_names_what_k_nn_reads() -> None:
    rows = make_rows(["mae", "dino"], controls=1)
    rows[1] |= {"knn": 0.6, "knn_tap": "blocks.1", "cka_to_it": -0.01, "cka_low": -0.07}
    rows[1] |= {"cka_high": 0.05}
    lines = write_answer(rows, Told("two", choice="Use dino: +0.1 points [-0.1, +0.3]."), 100)
    assert lines[1] == AnswerLine("Use dino: +0.1 points [−0.1, +0.3].", "choice")
    models = [line.text for line in lines if line.kind == "model"]
    assert models[0].startswith("dino ")  # by k-NN, as on the first screen
    assert models[0].endswith("60.0 [48, 52]  89.9 [88, 93]  none alike, −0.01 [−0.07, 0.05]")
    assert models[1].strip() == "of blocks.1, patches"  # below the accuracy
    assert models[1].index("of") == models[0].index("60.0")


@pytest.mark.parametrize("width", [80, 100, 140])
@pytest.mark.parametrize("count", [1, 3, 8])
def test_each_k_nn_accuracy_stands_at_its_own_features(width: int, count: int) -> None:
    """Of each shown row of which the probe reads something else; no room is so small that an
    accuracy stands beside features that it is not of."""
    rows = make_rows([f"model_{number}" for number in range(count)])
    for row in rows:
        row |= {"knn_tap": "blocks.3", "knn_pooling": "mean", "knn_features": "standardised"}
    notes = ["Faces are blurred. " * 30, "another"]
    told = Told("models", notes, (), "r/report.html", "answer.csv", "Not told apart. " * 12)
    lines = write_answer(rows, told, width)
    assert len(lines) <= MOST
    assert max(len(line.text) for line in lines) <= width
    text = " ".join(" ".join(line.text for line in lines).split())
    shown = [one for one in lines if one.kind in ("model", "control") and one.text[0] != " "]
    assert text.count("of blocks.3, mean, standardised") == len(shown)
    assert "blocks.11, patches" in text
    assert "The layer" not in text


def test_standardised_features_are_called_so_where_they_are() -> None:
    rows = make_rows(["mae", "dino"])
    rows[0] |= {"knn_features": "standardised"}  # the probe reads the same layer as it is
    text = "\n".join(line.text for line in write_answer(rows, Told("two"), 140))
    assert text.count("50.0 [48.0, 52.0] of blocks.11, patches, standardised") == 1
    for row in rows:  # k-NN alone
        row |= {"probe": np.nan, "probe_tap": "", "probe_pooling": "", "probe_layers": np.nan}
    lines = write_answer(rows, Told("two"), 100)
    (one,) = (line.text for line in lines if "standardised" in line.text)
    assert one.startswith("mae  ")
    assert "blocks.11, patches, standardised  50.0" in one


def test_the_answer_says_what_chose_and_what_the_choice_is_worth() -> None:
    """18 images that choose among 26 probes choose by chance, and may choose the worst."""
    rows = make_rows(["mae-ft", "dino-ft"], controls=0)
    for row, gain in zip(rows, (0.09, -0.12, np.nan), strict=True):
        row |= {"probe_layers": 1, "over_usual": gain, "usual": 0.289, "options": 26}
        row |= {"over_usual_low": gain - 0.1, "over_usual_high": gain + 0.1}
        row |= {"knn_chosen_on": 65, "probe_chosen_on": 18}
    rows[0]["probe_layers"] = 3
    text = " ".join(line.text for line in write_answer(rows, Told("two"), 100))
    assert "blocks.11, patches, 3-layer probe" in text
    assert (
        "What to use: usual features (last layer), or where better those chosen on 65 (k-NN) and 18"
        " (probe), of controls the latter; intervals: 95 %, over"
    ) in text
    assert "So few can hardly tell 26 choices apart." in text
    # what fine-tuning left stands above where no model gives way for it
    left = "CKA with before fine-tuning: mae-ft 0.98."
    lines = write_answer(rows, Told("two", changes=left), 100)
    assert AnswerLine(left, "finding") in lines
    many = make_rows([f"model {number}" for number in range(40)])
    assert left not in [line.text for line in write_answer(many, Told("40", changes=left), 100)]
    # with more of both it is left out, or said of the one that is better
    rows[0] |= {"over_usual_low": 0.05, "over_usual_high": 0.13, "probe_chosen_on": 400}
    text = " ".join(line.text for line in write_answer(rows, Told("two"), 100))
    assert "hardly" not in text
    assert "or where better (mae-ft) those chosen" in text


def test_names_are_never_cut() -> None:
    names = ["a" * 70, "b" * 70]
    lines = write_answer(make_rows(names), Told("long"), 80)
    assert len(lines) <= MOST
    assert all(any(name == line.text for line in lines) for name in names)
    numbers = next(line.text for line in lines if "90.0" in line.text)
    assert "±3.0" in numbers  # the wider half of [88.0, 93.0]
    assert "±: the wider half of an interval." in " ".join(line.text for line in lines)


def test_without_numbers_the_findings_answer() -> None:
    told = Told("a and b", ("left out",), ("The same to 2e-6.",), "diff/report.html")
    said = [line.text for line in write_answer([{"model": "a", "control": False}], told)]
    assert said == ["a and b", "The same to 2e-6.", "note: left out", "diff/report.html"]


# ---- one study ----


def test_a_comparison_answers_and_writes_nothing(result: Result, tmp_path: Path) -> None:
    assert list(result.answer.model) == ["random #0", "random #7", "random #1", "pixels"]
    assert result.answer.attrs["units"]["knn"].startswith("share of images")
    chosen = result.tables["knn-depth/choices"].set_index("model")
    own = result.answer.set_index("model")
    used = {name: "" if row.use == "chosen" else "usual_" for name, row in chosen.iterrows()}
    assert own.knn.to_dict() == {
        name: chosen[f"{which}accuracy"][name] for name, which in used.items()
    }
    assert own.best_tap.to_dict() == {
        name: chosen[f"{which}tap"][name] for name, which in used.items()
    }
    # judged on images that did not choose: the third that chose is not among these
    assert own.knn_images.unique().tolist() == chosen.images.unique().tolist()
    assert own.knn_images.iloc[0] < 96 * 0.8
    assert set(result.figures) == set(ANALYSES)
    assert type(result.figures["knn-depth"]).__module__.startswith("plotly")
    assert result.figures["knn-depth"] is result.figures["knn-depth"]
    assert result.tables["cka-blocks/means"].attrs["units"]["cka"].startswith("minibatch CKA")
    assert "<td" in result._repr_html_()
    assert not list(tmp_path.iterdir())
    path = result.save("out")
    assert path == Path("out/report.html")
    saved = pd.read_csv("out/answer.csv")
    assert saved.model.tolist() == result.answer.model.tolist()
    assert np.allclose(saved.knn, result.answer.knn, atol=1e-6)


def test_the_command_and_python_are_one_study(
    result: Result,
    capsys: pytest.CaptureFixture[str],
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "100")  # as wide as Python's text
    before = {path for path in home.rglob("*") if path.is_file()}
    options = ["--analyses", *ANALYSES, "--json", "--out", "cli"]
    assert main(["compare", NANO, OTHER, "--images", IMAGES, *options]) == 0
    captured = capsys.readouterr()
    assert {path for path in home.rglob("*") if path.is_file()} == before  # all was found
    data = json.loads(captured.out)
    assert data["command"] == "compare"
    assert data["status"] == 0
    assert data["path"] == "cli/report.html"
    assert data | result.to_json() == data
    assert [row["model"] for row in data["answer"]] == list(result.answer.model)
    assert data["answer"][0]["probe"] is None
    assert data["questions"][0]["question"]
    said = " ".join(str(result).split())  # of any width, after which notes are cut
    assert said.partition(" Nearest by ")[0] in " ".join(captured.err.split())
    assert len(str(result).splitlines()) <= MOST


@pytest.mark.slow
def test_models_are_given_as_python_has_them(result: Result) -> None:
    module, backbone = Own().train(), sslens.load(NANO)
    stored = sslens.fingerprint(OTHER, IMAGES, quiet=True)
    images = sslens.open_images(IMAGES)
    with pytest.warns(UserWarning, match="does not say how its images are prepared"):
        wrapped = sslens.wrap(Own(), name="wrapped", image_size=32)
    found = sslens.compare(
        {"net": wrapped, "backbone": backbone, "stored": stored, "named": f"{NANO}@blocks=2"},
        images,
        analyses="cka-blocks",
        controls=False,
        quiet=True,
    )
    assert found.answer.model.tolist() == ["net", "backbone", "named", "stored"]
    same = found.cka("backbone").to_numpy()
    assert np.array_equal(same, result.cka("random #0").to_numpy())
    assert module.training
    assert all(value.requires_grad for value in module.parameters())


def test_the_notes_say_how_images_of_a_named_or_wrapped_module_are_prepared() -> None:
    """As of a module in a list, and of one that the command line has made."""
    with pytest.warns(Doubt, match="wrapped does not say how its images are prepared"):
        wrapped = sslens.wrap(Own(), name="wrapped", image_size=32)
    told = sslens.EvalTransform(resize=32, crop=32)
    with pytest.warns(Doubt, match="mine does not say how its images are prepared"):
        found = sslens.compare(
            {"mine": Own(), "renamed": wrapped, "told": sslens.wrap(Own(), transform=told)},
            IMAGES,
            analyses="cka-blocks",
            controls=False,
            limit=40,
            quiet=True,
        )
    said = "the shorter side to {} px, the central {} px and ImageNet's colours are assumed."
    assert [note for note in found.notes if "prepared" in note] == [
        f"{name} does not say how its images are prepared: {said.format(*sides)}"
        for name, sides in (("mine", (256, 224)), ("renamed", (32, 32)))
    ]
    assert isinstance(found.notes[0], Caution)
    page = html.unescape(found.save("out").read_text())
    assert "mine does not say how its images are prepared" in page


@pytest.mark.slow
def test_a_module_needs_no_wrapping_and_two_of_a_class_have_two_names() -> None:
    one, other = Own(), Own()
    with torch.no_grad():
        other.body[0].weight.mul_(-1)
    found = sslens.compare(
        [one, other], IMAGES, analyses="cka-blocks", controls=False, limit=40, quiet=True
    )
    assert found.answer.model.tolist() == ["Own", "Own-2"]
    assert any("does not say how its images are prepared" in note for note in found.notes)
    saved = found.save("out")
    study = (saved.parent / "study.yaml").read_text()
    assert "memory:Own" in study
    assert "given" not in study
    with pytest.raises(InputError, match="was in the memory of the Python process"):
        sslens.study.read(saved.parent / "study.yaml")


def test_a_study_of_opened_images_and_named_models_is_read_again(tmp_path: Path) -> None:
    """What was opened from a source is written as it, with its draw; names stay; only what has no
    source is called memory, and refused by that name."""
    images, bank = sslens.open_images("scenes:0:40", limit=8), sslens.open_images("scenes:1:40")
    asked = Study(models={"ours": sslens.load(NANO)}, images=images, bank=bank, sample="stratified")
    assert (asked.sample, asked.seed) == ("plain", 0)
    assert (asked.images, asked.bank, asked.limit) == ("scenes:0:40", "scenes:1:40", 8)
    assert asked.given["scenes:0:40"] is images
    (tmp_path / "study.yaml").write_text(asked.yaml())
    again = sslens.study.read(tmp_path / "study.yaml")
    assert again == asked
    assert again.models == (f"{NANO}:0@name=ours",)
    drawn = sslens.open_images(again.images, limit=again.limit)
    assert drawn.digest == images.digest
    fewer = Study(models=NANO, images=images, limit=4)
    assert sslens.open_images(fewer.images, limit=4).digest == images.sample(4, 0).digest
    part = Study(models=NANO, images=images.take([0, 1, 2, 3]))
    other = Study(models=NANO, images=images, seed=1)  # of these 8, and not of all 40
    assert part.images.startswith("memory:")
    assert repr(part) == f"<Study of {NANO} on {images.name}: all that apply>"
    # a bank that was drawn is called by its name too, where something is said of it
    few = replace(sslens.open_images("scenes:1:40", limit=8), labels=None, name="birds")
    asked = Study(models=NANO, images=images, bank=few)
    assert asked.bank == "memory:birds"
    with pytest.raises(InputError, match="The images of birds have no classes"):
        open_study_images(asked, quiet=True)
    assert other.images == part.images
    with pytest.raises(InputError, match="images that were in the memory of the Python process"):
        Study(models=NANO, images="memory:mine").require_sources()


def test_images_and_bank_of_one_name_are_two_sets() -> None:
    images, bank = (sslens.open_images(f"scenes:{seed}:40") for seed in (0, 1))
    study = Study(models=NANO, images=images, bank=bank)
    assert study.images != study.bank
    assert study.given[study.images] is images
    assert study.given[study.bank] is bank


def test_cka_is_a_frame_with_the_names_of_layers() -> None:
    images = sslens.open_images("scenes:0:40")
    grams, other = (sslens.grams(sslens.load(one), images) for one in (NANO, OTHER))
    frame = sslens.cka(NANO, OTHER, images, limit=None, quiet=True)
    assert np.allclose(frame.to_numpy(), sslens.minibatch_cka(grams, other), atol=1e-6)
    assert list(frame.index) == [tap.name for tap in grams.taps]
    assert frame.index.name, frame.columns.name == ("random #0", "random #7")
    assert frame.equals(sslens.cka(grams, other))


def test_cka_beyond_the_pixels_says_where_it_is_undefined() -> None:
    from sslens.measures import measure

    images = sslens.open_images("scenes:0:40")
    model, pixels = (sslens.load(name) for name in ("scenes_dino", "pixels"))
    grams = sslens.grams(model, images)
    expected = measure("deconfounded-cka", grams, grams, sslens.grams(pixels, images))
    undefined = int(np.isnan(expected).sum())
    assert 0 < undefined < expected.size
    with pytest.warns(Doubt, match=f"for {undefined} of {expected.size} pairs of layers"):
        beyond = sslens.cka(
            model, images=images, limit=None, measure="deconfounded-cka", quiet=True
        ).to_numpy()
    assert np.allclose(beyond, expected, atol=1e-5, equal_nan=True)


@pytest.mark.filterwarnings("ignore::sslens.errors.Doubt")  # a CLS token starts as a constant
def test_cka_beyond_the_pixels_is_there_for_every_choice_of_tokens() -> None:
    """Raw pixels have no tokens: all their values are regressed out of each choice."""
    from sslens.measures import measure

    images = sslens.open_images("scenes:0:40")
    one, other, pixels = (sslens.load(name) for name in ("scenes_dino", "scenes_mae", "pixels"))
    values = sslens.grams(pixels, images)
    both, patch = (
        sslens.compare(
            {"one": one, "other": other},
            images,
            analyses="cka-blocks",
            limit=None,
            quiet=True,
            tokens=tokens,
        )
        for tokens in (("all", "cls"), ("patch",))  # with and without the choice of all tokens
    )
    for tokens, result in (("all", both), ("cls", both), ("patch", patch)):
        sides = [sslens.grams(side, images, tokens=tokens) for side in (one, other)]
        expected = measure("deconfounded-cka", *sides, values)
        assert np.isfinite(expected).any()
        found = result.cka("one", "other", measure="deconfounded-cka", tokens=tokens)
        assert np.allclose(found, expected, atol=1e-5, equal_nan=True)
        means = result.tables["cka-blocks/means"]
        assert means[means.tokens == tokens].deconfounded.notna().any()
        # the pixels are a model for each choice, too
        beside = measure("cka", sides[0], values)
        found = result.cka("one", "pixels", tokens=tokens)
        assert np.allclose(found, beside, atol=1e-5, equal_nan=True)
    assert patch.tables["cka-blocks/means"].tokens.unique().tolist() == ["patch"]
    found = sslens.cka(
        one, other, images, measure="deconfounded-cka", tokens="patch", limit=None, quiet=True
    )
    assert np.allclose(found, expected, atol=1e-5, equal_nan=True)


def test_cka_beyond_the_pixels_says_how_to_give_them_where_there_are_none(result: Result) -> None:
    grams = sslens.grams(sslens.load(NANO), sslens.open_images("scenes:0:40"))
    assert result.grams is not None
    own = {name: one for name, one in result.grams["all"].items() if name != "pixels"}
    alone = replace(result, grams={"all": own})
    for call, said in (
        (
            lambda: alone.cka("random #0", measure="deconfounded-cka"),
            "compare with controls, which",
        ),
        (
            lambda: sslens.cka(grams, measure="deconfounded-cka"),
            "call sslens.measures.measure with",
        ),
    ):
        with pytest.raises(InputError, match=f"there are none: {said}"):
            call()


def test_knn_and_probes_of_features_in_memory_and_of_models() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(90) % 3
    values = torch.from_numpy(np.eye(3)[labels] * 4 + rng.normal(size=(90, 3))).float()
    columns = {("norm", "cls"): values}
    parts = [
        Features.of(
            {key: one[start:end] for key, one in columns.items()},
            ids=[str(row) for row in range(start, end)],
            labels=labels[start:end],
            classes=("x", "y", "z"),
        )
        for start, end in ((0, 60), (60, 90))
    ]
    trained = sslens.probe(parts[0], test=parts[1], quiet=True)
    assert trained.answer.probe.item() > 0.9
    assert trained.answer.chance.item() == pytest.approx(1 / 3)
    assert trained.tables["probes"].images.item() == 30
    found = sslens.knn(parts[1], bank=parts[0], k=5, quiet=True)
    assert found.answer.knn.item() > 0.9
    assert found.answer.knn_images.item() < 30  # a third of the images chose
    assert "k-NN" in str(found)
    assert found.save("knn") == Path("knn/knn.csv")


@pytest.mark.slow
def test_a_fingerprint_is_saved_and_read_again(tmp_path: Path) -> None:
    made = sslens.fingerprint(NANO, "scenes:0:40", quiet=True)
    path = made.save("own.safetensors")
    again = sslens.fingerprint.read(path)
    assert torch.equal(made.grams["all"].blocks, again.grams["all"].blocks)
    assert made.conditions == again.conditions
    assert sslens.cka(made, path).shape == (17, 17)
    assert made.save("half.safetensors", half=True).stat().st_size < path.stat().st_size


def test_a_path_is_followed_in_python_and_by_the_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for step, scale in enumerate((1.0, 1.5, 3.0)):
        torch.save({"blocks.0.mlp.fc1.weight": scale * torch.ones(2, 2)}, f"epoch{step}.pth")
    found = sslens.path(["epoch0.pth", "epoch1.pth", "epoch2.pth"])
    assert found.answer.displacement.tolist() == pytest.approx([4.0] * len(found.answer))
    assert len(found.tables["path"]) == 2 * len(found.answer)
    assert main(["path", "epoch0.pth", "epoch1.pth", "epoch2.pth", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data | found.to_json() == data
    assert data["path"] == "path.csv"
    with pytest.raises(InputError, match="needs two or more checkpoints, and 1 is given"):
        sslens.path("epoch0.pth")


# ---- for a terminal, for scripts, for notebooks ----


def test_reprs_are_short(result: Result) -> None:
    images = sslens.open_images(IMAGES)
    model = sslens.load(NANO)
    grams = sslens.grams(model, images)
    study = Study(models=(NANO, OTHER), images=images)
    plan = sslens.study.prepare(
        Study(models=NANO, images=images, analyses=("cka-blocks",), controls=False),
        sslens.store.Store(Path("store")),
        quiet=True,
    )
    made = sslens.fingerprint(NANO, images, quiet=True)
    things = [
        images, model, grams, sslens.features(model, images), study, plan, plan.situation,
        plan.passes[0], plan.members[0], plan.passes[0].plan, made, made.conditions, result,
        result.tables, result.figures, result.verdicts[:1], result.front, result.answered,
        Results({"a": result.answered}), Features.of({("a", "cls"): torch.zeros(9, 9)}),
    ]  # fmt: skip
    lengths = {type(thing).__name__: len(repr(thing)) for thing in things}
    assert {name: size for name, size in lengths.items() if size > 300} == {}
    assert not any(images.ids[0] in repr(thing) for thing in things)


@pytest.mark.slow
def test_a_notebook_shows_the_answer(result: Result) -> None:
    page = result._repr_html_()
    assert "<td" in page
    assert "random #0" in page
    assert "<script" not in page
    named = sslens.compare(
        {"<b>bold</b>": NANO}, "scenes:0:40", analyses="cka-blocks", controls=False, quiet=True
    )
    assert "<b>bold" not in named._repr_html_()


def test_a_reply_is_printed_as_a_path_or_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert print_reply(Path("a/b"), command="features", as_json=False) == 0
    assert capsys.readouterr().out == "a/b\n"
    reply = Reply({"answer": [1]}, Path("a"), status=3)
    assert print_reply(reply, command="x", as_json=True) == 3
    data = json.loads(capsys.readouterr().out)
    assert data == {"command": "x", "status": 3, "path": "a", "answer": [1]}
    assert print_reply(None, command="features", as_json=True, said=["plan"]) == 0
    assert json.loads(capsys.readouterr().out)["said"] == ["plan"]


def test_features_and_trainings_answer_as_data(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["features", NANO, "--images", "scenes:0:8", "--out", "f", "--json"]
    assert main([*command, "--dry-run"]) == 0
    assert any("8 of scenes-v4" in line for line in json.loads(capsys.readouterr().out)["said"])
    assert main(command) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["path"] == "f"
    assert data["images"]["count"] == 8
    assert {"tap": "norm", "pooling": "cls", "width": 64} in data["columns"]
    lines = [{"step": 1, "loss": 2.0}, {"step": 2, "warning": "high", "loss": float("nan")}]
    Path("run").mkdir()
    Path("run/log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = describe_training(Path("run"), Path("run/report.html"))
    assert found["last"] == {"step": 2, "loss": None}
    assert found["warnings"] == ["high"]
    Path("numbers.csv").write_text("what,found\na,0.5\nb,\n")
    rows = [{"what": "a", "found": 0.5}, {"what": "b", "found": None}]
    assert read_rows(Path("numbers.csv")) == rows


def test_colours_are_for_terminals_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [
        AnswerLine("a\x1b[2Jb", "title"),
        AnswerLine("model", "model"),
        AnswerLine("out", "path"),
    ]
    said: list[str] = []
    show(lines, said.append)
    assert said == ["a\x1b[2Jb", "model"]  # the path goes to standard output
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    said.clear()
    show(lines, said.append)
    assert said == ["model"]
    assert capsys.readouterr().err == "\x1b[1ma\\x1b[2Jb\x1b[0m\n"


def test_a_refusal_is_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "pixls", "--images", IMAGES, "--json"]) == 2
    captured = capsys.readouterr()
    data = json.loads(captured.out)
    assert data["status"] == 2
    assert data["error"] in captured.err
    for refused in (["zoo", "no_such_card"], ["check", "nope"], ["doctor", "nope"], ["compar"]):
        assert main([*refused, "--json"]) == 2  # also of commands that print JSON of their own
        captured = capsys.readouterr()
        data = json.loads(captured.out)
        assert (data["command"], data["status"]) == (refused[0], 2)
        assert f"sslens: {data['error']}" in captured.err
    with pytest.raises(SystemExit, match="2"):
        main(["knn", "pixels", "--json", "--no-such-option", "3"])
    captured = capsys.readouterr()
    assert "--no-such-option" in json.loads(captured.out)["error"]
    assert "--no-such-option" in captured.err


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: sslens.compare(3, IMAGES), "3 \\(int\\) is no model: give a name, a file"),
        (lambda: sslens.compare(NANO, IMAGES, sead=1), 'no setting "sead": did you mean seed'),
        (lambda: sslens.compare(NANO, IMAGES, bnak=1), 'no setting "bnak": did you mean bank'),
        (lambda: sslens.knn(NANO, IMAGES, bnk=1), 'no setting "bnk": did you mean bank'),
        (lambda: sslens.load("pixels", nam=1), "pixels takes no nam: did you mean name"),
        (lambda: sslens.compare(NANO), "images are needed: give images"),
        (lambda: sslens.compare(NANO, "no/photos"), "is not there"),
        (lambda: sslens.compare({"a b": NANO}, IMAGES), 'cannot be called "a b"'),
        (lambda: sslens.compare([NANO, NANO], IMAGES), "is given twice"),
        (lambda: sslens.compare([], IMAGES), "needs at least one model"),
        (lambda: sslens.knn(NANO), "images are needed: give images"),
        (lambda: sslens.probe(NANO, IMAGES), "There are no images to test on"),
        (lambda: sslens.cka(Features, None), "is no model"),
    ],
)  # fmt: skip
def test_mistakes_are_explained(call: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        call()


def test_misspelt_names_of_a_result_are_offered(result: Result) -> None:
    for call, said in (
        (lambda: result.tables["knn-depth/choises"], "did you mean knn-depth/choices"),
        (lambda: result.figures["knn-dept"], "did you mean knn-depth"),
        (lambda: result.cka("random #9"), "did you mean random #"),
        (lambda: result.cka("random #0", tokens="patches"), "choice of tokens"),
        (lambda: result.cka("random #0", measure="cca"), "There is no"),
    ):
        with pytest.raises(InputError, match=said):
            call()


def test_every_public_name_is_typed_and_there() -> None:
    assert (Path(sslens.__file__).parent / "py.typed").exists()
    assert all(getattr(sslens, name) is not None for name in sslens.__all__)


def test_one_model_of_which_nothing_can_be_said_gets_a_sentence_and_no_empty_table() -> None:
    alone = sslens.compare([NANO], IMAGES, analyses=["cka-blocks"], controls=False, quiet=True)
    said = str(alone)
    assert "No sentence follows from cka-blocks of these models" in said
    assert "NaN" not in said


def test_few_minibatches_decide_nothing_about_likeness() -> None:
    row = {"cka_to_it": -0.08, "cka_low": -0.08, "cka_high": -0.07, "nearest_relative": "b"}
    rows = make_answer({"cka-blocks": make_means(("a", "b", False, -0.08, np.nan))}, MODELS)
    known = [one | row for one in rows.frame.to_dict("records") if one["nearest_relative"]]
    for count, said in ((2, "too few to decide"), (8, "none alike")):
        few = [one | {"cka_minibatches": count} for one in known]
        lines = " ".join(line.text for line in write_answer(few, Told("two models")))
        assert said in lines
        assert f"over {count} minibatches" in lines
        assert ("none alike" in lines) == (count == 8)
    alone = row | {"cka_low": np.nan, "cka_high": np.nan, "cka_minibatches": 1}
    lines = " ".join(line.text for line in write_answer([one | alone for one in known], Told("2")))
    assert "No intervals: 1 minibatch, too few to decide anything" in lines
    assert "none alike" not in lines
