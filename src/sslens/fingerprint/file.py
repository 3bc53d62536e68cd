"""The file of a fingerprint: it is written atomically, and read strictly."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from sslens import __version__
from sslens.counts import spell_count
from sslens.errors import InputError, make_line, nearest, require_type
from sslens.fingerprint.conditions import Conditions
from sslens.fingerprint.header import ENTRY, FORMAT, is_fingerprint, read_header
from sslens.fingerprint.tensors import (
    find_not_finite,
    load_tensors,
    pack_ids,
    unpack_grams,
    unpack_ids,
)
from sslens.models.about import About, find_network
from sslens.store import write_tensors
from sslens.tensor_file import has_checksums

if TYPE_CHECKING:
    from torch import Tensor

    from sslens.capture import Grams

#: what is said of the Grams' error, by dtype; measured in tests/test_fingerprint.py
NOTES = {
    "float32": "as computed",
    "float16": (
        "each value is within 2⁻¹¹ of its distance from its minibatch's mean, and CKA over"
        " minibatches of 32 within 5e-5 of that of float32 (measured on random ViTs)"
    ),
}


@runtime_checkable
class Described(Protocol):
    """What a fingerprint says of its model. A Backbone has these attributes, and so has a
    Fingerprint."""

    @property
    def name(self) -> str:
        """The name in tables."""
        ...

    @property
    def source(self) -> str:
        """The source of the weights."""
        ...

    @property
    def about(self) -> About:
        """What is known of the model."""
        ...

    @property
    def digest(self) -> str:
        """The digest of the weights."""
        ...


@dataclass(frozen=True, repr=False)
class Fingerprint:
    """A model's Grams over a set of images, and all that is known of both.

    Attributes:
        source: the source of the model for `sslens.load`, on the machine where the fingerprint was
            made.
        about: what is known of the model, as a Backbone has it.
        digest: the digest of the weights.
        dtype: "float32" or "float16", the number type in the file; the Grams in memory are float32.
        note: a sentence on how far the Grams in the file are from the computed ones.
        grams: the Grams by tokens, with the same keys as after a pass, so that stored results that
            were computed from them are found again.
    """

    name: str
    source: str
    about: About
    digest: str
    conditions: Conditions
    dtype: str
    note: str
    grams: "Mapping[str, Grams]"

    def save(self, path: Path | str, *, half: bool = False) -> Path:
        """Save it in a file (`write`); returns the path.

        Args:
            path: the file; NAME.fingerprint.safetensors is usual.
            half: whether Grams are written in float16, in half the size.

        Raises:
            InputError: it was read from a file of float16, or the file cannot be written.
        """
        file = _as_path(path)
        grams = tuple(self.grams.values())
        write(file, grams, self.conditions, model=self, dtype="float16" if half else "float32")
        return file

    def to_json(self) -> Mapping[str, Any]:
        """What it is of, as JSON values, without ids and Grams."""
        shown = self.conditions
        return {
            "model": {"name": self.name, "source": self.source, "digest": self.digest},
            "about": self.about.to_json(),
            "images": dict(self.images),
            "plan": dict(shown.plan),
            "transform": dict(shown.transform),
            "precision": shown.precision,
            "dtype": self.dtype,
            "taps": {tokens: len(grams.taps) for tokens, grams in self.grams.items()},
        }

    def __repr__(self) -> str:
        images = self.images
        return (
            f"<Fingerprint {self.name}: tokens {', '.join(self.grams)},"
            f" {spell_count(images['count'], 'image')} of {images['name']}>"
        )

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of the images, minibatch by minibatch."""
        return self.conditions.ids

    @property
    def images(self) -> Mapping[str, Any]:
        """The name, number and digest of the images: "name", "count" and "content"."""
        return self.conditions.images


