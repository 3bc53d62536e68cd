"""Images a second of fine-tuning, ours and MAE's code in turn in one run.

    python bench/finetune.py --mae DIR --timm DIR                                     # CPU, 32 px:
    some minutes python bench/finetune.py --mae DIR --timm DIR --processor-time                    #
    on a busy machine python bench/finetune.py --mae DIR --timm DIR --archs vit_base_patch16_224
    --images 64 --dtype bfloat16      # with a GPU

DIR of --mae is a clone of facebookresearch/mae; it wants an old timm, which lies beside this
environment's: uv pip install --no-deps --target DIR timm==0.4.9

Two things are measured, which data workers do at the same time. A step: mixed images, forward,
loss, its value, backward, AdamW in groups by layer; theirs as `engine_finetune` does it (timm's
Mixup on the device, soft targets), ours as the loop does, which gets its images mixed from the data
workers. And the views of one core: crop, flip, RandAugment and erasing of embedded scenes, theirs
by their `build_transform`, ours with the mixing. They take turns; a ratio is the median over rounds
of their time over ours, with the lowest and highest behind it.
"""

import argparse
import itertools
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from PIL import ImageOps
from timm.data import Mixup, auto_augment  # the old one knows only GPUs
from timm.loss import SoftTargetCrossEntropy
from torch import nn

import sslens
from pretrain import imported_from
from sslens.data.classification import posterize
from sslens.data.scene_images import scene_images
from sslens.methods import Moment, Rows, call_hook
from sslens.models.backbone import Backbone
from sslens.models.transformers import set_explicit_attention
from sslens.models.vit import ViTArch
from sslens.processes import best_device
from sslens.tasks.classification import FineTuning, Settings, batch
from sslens.tasks.start import StartingPoint
from sslens.training.optim import make_optimiser, set_rates

Step = Callable[[], object]
CLASSES = 1000
SETTINGS = Settings(classes=tuple(map(str, range(CLASSES))))
LR, AT = 1e-3, Moment(step=50, steps=100, per_epoch=10)


def ours(model: Backbone, images: int, device: str, dtype: torch.dtype) -> tuple[Step, Step]:
    """A step, and the views of one."""
    start, scenes = StartingPoint.of(model), scene_images(images)
    pixels = [scenes.image(i) for i in range(images)]
    rows = Rows(0, 0, slice(0, images), images, tuple(range(images)))
    part = {name: value.to(device) for name, value in batch(pixels, SETTINGS, start, rows).items()}
    method = FineTuning(model, SETTINGS).to(device).train()
    set_explicit_attention(method, torch.device(device).type == "cpu")
    optimizer = make_optimiser(method.parameter_groups(), SETTINGS)

    def step() -> float:
        call_hook(method, "before_step", AT)
        set_rates(optimizer, *method.rates(AT, LR))
        with torch.autocast(torch.device(device).type, dtype, enabled=dtype != torch.float32):
            loss = method(part)
        loss.backward()
        call_hook(method, "before_update", AT)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        call_hook(method, "after_update", AT)
        return float(loss.detach())

    steps = itertools.count()  # views are drawn anew each time, as theirs are

    def views() -> object:
        return batch(pixels, SETTINGS, start, replace(rows, step=next(steps)))

    return step, views


