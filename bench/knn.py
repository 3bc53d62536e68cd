"""What exact k-NN costs beside its peers and over the bare matrix product, each in turn in one run.

    python bench/knn.py  # 10,000 queries among 50,000 × 768, k = 20, as in the papers
    python bench/knn.py --queries 2048 --rounds 5        # short rounds, for a busy machine
    python bench/knn.py --device cuda
    uv run --with faiss-cpu --with scikit-learn python bench/knn.py        # with the peers beside

Features are random, so that no structure helps anyone. "product" is the cosines alone, NumPy's and
torch's, written into memory that is kept, with nothing chosen from them; "sslens" is from raw
features to sorted neighbours, "standardised" with each dimension standardised before; "dino" is the
loop of its evaluation (a hundredth of its 10,000 queries at a time, similarity.topk), "faiss"
IndexFlatIP, "scikit-learn" NearestNeighbors by brute force, all on unit features. Each round runs
every row once; a share is the median over rounds of the best product's time over a row's, with the
lowest and highest. With OMP_NUM_THREADS=1 processor time is counted, in which other work on the
machine has little part. Neighbours are compared as sets: the share of queries with exactly the same
k rows (float32 rounds the cosines of two rows apart).

Targets: within 1.1 of the best peer, 0.9 of the bare product.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from sslens.probes.knn import neighbours, standardise

Search = Callable[[], np.ndarray | None]


def rows_of(queries: Tensor, bank: Tensor, k: int, device: str) -> dict[str, Search]:
    """What is timed, by name; what prepares an index is part of it."""
    unit_queries, unit_bank = (torch.nn.functional.normalize(x, dim=1) for x in (queries, bank))
    searches: dict[str, Search] = {}

    room = unit_queries.new_empty(min(1024, len(queries)), len(bank))

    def torch_product() -> None:
        for part in unit_queries.split(1024):
            torch.mm(part, unit_bank.T, out=room[: len(part)])
        if device != "cpu":
            torch.cuda.synchronize()

    def numpy_product() -> None:
        for part in unit_queries.split(1024):
            np.matmul(part.numpy(), unit_bank.numpy().T, out=room[: len(part)].numpy())

    def standardised() -> None:  # other neighbours, which are not compared
        neighbours(*standardise(queries, bank), k)

    def dino() -> np.ndarray:
        return (
            torch.cat(
                [(part @ unit_bank.T).topk(k, dim=1).indices for part in unit_queries.split(100)]
            )
            .cpu()
            .numpy()
        )

    searches["product (torch)"] = torch_product
    if device == "cpu":
        searches["product (NumPy)"] = numpy_product
    searches["sslens"] = lambda: neighbours(queries, bank, k)[0].numpy()
    searches["sslens, standardised"] = standardised
    searches["dino"] = dino
    if device == "cpu":
        searches |= _peers(unit_queries.numpy(), unit_bank.numpy(), k)
    return searches


def _peers(queries: np.ndarray, bank: np.ndarray, k: int) -> dict[str, Search]:
    searches: dict[str, Search] = {}
    try:
        import faiss

        def flat() -> np.ndarray:
            index = faiss.IndexFlatIP(bank.shape[1])
            index.add(bank)
            return np.asarray(index.search(queries, k)[1])

        searches["faiss"] = flat
    except ImportError:
        print("faiss is not installed and left out: uv run --with faiss-cpu …", file=sys.stderr)
    try:
        from sklearn.neighbors import NearestNeighbors

        searches["scikit-learn"] = lambda: np.asarray(
            NearestNeighbors(n_neighbors=k, algorithm="brute")
            .fit(bank)
            .kneighbors(queries, return_distance=False)
        )
    except ImportError:
        print(
            "scikit-learn is not installed and left out: uv run --with scikit-learn …",
            file=sys.stderr,
        )
    return searches


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, value in (
        ("bank", 50_000),
        ("queries", 10_000),
        ("dim", 768),
        ("k", 20),
        ("rounds", 3),
    ):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    generator = torch.Generator().manual_seed(0)
    bank, queries = (
        torch.randn(n, arguments.dim, generator=generator).to(arguments.device)
        for n in (arguments.bank, arguments.queries)
    )
    searches = rows_of(queries, bank, arguments.k, arguments.device)
    seconds: dict[str, list[float]] = {name: [] for name in searches}
    results: dict[str, np.ndarray] = {}
    for name, search in searches.items():  # once without the clock, on a part: threads and pages
        (
            search()
            if arguments.device != "cpu"
            else rows_of(queries[:256], bank, arguments.k, arguments.device)[name]()
        )
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    for number in range(arguments.rounds):
        for name, search in searches.items():
            start = clock()
            result = search()
            seconds[name].append(clock() - start)
            if result is not None:
                results[name] = np.sort(result, 1)
        line = ", ".join(f"{name} {taken[-1]:.3f}" for name, taken in seconds.items())
        print(f"round {number + 1}: {line} s", file=sys.stderr, flush=True)
    floor = [
        min(times)
        for times in zip(
            *(taken for name, taken in seconds.items() if "product" in name), strict=True
        )
    ]
    print("| | seconds | share of the product | same neighbours as sslens |\n|---|---|---|---|")
    for name, taken in seconds.items():
        shares = [a / b for a, b in zip(floor, taken, strict=True)]
        same = (
            f"{(results[name] == results['sslens']).all(1).mean():.2%}" if name in results else ""
        )
        spread = f"{statistics.median(shares):.2f} ({min(shares):.2f} to {max(shares):.2f})"
        print(f"| {name} | {statistics.median(taken):.3f} | {spread} | {same} |")


if __name__ == "__main__":
    main()
