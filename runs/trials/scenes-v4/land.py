"""Bring version 4 of the scenes and its models into the package, in this order:

    git worktree add ../before 95658a4    # the oldest code, which writes the frozen values
    python runs/trials/scenes-v4/land.py start
    python runs/scenes/make.py train NAME … --out DIR
    python runs/trials/scenes-v4/land.py pack --out DIR
    python runs/scenes/make.py train scenes_mae_ft … --out DIR
    python runs/trials/scenes-v4/land.py pack --out DIR
    python runs/trials/scenes-v4/land.py check
    python runs/trials/scenes-v4/land.py freeze --before ../before
    python runs/trials/scenes-v4/land.py show --out DIR
    python -m pytest -m "slow or not slow" tests/test_frozen.py tests/test_references.py

`start` applies the patch and puts the models of this folder in the place of version 3's. `pack`
takes what is finished: weights, cards, judged.json, tables of documents; it judges what is new
alone, 25 s of a core a model. Fine-tunings begin with what is packed, so they come after. `check`
says what is missing, sizes, where fine-tunings began and which criteria do not hold. `freeze`
writes tests/frozen, `show` runs the demo for the README's numbers and picture. Then this folder
goes. All was rehearsed with stand-ins of one epoch.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
CARDS, RUNS = ROOT / "src/sslens/cards", ROOT / "runs/scenes"
WEIGHTS = CARDS / "weights"
DRAWING = ("patterns", "scene_images", "scenes", "silhouettes", "painting")
#: what models are called in the README
TITLES = {
    "scenes_msn": "MSN",
    "scenes_moco_v3": "MoCo-v3",
    "scenes_dino": "DINO",
    "scenes_mae": "MAE",
    "pixels": "raw pixels",
    "random #0": "random",
}
POOLED = {"cls": "CLS", "mean": "mean of tokens", "patch": "mean of patches"}
MODELS = (
    "- Twenty-one reference models come with the package (MAE, MoCo-v3, DINO, MSN and supervised,"
    " two seeds each; DINO without small crops; a ResNet by MoCo-v3, a ConvNeXt-V2 by FCMAE;\n"
    "  MAE, MoCo-v3, DINO and random weights fine-tuned, two seeds each, with their paths; MAE's"
    " decoder), with what each had to show (`runs/scenes/judged.json`).\n"
)
CHANGED = (
    "### Changed\n\n"
    "- Generated scenes are of version 4 (exposure, clutter, occluders, more of pose and size,"
    " hardly any colour), and the reference models were trained on them anew under the same"
    " names:\n"
    "  their weights and digests are others. Fingerprints, features and tables of version 3's"
    " scenes or of the old weights are recognised by their digests, and are refused beside new ones"
    " or computed again.\n"
)


def run(*words: object, source: Path = ROOT / "src", place: Path = ROOT) -> str:
    """Run a command of Python with a source tree; returns what it printed."""
    environment = {**os.environ, "PYTHONPATH": str(source)}
    environment.setdefault("OMP_NUM_THREADS", "1")
    line = [sys.executable, *map(str, words)]
    done = subprocess.run(
        line, env=environment, cwd=place, check=True, stdout=subprocess.PIPE, text=True
    )
    print(done.stdout, end="", flush=True)
    return done.stdout


def is_new(name: str, folder: Path = CARDS) -> bool:
    """Whether there is a card of version 4."""
    card = folder / f"{name}.yaml"
    return card.exists() and "scenes-v4" in card.read_text(encoding="utf-8")


def make() -> Any:
    """The module of the trainings."""
    sys.path.insert(0, str(RUNS))
    import make as module

    return module


# --------------------------------------------------------------------------------------------------
# ----------- phases


def start() -> None:
    """Apply the patch, and put the models that are kept here in the place of version 3's."""
    subprocess.run(["git", "apply", str(HERE.parent / "scenes-v4.patch")], cwd=ROOT, check=True)
    for card in CARDS.glob("scenes_*.yaml"):
        if not is_new(card.stem):
            card.unlink()
            for old in (*WEIGHTS.glob(f"{card.stem}.*"), RUNS / f"{card.stem}.jsonl"):
                old.unlink(missing_ok=True)
    for file in HERE.iterdir():
        if file.suffix in (".safetensors", ".yaml"):
            shutil.copy(file, WEIGHTS if file.suffix == ".safetensors" else CARDS)
        elif file.suffix in (".jsonl", ".csv", ".json"):
            shutil.copy(file, RUNS)
    edit(ROOT / "README.md", r" The reference models are\nof scenes of version 3,[^\n]*\n", "\n")
    changes = ROOT / "CHANGELOG.md"
    edit(changes, r"- Twelve reference models come with the package[^\n]*\n", MODELS)
    edit(changes, r"- Generated scenes, version 3,", "- Generated scenes, version 4,")
    edit(changes, r"### Changed\n\n", CHANGED)


