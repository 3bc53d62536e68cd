"""What changed between two checkpoints: names, shapes, types, and how far the weights went."""

import copy
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import sslens
from given import Given, compute, make_models, write
from sslens import cli
from sslens.capture import Features
from sslens.comparisons.activations import ActivationPair, measure_pairs
from sslens.comparisons.classifiers import find_classifier
from sslens.comparisons.weight_changes import (
    CHUNK,
    ROUNDED,
    join_changes,
    measure_change,
    sort_by_computation,
)
from sslens.errors import InputError
from sslens.find import plugin
from sslens.models.about import About
from sslens.models.backbone import Backbone
from sslens.models.vit import ViTArch
from sslens.paths.path import measure_path
from sslens.table import Results, Table
from sslens.zoo.arrays import Array
from sslens.zoo.files import convert_to_array
from sslens.zoo.quantised import dequantise
from sslens.zoo.weights import NamedTensor, Weights, read_weights

ARCH = ViTArch.parse("vit_nano_patch8_32")


def array(values: np.ndarray) -> Array:
    return Array(values, str(values.dtype))


def weights(name: str, **values: np.ndarray) -> Weights:
    tensors = {
        key.replace("_0_", "s.0."): NamedTensor(array(value), str(value.dtype), (key,))
        for key, value in values.items()
    }
    return Weights(name, name, About(), tensors)


def compare(*given: Weights) -> tuple[Mapping[str, pd.DataFrame], tuple[str, ...]]:
    """The tables of the analysis and its sentences."""
    names = [one.name for one in given]
    models = make_models(names, (), {name: {} for name in names})
    found = compute("weights-changed", Given(models, {"weights": {w.name: w for w in given}}))
    return {name: found[name] for name in found}, write("weights-changed", found)


# ------------------------------------------------------------------------------------------------
# sums, against torch in float64 and by hand


def test_sums_are_those_of_whole_tensors() -> None:
    """Over several chunks, with the last one shorter."""
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 3, CHUNK // 2 + 7, generator=generator)
    b[0] = a[0]
    change = measure_change(convert_to_array(a), convert_to_array(b))
    x, y = a.double().flatten(), b.double().flatten()
    cosine = torch.nn.functional.cosine_similarity(x, y, dim=0).item()
    assert change.numbers == a.numel()
    assert change.equal == a.shape[1]
    assert change.relative == pytest.approx(((y - x).norm() / x.norm()).item(), rel=1e-12)
    assert change.cosine == pytest.approx(cosine, rel=1e-12)
    assert change.angle == pytest.approx(np.degrees(np.arccos(cosine)), rel=1e-9)
    assert change.largest == (y - x).abs().max().item()
    assert change.stretch == pytest.approx((((y - x) @ x) / (x @ x)).item(), rel=1e-9)
    assert change.state == "changed"


def test_a_small_angle_keeps_its_digits() -> None:
    """Across (1, 0) by 1e-9 is an angle of 1e-9 radians, of which the cosine is 1."""
    change = measure_change(array(np.array([1.0, 0.0])), array(np.array([1.0, 1e-9])))
    assert np.radians(change.angle) == pytest.approx(1e-9, rel=1e-12)
    assert change.cosine == 1.0


def test_weights_that_were_stretched_or_turned() -> None:
    a = array(np.array([3.0, 4.0]))
    twice = measure_change(a, array(np.array([6.0, 8.0])))
    assert (twice.relative, twice.stretch, twice.angle) == (1.0, 1.0, 0.0)
    turned = measure_change(a, array(np.array([-4.0, 3.0])))
    assert turned.angle == pytest.approx(90.0)
    opposite = measure_change(a, array(np.array([-3.0, -4.0])))
    assert opposite.angle == pytest.approx(180.0)


@pytest.mark.parametrize("dtype", ROUNDED)
def test_rounding_is_told_from_a_change(dtype: str) -> None:
    a = torch.randn(CHUNK + 5, generator=torch.Generator().manual_seed(1)) * 0.02
    half = a.to(getattr(torch, dtype))
    stored = measure_change(convert_to_array(a), convert_to_array(half))
    assert stored.state == f"equal in {dtype}"
    assert 0 < stored.relative < 2.0 ** (-10 if dtype == "float16" else -7)
    half[-1] *= 1.01  # one number of the last chunk
    assert measure_change(convert_to_array(a), convert_to_array(half)).state == "changed"


