"""How fast a path streams through checkpoints that are not in memory, beside reading the files and
doing nothing with them.

    python bench/path.py
        # 40 checkpoints of a ViT-B, 14 GB, written into a folder and deleted after
    python bench/path.py --checkpoints 100 --rounds 1
    python bench/path.py --folder run/checkpoints     # of your own, which are left as they are

"read" goes through the system's cache, as `cat` does; "read past the cache" straight from the disk
into the same 16 MB. Before each the files are forgotten by the system. Each round takes them in
turn; a ratio is the median over rounds.

Target: the disk's speed.
"""

import argparse
import mmap
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file

from sslens.paths.order import sort_by_number
from sslens.paths.path import measure_path

PIECE = 1 << 24


def written(folder: Path, arch: str, checkpoints: int) -> None:
    """A walk from the network's first weights, small steps every way."""
    generator = torch.Generator().manual_seed(0)
    weights = {
        name: value.contiguous() for name, value in timm.create_model(arch).state_dict().items()
    }
    for number in range(checkpoints):
        for value in weights.values():
            value.add_(torch.empty_like(value).uniform_(-1, 1, generator=generator), alpha=1e-3)
        save_file(weights, folder / f"epoch{number}.safetensors")


def forget(paths: Sequence[Path]) -> None:
    """Have the system put the files out of its memory."""
    for path in paths:
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read(paths: Sequence[Path], flags: int) -> None:
    """Read the files into the same memory."""
    room = mmap.mmap(-1, PIECE)
    for path in paths:
        file = os.open(path, os.O_RDONLY | flags)
        at = 0
        while count := os.preadv(file, [room], at):
            at += count
        os.close(file)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoints", type=int, default=40)
    parser.add_argument("--arch", default="vit_base_patch16_224")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--scratch", type=Path, help="where the folder is written")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.scratch) as scratch:
        if given.folder is None:
            written(Path(scratch), given.arch, given.checkpoints)
        paths = sort_by_number([*(given.folder or Path(scratch)).glob("*.safetensors")])
        size = sum(path.stat().st_size for path in paths) / 1e9
        ways: dict[str, Callable[[], object]] = {
            "sslens path": lambda: measure_path(paths),
            "read": lambda: read(paths, 0),
            "read past the cache": lambda: read(paths, os.O_DIRECT),
        }
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(given.rounds):
            for name, way in ways.items():
                forget(paths)
                start = time.perf_counter()
                way()
                seconds[name].append(time.perf_counter() - start)
        seconds["sslens path, in memory"] = []
        few = paths[: max(5, len(paths) // 8)]
        read(few, 0)
        for _ in range(given.rounds + 1):
            start = time.perf_counter()
            measure_path(few)
            seconds["sslens path, in memory"].append(
                (time.perf_counter() - start) * len(paths) / len(few)
            )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(
        f"{len(paths)} checkpoints, {size:.1f} GB; at most {peak:.1f} GB of memory, files that are"
        " mapped with it"
    )
    for name, taken in seconds.items():
        ratio = statistics.median(
            a / b for a, b in zip(seconds["sslens path"], taken, strict=False)
        )
        middle = statistics.median(taken)
        print(
            f"{name:<24} {middle:7.1f} s   {size / middle:5.2f} GB/s   sslens path takes"
            f" {ratio:.2f} of it"
        )


if __name__ == "__main__":
    main()
