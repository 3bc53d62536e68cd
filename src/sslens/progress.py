"""Progress on standard error: a bar on a terminal, a line every ten seconds elsewhere."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

Report = Callable[[int, int], None]

#: seconds between lines where there is no terminal
EVERY = 10.0


@contextlib.contextmanager
def progress(
    label: str, *, unit: str = "img", start: int = 0, quiet: bool = False, inner: bool = False
) -> Iterator[Callable[..., None]]:
    """Give a function that reports progress: call it with (done, total), and perhaps with numbers
    to show, such as `loss=0.3`.

    Shown are the progress, the rate, the time left and the numbers.

    Args:
        label: what is done.
        unit: what is counted; nothing where the label says it, and then no rate is shown.
        start: how many were done before the block began, which do not count for the rate.
        quiet: show nothing.
        inner: lines on a terminal too, for work inside of what has a bar already.
    """
    if quiet:
        yield lambda done, total, **numbers: None
    elif sys.stderr.isatty() and not inner:
        with _bar(label, unit, _Clock(start)) as report:
            yield report
    else:
        yield _lines(label, unit, _Clock(start))


def announce(text: str, *, quiet: bool = False) -> None:
    """Say what is done next, where it may take long and its parts are not known."""
    if not quiet:
        print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def _bar(label: str, unit: str, clock: "_Clock") -> Iterator[Callable[..., None]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description:<32}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[numbers]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=None, rate="", numbers="")

        def report(done: int, total: int, **numbers: float) -> None:
            rate = f"{_spell_rate(clock.rate(done))} {unit}/s" if unit else ""
            bar.update(task, completed=done, total=total, rate=rate, numbers=_format(numbers))

        yield report


def _lines(label: str, unit: str, clock: "_Clock") -> Callable[..., None]:
    last_line, ended = time.monotonic(), False

    def report(done: int, total: int, **numbers: float) -> None:
        nonlocal last_line, ended
        now = time.monotonic()
        if (done >= total and not ended) or (done < total and now - last_line >= EVERY):
            last_line, ended = now, done >= total
            rate = clock.rate(done)
            left = f", {(total - done) / rate:,.0f} s left" if done < total and rate else ""
            shown = f", {_format(numbers)}" if numbers else ""
            speed = f" {unit}, {_spell_rate(rate)} {unit}/s" if unit else ""
            print(
                f"{label}: {done:,}/{total:,}{speed}{left}{shown}",
                file=sys.stderr,
                flush=True,
            )

    return report


class _Clock:
    """The rate since the beginning, at which `start` were done already (a resumed run)."""

    def __init__(self, start: int) -> None:
        self.began, self.start = time.monotonic(), start

    def rate(self, done: int) -> float:
        return (done - self.start) / max(time.monotonic() - self.began, 1e-9)


def _spell_rate(rate: float) -> str:
    """A rate in whole numbers, or with two digits where it is under 10.

    >>> _spell_rate(1234.5), _spell_rate(0.2345), _spell_rate(0.0)
    ('1,234', '0.23', '0')
    """
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"


def _format(numbers: dict[str, float]) -> str:
    return " ".join(f"{name} {value:.4g}" for name, value in numbers.items())
