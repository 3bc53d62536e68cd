"""Detection and dense probes on real images, through `sslens`, and scored again by pycocotools.

    python runs/detection/real.py coco --data DIR --out OUT     # coco_mini: 215 + 206 images
    python runs/detection/real.py nuclei --data DIR --out OUT   # 664 images, two thirds to train on
    python runs/detection/real.py nuclei --data DIR --out OUT --images 60 --models random:ARCH

DIR holds `coco_mini/` (`instances_train.json`, `instances_val.json`) or `nuclei/`
(`instances.json`), each with its `images/`. The nuclei are split by image: of three in the order of
their ids the last one is judged. A detector is trained on each frozen model, its random
initialisation and raw pixels, and with `--finetune` end to end too; patch tokens are probed after
every block. Then each detector finds everything again, and pycocotools reads its own annotation
file: all numbers must be equal to the last digit. A run that was stopped goes on where it was.
"""

import argparse
import contextlib
import io
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

#: settings of each set of images: a side at which half of the nuclei are wider than a patch of 8 px
SETTINGS = {
    "coco": ("size=128",),
    "nuclei": ("size=160",),
}
#: passes over the training images
EPOCHS = 24
#: models unless others are given: one a family
MODELS = ("scenes_mae", "scenes_dino")


@dataclass(frozen=True)
class Sources:
    """A folder of images, and the annotation files to train on and to judge in."""

    images: Path
    train: Path
    val: Path

    @classmethod
    def find(cls, name: str, data: Path, out: Path, images: int | None) -> "Sources":
        """Split the annotations into files in `out`, of so many images in all if it is given."""
        if name == "coco":
            folder = data / "coco_mini"
            files = [folder / f"instances_{part}.json" for part in ("train", "val")]
            parts = [json.loads(file.read_text(encoding="utf-8")) for file in files]
            rows = [sorted(part["images"], key=_file_name) for part in parts]
            rows = [part[: None if images is None else images // 2] for part in rows]
        else:
            folder = data / "nuclei"
            whole = json.loads((folder / "instances.json").read_text(encoding="utf-8"))
            every = sorted(whole["images"], key=_file_name)[:images]
            rows = [
                [row for at, row in enumerate(every) if (at % 3 == 2) == judged]
                for judged in (False, True)
            ]
            parts = [whole, whole]
        written = []
        for part, chosen, role in zip(parts, rows, ("train", "val"), strict=True):
            written.append(out / f"{name}_{role}.json")
            written[-1].write_text(json.dumps(_take(part, chosen)), encoding="utf-8")
        return cls(folder / "images", *written)


def _file_name(image: dict[str, Any]) -> str:
    return str(image["file_name"])


def _take(annotations: dict[str, Any], images: list[dict[str, Any]]) -> dict[str, Any]:
    """Some images of an annotation file, with their objects."""
    ids = {image["id"] for image in images}
    objects = [one for one in annotations["annotations"] if one["image_id"] in ids]
    return annotations | {"images": images, "annotations": objects}


def run_command(words: list[str], out: Path) -> None:
    """Run `sslens detect`, with everything that it keeps in `out`."""
    command = [sys.executable, "-m", "sslens", "detect", *words, "--out", str(out / "report")]
    print("sslens", *command[3:], flush=True)
    subprocess.run(command, check=True)


def score_again(words: list[str], truth: Path) -> None:
    """Let every detector of the command find everything again, and hold its numbers against
    pycocotools'."""
    import tyro

    from sslens.cli import detect
    from sslens.processes import Processes
    from sslens.store import Store, home
    from sslens.study import prepare
    from sslens.study.detecting import KIND
    from sslens.study.detector_runs import Protocol, list_runs
    from sslens.tasks.detecting import find_all
    from sslens.tasks.detection import Detection
    from sslens.training.detect import load_detector

    asked = detect.check(tyro.cli(detect.Command, args=words))
    store = Store(home() / "store")
    plan = prepare(replace(asked, device="cpu"), store, quiet=True)
    kinds = (False, True) if "--finetune" in words else (False,)
    protocols = [Protocol.of(plan.situation, tuned=tuned) for tuned in kinds]
    for run in [run for each in protocols for run in list_runs(plan.situation, each, store)]:
        protocol, precision = run.protocol, run.protocol.training(plan.situation).precision
        judged = run.judged()
        settings = replace(protocol.settings, size=run.side, classes=run.train.categories)
        shape = None if judged.maps is None else judged.maps.shape
        method = load_detector(run.folder, Detection(run.member.network, settings, shape))
        found = find_all(judged, method, Processes(0, 1, "cpu"), precision)
        stored = store.read(KIND, run.judged_key)
        assert stored is not None
        for kind, ours in zip(("box", "mask"), stored["values"].numpy(), strict=True):
            theirs = score_by_pycocotools(found, run.images.categories, truth, kind)
            # thirds of relative area are not pycocotools' sizes
            count = len(theirs) if run.images.is_coco else 3
            same = np.array_equal(ours[:count], theirs[:count], equal_nan=True)
            numbers = ", ".join(f"{100 * value:.2f}" for value in ours)
            how = "end to end" if protocol.tuned else "frozen"
            name = f"{run.member.name}, {how}, {kind} AP, 50, 75, S, M, L"
            print(f"{name}: {numbers}; pycocotools equal: {same}", flush=True)
            assert same, (ours.tolist(), theirs.tolist())


def score_by_pycocotools(
    found: dict[str, Any], categories: tuple[str, ...], truth: Path, kind: str
) -> np.ndarray:
    """AP, AP50, AP75, and AP of small, medium and large objects."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(truth))
        numbers = {category["name"]: category["id"] for category in coco.dataset["categories"]}
        results = []
        for image in coco.dataset["images"]:
            one = found[image["file_name"]]
            for at in range(len(one)):
                x0, y0, x1, y1 = one.boxes[at].astype(float).tolist()
                own: dict[str, Any] = {"bbox": [x0, y0, x1 - x0, y1 - y0]}
                if kind == "mask":
                    own = {"segmentation": one.masks[at]}
                label = numbers[categories[one.labels[at]]]
                own |= {"image_id": image["id"], "category_id": label}
                results.append(own | {"score": float(one.scores[at])})
        if not results:
            return np.zeros(6)
        evaluation = COCOeval(coco, coco.loadRes(results), "bbox" if kind == "box" else "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return np.where(evaluation.stats[:6] < 0, np.nan, evaluation.stats[:6])


def main() -> None:
    """Run the command, then score again."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=tuple(SETTINGS))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--finetune", action="store_true", help="train the networks too")
    parser.add_argument("--precision", default="bfloat16", help="of the trainings")
    parser.add_argument("--images", type=int, help="take only so many images in all")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--no-dense", action="store_true", help="no probes of patch tokens")
    given = parser.parse_args()
    out = given.out / given.name
    out.mkdir(parents=True, exist_ok=True)
    os.environ["SSLENS_HOME"] = str(out / "home")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sources = Sources.find(given.name, given.data, out, given.images)
    words = [*given.models, "--coco", str(sources.images), str(sources.train), str(sources.val)]
    words += ["--heads", "small", "--epochs", str(given.epochs), "--precision", given.precision]
    words += ["--finetune"] if given.finetune else []
    words += [] if given.no_dense else ["--dense"]
    words += ["--set", *SETTINGS[given.name]]
    began = time.monotonic(), os.times().children_user
    run_command(words, out)
    wall, cpu = time.monotonic() - began[0], os.times().children_user - began[1]
    print(f"{wall / 60:.1f} min by the clock, {cpu / 60:.1f} min of a core", flush=True)
    score_again(words, sources.val)


if __name__ == "__main__":
    main()
