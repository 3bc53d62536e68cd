"""`sslens.compare` and `sslens.cka`: what the commands do, for Python and notebooks."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from sslens.errors import InputError, require_type
from sslens.store import Store, home
from sslens.study.asked import Study
from sslens.study.given import list_models
from sslens.study.image_sets import choose_sample
from sslens.study.settings import PassSettings, StudySettings, collect_settings

if TYPE_CHECKING:
    import pandas as pd

    from sslens.capture import Grams
    from sslens.study.given import Model
    from sslens.study.result import Result

#: how Grams that were made already are compared by a measure that needs the raw pixels
OF_GRAMS = (
    "call sslens.measures.measure with the Grams of the model pixels, or give models and {images}"
)


def compare(
    models: "Model | Sequence[Model] | Mapping[str, Model]",
    images: Any = None,
    *,
    bank: Any = None,
    limit: int | None = 1024,
    analyses: str | Sequence[str] = (),
    controls: bool = True,
    title: str | None = None,
    store: str | Path | None = None,
    quiet: bool = False,
    **settings: "Unpack[StudySettings]",
) -> "Result":
    """Compare models on images, as `sslens compare` does; nothing is written but the store.

    The command and this function are one study, with the same passes and the same store: what one
    of the two has computed, the other finds.

    Args:
        models: one or more, or a mapping from the names that tables shall have. A model is a source
            as `sslens.load` reads it, a file, a `torch.nn.Module`, a Backbone or a fingerprint.
        images: whatever `sslens.open_images` takes; not needed where all are fingerprints.
        bank: labelled images that vote in k-NN and train probes; `images` themselves unless given.
        limit: the number of images taken; all for None. The bank is taken whole.
        analyses: names of analyses; all that apply, except the costly ones, unless given.
        controls: whether random initialisations and raw pixels are compared too.
        title: what was compared unless given.
        store: the folder of the store; the usual one, under SSLENS_HOME, unless given.
        quiet: whether no progress is shown.
        settings: `sslens.study.settings.StudySettings`, such as seed, device, batch and tokens.

    Raises:
        InputError: something given cannot be used.

    >>> result = compare("random:vit_nano_patch8_32", "scenes:0:40", analyses="cka-blocks",
    ...     controls=False, quiet=True)
    >>> result
    <Result random #0 on scenes-v4, 40 images: ... tables, 1 figure, ... verdicts>
    >>> float(result.cka("random #0").loc["blocks.0", "blocks.0"].round(6))
    1.0
    """
    from sslens.study.running import carry_out

    listed = list_models(models)
    more = {"sample": choose_sample(listed), **collect_settings(settings, StudySettings, compare)}
    chosen = (analyses,) if isinstance(analyses, str) else tuple(analyses)
    study = Study(listed, images, chosen, bank, limit, controls, **more)
    study.require_sources()
    result = carry_out(
        study, store=open_store(store), title=title, command="sslens.compare(…)", quiet=quiet
    )
    return require_first(result)


def cka(
    a: "Model | Grams",
    b: "Model | Grams | None" = None,
    images: Any = None,
    *,
    measure: str = "cka",
    tokens: str = "all",
    limit: int | None = 1024,
    batch: int = 32,
    store: str | Path | None = None,
    quiet: bool = False,
    **settings: "Unpack[PassSettings]",
) -> "pd.DataFrame":
    """Compute CKA of every layer of a model with every layer of another, as a DataFrame with the
    names of the layers.

    Args:
        a, b: models as `compare` takes them, or Grams (`sslens.grams`): the rows and the columns.
        images: whatever `sslens.open_images` takes; not needed with Grams or fingerprints.
        measure: another one of `sslens.measures`, such as "deconfounded-cka".
        tokens: "all" (flattened), "cls" or "patch"; Grams have theirs already, and raw pixels have
            all their values for each.
        limit, batch, store, quiet: as in `compare`.
        settings: seed, device, precision and on_bad, as in `compare`.

    Raises:
        InputError: something given cannot be used.

    >>> frame = cka("random:vit_nano_patch8_32", "random:vit_nano_patch8_32:1", "scenes:0:40",
    ...     quiet=True)
    >>> frame.shape, frame.index.name, list(frame.columns[:2])
    ((17, 17), 'random #0', ['blocks.0.norm1', 'blocks.0.attn.qkv'])
    """
    from sslens.capture import Grams
    from sslens.measures import wants_pixels
    from sslens.study.similarity import tabulate_similarity

    given = [a] if b is None else [a, b]
    grams = [one for one in given if isinstance(one, Grams)]
    if grams:
        for one in given:
            require_type(one, Grams, "Grams", "give Grams of both, or two models and {images}")
        return tabulate_similarity(grams[0], grams[-1], measure=measure, mend=OF_GRAMS)
    models = [*given, *(["pixels"] if wants_pixels(measure) and images is not None else [])]
    sample = choose_sample(models)
    more = {**collect_settings(settings, PassSettings, cka), "tokens": (tokens,), "sample": sample}
    study = Study(models, images, ("cka-blocks",), None, limit, False, batch, **more)
    sets = _make_grams(study, tokens, open_store(store), quiet)
    pixels = sets[-1] if len(models) > len(given) else None
    return tabulate_similarity(
        sets[0],
        sets[len(given) - 1],
        measure=measure,
        pixels=pixels,
        mend="give the {images} that the fingerprints are of",
    )


def _make_grams(study: Study, tokens: str, store: Store, quiet: bool) -> "list[Grams]":
    """The Grams of each model of a study, in the order given.

    Raises:
        InputError: a model has no such tokens.
    """
    from sslens.comparisons.deconfounding import add_pixels
    from sslens.study.capturing import capture, gather
    from sslens.study.given import keep_devices
    from sslens.study.planning import prepare

    study.require_sources()
    with keep_devices(study.given):
        plan = prepare(study, store, quiet=quiet)
        captured = capture(plan.situation, plan.passes, plan.runner)
    made = add_pixels(gather(captured, plan.analyses)["grams"], tokens)
    names = {member.given: member.name for member in plan.members}
    for name in names.values():
        if name not in made:
            raise InputError(f"{name} has no such tokens as {tokens}", mend="give other {tokens}")
    return [made[names[source]] for source in study.models]


def open_store(folder: str | Path | None) -> Store:
    """Open the store in a folder, or the usual one."""
    return Store(Path(folder).expanduser() if folder is not None else home() / "store")


def require_first(result: "Result | None") -> "Result":
    """Return the result of the first process; a process that is another has none.

    Raises:
        InputError: this process is not the first of several.
    """
    if result is None:
        raise InputError(
            "The first process of a run under torchrun has the result; the others share its passes"
            " alone: ask for it where RANK is 0."
        )
    return result
