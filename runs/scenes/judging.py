"""What a reference training must show before it stands for its objective (convergence), and what is
recorded beside it.

    python runs/scenes/judging.py FOLDER [FOLDER …]
    python runs/scenes/judging.py FOLDER --bank scenes:2:4000 --queries scenes:1:1000

FOLDER is one of sslens pretrain or sslens finetune. One JSON object a folder, with the numbers and,
under "must", each criterion with what was measured, what it is held against, and whether it holds.
The accuracies are of held-out scenes: 20-NN with the labels of a bank, and a logistic probe that is
trained on the bank.
"""

import argparse
import dataclasses
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
import yaml
from jaxtyping import Float
from PIL import Image
from torch import Tensor

import sslens
from sslens.capture import FeatureReducer, Features, GramReducer, collect
from sslens.comparisons.targets import Targets, code_factors
from sslens.data import painting, scenes
from sslens.data.appearance import measure_appearance
from sslens.data.images import ImageSet
from sslens.data.scene_images import factors_of
from sslens.data.streams import mask_noise
from sslens.data.views import mae_views
from sslens.errors import InputError
from sslens.find import plugin
from sslens.measures.cka import minibatch_cka
from sslens.methods import Rows
from sslens.methods.pixels import compute_masked_error, patchify
from sslens.models.arch import parse
from sslens.models.backbone import Backbone
from sslens.plan import Plan
from sslens.probes.knn import knn
from sslens.statistics.proportions import wilson
from sslens.training.folder import STATE

#: scenes on which MAE's loss and its oracles are measured, at a time and in all
BATCH, LOSS_SCENES = 256, 2048
#: scenes over which CKA with known quantities is measured
CKA_SCENES = 1024
K = 20
#: the share of the bank on which a probe's penalty is chosen
VALIDATION = 0.2
#: the criteria: the largest share of an oracle's error, the largest CKA with what is not the class,
#: and gains over raw pixels in shares of the scenes
LEFT, ALIKE, GAIN = 0.7, 0.5, 0.15


@final
@dataclass(frozen=True)
class HeldOut:
    """Scenes that a training has not seen: those of `bank` have votes, or train a probe; those of
    `queries` are classified."""

    bank: ImageSet
    queries: ImageSet

    @cached_property
    def truth(self) -> np.ndarray:
        """The class numbers of the queries."""
        return np.asarray(self.queries.labels)

    @cached_property
    def pixels(self) -> dict[str, float]:
        """20-NN and a logistic probe of raw pixels, which every model is held against."""
        features = read_features(sslens.load("pixels"), self)
        ((name, values),) = features.items()
        return {"knn": self.classify(values), "probe": self.probe({name: values})[name]}

    def classify(self, features: tuple[Tensor, Tensor]) -> float:
        """The share of the queries that 20-NN classifies right."""
        bank, queries = features
        labels = torch.tensor(np.asarray(self.bank.labels))
        return float((knn(queries, bank, labels, k=K) == self.truth).mean())

    def probe(self, features: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, float]:
        """The shares of the queries that logistic probes classify right, by the features' name."""
        split = int(len(self.bank) * (1 - VALIDATION))
        labels = torch.tensor(np.asarray(self.bank.labels))
        from sslens.probes.logistic import fit_logistic

        probes = fit_logistic(
            [bank[:split] for bank, _ in features.values()],
            labels[:split],
            [bank[split:] for bank, _ in features.values()],
            labels[split:],
        )
        return {
            name: float((np.asarray(probe.predict(queries)) == self.truth).mean())
            for (name, (_, queries)), probe in zip(features.items(), probes, strict=True)
        }


def read_features(model: Backbone, held: HeldOut) -> dict[str, tuple[Tensor, Tensor]]:
    """Features of the bank and of the queries, in their order, by "tap/pooling"."""
    taps = [tap.name for tap in model.taps.values() if tap.kind in ("block", "norm", "pixels")]
    sets = [collect_in_order(model, images, taps) for images in (held.bank, held.queries)]
    return {
        f"{tap}/{pooling}": (sets[0].read(tap, pooling), sets[1].read(tap, pooling))
        for tap in taps
        for pooling in sets[0].poolings
    }


