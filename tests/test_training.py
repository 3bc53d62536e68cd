"""The loop: schedules by hand, runs that are killed anywhere and go on bit for bit, several processes, and what is refused.

Processes are forked from the test's own, which has torch imported; those of the command line are slow and marked so.
"""

import contextlib
import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import sslens
from forks import forked, together
from sslens.cli import main
from sslens.data.images import ImageSet, Source, from_arrays
from sslens.data.views import stream
from sslens.errors import InputError
from sslens.find import names, plugin
from sslens.models.arch import parse
from sslens.models.heads import BatchNorm
from sslens.models.vit import ViTArch, explicit_attention
from sslens.objectives import Moment, Rows, dino, fcmae, mae, moco_v3, msn
from sslens.objectives._schedules import warmed
from sslens.training import optim
from sslens.training.gradients import backward_whole
from sslens.training.loop import ORDER, Interrupted, Training, train

ARCH = "vit_nano_patch16_32"
PIXELS = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
IMAGES = from_arrays(PIXELS)
SETTINGS = {
    "mae": mae.Settings(decoder_dim=32, decoder_blocks=1, decoder_heads=2, base_lr=0.05, warmup=0.25),
    "moco-v3": moco_v3.Settings(head_dim=32, out_dim=16, base_lr=0.05, warmup=0.25),
    "dino": dino.Settings(
        prototypes=64, head_dim=32, out_dim=16, local_crops=2, local_size=16, momentum=0.9, base_lr=0.05, warmup=0.25
    ),
    "msn": msn.Settings(
        prototypes=64,
        head_dim=32,
        out_dim=16,
        focal_views=2,
        focal_size=16,
        momentum=0.5,
        base_lr=0.01,
        warmup=0.25,
        temperature=0.3,
        sharpening=0.5,
    ),
    "fcmae": fcmae.Settings(decoder_dim=32, base_lr=0.05, warmup=0.25),
}
#: of the objectives that train no ViT
ARCHS = {"fcmae": "convnextv2_8x16x32x64_1x1x2x1_64"}
#: 5 steps an epoch, 15 in all; checkpoints do not fall on the ends of epochs
TRAINING = Training(epochs=3, batch_size=4, precision="float32", device="cpu", save_every=4, log_every=1)
OBJECTIVES = tuple(SETTINGS)
#: FCMAE's response norms are those of the whole minibatch
DIVISIBLE = tuple(objective for objective in OBJECTIVES if objective != "fcmae")


def fit(out: Path, objective: str = "mae", images: ImageSet = IMAGES, resume: bool = False, **changed: Any) -> Path:
    settings = changed.pop("settings", SETTINGS[objective])
    arch = changed.pop("arch", ARCHS.get(objective, ARCH))
    training = dataclasses.replace(TRAINING, **changed)
    return train(objective, images, arch, out, settings=settings, training=training, resume=resume)


def log(out: Path, column: str = "loss") -> list[float]:
    """A column of the lines of steps; between them stand those of looks at the encoder, and warnings."""
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [line[column] for line in lines if "loss" in line]


