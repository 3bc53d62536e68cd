"""Signs of life: runs that really collapse are accused and healthy ones are not, k-NN is that of
the encoder that is kept, and a run that is watched ends as one that is not."""

import dataclasses
import hashlib
import json
import math
import re
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import sslens
from forks import together
from sslens.arguments.answers import describe_training
from sslens.arguments.watching import WatchOptions, describe_kept, open_held_out, write_report
from sslens.cli import main
from sslens.data.images import ImageSet, from_arrays
from sslens.errors import InputError, Interrupted
from sslens.find import names, plugin
from sslens.methods.trivial import assign_alike, guess_classes, predict_means, rank_alike
from sslens.models.cnn import CNNArch
from sslens.models.vit import ViTArch
from sslens.objectives import dino, mae, moco_v3, msn
from sslens.processes import processes
from sslens.training import curves, track
from sslens.training.pretrain import pretrain
from sslens.training.schedule import Training
from sslens.training.signs import Signs, Start, measure_spread
from sslens.training.watch import EncoderLooks, HeldOut, Watch
from sslens.zoo.evaluation import make_transform

ARCH = "vit_64x2_patch8_32"
RUNS = Path(__file__).parents[1] / "runs/scenes"
IMAGES = sslens.open_images("scenes:0:64")
LABELLED = sslens.open_images("scenes:1:120")
HELD = HeldOut.split(LABELLED)
DINO = dino.Settings(
    prototypes=256,
    head_dim=64,
    out_dim=32,
    local_crops=2,
    local_size=16,
    momentum=0.9,
    base_lr=0.02,
    warmup=0.1,
)
SETTINGS: dict[str, Any] = {
    "dino": DINO,
    "msn": msn.Settings(
        prototypes=64,
        head_dim=64,
        out_dim=32,
        focal_views=2,
        focal_size=16,
        momentum=0.9,
        base_lr=0.02,
        warmup=0.1,
    ),
    "mae": mae.Settings(
        decoder_dim=32, decoder_blocks=1, decoder_heads=2, base_lr=0.02, warmup=0.1
    ),
    "moco-v3": moco_v3.Settings(head_dim=64, out_dim=32, base_lr=0.02, warmup=0.1),
}


def fit(
    out: Path,
    objective: str,
    watch: Watch | None,
    *,
    images: ImageSet = IMAGES,
    resume: bool = False,
    **changed: Any,
) -> list[str]:
    """Train; returns what was said of it."""
    settings = changed.pop("settings", SETTINGS[objective])
    training = dataclasses.replace(
        Training(
            epochs=6, batch_size=16, precision="float32", device="cpu", save_every=1000, log_every=1
        ),
        **changed,
    )
    said: list[str] = []
    pretrain(
        objective,
        images,
        ARCH,
        out,
        settings=settings,
        training=training,
        resume=resume,
        watch=watch,
        say=said.append,
    )
    return [text for text in said if text.startswith("note")]


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, list[str]]]:
    """A run of each objective that learns, and what was said of it."""
    folder = tmp_path_factory.mktemp("healthy")
    return {
        name: (folder / name, fit(folder / name, name, Watch(every=2, held=HELD)))
        for name in SETTINGS
    }


# ------------------------------------------------------------------------------------------------
# what is said


@pytest.mark.parametrize("objective", SETTINGS)
def test_a_healthy_run_is_not_accused(
    healthy: dict[str, tuple[Path, list[str]]], objective: str
) -> None:
    out, said = healthy[objective]
    assert said == []
    assert not [line for line in lines(out) if "warning" in line]


