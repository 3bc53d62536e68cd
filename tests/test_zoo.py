"""From a name or a file to a model: every form, strictly, and nothing unpickled."""

import dataclasses
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import sslens
from checkpoints import hugging
from sslens import cards, zoo
from sslens.errors import InputError
from sslens.models.backbone import Backbone
from sslens.models.vit import ViTArch, describe
from sslens.store import write_tensors
from sslens.zoo import cache

NANO = "random:vit_nano_patch8_32"
ARCH = ViTArch.parse("vit_nano_patch8_32")


def encoder(
    path: Path, changes: dict[str, torch.Tensor | None] | None = None, **about: Any
) -> Path:
    """A file as a training of ours leaves it, with tensors put in, changed or (None) left out."""
    weights = {**ARCH.build(seed=7).state_dict(), **(changes or {})}
    known = {"family": "sslens", "objective": "mae", "arch": "vit_nano_patch8_32", **about}
    tensors = {name: value for name, value in weights.items() if value is not None}
    write_tensors(path, tensors, zoo.make_header("my mae", describe(ARCH), known))
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encoder(tmp_path_factory.mktemp("runs") / "mae" / zoo.ENCODER).parent


# ------------------------------------------------------------------------------------------------
# forms


def usable(model: Backbone) -> None:
    size = model.transform.crop
    found = sslens.activations(model, torch.zeros(2, 3, size, size))
    assert list(found) == list(model.taps)
    assert not model.network.training
    assert not any(p.requires_grad for p in model.parameters())
    depths = [tap.depth for tap in model.taps.values()]
    assert depths == sorted(depths)
    assert json.dumps(model.about.to_json())
    assert len(model.digest) == 64
    assert all(torch.isfinite(value).all() for value in found.values())


def test_a_run_is_loaded_by_its_folder_or_its_file(run: Path) -> None:
    by_folder, by_file = zoo.load(run), zoo.load(str(run / zoo.ENCODER))
    usable(by_folder)
    assert by_folder.digest == by_file.digest
    assert by_folder.name == "my mae"
    assert by_folder.about.objective == "mae"
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
        ("random:test_vit3", 37, None, 160, "random:test_vit3:0"),  # which has no CLS token
        ("random:resnet18:1", 9, None, 224, "random:resnet18:1"),
        ("random:convnextv2_atto", 25, None, 224, "random:convnextv2_atto:0"),
        ("random:vit_nano_patch8_32_heads4:1", 17, 1, 32, "random:vit_nano_patch8_32_heads4:1"),
    ],
)
def test_every_form_without_weights(
    source: str, taps: int, prefix: int | None, size: int, again: str
) -> None:
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
    assert zoo.make_transform(224).resize == 256
    assert zoo.make_transform(384).resize == 438
    assert zoo.make_transform(64).resize == 64
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
        twins = [zoo.load(twin) for twin in zoo.name_random_twins(model.about)]
        assert len({twin.digest for twin in [model, *twins]} - {model.digest}) >= 1
        for twin in twins:
            assert {k: v.shape for k, v in twin.state_dict().items()} == {
                k: v.shape for k, v in model.state_dict().items()
            }
    assert zoo.name_random_twins(zoo.load("pixels").about) == []


# ------------------------------------------------------------------------------------------------
# names


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("pixel", "did you mean pixels"),
        ("random:", r'There is no model "random:": did you mean random:NAME'),
        (
            "nothing/of/this/kind",
            "There is no model .* a name that `sslens zoo` lists, a checkpoint file",
        ),
        ("mae_vitb15", "did you mean mae_vitb16"),
        ("random:resnet50:x", 'The seed of random:resnet50:x is "x"'),
        ("random:vit_nano_patch8_32:x", 'The seed of random:vit_nano_patch8_32:x is "x"'),
        ("random:vit_nano_patch8_32:-1", "with SEED a whole number"),
        ("random:vit_nano_patch7_32", "must be a multiple of the patch size"),
        ("random:vit_nano_patch8", "expected vit_SIZE_patchP_S"),
        ("random:test_vitt", 'timm has no model "test_vitt": did you mean .*test_vit'),
        ("timm:vit_smal_patch16_224.dino", r"did you mean .*vit_small_patch16_224\.dino"),
        ("timm:vit_small_patch16_224.dyno", r"did you mean .*vit_small_patch16_224\.dino"),
    ],
)
def test_a_name_that_is_none_is_refused(source: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        zoo.load(source)


def test_a_misspelt_path_offers_what_lies_beside_it(run: Path) -> None:
    with pytest.raises(
        InputError, match=f'There is no model "{run.parent}/mea": did you mean {run}?'
    ):
        zoo.load(run.parent / "mea")


def test_unknown_shapes_are_refused(run: Path) -> None:
    with pytest.raises(
        InputError, match="A ViT has no deep: it has image_size, patch_size, dim, blocks, heads"
    ):
        zoo.load(NANO, deep=3)
    with pytest.raises(InputError, match="says its own architecture"):
        zoo.load(run, num_heads=2)


def test_a_download_without_a_network_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # what HF_HUB_OFFLINE=1 and HF_HOME set when the hub is imported
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError) as caught:
        zoo.load("timm:vit_small_patch16_224.dino")
    assert str(caught.value).startswith(
        "timm could not get the weights of vit_small_patch16_224.dino ("
    )
    assert str(caught.value).endswith("set HF_HOME to that cache and HF_HUB_OFFLINE=1.")
    assert "\n" not in str(caught.value)


