"""Checkpoint files of every layout: recognised from keys and shapes, loaded strictly, equal to what
they were written from."""

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from checkpoints import (
    DECODER,
    EXAMPLES,
    HEADS,
    RESNET,
    VIT,
    Example,
    count,
    head,
    hugging,
    theirs,
    under,
    vit,
)
from sslens import zoo
from sslens.errors import InputError
from sslens.find import names, plugin
from sslens.models.vit import ViTArch
from sslens.store import Store
from sslens.study import Study, planning
from sslens.zoo import files
from sslens.zoo.arrays import Array
from sslens.zoo.parts import is_head
from sslens.zoo.recognise import find_layout, recognise
from sslens.zoo.shapes import CNNShape, ViTShape

CASES = [(layout, name) for layout, make in EXAMPLES.items() for name in make()]


def example(layout: str, name: str) -> Example:
    return EXAMPLES[layout]()[name]


# ------------------------------------------------------------------------------------------------
# the contract


@pytest.mark.parametrize("layout", names("zoo/layouts"))
def test_a_layout_says_what_it_is_and_has_examples(layout: str) -> None:
    module = plugin("zoo/layouts", layout)
    assert isinstance(module.TITLE, str)
    assert module.__doc__
    assert module.claim.__doc__
    assert EXAMPLES[layout]()


@pytest.mark.parametrize(("layout", "name"), CASES)
def test_a_file_is_recognised_and_every_key_accounted_for(
    layout: str, name: str, tmp_path: Path
) -> None:
    case = example(layout, name)
    contents = files.read_contents(case.write(tmp_path))
    options = dict(case.options) if layout != "sslens" else {}
    found = recognise(contents, **options)
    assert found.layout == layout
    assert found.claim.objective == case.objective
    assert found.claim.family == case.family
    assert found.claim.tuned == case.tuned
    assert found.claim.signs
    assert len(found.account) == count(case.tree)
    assert len({(entry.state, entry.key) for entry in found.account}) == len(found.account)
    for entry in found.account:
        assert entry.key in contents.states[entry.state]
        assert (entry.into is None) == (entry.fate == "dropped")
        assert entry.into is None or entry.into in found.weights
        assert entry.reason or entry.fate in ("kept", "renamed")
    assert {entry.into for entry in found.account} - {None} == set(found.weights)
    trunk = found.claim.branches[found.branch]
    kept = [entry.key.removeprefix(trunk.prefix) for entry in found.account if entry.into]
    assert not any(is_head(re.split(r"[./]", name)[0]) for name in kept)


@pytest.mark.parametrize(("layout", "name"), CASES)
def test_the_loaded_network_is_the_one_that_was_written(
    layout: str, name: str, tmp_path: Path
) -> None:
    case = example(layout, name)
    path = case.write(tmp_path)
    model = zoo.load(path, **(case.options if layout != "sslens" else {}))
    for key, value in case.network.state_dict().items():
        assert torch.equal(model.network.state_dict()[key], value), key
    size = model.transform.crop
    image = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(5))
    expected: Any = case.network
    with torch.no_grad():
        assert torch.equal(model(image), expected.forward_features(image))
    assert model.about.objective == case.objective
    assert model.about.tuned == case.tuned if layout != "sslens" else True
    if layout == "mae":  # its classifier reads what stands before its own normalisation
        assert model.about.read_pooling == ("patch" if name == "fine-tuned" else None)
    path.unlink()  # nothing is read from it later
    assert model.digest


# ------------------------------------------------------------------------------------------- which
# network, which form


def test_the_wrong_twin_is_never_taken_unless_asked_for(tmp_path: Path) -> None:
    for layout, name in (("dino", "full"), ("moco-v3", "released"), ("msn", "released")):
        path = example(layout, name).write(tmp_path)
        found = recognise(files.read_contents(path), num_heads=4)
        assert found.branch in ("teacher", "base_encoder", "target_encoder")
        with pytest.raises(
            InputError,
            match=(
                r'has no branch "studnet": (did you mean|there are)'
                rf" .*{'student' if layout == 'dino' else 'encoder'}"
            ),
        ):
            zoo.load(path, branch="studnet", **HEADS)
    alone = example("dino", "full").tree
    torch.save({"student": alone["student"]}, tmp_path / "student.pth")
    with pytest.raises(
        InputError,
        match=r"a twin of the network that is evaluated \(student\).*\.pth@branch=student",
    ):
        zoo.load(tmp_path / "student.pth", **HEADS)
    assert zoo.load(tmp_path / "student.pth", branch="student", **HEADS).about.branch == "student"


