"""Counts of things, in words."""

import re

#: ends of nouns with the ends of their plurals; all others take an s
_PLURALS = ((r"(?<=[^aeiou])y", "ies"), (r"(?<=\w)is", "es"), (r"(?<=s|x|z)|(?<=ch|sh)", "es"))


def spell_count(count: int, noun: str = "") -> str:
    """Format a count with commas between thousands, and what is counted.

    Args:
        count: the number.
        noun: what is counted, of one.

    >>> spell_count(1024), spell_count(1024, "tensor"), spell_count(1, "tensor")
    ('1,024', '1,024 tensors', '1 tensor')
    >>> spell_count(2, "class"), spell_count(0, "category"), spell_count(3, "minibatch")
    ('2 classes', '0 categories', '3 minibatches')
    """
    return f"{count:,} {noun if count == 1 else plural(noun)}" if noun else f"{count:,}"


def plural(noun: str) -> str:
    """Return the plural of a noun.

    >>> plural("tap"), plural("analysis"), plural("day"), plural("box")
    ('taps', 'analyses', 'days', 'boxes')
    """
    for end, several in _PLURALS:
        if re.search(f"({end})$", noun):
            return re.sub(f"({end})$", several, noun)
    return f"{noun}s"