def test_numbers_that_are_not_finite_are_counted() -> None:
    a = np.ones(5, np.float32)
    b = a.copy()
    b[:2] = np.nan, np.inf
    change = measure_change(array(a), array(b))
    assert (change.state, change.broken, change.equal) == ("not finite", 2, 3)
    assert np.isnan(change.columns()["relative"])
    assert measure_change(array(b), array(b)).broken == 2
    assert join_changes([measure_change(array(a), array(a)), change]).state == "not finite"


def test_tensors_are_in_the_order_of_computation() -> None:
    network = torch.nn.ModuleDict({"net": ARCH.build(0)}).net
    kinds = ("pos_embed", "cls_token", "patch_embed")
    names = sort_by_computation(network.state_dict())
    assert all(name.startswith(kinds) for name in names[:4])
    assert names[4:10] == [
        f"blocks.0.{name}.{kind}"
        for name in ("norm1", "attn.qkv", "attn.proj")
        for kind in ("weight", "bias")
    ]
    assert names[-2:] == ["norm.weight", "norm.bias"]


# ------------------------------------------------------------------------------------------------
# pairs


def test_a_change_is_found_by_kind_and_block() -> None:
    before = {
        "pos_embed": np.array([3.0, 4.0]),
        "block_0_attn.qkv.weight": np.array([[1.0, 0.0]]),
        "block_0_mlp.fc1.weight": np.array([[0.0, 2.0]]),
    }
    after = before | {
        "block_0_mlp.fc1.weight": np.array([[0.0, 1.0]]),
        "head.weight": np.ones((2, 2)),
    }
    tables, sentences = compare(weights("mae", **before), weights("tuned", **after))
    (pair,) = tables["pairs"].to_dict("records")
    assert (pair["shared"], pair["equal"], pair["changed"], pair["only_b"]) == (3, 2, 1, 1)
    assert pair["first"] == "blocks.0.mlp.fc1.weight"
    # ‖θ_A‖² = 25 + 1 + 4 and ‖θ_B‖² = 25 + 1 + 1
    assert pair["relative"] == pytest.approx(1 / 30**0.5)
    assert pair["cosine"] == pytest.approx(28 / (30 * 27) ** 0.5)
    layers = tables["layers"].set_index(["block", "kind"])
    assert layers.relative["0", "mlp fc1"] == 0.5
    assert layers.relative["0", ""] == pytest.approx(1 / 5**0.5)
    assert layers.state["", "embedding"] == layers.state["0", "attention qkv"] == "equal"
    assert sentences[0] == (
        "From mae to tuned the weights changed by 18% of their norm, at an angle of 10.3°, over the"
        " 3 tensors that both have in one shape (of 3 and 4); 2 of 3 tensors are equal, number for"
        " number; mlp fc1 by 50% of its own norm."
    )
    assert "most in block 0, mlp fc1 (50%" in sentences[1]
    assert sentences[2] == "Untouched by tuned: embedding and attention qkv."
    assert sentences[3] == "tuned alone has head.weight."


def test_tensors_outside_untouched_blocks_are_named() -> None:
    before = {
        f"{name}.weight": np.ones(2, np.float32)
        for name in ("patch_embed.proj", "cls_token", "blocks.0.norm1", "blocks.1.norm1")
    }
    moved = {name: 2 * before[name] for name in ("cls_token.weight", "blocks.1.norm1.weight")}
    _, sentences = compare(weights("mae", **before), weights("tuned", **before | moved))
    assert "2 of 4 tensors are equal" in sentences[0]
    assert "Untouched by tuned: block 0 and patch_embed.proj.weight." in sentences


def test_what_lies_beside_a_branch_is_its_own_and_no_backbone(tmp_path: Path) -> None:
    """Each branch has its projector under one name, and neither the other's; a queue both have."""
    state: dict[str, torch.Tensor] = {"net.queue": torch.ones(3)}
    trunks = {"student": ARCH.build(0).state_dict(), "teacher": ARCH.build(1).state_dict()}
    for number, (branch, trunk) in enumerate(trunks.items()):
        state |= {f"net.{branch}.f.{key}": value for key, value in trunk.items()}
        state[f"net.{branch}.g.0.weight"] = torch.full((2, 2), number + 1.0)
    path = tmp_path / "last.safetensors"
    save_file({key: value.contiguous() for key, value in state.items()}, path)
    sources = [f"{path}@heads={ARCH.heads},branch={branch}" for branch in trunks]
    one, other = (read_weights(source) for source in sources)
    beside = {"g.0.weight", "net.queue"}
    for own, branch in ((one, "student"), (other, "teacher")):
        assert {name for name, value in own.tensors.items() if value.beside} == beside
        assert own.tensors["g.0.weight"].keys == (f"net.{branch}.g.0.weight",)
    tables, sentences = compare(one, other)
    (pair,) = tables["pairs"].to_dict("records")
    count = len(trunks["student"])
    assert (pair["measured"], pair["backbone_a"], pair["backbone_b"]) == (count, count, count)
    assert pair["parameters"] == sum(value.numel() for value in trunks["student"].values())
    first, second = (
        torch.cat([one.double().flatten() for one in own.values()]) for own in trunks.values()
    )
    assert pair["relative"] == pytest.approx(float((second - first).norm() / first.norm()))
    # of the projector (1, 1, 1, 1) to (2, 2, 2, 2), and of the queue nothing: 2 / √(4 + 3)
    assert pair["head"] == pytest.approx(2 / 7**0.5)
    assert f"over all {count} tensors of the backbone; the head changed by 76%" in sentences[0]


