"""Folders of Hugging Face, timm and open_clip: what stands beside the weights (`config.json`, the
preprocessor's settings), and weights in several files with their index."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from sslens.counts import spell_count
from sslens.data.imagenet import LEAST, MOST
from sslens.errors import InputError, nearest, shorten
from sslens.whole_file import exists
from sslens.zoo.arrays import Array
from sslens.zoo.extracting import restore
from sslens.zoo.files import Beside, Contents, read_contents
from sslens.zoo.hints import ACTIVATIONS, Hints
from sslens.zoo.insides import INDEX

#: what a file of JSON says, by name
Settings: TypeAlias = Mapping[str, Any]
_SHARD = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.(safetensors|bin)")
#: names of weights that have a config beside them; other files in such a folder may be of others
_OWN = re.compile(r"(pytorch_model|model|open_clip_pytorch_model|open_clip_model)[\w.-]*")
#: what files larger than this are is no configuration; in bytes
LIMIT = 4 * 2**20
#: pixels of the largest side to which a processor resizes images
LARGEST = 1 << 16
#: the largest whole number that a network has in its settings, by what it is of: a side in pixels,
#: a count, a width; those that were released have 1,024 px at most, and 63 blocks
BOUNDS = {"image_size": 1 << 12, "blocks": 1 << 12, "heads": 1 << 12, "width": 1 << 20}
#: activation functions of Hugging Face's that are spelt like others and are none of those read here
UNSUPPORTED = ("relu", "relu2", "relu6", "leaky_relu", "selu", "elu", "celu", "mish", "gelu_10")
#: PIL's numbers of interpolations
_RESAMPLE = {2: "bilinear", 3: "bicubic"}


def read_checkpoint(path: Path) -> Contents:
    """Read a checkpoint file and what stands beside it.

    For an index (`model.safetensors.index.json`) all files that it lists are read.

    Raises:
        InputError: a file is missing or damaged; or the file is one part of several.
    """
    if path.name.endswith(INDEX):
        contents = _read_parts(path)
    else:
        _refuse_part(path)
        contents = restore(read_contents(path))
    if not _OWN.fullmatch(path.name):
        return contents
    return replace(contents, beside=read_beside(path.parent))


def _refuse_part(path: Path) -> None:
    """Half a network must not pass for a whole one."""
    match = _SHARD.fullmatch(path.name)
    if match is None or int(match[3]) < 2:
        return
    index = path.parent / f"{match[1]}.{match[4]}{INDEX}"
    raise InputError(
        f"{path} is part {int(match[2])} of {int(match[3])} of a network:"
        + (
            f" give {path.parent}, the folder, which holds all of them."
            if index.is_file()
            else f" give the folder with all of them and their index, {index.name}, which is not"
            " here."
        )
    )


def list_parts(path: Path) -> list[Path]:
    """List the files that hold the weights of a checkpoint: those that an index lists, or the file
    itself.

    Raises:
        InputError: the index is none, or lists a file that is not beside it.
    """
    if not path.name.endswith(INDEX):
        return [path]
    return [path.parent / name for name in sorted(set(_read_places(path).values()))]


def _read_places(index: Path) -> Mapping[str, str]:
    """The name of the file that holds each tensor, as an index says."""
    places = _read_json(index).get("weight_map")
    if not isinstance(places, Mapping) or not all(isinstance(v, str) for v in places.values()):
        raise InputError(f"{index} has no weight_map: it is not the index of a model in parts.")
    for name in sorted(set(places.values())):
        path = index.parent / name
        if Path(name).name != name or not (exists(path) and path.is_file()):
            raise InputError(
                f"{index} lists {shorten(name, 80)}, which is not in its folder: get all of its"
                " files again."
            )
    return places


def _read_parts(index: Path) -> Contents:
    places = _read_places(index)
    together: dict[str, Array] = {}
    for path in list_parts(index):
        for state, weights in read_contents(path).states.items():
            own = {f"{state}.{key}" if state else key: v for key, v in weights.items()}
            # another part may hold a tensor of the same name, which the index does not mean
            together |= {
                key: v for key, v in own.items() if places.get(key, path.name) == path.name
            }
    missing = sorted(set(places) - set(together))
    if missing:
        raise InputError(
            f"{index} lists {spell_count(len(missing), 'tensor')} that its files do not hold, the"
            f" first {missing[0]}: get all of its files again."
        )
    return Contents(index, {"": together})


def read_beside(folder: Path) -> Beside:
    """Read what the files of a folder tell of the network in it; nothing where there are none.

    Raises:
        InputError: a file is no JSON, or a value in it is of another kind than it must be.
    """
    path = folder / "config.json"
    clip = folder / "open_clip_config.json"
    if not path.is_file() and clip.is_file():
        return _read_open_clip(clip)
    if not path.is_file():
        return Beside()
    config = _read_json(path)
    if isinstance(config.get("pretrained_cfg"), Mapping):
        return _read_timm(path, config)
    vision = config.get("vision_config")
    own = {**config, **vision} if isinstance(vision, Mapping) else config
    preprocessor = folder / "preprocessor_config.json"
    prepared = _read_json(preprocessor) if preprocessor.is_file() else {}
    kind = str(own.get("model_type", config.get("model_type", "")))
    return Beside(
        name="config.json",
        kind=kind,
        hints=_read_hints(path, own),
        settings=vision if isinstance(vision, Mapping) else config,
        transform=dict(_read_transform(preprocessor, prepared)),
        notes=tuple(_find_notes(prepared)),
    )


def _read_hints(path: Path, config: Mapping[str, Any]) -> Hints:
    activation = config.get("hidden_act")
    if str(activation) in UNSUPPORTED:
        raise InputError(
            f'{path} says hidden_act "{activation}", which no network read here computes with: they'
            f" have {', '.join(ACTIVATIONS)}. Wrap the network that you trained (sslens.wrap)."
        )
    if activation is not None and str(activation) not in ACTIVATIONS:
        raise InputError(
            f'{path} says hidden_act "{activation}", which is not known here:'
            f" {nearest(str(activation), ACTIVATIONS)}."
        )
    size = config.get("image_size", config.get("crop_size"))
    size = size[0] if isinstance(size, list) and len(set(map(str, size))) == 1 else size
    whole = {
        "heads": config.get("num_attention_heads"),
        "width": config.get("hidden_size"),
        "blocks": config.get("num_hidden_layers"),
        "image_size": size,
    }
    for key, value in whole.items():
        if value is not None and (type(value) is not int or value < 1):
            shown = shorten(repr(value), 80)
            raise InputError(f"{path} says {shown} for the {key}: expected a whole number.")
        if value is not None and value > BOUNDS[key]:
            raise InputError(
                f"{path} says {shorten(str(value), 80)} for the {key}, beyond any network: expected"
                f" at most {BOUNDS[key]:,}."
            )
    eps = config.get("layer_norm_eps")
    if eps is not None and (not isinstance(eps, int | float) or not 0 <= eps < 1):
        raise InputError(
            f"{path} says layer_norm_eps {shorten(repr(eps), 80)}: expected a small number."
        )
    return Hints(
        **whole,
        eps=None if eps is None else float(eps),
        activation=ACTIVATIONS[str(activation)] if activation is not None else None,
    )


def _read_transform(path: Path, prepared: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, name in (("mean", "image_mean"), ("std", "image_std")):
        value = prepared.get(name)
        if value is None:
            continue
        if (
            not isinstance(value, list)
            or len(value) != 3
            or not all(type(one) in (int, float) and abs(one) < MOST for one in value)
            or (key == "std" and min(value) < LEAST)
        ):
            shown = shorten(repr(value), 80)
            raise InputError(
                f"{path} says {name} {shown}: expected three numbers, for values from 0 to 1."
            )
        yield key, tuple(float(one) for one in value)
    if type(prepared.get("resample")) is int and prepared["resample"] in _RESAMPLE:
        yield "interpolation", _RESAMPLE[prepared["resample"]]
    resized, cropped = (_read_side(prepared.get(name)) for name in ("size", "crop_size"))
    crops = bool(prepared.get("do_center_crop", cropped is not None))
    if resized and prepared.get("do_resize", True):
        yield "ratio", max(1.0, resized / cropped) if crops and cropped else 1.0


def _read_side(value: Any) -> int | None:
    """The side in pixels that a processor's setting says, in its several forms."""
    if isinstance(value, Mapping):
        value = value.get("shortest_edge", value.get("height"))
    return value if type(value) is int and 0 < value <= LARGEST else None


