"""What the doctor says of checkpoint files, of those that can be loaded and of those that
cannot."""

import argparse
import json
import re
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from checkpoints import DECODER, EXAMPLES, HEADS, RESNET, VIT, head, trained, under, vit
from sslens import cards, cli, zoo
from sslens.errors import InputError
from sslens.models.vit import ViTArch
from sslens.zoo import cache, doctor, extracting


def file(tmp_path: Path, tree: Any) -> Path:
    torch.save(tree, tmp_path / "file.pth")
    return tmp_path / "file.pth"


@pytest.mark.parametrize(
    "layout",
    [
        pytest.param(layout, marks=[pytest.mark.slow] if place % 4 else [])
        for place, layout in enumerate(EXAMPLES)
    ],
)
def test_every_layout_is_told(layout: str, tmp_path: Path) -> None:
    for name, case in EXAMPLES[layout]().items():
        options = dict(case.options) if layout != "sslens" else {}
        path = case.write(tmp_path)
        found = doctor.examine(path, **options)
        assert found.refused is None, name
        text = found.text()
        assert text.startswith(f"{path}: can be loaded\n")
        assert max(len(line) for line in text.splitlines()[1:]) <= doctor.WIDTH
        assert "what it is" in text
        assert "parameters" in text
        assert json.loads(json.dumps(found.to_json()))["loadable"] is True
        assert found.line is not None
        line = found.line.replace("?", str(found.recognised["heads"]))
        loaded: Any = eval(line, {"sslens": zoo})
        assert loaded.digest == zoo.load(path, **options).digest


def test_what_is_told_of_a_full_mae_file(tmp_path: Path) -> None:
    state = vit().state_dict()
    path = file(
        tmp_path,
        {
            "model": state | head(*DECODER),
            "epoch": 799,
            "optimizer": {"state": {}, "param_groups": []},
        },
    )
    found = doctor.examine(path, num_heads=4)
    parameters = sum(value.numel() for value in state.values())
    assert found.facts["what it is"] == "MAE: pre-training, with the decoder, a training file"
    assert found.facts["known by"] == [
        "it has MAE's decoder (decoder_embed.weight)",
        "pos_embed is MAE's fixed sin-cos table",
    ]
    assert found.facts["family"] == "REC, objective mae"
    assert (
        found.facts["network"]
        == "vit_64x2_patch16_48_heads4: 2 blocks of width 64 with 4 heads, patches of 16 px,"
        f" images of 48 px; {parameters:,} parameters"
    )
    assert found.facts["holds"] == [
        f"model: tensors 35, numbers {parameters + 5 * 12:,}",
        "epoch: 799; optimizer: an optimiser's state",
    ]
    assert "heads" not in found.facts  # they were said
    assert found.recognised == {
        "family": "REC",
        "objective": "mae",
        "tuned": False,
        "arch": "vit_64x2_patch16_48_heads4",
        "card": None,
        "layout": "mae",
        "branch": "model",
        "method": "MAE",
        "heads": 4,
        "parameters": parameters,
    }
    assert found.suspicious == ()
    told = [(group.fate, group.count, group.keys, group.reason) for group in found.groups]
    assert told == [
        ("kept", 30, "model: cls_token, pos_embed, patch_embed.proj.*, blocks.*, norm.*", ""),
        ("dropped", 4, "model: decoder_*", "the reconstruction decoder"),
        (
            "dropped",
            1,
            "model: mask_token",
            "the token that stands for masked patches in pre-training",
        ),
    ]
    assert found.facts["images"].endswith("(as the method's authors do: the file does not tell)")
    assert found.line == f"sslens.load({str(path)!r}, num_heads=4)"
    assert "suspicious  nothing" in found.text()


def test_heads_and_the_transform_that_nobody_said_are_told(tmp_path: Path) -> None:
    found = doctor.examine(file(tmp_path, vit("learned").state_dict()))
    assert found.facts["heads"].startswith(
        "1 of attention are assumed for this width: no file tells them"
    )
    assert found.facts["images"].endswith("(assumed: the file does not tell)")
    assert found.facts["family"] == "unknown, objective unknown"
    headed = vit("learned").state_dict() | {"head.weight": torch.ones(3, 64)}
    facts = doctor.examine(file(tmp_path, headed | {"head.bias": torch.zeros(3)})).facts
    assert facts["family"].startswith("unknown, objective unknown; trained with labels, from")
    assert any(
        "DINO's, timm's and supervised files look like this" in note
        for note in found.facts["notes"]
    )
    assert found.line is not None
    assert found.line.endswith("num_heads=N)"), "a guess is no advice"


