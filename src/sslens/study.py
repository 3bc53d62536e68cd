"""A study: models × images × analyses, declared in a few lines, planned before it starts, and cached step by step.

What is expensive (a pass of a model over the images) is an artefact in the store, addressed by its content; so is each
table. A study that was stopped goes on with what is missing, on this machine or on any that has the same store.
"""

import importlib.metadata
import platform
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import yaml

from sslens import __version__, zoo
from sslens.errors import InputError, nearest
from sslens.find import names, plugin
from sslens.progress import progress
from sslens.store import Store, digest, home

if TYPE_CHECKING:
    from sslens.analyses import Inputs
    from sslens.capture import Artefact, Reducer
    from sslens.data.images import ImageSet
    from sslens.models.backbone import Backbone
    from sslens.plan import Plan
    from sslens.report import Section
    from sslens.table import Table


@dataclass(frozen=True)
class Study:
    """What is asked.

    Attributes:
        models: as `sslens.load` takes them.
        images: as `sslens.open_images` takes them.
        analyses: names of files of `analyses/`; all unless given.
        bank: labelled images whose neighbours vote in k-NN; leave-one-out on `images` unless given.
        limit: images taken, drawn by their ids and the seed; the bank is taken whole.
        controls: two random initialisations of each architecture, and raw pixels.
        batch: images of a minibatch of CKA.
        seed: of the images drawn, the minibatches, the bootstrap.
        on_bad: "stop" at an image that cannot be decoded, or "skip" it.
        precision: of the forward pass, "float32", "bfloat16" or "auto"; Grams are float32.
    """

    models: tuple[str, ...]
    images: str
    analyses: tuple[str, ...] = ()
    bank: str | None = None
    limit: int | None = 1024
    controls: bool = True
    batch: int = 32
    seed: int = 0
    on_bad: str = "stop"
    device: str = "auto"
    precision: str = "float32"

    def __post_init__(self) -> None:
        if not self.models:
            raise InputError("A study needs at least one model.")
        twice = [model for model in self.models if self.models.count(model) > 1]
        if twice:
            raise InputError(f"{twice[0]} is given twice: it would be compared with itself, which is done anyway.")
        for model in self.models:
            zoo.check(model)
        for name in self.analyses:
            if name not in names("analyses"):
                raise InputError(f'There is no analysis "{name}": {nearest(name, names("analyses"))}')
        for name, value, options in (
            ("on_bad", self.on_bad, ("stop", "skip")),
            ("precision", self.precision, ("float32", "bfloat16", "auto")),
        ):
            if value not in options:
                raise InputError(f'{name} is "{value}": expected {" or ".join(options)}.')

    def yaml(self) -> str:
        """As a file that `sslens study` takes."""
        return yaml.safe_dump(_plain(asdict(self)), sort_keys=False)


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