def module_state(out: Path) -> dict[str, Tensor]:
    state = load_file(out / "state.safetensors")
    return {key.removeprefix("module/"): value for key, value in state.items() if key.startswith("module/")}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run of each objective that nothing happened to."""
    folder = tmp_path_factory.mktemp("whole")
    for objective in OBJECTIVES:
        fit(folder / objective, objective)
    return {objective: folder / objective for objective in OBJECTIVES}


def same(out: Path, other: Path) -> None:
    """The runs ended with the same files, but for times."""
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in other.iterdir())
    for name in ("last.safetensors", "state.safetensors"):
        one, two = load_file(out / name), load_file(other / name)
        assert one.keys() == two.keys()
        for key, value in one.items():
            assert torch.equal(value, two[key]), (name, key)
    assert (out / "last.safetensors").read_bytes() == (other / "last.safetensors").read_bytes()
    for column in ("step", "loss", "lr"):
        assert log(out, column) == log(other, column)


# ------------------------------------------------------------------------------------------------------ processes


class Signalling:
    """Images in memory; when so many have been taken, this process gets a signal."""

    def __init__(self, after: int, number: int, times: int = 1, source: Source = IMAGES.source) -> None:
        self.after, self.number, self.times, self.source = after, number, times, source

    def image(self, row: int) -> Image.Image:
        self.after -= 1
        if self.after == 0:
            for _ in range(self.times):
                signal.raise_signal(self.number)
        return self.source.image(row)

    def digests(self, rows: Sequence[int]) -> list[str]:
        return self.source.digests(rows)


def signalled(step: int, number: int, times: int = 1) -> ImageSet:
    """The same images; the signal comes in the middle of a step, counted from 1 from where the run starts."""
    return dataclasses.replace(IMAGES, source=Signalling(TRAINING.batch_size * step - 1, number, times))


# -------------------------------------------------------------------------------------------- schedule and optimiser


def test_the_learning_rate_is_scaled_warmed_up_and_falls_by_a_cosine(tmp_path: Path) -> None:
    settings = dataclasses.replace(SETTINGS["mae"], base_lr=0.064)
    fit(tmp_path, images=IMAGES.take(range(8)), settings=settings, epochs=4)
    # 0.064 · 4 / 256 = 1e-3; 8 steps, 2 of warm-up, then (1 + cos(k · 30°)) / 2
    wanted = [0, 0.5, 1, 0.9330127, 0.75, 0.5, 0.25, 0.0669873]
    np.testing.assert_allclose(log(tmp_path, "lr"), [1e-3 * share for share in wanted], rtol=1e-6, atol=0)


def test_no_warm_up_starts_at_the_top_and_a_whole_one_never_falls() -> None:
    assert warmed(0.0, warmup=0.0, peak=1.0) == 1.0
    assert [warmed(t, warmup=1.0, peak=2.0) for t in (0.0, 0.25, 0.99)] == [0.0, 0.5, 1.98]


def test_weight_decay_is_decoupled_and_left_out_where_a_group_says_so() -> None:
    decayed, free = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2))
    groups = [{"params": [decayed]}, {"params": [free], "weight_decay": 0.0}]
    optimizer = optim.adamw(groups, weight_decay=0.1, betas=(0.9, 0.95))
    optim.set_rates(optimizer, 0.01, 0.1)
    decayed.grad, free.grad = torch.full((2, 2), 3.0), torch.full((2,), -3.0)
    optimizer.step()
    # the first step of Adam is lr · sign(gradient)
    torch.testing.assert_close(decayed.data, torch.full((2, 2), 1 - 0.01 * 0.1 - 0.01))
    torch.testing.assert_close(free.data, torch.full((2,), 1 + 0.01))


def test_the_optimisers_state_goes_through_a_file_exactly(tmp_path: Path) -> None:
    def stepped(count: int, start: tuple[nn.Module, torch.optim.Optimizer]) -> tuple[nn.Module, torch.optim.Optimizer]:
        layer, optimizer = start
        optim.set_rates(optimizer, 0.01, 0.1)
        for i in range(count):
            layer(torch.arange(6.0).view(2, 3) + i).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
        return layer, optimizer

    def fresh() -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        layer = nn.Linear(3, 5)
        return layer, optim.adamw([{"params": list(layer.parameters())}], weight_decay=0.1, betas=(0.9, 0.999))

    layer, optimizer = stepped(3, fresh())
    save_file(optim.named_state(optimizer, layer), tmp_path / "state.safetensors")
    other, restored = fresh()
    other.load_state_dict(layer.state_dict())
    optim.load_named_state(restored, other, load_file(tmp_path / "state.safetensors"))
    for a, b in zip(layer.parameters(), other.parameters(), strict=True):
        assert optimizer.state[a].keys() == restored.state[b].keys() == {"step", "exp_avg", "exp_avg_sq"}
        for quantity, value in optimizer.state[a].items():
            kept = restored.state[b][quantity]
            assert (kept.dtype, kept.shape, kept.device) == (value.dtype, value.shape, value.device)
            assert torch.equal(kept, value)
    stepped(2, (layer, optimizer))
    stepped(2, (other, restored))
    assert torch.equal(layer.weight, other.weight)


# ----------------------------------------------------------------------------------------------------- a run's folder


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_run_is_four_files(whole: dict[str, Path], objective: str) -> None:
    out = whole[objective]
    assert {path.name for path in out.iterdir()} == {
        "config.yaml",
        "log.jsonl",
        "last.safetensors",
        "state.safetensors",
    }
    config = yaml.safe_load((out / "config.yaml").read_text())
    assert config["objective"] == objective
    assert config["settings"]["base_lr"] == SETTINGS[objective].base_lr
    assert config["training"] == {"epochs": 3, "batch_size": 4, "seed": 0, "precision": "float32"}
    assert config["images"] == {"name": "array", "count": 20, "digest": IMAGES.digest}
    assert log(out, "step") == list(range(1, 16))
    assert log(out, "epoch")[-1] == 3.0
    assert all(math.isfinite(loss) for loss in log(out))
    assert min(log(out, "images_per_second")) > 0


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_run_loads_as_the_encoder_that_was_trained(whole: dict[str, Path], objective: str) -> None:
    model = sslens.load(whole[objective])
    module = plugin("objectives", objective)
    torch.manual_seed(TRAINING.seed)
    name = ARCHS.get(objective, ARCH)
    trained = module.Objective(parse(name), SETTINGS[objective])
    weight = next(value for key, value in trained.encoder.named_parameters() if key.endswith("mlp.fc1.weight"))
    start = weight.clone()
    trained.load_state_dict(module_state(whole[objective]))
    assert not torch.allclose(start, weight, atol=1e-3)
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(model(x), trained.eval().encoder.forward_features(x), rtol=0, atol=1e-6)
    assert (model.name, model.about["objective"], model.about["arch"]) == (objective, objective, name)
    assert (model.about["step"], model.about["epochs"]) == (15, 3.0)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_run_is_the_steps_that_its_method_says(whole: dict[str, Path], objective: str) -> None:
    """The loop written out: what is called when, learning rate and weight decay of each step, the images of each."""
    module, settings, shape = plugin("objectives", objective), SETTINGS[objective], parse(ARCHS.get(objective, ARCH))
    torch.manual_seed(TRAINING.seed)
    method = module.Objective(shape, settings).train()
    explicit_attention(method, True)
    groups = method.parameter_groups()
    fixed = ["weight_decay" in group for group in groups]
    optimizer = torch.optim.AdamW(groups, weight_decay=settings.weight_decay, betas=settings.betas, fused=True)
    losses = []
    for step in range(15):
        at = Moment(step, 15, 5)
        rows = stream(0, step // 5, ORDER).permutation(20)[4 * (step % 5) : 4 * (step % 5) + 4]
        batch = module.batch(
            [IMAGES.image(row) for row in rows.tolist()], settings, shape, Rows(0, step, slice(0, 4), 4)
        )
        method.before_step(at)
        lr, decay = method.rates(at, settings.base_lr * 4 / 256)
        for group, own in zip(optimizer.param_groups, fixed, strict=True):
            group["lr"] = lr
            if not own:
                group["weight_decay"] = decay
        optimizer.zero_grad()
        loss = method(batch)
        loss.backward()
        method.before_update(at)
        optimizer.step()
        method.after_update(at)
        losses.append(loss.item())
    np.testing.assert_allclose(log(whole[objective]), losses, rtol=1e-6, atol=0)
    state = module_state(whole[objective])
    for name, value in method.state_dict().items():
        torch.testing.assert_close(state[name], value, rtol=0, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")


def test_every_objective_can_be_trained(whole: dict[str, Path]) -> None:
    assert set(names("objectives")) == set(whole)


def test_a_seed_decides_a_run(whole: dict[str, Path], tmp_path: Path) -> None:
    fit(tmp_path / "again")
    same(tmp_path / "again", whole["mae"])
    fit(tmp_path / "other", seed=1, epochs=1)
    assert log(tmp_path / "other")[0] != log(whole["mae"])[0]


def test_data_workers_change_nothing(whole: dict[str, Path], tmp_path: Path) -> None:
    fit(tmp_path, "moco-v3", workers=1)
    same(tmp_path, whole["moco-v3"])


def test_an_epoch_takes_every_image_once(tmp_path: Path) -> None:
    taken: list[int] = []

    class Counting(Signalling):
        def image(self, row: int) -> Image.Image:
            taken.append(row)
            return super().image(row)

    fit(tmp_path, images=dataclasses.replace(IMAGES, source=Counting(-1, 0)), epochs=2)
    first, second = taken[:20], taken[20:]
    assert sorted(first) == sorted(second) == list(range(20))
    assert first != second


def test_a_line_of_the_log_is_the_mean_since_the_last(whole: dict[str, Path], tmp_path: Path) -> None:
    fit(tmp_path, log_every=7)
    losses = log(whole["mae"])
    assert log(tmp_path, "step") == [7, 14, 15]
    np.testing.assert_allclose(log(tmp_path), [np.mean(losses[:7]), np.mean(losses[7:14]), losses[14]], rtol=1e-12)


def test_bfloat16_is_near_float32(whole: dict[str, Path], tmp_path: Path) -> None:
    fit(tmp_path, precision="bfloat16", epochs=1)
    assert load_file(tmp_path / "last.safetensors")["norm.weight"].dtype == torch.float32
    np.testing.assert_allclose(log(tmp_path)[:2], log(whole["mae"])[:2], rtol=2e-2)


def test_momentum_moves_before_the_keys_by_its_own_schedule(tmp_path: Path) -> None:
    """In step 3 of 4, at progress 1/2: θ_m ← mθ_m + (1 − m)θ, m = 1 − 0.01 (1 + cos 90°) / 2, θ being that of step 2."""
    four = IMAGES.take(range(4))
    states = []
    for step, more in ((2, 2), (3, 1)):
        images = dataclasses.replace(four, source=Signalling(4 * more, signal.SIGINT))
        with pytest.raises(Interrupted, match=f"after step {step} of 4"):
            fit(tmp_path, "moco-v3", images, resume=step > 2, epochs=4)
        states.append(module_state(tmp_path))
    before, after = states
    for name in ("projector.3.weight", "encoder.blocks.2.attn.qkv.weight"):
        wanted = 0.995 * before[f"momentum.{name}"] + 0.005 * before[f"base.{name}"]
        torch.testing.assert_close(after[f"momentum.{name}"], wanted, rtol=0, atol=3e-8)
        for other in (before[f"momentum.{name}"], 0.995 * before[f"momentum.{name}"] + 0.005 * after[f"base.{name}"]):
            assert (wanted - other).abs().max() > 1e-6
    order = stream(0, 2, ORDER).permutation(4).tolist()
    pixels = [four.image(row) for row in order]
    objective = moco_v3.Objective(ViTArch.parse(ARCH), SETTINGS["moco-v3"]).train()
    batch = moco_v3.batch(pixels, SETTINGS["moco-v3"], ViTArch.parse(ARCH), Rows(0, 2, slice(0, 4), 4))
    losses = []
    for moves in (True, False):
        objective.load_state_dict(before)
        if moves:
            objective.before_step(Moment(2, 4, 1))
        losses.append(objective(batch).item())
    assert abs(losses[0] - log(tmp_path)[2]) < 0.05 * abs(losses[1] - log(tmp_path)[2])


# ------------------------------------------------------------------------------------------------------ killed anywhere


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_killed_twice_a_run_ends_with_the_same_weights(whole: dict[str, Path], tmp_path: Path, objective: str) -> None:
    """Killed in step 3, before any checkpoint; in step 7; in step 4 + 3 of the resumed run."""
    for resume, step in ((False, 3), (True, 7), (True, 3)):
        images = signalled(step, signal.SIGKILL)
        assert forked(lambda r=resume, i=images: fit(tmp_path, objective, i, resume=r)) == [-signal.SIGKILL]
    assert log(tmp_path, "step") == [1, 2, 3, 4, 5, 6]
    fit(tmp_path, objective, resume=True)
    same(tmp_path, whole[objective])


@pytest.mark.parametrize("write", [1, 2, 3, 9])
def test_killed_in_a_write_nothing_half_written_is_left(whole: dict[str, Path], tmp_path: Path, write: int) -> None:
    """The writes: config, then state and encoder after steps 4, 8, 12 and 15. Each is cut between writing and renaming."""

    def cut() -> None:
        fsync, left = os.fsync, [write]

        def deadly(file: int) -> None:
            fsync(file)
            left[0] -= 1
            if left[0] == 0:
                signal.raise_signal(signal.SIGKILL)

        os.fsync = deadly
        fit(tmp_path)

    assert forked(cut) == [-signal.SIGKILL]
    assert list(tmp_path.glob(".*.part"))
    fit(tmp_path, resume=True)
    same(tmp_path, whole["mae"])


def test_a_line_cut_off_in_the_log_is_written_again(whole: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        fit(tmp_path, images=signalled(5, signal.SIGINT))
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 6, "ep')
    fit(tmp_path, resume=True)
    same(tmp_path, whole["mae"])


@pytest.mark.parametrize(("objective", "number"), [("mae", signal.SIGINT), ("moco-v3", signal.SIGTERM)])
def test_asked_to_stop_a_run_finishes_its_step_and_goes_on(
    whole: dict[str, Path], tmp_path: Path, objective: str, number: int
) -> None:
    before = signal.getsignal(number)
    with pytest.raises(
        Interrupted, match=r"^Stopped after step 6 of 15; the state is kept in .*: go on with --resume\.$"
    ):
        fit(tmp_path, objective, signalled(6, number))
    assert signal.getsignal(number) is before
    assert log(tmp_path, "step") == [1, 2, 3, 4, 5, 6]
    assert sslens.load(tmp_path).about["step"] == 6
    fit(tmp_path, objective, resume=True)
    same(tmp_path, whole[objective])


def test_a_second_ctrl_c_stops_at_once(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, images=signalled(6, signal.SIGINT, times=2))
    assert log(tmp_path, "step") == [1, 2, 3, 4, 5]


def test_a_finished_run_is_left_as_it_is(whole: dict[str, Path]) -> None:
    before = {path.name: path.read_bytes() for path in whole["mae"].iterdir()}
    assert fit(whole["mae"], resume=True) == whole["mae"] / "last.safetensors"
    assert {path.name: path.read_bytes() for path in whole["mae"].iterdir()} == before


# ------------------------------------------------------------------------------------ several processes, several parts


#: batch normalisation over few images magnifies rounding, so these runs have larger minibatches: 9 steps of 16
LARGER = {"images": from_arrays(np.concatenate([PIXELS, PIXELS[:, ::-1], PIXELS[:10, :, ::-1]])), "batch_size": 16}


def alike(out: Path, other: Path, atol: float) -> None:
    """The losses of every step are equal but for rounding, and so are the encoders' weights."""
    np.testing.assert_allclose(log(out), log(other), rtol=0, atol=atol)
    one, two = load_file(out / "last.safetensors"), load_file(other / "last.safetensors")
    for key, value in one.items():
        # softmax cancels the keys' bias, and MoCo-v3's batch norm the last: rounding is their gradient, which Adam makes large
        if not key.endswith("attn.qkv.bias") and key != "norm.bias":
            torch.testing.assert_close(value, two[key], rtol=0, atol=2e-4, msg=lambda text, key=key: f"{key}: {text}")


