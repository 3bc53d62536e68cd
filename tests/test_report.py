"""The report: what is given is on the page as text, the page needs no network, and a browser finds
nothing wrong with it."""

import csv
import io
import itertools
import json
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sslens.figure import Figure, Heatmap, Line, Lines
from sslens.report.page import SHOWN, Section, write
from sslens.table import Results, Table

HOSTILE = "<script>alert(1)</script><!-- $x$ {{ 7 * 7 }} \"quoted\" & 'so'"
COUNT = 300


def maps() -> Section:
    values = np.linspace(0, 1, 49).reshape(7, 7)
    values[0, 3] = np.nan
    names, models = tuple(map(str, range(7))), ("moco-v3", "dino", HOSTILE, "random")
    grid = tuple(
        tuple(
            (
                Heatmap(
                    f"{a} × {b}",
                    values,
                    names,
                    names,
                    f"block of {b}",
                    f"block of {a}",
                    (0.0, 1.0),
                    "CKA",
                )
                if i <= j
                else None
            )
            for j, b in enumerate(models)
        )
        for i, a in enumerate(models)
    )
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
        Figure("cka-blocks", grid),
    )


def curves() -> Section:
    x = np.linspace(0, 1, 12)
    lines = (
        Line("mae", x, x, x - 0.1, x + 0.1),
        Line(HOSTILE, x, x / 2),
        Line("random", x, x / 9, control=True),
    )
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
    }
    assert json.loads((report.parent / "provenance.json").read_text()) == PROVENANCE
    assert (report.parent / "study.yaml").read_text() == "models: [mae]\n"
    assert len(pd.read_csv(report.parent / "tables" / "cka-blocks.csv")) == COUNT


def test_figures_for_paper_are_drawn_on_request_only(without_pictures: Path) -> None:
    from plotly.offline import get_plotlyjs

    page = without_pictures.read_text(encoding="utf-8").replace(get_plotlyjs(), "")
    assert not (without_pictures.parent / "figures").exists()
    assert "figures/" not in page
    assert "data:image/svg" not in page
    assert page.count("figures=True") == 2  # what to do without JavaScript, beside each figure


def test_pictures_of_an_earlier_report_are_not_left_beside_new_numbers(tmp_path: Path) -> None:
    given: dict[str, Any] = {"title": "t", "command": "", "study": "", "provenance": {}}
    (tmp_path / "figures").mkdir()
    for name in ("knn-depth.svg", "knn-depth.pdf", "mine.svg"):
        (tmp_path / "figures" / name).write_text("old")
    write(tmp_path, sections=(curves(),), **given)
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["mine.svg"]


def test_plotly_is_inlined_once_and_nothing_is_loaded(page: str) -> None:
    from plotly.offline import get_plotlyjs

    assert page.count(get_plotlyjs()) == 1
    assert page.count("Plotly, Inc.\n* All rights reserved") == 1
    for address in Outline(page).addresses():
        assert address.startswith(("#", "data:", "figures/", "tables/")), address
    own = page.replace(get_plotlyjs(), "")
    assert not re.search(r"@import|url\(|https?://", own)
    assert "default-src 'none'" in own


def test_what_is_given_is_text_and_never_markup(page: str) -> None:
    outline = Outline(page)
    assert sorted(outline.scripts) == sorted(
        [
            "page",
            "plotly_",
            *(
                f"{name}_{part}"
                for name in ("cka-blocks", "knn-depth")
                for part in ("figure", "tsv")
            ),
        ]
    )
    assert sum(tag == "script" for tag, _ in outline.tags) == len(outline.scripts)
    places = 8  # title, h1, note, finding, caption, unit, version, command
    assert outline.text.count(HOSTILE) == places + SHOWN // 2  # and the rows that are shown


def test_links_within_the_page_lead_somewhere_and_ids_are_unique(report: Path, page: str) -> None:
    outline = Outline(page)
    ids = [attributes["id"] for _, attributes in outline.tags if "id" in attributes]
    assert len(set(ids)) == len(ids)
    for address in outline.addresses():
        if address.startswith("#"):
            assert address[1:] in ids
        elif not address.startswith("data:"):
            assert (report.parent / address).is_file()


def test_the_summary_names_a_section_once_above_its_findings(page: str) -> None:
    summary = page[page.index('<div class="summary">') : page.index("<nav")]
    assert [address for address in Outline(summary).addresses() if address.startswith("#")] == [
        "#cka-blocks"
    ]
    words = Outline(summary).text.split("\n")
    assert [word for word in words if word] == ["Summary", "CKA", "All are alike.", HOSTILE]