@pytest.mark.parametrize("place", ["hyper_parameters", "args"])
def test_heads_in_the_settings_of_a_file_are_read(tmp_path: Path, place: str) -> None:
    state = vit("learned").state_dict()
    right = {"num_heads": 4, "embed_dim": 64, "patch_size": 16, "decoder": {"num_heads": 16}}
    torch.save({"state_dict": state, place: argparse.Namespace(**right)}, tmp_path / "a.pth")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model: Any = zoo.load(tmp_path / "a.pth")
    assert model.network.blocks[0].attn.num_heads == 4
    found = doctor.examine(tmp_path / "a.pth")
    assert found.facts["heads"] == f"4 of attention: {place} in the file says num_heads 4"
    assert found.line == f"sslens.load({str(tmp_path / 'a.pth')!r})"  # which is enough, as above
    with pytest.warns(UserWarning, match="2 heads of attention as you asked, but .*num_heads 4"):
        asked: Any = zoo.load(tmp_path / "a.pth", heads=2)
    assert asked.network.blocks[0].attn.num_heads == 2
    extracted = tmp_path / "b.safetensors"
    extracting.extract_weights(tmp_path / "a.pth", extracted)
    assert doctor.examine(extracted).facts["heads"] == found.facts["heads"]


@pytest.mark.parametrize(
    "wrong", [{"embed_dim": 96}, {"patch_size": 8}, {"num_heads": 5}, {"img_size": 224}]
)
def test_settings_of_another_network_are_not_taken(tmp_path: Path, wrong: dict[str, int]) -> None:
    settings = {"num_heads": 4, "img_size": 48} | wrong
    torch.save({"model": vit("learned").state_dict(), "args": settings}, tmp_path / "a.pth")
    with pytest.warns(UserWarning, match="with 1 head, guessed"):
        zoo.load(tmp_path / "a.pth")
    ((name, value),) = wrong.items()
    said = doctor.examine(tmp_path / "a.pth").facts["heads"]
    assert f"{name} {value}, which does not fit the shapes" in said
    suspicions = " ".join(doctor.examine(tmp_path / "a.pth").suspicious)
    assert "does not fit the shapes of these weights: the settings may be of another" in suspicions


@pytest.mark.parametrize(
    ("settings", "heads", "said"),
    [
        ({"heads": 8}, 1, "with 1 head, guessed.*heads 8, without .* may be heads of tasks"),
        ({"num_heads": 4}, 4, "with 4 heads of attention: .*num_heads 4, without the .*@heads="),
        ({"num_heads": "4"}, 4, "num_heads 4, without the network's width"),
        ({"num_heads": 4, "embed_dim": "64"}, 4, ""),
        ({"heads": 4, "depth": 2}, 4, ""),
        ({"num_attention_heads": 4}, 4, ""),
        ({"num_heads": 1}, 1, ""),
        ({"heads": 8, "model": {"heads": 4, "embed_dim": 64}}, 4, ""),
    ],
)
def test_heads_that_may_be_tasks_are_not_taken_in_silence(
    tmp_path: Path, settings: dict[str, Any], heads: int, said: str
) -> None:
    state = vit("learned").state_dict()
    torch.save({"model": state, "hyper_parameters": settings}, tmp_path / "a.pth")
    with warnings.catch_warnings(record=True) as doubts:
        warnings.simplefilter("always")
        model: Any = zoo.load(tmp_path / "a.pth")
    assert model.network.blocks[0].attn.num_heads == heads
    assert len(doubts) == bool(said)
    assert re.search(said, " ".join(str(doubt.message) for doubt in doubts))


