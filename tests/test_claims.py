"""Claims: one contract for every file in claims/, and what each says of features that were made to
bear it out, to contradict it, or to tell nothing."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import markupsafe
import numpy as np
import pandas as pd
import pytest
import torch

from given import Given, compute, make_models
from sslens.capture import Grams
from sslens.comparisons import compared as _compared
from sslens.figure import Figure, Lines
from sslens.find import names, plugin
from sslens.models.taps import Tap
from sslens.report import Draft, Section, writing
from sslens.report.verdicts import judge_all, make_table, name_control, write_verdicts
from sslens.report.writing.numbers import typeset
from sslens.statistics.estimate import FEWEST, SMALLEST, Contrast, Estimate, decide, explain
from sslens.statistics.verdicts import Verdict
from sslens.table import Results, Table

IMAGES = 240
IDS = tuple(f"{i:03d}.png" for i in range(IMAGES))
ABOUT = {
    "dino": {"family": "JE", "objective": "dino", "arch": "vit"},
    "moco": {"family": "JE", "objective": "moco-v3", "arch": "vit"},
    "mae": {"family": "REC", "objective": "mae", "arch": "vit"},
    "mae-ft": {"family": "REC", "objective": "mae", "arch": "vit", "tuned": "fine-tuned"},
    "dino-cnn": {"family": "JE", "objective": "dino", "arch": "resnet50", "network": "cnn"},
    "random #0": {"family": "control", "objective": None, "arch": "vit"},
    "random #1": {"family": "control", "objective": None, "arch": "vit"},
}
PAPER = ("dino", "moco", "mae")
OUTCOMES = {"holds", "contradicted", "the same", "in part", "undecided", "not run"}


@pytest.fixture(autouse=True, scope="module")
def _few_permutations() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_compared, "PERMUTATIONS", 20)
        yield


def blocks_of(
    models: Sequence[str],
    sees: dict[str, int],
    *,
    batch: int = 24,
    tokens: Sequence[str] = ("all",),
) -> Results:
    """The results of cka-blocks on features of four blocks: a model sees one of several things of
    the images (`sees`, by name) and has a noise of its own; without an entry noise alone."""
    things = np.random.default_rng(0).standard_normal((4, IMAGES, 6))
    every = [*models, "random #0", "random #1"]
    made = {}
    for number, name in enumerate(every):
        rng = np.random.default_rng(number + 1)
        drawn = rng.standard_normal((4, IMAGES, 12))
        if name in sees:
            drawn = 0.4 * drawn + things[sees[name]] @ rng.standard_normal((6, 12))
        features = [torch.from_numpy(block).float() for block in drawn]
        grams = Grams.of_features(features, ids=IDS, sizes=np.full(IMAGES // batch, batch))
        taps = tuple(Tap(f"blocks.{i}", "block", (i + 1) / 4) for i in range(4))
        made[name] = replace(grams, model=name, taps=taps)
    known = make_models(models, ("random #0", "random #1"), ABOUT)
    return compute("cka-blocks", Given(known, {"grams": dict.fromkeys(tokens, made)}))


# ------------------------------------------------------------------------------------------------
# the contract


CLAIMS = [name for name in names("claims") if name != "advice"]


@pytest.mark.parametrize("name", CLAIMS)
def test_a_claim_has_words_and_reads_analyses_that_exist(name: str) -> None:
    claim = plugin("claims", name)
    assert claim.__doc__ is not None
    assert claim.WORDS.endswith(".")
    assert claim.WORDS[0].isupper()
    assert all(len(getattr(claim, short, "")) <= 72 for short in ("SHORT", "GROUP_SHORT"))
    assert not claim.SHORT.endswith(".")
    assert claim.READS
    assert set(claim.READS) <= set(names("analyses"))


@pytest.mark.parametrize("name", CLAIMS)
def test_a_claim_says_nothing_of_analyses_that_did_not_run(name: str) -> None:
    assert plugin("claims", name).judge({}) == ()


def test_every_analysis_has_its_words_and_no_words_are_of_nothing() -> None:
    files = {
        path.stem.replace("_", "-"): path for path in Path(writing.__file__).parent.glob("*.py")
    }
    written = {name for name, path in files.items() if "\ndef sentences(" in path.read_text()}
    written -= {"--init--"}
    assert set(names("analyses")) <= written
    assert written <= {*names("analyses"), "advice", "dense-advice", "knn-sweep"}


def test_verdicts_are_of_the_claim_and_each_claim_has_a_sentence() -> None:
    results = {"cka-blocks": blocks_of(PAPER, {"dino": 0, "moco": 0, "mae": 1})}
    verdicts = judge_all(results)
    assert {verdict.claim for verdict in verdicts} <= set(CLAIMS)
    assert all(verdict.outcome in OUTCOMES for verdict in verdicts)
    assert all(verdict.why and not verdict.why.endswith(".") for verdict in verdicts)
    assert all(verdict.members is not None for verdict in verdicts)
    sentences = write_verdicts(verdicts)
    assert len(sentences) == len({verdict.claim for verdict in verdicts})
    assert all(sentence.endswith(".") and "nan" not in sentence for sentence in sentences)
    assert judge_all({"other-measures": Results({})}) == ()


@pytest.mark.parametrize("over", FEWEST)
def test_a_contrast_is_explained_as_it_is_judged(over: str) -> None:
    few, many = FEWEST[over] - 1, FEWEST[over]
    for numbers, n, answer, why in (
        ((0.3, 0.1, 0.5), many, "holds", "the interval lies above 0"),
        ((-0.3, -0.5, -0.1), many, "contradicted", "the interval lies below 0"),
        ((0.3, -0.1, 0.5), many, "undecided", "the interval holds 0"),
        ((0.3, 0.1, 0.5), few, "undecided", f"there are too few {over.split(' and ')[-1]}"),
        ((0.019, 0.018, 0.02), many, "the same", "the two are the same within 0.02"),
        ((0.0, -0.01, 0.01), many, "the same", "the two are the same within 0.02"),
        ((0.019, 0.001, 0.04), many, "undecided", "it may be too small for a word"),
        ((0.3, 0.3, 0.3), many, "undecided", "the interval has no width"),
        ((np.nan, np.nan, np.nan), many, "undecided", "the difference is undefined"),
    ):
        contrast = Contrast("a", "b", Estimate(*numbers, over, n))
        assert decide(contrast, smallest=SMALLEST["cka"]) == answer
        assert explain(contrast, SMALLEST["cka"]) == why


# ------------------------------------------------------------------------------------------------
# c1


def judge_blocks(blocks: Results) -> tuple[Verdict, ...]:
    verdicts: tuple[Verdict, ...] = plugin("claims", "c1").judge({"cka-blocks": blocks})
    return verdicts


def test_c1_holds_where_joint_embedding_sees_one_thing_and_reconstruction_another() -> None:
    blocks = blocks_of(PAPER, {"dino": 0, "moco": 0, "mae": 1}, tokens=("all", "cls"))
    verdicts = judge_blocks(blocks)
    assert [(one.tokens, one.outcome) for one in verdicts] == [("all", "holds"), ("cls", "holds")]
    verdict = verdicts[0]
    assert verdict.members == {"JE": ("dino", "moco"), "REC": ("mae",)}
    assert verdict.contrast is not None
    assert (verdict.contrast.a, verdict.contrast.b) == ("JE · JE", "JE · REC")
    row = blocks["families"].iloc[0]
    difference = verdict.contrast.difference
    assert (difference.value, difference.low) == (row.difference, row.difference_low)
    assert (difference.over, difference.n) == ("minibatches", 10)
    whole = blocks["families-all-pairs"].iloc[0]
    assert [one.contrast.difference.value for one in verdict.parts[1:]] == [whole.difference]
    assert verdict.phrase == "holds in these models"
    assert verdict.limit == "an objective has one training"
    (sentence,) = write_verdicts(verdicts)
    assert sentence.startswith("C1 holds in these models: Joint-embedding models are alike")
    assert f"Over all tokens: at the same depth JE · JE less JE · REC {row.difference:+.2f} [" in (
        sentence
    )
    assert "of other trainings nothing is said: an objective has one training." in sentence
    assert sentence.endswith("Models: JE: dino, moco; REC: mae.")


def test_c1_is_contradicted_where_a_joint_embedding_model_sees_what_reconstruction_does() -> None:
    (verdict,) = judge_blocks(
        blocks_of((*PAPER, "mae-ft"), {"dino": 0, "moco": 1, "mae": 0, "mae-ft": 1})
    )
    assert verdict.outcome == "contradicted"
    assert verdict.members == {"JE": ("dino", "moco"), "REC": ("mae",)}  # as pre-trained
    assert "below 0" in verdict.why
    (sentence,) = write_verdicts([verdict])
    assert sentence.startswith("C1 is contradicted in these models: ")


def test_c1_is_undecided_of_noise_and_of_few_minibatches() -> None:
    (verdict,) = judge_blocks(blocks_of(PAPER, {}))
    assert verdict.outcome == "undecided"
    alike = {"dino": 0, "moco": 0, "mae": 1}
    (verdict,) = judge_blocks(blocks_of(PAPER, alike, batch=60))
    assert verdict.outcome == "undecided"
    assert "there are too few minibatches" in verdict.why


def test_c1_is_undecided_where_only_the_same_depth_holds() -> None:
    blocks = blocks_of(PAPER, {"dino": 0, "moco": 0, "mae": 1})
    table = blocks.tables["families-all-pairs"]
    frame = table.frame.assign(difference_low=-0.5)
    changed = Results({**blocks.tables, "families-all-pairs": Table(frame, table.units)})
    (verdict,) = judge_blocks(changed)
    assert verdict.outcome == "undecided"
    assert verdict.why == (
        "at the same depth: the interval lies above 0; over all pairs of blocks: the interval holds"
        " 0"
    )
    (sentence,) = write_verdicts([verdict])
    assert "; not decided, for over all pairs of blocks: the interval holds 0." in sentence


@pytest.mark.parametrize(
    ("models", "count"),
    [
        (("dino", "mae"), "1 and 1"),
        (("dino", "moco"), "2 and 0"),
        (("dino", "dino-cnn", "mae"), "1 and 1"),
        (("dino", "moco", "mae-ft"), "2 and 0"),
        (("dino-cnn",), "0 and 0"),
    ],
)
def test_c1_is_not_run_where_a_family_is_missing(models: Sequence[str], count: str) -> None:
    (verdict,) = judge_blocks(blocks_of(models, {}))
    assert (verdict.outcome, verdict.contrast, verdict.tokens) == ("not run", None, "")
    assert verdict.why.endswith(
        f"there are JE models of {count.replace('and', 'and REC models of')}"
    )
    (sentence,) = write_verdicts([verdict])
    assert sentence.startswith("C1 is not run: ")


# ------------------------------------------------------------------------------------------------
# the report


def test_verdicts_are_a_table_and_lines_of_the_report(tmp_path: Path) -> None:
    blocks = blocks_of(PAPER, {"dino": 0, "moco": 0, "mae": 1})
    missing = judge_blocks(blocks_of(("dino",), {}))
    verdicts = (*judge_all({"cka-blocks": blocks}), *missing)
    table = make_table(verdicts)
    rows = table.frame[table.frame.claim == "c1"]
    assert rows.outcome.tolist() == ["holds in these models"] * 2 + ["not run"]
    assert rows.part.tolist() == ["at the same depth", "over all pairs of blocks", ""]
    assert rows.effect.isna().tolist() == [False, False, True]
    panel = Lines("", "depth", "CKA", (), None)
    section = Section("cka-blocks", "Blocks", "", (), blocks, Figure("cka-blocks", ((panel,),)))
    with Draft(tmp_path) as draft:
        draft.add(section)
        page = draft.finish(
            title="t", command="c", study="", provenance={}, verdicts=verdicts
        ).read_text(encoding="utf-8")
    for sentence in write_verdicts(verdicts):
        assert f"<li>{markupsafe.escape(typeset(sentence))}</li>" in page
    saved = pd.read_csv(tmp_path / "verdicts.csv", keep_default_na=False)
    assert saved.columns.tolist() == list(table.units)
    assert saved.claim.tolist() == table.frame.claim.tolist()


def test_without_verdicts_the_report_has_none(tmp_path: Path) -> None:
    with Draft(tmp_path) as draft:
        draft.finish(title="t", command="c", study="", provenance={})
    assert not (tmp_path / "verdicts.csv").exists()


def test_what_stands_for_a_control_is_in_words() -> None:
    """Not what a claim imports under the same name."""
    named = {claim: name_control(claim) for claim in names("claims")}
    assert named.pop("c9").startswith("fine-tuned random weights")
    assert set(named.values()) == {""}
