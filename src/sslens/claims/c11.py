"""C11: reconstruction keeps flips, joint embedding ignores them, and fine-tuning learns to ignore
them (figures 3, 17 and 18 of Shekhar et al., 2023)."""

from collections.abc import Iterator, Mapping
from typing import Any

from sslens.comparisons.parts import find_rows, make_part, refuse, split_members
from sslens.comparisons.roles import JE, REC
from sslens.statistics.estimate import Contrast, Estimate
from sslens.statistics.verdicts import Quotation, Verdict, reach_verdict
from sslens.table import Results

WORDS = (
    "The last layer of reconstruction models keeps the horizontal orientation of images, joint"
    " embedding is blind to it, and fine-tuning makes reconstruction more so."
)
GROUP_WORDS = (
    "The last layer of {b} keeps the horizontal orientation of images, {a} is blind to it, and"
    " fine-tuning makes {b} more so."
)
SHORT = "The last layer of REC keeps orientation, and JE is blind to it"
PAPERS = (
    Quotation(
        "JE representations yield images with horizontal flip invariance, whereas REC"
        " representations do not",
        "2023, section 2.2",
    ),
    Quotation(
        "during fine-tuning the ViT learns to be invariant to horizontal flip",
        "2023, section 2.3",
    ),
)
READS = ("invariance",)
#: the poolings of the last layer, the papers' own first, and the tokens that they are of
TOKENS = {"cls": "cls", "patch": "patch", "mean": "all"}
FLIP = "horizontal-flip"
LACKING = (
    f"it needs pre-trained {JE} and {REC} transformers, a {REC} model before and after fine-tuning,"
    f" and the transform {FLIP}"
)


def judge(results: Mapping[str, Results]) -> tuple[Verdict, ...]:
    """Judge how far a horizontal flip moves the last layer, as a share of how far apart two images
    are (1 − invariance).

    The claim holds where the flip moves REC more than JE, and REC less after fine-tuning than
    before, each by 0.02 or more. Beside it stand the controls less JE, two trainings of one
    objective, and the same differences on standardised features.

    Args:
        results: the results of the analyses that ran, by the analysis' name.

    Returns:
        A verdict for each pooling, the CLS token first; a single one, "not run", where models are
        missing.
    """
    if READS[0] not in results:
        return ()
    found = results[READS[0]]
    verdicts = tuple(
        verdict for pooling in TOKENS if (verdict := _judge_pooling(found, pooling)) is not None
    )
    return verdicts or (refuse("c11", LACKING),)


def _judge_pooling(results: Results, pooling: str) -> Verdict | None:
    """Judge one pooling; None where one of the two differences is missing."""
    rows = {}
    for table, side in (("families", "model_a"), ("fine-tuned", "model_b")):
        chosen = _find(results, table, pooling, "raw")
        rows[table] = next((row for row in chosen if row[side] == REC), None)
    families, tuned = rows["families"], rows["fine-tuned"]
    if families is None or tuned is None:
        return None
    parts = [
        make_part(families, "sensitivity to the flip:", _read(families), "sensitivity"),
        make_part(tuned, "", _read(tuned), "sensitivity", expected=-1),
    ]
    members = split_members(str(families["members"])) | {"fine-tuned": (str(tuned["members"]),)}
    beside = tuple(_list_controls(results, pooling))
    return reach_verdict("c11", parts, members=members, controls=beside, tokens=TOKENS[pooling])


def _list_controls(results: Results, pooling: str) -> Iterator[Contrast]:
    for table in ("controls", "second-seeds"):
        for row in _find(results, table, pooling, "raw"):
            yield _read(row)
    for table in ("families", "fine-tuned"):
        for row in _find(results, table, pooling, "standardised"):
            if REC in (row["model_a"], row["model_b"]):
                yield _read(row, ", standardised,")


def _find(results: Results, table: str, pooling: str, features: str) -> list[dict[str, Any]]:
    return find_rows(results, table, pooling=pooling, features=features, transform=FLIP)


def _read(row: Mapping[str, Any], reading: str = "") -> Contrast:
    difference = Estimate.from_row(row, "difference", "images", "images")
    return Contrast(f"{row['model_a']}{reading}", str(row["model_b"]), difference)
