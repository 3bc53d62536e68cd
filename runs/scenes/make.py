"""The reference models that come with the package: their trainings, before and after fine-tuning.

    python runs/scenes/make.py command                      the command line of each training
    python runs/scenes/make.py train scenes_mae --out DIR   train on one core, into DIR/scenes_mae
    python runs/scenes/make.py judge --out DIR              accuracies, with the controls'
    python runs/scenes/make.py pack --out DIR               weights, cards, paths into the package

A training that was stopped goes on from its state in DIR. The accuracies are 20-NN, and the top-1
of fine-tuned models; the controls are raw pixels and random weights. Packed weights are float16;
the logs are written beside this file. A fine-tuning begins with the packed model, or else with the
training in DIR: train and pack those first.
"""

import argparse
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ARCH, BATCH, SCENES = "vit_mini_patch8_32", 128, 50_000
IMAGES = f"scenes:0:{SCENES}"
#: scenes of other seeds than the training's
BANK, QUERIES, LABELLED = "scenes:2:8000", "scenes:1:2000", "scenes:3:10000"
#: the control: a fine-tuning that begins with random weights
RANDOM = f"random:{ARCH}:0"

#: at 32 px a blur of up to 2 px leaves no outline; most views are grey, so that their colour does
#: not tell which of them show the same scene
VIEWS = {"jitter": 0.4, "grey": 0.9, "blur": 0.1, "solarise": 0.0}
MOCO = {
    "head_dim": 512,
    "out_dim": 128,
    "temperature": 0.2,
    "crop_low": 0.6,
    "freeze_patches": "false",
    "base_lr": 2e-3,
    "weight_decay": 0.05,
    "warmup": 0.03,
} | VIEWS
#: targets are made from grey views while the student sees colour, so that the student learns to
#: ignore colour and prototypes cannot stand for hues
AIMED = {
    "grey": 0.2,
    "target_grey": 1.0,
    "blur": 0.1,
    "sincos": "true",
    "momentum": 0.99,
    "last_weight_decay": 0.1,
}
DINO = {
    "prototypes": 256,
    "head_dim": 512,
    "out_dim": 128,
    "head_norm": "true",
    "drop_path": 0.0,
    "jitter": 0.3,
    "solarise": 0.0,
    "global_low": 0.6,
    "teacher_temperature": 0.03,
    "teacher_start": 0.03,
    "freeze_epochs": 0,
    "base_lr": 5e-4,
    "warmup": 0.05,
} | AIMED
WHOLE = {"local_crops": 1, "local_size": 32, "local_scale": "[0.6,1.0]"}
LOCAL = {"local_crops": 2, "local_size": 24, "local_scale": "[0.6,1.0]", "base_lr": 1e-3}
MSN = {
    "prototypes": 64,
    "head_dim": 512,
    "out_dim": 128,
    "focal_views": 0,
    "random_scale": "[0.7,1.0]",
    "colour": 0.3,
    "sharpening": 0.1,
    "base_lr": 1e-3,
    "first_lr": 1e-4,
    "warmup": 0.03,
} | AIMED
SUPERVISED = {"crop_low": 0.6, "drop_path": 0.0, "jitter": 0.4, "base_lr": 1e-3, "warmup": 0.1}
MAE = {"decoder_dim": 64, "decoder_blocks": 2, "decoder_heads": 2, "base_lr": 2e-3}
#: settings of all fine-tunings; the classifier sees the CLS token, which the exhibits read. Cutmix,
#: mixup, erasing and RandAugment are left out: the class is an outline, and a piece of another
#: scene, or a shear, would hide it or turn it into another
TUNING = {
    "pooling": "cls",
    "base_lr": 2e-3,
    "layer_decay": 0.75,
    "warmup": 0.1,
    "crop_low": 0.5,
    "drop_path": 0.0,
    "randaugment": '""',
    "erasing": 0.0,
    "mixup": 0.0,
    "cutmix": 0.0,
}


