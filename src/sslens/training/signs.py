"""Warning signs that a training goes wrong, read from its loss and from the spread of its encoder's
features; each sign is one sentence.

A warning never stops a run. Only numbers in `log.jsonl` are judged, so that a resumed run gives the
same warnings as a run that was never stopped, and an old log can be judged afterwards.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from sslens.counts import spell_count
from sslens.methods.trivial import TrivialLoss

#: number of log lines in a mean that is compared with another mean
CHUNK = 10
#: lines of the log after the warm-up that a loss has to move in
PATIENCE = 50
#: steps after a tenth of the run, and after the warm-up, in which something has to be learnt
LEAST = 50
#: standard errors, and share of the loss, beyond which it has moved
ERRORS, SHARE = 3.0, 1e-3
#: share of log K within which a loss is at log K, and under which it is none
AT, UNDER = 2e-3, 1e-2
#: accuracy up to so many times chance, and up to so much of what chance leaves, is at chance
GUESSED, GAINED = 1.5, 0.05
#: signs that a loss stays where it began, of which the first is told
ONE_THING = ("chance", "unlearnt")
#: spread of features that are as good as the same for all images: their mean cosine is above 0.9996
SAME = 2e-2


def measure_spread(features: Float[Tensor, "image dim"]) -> float:
    """Measure how far the L2-normalised features of images are from their mean: sqrt(mean_i ‖u_i −
    ū‖²), from 0 to 1.

    This is the standard deviation over images, with the variances of all dimensions summed: sqrt(1
    − ‖ū‖²). It is 0 where all images have the same features, and 1 where the features point evenly
    in all directions. Computed in float64.

    >>> import torch
    >>> round(measure_spread(torch.tensor([[2.0, 0.0], [0.0, 0.5]])), 12)  # ū = (½, ½): sqrt(1 − ½)
    0.707106781187
    >>> measure_spread(torch.tensor([[1.0, 2.0], [2.0, 4.0]]))
    0.0
    """
    unit = F.normalize(features.double(), dim=1)
    return float((unit - unit.mean(0)).square().sum(1).mean().sqrt())


@final
@dataclass(frozen=True)
class Start:
    """What a run must leave behind in its first steps.

    Attributes:
        trivial: the loss of a method that has learnt nothing.
        steps: the number of steps in the run.
        every: the number of steps between lines of the log.
        chance: the share of the most frequent class among those images that the log's "top1" is of;
            None where there is no such accuracy.
    """

    trivial: TrivialLoss
    steps: int
    every: int
    chance: float | None = None

    def count_lines(self, begin: int) -> int:
        """Count the lines of the log after step `begin` that are judged together: ten, or in a
        short run half of those that there are, and at least three.

        >>> trivial = TrivialLoss(1.0, "", "")
        >>> [Start(trivial, steps, every=10).count_lines(steps // 10) for steps in (5000, 100, 30)]
        [10, 4, 3]
        """
        return max(3, min(CHUNK, (self.steps - begin) // self.every // 2))

    def is_above_chance(self, top1: float) -> bool:
        """Whether an accuracy is above that of the same guess for all images.

        >>> start = Start(TrivialLoss(1.0, "", ""), 100, every=10, chance=0.5)
        >>> [start.is_above_chance(top1) for top1 in (0.52, 0.53)]  # 0.5 + 0.05 · 0.5 = 0.525
        [False, True]
        """
        chance = self.chance
        if chance is None:
            return False
        return top1 > min(GUESSED * chance, chance + GAINED * (1 - chance))

    def describe(self, last: "Look", best: "Look") -> str:
        """Describe the accuracy of the last look at held-out images as a clause, with chance, and
        with the best look where that was better.

        >>> start = Start(TrivialLoss(1.0, "", ""), 60, every=10, chance=40 / 106)
        >>> start.describe(Look(14.0, 40 / 106), Look(9.0, 55 / 106))
        'top-1 after epoch 14 is 37.7% where chance is 37.7% (the best was 51.9%, after epoch 9)'
        """
        clause = f"top-1 after epoch {last.epoch:g} is {last.top1:.1%} where chance is"
        clause += f" {self.chance:.1%}"
        if best.top1 > last.top1:
            clause += f" (the best was {best.top1:.1%}, after epoch {best.epoch:g})"
        return clause


@final
@dataclass(frozen=True)
class Look:
    """The top-1 accuracy on held-out images after an epoch."""

    epoch: float
    top1: float


@final
class Signs:
    """Judges the lines of a run's log, and gives each warning once.

    Args:
        warm_up: the number of steps of the warm-up; no line before its end is judged.
        prototypes: K of an objective that assigns images to K prototypes. Its loss is log K where
            all prototypes are equally likely.
        start: what the run must leave behind in a tenth of its steps, where that is known.

    >>> signs = Signs(warm_up=0, prototypes=64)
    >>> steps = range(10, 310, 10)
    >>> texts = [signs.judge({"step": step, "loss": 4.1589}) for step in steps]  # log 64 = 4.15888
    >>> [(step, new[0].split(" (")[0]) for step, new in zip(steps, texts) if new]
    [(100, 'Steps 10 to 100 have a loss of 4.159, within 0.2% of log K of the 64 prototypes')]
    """

    def __init__(
        self, warm_up: int, prototypes: int | None = None, start: Start | None = None
    ) -> None:
        self.warm_up, self.prototypes, self.start = warm_up, prototypes, start
        self._steps: list[int] = []
        self._losses: list[float] = []
        self._moved = self._learnt = False
        self._last: Look | None = None
        self._best: Look | None = None
        self._given: set[str] = set()

    def judge(self, line: Mapping[str, Any]) -> tuple[str, ...]:
        """Judge a line of the log, and return the warnings that it gives for the first time.

        A line with neither a loss nor a spread gives none.
        """
        signs: dict[str, str | None] = {}
        if "top1" in line:
            self._last = Look(float(line["epoch"]), float(line["top1"]))
            if self._best is None or self._last.top1 > self._best.top1:
                self._best = self._last
        if "loss" in line:
            self._steps.append(int(line["step"]))
            self._losses.append(float(line["loss"]))
            signs = {"chance": self._at_chance(), "nothing": self._at_nothing()}
            # a loss that stays where it began is one thing wrong, not three
            for sign, look in (("unlearnt", self._unlearnt), ("still", self._still)):
                known = any(signs.get(name) or name in self._given for name in ONE_THING)
                signs[sign] = None if known else look()
        if "spread" in line and line["step"] > self.warm_up:
            signs["same"] = _same(int(line["step"]), float(line["spread"]))
        new = {sign: text for sign, text in signs.items() if text and sign not in self._given}
        self._given |= set(new)
        return tuple(new.values())

    def _recent(self) -> list[float]:
        """The last losses, once enough of them come after the warm-up."""
        after = [
            loss
            for step, loss in zip(self._steps, self._losses, strict=True)
            if step > self.warm_up
        ]
        return after[-CHUNK:] if len(after) >= CHUNK else []

    def _span(self, lines: int) -> str:
        return f"Steps {self._steps[-lines]:,} to {self._steps[-1]:,}"

    def _at_chance(self) -> str | None:
        recent, chance = self._recent(), math.log(self.prototypes or 1)
        if (
            not (self.prototypes and recent)
            or max(abs(loss - chance) for loss in recent) > AT * chance
        ):
            return None
        return (
            f"{self._span(CHUNK)} have a loss of {recent[-1]:.4g}, within {AT:.1%} of log K of"
            f" the {spell_count(self.prototypes, 'prototype')} ({chance:.4g}): all images are"
            " assigned alike. A lower teacher temperature or stronger sharpening, a lower base_lr"
            " and a longer warmup usually help."
        )

    def _unlearnt(self) -> str | None:
        """Whether the loss after a tenth of the steps, and after the warm-up, is still that of a
        method that has learnt nothing, and accuracy, where it is measured, at chance. A run that
        has been below that once is never asked again."""
        if self.start is None or self._learnt:
            return None
        begin, trivial = max(self.warm_up, self.start.steps // 10), self.start.trivial
        lines = self.start.count_lines(begin)
        after = [loss for step, loss in zip(self._steps, self._losses, strict=True) if step > begin]
        if len(after) < lines or self._steps[-1] < begin + LEAST:
            return None
        mean = sum(after[-lines:]) / lines
        if mean < (1 - AT) * trivial.value:
            self._learnt = True
            return None
        last, best, accuracy = self._last, self._best, ""
        if last is not None and best is not None and self.start.chance is not None:
            if self.start.is_above_chance(last.top1):
                return None
            accuracy = f", and {self.start.describe(last, best)}"
        span = self._span(lines).replace("Steps", "steps")
        below, than = "", "not less than"
        if mean < trivial.value:
            below, than = f" by {AT:.1%} or more", f"less than {AT:.1%} below"
        return (
            f"After {self._steps[-1]:,} of {self.start.steps:,} steps the loss is not below that"
            f" of learning nothing{below}: {span} have a mean of {mean:.4g}, {than} {trivial.words}"
            f" ({trivial.value:.4g}){accuracy}. {trivial.mend}"
        )

    def _at_nothing(self) -> str | None:
        recent = self._recent()
        if not (self.prototypes and recent) or max(recent) > UNDER * math.log(self.prototypes):
            return None
        return (
            f"{self._span(CHUNK)} have a loss of almost nothing ({recent[-1]:.2g}): every image is"
            " assigned to the same prototype, or there are too few images. A centre that follows"
            " faster (a lower centre_momentum), a higher teacher temperature and a lower base_lr"
            " usually help."
        )

    def _still(self) -> str | None:
        """Whether no ten lines of the log differ from its first ten by more than their noise, and
        all have no trend.

        The noise is that of the differences of neighbouring lines, which a trend hardly touches. A
        loss that moved once is never called still: at the end of every good training there is a
        plateau.
        """
        losses = np.array(self._losses)
        if self._moved or len(losses) % CHUNK or len(losses) < 2 * CHUNK:
            return None
        noise = float(np.diff(losses).std()) / math.sqrt(2)
        first, last = losses[:CHUNK].mean(), losses[-CHUNK:].mean()
        self._moved = abs(last - first) > max(
            ERRORS * noise * math.sqrt(2 / CHUNK), SHARE * abs(first)
        )
        if self._moved or sum(step > self.warm_up for step in self._steps) < PATIENCE:
            return None
        x = np.linspace(-0.5, 0.5, len(losses))
        # of the least-squares line, from end to end; its variance is noise² / Σx²
        rise = float(x @ losses / (x @ x))
        self._moved = abs(rise) > max(ERRORS * noise / math.sqrt(x @ x), SHARE * abs(first))
        if self._moved:
            return None
        return (
            f"The loss has not moved beyond its noise from step {self._steps[0]:,} to"
            f" {self._steps[-1]:,} ({first:.4g} and now {last:.4g}), the warm-up being over: a"
            " higher base_lr (a lower one where the loss jumps about), a larger batch_size and a"
            " look at whether the images differ at all usually help."
        )


def _same(step: int, value: float) -> str | None:
    if value > SAME:
        return None
    return (
        f"At step {step:,} the encoder makes the same of all images (its normalised features have a"
        f" standard deviation of {value:.2g}): the training has collapsed. Start again with a lower"
        " base_lr, a longer warmup or a higher momentum, and with the recipe's own temperatures."
    )
