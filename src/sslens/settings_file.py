"""YAML of the user's: plain values, each key once, and bounded before anything is made of it.

An alias lets a text of a kilobyte stand for a value of gigabytes, or for one that contains itself;
neither is settings.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sslens.counts import spell_count
from sslens.errors import InputError
from sslens.whole_file import open_regular

#: bytes of the longest text of settings
LONGEST = 4 << 20
#: the most values where each alias is written out
MOST = 200_000
#: digits of the longest number
DIGITS = 100


def read_yaml(path: Path) -> Any:
    """Read a YAML file.

    Raises:
        OSError: the file cannot be read.
        InputError: it is a pipe or a device, or for the same reasons as `parse_yaml`.
    """
    with open_regular(path) as file:
        content = file.read(LONGEST + 1)
    try:
        return parse_yaml(content.decode("utf-8"), str(path))
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not YAML: {error}.") from error


def parse_yaml(text: str, what: str) -> Any:
    """Parse YAML to plain values.

    Args:
        text: the YAML.
        what: the name of the text, for messages.

    Raises:
        InputError: it is no YAML, is too long, says a key twice, or has a value that contains
            itself or that aliases make too large.

    >>> parse_yaml("{limit: 64, models: [pixels]}", "The study")
    {'limit': 64, 'models': ['pixels']}
    >>> parse_yaml("models: &a [*a]", "The study")
    Traceback (most recent call last):
    sslens.errors.InputError: The study has a value that contains itself: write it out.
    """
    import yaml

    if len(text) > LONGEST:
        raise InputError(f"{what} has over {LONGEST:,} bytes: these are no settings.")
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _count_values(node, {}, what)
        return loader.construct_document(node)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError, AttributeError) as error:
        reason = " ".join(str(error).split())[:500]
        raise InputError(f"{what} is not YAML: {reason}") from error
    except (LookupError, OverflowError) as error:  # PyYAML's own, for `!!int ''` and the like
        raise InputError(
            f"{what} has a value that its tag (such as !!int) does not fit: write the value without"
            " a tag."
        ) from error


def split_overrides(overrides: Iterable[str], what: str) -> list[tuple[str, str]]:
    """Split texts KEY=VALUE at their equals signs.

    Args:
        overrides: the texts.
        what: what each of them should be, for messages.

    Raises:
        InputError: a text has no equals sign; or a key is given twice, with different values.

    >>> split_overrides(["limit=64", "models=[a, b]"], "override")
    [('limit', '64'), ('models', '[a, b]')]
    >>> split_overrides(["limit=64", "limit=8"], "override")
    Traceback (most recent call last):
    sslens.errors.InputError: limit is given twice, with 64 and 8: give it once.
    """
    pairs: list[tuple[str, str]] = []
    for override in overrides:
        key, equals, value = (part.strip() for part in override.partition("="))
        if not equals:
            raise InputError(f'"{override}" is no {what}: expected KEY=VALUE.')
        require_one_value(pairs, key, value)
        pairs.append((key, value))
    return pairs


def require_one_value(pairs: Iterable[tuple[str, str]], key: str, value: str) -> None:
    """Refuse a value of a key that has another one among the pairs before it.

    Raises:
        InputError: the message has the key and both values.
    """
    for before, earlier in pairs:
        if before == key and earlier != value:
            raise InputError(
                f"{key} is given twice, with {earlier or 'nothing'} and {value or 'nothing'}: give"
                " it once."
            )


def _count_values(node: Any, counts: dict[int, int], what: str) -> int:
    """Count the values below a node, each alias written out.

    Args:
        node: what PyYAML composed.
        counts: of the nodes that were counted; 0 of those that are being counted.
        what: for messages.
    """
    if id(node) in counts:
        if not counts[id(node)]:
            raise InputError(f"{what} has a value that contains itself: write it out.")
        return counts[id(node)]
    counts[id(node)] = 0
    parts: list[Any] = []
    if node.id == "mapping":
        keys = [key.value for key, _ in node.value if key.id == "scalar"]
        if len(set(keys)) < len(keys):
            twice = next(key for key in keys if keys.count(key) > 1)
            raise InputError(f'{what} says "{twice[:80]}" twice: say it once.')
        parts = [part for pair in node.value for part in pair]
    elif node.id == "sequence":
        parts = node.value
    elif node.tag == "tag:yaml.org,2002:int" and len(node.value) > DIGITS:
        raise InputError(f"{what} has a number of {spell_count(len(node.value), 'digit')}.")
    total = 1 + sum(_count_values(part, counts, what) for part in parts)
    if total > MOST:
        raise InputError(f"{what} has over {MOST:,} values: these are no settings.")
    counts[id(node)] = total
    return total