@dataclass(frozen=True)
class Reference:
    """One training, in the words of `sslens pretrain`."""

    objective: str
    title: str
    settings: Mapping[str, object]
    epochs: int
    seed: int = 0

    def command(self, out: Path) -> list[str]:
        """The arguments of `python` that train into a folder."""
        words: list[object] = ["pretrain", self.objective, "--images", IMAGES, "--arch", ARCH]
        words += ["--epochs", self.epochs]
        words += ["--knn", QUERIES, "--knn-bank", BANK, "--knn-every", 1]
        return _command(words, out, self.seed, self.settings)


@dataclass(frozen=True)
class Tuned:
    """One fine-tuning of a reference, or of random weights (the control), in the words of `sslens
    finetune`."""

    before: str | None
    title: str
    epochs: int = 10
    seed: int = 0

    def start(self, out: Path) -> str:
        """The model that the fine-tuning begins with: the packed one, or else the training's."""
        from sslens import cards

        if self.before is None:
            return RANDOM
        return self.before if cards.look_up(self.before) else str(out.parent / self.before)

    def command(self, out: Path) -> list[str]:
        """The arguments of `python` that fine-tune into a folder."""
        words: list[object] = ["finetune", self.start(out), "--images", LABELLED, "--val", QUERIES]
        words += ["--epochs", self.epochs, "--path"]
        return _command(words, out, self.seed, TUNING)


def _command(
    words: list[object], out: Path, seed: int, settings: Mapping[str, object]
) -> list[str]:
    words = ["-m", "sslens", *words, "--batch-size", BATCH, "--seed", seed, "--name", out.name]
    words += ["--precision", "bfloat16", "--device", "cpu", "--out", out, "--resume"]
    words += ["--set", *(f"{key}={value}" for key, value in settings.items())]
    return [str(word) for word in words]


REFERENCES = {
    "scenes_moco_v3": Reference("moco-v3", "MoCo-v3, seed 0", MOCO, epochs=8),
    "scenes_moco_v3_seed1": Reference("moco-v3", "MoCo-v3, seed 1", MOCO, epochs=8, seed=1),
    "scenes_dino_two_crops": Reference("dino", "DINO without small crops", DINO | WHOLE, epochs=8),
    "scenes_dino": Reference("dino", "DINO with small crops", DINO | LOCAL, epochs=10),
    "scenes_msn": Reference("msn", "MSN without focal views", MSN, epochs=12),
    "scenes_mae": Reference("mae", "MAE, seed 0", MAE, epochs=20),
    "scenes_mae_seed1": Reference("mae", "MAE, seed 1", MAE, epochs=20, seed=1),
    "scenes_supervised": Reference("supervised", "supervised", SUPERVISED, epochs=12),
}
#: all by one recipe; the fine-tuned random weights show what the labels alone make of the network
TUNED = {
    "scenes_mae_ft": Tuned("scenes_mae", "MAE, fine-tuned"),
    "scenes_moco_v3_ft": Tuned("scenes_moco_v3", "MoCo-v3, fine-tuned"),
    "scenes_dino_ft": Tuned("scenes_dino", "DINO, fine-tuned"),
    "scenes_random_ft": Tuned(None, "random weights, fine-tuned: the control"),
}
ALL: dict[str, Reference | Tuned] = {**REFERENCES, **TUNED}


def main() -> None:
    """Print the commands, train, judge or pack, as the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("command", "train", "judge", "pack"))
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(ALL)}; all unless given"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("sslens-references"),
        help="folder of the trainings' folders",
    )
    arguments = parser.parse_args()
    names = arguments.names or list(ALL)
    if unknown := [name for name in names if name not in ALL]:
        parser.error(f"there is no {unknown[0]}: one of {', '.join(ALL)}")
    # the networks are small: two trainings on a core each are faster than one on both
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if arguments.what in ("command", "train"):
        for name in names:
            command = ALL[name].command(arguments.out / name)
            if arguments.what == "command":
                print(shlex.join(["python", *command]))
            else:
                subprocess.run([sys.executable, *command], check=True)
    else:
        import packing

        {"judge": packing.judge, "pack": packing.pack}[arguments.what](names, arguments.out)


if __name__ == "__main__":
    main()
