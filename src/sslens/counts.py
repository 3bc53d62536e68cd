"""Counts of things, in words."""

import operator
import re
from typing import SupportsIndex

#: ends of nouns with the ends of their plurals; all others take an s
_PLURALS = (
    (r"(?<=[^aeiou])y", "ies"),
    (r"(?<=\w)is", "es"),
    (r"(?<=s|x|z)|(?<=(?<!epo)ch|sh)", "es"),
)
#: verbs of several with those of one, where it is not made by an s
_SINGULAR = {"are": "is", "were": "was", "have": "has", "had": "had"}


def spell_count(count: SupportsIndex, noun: str = "", verb: str = "") -> str:
    """Format a count with commas between thousands, and what is counted.

    Args:
        count: the number, which may be one of an array.
        noun: what is counted, of one.
        verb: what they do, of several.

    >>> spell_count(1024), spell_count(1024, "tensor"), spell_count(1, "tensor")
    ('1,024', '1,024 tensors', '1 tensor')
    >>> spell_count(2, "class"), spell_count(0, "category"), spell_count(1, "image", "are")
    ('2 classes', '0 categories', '1 image is')
    """
    number = operator.index(count)
    things = plural(noun) if noun and number != 1 else noun
    does = _SINGULAR.get(verb, f"{verb}s") if verb and number == 1 else verb
    return " ".join(filter(None, (f"{number:,}", things, does)))


def plural(noun: str) -> str:
    """Return the plural of a noun.

    >>> plural("tap"), plural("analysis"), plural("day"), plural("box"), plural("epoch")
    ('taps', 'analyses', 'days', 'boxes', 'epochs')
    """
    for end, several in _PLURALS:
        if re.search(f"({end})$", noun):
            return re.sub(f"({end})$", several, noun)
    return f"{noun}s"