def collect_in_order(model: Backbone, images: ImageSet, taps: list[str]) -> Features:
    """The features of some taps, image by image in the order of the set."""
    plan = Plan.in_order(images.ids, size=250)
    (features,) = collect(model, images, [FeatureReducer()], plan=plan, taps=taps)
    return features


def last_name(features: Iterable[str]) -> str:
    """Of names "tap/pooling", the last tap's CLS token, or its mean where there is none.

    >>> last_name(["blocks.5/cls", "norm/cls", "norm/mean", "norm/patch"])
    'norm/cls'
    """
    names = list(features)
    tap = names[-1].rpartition("/")[0]
    return f"{tap}/cls" if f"{tap}/cls" in names else f"{tap}/mean"


# ------------------------------------------------------------------------------------------------
# MAE's loss between the floor and the oracle


def measure_losses(folder: Path, images: ImageSet) -> dict[str, float]:
    """MAE's loss on scenes that it has not seen, beside two painters who see them.

    The floor is the error of the picture without the camera's noise; the oracle paints each masked
    patch in its one mean colour. All three are measured on the same views and masked patches, and
    against the same targets, as the training's settings define them (normalised by patch or not).

    Args:
        folder: of a training, whose state holds the decoder.
        images: generated scenes.

    Returns:
        "loss", "floor", "oracle" and "left", which is (loss − floor) / (oracle − floor).
    """
    method = load_method(folder)
    sums = {"loss": 0.0, "floor": 0.0, "oracle": 0.0}
    count = min(LOSS_SCENES, len(images))
    for step, start in enumerate(range(0, count, BATCH)):
        part = images.take(range(start, min(start + BATCH, count)))
        losses = compare_painters(method, draw(part), without_noise(part), step)
        sums = {name: total + len(part) * losses[name] for name, total in sums.items()}
    mean = {name: total / count for name, total in sums.items()}
    left = (mean["loss"] - mean["floor"]) / (mean["oracle"] - mean["floor"])
    return mean | {"left": left}


def compare_painters(
    method: Any, noisy: list[Image.Image], clean: list[Image.Image], step: int
) -> dict[str, float]:
    """The errors of the model, of the picture without noise and of flat colours on a minibatch."""
    arch, settings = method.arch, method.settings
    rows = Rows(seed=0, step=step, rows=slice(0, len(noisy)), total=len(noisy))
    views = mae_views(arch.image_size)
    (target,) = views.batch(noisy, **rows.keywords())
    (ideal,) = views.batch(clean, **rows.keywords())
    noise = mask_noise(**rows.keywords(), patches=arch.grid**2)
    with torch.no_grad():
        loss = float(method({"view": target, "noise": noise}))
    kept = int(noise.shape[1] * (1 - settings.mask_ratio))
    masked = noise.argsort(dim=1)[:, kept:]
    flat = patchify(target, arch.patch_size).unflatten(-1, (-1, 3))
    flat = flat.mean(-2, keepdim=True).expand_as(flat).flatten(-2)
    painted = {"floor": patchify(ideal, arch.patch_size), "oracle": flat}
    errors = {
        name: error_of(values, target, masked, arch.patch_size, settings.normalise_pixels)
        for name, values in painted.items()
    }
    return {"loss": loss} | errors


def error_of(
    painted: Float[Tensor, "image patch value"],
    target: Float[Tensor, "image 3 size size"],
    masked: Tensor,
    patch: int,
    normalise: bool,
) -> float:
    """The loss of painted pixels: with normalised targets, the pixels are first scaled as their
    target is."""
    if normalise:
        own = patchify(target, patch)
        painted = (painted - own.mean(-1, keepdim=True)) / (own.var(-1, keepdim=True) + 1e-6).sqrt()
    chosen = painted.gather(1, masked[:, :, None].expand(-1, -1, painted.shape[-1]))
    return float(compute_masked_error(target, chosen, masked, patch=patch, normalise=normalise))


