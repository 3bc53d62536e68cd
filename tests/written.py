"""Small networks with known outputs, and what a checkpoint file written from one is: the ground on
which the examples of every layout are made."""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from sslens.models.cnn import CNNArch
from sslens.models.positions import make_sincos_positions
from sslens.models.vit import ViTArch

State = dict[str, Tensor]
VIT = ViTArch(image_size=48, patch_size=16, dim=64, blocks=2, heads=4)
RESNET = CNNArch("resnet", (1, 2, 1, 1), (8, 8, 16, 16), bottleneck=True)
CONVNEXT = CNNArch("convnextv2", (1, 2, 1, 1), (8, 16, 24, 32))


def trained(network: nn.Module, seed: int = 0) -> nn.Module:
    """No tensor as an initialisation leaves it, so that each that goes astray shows; positions
    stay."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in network.state_dict().items():
        if value.is_floating_point() and name != "pos_embed":
            noise = torch.rand(value.shape, generator=generator)
            value.copy_(noise + 0.5 if "running_var" in name else value + 0.1 * (noise - 0.4))
    return network.eval()


def vit(positions: str = "mae", seed: int = 0) -> nn.Module:
    """A small ViT whose positions are MAE's, MoCo-v3's or learned ones."""
    network = trained(VIT.build(seed), seed)
    table = make_sincos_positions(VIT.dim, VIT.grid, transposed=positions == "moco-v3")
    if positions == "learned":
        table = 0.2 * torch.randn(table.shape, generator=torch.Generator().manual_seed(seed))
    network.load_state_dict({**network.state_dict(), "pos_embed": table})
    return network


def under(prefix: str, state: Mapping[str, Tensor]) -> State:
    return {prefix + name: value for name, value in state.items()}


def head(*names: str) -> State:
    return {name: torch.full((3, 4), 0.25) for name in names}


def training() -> dict[str, Any]:
    """What a training adds: an optimiser's state, arguments, numbers."""
    optimiser = {
        "state": {0: {"exp_avg": torch.zeros(3)}},
        "param_groups": [{"lr": 0.1, "params": [0]}],
    }
    return {
        "optimizer": optimiser,
        "epoch": 299,
        "args": argparse.Namespace(lr=np.float64(0.1), arch="x"),
    }


@dataclass(frozen=True)
class Example:
    """A file: the network it was written from, what is written, and what is to be found."""

    network: nn.Module
    tree: Any
    objective: str | None
    tuned: Any = False
    family: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    header: Mapping[str, str] | None = None
    archive: bool = False

    def write(self, folder: Path) -> Path:
        """The file. Its name says nothing."""
        if self.header is not None:
            save_file(self.tree, folder / "file.safetensors", dict(self.header))
            return folder / "file.safetensors"
        if self.archive:
            np.savez(folder / "file.npz", **{n: v.numpy() for n, v in self.tree.items()})
            return folder / "file.npz"
        torch.save(self.tree, folder / "file.pth")
        return folder / "file.pth"


HEADS = {"num_heads": VIT.heads}
