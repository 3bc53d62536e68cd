"""`sslens.wrap`: any network as a Backbone."""

import copy
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, TypeAlias

import torch
from torch import nn

from sslens.counts import spell_count
from sslens.data.transform import EvalTransform
from sslens.errors import InputError, nearest, require_type, warn_of_doubt
from sslens.models import networks
from sslens.models.about import About
from sslens.models.backbone import NOTHING_ASSUMED, Assumptions, Backbone
from sslens.models.finding import find_taps
from sslens.models.networks import Reading
from sslens.models.sizes import at_image_size, scale
from sslens.models.taps import Tap
from sslens.models.tracing import Call, trace
from sslens.zoo.evaluation import make_transform
from sslens.zoo.own_code import describe_code
from sslens.zoo.raised import locate

#: the families of objectives that groups of models are compared by
FAMILIES = ("JE", "REC", "supervised")
#: a transform of ours, a preset of torchvision's (`weights.transforms()`), or timm's configuration
Transform: TypeAlias = Any


def wrap(
    module: nn.Module,
    taps: Sequence[str | Tap] | None = None,
    transform: Transform = None,
    name: str | None = None,
    *,
    prefix: int | None = None,
    image_size: int | None = None,
    family: str | None = None,
    objective: str | None = None,
) -> Backbone:
    """Make a Backbone of any network, to be used wherever a model is taken.

    One pass of two images finds the blocks (`sslens.models.structure.find_blocks`) and how outputs
    are pooled, by their shapes: [image, token, dim] with or without CLS and other tokens before the
    patches, maps with their channels first or last, and vectors. The module stays as it is: the
    Backbone has a copy, which shares the weights.

    Args:
        module: it takes images [image, 3, height, width], and its forward pass, or its
            `forward_features`, returns features or a tuple or mapping of them.
        taps: the names of the modules that are read, as in `named_modules()`; found unless given.
        transform: how images are prepared: an `EvalTransform`, a preset of torchvision's
            (`weights.transforms()`), or timm's data configuration; unless given, as timm says of
            the network, or ImageNet's colours.
        name: for tables and figures; the class's name unless given.
        prefix: the number of tokens before the patches, CLS first; found unless given.
        image_size: the side of images in pixels; as the transform or the network says, else 224.
        family: "JE" (joint embedding), "REC" (reconstruction) or "supervised", where it is known.
        objective: its name, such as "dino".

    Raises:
        InputError: it does not run on such images; a tap is not there, runs several times or puts
            out no tensor of features; no taps are found; no such transform or family is known.

    >>> import sslens, torch
    >>> network = torch.nn.Sequential(
    ...     torch.nn.Conv2d(3, 8, 4, stride=4), torch.nn.ReLU(), torch.nn.Conv2d(8, 16, 1)
    ... )
    >>> prepared = sslens.EvalTransform(resize=16, crop=16)
    >>> model = sslens.wrap(network, transform=prepared, name="mine")
    >>> [(tap.name, tap.kind, tap.depth) for tap in model.taps.values()]
    [('1', 'block', 0.5), ('2', 'block', 1.0)]
    """
    if isinstance(module, Backbone):
        raise InputError(f"{module.name} is wrapped already: take it as it is.")
    require_type(module, nn.Module, "network", "give a torch.nn.Module")
    _require_family(family)
    return _wrap(
        _share(module),
        taps,
        transform,
        name=name or type(module).__name__,
        source=name or type(module).__name__,
        prefix=prefix,
        image_size=image_size,
        about=About(family=family, objective=objective),
        sized="sslens.wrap(network, image_size={})",
    )


def _require_family(family: str | None) -> None:
    if family is not None and family not in FAMILIES:
        raise InputError(f'There is no family "{family}": {nearest(str(family), FAMILIES)}')


def wrap_own(
    module: nn.Module, *, name: str, source: str, image_size: int | None = None
) -> Backbone:
    """Wrap a network that nobody else uses, which therefore needs no copy."""
    return _wrap(
        module,
        None,
        None,
        name=name,
        source=source,
        prefix=None,
        image_size=image_size,
        about=About(),
        sized=f"{source}@image_size={{}}",
    )


