"""The weights inside a folder: of a training run, or as Hugging Face, timm and open_clip write
them."""

import re
from pathlib import Path

from sslens.data.sources import find_image
from sslens.errors import InputError
from sslens.own_files import LIST

#: the file that a training run leaves for others to load
ENCODER = "last.safetensors"
#: the end of the name of a list of files that together hold one model
INDEX = ".index.json"
_SUFFIXES = r"(\.(pth|pt|tar|bin|ckpt|pkl|npz|torch|safetensors))+$"
#: what the folders of others call theirs, in the order in which they are looked for
_THEIRS = (
    "model.safetensors",
    f"model.safetensors{INDEX}",
    "pytorch_model.bin",
    f"pytorch_model.bin{INDEX}",
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.bin",
)


def name_weights(path: Path, source: str) -> str:
    """Return the name of the model in a file: the file's name without the suffixes of checkpoints;
    where a folder was given that others wrote, in which all files are called alike, the folder's.

    >>> name_weights(Path("runs/vit-b-300ep.pth.tar"), "runs/vit-b-300ep.pth.tar")
    'vit-b-300ep'
    """
    plain = re.sub(_SUFFIXES, "", path.name) or path.name
    if path.name not in _THEIRS or not Path(source).is_dir():
        return plain
    folder = Path(source).resolve()
    if folder.parent.name == "snapshots" and folder.parent.parent.name.startswith("models--"):
        return folder.parent.parent.name.rpartition("--")[2]  # in the cache of the hub
    return folder.name or plain


def find_weights(folder: Path) -> Path:
    """Return the file in a folder that holds its weights, or the index of several.

    Raises:
        InputError: there is none; a folder that is known for something else is named for it.
    """
    for name in (ENCODER, *_THEIRS):
        if (folder / name).is_file():
            return folder / name
    if (folder / "data.pkl").is_file() and (folder / "data").is_dir():
        packed = f"{folder.resolve().name}.pth"
        raise InputError(
            f"{folder} is a .pth file that was unpacked: pack it again, in the folder above it, by"
            f" `zip -0 -r {packed} {folder.resolve().name}`, and give {packed}."
        )
    if any(folder.glob("*.distcp")):
        raise InputError(
            f"{folder} is a checkpoint that torch.distributed wrote in parts: put it together by"
            f" `python -m torch.distributed.checkpoint.format_utils dcp_to_torch {folder}"
            " whole.pth`, and give whole.pth."
        )
    if not (folder / LIST).exists() and find_image(folder) is not None:
        raise InputError(
            f"The folder {folder} holds images and no {ENCODER}",
            mend="give a folder that sslens pretrain wrote, or a file; images go to {images}",
        )
    if (folder / "config.json").is_file():
        raise InputError(
            f"The folder {folder} holds a config.json and no weights",
            mend=f"put {_THEIRS[0]} or {_THEIRS[2]} beside it, or give another folder",
        )
    raise InputError(
        f"The folder {folder} holds no {ENCODER}: give a folder that sslens pretrain wrote, or a"
        " file."
    )