# ------------------------------------------------------------------------------------------------
# files


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"blocks.1.attn.qkv.weight": None},
            r"the first is blocks.1.attn.qkv.weight: expected \(192, 64\), found none",
        ),
        (
            {"blocks.9.extra": torch.zeros(3)},
            r"the first is blocks.9.extra: expected none, found \(3,\)",
        ),
        (
            {"norm.bias": torch.zeros(65)},
            r"the first is norm.bias: expected \(64,\), found \(65,\)",
        ),
        (
            {"norm.bias": None, "norm.bais": torch.zeros(64)},
            r"in 2 of 54 tensors; the first is norm.bais",
        ),
    ],
    ids=["missing", "extra", "wrong shape", "misspelt"],
)
def test_tensors_that_do_not_fit_are_named(
    tmp_path: Path, changes: dict[str, torch.Tensor | None], said: str
) -> None:
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
        InputError,
        match=(
            rf"is not a whole safetensors file \({size:,} bytes; .*it was cut off .*Copy it again"
        ),
    ):
        zoo.load(path)


def test_a_folder_without_a_checkpoint_and_another_kind_of_file(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"holds no last.safetensors: give a folder that sslens pretrain wrote"
    ):
        zoo.load(tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"1")
    with pytest.raises(
        InputError,
        match=r"model.onnx is no checkpoint by its name: files that can be loaded end in .pth",
    ):
        zoo.load(tmp_path / "model.onnx")


def test_a_folder_of_hugging_faces_is_read_by_its_file(tmp_path: Path) -> None:
    save_file(hugging(ARCH.build(3).state_dict()), tmp_path / "model.safetensors")
    assert torch.equal(
        zoo.load(tmp_path, num_heads=1).network.state_dict()["cls_token"],
        ARCH.build(3).state_dict()["cls_token"],
    )


def test_files_of_ours_that_are_no_encoders_are_named(tmp_path: Path) -> None:
    for header, said in (
        ("sslens.state", "load the last.safetensors beside it"),
        ("sslens.fingerprint", "give it to sslens compare"),
    ):
        save_file({"grams": torch.zeros(2)}, tmp_path / "a.safetensors", {header: "{}"})
        with pytest.raises(InputError, match=said):
            zoo.load(tmp_path / "a.safetensors")


# ------------------------------------------------------------------------------------------------
# cards


def official(folder: Path) -> tuple[cards.Card, Path]:
    """A card of MAE for a small ViT, and a file in its layout."""
    small = {
        "arch": "vit_nano_patch8_32",
        "heads": 2,
        "size": None,
        "sha256": None,
        "md5_prefix": None,
    }
    card = dataclasses.replace(cards.find("mae_vitb16"), **small)
    path = folder / "theirs.pth"
    torch.save({"model": ARCH.build(1).state_dict()}, path)
    return card, path


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[cards.Card, Path]:
    return official(tmp_path_factory.mktemp("official"))


def known(monkeypatch: pytest.MonkeyPatch, *those: cards.Card) -> None:
    monkeypatch.setattr(cards, "_read_cards", lambda: those)
    values = {card.name: {"aliases": card.aliases} for card in those}
    monkeypatch.setattr(cards, "_read_values", lambda: values)
    monkeypatch.setattr(cards, "_read_card", {card.name: card for card in those}.get)


