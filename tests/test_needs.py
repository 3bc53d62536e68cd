"""Needs: one file is one kind of input, whatever it is; and the analyses that name them."""

import dataclasses
import importlib
import json
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest

from sslens.comparisons import inputs
from sslens.data import open_images
from sslens.errors import InputError
from sslens.find import names, plugin
from sslens.store import Store
from sslens.study import Study, prepare
from sslens.study.capturing import capture
from sslens.study.contract import load_need, needs_of, wants_images
from sslens.study.needs import REQUIRED
from sslens.study.situation import Captured, Lack, Situation
from sslens.study.tables import ResultsKey

NANO = "random:vit_nano_patch8_32"
NEEDS, ANALYSES = names("study/needs"), names("analyses")
#: needs of images with boxes, which test_detect_command.py gathers
DETECTORS = {"detections", "finetuned", "joined"}
#: a need of a generator, which test_samples.py gathers
OF_GENERATORS = {"samples"}
#: needs of images with objects
OF_OBJECTS = {"segments"}
#: needs of images that are altered
ALTERED = {"invariance", "views"}
#: of what no need of images is met
BARE = Situation(Study((NANO,), analyses=("finetune-path",)), ())


@pytest.fixture(scope="module")
def captured(tmp_path_factory: pytest.TempPathFactory) -> Captured:
    """Two models over scenes and a bank, and what every need asks of passes."""
    store = Store(tmp_path_factory.mktemp("store"))
    asked = Study(
        (f"{NANO}:1", "scenes_mae_ft"),
        "scenes:0:48",
        ("cka-blocks", "cka-convergence", "factors-depth", "finetune-path", "probe-depth"),
        bank="scenes:2:48",
        batch=8,
        device="cpu",
        controls=False,
    )
    plan = prepare(asked, store, quiet=True)
    return capture(plan.situation, plan.passes, plan.runner)


@pytest.fixture(scope="module")
def with_objects(tmp_path_factory: pytest.TempPathFactory) -> Captured:
    """A model over scenes with the masks of their objects, which have no class."""
    store = Store(tmp_path_factory.mktemp("objects"))
    asked = Study(
        (f"{NANO}:1",),
        "scenes-detection:0:16",
        ("dense-depth",),
        batch=8,
        device="cpu",
        controls=False,
    )
    plan = prepare(asked, store, quiet=True)
    return capture(plan.situation, plan.passes, plan.runner)


@pytest.fixture(scope="module")
def with_altered(tmp_path_factory: pytest.TempPathFactory) -> Captured:
    """A model over scenes, as they are and altered in two ways."""
    store = Store(tmp_path_factory.mktemp("altered"))
    asked = Study(
        (f"{NANO}:1", f"{NANO}:2"),
        "scenes:0:16",
        ("invariance", "checkpoints"),
        batch=8,
        device="cpu",
        transforms=("horizontal-flip", "hue=45"),
    )
    plan = prepare(asked, store, quiet=True)
    return capture(plan.situation, plan.passes, plan.runner)


@pytest.mark.parametrize("name", [name for name in NEEDS if name not in DETECTORS | OF_GENERATORS])
def test_a_need_is_met_gathered_and_has_a_key(
    name: str, captured: Captured, with_objects: Captured, with_altered: Captured
) -> None:
    need = plugin("study/needs", name)
    captured = with_objects if name in OF_OBJECTS else captured
    captured = with_altered if name in ALTERED else captured
    assert need.unmet(captured.situation) is None
    value = need.gather(captured)
    origin = typing.get_origin(need.TYPE) or need.TYPE
    assert isinstance(value, origin)
    json.dumps(need.key(value))
    assert need.key(value) == need.key(need.gather(captured))


@pytest.mark.parametrize("name", NEEDS)
def test_a_need_that_cannot_be_met_says_why_and_how_to_mend_it(name: str) -> None:
    need = plugin("study/needs", name)
    lack = need.unmet(BARE)
    if name == "grams":  # which models and fingerprints both have
        assert lack is None
        return
    assert isinstance(lack, Lack)
    assert lack.mend
    for text in (lack.reason, lack.mend):
        assert not text.endswith(".")
        assert "--" not in text


@pytest.mark.parametrize("name", NEEDS)
def test_reducers_of_a_need_are_the_same_again(name: str, captured: Captured) -> None:
    need = plugin("study/needs", name)
    if not hasattr(need, "reducers"):
        assert not getattr(need, "BANK", False)
        return
    one, other = (need.reducers(captured.situation.study) for _ in range(2))
    assert [each.settings() for each in one] == [each.settings() for each in other]
    json.dumps([each.settings() for each in one])


