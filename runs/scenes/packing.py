"""The accuracies of the reference models, what they must show, and their files: weights in float16,
a card, a log, its states beside the last, the path of a fine-tuning, and one decoder of MAE."""

import hashlib
import json
import shutil
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from make import ALL, BANK, BATCH, LABELLED, QUERIES, RANDOM, REFERENCES, SCENES, TUNED

if TYPE_CHECKING:
    from torch import Tensor

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


@dataclass(frozen=True)
class Files:
    """The weights of a training, and its log."""

    weights: Path
    log: Path

    def read_log(self) -> list[dict[str, Any]]:
        """The lines of the log."""
        lines = self.log.read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]


def find_files(name: str, out: Path) -> Files | None:
    """The files of a training in `out`, or else of what was packed and judged before; None where
    there is neither."""
    folder = out / name
    trained = Files(folder / "last.safetensors", folder / "log.jsonl")
    packed = Files(PACKAGE / "weights" / f"{name}.safetensors", HERE / f"{name}.jsonl")
    if trained.weights.exists():
        return trained
    judged = name in _read_judged()["trainings"]
    return packed if judged and packed.weights.exists() and packed.log.exists() else None


def measure_effort(files: Files) -> tuple[int, float]:
    """The steps that are in the weights, and their hours at the log's median rate, which other work
    on the machine hardly changes."""
    from safetensors import safe_open

    with safe_open(files.weights, "pt") as file:
        steps = json.loads(file.metadata()["sslens.encoder"])["about"]["step"]
    rate = statistics.median(
        line["images_per_second"]
        for line in files.read_log()
        if "loss" in line and line["step"] <= steps
    )
    return steps, steps * BATCH / rate / 3600


def read_top1(files: Files) -> Share:
    """The accuracy of a fine-tuned model's classifier on held-out scenes, from the last line of its
    log that is not later than the weights."""
    from sslens.statistics.proportions import wilson

    steps, _ = measure_effort(files)
    share = next(
        line["top1"]
        for line in reversed(files.read_log())
        if "top1" in line and line["step"] <= steps
    )
    count = int(QUERIES.rpartition(":")[2])
    return share, *wilson(round(share * count), count)


def judge(names: Sequence[str], out: Path) -> dict[str, Share]:
    """Print the tables of the README, and write beside it what the trainings must show
    (`judged.json`); returns the 20-NN accuracies by training, and of the controls."""
    folders = {name: out / name for name in names if (out / name / "last.safetensors").exists()}
    judged = hold_against_criteria(folders)
    accuracies: dict[str, Share] = {
        name: tuple(found["last 20-NN"])
        for name, found in {**judged["controls"], **judged["trainings"]}.items()
    }
    files = {
        name: found
        for name in ALL
        if name in accuracies and (found := find_files(name, out)) is not None
    }
    print(
        f"| | images seen | epochs of {SCENES:,} | hours, one core | 20-NN | 95 %"
        " |\n|---|---|---|---|---|---|"
    )
    for label, source in (("raw pixels", "pixels"), ("random weights", RANDOM)):
        print(f"| {label} | – | – | – | {_cells(accuracies[source])} |")
    for name in (name for name in files if name in REFERENCES):
        print(_line(name, files[name], SCENES, _cells(accuracies[name])))
    tuned = [name for name in files if name in TUNED]
    if tuned:
        head = (
            f"| | images seen | epochs of {_count(LABELLED):,} | hours, one core | top-1 | 95 % |"
            " 20-NN | 95 % |"
        )
        print(f"\n{head}\n|---|---|---|---|---|---|---|---|")
    for name in tuned:
        cells = f"{_cells(read_top1(files[name]))} | {_cells(accuracies[name])}"
        print(_line(name, files[name], _count(LABELLED), cells))
    print("\n| | criterion | measured | asked | holds |\n|---|---|---|---|---|")
    for name in files:
        for cells in _list_criteria(judged["trainings"][name]["must"]):
            print(f"| `{name}` | {cells} |")
    return accuracies


def hold_against_criteria(folders: Mapping[str, Path]) -> dict[str, Any]:
    """Write `judged.json`, and return it: the criteria of each training, what is recorded of all,
    and the names of the criteria that do not hold; these are printed too.

    What the file has of the same weights, scenes and code is taken from it, and what it has of
    other trainings stays.
    """
    import judging

    import sslens

    held = judging.HeldOut(sslens.open_images(BANK), sslens.open_images(QUERIES))
    known = _read_judged()
    judged: dict[str, dict[str, Any]] = {"controls": {}, "trainings": {}}
    for name in ("pixels", RANDOM):
        of = _identify(name)
        found = known["controls"].get(name, {})
        fresh = found.get("of") == of
        judged["controls"][name] = (
            found if fresh else {"last 20-NN": judging.judge_control(name, held), "of": of}
        )
    judged["trainings"] |= known["trainings"]
    for name, folder in folders.items():
        before = TUNED[name].start(folder) if name in TUNED else None
        of = _identify(str(folder), before)
        found = known["trainings"].get(name, {})
        fresh = found.get("of") == of
        judged["trainings"][name] = (
            found if fresh else _rounded(judging.judge(folder, held, before) | {"of": of})
        )
    trainings = {name: judged["trainings"][name] for name in ALL if name in judged["trainings"]}
    judged["trainings"] = trainings
    broken = [
        f"{name}: {what}"
        for name, found in trainings.items()
        for what, criterion in found["must"].items()
        if not criterion["holds"]
    ]
    for text in broken:
        print(f"does not hold: {text}")
    values = {"broken": broken, "record": judging.record(trainings), **judged}
    text = json.dumps(_rounded(values), indent=1, ensure_ascii=False)
    (HERE / "judged.json").write_text(f"{text}\n", encoding="utf-8")
    return values


