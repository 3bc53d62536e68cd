"""Ten of timm's families a day: every tap equal to a hook that is set by hand."""

import datetime
import importlib.util
import warnings
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
def test_ten_families_of_today_have_a_tap_a_block() -> None:
    families = load()
    every = families.list_families()
    today = datetime.datetime.now(tz=datetime.UTC).date()
    days = [families.rotate(10, today + datetime.timedelta(days)) for days in range(len(every))]
    assert {family for day in days for family in day} == set(every)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for family in days[0]:
            assert families.compare_with_hooks(every[family]) >= 2, family
