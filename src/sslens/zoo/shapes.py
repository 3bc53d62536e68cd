"""The architecture of a network, found from its weights in timm's names or read from a file's
header; each kind of network is a file of `zoo/architectures/`."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from sslens.find import names, plugin
from sslens.models.cnn import CNNArch
from sslens.models.vit import ViTArch
from sslens.zoo.architecture import Architecture, Tensors, Weights
from sslens.zoo.architectures.cnn import CNNShape as CNNShape
from sslens.zoo.architectures.vit import ViTShape as ViTShape
from sslens.zoo.hints import NONE, Hints, read_hints
from sslens.zoo.windows import Windows

if TYPE_CHECKING:
    from torch import nn

#: where the architectures are, each a file with the name by which headers of files know it
ARCHITECTURES = "zoo/architectures"


@dataclass(frozen=True)
class NamedShape(Architecture):
    """The architecture of a model that timm knows by name, where weights alone do not tell the
    architecture."""

    timm: str
    norm: bool = True

    @property
    def name(self) -> str:
        """The NAME in `random:NAME:SEED` for this shape."""
        return f"timm/{self.timm}"

    @property
    def image_size(self) -> int:
        """Side in pixels of the images that the model takes."""
        import timm

        return int(timm.get_pretrained_cfg(self.timm).input_size[-1])

    def iterate_tensors(self) -> Tensors:
        """Yield the name and the shape of every tensor, without memory for a network so large; only
        timm knows the tensors."""
        from sslens.models.sketching import sketch_networks

        with sketch_networks():
            weights = self.empty().state_dict()
        for key, value in weights.items():
            yield key, tuple(value.shape)

    def empty(self) -> "nn.Module":
        """Build the network at timm's random initialisation. Its memory is real, since some of its
        tables are not among the weights."""
        import torch

        from sslens.models import networks

        network = networks.create(self.timm, seed=0)
        if not self.norm:
            network.norm = torch.nn.Identity()
        return network

    def describe(self) -> str:
        """Describe the architecture in words: by its name."""
        return self.name


def describe_network(network: "nn.Module", name: str | None, where: str) -> Mapping[str, Any]:
    """Return the shape of a loaded network as plain JSON values for a file's header;
    `read_shape` reads it back.

    Args:
        network: the network; its final norm may have been removed.
        name: the architecture's name as in `Backbone.about`; a network of timm's is described by
            it.
        where: what messages call the network.

    Raises:
        InputError: the network has no known shape, and no name in timm.

    >>> from sslens.models.vit import ViTArch
    >>> describe_network(ViTArch.parse("vit_nano_patch8_32").build(), None, "mine")
    {'image_size': 32, 'patch_size': 8, 'dim': 64, 'blocks': 4, 'heads': 1}
    """
    from torch import nn

    if name is not None and name.startswith("timm/"):
        bare = isinstance(getattr(network, "norm", None), nn.Identity)
        return {"timm": name.removeprefix("timm/"), "norm": not bare}
    if name is not None and CNNArch.is_name(name):
        return asdict(CNNArch.parse(name))  # no weight tells strides or the images' size
    weights = network.state_dict()
    heads, hints = read_hints(network)
    shape = find_shape(weights, where, heads, hints)
    if isinstance(shape, CNNShape):
        return asdict(replace(shape.arch, image_size=shape.image_size))
    if not isinstance(shape, ViTShape):
        values = asdict(shape)  # type: ignore[call-overload]
        return {"network": find_kind(weights), **values}
    plain = ViTShape(shape.arch, hidden=4 * shape.arch.dim)
    if shape == plain:
        return asdict(shape.arch)
    later = ("pre_norm", "activation", "eps")  # which files of before do not have
    usual = {key for key in later if getattr(shape, key) == getattr(plain, key)}
    given = asdict(shape).items()
    return {key: value for key, value in given if value is not None and key not in usual}


def read_shape(shape: Mapping[str, Any]) -> Architecture:
    """Read the shape from the header of one of this package's files.

    >>> read_shape({"image_size": 32, "patch_size": 8, "dim": 64, "blocks": 4, "heads": 1}).name
    'vit_nano_patch8_32'
    """
    if "timm" in shape:
        return NamedShape(shape["timm"], shape["norm"])
    if "network" in shape:
        kind = plugin(ARCHITECTURES, shape["network"]).SHAPE
        given = {key: tuple(v) if isinstance(v, list) else v for key, v in shape.items()}
        given |= {"arch": ViTArch(**shape["arch"])} if "arch" in shape else {}
        shaped: Architecture = kind(**{key: v for key, v in given.items() if key != "network"})
        return shaped
    if "kind" in shape:
        arch = CNNArch(**shape)
        return CNNShape(arch, arch.image_size)
    if "arch" in shape:
        windows = shape.get("windows")
        windows = windows and Windows(**{**windows, "wide": tuple(windows["wide"])})
        return ViTShape(**{**shape, "arch": ViTArch(**shape["arch"]), "windows": windows})
    return ViTShape(ViTArch(**shape), hidden=4 * shape["dim"])


def find_kind(weights: Weights) -> str:
    """Find which file of `zoo/architectures` weights in timm's names belong to.

    >>> import numpy as np
    >>> find_kind({"layer1.0.conv1.weight": np.zeros((4, 4, 3, 3))})
    'cnn'
    """
    kinds = (name for name in names(ARCHITECTURES) if name != "vit")
    return next((name for name in kinds if plugin(ARCHITECTURES, name).matches(weights)), "vit")


def find_shape(
    weights: Weights, where: str, heads: int | None, hints: Hints = NONE
) -> Architecture:
    """Find the architecture of weights in timm's names.

    Args:
        weights: the weights, without heads and decoders.
        where: the file, for messages.
        heads: the number of attention heads that was asked for; for None that of `hints`, else as
            many as the released network of this width has, or width / 64.
        hints: what is told of the network beside its weights.

    Raises:
        InputError: a variant that is not known here, or shapes that make no network.
    """
    kind = plugin(ARCHITECTURES, find_kind(weights))
    shape: Architecture = kind.find(weights, where, heads, hints)
    return shape