@pytest.fixture(scope="module")
def larger(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Those runs in one process."""
    folder = tmp_path_factory.mktemp("larger")
    for objective in OBJECTIVES:
        fit(folder / objective, objective, **LARGER)
    return {objective: folder / objective for objective in OBJECTIVES}


@pytest.mark.parametrize(
    ("objective", "accumulate"), [(each, 1) for each in OBJECTIVES] + [(each, 2) for each in DIVISIBLE]
)
def test_two_processes_train_as_one(larger: dict[str, Path], tmp_path: Path, objective: str, accumulate: int) -> None:
    together(lambda: fit(tmp_path, objective, accumulate=accumulate, **LARGER))
    alike(tmp_path, larger[objective], atol=1e-4)


@pytest.mark.parametrize("objective", DIVISIBLE)
def test_a_step_in_parts_is_the_step(larger: dict[str, Path], tmp_path: Path, objective: str) -> None:
    fit(tmp_path, objective, accumulate=4, **LARGER)
    alike(tmp_path, larger[objective], atol=1e-4)


def test_one_process_of_two_is_asked_to_stop_and_one_goes_on(larger: dict[str, Path], tmp_path: Path) -> None:
    def stopped() -> None:
        images: ImageSet = LARGER["images"]
        if os.environ["RANK"] == "1":  # which takes 8 of a step's 16 images
            images = dataclasses.replace(images, source=Signalling(8 * 5, signal.SIGINT, source=images.source))
        with pytest.raises(Interrupted, match="after step 5 of 9"):
            fit(tmp_path, "moco-v3", **LARGER | {"images": images})

    together(stopped)
    assert sslens.load(tmp_path).about["step"] == 5
    fit(tmp_path, "moco-v3", resume=True, **LARGER)
    alike(tmp_path, larger["moco-v3"], atol=1e-4)


@pytest.mark.parametrize("objective", ["moco-v3", "msn"])
def test_parts_in_several_processes_have_the_gradient_of_the_whole(
    monkeypatch: pytest.MonkeyPatch, objective: str
) -> None:
    monkeypatch.setattr(Tensor, "float", Tensor.double)
    module, shape, settings = plugin("objectives", objective), ViTArch.parse(ARCH), SETTINGS[objective]

    def made() -> Any:
        torch.manual_seed(0)
        return module.Objective(shape, settings).double().train()

    images = [IMAGES.image(row) for row in range(16)]
    batch = module.batch(images, settings, shape, Rows(0, 0, slice(0, 16), 16))
    batch = {name: value.double() for name, value in batch.items()}
    whole = made()
    whole(batch).backward()

    def check() -> None:
        dist.init_process_group("gloo")
        parted, start = made(), 8 * int(os.environ["RANK"])
        parts = [{name: value[at : at + 4] for name, value in batch.items()} for at in (start, start + 4)]
        backward_whole(parted, parts, contextlib.nullcontext())
        for (name, wanted), got in zip(whole.named_parameters(), parted.parameters(), strict=True):
            if wanted.grad is not None:
                torch.testing.assert_close(got.grad, wanted.grad, rtol=0, atol=1e-9, msg=name)
        dist.destroy_process_group()

    together(check)


def test_batch_norm_and_keys_are_those_of_all_processes() -> None:
    generator = torch.Generator().manual_seed(0)
    x, weight = torch.randn(8, 5, generator=generator) * 3 + 2, torch.randn(8, 5, generator=generator)

    def check() -> None:
        theirs, ours = nn.BatchNorm1d(5), BatchNorm(5)
        wanted_in, own = x.clone().requires_grad_(), slice(4 * int(os.environ["RANK"]), 4 * int(os.environ["RANK"]) + 4)
        wanted = theirs(wanted_in)
        (wanted * weight).sum().backward()
        dist.init_process_group("gloo")
        got_in = x[own].clone().requires_grad_()
        got = ours(got_in)
        (got * weight[own]).sum().backward()
        close = {"rtol": 0, "atol": 1e-5}
        torch.testing.assert_close(got, wanted[own], **close)
        torch.testing.assert_close(got_in.grad, wanted_in.grad[own], **close)
        torch.testing.assert_close(ours.running_mean, theirs.running_mean, **close)
        torch.testing.assert_close(ours.running_var, theirs.running_var, **close)
        assert torch.equal(moco_v3.gathered(x[own]), x)
        dist.destroy_process_group()

    together(check)


# ------------------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"batch_size": 21}, r"21 is more than the 20 images: give --batch-size 20 or less"),
        ({"batch_size": 9, "accumulate": 2}, r"9 cannot be shared by 1 processes in 2 parts: give a multiple of 2"),
        ({"batch_size": 0}, r"batch_size is 0: give 1 or more"),
        ({"epochs": 0}, r"epochs is 0"),
        ({"log_every": 0}, r"log_every is 0"),
        ({"save_every": -1}, r"save_every is -1: give 0 or more"),
        ({"seed": -1}, r"seed is -1"),
        ({"accumulate": 0}, r"accumulate is 0"),
        ({"precision": "bf16"}, r'no precision "bf16": '),
        ({"device": "gpu"}, r'no device "gpu"'),
        ({"device": "cuda:99"}, r'no device "cuda:99"'),
        ({"arch": "vit_nano_patch9_32"}, r"multiple of the patch size"),
        ({"arch": "nano"}, r'"nano" is not an architecture'),
        ({"arch": "resnet5"}, r"did you mean resnet50"),
        ({"arch": "resnet18_64"}, r"mae cannot train resnet18_64: it trains Vision Transformers \(such as vit_small"),
        ({"arch": "convnextv2_atto_100"}, r"images of 100 px .* Give a multiple of 32"),
        ({"objective": "fcmae", "arch": ARCH}, r"fcmae cannot train vit_nano_patch16_32: it trains ConvNeXt-V2"),
        ({"objective": "fcmae", "arch": "resnet18_64"}, r"fcmae cannot train resnet18_64: it trains ConvNeXt-V2"),
        (
            {"objective": "fcmae", "arch": "convnextv2_atto_32"},
            r"a grid of 1 × 1 patches of 32 px, of .* keeps 0: some must be seen",
        ),
        (
            {"objective": "fcmae", "accumulate": 2},
            r"fcmae on convnextv2_.* over all images of a step.* or --set responses=image\.$",
        ),
        (
            {"objective": "moco-v3", "arch": "resnet18_64", "accumulate": 2},
            r"moco-v3 on resnet18_64 normalises over all",
        ),
        (
            {"objective": "moco-v3", "arch": "convnextv2_atto"},
            r"it trains Vision Transformers .* and ResNets \(such as",
        ),
        ({"objective": "msn", "arch": "resnet18_64"}, r"msn cannot train resnet18_64"),
        (
            {"objective": "dino", "settings": dataclasses.replace(SETTINGS["dino"], optimiser="lasr")},
            r'no optimiser "lasr": did you mean lars',
        ),
        ({"settings": dataclasses.replace(SETTINGS["mae"], base_lr=-1.0)}, r"base_lr is -1.0: expected above 0"),
        ({"settings": dataclasses.replace(SETTINGS["mae"], weight_decay=math.nan)}, r"weight_decay is nan"),
        ({"settings": dataclasses.replace(SETTINGS["mae"], betas=(0.9, 1.0))}, r"betas is"),
        ({"settings": dataclasses.replace(SETTINGS["mae"], warmup=40.0)}, r"warmup is 40.0: expected a share"),
    ],
)
def test_an_impossible_run_is_refused_before_anything_is_written(
    tmp_path: Path, changed: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=said) as refused:
        fit(tmp_path / "out", **changed)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_an_unknown_objective_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="did you mean moco-v3"):
        train("moco-v2", IMAGES, ARCH, tmp_path)


def test_one_image_has_nothing_to_be_contrasted_with(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="2 or more"):
        fit(tmp_path, "moco-v3", batch_size=1)


def test_a_folder_with_a_run_is_not_overwritten(whole: dict[str, Path]) -> None:
    before = (whole["mae"] / "state.safetensors").read_bytes()
    with pytest.raises(InputError, match="already holds a run: go on with --resume, or choose another --out"):
        fit(whole["mae"])
    assert (whole["mae"] / "state.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"batch_size": 5}, r"batch_size was 4 and is now 5"),
        ({"precision": "bfloat16"}, r"precision was float32 and is now bfloat16"),
        ({"settings": dataclasses.replace(SETTINGS["mae"], mask_ratio=0.5)}, r"mask_ratio was 0.75 and is now 0.5"),
        ({"images": IMAGES.take(range(19, -1, -1))}, r"images.digest was"),
        ({"objective": "moco-v3"}, r"objective was mae and is now moco-v3"),
        ({"arch": "vit_nano_patch8_32"}, r"arch was vit_nano_patch16_32 and is now vit_nano_patch8_32"),
    ],
)
def test_a_run_does_not_go_on_with_other_settings(whole: dict[str, Path], changed: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        fit(whole["mae"], resume=True, **changed)


def copied(run: Path, out: Path, *files: str) -> Path:
    out.mkdir(exist_ok=True)
    for name in files:
        (out / name).write_bytes((run / name).read_bytes())
    return out


@pytest.mark.parametrize("length", [0, 5, 5000, -1])
def test_a_truncated_state_is_refused(whole: dict[str, Path], tmp_path: Path, length: int) -> None:
    out = copied(whole["mae"], tmp_path, "config.yaml", "log.jsonl", "last.safetensors", "state.safetensors")
    (out / "state.safetensors").write_bytes((out / "state.safetensors").read_bytes()[:length])
    with pytest.raises(InputError, match=r"state\.safetensors is not a whole safetensors file"):
        fit(out, resume=True)


def test_another_kind_of_file_is_no_state(whole: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "state.safetensors").write_bytes((whole["mae"] / "last.safetensors").read_bytes())
    with pytest.raises(InputError, match="is not the state of a run"):
        fit(tmp_path, resume=True)


@pytest.mark.parametrize("resume", [False, True])
def test_an_encoder_without_its_state_is_not_overwritten(whole: dict[str, Path], tmp_path: Path, resume: bool) -> None:
    out = copied(whole["mae"], tmp_path, "last.safetensors")
    with pytest.raises(InputError, match=r"holds a trained encoder but no state\.safetensors"):
        fit(out, resume=resume)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"The loss is (nan|inf) at step \d+ of 15: the training has diverged") as said:
        fit(tmp_path, settings=dataclasses.replace(SETTINGS["mae"], base_lr=1e25))
    assert "\n" not in str(said.value)
    assert all(math.isfinite(loss) for loss in log(tmp_path))


# --------------------------------------------------------------------------------------------------- the command line


def arguments(out: Path, *more: str) -> list[str]:
    options = (
        "--images scenes:0:32 --epochs 25 --batch-size 16 --precision float32 --device cpu --log-every 1 --save-every 7"
    )
    options += f" --arch {ARCH} --set head_dim=32 out_dim=16 base_lr=0.002 --out"
    return ["pretrain", "moco-v3", *options.split(), str(out), *more]


@contextlib.contextmanager
def command(*start: str, out: Path, step: int) -> Iterator[subprocess.Popen[str]]:
    """A process of the command line, after the log has that step."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen([sys.executable, *start], env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            while not (out / "log.jsonl").exists() or len((out / "log.jsonl").read_text().splitlines()) < step:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.05)
                    raise AssertionError(process.communicate()[1])
            yield process
        finally:
            process.kill()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed")
    assert main(arguments(out)) == 0
    return out


@pytest.mark.slow
def test_the_command_is_killed_stopped_and_goes_on_to_the_same_weights(undisturbed: Path, tmp_path: Path) -> None:
    with command("-m", "sslens", *arguments(tmp_path), out=tmp_path, step=9) as process:
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert len(log(tmp_path)) < 50
    with command("-m", "sslens", *arguments(tmp_path, "--resume"), out=tmp_path, step=20) as process:
        process.send_signal(signal.SIGINT)
        said = process.communicate()[1]
        assert process.returncode == 2, said
    assert said.strip().splitlines()[-1].startswith("sslens: Stopped after step "), said
    assert main(arguments(tmp_path, "--resume")) == 0
    same(tmp_path, undisturbed)


@pytest.mark.slow
def test_torchrun_trains_as_one_process_and_is_stopped(undisturbed: Path, tmp_path: Path) -> None:
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "sslens"]
    with command(*torchrun, *arguments(tmp_path), out=tmp_path, step=20) as process:
        process.send_signal(signal.SIGINT)
        said = process.communicate()[1]
        assert process.returncode != 0
    assert "sslens: Stopped after step " in said, said
    step = sslens.load(tmp_path).about["step"]
    assert log(tmp_path, "step") == list(range(1, step + 1))
    np.testing.assert_allclose(log(tmp_path), log(undisturbed)[:step], rtol=0, atol=1e-4)
    assert main(arguments(tmp_path, "--resume")) == 0
    alike(tmp_path, undisturbed, atol=1e-4)
