"""By how much fine-tuning raises CKA: of fine-tuned models with others, and of the control."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

from sslens.comparisons.families import list_families
from sslens.comparisons.inputs import Models
from sslens.comparisons.pairs import Pairs
from sslens.comparisons.roles import PIXELS, REC, list_names
from sslens.comparisons.tuned import list_controls, match_origins
from sslens.statistics.sampled import Sampled, average


@final
@dataclass(frozen=True, eq=False)
class Rise:
    """CKA of fine-tuned models with others, after and before, and by how much the CKA of fine-tuned
    random initialisations rose.

    Attributes:
        after: CKA of the fine-tuned models with the others, averaged.
        before: CKA of what these models were before with the others, averaged.
        count: pairs averaged.
        control: rise of random initialisations of the same architectures and recipe, with the same
            others; None where there are none.
    """

    after: Sampled
    before: Sampled
    count: int
    control: Sampled | None

    @property
    def rise(self) -> Sampled:
        """What fine-tuning added to CKA."""
        return self.after - self.before

    @property
    def beyond(self) -> Sampled | None:
        """The rise less the rise of the control."""
        return None if self.control is None else self.rise - self.control


@final
@dataclass(frozen=True)
class Stages:
    """The models of a study before and after fine-tuning.

    Attributes:
        models: the models and the controls.
        before: the model before fine-tuning, by the name of the fine-tuned one.
    """

    models: Models
    before: Mapping[str, str]

    @classmethod
    def of(cls, models: Models) -> "Stages":
        """The stages of the models of a study; see `tuned.match_origins`."""
        return cls(models, match_origins(models))

    @property
    def je(self) -> list[str]:
        """The pre-trained JE models."""
        return list_families(self.models)[0]

    @property
    def rec(self) -> list[str]:
        """The fine-tuned REC models whose model before fine-tuning is there."""
        return [name for name in self.before if self.models.about(name).family == REC]

    def is_compared(self, a: str, b: str) -> bool:
        """Whether a pair takes part: models with each other, and controls with each other.

        The random initialisation that a fine-tuned control was before takes part besides in pairs
        with that control and with all pre-trained models. Raw pixels take no part.
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
        """The rise of CKA of fine-tuned models with others, averaged over all pairs.

        The rise of the control is averaged over the same pairs: of each pair it is the mean over
        the controls of the fine-tuned model.

        Args:
            compared: pairs of models.
            names: the fine-tuned models.
            others: the models that these are compared with.

        Returns:
            None where no pair was compared.
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
        """The mean CKA at the same depth with another model, of a fine-tuned model and of what it
        was before."""
        after, before = compared.find(name, other), compared.find(self.before[name], other)
        return (after.same.mean(), before.same.mean()) if after and before else None

    def describe_control(self, names: Sequence[str], other: str) -> str:
        """The rise that is subtracted from the rise of fine-tuned models with another, in words."""
        controls = dict.fromkeys(
            one for name in names for one in list_controls(self.models, self.before, name)
        )
        described = [f"{name} (from {self.before[name]})" for name in controls]
        return f"the rise of {list_names(described)} with {other}"
