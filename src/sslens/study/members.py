"""The models of a study and their controls, each with a name of its own."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sslens import cards, zoo
from sslens.errors import InputError, do_all
from sslens.fingerprint import is_fingerprint
from sslens.models.about import About
from sslens.paths.runs import find_training
from sslens.study.distinct import distinguish_paths
from sslens.study.given import MEMORY, Given
from sslens.whole_file import exists

if TYPE_CHECKING:
    from sslens.comparisons.inputs import ModelInfo
    from sslens.fingerprint import Fingerprint
    from sslens.models.backbone import Backbone
    from sslens.zoo.weights import Weights

#: settings of a transform by which two copies of one network see different images, in words
SEEN = {
    "mean": "mean",
    "std": "std",
    "resize": "shorter side in pixels",
    "crop": "cut in pixels",
    "interpolation": "interpolation where an image is resized",
}


@dataclass(frozen=True, repr=False)
class Member:
    """A model or control of a study: a loaded network, or the fingerprint or the weights of a
    network that is not needed here.

    Attributes:
        name: the name in tables and figures.
        control: whether it is a control: a random initialisation or raw pixels.
        model: the network; None where there is a fingerprint, or where weights alone are needed.
        fingerprint: the model's Grams, read from a file; None where there is a network.
        given: the source as the user gave it; empty of a control that was added.
        weights: the weights of a network that is not built; None where it is.
    """

    name: str
    control: bool
    model: "Backbone | None" = None
    fingerprint: "Fingerprint | None" = None
    given: str = ""
    weights: "Weights | None" = None

    def __repr__(self) -> str:
        return f"<Member {self.name}: {self.role}, {type(self.described).__name__}>"

    @property
    def described(self) -> "Backbone | Fingerprint | Weights":
        """The network, the fingerprint or the weights; all have a source, a digest and an
        `about`."""
        one = self.model or self.fingerprint or self.weights
        assert one is not None
        return one

    @property
    def transform(self) -> Mapping[str, Any] | None:
        """The settings by which images are prepared for it; None where weights alone are needed, or
        where a user's own function prepares them."""
        if self.fingerprint is not None:
            return self.fingerprint.conditions.transform
        made = None if self.model is None else self.model.transform
        return asdict(made) if is_dataclass(made) and not isinstance(made, type) else None

    @property
    def network(self) -> "Backbone":
        """The loaded network.

        Raises:
            InputError: the member is a fingerprint.
        """
        if self.model is None:
            raise InputError(
                f"{self.name} is a fingerprint, which holds Grams and no network",
                mend="give the model itself",
            )
        return self.model

    @property
    def about(self) -> About:
        """What is known of the model."""
        return self.described.about

    @property
    def info(self) -> "ModelInfo":
        """What analyses are told about the member."""
        from sslens.comparisons.inputs import ModelInfo

        state = None if self.control else find_training(self._path, self.about)
        return ModelInfo(self.name, self.control, self.about, self.described.digest, state=state)

    @property
    def _path(self) -> str:
        """The path of its file, if it has one."""
        return zoo.split_options(self.described.source)[0]

    @property
    def role(self) -> str:
        """The word for the member in plans, "control" or "model"."""
        return "control" if self.control else "model"


def load_members(
    sources: Sequence[str], *, controls: bool, networks: bool = True, given: Given | None = None
) -> tuple[Member, ...]:
    """Load models in the order given, then add their controls if these are wanted.

    Controls are two random initialisations of each architecture, and raw pixels; a control that was
    given as a model is not added again.

    Args:
        sources: the sources of the models.
        controls: whether controls are added.
        networks: whether networks are built; else members hold the weights of their files.
        given: models in memory, by the sources that stand for them.

    Raises:
        InputError: a model cannot be loaded.
    """
    own = given or {}
    if networks:
        members = [_take(source, own) or _load(source) for source in sources]
    else:
        members = _read_all(sources, own)
    if controls:
        members += _load_controls(members)
    if all(member.control for member in members):  # nothing else was given: they are studied
        members = [replace(member, control=False) for member in members]
    return tuple(sorted(_distinguish(members), key=lambda member: member.control))