def test_headings_are_in_order_and_tables_have_heads(page: str) -> None:
    tags = Outline(page).tags
    levels = [int(tag[1]) for tag, _ in tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert sum(tag == "caption" for tag, _ in tags) == sum(tag == "table" for tag, _ in tags) == 2
    assert all(attributes.get("scope") in ("col", "row") for tag, attributes in tags if tag == "th")


def test_copy_holds_every_row_and_the_page_the_first(page: str) -> None:
    copied = list(
        csv.reader(io.StringIO(json.loads(Outline(page).scripts["cka-blocks_tsv"])), delimiter="\t")
    )
    assert len(copied) == COUNT + 1
    assert copied[0] == ["model", "block", "cka"]
    assert copied[1:3] == [[HOSTILE, "0", "0.123457"], ["tab\tand\nline", "1", ""]]
    assert page.count('<th scope="row">') == SHOWN + 1
    assert f"the first {SHOWN} of {COUNT} rows" in page
    assert '<td class="number">0.1235</td>' in page
    assert '<td class="number undefined">undefined</td>' in page


def test_figures_are_embedded_with_rounded_values(page: str) -> None:
    drawing = json.loads(Outline(page).scripts["cka-blocks_figure"])
    assert set(drawing) == {"data", "wide", "narrow"}
    grey, coloured = drawing["data"][:2]
    assert coloured["z"][0][:4] == [0.0, 0.02083, 0.04167, None]
    assert grey["z"][0][:4] == [None, None, None, 1]
    assert drawing["narrow"]["width"] <= 358
    assert Outline(page).scripts["knn-depth_figure"].count("toself") == 2


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

    def draw(self) -> None:
        """Scroll to every figure, as a reader does: they are drawn when they come near."""
        for index, plot in enumerate(self.page.locator(".plot").all()):
            plot.scroll_into_view_if_needed()
            self.page.locator(f".plot >> nth={index} >> .main-svg").first.wait_for()


def window(width: int, height: int) -> dict[str, int]:
    return {"width": width, "height": height}


@pytest.mark.parametrize(
    "window",
    [
        window(390, 844),
        *(pytest.param(window(width, 800), marks=pytest.mark.slow) for width in (1280, 700, 320)),
    ],
    ids=lambda window: str(window["width"]),
)
def test_it_opens_without_network_or_error_and_never_scrolls_sideways(
    browser: Any, report: Path, window: dict[str, int]
) -> None:
    with Visit(browser, report, viewport=window, offline=True) as visit:
        visit.draw()
        for summary in visit.page.locator("summary").all():
            summary.click()
        assert visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        # 10 maps, and the grey of undefined cells
        assert visit.page.locator(".heatmaplayer image").count() >= 11
        # in each of two panels 3 curves and 1 band
        assert visit.page.locator(".scatterlayer .trace").count() == 2 * 4
        legends_are_above = """() => [...document.querySelectorAll('.plot')].every(plot => {
            const legend = plot.querySelector('.legend');
            const panel = plot.querySelector('.gridlayer, .plotbg, .xy');
            if (!legend) return true;
            const bottom = legend.getBoundingClientRect().bottom;
            return bottom <= panel.getBoundingClientRect().top + 1;
        })"""
        assert visit.page.evaluate(legends_are_above)
        assert visit.errors == []
        assert all(url.startswith(("file:", "data:", "blob:")) for url in visit.asked)
        assert sum(url.startswith("file:") for url in visit.asked) == 1


@pytest.mark.slow
def test_what_is_undefined_says_so_where_it_is_pointed_at(browser: Any, report: Path) -> None:
    with Visit(browser, report, viewport={"width": 1280, "height": 900}) as visit:
        visit.draw()
        visit.page.locator(".plot").first.scroll_into_view_if_needed()
        box = visit.page.locator(".plot .nsewdrag").first.bounding_box()
        hover = visit.page.locator(".plot").first.locator(".hoverlayer")
        for column, words in ((3, "undefined"), (4, "CKA 0.08333")):
            visit.page.mouse.move(
                box["x"] + box["width"] * (column + 0.5) / 7,
                box["y"] + box["height"] * 6.5 / 7,
                steps=3,
            )
            hover.get_by_text(words).wait_for(timeout=5000)


@pytest.mark.parametrize("clipboard", [pytest.param(True, marks=pytest.mark.slow), False])
def test_copy_copies_every_row(browser: Any, report: Path, clipboard: bool) -> None:
    with Visit(
        browser, report, permissions=["clipboard-read", "clipboard-write"] if clipboard else []
    ) as visit:
        if not clipboard:
            visit.page.evaluate("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
            visit.page.evaluate(
                "document.addEventListener('copy', () => window.copied ="
                " document.activeElement.value)"
            )
        visit.page.locator("summary").first.click()
        button = visit.page.get_by_role("button", name=f"Copy all {COUNT} rows")
        button.click()
        visit.page.get_by_text("Copied", exact=True).wait_for()
        copied = visit.page.evaluate(
            "navigator.clipboard.readText()" if clipboard else "window.copied"
        )
        assert len(list(csv.reader(io.StringIO(copied), delimiter="\t"))) == COUNT + 1
        assert visit.page.locator("textarea").count() == 0
        assert visit.errors == []


@pytest.mark.slow
def test_it_prints(browser: Any, report: Path) -> None:
    with Visit(browser, report, color_scheme="dark") as visit:
        printed = visit.page.pdf(format="A4")
        visit.page.emulate_media(media="print")
        assert not visit.page.locator("button").first.is_visible()
        assert all(still.is_visible() for still in visit.page.locator(".still").all())
        assert (
            visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
            == "rgb(255, 255, 255)"
        )
    assert printed.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", printed)) >= 2


@pytest.mark.slow
def test_it_prints_without_pictures(browser: Any, without_pictures: Path) -> None:
    """Also the figures that the reader did not scroll to."""
    with Visit(browser, without_pictures) as visit:
        printed = visit.page.pdf(format="A4")
        visit.page.emulate_media(media="print")
        assert all(plot.is_visible() for plot in visit.page.locator(".plot").all())
        assert visit.page.locator(".plot .main-svg").count() >= 2
        assert visit.errors == []
    assert printed.startswith(b"%PDF")


def test_it_is_readable_without_scripts(browser: Any, report: Path, without_pictures: Path) -> None:
    with Visit(browser, report, java_script_enabled=False) as visit:
        assert visit.page.locator(".still").first.is_visible()
        assert not visit.page.locator("button").first.is_visible()
    with Visit(browser, without_pictures, java_script_enabled=False) as visit:
        assert visit.page.locator("noscript p").first.is_visible()
