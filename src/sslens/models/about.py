"""What is known of a model: where it comes from, and what kind of network it is."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, final, get_args

from sslens.cards import Tuned
from sslens.models.taps import Tap

Network = Literal["vit", "cnn", "pixels"]
#: the fields that files give as a whole number; those named neither here nor in `_is_readable` are
#: text
_WHOLE = ("seed", "step", "num_heads")


@final
@dataclass(frozen=True)
class Origin:
    """The model that a fine-tuning began with.

    Attributes:
        name: for tables and figures.
        source: as `sslens.load` was given it.
        digest: of its weights.
    """

    name: str | None = None
    source: str | None = None
    digest: str | None = None


@final
@dataclass(frozen=True)
class About:
    """What is known of a model; None where it is not known.

    The keys of `to_json` stand in the headers of files, where they are frozen.

    Attributes:
        family: "JE" (joint embedding), "REC" (reconstruction), "supervised", or "control".
        objective: the name of the objective, a file of `objectives/`.
        arch: the architecture's name, from which a network of the same shape can be built.
        network: the kind of the network's outputs: tokens ("vit"), maps ("cnn"), or raw pixels
            ("pixels"). The loader tells it from the network itself, never from a name.
        tuned: "fine-tuned" where the backbone was trained further on labels, "linear" where a
            classifier was trained on the frozen backbone, else False.
        pretrained: the model that a fine-tuning began with.
        recipe: the digest of the training's settings, without the seed.
        seed: the seed of the training, or of a random initialisation.
        card: the name of the model's card.
        layout: the name of the layout of the checkpoint file (`zoo/layouts/`).
        branch: the name of this network in a file of several, such as "teacher".
        licence: the licence of the weights.
        epochs: the number of epochs of the training.
        step: the step of the training after which the weights were kept.
        config: the digest of everything that decided the weights.
        images: the name of the images that it was trained on.
        classes: the names of the classes that the model was tuned to tell apart.
        pooling: the pooling of the features that the classifier read.
        num_heads: the number of attention heads, where the user gave it.
        more: whatever else a file says of the model, kept as it is.

    >>> About.from_json({"family": "REC", "objective": "mae", "seed": 0}).seed
    0
    >>> About.from_json({"family": "REC", "knn": 0.5}).to_json()
    {'family': 'REC', 'objective': None, 'arch': None, 'knn': 0.5}
    """

    family: str | None = None
    objective: str | None = None
    arch: str | None = None
    network: Network | None = None
    tuned: Tuned = False
    pretrained: Origin | None = None
    recipe: str | None = None
    seed: int | None = None
    card: str | None = None
    layout: str | None = None
    branch: str | None = None
    licence: str | None = None
    epochs: int | float | None = None
    step: int | None = None
    config: str | None = None
    images: str | None = None
    classes: tuple[str, ...] = ()
    pooling: str | None = None
    num_heads: int | None = None
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def read_pooling(self) -> str | None:
        """The pooling that the model's own classifier read, as features name it: "patch" or "cls";
        None where it is not known or there is no classifier.

        >>> About(pooling="patches").read_pooling, About().read_pooling
        ('patch', None)
        """
        return "patch" if self.pooling == "patches" else self.pooling

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "About":
        """Read what `to_json` gave, or what an older file says.

        Unknown keys, and values of another kind than their field, are kept in `more`.

        >>> About.from_json({"pretrained": {"name": "mae"}, "seed": "one"})
        About(... pretrained=Origin(name='mae', source=None, digest=None), ... more={'seed': 'one'})
        """
        own: dict[str, Any] = {}
        more: dict[str, Any] = {}
        for key, value in values.items():
            if not _is_readable(key, value):
                more[key] = value
            elif value is None:
                continue
            elif key == "pretrained":
                own[key] = Origin(*(value.get(part) for part in ("name", "source", "digest")))
            elif key == "classes":
                own[key] = tuple(value)
            else:
                own[key] = value
        return cls(**own, more=more)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values: family, objective and arch always, the others where known."""
        values: dict[str, Any] = {}
        for entry in fields(self):
            value = getattr(self, entry.name)
            if entry.name == "more":
                values |= value
            elif isinstance(value, Origin):
                values[entry.name] = vars(value).copy()
            elif isinstance(value, tuple):
                if value:
                    values[entry.name] = list(value)
            elif entry.name in ("family", "objective", "arch") or not (
                value is None or value is False
            ):
                values[entry.name] = value
        return values


_NAMES = {entry.name for entry in fields(About)} - {"more"}


def _is_readable(key: str, value: Any) -> bool:
    """Whether a value from a file is of the kind that the field of this name holds."""
    if key not in _NAMES:
        return False
    if value is None:
        return True
    if key == "pretrained":
        return isinstance(value, Mapping) and all(
            isinstance(value.get(part), str | None) for part in ("name", "source", "digest")
        )
    if key == "classes":
        return isinstance(value, list | tuple) and all(isinstance(name, str) for name in value)
    if key == "tuned":
        return value is False or (isinstance(value, str) and value in get_args(Tuned))
    if key == "network":
        return isinstance(value, str) and value in get_args(Network)
    if key in (*_WHOLE, "epochs"):
        kind = int | float if key == "epochs" else int
        return isinstance(value, kind) and not isinstance(value, bool)
    return isinstance(value, str)


def find_network(taps: Iterable[Tap]) -> Network | None:
    """Tell the kind of network by its taps, for files that were written before they said it.

    Attention and the normalisation before attention are in transformers alone; a stem and stages
    are in CNNs alone.

    Returns:
        None where the taps do not tell.

    >>> find_network([Tap("blocks.0", "block", 0.1), Tap("norm", "norm", 1.0)])
    'vit'
    >>> find_network([Tap("maxpool", "stem", 0.0), Tap("layer1.0", "block", 0.1)])
    'cnn'
    """
    taps = list(taps)
    kinds = {tap.kind for tap in taps}
    if "pixels" in kinds:
        return "pixels"
    if kinds & {"qkv", "norm1"} or any(tap.name.startswith("blocks.") for tap in taps):
        return "vit"
    if "stem" in kinds or any(tap.name.startswith(("layer", "stages.")) for tap in taps):
        return "cnn"
    return None
