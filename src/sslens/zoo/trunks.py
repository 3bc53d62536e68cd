"""Where networks are in the state dicts of a file, and which method's position table they have."""

import functools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from sslens.find import names, plugin
from sslens.zoo.arrays import Array

#: where the spellings are, each a file with the names by which it is known
SPELLINGS = "zoo/spellings"
#: words by which files call the network that is a moving average of another one
AVERAGED = ("target", "teacher", "momentum", "ema", "average", "averaged", "shadow", "slow")


@dataclass(frozen=True)
class Trunk:
    """A network in a file.

    Attributes:
        state: the state dict that it is in.
        prefix: what stands before its names.
        naming: the spelling of its names, a file of `zoo/spellings`.
    """

    state: str
    prefix: str
    naming: str

    def weights(self, states: Mapping[str, Mapping[str, Array]]) -> dict[str, Array]:
        """Return the tensors by their names after the prefix, including heads with the same
        prefix."""
        cut = len(self.prefix)
        return {
            key[cut:]: value
            for key, value in states[self.state].items()
            if key.startswith(self.prefix)
        }

    def __str__(self) -> str:
        return (
            ": ".join(filter(None, [self.state, self.prefix and f"{self.prefix}*"])) or "no prefix"
        )


def find_trunks(states: Mapping[str, Mapping[str, Array]]) -> tuple[Trunk, ...]:
    """Find all networks of the known spellings.

    >>> names = ["patch_embed.proj.weight", "blocks.0.norm1.weight", "blocks.0.mlp.fc1.weight"]
    >>> one = Array(np.zeros(1), "float64")
    >>> find_trunks({"teacher": {f"backbone.{name}": one for name in names}})
    (Trunk(state='teacher', prefix='backbone.', naming='vit'),)
    """
    return _find_by_keys(tuple((state, tuple(weights)) for state, weights in states.items()))


@functools.lru_cache(maxsize=4)
def _find_by_keys(states: tuple[tuple[str, tuple[str, ...]], ...]) -> tuple[Trunk, ...]:
    """Find them by the keys of each state dict alone; every layout asks for those of one file."""
    return tuple(_iterate_trunks(states))


def _iterate_trunks(states: Iterable[tuple[str, Sequence[str]]]) -> Iterator[Trunk]:
    spellings = _import_spellings()
    for state, keys in states:
        there = [
            (prefix, name)
            for name, spelling in spellings.items()
            for prefix in _find_prefixes(keys, spelling.ANCHORS)
            if _has_mark(keys, prefix, getattr(spelling, "MARK", None))
        ]
        for prefix, name in there:
            rivals = (spellings[other] for at, other in there if at == prefix)
            if not any(name in getattr(rival, "OVER", ()) for rival in rivals):
                yield Trunk(state, prefix, name)


@functools.cache
def _import_spellings() -> Mapping[str, ModuleType]:
    """The spellings by name; a file is asked for them dozens of times."""
    return {name: plugin(SPELLINGS, name) for name in names(SPELLINGS)}


def _find_prefixes(keys: Sequence[str], anchors: Sequence[str]) -> Iterator[str]:
    """What stands before the anchors, wherever all of them are."""
    first, *others = anchors
    for key in keys:
        prefix = key.removesuffix(first)
        if prefix == key or (prefix and not prefix.endswith((".", "/"))):
            continue
        if all(any(name.startswith(prefix + other) for name in keys) for other in others):
            yield prefix


def _has_mark(keys: Sequence[str], prefix: str, mark: str | None) -> bool:
    """Whether a name after the prefix fits a pattern, where there is one."""
    if mark is None:
        return True
    fitting = re.compile(re.escape(prefix) + mark)
    return any(fitting.fullmatch(name) for name in keys)


def name_trunks(trunks: Iterable[Trunk]) -> dict[str, Trunk]:
    """Give each trunk a name for `branch=`: its state dict or its prefix, or both where one alone
    is not unique.

    >>> list(name_trunks([Trunk("model", "", "vit"), Trunk("model_ema", "", "vit")]))
    ['model', 'model_ema']
    >>> list(name_trunks([Trunk("", "a.", "vit"), Trunk("", "b.", "vit")]))
    ['a', 'b']
    >>> list(name_trunks([Trunk("", "", "vit")]))
    ['weights']
    """
    trunks = list(trunks)
    for name in (
        lambda t: t.state,
        lambda t: t.prefix.rstrip("."),
        lambda t: f"{t.state}/{t.prefix}".rstrip("."),
    ):
        by_name = {name(trunk) or "weights": trunk for trunk in trunks}
        if len(by_name) == len(trunks):
            return by_name
    return {str(trunk): trunk for trunk in trunks}


