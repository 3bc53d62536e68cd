"""Analyses: one contract for every file in analyses/, and their numbers against the measures and
probes.

What the CKA exhibits conclude is in test_exhibits.py.
"""

import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from io import StringIO
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from detectors import levels_of, make_detectors
from given import (
    Given,
    ask,
    compute,
    draw,
    excuse,
    make_models,
    shorten_predictions,
    shorten_probes,
    write,
)
from sampling import make_samples
from sslens.capture import Features, Grams, Maps
from sslens.claims.advice import judge as judge_advice
from sslens.comparisons import compared as _compared
from sslens.comparisons import pairs as _pairs
from sslens.comparisons.activations import ActivationPair, ActivationPairs, TapDifference
from sslens.comparisons.altered import Altered, AlteredSets
from sslens.comparisons.choices import read_choices
from sslens.comparisons.inputs import (
    Factors,
    FeatureSets,
    KnownClasses,
    Labels,
    MapSets,
    ModelInfo,
    Models,
    ProbeSettings,
)
from sslens.comparisons.nulls import compute_null
from sslens.comparisons.pool import Pool, ShownImages
from sslens.comparisons.readings import find_over_places
from sslens.comparisons.roles import find_twins
from sslens.comparisons.segments import SegmentedImages, Segments, View
from sslens.comparisons.targets import Targets, code_factors
from sslens.comparisons.views import ViewSets
from sslens.data.alter import Transform
from sslens.data.images import from_arrays
from sslens.data.transform import EvalTransform
from sslens.errors import InputError
from sslens.figure import Figure, Heatmap, Lines, Picture, Sheet, to_plotly
from sslens.find import names, plugin
from sslens.measures.cka import Comparison, minibatch_cka
from sslens.models.about import About, Network
from sslens.models.taps import Tap
from sslens.paths.path import PathMeter
from sslens.probes import decoder
from sslens.probes.linear import widening
from sslens.report.front.making import Compared, make_front
from sslens.report.writing.advice import sentences as write_advice
from sslens.report.writing.overview import write_note
from sslens.statistics.proportions import wilson
from sslens.study.contract import needs_of
from sslens.table import Results, Table
from sslens.zoo.arrays import Array
from sslens.zoo.weights import NamedTensor, Weights

IDS = tuple(f"class{i % 3}/{i:02d}.png" for i in range(36))
LABELS = {name: i % 3 for i, name in enumerate(IDS)}
FACTORS = pd.DataFrame(
    {"class": list(LABELS.values()), "x": np.arange(36.0), "hue": np.arange(36) * 10.0}, index=IDS
)
KNOWN = code_factors(FACTORS.assign(**{"class": FACTORS["class"].astype(str)}))
SHOWN = from_arrays(
    np.random.default_rng(0).integers(0, 256, (36, 4, 4, 3), dtype=np.uint8), ids=IDS
)
KINDS = ("norm1", "qkv", "fc1", "block")
UNKNOWN = {"family": None, "objective": None, "arch": None, "tuned": False, "card": None}


def taps_of(blocks: int) -> list[Tap]:
    paths = {"norm1": ".norm1", "qkv": ".attn.qkv", "fc1": ".mlp.fc1", "block": ""}
    inside = [
        Tap(f"blocks.{i}{paths[kind]}", kind, (i + 1) / blocks)
        for i in range(blocks)
        for kind in KINDS
    ]
    return [*inside, Tap("norm", "norm", 1.0)]


def drawn(name: str, count: int, dim: int = 10) -> list[torch.Tensor]:
    """Features that know the class and something that all models share, less so in later taps."""
    rng = np.random.default_rng(sum(name.encode()))
    shared = np.random.default_rng(0).standard_normal((36, 4))
    classes = np.eye(3)[[LABELS[i] for i in IDS]]
    known = np.concatenate([shared, 2 * classes], 1)
    return [
        torch.from_numpy(
            (1 - 0.6 * i / count) * known @ rng.standard_normal((7, dim))
            + rng.standard_normal((36, dim))
        ).float()
        for i in range(count)
    ]


def grams_of(
    name: str, taps: Sequence[Tap], sizes: Sequence[int], constant: Sequence[str] = ()
) -> Grams:
    given = [
        torch.full((36, 3), 2.5) if tap.name in constant else x
        for tap, x in zip(taps, drawn(name, len(taps)), strict=True)
    ]
    made = Grams.of_features(given, ids=IDS, sizes=np.array(sizes, dtype=np.int64))
    return replace(made, model=name, taps=tuple(taps))


def features_of(name: str, taps: Sequence[Tap], poolings: Sequence[str]) -> Features:
    read = [tap for tap in taps if tap.kind in ("block", "norm", "pixels")]
    columns = {
        (tap.name, p): x
        for p in poolings
        for tap, x in zip(read, drawn(name + p, len(read)), strict=True)
    }
    return Features.of(columns, ids=IDS, taps=read, model=name)