def read(path: Path, overrides: Sequence[str] = ()) -> Study:
    """A study from a YAML file, with overrides such as `limit=256` or `models=[a, b]`.

    Raises:
        InputError: the file is not there or not YAML, or a key is not one of a study's.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"There is no file {path}: a study is a YAML file with at least models and images.") from None
    except IsADirectoryError:
        raise InputError(f"{path} is no file: a study is a YAML file, such as study.yaml beside a report.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise InputError(f"{path} holds no keys: a study has at least models and images.")
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals:
            raise InputError(f'"{override}" is no override: expected KEY=VALUE.')
        try:
            values[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise InputError(f'The value of "{override}" is not YAML: {" ".join(str(error).split())}') from error
    known = {entry.name: entry for entry in fields(Study)}
    for key in values:
        if key not in known:
            raise InputError(f'A study has no "{key}" ({path}): {nearest(str(key), known)}')
    for key in ("models", "images"):
        if key not in values:
            raise InputError(f"{path} does not say {key}.")
    return Study(**{key: _checked(known[key], value, path) for key, value in values.items()})


def _checked(entry: "Field[Any]", value: Any, path: Path) -> Any:
    """A value of a study file as its field has it; a single text will do for a list of them."""
    if entry.name in ("models", "analyses"):
        texts = [value] if isinstance(value, str) else value
        if isinstance(texts, list) and all(isinstance(each, str) for each in texts):
            return tuple(texts)
        expected = "a list of text"
    else:
        kinds = get_args(entry.type) or (entry.type,)
        if type(value) in kinds:  # by identity: true is an int to isinstance
            return value
        expected = {str: "text", int: "a whole number", bool: "true or false"}[kinds[0]]
    raise InputError(f"{entry.name} is {value!r} ({path} or an override of it): expected {expected}.")


@dataclass(frozen=True)
class Pass:
    """One model's pass over one set of images: what is wanted of it, and what of that is in the store."""

    model: "Backbone"
    control: bool
    images: "ImageSet"
    plan: "Plan"
    reducers: "tuple[Reducer, ...]"
    missing: int

    def flops(self) -> float:
        """Floating-point operations of the forward pass still to be run: two a parameter and token."""
        if not self.missing:
            return 0.0
        parameters = sum(value.numel() for value in self.model.network.parameters())
        embed = getattr(self.model.network, "patch_embed", None)
        tokens = embed.num_patches + (self.model.prefix or 0) if embed is not None else 0
        return 2.0 * parameters * tokens * len(self.images)


@dataclass(frozen=True)
class Planned:
    """A study whose models are loaded and whose images are checked, before anything is computed."""

    study: Study
    analyses: tuple[str, ...]
    images: "ImageSet"
    bank: "ImageSet | None"
    passes: "tuple[Pass, ...]"
    notes: tuple[str, ...]
    device: str
    precision: str

    def describe(self) -> str:
        """The plan and its cost, for a person."""
        lines = [f"images    {len(self.images):,} of {self.study.images} ({self.images.digest[:12]})"]
        if self.bank is not None:
            lines.append(f"bank      {len(self.bank):,} of {self.study.bank} ({self.bank.digest[:12]})")
        lines.append(f"analyses  {', '.join(self.analyses)}")
        for p in self.passes:
            state = f"{p.flops() / 1e9:,.0f} GFLOP" if p.missing else "in the store"
            role = "control" if p.control else "model"
            lines.append(f"{role:<9} {p.model.name} over {len(p.images):,} images of {p.images.name}: {state}")
        lines.append(f"device    {self.device}, {self.precision}")
        lines += [f"note      {note}" for note in self.notes]
        return "\n".join(lines)


def prepare(study: Study, store: Store, *, quiet: bool = False) -> Planned:
    """Open the images, load the models and their controls, and see what is to be done.

    Raises:
        InputError: whatever of it cannot be used.
    """
    from sslens.plan import Plan
    from sslens.processes import best_device, best_precision

    images, bank, notes = _opened(study, quiet)
    plan = Plan.draw(images.ids, study.batch, study.seed)
    chosen = study.analyses or names("analyses")
    if images.labels is None:
        unlabelled = [name for name in chosen if "labels" in plugin("analyses", name).NEEDS]
        chosen = tuple(name for name in chosen if name not in unlabelled)
        if not chosen:
            raise InputError(
                f"{', '.join(unlabelled)} needs classes, and {study.images} has none: give a folder a class."
            )
        if unlabelled:
            notes.append(
                f"The images have no classes (no folders of that name), so {', '.join(unlabelled)} was left out."
            )
    device = best_device(study.device)
    precision = best_precision(study.precision, device)
    models = _models(study)
    needs = {need for name in chosen for need in plugin("analyses", name).NEEDS}
    passes = []
    for model, control in models:
        passes.append(_planned_pass(model, control, images, plan, needs, store, precision))
        if bank is not None and "features" in needs:
            own = Plan.draw(bank.ids, study.batch, study.seed)
            passes.append(_planned_pass(model, control, bank, own, needs & {"features"}, store, precision))
    return Planned(study, tuple(chosen), images, bank, tuple(passes), tuple(notes), device, precision)


