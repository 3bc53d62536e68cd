"""Checkpoints as data: `cards/NAME.yaml` says what is known about one, and reading it needs no
torch.

A card is found by its file's name or one of its aliases. It is read strictly: a key that is
missing, unknown or of another kind is an error that names the file, so that no claim about a
checkpoint is lost by a slip of the pen.
"""

import contextlib
import functools
import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sslens.errors import InputError, nearest
from sslens.records import explain_kind, read_record
from sslens.store import home, write_text

#: the folder of the generators that come with the package
GENERATORS = Path(__file__).parent / "generators"
#: Joint-embedding and reconstruction are the two sides that the papers compare; the others stand
#: beside them (distilled: trained on the features of several other networks), and a control is what
#: was not pre-trained at all.
Family = Literal["JE", "REC", "supervised", "language-image", "distilled", "control"]
#: what was trained after the objective: nothing, all weights with labels, or a linear head on
#: frozen weights
Tuned = Literal[False, "fine-tuned", "linear"]


@dataclass(frozen=True)
class Paper:
    """A paper on arXiv, by its identifier."""

    arxiv: str
    title: str


@dataclass(frozen=True)
class Evaluation:
    """How the authors prepare images for evaluation: `sslens.data.transform.EvalTransform` takes
    the same names."""

    resize: int
    crop: int
    interpolation: Literal["bicubic", "bilinear"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True)
class Card:
    """What is known about one checkpoint.

    Fields that a card may leave out have a value here; the others it must give, `null` where
    nothing is known.

    >>> card = find("mae_vitb16")
    >>> card.family, card.arch, card.heads, card.epochs
    ('REC', 'vit_base_patch16_224', 12, 1600)
    >>> card.filename
    'mae_pretrain_vit_base.pth'
    """

    name: str
    """The file's name without .yaml; what users type."""
    title: str
    """One line for a table: method, size, and what the file holds."""
    objective: str | None
    """mae, moco-v3, dino, msn, fcmae, dinov2, dinov3, clip, siglip, ibot, beit, supervised …"""
    family: Family
    tuned: Tuned
    arch: str
    """The architecture, as `random:ARCH` takes it; `heads` stands beside it where a ViT's differ
    from width / 64. An architecture that cannot be built at random has a name of its own."""
    heads: int | None
    """Heads of attention, which no file tells; null for CNNs."""
    epochs: int | None
    """Of pre-training; null where the authors count otherwise or do not say."""
    trained_on: str
    """The images of training."""
    licence: str
    """Of the weights: SPDX, or the authors' words."""
    paper: Paper
    """Of the objective, where the checkpoint has none of its own."""
    repository: str | None
    """The authors' code; null where it is ours."""
    evaluation: Evaluation
    feature: str
    """Which feature the authors evaluate."""
    url: str | None = None
    """Where the authors keep the file; either this or `source` or `file`."""
    source: str | None = None
    """`timm:NAME` or `hf-hub:ID`, where another library fetches the file."""
    file: str | None = None
    """Its name in `cards/weights/`, where it comes with the package."""
    decoder: str | None = None
    """The name in `cards/weights/` of a masked autoencoder's decoder, which
    `sslens.tasks.reconstruction` reads."""
    decoder_sha256: str | None = None
    layout: str | None = None
    """The file of zoo/layouts that reads it."""
    multicrop: bool | None = None
    """Whether it was trained on small crops beside large ones, where that is not as usual for the
    objective."""
    branch: str | None = None
    """The twin that is loaded, where the file holds two."""
    size: int | None = None
    """Bytes of the file."""
    sha256: str | None = None
    sha256_prefix: str | None = None
    """The beginning of it, where only that is published (torch.hub puts it in file names)."""
    md5_prefix: str | None = None
    """The beginning of the MD5 sum, where that is published."""
    sha256_note: str | None = None
    """Where the hash comes from, or why there is none."""
    prefix_tokens: int | None = None
    """The number of tokens before the patches; null for CNNs, and where no one looked."""
    gated: bool | None = None
    """Whether the file is given only to accounts that accepted its conditions; null where no source
    says it."""
    aliases: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    """What one should know before trusting a number."""
    facts: tuple[str, ...] = ()
    """Where the card's facts are stated, each with what it states."""

    @property
    def filename(self) -> str | None:
        """The name of the file at the end of the url."""
        return None if self.url is None else self.url.rpartition("/")[2]

    @property
    def shipped(self) -> Path | None:
        """The file that comes with the package."""
        return None if self.file is None else _FOLDER / "weights" / self.file

    @property
    def shipped_decoder(self) -> Path | None:
        """The file of the decoder that comes with the package."""
        return None if self.decoder is None else _FOLDER / "weights" / self.decoder

    @property
    def origin(self) -> str:
        """The url, the source or the file: where the weights come from."""
        return self.url or self.source or f"{self.file}, which comes with sslens"


_FOLDER = Path(__file__).parent
#: the spelling of texts that have one
_CHECKED: dict[str, tuple[str, str]] = {
    "sha256": (r"[0-9a-f]{64}", "64 digits of 0-9a-f"),
    "decoder_sha256": (r"[0-9a-f]{64}", "64 digits of 0-9a-f"),
    "sha256_prefix": (r"[0-9a-f]{8,63}", "8 or more digits of 0-9a-f"),
    "md5_prefix": (r"[0-9a-f]{6,32}", "6 or more digits of 0-9a-f"),
    "url": (r"https://\S+/[^/\s]+", "an https address that ends in the file's name"),
    "source": (r"(timm|hf-hub):\S+", "timm:NAME or hf-hub:ID"),
    "name": (r"[a-z0-9_]+", "small letters, digits and _"),
}


