"""Is CKA right where it is hard? Ours and others' against the equation in float64, on networks with
known features.

    python bench/conformance.py              # seconds; --markdown for the table alone
    uv run --with torch-cka --with pytorch-cka --with cka-pytorch --with ckatorch python
    bench/conformance.py

A cell is the largest absolute error of CKA against the equation (Shekhar et al., 2023, eq. 2 and 3)
on the minibatches that the package itself has drawn and under the labels that it returns; or "nan";
or "gives", the value where the equation has none (0/0, or a minibatch of 2); or what it raises; or
"silently dropped", a layer that is arguments for and does not come. What is wrong is bold. ckatorch
computes something else, a Gram over the tokens of an image, and keeps the last minibatch only.
"""

import argparse
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler, TensorDataset

import peers
from sslens.capture.passes import grams
from sslens.data.images import ImageSet, from_arrays
from sslens.measures.cka import minibatch_cka
from sslens.models.about import About
from sslens.models.backbone import Backbone
from sslens.models.taps import Tap
from sslens.plan import Plan

IMAGES, TOKENS, WIDTH, BATCH = 128, 197, 192, 32  # as a block of ViT-Tiny
INNER, OUTER = "block.inner", "block"
OK = 1e-4


def hsic(k: Tensor, l: Tensor) -> Tensor:  # noqa: E741
    """HSIC_1 as eq. 3 has it, term by term."""
    n = len(k)
    k, l = (gram - gram.diagonal().diag() for gram in (k, l))  # noqa: E741
    total = (k * l).sum() + k.sum() * l.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * (k @ l).sum()
    return total / (n * (n - 3))


def equation(x: Tensor, y: Tensor, minibatches: Sequence[Sequence[int]]) -> float:
    """Minibatch CKA (eq. 2) in float64, of features about their mean, to which HSIC_1 is
    invariant."""
    sums = torch.zeros(3, dtype=torch.float64)
    for rows in minibatches:
        if len(rows) < 4:
            return float("nan")
        parts = [part[list(rows)].flatten(1).double() for part in (x, y)]
        k, l = (c @ c.T for c in (part - part.mean(0) for part in parts))  # noqa: E741
        sums += torch.stack([hsic(k, l), hsic(k, k), hsic(l, l)])
    return float(sums[0] / (sums[1] * sums[2]).sqrt())


