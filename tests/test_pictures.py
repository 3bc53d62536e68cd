"""Pictures as panels: what is drawn where, on the screen and on paper."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sslens.figure import (
    NARROW,
    PAPER,
    WIDE,
    Figure,
    Heatmap,
    Outline,
    Picture,
    decode_picture,
    encode_picture,
    stack_panels,
    to_matplotlib,
    to_plotly,
)
from sslens.figure.arrangement import LETTER, are_labels_turned, arrange
from sslens.report.page import Section, write
from sslens.table import Results, Table

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
TRUTH = Outline("object", "fish", (3.0, 4.0, 12.0, 16.0))
FOUND = Outline("detected", "fish 0.9", (4.0, 5.0, 12.0, 15.0))
PICTURES = (
    Picture("", PIXELS, (TRUTH,)),
    Picture("mae", PIXELS, (FOUND,)),
    Picture("dino", PIXELS),
)
TABLE = Heatmap(
    "AP", np.array([[0.1, 0.2]]), ("mae",), ("box", "mask"), "", "model", (0.0, 1.0), "AP"
)
FIGURE = Figure("detection", ((TABLE, None, None), PICTURES, PICTURES))


@pytest.mark.parametrize("width", [WIDE, PAPER, NARROW])
def test_panels_lie_inside_and_apart_and_pictures_keep_their_shape(width: int) -> None:
    figure = stack_panels(FIGURE) if width == NARROW else FIGURE
    arrangement = arrange(figure, width)
    assert len(arrangement.boxes) == 7
    for box in arrangement.boxes:
        assert box.left >= 0
        assert box.left + box.width <= arrangement.width
        assert box.top + box.height <= arrangement.height
        if isinstance(box.panel, Picture):
            assert box.height / box.width == pytest.approx(20 / 30)
    for one, other in zip(arrangement.boxes[1:], arrangement.boxes[2:], strict=False):
        beside = one.left + one.width <= other.left
        below = one.top + one.height <= other.top
        assert beside or below


def test_labels_of_columns_do_not_reach_into_the_panels_below() -> None:
    columns = tuple(f"{kind} AP {size}" for kind in ("box", "mask") for size in ("large", "small"))
    table = Heatmap("AP", np.ones((3, 4)), ("a", "b", "c"), columns, "", "", (0.0, 1.0), "AP")
    above, *below = arrange(Figure("f", ((table, None, None), PICTURES)), WIDE).boxes
    room = min(box.top for box in below) - 10 - 17 - (above.top + above.height)
    assert are_labels_turned(table, above.width)
    assert room >= LETTER * max(map(len, columns))


def test_a_title_runs_on_above_pictures_without_one() -> None:
    first = Picture("a name of a model that is long", PIXELS)
    row = (first, Picture("", PIXELS), Picture("", PIXELS), Picture("next", PIXELS))
    boxes = arrange(Figure("f", (row,)), 600).boxes
    assert boxes[0].title == (first.title,)
    (alone, *_) = arrange(Figure("f", ((first, *(Picture("b", PIXELS),) * 3),)), 600).boxes
    assert len(alone.title) == 2


def test_the_screen_shows_the_pixels_and_the_outlines_in_pixels_of_the_picture() -> None:
    drawn = to_plotly(FIGURE)
    images = drawn.layout.images
    assert len(images) == 6
    np.testing.assert_array_equal(decode_picture(images[0].source), PIXELS)
    assert (images[0].sizex, images[0].sizey) == (30, 20)
    axis = images[0].yref.replace("y", "yaxis")
    assert tuple(drawn.layout[axis].range) == (20.0, 0.0)  # the first row at the top
    traces = [trace for trace in drawn.data if trace.type == "scatter"]
    assert [trace.name for trace in traces] == ["object", "detected"] * 2
    assert traces[0].x[:5] == (3.0, 12.0, 12.0, 3.0, 3.0)
    assert traces[0].y[:5] == (4.0, 4.0, 16.0, 16.0, 4.0)
    assert traces[1].text[0] == "fish 0.9"
    assert [trace.showlegend for trace in traces] == [True, True, False, False]
    assert traces[0].line.color == traces[2].line.color != traces[1].line.color


def test_paper_shows_the_same() -> None:
    axes = to_matplotlib(FIGURE).axes
    shown = [one for one in axes if one.images and one.images[0].get_array().ndim == 3]
    assert len(shown) == 6
    np.testing.assert_array_equal(shown[0].images[0].get_array(), PIXELS)
    (patch,) = shown[0].patches
    assert (*patch.get_xy(), patch.get_width(), patch.get_height()) == (3, 4, 9, 12)


def test_a_cell_that_holds_a_picture_shows_it(tmp_path: Path) -> None:
    rows = pd.DataFrame({"image": ["a"], "picture": [encode_picture(PIXELS)]})
    table = Table(rows, {"image": "its id", "picture": "its pixels"})
    section = Section("detection", "Detection", "", (), Results({"pictures": table}), FIGURE)
    page = write(
        tmp_path, sections=[section], title="t", command="sslens", study="", provenance={}
    ).read_text(encoding="utf-8")
    assert f'<img class="small" alt="" src="{encode_picture(PIXELS)}">' in page


def test_text_that_is_no_picture_is_refused() -> None:
    assert encode_picture(PIXELS).startswith("data:image/png")
    large = np.full((200, 200, 3), 90, np.uint8)
    assert encode_picture(large).startswith("data:image/jpeg")
    assert np.abs(decode_picture(encode_picture(large)).astype(int) - 90).max() <= 1
    with pytest.raises(ValueError, match="no picture"):
        decode_picture("data:text/plain,hello")
