"""Other people's CKA behind one signature, each imported when it is asked for and never needed.

    uv run --with torch-cka --with pytorch-cka --with cka-pytorch python bench/cka.py

A peer is called the way that its README shows, on copies of the networks as a user has them
(weights that require gradients), because some peers never remove their hooks.
"""

import contextlib
import copy
import importlib.util
import io
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

# pytorch-cka's module is called cka, and so is the script beside this file
sys.path[:] = [
    folder for folder in sys.path if Path(folder).resolve() != Path(__file__).resolve().parent
]


@dataclass(frozen=True)
class Found:
    """CKA with the peer's own labels of its rows and columns."""

    values: Tensor
    rows: Sequence[str]
    columns: Sequence[str]


class DroppedError(LookupError):
    """A layer was asked for, and neither a row nor an error came."""


Compare = Callable[[nn.Module, nn.Module, Sequence[str], DataLoader], Found]


def _torch_cka(a: nn.Module, b: nn.Module, layers: Sequence[str], loader: DataLoader) -> Found:
    from torch_cka import CKA

    cka = CKA(a, b, "a", "b", list(layers), list(layers), device="cpu")
    cka.compare(loader)
    export = cka.export()
    return Found(export["CKA"], export["model1_layers"], export["model2_layers"])


def _pytorch_cka(a: nn.Module, b: nn.Module, layers: Sequence[str], loader: DataLoader) -> Found:
    from cka import compute_cka

    return Found(
        compute_cka(a, b, loader, layers=list(layers), device="cpu", progress=False)[0],
        layers,
        layers,
    )


def _cka_pytorch(a: nn.Module, b: nn.Module, layers: Sequence[str], loader: DataLoader) -> Found:
    from cka_pytorch.cka import CKACalculator

    calculator = CKACalculator(a, b, list(layers), list(layers), verbose=False)
    # the default repeats the same computation 10 times
    values = calculator.calculate_cka_matrix(loader, num_epochs=1)
    return Found(
        values, calculator.hook_manager1.module_names, calculator.hook_manager2.module_names
    )


def _ckatorch(a: nn.Module, b: nn.Module, layers: Sequence[str], loader: DataLoader) -> Found:
    from ckatorch import CKA

    cka = CKA(a, b, list(layers), first_name="a", second_name="b")
    values = cka(loader, epochs=1, f_extract=lambda batch: {"x": batch[0]}, f_args={})
    return Found(values, cka.first_model_info.layers, cka.second_model_info.layers)


@dataclass(frozen=True)
class Peer:
    """A package that computes CKA of layers of one network with the same layers of another."""

    name: str
    module: str
    compare: Compare

    @property
    def installed(self) -> bool:
        return importlib.util.find_spec(self.module) is not None

    def copies(self, *networks: nn.Module) -> list[nn.Module]:
        """Networks that a call may keep hooks on."""
        return [copy.deepcopy(network).requires_grad_(True) for network in networks]

    def __call__(
        self, a: nn.Module, b: nn.Module, layers: Sequence[str], loader: DataLoader
    ) -> Tensor:
        """CKA of the layers as asked for, found by the peer's labels.

        Raises:
            DroppedError: a layer has no row.
        """
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):  # progress bars
            warnings.simplefilter("ignore")
            found = self.compare(a, b, layers, loader)
        missing = [name for name in layers if name not in found.rows or name not in found.columns]
        if missing:
            raise DroppedError(", ".join(missing))
        rows, columns = (
            [labels.index(name) for name in layers] for labels in (found.rows, found.columns)
        )
        return found.values.detach()[rows][:, columns]


PEERS = (
    Peer("torch-cka", "torch_cka", _torch_cka),
    Peer("pytorch-cka", "cka", _pytorch_cka),
    Peer("cka-pytorch", "cka_pytorch", _cka_pytorch),
    Peer("ckatorch", "ckatorch", _ckatorch),
)


def named(names: Sequence[str]) -> list[Peer]:
    """The peers of these names that are installed; the others are said."""
    chosen = [peer for peer in PEERS if peer.name in names]
    for peer in chosen:
        if not peer.installed:
            print(f"{peer.name}: not installed", file=sys.stderr)
    chosen = [peer for peer in chosen if peer.installed]
    for peer in chosen:
        importlib.import_module(peer.module)  # which is not to be timed
    return chosen


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table that reads the same in a terminal and in Markdown."""
    widths = [max(len(cell) for cell in column) for column in zip(header, *rows, strict=True)]
    lines = [header, ["-" * width for width in widths], *rows]
    return "\n".join(
        "| "
        + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        + " |"
        for line in lines
    )


def threads(count: int | None) -> int:
    """Set torch's threads, to those of the machine unless given; returns how many."""
    torch.set_num_threads(count or os.cpu_count() or 1)
    return torch.get_num_threads()
