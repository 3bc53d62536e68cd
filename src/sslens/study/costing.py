"""What a run will cost: seconds, memory and disk, from a probe of this machine that takes about two
seconds: the run's own passes and steps, over a few images.

Seconds are of processor time, summed over cores: what a run takes of an idle machine with one core,
and what the other work on a busy one does not change.
"""

import contextlib
import resource
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, final

from sslens.study.passes import ActivationPass

if TYPE_CHECKING:
    from sslens.capture import Reducer

#: images of a measured pass: of one that is slow, and of one that is quick
FEW, MORE = 4, 32
#: seconds after which no further kind of pass is measured
BUDGET = 2.0
#: of a pass over a few images, beyond which it is slow
SLOW = 0.25


@final
@dataclass(frozen=True)
class Cost:
    """The cost of a run.

    Attributes:
        seconds: processor time by what takes it.
        memory: bytes at the peak, of all that the process holds.
        disk: bytes that are written.
    """

    seconds: Mapping[str, float]
    memory: float = 0.0
    disk: float = 0.0

    @property
    def total(self) -> float:
        """The seconds of all parts."""
        return sum(self.seconds.values())

    def describe(self) -> str:
        """Describe the cost in a line, for a person.

        >>> Cost({"start": 40.0, "passes": 100.0}, memory=2e9, disk=3e6).describe()
        'about 2 min of processor time (passes 100 s, start 40 s), 2 GB of memory, 3 MB on disk'
        """
        parts = sorted(self.seconds.items(), key=lambda part: -part[1])
        named = ", ".join(f"{name} {_spell_seconds(value)}" for name, value in parts if value > 0.5)
        return (
            f"about {_spell_seconds(self.total)} of processor time ({named}),"
            f" {_spell_bytes(self.memory)} of memory, {_spell_bytes(self.disk)} on disk"
        )

    def to_json(self) -> Mapping[str, object]:
        """Return the cost as JSON values."""
        return {"seconds": dict(self.seconds), "memory": self.memory, "disk": self.disk}


def _spell_seconds(seconds: float) -> str:
    """Write a time as people say it.

    >>> [_spell_seconds(one) for one in (0.4, 61.0, 119.0, 121.0, 9000.0, 1e6)]
    ['1 s', '61 s', '119 s', '2 min', '2.5 h', '280 h']
    """
    if seconds < 120:
        return f"{max(1, round(seconds))} s"
    if seconds < 7200:
        return f"{round(seconds / 60)} min"
    return f"{float(f'{seconds / 3600:.2g}'):g} h"


def spell_size(size: float) -> str:
    """Write the size of files, of which a small one has kilobytes.

    >>> spell_size(645e3), spell_size(3.2e6)
    ('645 kB', '3 MB')
    """
    return f"{max(1, round(size / 1e3))} kB" if size < 1e6 else _spell_bytes(size)


def _spell_bytes(size: float) -> str:
    """Write a size.

    >>> [_spell_bytes(one) for one in (0.0, 3.2e6, 1.23e9)]
    ['0 MB', '3 MB', '1.2 GB']
    """
    return f"{size / 1e9:.2g} GB" if size >= 1e9 else f"{round(size / 1e6)} MB"


@final
@dataclass
class Clock:
    """Processor time that was taken inside `with` blocks."""

    seconds: float = 0.0

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Add the processor time of the block, in which products are as fast as in the run."""
        from sslens.processes import fast_products  # a cost is described without torch

        with fast_products():
            began = time.process_time()
            try:
                yield
            finally:
                self.seconds += time.process_time() - began


def measure_memory() -> float:
    """Return the most bytes that this process has held."""
    unit = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)


@final
@dataclass(frozen=True)
class PassProbe:
    """Measures passes over a few images: a kind of pass once.

    Attributes:
        device, precision: of the passes.
        known: seconds of an image by kind of pass, and of decoding it by view.
    """

    device: str
    precision: str
    known: dict[object, float] = field(default_factory=dict)

    def estimate(self, passes: Sequence[ActivationPass]) -> float:
        """Estimate the processor time of the passes that are missing."""
        began, total = time.process_time(), 0.0
        decoded: set[object] = set()
        for one in passes:
            if not one.missing:
                continue
            view = one.view
            kind = (_describe_kind(one), view[1:], one.altered)
            plain = (_describe_kind(one), view[1:], None)
            if kind not in self.known:
                late = time.process_time() - began > BUDGET
                self.known[kind] = (
                    self.known[plain] if late and plain in self.known else (self._measure(one))
                )
            total += len(one.images) * self.known[kind]
            if view not in decoded:
                decoded.add(view)
                total += len(one.images) * self.known[view[1:]]
        return total

    def _measure(self, one: ActivationPass) -> float:
        """Run a pass over a few images, and over more where it is quick; returns the processor time
        of an image, and keeps that of decoding it."""
        from sslens.capture import collect
        from sslens.data.decoded import Decoded
        from sslens.plan import SMALLEST, Plan

        seconds, before, counted = 0.0, 0.0, 0
        for number, count in enumerate((FEW, FEW, MORE)):  # the first warms up
            few = one.images.take(range(min(count, len(one.images))))
            pixels, decoding, running = (
                Decoded(few, one.model.transform, keep=False),
                Clock(),
                Clock(),
            )
            pixels.pixels(range(len(few)))  # scenes are painted in blocks, each when one is seen
            with decoding.running():
                pixels.pixels(range(len(few)))
            plan = Plan.in_order(few.ids, max(SMALLEST, MORE))
            with running.running():
                collect(
                    one.model,
                    few,
                    one.reducers,
                    plan=plan,
                    taps=one.taps,
                    device=self.device,
                    precision=self.precision,
                    decoded=pixels,
                    altered=one.altered,
                )
            self.known[one.view[1:]] = decoding.seconds / len(few)
            # nothing is kept on disk, so that the pass has decoded the images again
            spent, added = max(0.0, running.seconds - decoding.seconds), len(few) - counted
            if number == 2 and added:  # what a pass takes before its first image is no image's
                seconds = max(0.0, spent - before) / added
            else:
                seconds = spent / len(few)
            before, counted = spent, len(few)
            if number and running.seconds > SLOW:
                break
        one.model.to("cpu")
        return seconds


def _describe_kind(one: ActivationPass) -> object:
    """What decides the speed of a pass: the sizes of the network, and what is read."""
    shapes = tuple(tuple(value.shape) for value in one.model.network.parameters())
    return hash(shapes), tuple(_name(reducer) for reducer in one.reducers)


def _name(reducer: "Reducer[Any]") -> str:
    return f"{reducer.kind} {reducer.settings()}"
