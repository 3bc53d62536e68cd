"""Agreement of two models' predictions at the size of ImageNet's validation set: seconds, memory,
and scipy beside.

    python bench/agreement.py                          # 10,000 images of 1,000 classes, one thread
    python bench/agreement.py --images 50000

Logits are normal numbers, half of their variance shared by both models. Times are processor time of
one thread, so that other work on the machine does not count. scipy.stats.kendalltau takes one image
at a time, over the same classes: it is timed on a few images and held against ours there, value by
value. "all of it" is tau over the top 5, 10 and 100 (of either, and of each first), F1 and error
consistency, each with the jackknife over 500 groups of images: what the analysis does for a pair of
models.

Target: tau of 10,000 × 1,000 in seconds.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import scipy.stats
import torch

from peers import markdown
from sslens.probes.agreement import Draws, Predicted, agreement
from sslens.probes.rank import Rankings, tau

KS = (5, 10, 100)
Result = TypeVar("Result")


def time_run(work: Callable[[], Result]) -> tuple[float, Result]:
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def by_scipy(a: Rankings, b: Rankings, k: int, images: int) -> list[float]:
    values = []
    for i in range(images):
        classes = np.union1d(a.top[i, :k].numpy(), b.top[i, :k].numpy())
        values.append(
            scipy.stats.kendalltau(
                a.logits[i].numpy()[classes], b.logits[i].numpy()[classes]
            ).statistic
        )
    return values


def peak() -> float:
    """The most memory held since the last call, in MB."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # forget the peak
    return (
        int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])
        / 2**10
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--classes", type=int, default=1_000)
    parser.add_argument("--scipy", type=int, default=200, help="images that scipy takes")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    shared, *own = (
        torch.randn(arguments.images, arguments.classes, generator=generator) for _ in range(3)
    )
    labels = shared.argmax(1).numpy()
    logits = [shared + noise for noise in own]
    del shared, own
    rows = []
    peak()
    begin = peak()
    seconds, (a, b) = time_run(lambda: [Rankings.of(scores, max(KS)) for scores in logits])
    rows.append(["top 100 of both", f"{seconds:.2f}", "", "", ""])
    for k in KS:
        seconds, values = time_run(lambda k=k: tau(a, b, k))
        theirs, expected = time_run(lambda k=k: by_scipy(a, b, k, arguments.scipy))
        apart = np.abs(values[: arguments.scipy] - expected).max()
        scaled = theirs * arguments.images / arguments.scipy
        rows.append(
            [
                f"tau, top {k}",
                f"{seconds:.2f}",
                f"{scaled:.0f}",
                f"{scaled / seconds:.0f}",
                f"{apart:.1e}",
            ]
        )
    tau_peak = peak()
    seconds, draws = time_run(lambda: Draws.of(arguments.images))
    rows.append(["1,000 draws of images, once for all pairs", f"{seconds:.2f}", "", "", ""])
    one, other = (Predicted.of(scores, labels, max(KS)) for scores in logits)
    seconds, _ = time_run(lambda: agreement(one, other, KS, draws))
    rows.append(["all of it", f"{seconds:.2f}", "", "", ""])
    header = [
        "",
        "seconds",
        "scipy, scaled up",
        "ratio",
        f"largest difference on {arguments.scipy}",
    ]
    print(
        f"{arguments.images:,} images of {arguments.classes:,} classes, one"
        f" thread\n\n{markdown(header, rows)}\n"
    )
    print(
        f"peak memory over the logits: tau {tau_peak - begin:.0f} MB, all of it"
        f" {peak() - begin:.0f} MB"
    )


if __name__ == "__main__":
    main()
