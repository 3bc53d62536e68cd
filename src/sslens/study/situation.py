"""What a need is asked about: the models and images of a study, and what passes made of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, final

from sslens.store import Store, digest
from sslens.study.asked import Study
from sslens.study.members import Member

if TYPE_CHECKING:
    from sslens.capture import Reducer
    from sslens.comparisons.inputs import Models
    from sslens.data.images import ImageSet

#: what a reducer makes: Grams or Features
Noun = TypeVar("Noun")


@final
@dataclass(frozen=True)
class Situation:
    """The models and images of a study, before anything is computed of them.

    Attributes:
        members: the models in the order given, then the controls.
        images: None where all models are fingerprints, or nothing is asked of images.
        bank: images that vote in k-NN and train probes; None where each image is held against all
            others.
        device: where passes and probes run.
        quiet: whether nothing is said of how far a computation is.
    """

    study: Study
    members: tuple[Member, ...]
    images: "ImageSet | None" = None
    bank: "ImageSet | None" = None
    device: str = "cpu"
    quiet: bool = True

    @property
    def models(self) -> "Models":
        """The members as analyses are given them."""
        from sslens.comparisons.inputs import Models

        return Models(tuple(member.info for member in self.members))

    @property
    def sets(self) -> "tuple[ImageSet, ...]":
        """The images and the bank, where they are given."""
        return tuple(images for images in (self.images, self.bank) if images is not None)


@final
@dataclass(frozen=True)
class Lack:
    """Why a need cannot be met.

    Attributes:
        reason: a clause without its full stop.
        mend: what to do, a clause without its full stop, parameters in braces; None where nothing
            can be done.
        noted: whether a reader of the report is told.
    """

    reason: str
    mend: str | None = None
    noted: bool = False


@final
@dataclass(frozen=True)
class Captured:
    """What the passes of a study made, by reducer, set of images and model.

    Attributes:
        situation: the models and images that were passed.
        made: the results by reducer (`identify`), whether of the bank, and name of the model.
        store: where a need may keep what it takes long to gather; none where nothing is kept.
    """

    situation: Situation
    made: Mapping[tuple[str, bool, str], Any]
    store: Store | None = None

    def of(self, reducer: "Reducer[Noun]", *, bank: bool = False) -> "dict[str, Noun]":
        """What a reducer made of each model that has such taps, by name, in the models' order."""
        key = identify(reducer)
        names = [member.name for member in self.situation.members]
        return {
            name: self.made[key, bank, name] for name in names if (key, bank, name) in self.made
        }


def identify(reducer: "Reducer[Any]") -> str:
    """The digest of a reducer's kind and settings: equal reducers make the same."""
    return digest([reducer.kind, reducer.settings()])


def lack_of_passes(situation: Situation) -> Lack | None:
    """Why nothing beside stored Grams can be had: all models are fingerprints."""
    if any(member.model is not None for member in situation.members if not member.control):
        return None
    return Lack("fingerprints hold the Grams of minibatches only", "give the models themselves")
