"""What dense probes of all blocks of a ViT cost, beside the forward pass that makes their maps.

    python bench/dense.py  # ViT-B, 100 images of 224 px, 21 classes: half an hour on one thread
    python bench/dense.py --images 400  # the size of the targets
    python bench/dense.py --images 400 --blocks 2  # a part of it: the ratios are nearly the same
    python bench/dense.py --arch vit_tiny_patch16_224 --images 40 --memory 1000
    python bench/dense.py --device cuda --images 400

The network is timm's with random weights; labels are of coloured boxes on a background, so that
there is something to learn. Every block is probed: k-NN segmentation of all images, with a memory
of --memory patches of the training images; and linear segmentation, trained on 4/5 of the images,
with the whole path of penalties, of which one is chosen on the rest. Each round takes the three in
turn. Seconds are the processor's on a CPU: with --threads 1 other work on the machine counts
little.

With fewer images than 400, the work of the forward pass and of linear probes shrinks in proportion
but for one eigendecomposition a block; k-NN's in proportion too, as long as the memory is full.

Targets: k-NN at most 1.5 × the forward pass, linear probes at most 3 ×.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import timm
import torch

from sslens.probes.dense import DenseProbe, fit_dense
from sslens.probes.dense_knn import segment_nearest
from sslens.probes.overlap import score_patches
from sslens.probes.patches import PatchLabels, count_labels
from sslens.processes import fast_products

Maps = list[torch.Tensor]


def measure(work: Callable[[], object], device: str) -> float:
    """Processor time, which other work on the machine does not stretch; on a GPU that of the
    clock."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    begin = clock()
    work()
    if device != "cpu":
        torch.cuda.synchronize()
    return clock() - begin


def paint(count: int, size: int, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images of noise with four boxes each, and their masks; a class is a colour, with noise."""
    generator = torch.Generator().manual_seed(0)
    colours = torch.rand(classes, 3, generator=generator)
    masks = torch.zeros(count, size, size, dtype=torch.int64)
    for image in range(count):
        for _ in range(4):
            label = int(torch.randint(1, classes, (1,), generator=generator))
            height, width = torch.randint(size // 10, size // 2, (2,), generator=generator).tolist()
            top, left = (
                int(torch.randint(size - extent, (1,), generator=generator))
                for extent in (height, width)
            )
            masks[image, top : top + height, left : left + width] = label
    images = colours[masks].permute(0, 3, 1, 2)
    return images + 0.3 * torch.randn(images.shape, generator=generator), masks


def run_forward(model: torch.nn.Module, images: torch.Tensor, device: str) -> Maps:
    """Maps of all blocks in float16, as they are kept."""
    parts: list[Maps] = []
    with torch.inference_mode():
        for some in images.split(25):
            layers = model.forward_intermediates(  # type: ignore[operator]
                some.to(device), intermediates_only=True, output_fmt="NCHW"
            )
            parts.append([layer.permute(0, 2, 3, 1).half().cpu() for layer in layers])
    return [torch.cat(layers) for layers in zip(*parts, strict=True)]


def search(maps: Maps, labels: PatchLabels, kept: int, options: argparse.Namespace) -> None:
    remembered = labels.take(range(kept))
    for one in maps:
        found = segment_nearest(
            one[:kept], remembered, one, memory=options.memory, device=options.device
        )
    scores = score_patches(found.predicted, labels)
    print(f"    k-NN, M = {found.memory:,}: last block's mIoU {scores.miou.value:.3f}", flush=True)


def fit(maps: Maps, labels: PatchLabels, kept: int, device: str) -> None:
    train, held = labels.take(range(kept)), labels.take(range(kept, labels.images))
    probes: list[DenseProbe] = fit_dense(
        (one[:kept] for one in maps), train, (one[kept:] for one in maps), held, device=device
    )
    gap = max(trial.gap for probe in probes for trial in probe.path)
    products = sum(trial.products for probe in probes for trial in probe.path)
    inside = sum(probe.inside for probe in probes)
    print(
        f"    linear: {products:,} products, {sum(len(probe.path) for probe in probes)} fits,"
        f" certificate {gap:.1e}, inside {inside}/{len(probes)},"
        f" held-out mIoU {', '.join(f'{probe.miou:.3f}' for probe in probes)}",
        flush=True,
    )


@fast_products()  # as a command does
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--arch", default="vit_base_patch16_224")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--classes", type=int, default=21)
    parser.add_argument("--memory", type=int, default=10_000)
    parser.add_argument("--blocks", type=int, help="of a ViT only the first so many blocks")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    cut = {} if options.blocks is None else {"depth": options.blocks}
    model = timm.create_model(options.arch, **cut).eval().to(options.device)
    images, masks = paint(options.images, options.size, options.classes)
    maps = run_forward(model, images[:2], options.device)  # once without the clock
    grid = maps[0].shape[1], maps[0].shape[2]
    counting = measure(lambda: count_labels(masks, grid, options.classes), "cpu")
    labels, kept = count_labels(masks, grid, options.classes), options.images * 4 // 5
    print(
        f"{options.arch}, {options.images} images of {options.size} px, {grid[0]} × {grid[1]}"
        f" patches, {options.classes} classes, {len(maps)} blocks, {options.device},"
        f" {torch.get_num_threads()} threads; labels counted in {counting:.2f} s",
        flush=True,
    )
    seconds: dict[str, list[float]] = {"forward": [], "k-NN": [], "linear": []}
    for _ in range(options.rounds):
        maps.clear()
        works: dict[str, Callable[[], object]] = {
            "forward": lambda: maps.extend(run_forward(model, images, options.device)),
            "k-NN": lambda: search(maps, labels, kept, options),
            "linear": lambda: fit(maps, labels, kept, options.device),
        }
        for name, work in works.items():
            seconds[name].append(measure(work, options.device))
            print(f"    {name} {seconds[name][-1]:.1f} s", flush=True)
    for name, taken in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(taken, seconds["forward"], strict=True))
        print(f"{name:<8} {statistics.median(taken):8.1f} s {ratio:6.2f} × the forward pass")


if __name__ == "__main__":
    main()