def inputs(
    models: dict[str, int],
    controls: Sequence[str] = (),
    *,
    cls: bool = True,
    tokens: Sequence[str] = ("all", "cls"),
    sizes: Sequence[int] = (12, 12, 12),
    constant: Sequence[str] = (),
    about: Mapping[str, Mapping[str, Any]] | None = None,
) -> Given:
    """Models by name with their number of blocks (0 is raw pixels); "pixels" and random ones as
    controls."""
    about = about or {}
    blocks = models | {name: 0 if name == "pixels" else max(models.values()) for name in controls}
    taps = {
        name: taps_of(count) if count else [Tap("pixels", "pixels", 0.0)]
        for name, count in blocks.items()
    }
    for name in about:
        if "cnn" in name:
            taps[name] = [tap for tap in taps[name] if tap.kind == "block"]
    grams: dict[str, dict[str, Grams]] = {}
    for choice in tokens:
        with_them = {
            name: each for name, each in taps.items() if choice == "all" or (cls and blocks[name])
        }
        if with_them:
            grams[choice] = {
                name: replace(grams_of(name + choice, each, sizes, constant), model=name)
                for name, each in with_them.items()
            }
    poolings = ("cls", "mean", "patch") if cls else ("mean",)
    features = {
        name: features_of(name, each, poolings if blocks[name] else ("flat",))
        for name, each in taps.items()
    }
    vit = {name: {"arch": "vit"} for name, count in blocks.items() if count}
    known = {name: UNKNOWN | vit.get(name, {}) | dict(about.get(name, {})) for name in blocks}
    values = {
        "grams": grams,
        "wide": {name: grams_of(name, each, [36], constant) for name, each in taps.items()},
        "features": FeatureSets(features),
        "labels": Labels(LABELS, classes=("a", "b", "c")),
        "probes": ProbeSettings(),
        "factors": Factors(FACTORS),
        "targets": Targets(IDS, {"x": FACTORS[["x"]].to_numpy(float)}),
        "detections": make_detectors(levels_of(list(blocks))),
        "finetuned": make_detectors(levels_of(list(blocks), 0.4)),
        "joined": make_detectors(levels_of(list(blocks), 0.35)),
        "paths": {
            name: path_of(name) for name, each in about.items() if each.get("tuned") == "fine-tuned"
        },
    }
    values["pool"] = Pool(
        ShownImages(SHOWN, EvalTransform(resize=4, crop=4), KNOWN),
        None,
        {"class": "categorical", "x": "continuous", "hue": "circular"},
    )
    every = grams.get("all", {}) or {
        name: grams_of(f"{name}all", each, sizes, constant) for name, each in taps.items()
    }
    values["invariance"] = altered_of(features, every)
    values["samples"] = make_samples(tuple(models))
    values["classes"] = KnownClasses(values["labels"])
    values["shown"] = values["pool"].sources
    values["activations"] = activations_of([name for name, count in models.items() if count])
    way = next(iter(values["invariance"].drawn.values())).features
    values["views"] = ViewSets(features, (features, way))
    values["weights"] = {name: weights_of(name, count) for name, count in blocks.items() if count}
    maps = {name: maps_of(name, each) for name, each in taps.items()}
    values |= {"maps": MapSets(maps), "segments": segments_of(tuple(maps))}
    return Given(make_models(tuple(models), tuple(controls), known), values)


def altered_of(features: Mapping[str, Features], grams: Mapping[str, Grams]) -> AlteredSets:
    """The same images flipped, which moves all features a little, and of another hue, which turns
    their signs; drawn, this is so where the image's number is odd."""
    flip, hue = Transform("horizontal-flip", 1.0), Transform("hue", 45.0)
    odd = torch.arange(36) % 2 == 1

    def move(own: Features, way: Transform, made: torch.Tensor) -> Features:
        columns = {column: own.read(*column) for column in own.columns}
        moved = {
            column: torch.where(made[:, None], x + 0.1 if way.name == flip.name else -x, x)
            for column, x in columns.items()
        }
        return Features.of(moved, ids=own.ids, taps=own.taps, model=own.model)

    fixed, drawn = (
        {
            way: Altered({name: move(own, way, made) for name, own in features.items()}, of_altered)
            for way in ways
        }
        for ways, made, of_altered in (
            ((flip, hue), torch.ones(36, dtype=torch.bool), grams),
            ((Transform("horizontal-flip", 1.0, drawn=True),), odd, {}),
        )
    )
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    shown = {"unchanged": pixels, "horizontal flip": pixels[:, ::-1], "hue 45": 255 - pixels}
    sides = dict.fromkeys(features, 4)
    return AlteredSets(features, grams, sides, fixed, drawn, FACTORS, shown)


def maps_of(name: str, taps: Sequence[Tap]) -> Maps:
    """Maps of 2 × 2 places that know a little of the squares in `segments_of`."""
    rng = np.random.default_rng(sum(name.encode()))
    known = np.repeat([LABELS[i] for i in IDS], 4).reshape(36, 2, 2, 1) * np.eye(2)[..., None]
    blocks = [tap for tap in taps if tap.kind in ("block", "pixels")]
    values = {
        tap.name: torch.from_numpy(known + rng.standard_normal((36, 2, 2, 5))).float()
        for tap in blocks
    }
    return Maps.of(values, side=4, ids=IDS, taps=blocks, model=name)


