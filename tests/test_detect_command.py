"""`sslens detect`: what it plans, trains, keeps and writes, on a small folder of COCO's format."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from safetensors.torch import load_file

from forks import free_port
from sslens.cli import detect, main
from sslens.data.detections import DetectionSet
from sslens.data.scene_objects import scene_objects
from sslens.errors import InputError
from sslens.find import plugin
from sslens.store import Store
from sslens.study import Study, detecting, detector_cost, prepare
from sslens.study.detecting import KIND
from sslens.study.detector_request import DetectorRequest
from sslens.study.detector_runs import TRAININGS, Protocol, list_runs
from sslens.study.situation import Lack
from sslens.study.study_cost import estimate_study

NANO = "random:vit_nano_patch8_32"
SMALL = ("heads=small", "epochs=1", "batch_size=4", "scales=[1.0]", "flip=false")


def write_coco(folder: Path, name: str, scenes: DetectionSet, *, masks: bool = True) -> Path:
    """Write scenes as images and an annotation file of COCO's format, perhaps of boxes alone."""
    images, annotations = [], []
    (folder / name).mkdir(parents=True)
    for row in range(len(scenes)):
        file = f"{row:03d}.png"
        scenes.image(row).save(folder / name / file)
        targets = scenes.targets(row)
        images.append({"id": row + 1, "file_name": file, "height": 64, "width": 64})
        for at in range(len(targets)):
            assert targets.rles is not None
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": row + 1,
                    "category_id": int(targets.labels[at]) + 1,
                    "bbox": targets.bbox[at].tolist(),
                    "area": float(targets.area[at]),
                    "iscrowd": 0,
                }
                | ({"segmentation": targets.rles[at].to_coco()} if masks else {})
            )
    categories = [{"id": i + 1, "name": each} for i, each in enumerate(scenes.categories)]
    file = folder / f"instances_{name}.json"
    file.write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    return file


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, str]:
    """A folder with the folders train and val, and their annotation files."""
    folder = tmp_path_factory.mktemp("coco")
    train = write_coco(folder, "train", scene_objects(8, seed=0))
    val = write_coco(folder, "val", scene_objects(8, seed=1))
    return str(folder), str(train), str(val)


def study_of(coco: tuple[str, str, str], *more: str, **changed: object) -> Study:
    folder, train, val = coco
    values = {
        "models": (f"{NANO}:1",),
        "images": f"coco:{folder}/val:{val}",
        "bank": f"coco:{folder}/train:{train}",
        "analyses": ("detection-frozen",),
        "limit": None,
        "device": "cpu",
        "detection": (*SMALL, *more),
    }
    return Study(**(values | changed))  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.filterwarnings("default:No detector on")
