"""Options that are given more than once: their values are joined, or the command is refused."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sslens import study, zoo
from sslens.arguments.declared import require_words
from sslens.arguments.parsing import parse
from sslens.arguments.training import override_settings
from sslens.cli.check import Command as Check
from sslens.cli.compare import Command as Compare
from sslens.cli.pretrain import Command as Pretrain
from sslens.cli.reproduce import Command as Reproduce
from sslens.cli.reproduce import check as ask_reproduction
from sslens.errors import InputError
from sslens.recipes import recipe
from sslens.slurm import Slurm
from sslens.study.detector_request import DetectorRequest


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
    require_words("mae", None, ["base_lr=1", "base_lr=1"])


@pytest.mark.parametrize(
    ("read", "key"),
    [
        (lambda given: require_words("mae", None, given), "base_lr"),
        (lambda given: override_settings(recipe("mae", "paper").settings, given), "base_lr"),
        (DetectorRequest.parse, "base_lr"),
        (lambda given: study.read(Path("study.yaml"), given), "seed"),
        (lambda given: ask_reproduction(Reproduce(("all",), models=tuple(given))), "mae-ft"),
        (lambda given: Slurm(set=tuple(given)), "qos"),
    ],
)
def test_two_values_of_a_key_are_refused(
    read: Callable[[list[str]], object],
    key: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("study.yaml").write_text("models: [pixels]")
    with pytest.raises(InputError, match=f"{key} is given twice, with 1 and 2: give it once"):
        read([f"{key}=1", f"{key}=2"])


def test_two_values_of_an_option_of_a_source_are_refused() -> None:
    for source in ("a.pth@heads=3,num_heads=4", "a.pth num_heads=3 num_heads=4"):
        with pytest.raises(InputError, match="says num_heads twice, 3 and 4: say it once"):
            zoo.split_options(source)
    assert zoo.split_options("a.pth@heads=3,heads=3")[1] == {"num_heads": 3}
