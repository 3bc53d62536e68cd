"""A step of a frozen detection from maps that are kept, beside pyramid and heads alone.

    python bench/detect.py                     # generated scenes, the heads small, one thread
    python bench/detect.py --heads vitdet --size 256 --images 2 --rounds 3
    python bench/detect.py --folder maps       # maps in shards on disk, as a study keeps them

Two things take turns. The step: the maps of other images, scales and flips are read, the objects
moved, drawn and packed, then losses, backward and AdamW, as the loop does it. The heads alone: the
same losses, backward and AdamW on one minibatch that is there already. A ratio is the median over
rounds of the processor time of the step over that of the heads alone; other work on the machine
does not count.

Target: 1.1 at most.
"""

import argparse
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

import sslens
from sslens.data.scene_objects import scene_objects
from sslens.methods import Rows
from sslens.recipes import recipe
from sslens.store import Store
from sslens.tasks.detection import Detection, DetectionStart, batch, hide_images
from sslens.tasks.detection_maps import View, make_maps
from sslens.tasks.start import StartingPoint
from sslens.training.optim import make_optimiser, set_rates

COUNT = 256


def time_step(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="random:vit_mini_patch8_32")
    parser.add_argument("--heads", default="small")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--folder", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    scenes, model = scene_objects(COUNT), sslens.load(asked.model)
    settings = replace(
        recipe("detection", "small").settings,
        heads=asked.heads,
        size=asked.size,
        scales=(1.0,),
        classes=scenes.categories,
    )
    store = None if asked.folder is None else Store(asked.folder)
    views = [View(asked.size, flip) for flip in (False, True)]
    maps = make_maps(model, scenes.images, views, store=store)
    start = DetectionStart(scenes, StartingPoint("", model.transform, 0), maps)
    hidden = hide_images(scenes)
    method = Detection(model, settings, maps.shape).train()
    optimizer = make_optimiser(method.parameter_groups(), settings)
    set_rates(optimizer, 1e-4, 0.1)

    def prepare(step: int) -> dict[str, torch.Tensor]:
        numbers = [(step * asked.images + i) % COUNT for i in range(asked.images)]
        rows = Rows(0, step, slice(0, asked.images), asked.images, None, tuple(numbers))
        return batch([hidden.image(row) for row in numbers], settings, start, rows)

    def train(given: dict[str, torch.Tensor]) -> None:
        method(given).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    for row in range(COUNT):  # scenes are painted once, as in a training of several epochs
        scenes.targets(row)
    fixed = prepare(0)
    for step in range(2):
        train(prepare(step))
    ratios, alone, whole = [], [], []
    for number in range(asked.rounds):
        turns = [lambda: train(fixed), lambda number=number: train(prepare(number))]
        times = [time_step(work) for work in turns]
        alone.append(times[0])
        whole.append(times[1])
        ratios.append(times[1] / times[0])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{asked.heads}, {asked.size} px, {asked.images} images: heads alone"
        f" {1e3 * statistics.median(alone):.0f} ms, a step {1e3 * statistics.median(whole):.0f} ms,"
        f" ratio {statistics.median(ratios):.3f} [{min(ratios):.3f}, {max(ratios):.3f}]; the same"
        f" minibatch prepared in {1e3 * time_step(lambda: prepare(1)):.1f} ms; peak {peak:.2f} GB"
    )


if __name__ == "__main__":
    main()
