"""The page of a reproduction: what the papers print and what was found, side by side."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sslens.own_files import OwnFiles
from sslens.report.older import PAGE
from sslens.report.outcomes import ReproducedExhibit
from sslens.report.writing import reproduced as writing
from sslens.report.writing.numbers import spell_printed, typeset
from sslens.store import write_text
from sslens.table import Table

NUMBERS = {
    "exhibit": "name of the exhibit",
    "what": "what the number is",
    "source": "where it is printed",
    "published": "the number as printed; shares from 0 to 1",
    "tolerance": "how far from it counts as the same, on the same weights and images",
    "found": "the number that was found in its place; empty where there is none",
    "low": "lower end of its 95 % interval; empty where it has none",
    "high": "upper end",
    "on": "whose weights, and which images",
    "agreement": (
        "the same, differs or undecided, where weights and images are those of the published"
        " number; not comparable, where they are others; not found, where there is no such row;"
        " else the state of the exhibit"
    ),
    "why": "what differs, or what is missing",
}
CLAIMS = {
    "exhibit": "name of the exhibit",
    "claim": "name of the claim",
    "outcome": "what became of it, for each choice of tokens that it distinguishes",
    "effect": "its first difference; empty where it was not run",
    "low": "lower end of its 95 % interval",
    "high": "upper end",
    "why": "what decided, or what is missing",
}
STATES = {
    "exhibit": "name of the exhibit",
    "papers": "the figures and tables that it stands for",
    "state": "computed; stored (it comes with sslens); not run; failed",
    "on": "whose weights, and which images",
    "models": "the source of each role's model",
    "why": "why it was not run, why these weights were taken, and what is missing for parts of it",
}


def make_tables(exhibits: Sequence[ReproducedExhibit]) -> dict[str, Table]:
    """Make the tables: published numbers, claims, and what became of each exhibit."""
    rows: dict[str, tuple[Mapping[str, str], Iterator[Mapping[str, Any]]]] = {
        "published": (NUMBERS, (row for one in exhibits for row in _list_numbers(one))),
        "claims": (CLAIMS, (row for one in exhibits for row in _list_claims(one))),
        "exhibits": (STATES, (_make_state(one) for one in exhibits)),
    }
    import pandas as pd

    return {
        name: Table(pd.DataFrame(list(made), columns=list(units)), units)
        for name, (units, made) in rows.items()
    }


def _list_numbers(one: ReproducedExhibit) -> Iterator[dict[str, Any]]:
    """A row for each published number, also where nothing was run."""
    printed = one.exhibit.published
    for published, number in zip(printed, one.numbers or [None] * len(printed), strict=True):
        found = None if number is None else number.found
        yield {
            "exhibit": one.exhibit.name,
            "what": published.what,
            "source": published.source,
            "published": published.value,
            "tolerance": published.tolerance,
            "found": None if found is None else found.value,
            "low": None if found is None else found.low,
            "high": None if found is None else found.high,
            "on": one.on,
            "agreement": one.state if number is None else number.agreement,
            "why": one.why if number is None else number.why,
        }


def _list_claims(one: ReproducedExhibit) -> Iterator[dict[str, Any]]:
    for claim in one.claims:
        effect = claim.effect
        yield {
            "exhibit": one.exhibit.name,
            "claim": claim.claim,
            "outcome": claim.outcome,
            "effect": None if effect is None else effect.value,
            "low": None if effect is None else effect.low,
            "high": None if effect is None else effect.high,
            "why": claim.why,
        }


def _make_state(one: ReproducedExhibit) -> Mapping[str, Any]:
    return {
        "exhibit": one.exhibit.name,
        "papers": one.exhibit.papers,
        "state": one.state,
        "on": one.on,
        "models": "; ".join(f"{role}: {source}" for role, source in one.models.items()),
        "why": "; ".join(filter(None, (one.why, *one.notes))),
    }


def write_page(out: Path, exhibits: Sequence[ReproducedExhibit], command: str) -> Path:
    """Write the page and its tables; returns the path of reproduce.html.

    The page has no script and asks nothing of a network. No text is read as HTML.

    Args:
        out: the folder.
        exhibits: what became of each exhibit.
        command: the command that was typed.
    """
    own = OwnFiles(out)
    for name, table in make_tables(exhibits).items():
        table.save(own.before(out / f"{name}.csv"))
    path = own.before(out / PAGE)
    write_text(path, _render(exhibits, command))
    return path


def _render(exhibits: Sequence[ReproducedExhibit], command: str) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("sslens.report", package_path=""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["typeset"] = typeset
    return environment.get_template("reproduced.html.jinja").render(
        exhibits=exhibits,
        command=command,
        summary=writing.summarise(exhibits),
        spell=spell_printed,
        spell_found=writing.spell_found,
        state=writing.write_state,
        reasons=list(writing.write_reasons(exhibits)),
        outcomes=writing.write_outcomes,
        say=writing.write_agreement,
        shared_agreement=writing.find_shared_agreement,
        shared_note=writing.find_shared_note,
        effect=writing.spell_claim_effect,
    )
