"""The loop: schedules by hand, runs that are killed anywhere and go on bit for bit, several
processes.

Processes are forked from the test's own, which has torch imported; those of the command line are
slow and marked so.
"""

import contextlib
import dataclasses
import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
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
from runs import (
    ARCH,
    CASES,
    DIVISIBLE,
    IMAGES,
    KINDS,
    LARGER,
    OBJECTIVES,
    SETTINGS,
    Runs,
    Signalling,
    alike,
    arch_of,
    fit,
    log,
    method_of,
    module_state,
    same,
    signalled,
)
from sslens.cli import main
from sslens.data.images import ImageSet
from sslens.data.streams import stream
from sslens.errors import Doubt, Interrupted
from sslens.find import names, plugin
from sslens.methods import Moment, Rows, WholeBatch, call_hook
from sslens.methods.labels import with_classes
from sslens.methods.schedules import warmup_cosine
from sslens.models.arch import parse
from sslens.models.heads import BatchNorm
from sslens.models.transformers import set_explicit_attention
from sslens.models.vit import ViTArch
from sslens.objectives import moco_v3
from sslens.own_files import LIST
from sslens.processes import fast_products
from sslens.training import optim
from sslens.training.folder import RunFolder
from sslens.training.gradients import backward_whole
from sslens.training.parts import ORDER
from sslens.zoo import doctor


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run of each case that nothing happened to."""
    return Runs(tmp_path_factory.mktemp("whole"))


# ------------------------------------------------------------------------------------------------
# schedule and optimiser


def test_the_learning_rate_is_scaled_warmed_up_and_falls_by_a_cosine(tmp_path: Path) -> None:
    settings = dataclasses.replace(SETTINGS["mae"], base_lr=0.064)
    fit(tmp_path, images=IMAGES.take(range(8)), settings=settings, epochs=4)
    # 0.064 · 4 / 256 = 1e-3; 8 steps, 2 of warm-up, then (1 + cos(k · 30°)) / 2
    wanted = [0, 0.5, 1, 0.9330127, 0.75, 0.5, 0.25, 0.0669873]
    np.testing.assert_allclose(
        log(tmp_path, "lr"), [1e-3 * share for share in wanted], rtol=1e-6, atol=0
    )


def test_no_warm_up_starts_at_the_top_and_a_whole_one_never_falls() -> None:
    assert warmup_cosine(0.0, warmup=0.0, peak=1.0) == 1.0
    assert [warmup_cosine(t, warmup=1.0, peak=2.0) for t in (0.0, 0.25, 0.99)] == [0.0, 0.5, 1.98]


def test_weight_decay_is_decoupled_and_left_out_where_a_group_says_so() -> None:
    decayed, free = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2))
    groups = [{"params": [decayed]}, {"params": [free], "weight_decay": 0.0}]
    optimizer = optim.make_adamw(groups, weight_decay=0.1, betas=(0.9, 0.95))
    optim.set_rates(optimizer, 0.01, 0.1)
    decayed.grad, free.grad = torch.full((2, 2), 3.0), torch.full((2,), -3.0)
    optimizer.step()
    # the first step of Adam is lr · sign(gradient)
    torch.testing.assert_close(decayed.data, torch.full((2, 2), 1 - 0.01 * 0.1 - 0.01))
    torch.testing.assert_close(free.data, torch.full((2,), 1 + 0.01))


def test_the_optimisers_state_goes_through_a_file_exactly(tmp_path: Path) -> None:
    def stepped(
        count: int, start: tuple[nn.Module, torch.optim.Optimizer]
    ) -> tuple[nn.Module, torch.optim.Optimizer]:
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
        return layer, optim.make_adamw(
            [{"params": list(layer.parameters())}], weight_decay=0.1, betas=(0.9, 0.999)
        )

    layer, optimizer = stepped(3, fresh())
    save_file(optim.name_state(optimizer, layer), tmp_path / "state.safetensors")
    other, restored = fresh()
    other.load_state_dict(layer.state_dict())
    optim.load_named_state(restored, other, load_file(tmp_path / "state.safetensors"))
    for a, b in zip(layer.parameters(), other.parameters(), strict=True):
        assert (
            optimizer.state[a].keys()
            == restored.state[b].keys()
            == {"step", "exp_avg", "exp_avg_sq"}
        )
        for quantity, value in optimizer.state[a].items():
            kept = restored.state[b][quantity]
            assert (kept.dtype, kept.shape, kept.device) == (value.dtype, value.shape, value.device)
            assert torch.equal(kept, value)
    stepped(2, (layer, optimizer))
    stepped(2, (other, restored))
    assert torch.equal(layer.weight, other.weight)


# ------------------------------------------------------------------------------------------------
# a run's folder


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_run_is_four_files_and_their_list(whole: dict[str, Path], objective: str) -> None:
    out = whole[objective]
    assert {path.name for path in out.iterdir()} == {
        "config.yaml",
        "log.jsonl",
        "last.safetensors",
        "state.safetensors",
        LIST,
    }
    config = yaml.safe_load((out / "config.yaml").read_text())
    assert config["objective"] == objective
    assert config["settings"]["base_lr"] == SETTINGS[objective].base_lr
    assert config["training"] == {"epochs": 3, "batch_size": 4, "seed": 0, "precision": "float32"}
    expected = {
        "name": "array",
        "count": 20,
        "digest": IMAGES.digest,
        "unordered": IMAGES.content,
    }
    assert config["images"] == expected
    assert log(out, "step") == list(range(1, 16))
    assert log(out, "epoch")[-1] == 3.0
    assert all(math.isfinite(loss) for loss in log(out))
    assert min(log(out, "images_per_second")) > 0


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_run_loads_as_the_encoder_that_was_trained(
    whole: dict[str, Path], objective: str
) -> None:
    model = sslens.load(whole[objective])
    trained, name = method_of(objective), arch_of(objective)
    set_explicit_attention(trained, False)
    weight = [value for value in trained.encoder.parameters() if value.ndim > 1][-1]
    start = weight.clone()
    trained.load_state_dict(module_state(whole[objective]))
    assert not torch.allclose(start, weight, atol=1e-3)
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(
            model(x), trained.eval().encoder.forward_features(x), rtol=0, atol=1e-6
        )
    assert (model.name, model.about.objective, model.about.arch) == (
        objective,
        objective,
        name,
    )
    assert (model.about.step, model.about.epochs) == (15, 3.0)


@pytest.mark.parametrize("objective", OBJECTIVES)
@fast_products()  # as the run has them
def test_a_run_is_the_steps_that_its_method_says(whole: dict[str, Path], objective: str) -> None:
    """The loop written out: what is called when, learning rate and weight decay of each step, the
    images of each."""
    module, shape = plugin("objectives", objective), parse(arch_of(objective))
    settings = with_classes(objective, SETTINGS[objective], IMAGES)
    method = method_of(objective)
    groups = method.parameter_groups()
    fixed = ["weight_decay" in group for group in groups]
    optimizer = optim.make_optimiser(groups, settings)
    losses = []
    for step in range(15):
        at = Moment(step, 15, 5)
        rows = stream(0, step // 5, ORDER).permutation(20)[4 * (step % 5) : 4 * (step % 5) + 4]
        labels = tuple(row % 3 for row in rows.tolist())
        pixels = [IMAGES.image(row) for row in rows.tolist()]
        batch = module.batch(pixels, settings, shape, Rows(0, step, slice(0, 4), 4, labels))
        call_hook(method, "before_step", at)
        lr, decay = method.rates(at, settings.base_lr * 4 / 256)
        for group, own in zip(optimizer.param_groups, fixed, strict=True):
            group["lr"] = lr
            if not own:
                group["weight_decay"] = decay
        optimizer.zero_grad()
        loss = method(batch)
        loss.backward()
        call_hook(method, "before_update", at)
        optimizer.step()
        call_hook(method, "after_update", at)
        losses.append(loss.item())
    np.testing.assert_allclose(log(whole[objective]), losses, rtol=1e-6, atol=0)
    state = module_state(whole[objective])
    for name, value in method.state_dict().items():
        torch.testing.assert_close(
            state[name], value, rtol=0, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_every_objective_is_trained_here_on_every_kind_of_network() -> None:
    trained = {(KINDS[case][0], parse(arch_of(case)).kind) for case in CASES}
    assert trained == {
        (name, kind) for name in names("objectives") for kind in plugin("objectives", name).KINDS
    }


def test_a_seed_decides_a_run(whole: dict[str, Path], tmp_path: Path) -> None:
    fit(tmp_path / "again")
    same(tmp_path / "again", whole["mae"])
    fit(tmp_path / "other", seed=1, epochs=1)
    assert log(tmp_path / "other")[0] != log(whole["mae"])[0]


def test_data_workers_change_nothing(whole: dict[str, Path], tmp_path: Path) -> None:
    fit(tmp_path, "moco-v3", workers=1)
    same(tmp_path, whole["moco-v3"])


@pytest.mark.parametrize("case", ["dino", "fcmae", "moco-v3-on-resnet"])
def test_recomputed_blocks_change_no_bit_of_a_run_that_goes_on_without_them(
    whole: dict[str, Path], tmp_path: Path, case: str
) -> None:
    with pytest.raises(Interrupted):
        fit(tmp_path, case, signalled(7, signal.SIGINT), recompute=True)
    fit(tmp_path, case, resume=True)
    same(tmp_path, whole[case])


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


def test_a_line_of_the_log_is_the_mean_since_the_last(
    whole: dict[str, Path], tmp_path: Path
) -> None:
    fit(tmp_path, log_every=7)
    losses = log(whole["mae"])
    assert log(tmp_path, "step") == [7, 14, 15]
    np.testing.assert_allclose(
        log(tmp_path), [np.mean(losses[:7]), np.mean(losses[7:14]), losses[14]], rtol=1e-12
    )
    # of a run that was stopped between two lines too: the state has the losses since the last one
    with pytest.raises(Interrupted):
        fit(tmp_path / "stopped", images=signalled(10, signal.SIGINT), log_every=7)
    fit(tmp_path / "stopped", resume=True, log_every=7)
    assert log(tmp_path / "stopped") == log(tmp_path)


def test_bfloat16_is_near_float32(whole: dict[str, Path], tmp_path: Path) -> None:
    fit(tmp_path, precision="bfloat16", epochs=1)
    assert load_file(tmp_path / "last.safetensors")["norm.weight"].dtype == torch.float32
    np.testing.assert_allclose(log(tmp_path)[:2], log(whole["mae"])[:2], rtol=2e-2)


def test_momentum_moves_before_the_keys_by_its_own_schedule(tmp_path: Path) -> None:
    """In step 3 of 4, at progress 1/2: θ_m ← mθ_m + (1 − m)θ, m = 1 − 0.01 (1 + cos 90°) / 2, θ
    being that of step 2."""
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
        for other in (
            before[f"momentum.{name}"],
            0.995 * before[f"momentum.{name}"] + 0.005 * after[f"base.{name}"],
        ):
            assert (wanted - other).abs().max() > 1e-6
    order = stream(0, 2, ORDER).permutation(4).tolist()
    pixels = [four.image(row) for row in order]
    objective = moco_v3.Objective(ViTArch.parse(ARCH), SETTINGS["moco-v3"]).train()
    batch = moco_v3.batch(
        pixels, SETTINGS["moco-v3"], ViTArch.parse(ARCH), Rows(0, 2, slice(0, 4), 4)
    )
    losses = []
    for moves in (True, False):
        objective.load_state_dict(before)
        if moves:
            objective.before_step(Moment(2, 4, 1))
        losses.append(objective(batch).item())
    assert abs(losses[0] - log(tmp_path)[2]) < 0.05 * abs(losses[1] - log(tmp_path)[2])


# ------------------------------------------------------------------------------------------------
# killed anywhere


def _marked(case: str, *more: int) -> Any:
    """CNNs take seconds."""
    return pytest.param(
        case, *more, marks=[pytest.mark.slow] if case.endswith("-on-resnet") else []
    )


@pytest.mark.parametrize("objective", [_marked(each) for each in CASES])
def test_killed_twice_a_run_ends_with_the_same_weights(
    whole: dict[str, Path], tmp_path: Path, objective: str
) -> None:
    """Killed in step 3, before any checkpoint; in step 7; in step 4 + 3 of the resumed run."""
    undisturbed = whole[objective]  # here, and not in each process, what it calls is compiled
    for resume, step in ((False, 3), (True, 7), (True, 3)):
        images = signalled(step, signal.SIGKILL)
        assert forked(lambda r=resume, i=images: fit(tmp_path, objective, i, resume=r)) == [
            -signal.SIGKILL
        ]
    assert log(tmp_path, "step") == [1, 2, 3, 4, 5, 6]
    fit(tmp_path, objective, resume=True)
    same(tmp_path, undisturbed)


@pytest.mark.parametrize("write", [1, 2, 3, 9])
def test_killed_in_a_write_nothing_half_written_is_left(
    whole: dict[str, Path], tmp_path: Path, write: int
) -> None:
    """The writes: config, then state and encoder after steps 4, 8, 12 and 15. Each is cut between
    writing and renaming."""

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


@pytest.mark.parametrize(
    ("objective", "number"), [("mae", signal.SIGINT), ("moco-v3", signal.SIGTERM)]
)
def test_asked_to_stop_a_run_finishes_its_step_and_goes_on(
    whole: dict[str, Path], tmp_path: Path, objective: str, number: int
) -> None:
    before = signal.getsignal(number)
    with pytest.raises(
        Interrupted,
        match=r"^Stopped after step 6 of 15; the state is kept in .*: go on with resume=True\.$",
    ):
        fit(tmp_path, objective, signalled(6, number))
    assert signal.getsignal(number) is before
    assert log(tmp_path, "step") == [1, 2, 3, 4, 5, 6]
    with pytest.warns(Doubt, match="is not over: it stands after epoch 1.2 of 3"):
        assert sslens.load(tmp_path).about.step == 6
    assert "is not over" in doctor.examine(tmp_path).suspicious[0]
    fit(tmp_path, objective, resume=True)
    same(tmp_path, whole[objective])
    sslens.load(tmp_path)  # and says nothing


def test_a_signal_in_the_last_save_is_reported_and_the_run_is_whole(
    whole: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """15 steps; the signal comes while the encoder of the last one is written."""
    keep, said = RunFolder.keep_encoder, list[str]()

    def signal_and_keep(folder: RunFolder, *given: Any) -> None:
        if given[3].step == 15:
            signal.raise_signal(signal.SIGTERM)
        keep(folder, *given)

    monkeypatch.setattr(RunFolder, "keep_encoder", signal_and_keep)
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        fit(tmp_path, say=said.append)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert [text for text in said if text.startswith("note")] == [
        "note      SIGTERM came in the last step: the run had ended then, and all of it is kept in"
        f" {tmp_path}"
    ]
    same(tmp_path, whole["mae"])


def test_a_second_ctrl_c_stops_at_once(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, images=signalled(6, signal.SIGINT, times=2))
    assert log(tmp_path, "step") == [1, 2, 3, 4, 5]


def test_a_finished_run_is_left_as_it_is(whole: dict[str, Path]) -> None:
    before = {path.name: path.read_bytes() for path in whole["mae"].iterdir()}
    assert fit(whole["mae"], resume=True) == whole["mae"] / "last.safetensors"
    assert {path.name: path.read_bytes() for path in whole["mae"].iterdir()} == before


# ------------------------------------------------------------------------------------ several
# processes, several parts


@pytest.fixture(scope="module")
def larger(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Those runs in one process."""
    return Runs(tmp_path_factory.mktemp("larger"), **LARGER)


