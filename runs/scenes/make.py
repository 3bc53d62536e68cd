"""The reference models that come with the package: which they are, their trainings, and their files and cards.

python runs/scenes/make.py command               # the `sslens pretrain` of each
python runs/scenes/make.py train scenes_mae --out DIR    # on one core; goes on where DIR/scenes_mae has a state
python runs/scenes/make.py judge --out DIR       # 20-NN of each, of raw pixels and of random weights, with intervals
python runs/scenes/make.py pack --out DIR        # float16 weights and cards into the package, logs beside this file
"""

import argparse
import hashlib
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ARCH, BATCH, SCENES = "vit_mini_patch8_32", 128, 50_000
IMAGES = f"scenes:0:{SCENES}"
#: scenes of other seeds are other scenes
BANK, QUERIES = "scenes:2:8000", "scenes:1:2000"
PACKAGE = Path(__file__).parents[2] / "src/sslens/cards"
HERE = Path(__file__).parent

#: at 32 px a blur of up to 2 px leaves no outline; grey, so that colour does not tell which views are of one scene
VIEWS = {"jitter": 0.5, "grey": 0.8, "blur": 0.3, "solarise": 0.0}
MOCO = {
    "head_dim": 512,
    "out_dim": 128,
    "temperature": 0.2,
    "crop_low": 0.5,
    "freeze_patches": "false",
    "base_lr": 2e-3,
    "weight_decay": 0.05,
    "warmup": 0.03,
} | VIEWS
DINO = {
    "prototypes": 1024,
    "head_dim": 512,
    "out_dim": 128,
    "head_norm": "true",
    "drop_path": 0.0,
    "momentum": 0.99,
    "base_lr": 1.5e-3,
    "last_weight_decay": 0.1,
    "warmup": 0.05,
} | VIEWS
LOCAL = {"local_crops": 2, "local_size": 16, "local_scale": "[0.25,0.6]", "global_low": 0.5}
MSN = {
    "prototypes": 256,
    "head_dim": 512,
    "out_dim": 128,
    "focal_views": 0,
    "random_scale": "[0.5,1.0]",
    "grey": 0.8,
    "blur": 0.3,
    "momentum": 0.99,
    "base_lr": 2e-3,
    "first_lr": 4e-4,
    "warmup": 0.05,
    "last_weight_decay": 0.1,
}
SUPERVISED = {"crop_low": 0.5, "drop_path": 0.0, "jitter": 0.4, "base_lr": 2e-3, "warmup": 0.05}
MAE = {"decoder_dim": 64, "decoder_blocks": 2, "decoder_heads": 2, "base_lr": 2e-3}


@dataclass(frozen=True)
class Reference:
    """One training, by the words of `sslens pretrain`."""

    objective: str
    title: str
    settings: Mapping[str, object]
    epochs: int
    seed: int = 0

    def command(self, out: Path) -> list[str]:
        """`python -m sslens pretrain …` into a folder."""
        words = [
            "-m",
            "sslens",
            "pretrain",
            self.objective,
            "--images",
            IMAGES,
            "--arch",
            ARCH,
            "--epochs",
            self.epochs,
        ]
        words += [
            "--batch-size",
            128,
            "--seed",
            self.seed,
            "--name",
            out.name,
            "--precision",
            "bfloat16",
            "--device",
            "cpu",
        ]
        words += ["--knn", QUERIES, "--knn-bank", BANK, "--knn-every", 1, "--out", out, "--resume"]
        words += ["--set", *(f"{key}={value}" for key, value in self.settings.items())]
        return [str(word) for word in words]


PAPERS = {
    "moco-v3": ("2104.02057", "An Empirical Study of Training Self-Supervised Vision Transformers"),
    "dino": ("2104.14294", "Emerging Properties in Self-Supervised Vision Transformers"),
    "msn": ("2204.07141", "Masked Siamese Networks for Label-Efficient Learning"),
    "mae": ("2111.06377", "Masked Autoencoders Are Scalable Vision Learners"),
    "supervised": ("2012.12877", "Training data-efficient image transformers & distillation through attention"),
}