def load_method(folder: Path) -> Any:
    """The objective of a training, with its last weights, in evaluation mode."""
    from sslens import zoo

    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    module = plugin("objectives", config["objective"])
    fields = {field.name for field in dataclasses.fields(module.Settings)}
    given = {name: value for name, value in config["settings"].items() if name in fields}
    if "betas" in given:
        given["betas"] = tuple(given["betas"])
    method = module.Objective(parse(config["arch"]), module.Settings(**given))
    _, tensors = zoo.read(folder / STATE)
    weights = {
        name.removeprefix("module/"): value
        for name, value in tensors.items()
        if name.startswith("module/")
    }
    method.load_state_dict(weights)
    return method.eval()


def draw(images: ImageSet) -> list[Image.Image]:
    """Paint generated scenes anew."""
    return [Image.fromarray(picture) for picture in scenes.draw(factors_of(images))]


def without_noise(images: ImageSet) -> list[Image.Image]:
    """Paint scenes as a camera without noise would take them."""
    level = painting.CAMERA_NOISE
    painting.CAMERA_NOISE = 0.0
    try:
        return draw(images)
    finally:
        painting.CAMERA_NOISE = level


# ------------------------------------------------------------------------------------------------
# the criteria of a training


def judge(folder: Path, held: HeldOut, before: str | None = None) -> dict[str, Any]:
    """Judge a training by its folder.

    Args:
        folder: of `sslens pretrain` or `sslens finetune`.
        held: scenes that it has not seen.
        before: of a fine-tuning, the model that it began with; without it the probe's error,
            against which the fine-tuned one is held, is not known.
    """
    model = sslens.load(str(folder))
    about = model.about
    features = read_features(model, held)
    accuracies = {name: held.classify(values) for name, values in features.items()}
    last = last_name(features)
    found: dict[str, Any] = {
        "objective": about.objective,
        "family": about.family,
        "tuned": bool(about.tuned),
        "scenes": {"bank": held.bank.name, "queries": held.queries.name, "version": scenes.VERSION},
        "pixels": held.pixels,
        "last": last,
        "knn": accuracies,
        "probe": held.probe({last: features[last]}),
    }
    if about.tuned:
        must = judge_tuned(found, model, folder, held, before)
    elif about.objective == "mae":
        found["losses"] = measure_losses(folder, held.queries)
        found["cka"] = measure_cka(model, held.queries)
        must = judge_mae(found)
    elif about.family == "JE":
        gain = accuracies[last] - held.pixels["knn"]
        must = {"last CLS's 20-NN above raw pixels'": at_least(gain, GAIN)}
    else:
        must = {}
    return found | {"last 20-NN": share_of(accuracies[last], len(held.truth)), "must": must}


def judge_control(source: str, held: HeldOut) -> list[float]:
    """20-NN of raw pixels, or of random weights by their last CLS token, with its interval."""
    if source == "pixels":
        return share_of(held.pixels["knn"], len(held.truth))
    features = read_features(sslens.load(source), held)
    return share_of(held.classify(features[last_name(features)]), len(held.truth))


def share_of(share: float, count: int) -> list[float]:
    """A share of some images with the ends of Wilson's interval.

    >>> [round(end, 2) for end in share_of(0.5, 100)]
    [0.5, 0.4, 0.6]
    """
    return [share, *wilson(round(share * count), count)]


