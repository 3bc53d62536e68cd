"""The report: what is given is on the page as text, the page needs no network, and a browser finds
nothing wrong with it."""

import base64
import itertools
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sslens.errors import InputError
from sslens.figure import Figure, Heatmap, Line, Lines, Sheet
from sslens.own_files import LIST, OwnFiles
from sslens.report.colours import choose_colours, number_curves
from sslens.report.drawings import Packed, encode_drawings, group_panels, pack
from sslens.report.front import Answer, Card, Front, Overview, Point
from sslens.report.page import Section, write
from sslens.report.stills import draw_still
from sslens.report.table_views import SHOWN
from sslens.report.writing.pictures import write_beside
from sslens.table import Results, Table
from test_store import small_disk

HOSTILE = "<script>alert(1)</script><!-- $x$ {{ 7 * 7 }} \"quoted\" & 'so'"
COUNT = 300


MODELS = ("moco-v3", "dino", HOSTILE, "random")


def square(a: str, b: str, tokens: str) -> Heatmap:
    values = np.linspace(0, 1 if tokens == "all" else 0.5, 49).reshape(7, 7)
    values[0, 3] = np.nan
    names, facets = tuple(map(str, range(7))), {"pair": f"{a} · {b}", "tokens": tokens}
    title, labels = f"{a} × {b}", (f"block of {b}", f"block of {a}")
    return Heatmap(title, values, names, names, *labels, (0.0, 1.0), "CKA", facets)