def require_recognised(sources: Sequence[str], given: Given) -> None:
    """Refuse files that no network can be made of, by their keys and shapes, before images are
    opened: as where the number of heads must be given.

    Raises:
        InputError: files cannot be read, or do not say of which network they are; all are named.
    """
    from sslens.zoo.folders import read_checkpoint
    from sslens.zoo.quantised import dequantise_states
    from sslens.zoo.recognise import recognise

    def read(source: str) -> None:
        plain, options = zoo.split_options(source)
        path = Path(plain)
        if source in given or cards.look_up(plain) or plain == "pixels" or not exists(path):
            return
        if is_fingerprint(path):
            return
        recognise(
            dequantise_states(read_checkpoint(zoo.find_file(path)))[0],
            branch=options.get("branch"),
            num_heads=options.get("num_heads"),
            drop=options.get("drop"),
        )

    do_all(read, sources)


def describe_same(members: Sequence[Member]) -> list[str]:
    """Write a sentence for all models under study that have the same weights: their CKA is 1, which
    says nothing about their training."""
    by_digest: dict[str, list[Member]] = {}
    for member in members:
        if not member.control:
            by_digest.setdefault(member.described.digest, []).append(member)
    return [_write_same(alike) for alike in by_digest.values() if len(alike) > 1]


def describe_sizes(members: Sequence[Member]) -> list[str]:
    """Say at which size models under study see images: a file of a CNN seldom tells the size that
    it was trained at."""
    from sslens.comparisons.roles import list_names  # which loads NumPy

    by_size: dict[int, list[str]] = {}
    for member in members:
        size = (member.transform or {}).get("crop")
        if not member.control and size is not None:
            by_size.setdefault(int(size), []).append(member.name)
    shown = [f"{list_names(names)} at {size} px" for size, names in by_size.items()]
    if not shown:
        return []
    return [f"Images are seen by {'; '.join(shown)}: @image_size=N behind a model sets another."]


def describe_resized(members: Sequence[Member]) -> list[str]:
    """Say which models under study see images of another size than their usual one, and where all
    were given one size, how one model alone is given it."""
    studied = [member for member in members if not member.control]
    sides: dict[tuple[int, int], list[str]] = {}
    for member in studied:
        side, usual = _read_sides(member)
        if side != usual:
            sides.setdefault((side, usual), []).append(member.name)
    told = [
        f"{', '.join(names)} {'see' if len(names) > 1 else 'sees'} images of {side} px here, and"
        f" usually of {usual} px: at {usual} px the numbers are others."
        for (side, usual), names in sides.items()
    ]
    given = [member.about.more.get("image_size") for member in studied]
    if told and len(studied) > 1 and len(set(given)) == 1:
        own = f"{zoo.split_options(studied[0].given)[0]}@image_size={given[0]}"
        told[-1] += f" A size behind one model, such as {own}, is for that model alone."
    return told


def _read_sides(member: Member) -> tuple[int, int]:
    """The side in pixels of the images that a model sees, and its usual side."""
    side = (member.transform or {}).get("crop", 0)
    usual = member.about.more.get("usual_size", side)
    return (int(side), usual) if isinstance(usual, int) else (int(side), int(side))


def _write_same(members: Sequence[Member]) -> str:
    """Write that models have the same weights, and all that differs in how they see images."""
    names = [member.name for member in members]
    said = f"{', '.join(names[:-1])} and {names[-1]} have the same weights"
    shown = [member.transform for member in members]
    if any(one is None for one in shown):
        return f"{said}: they are one model."
    differing = [
        f"{word} {' and '.join(dict.fromkeys(_spell(one[key]) for one in shown if one))}"
        for key, word in SEEN.items()
        if len({_spell(one[key]) for one in shown if one and key in one}) > 1
    ]
    if not differing:
        return f"{said}: they are one model."
    return (
        f"{said}, and images are prepared for them in different ways, which alone sets their"
        f" features apart: {'; '.join(differing)}."
    )


