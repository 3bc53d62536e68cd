"""Folders of Hugging Face, timm and open_clip: what stands beside the weights is read, and a part
is not taken for the whole. Loading and the doctor say the same."""

import json
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from checkpoints import hugging
from released import CLIP, RELEASED, TWO, WIDE, build, hf_tower, openai_tower, without_key_bias
from sslens import zoo
from sslens.errors import InputError
from sslens.zoo import doctor, insides
from sslens.zoo.contradictions import find_wrong_kind
from sslens.zoo.folders import read_checkpoint
from sslens.zoo.recognise import recognise
from sslens.zoo.shapes import CNNArch, CNNShape, ViTShape
from sslens.zoo.weights import read_weights
from stages import SWIN, hf_swin
from written import head, under

VIT = ViTShape(WIDE, hidden=96)
CONFIG = {
    "model_type": "vit",
    "hidden_size": 64,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "layer_norm_eps": 1e-12,
    "hidden_act": "gelu",
}


def write(folder: Path, state: Mapping[str, Tensor], **files: Any) -> Path:
    folder.mkdir(exist_ok=True)
    save_file(dict(state), folder / "model.safetensors", {"format": "pt"})
    for name, value in files.items():
        (folder / f"{name}.json").write_text(json.dumps(value))
    return folder


def refusal(path: Path) -> str:
    """What loading says, and the doctor alike."""
    with pytest.raises(InputError) as caught:
        zoo.load(path)
    if path.is_dir() and not any(path.glob("*.json")):  # there is no file to examine
        with pytest.raises(InputError, match=re.escape(str(caught.value))):
            doctor.examine(path)
    else:
        assert doctor.examine(path).refused == str(caught.value)
    return str(caught.value)


def test_config_json_tells_heads_eps_and_statistics(tmp_path: Path) -> None:
    state = hugging(build(VIT).state_dict())
    prepared = {
        "image_mean": [0.5, 0.4, 0.3],
        "image_std": [0.2, 0.2, 0.1],
        "resample": 2,
        "size": {"shortest_edge": 64},
        "crop_size": {"height": 48, "width": 48},
        "do_center_crop": True,
    }
    folder = write(tmp_path / "a", state, config=CONFIG, preprocessor_config=prepared)
    model: Any = zoo.load(folder)  # without a word of doubt: warnings are errors
    assert model.name == "a", "all files in such folders are called alike"
    assert "assumed" not in doctor.examine(folder).facts["images"]
    assert model.network.blocks[0].attn.num_heads == 2
    assert model.network.norm.eps == model.network.blocks[1].norm2.eps == 1e-12
    assert (model.transform.resize, model.transform.crop) == (64, 48)
    assert model.transform.mean == (0.5, 0.4, 0.3)
    assert model.transform.interpolation == "bilinear"
    found = doctor.examine(folder)
    assert found.refused is None
    assert "heads" not in found.facts
    (folder / "config.json").unlink()
    with pytest.warns(UserWarning, match=r"with 1 head, .*@heads=NUMBER"):
        zoo.load(folder)


def test_kinds_and_activations_are_read(tmp_path: Path) -> None:
    state = hugging(build(VIT).state_dict())
    masked = {**CONFIG, "model_type": "vit_mae"}
    folder = write(tmp_path / "a", state, config=masked)
    found = recognise(read_checkpoint(insides.find_weights(folder)))
    assert (found.claim.objective, found.claim.family) == ("mae", "REC")
    tower = hf_tower(build(CLIP).state_dict())
    vision = {**CONFIG, "hidden_act": "gelu", "layer_norm_eps": 1e-5}
    both = {"model_type": "clip", "vision_config": vision}
    folder = write(tmp_path / "b", tower, config=both)
    clip = recognise(read_checkpoint(folder / "model.safetensors"))
    assert isinstance(clip.shape, ViTShape)
    assert (clip.shape.activation, clip.shape.arch.heads, clip.shape.eps) == ("gelu", 2, 1e-5)
    folder = tmp_path / "c"
    folder.mkdir()
    save_file(openai_tower(build(CLIP).state_dict()), folder / "open_clip_model.safetensors")
    config = {"model_cfg": {"vision_cfg": {"width": 64, "head_width": 32}, "quick_gelu": True}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    quick = recognise(read_checkpoint(insides.find_weights(folder)))
    assert isinstance(quick.shape, ViTShape)
    assert (quick.shape.activation, quick.shape.arch.heads) == ("quick_gelu", 2)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("dinov2", "says model_type 'dinov2', but its blocks have a LayerScale, and these weights"),
        ("bert", "says model_type 'bert', but it is none whose weights have such names (vit, deit"),
        ("vit_msn", ""),
    ],
)
def test_a_kind_that_the_keys_contradict_is_suspicious_and_tells_no_objective(
    tmp_path: Path, kind: str, said: str
) -> None:
    config = {**CONFIG, "model_type": kind}
    found = doctor.examine(write(tmp_path, hugging(build(VIT).state_dict()), config=config))
    assert found.recognised["objective"] == (None if said else "msn")
    assert (said in " ".join(found.suspicious)) if said else not found.suspicious