def write(
    path: Path | str,
    grams: "Sequence[Grams]",
    conditions: Conditions,
    *,
    model: Described,
    dtype: Literal["float32", "float16"] = "float32",
) -> None:
    """Write Grams of one model as a fingerprint; the same Grams give the same bytes.

    Args:
        grams: Grams of one or more of all, CLS and patch tokens, made under the conditions.
        conditions: what the model was shown.
        model: the Backbone, or the Fingerprint that the Grams were read from.
        dtype: "float32", or "float16": half the size, and CKA over minibatches of 32 changes by
            under 5e-5.

    Raises:
        InputError: the Grams are of another model or were made under other conditions, a Gram has
            a value that is no number, or the file cannot be written; nothing is left of it. Or a
            file that is no fingerprint has that name.

    >>> import sslens, tempfile
    >>> from sslens.plan import Plan
    >>> model, images = sslens.load("random:vit_nano_patch8_32"), sslens.open_images("scenes:0:40")
    >>> plan = Plan.draw(images.ids)
    >>> grams = sslens.grams(model, images, plan=plan)
    >>> conditions = Conditions.of(model, images, plan)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write(Path(folder, "nano"), [grams], conditions, model=model)
    ...     stored = read(Path(folder, "nano"))
    >>> tuple(stored.grams["all"].blocks.shape), stored.digest == model.digest
    ((17, 2, 32, 32), True)
    """
    import torch

    path = _as_path(path)
    _require_types(grams, conditions, model, dtype)
    if path.exists() and not is_fingerprint(path):
        raise InputError(
            f"{path} is there and is no fingerprint: it would be lost.",
            mend="choose another name with {out}",
        )
    if [part.key["settings"]["tokens"] for part in grams] != list(conditions.versions):
        raise InputError(
            f"The conditions name Grams of the tokens {list(conditions.versions)}, not those given",
            mend="give one of each, in this order, as {grams}",
        )
    tensors: dict[str, Tensor] = {
        "ids": pack_ids(conditions.ids),
        "sizes": torch.tensor(conditions.sizes),
    }
    entries: dict[str, Any] = {}
    for part in grams:
        conditions.require_made(part)
        tensors |= _tensors_of(part, conditions, model, dtype)
        taps = [list(asdict(tap).values()) for tap in part.taps]
        entries[part.key["settings"]["tokens"]] = {"version": part.key["version"], "taps": taps}
    header = _header(conditions, model, dtype, entries)
    write_tensors(path, tensors, {ENTRY: json.dumps(header, sort_keys=True, allow_nan=False)})


def _header(
    conditions: Conditions, model: Described, dtype: str, entries: Mapping[str, Any]
) -> Mapping[str, Any]:
    """What a file says of itself; `entries` are the version and taps of each kind of tokens."""
    return {
        "format": FORMAT,
        "sslens": __version__,
        "model": {
            "name": model.name,
            "source": model.source,
            "digest": model.digest,
            "about": model.about.to_json(),
        },
        "transform": dict(conditions.transform),
        "precision": conditions.precision,
        "images": dict(conditions.images),
        "plan": dict(conditions.plan),
        "dtype": dtype,
        "note": NOTES[dtype],
        "grams": dict(entries),
    }


def _as_path(path: object) -> Path:
    require_type(path, (str, Path), "file", "give the path of a fingerprint")
    return Path(str(path)).expanduser()


def _require_types(grams: object, conditions: object, model: object, dtype: str) -> None:
    """Refuse arguments of other types.

    Raises:
        InputError: which argument, and what it should be.
    """
    from sslens.capture import Grams

    require_type(grams, (list, tuple), "list of Grams", "give Grams as {grams}")
    for part in grams if isinstance(grams, list | tuple) else ():
        require_type(part, Grams, "Grams of a model", "give what sslens.grams returns")
        if "settings" not in part.key:
            raise InputError(f"The Grams of {part.model} were made of no model, so have no key.")
    require_type(conditions, Conditions, "conditions", "give what Conditions.of returns")
    require_type(model, Described, "model", "give what sslens.load returns, or a fingerprint")
    if dtype not in NOTES:
        raise InputError(f'Grams cannot be stored as "{dtype}": {nearest(dtype, NOTES)}')


def _tensors_of(
    grams: "Grams", conditions: Conditions, model: Described, dtype: str
) -> "dict[str, Tensor]":
    """What a file holds of the Grams of one kind of tokens: their triangles, halved if asked for,
    and energies."""
    from sslens.fingerprint import triangles

    if grams.key["weights"] != model.digest:
        raise InputError(
            f"The Grams of {grams.model} are not those of the weights of {model.name}",
            mend="give the model that they were made of as {model}",
        )
    if "rounded" in grams.key:
        raise InputError(
            f"The Grams of {grams.model} were rounded to {grams.key['rounded']} already",
            mend="copy their file",
        )
    tokens = grams.key["settings"]["tokens"]
    packed, energy = triangles.pack(grams.blocks, conditions.sizes), grams.energy
    wrong = find_not_finite(packed, energy)
    if wrong is not None:
        raise InputError(
            f"{model.name}: {grams.taps[wrong].name} gives values that are no numbers (NaN or"
            f" infinity), so its fingerprint was not written. sslens doctor {model.source} says"
            " whether its weights are whole."
        )
    if dtype == "float32":
        return {f"energy/{tokens}": energy, f"triangles/{tokens}": packed}
    half, scale, offset = triangles.halve(packed, conditions.sizes)
    return {
        f"energy/{tokens}": energy,
        f"scale/{tokens}": scale,
        f"offset/{tokens}": offset,
        f"triangles/{tokens}": half,
    }


