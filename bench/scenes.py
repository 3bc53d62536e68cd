"""Are the embedded scenes fast enough, and hard enough for raw pixels while learnable?

    python bench/scenes.py            # speed and 20-NN on raw pixels: a minute
    python bench/scenes.py --train    # and a supervised residual network: some minutes

Target: 1,000 single-object scenes a second on one core; 20-NN under 45 %; the supervised network
over 95 %. 20-NN is of the model `pixels`, the control that reports show: 32 px, centred by the mean
colour that all models subtract. Uncentred pixels, which no model sees, have more: the cosine then
leaves out how far a scene is exposed.
"""

import argparse
import os
import time
from collections.abc import Callable

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy: one core is what is measured
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import sslens
from sslens.data import scenes
from sslens.data.scene_images import scene_images
from sslens.probes.knn import knn

TRAIN, TEST = 8000, 2000  # scenes of seed 0: 0 to 7,999 and 8,000 to 9,999


def scenes_a_second(
    work: Callable[[], object], count: int, repeats: int = 5
) -> tuple[float, float]:
    """Median and best rate of `repeats` runs, by processor time: other work on the machine does not
    count."""
    work()
    rates = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        rates.append(count / (time.process_time() - start))
    return float(np.median(rates)), max(rates)


def render_labelled(start: int, count: int) -> tuple[Tensor, Tensor]:
    images = torch.from_numpy(scenes.render(0, range(start, start + count))).permute(0, 3, 1, 2)
    names = scenes.factors(0, range(start, start + count))["class"]
    return images, torch.tensor([scenes.CLASSES.index(name) for name in names])


def classify_pixels() -> float:
    """Share of the test scenes that 20-NN of the model `pixels` gets right."""
    model, sets = sslens.load("pixels"), [scene_images(TRAIN), scene_images(TEST, start=TRAIN)]
    features = []
    for images in sets:
        rows = [model.transform(images.image(row)) for row in range(len(images))]
        features.append(torch.stack(rows).flatten(1))
    labels = [torch.tensor(images.labels) for images in sets]
    return float((knn(features[1], features[0], labels[0], k=20) == labels[1].numpy()).mean())


class Residual(nn.Module):
    """Two 3 × 3 convolutions beside a shortcut."""

    def __init__(self, dim_in: int, dim: int, stride: int) -> None:
        super().__init__()
        self.one = nn.Conv2d(dim_in, dim, 3, stride, 1, bias=False)
        self.two = nn.Conv2d(dim, dim, 3, 1, 1, bias=False)
        self.norm_one, self.norm_two = nn.BatchNorm2d(dim), nn.BatchNorm2d(dim)
        self.shortcut = nn.Conv2d(dim_in, dim, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm_one(self.one(x)))
        return F.relu(self.shortcut(x) + self.norm_two(self.two(y)))


def network(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, width, 5, 2, 2, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        Residual(width, width, 1),
        Residual(width, 2 * width, 2),
        Residual(2 * width, 4 * width, 2),
        Residual(4 * width, 8 * width, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8 * width, len(scenes.CLASSES)),
    )


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror images at random (the class does not depend on the facing), and shift all by up to 4
    pixels."""
    mirrored = torch.rand(len(images), generator=generator) < 0.5
    images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
    top, left = torch.randint(0, 9, (2,), generator=generator).tolist()
    return F.pad(images, (4, 4, 4, 4), mode="reflect")[:, :, top : top + 64, left : left + 64]


def normalise(images: Tensor) -> Tensor:
    return (images.float() - 127) / 64


def train_accuracy(data: tuple[Tensor, Tensor, Tensor, Tensor], epochs: int, width: int) -> float:
    """Test accuracy of the network after `epochs` of AdamW with a one-cycle schedule."""
    train, train_labels, test, test_labels = data
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    model, batch = network(width), 64
    optimiser = torch.optim.AdamW(model.parameters(), weight_decay=0.05)
    steps = epochs * (len(train) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=4e-3, total_steps=steps, pct_start=0.2
    )
    accuracy = 0.0
    for epoch in range(epochs):
        start = time.perf_counter()
        for rows in torch.randperm(len(train), generator=generator)[
            : len(train) // batch * batch
        ].split(batch):
            scores = model.train()(augment(normalise(train[rows]), generator))
            loss = F.cross_entropy(scores, train_labels[rows], label_smoothing=0.1)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
        with torch.no_grad():
            predicted = torch.cat(
                [model.eval()(normalise(part)).argmax(1) for part in test.split(500)]
            )
        accuracy = float((predicted == test_labels).float().mean())
        print(
            f"  epoch {epoch + 1:2d}: test {accuracy:6.2%}  {time.perf_counter() - start:.0f} s",
            flush=True,
        )
    return accuracy


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--train", action="store_true", help="also train the supervised network")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--width", type=int, default=16, help="channels of the first stage")
    parser.add_argument("--threads", type=int, default=2, help="of the k-NN and the training")
    arguments = parser.parse_args()

    rows = []
    single, single_best = scenes_a_second(lambda: scenes.render(0, range(1024)), 1024)
    rows.append(
        (
            "single-object scenes a second, one core",
            f"{single:,.0f} (best {single_best:,.0f})",
            ">= 1,000",
        )
    )
    several, several_best = scenes_a_second(
        lambda: [scenes.detection_scene(0, index) for index in range(256)], 256
    )
    rows.append(
        ("detection scenes a second, one core", f"{several:,.0f} (best {several_best:,.0f})", "")
    )
    torch.set_num_threads(arguments.threads)
    rows.append(("20-NN on raw pixels, 8,000 / 2,000", f"{classify_pixels():.1%}", "< 45 %"))
    if arguments.train:
        data = (*render_labelled(0, TRAIN), *render_labelled(TRAIN, TEST))
        rows.append(
            (
                "supervised network, the same scenes",
                f"{train_accuracy(data, arguments.epochs, arguments.width):.1%}",
                "> 95 %",
            )
        )
    for what, value, target in rows:
        print(f"{what:42s} {value:26s} {target}")


if __name__ == "__main__":
    main()