def is_averaged(name: str) -> bool:
    """Whether a network is called a moving average of another one: a teacher, a target network, an
    EMA.

    >>> is_averaged("state_dict_ema"), is_averaged("backbone.teacher"), is_averaged("schema")
    (True, True, False)
    """
    return not set(AVERAGED).isdisjoint(re.split(r"[./_]", name.lower()))


def choose_trunk(branches: Mapping[str, Trunk]) -> str | None:
    """Return the network to take where the method does not say: the only one, or the only one that
    is a moving average of the others; None where the user must choose.

    A network that is called a student by itself is not taken: a twin of it is evaluated.

    >>> choose_trunk(name_trunks([Trunk("model", "", "vit"), Trunk("model_ema", "", "vit")]))
    'model_ema'
    """
    averaged = [name for name in branches if is_averaged(name)]
    if len(averaged) == 1:
        return averaged[0]
    if len(branches) == 1:
        name = next(iter(branches))
        return None if "student" in re.split(r"[./_]", name) else name
    return None


def find_key(states: Mapping[str, Mapping[str, Array]], trunk: Trunk, *starts: str) -> str | None:
    """Return the first key of a trunk's state dict that begins, after the trunk's prefix, with one
    of `starts`; None without one."""
    begin = tuple(trunk.prefix + start for start in starts)
    return next((key for key in states[trunk.state] if key.startswith(begin)), None)


@dataclass(frozen=True)
class Positions:
    """Which method's fixed sin-cos positions a table has.

    Attributes:
        of: "mae", "moco-v3" (the grid transposed), or None.
        exact: whether the table is exactly theirs; otherwise it was trained further from them.
    """

    of: str | None
    exact: bool = False


def recognise_positions(table: Array | None) -> Positions:
    """Compare a table [1, 1 + patches, dim] with the fixed sin-cos tables of MAE and MoCo-v3.

    Fine-tuning trains the table, but moves it little: with a cosine above 0.9 the table counts as
    started from them.

    >>> table = compute_sincos(16, 3, transposed=True)
    >>> recognise_positions(Array(np.concatenate([np.zeros((1, 16)), table])[None], "float64"))
    Positions(of='moco-v3', exact=True)
    """
    if table is None or not table.is_floating or table.ndim != 3 or table.shape[2] % 4:
        return Positions(None)
    grid = round((table.shape[1] - 1) ** 0.5)
    if grid**2 != table.shape[1] - 1 or grid < 2:
        return Positions(None)
    own = table.as_float32().values[0, 1:].astype(np.float64)
    near: dict[str, float] = {}
    for name, transposed in (("mae", False), ("moco-v3", True)):
        fixed = compute_sincos(table.shape[2], grid, transposed=transposed)
        if np.abs(own - fixed).max() < 1e-4:
            return Positions(name, exact=True)
        norms = np.linalg.norm(own) * np.linalg.norm(fixed)
        near[name] = float((own * fixed).sum() / norms) if norms else 0.0
    best = max(near, key=lambda name: near[name])  # on small grids the two are near each other
    return Positions(best if near[best] > 0.9 else None)


def compute_sincos(dim: int, grid: int, *, transposed: bool = False) -> np.ndarray:
    """Compute the fixed sin-cos positions of the patches, [patch, dim], as
    `sslens.models.positions` does in torch.

    >>> [round(v, 3) for v in compute_sincos(8, 2)[1].tolist()]  # x = 1, y = 0, ω = 1, 0.01
    [0.841, 0.01, 0.54, 1.0, 0.0, 0.0, 1.0, 1.0]
    """
    omega = 10000.0 ** (-np.arange(dim // 4) / (dim / 4))
    y, x = np.meshgrid(np.arange(grid), np.arange(grid), indexing="ij")
    first, second = (y, x) if transposed else (x, y)
    angles = [place.reshape(-1, 1) * omega for place in (first, second)]
    return np.concatenate([part for a in angles for part in (np.sin(a), np.cos(a))], axis=1)
