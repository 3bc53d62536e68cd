"""Numbers of generated images: the reader of scenes, the analysis, and the whole way with a sampler
of pretence."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from given import Given, compute, draw, make_models, write
from sampling import DRAWS, SOURCES, make_samples
from sslens.capture import Features
from sslens.data import scenes
from sslens.data.images import ImageSet
from sslens.errors import InputError
from sslens.figure import Sheet
from sslens.probes.fidelity import Whitening
from sslens.probes.scene_coding import FACING, choose_codings, join_facing, mirror_factors
from sslens.probes.scene_reader import (
    ReaderSettings,
    SceneReader,
    has_reader,
    open_reader,
    train_reader,
)
from sslens.report.answer import make_answer
from sslens.report.writing.varying import write_varying
from sslens.statistics.estimate import Estimate
from sslens.statistics.spread import average_over_sources, estimate_spread
from sslens.store import Store
from sslens.study import Study, prepare, run, sampling

NANO = "random:vit_nano_patch8_32"
TINY = ReaderSettings(images=128, test=64, epochs=1, width=2, batch=32)


# ------------------------------------------------------------------------------------------------
# the reader of scenes


@pytest.fixture(scope="module")
def reader() -> SceneReader:
    return train_reader(TINY)


def test_factors_are_read_back_from_their_own_codes() -> None:
    frame = scenes.factors(0, range(20)).reset_index(drop=True)
    for coding in choose_codings(frame):
        target = torch.from_numpy(coding.encode(join_facing(frame)))
        if coding.kind == "categorical":
            target = torch.nn.functional.one_hot(target[:, 0].long(), coding.width).float()
        decoded, true = coding.decode(target), join_facing(frame)[coding.name]
        if coding.kind == "categorical":
            assert decoded.tolist() == true.tolist()
        else:
            np.testing.assert_allclose(decoded, true, rtol=1e-4, atol=1e-4)


def test_a_mirrored_picture_is_read_as_the_mirrored_scene(reader: SceneReader) -> None:
    pictures = scenes.render(1, range(12))
    plain, turned = reader.read(pictures), reader.read(pictures[:, :, ::-1])
    expected = mirror_factors(plain)
    assert turned[FACING].tolist() == expected[FACING].tolist()
    assert (turned[FACING] != plain[FACING]).all()
    for name in ("x", "rotation", "y", "scale"):
        np.testing.assert_allclose(turned[name], expected[name], atol=1e-3)
    apart = np.deg2rad(turned.light_angle - expected.light_angle)
    np.testing.assert_allclose(np.cos(apart), 1, atol=1e-4)


def test_a_reader_is_the_same_again_and_is_kept(reader: SceneReader, tmp_path: Path) -> None:
    store, pictures = Store(tmp_path), scenes.render(1, range(5))
    assert not has_reader(store, TINY)
    kept = open_reader(store, TINY)
    assert has_reader(store, TINY)
    assert not has_reader(store)  # of other settings
    assert kept.read(pictures).equals(reader.read(pictures))
    again = open_reader(store, TINY, report=lambda done, total: pytest.fail("trained anew"))
    assert again.read(pictures).equals(kept.read(pictures))
    assert again.scores == kept.scores
    assert set(again.scores) == {"class", *scenes.FACTORS}
    assert list(again.read(pictures[:0]).columns) == list(again.read(pictures).columns)


def test_what_cannot_be_read_or_trained_is_refused(reader: SceneReader) -> None:
    with pytest.raises(InputError, match="Images of 8 × 4 px cannot be read: scenes are square"):
        reader.read(np.zeros((1, 4, 8, 3), np.uint8))
    with pytest.raises(InputError, match="give at least one batch"):
        ReaderSettings(images=10, batch=20)


@pytest.mark.slow
def test_facing_is_read_in_95_percent_of_held_out_scenes() -> None:
    scores = train_reader(ReaderSettings()).scores
    assert scores[FACING].value >= 0.95
    assert scores["class"].value >= 0.95
    assert scores["x"].value >= 0.9
    assert scores[FACING].n == ReaderSettings().test


def test_progress_of_a_reader_counts_minibatches(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sslens.probes.scene_reader.ReaderSettings", lambda: TINY)
    captured = SimpleNamespace(situation=SimpleNamespace(quiet=False), store=None)
    vars(sampling.SampleMaker)["_reader"].fget(SimpleNamespace(captured=captured))
    steps = TINY.epochs * (TINY.images // TINY.batch)
    assert f"a reader of scenes: {steps}/{steps} minibatches, " in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------
# the analysis


def given_of(noise: dict[str, float]) -> Given:
    models = make_models(tuple(noise), (), {name: {} for name in noise})
    return Given(models, {"samples": make_samples(tuple(noise), noise)})


def test_an_average_over_one_source_has_no_interval() -> None:
    alone = average_over_sources(np.array([[1.0, 0.5]]))
    assert float(alone.value) == 0.75
    assert np.isnan(alone.interval()).all()


def test_an_average_over_sources_is_that_of_each_source() -> None:
    values = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0], [0.0, 1.0]])
    means = values.mean(1)
    estimate = estimate_spread(average_over_sources(values, reach=1.0), 4, least=0.0)
    assert 0.5 + 3.182446 * means.std(ddof=1) / 2 > 1  # Student's t of 3 degrees, √4 sources
    assert (estimate.low, estimate.high) == (0, 1)
    free = estimate_spread(average_over_sources(10 * values), 4)  # such as decibels
    assert free.high == pytest.approx(5 + 3.182446 * 10 * means.std(ddof=1) / 2, abs=1e-5)
    near = estimate_spread(average_over_sources(0.4 + values / 10), 4, least=0.0)
    half = 3.182446 * means.std(ddof=1) / 20
    assert (near.low, near.high) == pytest.approx((0.45 - half, 0.45 + half), abs=1e-6)


def test_fidelity_is_that_of_loops_and_a_bad_sampler_is_called_one() -> None:
    given = given_of({"good": 0.05, "bad": 50.0})
    results = compute("samples", given)
    rows = results["fidelity"].set_index("model")
    answer = make_answer({"samples": results}, given.models).frame.set_index("model")
    assert answer.samples_nearest.to_dict() == rows.nearest.to_dict()
    for name, one in given.values["samples"].models.items():
        whitening = Whitening.fit(one.images)
        unit = whitening.apply(one.images)
        unit /= np.linalg.norm(unit, axis=1, keepdims=True)
        nearest, cosines = [], []
        for source in range(SOURCES):
            for number in range(DRAWS):
                every = unit @ whitening.apply(one.features[source, number])
                nearest.append(every.argmax() == source)
                own = np.linalg.norm(whitening.apply(one.features[source, number]))
                cosines.append(every[source] / own)
        assert rows.nearest[name] == pytest.approx(np.mean(nearest))
        assert rows.cosine[name] == pytest.approx(np.mean(cosines))
        assert rows.nearest_copy[name] == 1
    assert rows.faithful.to_dict() == {"good": True, "bad": False}
    assert (rows.sources.good, rows.draws.good, rows.images.good) == (SOURCES, DRAWS, 40)
    said = " ".join(write("samples", results))
    assert "Of bad nothing follows from what varies" in said
    assert "Of good" not in said
    assert "The source is the nearest of 40 images to " in said
    assert "do not compare" not in said  # one model judges both
    assert "these sources do not decide" not in said


def test_shares_by_two_judges_are_said_not_to_compare() -> None:
    given = given_of({"one": 0.1, "other": 0.1})
    samples = given.values["samples"]
    models = samples.models | {"other": replace(samples.models["other"], judge="one")}
    real = dict.fromkeys(("judge", "one"), samples.real["judge"])
    results = compute("samples", given.but(samples=replace(samples, models=models, real=real)))
    quality = next(text for text in write("samples", results) if text.startswith("Among real"))
    assert quality.endswith(
        "by features of one. These shares, and the Fréchet distances in the table, do not compare"
        " where different models judge them."
    )


def test_a_sampler_near_the_bound_is_called_undecided() -> None:
    results = compute("samples", given_of({"middling": 0.5}))
    row = results["fidelity"].iloc[0]
    assert row.margin == pytest.approx(row.nearest - 0.8 * row.nearest_copy)
    assert row.margin_low < 0 < row.margin_high
    # copies are all nearest here, so that only samples vary
    assert row.margin_high - row.margin == pytest.approx(row.nearest_high - row.nearest, abs=1e-9)
    assert row.faithful == (row.margin >= 0)
    said = " ".join(write("samples", results))
    assert "do not decide of middling (" in said
    assert "nothing follows" not in said


def test_facing_is_held_against_the_true_one_and_its_reader_is_stated() -> None:
    given = given_of({"good": 0.4})
    samples = given.values["samples"]
    results = compute("samples", given)
    row = results["spreads"].set_index("quantity").loc[FACING]
    left = (samples.models["good"].read.facing == "left").mean()
    assert 0 < left < 1
    assert row.other == pytest.approx(left)
    assert row.spread == pytest.approx(left / 0.5)  # half of the pool faces left
    assert (row.misread, row["read"], row.kind) == (0, 0.97, "categorical")
    said = next(text for text in write("samples", results) if "facing" in text)
    assert f"rightly in 97.0% [95.0%, 98.0%]) of {left:.1%} [" in said


def test_pairs_are_differences_with_sources_and_noise_paired() -> None:
    given = given_of({"one": 0.3, "other": 0.6})
    results, samples = compute("samples", given), given.values["samples"]
    row = results["pairs"].set_index("quantity").loc[FACING]
    spreads = results["spreads"].set_index(["model", "quantity"])
    one, other = (spreads.loc[(name, FACING)] for name in ("one", "other"))
    assert (row.model_a, row.model_b, row.kind) == ("one", "other", "categorical")
    assert row.difference == pytest.approx(one.spread - other.spread)
    left = [
        (samples.models[name].read.facing == "left").to_numpy().reshape(SOURCES, DRAWS).mean(1)
        for name in ("one", "other")
    ]
    gap = left[0] - left[1]
    half = 2.570582 * gap.std(ddof=1) / SOURCES**0.5  # Student's t of 5 degrees
    ends = (row.other_difference_low, row.other_difference, row.other_difference_high)
    assert ends == pytest.approx((gap.mean() - half, gap.mean(), gap.mean() + half), abs=1e-5)


def test_the_first_screen_says_what_varies_and_whether_samples_are_to_be_trusted() -> None:
    results = compute("samples", given_of({"good": 0.05, "bad": 50.0}))
    said = {one.question: one for one in write_varying(results, ("good", "bad"))}
    assert said["Do samples by good have its features?"].word == "yes"
    assert said["Do samples by bad have its features?"].word == "no"
    most = said["What varies most among samples by good?"]
    assert most.names.startswith("facing")
    assert "least x" in most.effect
    assert "What varies most among samples by bad?" not in said
    assert not any("face another way" in question for question in said)
    fine = compute("samples", given_of({"one": 0.05, "other": 0.1}))
    (facing,) = (one for one in write_varying(fine, ("one", "other")) if "face" in one.question)
    assert facing.word == "undecided"
    assert "points [" in facing.effect


def test_a_factor_that_is_read_badly_is_named_as_such() -> None:
    given = given_of({"good": 0.05})
    samples = given.values["samples"]
    scores = dict(samples.readings.scores) | {"x": Estimate(0.65, 0.6, 0.7, n=900)}
    results = compute(
        "samples",
        given.but(samples=replace(samples, readings=replace(samples.readings, scores=scores))),
    )
    said = next(text for text in write("samples", results) if text.startswith("Spread"))
    assert said.endswith("; not read so well: x.")
    assert said.count(" x") == 1
    assert not any("varies most" in one.question for one in write_varying(results, ("good",)))


def test_samples_of_no_scenes_have_no_factors() -> None:
    given = given_of({"good": 0.1})
    bare = replace(given.values["samples"], readings=None)
    results = compute("samples", given.but(samples=bare))
    assert "spreads" not in results
    assert len(write("samples", results)) == 2


def test_there_is_a_sheet_for_each_image_and_each_model_with_the_source_first() -> None:
    given = given_of({"one": 0.1, "other": 0.1})
    samples = given.values["samples"]
    results = compute("samples", given)
    assert len(set(results["sheets"].sheet)) == SOURCES + 2
    sheets = [panel for panel in draw("samples", results).shown() if isinstance(panel, Sheet)]
    assert [sheet.title for sheet in sheets] == ["id0", "id1", "id2", "id3", "one", "other"]
    assert sheets[1].rows == ("one", "other")
    assert sheets[1].columns == ("source", "1", "2", "3")
    assert (sheets[1].pixels[:, 0] == samples.pictures[1]).all()
    assert (sheets[1].pixels[1, 1:] == samples.models["other"].pixels[1]).all()
    assert sheets[4].rows == ("a", "b", "c", "d")
    assert (sheets[4].pixels[:, 1:] == samples.models["one"].pixels[:4]).all()


# ------------------------------------------------------------------------------------------------
# the whole way


@dataclass
class Pretence:
    """A sampler that gives back the pictures of its sources, a little darker draw by draw."""

    digests: dict[str, str]
    calls: list[str] = field(default_factory=list)
    name: str = "pretence"
    size: int = 32
    process: Any = field(default_factory=lambda: SimpleNamespace(default_steps="heun20"))

    @property
    def key(self) -> dict[str, Any]:
        return {"weights": "0", "models": self.digests}

    @property
    def models(self) -> tuple[str, ...]:
        return tuple(self.digests)

    @property
    def conditions(self) -> dict[str, Any]:
        return {name: SimpleNamespace(source=f"runs/{name}") for name in self.digests}

    def tap(self, model: str) -> str:
        return "norm"

    def pooling(self, model: str) -> str:
        return "cls"

    def select(self, features: Features, images: ImageSet, model: str) -> torch.Tensor:
        self.images = images
        rows = [features.ids.index(name) for name in images.ids]
        return features.read("norm", "cls", np.array(rows))

    def sample(self, vectors: torch.Tensor, model: str, draws: int, **rest: Any) -> np.ndarray:
        self.calls.append(model)
        assert len(vectors) == len(self.images)
        pictures = sampling.look_at_size(self.images, self.size)
        return np.stack([pictures - pictures // 32 * draw for draw in range(draws)], 1)


def test_without_a_generator_it_is_said_how_to_train_one(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Study((NANO,), "scenes:0:40", ("samples",), device="cpu", controls=False, batch=8)
    with pytest.raises(InputError, match=r"no generator is named.*train one by sslens rcdm train"):
        prepare(asked, Store(Path("nowhere")), quiet=True)
    monkeypatch.setattr(sampling, "open_named", lambda situation: Pretence({"dino": "0"}))
    with pytest.raises(InputError, match=r"takes features of dino, and none.*give runs/dino, or"):
        prepare(replace(asked, generator="runs/fast"), Store(Path("nowhere")), quiet=True)
    few = replace(asked, images="scenes:0:8", generator="runs/fast")
    with pytest.raises(InputError, match="among 32 images or more, and there are 8"):
        prepare(few, Store(Path("nowhere")), quiet=True)


@pytest.mark.slow
def test_samples_are_made_once_judged_and_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sslens

    pretence = Pretence({"known": sslens.load(f"{NANO}:1").digest})
    monkeypatch.setattr(sampling, "open_named", lambda situation: pretence)
    monkeypatch.setattr(sampling, "SOURCES", 10)
    monkeypatch.setattr("sslens.probes.scene_reader.ReaderSettings", lambda: TINY)
    asked = Study(
        (f"{NANO}:1", f"{NANO}:2"), "scenes:0:40", ("samples",), device="cpu", batch=8,
        controls=False, generator="runs/fast",
    )  # fmt: skip
    store = Store(tmp_path / "store")
    plan = prepare(asked, store, quiet=True)
    assert "1 model × 10 sources × 8, 32 px, by pretence in heun20 steps: 1 of" in plan.describe()
    for _ in range(2):
        run(asked, tmp_path / "out", store=store, quiet=True)
    assert pretence.calls == ["known"]
    assert "steps: in the store" in prepare(asked, store, quiet=True).describe()
    half = replace(asked, precision="bfloat16")  # of other features of the sources
    assert "steps: 1 of" in prepare(half, store, quiet=True).describe()
    tables = tmp_path / "out" / "tables" / "samples"
    (row,) = pd.read_csv(tables / "fidelity.csv").to_dict("records")
    assert (row["sources"], row["draws"], row["images"]) == (10, 8, 40)
    assert row["cosine"] > 0.5
    assert row["nearest"] > 0.3
    assert row["judge"] == plan.members[1].name
    spreads = pd.read_csv(tables / "spreads.csv").set_index("quantity")
    assert set(spreads.index) == {"class", *scenes.FACTORS}
    files = {path.name for path in (tmp_path / "out" / "sheets" / "samples").iterdir()}
    assert len(files) == 11
    assert "generator: runs/fast" in (tmp_path / "out" / "study.yaml").read_text()


@pytest.mark.slow
def test_samples_of_a_trained_generator_are_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sslens
    from sslens.study.generating import represent
    from sslens.tasks.diffusion_settings import Settings
    from sslens.training.diffuse import train_generator
    from sslens.training.schedule import Training

    store, model = Store(tmp_path / "store"), sslens.load(f"{NANO}:1")
    train_generator(
        represent([model], sslens.open_images("scenes:5:20"), store=store),
        tmp_path / "run",
        settings=Settings(size=8, width=32, blocks=1, multipliers=(1,), attention=(), times=100),
        training=Training(epochs=1, batch_size=10, precision="float32", device="cpu"),
        held=None,
        resume=False,
        name="tiny",
        pictures=False,
    )
    monkeypatch.setattr(sampling, "SOURCES", 4)
    monkeypatch.setattr("sslens.probes.scene_reader.ReaderSettings", lambda: TINY)
    asked = Study(
        (f"{NANO}:1",), "scenes:0:40", ("samples",), device="cpu", batch=8, controls=False,
        generator=str(tmp_path / "run"),
    )  # fmt: skip
    assert run(asked, tmp_path / "out", store=store, quiet=True) is not None
    tables = tmp_path / "out" / "tables" / "samples"
    (row,) = pd.read_csv(tables / "fidelity.csv").to_dict("records")
    assert (row["tap"], row["sources"], row["draws"]) == ("norm", 4, 8)
    assert row["judge"] == row["model"]  # there is no other model
    assert (tmp_path / "out" / "sheets" / "samples").is_dir()
