"""From a name or a file to a Backbone, strictly: what does not fit is an error, and no code of a
file is ever run.

| source | model |
|---|---|
| `mae_vitb16`, … | the checkpoint of a card (`sslens zoo` lists them), fetched once and checked |
| `mae_pretrain_vit_base.pth` | any checkpoint file, recognised from its keys and shapes |
| `run/` or `run/last.safetensors` | what `sslens pretrain` wrote |
| `timm:vit_small_patch16_224.dino` | a model of timm's with its weights, fetched by timm |
| `hf-hub:ID` | a model of the Hugging Face hub, fetched by timm |
| `random:vit_small_patch16_224:1` | that shape at random initialisation, seed 1: the control |
| `random:resnet50:1`, `random:convnextv2_base:1` | the same of CNNs |
| `random:timm/NAME:1` | the same of a model of timm's, with timm's own initialisation |
| `build_pixels` | raw pixels: the control that knows nothing |

Checkpoint files end in .pth, .pt, .tar, .bin, .ckpt, .pkl or .safetensors. A source may end in
options, `FILE branch=student num_heads=12`, as `Backbone.source` has them.
A card's name wins over a folder of that name, which is `./NAME`.

`zoo/layouts/` has a file for each way in which checkpoints are written; `zoo/doctor.py` says what a
file is.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sslens import cards
from sslens.errors import InputError, nearest
from sslens.zoo.evaluation import make_transform as make_transform
from sslens.zoo.insides import ENCODER as ENCODER
from sslens.zoo.insides import INDEX, find_weights
from sslens.zoo.layouts.sslens import HEADER as HEADER
from sslens.zoo.layouts.sslens import make_header as make_header

if TYPE_CHECKING:
    from torch import Tensor

    from sslens.models.about import About
    from sslens.models.backbone import Backbone

SUFFIXES = (".pth", ".pt", ".tar", ".bin", ".ckpt", ".pkl", ".safetensors")
_OPTIONS = re.compile(r"(\S.*?)((?: \w+=\S+)+)")
SCHEMES = ("timm", "hf-hub", "random")


def check(source: str) -> None:
    """Refuse a source that cannot be a model, before anything heavy is imported.

    Raises:
        InputError: an unknown form, or a file that is not there; the message offers the nearest
            spelling.
    """
    source, _ = split_options(source)
    scheme, _, rest = source.partition(":")
    path = Path(source)
    if source == "pixels" or cards.look_up(source) is not None:
        return
    if path.exists():
        find_file(path)
    elif not (scheme in SCHEMES and rest):
        raise InputError(_explain_unknown(source, path))


def split_options(source: str) -> tuple[str, dict[str, Any]]:
    """Split a source into the source without its options, and the options as `load` takes them.

    Raises:
        InputError: an option other than `branch` has a value that is no whole number.

    >>> split_options("runs/a.pth branch=student num_heads=12")
    ('runs/a.pth', {'branch': 'student', 'num_heads': 12})
    """
    match = _OPTIONS.fullmatch(source)
    if match is None or Path(source).exists():
        return source, {}
    given: dict[str, Any] = dict(item.split("=", 1) for item in match[2].split())
    for key, value in given.items():
        if key != "branch":
            if not value.isdecimal():
                raise InputError(
                    f'The source "{source}" says {key}={value}: expected a whole number.'
                )
            given[key] = int(value)
    return match[1], given


def find_file(path: Path) -> Path:
    """Return the checkpoint file for a path: the path itself, or the file in the folder of a run or
    of Hugging Face, of which an index stands for all files that it lists.

    Raises:
        InputError: a folder without a checkpoint, or a file with a suffix that no checkpoint has.
    """
    if path.is_dir():
        return find_weights(path)
    if path.suffix not in SUFFIXES and not path.name.endswith(INDEX):
        raise InputError(
            f"{path} is no checkpoint by its name: files that can be loaded end in"
            f" {', '.join(SUFFIXES)}."
        )
    return path


def _explain_unknown(source: str, path: Path) -> str:
    forms = ["pixels", *(f"{scheme}:NAME" for scheme in ("timm", "random")), *cards.names()]
    beside = [str(p) for p in path.parent.iterdir()] if path.parent.is_dir() else []
    suggestion = nearest(source, [*forms, *beside])
    hint = (
        suggestion
        if suggestion.startswith("did you mean")
        else (
            "a model is a name that `sslens zoo` lists, a checkpoint file, a folder of sslens"
            " pretrain, pixels, timm:NAME, hf-hub:ID or random:NAME[:SEED]"
        )
    )
    return f'There is no model "{source}": {hint}'


def load(
    source: str | Path, *, num_heads: int | None = None, branch: str | None = None, **arch: int
) -> "Backbone":
    """Load the model of a name or a file, in evaluation mode, with its taps and its evaluation
    transform.

    A file's method, form and size are recognised from its keys and shapes; every key is kept,
    renamed, reshaped or dropped for a reason (`sslens doctor FILE` shows them), and the rest must
    match. Where a file holds two networks, the one that the authors evaluate is taken: DINO's
    teacher, MoCo-v3's base encoder, MSN's target encoder.

    Args:
        source: see the table at the top of this module.
        num_heads: the number of attention heads, which no checkpoint file tells; unless given, the
            card's or the recognised method's (MoCo-v3's ViT-S has 12), else embed_dim / 64.
        branch: the name of another network in the file, e.g. "student".
        arch: fields of the architecture to change in a `random:` model, e.g. `blocks=2`.

    Raises:
        InputError: an unknown name, a file that is damaged, would run code, or is of another kind,
            weights that do not fit or are not finite, or no internet connection to fetch a card's
            file.

    Warns:
        Doubt: the number of heads was taken from the width of a file that no card knows.

    >>> model = load("random:vit_nano_patch8_32:1")
    >>> list(model.taps)[:4]
    ['blocks.0.norm1', 'blocks.0.attn.qkv', 'blocks.0.mlp.fc1', 'blocks.0']
    >>> load("random:vit_nano_patch8_32:1").digest == model.digest
    True
    """
    check(str(source))
    source, given = split_options(str(source))
    if given:
        return load(source, **{"num_heads": num_heads, "branch": branch, **arch, **given})
    path, card = Path(source), cards.look_up(source)
    in_file = path.exists() and source != "pixels" if card is None else card.source is None
    if not in_file:
        if branch is not None:
            raise InputError(f"{source} is one network: branch is for files that hold several.")
        return _load_named(source, card, num_heads, arch)
    if arch:
        raise InputError(f"{source} says its own architecture: {', '.join(arch)} cannot be given.")
    from sslens.zoo import checkpoints

    if card is not None:
        return checkpoints.load_card(card, num_heads=num_heads, branch=branch)
    return checkpoints.load_file(find_file(path), source=source, num_heads=num_heads, branch=branch)


def _load_named(
    source: str, card: cards.Card | None, num_heads: int | None, arch: Mapping[str, int]
) -> "Backbone":
    """The model of a name that stands for no file of ours: a control, or one that timm fetches."""
    from sslens.zoo import builders

    scheme, _, rest = source.partition(":")
    if scheme == "random":
        return builders.build_random(rest, num_heads, arch)
    if num_heads is not None or arch:
        raise InputError(
            f"{source} says its own architecture: num_heads and other shapes cannot be given."
        )
    if source == "pixels":
        return builders.build_pixels()
    return builders.fetch_from_timm(source if card is None else str(card.source), card)


def name_random_twins(about: "About", seeds: Iterable[int] = (0, 1)) -> list[str]:
    """Return the sources of random initialisations of a model's architecture, one for each seed;
    none where the architecture has no name."""
    return [f"random:{about.arch}:{seed}" for seed in seeds] if about.arch else []


def read(path: Path) -> "tuple[dict[str, str], dict[str, Tensor]]":
    """Read the header and the tensors of a safetensors file.

    Raises:
        InputError: the file is truncated, or not of this format.
    """
    from sslens.zoo import files

    return files.read(path)