def segments_of(names: Sequence[str]) -> Segments:
    """Images of 4 × 4 pixels with two objects of the image's class, of 1 and of 2 to 4 pixels."""
    masks, objects = np.zeros((36, 4, 4), np.int16), np.full((36, 4, 4), -1, np.int16)
    for row, name in enumerate(IDS):
        masks[row, 0, 0], objects[row, 0, 0] = LABELS[name], 0
        masks[row, 2, : 2 + row % 3], objects[row, 2, : 2 + row % 3] = LABELS[name], 1
    view = View(torch.from_numpy(masks), torch.from_numpy(objects))
    views = dict.fromkeys(names, view)
    return Segments(("background", "a", "b"), SegmentedImages(IDS, views, "content"))


def activations_of(names: Sequence[str]) -> ActivationPairs:
    """The first model beside each other one, which leave rounding at the second of three taps."""
    taps = [Tap(f"blocks.{i}", "block", (i + 1) / 3) for i in range(3)]
    rows = tuple(TapDifference(tap, 1e-7 * 10**i, 1e-7) for i, tap in enumerate(taps))
    pairs = [ActivationPair(names[0], name, "float32", True, rows) for name in names[1:]]
    return ActivationPairs(list(names), lambda: pairs)


def weights_of(name: str, blocks: int) -> Weights:
    """Weights of a network whose embedding is the same in all models; random ones have no head."""
    rng = np.random.default_rng(sum(name.encode()))
    shapes = {f"blocks.{i}.mlp.fc1.weight": (4, 3) for i in range(blocks)} | {"pos_embed": (1, 2)}
    shapes |= {} if name.startswith("random") else {"head.weight": (3, 10), "head.bias": (3,)}
    values = {key: rng.standard_normal(shape) for key, shape in shapes.items()}
    values["pos_embed"] = np.ones((1, 2))
    tensors = {
        key: NamedTensor(
            Array(value.astype(np.float32), "float32"),
            "float32",
            (key,),
            "",
            "a head" if key.startswith("head") else "",
        )
        for key, value in values.items()
    }
    return Weights(name, name, About(), tensors)


def path_of(name: str) -> Table:
    """The path of a walk of a few weights through four epochs."""
    rng = np.random.default_rng(sum(name.encode()))
    shapes = {
        "pos_embed": 4,
        "blocks.0.attn.qkv.bias": 6,
        "blocks.0.norm1.bias": 3,
        "blocks.1.mlp.fc1.bias": 5,
    }
    places = {name: 1 + rng.random((5, size)).cumsum(0) for name, size in shapes.items()}
    first, *others = (
        {name: torch.from_numpy(each[i]) for name, each in places.items()} for i in range(5)
    )
    trail = PathMeter.begin(first)
    for number, weights in enumerate(others, 1):
        trail.add(weights, str(number))
    return trail.path.table()


CASES = {
    "two models of different depth": functools.partial(
        inputs,
        {"mae": 2, "moco": 5},
        ["random #0", "random #1", "pixels"],
        tokens=("all", "cls", "patch"),
    ),
    "one model": functools.partial(inputs, {"mae": 3}, ["random #0", "random #1", "pixels"]),
    "no controls": functools.partial(inputs, {"mae": 3, "moco": 3}),
    "one model alone": functools.partial(inputs, {"mae": 2}),
    "five models": functools.partial(
        inputs, {"a": 2, "b": 3, "c": 1, "d": 2, "e": 2}, ["random #0"], tokens=["all"]
    ),
    "no class token": functools.partial(
        inputs, {"mae": 2, "moco": 2}, ["random #0", "pixels"], cls=False
    ),
    "pixels alone": functools.partial(inputs, {"pixels": 0}),
    "pixels beside a model": functools.partial(inputs, {"mae": 2, "pixels": 0}, ["random #0"]),
    "one minibatch": functools.partial(
        inputs, {"mae": 2, "moco": 2}, ["random #0", "random #1", "pixels"], sizes=[36]
    ),
    "constant taps": functools.partial(
        inputs,
        {"mae": 2, "moco": 2},
        ["random #0"],
        tokens=["all"],
        constant=["blocks.0", "blocks.0.norm1", "blocks.0.attn.qkv", "blocks.1.attn.qkv"],
    ),
    "both families": functools.partial(
        inputs,
        {"dino": 3, "moco": 3, "mae": 3, "msn": 3, "mae-ft": 3, "dino-cnn": 4},
        ["random #0", "random #1", "pixels"],
        about={
            "dino": {"family": "JE", "objective": "dino", "arch": "vit"},
            "moco": {"family": "JE", "objective": "moco-v3", "arch": "vit"},
            "mae": {"family": "REC", "objective": "mae", "arch": "vit"},
            "msn": {"family": "JE", "objective": "msn", "arch": "vit"},
            "mae-ft": {"family": "REC", "objective": "mae", "arch": "vit", "tuned": "fine-tuned"},
            "dino-cnn": {"family": "JE", "objective": "dino", "arch": "resnet50", "network": "cnn"},
        },
    ),
    "one family before and after, in one minibatch": functools.partial(
        inputs,
        {"mae": 3, "mae-ft": 3, "msn": 3},
        tokens=["all"],
        about={
            "mae": {"family": "REC", "objective": "mae", "arch": "vit"},
            "mae-ft": {"family": "REC", "objective": "mae", "arch": "vit", "tuned": "fine-tuned"},
            "msn": {"family": "JE", "objective": "msn", "arch": "vit"},
        },
        sizes=[36],
    ),
    "bare files": functools.partial(
        inputs,
        {"mae": 2, "moco": 3},
        ["random #0", "random #1", "pixels"],
        cls=False,
        about={"mae": {"arch": None}, "moco": {"arch": None}},
    ),
    "CNNs alone": functools.partial(
        inputs,
        {"dino-cnn": 3, "fcmae-cnn": 4},
        ["random #0"],
        cls=False,
        about={
            "dino-cnn": {"family": "JE", "objective": "dino", "arch": "resnet50", "network": "cnn"},
            "fcmae-cnn": {
                "family": "REC",
                "objective": "fcmae",
                "arch": "convnextv2_base",
                "network": "cnn",
            },
            "random #0": {"family": "control", "arch": "resnet50", "network": "cnn"},
        },
    ),
}
#: cases in which an analysis goes most of its ways; the others are more of the same
TELLING = (
    "one model alone",
    "no class token",
    "pixels alone",
    "constant taps",
    "both families",
    "one family before and after, in one minibatch",
)
SLOW = pytest.mark.slow


