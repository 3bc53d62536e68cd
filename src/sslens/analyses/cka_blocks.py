"""CKA between all blocks of all models (figure 1 of Shekhar et al., 2022; figure 1a of 2023; claims
C1 and C2)."""

from collections.abc import Iterator

from sslens.comparisons import families, panels, quarters, roles
from sslens.comparisons.inputs import GramSets, Models
from sslens.comparisons.pairs import (
    TABLES_NULL,
    Row,
    compare_pairs,
    make_pair_results,
    make_pair_rows,
)
from sslens.figure import Figure, Panel
from sslens.table import Results

TITLE = "How alike are the blocks?"
CAPTION = (
    "Minibatch CKA with the unbiased HSIC_1 between the outputs of every block of every model: 1 is"
    " the same up to rotation and scale, 0 is unrelated. All tokens of an image are flattened, as"
    " in the papers; the CLS token and the patch tokens alone are shown beside it. Bands are 95 %"
    " bootstrap intervals over minibatches; a difference is taken within each replicate, so that it"
    " is paired. The intervals are over images: of other trainings of the same objective they say"
    " nothing. Dashed lines are controls: random initialisations of the same architecture, with"
    " each other and with the models, and the raw pixels. A similarity that does not exceed them"
    " says nothing about what was learned. In the table, p is against images that were permuted,"
    " corrected over all cells of a pair."
)
KIND = "block"
TABLES = {**TABLES_NULL, **families.TABLES, **quarters.TABLES}


def compute(models: Models, *, grams: GramSets, seed: int = 0) -> Results:
    """Compute the CKA of every block with every block, for all pairs of models and controls.

    Where the models' families are known, it also compares families (`compare_cka_of_families`).
    """
    rows = list(_list_rows(models, grams, seed))
    return make_pair_results(rows, TABLES, families.UNITS)


def _list_rows(models: Models, grams: GramSets, seed: int) -> Iterator[tuple[str, Row]]:
    for tokens in roles.list_tokens(models, grams):
        pairs = compare_pairs(models, grams[tokens], tokens, KIND, seed=seed, null=True)
        yield from make_pair_rows(models, pairs)
        yield from families.compare_cka_of_families(models, pairs)
        yield from quarters.compare_quarters(models, pairs)
    yield from families.list_members(models)


def draw(results: Results) -> Figure:
    """Draw heat maps of all pairs of models and one random initialisation, then curves of CKA at
    the same depth."""
    cells = panels.Cells.of(results["cells"])
    tokens = cells.tokens()
    names = cells.models()
    names += [name for name in cells.controls() if name != roles.PIXELS][:1]
    grid: list[list[Panel | None]] = [
        [
            panels.draw_cells(cells, a, b, tokens[0], KIND) if j >= i else None
            for j, b in enumerate(names)
        ]
        for i, a in enumerate(names)
    ]
    pairs = panels.list_drawn(cells)
    grid.append([panels.draw_lines(cells, one, KIND, panels.LABELS[one], pairs) for one in tokens])
    grid.append(
        [
            panels.draw_families(results, one, KIND, f"families, {panels.LABELS[one]}")
            for one in tokens
        ]
    )
    return panels.make_figure("cka-blocks", grid)
