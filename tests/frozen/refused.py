"""Commands that are wrong, each with the exit status and the text that it had."""

import json
from pathlib import Path
from typing import TypedDict

from frozen import cases

NANO = "vit_nano_patch8_32"
TINY = "pretrain mae --images scenes:5:48 --arch vit_8x2_patch8_32 --device cpu --out new"
GOING = "--images scenes:5:48 --arch vit_8x2_patch8_32 --device cpu --batch-size 8"
NEW = f"pretrain mae --images photos --arch {NANO}"
RUN = f"{GOING} --out stopped/pretrain"
TUNE = "finetune mae --images scenes:5:48 --device cpu --out new"
STORED = "features/images"

#: by what is wrong
WRONG = {
    "no images": "compare pixels",
    "missing folder": "compare pixels --images fotos",
    "empty folder": "compare pixels --images empty",
    "one image": "compare pixels --images one",
    "an image for a folder": "compare pixels --images one/0.png",
    "few images": "compare pixels --images photos --limit 3",
    "few images in a minibatch": "compare pixels --images photos --batch 3",
    "broken image": "compare pixels --images broken",
    "misspelt model": "compare fingerprint/mae --images photos",
    "misspelt form": "compare pixel --images photos",
    "misspelt card": "compare scenes_mea --images photos",
    "misspelt size": "compare random:vit_nano_patch7_32 --images photos",
    "misspelt arch": "compare random:vit_nan_patch8_32 --images photos",
    "misspelt cnn": "compare random:resnet51 --images photos",
    "no model": "compare --images photos",
    "a model twice": "compare pixels pixels --images photos",
    "misspelt analysis": "compare pixels --images photos --analyses cka-blok",
    "an analysis that lacks something": "compare mae --images photos --analyses cka-msn",
    "features of fingerprints": f"compare {cases.prints('mae', 'moco')} --analyses knn-depth",
    "truncated checkpoint": "compare cut --images photos",
    "truncated fingerprint": "compare cut.fingerprint.safetensors",
    "truncated fingerprint, doctor": "doctor cut.fingerprint.safetensors",
    "other images of a fingerprint": f"compare {cases.prints('mae')} other.fingerprint.safetensors",
    "pickle": "compare dino.pth --images photos",
    "folder without checkpoint": "compare photos --images photos",
    "bank of other classes": "compare pixels --images photos --bank other",
    "no such device": "compare pixels --images photos --device gpu",
    "a file for --out": "compare pixels --images photos --device cpu --out dino.pth",
    "missing study": "study studie.yaml",
    "folder for a study": "study photos",
    "misspelt key": "study misspelt.yaml",
    "misspelt override": "study study.yaml contrls=false",
    "override of another kind": "study study.yaml limit=much",
    "no override": "study study.yaml controls",
    "fingerprint of a fingerprint": f"fingerprint {cases.prints('mae')} --images photos",
    "fingerprint over another file": "fingerprint mae --images photos --out dino.pth",
    "fingerprint without CLS": "fingerprint pixels --images photos --tokens cls --out new",
    "fingerprint of no tap": "fingerprint mae --images photos --taps block.1 --out new.safetensors",
    "knn without images": "knn mae",
    "knn of features and images": f"knn {STORED} --images photos",
    "knn of features and a folder": f"knn {STORED} --bank photos",
    "knn of no neighbour": "knn mae --images photos --k 0",
    "features of another model": f"features moco --images scenes:1:48 --device cpu --out {STORED}",
    "features of no tap": "features mae --images scenes:1:48 --taps blocks.7 --out new",
    "probe without a test": "probe mae --images photos",
    "probe of features and images": f"probe {STORED} --images photos --test photos",
    "probe of augmented features": f"probe {STORED} --test {STORED} --augment",
    "probe of no layers": f"probe {STORED} --test features/bank --layers 0",
    "probe with few images of a class": "probe mae --images photos --folds 4 --device cpu",
    "path of one file": "path mae/last.safetensors",
    "path of no file": "path mae/first.safetensors mae-ft/last.safetensors",
    "path into a checkpoint": "path mae/last.safetensors mae-ft/last.safetensors --out a.pth",
    "path of other networks": "path mae/last.safetensors resnet/last.safetensors",
    "misspelt objective": f"pretrain moco --images photos --arch {NANO}",
    "misspelt architecture": "pretrain mae --images photos --arch vit_nan_patch8_32",
    "misspelt setting": f"pretrain mae --images photos --arch {NANO} --set mask_rato=0.5",
    "no setting": f"pretrain mae --images photos --arch {NANO} --set mask_ratio",
    "a setting of another kind": f"{NEW} --set mask_ratio=much",
    "a setting out of bounds": f"{TINY} --set base_lr=-1.0",
    "misspelt recipe": f"{TINY} --recipe offical",
    "a larger batch than images": f"{TINY} --batch-size 49",
    "a batch that cannot be shared": f"{TINY} --batch-size 9 --accumulate 2",
    "no epochs": f"{TINY} --epochs 0",
    "a network that it cannot train": "pretrain mae --images photos --arch resnet18_64 --out new",
    "supervised without classes": f"pretrain supervised --images one --arch {NANO} --out new",
    "a bank without images": f"{TINY} --knn-bank scenes:6:48",
    "a folder with a run": f"pretrain mae {RUN}",
    "a run with other settings": f"pretrain mae {RUN} --seed 1 --resume",
    "a run of another objective": f"pretrain dino {RUN} --resume",
    "an encoder without its state": f"pretrain mae {GOING} --out mae",
    "a truncated state": f"pretrain mae {GOING} --out cut-run --resume",
    "misspelt preset": f"{TUNE} --preset mae-offical",
    "tuning of pixels": "finetune pixels --images scenes:5:48 --device cpu --out new",
    "held-out images of other classes": f"{TUNE} --val photos --batch-size 8",
    "misspelt randaugment": f"{TUNE} --set randaugment=rand-m",
    "an option of a job": f"{TINY} --slurm-gpus 2",
    "misspelt card of the zoo": "zoo --family JEE",
    "doctor of a missing file": "doctor mae/lost.safetensors",
    # what the parser of arguments refuses, in its own words
    "missing option": "pretrain mae --images photos",
    "misspelt option": "compare pixels --images photos --limt 3",
    "misspelt command": "compar",
    "nothing": "",
    "a word for a number": "compare pixels --images photos --limit three",
    "misspelt choice": "compare pixels --images photos --grid large",
}