def read(path: Path | str) -> Fingerprint:
    """Read the fingerprint in a file.

    Raises:
        InputError: there is no such file, it was cut off, it is no fingerprint or a newer one, or
            its content does not fit its header.
    """
    from sslens.capture import Grams
    from sslens.models.taps import Tap

    path = _as_path(path)
    header, tensors = read_header(path), load_tensors(path)
    ids, sizes = unpack_ids(path, header, tensors), tuple(tensors["sizes"].tolist())
    transform, images, plan = header["transform"], header["images"], header["plan"]
    conditions = Conditions(
        name=header["model"]["name"],
        ids=ids,
        images=images,
        plan=plan,
        sizes=sizes,
        transform=transform,
        precision=header["precision"],
        versions={tokens: entry["version"] for tokens, entry in header["grams"].items()},
    )
    grams = {}
    for tokens, entry in header["grams"].items():
        taps = tuple(Tap(name, kind, float(depth)) for name, kind, depth in entry["taps"])
        key = {
            "reducer": "grams",
            "version": entry["version"],
            "settings": {"tokens": tokens},
            "weights": header["model"]["digest"],
            "transform": transform,
            "taps": [asdict(tap) for tap in taps],
            "images": images["content"],
            "plan": plan["digest"],
            "precision": header["precision"],
        }
        if header["dtype"] != "float32":  # other values than those that the key would find
            key["rounded"] = header["dtype"]
        made = unpack_grams(path, header, tensors, tokens)
        grams[tokens] = Grams(conditions.name, ids, taps, **made, key=key)
    model = header["model"]
    about = About.from_json(model["about"])
    if about.network is None:  # written before headers said it
        about = replace(about, network=find_network(next(iter(grams.values())).taps))
    return Fingerprint(
        name=model["name"],
        source=model["source"],
        about=about,
        digest=model["digest"],
        conditions=conditions,
        dtype=header["dtype"],
        note=header["note"],
        grams=grams,
    )


def describe(path: Path | str) -> str:
    """Describe a fingerprint, line by line, for a person.

    Raises:
        InputError: for the same reasons as `read`.
    """
    path = _as_path(path)
    fingerprint = read(path)
    about = fingerprint.about
    facts = [text for text in (about.objective, about.family, about.arch, about.tuned) if text]
    shown, transform = fingerprint.conditions, fingerprint.conditions.transform
    part = f"{transform['crop']} of {transform['resize']} px, {transform['interpolation']}"
    lines = {
        "model": f"{fingerprint.name} ({fingerprint.source}), weights {fingerprint.digest[:12]}",
        "known": ", ".join(facts) or "nothing more",
        "images": (
            f"{fingerprint.images['count']:,} of {fingerprint.images['name']}, content"
            f" {fingerprint.images['content'][:12]}"
        ),
        "seen as": f"{part}, forward pass in {shown.precision}",
        "minibatches": (
            f"{len(shown.sizes)} of {spell_count(shown.plan['batch'], 'image')}"
            + (f", seed {shown.plan['seed']}" if shown.plan["seed"] is not None else "")
        ),
        "stored": f"{path.stat().st_size / 1e6:.2f} MB, {fingerprint.dtype}: {fingerprint.note}",
        "checksums": "right" if has_checksums(path) else "none: written before there were any",
    }
    for tokens, grams in fingerprint.grams.items():
        kinds: dict[str, int] = {}
        for tap in grams.taps:
            kinds[tap.kind] = kinds.get(tap.kind, 0) + 1
        counted = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
        lines[f"tokens {tokens}"] = f"{len(grams.taps)} tap{'s' * (len(grams.taps) > 1)}: {counted}"
    return "\n".join(f"{name:<14}{make_line(text)}" for name, text in lines.items())