def _wrap(
    network: nn.Module,
    taps: Sequence[str | Tap] | None,
    transform: Transform,
    *,
    name: str,
    source: str,
    prefix: int | None,
    image_size: int | None,
    about: About,
    sized: str,
) -> Backbone:
    network = networks.prepare(network).eval()
    described = describe_code(network)  # before a pass, whose results it may keep
    made = _find_transform(network, transform, name)
    assumptions = NOTHING_ASSUMED
    if made is None:
        made = make_transform(networks.find_side(network) or image_size or networks.SIDE)
        assumptions = Assumptions(
            prepared=f"the shorter side to {made.resize} px, the central {made.crop} px and"
            " ImageNet's colours"
        )
        warn_of_doubt(assumptions.say_prepared(name))
    if image_size not in (None, made.crop) and not networks.runs(network, made.crop):
        made = scale(made, image_size)  # the user knows better than what the network says
    calls = _run(network, made.crop, name, sized)
    reading = _read(network, calls, taps, prefix, name)
    model = Backbone(
        network,
        name=name,
        source=source,
        taps=reading.taps,
        transform=made,
        prefix=reading.prefix,
        about=replace(about, network=reading.kind),
        outputs=reading.outputs,
        code=_digest_code(described, reading),
        assumptions=assumptions,
    )
    if image_size is not None and image_size != made.crop:
        return at_image_size(model, image_size).copy_with(source=source)
    return model


def _share(module: nn.Module) -> nn.Module:
    """Copy a network with its weights shared, so that freezing the copy leaves the network as it
    is.

    Warns:
        Doubt: the network cannot be copied, and is used itself.
    """
    # detached tensors share the counters of changes by which a Backbone knows its digest is old
    shared: dict[int, Any] = {
        id(value): nn.Parameter(value.detach(), requires_grad=False)
        for value in module.parameters()
    }
    shared |= {id(value): value for value in module.buffers()}
    try:
        return copy.deepcopy(module, shared)
    except (Exception, SystemExit) as error:  # a lock, a file, a weight that is computed, …
        warn_of_doubt(
            f"The {type(module).__name__} cannot be copied ({type(error).__name__}), and is used"
            " itself: it is put into evaluation mode, and its weights are frozen."
        )
        return module


def _run(network: nn.Module, side: int, name: str, sized: str) -> dict[str, Call]:
    """Trace a network on two images of noise.

    Args:
        network: the network.
        side: the side of the images in pixels.
        name: the name of the network.
        sized: how the network is given with a size, which stands for "{}".

    Raises:
        InputError: it does not run on them.
    """
    place = next(network.parameters(), torch.empty(0)).device
    images = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0)).to(place)
    try:
        return trace(network, images)
    except (Exception, SystemExit) as error:  # whatever the network raises
        said = networks.explain_failed_pass(network, side, error).removesuffix(".")
        raise InputError(
            f"{name}: {said}{locate(error)}.", mend=_advise_size(network, sized)
        ) from None


def _advise_size(network: nn.Module, sized: str) -> str:
    """Say on images of which size a network runs that does not run on the one that was assumed, and
    how that size is given for it alone."""
    sides = networks.find_running_sides(network)
    if len(sides) == 1:
        return f"it runs on images of {sides[0]} px, so give {sized.format(sides[0])}"
    some = f" (of {', '.join(map(str, sides[:4]))} px it would run)" if sides else ""
    return (
        f"give the size of the images that it takes{some} as {sized.format('SIDE')}, or their"
        " transform to sslens.wrap"
    )


def _read(
    network: nn.Module,
    calls: Mapping[str, Call],
    taps: Sequence[str | Tap] | None,
    prefix: int | None,
    name: str,
) -> Reading:
    """Find how the network is read, and check that it can be read so."""
    chosen = find_taps(network, calls) if taps is None else _choose(network, calls, taps, name)
    if not chosen:
        readable = [call.name for call in calls.values() if call.is_readable and call.name]
        raise InputError(
            f"No taps are found in {name}: no modules are repeated in it, and its layers do not"
            " each put out a tensor with a row for each image",
            mend=(
                "name modules as {taps}"
                + (f", such as {', '.join(readable[:3])}" if readable else "")
            ),
        )
    reading = networks.describe(network, calls, chosen, prefix)
    for tap in chosen:
        _require_tokens(reading, tap, prefix, name)
    return reading


