"""Which rows of an answer a terminal shows, in which order, and by which names."""

import re
from collections.abc import Iterator, Mapping, Sequence
from string import ascii_lowercase
from typing import Any

from sslens.comparisons.readings import name_features
from sslens.comparisons.roles import PIXELS
from sslens.statistics.estimate import NAN

#: columns of which one tells something of a model
KNOWN = ("knn", "probe", "cka_to_it", "ap")
#: those of them that tell how good a model is, the most usual first
ACCURACIES = ("knn", "probe", "ap")
#: how a pooling is called in a column; of patches and of all tokens it is the mean
POOLINGS = {"cls": "CLS", "mean": "mean", "patch": "patches", "flat": ""}
#: the name of a control with its architecture, as it is called where there are several
_ARCH = re.compile(r"(.+) \((\S+)\)")
#: how little is told below a table at least (`list_choices`)
LEAST_SAID = -2


def is_known(row: Mapping[str, Any], name: str) -> bool:
    """Whether a number of a row is known.

    >>> is_known({"knn": 0.5, "probe": float("nan")}, "probe"), is_known({}, "knn")
    (False, False)
    """
    value = row.get(name)
    return value is not None and bool(value == value)


def has_numbers(row: Mapping[str, Any]) -> bool:
    """Whether anything is known of a model beside its name."""
    return any(is_known(row, name) for name in KNOWN)


