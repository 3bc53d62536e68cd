"""What a CKA analysis costs over the bare forward passes of its models, ours and others' in turn in
one run.

    python bench/cka.py  # ViT-Tiny and ViT-Small, 48 taps each, 128 images: 8 minutes on 2 cores
    python bench/cka.py --images 32 --rounds 15 --peers pytorch-cka cka-pytorch
        # short rounds, for a busy machine
    python bench/cka.py --pair base base     # two ViT-B/16: slow
    python bench/cka.py --models 2 4 8
        # so many ViT-Tiny, all pairs: a pass a model against two a pair
    python bench/cka.py --models 8 --size base --images 128 --folder photos --rounds 1 --peers
    python bench/cka.py --memory             # peak memory of one ViT-B/16 pass with all 49 taps
    uv run --with torch-cka --with pytorch-cka --with cka-pytorch python bench/cka.py
        # with the peers beside

Weights are random, images are embedded scenes, transformed beforehand for everyone (but for the row
"end to end", which is what a user calls: decoding, transform, passes, comparison). "bare" is each
network's forward pass on each minibatch under torch.inference_mode, without a hook. "sslens" is
hooks, Grams and CKA of all pairs of taps. Each round runs every row once; a ratio is the median
over rounds of a row's time over that round's bare time, with the lowest and highest behind it.
"deconfounded" regresses the pixels' Grams out, whose pass every study makes for its controls; its
difference from sslens is of another measure.

Targets: 1.20 for Tiny and Small, 1.08 for two ViT-B/16; 1.5 GB over the bare forward pass for any
number of images.
"""

import argparse
import itertools
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.utils.data import DataLoader

import peers
import sslens
from sslens.capture import GramReducer, Grams, PassRequest, visit_taps
from sslens.capture.passes import grams
from sslens.data.decoded import Decoded
from sslens.data.images import ImageSet
from sslens.measures import measure
from sslens.measures.cka import Comparison, minibatch_cka
from sslens.models.backbone import Backbone
from sslens.plan import Plan

LAYERS = [
    f"blocks.{i}{part}" for i in range(12) for part in (".norm1", ".attn.qkv", ".mlp.fc1", "")
]


def vit(size: str, seed: int) -> Backbone:
    return sslens.load(f"random:timm/vit_{size}_patch16_224:{seed}")


def minibatches(model: Backbone, images: ImageSet, plan: Plan) -> list[Tensor]:
    row = {name: i for i, name in enumerate(images.ids)}
    return [
        torch.stack([model.transform(images.image(row[name])) for name in ids])
        for ids in plan.minibatches
    ]


def bare(models: Sequence[Backbone], batches: Sequence[Tensor]) -> None:
    for model, batch in itertools.product(models, batches):
        with torch.inference_mode():
            model(batch)


def our_grams(model: Backbone, batches: Sequence[Tensor], images: ImageSet, plan: Plan) -> Grams:
    """`sslens.grams` on minibatches that are transformed already."""
    taps = model.pick(LAYERS)
    grams = GramReducer().start(PassRequest(model, images, plan, taps, "float32"), None)
    for number, batch in enumerate(batches):
        with (
            torch.inference_mode(),
            visit_taps(model, taps, lambda tap, output: grams.add(tap, output, number)),  # noqa: B023
        ):
            model(batch)
    return grams.finish()


def ours(
    models: Sequence[Backbone], batches: Sequence[Tensor], images: ImageSet, plan: Plan
) -> Tensor:
    """One pass a model, then CKA of all pairs of models; that of the last pair is returned."""
    artefacts = [our_grams(model, batches, images, plan) for model in models]
    return torch.from_numpy(
        [minibatch_cka(a, b) for a, b in itertools.combinations(artefacts, 2)][-1]
    )


def theirs(
    peer: peers.Peer, models: Sequence[Backbone], batches: Sequence[Tensor]
) -> Callable[[], Tensor]:
    """All pairs of models by a peer, ready to run; CKA of the last pair is returned."""
    loader = DataLoader([(batch, torch.zeros(len(batch))) for batch in batches], batch_size=None)
    pairs = [peer.copies(a.network, b.network) for a, b in itertools.combinations(models, 2)]
    return lambda: [peer(a, b, LAYERS, loader) for a, b in pairs][-1]