def _shares(case: str) -> bool:
    """Whether processes share more than gradients: norms, keys, prototypes, a centre."""
    method = method_of(case)
    return not method.divisible or method.whole_batch or hasattr(method, "after_update")


#: in parts wherever that can be, and in one part wherever processes share more than gradients
SHARED = [case for case in CASES if _shares(case)]


def _many(case: str, parts: int) -> Any:
    """Processes that begin take seconds each: MSN shares most and DINO is in parts, the others are
    more of the same."""
    fast = (case, parts) in (("msn", 1), ("dino", 2))
    return pytest.param(case, parts, marks=[] if fast else [pytest.mark.slow])


@pytest.mark.parametrize(
    ("objective", "accumulate"),
    [_many(each, 1) for each in SHARED] + [_many(each, 2) for each in DIVISIBLE],
)
def test_two_processes_train_as_one(
    larger: dict[str, Path], tmp_path: Path, objective: str, accumulate: int
) -> None:
    one = larger[objective]
    together(lambda: fit(tmp_path, objective, accumulate=accumulate, **LARGER))
    alike(tmp_path, one, tolerance=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("case", "accumulate"), [("supervised-on-resnet", 1), ("dino", 2)])
def test_two_processes_with_recomputed_blocks_train_as_one(
    larger: dict[str, Path], tmp_path: Path, case: str, accumulate: int
) -> None:
    one = larger[case]
    together(lambda: fit(tmp_path, case, accumulate=accumulate, recompute=True, **LARGER))
    alike(tmp_path, one, tolerance=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["dino", "fcmae"])