@functools.cache
def given_of(case: str) -> Given:
    """What analyses are given in a case."""
    return CASES[case]()


@pytest.fixture(autouse=True, scope="module")
def _few_permutations() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_compared, "PERMUTATIONS", 20)
        # deeper probes of one training
        patch.setattr(widening, "RATES", (1e-3,))
        patch.setattr(widening, "DECAYS", (0.0,))
        shorten_probes(patch)
        patch.setattr(decoder, "HIDDEN", 4)
        shorten_predictions(patch)
        yield


@functools.cache
def results_of(name: str, case: str) -> Results:
    """The results of an analysis that is given what it says it needs, and nothing else."""
    return compute(name, given_of(case))


def as_data(figure: Figure) -> list[Any]:
    """What a figure shows, as plain values."""
    shown: list[Any] = []
    for panel in figure.shown():
        if isinstance(panel, Heatmap):
            shown.append(
                (panel.title, panel.rows, panel.columns, np.round(panel.values, 5).tolist())
            )
        elif isinstance(panel, Picture):
            boxes = [(each.name, each.label, *np.round(each.box, 3)) for each in panel.outlines]
            shown.append((panel.title, int(panel.pixels.sum()), boxes))
        elif isinstance(panel, Sheet):
            shown.append((panel.title, panel.rows, panel.columns, int(panel.pixels.sum())))
        else:
            lines = [
                (
                    line.name,
                    line.control,
                    [
                        None if a is None else np.round(a, 5).tolist()
                        for a in (line.x, line.y, line.low)
                    ],
                )
                for line in panel.lines
            ]
            shown.append((panel.title, lines))
    return shown


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=case.replace(" ", "-"), marks=[] if case in TELLING else [SLOW])
        for case in CASES
    ],
)
@pytest.mark.parametrize("name", names("analyses"))
def test_contract(name: str, case: str) -> None:
    module, given = plugin("analyses", name), given_of(case)
    assert module.TITLE.endswith("?")
    assert module.CAPTION.endswith(".")
    assert set(needs_of(name)) <= set(names("study/needs"))
    assert getattr(module, "ON_REQUEST", True) is True
    assert ask(name, "on_request", given.models) in (None, True, False)

    reason = excuse(name, given.models)
    if reason is not None:
        assert reason == reason.strip()
        assert not reason.endswith(".")
        assert reason[0].islower()
        return
    results = results_of(name, case)
    declared = getattr(module, "TABLES", None)  # by which claims and conditions are looked up
    for called, table in results.tables.items():
        assert declared is None or set(table.frame.columns) <= set(declared[called])
        assert set(table.frame.columns) == set(table.units)
        assert all(table.units.values())
        assert len(table.frame)
        assert not np.isinf(table.frame.select_dtypes("number").to_numpy()).any()
        assert not table.frame.isna().all().all()

    figure = draw(name, results)
    assert figure.name == name
    stored = Results.from_json(json.loads(json.dumps(results.to_json(), allow_nan=False)))
    printed = Results(
        {
            name: Table(pd.read_csv(StringIO(table.csv())), table.units)
            for name, table in results.tables.items()
        }
    )
    shown = json.dumps(as_data(figure))
    assert json.dumps(as_data(draw(name, stored))) == shown
    assert [one[0] for one in as_data(draw(name, printed))] == [one[0] for one in json.loads(shown)]

    sentences = write(name, results)
    assert sentences == write(name, stored)
    assert len(sentences) <= max(6, len(given.models.studied))
    for sentence in sentences:
        assert sentence.endswith(".")
        assert sentence[0].isalnum()
        assert "nan" not in sentence
        assert any(model in sentence for model in given.models.studied)