def test_several_networks_of_a_file_are_not_chosen_between(tmp_path: Path) -> None:
    one, other = vit("learned", 1), vit("learned", 2)
    torch.save({"first": one.state_dict(), "second": other.state_dict()}, tmp_path / "a.pth")
    with pytest.raises(InputError, match=r"holds several networks \(first, second\)"):
        zoo.load(tmp_path / "a.pth", **HEADS)
    model = zoo.load(tmp_path / "a.pth", branch="second", **HEADS)
    assert torch.equal(model.network.state_dict()["cls_token"], other.state_dict()["cls_token"])
    assert model.name == "a (second)"


@pytest.mark.parametrize("average", ["state_dict_ema", "model_ema", "ema_model", "momentum"])
def test_of_a_network_and_its_average_the_average_is_taken(average: str, tmp_path: Path) -> None:
    one, other = vit("learned", 1), vit("learned", 2)
    tree = {"state_dict": one.state_dict(), average: other.state_dict()}
    torch.save(tree, tmp_path / "a.pth")
    found = recognise(files.read_contents(tmp_path / "a.pth"), **HEADS)
    assert found.branch == average
    assert np.array_equal(found.weights["cls_token"].values, other.state_dict()["cls_token"])
    assert recognise(files.read_contents(tmp_path / "a.pth"), branch="state_dict").account


def test_names_alone_do_not_make_a_file_msns(tmp_path: Path) -> None:
    twins = {
        "encoder": vit("learned", 1).state_dict(),
        "target_encoder": vit("learned", 2).state_dict(),
    }
    torch.save(twins, tmp_path / "a.pth")
    assert zoo.load(tmp_path / "a.pth", **HEADS).about.branch == "target_encoder"
    assert zoo.load(tmp_path / "a.pth", branch="encoder", **HEADS).about.objective is None


def test_position_tables_tell_mae_from_moco(tmp_path: Path) -> None:
    for positions, objective in (("mae", "mae"), ("moco-v3", "moco-v3"), ("learned", None)):
        for shift in (0.0, 0.02):  # fine-tuning moves them
            state = vit(positions).state_dict()
            state["pos_embed"] = state["pos_embed"] + shift * torch.randn(
                state["pos_embed"].shape, generator=torch.Generator().manual_seed(6)
            )
            torch.save({"model": state}, tmp_path / "a.pth")
            assert zoo.load(tmp_path / "a.pth", **HEADS).about.objective == objective


def test_transforms_are_the_authors(tmp_path: Path) -> None:
    for layout, interpolation in (
        ("mae", "bicubic"),
        ("moco-v3", "bilinear"),
        ("dino", "bicubic"),
        ("msn", "bilinear"),
    ):
        case = next(iter(EXAMPLES[layout]().values()))
        assert zoo.load(case.write(tmp_path), **HEADS).transform.interpolation == interpolation
    assert zoo.load(example("moco-v3", "ResNet").write(tmp_path)).transform.geometry == (
        256,
        224,
        "bilinear",
    )


def test_legacy_files_and_half_precision(tmp_path: Path) -> None:
    network = vit("learned")
    torch.save(
        {"model": network.state_dict()},
        tmp_path / "old.pth.tar",
        _use_new_zipfile_serialization=False,
    )
    old: Any = zoo.load(tmp_path / "old.pth.tar", **HEADS)
    assert torch.equal(
        old.network.blocks[1].attn.qkv.weight, network.state_dict()["blocks.1.attn.qkv.weight"]
    )
    torch.save(
        {name: value.half() for name, value in network.state_dict().items()}, tmp_path / "half.pt"
    )
    half = recognise(files.read_contents(tmp_path / "half.pt"), **HEADS)
    assert {value.kind for value in half.weights.values()} == {"float32"}
    assert "The weights are float16 in the file; here they are float32." in half.notes


# ------------------------------------------------------------------------------------------------
# full size


def meta(state: dict[str, Tensor], prefix: str = "") -> dict[str, Tensor]:
    return {prefix + name: value.to("meta") for name, value in state.items()}


@pytest.mark.parametrize(
    ("patch", "image", "registers", "name"),
    [
        (14, 518, 0, "timm/vit_small_patch14_dinov2"),
        (14, 518, 4, "timm/vit_small_patch14_reg4_dinov2"),
        (7, 518, 0, None),
        (14, 224, 0, None),
    ],
)
def test_networks_of_dinov2_have_timms_names(
    patch: int, image: int, registers: int, name: str | None
) -> None:
    arch = ViTArch(image, patch, 384, 12, 6)
    assert ViTShape(arch, hidden=1536, layer_scale=True, registers=registers).name == name


