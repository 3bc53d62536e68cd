"""Networks in stages, of frames, of summaries and of JAX: what they compute beside formulas, what
their files tell, and what is refused of them."""

import dataclasses
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from timm.layers import apply_rot_embed_cat

import sslens
from checkpoints import EXAMPLES
from released import BEIT, ROPE, build
from sslens import zoo
from sslens.capture.pooling import pool
from sslens.errors import InputError
from sslens.models.sizes import at_image_size
from sslens.models.tubelets import PlaneRotation, RepeatedConv
from sslens.zoo import doctor, files
from sslens.zoo.shapes import describe_network, read_shape
from sslens.zoo.written import read_written
from stages import CAPI, HIERA, RADIO, SWIN, VJEPA


def turn(vector: np.ndarray, places: tuple[int, int, int]) -> np.ndarray:
    """Turn one head's vector by V-JEPA 2's rule, number by number: three parts, and a rest."""
    part = 2 * (len(vector) // 3 // 2)
    turned = vector.copy()
    for axis, place in enumerate(places):
        for i in range(part):
            angle = place * 10000.0 ** (-(i % (part // 2)) / (part / 2))
            at = axis * part + i
            other = -vector[at + 1] if i % 2 == 0 else vector[at - 1]
            turned[at] = vector[at] * np.cos(angle) + other * np.sin(angle)
    return turned


@pytest.mark.parametrize("width", [16, 32])
def test_positions_of_vjepa_turn_rows_and_columns(width: int) -> None:
    rotation = PlaneRotation(width, (2, 3))
    vectors = torch.randn(6, width, generator=torch.Generator().manual_seed(0))
    turned = apply_rot_embed_cat(vectors[None, None], rotation.get_embed())[0, 0]
    for token in range(6):
        expected = turn(vectors[token].double().numpy(), (0, token // 3, token % 3))
        np.testing.assert_allclose(turned[token], expected, rtol=0, atol=1e-6)
    rotation.update_feat_shape([3, 3])
    assert rotation.get_embed().shape == (9, 2 * width)


def test_an_image_stands_for_all_frames_of_a_patch() -> None:
    layer = RepeatedConv(3, 5, (2, 4, 4), stride=(2, 4, 4))
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    plain = F.conv2d(images, layer.weight.sum(2), layer.bias, stride=4)
    torch.testing.assert_close(layer(images), plain, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["c-radio", "vjepa2", "swin"])
def test_other_sizes_of_images_keep_the_methods_positions(name: str, tmp_path: Path) -> None:
    case = next(iter(EXAMPLES[name]().values()))
    model = zoo.load(case.write(tmp_path), **case.options)
    side = model.transform.crop * 2 if name == "swin" else model.transform.crop // 2
    other: Any = at_image_size(model, side)
    image = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    assert torch.isfinite(other(image)).all()
    network: Any = other.network
    if name == "c-radio":  # from the file's own table, and not from one that was resampled before
        tokens = network._pos_embed(torch.zeros(1, 16, 64))[:, 5:]
        table = network.pos_table.unflatten(1, (10, 10)).permute(0, 3, 1, 2)
        made = F.interpolate(table, (4, 4), mode="bilinear").flatten(2).transpose(1, 2)
        torch.testing.assert_close(tokens, made, rtol=0, atol=1e-6)
    elif name == "vjepa2":
        assert torch.equal(network.rope.get_embed(), PlaneRotation(32, (2, 2)).get_embed())


@pytest.mark.parametrize("shape", [ROPE, CAPI])
def test_rotary_positions_of_another_size_are_those_of_a_network_built_for_it(shape: Any) -> None:
    """Where no table depends on the size of images, the weights of one size fit the other."""
    network, side = build(shape), 2 * shape.image_size
    seen = sslens.EvalTransform(resize=shape.image_size, crop=shape.image_size)
    model = sslens.wrap(network, transform=seen, name="mine")
    other: Any = at_image_size(model, side)
    arch = dataclasses.replace(shape.arch, image_size=side)
    expected: Any = dataclasses.replace(shape, arch=arch).empty().eval()
    expected.load_state_dict(network.state_dict(), assign=True)
    image = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found, wanted = (one.forward_features(image) for one in (other.network, expected))
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)


def test_registers_without_cls_are_no_patches_and_no_cls(tmp_path: Path) -> None:
    model = zoo.load(EXAMPLES["capi"]()["released"].write(tmp_path))
    tap = model.taps["blocks.1"]
    how = model.output_of(tap)
    assert (how.before, how.cls, model.prefix) == (8, False, None)
    assert [model.has_tokens(tap, tokens) for tokens in ("all", "cls", "patch")] == [
        True,
        False,
        True,
    ]
    pooled = pool(torch.arange(24.0).reshape(1, 24, 1), how)
    assert pooled["patch"].item() == pytest.approx(sum(range(8, 24)) / 16)


def test_windows_keep_their_part_of_the_image(tmp_path: Path) -> None:
    case = next(iter(EXAMPLES["swin"]().values()))
    model: Any = zoo.load(case.write(tmp_path), **case.options)
    other: Any = at_image_size(model, 2 * model.transform.crop)
    for before, after in zip(model.network.layers, other.network.layers, strict=True):
        side = before.blocks[0].window_size[0]
        assert after.blocks[0].window_size == (2 * side, 2 * side)
        table = after.blocks[0].attn.relative_position_bias_table
        assert len(table) == (4 * side - 1) ** 2
        corner = before.blocks[0].attn.relative_position_bias_table[0]
        torch.testing.assert_close(table[0], corner, rtol=0, atol=0.2)


def test_the_colours_of_c_radios_file_are_read(tmp_path: Path) -> None:
    case = EXAMPLES["c-radio"]()["NVIDIA's"]
    model = zoo.load(case.write(tmp_path), **case.options)
    assert model.transform.mean == pytest.approx((0.4, 0.5, 0.6))
    assert model.transform.std == pytest.approx((0.2, 0.3, 0.25))
    assert model.prefix == 5
    assert model.transform.resize == model.transform.crop == 512


@pytest.mark.parametrize("shape", [SWIN, HIERA, VJEPA, RADIO, CAPI, ROPE, BEIT])
def test_an_architecture_lists_what_it_builds_and_is_found_again(shape: Any) -> None:
    network = build(shape)
    state = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    assert shape.list_tensors() == state
    assert ": " in shape.describe()
    if shape not in (SWIN, HIERA):  # whose numbers of heads and sizes the weights tell
        written = json.loads(json.dumps(dict(describe_network(network, None, "mine"))))
        again = read_shape(written)
        assert again.list_tensors() == state
        assert (again.image_size, again.arch) == (shape.image_size, shape.arch)
        header = json.dumps({"name": "mine", "shape": written, "about": {}})
        assert read_written(header, Path("mine.safetensors"))["shape"] == written


# ------------------------------------------------------------------------------------------------
# what is refused


def refused(tree: Any, tmp_path: Path, **options: Any) -> str:
    """The sentence with which a file is refused, by load and by the doctor."""
    torch.save(tree, tmp_path / "file.pth")
    with pytest.raises(InputError) as caught:
        zoo.load(tmp_path / "file.pth", **options)
    assert doctor.examine(tmp_path / "file.pth", **options).refused == str(caught.value)
    return str(caught.value)


def test_networks_of_other_kinds_are_named(tmp_path: Path) -> None:
    swin, hiera = build(SWIN).state_dict(), dict(build(HIERA).state_dict())
    assert "tell its numbers of heads: leave num_heads out" in refused(swin, tmp_path, num_heads=2)
    odd = "layers.0.blocks.0.attn.relative_position_bias_table"
    assert "whose windows are no squares" in refused(swin | {odd: torch.ones(21, 1)}, tmp_path)
    said = refused(hiera, tmp_path)
    assert "a Hiera of width 8, whose number of heads no file tells" in said
    assert zoo.load(tmp_path / "file.pth", num_heads=1).about.layout == "hiera"  # as it says
    video = {**hiera, "patch_embed.proj.weight": torch.ones(8, 3, 3, 7, 7)}
    assert "only Hieras for images are read" in refused(video, tmp_path)
    first = {**build(VJEPA).state_dict(), "pos_embed": torch.ones(1, 1568, 64)}
    assert "is of the first V-JEPA" in refused({"encoder": first}, tmp_path, num_heads=2)


def test_windows_larger_than_the_maps_are_refused(tmp_path: Path) -> None:
    case = EXAMPLES["swin"]()["Hugging Face's"]
    case.write(tmp_path).rename(tmp_path / "model.safetensors")
    config = {"model_type": "swin", "image_size": 32}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(InputError, match="windows are larger than the maps of images of 32 px"):
        zoo.load(tmp_path)


def test_archives_of_numpys_are_held_against_their_headers(tmp_path: Path) -> None:
    path = EXAMPLES["jax-vit"]()["AugReg"].write(tmp_path)
    whole = path.read_bytes()

    def told(content: bytes) -> str:
        path.write_bytes(content)
        with pytest.raises(InputError) as caught:
            files.read_contents(path)
        return str(caught.value)

    assert "is cut off or damaged" in told(whole[:-100])
    assert "is cut off or damaged" in told(whole.replace(b"(64, 5)", b"(64, 9)", 1))
    made = io.BytesIO()
    np.savez(made, cls=np.array([{}], object))
    assert "holds objects of Python's" in told(made.getvalue())
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("cls.npy", b"\x93NUMPY" + b"\0" * 10_000_000)
    assert "beyond the file's size" in told(made.getvalue())
