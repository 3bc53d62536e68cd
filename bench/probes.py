"""What the papers' grid of 216 linear probes costs, trained together, one after another, and as
bare matrix products.

    python bench/probes.py  # 20,000 features of 192 dimensions, 10 classes: some minutes on 2 cores
    python bench/probes.py --batch 512
    python bench/probes.py --layers 3 --heads 2 --rounds 1
    python bench/probes.py --augment
        # random views through a ViT-Tiny: the whole grid against one head
    python bench/probes.py --device cuda --classes 1000 --dim 768 --images 100000

All three have the same data, batches and epochs (eight here, beside which setting up counts for
little). One after another is plain torch: BatchNorm1d, Linear, cross-entropy, autograd and a LARS,
a head at a time; --heads of them are timed and scaled to 216. The bare products are those of the
forward pass and of the weights' gradients, of all heads at once. Each round takes them in turn, and
a ratio is the median over rounds. Seconds are the processor's: with --threads 1 other work on the
machine counts little.

Targets: one after another 12 times as long or more; at most 1.3 of the bare products; with views
the grid at most 1.3 of one head.
"""

import argparse
import functools
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import nn

import sslens
from sslens.probes.linear.training import Augmented, Head, Held, fresh, paper_grid, train_probes
from sslens.training.optim import LARS

COLUMN = ("norm", "cls")
EPOCHS = 8


def seconds(work: Callable[[], object], device: str) -> float:
    """Processor time, which other work on the machine does not stretch; on a GPU time on the
    clock."""
    if device == "cpu":
        start = time.process_time()
        work()
        return time.process_time() - start
    torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def one_after_another(data: Held, heads: int, layers: int, device: str) -> None:
    dim = data.columns[COLUMN]
    for point in paper_grid()[:heads]:
        module = fresh(Head((COLUMN,), layers), point, dim, data.classes, 0).to(device).train()
        optimiser = LARS(
            [{"params": list(module.parameters())}], weight_decay=point.weight_decay, momentum=0.9
        )
        optimiser.param_groups[0]["lr"] = point.lr * data.batch / 256
        for epoch in range(EPOCHS):
            for features, labels in data.epoch(epoch):
                optimiser.zero_grad()
                F.cross_entropy(module(features[COLUMN].to(device)), labels.to(device)).backward()
                optimiser.step()


def products(data: Held, layers: int, device: str) -> Callable[[], None]:
    """The forward products and those of the weights' gradients, and for deeper heads those of the
    inputs' gradients."""
    dim, heads = data.columns[COLUMN], len(paper_grid())
    x = data.features[COLUMN][: data.batch].to(device)
    if layers == 1:
        weight, out = (
            torch.randn(heads * data.classes, dim, device=device),
            torch.empty(0, device=device),
        )
        out = weight @ x.T

        def linear() -> None:
            for _ in range(EPOCHS * data.steps):
                torch.mm(weight, x.T, out=out)
                torch.mm(out, x)

        return linear
    module = fresh(Head((COLUMN,), layers), paper_grid()[0], dim, data.classes, 0)
    shapes = [layer.weight.shape for layer in module if isinstance(layer, nn.Linear)]
    # four heads at a time, as memory allows
    weights = [torch.randn(4, *shape, device=device) for shape in shapes]

    def deep() -> None:
        for _ in range(EPOCHS * data.steps * heads // 4):
            inputs = [x.T.expand(4, -1, -1)]
            for weight in weights:
                inputs.append(weight @ inputs[-1])
            d = inputs.pop()
            for number, weight in reversed(list(enumerate(weights))):
                d @ inputs[number].transpose(1, 2)
                if number:
                    d = weight.transpose(1, 2) @ d

    return deep


def stored(options: argparse.Namespace) -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(options.classes, (options.images,), generator=generator)
    features = {COLUMN: torch.randn(options.images, options.dim, generator=generator)}
    data = Held(features, labels, options.classes, batch=options.batch)
    grid = [
        replace(
            point,
            warmup=1,
            epochs=EPOCHS,
            min_lr=point.min_lr + 1e-9 * (point.warmup + point.epochs),
        )
        for point in paper_grid()
    ]
    head = Head((COLUMN,), options.layers)
    heads = {
        "first weights": lambda: [
            fresh(head, point, options.dim, options.classes, 0) for point in grid
        ],
        "together": lambda: train_probes(data, [head], grid, device=options.device),
        "one after another": lambda: one_after_another(
            data, options.heads, options.layers, options.device
        ),
        "bare products": products(data, options.layers, options.device),
    }
    scale = {"one after another": len(grid) / options.heads}
    rounds: dict[str, list[float]] = {name: [] for name in heads}
    for number in range(options.rounds + 1):
        for name, work in heads.items():
            taken = seconds(work, options.device) * scale.get(name, 1.0)
            if number:
                rounds[name].append(
                    taken - (rounds["first weights"][-1] if name == "together" else 0)
                )
    print(
        f"{options.images:,} × {options.dim}, {options.classes} classes, batch {data.batch},"
        f" {EPOCHS} epochs, {len(grid)} heads of {options.layers} layers, {options.device},"
        f" {torch.get_num_threads()} threads; the first weights left out of together"
    )
    for name, taken in rounds.items():
        ratio = statistics.median(a / b for a, b in zip(taken, rounds["together"], strict=True))
        print(f"{name:<18} {statistics.median(taken):8.2f} s   {ratio:6.2f} × together")
    bare = statistics.median(
        a / b for a, b in zip(rounds["together"], rounds["bare products"], strict=True)
    )
    print(f"together / bare products: {bare:.2f}")


def views(options: argparse.Namespace) -> None:
    model, images = sslens.load(f"random:{options.arch}"), sslens.open_images("scenes:0:256")
    data = Augmented(model, images, [COLUMN], batch=options.batch or 128, device=options.device)
    grid = [
        replace(
            point, warmup=0, epochs=1, min_lr=point.min_lr + 1e-9 * (point.warmup + point.epochs)
        )
        for point in paper_grid()
    ]
    rounds: dict[int, list[float]] = {1: [], len(grid): []}
    for number in range(options.rounds + 1):
        for points, found in rounds.items():
            work = functools.partial(
                train_probes, data, [Head((COLUMN,))], grid[:points], device=options.device
            )
            taken = seconds(work, options.device)
            if number:
                found.append(taken)
    ratio = statistics.median(a / b for a, b in zip(rounds[len(grid)], rounds[1], strict=True))
    print(
        f"{options.arch}, {len(images)} views, batch {data.batch}: one head"
        f" {statistics.median(rounds[1]):.2f} s, {len(grid)} heads"
        f" {statistics.median(rounds[len(grid)]):.2f} s, ratio {ratio:.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--dim", type=int, default=192)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--layers", type=int, default=1)
    parser.add_argument(
        "--heads", type=int, default=6, help="of those one after another, that are timed"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--augment", action="store_true")
    parser.add_argument("--arch", default="vit_tiny_patch16_224")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    (views if options.augment else stored)(options)


if __name__ == "__main__":
    main()