@pytest.mark.parametrize(
    ("objective", "changed", "epochs", "wanted"),
    [
        # without a centre the teacher gives every image one prototype
        ("dino", {"centre_momentum": 1.0}, 5, "every image is assigned to the same prototype"),
        # without sharpening it gives every image all of them alike
        (
            "dino",
            {"teacher_temperature": 1.0, "teacher_start": 1.0},
            14,
            r"log K of the 256 prototypes",
        ),
        # weights that decay faster than they learn
        (
            "moco-v3",
            {"base_lr": 0.1, "weight_decay": 100.0},
            5,
            "the encoder makes the same of all images",
        ),
    ],
    ids=["constant assignments", "uniform assignments", "constant outputs"],
)
def test_a_run_that_goes_wrong_is_accused_and_goes_on(
    tmp_path: Path, objective: str, changed: dict[str, float], epochs: int, wanted: str
) -> None:
    settings = dataclasses.replace(SETTINGS[objective], **changed)
    said = fit(tmp_path, objective, Watch(every=1), settings=settings, epochs=epochs)
    matching = [text for text in said if wanted in text]
    assert len(matching) == 1
    assert "usually help" in matching[0] or "Start again" in matching[0]
    kept = lines(tmp_path)
    assert [f"note      {line['warning']}" for line in kept if "warning" in line] == said
    assert kept[-1]["step"] == 4 * epochs
    assert (tmp_path / "last.safetensors").exists()


def judged(
    losses: list[float], warm_up: int = 0, prototypes: int | None = None, every: int = 1
) -> list[tuple[int, str]]:
    signs = Signs(warm_up, prototypes)
    steps = range(every, every * len(losses) + 1, every)
    return [
        (step, text)
        for step, loss in zip(steps, losses, strict=True)
        for text in signs.judge({"step": step, "loss": loss})
    ]


def noisy(mean: np.ndarray, noise: float, seed: int = 0) -> list[float]:
    return (mean + noise * np.random.default_rng(seed).standard_normal(len(mean))).tolist()


def test_a_loss_that_stays_within_its_noise_is_still_and_one_that_falls_is_not() -> None:
    (found,) = judged([2.0] * 100, every=5)  # said at the fiftieth line, once
    assert found[0] == 250
    assert found[1].startswith(
        "The loss has not moved beyond its noise from step 5 to 250 (2 and now 2)"
    )
    for seed in range(20):
        assert judged(noisy(np.linspace(2.0, 1.5, 100), 0.1, seed)) == []
    accused = sum(bool(judged(noisy(np.full(50, 2.0), 0.1, seed))) for seed in range(200))
    assert (
        180 <= accused < 200
    )  # of two means alike 0.27 % stand 3 standard errors apart, here of four, the noise estimated


def test_a_plateau_at_the_end_is_no_fault() -> None:
    assert judged(noisy(np.r_[np.linspace(7.0, 2.0, 40), np.full(400, 2.0)], 0.01)) == []


def test_nothing_is_judged_before_the_end_of_the_warm_up() -> None:
    assert judged([2.0] * 80, warm_up=31) == []
    assert [step for step, _ in judged([2.0] * 100, warm_up=31)] == [
        90
    ]  # 59 lines of it after the warm-up
    assert [step for step, _ in judged([math.log(64)] * 60, warm_up=31, prototypes=64)] == [41]
    signs = Signs(warm_up=10)
    assert signs.judge({"step": 10, "spread": 0.0}) == ()
    assert len(signs.judge({"step": 11, "spread": 0.0})) == 1
    assert signs.judge({"step": 12, "spread": 0.0}) == ()


def test_a_loss_near_log_k_is_not_at_it() -> None:
    """A DINO of 65,536 prototypes starts near 11.09 = log K; one that learns has soon left it."""
    assert judged(np.linspace(11.09, 10.9, 60).tolist(), warm_up=20, prototypes=65_536) == []
    assert judged([0.05 * 11.09] * 5 + [2.0] * 5 + [0.05] * 9, prototypes=65_536) == []


BALANCED = guess_classes(np.arange(10), 0.1, "Look at the labels.")