#: two crops are a harder start than many
REFERENCES = {
    "scenes_moco_v3": Reference("moco-v3", "MoCo-v3, seed 0", MOCO, epochs=8),
    "scenes_moco_v3_seed1": Reference("moco-v3", "MoCo-v3, seed 1", MOCO, epochs=8, seed=1),
    "scenes_dino_two_crops": Reference(
        "dino", "DINO without local crops", DINO | {"local_crops": 0, "global_low": 0.5}, 8
    ),
    "scenes_dino": Reference("dino", "DINO with local crops", DINO | LOCAL, epochs=8),
    "scenes_msn": Reference("msn", "MSN without focal views", MSN, epochs=8),
    "scenes_mae": Reference("mae", "MAE, seed 0", MAE, epochs=10),
    "scenes_mae_seed1": Reference("mae", "MAE, seed 1", MAE, epochs=10, seed=1),
    "scenes_supervised": Reference("supervised", "supervised", SUPERVISED, epochs=6),
}


def seen(folder: Path) -> tuple[int, float]:
    """Steps that are in the weights, and hours of training by the rates in the log, whatever was between them."""
    from safetensors import safe_open

    with safe_open(folder / "last.safetensors", "pt") as file:
        done = json.loads(file.metadata()["sslens.encoder"])["about"]["step"]
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    steps = [line for line in lines if "loss" in line and line["step"] <= done]
    taken = [now["step"] - before for before, now in zip([0, *(line["step"] for line in steps)], steps, strict=False)]
    hours = sum(n * BATCH / line["images_per_second"] for n, line in zip(taken, steps, strict=True)) / 3600
    return done, hours


def accuracies(sources: list[str]) -> dict[str, tuple[float, float, float]]:
    """20-NN of held-out scenes by the CLS token after the last norm, or by the pixels: the share, and its 95 % interval."""
    import torch

    import sslens
    from sslens.probes.knn import knn, wilson

    found = {}
    sets = [sslens.open_images(name) for name in (BANK, QUERIES)]
    for source in sources:
        model = sslens.load(source)
        features = []
        for images in sets:
            parts = []
            for start in range(0, len(images), 250):
                rows = range(start, min(start + 250, len(images)))
                batch = torch.stack([model.transform(images.image(row)) for row in rows])
                with torch.no_grad():
                    (values,) = sslens.activations(model, batch, taps=[list(model.taps)[-1]]).values()
                parts.append(values[:, 0] if values.ndim == 3 else values)
            features.append(torch.cat(parts).float())
        right = knn(features[1], features[0], torch.tensor(sets[0].labels), k=20) == sets[1].labels
        found[source] = (float(right.mean()), *wilson(int(right.sum()), len(right)))
    return found


def judge(names: list[str], out: Path) -> dict[str, tuple[float, float, float]]:
    """Print the table of the README; returns what `accuracies` found, by folder."""
    there = {name: out / name for name in names if (out / name / "last.safetensors").exists()}
    found = accuracies(["pixels", f"random:{ARCH}", *map(str, there.values())])
    print("| | images seen | epochs of 50,000 | hours, one core | 20-NN | 95 % |\n|---|---|---|---|---|---|")
    for label, source in (("raw pixels", "pixels"), ("random weights", f"random:{ARCH}")):
        share, low, high = found[source]
        print(f"| {label} | – | – | – | {share:.1%} | {low:.1%} to {high:.1%} |")
    for name, folder in there.items():
        (steps, hours), (share, low, high) = seen(folder), found[str(folder)]
        done = f"{steps * BATCH / SCENES:.1f} of {REFERENCES[name].epochs}"
        print(f"| `{name}` | {steps * BATCH:,} | {done} | {hours:.2f} | {share:.1%} | {low:.1%} to {high:.1%} |")
    return found


