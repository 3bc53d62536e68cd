"""The colours of curves: a family of models has one colour everywhere, on every page."""

from collections.abc import Mapping, Sequence

from sslens.report.writing.front import MEANINGS

#: curves and families with a colour of their own; others are grey
COLOURED = 8


def choose_colours(families: Mapping[str, str]) -> dict[str, int]:
    """Choose the colour of each family of `MEANINGS`, and of the models of these families.

    Args:
        families: the family of each model, by the model's name.

    >>> choose_colours({"mae": "REC", "dino": "JE", "own": ""})
    {'JE': 1, 'REC': 2, 'mae': 2, 'dino': 1}
    """
    colours = {family: number for number, family in enumerate(MEANINGS, 1)}
    own = {name: colours[family] for name, family in families.items() if family in colours}
    return colours | own if own else {}


def number_curves(names: Sequence[str], colours: Mapping[str, int]) -> list[int]:
    """Number the colours of curves: the first of each family has the family's colour, and the
    others have what is left; colours of families come last. page.js does the same.

    Args:
        names: of the curves, at most `COLOURED`.
        colours: of families and models (`choose_colours`).

    >>> number_curves(["mae", "own", "dino", "msn"], {"mae": 2, "dino": 1, "msn": 1})
    [2, 3, 1, 4]
    >>> number_curves(["a", "b"], {"mae": 2})
    [1, 2]
    """
    taken: dict[str, int] = {}
    for name in names:
        if name in colours and colours[name] not in taken.values():
            taken[name] = colours[name]
    kept = set(colours.values()) if taken else set()
    free = [number for number in range(1, COLOURED + 1) if number not in taken.values()]
    free.sort(key=lambda number: number in kept)
    return [taken[name] if name in taken else free.pop(0) for name in names]