def _opened(study: Study, quiet: bool) -> "tuple[ImageSet, ImageSet | None, list[str]]":
    """The images, the bank, and what a reader must know of them."""
    from sslens.data import open_images

    with progress("checking images", quiet=quiet) as report:
        images = open_images(study.images, limit=study.limit, seed=study.seed, on_bad=study.on_bad, progress=report)  # type: ignore[arg-type]
        bank = None
        if study.bank is not None:
            bank = open_images(study.bank, limit=None, seed=study.seed, on_bad=study.on_bad, progress=report)  # type: ignore[arg-type]
    notes = []
    for each in (images, bank):
        if each is not None and each.skipped:
            shown = "; ".join(f"{name} ({reason})" for name, reason in each.skipped[:20])
            more = f"; and {len(each.skipped) - 20} more" if len(each.skipped) > 20 else ""
            notes.append(
                f"{len(each.skipped)} images of {each.name} could not be decoded and were left out: {shown}{more}."
            )
    if bank is not None and images.labels is not None:
        if bank.classes != images.classes:
            raise InputError(
                f"{study.bank} and {study.images} have different classes ({len(bank.classes)} and {len(images.classes)}): "
                "k-NN needs the same folders in both."
            )
        both = len(images.contents & bank.contents)
        if both:
            notes.append(f"{both} of the {len(images)} images are in the bank too, where k-NN finds them themselves.")
    return images, bank, notes


def _models(study: Study) -> "list[tuple[Backbone, bool]]":
    """The models and their controls, each with a name of its own."""
    models = [zoo.load(source) for source in study.models]
    beside = []
    if study.controls:
        twins = dict.fromkeys(twin for model in models for twin in zoo.random_twins(model))
        given = {model.source for model in models}
        beside = [zoo.load(source) for source in [*twins, "pixels"] if source not in given]
    both = [*models, *beside]
    count = Counter(model.name for model in both)
    for model in both:
        if count[model.name] > 1:
            model.name = f"{model.name} ({_distinction(model)})"
    if len({model.name for model in both}) < len(both):
        for number, model in enumerate(both):
            model.name = f"{model.name} [{number + 1}]"
    return [(model, False) for model in models] + [(model, True) for model in beside]


def _distinction(model: "Backbone") -> str:
    if model.source.startswith(("random:", "timm:")):
        return str(model.about["arch"])
    path = Path(model.source)
    return (path.parent if path.name == zoo.ENCODER else path).name


def _planned_pass(
    model: "Backbone", control: bool, images: "ImageSet", plan: "Plan", needs: set[str], store: Store, precision: str
) -> Pass:
    from sslens.capture import Features, Grams, key_of

    reducers: list[Reducer] = [Grams(need.partition(":")[2]) for need in sorted(needs) if need.startswith("grams:")]
    if "features" in needs:
        reducers.append(Features())
    useful = [reducer for reducer in reducers if reducer.taps(model, model.pick(None))]
    missing = 0
    for reducer in useful:
        key = key_of(model, images, plan, reducer, reducer.taps(model, model.pick(None)), precision)
        missing += not store.has(reducer.kind, key)
    return Pass(model, control, images, plan, tuple(useful), missing)