def test_keys_tell_the_objective_beside_an_unknown_kind(tmp_path: Path) -> None:
    scales = [f"encoder.layer.{at}.layer_scale{which}.lambda1" for at in (0, 1) for which in (1, 2)]
    state = hugging(build(VIT).state_dict()) | {name: torch.ones(64) for name in scales}
    for kind, objective in (("depth_anything", "dinov2"), ("vit", None)):
        folder = write(tmp_path / kind, state, config={**CONFIG, "model_type": kind})
        found = doctor.examine(folder)
        assert found.recognised["objective"] == objective
        assert f"config.json says model_type '{kind}', but" in " ".join(found.suspicious)


def test_a_layer_scale_and_a_decoder_contradict_other_kinds() -> None:
    assert not find_wrong_kind("dinov2", "vit-hf", ["encoder.layer.0.layer_scale1.lambda1"])
    scaled = find_wrong_kind("vit_mae", "vit-hf", ["encoder.layer.0.layer_scale1.lambda1"])
    assert "no LayerScale, and these weights have encoder.layer.0.layer_scale1.lambda1" in scaled
    keys = ["decoder.decoder_embed.weight"]
    assert not find_wrong_kind("vit_mae", "vit-hf", keys)
    assert "no decoder, and these weights have decoder." in find_wrong_kind("ijepa", "vit-hf", keys)


def test_a_config_that_denies_the_biases_is_refused(tmp_path: Path) -> None:
    config = {**CONFIG, "qkv_bias": False}
    folder = write(tmp_path / "a", hugging(build(VIT).state_dict()), config=config)
    assert "qkv_bias is False there and True in the weights" in refusal(folder)


