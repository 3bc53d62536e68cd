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
| `pixels` | raw pixels: the control that knows nothing |
| `MODULE:FUNCTION` | what your function returns, imported from the working directory |

Checkpoint files end in .pth, .pt, .tar, .bin, .ckpt, .pkl, .npz, .torch or .safetensors. A source
may end in options, `FILE@branch=student,heads=12,image_size=448,name=mine`;
`drop=NAME+NAME` leaves modules beside the network out that no rule drops.
A card's name wins over a folder of that name, which is `./NAME`.

`zoo/layouts/` has a file for each way in which checkpoints are written; `zoo/doctor.py` says what a
file is.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sslens import cards
from sslens.data.sources import MEMORY as MEMORY
from sslens.errors import InputError, nearest, shorten
from sslens.whole_file import exists
from sslens.zoo.evaluation import make_transform as make_transform
from sslens.zoo.insides import ENCODER as ENCODER
from sslens.zoo.insides import INDEX, find_weights
from sslens.zoo.layouts.sslens import HEADER as HEADER
from sslens.zoo.layouts.sslens import make_header as make_header
from sslens.zoo.modules import (
    explain_no_module,
    is_function,
    load_function,
    looks_like_function,
)
from sslens.zoo.python_files import SUFFIX as PYTHON
from sslens.zoo.python_files import explain_python_file, find_python_file

if TYPE_CHECKING:
    from torch import Tensor

    from sslens.models.about import About
    from sslens.models.backbone import Backbone

SUFFIXES = (".pth", ".pt", ".tar", ".bin", ".ckpt", ".pkl", ".npz", ".torch", ".safetensors")
#: options after spaces, as `Backbone.source` has them, and after an @, as people write them
_OPTIONS = re.compile(r"(\S.*?)((?: \w+=\S+)+)")
_AT = re.compile(r"(.+)@(\w+=[^,]*(?:,\w+=[^,]*)*)")
#: characters of a source that a message shows
SHOWN = 300
#: digits of the longest number of an option
DIGITS = 18
OPTIONS = ("branch", "num_heads", "drop", "image_size", "name")
#: options with a text for their value
_TEXTS = ("branch", "drop", "name")
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
    if exists(path):
        find_file(path)
    elif (scheme.endswith(PYTHON) and find_python_file(source) is not None) or (
        not (scheme in SCHEMES and rest) and not is_function(source)
    ):
        raise InputError(_explain_unknown(source, path))


def split_options(source: str) -> tuple[str, dict[str, Any]]:
    """Split a source into the source without its options, and the options as `load` takes them.

    Options stand after an @, `FILE@branch=teacher,heads=12`, or each after one, or after spaces, as
    `Backbone.source` has them. A path that exists as it is written has none.

    Raises:
        InputError: an option that there is not or that has two values, or an option other than
            `branch`, `drop` and `name` with a value that is no whole number.

    >>> split_options("runs/a.pth@branch=student,heads=12")
    ('runs/a.pth', {'branch': 'student', 'num_heads': 12})
    >>> split_options("runs/a.pth@branch=student@heads=12")
    ('runs/a.pth', {'branch': 'student', 'num_heads': 12})
    >>> split_options("runs/a.pth branch=student num_heads=12")
    ('runs/a.pth', {'branch': 'student', 'num_heads': 12})
    """
    match = _OPTIONS.fullmatch(source) or _AT.fullmatch(source)
    if match is None or exists(source):
        return source, {}
    plain, told = match[1], match[2].strip(" @")
    while (more := _AT.fullmatch(plain)) and not exists(plain) and _are_options(more[2]):
        plain, told = more[1], f"{more[2]},{told}"
    given: dict[str, str] = {}
    for item in re.split(r"[ ,]", told):
        key, _, value = item.partition("=")
        key = {"heads": "num_heads"}.get(key, key)
        if key not in OPTIONS and not match[1].startswith("random:"):
            words = ("heads" if word == "num_heads" else word for word in OPTIONS)
            raise InputError(f'The source "{source}" says {item}: {nearest(key, words)}')
        if key not in _TEXTS and not (value.isdecimal() and len(value) <= DIGITS):
            raise InputError(f'The source "{source}" says {item}: expected a whole number.')
        if given.get(key, value) != value:
            raise InputError(
                f'The source "{source}" says {key} twice, {given[key]} and {value}: say it once.'
            )
        given[key] = value
    return plain, {key: v if key in _TEXTS else int(v) for key, v in given.items()}


def _are_options(text: str) -> bool:
    """Whether all that stands after an @ is options."""
    return all(item.partition("=")[0] in ("heads", *OPTIONS) for item in text.split(","))