def test_a_compiled_run_is_the_run_but_for_rounding(
    larger: dict[str, Path], tmp_path: Path, case: str
) -> None:
    """In a process of its own, since the checks of shapes that tests run with cannot be
    compiled."""
    code = (
        f"from pathlib import Path; import runs; runs.fit(Path({str(tmp_path)!r}), {case!r},"
        " compile=True, **runs.LARGER)"
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, env=environment, check=True
    )
    alike(tmp_path, larger[case], tolerance=1e-4)
    kept, wanted = (load_file(out / "state.safetensors") for out in (tmp_path, larger[case]))
    assert kept.keys() == wanted.keys()


@pytest.mark.parametrize("objective", DIVISIBLE)
def test_a_step_in_parts_is_the_step(
    larger: dict[str, Path], tmp_path: Path, objective: str
) -> None:
    fit(tmp_path, objective, accumulate=4, **LARGER)
    alike(tmp_path, larger[objective], tolerance=1e-4)


def test_one_process_of_two_is_asked_to_stop_and_one_goes_on(
    larger: dict[str, Path], tmp_path: Path
) -> None:
    def stopped() -> None:
        images: ImageSet = LARGER["images"]
        if os.environ["RANK"] == "1":  # which takes 8 of a step's 16 images
            images = dataclasses.replace(
                images, source=Signalling(8 * 5, signal.SIGINT, source=images.source)
            )
        with pytest.raises(Interrupted, match="after step 5 of 6"):
            fit(tmp_path, "moco-v3", **LARGER | {"images": images})

    together(stopped)
    with pytest.warns(Doubt, match="is not over: it stands after epoch 1.667 of 2"):
        assert sslens.load(tmp_path).about.step == 5
    fit(tmp_path, "moco-v3", resume=True, **LARGER)
    alike(tmp_path, larger["moco-v3"], tolerance=1e-4)


