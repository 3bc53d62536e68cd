"""What part a model plays: its family, whether it was tuned, and the random initialisations it is
held against."""

from collections.abc import Iterable, Mapping, Sequence

from sslens.comparisons.inputs import Inputs
from sslens.errors import InputError
from sslens.models.about import About

#: joint embedding and reconstruction, the two families of the papers
JE, REC = "JE", "REC"
TOKENS = {"all": "over all tokens", "cls": "in the CLS token", "patch": "over the patch tokens"}


def untuned(about: Mapping[str, About], names: Iterable[str], family: str) -> list[str]:
    """The models of a family whose backbone is as it was pre-trained (a trained linear head changes
    none), in their order.

    >>> known = {"mae": About(family="REC"), "mae-ft": About(family="REC", tuned="fine-tuned")}
    >>> untuned(known, ["mae", "mae-ft"], "REC")
    ['mae']
    """
    return [
        name
        for name in names
        if name in about and about[name].family == family and not is_tuned(about[name])
    ]


def is_tuned(about: About) -> bool:
    """Whether the backbone was trained further."""
    return about.tuned == "fine-tuned"


def models(about: Mapping[str, About], controls: Sequence[str]) -> list[str]:
    """The models under study, in their order."""
    return [name for name in about if name not in controls]


def tokens(inputs: Inputs) -> list[str]:
    """The choices of tokens of which there are Grams, all tokens first.

    Raises:
        InputError: there are none.
    """
    known = [each for each in TOKENS if inputs.grams.get(each)]
    if not known:
        raise InputError(
            f"There are no such tokens in {listed(inputs.models)}: ask for tokens all, which every"
            " model has."
        )
    return known


def twins(inputs: Inputs, a: str, b: str) -> tuple[str, str] | None:
    """Two different random initialisations of the architectures of two models; None where there are
    none.

    Those of another architecture are no control: how alike random networks are depends on their
    architecture.

    >>> names = ("mae", "cnn", "vit 0", "vit 1", "cnn 0")
    >>> arch = {name: About(arch="resnet50" if "cnn" in name else "vit") for name in names}
    >>> arch["bare"] = About()
    >>> known = Inputs(("mae", "cnn", "bare"), ("vit 0", "vit 1", "cnn 0"), about=arch)
    >>> twins(known, "mae", "mae"), twins(known, "mae", "cnn"), twins(known, "cnn", "cnn"), twins(known, "mae", "bare")
    (('vit 0', 'vit 1'), ('vit 0', 'cnn 0'), None, None)
    """
    found: list[str] = []
    for name in (a, b):
        arch = inputs.about[name].arch
        of_it = (other for other in inputs.controls if arch and inputs.about[other].arch == arch)
        found += [other for other in of_it if other not in found][:1]
    return (found[0], found[1]) if len(found) == 2 else None


def listed(names: Sequence[str]) -> str:
    """Names as a sentence has them.

    >>> listed(["mae", "dino", "msn"])
    'mae, dino and msn'
    """
    return ", ".join(names[:-1]) + f" and {names[-1]}" if len(names) > 1 else names[0]


def is_cnn(about: About) -> bool:
    """Whether the network's outputs are maps and not tokens.

    >>> is_cnn(About(network="cnn")), is_cnn(About(network="vit")), is_cnn(About())
    (True, False, False)
    """
    return about.network == "cnn"
