"""What pages of documentation name is there: pages and their headings, commands and their options,
cards, tables, and names of the package; and each public name has an example."""

import functools
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import sslens
from sslens import cards
from sslens.arguments.declared import list_recipes
from sslens.arguments.foreign import list_arguments
from sslens.cli import finetune, pretrain, rcdm
from sslens.find import names, plugin

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("runs/*/*.md"))]
#: the beginnings of names that are cards' wherever a command of the pages has them
CARDS = "dino|dinov2|mae|moco|moco_v3|mocov3|msn|scenes"


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def list_lines(page: Path) -> Iterator[str]:
    """The lines of code of a page, a command that goes on in the next line joined."""
    text = re.sub(r"\\\n +", " ", read(page))
    return (line.strip() for line in text.splitlines() if line.startswith("    "))


def list_commands(page: Path) -> Iterator[str]:
    """The commands of a page, in code and in sentences, from the name of the command on."""
    inline = re.findall(r"`[^`\n]*`", read(page))
    for text in (*list_lines(page), *inline):
        for command in re.findall(r"(?:^|`|-m |uv run |\$ )sslens ((?!…)[a-z].*)", text):
            yield re.split(r"`| {2,}(?=[^- ])| #| \| ", command)[0]


@functools.cache
def list_own_options(command: str) -> frozenset[str]:
    module = plugin("cli", command)
    kinds: list[Any] = [*getattr(module, "ACTIONS", {}).values(), module.Command]
    options = {one.name for kind in kinds for one in list_arguments(kind)} | {"--json", "--help"}
    return frozenset(options | {f"--no-{one[2:]}" for one in options})


def make_anchor(heading: str) -> str:
    return re.sub(r"[^\w -]", "", heading.strip().lower()).replace(" ", "-")


def test_every_page_that_is_named_is_there() -> None:
    places = [*ROOT.glob("src/sslens/**/*.py"), *PAGES]
    named = {
        page for place in places for page in re.findall(r"docs/[\w-]+\.(?:md|ipynb)", read(place))
    }
    assert {"docs/commands.md", "docs/zoo.md"} <= named
    assert sorted(page for page in named if not (ROOT / page).is_file()) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}/{page.name}")
def test_every_link_leads_to_a_page_and_a_heading(page: Path) -> None:
    for link in re.findall(r"\]\(((?!http)[^)\s]+)\)", read(page)):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.*)$", read(target), re.M)
            assert anchor in map(make_anchor, headings), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}/{page.name}")
def test_every_command_has_the_options_it_is_shown_with(page: Path) -> None:
    for command in list_commands(page):
        name, *words = command.split()
        assert name in names("cli"), command
        given = {word.partition("=")[0] for word in words if re.match(r"--[a-z]", word)}
        assert given <= list_own_options(name), command


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}/{page.name}")
def test_every_card_in_code_is_there(page: Path) -> None:
    whole = rf"(?<![\w./-])(?:{CARDS})_\w+(?![\w./-])"
    named = {name for line in list_lines(page) for name in re.findall(whole, line)}
    named -= cards.list_generators().keys()
    assert sorted(name for name in named if cards.look_up(name) is None) == []


def test_every_name_of_the_package_is_there() -> None:
    named = {name for page in PAGES for name in re.findall(r"\bsslens(?:\.[a-z]\w*)+", read(page))}
    imported = {
        f"{module}.{name.strip()}"
        for page in PAGES
        for module, listed in re.findall(r"from (sslens[\w.]*) import ([\w, ]+)", read(page))
        for name in listed.split(",")
    }
    # entries of files, and not of the package
    for name in sorted((named | imported) - {"sslens.json", "sslens.sums"}):
        assert find(name) is not None, name


def find(name: str) -> object:
    """What a dotted name stands for; None if nothing does."""
    module, _, last = name.rpartition(".")
    try:
        return importlib.import_module(name)
    except ImportError:
        return getattr(find(module), last, None) if module else None


def test_the_readme_has_every_part_of_the_package() -> None:
    tree = read(ROOT / "README.md").partition("    src/sslens/\n")[2].partition("    tests/")[0]
    parts = [one for one in (ROOT / "src" / "sslens").iterdir() if one.name[0] not in "_."]
    shown = set(re.findall(r"[\w-]+\.py|[\w-]+(?=/ )", tree))
    assert shown >= {one.name for one in parts if one.suffix == ".py" or one.is_dir()}


def test_every_table_of_an_analysis_is_on_the_page_of_exhibits() -> None:
    text = read(ROOT / "docs" / "exhibits.md").partition("| analysis | tables |")[2]
    told: dict[str, set[str]] = {}
    for first, tables in re.findall(r"^\| (`[^|]*) \| (.*) \|$", text, re.M):
        analyses = re.findall(r"`([\w-]+)`", first)
        called = set(re.findall(r"`([a-z-]+)`", tables)) - set(analyses)
        own = {
            table
            for analysis in analyses
            for table in getattr(plugin("analyses", analysis), "TABLES", ())
        }
        told |= dict.fromkeys(analyses, called)
        if "](" not in tables:  # which another page tells
            assert called | set(analyses) >= own, first
        assert called <= own, first
    assert set(told) == set(names("analyses"))


def test_the_help_names_every_preset() -> None:
    helped = {"finetune": finetune, "diffusion": rcdm} | dict.fromkeys(
        names("objectives"), pretrain
    )
    for learner, command in helped.items():
        text = read(Path(str(command.__file__)))
        assert set(list_recipes(learner)) <= set(re.findall(r"[\w-]+", text)), learner


@pytest.mark.parametrize("name", sorted({*sslens.__all__} - {"Result"}))  # `compare` shows one
def test_every_public_name_has_an_example(name: str) -> None:
    told = inspect.getdoc(getattr(sslens, name)) or ""
    assert ">>> " in told or name == "fingerprint"
