"""The words by which `sslens zoo` finds cards."""

import json

import pytest

from sslens.cards import cards
from sslens.cli import main


def listed(capsys: pytest.CaptureFixture[str], *words: str) -> set[str]:
    assert main(["zoo", *words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    return {card["name"] for card in (found if isinstance(found, list) else [found])}


@pytest.mark.parametrize("family", ["JE", "rec", "supervised"])
def test_a_word_that_is_a_family_lists_it(family: str, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = {one.name for one in cards().values() if one.family.lower() == family.lower()}
    assert listed(capsys, family) == wanted
    assert len(wanted) > 3


def test_words_are_joined(capsys: pytest.CaptureFixture[str]) -> None:
    found = listed(capsys, "JE", "vitb16")
    assert "dino_vitb16" in found
    assert all("vitb16" in name for name in found)
    # an objective alone, and not every name in which its letters are
    assert listed(capsys, "dino") == {
        one.name for one in cards().values() if one.objective == "dino"
    }


def test_a_misspelt_part_of_a_name_is_offered(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["zoo", "vitb61"]) == 2
    assert "vitb16" in capsys.readouterr().err