def timed(work: Callable[[], Tensor | None]) -> tuple[float, Tensor | None]:
    """Seconds on the clock; of processor time on one thread, where other work on the machine then
    does not count."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    start = clock()
    result = work()
    return clock() - start, result


Rows = dict[str, Callable[[], Callable[[], Tensor | None]]]


def compete(rows: Rows, rounds: int) -> dict[str, tuple[list[float], Tensor | None]]:
    """Seconds of each row in each round, and its result; what a row prepares is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in rows}
    results: dict[str, Tensor | None] = {}
    for number in range(rounds):
        for name, prepare in rows.items():
            taken, results[name] = timed(prepare())
            seconds[name].append(taken)
        ratios = ", ".join(
            f"{name} {seconds[name][-1] / seconds['bare'][-1]:.3f}"
            for name in rows
            if name != "bare"
        )
        print(
            f"round {number + 1}: bare {seconds['bare'][-1]:.1f} s; {ratios}",
            file=sys.stderr,
            flush=True,
        )
    return {name: (seconds[name], results[name]) for name in rows}


def ratio(seconds: list[float], reference: list[float]) -> str:
    ratios = [a / b for a, b in zip(seconds, reference, strict=True)]
    return f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"


def pair(sizes: Sequence[str], count: int, rounds: int, chosen: Sequence[peers.Peer]) -> str:
    models = [vit(size, seed) for seed, size in enumerate(sizes)]
    images = sslens.open_images(f"scenes:0:{count}")
    plan = Plan.draw(images.ids)
    batches = minibatches(models[0], images, plan)
    a, b = (our_grams(model, batches, images, plan) for model in models)  # and warm

    def interval() -> None:
        Comparison.of(a, b).interval()

    pixels = grams(sslens.load("pixels"), images, plan=plan)  # a control that every study has

    def deconfounded() -> Tensor:
        artefacts = [our_grams(model, batches, images, plan) for model in models]
        return torch.from_numpy(measure("deconfounded-cka", *artefacts, pixels))

    def end_to_end() -> Tensor:
        return torch.from_numpy(
            minibatch_cka(*(grams(model, images, plan=plan, taps=LAYERS) for model in models))
        )

    rows: Rows = {
        "bare": lambda: lambda: bare(models, batches),
        "sslens": lambda: lambda: ours(models, batches, images, plan),
    }
    rows |= {peer.name: lambda peer=peer: theirs(peer, models, batches) for peer in chosen}
    rows |= {
        "sslens, deconfounded": lambda: deconfounded,
        "sslens, end to end": lambda: end_to_end,
        "interval alone": lambda: interval,
        "CKA alone": lambda: lambda: torch.from_numpy(minibatch_cka(a, b)),
        "deconfounded CKA alone": lambda: (
            lambda: torch.from_numpy(measure("deconfounded-cka", a, b, pixels))
        ),
    }
    measured = compete(rows, rounds)
    base, reference = measured["bare"][0], measured["sslens"][1]
    table = []
    for name, (seconds, result) in measured.items():
        apart = (
            "" if result is None or reference is None else f"{(result - reference).abs().max():.1e}"
        )
        table.append([name, f"{statistics.median(seconds):.2f}", ratio(seconds, base), apart])
    title = (
        f"{' and '.join(f'ViT-{size}' for size in sizes)}, {len(LAYERS)} taps each, {count} images,"
        f" {rounds} rounds"
    )
    header = ["", "seconds", "over bare (lowest to highest)", "largest difference from sslens"]
    return f"{title}\n\n{peers.markdown(header, table)}"


def decoded_and_compared(models: Sequence[Backbone], images: ImageSet, plan: Plan) -> Tensor:
    """What a study does: images decoded once, one pass a model, CKA of all pairs and of each model
    with itself."""
    shared = Decoded(images, models[0].transform)
    artefacts = [grams(model, images, plan=plan, taps=LAYERS, decoded=shared) for model in models]
    pairs = itertools.combinations_with_replacement(artefacts, 2)
    return torch.from_numpy([minibatch_cka(a, b) for a, b in pairs][-2])  # of the last two models


