"""The questions of the first screen, and their answers from the results of a study."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import pandas as pd

from sslens.comparisons.choices import Choice
from sslens.comparisons.inputs import Models
from sslens.comparisons.likeness import Likeness, compare_alike, find_groups, read_likenesses
from sslens.comparisons.pairs import read_cka
from sslens.comparisons.partings import read_partings
from sslens.comparisons.readings import find_over_places
from sslens.comparisons.roles import PIXELS
from sslens.comparisons.togetherness import compare_together
from sslens.comparisons.with_pixels import WithPixels
from sslens.report.front.screen import Answer
from sslens.report.writing import blindness, choosing, name_classes, places, varying
from sslens.report.writing import front as words
from sslens.report.writing.alike import Beside, write_alike
from sslens.statistics.estimate import Estimate
from sslens.table import Results

#: the analyses that tell how well models separate classes, the first that ran
PROBES = ("probe-layers", "probe-depth")
SEPARATION = ("knn-depth", *PROBES)


def answer_questions(
    results: Mapping[str, Results], models: Models, choices: Sequence[Choice]
) -> Iterator[Answer]:
    """The answers to the questions of plain models, as far as the analyses ran."""
    if "cka-blocks" in results:
        blocks = results["cka-blocks"]
        every = read_likenesses(blocks)
        pairs = compare_alike([one for one in every if not one.control])
        if pairs:
            beside = Beside(
                _find_ceiling(blocks), _find_random(every, models), WithPixels.of(every)
            )
            yield write_alike(pairs, find_groups(pairs), beside, "cka-blocks")
        partings = read_partings(blocks)
        if partings is not None:
            yield words.write_parting(partings, "cka-blocks")
    if any(not one.control for one in choices):
        link = next(name for name in SEPARATION if name in results and "choices" in results[name])
        answer = choosing.write_separation(choices, link, find_over_places(results))
        yield replace(answer, over=add_classes(answer.over, results[link]))
    if "cka-finetune" in results:
        together = compare_together(models, results["cka-finetune"])
        if together is not None:
            yield words.write_together(together, "cka-finetune")
    if blindness.LINK in results:
        yield from blindness.write_blindest(results[blindness.LINK])
    if varying.LINK in results:
        yield from varying.write_varying(results[varying.LINK], models.studied)
    yield from places.write_places(results)


def answer_by_the_way(results: Mapping[str, Results]) -> Iterator[Answer]:
    """The answers to questions that stand on the screen where they are among the strongest: which
    model is blindest to each transform."""
    if blindness.LINK in results:
        yield from blindness.write_blinder(results[blindness.LINK])


def add_classes(text: str, results: Results) -> str:
    """Say beside how many images a number is of, of how many classes these are."""
    classes = name_classes(results)
    return f"{text}, {classes}" if classes else text


def _find_ceiling(blocks: Results) -> tuple[str, Estimate] | None:
    """Two trainings of one objective, the first that there are, and their CKA."""
    if "ceilings" not in blocks:
        return None
    for row in blocks["ceilings"].to_dict("records"):
        if pd.notna(row["cka"]):
            column = "deconfounded" if pd.notna(row["deconfounded"]) else "cka"
            return str(row["objective"]), read_cka(row, column)
    return None


def _find_random(pairs: Sequence[Likeness], models: Models) -> Likeness | None:
    """Two random initialisations of the networks that are compared, the first that there are; None
    where more than two kinds of network are compared, as no one pair then stands for all."""
    studied = [models.about(name).arch for name in models.studied]
    kinds = sorted({str(arch) for arch in studied})
    wanted = kinds * 2 if len(kinds) == 1 else kinds
    random = {name: str(models.about(name).arch) for name in models.controls if name != PIXELS}
    return next(
        (
            one
            for one in pairs
            if one.a in random
            and one.b in random
            and sorted((random[one.a], random[one.b])) == wanted
        ),
        None,
    )
