"""What two versions of the code say of the papers' claims, on the same models and images.

    git worktree add ../before 95658a4
    python runs/claims.py --old ../before/src --out DIR                     # all reference models
    python runs/claims.py --old ../before/src --out DIR --images cifar10:val --bank cifar10:train \
        --models runs/mae runs/moco runs/moco_seed1

The old code must know the images and the models: for version 4 of the scenes it is given their
files and cards (`runs/frozen/make.py` says how). Each version runs the same `sslens compare`
commands, with the options that it has by itself, in a process and a store of its own; what is
computed is found in DIR by a second run. The models are sorted by what is known of them:

- `pre-trained`: transformers before fine-tuning, for the claims about blocks, classes and probes;
- `tuned`: those with the fine-tuned ones, for the claims about fine-tuning;
- `networks`: the first training of each objective with the CNNs, for the claims about architecture;
- `sizes`: two models over more images, for the claim that CKA is stable.

It prints a table with a row for each claim: the sentences of the old code that are about it, that
of the new code, and what changed it. "not run" is said with what is missing.
"""

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()
PRE, TUNED, NETWORKS, SIZES = "pre-trained", "tuned", "networks", "sizes"
#: the analyses of each kind of study
ANALYSES = {
    PRE: ("cka-blocks", "cka-layer-types", "cka-msn", "knn-depth", "agreement", "probe-depth"),
    TUNED: ("cka-finetune", "finetune-path", "probe-layers"),
    NETWORKS: ("cka-distance",),
    SIZES: ("cka-convergence",),
}


@dataclass(frozen=True)
class Claim:
    """Where a claim is found.

    Attributes:
        study: the kind of study.
        analysis: which says it in the old code.
        said: what the old code's sentences about it match; None where it has none.
        changed: what is done otherwise since then.
    """

    study: str
    analysis: str
    said: str | None
    changed: str


PAIRS = (
    "two trainings of one objective are no pair of the family; intervals by a jackknife over"
    " minibatches, and over trainings; under 0.02 it is the same"
)
CLAIMS = {
    "c1": Claim(PRE, "cka-blocks", r"^JE models with each other", f"deconfounded CKA; {PAIRS}"),
    "c2": Claim(
        PRE,
        "cka-blocks",
        r"from relative depth",
        "said only where it holds at every later depth; reversals are said",
    ),
    "c3": Claim(PRE, "cka-layer-types", r"^JE and REC models", PAIRS),
    "c4": Claim(
        NETWORKS,
        "cka-distance",
        r"^(JE|REC) \(",
        "never said of objectives; of blocks that are equally near the earlier one is taken",
    ),
    "c5": Claim(
        PRE,
        "knn-depth",
        None,
        "new: 20-NN of families by depth, on standardised features too, and a converged probe",
    ),
    "c6": Claim(
        PRE,
        "agreement",
        r"^JE models with each other",
        f"converged logistic probes in place of ridge regression; F1 of being right; {PAIRS}",
    ),
    "c7": Claim(
        PRE,
        "probe-depth",
        r"^Three layers instead of one",
        "probes that have converged, inside a grid that widens; score intervals",
    ),
    "c8": Claim(
        TUNED,
        "probe-layers",
        r"^An intermediate block|before fine-tuning and gains",
        "converged logistic probes; score intervals; a difference of gains is no loss",
    ),
    "c9": Claim(
        TUNED,
        "cka-finetune",
        r"^Fine-tuned REC and pre-trained JE",
        "where fine-tuned models end counts, beside where fine-tuned random weights end",
    ),
    "c10": Claim(
        TUNED,
        "finetune-path",
        r"^In fine-tuning the attention parameters",
        "intervals over trainings; under four runs a side in these models",
    ),
    "c13": Claim(PRE, "cka-msn", r"^MSN \(", f"deconfounded CKA; {PAIRS}"),
    "c14": Claim(SIZES, "cka-convergence", r"from \d+ to|is missed by", "a verdict by 0.02"),
    "c18": Claim(PRE, "cka-blocks", None, "new"),
    "c19": Claim(TUNED, "cka-finetune", None, "new"),
    "c20": Claim(NETWORKS, "cka-distance", None, "new"),
    "c21": Claim(PRE, "cka-msn", None, "new; it needs a fine-tuned MSN"),
}