class Block(nn.Module):
    """Puts out its second argument, after its child put out the first."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Identity()

    def forward(self, inner: Tensor, outer: Tensor) -> Tensor:
        self.inner(inner)
        return outer


class Emitter(nn.Module):
    """A network whose layers put out given features of the images, whose rows it is given as
    pixels."""

    def __init__(self, inner: Tensor, outer: Tensor) -> None:
        super().__init__()
        self.block = Block()
        self.weight = nn.Parameter(torch.zeros(1))
        self.register_buffer("features", torch.stack([inner, outer]))

    def forward(self, x: Tensor) -> Tensor:
        inner, outer = self.features[:, x.flatten(1)[:, 0].long()]
        return self.block(inner, outer)

    forward_features = forward


class RowTransform:
    """From an image of one pixel to the row that its red says."""

    def __call__(self, image: Image.Image) -> Tensor:
        return torch.tensor(np.asarray(image)[:1, :1, :1], dtype=torch.float32)

    def spec(self) -> dict[str, Any]:
        return {"rows": True}


class Batches(Sampler[list[int]]):
    """Minibatches in order, or shuffled anew each time; `drawn` keeps what was drawn."""

    def __init__(self, count: int, shuffled: bool) -> None:
        self.count, self.shuffled = count, shuffled
        self.drawn: list[list[list[int]]] = []
        self.generator = torch.Generator().manual_seed(0)

    def __len__(self) -> int:
        return -(-self.count // BATCH)

    def __iter__(self) -> Iterator[list[int]]:
        order = (
            torch.randperm(self.count, generator=self.generator)
            if self.shuffled
            else torch.arange(self.count)
        )
        self.drawn.append([part.tolist() for part in order.split(BATCH)])
        yield from self.drawn[-1]


@dataclass(frozen=True)
class Case:
    """Features of two networks, [image token dim] for the child and the block of each, and what is
    arguments."""

    name: str
    a: tuple[Tensor, Tensor]
    b: tuple[Tensor, Tensor]
    layers: tuple[str, ...] = (INNER,)
    shuffled: bool = False
    undefined: bool = False

    def expected(self, minibatches: Sequence[Sequence[int]]) -> Tensor:
        index = {INNER: 0, OUTER: 1}
        arguments = [index[name] for name in self.layers if name in index]
        return torch.tensor(
            [[equation(self.a[i], self.b[j], minibatches) for j in arguments] for i in arguments]
        )

    def networks(self) -> tuple[Emitter, Emitter]:
        return Emitter(*self.a).eval(), Emitter(*self.b).eval()


def cases() -> list[Case]:
    def related(count: int = IMAGES, seed: int = 0) -> list[Tensor]:
        """Four features that share a latent of eight dimensions to different degrees."""
        generator = torch.Generator().manual_seed(seed)
        latent = torch.randn(count, 8, generator=generator)
        maps = torch.randn(4, 8, TOKENS * WIDTH, generator=generator)
        noise = torch.randn(4, count, TOKENS * WIDTH, generator=generator)
        share = torch.tensor([0.05, 0.1, 0.07, 0.04])[:, None, None]
        return list((share * (latent @ maps) + noise).unflatten(2, (TOKENS, WIDTH)))

    def alone(name: str, x: Tensor, y: Tensor, **more: Any) -> Case:
        return Case(name, (x, x), (y, y), **more)

    x, x_outer, y, y_outer = related()
    generator = torch.Generator().manual_seed(3)
    noise = torch.randn(2, IMAGES, TOKENS, WIDTH, generator=generator)
    short, _, short_other, _ = related(98)
    shorter, _, shorter_other, _ = related(101)
    return [
        alone("plain", x, y),
        alone("common offset of 30", x + 30, y + 30),
        alone("scale 0.01", x * 1e-2, y * 1e-2),
        alone("scale 1e-6", x * 1e-6, y * 1e-6),
        alone("independent features", noise[0], noise[1]),
        alone("a constant layer (0/0)", x, torch.full_like(y, 0.7), undefined=True),
        alone("last minibatch of 5", shorter, shorter_other),
        alone("last minibatch of 2", short, short_other),
        alone("shuffled loader", x, y, shuffled=True),
        Case("a block with its child", (x, x_outer), (y, y_outer), (OUTER, INNER)),
        alone("a misspelt layer", x, y, layers=(INNER, "block.iner")),
    ]


def ours(case: Case) -> tuple[Tensor, Tensor]:
    """What `sslens.grams` and `minibatch_cka` say, and what the equation says for the same
    minibatches."""
    count = len(case.a[0])
    images = from_arrays(np.arange(count, dtype=np.uint8)[:, None, None])
    taps = [Tap(INNER, "norm1", 0.0), Tap(OUTER, "block", 1.0)]
    other: ImageSet = images.take(torch.randperm(count).numpy()) if case.shuffled else images
    artefacts = []
    for network, seen in zip(case.networks(), (images, other), strict=True):
        model = Backbone(
            network,
            name="emitter",
            source="emitter",
            taps=taps,
            transform=RowTransform(),
            prefix=None,
            about=About(),
        )
        artefacts.append(grams(model, seen, taps=case.layers))
    labels = [tap.name for tap in artefacts[0].taps]
    order = [labels.index(name) for name in case.layers]
    minibatches = [[int(name) for name in ids] for ids in Plan.draw(images.ids).minibatches]
    return torch.from_numpy(minibatch_cka(*artefacts))[order][:, order], case.expected(minibatches)


def theirs(peer: peers.Peer, case: Case) -> tuple[Tensor, Tensor]:
    batches = Batches(len(case.a[0]), case.shuffled)
    rows = torch.arange(batches.count, dtype=torch.float32)[:, None, None, None]
    loader = DataLoader(TensorDataset(rows, torch.zeros(batches.count)), batch_sampler=batches)
    values = peer(*peer.copies(*case.networks()), case.layers, loader)
    return values, case.expected(batches.drawn[0])


def cell(work: Callable[[Case], tuple[Tensor, Tensor]], case: Case) -> str:
    try:
        values, expected = work(case)
    except peers.DroppedError:
        return "**silently dropped**"
    except Exception as error:
        return (
            f"raises {type(error).__name__}: {textwrap.shorten(str(error), 72, placeholder=' …')}"
        )
    if values.isnan().any():
        return "nan" if case.undefined else "**nan**"
    if expected.isnan().any():
        return f"**gives {float(values.max()):.2g}**"
    error = float((values - expected).abs().max())
    return f"{error:.0e}" if error < OK else f"**{error:.2g}**"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--markdown", action="store_true", help="the table alone")
    parser.add_argument("--peers", nargs="*", default=[peer.name for peer in peers.PEERS])
    arguments = parser.parse_args()
    chosen = peers.named(arguments.peers)
    columns: list[Callable[[Case], tuple[Tensor, Tensor]]] = [ours]
    columns += [lambda case, peer=peer: theirs(peer, case) for peer in chosen]
    table = [[case.name, *(cell(work, case) for work in columns)] for case in cases()]
    if not arguments.markdown:
        print(
            f"{IMAGES} images of {TOKENS} × {WIDTH} features in minibatches of {BATCH}; errors over"
            f" {OK} in bold\n"
        )
    print(
        peers.markdown(["largest error of CKA", "sslens", *(peer.name for peer in chosen)], table)
    )


if __name__ == "__main__":
    main()