def many(
    counts: Sequence[int], size: str, images: ImageSet, rounds: int, chosen: Sequence[peers.Peer]
) -> str:
    models = [vit(size, seed) for seed in range(max(counts))]
    plan = Plan.draw(images.ids)
    batches = minibatches(models[0], images, plan)
    bare(models[:1], batches[:1])
    table = []
    for count in counts:
        some = models[:count]
        rows: Rows = {
            "bare": lambda some=some: lambda: bare(some, batches),
            "sslens": lambda some=some: lambda: ours(some, batches, images, plan),
            "sslens with decoding": lambda some=some: (
                lambda: decoded_and_compared(some, images, plan)
            ),
        }
        rows |= {p.name: lambda p=p, some=some: theirs(p, some, batches) for p in chosen}
        measured = compete(rows, rounds)
        base = measured["bare"][0]
        pairs = str(count * (count - 1) // 2)
        table.append(
            [str(count), pairs, *(ratio(measured[n][0], base) for n in rows if n != "bare")]
        )
    title = (
        f"All pairs of ViT-{size}, {len(LAYERS)} taps each, {len(images)} images of {images.name},"
        f" {rounds} rounds; over one bare pass a model"
    )
    header = ["models", "pairs", "sslens", "sslens with decoding", *(peer.name for peer in chosen)]
    return f"{title}\n\n{peers.markdown(header, table)}"


def peak(what: str, count: int) -> None:
    """Print this process's peak memory in MB after a ViT-B/16 pass."""
    model, images = vit("base", 0), sslens.open_images(f"scenes:0:{count}")
    plan = Plan.draw(images.ids)
    if what == "bare":
        for ids in plan.minibatches:
            some = images.take([images.ids.index(name) for name in ids])
            bare([model], minibatches(model, some, Plan((ids,))))
    else:
        grams(model, images, plan=plan)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)  # KiB on Linux


def memory(threads: int) -> str:
    table: list[list[str]] = []
    peaks: list[int] = []
    for what, count in (("bare", 64), ("sslens", 64), ("sslens", 512)):
        command = [sys.executable, __file__, "--peak", what, str(count), "--threads", str(threads)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        peaks.append(int(done.stdout.split()[-1]))
        table.append([what, str(count), f"{peaks[-1]:,}", f"{peaks[-1] - peaks[0]:+,}"])
    return peers.markdown(
        ["ViT-B/16, all 49 taps", "images", "peak memory, MB", "over bare"], table
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--pair", nargs=2, default=["tiny", "small"], metavar="SIZE", help="tiny, small or base"
    )
    parser.add_argument(
        "--models", type=int, nargs="+", help="all pairs of so many models, e.g. 2 4 8"
    )
    parser.add_argument(
        "--size", default="tiny", help="of the models of --models: tiny, small or base"
    )
    parser.add_argument("--folder", help="photographs for --models; generated scenes unless given")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--images", type=int, help="128; 32 with --models")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, help="those of the machine unless given")
    parser.add_argument("--peers", nargs="*", default=["torch-cka", "pytorch-cka", "cka-pytorch"])
    parser.add_argument("--peak", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    threads = peers.threads(arguments.threads)
    if arguments.peak:
        peak(arguments.peak[0], int(arguments.peak[1]))
        return
    if arguments.memory:
        print(memory(threads))
    elif arguments.models:
        count = arguments.images or 32
        images = sslens.open_images(arguments.folder or f"scenes:0:{count}", limit=count)
        print(
            many(
                arguments.models,
                arguments.size,
                images,
                arguments.rounds,
                peers.named(arguments.peers),
            )
        )
    else:
        print(
            pair(
                arguments.pair,
                arguments.images or 128,
                arguments.rounds,
                peers.named(arguments.peers),
            )
        )
    clock = "processor time" if threads == 1 else "wall time"
    print(
        f"\ntorch {torch.__version__}, {threads} threads, {clock}, load average"
        f" {os.getloadavg()[1]:.1f}"
    )


if __name__ == "__main__":
    main()