@dataclass(frozen=True)
class Asked:
    """One `sslens compare`."""

    kind: str
    models: tuple[str, ...]
    analyses: tuple[str, ...]
    images: str
    bank: str | None

    def words(self, out: Path) -> list[str]:
        """The arguments of `sslens`."""
        given = ["compare", *self.models, "--images", self.images, "--limit", "1000000"]
        given += ["--bank", self.bank] if self.bank else []
        given += ["--analyses", *self.analyses]
        return [*given, "--device", "cpu", "--out", str(out)]


@dataclass(frozen=True)
class Said:
    """What a version of the code says: why it does not, the sentences by analysis, and the verdict
    on each claim in a sentence."""

    failed: str = ""
    sentences: Mapping[str, Sequence[str]] = field(default_factory=dict)
    verdicts: Mapping[str, str] = field(default_factory=dict)


# --------------------------------------------------------------------------------------------------
# in the process of one version of the code


def speak(words: list[str]) -> Said:
    """Run a command, and record the sentences of its report; the report itself is not drawn.

    Names of the package that are not public are used here alone, and exist in both versions.
    """
    from sslens import report
    from sslens.cli import main as run_command

    sentences: dict[str, list[str]] = {}
    verdicts: dict[str, str] = {}

    def adding(draft: Any, section: Any) -> None:
        sentences[section.name] = list(section.findings)
        add(draft, section)

    def finishing(draft: Any, **rest: Any) -> Path:
        reached = rest.get("verdicts", ())
        if reached:
            from sslens.report.verdicts import write_verdicts

            names = dict.fromkeys(verdict.claim for verdict in reached)
            verdicts.update(zip(names, write_verdicts(reached), strict=True))
        out: Path = draft.out
        return out / "report.html"

    kind: Any = report.Draft
    add = kind.add
    kind.add, kind.finish = adding, finishing
    try:
        status = run_command(words)
    except SystemExit as stopped:
        status = stopped.code if isinstance(stopped.code, int) else 1
    return Said("" if not status else f"exit status {status}", sentences, verdicts)


# --------------------------------------------------------------------------------------------------
# for both


def ask(source: Path, asked: Asked, place: Path) -> Said:
    """Let the code under a source tree answer, in a process and with a store of its own."""
    place.mkdir(parents=True, exist_ok=True)
    answer = place / f"{asked.kind}.json"
    answer.unlink(missing_ok=True)
    environment = os.environ | {
        "PYTHONPATH": str(source.resolve()),
        "SSLENS_HOME": str(place.resolve()),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
    }
    words = json.dumps(asked.words(place / "out" / asked.kind))
    line = [sys.executable, str(HERE), "--speak", words, "--out", str(answer)]
    ran = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
    (place / f"{asked.kind}.txt").write_text(ran.stdout + ran.stderr, encoding="utf-8")
    said = Said(**json.loads(answer.read_text())) if answer.exists() else Said("it stopped")
    if said.failed:
        lines = [line for line in ran.stderr.splitlines() if line.startswith("sslens: ")]
        why = lines[-1].removeprefix("sslens: ") if lines else said.failed
        fault = re.search(r"this is a fault of sslens.*?\((.*)\); the details", why)
        return Said(f"it stops with {fault[1]}" if fault else why)
    return said


