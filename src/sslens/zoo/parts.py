"""Parts beside a network in its state dict, such as a projector: which there are, which of them are
dropped by their place or their name, and which the user leaves out."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sslens.counts import spell_count
from sslens.zoo.arrays import Array
from sslens.zoo.claim import find_reason
from sslens.zoo.claiming import PARTS

#: words that lightly, solo-learn and the authors of SimCLR, BYOL, SimSiam, Barlow Twins, VICReg,
#: SwAV and DINO call their heads by, and that many own trainings call theirs by; no network that is
#: read here has a module of such a name at its top
_HEADS = re.compile(
    r"((online|target|student|teacher|momentum|ema|global|local)_?)?"
    r"(proj(_?\d+|_?(head|mlp|layer|net))?|projectors?(_\w+)?|projections?(_\w+)?"
    r"|(projection|predictor|prediction|dino|ibot|mlp|contrast|contrastive|ssl|simclr|linear|embed"
    r"|embedding|cls|rot|rotation|jigsaw)_?heads?"
    r"|pred(_?(head|mlp))?|predictors?(_\w+)?|predictions?(_\w+)?|prototypes?(_\w+)?"
    r"|expander|classifiers?|probes?|queue(_\w+)?|memory_bank|logit_scale|temperature"
    r"|decoder(_\w+)?)"
)
_OTHER = re.compile(r"\w*(proj|expander)(_\w+)?")
_BY_PLACE = "a part beside the network by its place"
AT_ROOT = "a head beside the network"
ASKED = "left out as asked for"


@dataclass(frozen=True)
class Part:
    """A module or a parameter that stands beside a network.

    Attributes:
        path: its name with all that stands before it, such as "module.projector".
        keys: the keys of its tensors.
    """

    path: str
    keys: tuple[str, ...]

    @property
    def name(self) -> str:
        """Its name alone."""
        return re.split(r"[./]", self.path)[-1]

    def __str__(self) -> str:
        return f"{self.path} ({spell_count(len(self.keys), 'tensor')})"


def list_parts(keys: Iterable[str], prefixes: Iterable[str]) -> tuple[Part, ...]:
    """List the parts beside networks.

    Args:
        keys: keys of a state dict that are not a network's.
        prefixes: what stands before the names of its networks.

    >>> keys = ["module.head.0.weight", "module.head.0.bias", "tau"]
    >>> [str(part) for part in list_parts(keys, ["module.backbone."])]
    ['module.head (2 tensors)', 'tau (1 tensor)']
    """
    ancestors = {""}
    for prefix in prefixes:
        steps = re.split(r"(?<=[./])", prefix)
        ancestors |= {"".join(steps[:count]) for count in range(len(steps))}
    together: dict[str, list[str]] = {}
    for key in keys:
        at = max((one for one in ancestors if key.startswith(one)), key=len)
        together.setdefault(at + re.split(r"[./]", key[len(at) :])[0], []).append(key)
    return tuple(Part(path, tuple(own)) for path, own in together.items())


def is_head(name: str) -> bool:
    """Whether a module at the top of a network is called as heads of trainings are.

    >>> is_head("projector"), is_head("target_projection"), is_head("blocks")
    (True, True, False)
    """
    return _HEADS.fullmatch(name) is not None


def say_place(part: Part) -> str:
    """Write the reason for which a part is dropped whatever its name.

    >>> say_place(Part("module.g", ("module.g.weight",)))
    'g, a part beside the network by its place'
    """
    return f"{part.name}, {_BY_PLACE}"


def is_left_out(reason: str) -> bool:
    """Whether a reason for dropping a tensor is none of a layout's, but its part's place or name,
    or that the user asked for it."""
    return reason in (AT_ROOT, ASKED) or reason.endswith(_BY_PLACE)


def find_rivalry(part: Part, state: Mapping[str, Array], own: Iterable[str]) -> str | None:
    """Say why a part beside a network may be a network itself, as a clause; None where nothing says
    so. A part that is called as heads and decoders are is none.

    Args:
        part: the part.
        state: the state dict.
        own: the names of the network's tensors.
    """
    if is_head(part.name) or find_reason(part.keys[0], PARTS) is not None:
        return None
    for key in part.keys:
        shape = state[key].shape
        if len(shape) in (4, 5) and shape[1] == 3 and min(shape[2:]) > 1:
            return f"its {key} of shape {tuple(shape)} reads images"
    ends = set()
    for key in part.keys:
        steps = key.split(".")
        ends |= {".".join(steps[first:]) for first in range(len(steps))}
    names = list(own)
    shared = sum(name in ends for name in names)
    if 2 * shared > len(names):
        return f"it has {shared} of the {len(names)} names of the network's tensors"
    return None


def is_other_head(key: str) -> bool:
    """Whether a key's part is called as a head that is no classifier: a projector, prototypes.

    >>> is_other_head("projector.weight"), is_other_head("head.weight"), is_other_head("fc.bias")
    (True, False, False)
    """
    if find_reason(key, PARTS) in ("a classifier", "a head"):
        return False
    return find_reason(key, PARTS) is not None or any(map(_OTHER.fullmatch, key.split(".")))


def split_names(drop: str | Sequence[str] | None) -> tuple[str, ...]:
    """Split the names of parts that are left out, as they stand in an option.

    >>> split_names("projector+queue"), split_names(["projector"]), split_names(None)
    (('projector', 'queue'), ('projector',), ())
    """
    names = drop.split("+") if isinstance(drop, str) else drop or ()
    return tuple(dict.fromkeys(names))
