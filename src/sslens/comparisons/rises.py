"""The rise of CKA by fine-tuning: for fine-tuned models, and for fine-tuned random
initialisations as their control."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

from sslens.comparisons.families import list_families
from sslens.comparisons.inputs import Models
from sslens.comparisons.pairs import Pairs
from sslens.comparisons.roles import PIXELS, REC, list_names
from sslens.comparisons.trainings import count_trainings_once
from sslens.comparisons.tuned import list_controls, match_origins
from sslens.statistics.sampled import Sampled, average


@final
@dataclass(frozen=True, eq=False)
class Rise:
    """The mean CKA of some models with other models, before and after the first are fine-tuned.

    Attributes:
        after: mean CKA of the fine-tuned models with the other models.
        before: mean CKA of the same models before fine-tuning with the other models.
        count: number of pairs that are averaged.
        control: the rise of CKA, with the same other models, of random initialisations that have
            the same architectures and were fine-tuned by the same recipe; None if they are missing
            for any pair.
    """

    after: Sampled
    before: Sampled
    count: int
    control: Sampled | None

    @property
    def rise(self) -> Sampled:
        """CKA after fine-tuning less CKA before."""
        return self.after - self.before

    @property
    def beyond(self) -> Sampled | None:
        """The rise less the control's rise; None if there is no control."""
        return None if self.control is None else self.rise - self.control


@final
@dataclass(frozen=True)
class Stages:
    """The models of a study before and after fine-tuning.

    Attributes:
        models: the models and the controls.
        before: name of the model before fine-tuning, by the name of the fine-tuned model.
    """

    models: Models
    before: Mapping[str, str]

    @classmethod
    def of(cls, models: Models) -> "Stages":
        """Match each fine-tuned model with its model before fine-tuning, by `match_origins`."""
        return cls(models, match_origins(models))

    @property
    def je(self) -> list[str]:
        """The pre-trained JE models."""
        return list_families(self.models)[0]

    @property
    def rec(self) -> list[str]:
        """The fine-tuned REC models with a matched model before fine-tuning; of models before
        fine-tuning that are one training, those of one alone."""
        return self.list_tuned(REC)

    def list_tuned(self, family: str) -> list[str]:
        """The fine-tuned models of a family, of which each training before counts once."""
        own = [name for name in self.before if self.models.about(name).family == family]
        firsts = dict.fromkeys(self.before[name] for name in own)
        counted = count_trainings_once(self.models, firsts)
        return [name for name in own if self.before[name] in counted]

    def is_compared(self, a: str, b: str) -> bool:
        """Whether two models are compared.

        Models under study are compared with each other, and controls with each other. A random
        initialisation that a fine-tuned model began with is also compared with that fine-tuned
        model and with all models that have no match in `before`. Raw pixels are never compared.
        """
        if PIXELS in (a, b):
            return False
        starts = set(self.before.values()) & set(self.models.controls)
        ties = (
            one in starts and (self.before.get(other) == one or other not in self.before)
            for one, other in ((a, b), (b, a))
        )
        return self.models.is_control(a) == self.models.is_control(b) or any(ties)

    def compare_rise(
        self, compared: Pairs, names: Sequence[str], others: Sequence[str]
    ) -> Rise | None:
        """Average the rise of CKA over all pairs of a fine-tuned model and another model.

        The control's rise is averaged over the same pairs; for each pair it is the mean over all
        controls of the fine-tuned model (`tuned.list_controls`).

        Args:
            compared: the CKA of all compared pairs.
            names: names of the fine-tuned models.
            others: names of the other models.

        Returns:
            The rise; None if no pair was compared both before and after.
        """
        after, before, control = [], [], []
        for name, other in itertools.product(names, others):
            stages = self._compare_stages(compared, name, other)
            if stages is None:
                continue
            after.append(stages[0])
            before.append(stages[1])
            controls = [
                self._compare_stages(compared, one, other)
                for one in list_controls(self.models, self.before, name)
            ]
            changes = [one - two for one, two in filter(None, controls)]
            control += [average(changes)] if changes else []
        if not after:
            return None
        complete = len(control) == len(after)
        return Rise(
            average(after), average(before), len(after), average(control) if complete else None
        )

    def _compare_stages(
        self, compared: Pairs, name: str, other: str
    ) -> tuple[Sampled, Sampled] | None:
        """Return the mean CKA at the same depth with another model, after and before fine-tuning;
        None if one of the two pairs was not compared."""
        after, before = compared.find(name, other), compared.find(self.before[name], other)
        return (after.same.mean(), before.same.mean()) if after and before else None

    def describe_control(self, names: Sequence[str], other: str) -> str:
        """Name the rise of the control in words.

        Args:
            names: names of the fine-tuned models that have these controls.
            other: name of the model or family that they are compared with.
        """
        controls = dict.fromkeys(
            one for name in names for one in list_controls(self.models, self.before, name)
        )
        described = [f"{name} (from {self.before[name]})" for name in controls]
        return f"the rise of {list_names(described)} with {other}"
