"""What a training step and sampling of a generator cost beside diffusers' UNet2DModel of equal
size, in turn in one run.

    OMP_NUM_THREADS=1 python bench/rcdm.py --diffusers DIR                 # 32 px, 64 channels
    OMP_NUM_THREADS=1 python bench/rcdm.py --diffusers DIR --precision bfloat16

DIR is a folder with diffusers, which lies beside this environment's: pip install --no-deps --target
DIR diffusers==0.35.2. Both networks have two residual blocks a level, 1, 2 and 2 times the width,
attention at 16 and 8 places, heads as wide, 32 groups, scale-shift norms, and residual blocks that
halve and double the maps; ours also takes a representation, and has 44 convolutions for their 43,
as guided diffusion does. A training step is noise added, the
loss, its gradient, AdamW (fused in both), and the average of the weights, as `sslens.training` and
diffusers' own example of unconditional training do it (`DDPMScheduler`, `EMAModel`); our loss has
the bound beside the squared error, theirs has the error alone. Sampling is of DDIM, ours by
`Gaussian.sample` and theirs by `DDIMScheduler`, with as many steps. A share is the median over
rounds of their time over ours, with the lowest and highest; with OMP_NUM_THREADS=1 processor time
is counted.

Target: 1.0 or more.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sslens.methods import Moment
from sslens.tasks.diffusion import DRAWN, Diffusion
from sslens.tasks.diffusion_settings import Settings
from sslens.training.optim import make_optimiser, set_rates

#: width of the representation that ours takes
CONDITION = 192
LR = 1e-4
Step = Callable[[], object]


def start_off_zero(network: nn.Module) -> None:
    """Give the layers that start at zero small weights, so that both networks compute with
    numbers of the same kind."""
    for value in network.parameters():
        if not bool(value.any()):
            nn.init.normal_(value, std=0.02)


def make_ours(width: int, count: int, steps: int, bfloat16: bool) -> tuple[Step, Step, int]:
    settings = Settings(
        size=32, width=width, multipliers=(1, 2, 2), attention=(16, 8), head_width=width // 2
    )
    method = Diffusion(settings, CONDITION)
    start_off_zero(method.network)
    optimizer = make_optimiser(method.parameter_groups(), settings)
    set_rates(optimizer, LR, 0.0)
    generator = np.random.default_rng(0)
    noise, condition = torch.randn(count, 3, 32, 32), torch.randn(count, CONDITION)
    views = torch.rand(count, 3, 32, 32) * 2 - 1

    def train() -> None:
        drawn = method.process.draw(generator, count, (3, 32, 32))
        batch = {f"{DRAWN}{name}": value for name, value in drawn.items()}
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            loss = method({**batch, "view": views, "condition": condition})
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        method.after_update(Moment(50, 100, 10))

    def sample() -> Tensor:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            return method.process.sample(method.average, noise, condition, f"ddim{steps}", None)

    return train, sample, sum(value.numel() for value in method.network.parameters())


def make_theirs(width: int, count: int, steps: int, bfloat16: bool) -> tuple[Step, Step, int]:
    import diffusers
    from diffusers.training_utils import EMAModel

    network: Any = diffusers.UNet2DModel(
        sample_size=32,
        in_channels=3,
        out_channels=6,
        layers_per_block=2,
        block_out_channels=(width, 2 * width, 2 * width),
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=32,
        norm_eps=1e-5,
        resnet_time_scale_shift="scale_shift",
        downsample_type="resnet",
        upsample_type="resnet",
        attention_head_dim=width // 2,
    )
    start_off_zero(network)
    scheduler = diffusers.DDPMScheduler(1000)
    ddim = diffusers.DDIMScheduler(1000, clip_sample=True)
    ddim.set_timesteps(steps)
    optimizer = torch.optim.AdamW(network.parameters(), lr=LR, weight_decay=0.0, fused=True)
    average = EMAModel(network.parameters(), decay=0.9999)
    start = torch.randn(count, 3, 32, 32)
    views = torch.rand(count, 3, 32, 32) * 2 - 1

    def train() -> None:
        noise = torch.randn_like(views)
        times = torch.randint(0, 1000, (count,))
        noisy = scheduler.add_noise(views, noise, times)
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            predicted = network(noisy, times).sample[:, :3]
        nn.functional.mse_loss(predicted.float(), noise).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        average.step(network.parameters())

    def sample() -> Tensor:
        images = start
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            for number in ddim.timesteps:
                predicted = network(images, number).sample[:, :3]
                images = ddim.step(predicted.float(), number, images).prev_sample
        return images

    return train, sample, sum(value.numel() for value in network.parameters())


def take_turns(ours: Step, theirs: Step, rounds: int, clock: Callable[[], float]) -> str:
    """Run both in turn, and describe their time over ours; the first round does not count."""
    shares, times = [], []
    for number in range(rounds + 1):
        spent = []
        for step in (ours, theirs) if number % 2 else (theirs, ours):
            began = clock()
            step()
            spent.append(clock() - began)
        own, other = spent if number % 2 else spent[::-1]
        if number:
            shares.append(other / own)
            times.append(own)
    return (
        f"{statistics.median(shares):.2f} × ({min(shares):.2f} – {max(shares):.2f}); ours"
        f" {1000 * statistics.median(times):,.0f} ms"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--diffusers", required=True)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=5, help="of DDIM")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    given = parser.parse_args()
    sys.path.insert(0, given.diffusers)
    threads = int(os.environ.get("OMP_NUM_THREADS", "0"))
    if threads:
        torch.set_num_threads(threads)
    clock = time.process_time if threads == 1 else time.perf_counter
    torch.manual_seed(0)
    bfloat16 = given.precision == "bfloat16"
    asked = given.width, given.batch, given.steps, bfloat16
    train, sample, count = make_ours(*asked)
    their_train, their_sample, their_count = make_theirs(*asked)
    print(f"parameters: ours {count:,} (with the condition's), theirs {their_count:,}")
    print(
        f"training step, {given.precision}: {take_turns(train, their_train, given.rounds, clock)}"
    )
    print(
        f"sampling, {given.steps} steps, {given.precision}:"
        f" {take_turns(sample, their_sample, given.rounds, clock)}"
    )


if __name__ == "__main__":
    main()