def test_a_report_is_made_and_nothing_is_trained_twice(
    coco: tuple[str, str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SSLENS_HOME", str(tmp_path / "home"))
    words = ["detect", f"{NANO}:1", "--coco", *coco, "--heads", "small", "--device", "cpu"]
    words += ["--set", *SMALL[3:], "--epochs", "1", "--batch-size", "4"]
    assert main([*words, "--dry-run"]) == 0
    plan = capsys.readouterr().err
    assert "3 of 3 to be trained: random #1, random #0, pixels" in plan
    assert "2 steps in float32 each" in plan
    assert "MB on disk" in plan
    assert not (tmp_path / "home" / "store" / KIND).exists()

    assert main([*words, "--out", str(tmp_path / "report")]) == 0
    said = capsys.readouterr().err
    assert "note      No detector on one block has learned to find objects" in said
    images = 8  # of the folder val
    for name in ("random #1", "random #0", "pixels"):
        # the training judges the detector after its last step, and what it kept is judged anew
        assert f"looking with {name}: {images}/{images} img" in said
        assert f"scoring what {name} finds in {images} images" in said
        assert f"objects by {name}: {images}/{images} img" in said
        assert f"scoring {name}: boxes and masks in {images} images, then in 1,000 draws" in said
        assert f"scored {name}: 4/4" in said
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert "<caption>Models: " in page
    assert 'class="small"' in page  # the pictures in their table
    models = pd.read_csv(tmp_path / "report" / "tables" / "detection-frozen" / "models.csv")
    assert models.model.unique().tolist() == ["random #1", "random #0", "pixels"]
    assert models.ap.between(0, 1).all()
    kept = sorted((tmp_path / "home" / "store" / KIND).rglob("*.safetensors"))
    assert len(kept) == 3
    before = [path.stat().st_mtime_ns for path in kept]
    study = tmp_path / "report" / "study.yaml"
    assert main(["study", str(study), "--out", str(tmp_path / "again")]) == 0
    assert "all in the store" in capsys.readouterr().err
    assert [path.stat().st_mtime_ns for path in kept] == before
    again = pd.read_csv(tmp_path / "again" / "tables" / "detection-frozen" / "models.csv")
    pd.testing.assert_frame_equal(models, again)


def test_what_could_not_be_scored_is_not_trained(
    coco: tuple[str, str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sslens.study.capturing import capture

    monkeypatch.setitem(sys.modules, "hotcoco", None)
    store = Store(tmp_path / "store")
    plan = prepare(study_of(coco, "size=32", controls=False), store, quiet=True)
    need = plugin("study/needs", "detections")
    with pytest.raises(InputError, match=r"is not installed: run pip install 'sslens\[detect\]'"):
        list(need.describe(plan.situation, store))
    with pytest.raises(InputError, match=r"run pip install 'sslens\[detect\]'"):
        need.gather(capture(plan.situation, plan.passes, plan.runner))
    assert not (store.root / TRAININGS).exists()


def test_a_plan_lists_the_controls_that_have_a_part(
    coco: tuple[str, str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two random initialisations a detector is trained of one."""
    monkeypatch.setattr(detecting, "describe_cost", lambda *given, **more: iter(()))
    asked = study_of(coco, models=("scenes_dino",))
    plan = prepare(asked, Store(tmp_path / "store"), quiet=True)
    controls = [member.name for member in plan.members if member.control]
    assert controls == ["random #0", "random #1", "pixels"]
    lines = [line for line in plan.describe().splitlines() if line.startswith("control")]
    assert lines == [f"control   {name}: no pass over images" for name in ("random #0", "pixels")]


@pytest.mark.parametrize(
    ("name", "precision"),
    [("detections", "auto"), ("finetuned", "float32"), ("joined", "bfloat16")],
)
def test_the_needs_are_met_gathered_and_have_a_key(
    name: str, precision: str, coco: tuple[str, str, str], tmp_path: Path
) -> None:
    from sslens.study.capturing import capture

    store = Store(tmp_path / "store")
    words = ("blocks=[2, 3]", "size=32", f"precision={precision}")
    asked = study_of(coco, *words, controls=False)
    plan = prepare(asked, store, quiet=True)
    trained = Protocol.of(plan.situation).training(plan.situation).precision
    assert trained == ("float32" if precision == "auto" else precision)  # on a CPU
    captured = capture(plan.situation, plan.passes, plan.runner)
    need = plugin("study/needs", name)
    assert need.unmet(captured.situation) is None
    value = need.gather(captured)
    assert isinstance(value, need.TYPE)
    json.dumps(need.key(value))
    assert need.key(value) == need.key(need.gather(captured))
    one = value.detectors["random #1"]
    assert np.isfinite(one.numbers.value[0, 0])
    assert one.numbers.draws.shape == (2, 6, 1000)
    assert one.length.steps == 2
    assert ("blocks 2, 3 joined" in value.protocol) == (name == "joined")
    assert value.protocol.startswith("end to end" if name == "finetuned" else "frozen")


@pytest.mark.slow
def test_two_processes_share_a_study(coco: tuple[str, str, str], tmp_path: Path) -> None:
    """Processes of their own, as torchrun starts them: hotcoco's threads do not survive a fork."""
    asked = study_of(coco, controls=False)
    (tmp_path / "study.yaml").write_text(asked.yaml(), encoding="utf-8")
    command = [sys.executable, "-m", "sslens", "study", "study.yaml", "--out", "report"]
    joined = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "WORLD_SIZE": "2"}
    environment = os.environ | joined | {"SSLENS_HOME": str(tmp_path / "home")}
    running = [
        subprocess.Popen(
            command,
            cwd=tmp_path,
            env=environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        for rank in range(2)
    ]
    ends = [process.communicate(timeout=900)[1].decode() for process in running]
    assert [process.returncode for process in running] == [0, 0], ends
    tables = tmp_path / "report" / "tables" / "detection-frozen"
    assert pd.read_csv(tables / "models.csv").ap.between(0, 1).all()
    made = pd.read_csv(tables / "trainings-made.csv")
    assert made.steps.tolist() == [2]
    logs = list((tmp_path / "home" / "store" / TRAININGS).rglob("log.jsonl"))
    assert len(logs) == 1  # one training, which both processes shared
    steps = [json.loads(line)["step"] for line in logs[0].read_text().splitlines()]
    assert max(steps) == 2


def test_boxes_alone_train_a_detector_without_masks(tmp_path: Path) -> None:
    from sslens.study.capturing import capture

    train = write_coco(tmp_path, "train", scene_objects(8, seed=0), masks=False)
    val = write_coco(tmp_path, "val", scene_objects(8, seed=1))
    asked = study_of((str(tmp_path), str(train), str(val)), "size=32", controls=False)
    plan = prepare(asked, Store(tmp_path / "store"), quiet=True)
    value = plugin("study/needs", "detections").gather(
        capture(plan.situation, plan.passes, plan.runner)
    )
    (made,) = value.detectors.values()
    box, mask = made.numbers.value
    assert np.isfinite(box[:3]).all()
    assert np.isnan(mask).all()
    assert np.isnan(made.categories[1]).all()
    (weights,) = (tmp_path / "store" / TRAININGS).rglob("last.safetensors")
    names = load_file(weights).keys()
    assert any("box_head" in name for name in names)
    assert not any("mask_head" in name for name in names)


def test_a_step_is_divided_exactly_or_refused() -> None:
    words = (f"{NANO}:1",)
    asked = detect.check(detect.Command(words, batch_size=6, accumulate=3, precision="bfloat16"))
    request = DetectorRequest.parse(asked.detection)
    assert (request.batch_size, request.accumulate) == (6, 3)
    assert request.precision == "bfloat16"
    with pytest.raises(InputError, match=r"minibatch of 6 cannot be shared .* in 4 parts"):
        detect.check(detect.Command(words, batch_size=6, accumulate=4))
    with pytest.raises(InputError, match="in 0 parts cannot be"):
        detect.check(detect.Command(words, accumulate=0))


def test_needs_say_what_is_missing(coco: tuple[str, str, str], tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    with pytest.raises(InputError, match="on images with boxes, and there are none") as error:
        prepare(study_of(coco, bank=None, controls=False), store, quiet=True)
    assert "give bank" in str(error.value)
    with pytest.raises(InputError, match="it is not said which blocks"):
        prepare(study_of(coco, analyses=("detection-layers",), controls=False), store, quiet=True)
    plan = prepare(study_of(coco), store, quiet=True)
    lack = plugin("study/needs", "joined").unmet(plan.situation)
    assert isinstance(lack, Lack)


def test_controls_are_one_random_initialisation_and_pixels_in_patches(
    coco: tuple[str, str, str], tmp_path: Path
) -> None:
    plan = prepare(study_of(coco, models=(f"{NANO}:7",)), Store(tmp_path / "store"), quiet=True)
    names = {
        tuned: [run.member.name for run in list_runs(plan.situation, protocol, plan.runner.store)]
        for tuned, protocol in (
            (flag, Protocol.of(plan.situation, tuned=flag)) for flag in (False, True)
        )
    }
    assert names == {False: ["random #7", "random #0", "pixels"], True: ["random #7", "random #0"]}
    runs = list_runs(plan.situation, Protocol.of(plan.situation), plan.runner.store)
    assert runs[-1].patch == 8
    assert runs[-1].make_maps(training=False).shape.dims == (3 * 8 * 8,)
    assert len({str(run.folder) for run in runs}) == 3


def test_a_request_is_read_with_its_recipe() -> None:
    request = DetectorRequest.parse(["heads=small", "scales=[0.5, 1]", "base_lr=3e-4", "workers=2"])
    assert request.settings.scales == (0.5, 1.0)
    assert (request.settings.base_lr, request.workers, request.epochs) == (3e-4, 2, 24)
    assert (request.precision, DetectorRequest.parse(["precision=bfloat16"]).precision) == (
        "auto",
        "bfloat16",
    )
    published = DetectorRequest.parse([])
    assert (published.settings.heads, published.epochs, published.batch_size) == ("vitdet", 100, 64)
    for entry, said in (
        ("size", "expected KEY=VALUE"),
        ("sise=3", "did you mean size"),
        ("size=big", "expected a value such as"),
        ("flip=3", "expected a value such as"),
        ("heads=vit", "no recipe"),
        ("precision=bfloat", 'precision "bfloat": did you mean bfloat16'),
        ("blocks=[1.5]", "expected a value such as"),
        ("tuned=true", "There is no setting"),
    ):
        with pytest.raises(InputError, match=said):
            DetectorRequest.parse([entry])


def test_a_wrong_command_is_refused_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    missing = str(tmp_path / "none.json")
    assert main(["detect", NANO, "--coco", str(tmp_path), missing, missing]) == 2
    assert "none.json is no file" in capsys.readouterr().err
    (tmp_path / "train.json").touch()
    assert main(["detect", NANO, "--coco", str(tmp_path), "train.json", "train.json"]) == 2
    beside = f"(there is {tmp_path / 'train.json'})."
    said = capsys.readouterr().err
    assert f"train.json is no file in {Path.cwd()}: give an annotation file" in said
    assert beside in said
    assert main(["detect", NANO, "--coco", "photos", "a.json", "--finetune"]) == 2
    assert (
        "--coco takes 3 words, IMAGES TRAIN.json VAL.json, and has 2 (photos a.json): give all"
        in capsys.readouterr().err
    )
    assert main(["detect", NANO, "--heads", "smal"]) == 2
    assert '--heads has no "smal": did you mean small?' in capsys.readouterr().err
    assert main(["detect", NANO, "--set", "sise=3"]) == 2
    assert "did you mean size" in capsys.readouterr().err


def test_a_dry_run_measures_small_steps_whatever_the_size_of_the_images(
    coco: tuple[str, str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step of 0.1 s and 2 µs a place is found again at 1,024 px, from sides of 128 at most; all
    images of a minibatch are measured together unless that would take long."""
    sides, counts = [], []

    def take(run: object, shape: object, side: int, images: int) -> tuple[float, float, int]:
        sides.append(side)
        counts.append(images)
        return 0.1 + 2e-6 * side**2, float(side**2), 10

    monkeypatch.setattr(detector_cost, "_take_step", take)
    asked = study_of(coco, "size=1024")
    plan = prepare(asked, Store(tmp_path / "store"), quiet=True)
    run = list_runs(plan.situation, Protocol.of(plan.situation), plan.runner.store)[0]
    cost = detector_cost.measure_step(run)
    assert max(sides) <= 128
    assert counts == [1, 4, 4]
    assert cost.seconds == pytest.approx(0.1 + 2e-6 * 1024**2)
    assert cost.image_bytes == pytest.approx(1024**2)
    # the line of the whole cost has the detectors in it, by the same estimate
    (own,) = detecting.estimate_detectors(plan.situation, plan.analyses, plan.runner.store)
    whole = estimate_study(plan)
    assert whole.seconds["detectors"] == own.seconds > 0
    assert whole.disk >= own.disk > 0
    assert "detectors" in whole.describe()