def test_a_card_is_loaded_from_its_file_and_speaks_for_it(
    small: tuple[cards.Card, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card, path = small
    monkeypatch.setenv("SSLENS_HOME", str(tmp_path))
    known(monkeypatch, card)
    target = cache.locate(card)
    target.parent.mkdir(parents=True)
    target.symlink_to(path)
    model = zoo.load(
        "mae_vitb16"
    )  # without a network, and without a warning: the card says how many heads
    assert (model.name, model.source) == ("mae_vitb16", "mae_vitb16")
    assert model.about.card == "mae_vitb16"
    assert model.about.epochs == 1600
    assert model.about.arch == "vit_nano_patch8_32_heads2"
    assert model.transform.spec()["interpolation"] == "bicubic"
    with pytest.warns(
        UserWarning, match="with 4 heads of attention as you asked, but the card mae_vitb16 says 2"
    ):
        zoo.load("mae_vitb16", num_heads=4)
    with pytest.raises(
        InputError, match="mae_vitb16 says its own architecture: blocks cannot be given"
    ):
        zoo.load("mae_vitb16", blocks=2)
    for field, value in (
        ("objective", "dino"),
        ("arch", "vit_large_patch16_224"),
        ("tuned", "linear"),
    ):
        known(monkeypatch, dataclasses.replace(card, **{field: value}))
        with pytest.raises(
            InputError, match=rf"The card mae_vitb16 says {field} {value}, but its file .* has "
        ):
            zoo.load("mae_vitb16")


@pytest.mark.parametrize("name", [card.name for card in cards.cards().values() if card.file])
def test_what_is_shipped_loads_and_says_what_it_is(name: str) -> None:
    card, model = cards.find(name), zoo.load(name)
    usable(model)
    assert (model.name, model.source, model.about.card) == (name, name, name)
    assert {key: getattr(model.about, key) for key in ("family", "objective", "tuned")} == {
        "family": card.family,
        "objective": card.objective,
        "tuned": card.tuned,
    }
    assert zoo.name_random_twins(model.about) == [f"random:{card.arch}:0", f"random:{card.arch}:1"]


def test_a_file_is_known_by_its_hash(
    small: tuple[cards.Card, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    card, path = small
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    full = dataclasses.replace(card, sha256=sha256, size=path.stat().st_size)
    for named in (
        full,
        dataclasses.replace(full, size=None),
        dataclasses.replace(card, sha256_prefix=sha256[:8]),
    ):
        known(monkeypatch, named)
        model = zoo.load(path)
        assert (model.name, model.source, model.about.card) == (
            "mae_vitb16",
            str(path),
            "mae_vitb16",
        )
    for named in (
        dataclasses.replace(full, size=1),
        dataclasses.replace(full, sha256="0" * 64),
        card,
    ):
        known(monkeypatch, named)
        with pytest.warns(UserWarning, match="with 1 head, guessed"):
            assert zoo.load(path).about.card is None


def test_a_cards_name_wins_over_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mae_vitb16").symlink_to(run)
    zoo.check("mae_vitb16")
    assert zoo.load("./mae_vitb16").name == "my mae"


def test_a_source_of_one_network_has_no_branches() -> None:
    for source in ("pixels", NANO):
        with pytest.raises(
            InputError, match=f"{source} is one network: branch is for files that hold several"
        ):
            zoo.load(source, branch="teacher")
    with pytest.raises(
        InputError, match="random:resnet18 is a convolutional network of a fixed shape"
    ):
        zoo.load("random:resnet18", blocks=2)


def test_a_source_carries_its_options(run: Path, tmp_path: Path) -> None:
    model = zoo.load(NANO, num_heads=4, blocks=2)
    assert model.source == f"{NANO}:0 blocks=2 num_heads=4"
    assert zoo.load(model.source).digest == model.digest
    teacher, student = (ARCH.build(seed).state_dict() for seed in (1, 2))
    torch.save({"teacher": teacher, "student": student}, tmp_path / "a.pth")
    model = zoo.load(tmp_path / "a.pth", branch="student", num_heads=1)
    again = zoo.load(model.source)
    assert (again.digest, again.name, again.source) == (model.digest, "a (student)", model.source)
    assert zoo.load(f"{tmp_path / 'a.pth'} num_heads=1").digest != model.digest
    with pytest.raises(InputError, match="says num_heads=x: expected a whole number"):
        zoo.load(f"{NANO} num_heads=x")
    spaced = tmp_path / "a b=1.pth"
    torch.save({"model": teacher}, spaced)
    assert zoo.load(spaced, num_heads=1).name == "a b=1"


def test_a_hub_without_a_network_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        InputError,
        match=r"could not get the weights of hf-hub:timm/nothing .*loaded from its folder",
    ) as caught:
        zoo.load("hf-hub:timm/nothing")
    assert "\n" not in str(caught.value)


def test_checking_a_name_needs_no_torch() -> None:
    code = (
        "import sys; from sslens import zoo; zoo.check('mae_vitb16'); zoo.check('timm:x');"
        " print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