def cards() -> dict[str, Card]:
    """All cards, by name, in the order of their names.

    >>> "dino_vitb16" in cards()
    True

    Raises:
        InputError: a card's file is not as `Card` says.
    """
    return {card.name: card for card in _read_cards()}


@functools.cache
def _read_cards() -> tuple[Card, ...]:
    return tuple(_read_card(name) for name in _read_values())


@functools.cache
def _read_card(name: str) -> Card:
    """One card alone, which costs less than all of them."""
    return _make_card(_path(name), _read_values()[name])


def _path(name: str) -> Path:
    return _FOLDER / f"{name}.yaml"


@functools.cache
def _read_values() -> Mapping[str, Any]:
    """What the files of all cards hold, by the name of the card, each known to be a card.

    It is kept as JSON until a file changes, because YAML takes four times as long, and every start
    of the command line would pay it.
    """
    paths = sorted(_FOLDER.glob("*.yaml"))
    stamp = [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in paths]
    file = home() / f"cards-{zlib.crc32(str(_FOLDER).encode()):08x}.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        kept = json.loads(file.read_text(encoding="utf-8"))
        if kept["stamp"] == [str(_FOLDER), *stamp] and len(kept["cards"]) == len(paths):
            return dict(kept["cards"])
    values = {path.stem: _parse(path) for path in paths}
    _require_unique(tuple(_make_card(_path(name), value) for name, value in values.items()))
    text = json.dumps({"stamp": [str(_FOLDER), *stamp], "cards": values})
    with contextlib.suppress(InputError, OSError):  # without it the next start is slower
        write_text(file, text)
    return values


def find(name: str) -> Card:
    """The card of a name or an alias.

    Raises:
        InputError: there is none; the nearest names are offered.

    >>> find("mae_pretrain_vit_base").name  # an alias
    'mae_vitb16'
    """
    card = look_up(name)
    if card is None:
        raise InputError(f'There is no card "{name}": {nearest(name, names())}')
    return card


def look_up(name: str) -> Card | None:
    """The card of a name or an alias, or None."""
    for own, value in _read_values().items():
        if name == own or name in value.get("aliases", ()):
            return _read_card(own)
    return None


def list_generators() -> dict[str, Path]:
    """List the files of the generators that come with the package, by name.

    >>> list(list_generators())
    ['scenes_generator']
    """
    return {file.stem: file for file in sorted(GENERATORS.glob("*.safetensors"))}


def names() -> tuple[str, ...]:
    """All names and aliases, for the nearest spelling."""
    return tuple(
        name for own, value in _read_values().items() for name in (own, *value.get("aliases", ()))
    )


def by_size(size: int) -> tuple[Card, ...]:
    """The cards whose file has this many bytes: hash a file only where there is one of them to
    compare with."""
    return tuple(card for card in _read_cards() if card.size == size)


def by_sha256(sha256: str) -> Card | None:
    """The card of the file with this hash, by the whole hash where it is known, else by its
    published beginning.

    >>> by_sha256("0" * 64) is None
    True
    """
    for card in _read_cards():
        if sha256 == card.sha256 or (card.sha256_prefix and sha256.startswith(card.sha256_prefix)):
            return card
    return None


def read(path: Path) -> Card:
    """Read the card of one file.

    Raises:
        InputError: it is no YAML mapping; a key is unknown, missing, or of another kind; none or
            several of url, source and file.
    """
    return _make_card(path, _parse(path))


def _parse(path: Path) -> Any:
    """The value of a YAML file.

    Raises:
        InputError: it is no YAML.
    """
    import yaml

    loader = getattr(
        yaml, "CSafeLoader", yaml.SafeLoader
    )  # eight times as fast, where it was built
    try:
        return yaml.load(path.read_text(encoding="utf-8"), loader)
    except yaml.YAMLError as error:
        raise InputError(f"The card {path} is not YAML: {' '.join(str(error).split())}.") from error


def _make_card(path: Path, given: Any) -> Card:
    """The card that a file's value describes."""
    if not isinstance(given, dict):
        raise InputError(f"The card {path} is not a YAML mapping of the fields of a card.")
    if "name" in given:
        raise InputError(f"The card {path} says its name: a card's name is its file's.")
    card = read_record(Card, {"name": path.stem, **given}, f"the card {path}")
    _require_whole(card, path)
    return card


def _require_whole(card: Card, path: Path) -> None:
    """What the kinds of the fields do not say."""
    where = f"the card {path}"
    for key, (pattern, expected) in _CHECKED.items():
        value = getattr(card, key)
        if value is not None and not re.fullmatch(pattern, value):
            raise InputError(explain_kind(where, key, value, expected))
    if sum(given is not None for given in (card.url, card.source, card.file)) != 1:
        raise InputError(f"In {where}, give one of url, source and file.")
    if card.source is None and card.layout is None:
        raise InputError(
            f"In {where}, a card of a file needs a layout: the file of zoo/layouts that reads it."
        )
    if card.source is None and card.sha256 is None and card.sha256_note is None:
        raise InputError(f"In {where}, sha256 is not known: say why in sha256_note.")
    if not 0 < card.evaluation.crop <= card.evaluation.resize:
        raise InputError(
            explain_kind(where, "evaluation.crop", card.evaluation.crop, "0 < crop ≤ resize")
        )


def _require_unique(all_cards: tuple[Card, ...]) -> None:
    seen: dict[str, str] = {}
    for card in all_cards:
        for name in (card.name, *card.aliases):
            if name in seen:
                raise InputError(f'"{name}" names two cards: {seen[name]} and {card.name}.')
            seen[name] = card.name
