"""What each layer is blind to: how its features answer to changes of the images (towards figures 3,
17 and 18 of Shekhar et al., 2023, and claim C11)."""

from collections.abc import Iterator, Mapping

import pandas as pd

from sslens.comparisons import invariance_families, invariances
from sslens.comparisons.altered import UNCHANGED, AlteredSets
from sslens.comparisons.depth_lines import lines_by_depth
from sslens.comparisons.inputs import Models
from sslens.comparisons.invariance_families import compare_sides
from sslens.comparisons.invariances import list_rows
from sslens.comparisons.rows import Row, make_results
from sslens.data.transform_names import label_transform
from sslens.figure import Figure, Lines, Picture, decode_picture, encode_picture
from sslens.table import Results

TITLE = "What is each layer blind to?"
CAPTION = (
    "Invariance of the features after every block and after the last layer: 1 − E|f(x) − f(Tx)|² /"
    " E|f(x) − f(x′)|², for each transform T, as the image above shows it, with other images x′. At"
    " 1 a layer is blind to it; at 0 a changed image is as different as another one. Drawn for"
    " the CLS token, or the mean where a model has none; the mean of the patch tokens, features of"
    " which each dimension is divided by its deviation, CKA of the images with the altered images,"
    " and how well a linear map follows the transform (equivariance) are in the tables, and so is"
    " how well it is decoded what was done to each image, where that is drawn by the image's id."
    " Probes are trained on half of the images, drawn by SHA-256 of the ids, and tested on the"
    " others. Bands are 95 % intervals over images. Dashed lines are controls: random"
    " initialisations, and raw pixels."
)
ON_REQUEST = True
#: panels side by side
ACROSS = 4
UNITS = (
    invariances.UNITS
    | invariance_families.UNITS
    | {"label": "the transform, with its strength where it is not the usual one", "picture": "PNG"}
)
TABLES: Mapping[str, tuple[str, ...]] = {
    **invariances.TABLES,
    **invariance_families.TABLES,
    "examples": ("label", "picture"),
}
TEXTS = (*invariances.TEXTS, *invariance_families.TEXTS, "label", "picture")
INVARIANCE = ("invariance", "invariance_low", "invariance_high")


def compute(models: Models, *, invariance: AlteredSets, seed: int = 0) -> Results:
    """Measure how the features of every model and control answer to every transform.

    `changes` has a row for each tap, pooling and transform: invariance, CKA, and R² of a linear map
    less R² of the identity. `tokens` has CKA over all tokens, flattened. `decoded` says how well
    it is told from the features what was done to each image; `factors`, of generated scenes, how
    well their true factors are. `families`, `fine-tuned`, `controls` and `second-seeds` compare the
    sensitivity, 1 − invariance, of last layers.

    Args:
        models: the models and the controls.
        invariance: features and Grams of the images and of the altered images.
        seed: seed of the halves of the images that train and test probes.
    """
    rows, answers = list_rows(models, invariance, seed)
    rows += compare_sides(models, answers)
    rows += _list_examples(invariance)
    return make_results(rows, TABLES, UNITS, TEXTS)


def _list_examples(sets: AlteredSets) -> Iterator[tuple[str, Row]]:
    for label, pixels in sets.examples.items():
        yield "examples", {"label": label, "picture": encode_picture(pixels)}


def draw(results: Results) -> Figure:
    """Draw a panel for each transform, invariance against depth, with one curve per model, and
    above it an image that is so changed; unchanged it fills the first empty place."""
    frame = results["changes"]
    frame = frame[frame.main]
    low = float(frame[["invariance", "invariance_low"]].min().min())
    limits = (max(-1.0, min(-0.05, 1.05 * low)), 1.05)
    pictures = _read_pictures(results)
    panels: list[Lines | None] = []
    shown: list[Picture | None] = []
    for (name, strength), rows in frame.groupby(["transform", "strength"], sort=False):
        label = label_transform(str(name), float(strength))
        lines = tuple(lines_by_depth(rows, INVARIANCE))
        facets = {"transform": label}
        panels.append(Lines(label, "relative depth", "invariance", lines, limits, facets=facets))
        shown.append(pictures.get(label))
    across = min(ACROSS, len(panels))
    grid: list[tuple[Lines | Picture | None, ...]] = []
    for start in range(0, len(panels), across):
        some = slice(start, start + across)
        empty: list[Picture | None] = [None] * (across - len(panels[some]))
        if any(shown[some]):
            grid.append((*shown[some], *([pictures[UNCHANGED], *empty[1:]] if empty else [])))
        grid.append((*panels[some], *empty))
    return Figure("invariance", tuple(grid))


def _read_pictures(results: Results) -> dict[str, Picture]:
    """The altered image of each transform; none where there are no examples."""
    if "examples" not in results:
        return {}
    examples: pd.DataFrame = results["examples"]
    return {
        label: Picture(
            label if label == UNCHANGED else "",
            decode_picture(str(row["picture"])),
            facets={} if label == UNCHANGED else {"transform": label},
        )
        for row in examples.to_dict("records")
        if (label := str(row["label"]))
    }