def full_vit(arch: str, heads: int) -> dict[str, Tensor]:
    parsed = ViTArch.parse(arch, heads)
    shape = ViTShape(parsed, hidden=4 * parsed.dim)
    return shape.empty().state_dict()


@pytest.mark.parametrize(
    ("arch", "heads", "count", "parameters"),
    [  # published numbers of parameters, less those of a classifier for 1,000 classes
        ("vit_small_patch16_224", 6, 150, 22_050_664 - 385_000),
        ("vit_base_patch16_224", 12, 150, 86_567_656 - 769_000),
        ("vit_large_patch16_224", 16, 294, 304_326_632 - 1_025_000),
        ("vit_huge_patch14_224", 16, 390, 632_045_800 - 1_281_000),
        ("vit_base_patch8_224", 12, 150, 86_576_872 - 769_000),
    ],
)
def test_full_size_vits(arch: str, heads: int, count: int, parameters: int) -> None:
    state = full_vit(arch, heads)
    assert len(state) == count
    both = meta(state, "module.base_encoder.") | meta(state, "module.momentum_encoder.")
    for states in (
        {"": state},
        {"model": meta(state) | head(*DECODER)},
        {"target_encoder": meta(state, "module.") | head("module.fc.fc1.weight")},
        {"state_dict": both},
    ):
        found = recognise(files.Contents(Path("file"), shapes_of(states)))
        assert found.parameters == parameters
        assert isinstance(found.shape, ViTShape)
        expected = 12 if "state_dict" in states and "small" in arch else heads  # MoCo-v3's
        assert found.shape.arch == ViTArch.parse(arch, expected)
        plain = ViTArch.parse(arch).heads == expected
        assert found.shape.name == (arch if plain else f"{arch}_heads{expected}")


@pytest.mark.parametrize(
    ("arch", "parameters"),
    [
        ("resnet50", 25_557_032 - 2_049_000),
        ("convnextv2_base", 88_717_800 - 1_025_000 - 2 * 1024),
        ("convnextv2_atto", 3_708_400 - 321_000 - 2 * 320),
    ],
)
def test_full_size_cnns(arch: str, parameters: int) -> None:
    shape = CNNShape(zoo_arch(arch))
    state = shape.empty().state_dict()
    layouts: list[dict[str, dict[str, Tensor]]] = [{"": state}]
    if "resnet" in arch:
        layouts.append({"state_dict": meta(state, "module.base_encoder.")})
        layouts.append({"teacher": meta(state, "module.backbone.")})
    else:
        layouts.append({"model": theirs(state)})
    for states in layouts:
        found = recognise(files.Contents(Path("file"), shapes_of(states)))
        assert found.parameters == parameters
        assert found.shape.name == arch


def shapes_of(states: Mapping[str, Mapping[str, Tensor]]) -> dict[str, dict[str, Array]]:
    """Arrays of these shapes, of one zero each."""
    zero = np.zeros((), np.float32)
    return {
        state: {
            name: Array(np.broadcast_to(zero, tuple(value.shape)), "float32")
            for name, value in weights.items()
        }
        for state, weights in states.items()
    }


def zoo_arch(name: str) -> Any:
    from sslens.models.cnn import CNNArch

    return CNNArch.parse(name)


# ------------------------------------------------------------------------------------------------
# DINOv2


@pytest.mark.parametrize("naming", ["theirs", "Hugging Face"])
@pytest.mark.parametrize("gated", [False, True])
def test_registers_come_in_after_positions(naming: str, gated: bool, tmp_path: Path) -> None:
    shape = ViTShape(VIT, hidden=96, gated=gated, layer_scale=True)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        state = {
            name: 0.1 * torch.randn(value.shape)
            for name, value in shape.empty().state_dict().items()
        }
    registers = torch.randn(1, 3, VIT.dim, generator=torch.Generator().manual_seed(4))
    if naming == "theirs":
        written = {
            name.replace("mlp.fc1", "mlp.w12").replace("mlp.fc2", "mlp.w3") if gated else name: v
            for name, v in state.items()
        }
        written |= {"register_tokens": registers, "mask_token": torch.zeros(1, VIT.dim)}
    else:
        renamed = {"mlp.fc1": "mlp.weights_in", "mlp.fc2": "mlp.weights_out"} if gated else {}
        kept = {
            n: v
            for n, v in state.items()
            if ".ls" not in n and ".norm" not in n and ".mlp." not in n
        }
        written = hugging(kept)
        for name, value in state.items():
            if name not in kept:
                for ours, named in {
                    **renamed,
                    "ls1.gamma": "layer_scale1.lambda1",
                    "ls2.gamma": "layer_scale2.lambda1",
                }.items():
                    name = name.replace(ours, named)
                written[name.replace("blocks.", "encoder.layer.")] = value
        written |= {
            "embeddings.register_tokens": registers,
            "embeddings.mask_token": torch.zeros(1, VIT.dim),
        }
    torch.save(written, tmp_path / "a.pth")
    model = zoo.load(tmp_path / "a.pth", **HEADS)
    assert model.about.objective == "dinov2"
    assert model.prefix == 4
    image = torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(5))
    network: Any = model.network
    tokens = network.patch_embed(image)
    tokens = torch.cat([state["cls_token"].expand(2, -1, -1), tokens], dim=1) + state["pos_embed"]
    tokens = torch.cat([tokens[:, :1], registers.expand(2, -1, -1), tokens[:, 1:]], dim=1)
    torch.testing.assert_close(
        model(image), network.norm(network.blocks(tokens)), rtol=0, atol=1e-6
    )
    for name, value in state.items():
        if ".mlp." in name or ".ls" in name:
            assert torch.equal(network.state_dict()[name], value)