def unlearnt(lines: list[dict[str, float]], warm_up: int, start: Start) -> list[tuple[int, str]]:
    """What is said of nothing being learnt, with the step at which it is said."""
    signs = Signs(warm_up, start=start)
    said = [(int(line["step"]), text) for line in lines for text in signs.judge(line)]
    return [(step, text) for step, text in said if "that of learning nothing" in text]


def test_a_loss_at_ln_c_and_an_accuracy_at_chance_are_told_after_a_tenth_of_the_steps() -> None:
    start = Start(BALANCED, steps=1000, every=5, chance=0.1)
    losses = noisy(np.full(200, math.log(10)), 2e-3)
    flat = [{"step": 5 * (i + 1), "loss": loss} for i, loss in enumerate(losses)]
    ((step, said),) = unlearnt(flat, 0, start)  # 10 lines after step 100, once
    assert step == 150
    assert said.startswith(
        "After 150 of 1,000 steps the loss is not below that of learning nothing: steps 105 to 150"
        " have a mean of"
    )
    assert "not less than guessing among 10 classes, ln 10 (2.303). Look at the labels." in said
    nearly = [{"step": 5 * (i + 1), "loss": 0.9985 * math.log(10)} for i in range(200)]
    ((_, within),) = unlearnt(nearly, 0, start)
    assert "the loss is not below that of learning nothing by 0.2% or more: steps 105" in within
    assert "have a mean of 2.299, less than 0.2% below guessing among 10 classes" in within
    ((step, _),) = unlearnt(flat, 120, start)  # the warm-up is waited for
    assert step == 170
    for top1, accused in ((0.11, True), (0.2, False)):
        found = unlearnt(
            [*flat[:20], {"step": 100, "epoch": 2.5, "top1": top1}, *flat[20:]], 0, start
        )
        assert bool(found) == accused
        expected = "and top-1 after epoch 2.5 is 11.0% where chance is 10.0%. Look"
        assert not found or expected in found[0][1]
    # a run that was once below is never asked again, and a short one is judged by what it has
    risen = [{**line, "loss": 2.0 if line["step"] < 151 else 2.31} for line in flat]
    assert unlearnt(risen, 0, start) == []
    ((step, _),) = unlearnt(flat[:12], 0, Start(BALANCED, steps=60, every=5))
    assert step == 60  # 50 steps after the sixth
    assert unlearnt([{**line, "loss": line["loss"] - 0.02} for line in flat], 0, start) == []


def test_two_classes_of_which_one_is_rare_are_learnt_only_below_their_entropy() -> None:
    rare = guess_classes(np.repeat([0, 1], [90, 10]), 0.0, "")
    assert round(rare.value, 4) == 0.3251  # −0.9 ln 0.9 − 0.1 ln 0.1
    lines = [{"step": step, "loss": 0.326} for step in range(1, 100)]
    start = Start(rare, 100, 1, chance=0.9)
    assert unlearnt(lines, 0, start)
    assert unlearnt([{"step": 1, "epoch": 1, "top1": 0.9}, *lines], 0, start)
    assert not unlearnt([{"step": 1, "epoch": 1, "top1": 0.95}, *lines], 0, start)


def test_the_best_accuracy_stands_beside_a_last_one_at_chance() -> None:
    lines = [{"step": step, "loss": 0.7} for step in range(1, 59)]
    looks = [{"step": 20, "epoch": 5, "top1": 0.8}, {"step": 56, "epoch": 14, "top1": 0.5}]
    start = Start(guess_classes(np.arange(2), 0.0, "Mend."), 60, 1, chance=0.5)
    log = [*lines[:20], looks[0], *lines[20:55], looks[1], *lines[55:]]
    ((step, said),) = unlearnt(log, 0, start)
    assert step == 56
    assert "top-1 after epoch 14 is 50.0% where chance is 50.0% (the best was 80.0%, after" in said
    assert "nothing is learnt" not in said


