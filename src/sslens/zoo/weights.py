"""The weights of a model under one set of names, so that two copies of a network can be laid side
by side, whoever wrote them. A file is read without torch, and no network is built."""

import functools
import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import final

from sslens import cards, zoo
from sslens.errors import InputError
from sslens.models.about import About
from sslens.store import digest
from sslens.whole_file import exists
from sslens.zoo.arrays import Array
from sslens.zoo.claim import AFTER_POOLING, CLASSIFIER, Claim
from sslens.zoo.files import Contents, convert_to_array
from sslens.zoo.folders import list_parts, read_checkpoint
from sslens.zoo.identity import find_card, gather_about
from sslens.zoo.insides import name_weights
from sslens.zoo.quantised import dequantise_states
from sslens.zoo.recognise import Recognised, find_layout, recognise

#: what a classifier's tensors are called here, by the reason for which a backbone has none
HEADS = {CLASSIFIER: "head", AFTER_POOLING: "fc_norm"}
#: what is said of a weight that was in 8 bits
SCALED = "multiplied by its scales"


@final
@dataclass(frozen=True, eq=False)
class NamedTensor:
    """A tensor under the name that all copies of its network have for it.

    Attributes:
        value: the numbers; in float32 where they are the network's, else as the file has them.
        kind: the number type in the file, as torch calls it.
        keys: the keys of the file that it was made of, in full.
        done: how it was changed, a phrase; empty where at most its name was.
        beside: why a backbone does not have it, a phrase, such as "the classification head"; empty
            for the network's own tensors.
    """

    value: Array
    kind: str
    keys: tuple[str, ...]
    done: str = ""
    beside: str = ""


@final
@dataclass(frozen=True, eq=False)
class Weights:
    """The weights of a model.

    Attributes:
        name: for tables and figures.
        source: as `sslens.load` takes it.
        about: what is known of the model.
        tensors: the tensors by name.
        method: what wrote the file, and which form of it this is; empty where that is not known.
        unknown: why the tensors have the file's own names and not the network's, a sentence; empty
            where they have the network's.
        branch: which network of the file it is, where the file holds several; else empty.
        others: the other networks of the file.
        path: the file; None where the weights were not read from one.
    """

    name: str
    source: str
    about: About
    tensors: Mapping[str, NamedTensor]
    method: str = ""
    unknown: str = ""
    branch: str = ""
    others: tuple[str, ...] = ()
    path: Path | None = field(default=None, compare=False)

    @functools.cached_property
    def digest(self) -> str:
        """What decides these weights: SHA-256 of the file and the options of the source, or of all
        tensors where there is no file."""
        _, options = zoo.split_options(self.source)
        if self.path is not None:
            sums = []
            for path in list_parts(self.path):
                with path.open("rb") as file:
                    sums.append(hashlib.file_digest(file, "sha256").hexdigest())
            return digest([*sums, options])
        state = hashlib.sha256()
        for name, tensor in sorted(self.tensors.items()):
            entry = f"{name} {tensor.value.shape} {tensor.kind}\n"
            state.update(entry.encode("utf-8", "surrogatepass"))
            state.update(tensor.value.raw.tobytes())
        return state.hexdigest()


def read_weights(source: str) -> Weights:
    """Read the weights of a model.

    The tensors of a file that a layout knows get timm's names and shapes, as in the networks of
    `sslens.load`: query, key and value that lie apart are joined, and so on. Tensors of the same
    state dict that the network does not have (a classifier, a decoder) keep their names, but that a
    single classifier is "head.weight" and "head.bias", and the normalisation before it "fc_norm". A
    file that no layout knows keeps all of its names. Weights in 8 bits are multiplied by the scales
    beside them (`dequantise`).

    Args:
        source: as `sslens.load` takes it.

    Raises:
        InputError: the source is not there or cannot be read, holds several networks of which none
            was chosen, or has no weights.
    """
    zoo.check(source)
    plain, options = zoo.split_options(source)
    card, path = cards.look_up(plain), Path(plain)
    if plain == "pixels":
        raise InputError("pixels have no weights: give a checkpoint, or a model by its name.")
    if card is not None and card.source is None:
        from sslens.zoo import download

        path = download.fetch(card)
    elif card is not None or not exists(path):
        return _read_network(source)
    else:
        path = zoo.find_file(path)
    contents, kinds = dequantise_states(read_checkpoint(path))
    branch, heads, drop = (options.get(key) for key in ("branch", "num_heads", "drop"))
    if card is not None:
        branch = branch or card.branch
    found = _try_to_recognise(contents, branch, heads, drop)
    if isinstance(found, str):
        name = f"{path.parent.name}/{path.name}" if path.name == zoo.ENCODER else path.name
        tensors = _mark(_list_as_in_file(contents), kinds)
        name = options.get("name", name)
        return Weights(name, source, About(), tensors, unknown=found, path=path)
    if card is None and found.claim.written is None:
        card = find_card(path, found)
    name = card.name if card else _name(found.claim, path, plain)
    asked = options.get("branch")
    if card is None and len(found.claim.branches) > 1:
        asked = asked or found.branch  # which of its networks it is, said where none was asked for
    others = tuple(one for one in found.claim.branches if one != found.branch)
    return Weights(
        options.get("name", f"{name} ({asked})" if asked else name),
        source,
        gather_about(found, card),
        _mark(_list_tensors(contents, found), kinds),
        method=f"{found.claim.method}: {found.claim.form}",
        branch=found.branch if others else "",
        others=others,
        path=path,
    )


