"""From a name or a file to a Backbone, strictly: what does not fit is an error, and nothing is ever unpickled.

| source | model |
|---|---|
| `run/` or `run/last.safetensors` | what `sslens pretrain` wrote |
| `timm:vit_small_patch16_224.dino` | a ViT of timm's with its weights, by timm's own download |
| `random:vit_small_patch16_224:1` | that shape at random initialisation, seed 1, sin-cos positions: the control |
| `random:timm/NAME:1` | the same of any ViT of timm's, with timm's own initialisation |
| `pixels` | raw pixels: the control that knows nothing |
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sslens.errors import InputError, nearest

if TYPE_CHECKING:
    from torch import Tensor

    from sslens.data.transform import EvalTransform
    from sslens.models.backbone import Backbone

#: the file that a training run leaves for others to load
ENCODER = "last.safetensors"
HEADER = "sslens.encoder"
#: side to which the pixels control shrinks an image
PIXELS = 32


def check(source: str) -> None:
    """Refuse a source that cannot be a model, before anything heavy is imported.

    Raises:
        InputError: an unknown form, or a file that is not there; the nearest spelling is offered.
    """
    scheme, _, rest = source.partition(":")
    if source == "pixels" or (scheme in ("timm", "random") and rest):
        return
    path = Path(source)
    if path.is_dir():
        if not (path / ENCODER).is_file():
            raise InputError(f"The folder {path} holds no {ENCODER}: give a folder that sslens pretrain wrote.")
    elif not path.is_file():
        raise InputError(_unknown(source, path))
    elif path.suffix != ".safetensors":
        raise InputError(
            f"{path} is not a .safetensors file: files of sslens pretrain and models of timm (timm:NAME) can be loaded."
        )


def _unknown(source: str, path: Path) -> str:
    forms = ["pixels", "timm:NAME", "random:NAME[:SEED]"]
    beside = [str(p) for p in path.parent.iterdir()] if path.parent.is_dir() else []
    said = nearest(source, [*forms, *beside])
    hint = (
        said
        if said.startswith("did you mean")
        else "a model is a file or folder of sslens pretrain, " + ", ".join(forms)
    )
    return f'There is no model "{source}": {hint}'


def load(source: str | Path, *, num_heads: int | None = None, **arch: int) -> "Backbone":
    """The model of a name or a file, in evaluation mode, with its taps and its evaluation transform.

    Args:
        source: see the table at the top of this module.
        num_heads: heads of attention where the source leaves them open; embed_dim / 64 unless given.
        arch: fields of the architecture to change in a `random:` model, e.g. `blocks=2`.

    Raises:
        InputError: an unknown name, a file that is truncated or of another kind, weights that do not fit.

    >>> model = load("random:vit_nano_patch8_32:1")
    >>> list(model.taps)[:4]
    ['blocks.0.norm1', 'blocks.0.attn.qkv', 'blocks.0.mlp.fc1', 'blocks.0']
    >>> load("random:vit_nano_patch8_32:1").digest == model.digest
    True
    """
    source = str(source)
    check(source)
    scheme, _, rest = source.partition(":")
    if source == "pixels":
        return _pixels()
    if scheme == "random" and not Path(source).exists():
        return _random(rest, num_heads, arch)
    if num_heads is not None or arch:
        raise InputError(f"{source} says its own architecture: num_heads and other shapes cannot be given.")
    if scheme == "timm" and not Path(source).exists():
        return _timm(rest)
    path = Path(source)
    return _own(path / ENCODER if path.is_dir() else path)


def random_twins(model: "Backbone", seeds: Iterable[int] = (0, 1)) -> list[str]:
    """The sources of random initialisations of the same architecture as `model`; none for a model without one."""
    name = model.about.get("arch")
    return [f"random:{name}:{seed}" for seed in seeds] if name else []


def transform(size: int, **given: Any) -> "EvalTransform":
    """How images of `size` are prepared: from 224 px on, the shorter side is first resized to size · 256/224."""
    from sslens.data.colour import IMAGENET_MEAN, IMAGENET_STD
    from sslens.data.transform import EvalTransform

    settings: dict[str, Any] = {
        "resize": size * 256 // 224 if size >= 224 else size,
        "crop": size,
        "interpolation": "bicubic",
        "mean": IMAGENET_MEAN,
        "std": IMAGENET_STD,
    }
    return EvalTransform(**(settings | given))


def _pixels() -> "Backbone":
    from sslens.models.backbone import Backbone, Pixels
    from sslens.models.taps import Tap

    return Backbone(
        Pixels(),
        name="pixels",
        source="pixels",
        taps=[Tap("pixels", "pixels", 0.0)],
        transform=transform(PIXELS, interpolation="bilinear"),
        prefix=None,
        about={"family": "control", "objective": None, "arch": None},
    )


def _random(rest: str, num_heads: int | None, overrides: Mapping[str, int]) -> "Backbone":
    name, _, seed = rest.partition(":")
    if seed and not seed.isdecimal():
        raise InputError(f'The seed of random:{rest} is "{seed}": expected random:NAME:SEED with SEED a whole number.')
    from sslens.models.vit import SIZES, ViTArch

    number = int(seed or 0)
    if overrides or num_heads or name.split("_")[:2] in [["vit", size] for size in SIZES]:
        arch = ViTArch.parse(name, num_heads, **overrides)
        network, transformed = arch.build(number), transform(arch.image_size)
    else:
        network, transformed = _timm_network(name.removeprefix("timm/"), pretrained=False, seed=number)
    changes = dict(overrides) | ({"num_heads": num_heads} if num_heads else {})
    about = {"family": "control", "objective": None, "arch": None if changes else name, "seed": number, **changes}
    source = " ".join([f"random:{name}:{number}", *(f"{key}={value}" for key, value in changes.items())])
    return _vit(network, f"random #{number}", source, transformed, about)


def _timm(name: str) -> "Backbone":
    network, transformed = _timm_network(name, pretrained=True)
    about = {"family": "timm", "objective": name.partition(".")[2] or None, "arch": f"timm/{name.partition('.')[0]}"}
    return _vit(network, name, f"timm:{name}", transformed, about)


def _timm_network(name: str, *, pretrained: bool, seed: int | None = None) -> tuple[Any, "EvalTransform"]:
    import timm
    import torch
    from timm.models.vision_transformer import VisionTransformer

    base = name.partition(".")[0]
    if base not in timm.list_models() or (pretrained and "." in name and name not in timm.list_pretrained()):
        known = timm.list_pretrained() if pretrained else timm.list_models()
        raise InputError(f'timm has no model "{name}": {nearest(name, known)}')
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        try:
            network = timm.create_model(name, pretrained=pretrained, num_classes=0)
        except (OSError, RuntimeError) as error:
            raise InputError(
                f"timm could not get the weights of {name} ({str(error).splitlines()[0]}): check the network, or fetch them "
                "once on a machine that has one and set HF_HOME to that cache and HF_HUB_OFFLINE=1."
            ) from error
    if not isinstance(network, VisionTransformer):
        raise InputError(f"{name} is a {type(network).__name__}: only plain Vision Transformers have taps here as yet.")
    config = timm.data.resolve_model_data_config(network)
    size = config["input_size"][-1]
    return network, transform(
        size,
        resize=int(size / config["crop_pct"]),
        interpolation=config["interpolation"],
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
    )


def _vit(network: Any, name: str, source: str, transformed: "EvalTransform", about: Mapping[str, Any]) -> "Backbone":
    from sslens.models import vit
    from sslens.models.backbone import Backbone

    return Backbone(
        network,
        name=name,
        source=source,
        taps=list(vit.taps(network)),
        transform=transformed,
        prefix=vit.prefix_tokens(network),
        about=about,
    )


def header(name: str, shape: Mapping[str, int], about: Mapping[str, Any]) -> dict[str, str]:
    """The safetensors header of an encoder of our own training: its name, its shape, and what is known of it."""
    return {HEADER: json.dumps({"name": name, "shape": dict(shape), "about": dict(about)}, sort_keys=True)}


def read(path: Path) -> "tuple[dict[str, str], dict[str, Tensor]]":
    """Header and tensors of a safetensors file.

    Raises:
        InputError: the file is truncated, or not of this format.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}, {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}).") from error
    except SafetensorError as error:
        raise InputError(
            f"{path} is not a whole safetensors file ({path.stat().st_size:,} bytes; {error}): it was cut off in writing or "
            "copying. Copy it again, or go on from the run that wrote it with --resume."
        ) from error


def _own(path: Path) -> "Backbone":
    from sslens.models.vit import ViTArch

    metadata, weights = read(path)
    if HEADER not in metadata:
        raise InputError(f"{path} was not written by sslens pretrain: its header has no {HEADER}.")
    about = json.loads(metadata[HEADER])
    network = ViTArch(**about["shape"]).build()
    expected = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    found = {key: tuple(value.shape) for key, value in weights.items()}
    wrong = sorted(key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key))
    if wrong:
        key = wrong[0]
        raise InputError(
            f"{path} does not fit its own architecture in {len(wrong)} of {len(expected)} tensors; the first is {key}: "
            f"expected {expected.get(key, 'none')}, found {found.get(key, 'none')}."
        )
    network.load_state_dict(weights)
    size = about["shape"]["image_size"]
    return _vit(network, about["name"], str(path), transform(size), about["about"])
