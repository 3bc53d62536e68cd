"""CKA between all blocks of all models (figure 1 of Shekhar et al., 2022; figure 1a of 2023; claims
C1 and C2)."""

from collections.abc import Iterator

from sslens.comparisons import apart, ceilings, families, panels, quarters, roles
from sslens.comparisons.beside import add_deconfounded, make_rows_with_deconfounded
from sslens.comparisons.inputs import GramSets, Models
from sslens.comparisons.pairs import (
    TABLES_NULL,
    Pairs,
    Row,
    compare_pairs,
    find_pixels,
    make_pair_results,
    make_pair_rows,
)
from sslens.comparisons.pickable import list_pickable
from sslens.figure import Figure, Panel
from sslens.table import Results

TITLE = "How alike are the blocks?"
CAPTION = (
    "Minibatch CKA with the unbiased HSIC_1 between the outputs of every block of every model: 1 is"
    " the same up to rotation and scale, 0 is unrelated. All tokens of an image are flattened, as"
    " in the papers; the CLS token and the patch tokens alone are shown beside it. Deconfounded CKA"
    " is what is left when the raw pixels are regressed out of both models: two networks that only"
    " pass on the image's mean colour are alike to 0.99, which says nothing about what they"
    " learned. It is undefined where the pixels explain over 95 % of a layer. Bands are 95 %"
    " intervals over minibatches; a difference is paired. The intervals are over images: of other"
    " trainings of the same objective they say nothing. The ceiling is two trainings of one"
    " objective, where there are two. Dashed lines are controls: random initialisations of the same"
    " architecture, with each other and with the models, and the raw pixels. In the table, p is"
    " against images that were permuted, corrected over all cells of a pair. The small pictures,"
    " where there are any, are the images on which two models differ most, by the cosine of their"
    " U-centred similarities of the image with its minibatch, averaged over depths."
)
KIND = "block"
TABLES = {
    **TABLES_NULL,
    **ceilings.TABLES,
    **{
        name: add_deconfounded(columns)
        for name, columns in {**families.TABLES, **quarters.TABLES}.items()
    },
    "apart": apart.APART,
}
UNITS = families.UNITS | ceilings.UNITS | apart.UNITS


def compute(models: Models, *, grams: GramSets, seed: int = 0) -> Results:
    """Compute the CKA of every block with every block, for all pairs of models and controls.

    Where the models' families are known, it also compares families (`compare_cka_of_families`). The
    table `apart` names the images on which two models differ most, over the first choice of tokens.
    """
    rows = list(_list_rows(models, grams, seed))
    return make_pair_results(rows, TABLES, UNITS)


def _list_rows(models: Models, grams: GramSets, seed: int) -> Iterator[tuple[str, Row]]:
    pixels = find_pixels(grams)
    for tokens in roles.list_tokens(models, grams):
        compared = compare_pairs(
            models, grams[tokens], tokens, KIND, pixels=pixels, seed=seed, null=True
        )
        yield from make_rows_with_deconfounded(lambda pairs: _list_tables(models, pairs), compared)
    yield from families.list_members(models)
    tokens = roles.list_tokens(models, grams)[0]
    yield from apart.list_images_apart(models, grams[tokens], tokens, KIND)


def _list_tables(models: Models, pairs: Pairs) -> Iterator[tuple[str, Row]]:
    yield from make_pair_rows(models, pairs)
    yield from ceilings.list_rows(models, pairs)
    yield from families.compare_cka_of_families(models, pairs)
    yield from quarters.compare_quarters(models, pairs)


def draw(results: Results) -> Figure:
    """Draw heat maps of all pairs of models and one random initialisation, then curves of CKA at
    the same depth, of all of it and beyond the pixels."""
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
    pairs = list(dict.fromkeys([*panels.list_ceilings_in(results), *panels.list_drawn(cells)]))
    grid.append([panels.draw_lines(cells, one, KIND, panels.LABELS[one], pairs) for one in tokens])
    grid.append(
        [
            panels.draw_deconfounded(
                results, one, KIND, f"beyond the pixels, {panels.LABELS[one]}", pairs
            )
            for one in tokens
        ]
    )
    grid.append(
        [
            panels.draw_families(results, one, KIND, f"families, {panels.LABELS[one]}")
            for one in tokens
        ]
    )
    return panels.make_figure("cka-blocks", grid, list_pickable(results, pairs))
