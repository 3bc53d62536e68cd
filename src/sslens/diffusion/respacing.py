"""Respacing: the times that a sampler visits."""

import itertools

from sslens.counts import spell_count
from sslens.errors import InputError

#: what begins the steps of DDIM
DDIM = "ddim"


def choose_times(times: int, steps: str) -> tuple[int, ...]:
    """Choose the times that a sampler visits, in rising order, as guided diffusion does (Nichol and
    Dhariwal, 2021, section 4; Song et al., 2021, arXiv:2010.02502, for DDIM's).

    Args:
        times: the number of times of the whole process.
        steps: "ddimN" for N times at a whole stride from 0 on; or a number of times for each of
            some equal sections, "100" or "10,15,20". Each section's times are spread evenly from
            its first to its last time, and rounded to the nearest whole one, halves to even ones.

    Raises:
        InputError: the steps are neither or none, are more than the section's times, or no whole
            stride gives N of them.

    >>> choose_times(1000, "ddim50")[:3], choose_times(1000, "ddim50")[-1]
    ((0, 20, 40), 980)
    >>> choose_times(1000, "250")[:4], choose_times(1000, "250")[-1]
    ((0, 4, 8, 12), 999)
    >>> choose_times(10, "3,2")
    (0, 2, 4, 5, 9)
    """
    if steps.startswith(DDIM):
        return _stride(times, _read(steps.removeprefix(DDIM), steps))
    counts = [_read(part, steps) for part in steps.split(",")]
    size, more = divmod(times, len(counts))
    chosen: list[int] = []
    first = 0
    for number, count in enumerate(counts):
        length = size + (number < more)
        if count > length:
            raise InputError(
                f"{count} steps are more than the {length} times that there are"
                f"{' in their section' if len(counts) > 1 else ''}",
                mend="give fewer {steps}",
            )
        # the strides are added up one by one as guided diffusion does, for the same rounding
        stride = (length - 1) / (count - 1) if count > 1 else 1.0
        places = itertools.accumulate(itertools.repeat(stride, count), initial=0.0)
        chosen += [first + round(place) for place in itertools.islice(places, count)]
        first += length
    if not chosen:
        raise InputError(
            f'The steps "{steps}" visit no time: expected one or more', mend="give other {steps}"
        )
    return tuple(chosen)


def is_ddim(steps: str) -> bool:
    """Whether steps are DDIM's.

    >>> is_ddim("ddim50"), is_ddim("50")
    (True, False)
    """
    return steps.startswith(DDIM)


def _stride(times: int, count: int) -> tuple[int, ...]:
    """The multiples of the smallest whole stride that has so many of them below `times`."""
    for stride in range(1, times):
        if -(-times // stride) == count:
            return tuple(range(0, times, stride))
    counts = {-(-times // stride) for stride in range(1, times)}
    near = min(counts, key=lambda other: (abs(other - count), other))
    raise InputError(
        f"No whole stride visits {count} of {spell_count(times, 'time')}: the nearest that one"
        f" visits is {near}",
        mend=f"give {{steps={DDIM}{near}}}",
    )


def _read(number: str, steps: str) -> int:
    if not (number.isascii() and number.isdecimal() and len(number) < 10):
        raise InputError(
            f'"{steps}" are no steps of a diffusion: expected a number as in 100, one for'
            f" each section as in 10,15,20, or {DDIM}N as in {DDIM}50; euler20 and heun10 are"
            " of fast generators",
            mend="give other {steps}",
        )
    return int(number)
