"""What stands beside a network in people's own checkpoints: it is left out by its place, by its
name or as asked for, and nothing of the network ever is."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import sslens
from sslens import zoo
from sslens.errors import InputError
from sslens.models.vit import ViTArch
from sslens.study.members import require_recognised
from sslens.zoo import doctor, parts
from sslens.zoo.arrays import Array
from sslens.zoo.files import Contents
from sslens.zoo.recognise import Recognised, recognise
from sslens.zoo.weights import read_weights
from written import RESNET, State, head, trained, under, vit

#: names of modules that no rule here knows
STRANGE = ("zebra", "g_theta", "quux2")
NARROW = ViTArch(image_size=32, patch_size=16, dim=96, blocks=1, heads=3)
WORDS = ("two methods", "lightly", "mixed")


def networks() -> dict[str, nn.Module]:
    return {"ViT": vit("learned", 1), "ResNet": trained(RESNET.build(1), 1)}


def mlp(name: str) -> State:
    return head(f"{name}.0.weight", f"{name}.0.bias", f"{name}.2.weight", f"{name}.2.bias")


def read(*states: State, names: tuple[str, ...] = ("",), **options: Any) -> Recognised:
    """Read state dicts that are in memory."""
    arrays = {
        name: {key: Array(value.numpy(), "float32") for key, value in state.items()}
        for name, state in zip(names, states, strict=True)
    }
    return recognise(Contents(Path("own.pth"), arrays), **options)


def refused(*states: State, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        read(*states, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def require_whole(found: Recognised, network: nn.Module) -> None:
    """All of the network is read, and nothing else."""
    state = network.state_dict()
    assert found.weights.keys() == state.keys()
    for name, value in state.items():
        assert np.array_equal(found.weights[name].values, value.float().numpy()), name


def follow(said: str) -> dict[str, Any]:
    """The options of the command that a refusal advises."""
    _, _, rest = said.partition("own.pth@")
    return zoo.split_options("own.pth@" + rest.split(", which")[0].rstrip("."))[1]


# ------------------------------------------------------------------------------------------------
# by its place


@pytest.mark.parametrize("kind", ["ViT", "ResNet"])
@pytest.mark.parametrize("prefix", ["backbone.", "encoder.", "model.", "module.backbone.", "f."])
def test_what_stands_beside_a_networks_prefix_is_left_out(kind: str, prefix: str) -> None:
    source = Path(parts.__file__).read_text(encoding="utf-8")
    assert not any(name in source for name in STRANGE)
    network = networks()[kind]
    start = "module." if prefix.startswith("module.") else ""
    beside = mlp(f"{start}zebra") | head(f"{start}g_theta.weight", f"{start}quux2")
    found = read(under(prefix, network.state_dict()) | beside)
    require_whole(found, network)
    assert found.left_out == {
        f"{start}zebra": 4,
        f"{start}g_theta": 1,
        f"{start}quux2": 1,
    }
    reasons = {entry.key: entry.reason for entry in found.account if entry.fate == "dropped"}
    assert reasons.keys() == beside.keys()
    assert reasons[f"{start}quux2"] == "quux2, a part beside the network by its place"


@pytest.mark.parametrize("name", ["projector", "projection_head", "proj", "prototypes", "zebra"])
def test_an_own_run_of_a_student_and_a_teacher_loads(name: str) -> None:
    student, teacher = vit("learned", 1), vit("learned", 2)
    states = [
        under("module.", under("backbone.", one.state_dict()) | mlp(name))
        for one in (student, teacher)
    ]
    for branch, network in ((None, teacher), ("student", student)):
        found = read(*states, names=("student", "teacher"), branch=branch)
        require_whole(found, network)
        assert "lightly" not in found.claim.method
        assert sum(entry.fate == "dropped" for entry in found.account) == len(states[0]) + 4


def test_a_single_layer_that_is_called_a_projector_is_no_classifier() -> None:
    state = under("encoder.", vit("learned", 1).state_dict())
    layer = {"weight": torch.ones(8, 64), "bias": torch.ones(8)}
    reasons = {}
    for name in ("projector", "labels"):
        found = read(state | under(f"{name}.", layer))
        reasons[name] = found.account[-1].reason
    assert reasons == {
        "projector": "projector, a part beside the network by its place",
        "labels": "the classification head",
    }


def test_what_may_be_the_network_itself_is_not_left_out() -> None:
    network, other = networks()["ResNet"], vit("learned", 1).state_dict()
    state = under("encoder.", network.state_dict())
    unread = {"zebra.cut.weight": torch.ones(8, 3, 4, 4), **head("zebra.1.weight")}
    said = refused(state | unread)
    assert "zebra (2 tensors): its zebra.cut.weight of shape (8, 3, 4, 4) reads images" in said
    require_whole(read(state | unread, **follow(said)), network)
    half = under("zebra.", {key: value for key, value in other.items() if "patch" not in key})
    said = refused(under("encoder.", other) | half)
    assert "zebra (28 tensors): it has 28 of the 30 names of the network's tensors" in said
    assert follow(said) == {"drop": "zebra"}
    twins = under("encoder.", other) | under("zebra.", other) | mlp("quux2")
    assert "holds several networks (encoder, zebra)" in refused(twins)
    assert read(twins, branch="zebra").left_out == {"quux2": 4}


@pytest.mark.parametrize("kind", ["ViT", "ResNet"])
def test_a_network_that_was_changed_is_refused_whatever_stands_beside_it(kind: str) -> None:
    """Nothing inside the prefix is left out by its place, and nothing outside stands in for it."""
    state = {k: v for k, v in networks()[kind].state_dict().items() if v.ndim}
    for key in state:
        lost = {name: value for name, value in state.items() if name != key}
        moved = under("f.", lost) | {key: state[key]} | mlp("zebra")
        renamed = under("f.", lost | {f"zebra.{key}": state[key]}) | mlp("zebra")
        grown = {**lost, key: torch.cat([state[key], state[key][:1]])}
        for changed in (moved, renamed, under("f.", grown) | mlp("zebra")):
            refused(changed, num_heads=1 if kind == "ViT" else None)
    more = under("f.", state | {"blocks.0.zebra.weight": torch.ones(2)}) | mlp("quux2")
    assert not set(WORDS) & set(refused(more).split())


# ------------------------------------------------------------------------------------------------
# at the top of the network


@pytest.mark.parametrize("kind", ["ViT", "ResNet"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_usual_head_at_the_top_of_a_network_is_left_out(kind: str, prefix: str) -> None:
    network = networks()[kind]
    names = ("projector", "proj_head", "projection_mlp", "online_predictor", "expander", "proj")
    state = network.state_dict() | {"queue": torch.ones(2, 8)}
    if kind == "ViT":  # a ResNet with prototypes is SwAV's
        state |= {"prototypes.weight": torch.ones(3, 8)}
    for name in names:
        state |= mlp(name)
    found = read(under(prefix, state))
    require_whole(found, network)
    assert found.left_out[f"{prefix}proj"] == 4
    assert {entry.reason for entry in found.account if entry.into is None} == {parts.AT_ROOT}


@pytest.mark.parametrize("kind", ["ViT", "ResNet"])
def test_another_module_at_the_top_is_refused_with_a_way_out_that_works(kind: str) -> None:
    network = networks()[kind]
    state = network.state_dict() | mlp("zebra") | head("quux2")
    said = refused(state)
    assert "own.pth holds 5 tensors at the top of its network that no network read here has" in said
    assert not any(word in said for word in WORDS)
    assert follow(said) == {"drop": "zebra+quux2"}
    found = read(state, **follow(said))
    require_whole(found, network)
    assert found.left_out == {"zebra": 4, "quux2": 1}
    assert "quux2" in refused(state, drop=["zebra"])


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("ViT", ["blocks", "norm", "cls_token", "pos_embed", "patch_embed"]),
        ("ResNet", ["layer4", "layer1", "conv1", "bn1"]),
    ],
)
def test_no_part_of_the_network_can_be_left_out(kind: str, names: list[str]) -> None:
    state = networks()[kind].state_dict()
    for name in names:
        for prefix in ("", "f."):
            for spelt in {name, prefix + name}:
                said = refused(under(prefix, state) | mlp("zebra"), drop=f"zebra+{spelt}")
                assert f'"{spelt}" is the network of own.pth or a part of it' in said
    assert '"f" is the network' in refused(under("f.", state) | mlp("zebra"), drop="f")
    more = state | {"blocks.9.gate": torch.ones(1), "norm_pre.weight": torch.ones(64)}
    refused(more, drop="norm_pre")


def test_a_misspelt_part_is_answered_with_the_nearest() -> None:
    state = vit("learned", 1).state_dict() | mlp("zebra")
    assert 'no module "zebar" beside its network: did you mean zebra?' in refused(
        state, drop="zebar"
    )
    assert "there are none" in refused(vit("learned", 1).state_dict(), drop="x")


# ------------------------------------------------------------------------------------------------
# what is refused as before, and what is told together


def test_the_files_of_a_method_have_no_other_parts() -> None:
    network = vit("moco-v3", 1)
    both = under("module.base_encoder.", network.state_dict()) | mlp("module.predictor")
    said = refused(both | mlp("module.zebra"))
    assert "no file of this layout (MoCo-v3) has, the first module.zebra.0.weight" in said
    assert not any(word in said for word in WORDS)
    require_whole(read(both | mlp("module.zebra"), **follow(said)), network)
    decoder = head("decoder_embed.weight", "decoder_blocks.0.norm1.weight")
    assert "two methods, MAE's" in refused(
        vit("learned", 1).state_dict() | decoder, both, names=("model", "state_dict")
    )


def test_all_that_is_wrong_with_a_file_is_told_with_one_command() -> None:
    network = NARROW.build(0)
    state = network.state_dict() | mlp("zebra")
    said = refused(state)
    assert "width 96, which is no multiple of 64: its heads cannot be known" in said
    assert "It holds 4 tensors at the top" in said
    assert "own.pth@heads=N,drop=zebra" in said
    require_whole(read(state, num_heads=3, drop="zebra"), network)
    assert "own.pth@heads=3,drop=zebra" in refused(state, num_heads=3)
    twins = under("a.", network.state_dict()) | under("b.", state)
    said = refused(twins)
    assert "holds several networks (a, b)" in said
    assert "own.pth@branch=a,heads=N" in said
    assert (
        "say how many: own.pth@heads=N, or num_heads".lower()
        in refused(network.state_dict()).lower()
    )


def save(tmp_path: Path, **files: Mapping[str, Tensor]) -> list[str]:
    for name, state in files.items():
        torch.save(dict(state), tmp_path / f"{name}.pth")
    return [str(tmp_path / f"{name}.pth") for name in files]


def test_all_models_of_a_study_are_told_together(tmp_path: Path) -> None:
    state = NARROW.build(0).state_dict()
    sources = save(tmp_path, one=state, two=vit("learned", 1).state_dict(), three=mlp("x") | state)
    with pytest.raises(InputError) as caught:
        require_recognised(sources, {})
    said = str(caught.value)
    assert f"{sources[0]}@heads=N, or num_heads." in said
    assert f"{sources[2]}@heads=N,drop=x" in said
    assert "two.pth" not in said
    require_recognised([f"{sources[0]}@heads=3", f"{sources[2]}@heads=3,drop=x"], {})


def test_what_is_left_out_is_said_by_the_doctor_and_in_what_is_known(tmp_path: Path) -> None:
    network = NARROW.build(0)
    (path,) = save(tmp_path, own=network.state_dict() | mlp("zebra") | mlp("projector"))
    model = sslens.load(f"{path}@heads=3,drop=zebra")
    assert model.source == f"{path} num_heads=3 drop=zebra"
    assert sslens.load(model.source).digest == model.digest
    assert model.about.to_json()["left_out"] == {"zebra": 4, "projector": 4}
    for key, value in network.state_dict().items():
        assert torch.equal(model.network.state_dict()[key], value)
    found = doctor.examine(path, num_heads=3, drop="zebra")
    lines = {(group.count, group.keys, group.reason) for group in found.groups}
    assert (4, "zebra.*", "left out as asked for") in lines
    assert (4, "projector.*", "a head beside the network") in lines
    assert found.line == f"sslens.load({path!r}, num_heads=3, drop='zebra')"
    tensors = read_weights(f"{path}@heads=3,drop=zebra").tensors
    assert tensors["zebra.0.weight"].beside == "left out as asked for"
    with pytest.raises(InputError, match="drop leaves out modules of files"):
        sslens.load("random:vit_nano_patch8_32:1", drop="zebra")
