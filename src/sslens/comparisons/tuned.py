"""Fine-tuned models: the model before fine-tuning of each one, and its controls, which are random
initialisations that were fine-tuned by the same recipe."""

from collections.abc import Iterable, Sequence

from sslens.comparisons.inputs import ModelInfo, Models
from sslens.comparisons.roles import CONTROL, is_tuned
from sslens.models.about import About, Origin

NOTHING = Origin()


def is_control(about: About) -> bool:
    """Whether a model is a random initialisation, or was one before it was fine-tuned.

    >>> is_control(About("control")), is_control(About("REC", pretrained=Origin("mae", "runs/mae")))
    (True, False)
    >>> is_control(About(pretrained=Origin("random", "random:vit_small_patch16_224:0")))
    True
    """
    source = (about.pretrained or NOTHING).source or ""
    return about.family == CONTROL or source.startswith("random:")


def is_start(began: Origin, model: ModelInfo) -> bool:
    """Whether a fine-tuning began with a model: with weights of its digest, or with the random
    initialisation of its name.

    A processor with other vector instructions draws random weights that differ in their last bits,
    and so have another digest; the source, random:ARCH:SEED, names them on every machine.

    >>> first = ModelInfo("random #0", about=About("control", arch="vit", seed=0), digest="5eed")
    >>> elsewhere = Origin("random #0", "random:vit:0", digest="0dd")
    >>> is_start(elsewhere, first), is_start(Origin(source="random:vit:1"), first)
    (True, False)
    """
    if began.digest and model.digest == began.digest:
        return True
    about = model.about
    drawn = about.family == CONTROL and not is_tuned(about) and about.arch is not None
    return drawn and began.source == f"random:{about.arch}:{about.seed or 0}"


def match_origins(models: Models) -> dict[str, str]:
    """Each fine-tuned model with the model that it was before.

    A fine-tuned model may name the weights that it began with: a digest or a model's name. The
    match is the model with that digest, or the random initialisation of that source. If there is
    none, the match is among the models of the same objective and architecture: the one with that
    name, or else the first one. A fine-tuned control is matched in the same way with a random
    initialisation of its architecture.

    Args:
        models: the models and the controls of a study.

    Returns:
        The name of the model before, by the name of the fine-tuned model; a model without such a
        match is left out.

    >>> from sslens.comparisons.inputs import ModelInfo
    >>> before = ModelInfo("mae", about=About("REC", "mae", "vit"))
    >>> after = ModelInfo("ft", about=About("REC", "mae", "vit", tuned="fine-tuned"))
    >>> match_origins(Models((before, after)))
    {'ft': 'mae'}
    >>> other = ModelInfo("seed 1", about=before.about, digest="5eed")
    >>> began = About("REC", "mae", "vit", tuned="fine-tuned", pretrained=Origin(digest="5eed"))
    >>> match_origins(Models((before, other, ModelInfo("ft", about=began))))
    {'ft': 'seed 1'}
    """
    origins = {}
    firsts = [model for model in models if not is_tuned(model.about)]
    for model in models:
        if is_tuned(model.about):
            began = model.about.pretrained or NOTHING
            same = [one for one in firsts if is_start(began, one)]
            alike = [one for one in firsts if _may_have_begun(model.about, one.about)]
            candidates = same or [one for one in alike if one.name == began.name] or alike
            if candidates:
                origins[model.name] = candidates[0].name
    return origins


def list_controls(models: Models, names: Iterable[str], tuned: str) -> list[str]:
    """List the controls of a fine-tuned model: random initialisations of the same architecture that
    were fine-tuned by the same recipe.

    Two models count as fine-tuned by the same recipe if the recipe of either is not known.

    Args:
        models: the models and the controls.
        names: names of the models to choose from.
        tuned: name of the fine-tuned model.
    """
    own = models.about(tuned)
    abouts = {name: models.about(name) for name in names}
    return [
        name
        for name, about in abouts.items()
        if is_tuned(about)
        and is_control(about)
        and about.arch == own.arch
        and not differ_in_recipe([own, about])
    ]


def differ_in_recipe(abouts: Sequence[About]) -> bool:
    """Whether models say that they were fine-tuned by different recipes: other settings, epochs or
    images."""
    return len({about.recipe for about in abouts if about.recipe}) > 1


def describe_match(models: Models, tuned: str, first: str) -> str:
    """Say which model is taken as a fine-tuned model before fine-tuning, and why.

    The reason is left out if the digest of the weights proves the match.

    >>> from sslens.comparisons.inputs import ModelInfo
    >>> about = About(None, "mae", "vit", pretrained=Origin(digest="da"))
    >>> tuned = ModelInfo("ft", about=about)
    >>> describe_match(Models((ModelInfo("mae", digest="da"), tuned)), "ft", "mae")
    'ft from mae'
    >>> describe_match(Models((ModelInfo("mae"), tuned)), "ft", "mae")
    'ft from mae: both mae, vit'
    """
    own = models.about(tuned)
    if is_start(own.pretrained or NOTHING, models[first]):
        return f"{tuned} from {first}"
    return (
        f"{tuned} from {first}: both {own.objective or 'random'},"
        f" {own.arch or 'unknown architecture'}"
    )


def _may_have_begun(tuned: About, other: About) -> bool:
    """Whether a fine-tuned model may have begun with this model, by objective and architecture."""
    decisive = tuned.arch if is_control(tuned) and is_control(other) else tuned.objective
    return bool(decisive) and (tuned.objective, tuned.arch) == (other.objective, other.arch)
