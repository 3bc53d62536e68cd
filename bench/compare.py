"""What a default `sslens compare` costs over its own bare passes, section by section, in seconds of
processor time.

    export OMP_NUM_THREADS=1
    python bench/compare.py --images photos           # ViT-S/32, 1,024 photographs: some minutes
    python bench/compare.py --images photos --arch vit_small_patch16_224 --limit 256
    python bench/compare.py --images photos --scaled vit_small_patch16_224

The command runs in this process, with a store of its own, and every section counts what it spends
outside of other sections. Bare is forward passes, decoding and normalising, of models and controls.
With one thread all but decoding runs in the main thread, so that sections count that thread's time;
decoding is what the other threads take. `--scaled` runs the passes of another architecture too, on
`--count` images, and scales them to all images and networks: what is left of a `compare` does not
depend on the size of its patches. With `--keep` a run that was stopped goes on, and counts what is
not in its store yet; a ratio needs the passes, its own or scaled ones. Weights are random. Target:
1.3.
"""

import argparse
import contextlib
import functools
import importlib
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

BARE, DECODING, GRAMS, FEATURES = "forward, normalising", "decoding", "Grams", "features"
#: places whose time is told apart: module, name in it, section; an empty one is that of the
#: analysis which is the first argument
PLACES = (
    ("sslens.capture.passes", "run_pass", BARE),
    ("sslens.capture.gram_reducers", "GramAccumulator.add", GRAMS),
    ("sslens.capture.gram_reducers", "GramAccumulator.finish", GRAMS),
    ("sslens.capture.kept", "Filer.add", FEATURES),
    ("sslens.capture.kept", "Filer.finish", FEATURES),
    ("sslens.study.running", "compute_results", ""),
    ("sslens.study.running", "prepare", "loading, planning"),
    ("sslens.study.running", "gather", "reading Grams and features"),
    ("sslens.study.running", "make_first_screen", "words, verdicts"),
    ("sslens.study.running", "_section", "drawing"),
    ("sslens.study.result", "Result.save", "page, tables as files"),
)


class Sections:
    """Seconds of the main thread by section, each without the sections within it."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._names = ["imports, the rest"]
        self._since = time.thread_time()

    @contextlib.contextmanager
    def section(self, name: str) -> Iterator[None]:
        """Count what the block spends as another section."""
        self.stop()
        self._names.append(name)
        try:
            yield
        finally:
            self.stop()
            self._names.pop()

    def stop(self) -> None:
        """Count what was spent since the last change of sections."""
        now = time.thread_time()
        self.seconds[self._names[-1]] += now - self._since
        self._since = now

    def watch(self, module: str, name: str, section: str) -> None:
        """Count a function, or a method of a class, as a section."""
        holder: Any = importlib.import_module(module)
        *outer, last = name.split(".")
        for part in outer:
            holder = getattr(holder, part)
        function: Callable[..., Any] = getattr(holder, last)

        @functools.wraps(function)
        def counted(*given: Any, **options: Any) -> Any:
            with self.section(section or str(given[0])):
                return function(*given, **options)

        setattr(holder, last, counted)


def compare(sections: Sections, arch: str, images: Path, limit: int, out: Path) -> None:
    """Run the command on three random networks."""
    from sslens.cli import main

    models = [f"random:{arch}:{seed}" for seed in (1, 2, 3)]
    asked = ["--images", str(images), "--limit", str(limit), "--device", "cpu", "--out", str(out)]
    if main(["compare", *models, *asked]):
        raise SystemExit("The command failed.")
    sections.stop()


def scale(sections: Sections, arch: str, images: Path, count: int, whole: int) -> dict[str, float]:
    """The sections of the passes of one network over some images, scaled to four over all."""
    import sslens
    from sslens.capture import FeatureReducer, GramReducer, Reducer, collect
    from sslens.store import Store

    model, given = sslens.load(f"random:{arch}:1"), sslens.open_images(str(images), limit=count)
    before, others = dict(sections.seconds), find_others()
    reducers: list[Reducer[Any]] = [GramReducer(), GramReducer("cls"), FeatureReducer()]
    with tempfile.TemporaryDirectory() as folder:
        collect(model, given, reducers, store=Store(Path(folder)))
    sections.stop()
    found = {
        name: sections.seconds[name] - before.get(name, 0.0) for name in (BARE, GRAMS, FEATURES)
    }
    found[DECODING] = find_others() - others
    times = {name: 4 * whole / len(given) for name in (BARE, GRAMS, FEATURES)}
    times[DECODING] = whole / len(given)  # images are decoded once for all
    return {name: times[name] * seconds for name, seconds in found.items()}


def find_others() -> float:
    """Seconds of all threads but this one."""
    return time.process_time() - time.thread_time()


def describe(seconds: dict[str, float]) -> str:
    """The table, with all over the bare passes."""
    rows = [f"{name:<28} {own:8.1f} s" for name, own in seconds.items()]
    whole = sum(seconds.values())
    rows.append(f"{'all':<28} {whole:8.1f} s")
    if BARE in seconds:
        rows.append(f"all / bare: {whole / (seconds[BARE] + seconds[DECODING]):.3f}")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--arch", default="vit_small_patch32_224")
    parser.add_argument("--limit", type=int, default=1024)
    parser.add_argument("--scaled", help="an architecture, whose passes are scaled")
    parser.add_argument("--count", type=int, default=96, help="with --scaled, images")
    parser.add_argument("--keep", type=Path, help="a folder for store and report")
    given = parser.parse_args()
    sections = Sections()
    from sslens.memory import keep_freed_memory

    keep_freed_memory()  # as a command does
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.keep or Path(temporary)
        os.environ["SSLENS_HOME"] = str(folder / "home")
        for place in PLACES:
            sections.watch(*place)
        compare(sections, given.arch, given.images, given.limit, folder / "report")
    seconds = {DECODING: find_others(), **sections.seconds}
    print(f"{given.arch}, {given.limit} images\n{describe(seconds)}")
    if given.scaled:
        passes = scale(sections, given.scaled, given.images, given.count, given.limit)
        print(
            f"\nthe passes of {given.scaled}, of {given.count} images\n{describe(seconds | passes)}"
        )


if __name__ == "__main__":
    main()
