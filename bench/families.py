"""Does every family of timm's have taps at every block? Each tap beside a hook that is set
by hand, on random weights, then `compare` and `knn`.

    python bench/families.py                 # all, the smallest of each family that names tell
    python bench/families.py xcit swin_transformer --quick
    python bench/families.py --rotate 10     # those of today; exit status 1 where one fails

A family is a module of timm's. `--quick` leaves out `compare` and `knn`. Families of large networks
alone are run as smaller ones of their own classes (`SMALLER`), as they are registered with
`--whole`.
"""

import argparse
import contextlib
import datetime
import io
import re
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image
from torch import Tensor, nn

import sslens
from sslens.cli import main as sslens_main
from sslens.models.outputs import take_part

#: words in names of architectures, the smallest first
SIZES = (
    *("zepto", "atto", "femto", "pico", "nano", "xxs", "xs", "_t0", "_s0", "tiny", "_t", "small"),
    *("_s", "mini", "lite", "26", "18", "b0", "a0", "n"),
)
#: architectures of which names do not tell the size
CHOSEN = {
    "densenet": "densenet121",
    "resnet": "resnet10t",
    "resnetv2": "resnetv2_50",
    "senet": "legacy_seresnet18",
    "dla": "dla34",
    "levit": "levit_128s",
}


@dataclass(frozen=True)
class Smaller:
    """A smaller network of an architecture that takes minutes or many GB at its own size.

    Attributes:
        base: timm's name of the architecture.
        side: pixels of the images.
        settings: arguments of timm's constructor that differ.
    """

    base: str
    side: int
    settings: Mapping[str, Any]

    def build(self, pretrained: bool = False, **given: Any) -> nn.Module:
        """The network, as timm asks a registered function for it."""
        overlay = {"input_size": (3, self.side, self.side)}
        given = {key: value for key, value in given.items() if not key.startswith("pretrained")}
        made: nn.Module = timm.create_model(
            self.base, pretrained_cfg_overlay=overlay, **self.settings, **given
        )
        return made


_SMALL = {"depth": 3, "embed_dim": 64, "num_heads": 2}
#: families of large networks alone
SMALLER = {
    "deepseek_vit": Smaller("deepseek_vit_412m_enc", 126, _SMALL | {"out_features": 32}),
    "gemma4_vit": Smaller(
        "gemma4_vit_167m_enc", 96, _SMALL | {"head_dim": 32, "intermediate_size": 128}
    ),
    "hieradet_sam2": Smaller(
        "sam2_hiera_tiny",
        224,
        {"embed_dim": 32, "stages": (1, 2, 3, 2), "global_att_blocks": (4, 5)},
    ),
    "mobilenetv5": Smaller("mobilenetv5_300m", 256, {"channel_multiplier": 0.125}),
    "qwen3_vit": Smaller("qwen3_vit_88m_enc", 96, _SMALL | {"out_features": 32}),
    "vision_transformer_sam": Smaller(
        "samvit_base_patch16", 224, _SMALL | {"img_size": 224, "global_attn_indexes": (1,)}
    ),
}


def register_smaller(family: str) -> str:
    """Register the smaller network of a family with timm; returns the name."""

    def build(pretrained: bool = False, **given: Any) -> nn.Module:
        return SMALLER[family].build(pretrained, **given)

    build.__module__ = f"timm.models.{family}"
    build.__name__ = f"{SMALLER[family].base}_smaller"
    if not timm.is_model(build.__name__):
        timm.models.register_model(build)
    return build.__name__


def list_families(*, whole: bool = False) -> dict[str, str]:
    """The smallest architecture of each module of timm's, by the module.

    Args:
        whole: whether a family of large networks alone has an architecture as it is registered.
    """
    families = {}
    for module in sorted(timm.list_modules()):
        every = timm.list_models(module=module)
        names = [name for name in every if not name.startswith("test_")] or every
        families[module] = CHOSEN.get(module) or min(names, key=_rank)
    for module, smaller in SMALLER.items():
        families[module] = smaller.base if whole else register_smaller(module)
    return families


def _rank(name: str) -> tuple[int, int]:
    places = [i for i, word in enumerate(SIZES) if word in name]
    return (places[0] if places else len(SIZES), len(name))