def pack(names: list[str], out: Path) -> None:
    """Weights in float16, a card and the log of each that is there; what `judge` prints too."""
    import torch
    import yaml
    from safetensors import safe_open
    from safetensors.torch import save_file

    (PACKAGE / "weights").mkdir(exist_ok=True)
    there = [name for name in names if (out / name / "last.safetensors").exists()]
    found = judge(there, out)
    for name in there:
        reference, target = REFERENCES[name], PACKAGE / "weights" / f"{name}.safetensors"
        with safe_open(out / name / "last.safetensors", "pt") as file:
            header, weights = file.metadata(), {key: file.get_tensor(key).to(torch.float16) for key in file.keys()}  # noqa: SIM118
        save_file(weights, target, header)
        target.chmod(0o644)
        about = json.loads(header["sslens.encoder"])["about"]
        share, low, high = found[str(out / name)]
        content, whole = target.read_bytes(), about["epochs"] >= reference.epochs
        arxiv, title = PAPERS[reference.objective]
        card = {
            "title": f"{reference.title}: a small ViT trained on generated scenes",
            "objective": reference.objective,
            "family": about["family"],
            "tuned": False,
            "arch": ARCH,
            "heads": 2,
            "epochs": round(about["epochs"]),
            "trained_on": f"50,000 generated scenes ({about['images']}, seed 0)",
            "licence": "Apache-2.0",
            "paper": {"arxiv": arxiv, "title": title},
            "repository": None,
            "file": target.name,
            "layout": "sslens",
            "size": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
            "evaluation": {
                "resize": 32,
                "crop": 32,
                "interpolation": "bicubic",
                "mean": [0.485, 0.456, 0.406],
                "std": [0.229, 0.224, 0.225],
            },
            "feature": "CLS after the final norm",
            "notes": [
                f"{about['step'] * BATCH:,} images seen, {about['epochs']:.1f} of {reference.epochs} epochs"
                + (
                    "."
                    if whole
                    else ": the training was stopped before its end, at a learning rate that had not come down."
                ),
                f"20-NN of the CLS token on 2,000 held-out scenes by 8,000 others: {share:.1%} ({low:.1%} to {high:.1%}, 95 %); "
                f"raw pixels {found['pixels'][0]:.1%}, random weights {found[f'random:{ARCH}'][0]:.1%}.",
                "It shows what the objective makes of these scenes, and is no model of the papers; see runs/scenes.",
            ],
        }
        text = yaml.safe_dump(card, sort_keys=False, allow_unicode=True, width=120)
        (PACKAGE / f"{name}.yaml").write_text(text, encoding="utf-8")
        lines = (out / name / "log.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if json.loads(line)["step"] <= about["step"]]  # it may go on meanwhile
        (HERE / f"{name}.jsonl").write_text("".join(kept), encoding="utf-8")


def main() -> None:
    """Do what is asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("command", "train", "judge", "pack"))
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(REFERENCES)}; all unless given")
    parser.add_argument("--out", type=Path, default=Path("sslens-references"), help="folder of the trainings' folders")
    asked = parser.parse_args()
    names = asked.names or list(REFERENCES)
    if unknown := [name for name in names if name not in REFERENCES]:
        parser.error(f"there is no {unknown[0]}: one of {', '.join(REFERENCES)}")
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # small networks: two trainings on two cores, not one on both
    if asked.what == "command":
        print("\n".join(shlex.join(["python", *REFERENCES[name].command(Path(name))]) for name in names))
    elif asked.what == "train":
        for name in names:
            subprocess.run([sys.executable, *REFERENCES[name].command(asked.out / name)], check=True)
    else:
        {"judge": judge, "pack": pack}[asked.what](names, asked.out)


if __name__ == "__main__":
    main()
