"""What a need can ask: the models and images of a study, and the results of passes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, final

from sslens.counts import spell_count
from sslens.store import Store, digest
from sslens.study.asked import Study
from sslens.study.members import Member

if TYPE_CHECKING:
    from sslens.capture import Reducer
    from sslens.comparisons.inputs import Models
    from sslens.data.alter import Transform
    from sslens.data.images import ImageSet

#: what a reducer makes: Grams or Features
Noun = TypeVar("Noun")


@final
@dataclass(frozen=True, repr=False)
class Situation:
    """The models and images of a study, before anything is computed.

    Attributes:
        members: the models in the order given, then the controls.
        images: None where all models are fingerprints, or no analysis needs images.
        bank: the images that vote in k-NN and train probes; None where each image is classified by
            all others.
        device: the device of passes and probes.
        quiet: whether no progress is shown.
    """

    study: Study
    members: tuple[Member, ...]
    images: "ImageSet | None" = None
    bank: "ImageSet | None" = None
    device: str = "cpu"
    quiet: bool = True

    def __repr__(self) -> str:
        names = ", ".join(member.name for member in self.members[:4])
        return (
            f"<Situation: {spell_count(len(self.members), 'model')} and controls ({names}, …),"
            f" {self.images}>"
        )

    @property
    def models(self) -> "Models":
        """What analyses are told about the members; groups that the study names decide the
        families.

        Raises:
            InputError: a group names a model that is not there, or a control.
        """
        from sslens.comparisons.inputs import Models
        from sslens.study.groups import assign_families

        return Models(assign_families(self.members, self.study.groups))

    @property
    def sets(self) -> "tuple[ImageSet, ...]":
        """The images and the bank, where they are given."""
        return tuple(images for images in (self.images, self.bank) if images is not None)


@final
@dataclass(frozen=True)
class Lack:
    """The reason for which a need cannot be met.

    Attributes:
        reason: a clause without its full stop.
        mend: what the user can do, a clause without its full stop, with parameters in braces; None
            where nothing can be done.
        noted: whether the reason is told to the reader of the report.
    """

    reason: str
    mend: str | None = None
    noted: bool = False


@final
@dataclass(frozen=True, repr=False)
class Captured:
    """The results of a study's passes, by reducer, set of images and model.

    Attributes:
        situation: the models and images of the passes.
        made: the results by reducer and what was done to the images (`identify`), whether the
            images are the bank's, and name of the model.
        store: where a need may keep values that take long to gather; None to keep nothing.
    """

    situation: Situation
    made: Mapping[tuple[str, bool, str], Any]
    store: Store | None = None

    def __repr__(self) -> str:
        return f"<Captured: {len(self.made)} results of {self.situation}>"

    def of(
        self,
        reducer: "Reducer[Noun]",
        *,
        bank: bool = False,
        altered: "Transform | None" = None,
    ) -> "dict[str, Noun]":
        """Return a reducer's results by name of the model, in the models' order; models without the
        taps that it reads are left out.

        Args:
            reducer: the reducer.
            bank: whether the results are of the bank.
            altered: what was done to the images; nothing unless given.
        """
        key = identify(reducer, altered)
        names = [member.name for member in self.situation.members]
        return {
            name: self.made[key, bank, name] for name in names if (key, bank, name) in self.made
        }


def identify(reducer: "Reducer[Any]", altered: "Transform | None" = None) -> str:
    """Return a digest of a reducer's kind and settings, and of what is done to the images; where
    the digests are equal, so are the results of a pass."""
    changed = [] if altered is None else [altered.spec()]
    return digest([reducer.kind, reducer.settings(), *changed])


def lack_of_passes(situation: Situation) -> Lack | None:
    """Return a `Lack` where all models are fingerprints, so that only their stored Grams are there;
    else None."""
    if any(member.model is not None for member in situation.members if not member.control):
        return None
    return Lack("fingerprints hold the Grams of minibatches only", "give the models themselves")