def test_buffers_are_no_weights(tmp_path: Path) -> None:
    """Statistics are told apart, counters left out, and the answer is the path's backbone."""
    before = {
        "layer1.0.conv1.weight": torch.tensor([[[[3.0]]], [[[4.0]]]]),
        "layer1.0.downsample.1.weight": torch.tensor([2.0]),
        "layer1.0.downsample.1.running_mean": torch.tensor([0.5]),
        "layer1.0.downsample.1.num_batches_tracked": torch.tensor(4),
        "fc.weight": torch.tensor([[1.0, 1.0]]),
    }
    after = {name: value.clone() for name, value in before.items()}
    after["layer1.0.downsample.1.weight"] += 1
    after["layer1.0.downsample.1.running_mean"] *= 3
    after["layer1.0.downsample.1.num_batches_tracked"] *= 10
    after["fc.weight"] *= 1.5
    paths = [tmp_path / f"{name}.safetensors" for name in ("a", "b")]
    for path, state in zip(paths, (before, after), strict=True):
        save_file(state, path)
    one, other = (read_weights(str(path)) for path in paths)
    tables, sentences = compare(one, other)
    (pair,) = tables["pairs"].to_dict("records")
    assert (pair["shared"], pair["measured"], pair["largest"]) == (3, 2, 1.0)
    assert pair["relative"] == pytest.approx(1 / 29**0.5)  # ‖θ_A‖² = 9 + 16 + 4
    assert (pair["head"], pair["statistics"], pair["statistics_relative"]) == (0.5, 1, 2.0)
    walked = measure_path(paths).frame
    (backbone,) = walked[walked.group == "backbone"].relative
    assert backbone == pytest.approx(pair["relative"])
    layers = tables["layers"].set_index(["block", "kind"])
    assert layers.relative["1.0", ""] == pytest.approx(pair["relative"])
    assert layers.relative["1.0", "norm"] == 0.5
    assert "counter" not in layers.index.get_level_values("kind")
    assert sentences[0].endswith(
        "changed by 19% of their norm, at an angle of 9.2°, over all 2 tensors of the backbone;"
        " the head changed by 50%; 1 of 3 tensors is equal, number for number; norm by 50% of its"
        " own norm; the running means and"
        " variances of batch normalisation, which are no weights (1 tensor), changed by 200% of"
        " their norm."
    )
    analysis = plugin("analyses", "weights-changed")
    read = Results({name: Table(frame, analysis.UNITS) for name, frame in tables.items()})
    cells, curve, _ = analysis.draw(read).panels[0]
    assert "statistics" not in cells.rows
    assert cells.limits[1] == 0.5
    assert curve.lines[0].y.tolist() == [pytest.approx(pair["relative"])]
    only = before | {"layer1.0.downsample.1.running_mean": torch.tensor([9.0])}
    save_file(only, paths[1])
    _, sentences = compare(one, read_weights(str(paths[1])))
    assert "have the same weights: all 3 tensors are equal" in sentences[0]
    assert "changed by 1700% of their norm" in sentences[0]


def test_equal_weights_and_other_shapes_are_said() -> None:
    a = {"pos_embed": np.ones((2, 3), np.float32), "norm.weight": np.ones(3, np.float32)}
    _, (same, *rest) = compare(weights("one", **a), weights("two", **a))
    assert same == (
        "one and two have the same weights: all 2 tensors are equal, number for number."
    )
    assert not rest
    bigger = a | {"pos_embed": np.ones((5, 3), np.float32)}
    tables, sentences = compare(weights("one", **a), weights("two", **bigger))
    assert tables["pairs"].unlike.tolist() == [1]
    assert "cannot be compared in pos_embed (2 × 3 and 5 × 3)" in " ".join(sentences)
    other = {"x": np.ones(1, np.float32)}
    _, (nothing, *_) = compare(weights("one", **a), weights("two", **other))
    assert "no tensor of one name and shape" in nothing
    small = a | {"norm.weight": np.array([1, 1, 1 + 1e-6], np.float32)}
    _, (close, *_) = compare(weights("one", **a), weights("two", **small))
    assert "the same weights but for rounding to float16" in close
    whole = {"pos_embed": np.ones((2, 3), np.int8), "norm.weight": a["norm.weight"]}
    tables, _ = compare(weights("one", **a), weights("two", **whole))
    assert "of another number type" in tables["tensors"].state.tolist()