def _require_tokens(reading: Reading, tap: Tap, prefix: int | None, name: str) -> None:
    shape = reading.outputs[tap.name].shape
    if prefix is not None and len(shape) == 2 and not 0 <= prefix < shape[0] and shape[0] > 1:
        raise InputError(
            f"{name} has {spell_count(shape[0], 'token')} at {tap.name}, and {prefix} of them"
            " cannot be before the patches",
            mend="give another {prefix}",
        )


def _choose(
    network: nn.Module, calls: Mapping[str, Call], taps: Sequence[str | Tap], name: str
) -> list[Tap]:
    """The taps of these names in the order of computation, each with its kind and depth.

    Raises:
        InputError: a name is not a module's, or the module's output cannot be read.
    """
    if isinstance(taps, str):
        raise InputError(f'The taps of {name} are "{taps}"', mend="give a list of names as {taps}")
    own = {tap.name: tap for tap in find_taps(network, calls)}
    modules = {path for path, _ in network.named_modules() if path}
    given = {tap.name: tap for tap in taps if isinstance(tap, Tap)}
    names = [tap.name if isinstance(tap, Tap) else str(tap) for tap in taps]
    for path in names:
        if path not in modules:
            raise InputError(f'{name} has no module "{path}": {nearest(path, modules)}')
        _require_readable(calls.get(path), path, name)
    ordered = sorted(dict.fromkeys(names), key=lambda path: calls[path].order)
    depths = {path: (i + 1) / len(ordered) for i, path in enumerate(ordered)}
    return [
        given.get(path) or own.get(path) or Tap(path, "block", depths[path]) for path in ordered
    ]


def _require_readable(call: Call | None, path: str, name: str) -> None:
    if call is None:
        reason = "never runs in a forward pass"
    elif call.times > 1:
        reason = (
            f"runs {spell_count(call.times, 'time')} in a forward pass, so it has no one output"
        )
    elif call.output is None:
        reason = "puts out no tensor of features with a row for each image"
    else:
        return
    raise InputError(f"The module {path} of {name} {reason}", mend="leave it out of {taps}")


def _find_transform(network: nn.Module, given: Transform, name: str) -> EvalTransform | None:
    """How images are prepared for a network: as given, or as timm says of it; None where nothing
    tells."""
    if given is not None:
        return _read_transform(given, name)
    config = getattr(network, "pretrained_cfg", None)
    if isinstance(config, Mapping) and config.get("mean"):
        import timm

        return read_config(timm.data.resolve_model_data_config(network))
    return None


def _read_transform(given: Transform, name: str) -> EvalTransform:
    """A transform of ours from one of another library's."""
    if isinstance(given, EvalTransform):
        return given
    if isinstance(given, Mapping) and {"input_size", "crop_pct", "mean", "std"} <= set(given):
        return read_config(given)
    if all(hasattr(given, word) for word in ("crop_size", "resize_size", "mean", "std")):
        return EvalTransform(
            resize=int(given.resize_size[0]),
            crop=int(given.crop_size[0]),
            interpolation=getattr(given.interpolation, "value", "bilinear"),
            mean=tuple(given.mean),
            std=tuple(given.std),
        )
    raise InputError(
        f"The transform of {name} is {type(given).__name__}, and what it does to an image cannot be"
        " read",
        mend=(
            "give an sslens.EvalTransform, torchvision's weights.transforms() or timm's data"
            " configuration as {transform}"
        ),
    )


def read_config(config: Mapping[str, Any]) -> EvalTransform:
    """Return the transform of timm's data configuration.

    >>> config = {"input_size": (3, 224, 224), "crop_pct": 0.875, "interpolation": "bicubic",
    ...     "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    >>> read_config(config).resize
    256
    """
    size = config["input_size"][-1]
    return make_transform(
        size,
        resize=max(size, int(size / config["crop_pct"])),
        interpolation=config["interpolation"],
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
    )


def _digest_code(described: bytes, reading: Reading) -> str:
    """A digest of what decides the features beside weights and modules: what `describe_code` says,
    and how each tap is read."""
    state = hashlib.sha256(described)
    for tap in reading.taps:
        state.update(f"{asdict(tap)} {reading.outputs.get(tap.name)}\n".encode())
    return state.hexdigest()
