"""The exhibits' files: each says what is published and where it was read, and every analysis,
claim, model and table that it names is there."""

import re
from pathlib import Path

import pytest

from sslens import cards, exhibits
from sslens.comparisons.detection_rows import FROZEN, TUNED
from sslens.errors import InputError
from sslens.exhibits import ACCURACIES, USERS, Exhibit, Setting
from sslens.find import names, plugin

EXHIBITS = [exhibits.find(name) for name in exhibits.names()]
#: the papers' figures and tables, by the name that each has here
ASKED = """
cka-blocks cka-layer-types cka-convergence cka-distance cka-finetune cka-msn knn-depth agreement
probe-depth probe-layers invariance finetune-path detection-frozen detection-finetuned
detection-layers published
"""
DOCS = Path(__file__).parents[1] / "docs"


def list_settings(exhibit: Exhibit) -> list[Setting]:
    return [one for one in (exhibit.authors, exhibit.shipped) if one is not None]


def test_every_figure_and_table_has_a_file() -> None:
    assert sorted(ASKED.split()) == list(exhibits.names())
    # an analysis that docs/exhibits.md says to stand for a figure or table is named by an exhibit
    rows = re.findall(
        r"^\| `([a-z-]+)` \| (20\d\d [^|]*) \|", (DOCS / "exhibits.md").read_text(), re.M
    )
    assert len(rows) > 10
    named = {analysis for exhibit in EXHIBITS for analysis in exhibit.analyses}
    assert {analysis for analysis, _ in rows} <= named


@pytest.mark.parametrize("exhibit", EXHIBITS, ids=lambda exhibit: exhibit.name)
def test_what_an_exhibit_names_is_there(exhibit: Exhibit) -> None:
    assert set(exhibit.analyses) <= set(names("analyses"))
    for claim in exhibit.claims:
        assert set(plugin("claims", claim).READS) & set(exhibit.analyses), claim
    for setting in list_settings(exhibit):
        for source in setting.models.values():
            assert cards.find(source).name == source
            shipped = cards.find(source).file is not None
            assert shipped == (setting is exhibit.shipped)
        for source in (setting.images, setting.bank):
            assert source is None or source in USERS or source.startswith("scenes")
        assert setting.hours > 0
        assert not set(setting.models) & set(setting.made)
        assert set(setting.leaves_out) <= set(exhibit.analyses)
    roles = {role for one in list_settings(exhibit) for role in (*one.models, *one.made)}
    for number in exhibit.published:
        found = number.found
        for column, value in found.rows.items():
            if column.startswith("model") and value not in ("JE", "REC"):
                assert value in roles
        if found.table == ACCURACIES:
            continue
        analysis, _, table = found.table.partition("/")
        assert analysis in exhibit.analyses
        module = plugin("analyses", analysis)
        columns = module.TABLES[table]
        assert {found.column, *found.rows, *filter(None, (found.low, found.high))} <= set(columns)


def test_every_claim_of_the_papers_is_judged_by_an_exhibit() -> None:
    judged = [claim for exhibit in EXHIBITS for claim in exhibit.claims]
    assert sorted(judged) == sorted(name for name in names("claims") if re.fullmatch(r"c\d+", name))


@pytest.mark.parametrize("exhibit", EXHIBITS, ids=lambda exhibit: exhibit.name)
def test_published_numbers_stand_in_the_text_that_they_were_read_from(exhibit: Exhibit) -> None:
    for number in exhibit.published:
        assert number.source
        assert 0 < number.tolerance < abs(number.value)
        scale = 1 if number.kind == "plain" else 100
        if exhibit.name != "knn-depth":  # "the third transformer block" of twelve
            digits = f"{scale * number.value:.6g}"
            assert re.search(rf"(?<![\d.]){re.escape(digits)}0*(?!\d)", number.text), number


@pytest.mark.parametrize(("name", "table"), [("frozen", FROZEN), ("finetuned", TUNED)])
def test_tables_6_and_7_are_those_that_the_analyses_have(
    name: str, table: dict[tuple[str, bool], tuple[float, ...]]
) -> None:
    roles = {"mae": ("mae", False), "moco-v3": ("moco-v3", False), "dino": ("dino", True)}
    roles["dino-two-crops"] = ("dino", False)
    columns = [(kind, size) for kind in ("box", "mask") for size in ("AP", "AP large", "AP small")]
    printed = {}
    for number in exhibits.find(f"detection-{name}").published:
        rows = number.found.rows
        printed[roles[rows["model"]], (rows["kind"], rows["measure"])] = 100 * number.value
    own = {
        (model, column): value
        for model, values in table.items()
        for column, value in zip(columns, values, strict=True)
        if value == value
    }
    assert printed == pytest.approx(own)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("no_value: none", "either published numbers or"),
        ("titel: x", "unknown key titel: did you mean title?"),
        ("claims: c6", "claims is 'c6': expected a list"),
        ("name: other", "says its name"),
        ("title: [", "not YAML"),
    ],
)
def test_slips_in_a_file_are_found(tmp_path: Path, change: str, message: str) -> None:
    text = Path(exhibits.__file__).with_name("agreement.yaml").read_text()
    key = change.partition(":")[0]
    kept = [line for line in text.splitlines() if not line.startswith(f"{key}:")]
    (tmp_path / "agreement.yaml").write_text("\n".join([*kept, change]))
    with pytest.raises(InputError, match=re.escape(message)):
        exhibits.read(tmp_path / "agreement.yaml")


def test_an_unknown_exhibit_is_answered_with_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean probe-layers"):
        exhibits.find("probe-layer")