class Refusal(TypedDict):
    """What a wrong command came to."""

    command: str
    status: int
    said: str


def lay_out(folder: Path) -> None:
    """What is wrong, beside the files of the fixtures."""
    from PIL import Image

    (folder / "empty").mkdir()
    (folder / "one").mkdir()
    Image.new("RGB", (8, 8)).save(folder / "one/0.png")
    for name, classes in {
        "photos": ("cat", "dog"),
        "broken": ("cat", "dog"),
        "other": ("cat", "horse"),
    }.items():
        for number, kind in enumerate(classes):
            (folder / name / kind).mkdir(parents=True)
            for i in range(3):  # no two have the same pixels
                colour = (80 * i, 80 * number, 0)
                Image.new("RGB", (8, 8), colour).save(folder / name / kind / f"{i}.png")
    (folder / "broken/cat/1.png").write_bytes((folder / "broken/cat/0.png").read_bytes()[:40])
    encoder = (folder / "mae/last.safetensors").read_bytes()
    (folder / "cut").mkdir()
    (folder / "cut/last.safetensors").write_bytes(encoder[:-1000])
    kept = (folder / "fingerprints/mae.fingerprint.safetensors").read_bytes()
    (folder / "cut.fingerprint.safetensors").write_bytes(kept[:-1000])
    (folder / "dino.pth").write_bytes(b"\x80\x04.")
    (folder / "misspelt.yaml").write_text("models: pixels\nimages: photos\nlimt: 8\n")
    (folder / "cut-run").mkdir()
    for name in ("config.yaml", "log.jsonl", "last.safetensors"):
        (folder / "cut-run" / name).write_bytes((folder / "stopped/pretrain" / name).read_bytes())
    state = (folder / "stopped/pretrain/state.safetensors").read_bytes()
    (folder / "cut-run/state.safetensors").write_bytes(state[:5000])
    ran = cases.command(
        *("fingerprint", "mae", "--images", "scenes:2:48", "--batch", "8", "--device", "cpu"),
        *("--out", "other.fingerprint.safetensors"),
    )
    assert ran.status == 0, ran.said


def refusals(*names: str) -> dict[str, Refusal]:
    """What wrong commands come to, in the folder that `lay_out` prepared; all unless named."""
    found = {}
    for name in names or WRONG:
        ran = cases.command(*WRONG[name].split())
        said = ran.said.replace(str(Path.cwd()), "HERE")
        found[name] = Refusal(command=WRONG[name], status=ran.status, said=said)
    return found


def ours(refusal: Refusal) -> bool:
    """Whether the text is of sslens; the parser of arguments draws a box of its own."""
    return any(line.startswith("sslens: ") for line in refusal["said"].splitlines())


def write(path: Path) -> None:
    """Keep what all of them come to."""
    lay_out(Path.cwd())
    path.write_text(json.dumps(refusals(), indent=1, ensure_ascii=False) + "\n")


def read(path: Path) -> dict[str, Refusal]:
    """What `write` kept."""
    kept: dict[str, Refusal] = json.loads(path.read_text())
    return kept


def reword(name: str, said: str) -> str:
    """The text of a refusal as it is on purpose now: `reworded.json` has by name what became what.

    Raises:
        ValueError: the old words are not in the old text, or the text was not changed.
    """
    changes = json.loads((cases.HERE / "reworded.json").read_text()).get(name, {})
    for old, new in changes.items():
        if old not in said or old == new:
            raise ValueError(f'{name}: "{old}" is not in the text, or is the same')
        said = said.replace(old, new)
    return said