# ------------------------------------------------------------------------------------------------
# bad files


def refused(tree: Any, tmp_path: Path, **options: Any) -> str:
    torch.save(tree, tmp_path / "file.pth")
    with pytest.raises(InputError) as caught:
        zoo.load(tmp_path / "file.pth", **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_keys_of_two_methods_are_refused(tmp_path: Path) -> None:
    mae, moco = (
        example("mae", "full").tree["model"],
        example("moco-v3", "released").tree["state_dict"],
    )
    said = refused({"model": mae | moco}, tmp_path)
    assert (
        "holds keys of two methods, MAE's (it has MAE's decoder (decoder_embed.weight)) and"
        " MoCo-v3's" in said
    )
    dino = under("backbone.", example("dino", "full").tree["teacher"])
    assert "no file of this layout (MoCo-v3) has, the first backbone.backbone.cls_token" in refused(
        {"state_dict": moco | dino}, tmp_path
    )
    said = refused({"model": mae | head("prototypes.weight")}, tmp_path, **HEADS)
    assert "that no network read here has, the first prototypes.weight" in said


def test_two_layers_beside_a_backbone_are_no_classifier(tmp_path: Path) -> None:
    """One linear layer is a classifier whatever its name; of two none is told to be it."""
    tree = example("lightning", "supervised, with to_labels").tree
    weights = tree["state_dict"] | {"to_colours.weight": torch.ones(3, 64)}
    torch.save({**tree, "state_dict": weights}, tmp_path / "a.pth")
    found = recognise(files.read_contents(tmp_path / "a.pth"), **HEADS)
    assert found.left_out == {"to_labels": 2, "to_colours": 1}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"norm.bias": None},
            "in 1 of 30 tensors; the first is norm.bias: expected (64,), found none",
        ),
        ({"norm.bias": torch.zeros(65)}, "the first is norm.bias: expected (64,), found (65,)"),
        (
            {"blocks.7.attn.proj.bias": torch.zeros(64)},
            "the first is blocks.7.attn.proj.bias: expected none, found (64,)",
        ),
        ({"blocks.0.mlp.fc2.weight": None}, "whose first block has no blocks.0.mlp.fc2.weight"),
        ({"pos_embed": None}, "a ViT without a position table"),
        (
            {"pos_embed": torch.zeros(1, 13, 64)},
            "positions for 13 tokens, 1 of them before the patches: the patches are no square",
        ),
        (
            {"patch_embed.proj.weight": torch.zeros(64, 1, 16, 16)},
            "patches of shape (64, 1, 16, 16): expected [width, 3, P, P]",
        ),
        ({"blocks.0.attn.rel_pos_h": torch.zeros(3)}, "a ViT with relative positions"),
        (
            {"norm_pre.weight": torch.zeros(64)},
            "as CLIP's, whose activation function no weight tells",
        ),
        (
            {"blocks.1.norm2.bias": torch.full((64,), float("nan"))},
            "the first blocks.1.norm2.bias (64 of 64)",
        ),
        (
            {"blocks.1.norm2.bias": torch.tensor([float("inf")] + [0.0] * 63)},
            "has 1 tensor with values that are no finite",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    change: dict[str, Tensor | None], said: str, tmp_path: Path
) -> None:
    state = {**vit("learned").state_dict(), **change}
    assert said in refused(
        {name: value for name, value in state.items() if value is not None}, tmp_path, **HEADS
    )


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        (
            {
                "model": {
                    "backbone.net.pos_embed": torch.zeros(2),
                    "roi_heads.box.weight": torch.zeros(2),
                }
            },
            "is a detection or",
        ),
        (
            {"optimizer": {"state": {0: {"m": torch.zeros(2)}}, "param_groups": []}, "epoch": 3},
            "state of an optimiser and no",
        ),
        (
            {"state": {0: {"m": torch.zeros(2)}}, "param_groups": []},
            "holds the state of an optimiser and no network",
        ),
        (
            {"state_dict": {"module.linear.weight": torch.zeros(2, 2)}},
            "may be a linear probe's classifier alone",
        ),
        (
            {f"layers.{i}.weight": torch.zeros(2) for i in range(9)},
            "holds no ViT, ResNet or ConvNeXt under names",
        ),
        ({"epoch": 3}, "holds no tensors by name (it has epoch)"),
        (torch.zeros(3), "holds a Tensor, not the named weights"),
        ([torch.zeros(3)], "holds a list, not the named weights"),
    ],
)
def test_files_without_a_backbone_are_refused(tree: Any, said: str, tmp_path: Path) -> None:
    assert said in refused(tree, tmp_path)