def run(
    study: Study,
    out: Path,
    *,
    store: Store | None = None,
    command: str = "",
    title: str | None = None,
    notes: Sequence[str] = (),
    quiet: bool = False,
    dry_run: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Path | None:
    """Carry out a study and write its report; returns the report's path, or None for a dry run, which only says the plan.

    Raises:
        InputError: something given cannot be used; what was computed until then is in the store.
    """
    from sslens import report

    store = store or Store(home() / "store")
    planned = prepare(study, store, quiet=quiet)
    say(planned.describe())
    if dry_run:
        return None
    began = time.time()
    inputs, keys = _computed(planned, store, quiet)
    sections = [_section(name, inputs, keys, store) for name in planned.analyses]
    provenance = _provenance(planned, command, time.time() - began)
    shown = title or f"{', '.join(inputs.models)} on {planned.images.name}"
    return report.write(
        out,
        title=shown,
        sections=sections,
        notes=(*notes, *planned.notes),
        command=command,
        study=study.yaml(),
        provenance=provenance,
    )


def _computed(planned: Planned, store: Store, quiet: bool) -> "tuple[Inputs, dict[str, Any]]":
    """All artefacts, from the store or from one pass a model and set of images; and the keys that say what they are."""
    from sslens.analyses import Inputs
    from sslens.capture import collect

    grams: dict[str, dict[str, Artefact]] = {}
    features: dict[str, Artefact] = {}
    bank: dict[str, Artefact] = {}
    keys = []
    for number, p in enumerate(planned.passes, 1):
        label = f"[{number}/{len(planned.passes)}] {p.model.name}"
        with progress(label, quiet=quiet or not p.missing) as report:
            made = collect(
                p.model,
                p.images,
                p.reducers,
                plan=p.plan,
                store=store,
                device=planned.device,
                precision=planned.precision,
                progress=report,
            )
        keys += [artefact.key for artefact in made]
        for reducer, artefact in zip(p.reducers, made, strict=True):
            if artefact.kind == "grams":
                grams.setdefault(str(reducer.settings()["tokens"]), {})[p.model.name] = artefact
            elif p.images is planned.bank:
                bank[p.model.name] = artefact
            else:
                features[p.model.name] = artefact
    inputs = Inputs(
        models=_named(planned, control=False),
        controls=_named(planned, control=True),
        grams=grams,
        features=features,
        bank=bank,
        labels=_labels(planned.images),
        bank_labels=_labels(planned.bank),
        classes=planned.images.classes,
        seed=planned.study.seed,
    )
    return inputs, {"artefacts": keys, "models": inputs.models, "controls": inputs.controls, "seed": inputs.seed}


def _named(planned: Planned, *, control: bool) -> tuple[str, ...]:
    return tuple(dict.fromkeys(p.model.name for p in planned.passes if p.control == control))


def _labels(images: "ImageSet | None") -> dict[str, int]:
    if images is None or images.labels is None:
        return {}
    return dict(zip(images.ids, images.labels.tolist(), strict=True))


def _section(name: str, inputs: "Inputs", keys: Mapping[str, Any], store: Store) -> "Section":
    """One analysis: its table, from the store or computed, and what is drawn and said of it."""
    from sslens.report import Section

    module = plugin("analyses", name)
    table = _table(name, module, inputs, keys, store)
    return Section(name, module.TITLE, module.CAPTION, tuple(module.findings(table)), table, module.draw(table))


def _table(name: str, module: Any, inputs: "Inputs", keys: Mapping[str, Any], store: Store) -> "Table":
    from sslens.table import Table

    key = {"analysis": name, "version": module.VERSION, "sslens": __version__, **keys}
    kept = store.read_json("tables", key)
    if kept is not None:
        return Table.from_json(kept)
    computed: Table = module.compute(inputs)
    table = replace(computed, provenance={"analysis": name, "key": digest(key)})
    store.write_json("tables", key, table.to_json())
    return table


def _provenance(planned: Planned, command: str, seconds: float) -> dict[str, Any]:
    libraries = ("torch", "torchvision", "timm", "numpy", "pandas", "safetensors")
    models = {p.model.name: p for p in planned.passes}
    return {
        "command": command,
        "made": time.strftime("%Y-%m-%d %H:%M:%S %Z"),
        "seconds": round(seconds, 1),
        "device": f"{planned.device}, {planned.precision}",
        "versions": {"sslens": __version__, "python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in libraries},
        "images": {
            "name": planned.images.name,
            "count": len(planned.images),
            "digest": planned.images.digest,
            "skipped": [list(each) for each in planned.images.skipped],
        },
        "models": {
            name: {"source": p.model.source, "digest": p.model.digest, "control": p.control, **p.model.about}
            for name, p in models.items()
        },
    }
