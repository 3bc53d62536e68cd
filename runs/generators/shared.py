"""The shared fast generator of the reference models: the command that trains it, and the file that
comes with the package.

    python runs/generators/shared.py command              # the command of the training
    python runs/generators/shared.py train --out DIR      # goes on exactly where DIR has a state
    python runs/generators/shared.py pack --out DIR       # weights in float16, into the package

Say `train` again after a kill. `pack` writes the average of the weights as it is at the last epoch.
"""

import argparse
import os
import shlex
import subprocess
import sys
from pathlib import Path

NAME = "scenes_generator"
SHELF = Path(__file__).parents[2] / "src/sslens/cards/generators"
#: two seeds of MAE and of MoCo-v3 show what a training leaves to chance; the random weights are the
#: control
MODELS = (
    "scenes_mae",
    "scenes_mae_seed1",
    "scenes_moco_v3",
    "scenes_moco_v3_seed1",
    "scenes_dino",
    "scenes_msn",
    "scenes_mae_ft",
    "random:vit_mini_patch8_32:0",
)
IMAGES, HELD = "scenes:0:50000", "scenes:1:512"
EPOCHS = 20
#: bytes that the file may have
MOST = 10_000_000


def make_command(out: Path) -> list[str]:
    """Make the arguments of `python` that train into a folder."""
    words = ["-m", "sslens", "rcdm", "train", *MODELS, "--fast", "--preset", "fast32"]
    words += ["--images", IMAGES, "--val", HELD, "--epochs", str(EPOCHS), "--name", NAME]
    words += [
        "--precision",
        "bfloat16",
        "--device",
        "cpu",
        "--compile",
        "--out",
        str(out),
        "--resume",
    ]
    return words


def pack(out: Path, shelf: Path = SHELF) -> Path:
    """Write the generator of a training's folder in float16; returns the file's path.

    Raises:
        SystemExit: the file would be larger than 10 MB.
    """
    from sslens import zoo
    from sslens.store import write_tensors
    from sslens.tasks.generator import open_generator

    header, tensors = zoo.read(out / zoo.ENCODER)
    path = shelf / f"{NAME}.safetensors"
    write_tensors(path, {name: value.half() for name, value in tensors.items()}, header)
    if path.stat().st_size > MOST:
        raise SystemExit(f"{path} has {path.stat().st_size:,} bytes, more than {MOST:,}.")
    open_generator(path)
    return path


def main() -> None:
    """Print the command, train or pack, as the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("command", "train", "pack"))
    parser.add_argument(
        "--out", type=Path, default=Path("sslens-generator"), help="the training's folder"
    )
    arguments = parser.parse_args()
    # the network is small: a second core makes a step less than twice as fast
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if arguments.what == "pack":
        path = pack(arguments.out)
        print(f"{path}: {path.stat().st_size:,} bytes")
    elif arguments.what == "train":
        subprocess.run([sys.executable, *make_command(arguments.out)], check=True)
    else:
        print(shlex.join(["python", *make_command(arguments.out)]))


if __name__ == "__main__":
    main()