@pytest.mark.parametrize(
    "objective", [case for case in OBJECTIVES if isinstance(method_of(case), WholeBatch)]
)
def test_parts_in_several_processes_have_the_gradient_of_the_whole(
    monkeypatch: pytest.MonkeyPatch, objective: str
) -> None:
    monkeypatch.setattr(Tensor, "float", Tensor.double)
    module, shape = plugin("objectives", objective), parse(arch_of(objective))
    settings = with_classes(objective, SETTINGS[objective], IMAGES)

    def made() -> Any:
        torch.manual_seed(0)
        return module.Objective(shape, settings).double().train()

    images = [IMAGES.image(row) for row in range(16)]
    labels = tuple(row % 3 for row in range(16))
    batch = module.batch(images, settings, shape, Rows(0, 0, slice(0, 16), 16, labels))
    batch = {name: value.double() for name, value in batch.items()}
    whole = made()
    whole(batch).backward()

    def check() -> None:
        dist.init_process_group("gloo")
        parted, start = made(), 8 * int(os.environ["RANK"])
        parts = [
            {name: value[at : at + 4] for name, value in batch.items()} for at in (start, start + 4)
        ]
        backward_whole(parted, parts, contextlib.nullcontext())
        for (name, wanted), got in zip(whole.named_parameters(), parted.parameters(), strict=True):
            if wanted.grad is not None:
                torch.testing.assert_close(got.grad, wanted.grad, rtol=0, atol=1e-9, msg=name)
        dist.destroy_process_group()

    together(check)


