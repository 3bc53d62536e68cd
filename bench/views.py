"""Views a second: the recipes beside torchvision's pipeline on PIL images, in turn, in one run and
on one thread.

    python bench/views.py            about 1 minute

Images are decoded beforehand; an item is an image with all of its views, a normalised float32
tensor at the end. The median of the rounds' rates; a ratio is the median of the rounds' ratios, as
both run in each round.
"""

import argparse
import functools
import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from PIL import Image, ImageFilter, ImageOps
from torchvision import transforms as T

from sslens.data.imagenet import IMAGENET_MEAN, IMAGENET_STD
from sslens.data.views import RandomViews, mae_views, moco_v3_views

Images = Sequence[Image.Image]


def photographs(count: int, width: int, height: int) -> list[Image.Image]:
    """Smooth random images."""
    rng = np.random.default_rng(0)
    coarse = [
        Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)) for _ in range(count)
    ]
    return [image.resize((width, height), Image.Resampling.BICUBIC) for image in coarse]


class PILBlur:
    """MoCo-v3's blur: PIL's, of a radius uniform in 0.1–2 pixels."""

    def __call__(self, image: Image.Image) -> Image.Image:
        radius = float(torch.empty(1).uniform_(0.1, 2.0))
        return image.filter(ImageFilter.GaussianBlur(radius=radius))


def torchvision_mae(size: int) -> list[T.Compose]:
    crop = T.RandomResizedCrop(size, (0.2, 1.0), interpolation=T.InterpolationMode.BICUBIC)
    return [
        T.Compose(
            [crop, T.RandomHorizontalFlip(), T.ToTensor(), T.Normalize(IMAGENET_MEAN, IMAGENET_STD)]
        )
    ]


def torchvision_moco_v3(size: int) -> list[T.Compose]:
    start = [
        T.RandomResizedCrop(size, (0.08, 1.0)),
        T.RandomApply([T.ColorJitter(0.4, 0.4, 0.2, 0.1)], p=0.8),
        T.RandomGrayscale(p=0.2),
    ]
    end = [T.RandomHorizontalFlip(), T.ToTensor(), T.Normalize(IMAGENET_MEAN, IMAGENET_STD)]
    solarize = T.RandomApply([T.Lambda(ImageOps.solarize)], p=0.2)
    return [
        T.Compose([*start, T.RandomApply([PILBlur()], p=1.0), *end]),
        T.Compose([*start, T.RandomApply([PILBlur()], p=0.1), solarize, *end]),
    ]


def rate(work: Callable[[], object], images: int) -> float:
    start = time.perf_counter()
    work()
    return images / (time.perf_counter() - start)


def compare(
    recipe: RandomViews, peers: list[T.Compose], images: Images, rounds: int
) -> tuple[float, float, float]:
    def ours(step: int) -> object:
        return recipe.batch(
            images, seed=0, step=step, rows=slice(0, len(images)), total=len(images)
        )

    def theirs() -> object:
        return [torch.stack([peer(image) for image in images]) for peer in peers]

    ours(0), theirs()
    rates = [
        (rate(functools.partial(ours, step), len(images)), rate(theirs, len(images)))
        for step in range(rounds)
    ]
    mine, other = (statistics.median(column) for column in zip(*rates, strict=True))
    return mine, other, statistics.median(a / b for a, b in rates)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    pairs = {"mae": (mae_views, torchvision_mae), "moco-v3": (moco_v3_views, torchvision_moco_v3)}
    print("recipe   pixels  image      sslens img/s  torchvision img/s  ratio")
    for name, (ours, theirs) in pairs.items():
        for size, width, height, count in (
            (32, 32, 32, 512),
            (64, 64, 64, 256),
            (224, 300, 256, 32),
        ):
            images = photographs(count, width, height)
            mine, other, ratio = compare(ours(size), theirs(size), images, arguments.rounds)
            print(
                f"{name:8} {size:6}  {width:3}x{height:3} {mine:14.0f} {other:18.0f} {ratio:8.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
