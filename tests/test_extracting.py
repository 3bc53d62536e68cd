"""The weights of a file that also holds objects of Python's classes: refused with advice, and the
advice works when it is followed. So does all other advice of loading."""

import datetime
import re
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from checkpoints import EXAMPLES
from released import LIGHTNING
from sslens import cli, zoo
from sslens.errors import InputError
from sslens.zoo import doctor, extracting
from sslens.zoo.folders import read_checkpoint
from sslens.zoo.recognise import recognise
from written import HEADS, vit


class Settings:
    """Somebody's class."""

    rate = 0.1


@pytest.mark.parametrize("thing", [Settings(), Path("a"), datetime.timedelta(1)])
def test_weights_beside_objects_are_written_alone(thing: Any, tmp_path: Path) -> None:
    case = EXAMPLES["dino"]()["full"]
    torch.save({**case.tree, "settings": thing}, tmp_path / "a.pth")
    out = tmp_path / "weights.safetensors"
    if not isinstance(thing, datetime.timedelta):
        with pytest.raises(InputError, match=r"--extract|extract="):
            zoo.load(tmp_path / "a.pth")
    extracting.extract_weights(tmp_path / "a.pth", out)
    model: Any = zoo.load(out, **HEADS)
    assert model.about.objective == "dino"
    assert model.about.branch == "teacher"
    for key, value in case.network.state_dict().items():
        assert torch.equal(model.network.state_dict()[key], value)
    with pytest.raises(InputError, match="is there already: give another extract"):
        extracting.extract_weights(tmp_path / "a.pth", out)
    with pytest.raises(InputError, match=r"does not end in \.safetensors"):
        extracting.extract_weights(tmp_path / "a.pth", tmp_path / "weights.pth")


class Own(torch.nn.Sequential):
    """Somebody's network."""


def test_a_network_of_a_kind_of_its_own_leads_to_its_function(tmp_path: Path) -> None:
    parts = [torch.nn.Linear(4, 4) for _ in range(5)]
    whole, alone = tmp_path / "whole.pt", tmp_path / "alone.safetensors"
    torch.save(Own(*parts), whole)
    extracting.extract_weights(whole, alone)
    for path in (whole, alone):
        refused = str(doctor.examine(path).refused)
        assert "code is given as MODULE:FUNCTION, a function that builds it" in refused
        assert "sslens.wrap" in refused


#: those that are found in other places of a file, or by values or by numbers of axes
PLACES = ("msn", "solo-learn", "hf-clip", "fcmae", "swin", "hiera", "vjepa2", "c-radio", "vissl")


@pytest.mark.parametrize("layout", [*PLACES, "mmpretrain", "jax-vit"])
def test_a_file_and_its_weights_alone_are_the_same_to_a_layout(layout: str, tmp_path: Path) -> None:
    case = next(iter(EXAMPLES[layout]().values()))
    path = case.write(tmp_path)
    extracting.extract_weights(path, tmp_path / "alone.safetensors")
    one, other = (
        recognise(read_checkpoint(file), **case.options)
        for file in (path, tmp_path / "alone.safetensors")
    )
    assert (one.layout, one.branch, one.shape) == (other.layout, other.branch, other.shape)
    assert {(e.state, e.key, e.fate) for e in one.account} == {
        (e.state, e.key, e.fate) for e in other.account
    }


def test_the_command_writes_and_tells(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    state = {f"model.{key}": value for key, value in vit("learned").state_dict().items()}
    torch.save({"state_dict": state, "hyper_parameters": Settings(), **LIGHTNING}, "last.ckpt")
    assert cli.main(["doctor", "last.ckpt"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    option = re.search(r"--extract \S+\.safetensors", said)
    assert option is not None, said
    assert cli.main(["doctor", "last.ckpt", *option[0].split()]) == 0
    assert "Lightning: training file" in capsys.readouterr().out


def test_a_branch_is_given_as_refusals_say_it(tmp_path: Path) -> None:
    first, second = vit("learned", 1), vit("learned", 2)
    torch.save({"a": first.state_dict(), "b": second.state_dict()}, tmp_path / "f.pth")
    with pytest.raises(InputError, match="several networks") as caught:
        zoo.load(tmp_path / "f.pth")
    advice = re.search(r"give (\S+@branch=\w+)\.", str(caught.value))
    assert advice is not None
    with pytest.warns(UserWarning, match="read with 1 head, guessed") as doubts:
        model: Any = zoo.load(advice[1])
    assert torch.equal(model.network.cls_token, first.cls_token)
    heads = re.search(r"give @(heads=)NUMBER behind it", str(doubts[0].message))
    assert heads is not None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        zoo.load(f"{advice[1]},{heads[1]}1")
    assert "@branch=a" in str(doctor.examine(tmp_path / "f.pth").refused)