@pytest.mark.parametrize("name", names("analyses"))
def test_a_figure_of_every_analysis_is_rendered(name: str) -> None:
    case = (
        "both families" if name in ("cka-msn", "cka-finetune", "finetune-path") else "constant taps"
    )
    assert to_plotly(draw(name, results_of(name, case))).data


@pytest.mark.parametrize("name", names("analyses"))
def test_every_analysis_has_something_to_show_of_both_families(name: str) -> None:
    assert excuse(name, given_of("both families").models) is None
    assert write(name, results_of(name, "both families"))


# ------------------------------------------------------------------------------------------------
# CKA, golden


def heatmaps(figure: Figure) -> dict[str, Heatmap]:
    return {panel.title: panel for panel in figure.shown() if isinstance(panel, Heatmap)}


def curves(figure: Figure, title: str) -> dict[str, Any]:
    (panel,) = [
        panel for panel in figure.shown() if isinstance(panel, Lines) and panel.title == title
    ]
    return {line.name: line for line in panel.lines}


def test_heat_maps_of_blocks_are_minibatch_cka() -> None:
    case = "two models of different depth"
    grams = given_of(case).values["grams"]["all"]
    found = heatmaps(draw("cka-blocks", results_of("cka-blocks", case)))
    shown = ("mae", "moco", "random #0")
    assert set(found) == {f"{a} · {b}" for i, a in enumerate(shown) for b in shown[i:]}
    for title, panel in found.items():
        a, b = (grams[name].at("block") for name in title.split(" · "))
        np.testing.assert_allclose(panel.values, minibatch_cka(a, b), rtol=0, atol=1e-12)
        assert panel.rows == tuple(str(i) for i in range(len(a.taps)))
        assert panel.columns == tuple(str(i) for i in range(len(b.taps)))


def test_heat_maps_of_layer_types_are_minibatch_cka() -> None:
    case = "two models of different depth"
    found = heatmaps(draw("cka-layer-types", results_of("cka-layer-types", case)))
    assert set(found) == {f"{kind}: mae · moco" for kind in ("norm1", "qkv", "fc1")}
    for kind in ("norm1", "qkv", "fc1"):
        a, b = (given_of(case).values["grams"]["all"][name].at(kind) for name in ("mae", "moco"))
        np.testing.assert_allclose(
            found[f"{kind}: mae · moco"].values, minibatch_cka(a, b), rtol=0, atol=1e-12
        )


@pytest.mark.parametrize(
    ("title", "tokens"), [("all tokens", "all"), ("CLS token", "cls"), ("patch tokens", "patch")]
)
def test_curves_are_cka_at_the_nearest_depth(title: str, tokens: str) -> None:
    """mae has blocks at depths 1/2 and 1, moco at 1/5 … 1: 1/5, 2/5, 3/5 are nearest to 1/2, the
    others to 1."""
    case = "two models of different depth"
    lines = curves(draw("cka-blocks", results_of("cka-blocks", case)), title)
    grams = given_of(case).values["grams"][tokens]
    compared = Comparison.of(*(grams[name].at("block") for name in ("mae", "moco")))
    rows, columns = [0, 0, 0, 1, 1], [0, 1, 2, 3, 4]
    line = lines["mae · moco"]
    np.testing.assert_allclose(line.x, [0.2, 0.4, 0.6, 0.8, 1.0])
    np.testing.assert_allclose(line.y, compared.cka()[rows, columns], rtol=0, atol=1e-12)
    low, high = compared.interval()
    np.testing.assert_allclose(line.low, low[rows, columns], rtol=0, atol=1e-12)
    np.testing.assert_allclose(line.high, high[rows, columns], rtol=0, atol=1e-12)
    assert not line.control
    assert lines["random #0 · random #1"].control
    assert lines["mae · random #0"].control
    assert ("mae · pixels" in lines) == (tokens == "all")  # pixels have no tokens


def test_the_mean_at_the_same_depth_is_that_of_its_pairs() -> None:
    results = results_of("cka-blocks", "no controls")
    means, cells = (
        _pairs.select_pair(results[name], "mae", "moco", "all") for name in ("means", "cells")
    )
    (mean,) = means.itertuples()
    cells = cells[cells.tap_a == cells.tap_b]
    assert len(cells) == 3
    assert mean.cka == pytest.approx(cells.cka.mean(), abs=1e-12)
    assert mean.low < mean.cka < mean.high
    assert cells.low.min() < mean.low


def test_undefined_cells_are_undefined_in_table_figure_and_mean() -> None:
    results = results_of("cka-blocks", "constant taps")
    panel = heatmaps(draw("cka-blocks", results))["mae · moco"]
    assert np.isnan(panel.values).tolist() == [[True, True], [True, False]]
    cells, means = (
        _pairs.select_pair(results[name], "mae", "moco", "all") for name in ("cells", "means")
    )
    touched = (cells.tap_a == "blocks.0") | (cells.tap_b == "blocks.0")
    assert cells[touched][["cka", "low", "high"]].isna().to_numpy().all()
    (mean,) = means.cka
    assert mean == pytest.approx(panel.values[1, 1])
    assert ",,," in results.tables["cells"].csv()


