"""What keeps a file from being read and the user can mend by an option: all of it is told together,
with one spelling of the source that mends it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn, final

from sslens.counts import spell_count
from sslens.errors import InputError
from sslens.zoo.keys import LONGEST
from sslens.zoo.parts import Part
from sslens.zoo.trunks import Trunk

#: the most parts that one command is offered to leave out
MOST = 12


@final
@dataclass(frozen=True)
class Fault:
    """One thing that keeps a file from being read.

    Attributes:
        said: what is wrong, a clause without its subject, which is the file.
        branch, heads: the options that mend it, as a source spells their values.
        drop: the parts that may be left out to mend it.
    """

    said: str
    branch: str = ""
    heads: str = ""
    drop: tuple[Part, ...] = ()


@final
@dataclass(frozen=True)
class Asked:
    """The options that the user gave for a file.

    Attributes:
        branch: the name of the network; None unless given.
        heads: the number of attention heads; None unless given.
        drop: the names of the parts that are left out.
    """

    branch: str | None = None
    heads: int | None = None
    drop: tuple[str, ...] = ()


#: where no option is given
NOTHING = Asked()


class Refused(InputError):  # noqa: N818 (as KeyboardInterrupt)
    """A file that can be read with other options; `faults` has what they mend."""

    faults: tuple[Fault, ...] = ()


def doubt_parts(parts: Sequence[Part], clause: str) -> Fault:
    """Say that parts of a file are not known.

    Args:
        parts: the parts.
        clause: why they are not known, to be continued by the first key.
    """
    count = sum(len(part.keys) for part in parts)
    return Fault(
        f"holds {spell_count(count, 'tensor')} {clause} {parts[0].keys[0]}", drop=tuple(parts)
    )


def doubt_rival(part: Part, trunk: Trunk, why: str) -> Fault:
    """Say that a part may be the network that is meant.

    Args:
        part: the part.
        trunk: the network that is read.
        why: what it has of a network, a clause.
    """
    return Fault(
        f"holds beside the network {trunk} another module that may be the network that is meant,"
        f" {part}: {why}",
        drop=(part,),
    )


def refuse_faults(where: str, faults: Sequence[Fault], asked: Asked) -> NoReturn:
    """Raise one error for all that keeps a file from being read.

    Args:
        where: the file.
        faults: what is wrong.
        asked: the options that were given, which the advice repeats.

    Raises:
        Refused: always.
    """
    said = ". It ".join(fault.said for fault in faults)
    parts = [part for fault in faults for part in fault.drop]
    end = "." if ":" in said or len(faults) > 1 else ""  # else the mend follows a colon
    error = Refused(f"{where} {said}{end}", mend=_advise(where, faults, asked, parts))
    error.faults = tuple(faults)
    raise error


def _advise(where: str, faults: Sequence[Fault], asked: Asked, parts: Sequence[Part]) -> str:
    """How the faults are mended, as a clause."""
    dropped = list(dict.fromkeys(part.name for part in parts))
    if len(parts) > MOST or not all(map(_can_be_spelt, dropped)):
        return "save the network's own state_dict() where it was made, and give that"
    branch = asked.branch or next((fault.branch for fault in faults if fault.branch), "")
    heads = asked.heads or next((fault.heads for fault in faults if fault.heads), "")
    drop = "+".join(dict.fromkeys([*asked.drop, *dropped]))
    given = {"branch": branch, "heads": heads, "drop": drop}
    options = ",".join(f"{key}={value}" for key, value in given.items() if value)
    if options == "heads=N":
        return f"say how many: {where}@heads=N, or num_heads"
    unless = ""
    if parts:
        them = "them" if len(dropped) > 1 else "it"
        unless = f", which leaves {them} out, if no features pass through {them}"
    return f"give {where}@{options}{unless}"


def _can_be_spelt(name: str) -> bool:
    """Whether a name can stand in an option of a source."""
    return len(name) <= LONGEST and re.fullmatch(r"[\w.-]+", name) is not None
