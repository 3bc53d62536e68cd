"""What a pickle that is carried out here holds beside plain values: classes by their names, objects
that are not built, and what may be a key."""

from typing import Any, final

#: how deep tuples may lie in a key of a dictionary
DEPTH = 3


class Senseless(ValueError):  # noqa: N818 (its text is the reason alone; callers name the file)
    """The pickle is cut off or damaged, or asks for more than a file of weights needs."""


@final
class Foreign:
    """An object of a class that is not built.

    Attributes:
        name: the class or function, as the pickle names it.
        state: what the pickle gives as the object's attributes, or None.
        items: what the pickle sets by keys, of a class of dictionaries.
    """

    __slots__ = ("items", "name", "state")

    def __init__(self, name: str) -> None:
        self.name = name
        self.state: Any = None
        self.items: dict[Any, Any] = {}


@final
class Named:
    """A class or function that the pickle names, which is not imported.

    Attributes:
        name: the module and the name in it, with a dot.
    """

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


def is_key(value: Any, depth: int = DEPTH) -> bool:
    """Whether a value may be a key: a text, number or name, or a shallow tuple of such.

    Python hashes nested tuples by recursion, which ends the process where they are nested a
    hundred thousand times.

    >>> is_key(("a", 1, None)), is_key((((((),),),),)), is_key([])
    (True, False, False)
    """
    if type(value) is tuple:
        return depth > 0 and all(is_key(part, depth - 1) for part in value)
    return value is None or isinstance(value, str | int | float | bytes | Named | Foreign)