def maps() -> Section:
    pairs = list(itertools.combinations_with_replacement(MODELS, 2))
    grid = tuple(
        tuple(square(a, b, "all") if (a, b) in pairs else None for b in MODELS) for a in MODELS
    )
    means = np.linspace(0.2, 0.8, 16).reshape(4, 4)
    matrix = Heatmap(
        "mean CKA", means, MODELS[::-1], MODELS, "", "", (0.0, 1.0), "mean CKA", {}, "pair"
    )
    more = (matrix, *(square(a, b, one) for one in ("all", "cls") for a, b in pairs if a != b))
    rows = {
        "model": [HOSTILE, "tab\tand\nline"] * (COUNT // 2),
        "block": range(COUNT),
        "cka": [0.123456789, np.nan] * (COUNT // 2),
    }
    table = Table(pd.DataFrame(rows), {"model": HOSTILE, "block": "", "cka": "0 to 1"})
    return Section(
        "cka-blocks",
        "CKA",
        HOSTILE,
        ("All are alike.", HOSTILE),
        Results({"cells": table}),
        Figure("cka-blocks", grid, more),
    )


def curves() -> Section:
    x = np.linspace(0, 1, 12)
    lines = (
        Line("mae", x, x, x - 0.1, x + 0.1),
        Line(HOSTILE, x, x / 2),
        Line("random", x, x / 9, control=True),
    )
    lines += tuple(Line(f"model {i}", x, x / (3 + i)) for i in range(9))
    panels = tuple(
        Lines(title, "relative depth", "accuracy", lines, (-0.2, 1.2)) for title in ("CLS", "mean")
    )
    table = Table(
        pd.DataFrame({"model": ["mae"], "accuracy": [0.5]}), {"model": "", "accuracy": "share"}
    )
    return Section(
        "knn-depth",
        "k-NN by depth",
        "After every block.",
        (),
        Results({"points": table}),
        Figure("knn-depth", (panels,)),
    )


FRONT = Front(
    HOSTILE,
    tuple(
        Answer(f"Are {i} alike?", "holds", "+0.4 [+0.3, +0.5]", "images", "", "cka-blocks")
        for i in range(8)
    ),
    Overview(
        tuple(
            Point(name, float(i), i**2.0, 0.1 * i, "JE", i == 3, HOSTILE)
            for i, name in enumerate(MODELS)
        ),
        "Near is alike.",
        "",
        0.1,
    ),
    (
        Card(
            HOSTILE,
            "blocks.3",
            "nothing beats the usual choice",
            "nothing beats raw pixels",
            "",
            False,
        ),
    ),
    pixels="Raw pixels beat every model.",
)
PROVENANCE = {
    "seconds": 1.5,
    "versions": {"sslens": HOSTILE},
    "digests": {"images": "ab" * 32, "models": {"mae": "cd" * 32}},
}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report")
    study = "models: [mae]\n"
    given: dict[str, Any] = {
        "title": HOSTILE,
        "command": f"sslens compare {HOSTILE}",
        "study": study,
        "provenance": PROVENANCE,
    }
    return write(
        out / "new",
        sections=(maps(), curves()),
        figures=True,
        notes=(f"3 images were left out: {HOSTILE}",),
        front=FRONT,
        **given,
    )


@pytest.fixture(scope="module")
def without_pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("without")
    given: dict[str, Any] = {"title": "t", "command": "", "study": "", "provenance": {}}
    return write(out, sections=(maps(), curves()), **given)


@pytest.fixture(scope="module")
def page(report: Path) -> str:
    return report.read_text(encoding="utf-8")


class Outline(HTMLParser):
    """The elements of a page, its headings, what its scripts hold and every address in it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: dict[str, str] = {}
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        tag, attributes = self.tags[-1] if self.tags else ("", {})
        if tag == "script" and self.cdata_elem == "script":
            name = attributes.get("id") or "page"
            self.scripts[name] = self.scripts.get(name, "") + data
        else:
            self.text += data

    def addresses(self) -> list[str]:
        return [
            attributes[key] or ""
            for _, attributes in self.tags
            for key in ("src", "href", "srcset")
            if key in attributes
        ]


def test_the_folder_holds_everything_and_nothing_half_written(report: Path) -> None:
    files = {
        str(path.relative_to(report.parent)) for path in report.parent.rglob("*") if path.is_file()
    }
    names = ("cka-blocks", "knn-depth")
    figures = {f"figures/{name}.{ending}" for name in names for ending in ("svg", "pdf")}
    assert files == figures | {f"tables/{n}.csv" for n in names} | {
        "report.html",
        "study.yaml",
        "provenance.json",
        LIST,
    }
    assert json.loads((report.parent / "provenance.json").read_text()) == PROVENANCE
    assert (report.parent / "study.yaml").read_text() == "models: [mae]\n"
    assert len(pd.read_csv(report.parent / "tables" / "cka-blocks.csv")) == COUNT


def test_figures_for_paper_are_drawn_on_request_only(without_pictures: Path) -> None:
    assert not (without_pictures.parent / "figures").exists()
    assert "figures/" not in without_pictures.read_text(encoding="utf-8")


def test_pictures_of_an_earlier_report_are_not_left_beside_new_numbers(tmp_path: Path) -> None:
    given: dict[str, Any] = {"title": "t", "command": "", "study": "", "provenance": {}}
    (tmp_path / "figures").mkdir()
    own = OwnFiles(tmp_path)
    for name in ("knn-depth.svg", "knn-depth.pdf"):
        own.before(tmp_path / "figures" / name).write_text("old")
    (tmp_path / "figures" / "mine.svg").write_text("a stranger's")
    write(tmp_path, sections=(curves(),), **given)
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["mine.svg"]


def test_nothing_is_loaded(page: str) -> None:
    for address in Outline(page).addresses():
        assert address.startswith(("#", "data:", "figures/", "tables/", "verdicts.csv")), address
    assert not re.search(r"@import|url\(|https?://(?!www\.w3\.org/2000/svg)", page)
    assert "default-src 'none'" in page


def test_what_is_given_is_text_and_never_markup(page: str) -> None:
    outline = Outline(page)
    names = ["page", "page_", "cka-blocks_figure", "knn-depth_figure"]
    assert sorted(outline.scripts) == sorted(names)
    assert sum(tag == "script" for tag, _ in outline.tags) == len(outline.scripts)
    # title, h1, front, card, note, finding, caption, unit, version, command; the rows that are
    # shown; the overview's point notes; and the pictures without JavaScript
    places = 10 + SHOWN // 2 + len(MODELS)
    assert outline.text.count(HOSTILE) >= places


def test_links_within_the_page_lead_somewhere_and_ids_are_unique(report: Path, page: str) -> None:
    outline = Outline(page)
    ids = [attributes["id"] for _, attributes in outline.tags if "id" in attributes]
    assert len(set(ids)) == len(ids)
    for address in outline.addresses():
        if address.startswith("#"):
            assert address[1:] in ids
        elif not address.startswith("data:"):
            assert (report.parent / address).is_file()


def test_the_first_screen_has_answers_overview_and_cards_before_the_sections(page: str) -> None:
    first = Outline(page[page.index("<header") : page.index("</header>")])
    assert first.addresses().count("#cka-blocks") == len(FRONT.answers)
    # the picture for a wide window and that for a narrow one
    named = [tag for tag, _ in first.tags if tag == "title"]
    assert len(named) == 2 * len(MODELS)
    words = ("nothing beats raw pixels", "Raw pixels beat every model.", "+0.4 [+0.3, +0.5]")
    assert all(word in first.text for word in words)


def test_without_a_first_screen_verdicts_and_advice_come_first(tmp_path: Path) -> None:
    given: dict[str, Any] = {"title": "t", "command": "", "study": "", "provenance": {}}
    path = write(tmp_path, sections=(curves(),), advice=("Use block 3.",), **given)
    page = path.read_text(encoding="utf-8")
    assert page.index("Use block 3.") < page.index('<section id="knn-depth"')


def test_headings_are_in_order_and_tables_have_heads(page: str) -> None:
    tags = Outline(page).tags
    levels = [int(tag[1]) for tag, _ in tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert sum(tag == "caption" for tag, _ in tags) == sum(tag == "table" for tag, _ in tags) == 3
    assert all(
        attributes.get("aria-label") for tag, attributes in tags if attributes.get("role") == "img"
    )
    assert all(attributes.get("scope") in ("col", "row") for tag, attributes in tags if tag == "th")


def test_a_table_shows_its_first_rows_and_links_the_whole(page: str) -> None:
    assert page.count('<th scope="row">') == SHOWN + 1 + len(MODELS)  # and the accuracies
    assert f"the first {SHOWN} of {COUNT} rows" in page
    assert 'href="tables/cka-blocks.csv"' in page
    assert '<td class="n">0.1235</td>' in page
    assert '<td class="n"></td>' in page
    assert "; empty where a number was not measured or is undefined</caption>" in page


def unpack(packed: Packed) -> np.ndarray:
    codes = np.frombuffer(base64.b64decode(packed["codes"]), "<u2")
    values = packed["low"] + (packed["high"] - packed["low"]) * codes / 65534
    return np.where(codes == 65535, np.nan, values)


def test_numbers_are_held_to_16_bits_of_their_range() -> None:
    values = np.array([np.nan, -0.3, 1e-4, 0.71828, 12.5])
    np.testing.assert_allclose(unpack(pack(values)), values, atol=12.8 / 65534 / 2 + 1e-6)
    assert np.isnan(unpack(pack(np.full(2, np.nan)))).all()
    np.testing.assert_allclose(unpack(pack(np.full(2, 0.25))), 0.25)


def test_panels_that_differ_by_a_choice_are_one_drawing_with_a_picker() -> None:
    drawings = group_panels(maps().figure)
    assert [(one.kind, one.choices) for one in drawings] == [
        ("map", ()),
        ("map", ("pair", "tokens")),
    ]
    encoded = encode_drawings(drawings)
    assert encoded["picked"]["tokens"] == ["all", "cls"]
    # six pairs of two models for each tokens, and four of a model with itself
    assert len(encoded["drawings"][1]["panels"]) == 2 * 6 + 4
    panel = next(
        one
        for one in encoded["drawings"][1]["panels"]
        if [
            encoded["picked"][name][at]
            for name, at in zip(("pair", "tokens"), one["at"], strict=True)
        ]
        == ["dino · random", "cls"]
    )
    np.testing.assert_allclose(
        unpack(panel["values"]).reshape(7, 7), square("dino", "random", "cls").values, atol=1e-5
    )
    (curve,) = group_panels(curves().figure)
    assert curve.choices == ("panel",)
    assert [chosen for chosen, _ in curve.panels] == [("CLS",), ("mean",)]


def test_a_still_has_a_cell_a_value_and_a_curve_a_line() -> None:
    assert draw_still(square("a", "b", "all")).count("<rect") == 7 * 7 + 1
    (panel,) = group_panels(curves().figure)[0].start()
    still = draw_still(panel)
    assert still.count('class="curve') == 12
    assert HOSTILE not in still
    assert still.count('class="curve grey"') == 3  # 11 models, eight of them in colour


def test_sections_are_named_as_files_once(tmp_path: Path) -> None:
    one = curves()
    with pytest.raises(ValueError, match="one name"):
        write(tmp_path, title="", sections=(one, one), command="", study="", provenance={})
    assert not (tmp_path / "report.html").exists()
    with pytest.raises(ValueError, match="does not name a file"):
        Section("../k", "", "", (), one.results, one.figure)


def test_the_same_study_gives_the_same_bytes(tmp_path: Path) -> None:
    given: dict[str, Any] = {"title": "t", "command": "c", "study": "s", "provenance": {}}
    first, second = (write(tmp_path / name, sections=(curves(),), **given) for name in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()


FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-background-networking"
    " --disable-component-update --disable-sync"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    driver = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("no chromium on this machine")
    with driver.sync_playwright() as playwright:
        running = playwright.chromium.launch(
            executable_path=program, args=[*FLAGS.split(), "--no-first-run"]
        )
        yield running
        running.close()


class Visit:
    """A page opened in a window of its own, with what it asked for and what went wrong."""

    def __init__(self, browser: Any, report: Path, **window: Any) -> None:
        self.context = browser.new_context(**window)
        self.page = self.context.new_page()
        self.errors: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.errors.append(message.text))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("dialog", lambda dialog: self.errors.append(dialog.message))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(report.as_uri())

    def __enter__(self) -> "Visit":
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()

    def sideways(self) -> list[str]:
        """What is cut off at the right edge of the window, outside what scrolls by itself."""
        cut: list[str] = (
            self.page.evaluate("""() => [...document.querySelectorAll("body *")].filter(
            one => !one.closest(".rows, pre, .hidden, details:not([open]), noscript")
            && one.getBoundingClientRect().right > innerWidth + 1).map(one => one.outerHTML)""")
        )
        return cut


def window(width: int, height: int) -> dict[str, int]:
    return {"width": width, "height": height}


@pytest.mark.parametrize(
    "window",
    [
        window(390, 844),
        *(pytest.param(window(width, 900), marks=pytest.mark.slow) for width in (1400, 900, 320)),
    ],
    ids=lambda window: str(window["width"]),
)
def test_it_opens_without_network_or_error_and_nothing_is_cut_off(
    browser: Any, report: Path, window: dict[str, int]
) -> None:
    with Visit(browser, report, viewport=window, offline=True) as visit:
        page = visit.page
        assert visit.sideways() == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        # the means, and the map of the first pair; its undefined cell is no colour
        assert page.locator(".drawing.map .canvas > svg").count() == 2
        assert page.locator(".drawing.map svg rect.undefined").count() == 1
        assert page.locator(".drawing.lines svg path.curve").count() == 12
        assert page.locator(".drawing.lines svg path.curve.grey").count() == 3
        assert page.locator(".drawing.lines .names button").count() == 9
        for summary in page.locator("summary").all():
            if summary.is_visible():
                summary.click()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert visit.errors == []
        assert all(url.startswith(("file:", "data:", "blob:")) for url in visit.asked)
        assert sum(url.startswith("file:") for url in visit.asked) == 1


def test_pickers_work_by_mouse_and_keyboard(browser: Any, report: Path) -> None:
    with Visit(browser, report, viewport=window(1400, 900)) as visit:
        page = visit.page
        pair = page.locator("select[name=pair]")
        matrix, map_ = page.locator("#cka-blocks .drawing .canvas").all()
        assert pair.input_value() == "moco-v3 · dino"
        # a click on the cell of the second row from the top and the last column
        cell = matrix.locator("rect").nth(44 + 4 * 2 + 3)  # after the 44 colours of the scale
        cell.scroll_into_view_if_needed()
        box = cell.bounding_box()
        page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        assert pair.input_value() == "dino · random"
        assert page.locator("#cka-blocks .drawing h3").first.inner_text() == "dino · random"
        # the arrow keys go over the cells, Enter picks
        matrix = page.locator("#cka-blocks .drawing .canvas").first
        matrix.focus()
        for key in ("ArrowUp", "ArrowLeft", "Enter"):
            page.keyboard.press(key)
        assert pair.input_value() == f"moco-v3 · {HOSTILE}"
        # a choice of all panels of the drawing, and what is said of a cell
        page.locator("select[name=tokens]").select_option("cls")
        map_ = page.locator("#cka-blocks .drawing .canvas").nth(1)
        assert "from 0 to 0.5" in map_.get_attribute("aria-label")
        map_.focus()
        for key in ("ArrowRight", "ArrowDown"):
            page.keyboard.press(key)
        tip = map_.locator(".tip").inner_text()
        assert tip.startswith("CKA ")
        # a name of a curve takes its colour away, and the keys give one to another
        names = page.locator(".drawing.lines .names button")
        names.filter(has_text="mae").first.click()
        assert page.locator(".drawing.lines svg path.curve.grey").count() == 4
        page.locator(".drawing.lines .canvas").focus()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Enter")
        assert page.locator(".drawing.lines svg path.curve.grey").count() == 3
        assert visit.errors == []


@pytest.mark.parametrize("clipboard", [pytest.param(True, marks=pytest.mark.slow), False])
def test_copy_copies_the_command(browser: Any, report: Path, clipboard: bool) -> None:
    with Visit(
        browser, report, permissions=["clipboard-read", "clipboard-write"] if clipboard else []
    ) as visit:
        if not clipboard:
            visit.page.evaluate("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
            visit.page.evaluate(
                "document.addEventListener('copy', () => window.copied ="
                " document.activeElement.value)"
            )
        visit.page.get_by_role("button", name="Copy").first.click()
        visit.page.get_by_text("Copied", exact=True).wait_for()
        copied = visit.page.evaluate(
            "navigator.clipboard.readText()" if clipboard else "window.copied"
        )
        assert copied == f"sslens compare {HOSTILE}"
        assert visit.page.locator("textarea").count() == 0
        assert visit.errors == []


@pytest.mark.slow
def test_it_prints_what_is_picked(browser: Any, report: Path) -> None:
    with Visit(browser, report, color_scheme="dark") as visit:
        visit.page.locator("select[name=tokens]").select_option("cls")
        printed = visit.page.pdf(format="A4")
        visit.page.emulate_media(media="print")
        assert not visit.page.get_by_role("button", name="Copy").first.is_visible()
        assert all(one.is_visible() for one in visit.page.locator(".canvas > svg").all())
        assert visit.page.locator("select[name=tokens]").input_value() == "cls"
        assert (
            visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
            == "rgb(255, 255, 255)"
        )
    assert printed.startswith(b"%PDF")
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b", printed)) <= 12


def test_it_is_readable_without_scripts(browser: Any, report: Path) -> None:
    with Visit(browser, report, java_script_enabled=False, viewport=window(390, 844)) as visit:
        assert visit.page.get_by_text("Raw pixels beat every model.").is_visible()
        assert visit.page.locator(".overview .narrow svg").is_visible()
        assert not visit.page.locator(".overview .wide svg").is_visible()
        assert [one.is_visible() for one in visit.page.locator(".stills svg").all()] == [True] * 3
        assert not visit.page.locator("button").first.is_visible()
        assert visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


NAMES = ("a" * 200, "נסיון-של-שם", "<b>bold</b>", "mae")


def pages_of(count: int, blocks: int = 12) -> Section:
    """The matrix, maps and curves of so many models."""
    names = [*NAMES, *(f"model_{i}" for i in range(count))][:count]
    rng, labels = np.random.default_rng(0), tuple(map(str, range(blocks)))
    pairs, x = list(itertools.combinations(names, 2)), np.linspace(0, 1, blocks)
    more: list[Any] = [
        Heatmap(
            "",
            rng.uniform(size=(count, count)),
            tuple(names[::-1]),
            tuple(names),
            "",
            "",
            (0.0, 1.0),
            "mean CKA",
            {},
            "pair",
        )
    ]
    more += [
        Heatmap(
            "",
            rng.uniform(size=(blocks, blocks)),
            labels,
            labels,
            f"block of {b}",
            f"block of {a}",
            (0.0, 1.0),
            "CKA",
            {"pair": f"{a} · {b}"},
        )
        for a, b in pairs
    ]
    curves = [
        Line(f"{a} · {b}", x, y, y - 0.1, y + 0.1)
        for a, b in pairs
        for y in [rng.uniform(size=blocks)]
    ]
    more.append(Lines("", "relative depth", "CKA", tuple(curves), None, facets={"tokens": "all"}))
    pixels = rng.integers(0, 255, (4, 7, 32, 32, 3), np.uint8)
    rows = tuple(names[:4]) if count >= 4 else ("a", "b", "c", "d")
    more.append(Sheet("", pixels, rows, tuple(map(str, range(7)))))
    table = Table(pd.DataFrame({"model": names}), {"model": ""})
    figure = Figure("cka-blocks", ((more[0],),), tuple(more[1:]))
    return Section("cka-blocks", "CKA", "", (), Results({"m": table}), figure)


@pytest.mark.slow
def test_names_of_any_script_and_length_are_text_and_nothing_is_cut_off(
    browser: Any, tmp_path: Path
) -> None:
    given: dict[str, Any] = {"title": "a" * 200, "command": "", "study": "", "provenance": {}}
    path = write(tmp_path, sections=(pages_of(4),), front=front_of(4), **given)
    for width in (1400, 390):
        with Visit(browser, path, viewport=window(width, 900)) as visit:
            assert visit.sideways() == []
            assert visit.page.locator("b:not([class])").count() == 0
            assert visit.page.locator(".card", has_text="<b>bold</b>").count() == 1
            assert visit.page.locator(".ranks tr", has_text=NAMES[0]).count() == 1
            assert "<b>bold</b>" in visit.page.locator(".drawing.map").first.inner_text() or (
                visit.page.locator("svg text", has_text="<b>bold</b>").count()
            )
            assert visit.errors == []


def front_of(count: int) -> Front:
    """The first screen of so many models, with eight answers about the longest names."""
    names = [*NAMES, *(f"model_{i}" for i in range(count))][:count]
    rng, few = np.random.default_rng(0), f"{', '.join(names[:3])} and {count - 3} more"
    answers = tuple(
        Answer(f"Are {few} alike?", "holds", f"-0.4 [-0.5, -0.3] over {names[1]}, 5", "9 images")
        for _ in range(7)
    )
    points = tuple(
        Point(name, *rng.normal(size=2), size, "JE", i == 3, "", size - 0.01, size + 0.01)
        for i, (name, size) in enumerate(zip(names, rng.uniform(size=count), strict=True))
    )
    cards = tuple(
        Card(name, "20-NN: 5%", "nothing beats the usual choice", "", "why") for name in names
    )
    best = Answer("Which is best?", "pixels win", "", "", names=names[0])
    overview = Overview(points, "Near is alike.", "Accuracy.", 0.1, 0.05)
    return Front("", (best, *answers), overview, cards[:4], cards[4:])


@pytest.mark.slow
def test_a_page_of_forty_models_stays_small(browser: Any, tmp_path: Path) -> None:
    given: dict[str, Any] = {"title": "forty", "command": "", "study": "", "provenance": {}}
    # the exhibits of a study by default: matrices and curves three times, and two of curves
    drawn, alone = pages_of(40), curves()
    sections = [replace(drawn, name=f"pairs-{i}") for i in range(3)]
    sections += [replace(alone, name=f"curves-{i}") for i in range(2)]
    families = {"mae": "REC", "dino": "JE", "msn": "JE"}
    front = replace(front_of(40), families=families)
    path = write(tmp_path, sections=sections, front=front, **given)
    assert path.stat().st_size < 8e6
    with Visit(browser, path) as visit:  # one family, one colour, with and without scripts
        for some in (["mae", "own", "dino", "msn"], ["a", "b"], ["dino", "msn", *"abcdef"]):
            expected = number_curves(some, choose_colours(families))
            assert visit.page.evaluate(f"numberCurves({some})") == expected
    for width, screens in ((1400, 12), (390, 24)):
        with Visit(browser, path, viewport=window(width, 900)) as visit:
            height = visit.page.evaluate("document.documentElement.scrollHeight")
            assert height <= screens * 900
            assert visit.page.locator(".ranks tbody tr").count() == 12
            assert visit.sideways() == []
            assert visit.errors == []


@pytest.mark.slow
def test_a_report_is_read_from_a_read_only_folder(browser: Any, tmp_path: Path) -> None:
    given: dict[str, Any] = {"title": "t", "command": "", "study": "", "provenance": {}}
    with small_disk(tmp_path / "disk", "size=8m") as disk:
        path = write(disk / "out", sections=(curves(),), front=front_of(4), **given)
        before = {one: one.read_bytes() for one in disk.rglob("*") if one.is_file()}
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with Visit(browser, path, viewport=window(1400, 900)) as visit:
            assert visit.page.locator(".drawing.lines svg path.curve").count() > 0
            assert visit.errors == []
            tables = [link.get_attribute("href") for link in visit.page.locator("a").all()]
            assert all((path.parent / str(one)).is_file() for one in tables if one[0] != "#")
        assert {one: one.read_bytes() for one in disk.rglob("*") if one.is_file()} == before
        with pytest.raises(InputError, match="Read-only file system"):
            write(disk / "out", sections=(curves(),), **given)


def test_a_page_without_thumbnails_says_so_and_holds_none(tmp_path: Path) -> None:
    given: dict[str, Any] = {"title": "t", "command": "", "study": "", "provenance": {}}
    sections = (pages_of(4),)
    with_them = write(tmp_path / "a", sections=sections, **given).read_text(encoding="utf-8")
    without = write(tmp_path / "b", sections=sections, thumbnails=False, **given)
    assert "data:image/png" in with_them
    assert "data:image/" not in without.read_text(encoding="utf-8")
    assert "without thumbnails" in without.read_text(encoding="utf-8")


def test_one_model_has_a_page(tmp_path: Path) -> None:
    given: dict[str, Any] = {"title": "t", "command": "", "study": "", "provenance": {}}
    front = Front("one model", overview=Overview((Point("mae", 0.0, 0.0),), "", "", 0.0))
    page = write(tmp_path, sections=(pages_of(1),), front=front, **given)
    assert '<circle class="point' in page.read_text(encoding="utf-8")


def test_a_block_that_is_pointed_at_is_said_with_its_neighbours_accuracy() -> None:
    rows = {
        "model": ["mae", "mae", "cnn"],
        "tap": ["blocks.0", "blocks.0", "layer1"],
        "pooling": ["cls", "mean", "mean"],
        "main": [True, False, True],
        "vote": "weighted",
        "features": "raw",
        "k": 20,
        "accuracy": [0.25, 0.5, 0.75],
        "low": [0.125, 0.25, 0.5],
        "high": [0.375, 0.75, 1.0],
        "images": 64,
    }
    frame = pd.DataFrame(rows)
    table = Table(frame, dict.fromkeys(frame.columns, ""))
    assert write_beside({"knn-depth": Results({"accuracies": table})}) == {
        "mae blocks.0": "20-NN 25.0% [12.5%, 37.5%]",
        "cnn layer1": "20-NN 75.0% [50.0%, 100.0%]",
    }
    assert write_beside({}) == {}