def _read_judged() -> dict[str, Any]:
    """What `judged.json` has, or nothing."""
    path = HERE / "judged.json"
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return {"controls": kept.get("controls", {}), "trainings": kept.get("trainings", {})}


def _identify(*sources: str | None) -> dict[str, Any]:
    """What a judgement depends on: weights, scenes and the code that judges."""
    import sslens
    from sslens.data import scenes

    code = hashlib.sha256(Path(__file__).with_name("judging.py").read_bytes()).hexdigest()
    return {
        "weights": [sslens.load(source).digest[:16] for source in sources if source],
        "scenes": [scenes.VERSION, BANK, QUERIES],
        "code": code[:16],
    }


def _list_criteria(must: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """The cells of a training's criteria; of those of CKA the largest value stands for all."""
    alike = {name: found for name, found in must.items() if name.startswith("CKA with ")}
    largest = max(alike, key=lambda name: alike[name]["value"], default=None)
    for name, found in must.items():
        if name not in alike or name == largest:
            word = "at most" if "at most" in found else "at least"
            asked = f"{word} {found[word]:.3g}" if found[word] else "above 0"
            said = f"largest CKA, {name.removeprefix('CKA ')}" if name in alike else name
            yield f"{said} | {found['value']:.3f} | {asked} | {'yes' if found['holds'] else 'no'}"


def _rounded(value: Any) -> Any:
    """Numbers of a tree to five digits."""
    if isinstance(value, float):
        return round(value, 5)
    if isinstance(value, Mapping):
        return {name: _rounded(one) for name, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, list | tuple) else value


def _line(name: str, files: Files, scenes: int, cells: str) -> str:
    steps, hours = measure_effort(files)
    epochs = f"{steps * BATCH / scenes:.1f} of {ALL[name].epochs}"
    return f"| `{name}` | {steps * BATCH:,} | {epochs} | {hours:.2f} | {cells} |"


def _cells(share: Share) -> str:
    return f"{share[0]:.1%} | {share[1]:.1%} to {share[2]:.1%}"


def _count(images: str) -> int:
    return int(images.rpartition(":")[2])


def pack(names: Sequence[str], out: Path) -> None:
    """Write the weights in float16, the card, the log and the path of each training, and print the
    tables of `judge`."""
    import yaml
    from safetensors import safe_open
    from safetensors.torch import save_file

    from sslens.tensor_file import SUMS

    (PACKAGE / "weights").mkdir(parents=True, exist_ok=True)
    names = [name for name in names if (out / name / "last.safetensors").exists()]
    accuracies = judge(names, out)
    for name in (name for name in names if ALL[name].shipped):
        target = PACKAGE / "weights" / f"{name}.safetensors"
        with safe_open(out / name / "last.safetensors", "pt") as file:
            header, keys = file.metadata(), list(file.keys())
            header.pop(SUMS, None)  # of the weights before they were rounded
            weights = {key: _halve(file.get_tensor(key)) for key in keys}
        encoder = json.loads(header["sslens.encoder"])
        about = encoder["about"]
        encoder["name"] = name  # a trial that became the reference has another
        if name in TUNED:  # without the path on the machine that trained it
            about["pretrained"]["source"] = TUNED[name].before or TUNED[name].start(out / name)
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


def _halve(values: "Tensor") -> "Tensor":
    """Round to float16; counts, of a batch norm's steps, stay whole."""
    return values.half() if values.is_floating_point() else values


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
        top1 = read_top1(Files(folder / "last.safetensors", folder / "log.jsonl"))
        notes.append(f"Its classifier has {right.format(*top1)} of 2,000 held-out scenes right.")
    notes += [
        (
            f"20-NN of the {'CLS token' if network == 'ViT' else 'mean over places'} on 2,000"
            " held-out scenes by 8,000 others:"
            f" {right.format(*accuracies[name])}; raw pixels {accuracies['pixels'][0]:.1%},"
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
        **(
            {"multicrop": False}
            if getattr(ALL[name], "settings", {}).get("local_crops") == 0
            else {}
        ),
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