def find_file(path: Path) -> Path:
    """Return the checkpoint file for a path: the path itself, or the file in the folder of a run or
    of Hugging Face, of which an index stands for all files that it lists.

    Raises:
        InputError: a folder without a checkpoint, or a file with a suffix that no checkpoint has.
    """
    if path.is_dir():
        return find_weights(path)
    if path.suffix == PYTHON:
        raise InputError(explain_python_file(str(path), path))
    if path.suffix not in SUFFIXES and not path.name.endswith(INDEX):
        raise InputError(
            f"{path} is no checkpoint by its name: files that can be loaded end in"
            f" {', '.join(SUFFIXES)}."
        )
    return path


def _is_missing_path(source: str, path: Path) -> bool:
    """Whether a model that is not there was meant as a file or a folder."""
    return path.suffix in SUFFIXES or ("/" in source and ":" not in source)


def _suggest_part(path: Path) -> str:
    """A suggestion for the first part of a path that is not there; empty where nothing is like
    it."""
    folder = next((each for each in path.parents if exists(each) and each.is_dir()), Path())
    missing = path.relative_to(folder).parts[0]
    beside = [str(one) for one in folder.iterdir() if not one.name.startswith(".")]
    hint = nearest(str(folder / missing), beside)
    return hint if hint.startswith("did you mean") else ""


def _explain_unknown(source: str, path: Path) -> str:
    if source.startswith(MEMORY):
        return (
            f'"{source.removeprefix(MEMORY)}" was in the memory of the Python process that made the'
            " study, and no file holds it: give a file, or the model itself in Python."
        )
    if (python := find_python_file(source)) is not None:
        return explain_python_file(source, python)
    forms = ["pixels", *(f"{scheme}:NAME" for scheme in ("timm", "random")), *cards.names()]
    there = exists(path.parent) and path.parent.is_dir()
    beside = [str(p) for p in path.parent.iterdir()] if there else []
    suggestion = nearest(source, [*forms, *beside])
    if looks_like_function(source) and not suggestion.startswith("did you mean"):
        return explain_no_module(source)
    hint = (
        "a model is a name that `sslens zoo` lists, a checkpoint file, a folder of sslens"
        " pretrain, pixels, timm:NAME, hf-hub:ID, random:NAME[:SEED] or MODULE:FUNCTION"
    )
    if suggestion.startswith("did you mean"):
        hint = suggestion
    elif _is_missing_path(source, path):
        hint = _suggest_part(path) or f"{hint}; for k-NN and probes also a folder of features"
        hint = f"no such file or folder; {hint}"
    return f'There is no model "{shorten(source, SHOWN)}": {hint}'


def load(
    source: str | Path,
    *,
    num_heads: int | None = None,
    branch: str | None = None,
    drop: str | Sequence[str] | None = None,
    image_size: int | None = None,
    name: str | None = None,
    **arch: int,
) -> "Backbone":
    """Load the model of a name, a file or a function, in evaluation mode, with its taps and its
    evaluation transform.

    A file's method, form and size are recognised from its keys and shapes; every key is kept,
    renamed, reshaped or dropped for a reason (`sslens doctor FILE` shows them), and the rest must
    match. Where a file holds two networks, the one that the authors evaluate is taken: DINO's
    teacher, MoCo-v3's base encoder, MSN's target encoder.

    Args:
        source: see the table at the top of this module; it may end in options,
            `FILE@branch=student,heads=12`, which win over the arguments.
        num_heads: the number of attention heads, or `heads`; unless given, that of the card, of
            settings in the file or its folder, or of the method, else embed_dim / 64.
        branch: the name of another network in the file, e.g. "student".
        drop: modules beside the network to leave out that no rule drops: "tuner+gate", or a list.
        image_size: the side in pixels of the square images that the model sees, if not the usual
            one; its positions are resampled (`sslens.models.sizes.at_image_size`).
        name: for tables and figures; the card's or the file's unless given.
        arch: fields of the architecture to change in a `random:` model, e.g. `blocks=2`.

    Raises:
        InputError: an unknown name, a file that is damaged, would run code, or is of another kind,
            weights that do not fit or are not finite, no internet connection to fetch a card's
            file, a user's function that fails, or images of a size that the model does not take.

    Warns:
        Doubt: the number of heads was taken from the width of a file that no card knows.

    >>> model = load("random:vit_nano_patch8_32:1")
    >>> list(model.taps)[:4]
    ['blocks.0.norm1', 'blocks.0.attn.qkv', 'blocks.0.mlp.fc1', 'blocks.0']
    >>> load("random:vit_nano_patch8_32:1@image_size=64,name=mine").transform.crop
    64
    """
    _require_source(source)
    check(str(source))
    plain, given = split_options(str(source))
    num_heads = arch.pop("heads", None) if num_heads is None else num_heads  # as an @ spells it
    own = {"num_heads": num_heads, "branch": branch, "drop": drop}
    settings: dict[str, Any] = own | arch | given
    image_size, name = settings.pop("image_size", image_size), settings.pop("name", name)
    require_name(name)
    model = _load_as_is(plain, image_size=image_size, name=name, **settings)
    if image_size is None and name is None:
        return model
    source = model.source
    model = model if image_size is None else _at_size(model, image_size)
    told = (f"{k}={v}" for k, v in {"image_size": image_size, "name": name}.items() if v)
    return model.copy_with(name=name or model.name, source=" ".join([source, *told]))


