"""What is known to be wrong from the words of a command and the names of files is refused before
torch is imported: every command, every mistake."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from sslens.arguments.declared import TASKS, list_recipes, list_settings
from sslens.arguments.parsing import parse
from sslens.find import names, plugin
from sslens.own_files import LIST
from sslens.recipes import recipes

NANO = "random:vit_nano_patch8_32:1"
#: a line of each command that would run
LINES = {
    "compare": f"compare {NANO} --images photos",
    "knn": f"knn {NANO} --images photos",
    "probe": f"probe {NANO} --images photos --test photos",
    "features": f"features {NANO} --images photos --out f",
    "fingerprint": f"fingerprint {NANO} --images photos",
    "invariance": f"invariance {NANO} --images photos",
    "diff": f"diff {NANO} random:vit_nano_patch8_32:2 --images photos",
    "detect": f"detect {NANO}",
    "finetune": f"finetune {NANO} --images photos",
    "pretrain": "pretrain mae --images photos --arch vit_nano_patch8_32",
    "rcdm train": f"rcdm train {NANO} --images photos",
    "rcdm sample": "rcdm sample generator --images photos --out s.png",
    "study": "study study.yaml",
    "check": "check study.yaml",
    "reproduce": "reproduce cka-blocks",
    "demo": "demo",
}
WITH_IMAGES = [name for name, line in LINES.items() if "--images photos" in line]
TRAINING = ("finetune", "pretrain", "rcdm train")
#: what is said of a device, and of words that are misspelt
DEVICE = 'There is no device "cud": give auto, cpu, cuda or cuda:NUMBER.'
#: options of other tools, and what has their place
FOREIGN = {
    "compare --batch-size 8": "sslens compare has no --batch-size: give --batch 8.",
    "knn --imgsz=96": "sslens knn has no --imgsz: give --image-size 96.",
    "probe --model dino": "give it without an option, as MODEL",
    "features --layers blocks.3": "give --taps.",
    "fingerprint --data-dir photos": "give --images.",
    "invariance --fp16": "give --precision.",
    "diff --output-dir x": "give --out.",
    "detect --image-size 96": "sslens detect has no --image-size: give --set size=96.",
    "detect --num-workers 4": "give --set workers=4.",
    "finetune --lr 0.1": "give --set base_lr (of 256 images a step, and scaled to the minibatch).",
    "finetune --drop-path 0.1": "give --set drop_path=0.1.",
    "finetune --img_size 96": "a model is given as MODEL@image_size=SIZE",
    "pretrain --mask-ratio 0.6": "give --set mask_ratio=0.6.",
    "pretrain --bs 64": "give --batch-size 64.",
    "pretrain --model vit": "give --arch.",
    "rcdm train --wd 0.1": "give --set weight_decay=0.1.",
    "rcdm sample --gpu 0": "give --device.",
    "reproduce --data photos": "give --images.",
}
MISSPELT = {
    "compare --analyses cka-bloks": "did you mean cka-blocks?",
    "knn --precision flot32": "did you mean float32?",
    "probe --grid papre": "did you mean paper?",
    "features --poolings clss": "did you mean cls?",
    "fingerprint --tokens clss": "did you mean cls?",
    "invariance --transforms rotatoin": "did you mean rotation?",
    "diff --precision flot32": "did you mean float32?",
    "detect --set sise=3": "did you mean size?",
    "finetune --set poolling=cls": "did you mean pooling?",
    "finetune --preset mae-oficial": "did you mean mae-official",
    "pretrain --set mask_ratoi=0.5": "did you mean mask_ratio?",
    "pretrain --recipe oficial": "did you mean official?",
    "pretrain --arch vit_nona_patch8_32": "is not an architecture",
    "rcdm train --set base_lrr=1": "did you mean base_lr?",
    "rcdm train --preset fats32": "did you mean fast32?",
    "rcdm sample --precision flot32": "did you mean float32?",
    "study limt=3": "did you mean limit?",
    "check --condition foo": 'There is no claim "foo"',
    "reproduce cka-bloks": "did you mean cka-blocks?",
}


def add(words: str) -> str:
    """A whole line of a command and further words, of which none is given twice."""
    name = next(name for name in sorted(LINES, reverse=True) if words.startswith(f"{name} "))
    more = words.removeprefix(name)
    option = more.split()[0]
    before, found, after = LINES[name].partition(f" {option} ")
    rest = after.partition(" ")[2]
    return before + (f" {rest}" if found and rest else "") + more


def list_quick() -> Iterator[tuple[str, str]]:
    """A mistake or two of each command, and what is said of it."""
    yield from ((add(words), said) for words, said in {**MISSPELT, **FOREIGN}.items())
    for name, line in LINES.items():
        yield line + (" device=cud" if name in ("study", "check") else " --device cud"), DEVICE


def list_all() -> Iterator[tuple[str, str]]:
    """Every mistake of every command."""
    gone = "nowhere is not there; in "
    for name in WITH_IMAGES:
        yield LINES[name].replace("--images photos", "--images nowhere"), gone
    for name in ("study", "check"):
        yield f"{LINES[name]} images=nowhere", gone
        yield f"{LINES[name]} limit=3", "the limit is 3: raise it"
        yield f"{LINES[name]} batch=3", "A minibatch of 3 images is too small"
    yield "detect pixels --coco nowhere a.json b.json", gone
    yield f"{LINES['reproduce']} --images nowhere", gone
    second = {"compare": "bank", "knn": "bank", "diff": "bank", "probe": "val"}
    second |= {"finetune": "val", "rcdm train": "val", "pretrain": "knn"}
    for name, option in second.items():
        yield f"{LINES[name]} --{option} nowhere", gone
    for name, line in LINES.items():
        if NANO in line:
            yield line.replace(NANO, "runs/mea"), 'There is no model "runs/mea"'
        if name not in ("study", "check", "demo"):
            yield f"{line} --limit 0", "the limit is 0: raise it"
        if name not in ("study", "check", "demo", "reproduce", *TRAINING, "detect", "knn"):
            yield f"{line} --batch 0", "0"
    for name in (*TRAINING, "detect"):
        yield f"{LINES[name]} --batch-size 0", "batch_size is 0"
        yield f"{LINES[name]} --epochs 0", "epochs is 0"
    for name in ("compare", "knn", "probe", "invariance", "diff", "study", "demo", *TRAINING):
        yield f"{LINES[name]} --out file.txt", "file.txt is a file"
        yield f"{LINES[name]} --out other", "other holds a study of tea by `brew`"
    yield f"{LINES['reproduce']} --out other", "other holds a study of tea by `brew`"
    yield LINES["rcdm sample"].replace("generator", "nowhere"), "nowhere is not there"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with photographs, a study, a file, and a folder that is another study's."""
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(6):
            Image.new("RGB", (8, 8), (i * 20, 0, 0)).save(tmp_path / "photos" / name / f"{i}.png")
    (tmp_path / "study.yaml").write_text(f"models: ['{NANO}']\nimages: photos\n")
    (tmp_path / "file.txt").write_text("")
    (tmp_path / "generator").mkdir()
    (tmp_path / "other").mkdir()
    listed = {"kind": "study of tea", "asked": {}, "command": "brew", "files": ["report.html"]}
    (tmp_path / "other" / LIST).write_text(json.dumps(listed))
    return tmp_path


