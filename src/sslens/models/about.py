"""What is known of a model: where it comes from, and what kind of network it is."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, final

Tuned = Literal[False, "fine-tuned", "linear"]
Network = Literal["vit", "cnn", "pixels"]


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

    The keys of `to_json` are those that stand in the headers of files, where they are frozen.

    Attributes:
        family: "JE" (joint embedding), "REC" (reconstruction), "supervised", or "control".
        objective: the file of `objectives/` by name, or None.
        arch: the architecture's name, by which a network of that shape can be built again.
        network: of tokens ("vit"), of maps ("cnn"), or raw pixels; the loader sees it in the
            network, and no name decides it.
        tuned: "fine-tuned" where the backbone was trained further on labels, "linear" where a
            classifier was trained on the frozen backbone, else False.
        pretrained: what a fine-tuned model began with.
        recipe: digest of the settings of its training, without the seed.
        seed: of its training.
        card: the card's name.
        layout: the layout in which its file was written.
        branch: which network of the file it is.
        licence: of the weights.
        epochs: that it was trained for.
        step: at which it was kept.
        config: digest of everything that decided its weights.
        images: the name of the images that it was trained on.
        classes: names of the classes that it was tuned to tell apart.
        pooling: of the features that its classifier read.
        num_heads: heads of attention, where they were given by hand.
        more: what a file says of it besides, kept as it is.

    >>> About.from_json({"family": "REC", "objective": "mae", "seed": 1}).family
    'REC'
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
    epochs: float | None = None
    step: int | None = None
    config: str | None = None
    images: str | None = None
    classes: tuple[str, ...] = ()
    pooling: str | None = None
    num_heads: int | None = None
    more: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "About":
        """What `to_json` gave, or what an older file says; unknown keys are kept in `more`."""
        known = {entry.name for entry in fields(cls)} - {"more"}
        own = {key: value for key, value in values.items() if key in known}
        if isinstance(own.get("pretrained"), Mapping):
            origin = own["pretrained"]
            own["pretrained"] = Origin(*(origin.get(key) for key in ("name", "source", "digest")))
        if "classes" in own:
            own["classes"] = tuple(own["classes"] or ())
        return cls(**own, more={key: value for key, value in values.items() if key not in known})

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values: family, objective and arch always, the rest where it is known."""
        said: dict[str, Any] = {}
        for entry in fields(self):
            value = getattr(self, entry.name)
            if entry.name == "more":
                said |= value
            elif isinstance(value, Origin):
                said[entry.name] = vars(value).copy()
            elif entry.name in ("family", "objective", "arch") or value not in (None, False, ()):
                said[entry.name] = list(value) if isinstance(value, tuple) else value
        return said