def _spell(value: Any) -> str:
    """A setting of a transform in words: a number, a word or a list of numbers."""
    if isinstance(value, list | tuple):
        return f"({', '.join(f'{one:g}' for one in value)})"
    return str(value)


def _take(source: str, given: Given) -> Member | None:
    """The member that is in memory under a source; None where the source is not of such a one."""
    if source not in given:
        return None
    from sslens.fingerprint import Fingerprint
    from sslens.models.backbone import Backbone
    from sslens.zoo.wrapping import wrap

    one = given[source]
    if isinstance(one, Fingerprint):
        return _make_fingerprinted(one, source)
    model = one
    if not isinstance(one, Backbone):
        model = wrap(one, name=source.removeprefix(MEMORY))
    if source.startswith(MEMORY):
        model = model.copy_with(source=source)
    return Member(model.name, False, model=model, given=source)


def _load(source: str) -> Member:
    if is_fingerprint(Path(source)):
        from sslens.fingerprint import read

        return _make_fingerprinted(read(Path(source)), source)
    model = zoo.load(source)
    return Member(model.name, False, model=model, given=source)


def _make_fingerprinted(stored: "Fingerprint", source: str) -> Member:
    # a random initialisation that was fine-tuned is studied: it stands in for none that was not
    control = stored.about.family == "control" and stored.about.tuned != "fine-tuned"
    return Member(stored.name, control, fingerprint=stored, given=source)


def _read_all(sources: Sequence[str], given: Given) -> list[Member]:
    """Read the weights of models; their files are hashed side by side. Models in memory are
    networks already."""
    from concurrent.futures import ThreadPoolExecutor

    from sslens.zoo.weights import read_weights

    weights = [
        None if source in given or is_fingerprint(Path(source)) else read_weights(source)
        for source in sources
    ]
    with ThreadPoolExecutor(2, "hash") as pool:  # two files at a time are as much as a disk gives
        list(pool.map(lambda one: one and one.digest, weights))
    return [
        _take(source, given) or _load(source)
        if one is None
        else Member(one.name, False, given=source, weights=one)
        for source, one in zip(sources, weights, strict=True)
    ]


def _load_controls(members: list[Member]) -> list[Member]:
    twins = [twin for member in members for twin in zoo.name_random_twins(member.described.about)]
    given = {member.described.source for member in members}
    models = [
        zoo.load(source) for source in dict.fromkeys((*twins, "pixels")) if source not in given
    ]
    return [Member(model.name, True, model=model) for model in models]


def _distinguish(members: list[Member]) -> list[Member]:
    """Tell members of one name apart: by the shortest ends of their paths that differ or by
    architecture, else by number."""
    groups: dict[str, list[int]] = {}
    for place, member in enumerate(members):
        groups.setdefault(member.name, []).append(place)
    named = list(members)
    for name, places in groups.items():
        if len(places) == 1:
            continue
        ends = _list_distinctions([members[place] for place in places])
        for place, end in zip(places, ends, strict=True):
            named[place] = replace(members[place], name=f"{name} ({end})")
    if len({member.name for member in named}) == len(named):
        return named
    return [
        replace(member, name=f"{member.name} [{number}]") for number, member in enumerate(named, 1)
    ]


def _list_distinctions(members: Sequence[Member]) -> list[str]:
    """What sets each of several models of one name apart from the others."""
    sources = [member.described.source for member in members]
    paths = [Path(source) for source in sources]
    folders = [str(path.parent if path.name == zoo.ENCODER else path) for path in paths]
    ends = distinguish_paths(folders)
    return [
        str(member.about.arch) if source.startswith(("random:", "timm:")) else end
        for member, source, end in zip(members, sources, ends, strict=True)
    ]
