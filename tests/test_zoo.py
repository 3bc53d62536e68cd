"""From a name or a file to a model: every form, strictly, and nothing unpickled."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import sslens
from sslens import zoo
from sslens.errors import InputError
from sslens.models.backbone import Backbone
from sslens.models.vit import ViTArch, describe
from sslens.store import write_tensors

NANO = "random:vit_nano_patch8_32"
ARCH = ViTArch.parse("vit_nano_patch8_32")


def encoder(path: Path, changes: dict[str, torch.Tensor | None] | None = None, **about: Any) -> Path:
    """A file as a training of ours leaves it, with tensors put in, changed or (None) left out."""
    weights = {**ARCH.build(seed=7).state_dict(), **(changes or {})}
    known = {"family": "sslens", "objective": "mae", "arch": "vit_nano_patch8_32", **about}
    tensors = {name: value for name, value in weights.items() if value is not None}
    write_tensors(path, tensors, zoo.header("my mae", describe(ARCH), known))
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encoder(tmp_path_factory.mktemp("runs") / "mae" / zoo.ENCODER).parent


# -------------------------------------------------------------------------------------------------------------- forms


def usable(model: Backbone) -> None:
    size = model.transform.crop
    found = sslens.activations(model, torch.zeros(2, 3, size, size))
    assert list(found) == list(model.taps)
    assert not model.network.training
    assert not any(p.requires_grad for p in model.parameters())
    depths = [tap.depth for tap in model.taps.values()]
    assert depths == sorted(depths)
    assert json.dumps(model.about)
    assert len(model.digest) == 64
    assert all(torch.isfinite(value).all() for value in found.values())


def test_a_run_is_loaded_by_its_folder_or_its_file(run: Path) -> None:
    by_folder, by_file = zoo.load(run), zoo.load(str(run / zoo.ENCODER))
    usable(by_folder)
    assert by_folder.digest == by_file.digest
    assert by_folder.name == "my mae"
    assert by_folder.about["objective"] == "mae"
    assert zoo.load(by_folder.source).digest == by_folder.digest
    for name, value in ARCH.build(seed=7).state_dict().items():
        assert torch.equal(by_folder.network.state_dict()[name], value)


@pytest.mark.parametrize(
    ("source", "taps", "prefix", "size", "again"),
    [
        ("pixels", 1, None, 32, "pixels"),
        (NANO, 17, 1, 32, f"{NANO}:0"),
        (f"{NANO}:3", 17, 1, 32, f"{NANO}:3"),
        ("random:vit_mini_patch16_48", 25, 1, 48, "random:vit_mini_patch16_48:0"),
        ("random:timm/test_vit:2", 25, 1, 160, "random:timm/test_vit:2"),
        ("random:test_vit3", 37, 1, 160, "random:test_vit3:0"),
    ],
)
def test_every_form_without_weights(source: str, taps: int, prefix: int | None, size: int, again: str) -> None:
    model = zoo.load(source)
    usable(model)
    assert len(model.taps) == taps
    assert model.prefix == prefix
    assert model.transform.crop == size
    assert model.source == again
    assert zoo.load(model.source).digest == model.digest


def test_transform_and_heads_are_the_sources_own() -> None:
    timm_model = zoo.load("random:timm/test_vit")
    assert timm_model.transform.spec() == {
        "resize": 168,  # 160 / 0.95
        "crop": 160,
        "interpolation": "bicubic",
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
    }
    assert zoo.transform(224).resize == 256
    assert zoo.transform(384).resize == 438
    assert zoo.transform(64).resize == 64
    network: Any = zoo.load(NANO, num_heads=4, blocks=2).network
    assert len(network.blocks) == 2
    assert network.blocks[0].attn.num_heads == 4


@pytest.mark.parametrize("source", [NANO, "random:timm/test_vit"])
def test_random_is_decided_by_its_seed_and_leaves_the_generator_alone(source: str) -> None:
    torch.manual_seed(11)
    before = torch.random.get_rng_state()
    one, other = zoo.load(f"{source}:1"), zoo.load(f"{source}:2")
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(12)
    assert zoo.load(f"{source}:1").digest == one.digest
    assert other.digest != one.digest
    assert zoo.load(source).digest == zoo.load(f"{source}:0").digest


def test_twins_are_random_models_of_the_same_shape(run: Path) -> None:
    for source in (str(run), f"{NANO}:5", "random:timm/test_vit"):
        model = zoo.load(source)
        twins = [zoo.load(twin) for twin in zoo.random_twins(model)]
        assert len({twin.digest for twin in [model, *twins]} - {model.digest}) >= 1
        for twin in twins:
            assert {k: v.shape for k, v in twin.state_dict().items()} == {
                k: v.shape for k, v in model.state_dict().items()
            }
    assert zoo.random_twins(zoo.load("pixels")) == []


# -------------------------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("pixel", "did you mean pixels"),
        ("random:", r'There is no model "random:": a model is a file or folder of sslens pretrain, pixels, timm:NAME'),
        ("nothing/of/this/kind", "There is no model"),
        ("random:vit_nano_patch8_32:x", 'The seed of random:vit_nano_patch8_32:x is "x"'),
        ("random:vit_nano_patch8_32:-1", "with SEED a whole number"),
        ("random:vit_nano_patch7_32", "must be a multiple of the patch size"),
        ("random:vit_nano_patch8", "expected vit_SIZE_patchP_S"),
        ("random:test_vitt", 'timm has no model "test_vitt": did you mean .*test_vit'),
        ("timm:vit_smal_patch16_224.dino", r"did you mean .*vit_small_patch16_224\.dino"),
        ("timm:vit_small_patch16_224.dyno", r"did you mean .*vit_small_patch16_224\.dino"),
        ("random:timm/test_resnet", "test_resnet is a ResNet: only plain Vision Transformers"),
    ],
)
def test_a_name_that_is_none_is_refused(source: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        zoo.load(source)


def test_a_misspelt_path_offers_what_lies_beside_it(run: Path) -> None:
    with pytest.raises(InputError, match=f'There is no model "{run.parent}/mea": did you mean {run}?'):
        zoo.load(run.parent / "mea")


def test_unknown_shapes_are_refused(run: Path) -> None:
    with pytest.raises(InputError, match="A ViT has no deep: it has image_size, patch_size, dim, blocks, heads"):
        zoo.load(NANO, deep=3)
    with pytest.raises(InputError, match="says its own architecture"):
        zoo.load(run, num_heads=2)


def test_a_download_without_a_network_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # what HF_HUB_OFFLINE=1 and HF_HOME set when the hub is imported
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError) as caught:
        zoo.load("timm:vit_small_patch16_224.dino")
    assert str(caught.value).startswith("timm could not get the weights of vit_small_patch16_224.dino (")
    assert str(caught.value).endswith("set HF_HOME to that cache and HF_HUB_OFFLINE=1.")
    assert "\n" not in str(caught.value)


# -------------------------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"blocks.1.attn.qkv.weight": None},
            r"the first is blocks.1.attn.qkv.weight: expected \(192, 64\), found none",
        ),
        ({"blocks.9.extra": torch.zeros(3)}, r"the first is blocks.9.extra: expected none, found \(3,\)"),
        ({"norm.bias": torch.zeros(65)}, r"the first is norm.bias: expected \(64,\), found \(65,\)"),
        ({"norm.bias": None, "norm.bais": torch.zeros(64)}, r"in 2 of 54 tensors; the first is norm.bais"),
    ],
    ids=["missing", "extra", "wrong shape", "misspelt"],
)
def test_tensors_that_do_not_fit_are_named(tmp_path: Path, changes: dict[str, torch.Tensor | None], said: str) -> None:
    path = encoder(tmp_path / zoo.ENCODER, changes)
    with pytest.raises(InputError, match=said):
        zoo.load(path)


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_a_truncated_file_is_said_to_be_one(tmp_path: Path, kept: int) -> None:
    path = encoder(tmp_path / zoo.ENCODER)
    whole = path.read_bytes()
    path.write_bytes(whole[:kept])
    size = len(whole[:kept])
    with pytest.raises(
        InputError, match=rf"is not a whole safetensors file \({size:,} bytes; .*it was cut off .*Copy it again"
    ):
        zoo.load(path)


def test_a_file_of_others_is_said_to_be_one(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(2)}, tmp_path / "theirs.safetensors")
    with pytest.raises(InputError, match="was not written by sslens pretrain"):
        zoo.load(tmp_path / "theirs.safetensors")


def test_a_folder_without_a_checkpoint_and_another_kind_of_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no last.safetensors: give a folder that sslens pretrain wrote"):
        zoo.load(tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"1")
    with pytest.raises(InputError, match=r"model.onnx is not a .safetensors file"):
        zoo.load(tmp_path / "model.onnx")


class Payload:
    """A pickle that touches a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("name", ["dino.pth", "last.safetensors", "model.pth.tar"])
def test_a_pickle_is_refused_without_being_unpickled(tmp_path: Path, name: str) -> None:
    mark, path = tmp_path / "ran", tmp_path / name
    torch.save({"model": Payload(mark)}, path)
    with pytest.raises(InputError, match=r"is not a (whole )?.?safetensors file"):
        zoo.load(path)
    assert not mark.exists()
    path.write_bytes(pickle.dumps(Payload(mark)))
    with pytest.raises(InputError, match=r"is not a (whole )?.?safetensors file"):
        zoo.load(path)
    assert not mark.exists()
    pickle.loads(path.read_bytes())
    assert mark.exists()  # it would have run