def theirs(
    model: Backbone, images: int, device: str, dtype: torch.dtype, code: Path, timm: Path
) -> tuple[Step, Step]:
    """The same by MAE's modules and by the timm that they want."""
    with imported_from(timm, code):
        from models_vit import VisionTransformer
        from util.lr_decay import param_groups_lrd
        from util.lr_sched import adjust_learning_rate
    with imported_from(code):
        from util.datasets import build_transform
    # timm asks for posterisation to 0 bits, which Pillow refuses
    auto_augment.ImageOps = SimpleNamespace(**vars(ImageOps) | {"posterize": posterize})
    arch = ViTArch.parse(str(model.about.arch))
    net = VisionTransformer(
        global_pool=True,
        img_size=arch.image_size,
        patch_size=arch.patch_size,
        embed_dim=arch.dim,
        depth=arch.blocks,
        num_heads=arch.heads,
        qkv_bias=True,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        num_classes=CLASSES,
        drop_path_rate=SETTINGS.drop_path,
    )
    net.to(device).train()
    groups = param_groups_lrd(
        net,
        SETTINGS.weight_decay,
        no_weight_decay_list=net.no_weight_decay(),
        layer_decay=SETTINGS.layer_decay,
    )
    optimizer = torch.optim.AdamW(groups, lr=LR)
    mix = Mixup(
        mixup_alpha=SETTINGS.mixup,
        cutmix_alpha=SETTINGS.cutmix,
        label_smoothing=SETTINGS.smoothing,
        num_classes=CLASSES,
    )
    criterion = SoftTargetCrossEntropy()
    how = SimpleNamespace(lr=LR, min_lr=1e-6, warmup_epochs=5, epochs=10)
    samples, targets = (
        torch.randn(images, 3, arch.image_size, arch.image_size),
        torch.arange(images),
    )

    def step() -> float:
        adjust_learning_rate(optimizer, 5.0, how)
        x, y = (each.to(device, non_blocking=True).clone() for each in (samples, targets))
        x, y = mix(x, y)
        with torch.autocast(torch.device(device).type, dtype, enabled=dtype != torch.float32):
            loss = criterion(net(x), y)
        value = float(loss.item())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return value

    scenes = scene_images(images)
    pixels = [scenes.image(i) for i in range(images)]
    view = build_transform(
        True,
        SimpleNamespace(
            input_size=arch.image_size,
            color_jitter=None,
            aa="rand-m9-mstd0.5-inc1",
            reprob=0.25,
            remode="pixel",
            recount=1,
        ),
    )
    return step, lambda: torch.stack([view(image) for image in pixels])


def in_turn(
    one: Step, other: Step, rounds: int, seconds: float, clock: Callable[[], float]
) -> tuple[list[float], list[float]]:
    """Seconds of a call of each, a round after another, each for so long."""

    def timed(call: Step) -> float:
        began, count = clock(), 0
        while clock() - began < seconds:
            call()
            count += 1
        return (clock() - began) / count

    for call in (one, other):
        call()
    pairs = [
        (timed(one), timed(other)) if i % 2 else tuple(reversed((timed(other), timed(one))))
        for i in range(rounds)
    ]
    return [a for a, _ in pairs], [b for _, b in pairs]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mae", type=Path, required=True)
    parser.add_argument("--timm", type=Path, required=True)
    parser.add_argument("--archs", nargs="+", default=["vit_tiny_patch4_32"])
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument(
        "--processor-time", action="store_true", help="instead of the clock: on a busy machine"
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    given = parser.parse_args()
    device, dtype = best_device(given.device), getattr(torch, given.dtype)
    torch.set_num_threads(1 if device == "cpu" else torch.get_num_threads())
    np.random.seed(0)
    for name in given.archs:
        model = sslens.load(f"random:{name}:0")
        mine = ours(model, given.images, device, dtype)
        other = theirs(model, given.images, device, dtype, given.mae, given.timm)
        for what, a, b in zip(("a step", "its views"), mine, other, strict=True):
            t, u = in_turn(
                a,
                b,
                given.rounds,
                given.seconds,
                time.process_time if given.processor_time else time.perf_counter,
            )
            ratios = sorted(y / x for x, y in zip(t, u, strict=True))
            rates = [given.images / statistics.median(each) for each in (t, u)]
            print(
                f"{name}, {given.images} images, {given.dtype} on {device}, {what}: ours"
                f" {rates[0]:,.0f} img/s, MAE's {rates[1]:,.0f}; ratio"
                f" {statistics.median(ratios):.2f} ({ratios[0]:.2f}–{ratios[-1]:.2f})"
            )


if __name__ == "__main__":
    main()