def test_networks_of_other_kinds_are_refused_by_what_they_are(tmp_path: Path) -> None:
    resnet = RESNET.build(0).state_dict()
    assert "convolution is 3 px wide" in refused(
        {**resnet, "conv1.weight": torch.zeros(64, 3, 3, 3)}, tmp_path
    )
    assert "grouped convolutions" in refused(
        {**resnet, "layer1.0.conv2.weight": torch.zeros(8, 4, 3, 3)}, tmp_path
    )
    stem = {
        name: value
        for name, value in vit().state_dict().items()
        if not name.startswith("patch_embed")
    }
    assert "cuts its patches by several convolutions" in refused(
        stem | head("patch_embed.proj.0.weight"), tmp_path
    )
    assert "has no heads: leave num_heads out" in refused(resnet, tmp_path, num_heads=4)
    assert "cannot be shared by 5 heads" in refused(vit().state_dict(), tmp_path, num_heads=5)


# ------------------------------------------------------------------------------------------------
# heads


def test_heads_that_nobody_said_are_warned_of(tmp_path: Path) -> None:
    path = example("mae", "encoder").write(tmp_path)
    with pytest.warns(
        UserWarning,
        match=r"is read with 1 head, guessed: give @heads=NUMBER .* \(for a width of 64\)",
    ):
        model: Any = zoo.load(path)
    assert model.network.blocks[0].attn.num_heads == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        chosen: Any = zoo.load(path, num_heads=2)
        zoo.load(example("fcmae", "dense").write(tmp_path))
    assert chosen.network.blocks[0].attn.num_heads == 2
    assert chosen.digest != model.digest


def test_heads_of_mocos_small_vit_are_twelve(tmp_path: Path) -> None:
    arch = ViTArch(32, 16, 384, 1, 12)
    state = under("module.base_encoder.", arch.build(0).state_dict())
    torch.save({"state_dict": state}, tmp_path / "a.pth")
    with pytest.warns(
        UserWarning, match=r"with 12 heads, guessed: .* \(as MoCo-v3's of width 384 have\)"
    ):
        model: Any = zoo.load(tmp_path / "a.pth")
    assert model.network.blocks[0].attn.num_heads == 12
    with pytest.warns(
        UserWarning,
        match="with 6 heads of attention as you asked, but MoCo-v3's of width 384 have 12",
    ):
        zoo.load(tmp_path / "a.pth", num_heads=6)


def test_a_width_without_whole_heads_wants_them_said(tmp_path: Path) -> None:
    arch = ViTArch(32, 16, 96, 1, 3)
    assert "width 96, which is no multiple of 64" in refused(arch.build(0).state_dict(), tmp_path)
    assert zoo.load(tmp_path / "file.pth", num_heads=3).prefix == 1


def test_a_layout_yields_to_one_that_knows_more(tmp_path: Path) -> None:
    path = example("mae", "full").write(tmp_path)
    contents = files.read_contents(path)
    assert plugin("zoo/layouts", "timm").claim(contents) is not None
    assert find_layout(contents)[0] == "mae"


def test_unknown_heads_are_refused_before_images_are_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(ViTArch(32, 16, 96, 1, 3).build(0).state_dict(), tmp_path / "own.pth")
    monkeypatch.setattr(planning, "open_study_images", lambda *_, **__: pytest.fail("opened"))
    asked = Study(models=str(tmp_path / "own.pth"), images="scenes:0:8")
    with pytest.raises(InputError, match=r"own\.pth@heads=N, or num_heads"):
        planning.prepare(asked, Store(tmp_path / "store"))
