"""Images a second of pre-training, ours and the authors' code in turn in one run.

    python bench/pretrain.py --mae DIR --moco-v3 DIR --dino DIR --timm DIR
        # CPU, 32 px: some minutes
    python bench/pretrain.py … --archs vit_mini_patch8_32 --threads 1 --processor-time
        # on a busy machine
    python bench/pretrain.py … --compile  # and our blocks compiled
    python bench/pretrain.py … --archs vit_small_patch16_224 vit_base_patch16_224 --peak-tflops 989
        # with a GPU

A DIR is a clone of facebookresearch/mae, /moco-v3 or /dino, which are imported from there; a method
without one is skipped. MAE and MoCo-v3 want an old timm, which lies beside this environment's: uv
pip install --no-deps --target DIR timm==0.4.9

Same machine, architecture, heads, batch, dtype and views (those of our recipe, on embedded scenes,
made beforehand). A step is what the authors' loop does: forward, loss, its value, backward,
clipping where they do, AdamW as they call it, and the momentum network by their code. Ours is what
`sslens.training` does. Both train as many parameters, which is checked. The two take turns; a ratio
is the median over rounds of their time over ours, with the lowest and highest behind it. MFU is
what torch counts of products in one step of ours over the time and the peak.
"""

import argparse
import contextlib
import importlib
import statistics
import sys
import time
import types
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from sslens.data.scene_images import scene_images
from sslens.find import plugin
from sslens.methods import Moment, Rows, call_hook
from sslens.models.blocks import Way, set_block_runs
from sslens.models.transformers import set_explicit_attention
from sslens.models.vit import ViTArch
from sslens.processes import best_device
from sslens.training.optim import make_optimiser, set_rates

Step = Callable[[], float]
LR, AT = 1e-4, Moment(step=50, steps=100, per_epoch=10)
#: heads in proportion to encoders of 128 or 192 at 32 px; at 224 px the methods' own
SMALL: Mapping[str, Mapping[str, Any]] = {
    "mae": {"decoder_dim": 128, "decoder_blocks": 2, "decoder_heads": 4},
    "moco-v3": {"head_dim": 1024},
    "dino": {"prototypes": 4096, "local_crops": 4, "local_size": 16},
}


@dataclass(frozen=True)
class Case:
    """What both train."""

    method: str
    arch: ViTArch
    settings: Any
    batch: Mapping[str, Tensor]
    device: str
    dtype: torch.dtype

    def autocast(self) -> torch.autocast:
        return torch.autocast(
            torch.device(self.device).type, self.dtype, enabled=self.dtype != torch.float32
        )


def case(method: str, arch: ViTArch, images: int, device: str, dtype: torch.dtype) -> Case:
    module = plugin("objectives", method)
    settings = module.Settings(**(SMALL[method] if arch.image_size <= 64 else {}))
    scenes = scene_images(images)
    views = module.batch(
        [scenes.image(i) for i in range(images)],
        settings,
        arch,
        Rows(0, 0, slice(0, images), images),
    )
    return Case(
        method,
        arch,
        settings,
        {name: view.to(device) for name, view in views.items()},
        device,
        dtype,
    )


def trained(modules: nn.Module) -> int:
    return sum(p.numel() for p in modules.parameters() if p.requires_grad)


def ours(c: Case, way: Way | None = None) -> tuple[Step, int]:
    """A step as the loop takes it, and how many numbers it trains."""
    method = plugin("objectives", c.method).Objective(c.arch, c.settings).to(c.device).train()
    set_explicit_attention(method, torch.device(c.device).type == "cpu")
    if way:
        set_block_runs(method, way)
    optimizer = make_optimiser(method.parameter_groups(), c.settings)

    def step() -> float:
        call_hook(method, "before_step", AT)
        set_rates(optimizer, *method.rates(AT, LR))
        with c.autocast():
            loss = method(c.batch)
        loss.backward()
        call_hook(method, "before_update", AT)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        call_hook(method, "after_update", AT)
        return float(loss)

    return step, trained(method)


# ------------------------------------------------------------------------------------------------
# the authors'


@contextlib.contextmanager
def imported_from(*folders: Path) -> Iterator[None]:
    """Import modules from these folders within the block; modules of the same names are put away
    for that time."""
    names = {
        path.stem
        for folder in folders
        for path in folder.iterdir()
        if path.suffix == ".py" or path.is_dir()
    }

    def taken() -> dict[str, types.ModuleType]:
        return {name: module for name, module in sys.modules.items() if name.split(".")[0] in names}

    before, path = taken(), list(sys.path)
    # torch has it no more, and timm and MAE of 2020–2022 import it
    six = types.ModuleType("torch._six")
    six.__dict__.update(container_abcs=importlib.import_module("collections.abc"), inf=float("inf"))
    for name in before:
        del sys.modules[name]
    sys.modules["torch._six"] = six
    np.float = float  # type: ignore[attr-defined]  # as it was in NumPy 1
    sys.path[:0] = map(str, folders)
    try:
        yield
    finally:
        sys.path[:] = path
        for name in ("torch._six", *taken()):
            del sys.modules[name]
        sys.modules.update(before)


def groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Vectors are not decayed: what timm's `add_weight_decay` and DINO's `get_params_groups` do."""
    those = [p for p in module.parameters() if p.requires_grad]
    free = [p for p in those if p.ndim <= 1]
    return [
        {"params": free, "weight_decay": 0.0},
        {"params": [p for p in those if p.ndim > 1], "weight_decay": weight_decay},
    ]


def shape(arch: ViTArch) -> dict[str, Any]:
    norm = partial(nn.LayerNorm, eps=1e-6)
    return {
        "patch_size": arch.patch_size,
        "embed_dim": arch.dim,
        "depth": arch.blocks,
        "num_heads": arch.heads,
        "norm_layer": norm,
    }


def their_mae(c: Case, code: Path, timm: Path) -> tuple[Step, int]:
    with imported_from(timm, code):
        from models_mae import MaskedAutoencoderViT
    s = c.settings
    decoder = {
        "decoder_embed_dim": s.decoder_dim,
        "decoder_depth": s.decoder_blocks,
        "decoder_num_heads": s.decoder_heads,
    }
    model = MaskedAutoencoderViT(
        img_size=c.arch.image_size, **shape(c.arch), **decoder, norm_pix_loss=s.normalise_pixels
    )
    model.to(c.device).train()
    optimizer = torch.optim.AdamW(groups(model, s.weight_decay), lr=LR, betas=s.betas)

    def step() -> float:
        with c.autocast():
            loss, _, _ = model(c.batch["view"], mask_ratio=s.mask_ratio)
        value = float(loss.item())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return value

    return step, trained(model)


def their_moco_v3(c: Case, code: Path, timm: Path) -> tuple[Step, int]:
    with imported_from(timm, code):
        from moco.builder import MoCo_ViT
        from vits import VisionTransformerMoCo
    s = c.settings
    network = partial(
        VisionTransformerMoCo,
        img_size=c.arch.image_size,
        **shape(c.arch),
        qkv_bias=True,
        stop_grad_conv1=True,
    )
    model = MoCo_ViT(network, s.out_dim, s.head_dim, s.temperature).to(c.device).train()
    optimizer = torch.optim.AdamW(model.parameters(), LR, weight_decay=s.weight_decay)

    def step() -> float:
        with c.autocast():
            loss = model(c.batch["first"], c.batch["second"], s.momentum)
        value = float(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return value

    return step, trained(model)


def their_dino(c: Case, code: Path, _timm: Path) -> tuple[Step, int]:
    with imported_from(code):
        import utils
        from main_dino import DINOLoss
        from vision_transformer import DINOHead, VisionTransformer
    s = c.settings

    def branch(drop_path: float) -> nn.Module:
        trunk = VisionTransformer(
            img_size=[c.arch.image_size], **shape(c.arch), qkv_bias=True, drop_path_rate=drop_path
        )
        head = DINOHead(c.arch.dim, s.prototypes, hidden_dim=s.head_dim, bottleneck_dim=s.out_dim)
        made: nn.Module = utils.MultiCropWrapper(trunk, head).to(c.device)
        return made

    student, teacher = branch(s.drop_path), branch(0.0)
    teacher.load_state_dict(student.state_dict())
    teacher.requires_grad_(False)
    crops = [view.contiguous() for name in ("global", "local") for view in c.batch[name].unbind(1)]
    contrast = DINOLoss(s.prototypes, len(crops), s.teacher_start, s.teacher_temperature, 0, 10).to(
        c.device
    )
    optimizer = torch.optim.AdamW(
        utils.get_params_groups(student), lr=LR, weight_decay=s.weight_decay
    )

    def step() -> float:
        with c.autocast():
            targets = teacher(crops[:2])
            loss = contrast(student(crops), targets, 1)
        value = float(loss.item())
        optimizer.zero_grad()
        loss.backward()
        utils.clip_gradients(student, s.clip)
        utils.cancel_gradients_last_layer(1, student, s.freeze_epochs)
        optimizer.step()
        with torch.no_grad():
            for param_q, param_k in zip(student.parameters(), teacher.parameters(), strict=True):
                param_k.data.mul_(s.momentum).add_((1 - s.momentum) * param_q.detach().data)
        return value

    return step, trained(student)


THEIRS: Mapping[str, Callable[[Case, Path, Path], tuple[Step, int]]] = {
    "mae": their_mae,
    "moco-v3": their_moco_v3,
    "dino": their_dino,
}


# ------------------------------------------------------------------------------------------------
# the race


def seconds(step: Step, count: int, device: str, clock: Callable[[], float]) -> float:
    """The mean seconds of a step, over `count` steps."""
    cuda = torch.device(device).type == "cuda"
    if cuda:
        torch.cuda.synchronize()
    start = clock()
    for _ in range(count):
        step()
    if cuda:
        torch.cuda.synchronize()
    return (clock() - start) / count


def race(
    steps: Mapping[str, Step], rounds: int, count: int, device: str, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Seconds a step in each round, in turn, the order turned round from one round to the next."""
    for step in steps.values():
        step(), step()
    times: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds):
        for name in list(steps)[:: 1 if number % 2 else -1]:
            times[name].append(seconds(steps[name], count, device, clock))
    return times