def shards(folder: Path) -> Path:
    state = under("vit.", hugging(build(VIT).state_dict()))
    folder.mkdir()
    names = [f"model-0000{part}-of-00002.safetensors" for part in (1, 2)]
    halves: list[dict[str, Tensor]] = [{}, {}]
    for name, value in state.items():
        halves[".layer.1." in name or ".layernorm." in name][name] = value
    for name, half in zip(names, halves, strict=True):
        save_file(half, folder / name, {"format": "pt"})
    places = {key: name for name, half in zip(names, halves, strict=True) for key in half}
    index = {"metadata": {}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return folder


def test_weights_in_parts_are_read_together(tmp_path: Path) -> None:
    folder = shards(tmp_path / "a")
    model: Any = zoo.load(folder)
    whole = build(VIT).state_dict()
    assert all(torch.equal(model.network.state_dict()[key], v) for key, v in whole.items())
    assert doctor.examine(folder).refused is None
    weights = read_weights(str(folder))  # as sslens diff reads them
    assert all(np.array_equal(weights.tensors[k].value.values, v) for k, v in whole.items())
    part = folder / "model-00001-of-00002.safetensors"
    before, content = weights.digest, part.read_bytes()
    part.write_bytes(content[:-4] + b"\0\0\0\0")
    assert read_weights(str(folder)).digest != before
    part.write_bytes(content)
    assert f"is part 1 of 2 of a network: give {folder}" in refusal(part)
    (folder / "model-00002-of-00002.safetensors").unlink()
    assert "lists model-00002-of-00002.safetensors, which is not" in refusal(folder)
    (folder / "model.safetensors.index.json").unlink()
    assert "model.safetensors.index.json, which is not here" in refusal(part)


def test_a_network_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    state = hugging(build(VIT).state_dict())
    half = {key: v for key, v in state.items() if ".layer.1." not in key}
    assert "num_hidden_layers is 2 there and 1 in the weights" in refusal(
        write(tmp_path / "a", half, config=CONFIG)
    )
    bare = {key: v for key, v in state.items() if not key.startswith("layernorm.")}
    assert "2 blocks without its final normalisation" in refusal(
        write(tmp_path / "b", bare, config=CONFIG)
    )
    network = without_key_bias(build(VIT)).state_dict()
    torch.save({k: v for k, v in network.items() if "norm." not in k[:5]}, tmp_path / "c.pth")
    with pytest.raises(InputError, match="the file was cut off, or"):
        zoo.load(tmp_path / "c.pth", **TWO)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"num_attention_heads": "12"}, "says '12' for the heads: expected a whole number"),
        ({"hidden_act": "gelo"}, 'hidden_act "gelo", which is not known here: did you mean gelu'),
        ({"hidden_act": "relu"}, 'hidden_act "relu", which no network read here computes with'),
        ({"layer_norm_eps": [1]}, "says layer_norm_eps [1]: expected a small number"),
        ({"image_size": 10**6}, "says 1000000 for the image_size, beyond any network"),
        (
            {"num_hidden_layers": 10**9},
            "for the blocks, beyond any network: expected at most 4,096",
        ),
        ([1], "holds no settings by name"),
    ],
)
def test_a_config_that_is_none_is_refused(config: Any, said: str, tmp_path: Path) -> None:
    state = {"x": torch.zeros(1)}
    assert said in refusal(write(tmp_path / "a", state, config=config))


def test_what_is_wrong_in_a_folder_is_called_as_its_files_call_it(tmp_path: Path) -> None:
    state = hugging(build(VIT).state_dict())
    folder = write(tmp_path / "heads", state, config={**CONFIG, "num_attention_heads": 5})
    said = refusal(folder)
    assert "width of 64, which cannot be shared by 5 heads of attention, as config.json" in said
    assert "@heads=N" in said
    key = "encoder.layer.0.attention.attention.query.weight"
    state["encoder.layer.0.attention.attention.querry.weight"] = state.pop(key)
    assert "the first is encoder.layer.0.attention.attention.querry.weight:" in refusal(
        write(tmp_path / "key", state, config=CONFIG)
    )
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"a config\.json and no weights: put model"):
        zoo.load(folder)


SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "intermediate_size": 96,
    "patch_size": 16,
    "image_size": 48,
}


def test_settings_that_contradict_the_weights_are_all_named(tmp_path: Path) -> None:
    state = hugging(build(VIT).state_dict())
    right = {**CONFIG, **SIZES, "image_size": [48, 48]}
    zoo.load(write(tmp_path / "right", state, config=right))
    for key, value in SIZES.items():
        folder = write(tmp_path / key, state, config={**right, key: 2 * value})
        said = refusal(folder)
        assert f"{folder / 'config.json'} does not fit model.safetensors: {key} is" in said
        assert f"{key} is {2 * value} there and {value} in the weights. One of the two is" in said
    other = {key: 2 * value for key, value in SIZES.items()}
    said = refusal(write(tmp_path / "other", state, config={**CONFIG, **other}))
    assert all(f"{key} is {value} there" in said for key, value in other.items())
    heads = {**right, "hidden_size": 60, "num_attention_heads": 5}
    said = refusal(write(tmp_path / "heads", state, config=heads))
    assert "as config.json beside it says, which is of another network (hidden_size 60)" in said
    tower = hf_tower(build(CLIP).state_dict())
    both = {"hidden_size": 7, "vision_config": {**right, "hidden_act": "gelu"}}
    zoo.load(write(tmp_path / "clip", tower, config=both))  # 7 is the text's
    both["vision_config"] |= {"patch_size": 8}
    assert "patch_size is 8 there and 16" in refusal(write(tmp_path / "c", tower, config=both))