def edit(path: Path, old: str, new: str) -> None:
    """Replace what a pattern matches, once."""
    text = path.read_text(encoding="utf-8")
    if not re.search(old, text):
        raise SystemExit(f"{path.name} has no {old}")
    path.write_text(re.sub(old, lambda _: new, text, count=1), encoding="utf-8")


def pack(out: Path) -> None:
    """Pack all trainings that are finished, and write the tables of documents."""
    module = make()
    names = [name for name in module.ALL if is_finished(name, out, module)]
    print("finished:", *names)
    text = run(RUNS / "make.py", "pack", *names, "--out", out.resolve())
    readme = RUNS / "README.md"
    for head in ("| | images seen | epochs of 50,", "| | images seen | epochs of 10,", "| | crit"):
        table = re.search(rf"^{re.escape(head)}.*\n(?:\|.*\n)+", text, re.MULTILINE)
        if table:
            edit(readme, rf"(?m)^{re.escape(head)}.*\n(?:\|.*\n)+", table[0])
    zoo = ROOT / "docs/zoo.md"
    cards = run("-m", "sslens.cards")
    before = zoo.read_text(encoding="utf-8").partition("| name | what it is |")[0]
    zoo.write_text(before + cards, encoding="utf-8")


def is_finished(name: str, out: Path, module: Any) -> bool:
    """Whether a training ran to its end; a fine-tuning must have begun with what is packed."""
    weights = out / name / "last.safetensors"
    if not weights.exists() or not (out / name / "states.csv").exists():
        return False
    before = getattr(module.ALL[name], "before", None)
    if before is not None and not is_new(before):
        return False
    raw = weights.read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])["__metadata__"]
    epochs = json.loads(header["sslens.encoder"])["about"]["epochs"]
    return bool(epochs >= module.ALL[name].epochs - 1e-9)


def check() -> None:
    """Print what is missing, sizes, where fine-tunings began, and criteria that do not hold."""
    sys.path.insert(0, str(ROOT / "src"))
    import sslens
    from sslens import cards

    module = make()
    shipped = {card.name for card in cards.cards().values() if card.file}
    wanted = {name for name, reference in module.ALL.items() if reference.shipped}
    print("missing:", *sorted(wanted - shipped), "· unknown:", *sorted(shipped - wanted))
    print(f"{sum(file.stat().st_size for file in WEIGHTS.iterdir()) / 1e6:.1f} MB of 70")
    print("of version 3:", *sorted(name for name in shipped if not is_new(name)))
    for name in sorted(shipped & set(module.TUNED)):
        origin = sslens.load(name).about.pretrained
        begun = origin.source if origin else ""
        same = origin is not None and origin.digest == sslens.load(begun).digest
        print(f"{name} began with {begun}: {'the same' if same else 'ANOTHER'} digest")
    judged = json.loads((RUNS / "judged.json").read_text(encoding="utf-8"))
    print("does not hold:", *judged["broken"], sep="\n  ")
    print(json.dumps(judged["record"], indent=1, ensure_ascii=False))


def freeze(before: Path, parts: Sequence[str]) -> None:
    """Let the code of before write the frozen values, with version 4's drawing and cards."""
    import yaml

    old = before / "src/sslens"
    for name in DRAWING:
        shutil.copy(ROOT / f"src/sslens/data/{name}.py", old / "data")
    for file in (*old.glob("cards/scenes_*.yaml"), *old.glob("cards/weights/scenes_*")):
        file.unlink()
    for path in CARDS.glob("scenes_*.yaml"):
        card = yaml.safe_load(path.read_text(encoding="utf-8"))
        for name in ("decoder", "decoder_sha256"):  # which the old code does not know
            card.pop(name, None)
        text = yaml.safe_dump(card, sort_keys=False, allow_unicode=True, width=120)
        (old / "cards" / path.name).write_text(text, encoding="utf-8")
        for file in WEIGHTS.glob(f"{path.stem}.*"):
            shutil.copy(file, old / "cards/weights")
    run("runs/frozen/make.py", *parts, source=(before / "src").resolve())


def show(out: Path) -> None:
    """Run the demo, and write its numbers and a picture of a report into the README."""
    demo, shown = out / "demo", out / "shown"
    run("-m", "sslens", "demo", "--out", demo.resolve())
    block = "\n".join(f"    {line}" for line in (*read_sentences(demo), *read_neighbours(demo)))
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    begin = text.index("\n\n", text.index("What the demo's report says")) + 2
    end = text.index("\n\n## Install", begin)
    (ROOT / "README.md").write_text(text[:begin] + block + text[end:], encoding="utf-8")
    two = ("scenes_mae", "scenes_moco_v3")
    words = ("--images", "scenes:1:1024", "--analyses", "cka-blocks", "--out", shown.resolve())
    run("-m", "sslens", "compare", *two, *words)
    photograph(shown / "report.html", ROOT / "docs/report.png")


