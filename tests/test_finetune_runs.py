"""Whole runs of fine-tuning: what is kept, resumed and shared, and what is refused."""

import dataclasses
import json
import math
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.nn.modules.module import register_module_forward_pre_hook

import sslens
from forks import together
from sslens.cli import main
from sslens.data.images import Source, from_arrays
from sslens.errors import Doubt, InputError, Interrupted
from sslens.models.about import Origin
from sslens.models.vit import ViTArch
from sslens.own_files import LIST
from sslens.statistics.proportions import wilson
from sslens.study.members import load_members
from sslens.study.related import describe_related
from sslens.tasks.accuracy import Accuracy, _Share
from sslens.tasks.classification import FineTuning, Settings, job
from sslens.training.finetune import require_fit
from sslens.training.run_files import BEST, LOG
from sslens.training.schedule import schedule_run
from sslens.training.watch import Watch
from tuning import HELD, IMAGES, LABELS, SETTINGS, TRAINING, VIT, fit, lines, model


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing happened to: 9 steps, 3 an epoch, a checkpoint every second."""
    out = tmp_path_factory.mktemp("whole")
    fit(out, held=HELD, settings={"ema": 0.5}, path=True)
    return out


def test_the_warning_has_the_chance_of_the_images_that_the_accuracy_is_of(tmp_path: Path) -> None:
    """Three of four training images are of one class and half of the held-out ones; hardly any step
    is taken, so that all images are of one class to the classifier."""
    grey = np.arange(100, 124, dtype=np.uint8)[:, None, None, None]
    pixels = np.tile(grey, (1, 32, 32, 3))
    train = from_arrays(pixels, [0, 0, 0, 1] * 6, classes=["a", "b"])
    held = from_arrays(pixels[:8], [0, 1] * 4, classes=["a", "b"], name="held")
    still = {"base_lr": 1e-9, "min_lr": 1e-9, "smoothing": 0.0, "classes": ("a", "b")}
    fit(tmp_path, images=train, held=held, settings=still, epochs=22, watch=Watch(every=22))
    (warning,) = lines(tmp_path, "warning")
    assert "is 50.0% where chance is 50.0%. " in str(warning)
    assert Accuracy(held, model().transform, ("a", "b")).chance == 0.5


class Signalling:
    """Images in memory; when so many have been taken, this process gets SIGINT."""

    def __init__(self, after: int, source: Source) -> None:
        self.after, self.source = after, source

    def image(self, row: int) -> Image.Image:
        self.after -= 1
        if self.after == 0:
            signal.raise_signal(signal.SIGINT)
        return self.source.image(row)

    def digests(self, rows: Sequence[int]) -> list[str]:
        return self.source.digests(rows)


def test_a_run_is_kept_with_its_best_and_loads(whole: Path) -> None:
    assert {path.name for path in whole.iterdir()} == {
        "config.yaml",
        "log.jsonl",
        "last.safetensors",
        "best.safetensors",
        "path.csv",
        "state.safetensors",
        LIST,
    }
    tops = lines(whole, "top1")
    assert len(tops) == 3
    best, last = sslens.load(whole / BEST), sslens.load(whole)
    assert best.about.more["top1"] == max(tops)
    assert best.about.step == 3 * (1 + tops.index(max(tops)))
    assert last.about.step == 9
    start = model()
    assert {
        key: last.about.to_json()[key]
        for key in ("family", "objective", "tuned", "arch", "pooling", "classes")
    } == {
        "family": "control",
        "objective": None,
        "tuned": "fine-tuned",
        "arch": "vit_64x3_patch16_32",
        "pooling": "patches",
        "classes": ["a", "b", "c"],
    }
    assert last.about.pretrained == Origin(start.name, VIT, start.digest)
    assert (last.name, list(last.taps)[-1]) == (f"{start.name}-ft", "blocks.2")
    assert last.transform == start.transform


def test_top_1_top_5_and_loss_are_those_of_the_kept_classifier(whole: Path) -> None:
    kept = load_file(whole / "last.safetensors")
    network = sslens.load(whole).network
    right, losses = 0, []
    for row in range(len(HELD)):
        x = model().transform(HELD.image(row))[None]
        pooled = network.forward_features(x)[:, 1:].mean(1)
        normed = torch.nn.functional.layer_norm(
            pooled, (64,), kept["classifier.norm.weight"], kept["classifier.norm.bias"], 1e-6
        )
        scores = (normed @ kept["classifier.head.weight"].T + kept["classifier.head.bias"])[0]
        right += int(scores.argmax()) == LABELS[row]
        losses.append(math.log(scores.exp().sum()) - scores[LABELS[row]].item())
    assert lines(whole, "top1")[-1] == right / 10
    assert lines(whole, "top5") == [1.0, 1.0, 1.0]
    assert lines(whole, "val_loss")[-1] == pytest.approx(np.mean(losses), abs=1e-6)


def test_stopped_and_resumed_a_run_ends_with_the_same_weights(whole: Path, tmp_path: Path) -> None:
    images = dataclasses.replace(IMAGES, source=Signalling(8 * 5 - 1, IMAGES.source))
    with pytest.raises(Interrupted, match="after step 5 of 9"):
        fit(tmp_path, images=images, held=HELD, settings={"ema": 0.5}, path=True)
    fit(tmp_path, held=HELD, settings={"ema": 0.5}, path=True, resume=True)
    for name in ("last.safetensors", BEST, "state.safetensors", "path.csv"):
        assert (tmp_path / name).read_bytes() == (whole / name).read_bytes(), name
    for column in ("step", "loss", "lr", "top1", "val_loss"):
        assert lines(tmp_path, column) == lines(whole, column)


def test_two_processes_and_parts_train_as_one(whole: Path, tmp_path: Path) -> None:
    together(lambda: fit(tmp_path / "two", held=HELD, settings={"ema": 0.5}, accumulate=2))
    np.testing.assert_allclose(
        lines(tmp_path / "two", "loss"), lines(whole, "loss"), rtol=0, atol=1e-5
    )
    np.testing.assert_allclose(
        lines(tmp_path / "two", "val_loss"), lines(whole, "val_loss"), rtol=0, atol=1e-4
    )
    assert lines(tmp_path / "two", "top1") == lines(whole, "top1")


def test_recomputed_blocks_change_no_bit_of_a_run(tmp_path: Path) -> None:
    calls = []
    for name, recompute in (("kept", False), ("again", True)):
        called: list[torch.nn.Module] = []
        hook = register_module_forward_pre_hook(
            lambda module, _, called=called: called.append(module)
        )
        fit(tmp_path / name, images=IMAGES.take(range(8)), epochs=1, recompute=recompute)
        hook.remove()
        calls.append(sum(isinstance(module, torch.nn.GELU) for module in called))
    assert calls[1] == calls[0] + 3, "the MLP of each of three blocks is computed twice"
    kept, again = (
        (tmp_path / name / "last.safetensors").read_bytes() for name in ("kept", "again")
    )
    assert kept == again


def test_the_path_is_that_of_the_weights(whole: Path) -> None:
    """Displacement of the backbone after the last epoch, from the first weights and the last; both
    paths are longer."""
    kept = load_file(whole / "state.safetensors")
    squares = 0.0
    for name, value in model().network.named_parameters():
        if f"module/tuned.network.{name}" in kept:
            squares += (kept[f"module/tuned.network.{name}"] - value).double().square().sum().item()
    frame = pd.read_csv(whole / "path.csv", comment="#")
    end = frame[(frame.group == "backbone") & (frame.record == 3)].iloc[0]
    # the norm before the classifier is the method's own: it starts at 1 and 0
    own = (kept["module/tuned.norm.weight"] - 1).double().square().sum() + kept[
        "module/tuned.norm.bias"
    ].double().square().sum()
    assert end.displacement == pytest.approx(
        math.sqrt(squares + own.item()), rel=1e-5
    )  # six digits are written
    assert end.step == 9
    assert end.displacement < end.length < end.step_length


def test_a_study_names_the_better_epoch_and_the_command_for_before_and_after(
    whole: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    text = (run / LOG).read_text(encoding="utf-8")
    judged = [line for line in map(json.loads, text.splitlines()) if "top1" in line]
    worse = {**judged[-1], "top1": 0.25, "epoch": 9.0}
    (run / LOG).write_text(f"{text}{json.dumps(worse)}\n", encoding="utf-8")
    best = max(judged, key=lambda line: line["top1"])
    members = load_members([VIT, str(run)], controls=False)
    changed, tuned = describe_related(members)[::-1]
    assert tuned == (
        f"random #0-ft is the last epoch of {run} (top-1 25.0% on the run's own held-out images);"
        f" {run / BEST} is its best, epoch {best['epoch']:g} ({best['top1']:.1%})."
    )
    assert f"sslens diff {VIT} {run} tells" in changed
    assert describe_related(members[:1]) == []
    assert describe_related(members, diff=True) == [tuned]
    (run / LOG).write_text("epoch,top1\n1,0.5\n", encoding="utf-8")  # another program's
    assert describe_related(load_members([str(run)], controls=False)) == []


def test_a_run_that_was_not_followed_cannot_be_followed_later(tmp_path: Path) -> None:
    fit(tmp_path, images=IMAGES.take(range(8)), epochs=1)
    with pytest.raises(InputError, match="was not followed from its first step"):
        fit(tmp_path, images=IMAGES.take(range(8)), epochs=1, resume=True, path=True)


def test_all_weights_move_and_the_model_that_was_given_does_not(whole: Path) -> None:
    start = model()
    kept = load_file(whole / "state.safetensors")
    for name, value in start.network.state_dict().items():
        if not name.startswith("norm."):
            assert not torch.equal(kept[f"module/tuned.network.{name}"], value), name
    assert start.digest == model().digest


@pytest.mark.parametrize(
    ("source", "pooling"),
    [
        ("random:resnet_8x12x16x20_1x2x1x1_64:0", "patches"),
        ("random:convnextv2_8x16x32x64_1x1x2x1_64:0", "patches"),
        ("random:timm/test_vit:0", "patches"),
        ("random:timm/test_vit:0", "cls"),
        (VIT, "cls"),
    ],
)
def test_every_model_can_be_tuned_and_loads_again(
    tmp_path: Path, source: str, pooling: str
) -> None:
    settings = {"pooling": pooling, "randaugment": "", "head_std": 0.02}
    fit(tmp_path, source, IMAGES.take(range(8)), epochs=2, settings=settings)
    start, end = model(source), sslens.load(tmp_path)
    state = load_file(tmp_path / "state.safetensors")
    x = torch.randn(1, 3, *(start.transform.crop,) * 2)
    built = FineTuning(start, dataclasses.replace(SETTINGS, **settings))
    built.load_state_dict(
        {key.removeprefix("module/"): v for key, v in state.items() if key.startswith("module/")}
    )
    with torch.no_grad():
        torch.testing.assert_close(
            end(x), built.eval().encoder.forward_features(x), rtol=0, atol=1e-6
        )
        assert not torch.allclose(end(x), start(x), atol=1e-4)
    assert end.transform == start.transform
    assert end.about.arch == start.about.arch


@pytest.mark.parametrize("pooling", ["cls", "patches"])
def test_a_model_learns_colours(tmp_path: Path, pooling: str) -> None:
    colours = np.repeat(np.eye(3, dtype=np.uint8)[LABELS] * 200, 32 * 32, axis=0).reshape(
        24, 32, 32, 3
    )
    images = from_arrays(colours, LABELS, classes=["red", "green", "blue"])
    settings = {
        "pooling": pooling,
        "mixup": 0.0,
        "cutmix": 0.0,
        "randaugment": "",
        "layer_decay": 1.0,
        "smoothing": 0.0,
    }
    fit(tmp_path, images=images, held=images, epochs=8, settings=settings)
    assert lines(tmp_path, "top1")[-1] == 1.0
    assert lines(tmp_path, "val_loss")[-1] < 0.6 < math.log(3)
    assert lines(tmp_path, "loss")[0] == pytest.approx(math.log(3), abs=1e-3)


def test_a_tuned_model_can_be_tuned_again(whole: Path, tmp_path: Path) -> None:
    fit(tmp_path, str(whole), IMAGES.take(range(8)), epochs=1)
    origin = sslens.load(tmp_path).about.pretrained
    assert origin is not None
    assert origin.digest == sslens.load(whole).digest


# ------------------------------------------------------------------------------------------------
# what is refused


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {"images": dataclasses.replace(IMAGES, labels=None)},
            r"have no classes, and fine-tuning learns them",
        ),
        (
            {"images": IMAGES.take(range(0, 24, 3))},
            r'All 8 images of array are of the class "a", and fine-tuning learns',
        ),
        (
            {"held": dataclasses.replace(HELD, labels=None)},
            r"held have no classes, and are to be classified",
        ),
        (
            {"held": dataclasses.replace(HELD, classes=("a", "b", "d"))},
            r'held has images of the class "d".*not among the 3',
        ),
        ({"source": "pixels"}, r"pixels has no weights that could be fine-tuned"),
        (
            {"source": "random:resnet_8x12x16x20_1x2x1x1_64:0", "settings": {"pooling": "cls"}},
            "has no CLS token for the classifier to see: give settings.pooling=.patches",
        ),
        (
            {"source": "random:resnet_8x12x16x20_1x2x1x1_64:0", "accumulate": 2},
            r"normalises over all images of a step",
        ),
        (
            {"batch_size": 9},
            r"mixed in pairs, and each of 1 shares of a minibatch of 9 would have 9",
        ),
        (
            {"batch_size": 12, "accumulate": 4},
            r"would have 3: give a batch_size of a multiple of 8, or settings.mixup=0",
        ),
        ({"batch_size": 26}, r"26 is more than the 24 images"),
        ({"settings": {"warmup": 5.0}}, r"warmup is 5.0: expected a share"),
    ],
)
def test_an_impossible_run_is_refused_before_anything_is_written(
    tmp_path: Path, changed: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=said) as refused:
        fit(tmp_path / "out", **changed)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"pooling": "clss"}, r'pooling is "clss": did you mean cls'),
        ({"layer_decay": 0.0}, r"layer_decay is 0.0: expected more than 0"),
        ({"layer_decay": 1.5}, r"layer_decay is 1.5: expected a share"),
        ({"drop_path": 1.0}, r"drop_path is 1.0"),
        ({"mixup": -1.0}, r"mixup -1.0: give 0 or more"),
        ({"together": 1}, r"1 images cannot be mixed together in pairs: give an even number"),
        ({"together": 5}, r"5 images cannot be mixed together in pairs: give an even number"),
        ({"randaugment": "m9"}, r'"m9" is no RandAugment: expected timm'),
        ({"randaugment": "rand-mx"}, r'"rand-mx" is no RandAugment'),
    ],
)
def test_settings_out_of_bounds_are_refused(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Settings(**changed)


def test_a_run_does_not_go_on_with_other_classes_or_weights(whole: Path) -> None:
    many = dataclasses.replace(IMAGES, classes=("a", "b", "x"))
    with pytest.raises(
        InputError, match=r"settings\.classes was \['a', 'b', 'c'\] and is now \['a', 'b', 'x'\]"
    ):
        fit(whole, images=many, resume=True, settings={"ema": 0.5})
    with pytest.raises(InputError, match=r"pretrained\.digest was"):
        fit(whole, "random:vit_64x3_patch16_32:1", resume=True, settings={"ema": 0.5})


def test_the_plan_counts_steps_and_a_report_shows_the_accuracy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert schedule_run(job(model(), IMAGES, SETTINGS), 24, TRAINING).steps == 9
    given = [
        "finetune",
        VIT,
        "--images",
        "scenes:0:32",
        "--val",
        "scenes:1:40",
        "--device",
        "cpu",
        "--out",
        str(tmp_path),
    ]
    given += ["--epochs", "1", "--batch-size", "16", "--set", "pooling=cls", "together=8"]
    assert main([*given, "--dry-run"]) == 0
    assert "2 steps an epoch, 2 in all, 32 images seen" in capsys.readouterr().err
    assert not (tmp_path / "config.yaml").exists()
    assert main(given) == 0
    captured = capsys.readouterr()
    assert captured.out.strip() == str(tmp_path / "last.safetensors")
    assert (tmp_path / BEST).exists()
    share = lines(tmp_path, "top1")[-1]
    low, high = wilson(round(share * 40), 40)
    of = f"{share:.1%} [{low:.1%}, {high:.1%}] of the 40 held-out images (always the most frequent"
    page = (tmp_path / "report" / "report.html").read_text()
    # the page and the closing answer begin with the accuracy, and not with the loss
    assert 0 < page.index(f"Top-1 accuracy at the end: {of}") < page.index("The loss was")
    assert f"\ntop-1     {of}" in captured.err.partition("\nmodels ")[0]
    assert main([*given[:-1], "together=8", "--preset", "mae-offical"]) == 2
    assert (
        'finetune has no recipe "mae-offical": did you mean mae-official' in capsys.readouterr().err
    )


def test_a_preset_must_be_for_such_networks() -> None:
    require_fit("paper-2022", model())
    require_fit("mae-official", model())
    with pytest.raises(
        InputError, match="The preset paper-2023 is for Vision Transformers, and random #0 is none"
    ):
        require_fit("paper-2023", model("random:resnet_8x12x16x20_1x2x1x1_64:0"))
    with pytest.warns(
        Doubt,
        match="of width 1024 with the numbers of the preset mae-official-large, not mae-official",
    ):
        require_fit("mae-official", model("random:vit_1024x1_patch16_32:0"))


def test_processes_share_the_held_out_images() -> None:
    held = Accuracy(HELD, model().transform, ("c", "b", "a"))
    shares = [_Share(held, rank, 3) for rank in range(3)]
    labels = [share[i][1] for share in shares for i in range(len(share))]
    assert sorted(labels) == sorted(2 - label for label in LABELS[:10])


def test_vits_of_other_shapes_are_written_and_read() -> None:
    from sslens.zoo.shapes import ViTShape, describe_network, read_shape

    shape = ViTShape(
        ViTArch.parse("vit_64x2_patch16_32"), hidden=128, layer_scale=True, registers=2, norm=False
    )
    network = shape.empty()
    assert read_shape(json.loads(json.dumps(describe_network(network, None, "mine")))) == shape


def test_runs_of_two_seeds_have_one_recipe_and_one_of_other_images_has_another(
    tmp_path: Path,
) -> None:
    """The command takes images in an order that the seed decides."""

    def recipe(seed: int, count: int | None = None) -> object:
        fit(tmp_path / f"{seed}-{count}", images=IMAGES.sample(count, seed), seed=seed, epochs=1)
        return sslens.load(tmp_path / f"{seed}-{count}").about.recipe

    assert recipe(0) == recipe(1) != recipe(0, count=20)