def test_two_networks_have_no_change_of_a_classifier_that_is_left_over() -> None:
    """Of a ViT and a CNN head.bias alone has one name and shape: nothing is said of its size."""
    head = {"head.bias": np.ones(10, np.float32)}
    a = {f"block_{n}_mlp.fc1.weight": np.ones((2, 2), np.float32) for n in range(1)}
    a |= {"pos_embed": np.ones((5, 2), np.float32)}
    b = {"conv1.weight": np.ones((2, 3, 7, 7), np.float32)}
    changed = {"head.bias": 8 * head["head.bias"]}
    tables, sentences = compare(weights("vit", **a, **head), weights("cnn", **b, **changed))
    assert sentences[0] == (
        "vit and cnn are not two states of one network: no tensor of the backbones is in both by"
        " name and shape, so that no change is measured."
    )
    assert not re.search(r"\d%|°|head", " ".join(sentences).replace("head.bias", ""))
    (pair,) = tables["pairs"].to_dict("records")
    assert (pair["state"], pair["shared"], pair["measured"]) == ("other networks", 1, 0)
    assert (pair["backbone_a"], pair["backbone_b"]) == (2, 1)
    assert all(np.isnan(pair[name]) for name in ("relative", "angle", "head"))
    assert "layers" not in tables
    # the classifiers alone are compared where there is nothing else, of one tensor in good grammar
    _, (alone, *_) = compare(weights("one", **head), weights("two", **changed))
    assert "over the 1 tensor" in alone
    _, (same, *_) = compare(weights("one", **head), weights("two", **head))
    assert "the 1 tensor is equal, number for number" in same


@pytest.mark.parametrize(("both", "more", "one"), [(4, 2, True), (4, 3, False), (0, 2, False)])
def test_two_thirds_of_each_backbone_must_be_in_both(both: int, more: int, *, one: bool) -> None:
    """4 of 6 tensors are two thirds; adapters, as these are, leave more, twice the depth half."""
    shared = {f"norm{n}.weight": np.ones(3, np.float32) for n in range(both)}
    longer = {f"norm{both + n}.weight": np.ones(3, np.float32) for n in range(more)}
    moved = {name: 2 * value for name, value in shared.items()} | longer
    own = {} if both else {"x": np.ones(1)}
    _, (said, *_) = compare(weights("a", **shared, **own), weights("b", **moved))
    assert ("weights changed by 100%" in said) == one
    assert ("not two states of one network" in said) != one
    # what is equal is said of any two: it misleads nobody
    if both:
        _, (said, *_) = compare(weights("a", **shared), weights("b", **shared, **longer))
        assert (
            f"the {both} tensors that both have in one shape (of {both} and {both + more}) are"
            in said
        )


def test_networks_of_other_depths_are_no_two_states_of_one() -> None:
    """The 4 blocks of one have the names and shapes of 4 of the 6 of the other: 12 of 18 tensors,
    which are two thirds."""
    part = ("norm1", "attn.qkv", "mlp.fc1")
    six = {f"blocks.{n}.{p}.weight": np.ones((2, 2), np.float32) for n in range(6) for p in part}
    four = {name: 3 * value for name, value in six.items() if int(name[7]) < 4}
    tables, sentences = compare(weights("four", **four), weights("six", **six))
    assert sentences[0] == (
        "four and six are not two states of one network: the backbones have 4 and 6 blocks, so that"
        " no change is measured; of the 12 and 18 tensors of the backbones 12 are in both by name"
        " and shape."
    )
    (pair,) = tables["pairs"].to_dict("records")
    assert (pair["state"], pair["blocks_a"], pair["blocks_b"]) == ("other networks", 4, 6)
    assert np.isnan(pair["relative"])
    assert "layers" not in tables