def test_a_type_of_layer_without_a_defined_cell_is_not_spoken_of() -> None:
    results = results_of("cka-layer-types", "constant taps")
    found = heatmaps(draw("cka-layer-types", results))
    assert np.isnan(found["qkv: mae · moco"].values).all()
    assert np.isnan(found["norm1: mae · moco"].values).tolist() == [[True, True], [True, False]]
    assert np.isfinite(found["fc1: mae · moco"].values).all()
    (sentence,) = write("cka-layer-types", results)
    assert "fc1" in sentence
    assert "norm1" in sentence
    assert "qkv" not in sentence


def test_a_pair_is_the_same_whichever_model_is_named_first() -> None:
    one, other = (
        heatmaps(draw("cka-blocks", compute("cka-blocks", inputs(models))))
        for models in ({"mae": 2, "moco": 4}, {"moco": 4, "mae": 2})
    )
    a, b = one["mae · moco"], other["moco · mae"]
    np.testing.assert_allclose(a.values, b.values.T, rtol=0, atol=1e-12)


def test_findings_claim_no_order_without_an_interval() -> None:
    """One minibatch has no interval, so nothing can be said to be alike, apart or overlapping."""
    for name in ("cka-blocks", "cka-layer-types"):
        text = " ".join(write(name, results_of(name, "one minibatch")))
        assert text
        for claim in (
            "distinguishable",
            "more than",
            "less than",
            "overlap",
            "part from",
            "no block lies",
            "[",
        ):
            assert claim not in text, text


def test_findings_of_blocks_say_what_is_left_beside_the_pixels() -> None:
    sentences = write("cka-blocks", results_of("cka-blocks", "two models of different depth"))
    assert len(sentences) == 3
    assert sentences[0].startswith("mae and moco: mean CKA at the same depth 0.")
    assert all(
        where in one
        for where, one in zip(("all tokens", "CLS token", "patch tokens"), sentences, strict=True)
    )
    assert "random initialisations" not in " ".join(sentences)  # which are no yardstick
    beyond = "when the pixels are regressed out"
    assert all(beyond in one for one in sentences)
    bare = write("cka-blocks", results_of("cka-blocks", "no controls"))
    assert beyond not in " ".join(bare)
    assert "the Grams of the pixels are not there" in bare[-1]


def test_pairs_are_held_against_permuted_images_as_each_alone_is() -> None:
    """All models at once, by kind and tokens: the p-values and thresholds of every pair are its
    own."""
    case = "both families"
    for name, kind, tokens in (("cka-blocks", "block", "all"), ("cka-layer-types", "qkv", "cls")):
        frame = results_of(name, case)["cells"]
        frame = frame[(frame.kind == kind) & (frame.tokens == tokens)]
        for (a, b), cells in frame.groupby(["model_a", "model_b"], sort=False):
            if a == b or cells.control.iloc[0]:
                assert cells[["p", "threshold"]].isna().to_numpy().all()
                continue
            grams = given_of(case).values["grams"][tokens]
            pair = (grams[model].at(kind) for model in (a, b))
            null = compute_null(*pair, permutations=_compared.PERMUTATIONS, seed=0)
            np.testing.assert_array_equal(cells.p, null.p.ravel())
            np.testing.assert_allclose(cells.threshold, null.threshold, rtol=0, atol=1e-6)


# ------------------------------------------------------------------------------------------------
# controls


def test_random_initialisations_of_another_architecture_are_no_control() -> None:
    """Of bare files the architecture is unknown: nothing is said about random initialisations,
    whatever of these there are."""
    twins = given_of("two models of different depth").models
    assert find_twins(twins, "mae", "moco") == ("random #0", "random #1")
    bare = given_of("bare files").models
    assert find_twins(bare, "mae", "moco") is None
    for name in ("cka-blocks", "cka-layer-types", "other-measures", "cka-distance"):
        results = results_of(name, "bare files")
        sentences = write(name, results)
        # of one pair, and nothing to hold it against, no scale says anything
        assert bool(sentences) is (name != "other-measures")
        assert "random" not in " ".join(sentences)
        for table in results:
            if "less" in results[table]:
                assert not results[table].less.str.contains("random").any()
    known = {"mae": About(arch="vit"), "moco": About(arch="resnet50")}
    other = Models(
        tuple(
            replace(model, about=known[model.name]) if model.name in known else model
            for model in bare
        )
    )
    assert find_twins(other, "mae", "mae") == ("random #0", "random #1")
    assert find_twins(other, "mae", "moco") is None
    one = Models(tuple(model for model in twins if model.name != "random #1"))
    assert find_twins(one, "mae", "moco") is None  # one has no twin


# ------------------------------------------------------------------------------------------------
# k-NN, golden


def first_table(results: Results) -> pd.DataFrame:
    """The rows of the first table."""
    return results[next(iter(results))]


def plain_knn(
    queries: torch.Tensor, bank: torch.Tensor, labels: list[int], k: int, *, own: bool, how: str
) -> list[int]:
    q, b = (
        x.double().numpy() / np.linalg.norm(x.double().numpy(), axis=1, keepdims=True)
        for x in (queries, bank)
    )
    cosines = q @ b.T
    if own:
        np.fill_diagonal(cosines, -np.inf)
    predicted = []
    for row in cosines:
        best = np.argsort(-row, kind="stable")[:k]
        weights = np.exp(row[best] / 0.07) if how == "weighted" else np.ones(k)
        predicted.append(int(np.bincount([labels[i] for i in best], weights, minlength=3).argmax()))
    return predicted


