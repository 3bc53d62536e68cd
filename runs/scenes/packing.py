"""What the reference models come to, and their files: weights in float16, a card, a log, and the
path of a fine-tuning."""

import hashlib
import json
import shutil
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from make import ALL, ARCH, BANK, BATCH, LABELLED, QUERIES, RANDOM, REFERENCES, SCENES, TUNED

PACKAGE = Path(__file__).parents[2] / "src/sslens/cards"
HERE = Path(__file__).parent
PAPERS = {
    "moco-v3": ("2104.02057", "An Empirical Study of Training Self-Supervised Vision Transformers"),
    "dino": ("2104.14294", "Emerging Properties in Self-Supervised Vision Transformers"),
    "msn": ("2204.07141", "Masked Siamese Networks for Label-Efficient Learning"),
    "mae": ("2111.06377", "Masked Autoencoders Are Scalable Vision Learners"),
    "supervised": (
        "2012.12877",
        "Training data-efficient image transformers & distillation through attention",
    ),
}
#: of random weights, which have no objective
VIT = ("2010.11929", "An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale")


def seen(folder: Path) -> tuple[int, float]:
    """Steps that are in the weights, and their hours at the median rate in the log, whatever else
    the machine did meanwhile."""
    from safetensors import safe_open

    with safe_open(folder / "last.safetensors", "pt") as file:
        done = json.loads(file.metadata()["sslens.encoder"])["about"]["step"]
    lines = [
        json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    rate = statistics.median(
        line["images_per_second"] for line in lines if "loss" in line and line["step"] <= done
    )
    return done, done * BATCH / rate / 3600


def accuracies(sources: list[str]) -> dict[str, tuple[float, float, float]]:
    """20-NN of held-out scenes by the CLS token after the last norm, or by the pixels: the share,
    and its 95 % interval."""
    import torch

    import sslens
    from sslens.probes.knn import knn, wilson

    found = {}
    sets = [sslens.open_images(name) for name in (BANK, QUERIES)]
    for source in sources:
        model = sslens.load(source)
        features = []
        for images in sets:
            parts = []
            for start in range(0, len(images), 250):
                rows = range(start, min(start + 250, len(images)))
                batch = torch.stack([model.transform(images.image(row)) for row in rows])
                with torch.no_grad():
                    (values,) = sslens.activations(
                        model, batch, taps=[list(model.taps)[-1]]
                    ).values()
                parts.append(values[:, 0] if values.ndim == 3 else values)
            features.append(torch.cat(parts).float())
        right = knn(features[1], features[0], torch.tensor(sets[0].labels), k=20) == sets[1].labels
        found[source] = (float(right.mean()), *wilson(int(right.sum()), len(right)))
    return found


def top1(folder: Path) -> tuple[float, float, float]:
    """Held-out scenes that a fine-tuned model's own classifier has right, as its log says of the
    last weights; 95 % interval."""
    from sslens.probes.knn import wilson

    lines = [
        json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    share = next(
        line["top1"]
        for line in reversed(lines)
        if "top1" in line and line["step"] <= seen(folder)[0]
    )
    count = int(QUERIES.rpartition(":")[2])
    return share, *wilson(round(share * count), count)


def judge(names: Sequence[str], out: Path) -> dict[str, tuple[float, float, float]]:
    """Print the tables of the README; returns what `accuracies` found, by folder."""
    there = {name: out / name for name in names if (out / name / "last.safetensors").exists()}
    found = accuracies(["pixels", RANDOM, *map(str, there.values())])
    print(
        f"| | images seen | epochs of {SCENES:,} | hours, one core | 20-NN | 95 %"
        " |\n|---|---|---|---|---|---|"
    )
    for label, source in (("raw pixels", "pixels"), ("random weights", RANDOM)):
        print(f"| {label} | – | – | – | {_shares(found[source])} |")
    for name in (name for name in there if name in REFERENCES):
        print(_line(name, there[name], SCENES, _shares(found[str(there[name])])))
    tuned = [name for name in there if name in TUNED]
    if tuned:
        head = (
            f"| | images seen | epochs of {_count(LABELLED):,} | hours, one core | top-1 | 95 % |"
            " 20-NN | 95 % |"
        )
        print(f"\n{head}\n|---|---|---|---|---|---|---|---|")
    for name in tuned:
        folder = there[name]
        print(
            _line(
                name,
                folder,
                _count(LABELLED),
                f"{_shares(top1(folder))} | {_shares(found[str(folder)])}",
            )
        )
    return found


def _line(name: str, folder: Path, scenes: int, shares: str) -> str:
    steps, hours = seen(folder)
    done = f"{steps * BATCH / scenes:.1f} of {ALL[name].epochs}"
    return f"| `{name}` | {steps * BATCH:,} | {done} | {hours:.2f} | {shares} |"


def _shares(found: tuple[float, float, float]) -> str:
    return f"{found[0]:.1%} | {found[1]:.1%} to {found[2]:.1%}"


def _count(images: str) -> int:
    return int(images.rpartition(":")[2])


def pack(names: Sequence[str], out: Path) -> None:
    """Weights in float16, a card, the log and the path of each that is there; what `judge` prints
    too."""
    import torch
    import yaml
    from safetensors import safe_open
    from safetensors.torch import save_file

    (PACKAGE / "weights").mkdir(parents=True, exist_ok=True)
    there = [name for name in names if (out / name / "last.safetensors").exists()]
    found = judge(there, out)
    for name in there:
        target = PACKAGE / "weights" / f"{name}.safetensors"
        with safe_open(out / name / "last.safetensors", "pt") as file:
            header, weights = (
                file.metadata(),
                {key: file.get_tensor(key).to(torch.float16) for key in file.keys()},  # noqa: SIM118
            )
        written = json.loads(header["sslens.encoder"])
        about = written["about"]
        if name in TUNED:  # where it was trained is no one's business
            about["pretrained"]["source"] = TUNED[name].before or RANDOM
            path = target.with_suffix(".path.csv")
            shutil.copyfile(out / name / "path.csv", path)
            path.chmod(0o644)
        save_file(weights, target, header | {"sslens.encoder": json.dumps(written)})
        target.chmod(0o644)
        card = described(name, about, target, out / name, found)
        text = yaml.safe_dump(card, sort_keys=False, allow_unicode=True, width=120)
        (PACKAGE / f"{name}.yaml").write_text(text, encoding="utf-8")
        lines = (out / name / "log.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [
            line for line in lines if json.loads(line)["step"] <= about["step"]
        ]  # it may go on meanwhile
        (HERE / f"{name}.jsonl").write_text("".join(kept), encoding="utf-8")


def described(
    name: str,
    about: Mapping[str, Any],
    file: Path,
    folder: Path,
    found: Mapping[str, tuple[float, float, float]],
) -> dict[str, Any]:
    """The card of one, of its packed file, its training's folder, and what `judge` found."""
    tuned, content = name in TUNED, file.read_bytes()
    objective, before = (
        about["objective"],
        REFERENCES.get(str(TUNED[name].before)) if tuned else REFERENCES[name],
    )
    arxiv, title = PAPERS.get(objective, VIT)
    seen_scenes = f"{SCENES:,} generated scenes ({about['images']}, seed 0)"
    labelled = f"{_count(LABELLED):,} labelled scenes ({about['images']}, seed 3)"
    trained_on = (
        seen_scenes if not tuned else f"{seen_scenes}, then {labelled}" if before else labelled
    )
    images = (
        f"{about['step'] * BATCH:,} images seen{' in fine-tuning' * tuned}, {about['epochs']:.1f}"
        f" of {ALL[name].epochs} epochs"
    )
    early = ": the training was stopped before its end, at a learning rate that had not come down."
    right = "{:.1%} ({:.1%} to {:.1%}, 95 %)"
    notes = [images + ("." if about["epochs"] >= ALL[name].epochs else early)]
    if tuned:
        notes.append(
            f"Its classifier has {right.format(*top1(folder))} of 2,000 held-out scenes right."
        )
    notes += [
        (
            "20-NN of the CLS token on 2,000 held-out scenes by 8,000 others:"
            f" {right.format(*found[str(folder)])}; raw pixels {found['pixels'][0]:.1%}, random"
            f" weights {found[RANDOM][0]:.1%}."
        ),
        (
            "It shows what the objective makes of these scenes, and is no model of the papers; see"
            " runs/scenes."
        ),
    ]
    return {
        "title": f"{ALL[name].title}: a small ViT trained on generated scenes",
        "objective": objective,
        "family": about["family"],
        "tuned": "fine-tuned" if tuned else False,
        "arch": ARCH,
        "heads": 2,
        "epochs": before.epochs if tuned and before else None if tuned else round(about["epochs"]),
        "trained_on": trained_on,
        "licence": "Apache-2.0",
        "paper": {"arxiv": arxiv, "title": title},
        "repository": None,
        "file": file.name,
        "layout": "sslens",
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "evaluation": {
            "resize": 32,
            "crop": 32,
            "interpolation": "bicubic",
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
        },
        "feature": "CLS after the final norm",
        "notes": notes,
    }