HALF, ODD = (0.5, 0.5, 0.5), [0.4, 0.3, 0.2]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"mean": 0.5, "std": [0.5], "img_size": 48}, ""),
        ({"image_mean": list(HALF), "image_std": HALF}, ""),
        ({"mean": HALF, "std": HALF}, "no size of images stands beside them"),
        ({"mean": [127.5] * 3, "std": [127.5] * 3, "img_size": 48}, "not of values from 0 to 1"),
        ({"image_mean": 10**400, "image_std": 1, "mean": 0, "std": 0, "x": HALF}, None),
        ({"mean": 0, "std": 0.02, "img_size": 48}, "not of values from 0 to 1"),
        (
            {
                "mean": HALF,
                "std": HALF,
                "img_size": 48,
                "data": {"image_mean": ODD, "image_std": ODD},
            },
            "hyper_parameters/data in the file says mean (0.4, 0.3, 0.2) and std (0.4, 0.3, 0.2)",
        ),
    ],
)
def test_colours_in_the_settings_of_a_file_are_taken_or_named(
    tmp_path: Path, settings: dict[str, Any], said: str | None
) -> None:
    path, extracted = tmp_path / "a.pth", tmp_path / "b.safetensors"
    torch.save({"model": vit("learned").state_dict(), "hyper_parameters": settings}, path)
    extracting.extract_weights(path, extracted)
    for one in (path, extracted):
        images = doctor.examine(one, num_heads=1).facts["images"]
        if said is None:
            assert images.endswith("(assumed: the file does not tell)")
            continue
        assert "hyper_parameters in the file says mean" in images
        assert "sides and interpolation assumed: no file tells" in images
        assert ("which are not taken" in images) == bool(said)
        assert said in images
        model = zoo.load(one, num_heads=1)
        assert (model.transform.mean == HALF) != bool(said)
        assert model.assumptions.settings == ("sides", "interpolation")
        assert bool(model.assumptions.untaken) == bool(said)


def test_settings_that_do_not_fit_are_named_where_heads_must_be_given(tmp_path: Path) -> None:
    state = ViTArch(32, 16, 96, 1, 3).build(0).state_dict()
    torch.save({"model": state, "args": {"num_heads": 3, "depth": 12}}, tmp_path / "a.pth")
    refused = str(doctor.examine(tmp_path / "a.pth").refused)
    assert "(args in the file says num_heads 3, and beside it depth 12, which does not" in refused


# ------------------------------------------------------------------------------------------------
# suspicions


def suspicious(tmp_path: Path, tree: Any, **options: Any) -> tuple[str, ...]:
    return doctor.examine(file(tmp_path, tree), **(options or HEADS)).suspicious


def test_a_network_as_it_was_initialised_is_suspicious(tmp_path: Path) -> None:
    said = suspicious(tmp_path, VIT.build(0).state_dict())
    assert any("untrained: all 5 normalisations are as at initialisation" in each for each in said)
    assert any(each.startswith("All 8 biases of linear layers are zero") for each in said)
    assert suspicious(tmp_path, vit().state_dict()) == ()
    cnn = RESNET.build(0).state_dict()
    torch.save(cnn, tmp_path / "file.pth")
    assert any(
        "The running means of all" in each
        for each in doctor.examine(tmp_path / "file.pth").suspicious
    )
    torch.save(trained(RESNET.build(0)).state_dict(), tmp_path / "file.pth")
    assert doctor.examine(tmp_path / "file.pth").suspicious == ()


def test_constant_large_and_broken_values_are_told(tmp_path: Path) -> None:
    state = vit().state_dict()
    zero = {**state, "blocks.1.mlp.fc1.weight": torch.zeros(256, 64)}
    assert suspicious(tmp_path, zero) == (
        (
            "1 weight has one value throughout, the first blocks.1.mlp.fc1.weight: never trained,"
            " or overwritten."
        ),
    )
    large = {**state, "norm.bias": torch.full((64,), 2e4)}
    assert suspicious(tmp_path, large) == (
        "1 tensor has values above 10,000, the first norm.bias.",
    )
    broken = {**state, "norm.bias": torch.full((64,), float("nan"))}
    found = doctor.examine(file(tmp_path, broken), **HEADS)
    assert found.suspicious == ("1 tensor has NaN or infinite values, the first norm.bias.",)
    assert found.refused is not None
    assert "the first norm.bias (64 of 64)" in found.refused
    assert found.groups  # it is told all the same
    assert found.line is None


def test_an_untrained_head_and_equal_twins_are_told(tmp_path: Path) -> None:
    state = vit("learned").state_dict()
    fresh = {"head.weight": torch.randn(10, 64), "head.bias": torch.zeros(10)}
    assert any(
        "head.bias) is zero throughout" in each for each in suspicious(tmp_path, state | fresh)
    )
    assert suspicious(tmp_path, state | fresh | {"head.bias": torch.ones(10)}) == ()
    twins = {"teacher": under("backbone.", state), "student": under("module.backbone.", state)}
    assert any(
        "The branches teacher and student are equal" in each for each in suspicious(tmp_path, twins)
    )
    twins["student"] = under("module.backbone.", vit("learned", 2).state_dict())
    assert suspicious(tmp_path, twins) == ()