def _mark(
    tensors: Iterable[tuple[str, NamedTensor]], kinds: Mapping[str, str]
) -> dict[str, NamedTensor]:
    """Say of the tensors that were in 8 bits that they were."""
    marked = {}
    for name, tensor in tensors:
        own = sorted({kinds[key] for key in tensor.keys if key in kinds})
        if own:
            done = ", ".join(filter(None, (tensor.done, SCALED)))
            tensor = replace(tensor, kind=" and ".join(own), done=done)
        marked[name] = tensor
    return marked


def _name(claim: Claim, path: Path, source: str) -> str:
    if claim.written is not None:
        return str(claim.written["name"])
    if Path(source).is_dir():
        return name_weights(path, source)
    return path.name.removesuffix("".join(path.suffixes[-2:])) or path.name


def _try_to_recognise(
    contents: Contents, branch: str | None, heads: int | None, drop: str | None
) -> Recognised | str:
    """Read a file by its layout; or say in a sentence why none fits. Whoever gives an option asks
    for a layout, and a file of several networks that does not say which one is meant is refused."""
    if branch is not None or heads is not None or drop is not None:
        return recognise(contents, branch=branch, num_heads=heads, drop=drop)
    try:
        _, claim = find_layout(contents)
    except InputError as error:
        return str(error)
    if claim.taken is None:
        return recognise(contents)  # which says what can be chosen
    try:
        return recognise(contents)
    except InputError as error:
        return str(error)


def _read_network(source: str) -> Weights:
    """Read the weights of a model that has a name and no file; the network is built for it."""
    model = zoo.load(source)
    tensors = {}
    for name, value in model.network.state_dict().items():
        array = convert_to_array(value)
        tensors[name] = NamedTensor(array.as_float32(), array.kind, (name,))
    if not tensors:
        raise InputError(f"{source} has no weights: give a checkpoint, or a model by its name.")
    return Weights(model.name, source, model.about, tensors)


def _list_as_in_file(contents: Contents) -> Iterator[tuple[str, NamedTensor]]:
    """List all tensors by the file's own keys, below the key of their state dict where there are
    several."""
    several = len(contents.states) > 1
    for state, weights in contents.states.items():
        for key, value in weights.items():
            name = f"{state}/{key}" if several else key
            yield name, NamedTensor(value, value.kind, (name,))


def _list_tensors(contents: Contents, found: Recognised) -> Iterator[tuple[str, NamedTensor]]:
    """List the network's tensors, then those beside it in the same state dict."""
    trunk = found.claim.branches[found.branch]
    weights = contents.states[trunk.state]
    keys: dict[str, list[str]] = {name: [] for name in found.weights}
    done: dict[str, str] = {}
    for entry in found.account:
        if entry.into is not None and entry.into in keys:
            keys[entry.into].append(entry.key)
            done[entry.into] = entry.reason
    for name, value in found.weights.items():
        kinds = {weights[key].kind for key in keys[name] if key in weights}
        kind = " and ".join(sorted(kinds)) or value.kind
        yield name, NamedTensor(value, kind, tuple(keys[name]), done.get(name, ""))
    for key, name, reason in _name_others(found):
        if key in weights and name not in found.weights:
            yield name, NamedTensor(weights[key], weights[key].kind, (key,), beside=reason)


def _name_others(found: Recognised) -> Iterator[tuple[str, str, str]]:
    """List the keys beside the network in its state dict, each with its name here and the reason
    for which the network does not have it. The file's other networks are left out, and what lies
    with them: "teacher.head.bias" is the twin's of "student.backbone", with "teacher.backbone"."""
    trunk = found.claim.branches[found.branch]
    twins = [
        other.prefix
        for other in found.claim.branches.values()
        if other != trunk and other.state == trunk.state and other.prefix != trunk.prefix
    ]

    def is_ours(key: str) -> bool:
        return all(
            _count_shared(key, trunk.prefix) >= _count_shared(key, twin)
            for twin in twins
            if not trunk.prefix.startswith(twin)
        )

    entries = [
        entry
        for entry in found.account
        if entry.into is None and entry.state == trunk.state and is_ours(entry.key)
    ]
    for entry in entries:
        reason, last = entry.reason, entry.key.rpartition(".")[2]
        alike = [one for one in entries if one.reason == reason and one.key.endswith(f".{last}")]
        own = _drop_parent(entry.key.removeprefix(trunk.prefix), trunk.prefix, twins)
        name = f"{HEADS[reason]}.{last}" if reason in HEADS and len(alike) == 1 else own
        yield entry.key, name, reason


def _drop_parent(key: str, prefix: str, twins: Iterable[str]) -> str:
    """A key without what it has in common with a network's prefix, where it has less in common with
    those of all others; else as it is, so that it has one name in each.

    >>> _drop_parent("net.student.g.bias", "net.student.f.", ["net.teacher.f."])
    'g.bias'
    >>> _drop_parent("net.queue", "net.student.f.", ["net.teacher.f."])
    'net.queue'
    """
    own = _count_shared(key, prefix)
    most = max((_count_shared(key, twin) for twin in twins), default=own)
    return ".".join(key.split(".")[own:]) if own > most else key


def _count_shared(key: str, prefix: str) -> int:
    """The first parts that a key and a prefix have in common.

    >>> _count_shared("net.teacher.g.bias", "net.teacher.f.")
    2
    """
    parts = prefix.removesuffix(".").split(".")
    pairs = zip(key.split("."), parts, strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