def require_cheap(lines: list[tuple[str, str]], place: Path) -> None:
    """Each line is refused with its words, without torch, in half a second of CPU at most."""
    script = Path(__file__).with_name("cheap.py")
    done = subprocess.run(
        [sys.executable, str(script)],
        input=json.dumps([line.split() for line, _ in lines]),
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
        cwd=place,
        env=os.environ | {"SSLENS_HOME": str(place / "home")},
    )
    for (line, said), result in zip(lines, json.loads(done.stdout), strict=True):
        assert result["status"] == 2, (line, result)
        assert said in result["said"], (line, result)
        assert not result["torch"], (line, result)
        assert result["seconds"] < 0.5, (line, result)


def test_misspelt_words_and_devices_import_no_torch(place: Path) -> None:
    require_cheap(list(list_quick()), place)


def test_no_option_is_shown_to_take_none(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("detect", "probe"):  # with options of all kinds
        with pytest.raises(SystemExit, match="0"):
            parse(plugin("cli", name).Command, f"sslens {name}", ["--help"])
    shown = capsys.readouterr().out
    assert "None}" not in shown
    assert "{None" not in shown
    for option in ("--epochs INT", "--heads {small,vitdet}", "--test STR", "--out PATH"):
        assert option in shown


@pytest.mark.slow
def test_every_mistake_of_every_command_imports_no_torch(place: Path) -> None:
    require_cheap(list(list_all()), place)


@pytest.mark.parametrize("learner", [*names("objectives"), *TASKS])
def test_what_files_declare_is_what_they_have(learner: str) -> None:
    known = recipes(learner)
    assert list_recipes(learner) == tuple(known)
    fields = vars(next(iter(known.values())).settings)
    assert set(list_settings(learner)) == set(fields) - {"classes"}
    assert plugin("recipes", learner)