def test_a_fine_tuned_file_is_said_to_be_one(tmp_path: Path) -> None:
    case = EXAMPLES["mae"]()["fine-tuned"]
    found = doctor.examine(case.write(tmp_path), **HEADS)
    assert found.facts["family"] == "REC, objective mae; fine-tuned with labels"
    assert any(each.startswith("Labels trained these weights") for each in found.suspicious)


# ------------------------------------------------------------------------------------------------
# cards


def test_cards_that_a_file_resembles_are_named(tmp_path: Path) -> None:
    arch = ViTArch.parse("vit_small_patch16_224", 12)
    state = vit("moco-v3").state_dict()
    path = file(tmp_path, {"state_dict": under("module.base_encoder.", arch.build(0).state_dict())})
    said = doctor.examine(path).facts["card"]
    assert said.startswith("resembles mocov3_vits16 by architecture and objective")
    assert (
        doctor.examine(file(tmp_path, state), **HEADS).facts["card"]
        == "none is of this architecture and objective"
    )


def test_a_card_is_examined_by_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSLENS_HOME", str(tmp_path / "home"))
    card = cards.find("dino_resnet50")
    target = cache.locate(card)
    target.parent.mkdir(parents=True)
    torch.save(trained(cards_resnet()).state_dict(), target)
    found = doctor.examine("dino_resnet50")
    assert found.refused is None
    assert found.facts["card"] == f"dino_resnet50: {card.title}"
    assert found.facts["licence"] == card.licence
    assert found.line == "sslens.load('dino_resnet50')"
    torch.save(trained(RESNET.build(0)).state_dict(), target)
    assert "The card dino_resnet50 says arch resnet50, but its file" in str(
        doctor.examine("dino_resnet50").refused
    )


def cards_resnet() -> Any:
    from sslens.models.cnn import CNNArch

    return CNNArch.parse("resnet50").build(0)


# ------------------------------------------------------------------------------------------------
# files that are none


def test_what_cannot_be_loaded_is_told_as_far_as_it_goes(tmp_path: Path) -> None:
    state = under("module.base_encoder.", vit("moco-v3").state_dict())
    found = doctor.examine(file(tmp_path, {"state_dict": state | head("other.weight")}), **HEADS)
    assert found.refused is not None
    assert found.facts["seems to be"] == "MoCo-v3: training file, with one encoder"
    assert {(group.keys, group.count) for group in found.groups} == {
        ("state_dict: module.base_encoder.*", 30),
        ("state_dict: other.weight", 1),
    }
    damaged = tmp_path / "damaged.pth"
    damaged.write_bytes(b"\x80\x02abc")
    broken = doctor.examine(damaged)
    assert broken.facts == {"file": "5 bytes"}
    assert "is cut off or damaged" in str(broken.refused)
    assert broken.to_json()["loadable"] is False
    with pytest.raises(
        InputError,
        match="The doctor reads checkpoint files and those of cards; random:vit has none here",
    ):
        doctor.examine("random:vit")
    with pytest.raises(InputError, match="are fetched and kept by timm"):
        doctor.examine(next(card.name for card in cards.cards().values() if card.source))


def test_the_command_prints_and_its_status_says_whether_it_can_be_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = EXAMPLES["mae"]()["encoder"].write(tmp_path)
    assert cli.main(["doctor", str(path), "--num-heads", "4"]) == 0
    out = capsys.readouterr().out
    assert "MAE: encoder only" in out
    assert cli.main(["doctor", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["facts"]["branch"] == "model"
    path.write_bytes(b"<html>")
    assert cli.main(["doctor", str(path), "--json"]) == 2
    both = capsys.readouterr()
    assert json.loads(both.out)["loadable"] is False
    assert "is a web page" in json.loads(both.out)["error"]
    assert "is a web page" in " ".join(both.err.split())
    with monkeypatch.context() as terminal:
        for stream in ("sys.stdout", "sys.stderr"):
            terminal.setattr(f"{stream}.isatty", lambda: True)
        assert cli.main(["doctor", str(path)]) == 2
    both = capsys.readouterr()
    assert " ".join(both.out.split()).count("is a web page") == 1  # lines break anywhere
    assert both.err == ""
    assert cli.main(["doctor", str(tmp_path / "nothing.pth")]) == 2
    assert "There is no model" in capsys.readouterr().err
    save_file({"x": torch.zeros(1)}, tmp_path / "a.safetensors", {"format": "pt"})
    assert cli.main(["doctor", str(tmp_path / "a.safetensors")]) == 2