def record(judged: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What is recorded and never tuned for: 20-NN of the last CLS token, and the accuracy after
    fine-tuning, of joint-embedding trainings of transformers against MAE's.

    Args:
        judged: what `judge` gave, by the training's name.

    >>> one = {"objective": "mae", "family": "REC", "tuned": False, "last": "norm/cls"}
    >>> one |= {"last 20-NN": [0.5, 0.4, 0.6]}
    >>> other = one | {"objective": "dino", "family": "JE", "last 20-NN": [0.75, 0.7, 0.8]}
    >>> record({"a": one, "b": other})["last CLS's 20-NN"]["JE − MAE"]
    0.25
    """
    chosen = {
        "last CLS's 20-NN": {
            name: found["last 20-NN"][0]
            for name, found in judged.items()
            if not found["tuned"] and found["last"].endswith("/cls")
        },
        "fine-tuned top-1": {
            name: found["top1"] for name, found in judged.items() if found["tuned"]
        },
    }
    return {what: split_by_family(values, judged) for what, values in chosen.items()}


def split_by_family(
    values: Mapping[str, float], judged: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """The values of joint-embedding trainings and of MAE's, and the difference of their means."""
    sides: dict[str, dict[str, float]] = {"JE": {}, "MAE": {}}
    for name, value in values.items():
        side = "MAE" if judged[name]["objective"] == "mae" else judged[name]["family"]
        if side in sides:
            sides[side][name] = value
    if not all(sides.values()):
        return dict(sides)
    je, mae = (float(np.mean(list(side.values()))) for side in sides.values())
    return {**sides, "JE − MAE": je - mae}


def judge_mae(found: Mapping[str, Any]) -> dict[str, Any]:
    """MAE's criteria: it has learnt more than flat colours, and its CLS token more than colour."""
    pixels, best = found["pixels"], max(found["knn"].values())
    must = {
        "(loss − floor) / (oracle − floor)": at_most(found["losses"]["left"], LEFT),
        "best 20-NN above raw pixels'": at_least(best - pixels["knn"], 0.0),
        "logistic probe above raw pixels'": at_least(
            found["probe"][found["last"]] - pixels["probe"], GAIN
        ),
    }
    held = {
        name: value for name, value in found["cka"].items() if name in must_differ(found["cka"])
    }
    return must | {f"CKA with {name}": at_most(value, ALIKE) for name, value in held.items()}


def must_differ(quantities: Iterable[str]) -> list[str]:
    """The quantities with which a CLS token must not be alike: all but the class and the local
    contrast.

    >>> must_differ(["class", "hue", "mean colour", "luminance", "local contrast"])
    ['hue', 'mean colour', 'luminance']
    """
    return [name for name in quantities if name not in ("class", "local contrast")]


def judge_tuned(
    found: dict[str, Any], model: Backbone, folder: Path, held: HeldOut, before: str | None
) -> dict[str, Any]:
    """A fine-tuned model's criterion: at most half the error of a probe of the model that it began
    with.

    Raises:
        InputError: the fine-tuning began with other weights than those of `before`. Of random
            weights, of which the last digits hang on the processor, the source tells.
    """
    text = (folder / "log.jsonl").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    found["top1"] = next(line["top1"] for line in reversed(lines) if "top1" in line)
    if before is None:
        return {}
    start, origin = sslens.load(before), model.about.pretrained
    found["start"] = {
        "source": before,
        "same digest": bool(origin and origin.digest == start.digest),
    }
    if not found["start"]["same digest"] and not (origin and origin.source == before):
        raise InputError(f"{folder} did not begin with the weights of {before}.")
    features = read_features(start, held)
    last = last_name(features)
    found["probe before"] = held.probe({last: features[last]})[last]
    allowed = (1 - found["probe before"]) / 2
    return {"error against half the probe's": at_most(1 - found["top1"], allowed)}


def measure_cka(model: Backbone, images: ImageSet) -> dict[str, float]:
    """CKA of the last CLS token with the class, every factor, mean colour, luminance and local
    contrast."""
    sample = images.sample(CKA_SCENES, 0)
    (grams,) = collect(model, sample, [GramReducer("cls")], taps=[list(model.taps)[-1]])
    values = code_factors(factors_of(sample)) | measure_appearance(sample)
    varying = {name: numbers for name, numbers in values.items() if numbers.std(0).any()}
    targets = Targets(sample.ids, varying).grams(grams)
    return dict(zip(varying, minibatch_cka(grams, targets)[0].tolist(), strict=True))


def at_most(value: float, limit: float) -> dict[str, Any]:
    """A criterion that holds where a value is at most the limit."""
    return {"value": value, "at most": limit, "holds": bool(value <= limit)}


def at_least(value: float, limit: float) -> dict[str, Any]:
    """A criterion that holds where a value is at least the limit, and above it where that is 0."""
    holds = value > 0 if limit == 0 else value >= limit
    return {"value": value, "at least": limit, "holds": bool(holds)}


def main() -> None:
    """Judge the folders of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--bank", default="scenes:2:8000")
    parser.add_argument("--queries", default="scenes:1:2000")
    parser.add_argument("--before", help="where a fine-tuning began")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    held = HeldOut(sslens.open_images(arguments.bank), sslens.open_images(arguments.queries))
    for folder in arguments.folders:
        print(json.dumps({str(folder): judge(folder, held, arguments.before)}, indent=1))


if __name__ == "__main__":
    main()
