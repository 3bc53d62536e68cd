"""Claims that several layouts share: of a network that is known by its names alone, and of a
trainer's file with networks and heads beside them."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from sslens.zoo.claim import CLASSIFIER, HEADS, MASK, Claim, Drops
from sslens.zoo.files import Contents
from sslens.zoo.hints import NONE, Hints
from sslens.zoo.trunks import Trunk, choose_trunk, find_trunks, name_trunks

#: what Lightning writes beside the weights
LIGHTNING = "pytorch-lightning_version"
#: statistics of the images of OpenAI's CLIP
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
#: the networks of MSN and I-JEPA, the one first that the authors evaluate
_ENCODERS = ("target_encoder", "encoder")
#: parts that trainers put beside a network, by the names that they have in public code
PARTS: Drops = tuple(
    (rf"(.*\.)?\w*({words})\w*(\..*)?", reason)
    for words, reason in (
        ("predict(or|ion)", "the predictor"),
        ("project(or|ion)|proj_head|mlp_head|embed_head", "the projector"),
        ("prototypes?|centroid", "the prototypes"),
        ("queue|memory_bank", "the queue of other images' features"),
        ("classifier|linear_head|probe|(?<![a-z])knn", "a classifier"),
        ("decoder|mask_token|masking", "a part of the reconstruction"),
        ("loss|criterion|center", "a state of the loss"),
        ("metric|accuracy", "a metric"),
        ("callbacks?_modules", "a part of a callback"),
        ("(?<![a-z])neck", "a neck, which stands after the network"),
        ("data_preprocessor|pixel_(mean|std)", "the colours' means and spreads"),
        ("target_generator", "what makes the targets"),
        ("head(?!s?_?proj)|whitening", "a head"),
        ("momentum_updater|n_averaged|logit_scale", "a number of the training"),
    )
)


def claim_network(
    contents: Contents,
    namings: Sequence[str],
    *,
    method: str,
    sign: str,
    objective: str | None = None,
    family: str | None = None,
    drops: Drops = (),
    beside: Drops = (),
    classifier: str | None = None,
    hints: Hints = NONE,
    transform: Mapping[str, Any] | None = None,
    notes: tuple[str, ...] = (),
    certain: bool = False,
    normless: bool = False,
) -> Claim | None:
    """Claim a network that is known by its names alone, with a classifier on it or without.

    Args:
        contents: the contents of the file.
        namings: the spellings that the network may have.
        method: the name for people.
        sign: how the network is recognised.
        objective, family, drops, beside, hints, transform, notes, certain, normless: as in `Claim`.
        classifier: a regular expression for the keys of a classifier, which is dropped.
    """
    trunks = [trunk for trunk in find_trunks(contents.states) if trunk.naming in namings]
    if not trunks:
        return None
    branches = name_trunks(trunks)
    headed = classifier is not None and any(
        re.fullmatch(rf"(.*\.)?(?:{classifier})", key) for key in contents.states[trunks[0].state]
    )
    labels: Drops = ((rf"(?:{classifier})", CLASSIFIER),) if classifier else ()
    return Claim(
        method=method,
        form="a network with a classifier" if headed else "the network alone",
        signs=(sign,),
        branches=branches,
        taken=choose_trunk(branches),
        objective=objective,
        family=family,
        tuned="fine-tuned" if headed else False,
        drops=(*drops, *labels),
        beside=(*beside, *labels, (r"n_averaged", "the number of networks in a moving average")),
        hints=hints,
        transform=transform or {},
        notes=notes,
        strict=certain or objective is not None,
        certain=certain,
        normless=normless,
    )


def find_roles(contents: Contents, roles: Sequence[str]) -> dict[str, Trunk]:
    """Find the networks by a word of the way to them: a state dict, or a part of their prefix.

    >>> import numpy as np
    >>> from pathlib import Path
    >>> from sslens.zoo.arrays import Array
    >>> names = ["layer1.0.conv1.weight", "conv1.weight", "layer4.0.conv1.weight"]
    >>> one = Array(np.zeros(1), "float64")
    >>> state = {f"module.encoder_{part}.{name}": one for part in "qk" for name in names}
    >>> list(find_roles(Contents(Path("a.pth"), {"state_dict": state}), ["encoder_q", "encoder_k"]))
    ['encoder_q', 'encoder_k']
    """
    trunks = find_trunks(contents.states)
    found: dict[str, Trunk] = {}
    for role in roles:
        for trunk in trunks:
            if role in re.split(r"[./]", f"{trunk.state}/{trunk.prefix}"):
                found.setdefault(role, trunk)
    return found


def find_encoders(contents: Contents) -> dict[str, Trunk]:
    """Find the networks in the state dicts `target_encoder` and `encoder`, as MSN and I-JEPA write
    them."""
    trunks = {
        trunk.state: trunk
        for trunk in find_trunks(contents.states)
        if trunk.naming in ("vit", "resnet") and trunk.prefix in ("", "module.")
    }
    return {name: trunks[name] for name in _ENCODERS if name in trunks}


def claim_roles(
    contents: Contents,
    roles: Sequence[str],
    *,
    method: str,
    taken: str,
    objective: str | None,
    family: str | None = "JE",
    drops: Drops = (),
    beside: Drops = (),
    notes: tuple[str, ...] = (),
) -> Claim | None:
    """Claim a file with networks that a method calls by names of its own. Further networks of the
    file can be chosen too, by their places.

    Args:
        contents: the contents of the file.
        roles: the names of the networks, each a word of the way to it.
        method: the name for people.
        taken: the role that the authors evaluate.
        objective, family, drops, beside, notes: as in `Claim`.
    """
    branches = find_roles(contents, roles)
    if not branches:
        return None
    further = name_trunks(find_trunks(contents.states)).items()
    branches |= {name: trunk for name, trunk in further if trunk not in branches.values()}
    return Claim(
        method=method,
        form=f"training file, with {' and '.join(branches)}",
        signs=(f"its networks are called {' and '.join(map(str, branches.values()))}",),
        branches=branches,
        taken=taken if taken in branches else None,
        objective=objective,
        family=family,
        drops=(*drops, *HEADS, (r"mask_token", MASK)),
        beside=(*beside, *PARTS),
        notes=notes,
        strict=objective is not None,
    )


def claim_trainer(
    contents: Contents,
    *,
    method: str,
    signs: tuple[str, ...],
    objective: str | None = None,
    family: str | None = None,
    notes: tuple[str, ...] = (),
    strict: bool = True,
    certain: bool = True,
) -> Claim | None:
    """Claim a trainer's file: networks of any spelling, and heads beside them, which are dropped by
    their names. Of a network and its moving average, the average is taken.

    Args:
        contents: the contents of the file.
        method: the trainer's name for people.
        signs, objective, family, notes, strict, certain: as in `Claim`.
    """
    trunks = find_trunks(contents.states)
    if not trunks:
        return None
    branches = name_trunks(trunks)
    taken = choose_trunk(branches)
    others = [name for name in branches if name != taken]
    if taken is not None and others:
        notes += (
            f"It is the moving average; {others[0]} is the network that was trained, which"
            " branch= takes.",
        )
    return Claim(
        method=method,
        form=f"training file, with {' and '.join(branches)}",
        signs=signs,
        branches=branches,
        taken=taken,
        objective=objective,
        family=family,
        drops=(*HEADS, (r"mask_token", MASK)),
        beside=PARTS,
        notes=notes,
        strict=strict,
        certain=certain,
    )
