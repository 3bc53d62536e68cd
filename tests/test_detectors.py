"""Detectors in detectron2's ViTDet layout: names, strictness, and pickles of arrays."""

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import sslens
from checkpoints import DETECTOR, State, detector
from sslens.errors import InputError
from sslens.models.detection.heads import make_heads
from sslens.models.pyramid import Pyramid
from sslens.models.sizes import at_size
from sslens.models.vit import ViTArch
from sslens.models.vitdet import make_backbone
from sslens.models.windowed import WindowedViT
from sslens.zoo import files
from sslens.zoo.detectors import load_detector
from sslens.zoo.recognise import recognise
from sslens.zoo.shapes import describe_network, read_shape


def write(state: State, path: Path) -> Path:
    """Write a pickle of NumPy arrays, as detectron2's model zoo has."""
    arrays = {name: value.numpy() for name, value in state.items()}
    path.write_bytes(pickle.dumps({"model": arrays, "__author__": "us"}, protocol=4))
    return path


def test_a_detector_has_detectron2s_245_tensors_at_vit_b() -> None:
    with torch.device("meta"):
        network = ViTArch.parse("vit_base_patch16_224").build()
        backbone = WindowedViT(network, window=14, global_blocks=(2, 5, 8, 11), grid=(64, 64))
        pyramid = Pyramid(768, 16)
        heads = make_heads("vitdet", classes=80, strides=pyramid.strides)
    parts = (backbone, pyramid, heads)
    assert sum(len(part.state_dict()) for part in parts) == 245
    assert sum(v.numel() for part in parts for v in part.parameters()) == 110_895_792


def test_a_released_file_loads_whole_and_computes_what_was_written(tmp_path: Path) -> None:
    network, state = detector()
    loaded = load_detector(write(state, tmp_path / "model_final_61ccd1.pkl"), settings=DETECTOR)
    images = torch.randn(2, 3, 64, 96)
    tokens = network.forward_features(images)  # type: ignore[operator]
    x = loaded.backbone(images)
    torch.testing.assert_close(x, tokens.transpose(1, 2).unflatten(2, (4, 6)), rtol=0, atol=0)
    ours = {f"backbone.net.{k}": v for k, v in loaded.backbone.network.state_dict().items()}
    ours |= {f"backbone.simfp_{k[1:]}": v for k, v in loaded.pyramid.state_dict().items()}
    ours |= loaded.heads.state_dict()
    assert ours.keys() == state.keys()
    assert all(torch.equal(ours[name], value) for name, value in state.items())
    assert loaded.parameters == sum(value.numel() for value in state.values())
    found = loaded.heads.detect(loaded.pyramid(x), [(64, 96)] * 2)
    assert len(found) == 2
    assert loaded.backbone.network.blocks[0].attn.window == 2
    assert loaded.backbone.network.blocks[1].attn.window == 0
    assert loaded.backbone.network.blocks[0].attn.num_heads == 4


def test_the_backbone_loads_alone_and_is_written_and_read_again(tmp_path: Path) -> None:
    _, state = detector()
    model = sslens.load(write(state, tmp_path / "d.pkl"))
    assert model.name == "d"
    assert model.prefix is None
    assert (model.about.network, model.about.tuned) == ("vit", "fine-tuned")
    assert list(model.taps)[:3] == ["blocks.0.norm1", "blocks.0.attn.qkv", "blocks.0.mlp.fc1"]
    size = model.transform.crop
    outputs = sslens.activations(model, torch.zeros(2, 3, size, size))
    assert outputs["blocks.0.attn.qkv"].shape == (2, 9, 192)
    shape = read_shape(describe_network(model.network, None, "it"))
    assert shape.describe() == (
        "ViT: 2 blocks of width 64 with 4 heads, patches of 16 px, images of 48 px, no CLS token,"
        " windows of 2 patches but in blocks 1, no final norm"
    )
    again = shape.empty().to_empty(device="cpu")
    again.load_state_dict(model.network.state_dict())


def test_every_key_of_the_file_is_accounted_for(tmp_path: Path) -> None:
    _, state = detector()
    found = recognise(files.read_contents(write(state, tmp_path / "d.pkl")))
    assert {entry.key for entry in found.account} == state.keys()
    reasons = {entry.reason for entry in found.account if entry.fate == "dropped"}
    assert {reason.split(";")[0] for reason in reasons} == {
        "the feature pyramid",
        "the detection heads",
    }
    assert found.heads_known


