"""What four trainings each of MAE and MoCo-v3 decide: the claims, over images and trainings.

    python runs/scenes/seeds.py --out DIR                    # DIR as in make.py
    python runs/scenes/seeds.py --out DIR --images scenes:1:256 --analyses cka-blocks knn-depth

Of every pre-trained transformer that `make.py` declares, the training in DIR is taken, or else the
packed model; supervised training and DINO without small crops, a second DINO, are left out. With
four trainings a side an interval over trainings can decide (docs/claims.md). A claim about pairs of
joint-embedding models needs two objectives of two trainings each, for which DINO and MSN are there.
The report goes to DIR/seeds. A table is printed, and written beside this file as `seeds.csv`: a row
for each difference, with its intervals over images and over images and trainings. Below it stands
20-NN of the last CLS token by training, from `judged.json`.
"""

import argparse
import json
import os
from pathlib import Path

from make import REFERENCES

import sslens
from sslens import cards

HERE = Path(__file__).parent
ANALYSES = (
    "cka-blocks",
    "cka-layer-types",
    "cka-msn",
    "knn-depth",
    "agreement",
    "probe-depth",
    "probe-layers",
)
#: objectives whose transformers are compared
OBJECTIVES = ("mae", "moco-v3", "dino", "msn")
LEFT_OUT = "scenes_dino_two_crops"


def find_trainings(out: Path) -> list[str]:
    """The pre-trained transformers: folders of `out`, or names of packed models."""
    found = []
    for name, reference in REFERENCES.items():
        transformer = reference.arch.startswith("vit")
        if reference.objective not in OBJECTIVES or not transformer or name == LEFT_OUT:
            continue
        if (out / name / "last.safetensors").exists():
            found.append(str(out / name))
        elif (card := cards.look_up(name)) is not None and card.file:
            found.append(name)
    return found


def write_knn(judged: Path) -> str:
    """The 20-NN of the trainings of each objective, from `judged.json`."""
    if not judged.exists():
        return ""
    trainings = json.loads(judged.read_text(encoding="utf-8"))["trainings"]
    lines = ["| objective | 20-NN of the last CLS token, by training |", "|---|---|"]
    for objective in OBJECTIVES:
        shares = [
            f"{found['last 20-NN'][0]:.1%}"
            for name, found in trainings.items()
            if found["objective"] == objective
            and not found["tuned"]
            and found["last"].endswith("/cls")
            and name != LEFT_OUT
        ]
        lines += [f"| {objective} | {' · '.join(shares)} |"] if shares else []
    return "\n".join(lines)


def main() -> None:
    """Run the study, and print what it decides."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("sslens-references"))
    parser.add_argument("--images", default="scenes:1:1024")
    parser.add_argument("--bank", default="scenes:2:2000")
    parser.add_argument("--analyses", nargs="+", default=list(ANALYSES))
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    import pandas as pd

    from sslens.study import Study, run

    models = find_trainings(options.out)
    print(f"{len(models)} trainings: {', '.join(Path(model).name for model in models)}", flush=True)
    study = Study(
        tuple(models),
        options.images,
        tuple(options.analyses),
        bank=options.bank,
        limit=None,
        device="cpu",
    )
    report = options.out / "seeds"
    run(study, report, say=lambda text: print(text, flush=True))
    verdicts = pd.read_csv(report / "verdicts.csv", keep_default_na=False)
    verdicts.to_csv(HERE / "seeds.csv", index=False)
    columns = ["claim", "tokens", "outcome", "part", "a", "b", "effect"]
    print(f"| {' | '.join(columns)} | over images | and trainings | trainings |")
    print("|" + "---|" * (len(columns) + 3))
    for row in verdicts.to_dict("records"):
        cells = [str(row[name]) for name in columns]
        for low, high in (("low", "high"), ("trainings_low", "trainings_high")):
            cells.append(f"[{row[low]}, {row[high]}]" if row[low] != "" else "–")
        print(f"| {' | '.join([*cells, str(row['trainings'])])} |")
    print(f"\n{write_knn(HERE / 'judged.json')}")
    print(f"sslens {sslens.__version__}; the report is {report / 'report.html'}")


if __name__ == "__main__":
    main()
