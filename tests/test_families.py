"""The bench of timm's families, of which .ci/run runs ten a day: all have their day, and a family
that fails is told."""

import datetime
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

BENCH = Path(__file__).parent.parent / "bench" / "families.py"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("families", BENCH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_every_family_has_its_day() -> None:
    families = load()
    every = families.list_families()
    today = datetime.datetime.now(tz=datetime.UTC).date()
    days = [families.rotate(10, today + datetime.timedelta(days)) for days in range(len(every))]
    assert {family for day in days for family in day} == set(every)
    assert len(days[0]) == 10
    assert families.list_families() == every
    whole = families.list_families(whole=True)
    assert {family for family in every if whole[family] != every[family]} == set(families.SMALLER)


@pytest.mark.slow
def test_the_bench_tells_a_family_that_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    families = load()
    monkeypatch.setattr(
        families, "list_families", lambda **_: {"resnet": "resnet10t", "none": "nothing"}
    )
    assert families.main(["resnet", "none", "--quick"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "4 blocks" in lines[0]
    assert 'timm has no model "nothing"' in lines[1]
    assert lines[2] == "1 of 2 families"
