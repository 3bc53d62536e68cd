"""`sslens features` and `sslens knn`, and the table between them: what is chosen, and what the
choice is worth."""

import hashlib
import re
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import sslens
from sslens.capture import Features, open_features
from sslens.cli import main
from sslens.comparisons.knn_sweep import Sweep, SweepChoice, choose_ks, make_table
from sslens.comparisons.readings import choose_main_pooling
from sslens.errors import InputError
from sslens.models.taps import Tap
from sslens.probes.knn import knn
from sslens.report.writing.knn_sweep import list_layers, sentences

NANO = "random:vit_nano_patch8_32"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with pictures of two colours in `val` and `train`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    rng = np.random.default_rng(0)
    for split, count in (("val", 6), ("train", 9)):
        for name, red in (("blue", 0), ("red", 200)):
            Path(split, name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 55, (32, 32, 3), dtype=np.uint8)
                pixels[..., 0] += np.uint8(red)
                Image.fromarray(pixels).save(f"{split}/{name}/{i}.png")
    return tmp_path


def refused(line: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main(line) == 2
    out, err = capsys.readouterr()
    assert (out, "Traceback" in err) == ("", False)
    return err


def made(n: int, seed: int = 0) -> Features:
    """Two taps of 3 classes: at the first they are apart, at the second nothing is told."""
    generator = torch.Generator().manual_seed(seed)
    labels = np.arange(n) % 3
    noise = torch.randn(n, 3, generator=generator)
    tensors = {
        ("blocks.0", "cls"): torch.eye(3)[labels] + 0.1 * noise,
        ("norm", "cls"): torch.randn(n, 3, generator=generator),
        ("norm", "patch"): torch.randn(n, 3, generator=generator),
    }
    taps = (Tap("blocks.0", "block", 0.5), Tap("norm", "norm", 1.0))
    ids = tuple(f"{i}.png" for i in range(n))
    return Features.of(tensors, ids=ids, taps=taps, labels=labels, classes="abc", model="m")


# ------------------------------------------------------------------------------------------------
# the table


def test_the_table_has_every_choice_and_its_accuracy() -> None:
    store = made(120)
    swept = Sweep.of(store, None, ks=[5, 20], temperatures=[0.07, None])
    frame = make_table([swept]).frame
    assert len(frame) == 2 * 3 * 2 * 2
    assert store.labels is not None
    for row in frame.itertuples():
        features = store.read(row.tap, row.pooling)
        if row.features == "standardised":
            values = features.double()
            features = (values - values.mean(0)) / values.std(0, correction=0)
        how = "majority" if np.isnan(row.temperature) else "weighted"
        alone = knn(
            features, features, torch.tensor(store.labels), k=row.k, how=how, leave_one_out=True
        )
        assert row.accuracy == (alone == store.labels).mean()
        assert row.low <= row.accuracy <= row.high
        assert (row.images, row.chance) == (120, 40 / 120)
    assert frame.depth.tolist() == ([0.5] * 4 + [1.0] * 8) * 2
    assert frame.features.tolist() == ["raw"] * 12 + ["standardised"] * 12


def test_the_usual_choice_is_the_last_cls_token_and_what_is_nearest_to_20_and_007() -> None:
    swept = Sweep.of(made(60), None, ks=[1, 10, 18], temperatures=[None, 0.2, 0.1])
    assert swept.choices[swept.usual] == ("norm", "cls", "raw", 18, 0.1)
    assert swept.choices[swept.best][:2] == ("blocks.0", "cls")


def test_the_usual_pooling_is_that_of_probes_where_there_is_no_class_token() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = np.arange(30) % 3
    tensors = {
        ("norm", pooling): torch.randn(30, 4, generator=generator) for pooling in ("patch", "mean")
    }
    store = Features.of(tensors, labels=labels, classes="abc")
    swept = Sweep.of(store, None, ks=[20], temperatures=[0.07])
    assert choose_main_pooling(store) == "mean"
    assert swept.choices[swept.usual] == ("norm", "mean", "raw", 20, 0.07)
    patch = Features.of({("norm", "patch"): tensors["norm", "patch"]}, labels=labels, classes="abc")
    assert choose_main_pooling(patch) == "patch"


def test_what_standardised_features_change_is_said_where_they_change_something() -> None:
    n, generator = 300, torch.Generator().manual_seed(0)
    labels = np.arange(n) % 3
    told = torch.eye(3)[labels] + 0.2 * torch.randn(n, 3, generator=generator)
    loud = torch.cat([100 * torch.randn(n, 2, generator=generator), told], 1)
    for features, says in ((loud, True), (told, False)):
        store = Features.of({("norm", "cls"): features}, labels=labels, classes="abc", model="m")
        swept = Sweep.of(store, None, ks=[20], temperatures=[0.07])
        raw, scaled = swept.right
        change = swept.standardising()
        assert change.value == pytest.approx(scaled.mean() - raw.mean())
        assert (change.sign == 1) is says
        assert (", on standardised features +" in sentences([swept])[0]) is says
    constant = Features.of({("norm", "cls"): torch.ones(n, 2)}, labels=labels, classes="abc")
    nothing = Sweep.of(constant, None, ks=[20], temperatures=[0.07])
    assert not nothing.standardising().defined
    assert "on standardised" not in sentences([nothing])[0]


def test_the_gain_of_choosing_is_measured_on_images_that_had_no_part_in_it() -> None:
    apart = Sweep.of(made(300), None, ks=[20], temperatures=[0.07])
    gain = apart.gain()
    assert gain.low > 0.4
    others = [hashlib.sha256(f"third/{i}.png".encode()).digest()[0] % 3 > 0 for i in range(300)]
    assert gain.value == pytest.approx(
        (apart.right[0].astype(float) - apart.right[apart.usual])[others].mean()
    )
    assert gain.low < gain.value < gain.high
    assert gain.n == sum(others)
    assert ": more than usual" in sentences([apart])[0]


#: whose labels and ids alone are used
NOTHING = made(300)


def chance(seed: int) -> Sweep:
    """10 choices that are each right by chance on 300 images."""
    noise = np.random.default_rng(seed).random((10, 300)) < 1 / 3
    return Sweep(
        NOTHING,
        False,
        tuple(SweepChoice("norm", "cls", "raw", 20 + i, 0.07) for i in range(10)),
        noise,
    )


def test_choosing_among_choices_that_are_all_chance_gains_nothing() -> None:
    gains, seeming = [], []
    for seed in range(400):
        swept = chance(seed)
        seeming.append(swept.accuracy(swept.best) - swept.accuracy(swept.usual))
        gains.append(swept.gain())
    mean = np.array([gain.value for gain in gains])
    assert np.mean(seeming) > 0.03, "the best of them has more right by chance"
    assert abs(mean.mean()) < 3 * mean.std() / 400**0.5
    # 0.039 over 4,000 seeds; 0.081 where each half of the images chose for the other
    assert np.mean([gain.sign != 0 for gain in gains]) <= 0.055
    nothing = next(i for i, gain in enumerate(gains) if gain.low < 0 < gain.high)
    assert "not clearly more than usual" in sentences([chance(nothing)])[0]
    worse = next(i for i, gain in enumerate(gains) if gain.high < 0)
    assert sentences([chance(worse)])[0].endswith(" on the others: less than usual.")


def test_a_gain_is_not_told_where_no_image_is_left_to_judge_it_on() -> None:
    one = Sweep(
        made(1), False, (SweepChoice("norm", "cls", "raw", 20, 0.07),), np.ones((1, 1), bool)
    )
    assert not one.gain().defined
    assert sentences([one])[0].endswith("There are too few images to tell what choosing is worth.")


def test_numbers_of_neighbours_that_a_bank_lacks_are_left_out_or_refused() -> None:
    assert choose_ks((200, 1, 20, 20), 50) == (1, 20)
    assert choose_ks((50, 51), 50) == (50,)  # all of the bank may vote, and no more
    with pytest.raises(
        InputError,
        match="60 neighbours cannot be chosen among 50 images: give k between 1 and 50",
    ):
        choose_ks((60, 70), 50)


# ------------------------------------------------------------------------------------------------
# the commands


def test_features_are_stored_and_classified(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for split in ("val", "train"):
        line = [
            "features",
            NANO,
            "--images",
            split,
            "--out",
            f"f/{split}",
            "--shard",
            "5",
            "--device",
            "cpu",
        ]
        assert main([*line, "--dry-run"]) == 0
        said = capsys.readouterr()
        assert said.out == ""
        assert "1.92 kB an image in float16" in said.err  # 5 taps × 3 poolings × 64 × 2 bytes
        assert not Path(f"f/{split}").exists()
        assert main(line) == 0
        assert capsys.readouterr().out == f"f/{split}\n"
        assert main(line) == 0
        assert "pass      none, as the folder has them all" in capsys.readouterr().err
    assert len(open_features("f/val")) == 12
    assert (
        main(
            [
                "knn",
                "f/val",
                "--bank",
                "f/train",
                "--k",
                "1",
                "5",
                "40",
                "--out",
                "out",
                "--device",
                "cpu",
            ]
        )
        == 0
    )
    said = capsys.readouterr()
    assert said.out == "out/knn.csv\n"
    assert "18 images can vote: k over that was left out" in said.err
    frame = pd.read_csv("out/knn.csv")
    assert len(frame) == 2 * 15 * 2 * 5
    assert set(frame.k) == {1, 5}
    assert frame.accuracy.max() == 1  # red and blue


def test_a_model_is_classified_beside_its_controls_and_again_without_a_pass(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = [
        "knn",
        f"{NANO}:5",
        "--images",
        "val",
        "--bank",
        "train",
        "--k",
        "3",
        "--temperature",
        "0.07",
        "--device",
        "cpu",
    ]
    assert main([*line, "--dry-run"]) == 0
    assert "features to be made" in capsys.readouterr().err
    assert not Path("sslens-knn").exists()
    assert main([*line, "--out", "first"]) == 0
    said = capsys.readouterr().err
    assert "The best control, " in said
    assert re.search(r"random #5 by .*, on 10 images: not decided against raw pixels \(", said)
    assert "random #5: the usual choice has norm/cls, k = 3, τ = 0.07: " in said
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sslens.report.writing.knn_sweep.sentences", lambda _: ["-5.0 [-8.1, +1.0]"])
        assert main([*line, "--out", "second"]) == 0
    said = capsys.readouterr().err
    assert "to be made" not in said
    assert "−5.0 [−8.1, +1.0]" in said
    first, second = (Path(out, "knn.csv").read_text() for out in ("first", "second"))
    assert first == second
    frame = pd.read_csv("first/knn.csv")
    assert list(dict.fromkeys(frame.model)) == ["random #5", "random #0", "random #1", "pixels"]
    assert frame.groupby("model").control.first().to_dict() == {
        "random #5": False,
        "random #0": True,
        "random #1": True,
        "pixels": True,
    }
    # the same numbers as by hand from features in memory
    model, images, bank = (
        sslens.load(f"{NANO}:5"),
        sslens.open_images("val"),
        sslens.open_images("train"),
    )
    queries, among = (sslens.features(model, each) for each in (images, bank))
    labels = [
        dict(zip(each.ids, each.labels.tolist(), strict=True))
        for each in (images, bank)
        if each.labels is not None
    ]
    predicted = knn(
        queries.read("norm", "patch"),
        among.read("norm", "patch"),
        torch.tensor([labels[1][name] for name in among.ids]),
        k=3,
    )
    expected = np.mean(predicted == np.array([labels[0][name] for name in queries.ids]))
    row = frame[(frame.model == "random #5") & (frame.tap == "norm") & (frame.pooling == "patch")]
    row = row[row.features == "raw"]
    assert row.accuracy[row.temperature == 0.07].item() == pytest.approx(expected, abs=1e-5)


def test_what_cannot_be_classified_is_refused(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("flat").mkdir()
    for i in range(4):
        Image.new("RGB", (32, 32), (i, 0, 0)).save(f"flat/{i}.png")
    for split, seed in (("val", 0), ("train", 1)):
        assert (
            main(
                [
                    "features",
                    f"{NANO}:{seed}",
                    "--images",
                    split,
                    "--out",
                    f"f/{split}",
                    "--device",
                    "cpu",
                ]
            )
            == 0
        )
    for line, said in (
        ([NANO], "random:vit_nano_patch8_32 is a model, so images are needed: give --images"),
        ([NANO, "--images", "val", "--k", "0"], "k is 0: give numbers above 0 to --k"),
        (
            [NANO, "--images", "val", "--temperature", "-1"],
            "temperature is -1.0: give numbers above 0 to --temperature",
        ),
        (
            [NANO, "--images", "val", "--k", "50"],
            "50 neighbours cannot be chosen among 11 images: give --k between 1 and 11",
        ),
        ([NANO, "--images", "flat"], "The images of flat have no classes"),
        (
            [NANO, "--images", "val", "--bank", "f/train"],
            "f/train holds features, and random:vit_nano_patch8_32 is a model",
        ),
        (
            ["f/val", "--images", "val"],
            "f/val holds features of its own images and taps: leave --images",
        ),
        (["f/val", "--bank", "train"], "give --bank a folder of features of the same model, too"),
        (["f/val", "--bank", "f/train", "--k", "3"], "The bank's features are of another model"),
        (["f/vla"], 'There is no model "f/vla"'),
    ):
        assert said in refused(["knn", *line, "--no-controls", "--device", "cpu"], capsys)
    for line, said in (
        (["--out", "val/red/0.png"], "val/red/0.png is a file: features are stored in a folder"),
        (["--out", "g", "--batch", "0"], "batch is 0: give 1 or more to --batch"),
        (["--out", "g", "--taps", "blocks.7"], 'has no tap "blocks.7"'),
        (["--out", "f/train"], "The features in f/train are another model's"),
    ):
        assert said in refused(
            ["features", NANO, "--images", "val", "--device", "cpu", *line], capsys
        )
    assert not Path("g").exists()


def test_each_layer_has_its_number_and_of_many_some_are_shown() -> None:
    generator = torch.Generator().manual_seed(0)
    taps = [f"blocks.{number}" for number in range(20)]
    features = {(tap, "cls"): torch.randn(30, 4, generator=generator) for tap in taps}
    store = Features.of(features, labels=np.arange(30) % 3, classes="abc")
    swept = Sweep.of(store, None, ks=[20])
    layers = swept.read_layers()
    assert [choice.tap for choice, _ in layers] == taps
    assert layers[-1][1].value == swept.accuracy(swept.usual)
    assert layers[-1][1].low < layers[-1][1].high
    lines = list_layers(swept).splitlines()
    assert len(lines) <= 17
    assert "more layers are in the table" in lines[-1]
    assert sum(line.endswith("highest") for line in lines) == 1