def test_batch_norm_and_keys_are_those_of_all_processes() -> None:
    generator = torch.Generator().manual_seed(0)
    x, weight = (
        torch.randn(8, 5, generator=generator) * 3 + 2,
        torch.randn(8, 5, generator=generator),
    )

    def check() -> None:
        theirs, ours = nn.BatchNorm1d(5), BatchNorm(5)
        wanted_in, own = (
            x.clone().requires_grad_(),
            slice(4 * int(os.environ["RANK"]), 4 * int(os.environ["RANK"]) + 4),
        )
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
        assert torch.equal(moco_v3.gather(x[own]), x)
        dist.destroy_process_group()

    together(check)


# ------------------------------------------------------------------------------------------------
# the command line


def arguments(out: Path, *more: str) -> list[str]:
    options = (
        "--images scenes:0:32 --epochs 25 --batch-size 16 --precision float32 --device cpu"
        " --log-every 1 --save-every 7"
    )
    options += f" --arch {ARCH} --set head_dim=32 out_dim=16 base_lr=0.002 --out"
    return ["pretrain", "moco-v3", *options.split(), str(out), *more]


@contextlib.contextmanager
def command(*start: str, out: Path, step: int) -> Iterator[subprocess.Popen[str]]:
    """A process of the command line, after the log has that step."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, *start], env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            while (
                not (out / "log.jsonl").exists()
                or len((out / "log.jsonl").read_text().splitlines()) < step
            ):
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
def test_the_command_is_killed_stopped_and_goes_on_to_the_same_weights(
    undisturbed: Path, tmp_path: Path
) -> None:
    with command("-m", "sslens", *arguments(tmp_path), out=tmp_path, step=9) as process:
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert len(log(tmp_path)) < 50
    with command(
        "-m", "sslens", *arguments(tmp_path, "--resume"), out=tmp_path, step=20
    ) as process:
        process.send_signal(signal.SIGINT)
        said = process.communicate()[1]
        assert process.returncode == 2, said
    assert said.strip().splitlines()[-1].startswith("sslens: Stopped after step "), said
    assert main(arguments(tmp_path, "--resume")) == 0
    same(tmp_path, undisturbed)


@pytest.mark.slow
def test_torchrun_trains_as_one_process_and_is_stopped(undisturbed: Path, tmp_path: Path) -> None:
    torchrun = [
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "sslens",
    ]
    with command(*torchrun, *arguments(tmp_path), out=tmp_path, step=20) as process:
        process.send_signal(signal.SIGINT)
        said = process.communicate()[1]
        assert process.returncode != 0
    assert "sslens: Stopped after step " in said, said
    with pytest.warns(Doubt, match="is not over"):
        step = sslens.load(tmp_path).about.step
    assert log(tmp_path, "step") == list(range(1, step + 1))
    np.testing.assert_allclose(log(tmp_path), log(undisturbed)[:step], rtol=0, atol=1e-4)
    assert main(arguments(tmp_path, "--resume")) == 0
    alike(tmp_path, undisturbed, tolerance=3e-4)