def test_none_of_the_reference_trainings_is_accused_of_learning_nothing() -> None:
    """Their logs, with the prototypes, the temperature and the minibatch that they had; fine-tuning
    random weights began at ln 10 for a whole epoch, its warm-up."""
    trivial = {
        "dino": assign_alike(64),
        "msn": assign_alike(64),
        "mae": predict_means(True),
        "moco": rank_alike(128, 4 * 0.2),
        "fcmae": predict_means(True),
        "supervised": BALANCED,
    }
    logs = sorted(RUNS.glob("scenes_*.jsonl"))
    assert len(logs) > 15
    for path in logs:
        log = [json.loads(line) for line in path.read_text().splitlines()]
        name = path.stem.removeprefix("scenes_")
        loss = BALANCED if name.endswith("_ft") else trivial[name.split("_")[0]]
        assert loss is not None
        steps = log[-1]["step"]
        start, warm_up = Start(loss, steps, 10), round(steps * (0.1 if loss is BALANCED else 0.05))
        assert unlearnt(log, warm_up, start) == [], path.name
        stuck = [line | ({"loss": loss.value} if "loss" in line else {}) for line in log]
        told = unlearnt(
            [{k: v for k, v in one.items() if k != "top1"} for one in stuck], warm_up, start
        )
        assert len(told) == 1, path.name


def test_every_objective_knows_the_loss_of_learning_nothing() -> None:
    labels = np.arange(16) % 4
    values = {}
    for name in names("objectives"):
        module = plugin("objectives", name)
        values[name] = module.find_trivial(module.Settings(), labels, 16).value
    assert values == pytest.approx(
        {
            "dino": math.log(65_536),
            "fcmae": 1.0,
            "mae": 1.0,
            "moco-v3": 0.8 * math.log(16),
            "msn": math.log(1024),
            "supervised": math.log(4),
        }
    )


def test_spread_is_what_the_mean_direction_leaves() -> None:
    x = torch.randn(40, 7, generator=torch.Generator().manual_seed(0)) + 0.5
    unit = x.double().numpy() / np.linalg.norm(x.double().numpy(), axis=1, keepdims=True)
    assert measure_spread(x) == pytest.approx(
        math.sqrt(1 - np.linalg.norm(unit.mean(0)) ** 2), rel=1e-12
    )
    assert measure_spread(1000 * x) == pytest.approx(measure_spread(x), rel=1e-6)


# ------------------------------------------------------------------------------------------------
# what is measured


def accuracy(out: Path, pooling: str) -> float:
    """k-NN as DINO has it, written out in NumPy, with the encoder that the run kept."""
    model = sslens.load(out)

    def features(images: ImageSet) -> np.ndarray:
        x = torch.stack([model.transform(images.image(row)) for row in range(len(images))])
        tokens = model(x).double().numpy()
        made = tokens[:, 0] if pooling == "cls" else tokens[:, 1:].mean(1)
        return np.asarray(made / np.linalg.norm(made, axis=1, keepdims=True))

    queries, bank = features(HELD.queries), features(HELD.bank)
    assert HELD.queries.labels is not None
    assert HELD.bank.labels is not None
    correct = 0
    for cosines, label in zip(queries @ bank.T, HELD.queries.labels, strict=True):
        nearest = np.argsort(-cosines)[:20]
        votes = np.bincount(HELD.bank.labels[nearest], np.exp(cosines[nearest] / 0.07), 10)
        correct += int(votes.argmax() == label)
    return correct / len(HELD.queries)


@pytest.mark.parametrize("objective", SETTINGS)
def test_knn_is_that_of_the_encoder_that_is_kept(
    healthy: dict[str, tuple[Path, list[str]]], objective: str
) -> None:
    out, _ = healthy[objective]
    found = [line for line in lines(out) if "knn_cls" in line]
    assert [line["epoch"] for line in found] == [2, 4, 6]
    assert found[-1]["knn_cls"] == accuracy(out, "cls")
    assert found[-1]["knn_patch"] == accuracy(out, "patch")


