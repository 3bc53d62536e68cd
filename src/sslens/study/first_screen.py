"""What the first screen of a study's report and its small pictures are made of."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sslens.study.image_sets import explain_no_classes
from sslens.study.planning import StudyPlan
from sslens.study.provenance import describe_images

if TYPE_CHECKING:
    from sslens.comparisons.pool import ShownImages
    from sslens.figure import Panel
    from sslens.report.front import Front
    from sslens.statistics.verdicts import Verdict
    from sslens.table import Results

#: names of folders that say nothing of the images without the folder that they are in
PLAIN = {"val", "valid", "validation", "train", "test", "images"}


def make_first_screen(
    plan: StudyPlan, results: "Mapping[str, Results]", verdicts: "Sequence[Verdict]"
) -> "Front":
    """Make the first screen of a study's report.

    Args:
        plan: the plan of the study.
        results: the results of its analyses, by the analysis' name.
        verdicts: the verdicts on claims.
    """
    from sslens.report.front.making import Compared, make_front

    seen, images = describe_images(plan), plan.images
    drawn = None if images is None else images.classes_drawn_from
    compared = Compared(
        _name_images(plan, seen.name or ""),
        seen.count,
        None if images is None else images.drawn_from,
        {name: lack.reason for name, lack in plan.left_out.items()},
        None if images is None or drawn is None else (len(images.classes), drawn),
        labelled=images is None or explain_no_classes(images, plan.situation.bank) is None,
    )
    links = {claim.name: claim.table.partition("/")[0] for claim in plan.study.claims}
    return make_front(results, verdicts, plan.situation.models, compared, links)


def _name_images(plan: StudyPlan, name: str) -> str:
    """The name of the images: of a folder the last two parts of its path, such as birds/val."""
    source = plan.study.images
    if source is None or not Path(source).is_dir():
        return name
    parts = [part for part in Path(source).parts[-2:] if part not in ("..", "/")]
    if len(parts) == 1 and parts[0].lower() in PLAIN:
        parts = [part for part in Path(source).resolve().parts[-2:] if part != "/"]
    return "/".join(parts) or name


def list_shown(plan: StudyPlan) -> "tuple[ShownImages | None, ShownImages | None]":
    """The images and the bank as pictures show them; None where there are none, or where all models
    are fingerprints."""
    from sslens.comparisons.pool import ShownImages

    models = [member.model for member in plan.members if member.model is not None]
    if not models:
        return None, None
    shown, bank = (
        None if images is None else ShownImages(images, models[0].transform, {})
        for images in (plan.images, plan.bank)
    )
    return shown, bank


def draw_pictures(
    sets: "tuple[ShownImages | None, ShownImages | None]", results: "Mapping[str, Results]"
) -> "Mapping[str, Sequence[Panel]]":
    """Draw the small pictures of images that are evidence, by the name of the section; none without
    images.

    Args:
        sets: the images and the bank (`list_shown`).
        results: the results of the analyses, by the analysis' name.
    """
    from sslens.report.front.thumbnails import draw_thumbnails

    shown, bank = sets
    return {} if shown is None else draw_thumbnails(results, shown, bank)
