"""What the files of analyses and needs must have, and which needs an analysis names."""

from types import ModuleType

from sslens.errors import InputError, nearest
from sslens.find import names, plugin

NEEDS = "study/needs"
#: the needs that are made of a bank too
BANKED = {
    "detections",
    "factors",
    "finetuned",
    "joined",
    "labels",
    "maps",
    "pool",
    "probes",
    "segments",
}


def load_need(name: str, analysis: str) -> ModuleType:
    """Load the file of a need that an analysis names.

    Raises:
        InputError: there is no such need, or its file lacks something.

    >>> load_need("grams", "cka-blocks").__name__
    'sslens.study.needs.grams'
    >>> load_need("gram", "cka-blocks")
    Traceback (most recent call last):
    sslens.errors.InputError: The analysis cka-blocks names a need "gram": did you mean grams?
    """
    needs = names(NEEDS)
    if name not in needs:
        raise InputError(f'The analysis {analysis} names a need "{name}": {nearest(name, needs)}')
    return plugin(NEEDS, name)


def needs_of(analysis: str) -> tuple[str, ...]:
    """Return the names of an analysis' needs, in the order in which it names them.

    >>> needs_of("cka-blocks")
    ('grams',)
    """
    from sslens.comparisons.inputs import needs

    return needs(plugin("analyses", analysis))


def wants_classes(analysis: str) -> bool:
    """Whether an analysis tells the classes of images apart.

    >>> wants_classes("knn-depth"), wants_classes("invariance")
    (True, False)
    """
    return bool({"labels", "classes", "probes"} & {*needs_of(analysis)})


def reads_bank(analysis: str) -> bool:
    """Whether an analysis makes use of a bank, where there is one.

    >>> reads_bank("knn-depth"), reads_bank("cka-blocks")
    (True, False)
    """
    return bool(BANKED & {*needs_of(analysis)})


def trains_probes(analysis: str) -> bool:
    """Whether an analysis trains probes of the classes of images.

    >>> trains_probes("probe-layers"), trains_probes("knn-depth"), trains_probes("invariance")
    (True, False, False)
    """
    return "probes" in needs_of(analysis)


def wants_images(analysis: str) -> bool:
    """Whether an analysis needs something of images.

    >>> wants_images("cka-blocks"), wants_images("finetune-path")
    (True, False)
    """
    needs = [load_need(name, analysis) for name in needs_of(analysis)]
    return any(getattr(need, "IMAGES", True) for need in needs)


def wants_networks(analysis: str) -> bool:
    """Whether an analysis needs the models' networks, and not only the files of their weights.

    >>> wants_networks("cka-blocks"), wants_networks("weights-changed")
    (True, False)
    """
    needs = [load_need(name, analysis) for name in needs_of(analysis)]
    return any(getattr(need, "NETWORKS", True) for need in needs)