CHANGES: dict[str, tuple[dict[str, Tensor | None], str]] = {
    "a tensor that no detector has": ({"roi_heads.more": torch.zeros(2)}, "the first is roi_heads"),
    "a level too many": ({"backbone.simfp_7.0.weight": torch.zeros(2)}, "first is p7.0.weight"),
    "a tensor that is not there": (
        {"backbone.simfp_2.3.bias": None},
        r"fit the pyramid .* in 1 of 32 tensors; the first is p2.3.bias",
    ),
    "a tensor of another shape": (
        {"roi_heads.mask_head.deconv.bias": torch.zeros(7)},
        r"fit the heads .*expected \(8,\), found \(7,\)",
    ),
    "something else": ({"teacher.weight": torch.zeros(2)}, "tensor that no file of this layout"),
    "not finite": ({"roi_heads.mask_head.deconv.bias": torch.full((8,), np.nan)}, "no finite num"),
    "residual blocks": (
        {"backbone.net.blocks.0.residual.conv1.weight": torch.zeros(2)},
        "does not fit its own architecture",
    ),
    "a cascade": ({"roi_heads.box_head.0.fc1.weight": torch.zeros(2)}, "Cascade Mask R-CNN, with"),
    "a detector of another kind": (
        {"roi_heads.box_predictor.cls_score.weight": None},
        "no Mask R-CNN with one box head",
    ),
    "no relative positions": (
        {f"backbone.net.blocks.{i}.attn.rel_pos_{axis}": None for i in (0, 1) for axis in "hw"},
        "ViTDet without relative positions",
    ),
    "tables of one size": (
        {f"backbone.net.blocks.1.attn.rel_pos_{axis}": torch.zeros(3, 16) for axis in "hw"},
        "which blocks attend by windows can be told only",
    ),
    "tables of an even number": (
        {"backbone.net.blocks.1.attn.rel_pos_h": torch.zeros(4, 16)},
        "no ViTDet has such",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_does_not_fit_is_refused(change: str, tmp_path: Path) -> None:
    changes, said = CHANGES[change]
    state = {**detector()[1], **changes}
    path = write({k: v for k, v in state.items() if v is not None}, tmp_path / "d.pkl")
    with pytest.raises(InputError, match=said):
        load_detector(path, settings=DETECTOR)


def test_heads_of_other_sizes_and_files_of_no_detector_are_refused(tmp_path: Path) -> None:
    path = write(detector()[1], tmp_path / "d.pkl")
    with pytest.raises(InputError, match="does not fit the heads"):
        load_detector(path, settings=replace(DETECTOR, hidden=8))
    with pytest.raises(InputError, match="relative positions for 4 heads of attention, and not fo"):
        sslens.load(path, num_heads=2)
    model = sslens.load("random:vit_nano_patch8_32")
    torch.save(model.network.state_dict(), tmp_path / "vit.pth")
    with pytest.raises(InputError, match="no detector in detectron2's ViTDet layout"):
        load_detector(tmp_path / "vit.pth")


class Evil:
    """Would run code if a pickle of it were read by pickle itself."""

    def __reduce__(self) -> Any:
        return print, ("run",)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (pickle.dumps({"model": Evil()}), "asks for builtins.print"),
        (pickle.dumps({"model": np.zeros(3)})[:-9], "is cut off or damaged"),
        (pickle.dumps([np.zeros(3)]), "holds a list, not the named weights"),
        (pickle.dumps({"model": {"a": 1}}), "holds no tensors by name"),
        (b"<html>", "a web page"),
        (b"", "is empty"),
    ],
)
def test_pickles_of_other_things_are_refused(
    content: bytes, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "d.pkl"
    path.write_bytes(content)
    with pytest.raises(InputError, match=said):
        files.read_contents(path)
    assert capsys.readouterr().out == ""


def test_arrays_of_all_kinds_of_numbers_are_read(tmp_path: Path) -> None:
    values = {
        "float32": np.arange(3, dtype=np.float32),
        "float16": np.ones((2, 2), np.float16),
        "big-endian": np.arange(2, dtype=">f4"),
        "int64": np.array(3),
        "text": np.array(["a"]),
    }
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps({**values, "note": "x"}, protocol=2))
    contents = files.read_contents(path)
    arrays = contents.states[""]
    assert arrays["float16"].kind == "float16"
    assert arrays["big-endian"].kind == "float32"
    assert arrays["big-endian"].values.tolist() == [0, 1]
    assert arrays["int64"].values == 3
    assert "text" not in arrays
    assert contents.rest["note"] == "x"


def test_a_loaded_backbone_is_not_given_windows_twice(tmp_path: Path) -> None:
    model = sslens.load(write(detector()[1], tmp_path / "d.pkl"))
    with pytest.raises(InputError, match="a WindowedViT, which cannot be tuned"):
        make_backbone(model, 64)


def test_a_loaded_backbone_takes_images_of_other_sizes(tmp_path: Path) -> None:
    model = sslens.load(write(detector()[1], tmp_path / "d.pkl"))
    larger = at_size(model, 96)
    assert larger(torch.zeros(1, 3, 96, 96)).shape == (1, 36, 64)
    with pytest.raises(InputError, match="patches of 16 px, which do not divide 100 px"):
        at_size(model, 100)
