"""A study carried out: artefacts, then tables, then the report."""

import importlib.metadata
import platform
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sslens import __version__
from sslens.find import plugin
from sslens.progress import progress
from sslens.store import Store, digest, home
from sslens.study.asked import Study
from sslens.study.planning import Pass, Planned, paths, prepare

if TYPE_CHECKING:
    import pandas as pd

    from sslens.capture import Features, Grams
    from sslens.comparisons.inputs import Inputs
    from sslens.data.images import ImageSet
    from sslens.report.page import Section
    from sslens.table import Table


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
    """Carry out a study and write its report; returns the report's path, or None for a dry run,
    which only says the plan.

    Raises:
        InputError: something given cannot be used; what was computed until then is in the store.
    """
    from sslens.claims.advice import advice
    from sslens.processes import best_device, processes
    from sslens.report import page as report

    store = store or Store(home() / "store")
    with processes(best_device(study.device)) as process:
        first = process.first
        planned = prepare(replace(study, device=process.device), store, quiet=quiet or not first)
        if first:
            say(planned.describe())
        if dry_run:
            return None
        began = time.time()
        inputs, keys = _computed(planned, store, quiet or not first)
    if not first:
        return None
    with report.Draft(out) as draft:
        for name in planned.analyses:
            draft.add(_section(name, inputs, keys, store))
        return draft.finish(
            title=title or _title(inputs.models, _images(planned)["name"]),
            notes=(*notes, *planned.notes),
            advice=advice(
                {section.name: section.results.tables[section.name] for section in draft.sections}
            ),
            command=command,
            study=study.yaml(),
            provenance=_provenance(planned, command, time.time() - began),
        )


def _computed(planned: Planned, store: Store, quiet: bool) -> "tuple[Inputs, dict[str, Any]]":
    """All artefacts, from the store or from one pass a model and set of images; and the keys that
    say what they are."""
    from sslens.capture import Features
    from sslens.comparisons.inputs import Inputs

    grams: dict[str, dict[str, Grams]] = {tokens: {} for tokens in planned.study.tokens}
    wide: dict[str, Grams] = {}
    features: dict[str, Features] = {}
    bank: dict[str, Features] = {}
    keys: list[Any] = []
    for subject in planned.subjects:  # in their order, which that of the passes need not be
        if subject.fingerprint is not None:
            for tokens in grams.keys() & subject.fingerprint.grams.keys():
                grams[tokens][subject.name] = subject.fingerprint.grams[tokens]
            keys += [artefact.key for artefact in subject.fingerprint.grams.values()]
    for p, made in _passed(planned, store, quiet):
        keys += [result.key for result in made]
        for reducer, result in zip(p.reducers, made, strict=True):
            if isinstance(result, Features):
                (bank if p.images is planned.bank else features)[p.subject.name] = result
            elif reducer.kind == "wide":
                wide[p.subject.name] = result
            else:
                grams[str(reducer.settings()["tokens"])][p.subject.name] = result
    images = planned.images
    about = {subject.name: subject.about for subject in planned.subjects}
    needs = {need for name in planned.analyses for need in plugin("analyses", name).NEEDS}
    inputs = Inputs(
        models=tuple(subject.name for subject in planned.subjects if not subject.control),
        controls=tuple(subject.name for subject in planned.subjects if subject.control),
        about=about,
        grams={tokens: found for tokens, found in grams.items() if found},
        wide=wide,
        features=features,
        bank=bank,
        labels=_labels(images),
        bank_labels=_labels(planned.bank),
        classes=images.classes if images is not None else (),
        seed=planned.study.seed,
        factors=_factors(images) if "factors" in needs else None,
        bank_factors=_factors(planned.bank) if "factors" in needs else None,
        paths=paths(planned.subjects) if "paths" in needs else {},
        grid=planned.study.grid,
        device=planned.device,
        quiet=quiet,
    )
    about_key = {
        "about": {name: known.to_json() for name, known in about.items()},
        "models": inputs.models,
        "controls": inputs.controls,
    }
    return inputs, {
        "artefacts": keys,
        "tokens": list(planned.study.tokens),
        "seed": inputs.seed,
        **about_key,
    }


