"""The accuracies of the reference models, what they must show, and their files: weights in float16,
a card, a log, its states beside the last, the path of a fine-tuning, and one decoder of MAE."""

import hashlib
import json
import shutil
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from make import ALL, BANK, BATCH, LABELLED, QUERIES, RANDOM, REFERENCES, SCENES, TUNED

PACKAGE = Path(__file__).parents[2] / "src/sslens/cards"
HERE = Path(__file__).parent
PAPERS = {
    "moco-v3": ("2104.02057", "An Empirical Study of Training Self-Supervised Vision Transformers"),
    "dino": ("2104.14294", "Emerging Properties in Self-Supervised Vision Transformers"),
    "msn": ("2204.07141", "Masked Siamese Networks for Label-Efficient Learning"),
    "mae": ("2111.06377", "Masked Autoencoders Are Scalable Vision Learners"),
    "fcmae": (
        "2301.00808",
        "ConvNeXt V2: Co-designing and Scaling ConvNets with Masked Autoencoders",
    ),
    "supervised": (
        "2012.12877",
        "Training data-efficient image transformers & distillation through attention",
    ),
}
#: the paper of models with random weights, which have no objective
VIT = ("2010.11929", "An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale")


#: trainings whose decoder is packed too
DECODERS = ("scenes_mae",)