def products(step: Step) -> float:
    """Floating-point operations of the matrix products in a step."""
    with FlopCounterMode(display=False) as counter:
        step()
    return float(counter.get_total_flops())


def line(c: Case, times: Mapping[str, Sequence[float]], flops: float, peak: float | None) -> str:
    images = len(next(iter(c.batch.values())))
    dtype = str(c.dtype).removeprefix("torch.")
    cells = [f"{c.method:8} {c.arch.name:22} {c.arch.tokens:4} {dtype:8}"]
    for name, seconds_a_step in times.items():
        middle = statistics.median(seconds_a_step)
        ratios = sorted(
            theirs / mine for theirs, mine in zip(times["theirs"], seconds_a_step, strict=True)
        )
        against = (
            f" {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
            if name != "theirs"
            else ""
        )
        used = f" MFU {flops / middle / peak / 1e12:.1%}" if peak else ""
        cells.append(f"{name} {images / middle:,.0f}{against}{used}")
    return " | ".join(cells)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for method in THEIRS:
        parser.add_argument(
            f"--{method}", type=Path, metavar="DIR", help=f"a clone of facebookresearch/{method}"
        )
    parser.add_argument(
        "--timm", type=Path, metavar="DIR", help="where timm 0.4.9 was installed to"
    )
    parser.add_argument(
        "--archs",
        nargs="+",
        help="for CPUs 32 px in 65 and 17 tokens, with a GPU ViT-S/16 and ViT-B/16",
    )
    parser.add_argument("--dtypes", nargs="+", choices=("float32", "bfloat16"))
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=2, help="of each in a round")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--processor-time",
        action="store_true",
        help="instead of elapsed time, which other work lengthens",
    )
    parser.add_argument("--compile", action="store_true", help="ours with compiled blocks too")
    parser.add_argument("--peak-tflops", type=float, help="of the device in this dtype; gives MFU")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")  # theirs call what torch has deprecated since
    torch.set_num_threads(arguments.threads)
    device = best_device("auto")
    cuda = torch.device(device).type == "cuda"
    if not cuda:
        setattr(Tensor, "cuda", lambda self, *_, **__: self)  # noqa: B010 (MoCo-v3 moves its labels)
    dist.init_process_group(
        "nccl" if cuda else "gloo", store=dist.HashStore(), rank=0, world_size=1
    )
    archs = arguments.archs or (
        ["vit_small_patch16_224", "vit_base_patch16_224"]
        if cuda
        else ["vit_mini_patch4_32", "vit_mini_patch8_32", "vit_tiny_patch4_32"]
    )
    images = arguments.batch_size or (128 if cuda else 64)
    clock = time.process_time if arguments.processor_time else time.perf_counter
    print(
        f"{device}, {arguments.threads} threads, {images} images a step; images a second, and how"
        " many times theirs"
    )
    for method, theirs in THEIRS.items():
        code: Path | None = getattr(arguments, method.replace("-", "_"))
        if code is None or (arguments.timm is None and method != "dino"):
            print(
                f"{method}: skipped, give --{method} with a clone of its code"
                + " and --timm" * (method != "dino")
            )
            continue
        for arch in map(ViTArch.parse, archs):
            for dtype in arguments.dtypes or (["bfloat16"] if cuda else ["float32", "bfloat16"]):
                torch.manual_seed(0)
                c = case(method, arch, images, device, getattr(torch, dtype))
                (mine, our_count), (other, their_count) = ours(c), theirs(c, code, arguments.timm)
                if our_count != their_count:
                    raise SystemExit(
                        f"{method} on {arch.name}: we train {our_count} numbers, they"
                        f" {their_count}."
                    )
                steps = {"theirs": other, "ours": mine}
                if arguments.compile:
                    steps["compiled"] = ours(c, Way(compile=True))[0]
                flops = products(mine) if arguments.peak_tflops else 0.0
                times = race(steps, arguments.rounds, arguments.steps, device, clock)
                print(line(c, times, flops, arguments.peak_tflops), flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