# ------------------------------------------------------------------------------------------------
# files


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """One network in timm's names, in Hugging Face's with a classifier, and in float16."""
    folder = tmp_path_factory.mktemp("copies")
    state = ARCH.build(3).state_dict()
    paths = {name: folder / f"{name}.safetensors" for name in ("timm", "theirs", "half")}
    save_file(dict(state), paths["timm"])
    save_file(rename(state), paths["theirs"])
    save_file({key: value.half() for key, value in state.items()}, paths["half"])
    return paths


def rename(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Spell a ViT's weights as Hugging Face's ViTForImageClassification does."""
    names = {
        "norm1": "layernorm_before",
        "norm2": "layernorm_after",
        "attn.proj": "attention.output.dense",
        "mlp.fc1": "intermediate.dense",
        "mlp.fc2": "output.dense",
    }
    renamed = {
        "vit.embeddings.cls_token": state["cls_token"],
        "vit.embeddings.position_embeddings": state["pos_embed"],
        "classifier.weight": torch.ones(2, 64),
        "classifier.bias": torch.zeros(2),
    }
    for key, value in state.items():
        part, _, kind = key.rpartition(".")
        if part == "patch_embed.proj":
            renamed[f"vit.embeddings.patch_embeddings.projection.{kind}"] = value
        elif part == "norm":
            renamed[f"vit.layernorm.{kind}"] = value
        elif part.endswith("attn.qkv"):
            block = part.split(".")[1]
            for which, own in zip(("query", "key", "value"), value.chunk(3), strict=True):
                name = f"vit.encoder.layer.{block}.attention.attention.{which}.{kind}"
                renamed[name] = own.contiguous()
        elif part.startswith("blocks."):
            _, block, layer = part.split(".", 2)
            renamed[f"vit.encoder.layer.{block}.{names[layer]}.{kind}"] = value
    return renamed


def test_copies_of_one_network_are_the_same_whoever_wrote_them(copies: Mapping[str, Path]) -> None:
    official, theirs = (read_weights(str(copies[name])) for name in ("timm", "theirs"))
    assert set(theirs.tensors) - set(official.tensors) == {"head.weight", "head.bias"}
    tables, sentences = compare(official, theirs)
    (pair,) = tables["pairs"].to_dict("records")
    assert pair["state"] == "equal"
    assert pair["reshaped"] == 2 * ARCH.blocks  # query, key and value lie apart
    assert pair["renamed"] == pair["shared"] == len(official.tensors)
    assert "have the same weights" in sentences[0]
    assert "head.weight and head.bias (the classification head)" in " ".join(sentences)
    half = read_weights(str(copies["half"]))
    (pair,) = compare(official, half)[0]["pairs"].to_dict("records")
    assert pair["state"] == "equal in float16"
    assert (pair["kinds_a"], pair["kinds_b"]) == ("float32", "float16")
    assert official.digest != half.digest


def quantise(state: Mapping[str, torch.Tensor], form: str) -> dict[str, torch.Tensor]:
    """Write each matrix in 8 bits, as a library of that name does."""
    written = {}
    for key, value in state.items():
        if value.ndim != 2:
            written[key] = value
            continue
        if form == "groups":  # of 16 inputs, with a zero point
            rows = value.view(len(value), -1, 16)
            low, high = rows.amin(-1, keepdim=True), rows.amax(-1, keepdim=True)
            scale = (high - low) / 255
            zero = (-128 - low / scale).round().clamp(-128, 127)
            numbers = (rows / scale + zero).round().clamp(-128, 127).view_as(value)
            written[f"{key}_zero_point"] = zero[..., 0].to(torch.int8)
            written[f"{key}_scale"] = scale[..., 0].contiguous()
        else:
            largest = value.abs().amax(1)
            numbers = (value * 127 / largest[:, None]).round()
            scale = (largest / 127)[:, None].contiguous()
            module = key.removesuffix("weight")
            if form == "bitsandbytes":
                written |= {f"{module}SCB": largest, f"{module}weight_format": torch.tensor(0)}
            elif form == "quanto":
                written |= {f"{key}._scale": scale, f"{module}input_scale": torch.ones(())}
            else:
                written[f"{key}_scale"] = scale
        name = f"{key}._data" if form == "quanto" else key
        written[name] = numbers.to(torch.int8)
    return written


@pytest.mark.parametrize("form", ["compressed-tensors", "bitsandbytes", "quanto", "groups"])
def test_eight_bits_are_held_against_full_precision(form: str, tmp_path: Path) -> None:
    state = ARCH.build(3).state_dict()
    written = quantise(state, form)
    for name, tensors in (("full", state), ("eight", written)):
        save_file(dict(tensors), tmp_path / f"{name}.safetensors")
    full, eight = (read_weights(str(tmp_path / f"{n}.safetensors")) for n in ("full", "eight"))
    assert set(eight.tensors) == set(full.tensors)
    matrices = [key for key, value in state.items() if value.ndim == 2]
    assert {name for name, one in eight.tensors.items() if one.kind == "int8"} == set(matrices)
    for key in matrices:
        exact = state[key].double()
        step = exact.view(len(exact), -1, 16) if form == "groups" else exact[:, None]
        width = (
            (step.amax(-1) - step.amin(-1)) / 255
            if form == "groups"
            else (step.abs().amax(-1) / 127)
        )
        half = width.repeat_interleave(exact.shape[1] // width.shape[1], 1) / 2
        found = torch.tensor(eight.tensors[key].value.values).double()
        # rounded to the nearest step; of a zero point that was rounded too, to one step
        assert ((found - exact).abs() <= half * (2.001 if form == "groups" else 1.001)).all(), key
        assert not torch.equal(found, exact)
    (pair,) = compare(full, eight)[0]["pairs"].to_dict("records")
    assert pair["state"] == "changed"
    assert (pair["kinds_a"], pair["kinds_b"]) == ("float32", "float32 and int8")
    assert 0 < pair["relative"] < 0.01
    assert pair["unlike"] == 0


def test_eight_bits_without_their_scales_stay_other_numbers() -> None:
    numbers = np.array([[1, 2], [3, 4]], np.int8)
    scale = Array(np.ones((3, 1), np.float32), "float32")  # of three rows, and there are two
    for beside in ({}, {"fc.weight_scale": scale}):
        state = {"fc.weight": Array(numbers, "int8"), **beside}
        whole, kinds = dequantise(state)
        assert whole == state
        assert kinds == {}


def test_a_file_of_no_known_layout_is_compared_by_its_own_names(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.safetensors", "b.safetensors")]
    for path, number in zip(paths, (1.0, 2.0), strict=True):
        save_file({"tower.3.mix.weight": torch.full((4, 4), number)}, path)
    tables, sentences = compare(*(read_weights(str(path)) for path in paths))
    (pair,) = tables["pairs"].to_dict("records")
    assert (pair["relative"], pair["angle"]) == (1.0, 0.0)
    assert "no network is known" in sentences[-1]


def test_the_command_writes_a_page_without_building_a_network(
    copies: Mapping[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: object
) -> None:
    monkeypatch.setattr("sslens.zoo.load", lambda *_, **__: pytest.fail("a network was built"))
    out = tmp_path / "out"
    line = ["diff", str(copies["timm"]), str(copies["half"]), "--out", str(out)]
    assert cli.main([*line, "--dry-run"]) == 0
    assert not out.exists()
    assert cli.main(line) == 0
    pairs = pd.read_csv(out / "tables" / "weights-changed" / "pairs.csv")
    assert pairs.state.tolist() == ["equal in float16"]
    answer = (out / "answer.csv").read_text(encoding="utf-8")
    assert [line.split(",")[:3] for line in answer.split()] == [
        ["model", "control", "weights_changed_model_a"],
        ["timm", "False", ""],
        ["half", "False", "timm"],
    ]
    assert "timm and half have the same weights but for rounding" in (
        out / "report.html"
    ).read_text(encoding="utf-8")


def test_a_side_that_seems_untrained_is_said_once_and_path_rounds_alike(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fresh = ARCH.build(0).state_dict()
    generator = torch.Generator().manual_seed(0)
    moved = {
        name: one + 0.02 * torch.randn(one.shape, generator=generator)
        for name, one in fresh.items()
    }
    files = [tmp_path / name for name in ("fresh.pth", "moved.pth")]
    for file, state in zip(files, (fresh, moved), strict=True):
        torch.save(state, file)
    out = tmp_path / "out"
    assert cli.main(["diff", *map(str, files), "--out", str(out)]) == 0
    said = " ".join(capsys.readouterr().err.split())
    note = (
        "fresh: The network seems untrained: all 9 normalisations are as at initialisation (weight"
        " 1, bias 0)."
    )
    assert said.count("note") == said.count(f"note: {note}") == 1
    assert note in (out / "report.html").read_text(encoding="utf-8")
    # the same change has the same digits in both commands
    (change,) = re.findall(r"changed by (\S+) of their norm", said)
    assert cli.main(["path", *map(str, files), "--out", str(tmp_path / "path.csv")]) == 0
    (line,) = re.findall(r"^backbone .*$", capsys.readouterr().err, re.MULTILINE)
    assert line.split()[3] == change == "27%"


def test_what_cannot_be_compared_is_refused(
    copies: Mapping[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = str(copies["timm"])
    for arguments, said in (
        ([one], "Give two checkpoints"),
        ([one, one], "is given twice"),
        ([one, "pixels"], "pixels have no weights"),
        ([one, str(tmp_path / "lost.pth")], "There is no model"),
        ([one, str(copies["half"]), "--bank", str(tmp_path)], "give --images too"),
        ([one, str(copies["half"]), "--image-size", "64"], "leave --image-size out"),
    ):
        assert cli.main(["diff", *arguments]) == 2
        assert said in capsys.readouterr().err
    need = plugin("study/needs", "weights")
    with pytest.raises(InputError, match="pixels have no weights"):
        read_weights("pixels")
    assert need.NETWORKS is False


# ------------------------------------------------------------------------------------------------
# activations and classifiers


def test_the_first_layer_that_computes_something_else_is_found() -> None:
    """Weights that differ in one layer, in an epsilon, or by rounding alone."""
    model = sslens.load("random:vit_nano_patch8_32")
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    pixels = [Image.fromarray(one) for one in noise]

    def change(edit: Callable[[torch.nn.Module], object]) -> Backbone:
        other = copy.deepcopy(model)
        with torch.no_grad():
            edit(other.network)
        return other

    def measure(other: Backbone, *kinds: str) -> ActivationPair:
        models = {"a": model, "b": other}
        (pair,) = measure_pairs(models, pixels, dict.fromkeys(models, kinds))
        return pair

    def beyond(pair: ActivationPair) -> list[str]:
        return [one.tap.name for one in pair.taps if one.beyond]

    same = measure(change(lambda network: None))
    assert [one.difference for one in same.taps] == [0.0] * len(same.taps)
    assert all(0 < one.rounding < 1e-5 for one in same.taps)
    doubled = measure(change(lambda network: network.blocks[2].mlp.fc1.weight.mul_(1.001)))
    assert beyond(doubled)[0] == "blocks.2.mlp.fc1"
    assert "norm" in beyond(doubled)
    eps = measure(change(lambda network: setattr(network.blocks[1].norm1, "eps", 1e-2)))
    assert beyond(eps)[0] == "blocks.1.norm1"
    half = change(lambda network: network.half().float())
    assert beyond(measure(half))  # float32's rounding does not explain it
    assert beyond(measure(half, "float16", "float32")) == []
    (back,) = measure_pairs({"a": half, "b": model}, pixels, {"a": ("float16",)})
    assert beyond(back) == []  # of the weights that are rounded already
    (first, *_) = measure(half, "float16").taps
    assert first.difference == first.rounding > 0


def test_networks_of_other_taps_or_sizes_are_not_compared_tap_by_tap() -> None:
    a, b = (sslens.load(f"random:vit_nano_patch8_{side}") for side in (32, 64))
    (pair,) = measure_pairs({"a": a, "b": b}, [Image.new("RGB", (8, 8))], {})
    assert pair.why == "they see images of 32 and of 64 px"


def test_classifiers_of_files_predict() -> None:
    """By hand: a linear layer on the CLS token, and one behind a normalisation on the patches."""

    def with_head(**tensors: np.ndarray) -> Weights:
        named = {
            key.replace("_", ".", 1) if key.startswith("head") else key: NamedTensor(
                array(value), "float32", (key,), beside="the classification head"
            )
            for key, value in tensors.items()
        }
        return Weights("tuned", "tuned", About(), named)

    eye = np.eye(2, dtype=np.float32)
    cls = torch.tensor([[1.0, 3.0], [3.0, 1.0]])
    features = Features.of({("norm", "cls"): cls, ("norm", "patch"): 5 * cls})
    plain = find_classifier(with_head(head_weight=eye, head_bias=np.zeros(2, np.float32)))
    assert plain is not None
    assert plain.predict(features).tolist() == [1, 0]
    biased = find_classifier(with_head(head_weight=eye, head_bias=np.float32([2.5, 0])))
    assert biased is not None
    assert biased.predict(features).tolist() == [0, 0]
    norm = {"fc_norm.weight": np.float32([-1, 1]), "fc_norm.bias": np.zeros(2, np.float32)}
    normed = find_classifier(with_head(head_weight=eye, head_bias=np.zeros(2, np.float32), **norm))
    assert normed is not None
    assert normed.pooling == "patch"
    # normalised to (−1, 1) and (1, −1), times (−1, 1): (1, 1) and (−1, −1), of which the first wins
    assert normed.predict(features).tolist() == [0, 0]
    wide = find_classifier(with_head(head_weight=np.ones((2, 3), np.float32)))
    assert wide is not None
    assert wide.predict(features) is None
    assert find_classifier(with_head(**norm)) is None


@pytest.mark.slow
def test_the_page_on_two_models_with_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A fine-tuned model beside the one that it began with: all tables are there."""
    out = tmp_path / "out"
    line = ["diff", "scenes_mae", "scenes_mae_ft", "--images", "scenes:1:64"]
    assert cli.main([*line, "--batch", "16", "--out", str(out)]) == 0
    layers = {path.stem for path in (out / "tables" / "layers-changed").glob("*.csv")}
    assert {"depths", "taps", "knn"} <= layers
    moved = {path.stem for path in (out / "tables" / "images-moved").glob("*.csv")}
    assert moved == {"pairs", "moved", "sheets", "pictures"}
    pairs = pd.read_csv(out / "tables" / "images-moved" / "pairs.csv")
    assert pairs.by.tolist() == ["k-NN"]  # one of the two has no classifier
    assert 0 <= pairs.moved[0] <= 1
    assert len(list((out / "sheets" / "images-moved").glob("*.png"))) == 2
    # every image has a row, of which the share on the page is
    images = pd.read_csv(out / "tables" / "images-moved" / "moved.csv")
    assert len(images) == pairs.images[0] == 64
    assert (images.predicted_a != images.predicted_b).mean() == pytest.approx(pairs.moved[0])
    # the digest of the images on the terminal is the one that the report's files have
    (told,) = re.findall(r"images +64 of \S+ \((\w+)\)", capsys.readouterr().err)
    assert told in (out / "provenance.json").read_text(encoding="utf-8")


def write_copies(folder: Path) -> dict[str, Path]:
    """One network as its authors wrote it (a file of DINO, with another student), in Hugging Face's
    names, in timm's, in 8-bit integers and in 8-bit floats with scales."""
    state = ARCH.build(3).state_dict()
    narrow = {
        key: (value / (value.abs().amax(1) / 448)[:, None]).to(torch.float8_e4m3fn)
        for key, value in state.items()
        if value.ndim == 2
    }
    scales = {f"{key}_scale": (state[key].abs().amax(1) / 448)[:, None] for key in narrow}
    written = {
        "theirs": rename(state),
        "timm": dict(state),
        "int8": quantise(state, "compressed-tensors"),
        "float8": {**state, **narrow, **{key: one.clone() for key, one in scales.items()}},
    }
    official = {
        "teacher": {f"backbone.{key}": value for key, value in state.items()},
        "student": {f"module.backbone.{k}": v for k, v in ARCH.build(4).state_dict().items()},
        "dino_loss": {"center": torch.zeros(1, 8)},
    }
    torch.save(official, folder / "official.pth")
    for name, tensors in written.items():
        save_file(tensors, folder / f"{name}.safetensors")
    return {"official": folder / "official.pth"} | {
        name: folder / f"{name}.safetensors" for name in written
    }


@pytest.mark.slow
def test_copies_and_eight_bits_are_held_against_each_other_with_images(tmp_path: Path) -> None:
    """Copies of one network are the same to the rounding of float32, at every tap, and none of
    their predictions moves; of 8 bits the first matrix that was rounded is named."""
    copies = write_copies(tmp_path)
    line = [f"{path}@heads=4" for path in copies.values()]
    out = tmp_path / "out"
    common = ["--images", "scenes:1:48", "--batch", "8", "--out", str(out)]
    assert cli.main(["diff", *line, *common]) == 0
    taps = pd.read_csv(out / "tables" / "layers-changed" / "taps.csv")
    moved = pd.read_csv(out / "tables" / "images-moved" / "pairs.csv").set_index("model_b")
    for name in ("theirs", "timm"):
        own = taps[taps.model_b == name]
        assert len(own) == len(taps) / 4
        assert (own.difference <= 2e-6).all()
        assert not own.beyond.any()
        assert moved.moved[name] == 0
    for name, least in (("int8", 1e-3), ("float8", 1e-2)):
        own = taps[taps.model_b == name]
        assert own.tap[own.beyond].iloc[0] == "blocks.0.attn.qkv"
        assert least < own.difference.max() < 0.2
    front = json.loads((out / "front.json").read_text())
    assert front["terms"].startswith("official is the teacher (beside it: student).")
    answers = {one["question"]: one for one in (*front["answers"], *front["more_answers"])}
    first = "Which layer of {} is the first to compute something else?"
    assert answers[first.format("theirs")]["word"] == "none"
    assert answers[first.format("int8")]["names"] == "blocks.0.attn.qkv"
    assert answers["Are the weights of timm the same?"]["word"] == "the same"