def _find_notes(prepared: Mapping[str, Any]) -> Iterator[str]:
    size = prepared.get("size")
    if isinstance(size, Mapping) and "height" in size and not prepared.get("do_center_crop"):
        yield (
            "Its processor squashes images to a square; here the central square is cut out, so that"
            " all models see one geometry."
        )


def _read_timm(path: Path, config: Mapping[str, Any]) -> Beside:
    """The config.json that timm writes: the architecture's name, and how images are prepared."""
    made = config["pretrained_cfg"]
    named = str(config.get("architecture", ""))
    renamed = {"image_mean": made.get("mean"), "image_std": made.get("std")}
    transform = dict(_read_transform(path, renamed))
    if made.get("interpolation") in _RESAMPLE.values():
        transform["interpolation"] = made["interpolation"]
    ratio = made.get("crop_pct")
    if isinstance(ratio, int | float) and 0.1 < ratio <= 1:
        transform["ratio"] = 1 / ratio
    clip = "_clip_" in named
    activation = "quick_gelu" if "quickgelu" in named else "gelu" if clip else None
    hints = Hints(activation=activation, eps=1e-5 if clip else None)
    return Beside(name="config.json", kind=named, hints=hints, transform=transform)


def _read_open_clip(path: Path) -> Beside:
    config = _read_json(path)
    model = _read_part(path, config, "model_cfg") if "model_cfg" in config else config
    vision = _read_part(path, model, "vision_cfg")
    made = _read_part(path, config, "preprocess_cfg")
    width, head = vision.get("width"), vision.get("head_width", 64)
    whole = type(width) is int and type(head) is int and 0 < head <= width
    heads = width // head if whole else None
    renamed = {"image_mean": made.get("mean"), "image_std": made.get("std")}
    quick = bool(model.get("quick_gelu", False))
    return Beside(
        name=path.name,
        kind="open_clip",
        hints=Hints(heads=heads, activation="quick_gelu" if quick else "gelu"),
        settings=vision,
        transform=dict(_read_transform(path, renamed)),
    )


def _read_part(path: Path, settings: Settings, key: str) -> Settings:
    """The settings under a key; none without the key."""
    part = settings.get(key, {})
    if not isinstance(part, Mapping):
        raise InputError(f"{path} says {shorten(repr(part), 80)} for {key}: expected settings.")
    return part


def _read_json(path: Path) -> Settings:
    try:
        if path.stat().st_size > LIMIT:
            raise InputError(
                f"{path} has {spell_count(path.stat().st_size, 'byte')}: it is no configuration."
            )
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as JSON: get it again.") from error
    if not isinstance(value, dict):
        raise InputError(f"{path} holds no settings by name: it is not the file that it is called.")
    return value
