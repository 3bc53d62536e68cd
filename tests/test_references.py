"""The reference models: what is declared can be trained, and what is shipped is what was declared."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from safetensors import safe_open

from sslens import cards
from sslens.find import plugin

RUNS = Path(__file__).parents[1] / "runs/scenes"


def declared() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make", RUNS / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MAKE = declared()
SHIPPED = [card for card in cards.cards().values() if card.file]


@pytest.mark.parametrize("name", MAKE.REFERENCES)
def test_its_settings_are_its_objectives(name: str) -> None:
    reference = MAKE.REFERENCES[name]
    given = {key: yaml.safe_load(str(value)) for key, value in reference.settings.items()}
    given = {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}
    settings = plugin("objectives", reference.objective).Settings(**given)
    assert all(getattr(settings, key) == value for key, value in given.items())
    command = reference.command(Path(name))
    assert command[:4] == ["-m", "sslens", "pretrain", reference.objective]
    assert command[command.index("--name") + 1] == name


@pytest.mark.parametrize("card", SHIPPED, ids=lambda card: card.name)
def test_what_is_shipped_is_where_its_log_ends(card: cards.Card) -> None:
    reference = MAKE.REFERENCES[card.name]
    assert card.shipped is not None
    with safe_open(card.shipped, "pt") as file:
        said = json.loads(file.metadata()["sslens.encoder"])
        assert {str(file.get_tensor(key).dtype) for key in file.keys()} == {"torch.float16"}  # noqa: SIM118
    assert (said["name"], card.objective, card.arch) == (card.name, reference.objective, MAKE.ARCH)
    assert (said["about"]["objective"], said["about"]["family"]) == (reference.objective, card.family)
    log = [json.loads(line) for line in (RUNS / f"{card.name}.jsonl").read_text(encoding="utf-8").splitlines()]
    assert log[-1]["step"] <= said["about"]["step"] < log[-1]["step"] + 10
    assert card.epochs == round(said["about"]["epochs"]) <= reference.epochs
    assert f"{said['about']['step'] * MAKE.BATCH:,} images" in card.notes[0]