def _passed(
    planned: Planned, store: Store, quiet: bool
) -> "Iterator[tuple[Pass, list[Grams | Features]]]":
    """Each pass and its artefacts. Images that several models see in the same way are decoded once
    for all of them."""
    from sslens.capture import collect
    from sslens.data.decoded import Decoded

    def seen(p: Pass) -> tuple[Any, ...]:
        return id(p.images), *p.model.transform.geometry

    waiting = Counter(seen(p) for p in planned.passes if p.missing)
    decoded: dict[tuple[Any, ...], Decoded] = {}
    for number, p in enumerate(planned.passes, 1):
        if p.missing and waiting[seen(p)] > 1 and seen(p) not in decoded:
            decoded[seen(p)] = Decoded(p.images, p.model.transform)
        label = f"[{number}/{len(planned.passes)}] {p.subject.name}"
        with progress(label, quiet=quiet or not p.missing) as report:
            yield (
                p,
                collect(
                    p.model,
                    p.images,
                    p.reducers,
                    plan=p.plan,
                    store=store,
                    device=planned.device,
                    precision=planned.precision,
                    decoded=decoded.get(seen(p)),
                    progress=report,
                ),
            )
        p.model.to("cpu")  # the next one needs the room
        if p.missing:
            waiting[seen(p)] -= 1
            if not waiting[seen(p)]:
                decoded.pop(seen(p), None)


def _labels(images: "ImageSet | None") -> dict[str, int]:
    if images is None or images.labels is None:
        return {}
    return dict(zip(images.ids, images.labels.tolist(), strict=True))


def _factors(images: "ImageSet | None") -> "pd.DataFrame | None":
    """What is known of generated scenes, by id."""
    from sslens.data.scene_images import factors_of

    return None if images is None else factors_of(images).set_axis(list(images.ids))


def _section(name: str, inputs: "Inputs", keys: Mapping[str, Any], store: Store) -> "Section":
    """One analysis: its table, from the store or computed, and what is drawn and said of it."""
    from sslens.report.page import Section
    from sslens.table import Results

    module = plugin("analyses", name)
    table = _table(name, module, inputs, keys, store)
    return Section(
        name,
        module.TITLE,
        module.CAPTION,
        tuple(module.findings(table)),
        Results({name: table}),
        module.draw(table),
    )


def _table(
    name: str, module: Any, inputs: "Inputs", keys: Mapping[str, Any], store: Store
) -> "Table":
    from sslens.table import Table

    key = {"analysis": name, "version": module.VERSION, "sslens": __version__, **keys}
    if "probes" in module.NEEDS:
        key["grid"] = inputs.grid
    if "paths" in module.NEEDS:
        key["paths"] = {
            name: [path.csv(), dict(path.provenance)] for name, path in inputs.paths.items()
        }
    kept = store.read_json("tables", key)
    if kept is not None:
        return Table.from_json(kept)
    computed: Table = module.compute(inputs)
    table = replace(computed, provenance={"analysis": name, "key": digest(key)})
    store.write_json("tables", key, table.to_json())
    return table


def _provenance(planned: Planned, command: str, seconds: float) -> dict[str, Any]:
    libraries = ("torch", "torchvision", "timm", "numpy", "pandas", "safetensors")
    models = {}
    for subject in planned.subjects:
        known = subject.known
        models[subject.name] = {
            "source": known.source,
            "digest": known.digest,
            "control": subject.control,
            **known.about.to_json(),
        }
        if subject.fingerprint is not None:
            models[subject.name]["fingerprint"] = subject.fingerprint.dtype
    return {
        "command": command,
        "made": time.strftime("%Y-%m-%d %H:%M:%S %Z"),
        "seconds": round(seconds, 1),
        "device": f"{planned.device}, {planned.precision}",
        "versions": (
            {"sslens": __version__, "python": platform.python_version()}
            | {name: importlib.metadata.version(name) for name in libraries}
        ),
        "images": _images(planned),
        "models": models,
    }


def _title(models: Sequence[str], images: str | None) -> str:
    return ", ".join(models) + (f" on {images}" if images else "")


def _images(planned: Planned) -> dict[str, Any]:
    """What the images were, as they say it or as the first fingerprint does; of paths alone there
    are none."""
    if planned.images is None:
        kept = planned.subjects[0].fingerprint
        if kept is None:
            return {"name": None, "count": 0, "digest": None, "skipped": []}
        return {
            "name": kept.images["name"],
            "count": len(kept.ids),
            "digest": kept.images["content"],
            "skipped": [],
        }
    return {
        "name": planned.images.name,
        "count": len(planned.images),
        "digest": planned.images.digest,
        "skipped": [list(each) for each in planned.images.skipped],
    }
