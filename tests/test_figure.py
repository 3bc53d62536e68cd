"""Figures: both renderings show the same numbers, an undefined cell is no value, and the same
figure gives the same bytes."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jaxtyping import TypeCheckError
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from sslens.figure import (
    COLOURS,
    CONTROLS,
    NARROW,
    PAPER,
    UNDEFINED,
    Figure,
    Heatmap,
    Line,
    Lines,
    Outline,
    Picture,
    draw_for_screen,
    save,
    stack_panels,
    to_matplotlib,
    to_plotly,
)
from sslens.report.stills import draw_still

HOSTILE = "<script>alert(1)</script> $x$ %{y}"
NAN = float("nan")


def heatmap(
    title: str = "mae", *, values: Any = ((1.0, NAN), (0.25, 0.5)), name: str = "mae"
) -> Heatmap:
    array = np.array(values, dtype=float)
    rows, columns = (tuple(map(str, range(size))) for size in array.shape)
    return Heatmap(title, array, rows, columns, f"block of {name}", "block", (0.0, 1.0), "CKA")


def lines(
    *given: Line, limits: tuple[float, float] | None = None, title: str = "", log_x: bool = False
) -> Lines:
    return Lines(title, "depth", "accuracy", given, limits, log_x)


def line(name: str, *y: float, control: bool = False, spread: float | None = None) -> Line:
    values = np.array(y)
    bounds = (None, None) if spread is None else (values - spread, values + spread)
    return Line(name, np.arange(len(y), dtype=float), values, *bounds, control)


def figure(*rows: tuple[Heatmap | Lines | None, ...]) -> Figure:
    return Figure("trial", rows)


def grid(count: int) -> Figure:
    """The upper triangle of pairs of models."""
    models = range(count)
    pair = {
        (i, j): heatmap(f"{i} × {j}", name=str(j))
        for i, j in itertools.product(models, models)
        if i <= j
    }
    return figure(*(tuple(pair.get((i, j)) for j in models) for i in models))


def test_undefined_cells_of_the_screen_are_grey_hatched_and_say_so() -> None:
    drawn = to_plotly(figure((heatmap(),)))
    grey, coloured = drawn.data
    assert [list(row) for row in coloured.z] == [[1.0, None], [0.25, 0.5]]
    assert [list(row) for row in grey.z] == [[None, 1], [None, None]]
    assert {colour for _, colour in grey.colorscale} == {UNDEFINED}
    assert "undefined" in grey.hovertemplate
    assert "%{z" not in grey.hovertemplate
    path = drawn.layout.shapes[0].path
    corners = [
        tuple(map(float, corner.split(","))) for corner in path.replace("L", "M").split("M")[1:]
    ]
    assert all(0.5 <= x <= 1.5 and -0.5 <= y <= 0.5 for x, y in corners)  # column 1, row 0


def test_undefined_cells_of_paper_are_grey_and_hatched() -> None:
    axes = to_matplotlib(figure((heatmap(),))).axes[0]
    (image,) = axes.images
    assert image.to_rgba(image.get_array())[0, 1, 3] == 0  # the scale leaves the cell clear
    (cell,) = (patch for patch in axes.patches if isinstance(patch, Rectangle))
    assert cell.get_xy() == (0.5, -0.5)
    assert cell.get_hatch()
    np.testing.assert_allclose(cell.get_facecolor()[:3], to_rgb(UNDEFINED))


def test_nothing_undefined_nothing_hatched() -> None:
    whole = figure((heatmap(values=np.eye(3)),))
    assert len(to_plotly(whole).data) == 1
    assert not to_plotly(whole).layout.shapes
    assert "undefined" not in str(to_plotly(whole).to_plotly_json())
    assert not to_matplotlib(whole).axes[0].patches


def test_heatmaps_share_one_scale_over_all_limits_and_one_bar() -> None:
    low = Heatmap("", np.zeros((1, 1)), ("0",), ("0",), "", "", (-0.5, 0.5), "CKA")
    both = figure((heatmap(), low))
    drawn = to_plotly(both)
    assert (drawn.layout.coloraxis.cmin, drawn.layout.coloraxis.cmax) == (-0.5, 1.0)
    assert [trace.coloraxis for trace in drawn.data] == [None, "coloraxis", "coloraxis"]
    paper = to_matplotlib(both)
    assert [image.get_clim() for axes in paper.axes for image in axes.images] == [(-0.5, 1.0)] * 2
    assert len(paper.axes) == 3


@pytest.mark.parametrize("width", [NARROW, PAPER, 960])
def test_panels_neither_overlap_nor_leave_the_figure_and_cells_are_square(width: int) -> None:
    paper = to_matplotlib(grid(4), width)
    inches = paper.get_size_inches()
    boxes = [axes.get_position() for axes in paper.axes[:10]]
    assert all(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= 1 and box.y1 <= 1 for box in boxes)
    assert all(abs(box.width * inches[0] - box.height * inches[1]) < 1e-6 for box in boxes)
    for one, other in itertools.combinations(boxes, 2):
        assert one.x1 <= other.x0 or other.x1 <= one.x0 or one.y1 <= other.y0 or other.y1 <= one.y0


def test_no_text_lies_on_another_or_on_a_panel() -> None:
    paper = to_matplotlib(grid(4))
    renderer = paper.canvas.get_renderer()
    panels = [axes.get_window_extent(renderer) for axes in paper.axes[:10]]
    labels = [
        text
        for axes in paper.axes[:10]
        for text in (*axes.get_xticklabels(), *axes.get_yticklabels())
    ]
    labels += [text for axes in paper.axes[:10] for text in (axes.xaxis.label, axes.yaxis.label)]
    texts = [
        text.get_window_extent(renderer)
        for text in labels
        if text.get_text() and text.get_visible()
    ]
    assert len(texts) >= 4 * 6
    for text in texts:
        assert sum(text.overlaps(other) for other in texts) == 1
        assert not any(text.overlaps(panel) for panel in panels)


def test_both_renderings_put_panels_at_the_same_places() -> None:
    layout, paper = to_plotly(grid(3), PAPER).layout, to_matplotlib(grid(3), PAPER)
    margin, width = layout.margin, layout.width
    for index, axes in enumerate(paper.axes[:6], start=1):
        start, _ = layout[f"xaxis{index if index > 1 else ''}"].domain
        left = margin.l + start * (width - margin.l - margin.r)
        assert left == pytest.approx(axes.get_position().x0 * width, abs=1)


def test_labels_are_shown_once_for_neighbours_with_equal_axes() -> None:
    row = figure((heatmap("a"), heatmap("b"), heatmap("c", values=np.eye(3))))
    layout = to_plotly(row).layout
    assert [layout[f"yaxis{n}"].showticklabels for n in ("", "2", "3")] == [True, False, True]
    assert [layout[f"xaxis{n}"].showticklabels for n in ("", "2", "3")] == [True, True, True]


def test_many_ticks_are_thinned() -> None:
    names = tuple(f"blocks.{index}" for index in range(200))
    many = Heatmap("", np.zeros((200, 200)), names, names, "", "", (0.0, 1.0), "CKA")
    layout = to_plotly(figure((many,))).layout
    shown = layout.yaxis.tickvals
    assert 10 < len(shown) < 40
    assert layout.yaxis.ticktext == tuple(names[index] for index in shown)
    assert len({b - a for a, b in itertools.pairwise(shown)}) == 1


def test_an_interval_is_a_band_that_breaks_at_gaps() -> None:
    dino = line("dino", 0.2, 0.4, NAN, 0.6, 0.8, spread=0.1)
    band, curve = to_plotly(figure((lines(dino),))).data
    assert band.fill == "toself"
    assert band.x == (0, 1, 1, 0, None, 3, 4, 4, 3, None)
    assert band.y == (0.1, 0.3, 0.5, 0.3, None, 0.5, 0.7, 0.9, 0.7, None)
    assert curve.y == (0.2, 0.4, None, 0.6, 0.8)
    assert "0.1 to 0.3" in curve.text[0]
    assert curve.text[2] == ""
    bands = [
        band
        for band in to_matplotlib(figure((lines(dino),))).axes[0].collections
        if isinstance(band, PolyCollection)
    ]
    extents = [band.get_paths()[0].get_extents().extents.tolist() for band in bands]
    np.testing.assert_allclose(extents, [[0, 0.1, 1, 0.5], [3, 0.5, 4, 0.9]])


def test_a_name_keeps_its_style_and_is_listed_once_and_controls_are_dashed() -> None:
    left = lines(
        line("mae", 0.1, 0.2),
        line("dino", 0.3, 0.4),
        line("random", 0.1, 0.1, control=True),
        title="CLS",
    )
    right = lines(line("dino", 0.3, 0.5), line("mae", 0.1, 0.3), title="mean")
    drawn = to_plotly(figure((left, right)))
    colours = [(trace.name, trace.line.color) for trace in drawn.data]
    mae, dino = ("mae", COLOURS[0]), ("dino", COLOURS[1])
    assert colours == [mae, dino, ("random", CONTROLS[0]), dino, mae]
    assert [trace.showlegend for trace in drawn.data] == [True, True, True, False, False]
    assert [trace.line.dash for trace in drawn.data] == ["solid", "solid", "dash", "solid", "solid"]
    paper = to_matplotlib(figure((left, right)))
    assert [curve.get_linestyle() for curve in paper.axes[0].lines] == ["-", "-", "--"]
    assert [curve.get_color() for curve in paper.axes[1].lines] == [COLOURS[1], COLOURS[0]]
    assert [text.get_text() for text in paper.texts] == ["mae", "dino", "random"]


def test_panels_of_one_label_share_their_range_and_intervals_fit_in_it() -> None:
    both = figure((lines(line("mae", 0.0, 1.0, spread=1.0)), lines(line("mae", 0.4, 0.5))))
    layout = to_plotly(both).layout
    assert layout.yaxis.range == layout.yaxis2.range == pytest.approx((-1.12, 2.12))
    assert to_matplotlib(both).axes[1].get_ylim() == pytest.approx((-1.12, 2.12))


def test_a_logarithmic_axis_has_its_ticks_at_the_points() -> None:
    sizes = Line("mae", np.array([32.0, 64.0, 1024.0]), np.array([0.5, 0.6, 0.6]))
    stable = figure((lines(sizes, log_x=True),))
    axis = to_plotly(stable).layout.xaxis
    assert (axis.type, axis.tickvals, axis.ticktext) == (
        "log",
        (32, 64, 1024),
        ("32", "64", "1,024"),
    )
    start, stop = (10**bound for bound in axis.range)
    assert 25 < start < 32 < 1024 < stop < 1300
    assert to_matplotlib(stable).axes[0].get_xlim() == pytest.approx((start, stop))


def test_names_are_text_in_both_renderings(tmp_path: Path) -> None:
    hostile = Heatmap(
        HOSTILE, np.eye(2), (HOSTILE, "1"), ("$", "$$"), HOSTILE, HOSTILE, (0.0, 1.0), HOSTILE
    )
    both = figure((hostile, lines(line(HOSTILE, 0.5), title=HOSTILE)))
    assert "<script" not in str(to_plotly(both).to_plotly_json())
    save(both, tmp_path / "hostile.svg")
    text = (tmp_path / "hostile.svg").read_text()
    assert "<script" not in text
    assert "alert(1)" in text  # the glyphs' comment; not read as mathematics


@pytest.mark.parametrize(
    ("ending", "start"), [(".svg", b"<?xml"), (".pdf", b"%PDF"), (".png", b"\x89PNG")]
)
def test_the_same_figure_gives_the_same_bytes(tmp_path: Path, ending: str, start: bytes) -> None:
    for folder in ("first", "second"):
        save(
            figure((heatmap(), lines(line("mae", 0.1, 0.2, spread=0.1)))),
            tmp_path / folder / f"trial{ending}",
        )
    first, second = (
        (tmp_path / folder / f"trial{ending}").read_bytes() for folder in ("first", "second")
    )
    assert first == second
    assert first.startswith(start)
    assert [path.name for path in (tmp_path / "first").iterdir()] == [f"trial{ending}"]


def test_another_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\.svg, \.pdf or \.png"):
        save(figure((heatmap(),)), tmp_path / "trial.gif")


def test_a_narrow_screen_stacks_lines_pairs_heatmaps_and_keeps_the_order() -> None:
    triangle = stack_panels(grid(3))
    assert [[panel and panel.title for panel in row] for row in triangle.panels] == [
        ["0 × 0", "0 × 1"],
        ["0 × 2", "1 × 1"],
        ["1 × 2", "2 × 2"],
    ]
    assert to_plotly(triangle, NARROW).layout.width <= NARROW
    curves = figure((lines(title="a"), lines(title="b"), lines(title="c")))
    assert [row[0].title for row in stack_panels(curves).panels if row[0]] == ["a", "b", "c"]
    untitled = figure((heatmap(""), heatmap(""), heatmap("")))
    assert stack_panels(untitled) is untitled


def triangle_and_curves() -> Figure:
    """Pairs of four models, and two panels of lines beneath them."""
    names = (
        "mae · random vit_mini_patch8_64 #0",
        "random vit_mini_patch8_64 #0 · random vit_mini_patch8_64 #1",
    )
    curves = tuple(
        lines(*(line(name, 0.1, 0.2) for name in names), limits=(0.0, 1.0), title=title)
        for title in "ab"
    )
    return figure(*grid(4).panels, (*curves, None, None))


@pytest.mark.parametrize("width", [PAPER, 960])
def test_lines_under_a_wider_grid_of_heatmaps_share_the_whole_width(width: int) -> None:
    paper = to_matplotlib(triangle_and_curves(), width)
    across = paper.get_size_inches()[0] * 96
    boxes = [axes.get_position() for axes in paper.axes[:12]]
    left, right = boxes[10:]
    assert left.x0 == pytest.approx(boxes[0].x0)
    assert right.x1 == pytest.approx(1 - 16 / across)
    assert left.width == pytest.approx(right.width)
    assert right.x0 - left.x1 == pytest.approx(14 / across)
    assert left.y1 < min(box.y0 for box in boxes[:10])


def test_names_are_never_cut() -> None:
    texts = [text.get_text() for text in to_matplotlib(triangle_and_curves()).texts]
    assert texts == [
        "▨ undefined",
        "mae · random vit_mini_patch8_64 #0",
        "random vit_mini_patch8_64 #0 · random vit_mini_patch8_64 #1",
    ]
    long = "vit_base_patch16_clip_quickgelu_224.openai_in12k_and_a_run_of_my_own"
    axis = (long, "mae", "dino")
    square = Heatmap(
        f"{long} · mae", np.eye(3), axis, axis, f"block of {long}", "block", (0.0, 1.0), "CKA"
    )
    line = Line(long, np.arange(2.0), np.arange(2.0))
    curve = lines(line)
    figure = Figure("long", ((square, square), (curve, None)))
    drawn = [text.get_text().replace("\n", "") for text in to_matplotlib(figure).findobj(Text)]
    drawn += [draw_still(square), draw_still(curve)]
    assert not [text for text in drawn if "…" in text]
    assert sum(long in text.replace(" ", "") for text in drawn) >= 6
    assert "block" in drawn  # the axis has its name where there is room, or else none


def test_a_model_beside_itself_has_no_colour_of_the_scale() -> None:
    names = ("mae", "dino", "pixels")
    values = np.array([[1.0, 0.61, 0.42], [0.61, 1.0, 0.47], [0.42, 0.47, 1.0]])
    matrix = Heatmap("", values, names, names, "", "", (0.0, 1.0), "CKA", picks="pair")
    still = draw_still(matrix)
    assert "CKA: 0.42 (dark) to 0.61 (bright)" in still
    assert still.count('fill="none"') == 3
    # of all values that have a colour, only the greatest has the brightest one
    assert still.count('fill="#fde725"') == still.count('fill="#440154"') == 2


def test_a_narrow_screen_pairs_heatmaps_and_gives_lines_its_whole_width() -> None:
    narrow = stack_panels(triangle_and_curves())
    assert [[panel and panel.title for panel in row] for row in narrow.panels[-3:]] == [
        ["2 × 3", "3 × 3"],
        ["a", None],
        ["b", None],
    ]
    layout = to_plotly(narrow, NARROW).layout
    assert layout.width <= NARROW
    assert layout.xaxis11.domain == layout.xaxis12.domain == (0, 1)


def test_traces_do_not_depend_on_the_arrangement() -> None:
    wide, narrow = to_plotly(grid(3)), to_plotly(stack_panels(grid(3)), NARROW)
    assert wide.to_plotly_json()["data"] == narrow.to_plotly_json()["data"]


def test_no_window_and_no_global_state() -> None:
    import matplotlib as mpl
    from matplotlib import _pylab_helpers

    before = dict(mpl.rcParams)
    to_matplotlib(figure((heatmap(),)))
    assert dict(mpl.rcParams) == before
    assert not _pylab_helpers.Gcf.figs


def test_an_empty_panel_of_lines_is_drawn() -> None:
    empty = figure((lines(line("mae", NAN, NAN)),))
    assert to_plotly(empty).data[0].y == (None, None)
    assert to_matplotlib(empty).axes[0].lines


def square(**changed: Any) -> Heatmap:
    given = {
        "title": "",
        "values": np.eye(2),
        "rows": ("0", "1"),
        "columns": ("0", "1"),
        "x_label": "",
        "y_label": "",
    }
    return Heatmap(**(given | {"limits": (0.0, 1.0), "unit": "CKA"} | changed))


@pytest.mark.parametrize(
    "wrong",
    [
        {"rows": ("0",)},
        {"columns": ("0", "0")},
        {"values": np.full((2, 2), np.inf)},
        {"limits": (1.0, 1.0)},
    ],
)
def test_heatmaps_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"rows|repeats|infinite|limits"):
        square(**wrong)


def test_figures_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="one length"):
        figure((heatmap(),), (heatmap(), None))
    with pytest.raises(ValueError, match="at least one"):
        figure((None,))
    with pytest.raises(ValueError, match="one unit"):
        figure((square(), square(unit="accuracy")))
    with pytest.raises(ValueError, match="control"):
        figure((lines(line("mae", 0.1), line("mae", 0.1, control=True)),))
    with pytest.raises(ValueError, match="one bound"):
        Line("mae", np.zeros(2), np.zeros(2), np.zeros(2))
    with pytest.raises((ValueError, TypeCheckError)):
        Line("mae", np.zeros(2), np.zeros(2), np.zeros(3), np.zeros(3))


@pytest.mark.parametrize("width", [NARROW, 960])
def test_a_page_holds_what_plotly_itself_would_write(width: int) -> None:
    """The page's JSON is written without plotly's checks: with them it is the same."""
    mixed = figure((heatmap(), lines(line("mae", 0.1, NAN, spread=0.1), log_x=False)))
    undefined = figure((lines(line("mae", NAN, NAN, control=True)), lines(line("dino", 0.1))))
    box = Outline("object", "fish 0.9", (3.0, 4.0, 12.0, 16.0))
    pictures = figure((Picture("", np.zeros((20, 30, 3), np.uint8), (box,)), heatmap()))
    for one in (mixed, undefined, pictures, triangle_and_curves(), grid(2)):
        drawing = draw_for_screen(one, width)
        ours = json.loads(json.dumps(drawing.__dict__, allow_nan=False))
        theirs = json.loads(to_plotly(one, width).to_json(engine="json"))
        theirs["layout"].pop("template")
        for layout in (ours["layout"], theirs["layout"]):
            if "coloraxis" in layout:
                layout["coloraxis"]["colorscale"] = "a name, or its colours"
            for none in ("shapes", "annotations", "images"):
                layout[none] = layout.get(none) or []
        assert ours == theirs