def order_rows(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Put models before controls, and the most accurate first: by k-NN, else by the probe, as the
    first screen of the report does; models without an accuracy stay in their order.

    >>> [row["model"] for row in order_rows([
    ...     {"model": "pixels", "control": True, "probe": 0.9, "knn": 0.5},
    ...     {"model": "a", "control": False, "probe": 0.5, "knn": 0.9},
    ...     {"model": "b", "control": False, "probe": 0.8, "knn": 0.5}])]
    ['a', 'b', 'pixels']
    """
    present = (one for one in ACCURACIES if any(is_known(row, one) for row in rows))
    column = next(present, "probe")

    def place(row: Mapping[str, Any]) -> tuple[bool, float]:
        return row["control"], -row[column] if is_known(row, column) else 1.0

    return sorted(rows, key=place)


def list_choices(count: int, few: int, sure: int, least: int = -1) -> Iterator[tuple[int, int]]:
    """List how much of `count` rows may be shown, the most first: how many models are named of
    which the chosen features are better, at most `few` (-1: only what was chosen and what the
    numbers are over is told, -2: only over how many images they are), and how many rows there are.
    Rows come before names, and the `sure` ones before all that can be left unsaid.

    >>> list(list_choices(4, 3, sure=3))
    [(3, 4), (0, 4), (0, 3), (-1, 4), (-1, 3), (-1, 2), (-1, 1)]
    >>> list(list_choices(4, 3, sure=3, least=-2))[5:]  # where cautions need the room
    [(-2, 4), (-2, 3), (-2, 2), (-2, 1)]
    """
    yield few, count
    for told in range(0, least - 1, -1):
        yield from ((told, most) for most in range(count, sure - 1, -1))
    yield from ((least, most) for most in range(sure - 1, 0, -1))


def shorten_controls(
    rows: Sequence[Mapping[str, Any]],
) -> tuple[list[Mapping[str, Any]], dict[str, str]]:
    """Put letters for the architectures in the names of controls, which have them where models of
    several are compared; returns the rows, and the architectures by the ends of the names.

    >>> rows = [{"model": "random #0 (resnet18)", "control": True, "nearest_relative": "mae"}]
    >>> shorten_controls(rows)
    ([{'model': 'random #0 a', 'control': True, 'nearest_relative': 'mae'}], {' a': 'resnet18'})
    """
    parts = {row["model"]: _ARCH.fullmatch(row["model"]) for row in rows if row["control"]}
    archs = list(dict.fromkeys(found[2] for found in parts.values() if found))
    letters = dict(zip(archs, ascii_lowercase, strict=False))
    names = {
        name: f"{found[1]} {letters[found[2]]}"
        for name, found in parts.items()
        if found and found[2] in letters
    }
    short: list[Mapping[str, Any]] = [
        {**row, **{one: names.get(row[one], row[one]) for one in ("model", "nearest_relative")}}
        for row in rows
    ]
    return short, {f" {letter}": arch for arch, letter in letters.items()}


def write_letters(letters: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> str:
    """Write what the letters in the names of some rows stand for.

    >>> row = {"model": "vit", "nearest_relative": "random #0 b"}
    >>> write_letters({" a": "resnet18", " b": "resnet50"}, [row])
    'b: resnet50.'
    """
    names = [str(row[one]) for row in rows for one in ("model", "nearest_relative")]
    used = [
        f"{letter.strip()}: {arch}"
        for letter, arch in letters.items()
        if any(re.search(rf"#\d+{letter}$", name) for name in names)
    ]
    return f"{', '.join(used)}." if used else ""


def write_left_out(
    rows: Sequence[Mapping[str, Any]],
    shown: Sequence[Mapping[str, Any]],
    saved: str,
    *,
    brief: bool,
    hidden: str,
) -> str:
    """Write what the table leaves out, and in which file it is; empty if nothing.

    Args:
        rows: all rows.
        shown: those that are shown.
        saved: the name of the file; empty where there is none.
        brief: whether the sentence begins without "And".
        hidden: what of the nearest relatives is left out; empty if nothing, or if it is not said.

    >>> row = {"nearest_relative": "mae"}
    >>> write_left_out([row, row], [row], "answer.csv", brief=False, hidden="nearest relatives")
    'And 1 more row and nearest relatives in answer.csv.'
    """
    left = len(rows) - len(shown)
    more = [f"{left} more row{'s' if left > 1 else ''}"] if left else []
    if hidden and any(row["nearest_relative"] for row in rows):
        more.append(hidden)
    where = f" in {saved}" if saved else ""
    return f"{'' if brief else 'And '}{' and '.join(more)}{where}." if more else ""


def choose_rows(
    rows: Sequence[Mapping[str, Any]], most: int, said: str = ""
) -> list[Mapping[str, Any]]:
    """The rows that are shown: all, or all models, raw pixels and controls that are above all
    models before any other control; where not even these fit, raw pixels and as many models as
    there is room for. Models and controls that a sentence names come before others.

    Args:
        rows: the rows, models first.
        most: how many may be shown.
        said: the sentence.

    >>> rows = [{"model": name, "control": name == "pixels"} for name in ("a", "b", "c", "pixels")]
    >>> [row["model"] for row in choose_rows(rows, 3, "Not told apart: a and c.")]
    ['a', 'c', 'pixels']
    """
    if len(rows) <= most:
        return list(rows)
    names = find_names([str(row["model"]) for row in rows], said)
    named = [row for row in rows if row["model"] in names]
    ordered = named + [row for row in rows if row not in named]
    controls = [row for row in ordered if row["control"]]
    kept = [row for row in controls if row["model"] == PIXELS]
    kept += [row for row in find_above(rows) if row not in kept]
    models = [row for row in ordered if not row["control"]][: max(1, most - len(kept))]
    kept += [row for row in controls if row not in kept][:1]
    kept = kept[: most - len(models)]
    return [row for row in rows if row in models or row in kept]


def find_above(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The best control by k-NN, the probe or box AP, where it is above all models.

    >>> rows = [{"model": "a", "control": False, "probe": 0.5, "knn": 0.4}]
    >>> rows += [{"model": "random #0", "control": True, "probe": 0.6, "knn": 0.3}]
    >>> [row["model"] for row in find_above(rows)]
    ['random #0']
    """
    found = []
    for column in ACCURACIES:
        known = [row for row in rows if is_known(row, column)]
        best = max(known, key=lambda row: (row[column], not row["control"]), default=None)
        if best is not None and best["control"] and best not in found:
            found.append(best)
    return found


def find_names(names: Sequence[str], said: str) -> set[str]:
    """The names that a sentence has as words of their own, and not within a longer name.

    >>> find_names(["mae", "mae-ft", "a"], "mae-ft, the nearest, has more than others.")
    {'mae-ft'}
    """
    longest = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    return set(re.findall(rf"(?<![\w#])(?:{longest})(?![\w#])", said)) if names else set()


def find_end(row: Mapping[str, Any], name: str, end: str, value: str = "") -> float:
    """An end of the interval of a CKA, or the value where there is none; nan where it is not
    known."""
    found = float(row.get(f"{name}_{end}", NAN))
    return found if found == found else float(row.get(value or name, NAN))


def has_two_readings(row: Mapping[str, Any]) -> bool:
    """Whether k-NN and the probe of a model read different layers, poolings or kinds of features.

    >>> row = {"knn_tap": "norm", "knn_pooling": "cls", "probe_tap": "norm", "probe_pooling": "cls"}
    >>> has_two_readings(row), has_two_readings({**row, "knn_features": "standardised"})
    (False, True)
    """
    knn, probe = ((row[f"{name}_tap"], row[f"{name}_pooling"]) for name in ("knn", "probe"))
    scaled = row.get("knn_features", "") == "standardised"
    return bool(knn[0] and probe[0] and (knn != probe or scaled))


def name_best(row: Mapping[str, Any]) -> str:
    """Name what is to be used of a model: what the probe reads, or else what k-NN reads.

    >>> row = {"best_tap": "norm", "best_pooling": "patch", "probe_tap": "", "probe_layers": NAN}
    >>> name_best({**row, "knn_features": "standardised"})
    'norm, patches, standardised'
    >>> name_best({**row, "probe_tap": "norm", "probe_layers": 3.0})
    'norm, patches, 3-layer probe'
    """
    layers = float(row["probe_layers"])
    deep = f"{layers:.0f}-layer probe" if layers > 1 else ""
    features = "" if row["probe_tap"] else row.get("knn_features", "")
    return write_reading(row["best_tap"], row["best_pooling"], features, deep)


def write_reading(tap: str, pooling: str, features: str, more: str = "") -> str:
    """Name a layer, how its tokens are pooled, and whether these features are standardised.

    >>> write_reading("blocks.5", "cls", "raw"), write_reading("pixels", "flat", "")
    ('blocks.5, CLS', 'pixels')
    """
    named = ", ".join(filter(None, (tap, POOLINGS.get(pooling, pooling), more)))
    return f"{named}{name_features(features)}"