def coloured(count: int, classes: list[str], seed: int) -> ImageSet:
    """Noise about the colour that a class is named after, in no order."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 3, count)
    colours = {"red": (200, 50, 50), "green": (50, 200, 50), "blue": (50, 50, 200)}
    means = np.array([colours[classes[label]] for label in labels])[:, None, None]
    pixels = (means + generator.integers(-20, 20, (count, 32, 32, 3))).astype(np.uint8)
    return from_arrays(
        pixels, labels, classes, [f"{seed}/{row}" for row in range(count)], f"colours {seed}"
    )


def test_what_even_an_untrained_encoder_separates_is_found_by_name_of_class() -> None:
    queries, bank = (
        coloured(30, ["red", "green", "blue"], 0),
        coloured(90, ["blue", "red", "green"], 1),
    )
    encoder = ViTArch.parse(ARCH).build(0)
    for held in (HeldOut(queries, bank), HeldOut.split(bank)):
        found = EncoderLooks(held, IMAGES, make_transform(32), "JE").look(encoder, "cpu")
        assert (found["knn_cls"], found["knn_patch"]) == (1.0, 1.0)


@pytest.mark.parametrize("objective", ["mae", "moco-v3"])
def test_a_watched_run_ends_as_one_that_is_not(
    healthy: dict[str, tuple[Path, list[str]]], tmp_path: Path, objective: str
) -> None:
    fit(tmp_path, objective, None)
    out = healthy[objective][0]
    for name in ("last.safetensors", "state.safetensors"):
        one, other = load_file(tmp_path / name), load_file(out / name)
        assert one.keys() == other.keys()
        assert all(torch.equal(value, other[key]) for key, value in one.items())
    losses = [
        [line["loss"] for line in lines(folder) if "loss" in line] for folder in (tmp_path, out)
    ]
    assert losses[0] == losses[1]


class Interrupting:
    """Images in memory; a real Ctrl-C comes when so many have been taken."""

    def __init__(self, after: int) -> None:
        self.after = after

    def image(self, row: int) -> Image.Image:
        self.after -= 1
        if self.after == 0:
            signal.raise_signal(signal.SIGINT)
        return IMAGES.image(row)

    def digests(self, rows: Any) -> list[str]:
        return IMAGES.source.digests(
            [int(IMAGES.rows[row]) for row in rows] if IMAGES.rows is not None else rows
        )


def test_a_run_that_does_not_learn_is_accused_whether_or_not_it_was_stopped(tmp_path: Path) -> None:
    settings, told = dataclasses.replace(SETTINGS["mae"], base_lr=1e-9), list[Any]()
    watch = Watch(every=4, held=HELD)
    said = fit(
        tmp_path / "whole",
        "mae",
        dataclasses.replace(watch, tell=(told.append,)),
        settings=settings,
        epochs=15,
    )
    (warning,) = said
    assert warning.startswith(
        "note      After 56 of 60 steps the loss is not below that of learning nothing: steps 47 to"
        " 56 have"
    )
    assert "not less than predicting nothing but the mean colour of each patch (1)" in warning
    assert "usually help" in warning
    images = dataclasses.replace(IMAGES, source=Interrupting(16 * 25 - 1), rows=None)
    assert images.digest == IMAGES.digest
    with pytest.raises(Interrupted, match="after step 25 of 60"):
        fit(tmp_path / "parts", "mae", watch, settings=settings, images=images, epochs=15)
    assert fit(tmp_path / "parts", "mae", watch, settings=settings, resume=True, epochs=15) == said
    whole, parts = lines(tmp_path / "whole"), lines(tmp_path / "parts")
    assert told == whole
    assert {"loss", "spread", "knn_cls", "warning"} <= {key for line in told for key in line}
    for line in (*whole, *parts):
        for varies in ("time", "images_per_second"):
            line.pop(varies, None)
    assert whole == parts


def test_looks_of_a_run_in_bfloat16_are_those_of_the_file_in_float32(tmp_path: Path) -> None:
    fit(tmp_path, "mae", Watch(every=1, held=HELD), epochs=1, precision="bfloat16")
    looks = EncoderLooks(HELD, IMAGES, make_transform(32), "REC")
    numbers = looks.look(sslens.load(tmp_path).network, "cpu")
    logged = lines(tmp_path)[-1]
    assert {name: logged[name] for name in numbers} == numbers
    page = write_report(tmp_path, "mae", "sslens pretrain mae", held=HELD).read_text()
    assert (
        "k-NN by the CLS token (k = 20, temperature 0.07, features in float32) at the end:" in page
    )


@pytest.mark.parametrize(
    ("encoder", "family", "poolings"),
    [
        (ViTArch.parse("vit_64x2_patch8_32").build(0), "JE", ("cls", "patch")),
        (CNNArch("resnet", (1, 1, 1, 1), (8, 8, 8, 8)).build(0), "JE", ("mean",)),
    ],
    ids=["vit", "resnet"],
)
def test_looking_changes_nothing_and_processes_share_it(
    encoder: torch.nn.Module, family: str, poolings: tuple[str, ...]
) -> None:
    encoder.train()
    next(encoder.modules()).eval()  # only itself: modes are kept one by one
    modes = [module.training for module in encoder.modules()]
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    trained = [p.requires_grad for p in encoder.parameters()]
    state = torch.get_rng_state()
    found = EncoderLooks(HELD, IMAGES, make_transform(32), family).look(encoder, "cpu")
    expected = {f"{what}_{pooling}" for what in ("knn", "rank") for pooling in poolings}
    assert found.keys() == expected | {"spread", "knn_images"}
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in encoder.modules()] == modes
    assert [p.requires_grad for p in encoder.parameters()] == trained
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())

    def shared() -> None:
        with processes("cpu"):
            again = EncoderLooks(HELD, IMAGES, make_transform(32), family).look(encoder, "cpu")
        assert again == found

    together(shared)


def test_processes_share_a_watched_run_and_the_first_alone_speaks(tmp_path: Path) -> None:
    def shared() -> None:
        said = fit(tmp_path, "mae", Watch(every=1, held=HELD), epochs=2)
        assert said == []

    together(shared)
    kept = lines(tmp_path)
    assert [line["step"] for line in kept] == [1, 2, 3, 4, 4, 5, 6, 7, 8, 8]
    assert ["knn_cls" in line for line in kept] == [step in (4, 9) for step in range(10)]
    assert kept[-1]["knn_cls"] == accuracy(tmp_path, "cls")


def test_of_features_that_are_not_finite_nothing_is_said() -> None:
    encoder = ViTArch.parse("vit_64x2_patch8_32").build(0)
    torch.nn.init.constant_(encoder.blocks[0].mlp.fc1.bias, torch.nan)
    assert EncoderLooks(HELD, IMAGES, make_transform(32), "JE").look(encoder, "cpu") == {}


def test_a_set_is_split_by_its_ids_alone() -> None:
    assert not set(HELD.queries.ids) & set(HELD.bank.ids)
    assert set(HELD.queries.ids) | set(HELD.bank.ids) == set(LABELLED.ids)
    assert 0.1 < len(HELD.queries) / len(LABELLED) < 0.3
    again = HeldOut.split(LABELLED.take(range(len(LABELLED))[::-1]))
    assert set(again.queries.ids) == set(HELD.queries.ids)
    for name in LABELLED.ids[:20]:  # the first byte decides but for 51: 0.2 · 256 = 51.2
        byte = hashlib.sha256(f"knn/{name}".encode()).digest()[0]
        if byte != 51:
            assert (name in HELD.queries.ids) == (byte < 51)


# ------------------------------------------------------------------------------------------------
# mistakes


def labelled(count: int, classes: list[str]) -> ImageSet:
    pixels = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    return from_arrays(pixels, [row % len(classes) for row in range(count)], classes)


def test_mistakes() -> None:
    plain = from_arrays(np.zeros((8, 32, 32, 3), np.uint8))
    with pytest.raises(InputError, match="The images of array have no classes"):
        HeldOut.split(plain)
    with pytest.raises(InputError, match="too few images for k-NN"):
        HeldOut.split(labelled(4, ["a", "b"]))
    with pytest.raises(InputError, match='array has no class "horse", which array has'):
        HeldOut(labelled(8, ["cat", "horse"]), labelled(8, ["cat", "dog"]))
    with pytest.raises(InputError, match="k-NN every 0 epochs"):
        Watch(every=0)
    with pytest.raises(InputError, match="--knn-bank classifies the images of --knn"):
        open_held_out(WatchOptions(knn_bank="photos"), sslens.open_images)


def test_a_tracker_that_is_not_installed_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    for name in ("tensorboard", "wandb"):
        monkeypatch.setitem(sys.modules, name, None)
        line = [
            "pretrain",
            "mae",
            "--images",
            "scenes:0:8",
            "--arch",
            ARCH,
            "--batch-size",
            "4",
            f"--{name}",
        ]
        assert main([*line, "--device", "cpu"]) == 2
        assert (
            f"The package {name}, by which runs can be followed, is not installed"
            in capsys.readouterr().err
        )


# ------------------------------------------------------------------------------------------------
# trackers and report


def test_tensorboard_gets_the_lines_of_the_log(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the extra `track` is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with track.tensorboard(tmp_path) as tell:
        tell({"step": 10, "epoch": 0.5, "loss": 1.25, "time": 5.0})
        tell({"step": 20, "epoch": 1.0, "loss": 0.5, "time": 6.0})
        tell({"step": 20, "epoch": 1.0, "warning": "It stands still.", "time": 6.0})
    found = EventAccumulator(str(tmp_path)).Reload()
    assert [(event.step, event.value) for event in found.Scalars("loss")] == [(10, 1.25), (20, 0.5)]
    assert "warning/text_summary" in found.Tags()["tensors"]


def test_the_curves_are_those_of_the_log() -> None:
    log = [
        {"step": 5, "epoch": 0.5, "loss": 2.0, "lr": 0.1, "time": 1.0},
        {"step": 10, "epoch": 1.0, "loss": 1.0, "lr": 0.2, "time": 2.0},
        {"step": 10, "epoch": 1.0, "spread": 0.5, "knn_cls": 0.5, "time": 2.0},
        {"step": 20, "epoch": 2.0, "loss": 0.5, "lr": 0.0, "time": 3.0},
        {"step": 20, "epoch": 2.0, "spread": 0.5, "knn_cls": 0.25, "time": 3.0},
        {"step": 20, "epoch": 2.0, "warning": "It stands still.", "time": 3.0},
    ]
    table = curves.compute(log)
    assert table.frame.step.tolist() == [5, 10, 20]
    assert table.frame.knn_cls.tolist()[1:] == [0.5, 0.25]
    loss, _, accuracies = curves.draw(table).panels[0]
    assert loss.lines[0].y.tolist() == [2.0, 1.0, 0.5]
    assert [line.x.tolist() for line in accuracies.lines] == [[1.0, 2.0]]
    said = curves.findings(table)
    assert said[-1] == "The loss went from 2 (step 5) to 0.5 (step 20)."
    assert said[0].startswith(
        "Accuracy of k-NN by the CLS token at the end: 25.0% of the held-out images; the best of 2"
        " looks was 50.0%, after epoch 1"
    )
    assert curves.warnings(log) == ("It stands still.",)


def test_accuracies_of_knn_have_their_images_interval_and_chance(
    healthy: dict[str, tuple[Path, list[str]]],
) -> None:
    out, _ = healthy["dino"]
    last, count = curves.read_last(lines(out)), len(HELD.queries)
    told = rf" [\d.]+% \[[\d.]+%, [\d.]+%\] of the {count} held-out images \(always the most"
    said = curves.findings(curves.compute(lines(out)), held=HELD)
    assert re.match(rf"Accuracy of k-NN by the CLS token \(k = .+\) at the end:{told}", said[0])
    assert re.match(rf"k-NN      CLS token:{told}", describe_kept(out, held=HELD)[0])
    reply = describe_training(out, out, held=HELD)["last"]
    assert last["knn_images"] == reply["knn_images"] == count
    assert reply["knn_cls_low"] < reply["knn_cls"] < reply["knn_cls_high"]


def test_one_point_is_no_course_and_the_method_speaks_of_what_is_there() -> None:
    loss = {"step": 6, "epoch": 3.0, "loss": 2.736, "lr": 0.1}
    table = curves.compute([loss])
    assert curves.findings(table) == ("The loss was 2.736 (step 6, the only one logged).",)
    caption = curves.write_caption(table)
    assert not [word for word in ("RankMe", "k-NN", "gain") if word in caption]
    held = {"step": 6, "epoch": 3.0, "held_loss": 0.9, "held_gain": 0.885, "held_images": 64}
    held |= {"held_gain_low": 0.86, "held_gain_high": 0.9}
    table = curves.compute([loss, held])
    first, second, _ = curves.findings(table)
    assert first.startswith("An image's own features take away 88.5% [86.0%, 90.0%] of the loss")
    assert "whether samples can be trusted is told by the analysis samples" in first
    assert second == "The loss of held-out images was 0.9 (step 6, the only one logged)."
    assert "the gain, which is the share by which that loss falls" in curves.write_caption(table)
    held |= {"held_gain": 2.3e-6, "held_gain_low": -1e-3, "held_gain_high": 2e-3}
    first, *_ = curves.findings(curves.compute([loss, held]))
    assert first.startswith("The representation does not reach the images (gain 0.0% [-0.1%, 0.2%]")
    assert first.endswith("train longer.")


def test_a_run_ends_with_a_report(healthy: dict[str, tuple[Path, list[str]]]) -> None:
    out, _ = healthy["dino"]
    text = write_report(out, "dino", "sslens pretrain dino").read_text()
    assert "How did the training go?" in text
    assert "sslens pretrain dino" in text
    table = (out / "report/tables/training.csv").read_text().splitlines()
    assert table[0] == "step,epoch,loss,lr,knn_cls,knn_patch,spread,rank_cls,rank_patch"
    assert len(table) == 1 + 24


@pytest.mark.slow
def test_the_command_says_what_is_also_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    line = [
        "pretrain",
        "mae",
        "--images",
        "scenes:0:40",
        "--arch",
        ARCH,
        "--batch-size",
        "20",
        "--epochs",
        "1",
    ]
    line += [
        "--device",
        "cpu",
        "--precision",
        "float32",
        "--set",
        "decoder_dim=32",
        "--set",
        "decoder_heads=2",
    ]
    assert main([*line, "--knn", "scenes:1:40", "--dry-run"]) == 0
    assert re.search(
        r"k-NN on \d+ images by \d+ \(k = 20, .+\)$", capsys.readouterr().err, re.MULTILINE
    )
    assert main([*line, "--knn", "scenes:0:40", "--out", "run"]) == 0
    found = capsys.readouterr()
    assert re.search(
        r"k-NN on (\d+) images by \d+ \(.+\); \1 of them are also trained on", found.err
    )
    assert "knn_cls 0" in found.err
    assert re.search(
        r"k-NN      CLS token: .+% \[.+%, .+%\] of the \d+ held-out images \(always", found.err
    )
    assert found.out.splitlines() == [str(Path("run/last.safetensors"))]
    assert Path("run/report/report.html").exists()
    assert "knn_patch" in (tmp_path / "run/log.jsonl").read_text()