@pytest.mark.parametrize("name", ANALYSES)
def test_an_analysis_is_given_the_types_of_its_needs(name: str) -> None:
    module = plugin("analyses", name)
    assert needs_of(name)
    hints = typing.get_type_hints(module.compute)
    for need in needs_of(name):
        assert hints[need] == load_need(need, name).TYPE, need
    assert hints["models"] is inputs.Models


@pytest.mark.parametrize(
    "name", [name for name in ANALYSES if not (DETECTORS | OF_GENERATORS) & set(needs_of(name))]
)
def test_the_key_of_results_is_json_and_knows_the_code(
    name: str, captured: Captured, with_objects: Captured, with_altered: Captured
) -> None:
    captured = with_objects if OF_OBJECTS & set(needs_of(name)) else captured
    captured = with_altered if ALTERED & set(needs_of(name)) else captured
    models = captured.situation.models
    values = {need: load_need(need, name).gather(captured) for need in needs_of(name)}
    key = ResultsKey.of(name, models, values, seed=0)
    json.dumps(key.to_json())
    assert set(key.versions) == {"torch", "numpy", "scipy"}
    assert key != ResultsKey.of(name, models, values, seed=1)


# ------------------------------------------------------------------------------------------------
# what is wrong with a plug-in


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the folder's own `__init__.py` in the package's place, to put needs into."""
    import sslens.find
    import sslens.study.needs as package

    root = tmp_path / "study" / "needs"
    root.mkdir(parents=True)
    monkeypatch.setattr(sslens.find, "__file__", str(tmp_path / "find.py"))
    monkeypatch.setattr(package, "__path__", [str(root), *package.__path__])
    importlib.invalidate_caches()
    yield root
    import sys

    sys.modules.pop("sslens.study.needs.invariances", None)


@pytest.mark.parametrize("lacking", REQUIRED)
def test_a_need_that_lacks_something_is_named_with_it(folder: Path, lacking: str) -> None:
    lines = {name: f"{name} = None" for name in REQUIRED if name != lacking}
    (folder / "invariances.py").write_text("\n".join(lines.values()))
    with pytest.raises(
        InputError, match=rf"study/needs/invariances\.py lacks {lacking}: each file"
    ):
        load_need("invariances", "boxes")


def test_a_misspelt_name_of_a_plug_in_is_offered(folder: Path) -> None:
    lines = [f"{name} = None" for name in REQUIRED if name != "gather"]
    (folder / "invariances.py").write_text("\n".join([*lines, "gathre = None"]))
    with pytest.raises(InputError, match=r"lacks gather \(it has gathre\): each file"):
        load_need("invariances", "boxes")


def test_a_need_that_does_not_exist_gets_the_nearest() -> None:
    with pytest.raises(InputError, match=r'analysis boxes names a need "feature": did you mean'):
        load_need("feature", "boxes")


def test_an_analysis_of_no_images_is_known_by_its_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    of_none = [name for name in ANALYSES if not wants_images(name)]
    assert of_none == ["finetune-path", "weights-changed"]
    asked = Study((NANO,), analyses=("finetune-path",))
    assert asked.images is None
    with pytest.raises(InputError, match="is no fingerprint, so images are needed: give images"):
        Study((NANO,), analyses=("finetune-path", "cka-blocks"))


def test_only_what_is_needed_is_passed(tmp_path: Path) -> None:
    asked = Study((NANO,), "scenes:0:12", ("cka-blocks",), bank="scenes:1:8", batch=4, device="cpu")
    plan = prepare(asked, Store(tmp_path), quiet=True)
    assert {one.bank for one in plan.passes} == {False}  # nobody asks for features
    assert [[reducer.kind for reducer in one.reducers] for one in plan.passes[:1]] == [
        ["grams", "grams"]
    ]


def test_images_without_classes_are_mended_by_folders_or_an_index(captured: Captured) -> None:
    situation = captured.situation
    assert situation.images is not None
    plain = dataclasses.replace(situation.images, labels=None, classes=())
    lack = load_need("labels", "knn-depth").unmet(
        dataclasses.replace(situation, images=plain, bank=None)
    )
    assert lack.mend == "give {images} with a subfolder a class, or an index file with labels"


def test_labels_of_images_and_bank_are_kept_apart(captured: Captured) -> None:
    labels = load_need("labels", "knn-depth").gather(captured)
    for known, source in ((labels.images, "scenes:0:48"), (labels.bank, "scenes:2:48")):
        images = open_images(source)
        assert [known[name] for name in images.ids] == images.labels.tolist()
    sets = load_need("features", "knn-depth").gather(captured)
    for features, source in ((sets.images, "scenes:0:48"), (sets.bank, "scenes:2:48")):
        assert list(features) == list(captured.situation.models.names)
        assert all(set(each.ids) == set(open_images(source).ids) for each in features.values())