@pytest.mark.parametrize("with_bank", [False, True])
def test_accuracies_are_those_of_a_plain_knn(with_bank: bool) -> None:
    given = given_of("one model")
    features = given.values["features"].images
    # a bank of other images whose ids are, as in two folders of one naming, those of the images
    others = {i: (label + 1) % 3 for i, label in LABELS.items()}
    bank = {
        name: Features.of(
            {column: each.read(*column).flip(1) + 1 for column in each.columns},
            ids=each.ids,
            taps=each.taps,
            model=name,
        )
        for name, each in features.items()
    }
    if with_bank:
        labels_of = Labels(LABELS, others, ("a", "b", "c"))
        given = given.but(features=FeatureSets(features, bank), labels=labels_of)
    results = compute("knn-depth", given)
    # one number everywhere: of all images, and not of those that judge a choice
    assert set(results["choices"].chance) == {1 / 3}
    frame = first_table(results)
    # kinds of features × votes × (poolings × (blocks and norm) × models and pixels)
    assert len(frame) == 2 * 2 * (3 * 4 * 3 + 1)
    own = [LABELS[i] for i in IDS]
    for row in frame.itertuples():
        queries = features[row.model].read(row.tap, row.pooling)
        among = bank[row.model].read(row.tap, row.pooling) if with_bank else queries
        labels = [others[i] for i in IDS] if with_bank else own
        if row.features == "standardised":
            mean, deviation = among.double().mean(0), among.double().std(0, correction=0)
            queries, among = (queries - mean) / deviation, (among - mean) / deviation
        predicted = plain_knn(queries, among, labels, 20, own=not with_bank, how=row.vote)
        correct = int(np.sum(np.array(predicted) == own))
        assert row.accuracy == pytest.approx(correct / 36)
        assert (row.low, row.high) == pytest.approx(wilson(correct, 36))
        assert (row.k, row.images, row.chance) == (20, 36, pytest.approx(1 / 3))


def test_a_sentence_says_which_images_chose_and_which_judge() -> None:
    """The best block is of all images, which chose it; what is to be used of the other ones, as on
    the first screen."""
    results = compute("knn-depth", given_of("one model"))
    rows = first_table(results)
    rows = rows[rows.vote == "weighted"]
    (name,) = rows[~rows.control].model.unique()
    (said,) = [one for one in write("knn-depth", results) if one.startswith(name)]
    best = rows[rows.model == name].accuracy.max()
    assert f"20-NN {best:.1%} [" in said
    assert "] of all 36 images, which also chose it among raw and standardised features;" in said
    assert "; what is to be used, the" in said
    row = results["choices"].set_index("model").loc[name]
    which = "" if row.use == "chosen" else "usual_"
    assert f" at {row[which + 'tap']}" in said
    assert f", has {row[which + 'accuracy']:.1%} [" in said
    assert f"] on the {row.images} images that did not choose, " in said
    assert f"{100 * row[which + 'over_pixels']:+.1f} points [" in said
    # of several that are as good the one that is to be used is named
    frame = first_table(results).copy()
    weighted = (frame.model == name) & (frame.vote == "weighted")
    frame.loc[weighted, "accuracy"] = best
    [(accuracies, table), *_] = results.tables.items()
    tied = Results({**results.tables, accuracies: Table(frame, table.units)})
    (said,) = [one for one in write("knn-depth", tied) if one.startswith(name)]
    place = said.split("what is to be used, the ")[1].split(", has ")[0]  # "CLS token at blocks.1"
    pooling, tap = place.split(" at ")
    assert said.startswith(f"{name} separates the classes best at {tap} with the {pooling}: 20-NN")
    # without images that judge, only that these chose
    alone = Results({one: own for one, own in results.tables.items() if one != "choices"})
    (said,) = [one for one in write("knn-depth", alone) if one.startswith(name)]
    assert "which also chose it among raw and standardised features, " in said
    best_row = rows[(rows.model == name) & (rows.accuracy == best)].iloc[0]
    like = rows[rows.control & (rows.features == best_row.features)]
    assert f"against the best control on {best_row.features} features, " in said
    assert f" ({like.accuracy.max():.1%})" in said