def sort_models(sources: Sequence[str]) -> dict[str, list[str]]:
    """The models of each kind of study."""
    import sslens

    kinds: dict[str, list[str]] = {kind: [] for kind in ANALYSES}
    first: dict[tuple[str, str], str] = {}
    for source in sources:
        about = sslens.load(source).about
        network = about.network or ""
        if about.tuned or network != "vit":
            kinds[TUNED if about.tuned else NETWORKS].append(source)
        elif about.family in ("JE", "REC"):
            kinds[PRE].append(source)
            first.setdefault((str(about.objective), network), source)
    leading = list(first.values())
    kinds[NETWORKS] = leading + kinds[NETWORKS] if kinds[NETWORKS] else []
    kinds[TUNED] = kinds[PRE] + kinds[TUNED] if kinds[TUNED] else []
    kinds[SIZES] = leading[:2]
    return kinds


def choose_analyses(kind: str, sources: Sequence[str]) -> tuple[str, ...]:
    """The analyses of a kind of study, without that of MSN where no model is one."""
    import sslens

    masked = any(sslens.load(source).about.objective == "msn" for source in sources)
    return tuple(name for name in ANALYSES[kind] if masked or name != "cka-msn")


def shipped() -> list[str]:
    """The reference models, but those of supervised training, which no claim is about."""
    from sslens import cards

    return [
        card.name
        for card in cards.cards().values()
        if card.file and card.objective != "supervised" and "two_crops" not in card.name
    ]


def put_in_cell(text: str) -> str:
    """A text as a cell of a table."""
    return re.sub(r"\s+", " ", text).replace("|", "\\|")


def write_row(name: str, claim: Claim, old: Said | None, new: Said | None) -> str:
    """The row of a claim."""
    missing = "not run: no such models"
    before = missing if old is None else f"not run: {old.failed}" if old.failed else "no sentence"
    if old and claim.said:
        sentences = old.sentences.get(claim.analysis, ())
        matching = [one for one in sentences if re.search(claim.said, one)]
        before = " ".join(matching) or before
    now = missing if new is None else f"not run: {new.failed}" if new.failed else "not run"
    if new:
        now = new.verdicts.get(name, now).partition(" Models: ")[0]
    cells = (name.upper(), before, now, claim.changed)
    return f"| {' | '.join(map(put_in_cell, cells))} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--old", type=Path, help="the folder src of the old code")
    parser.add_argument("--new", type=Path, default=HERE.parents[1] / "src")
    parser.add_argument("--out", type=Path, required=True, help="folder of stores and tables")
    parser.add_argument("--models", nargs="+", help="all reference models unless given")
    parser.add_argument("--images", default="scenes:1:1024")
    parser.add_argument("--bank", default="scenes:2:2000", help="images that vote and train probes")
    parser.add_argument("--many", default="scenes:1:2048", help="images of the claim about sizes")
    parser.add_argument("--claims", nargs="+", choices=list(CLAIMS), default=list(CLAIMS))
    parser.add_argument("--speak", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.speak:
        options.out.write_text(json.dumps(asdict(speak(json.loads(options.speak)))))
        return
    if options.old is None:
        parser.error("the following arguments are required: --old")
    kinds = sort_models(options.models or shipped())
    wanted = dict.fromkeys(CLAIMS[name].study for name in options.claims)
    answers: dict[str, dict[str, Said]] = {"old": {}, "new": {}}
    for kind in wanted:
        if len(kinds[kind]) < 2:
            continue
        models, stable = tuple(kinds[kind]), kind == SIZES
        analyses = choose_analyses(kind, models)
        images, bank = (options.many, None) if stable else (options.images, options.bank)
        asked = Asked(kind, models, analyses, images, bank)
        for version, source in (("old", options.old), ("new", options.new)):
            answers[version][kind] = ask(source, asked, options.out / version)
            print(f"{version}, {kind}: {answers[version][kind].failed or 'said'}", file=sys.stderr)
    lines = ["| claim | before | now | what changed it |", "|---|---|---|---|"]
    for name in options.claims:
        claim = CLAIMS[name]
        both = [answers[version].get(claim.study) for version in ("old", "new")]
        lines.append(write_row(name, claim, *both))
    text = "\n".join(lines)
    (options.out / "claims.md").write_text(f"{text}\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
