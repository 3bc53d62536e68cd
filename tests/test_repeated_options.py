"""Options that are given more than once: their values are joined, or the command is refused."""

import pytest

from sslens.arguments.parsing import parse
from sslens.cli.check import Command as Check
from sslens.cli.compare import Command as Compare
from sslens.cli.pretrain import Command as Pretrain
from sslens.errors import InputError


def test_conditions_of_two_options_are_all_held() -> None:
    asked = parse(Check, "sslens check", ["report", "--condition", "a", "--condition", "b", "c"])
    assert asked.command.condition == ("a", "b", "c")


def test_settings_of_two_options_are_joined_with_an_equals_sign_too() -> None:
    needed = ["mae", "--images", "x", "--arch", "y"]
    given = [*needed, "--set", "base_lr=1", "--seed", "3", "--set=mask_ratio=0.5"]
    command = parse(Pretrain, "sslens pretrain", given).command
    assert command.set == ("base_lr=1", "mask_ratio=0.5")
    assert command.common.seed == 3


@pytest.mark.parametrize("second", [["--limit", "16"], ["--limit=16"]])
def test_two_values_of_an_option_that_takes_one_are_refused(second: list[str]) -> None:
    with pytest.raises(InputError, match=r"--limit is given twice, with 8 and 16: give it once"):
        parse(Compare, "sslens compare", ["mae", "--images", "x", "--limit", "8", *second])


def test_the_same_value_twice_is_no_fault() -> None:
    given = ["mae", "--images", "x", "--limit", "8", "--limit", "8", "--dry-run", "--dry-run"]
    assert parse(Compare, "sslens compare", given).command.common.limit == 8