def _require_source(source: object) -> None:
    """Refuse what is no name or path: a state dict, whose numbers would be printed, or a module."""
    if not isinstance(source, str | Path):
        raise InputError(
            f"A {type(source).__name__} is neither the name nor the file of a model",
            mend="give sslens.wrap the network, which loads a state_dict by its load_state_dict",
        )


def _at_size(model: "Backbone", image_size: int) -> "Backbone":
    """A model at another size of images, which is said of it."""
    from sslens.models.sizes import at_image_size

    model = at_image_size(model, image_size)
    more = {**model.about.more, "image_size": image_size}
    return model.copy_with(about=replace(model.about, more=more))


def require_name(name: str | None) -> None:
    """Refuse the name of a model that could not stand after `@name=`; None is no name.

    Raises:
        InputError: the name is empty, or has spaces, commas, @ or =.
    """
    if name is not None and not re.fullmatch(r"[^\s,@=]+", name):
        raise InputError(
            f'A model cannot be called "{name}": give a name without spaces, commas, @ and =.'
        )


def _load_as_is(
    source: str,
    *,
    image_size: int | None,
    name: str | None,
    num_heads: int | None,
    branch: str | None,
    drop: str | Sequence[str] | None,
    **arch: int,
) -> "Backbone":
    """The model of a source without options, at its own size of images."""
    path, card = Path(source), cards.look_up(source)
    in_file = exists(path) and source != "pixels" if card is None else card.source is None
    if not in_file:
        if branch is not None:
            raise InputError(f"{source} is one network: branch is for files that hold several.")
        if drop is not None:
            raise InputError(f"{source} is no file: drop leaves out modules of files.")
        return _load_named(source, card, image_size, name, num_heads, arch)
    _require_no_fields(source, arch)
    from sslens.zoo import checkpoints
    from sslens.zoo.faults import Asked
    from sslens.zoo.parts import split_names

    asked = Asked(branch, num_heads, split_names(drop))
    if card is not None:
        return checkpoints.load_card(card, asked)
    return checkpoints.load_file(find_file(path), asked, source=source)


def _require_no_fields(source: str, arch: Mapping[str, int]) -> None:
    """Refuse fields of an architecture for a model that says its own, and misspelt options."""
    if not arch:
        return
    first = next(iter(arch))
    likely = nearest(first, OPTIONS)
    if first not in OPTIONS and likely.startswith("did you mean"):
        raise InputError(f"{source} takes no {first}: {likely}")
    raise InputError(f"{source} says its own architecture: {', '.join(arch)} cannot be given.")


def _load_named(
    source: str,
    card: cards.Card | None,
    image_size: int | None,
    name: str | None,
    num_heads: int | None,
    arch: Mapping[str, int],
) -> "Backbone":
    """The model of a name that stands for no file of ours: a control, a user's function, or a model
    that timm fetches."""
    from sslens.zoo import builders

    scheme, _, rest = source.partition(":")
    if scheme == "random":
        return builders.build_random(rest, num_heads, arch)
    _require_no_fields(source, arch if num_heads is None else {"num_heads": num_heads, **arch})
    if source == "pixels":
        return builders.build_pixels()
    if card is None and scheme not in SCHEMES:
        return load_function(source, image_size=image_size, name=name)
    return builders.fetch_from_timm(source if card is None else str(card.source), card)


def name_random_twins(about: "About", seeds: Iterable[int] = (0, 1)) -> list[str]:
    """Return the sources of random initialisations of a model's architecture, one for each seed;
    none where the architecture has no name. They see images of the same size.

    >>> from sslens.models.about import About
    >>> name_random_twins(About(arch="resnet18", more={"image_size": 64}), [0])
    ['random:resnet18:0@image_size=64']
    """
    size = about.more.get("image_size")
    end = f"@image_size={size}" if isinstance(size, int) else ""
    return [f"random:{about.arch}:{seed}{end}" for seed in seeds] if about.arch else []


def read(path: Path) -> "tuple[dict[str, str], dict[str, Tensor]]":
    """Read the header and the tensors of a safetensors file.

    Raises:
        InputError: the file is truncated, or not of this format.
    """
    from sslens.zoo import files

    return files.read(path)