def test_settings_of_networks_with_stages_are_held_against_the_weights(tmp_path: Path) -> None:
    swin = hf_swin(build(SWIN).state_dict())
    first = RELEASED["hf-convnext"]()["with a classifier"].tree
    second = build(CNNShape(CNNArch("convnextv2", [1, 1, 1, 1], [8, 8, 8, 8]))).state_dict()
    stages = {"hidden_sizes": [7], "depths": [9], "patch_size": 2}
    windowed = {"embed_dim": 7, "window_size": 5, "num_heads": [9], "depths": [1]}
    for name, tree, wrong in (
        ("swin", swin, windowed),
        ("first", first, stages),
        ("second", second, stages),
    ):
        said = refusal(write(tmp_path / name, tree, config=wrong))
        assert all(f"{key} is {value} there and" in said for key, value in wrong.items())


def test_a_config_that_begins_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    state = hugging(build(VIT).state_dict())
    folder = write(tmp_path / "a", state)
    text = json.dumps({**CONFIG, "layer_norm_eps": 1e-3})
    (folder / "config.json").write_text(text, encoding="utf-8-sig")
    model: Any = zoo.load(folder)
    assert model.network.norm.eps == 1e-3


def test_an_activation_that_the_network_cannot_have_is_refused(tmp_path: Path) -> None:
    tree = RELEASED["hf-dinov3"]()["model"].tree
    config = {**CONFIG, "model_type": "dinov3_vit", "hidden_act": "silu"}
    assert "activation function silu; networks of its kind have gelu" in refusal(
        write(tmp_path / "a", tree, config=config)
    )


def test_folders_are_named_for_what_they_are(tmp_path: Path) -> None:
    state = build(VIT).state_dict()
    torch.save(state, tmp_path / "a.pth")
    with zipfile.ZipFile(tmp_path / "a.pth") as archive:
        archive.extractall(tmp_path)
    folder = next(path for path in tmp_path.iterdir() if (path / "data.pkl").is_file())
    assert f"zip -0 -r {folder.name}.pth {folder.name}" in refusal(folder)
    with zipfile.ZipFile(tmp_path / "again.pth", "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(folder.rglob("*")):  # as the command does
            archive.write(path, path.relative_to(tmp_path))
    again = zoo.load(tmp_path / "again.pth", **TWO).network.state_dict()
    assert all(torch.equal(again[key], value) for key, value in state.items())
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "__0_0.distcp").write_bytes(b"x")
    assert "format_utils dcp_to_torch" in refusal(tmp_path / "parts")


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        (
            {"a._flat_param": torch.zeros(8)},
            "by FSDP with its weights flattened and cut",
        ),
        ({"h.0.qweight": torch.zeros(8)}, "holds quantised weights (h.0.qweight)"),
        ({"base.qkv.lora_A.weight": torch.zeros(2, 4)}, "holds an adapter (LoRA: base.qkv.lora_A"),
        (
            {k: v.to(torch.int8) if v.ndim == 2 else v for k, v in build(VIT).state_dict().items()},
            "as whole numbers, the first blocks.0.attn.qkv.weight (int8): they were quantised",
        ),
    ],
)
def test_weights_that_are_none_are_named(
    tree: dict[str, Tensor], said: str, tmp_path: Path
) -> None:
    torch.save(tree, tmp_path / "a.pth")
    assert said in refusal(tmp_path / "a.pth")


def test_numbers_of_numpys_beside_the_weights_are_told(tmp_path: Path) -> None:
    tree = {"model": build(VIT).state_dict(), "best_acc1": np.float64(0.75)}
    torch.save(tree, tmp_path / "a.pth")
    assert doctor.examine(tmp_path / "a.pth", **TWO).facts["holds"][-1] == "best_acc1: 0.75"


def test_parts_of_a_network_that_nobody_knows_are_still_refused(tmp_path: Path) -> None:
    state = under("backbone.", build(VIT).state_dict()) | head("classifier.weight")
    state |= head("backbone.strange.bias")
    torch.save({"state_dict": state, "pytorch-lightning_version": "2.0"}, tmp_path / "a.pth")
    with pytest.raises(InputError, match=r"the first backbone\.strange\.bias"):
        zoo.load(tmp_path / "a.pth", **TWO)