def photograph(page: Path, picture: Path) -> None:
    """A picture of the section of blocks in a report."""
    from PIL import Image
    from playwright.sync_api import sync_playwright

    raw = page.with_suffix(".png")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        tab = browser.new_page(viewport={"width": 1000, "height": 1700})
        tab.goto(page.resolve().as_uri())
        section = tab.locator("section#cka-blocks")
        section.scroll_into_view_if_needed()
        tab.wait_for_timeout(3000)
        section.screenshot(path=str(raw))
        browser.close()
    image = Image.open(raw).convert("RGB")
    image.crop((0, 0, image.width, min(image.height, 2000))).quantize(128).save(picture)


def read_sentences(demo: Path) -> list[str]:
    """What the demo says of C1, the ceiling and fine-tuning."""
    import pandas as pd

    def first(table: str, **columns: str) -> Any:
        frame = pd.read_csv(demo / "tables" / f"{table}.csv", keep_default_na=False)
        for column, value in columns.items():
            frame = frame[frame[column] == value]
        return frame.iloc[0]

    verdicts = pd.read_csv(demo / "verdicts.csv", keep_default_na=False)
    verdicts = verdicts[(verdicts.claim == "c1") & (verdicts.tokens == "all")].set_index("part")
    one, rest = verdicts.loc["at the same depth"], "at the same depth, pixels regressed out,"
    c1 = f"C1 {one.outcome}: over all tokens CKA of JE · JE less JE · REC at the same depth "
    c1 += spell(one.effect, one.low, one.high, "+")
    if rest in verdicts.index:
        row = verdicts.loc[rest]
        c1 += f", when the pixels are regressed out {spell(row.effect, row.low, row.high, '+')}"
    top = first("cka-blocks/ceilings", tokens="all", objective="mae")
    without = spell(top.deconfounded, top.deconfounded_low, top.deconfounded_high)
    ceiling = f"the ceiling: two trainings of MAE have a CKA of {spell(top.cka, top.low, top.high)}"
    tuned = first("cka-finetune/families", tokens="all", kind="block")
    ends = first("cka-finetune/families-ends", tokens="all", kind="block")
    return [
        c1,
        f"{ceiling}, and {without} when the pixels are regressed out",
        f"fine-tuned MAE and pre-trained JE: {spell(tuned.cka, tuned.low, tuned.high)},"
        f" {hold_against(tuned, 'before')}, and {hold_against(ends, 'fine-tuned random weights')}",
    ]


def spell(value: Any, low: Any, high: Any, sign: str = "") -> str:
    """A number with its interval."""
    value, low, high = (f"{float(one):{sign}.2f}" for one in (value, low, high))
    return f"{value} [{low}, {high}]"


def hold_against(row: Any, other: str) -> str:
    """A difference in words."""
    ends = float(row.difference_low), float(row.difference_high)
    value = float(row.difference)
    if abs(value) < 0.02:
        return f"the same within 0.02 as {other}"
    if ends[0] <= 0 <= ends[1]:
        return f"{spell(value, *ends, '+')} against {other}, which is not decided"
    sizes = sorted(abs(end) for end in ends)
    return f"{spell(abs(value), *sizes)} {'more' if value > 0 else 'less'} than {other}"


def read_neighbours(demo: Path) -> list[str]:
    """The best 20-NN of each model, the controls last."""
    import pandas as pd

    frame = pd.read_csv(demo / "tables/knn-depth/accuracies.csv")
    frame = frame[(frame.features == "raw") & (frame.vote == "weighted")]
    frame = frame[frame.model.isin(list(TITLES))].sort_values("accuracy", ascending=False)
    best = frame.drop_duplicates("model").sort_values("control", kind="stable")
    lines = []
    for row in best.itertuples():
        place = "" if row.model == "pixels" else f"{row.tap}, {POOLED.get(row.pooling, '')}"
        share = f"{row.accuracy:.1%} [{row.low:.1%}, {row.high:.1%}]".replace("%", "")
        share = share.replace(" [", " % [")
        first = "" if lines else "20-NN, best layer"
        text = f"{first:<22} {TITLES[row.model]:<14} {place:<28} {share}"
        lines.append(text + "    a control" * bool(row.control))
    return lines


def main() -> None:
    """Do one phase."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("phase", choices=("start", "pack", "check", "freeze", "show"))
    parser.add_argument("--out", type=Path, default=Path("sslens-references"))
    parser.add_argument("--before", type=Path, default=Path("../before"))
    parser.add_argument("--parts", nargs="+", default=["files", "tables", "refused", "names"])
    options = parser.parse_args()
    if options.phase in ("start", "check"):
        {"start": start, "check": check}[options.phase]()
    elif options.phase == "freeze":
        freeze(options.before, options.parts)
    else:
        {"pack": pack, "show": show}[options.phase](options.out)


if __name__ == "__main__":
    main()