def rotate(count: int, day: datetime.date) -> list[str]:
    """The families whose turn it is on a day."""
    families = list(list_families())
    start = day.toordinal() * count % len(families)
    return [families[(start + i) % len(families)] for i in range(count)]


def compare_with_hooks(architecture: str) -> int:
    """Read an architecture at all taps and by hooks set by hand; returns the number of blocks.

    Raises:
        AssertionError: they differ, or a block has no tap.
    """
    model = sslens.load(f"random:timm/{architecture}")
    side = model.transform.crop
    images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    kept: dict[str, Tensor] = {}
    handles = []
    for tap in model.taps.values():
        part = model.output_of(tap).part

        def keep(_m: nn.Module, _a: object, out: object, name: str = tap.name, part=part) -> None:  # type: ignore[no-untyped-def]
            assert name not in kept, f"{name} runs twice"
            kept[name] = take_part(out, part).clone()

        handles.append(model.network.get_submodule(tap.name).register_forward_hook(keep))
    with torch.inference_mode():
        getattr(model.network, "forward_features", model.network)(images)
    for handle in handles:
        handle.remove()
    assert list(kept) == list(model.taps), "taps are not in the order in which they run"
    found = sslens.activations(model, images)
    for name, value in found.items():
        assert torch.equal(value, kept[name]), f"{name} differs"
        assert len(value) == 2, f"{name} has no row for each image"
    blocks = [tap for tap in model.taps.values() if tap.kind == "block"]
    assert len(blocks) >= 2, f"{len(blocks)} blocks"
    stems = [tap.name for tap in model.taps.values() if tap.kind == "stem"]
    _require_siblings(model.network, [tap.name for tap in blocks], stems)
    return len(blocks)


def _require_siblings(network: nn.Module, blocks: Sequence[str], stems: Sequence[str]) -> None:
    """Every module of a block's class that stands beside blocks in a list is a block too, but for
    the stem."""
    kinds = {type(network.get_submodule(name)) for name in blocks}
    for name in blocks:
        parent, _, last = name.rpartition(".")
        if not last.isdecimal():
            continue
        for other, module in network.get_submodule(parent).named_children():
            if type(module) in kinds and re.fullmatch(r"\d+", other):
                path = f"{parent}.{other}" if parent else other
                assert path in blocks or path in stems, f"{path} has no tap"


def run_commands(architecture: str, folder: Path) -> None:
    """Run `compare` and `knn` on eight images of two classes."""
    photos = folder / "photos"
    if not photos.is_dir():
        for i in range(8):
            place = photos / "ab"[i % 2]
            place.mkdir(parents=True, exist_ok=True)
            noise = np.random.default_rng(i).integers(0, 256, (64, 64, 3), np.uint8)
            Image.fromarray(noise).save(place / f"{i}.png")
    source = f"random:timm/{architecture}"
    for line in (
        ["compare", source, "--analyses", "cka-blocks", "--batch", "4", "--tokens", "all"],
        ["knn", source, "--k", "1"],
    ):
        out = folder / f"{line[0]}-{architecture}"
        said = io.StringIO()
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            status = sslens_main(
                [*line, "--images", str(photos), "--no-controls", "--out", str(out)]
            )
        assert status == 0, f"{line[0]}: {said.getvalue().splitlines()[-1]}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line a family, and how many are right; returns 0 where all are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("families", nargs="*")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rotate", type=int)
    parser.add_argument("--whole", action="store_true")
    options = parser.parse_args(arguments)
    families = list_families(whole=options.whole)
    chosen = options.families or list(families)
    if options.rotate:
        chosen = rotate(options.rotate, datetime.date.today())
    right = 0
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for family in chosen:
            start = time.process_time()
            try:
                blocks = compare_with_hooks(families[family])
                if not options.quick:
                    run_commands(families[family], Path(folder))
                said, right = f"{blocks} blocks", right + 1
            except Exception as error:
                said = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
            took = time.process_time() - start
            print(f"{family:26} {families[family]:38} {said} ({took:.1f} s)", flush=True)
    print(f"{right} of {len(chosen)} families")
    return 0 if right == len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main())
