"""CKA of masked siamese networks with both families (figures 15 and 16 of Shekhar et al., 2023;
claim C13)."""

from collections.abc import Iterator, Sequence

from sslens.comparisons import ceilings, families, pairs, panels, roles
from sslens.comparisons.beside import add_deconfounded, make_rows_with_deconfounded
from sslens.comparisons.contrasts import PairContrast
from sslens.comparisons.inputs import GramSets, Models
from sslens.comparisons.pairs import Pair, Pairs, Row, compare_pairs, make_cka_columns
from sslens.comparisons.pickable import list_pickable
from sslens.comparisons.roles import JE, REC
from sslens.comparisons.trainings import TRAININGS, Sides, count_trainings_once
from sslens.figure import Figure, Panel
from sslens.models.about import About
from sslens.table import Results

TITLE = "Is a masked siamese network like joint embedding or like reconstruction?"
CAPTION = (
    "MSN embeds two views like joint embedding (JE) and masks patches like reconstruction (REC)."
    " Minibatch CKA between the blocks of MSN and of every other model, pre-trained or fine-tuned,"
    " over all tokens; below, at the same depth, beside the controls: random initialisations with"
    " each other and with MSN, and raw pixels. Deconfounded CKA, what is left when the raw pixels"
    " are regressed out, is in the tables. Bands are 95 % intervals over minibatches; a difference"
    " is paired."
)
KIND = "block"
#: what stands before the names of families of fine-tuned models
TUNED = "fine-tuned"
TABLES = {name: ("msn", *columns) for name, columns in pairs.TABLES.items()} | {
    **ceilings.TABLES,
    "families": add_deconfounded(families.TABLES["families"]),
}
UNITS = {"msn": "whether model_a is MSN", **families.UNITS, **ceilings.UNITS}


def explain_absence(models: Models) -> str | None:
    """Say why there is nothing to show: no MSN model, or no JE or REC model to compare it with."""
    masked = list_msn(models)
    if not masked:
        return "there is no MSN model among the models"
    others = [models.about(name) for name in models.studied if name not in masked]
    if not any(about.family in (JE, REC) for about in others):
        return "there is no other joint-embedding or reconstruction model to hold MSN against"
    return None


def list_msn(models: Models) -> list[str]:
    """List the names of the masked siamese networks under study."""
    return [name for name in models.studied if is_msn(models.about(name))]


def is_msn(about: About) -> bool:
    """Whether a model was pre-trained as a masked siamese network."""
    return about.objective == "msn"


def compute(models: Models, *, grams: GramSets, seed: int = 0) -> Results:
    """Compute the CKA of MSN with every model, and compare its CKA with pre-trained JE models to
    its CKA with pre-trained REC models."""
    return pairs.make_pair_results(_list_rows(models, grams, seed), TABLES, UNITS)


def _list_rows(models: Models, grams: GramSets, seed: int) -> Iterator[tuple[str, Row]]:
    masked = list_msn(models)

    def wanted(a: str, b: str) -> bool:
        return a == b or a in masked or b in masked or {a, b} <= set(models.controls)

    pixels = pairs.find_pixels(grams)
    for tokens in roles.list_tokens(models, grams):
        compared = compare_pairs(
            models, grams[tokens], tokens, KIND, wanted, pixels=pixels, seed=seed
        )
        for table, row in make_rows_with_deconfounded(
            lambda found: _list_tables(models, found), compared
        ):
            is_msn_row = {"msn": row["model_a"] in masked} if "msn" in TABLES[table] else {}
            yield table, row | is_msn_row


def _list_tables(models: Models, compared: Pairs) -> Iterator[tuple[str, Row]]:
    yield from pairs.make_pair_rows(models, compared)
    yield from ceilings.list_rows(models, compared)
    for tuned in (False, True):
        yield from _compare_families(models, compared, tuned=tuned)


def _compare_families(models: Models, compared: Pairs, *, tuned: bool) -> Iterator[tuple[str, Row]]:
    """MSN, pre-trained or fine-tuned, with pre-trained JE less MSN with pre-trained REC.

    A fine-tuned MSN is also held against the fine-tuned models of both families, where there are.
    """
    masked = list_msn(models)
    stage = [name for name in masked if roles.is_tuned(models.about(name)) == tuned]
    own = count_trainings_once(models, stage)
    pretrained = families.list_families(models)
    before = [[name for name in names if name not in masked] for names in pretrained]
    yield from _compare_with(models, compared, own, before, tuned=tuned, names="")
    if tuned:
        after = [_list_tuned(models, family) for family in (JE, REC)]
        yield from _compare_with(models, compared, own, after, tuned=tuned, names=f"{TUNED} ")


def _list_tuned(models: Models, family: str) -> list[str]:
    """The fine-tuned models of a family, without CNNs and MSN."""
    abouts = {name: models.about(name) for name in models.studied}
    return [
        name
        for name, about in abouts.items()
        if about.family == family
        and roles.is_tuned(about)
        and not roles.is_cnn(about)
        and not is_msn(about)
    ]


def _compare_with(
    models: Models,
    compared: Pairs,
    own: Sequence[str],
    others: Sequence[Sequence[str]],
    *,
    tuned: bool,
    names: str,
) -> Iterator[tuple[str, Row]]:
    """Two rows: MSN with JE, less MSN with REC, and MSN with REC.

    Fine-tuned models have no interval over trainings: several may come of one pre-training.
    """
    je, rec = others

    def choose(sides: Sides) -> tuple[list[Pair], list[Pair]]:
        return (
            compared.find_all(sides["MSN"], sides[JE]),
            compared.find_all(sides["MSN"], sides[REC]),
        )

    sides = {"MSN": own, JE: je, REC: rec}
    inside, outside = choose(sides)
    if not inside or not outside:
        return
    members = "; ".join(
        [roles.list_names(own), f"{JE}: {roles.list_names(je)}", f"{REC}: {roles.list_names(rec)}"]
    )
    contrast = PairContrast.of(models, sides, choose, lambda pair: pair.same)
    msn = f"{TUNED} MSN" if tuned else "MSN"
    near_names, far_names = (
        families.name_families(compared, msn, f"{names}{family}", len(side), members)
        for family, side in ((JE, inside), (REC, outside))
    )
    row = contrast.row(f"{msn} · {names}{REC}")
    if tuned:
        row = {column: value for column, value in row.items() if column not in TRAININGS}
    yield "families", near_names | row
    far = contrast.means()[1]
    if far is not None:
        yield "families", far_names | make_cka_columns(far)


def draw(results: Results) -> Figure:
    """Draw heat maps of MSN with each other model, then curves of CKA at the same depth, with
    controls."""
    rows = results["cells"]
    cells = panels.Cells.of(rows)
    tokens, names = cells.tokens(), cells.models()
    masked = list(dict.fromkeys(rows[rows.msn].model_a))
    others = {own: [other for other in names if other != own] for own in masked}
    grid: list[list[Panel | None]] = [
        [panels.draw_cells(cells, own, other, tokens[0], KIND) for other in others[own]]
        for own in masked
    ]
    drawn = dict.fromkeys((own, other) for own in masked for other in others[own])
    shown = [*drawn, *panels.list_beside(cells, masked[:1])]
    grid.append([panels.draw_lines(cells, one, KIND, panels.LABELS[one], shown) for one in tokens])
    return panels.make_figure("cka-msn", grid, list_pickable(results, shown))
