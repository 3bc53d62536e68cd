"""Small runs of every objective on every kind of network that it trains, and what is asked of two
of them."""

import dataclasses
import json
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from sslens.data.images import ImageSet, Source, from_arrays
from sslens.find import names, plugin
from sslens.methods.labels import with_classes
from sslens.models.arch import parse
from sslens.models.transformers import set_explicit_attention
from sslens.recipes import trial_settings
from sslens.training.pretrain import pretrain
from sslens.training.schedule import Training

ARCH = "vit_nano_patch16_32"
PIXELS = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
LABELS = [i % 3 for i in range(20)]
IMAGES = from_arrays(PIXELS, LABELS, classes=["a", "b", "c"])
RESNET = "resnet_8x12x16x20_1x1x1x1_64"
#: 5 steps an epoch, 15 in all; checkpoints do not fall on the ends of epochs
TRAINING = Training(
    epochs=3, batch_size=4, precision="float32", device="cpu", save_every=4, log_every=1
)
#: a small network of every kind
ARCHS = {"vit": ARCH, "resnet": RESNET, "convnextv2": "convnextv2_8x16x32x64_1x1x2x1_64"}
#: every objective on every kind of network that it trains: the files in objectives/ decide
KINDS = {
    name if number == 0 else f"{name}-on-{kind}": (name, kind)
    for name in names("objectives")
    for number, kind in enumerate(plugin("objectives", name).KINDS)
}
SETTINGS = {case: trial_settings(name, kind) for case, (name, kind) in KINDS.items()}
#: every objective, on the first kind of network that it trains
OBJECTIVES = tuple(case for case in KINDS if "-on-" not in case)
#: and on the others
CASES = tuple(KINDS)


def arch_of(case: str) -> str:
    """The network of a case."""
    return ARCHS[KINDS[case][1]]


def method_of(case: str) -> Any:
    """An objective as the loop makes it."""
    module = plugin("objectives", KINDS[case][0])
    torch.manual_seed(TRAINING.seed)
    method = module.Objective(
        parse(arch_of(case)), with_classes(KINDS[case][0], SETTINGS[case], IMAGES)
    )
    set_explicit_attention(method, True)
    return method.train()


#: response norms and batch norms are those of the whole minibatch
DIVISIBLE = tuple(case for case in CASES if method_of(case).divisible)


def fit(
    out: Path, case: str = "mae", images: ImageSet = IMAGES, resume: bool = False, **changed: Any
) -> Path:
    """Train; all but the case can be changed."""
    settings, arch = changed.pop("settings", SETTINGS.get(case)), changed.pop("arch", arch_of(case))
    say = changed.pop("say", lambda _: None)
    training = dataclasses.replace(TRAINING, **changed)
    return pretrain(
        KINDS[case][0],
        images,
        arch,
        out,
        settings=settings,
        training=training,
        resume=resume,
        say=say,
    )


def log(out: Path, column: str = "loss") -> list[float]:
    """A column of the lines of steps; between them stand those of looks at the encoder, and
    warnings."""
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [line[column] for line in lines if "loss" in line]


def module_state(out: Path) -> dict[str, Tensor]:
    """The objective in a run's last state."""
    state = load_file(out / "state.safetensors")
    return {
        key.removeprefix("module/"): value
        for key, value in state.items()
        if key.startswith("module/")
    }


def same(out: Path, other: Path) -> None:
    """The runs ended with the same files, but for times."""
    assert sorted(path.name for path in out.iterdir()) == sorted(
        path.name for path in other.iterdir()
    )
    for name in ("last.safetensors", "state.safetensors"):
        one, two = load_file(out / name), load_file(other / name)
        assert one.keys() == two.keys()
        for key, value in one.items():
            assert torch.equal(value, two[key]), (name, key)
    assert (out / "last.safetensors").read_bytes() == (other / "last.safetensors").read_bytes()
    for column in ("step", "loss", "lr"):
        assert log(out, column) == log(other, column)


#: batch normalisation over few images magnifies rounding, so these runs have larger minibatches: 6
#: steps of 16
MORE = np.concatenate([PIXELS, PIXELS[:, ::-1], PIXELS[:10, :, ::-1]])
LARGER: dict[str, Any] = {
    "images": from_arrays(MORE, [i % 3 for i in range(50)], classes=["a", "b", "c"]),
    "batch_size": 16,
    "epochs": 2,
}


def alike(out: Path, other: Path, tolerance: float) -> None:
    """The losses of every step are equal but for rounding, and so are the encoders' weights.

    The tolerance of a loss scales with the loss, where that is above 1.
    """
    within = tolerance * max(1.0, *np.abs(log(other)))
    np.testing.assert_allclose(log(out), log(other), rtol=0, atol=within)
    assert np.ptp(log(other)) > 10 * within, "the run did not move, and would be like any"
    one, two = load_file(out / "last.safetensors"), load_file(other / "last.safetensors")
    rtol = 1e-3 if "conv1.weight" in one else 0  # LARS magnifies
    for key, value in one.items():
        # softmax cancels the keys' bias, and MoCo-v3's batch norm the last: rounding is their
        # gradient, which Adam makes large
        if not key.endswith("attn.qkv.bias") and key != "norm.bias":
            torch.testing.assert_close(
                value, two[key], rtol=rtol, atol=2e-4, msg=lambda text, key=key: f"{key}: {text}"
            )


class Runs(dict[str, Path]):
    """The folders of runs of cases, each trained when it is first asked for."""

    def __init__(self, folder: Path, **changed: Any) -> None:
        super().__init__()
        self.folder, self.changed = folder, changed

    def __missing__(self, case: str) -> Path:
        self[case] = self.folder / case
        fit(self[case], case, **self.changed)
        return self[case]


class Signalling:
    """Images in memory; when so many have been taken, this process gets a signal."""

    def __init__(
        self, after: int, number: int, times: int = 1, source: Source = IMAGES.source
    ) -> None:
        self.after, self.number, self.times, self.source = after, number, times, source

    def image(self, row: int) -> Image.Image:
        self.after -= 1
        if self.after == 0:
            for _ in range(self.times):
                signal.raise_signal(self.number)
        return self.source.image(row)

    def digests(self, rows: Sequence[int]) -> list[str]:
        return self.source.digests(rows)


def signalled(step: int, number: int, times: int = 1) -> ImageSet:
    """The same images; the signal comes in the middle of a step, counted from 1 from where the run
    starts."""
    return dataclasses.replace(
        IMAGES, source=Signalling(TRAINING.batch_size * step - 1, number, times)
    )