Share = tuple[float, float, float]
"""A share and the ends of its 95 % interval."""


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The lines of a training's log."""
    text = (folder / "log.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def measure_effort(folder: Path) -> tuple[int, float]:
    """The steps that are in the weights, and their hours at the log's median rate, which other work
    on the machine hardly changes."""
    from safetensors import safe_open

    with safe_open(folder / "last.safetensors", "pt") as file:
        steps = json.loads(file.metadata()["sslens.encoder"])["about"]["step"]
    rate = statistics.median(
        line["images_per_second"]
        for line in read_log(folder)
        if "loss" in line and line["step"] <= steps
    )
    return steps, steps * BATCH / rate / 3600


def measure_knn(sources: list[str]) -> dict[str, Share]:
    """20-NN accuracy of each model on held-out scenes, by the CLS token after the last norm, or by
    the pixels."""
    import torch

    import sslens
    from sslens.probes.knn import knn
    from sslens.statistics.proportions import wilson

    accuracies = {}
    sets = [sslens.open_images(name) for name in (BANK, QUERIES)]
    for source in sources:
        model = sslens.load(source)
        features = []
        for images in sets:
            parts = []
            for start in range(0, len(images), 250):
                rows = range(start, min(start + 250, len(images)))
                batch = torch.stack([model.transform(images.image(row)) for row in rows])
                last_tap = list(model.taps)[-1]
                with torch.no_grad():
                    (values,) = sslens.activations(model, batch, taps=[last_tap]).values()
                if values.ndim == 4:  # maps of a CNN, with the channels first
                    values = values.mean((2, 3))
                parts.append(values[:, 0] if values.ndim == 3 else values)
            features.append(torch.cat(parts).float())
        right = knn(features[1], features[0], torch.tensor(sets[0].labels), k=20) == sets[1].labels
        accuracies[source] = (float(right.mean()), *wilson(int(right.sum()), len(right)))
    return accuracies


def read_top1(folder: Path) -> Share:
    """The accuracy of a fine-tuned model's classifier on held-out scenes, from the last line of its
    log that is not later than the weights."""
    from sslens.statistics.proportions import wilson

    steps, _ = measure_effort(folder)
    share = next(
        line["top1"]
        for line in reversed(read_log(folder))
        if "top1" in line and line["step"] <= steps
    )
    count = int(QUERIES.rpartition(":")[2])
    return share, *wilson(round(share * count), count)


def judge(names: Sequence[str], out: Path) -> dict[str, Share]:
    """Print the tables of the README, and write beside it what the trainings must show
    (`judged.json`); returns the 20-NN accuracies by folder."""
    folders = {name: out / name for name in names if (out / name / "last.safetensors").exists()}
    hold_against_criteria(folders)
    accuracies = measure_knn(["pixels", RANDOM, *map(str, folders.values())])
    print(
        f"| | images seen | epochs of {SCENES:,} | hours, one core | 20-NN | 95 %"
        " |\n|---|---|---|---|---|---|"
    )
    for label, source in (("raw pixels", "pixels"), ("random weights", RANDOM)):
        print(f"| {label} | – | – | – | {_cells(accuracies[source])} |")
    for name in (name for name in folders if name in REFERENCES):
        print(_line(name, folders[name], SCENES, _cells(accuracies[str(folders[name])])))
    tuned = [name for name in folders if name in TUNED]
    if tuned:
        head = (
            f"| | images seen | epochs of {_count(LABELLED):,} | hours, one core | top-1 | 95 % |"
            " 20-NN | 95 % |"
        )
        print(f"\n{head}\n|---|---|---|---|---|---|---|---|")
    for name in tuned:
        folder = folders[name]
        cells = f"{_cells(read_top1(folder))} | {_cells(accuracies[str(folder)])}"
        print(_line(name, folder, _count(LABELLED), cells))
    return accuracies


def hold_against_criteria(folders: Mapping[str, Path]) -> None:
    """Write `judged.json`: the criteria of each training, what is recorded of all, and the names of
    the criteria that do not hold; these are printed too."""
    import judging

    import sslens

    held = judging.HeldOut(sslens.open_images(BANK), sslens.open_images(QUERIES))
    judged = {}
    for name, folder in folders.items():
        tuned = TUNED.get(name)
        before = RANDOM if tuned and tuned.before is None else tuned and tuned.start(folder)
        judged[name] = judging.judge(folder, held, before)
    broken = [
        f"{name}: {what}"
        for name, found in judged.items()
        for what, criterion in found["must"].items()
        if not criterion["holds"]
    ]
    for text in broken:
        print(f"does not hold: {text}")
    values = {"broken": broken, "record": judging.record(judged), "trainings": judged}
    text = json.dumps(_rounded(values), indent=1, ensure_ascii=False)
    (HERE / "judged.json").write_text(f"{text}\n", encoding="utf-8")


def _rounded(value: Any) -> Any:
    """Numbers of a tree to five digits."""
    if isinstance(value, float):
        return round(value, 5)
    if isinstance(value, Mapping):
        return {name: _rounded(one) for name, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, list | tuple) else value


def _line(name: str, folder: Path, scenes: int, cells: str) -> str:
    steps, hours = measure_effort(folder)
    epochs = f"{steps * BATCH / scenes:.1f} of {ALL[name].epochs}"
    return f"| `{name}` | {steps * BATCH:,} | {epochs} | {hours:.2f} | {cells} |"


def _cells(share: Share) -> str:
    return f"{share[0]:.1%} | {share[1]:.1%} to {share[2]:.1%}"


def _count(images: str) -> int:
    return int(images.rpartition(":")[2])


def pack(names: Sequence[str], out: Path) -> None:
    """Write the weights in float16, the card, the log and the path of each training, and print the
    tables of `judge`."""
    import torch
    import yaml
    from safetensors import safe_open
    from safetensors.torch import save_file

    (PACKAGE / "weights").mkdir(parents=True, exist_ok=True)
    names = [name for name in names if (out / name / "last.safetensors").exists()]
    accuracies = judge(names, out)
    for name in names:
        target = PACKAGE / "weights" / f"{name}.safetensors"
        with safe_open(out / name / "last.safetensors", "pt") as file:
            header, keys = file.metadata(), list(file.keys())
            weights = {key: file.get_tensor(key).to(torch.float16) for key in keys}
        encoder = json.loads(header["sslens.encoder"])
        about = encoder["about"]
        if name in TUNED:  # without the path on the machine that trained it
            about["pretrained"]["source"] = TUNED[name].before or RANDOM
            path = target.with_suffix(".path.csv")
            shutil.copyfile(out / name / "path.csv", path)
            path.chmod(0o644)
        save_file(weights, target, header | {"sslens.encoder": json.dumps(encoder)})
        target.chmod(0o644)
        card = describe(name, about, target, out / name, accuracies)
        if name in DECODERS:
            card |= pack_decoder(out / name, target)
        text = yaml.safe_dump(card, sort_keys=False, allow_unicode=True, width=120)
        (PACKAGE / f"{name}.yaml").write_text(text, encoding="utf-8")
        lines = (out / name / "log.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
        # a training that still goes on has written lines that are later than the weights
        lines = [line for line in lines if json.loads(line)["step"] <= about["step"]]
        (HERE / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
        if (states := out / name / "states.csv").exists():
            shutil.copyfile(states, HERE / f"{name}.states.csv")


def pack_decoder(folder: Path, encoder: Path) -> dict[str, str]:
    """Write the decoder of a training by MAE in float16, beside its packed encoder; returns the
    card's entries of it."""
    import dataclasses

    import torch
    import yaml
    from safetensors.torch import save_file

    from sslens.objectives.mae import Settings
    from sslens.tasks.reconstruction import HEADER, load_reconstructor

    weights = {
        name: value.to(torch.float16).contiguous()
        for name, value in load_reconstructor(str(folder)).method.state_dict().items()
        if not name.startswith("encoder.")
    }
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    names = {field.name for field in dataclasses.fields(Settings)}
    said = {
        "objective": config["objective"],
        "arch": config["arch"],
        "settings": {name: value for name, value in config["settings"].items() if name in names},
        "encoder_sha256": hashlib.sha256(encoder.read_bytes()).hexdigest(),
    }
    target = encoder.with_suffix(".decoder.safetensors")
    save_file(weights, target, {HEADER: json.dumps(said)})
    target.chmod(0o644)
    sha256 = hashlib.sha256(target.read_bytes()).hexdigest()
    return {"decoder": target.name, "decoder_sha256": sha256}


def describe(
    name: str,
    about: Mapping[str, Any],
    file: Path,
    folder: Path,
    accuracies: Mapping[str, Share],
) -> dict[str, Any]:
    """The card of a model.

    Args:
        name: of the model.
        about: the description in the file of its weights.
        file: the packed weights.
        folder: of the training.
        accuracies: 20-NN, from `judge`.
    """
    tuned, content = name in TUNED, file.read_bytes()
    before = REFERENCES.get(str(TUNED[name].before)) if tuned else REFERENCES[name]
    objective = about["objective"]
    arxiv, title = PAPERS.get(objective, VIT)
    network = "ViT" if str(about["arch"]).startswith("vit") else "CNN"
    scenes = f"{SCENES:,} generated scenes ({about['images']}, seed 0)"
    labelled = f"{_count(LABELLED):,} labelled scenes ({about['images']}, seed 3)"
    trained_on = scenes
    if tuned:
        trained_on = f"{scenes}, then {labelled}" if before else labelled
    images = (
        f"{about['step'] * BATCH:,} images seen{' in fine-tuning' * tuned}, {about['epochs']:.1f}"
        f" of {ALL[name].epochs} epochs"
    )
    early = ": the training was stopped before its end, at a learning rate that had not come down."
    right = "{:.1%} ({:.1%} to {:.1%}, 95 %)"
    notes = [images + ("." if about["epochs"] >= ALL[name].epochs else early)]
    if tuned:
        notes.append(
            f"Its classifier has {right.format(*read_top1(folder))} of 2,000 held-out scenes right."
        )
    notes += [
        (
            f"20-NN of the {'CLS token' if network == 'ViT' else 'mean over places'} on 2,000"
            " held-out scenes by 8,000 others:"
            f" {right.format(*accuracies[str(folder)])}; raw pixels {accuracies['pixels'][0]:.1%},"
            f" random weights {accuracies[RANDOM][0]:.1%}."
        ),
        (
            "It shows what the objective makes of these scenes, and is no model of the papers; see"
            " runs/scenes."
        ),
    ]
    return {
        "title": f"{ALL[name].title}: a small {network} trained on generated scenes",
        "objective": objective,
        "family": about["family"],
        "tuned": "fine-tuned" if tuned else False,
        "arch": about["arch"],
        "heads": 2 if network == "ViT" else None,
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
        "feature": "CLS after the final norm" if network == "ViT" else "mean over places",
        "notes": notes,
    }
