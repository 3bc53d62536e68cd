"""Where fine-tuning ends: the CKA of fine-tuned reconstruction models with joint-embedding models,
against before fine-tuning and against fine-tuned random initialisations."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import final

import numpy as np

from sslens.comparisons.contrasts import PairContrast
from sslens.comparisons.inputs import Models
from sslens.comparisons.pairs import Pair, Pairs
from sslens.comparisons.rises import Stages
from sslens.comparisons.roles import CONTROL, JE, REC
from sslens.comparisons.trainings import Sides
from sslens.comparisons.tuned import list_controls
from sslens.statistics.sampled import Sampled

#: two groups of pairs: the first less the second
Groups = tuple[Sequence[Pair], Sequence[Pair]]


@final
@dataclass(frozen=True)
class Ends:
    """Comparisons of fine-tuned REC models with JE models, for one kind of tap.

    The trainings that are counted are pre-trainings: two fine-tunings of one model are one.

    Attributes:
        stages: the models before and after fine-tuning.
        compared: the CKA of all compared pairs.
    """

    stages: Stages
    compared: Pairs

    @property
    def models(self) -> Models:
        """The models of the study."""
        return self.stages.models

    @property
    def sides(self) -> dict[str, list[str]]:
        """The REC models that were fine-tuned, as they were before, and the pre-trained JE
        models."""
        before = self.stages.before
        return {REC: _list_once(before[name] for name in self.stages.rec), JE: self.stages.je}

    @property
    def controls(self) -> list[str]:
        """The random initialisations that were fine-tuned by the same recipe, as they were before;
        none if a fine-tuned REC model has no such control."""
        before = self.stages.before
        by_model = [list_controls(self.models, before, name) for name in self.stages.rec]
        if not all(by_model):
            return []
        return _list_once(before[name] for names in by_model for name in names)

    @property
    def tuned_je(self) -> list[str]:
        """The JE models that were fine-tuned, as they were before."""
        return _list_once(self.stages.before[name] for name in self.stages.list_tuned(JE))

    def list_after(self, firsts: Sequence[str]) -> list[str]:
        """List the models that were fine-tuned from some models."""
        return [name for name, first in self.stages.before.items() if first in firsts]

    def compare_rise(self, pick: Callable[[Pair], Sampled] | None = None) -> PairContrast | None:
        """Subtract the CKA with JE before fine-tuning from that after it."""

        def choose(sides: Sides) -> Groups:
            after = self.compared.find_all(self.list_after(sides[REC]), sides[JE])
            return after, self.compared.find_all(sides[REC], sides[JE])

        return self._compare(self.sides, choose, pick)

    def compare_ends(self) -> PairContrast | None:
        """Subtract the CKA with JE of fine-tuned random initialisations from that of fine-tuned
        REC models; None without such controls."""
        if not self.controls:
            return None

        def choose(sides: Sides) -> Groups:
            ends = self.compared.find_all(self.list_after(sides[REC]), sides[JE])
            return ends, self.compared.find_all(self.list_after(sides[CONTROL]), sides[JE])

        return self._compare({**self.sides, CONTROL: self.controls}, choose)

    def compare_tuned(self, pick: Callable[[Pair], Sampled]) -> PairContrast | None:
        """Subtract the CKA of fine-tuned REC with pre-trained JE models from that of both
        fine-tuned; None if no JE model was fine-tuned."""
        je = self.tuned_je
        if not je:
            return None

        def choose(sides: Sides) -> Groups:
            after = self.list_after(sides[REC])
            both = self.compared.find_all(after, self.list_after(sides[JE]))
            return both, self.compared.find_all(after, sides[JE])

        return self._compare({**self.sides, JE: je}, choose, pick)

    def _compare(
        self,
        sides: Sides,
        choose: Callable[[Sides], Groups],
        pick: Callable[[Pair], Sampled] | None = None,
    ) -> PairContrast | None:
        if not all(sides.values()) or not all(choose(sides)):
            return None
        return PairContrast.of(self.models, sides, choose, pick or (lambda pair: pair.same))


def _list_once(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def list_thirds(by_kind: Mapping[str, Ends]) -> Iterator[tuple[str, str, PairContrast, str]]:
    """Compare what fine-tuning changes early and late (section 2.5 of Shekhar et al., 2022; claim
    C19).

    Yields:
        The kind of tap, the part of the depths, the comparison, and the name of what is
        subtracted: in fc1 the CKA before fine-tuning, in the first two thirds of the depths and in
        the last third; in blocks of the last third the CKA of fine-tuned REC with pre-trained JE
        models, from that of both fine-tuned.
    """
    if "fc1" in by_kind:
        for part, late in (("the first two thirds", False), ("the last third", True)):
            rise = by_kind["fc1"].compare_rise(partial(_take_thirds, late=late))
            if rise is not None:
                yield "fc1", part, rise, f"{REC} · {JE}, both pre-trained"
    if "block" in by_kind:
        tuned = by_kind["block"].compare_tuned(lambda pair: _take_thirds(pair, True))
        if tuned is not None:
            yield "block", "the last third", tuned, f"{REC}, fine-tuned · {JE}, pre-trained"


def _take_thirds(pair: Pair, late: bool) -> Sampled:
    """CKA at the same depth, in the last third of the depths or in the first two."""
    third = max(1, len(pair.depths) // 3)
    order = np.argsort(pair.depths, kind="stable")
    return pair.same[order[-third:] if late else order[:-third]]


def compare_end(ends: Ends, name: str, other: str) -> tuple[Sampled, Sampled, str] | None:
    """Compare where a fine-tuned model ends, beside one other model, with where a control ends.

    Returns:
        The mean CKA of the model, that of the first control, and the name of the latter; None
        without a control.
    """
    controls = list_controls(ends.models, ends.stages.before, name)
    pair = ends.compared.find(name, other)
    against = [(one, ends.compared.find(one, other)) for one in controls if one != name]
    known = [(one, two) for one, two in against if two]
    if pair is None or not known:
        return None
    control, level = known[0]
    return pair.same.mean(), level.same.mean(), f"{control} · {other}"
