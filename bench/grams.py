"""What measures and inference on stored Grams cost, and what rounding Grams to half precision does
to them.

    python bench/grams.py
        # synthetic Grams of 49 taps over 32 minibatches of 32: 2 minutes on 2 cores
    python bench/grams.py --taps 12          # the blocks of a ViT only
    python bench/grams.py --precision
        # float16 with one scale a tap, on Grams of random ViTs: half a minute

"seconds" is on the clock and "core seconds" processor time, which other work on the machine does
not stretch; each is the median over rounds. What is made of a model once and kept (U-centring,
ranks, neighbours, roots) is a row of its own, and done before the pairs are compared.

Targets on 2 cores: two models in 2 ms, twenty (190 pairs) in 0.5 s, the intervals of all 36 pairs
of eight models in 2 s, a null of 200 permutations in 0.3 s for 12 taps and 5
s for 48.
"""

import argparse
import itertools
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

import peers
import sslens
from sslens.capture import Grams
from sslens.comparisons.nulls import compute_null, compute_nulls
from sslens.find import names, plugin
from sslens.measures import bures, neighbours, rsa, wants_pixels
from sslens.measures.cka import Comparison, all_pairs, compute_own, minibatch_cka, pack
from sslens.statistics.sampled import Sampled

MODELS, BATCHES, BATCH = 20, 32, 32
#: measures of two models' Grams alone
MEASURES = [name for name in names("measures") if not wants_pixels(name)]


def synthetic(taps: int, seed: int) -> Grams:
    """Grams of features of 64 dimensions, a part of which all models and taps share."""
    generator = torch.Generator().manual_seed(seed)
    latent = torch.randn(BATCHES * BATCH, 8, generator=torch.Generator().manual_seed(0))
    features = [
        latent @ torch.randn(8, 64, generator=generator)
        + 2 * torch.randn(len(latent), 64, generator=generator)
        for _ in range(taps)
    ]
    return Grams.of_features(features, sizes=np.full(BATCHES, BATCH))


def fresh(grams: Grams) -> Grams:
    """The same Grams, of which nothing has been made yet."""
    return replace(grams)


def seconds(work: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Median time on the clock and of the processor, after one round to warm up."""
    work()
    taken = []
    for _ in range(rounds):
        clock, processor = time.perf_counter(), time.process_time()
        work()
        taken.append((time.perf_counter() - clock, time.process_time() - processor))
    return statistics.median(t[0] for t in taken), statistics.median(t[1] for t in taken)


def cost(taps: int, rounds: int) -> str:
    """A table of what there is to compute on Grams, and how long it takes."""
    models = [synthetic(taps, seed) for seed in range(MODELS)]
    eight, (a, b, c, d) = models[:8], models[:4]
    pairs = list(itertools.combinations_with_replacement(eight, 2))

    def intervals() -> None:
        for one, other in pairs:
            Comparison.of(one, other).interval()

    work: dict[str, Callable[[], object]] = {
        "U-centring of one model, once": lambda: compute_own(fresh(a)),
        "CKA of two models": lambda: minibatch_cka(a, b),
        "CKA of two models, minibatch by minibatch": lambda: Comparison.of(a, b),
        f"CKA of {MODELS} models, all {MODELS * (MODELS - 1) // 2} pairs and each itself": lambda: (
            all_pairs(models)
        ),
        f"CKA of 8 models, {len(pairs)} pairs, with intervals": intervals,
        "null of two models, 200 permutations": lambda: compute_null(a, b),
        "nulls of 8 models, 28 pairs": lambda: compute_nulls(eight),
        "paired difference of all cells, with intervals": (
            lambda: (Sampled.of(Comparison.of(a, b)) - Sampled.of(Comparison.of(c, d))).estimate()
        ),
    }
    for name, module, made in (
        ("rsa", rsa, rsa._ranks),
        ("neighbours", neighbours, neighbours._near),
        ("bures", bures, bures._roots),
    ):
        work[f"{module.TITLE}: what is made of one model, once"] = lambda made=made: made(fresh(a))
        work[f"{module.TITLE} of two models"] = lambda name=name: plugin("measures", name).compute(
            a, b
        )
    work["debiased CKA of two models"] = lambda: plugin("measures", "debiased-cka").compute(a, b)
    for model in models:
        pack(model)
    table = []
    for row, each in work.items():
        clock, processor = seconds(each, 1 if "Bures similarity of" in row else rounds)
        table.append([row, f"{clock:.4f}", f"{processor:.4f}"])
    title = (
        f"{taps} × {taps} taps, {BATCHES} minibatches of {BATCH}, {torch.get_num_threads()}"
        f" threads, {rounds} rounds"
    )
    return f"{title}\n\n{peers.markdown(['', 'seconds', 'core seconds'], table)}"


#: float16 ends at 65,504, and below 6e-5 has fewer than 11 bits
HALF: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "float16, largest value of a tap at 1": lambda x: _scaled(x, 1.0, torch.float16),
    "float16, largest value of a tap at 2^15": lambda x: _scaled(x, 2.0**15, torch.float16),
    "float16, largest value of a minibatch at 2^15": lambda x: _scaled(
        x, 2.0**15, torch.float16, (2, 3)
    ),
    "bfloat16": lambda x: x.bfloat16().float(),
}


def _scaled(
    x: torch.Tensor, top: float, dtype: torch.dtype, over: tuple[int, ...] = (1, 2, 3)
) -> torch.Tensor:
    scale = top / x.abs().amax(over, keepdim=True)
    return (x * scale).to(dtype).float() / scale


def precision(images: int) -> str:
    """The largest change of each measure, over all pairs of taps and models, when both sides' Grams
    are rounded."""
    given = sslens.open_images(f"scenes:0:{images}")
    table = []
    for tokens in ("all", "cls"):
        made = [
            sslens.grams(sslens.load(f"random:vit_mini_patch8_32:{seed}"), given, tokens=tokens)
            for seed in (0, 1)
        ]
        pairs = list(itertools.combinations_with_replacement(made, 2))
        for form, rounded in HALF.items():
            small = [replace(grams, blocks=rounded(grams.blocks)) for grams in made]
            row = [tokens, form]
            for name in MEASURES:
                measure = plugin("measures", name).compute
                apart = [
                    np.nanmax(np.abs(measure(*exact) - measure(*less)))
                    for exact, less in zip(
                        pairs, itertools.combinations_with_replacement(small, 2), strict=True
                    )
                ]
                row.append(f"{max(apart):.1e}")
            table.append(row)
    title = (
        f"Random ViT-mini, {len(made[0].taps)} taps, {images} scenes: largest change of a value by"
        " rounding of both Grams"
    )
    return f"{title}\n\n{peers.markdown(['tokens', 'Grams as', *MEASURES], table)}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--taps", type=int, default=49)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--precision", action="store_true", help="what rounding does, in place of what things cost"
    )
    parser.add_argument("--images", type=int, default=128, help="with --precision")
    given = parser.parse_args()
    print(precision(given.images) if given.precision else cost(given.taps, given.rounds))


if __name__ == "__main__":
    main()