@pytest.mark.parametrize("families", [False, True])
@pytest.mark.parametrize("kind", ["raw", "standardised"])
def test_the_best_is_sought_among_raw_and_standardised_features(kind: str, families: bool) -> None:
    """Of models and of controls alike, each with the kind of features that is best."""
    results = results_of("knn-depth", "both families" if families else "one model")
    frame = first_table(results).assign(accuracy=lambda rows: rows.accuracy / 2)
    name = str(frame[~frame.control].model.iloc[0])
    weighted = (frame.vote == "weighted") & (frame.features == kind)
    for model, tap, accuracy in ((name, "blocks.1", 0.97), ("pixels", "pixels", 0.96)):
        frame.loc[weighted & (frame.model == model) & (frame.tap == tap), "accuracy"] = accuracy
    # plain majority is no part of it
    frame.loc[frame.vote == "majority", "accuracy"] = 0.99
    table = replace(results.tables["accuracies"], frame=frame)
    said = write("knn-depth", Results({**results.tables, "accuracies": table}))
    scaled = ", standardised" if kind == "standardised" else ""
    if families:
        (sentence,) = [one for one in said if "the classes are separated best" in one]
        assert f"in {name} at blocks.1 with the CLS token{scaled} (97.0%)" in sentence
        assert f"; the best control, pixels{scaled}, has 96.0%: of all 36 images" in sentence
        assert sentence.endswith("which also chose these among raw and standardised features.")
    else:
        (sentence,) = [one for one in said if one.startswith(f"{name} separates")]
        assert f"best at blocks.1 with the CLS token{scaled}: 20-NN 97.0% [" in sentence


def test_few_images_lower_k() -> None:
    given = given_of("one model alone")
    few = IDS[:9]
    features = {
        name: Features.of(
            {column: each.read(*column)[:9] for column in each.columns}, ids=few, taps=each.taps
        )
        for name, each in given.values["features"].images.items()
    }
    frame = first_table(compute("knn-depth", given.but(features=FeatureSets(features))))
    assert set(frame.k) == {8}
    assert set(frame.images) == {9}


def test_accuracy_is_drawn_by_depth_with_pixels_as_a_level() -> None:
    results = results_of("knn-depth", "one model")
    lines = curves(draw("knn-depth", results), "CLS token")
    assert set(lines) == {"mae", "random #0", "random #1", "pixels"}
    frame = first_table(results)
    frame = frame[(frame.vote == "weighted") & (frame.model == "mae") & (frame.pooling == "cls")]
    np.testing.assert_allclose(lines["mae"].x, [1 / 3, 2 / 3, 1])
    raw, scaled = (
        frame.accuracy[(frame.tap != "norm") & (frame.features == features)]
        for features in ("raw", "standardised")
    )
    np.testing.assert_allclose(lines["mae"].y, raw)
    below = curves(draw("knn-depth", results), "CLS token, standardised")["mae"]
    np.testing.assert_allclose(below.y, scaled)
    assert lines["pixels"].y[0] == lines["pixels"].y[1]
    assert [lines[name].control for name in ("mae", "random #0", "pixels")] == [False, True, True]


def test_blocks_of_a_cnn_are_drawn_by_depth() -> None:
    taps = [
        *(Tap(f"layer{i}.0", "block", i / 4) for i in (1, 2, 3, 4)),
        Tap("norm_pre", "norm", 1.0),
    ]
    features = FeatureSets({"cnn": features_of("cnn", taps, ["mean"])})
    labels = Labels(LABELS, classes=("a", "b", "c"))
    given = Given(Models((ModelInfo("cnn"),)), {"features": features, "labels": labels})
    results = compute("knn-depth", given)
    line = curves(draw("knn-depth", results), "mean over places")["cnn"]
    np.testing.assert_allclose(line.x, [0.25, 0.5, 0.75, 1.0])
    assert set(first_table(results).kind) == {"block", "norm"}


@pytest.mark.parametrize("network", ["cnn", "vit"])
def test_a_mean_over_places_has_one_name_on_a_page(network: Network) -> None:
    """Of a CNN, and of a network of patch tokens alone: in its section, its card, the advice and
    the note of its point."""
    taps = [Tap("layers.0", "block", 0.5), Tap("norm", "norm", 1.0)]
    features = FeatureSets({"own": features_of("own", taps, ["mean"])})
    labels = Labels(LABELS, classes=("a", "b", "c"))
    models = Models((ModelInfo("own", about=About(network=network)),))
    results = {
        "knn-depth": compute("knn-depth", Given(models, {"features": features, "labels": labels}))
    }
    screen = make_front(results, (), models, Compared("photos", 36))
    (card,) = screen.cards
    (choice,) = read_choices(results["knn-depth"]["choices"])
    over_places = find_over_places(results)
    said = [
        next(one for one in write("knn-depth", results["knn-depth"]) if one.startswith("own")),
        card.use,
        card.why,
        write_advice(judge_advice(results), over_places)[0],
        write_note(choice, places="own" in over_places),
    ]
    assert ["mean over places" in one for one in said] == [True] * 5
    assert not any("tokens" in one for one in said)


def test_tokens_that_no_model_has_are_refused() -> None:
    given = given_of("CNNs alone").but(grams={"cls": {}})
    for name in ("cka-blocks", "cka-layer-types", "cka-distance", "other-measures"):
        with pytest.raises(
            InputError, match="no such tokens in dino-cnn and fcmae-cnn: ask for tokens all"
        ):
            compute(name, given)


@pytest.mark.parametrize(
    ("case", "special"), [("no controls", True), ("both families", False), ("CNNs alone", True)]
)
def test_distance_is_on_request_without_two_kinds_of_network(case: str, special: bool) -> None:
    assert ask("cka-distance", "on_request", given_of(case).models) is special
