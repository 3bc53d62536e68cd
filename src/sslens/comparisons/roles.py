"""Roles of models: the family, whether a model was tuned, and the random initialisations that are
its control."""

from collections.abc import Iterable, Sequence

from sslens.comparisons.inputs import GramSets, Models
from sslens.errors import InputError
from sslens.models.about import About

#: joint embedding and reconstruction, the two families of the papers, and the family of controls
JE, REC, CONTROL = "JE", "REC", "control"
#: the choices of tokens, as a sentence has them
TOKENS = {"all": "over all tokens", "cls": "in the CLS token", "patch": "over the patch tokens"}
#: the name of the control that takes the pixels of an image for its features
PIXELS = "pixels"


def list_pretrained(models: Models, names: Iterable[str], family: str) -> list[str]:
    """The models of a family that are as they were pre-trained, in the order of `names`.

    A linear classifier that was trained on a frozen backbone changes nothing of the backbone, so
    that such a model counts as pre-trained. If a study names groups of models, and all models of
    the group are fine-tuned, these are the models of the group.

    >>> from sslens.comparisons.inputs import ModelInfo
    >>> tuned = ModelInfo("mae-ft", about=About("REC", tuned="fine-tuned"))
    >>> models = Models((ModelInfo("mae", about=About("REC")), tuned))
    >>> list_pretrained(models, models.names, "REC")
    ['mae']
    """
    own = [name for name in names if models.about(name).family == family]
    pretrained = [name for name in own if not is_tuned(models.about(name))]
    return own if models.grouped and not pretrained else pretrained


def is_labelled(about: About) -> bool:
    """Whether labels trained a model, from the start or at the last.

    >>> is_labelled(About("REC", "mae")), is_labelled(About(objective="supervised"))
    (False, True)
    """
    return bool(about.tuned) or about.objective == "supervised"


def is_tuned(about: About) -> bool:
    """Whether the backbone itself was trained further on labels."""
    return about.tuned == "fine-tuned"


def is_cnn(about: About) -> bool:
    """Whether the network is a CNN; False if its architecture is not known."""
    return about.network == "cnn"


def list_tokens(models: Models, grams: GramSets) -> list[str]:
    """List the choices of tokens ("all", "cls", "patch") for which there are Grams, "all" first.

    Raises:
        InputError: there are no Grams.
    """
    choices = [tokens for tokens in TOKENS if grams.get(tokens)]
    if not choices:
        raise InputError(
            f"There are no such tokens in {list_names(models.studied)}: ask for tokens all, which"
            " every model has."
        )
    return choices


def find_twins(models: Models, a: str, b: str) -> tuple[str, str] | None:
    """Find two different random initialisations, one with the architecture of each of two models.

    The result is None if the study has no such two. Random initialisations of another architecture
    are no substitute, because the similarity of random networks depends on their architecture.

    >>> from sslens.comparisons.inputs import ModelInfo
    >>> architectures = {"mae": "vit", "cnn": "resnet50", "bare": None}
    >>> members = [ModelInfo(name, about=About(arch=arch)) for name, arch in architectures.items()]
    >>> for name, arch in {"vit 0": "vit", "vit 1": "vit", "cnn 0": "resnet50"}.items():
    ...     members.append(ModelInfo(name, control=True, about=About("control", arch=arch)))
    >>> models = Models(tuple(members))
    >>> find_twins(models, "mae", "mae"), find_twins(models, "mae", "cnn")
    (('vit 0', 'vit 1'), ('vit 0', 'cnn 0'))
    >>> find_twins(models, "cnn", "cnn"), find_twins(models, "mae", "bare")  # nothing fits
    (None, None)
    """
    twins: list[str] = []
    for name in (a, b):
        arch = models.about(name).arch
        alike = (one for one in models.controls if arch and models.about(one).arch == arch)
        twins += [one for one in alike if one not in twins][:1]
    return (twins[0], twins[1]) if len(twins) == 2 else None


def list_names(names: Sequence[str]) -> str:
    """Join names for a sentence, with commas and a final "and".

    >>> list_names(["mae", "dino", "msn"])
    'mae, dino and msn'
    """
    return ", ".join(names[:-1]) + f" and {names[-1]}" if len(names) > 1 else names[0]
