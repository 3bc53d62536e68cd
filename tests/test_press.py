"""The second process that draws for paper: the same files, the same errors, and none lost when it
is killed."""

from pathlib import Path

import numpy as np
import pytest

from sslens.errors import InputError
from sslens.figure import Figure, Heatmap, Press, save

BLOCKS = ("0", "1")


@pytest.fixture(scope="module")
def figure() -> Figure:
    values = np.array([[1.0, 0.5], [np.nan, 1.0]])
    return Figure(
        "maps", ((Heatmap("a", values, BLOCKS, BLOCKS, "block", "block", (0.0, 1.0), "CKA"),),)
    )


def test_the_files_are_those_of_this_process(figure: Figure, tmp_path: Path) -> None:
    with Press() as press:
        press.save(figure, tmp_path / "there.svg", tmp_path / "there.pdf")
    save(figure, tmp_path / "here.svg", tmp_path / "here.pdf")
    for ending in ("svg", "pdf"):
        assert (tmp_path / f"there.{ending}").read_bytes() == (
            tmp_path / f"here.{ending}"
        ).read_bytes()


def test_a_figure_that_cannot_be_written_says_so_and_the_others_are_drawn(
    figure: Figure, tmp_path: Path
) -> None:
    (tmp_path / "taken").write_text("a file where the folder should be")
    press = Press()
    press.save(figure, tmp_path / "taken" / "maps.svg")
    press.save(figure, tmp_path / "maps.svg")
    with pytest.raises(InputError, match="taken"):
        press.__exit__(None, None, None)
    assert (tmp_path / "maps.svg").exists()


def test_an_error_of_ours_comes_with_the_name_of_the_figure(figure: Figure, tmp_path: Path) -> None:
    with (
        pytest.raises(RuntimeError, match=r"maps was not drawn: ValueError: maps\.jpg"),
        Press() as press,
    ):
        press.save(figure, tmp_path / "maps.jpg")


def test_what_a_killed_helper_leaves_is_drawn_here(figure: Figure, tmp_path: Path) -> None:
    with Press() as press:
        press.save(figure, tmp_path / "before.svg")
        press.wait()
        assert press._helper is not None
        press._helper.kill()
        press._helper.wait()
        press.save(figure, tmp_path / "after.svg")
    assert (tmp_path / "after.svg").read_bytes() == (tmp_path / "before.svg").read_bytes()


def test_after_an_error_nothing_more_is_drawn(figure: Figure, tmp_path: Path) -> None:
    press = Press()
    for number in range(20):
        press.save(figure, tmp_path / f"{number}.svg")
    press.__exit__(KeyError, KeyError("elsewhere"), None)
    assert not (tmp_path / "19.svg").exists()
    assert press._helper is None or press._helper.poll() is not None
