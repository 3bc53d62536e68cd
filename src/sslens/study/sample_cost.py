"""What the samples of a study will cost, measured by a few runs of the generator's network."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sslens.capture import FeatureReducer, collect
from sslens.study.costing import Clock
from sslens.study.sampling import DRAWS, count_sources, has_factors, list_lacking, open_named

if TYPE_CHECKING:
    from sslens.data.images import ImageSet
    from sslens.models.backbone import Backbone
    from sslens.store import Store
    from sslens.study.situation import Situation
    from sslens.tasks.generator import Generator

#: images of a measured run of the network, and processor seconds of one image that make it slow
FEW, SLOW = 8, 1.0
#: processor time of the training of a reader of scenes, and of what it reads of a model's samples,
#: where a fit takes `study_cost.REFERENCE`
READER, READ = 40.0, 1.5


def estimate_samples(situation: "Situation", store: "Store", speed: float) -> float:
    """Estimate the processor time of the samples that the store lacks: of the network's runs, of
    the features of the samples by their own model and by a judge, and of a reader of scenes.

    Args:
        situation: the study, with a generator that knows one of its models or more.
        store: what is there.
        speed: how slow this machine is beside the one on which readers were timed.
    """
    from sslens.probes.scene_reader import has_reader

    assert situation.images is not None
    generator = open_named(situation)
    lacking = list_lacking(situation, store, generator)
    made = count_sources(situation.images) * DRAWS
    total = 0.0
    if lacking:
        runs = count_runs(generator)
        total += len(lacking) * made * runs * _time_run(generator, situation.device)
    for member in lacking:
        total += 2 * made * _time_features(member.network, situation.images, situation.device)
    if lacking and has_factors(situation.images):
        total += speed * READ * len(lacking)
        total += 0.0 if has_reader(store) else speed * READER
    return total


def count_runs(generator: "Generator") -> int:
    """Count the runs of the network that a sample takes in the default steps of its process.

    >>> from sslens.tasks.generator import open_generator
    >>> count_runs(open_generator("scenes_generator"))  # euler20
    20
    """
    count, channels = 0, 6 if generator.process.learned_variance else 3

    def stand_in(images: Tensor, *_: Tensor | None) -> Tensor:
        nonlocal count
        count += 1
        return images.new_zeros(len(images), channels, *images.shape[2:])

    noise = torch.zeros(1, 3, 1, 1)
    steps = generator.process.default_steps
    generator.process.sample(stand_in, noise, None, steps, lambda _: noise)
    return count


def _time_run(generator: "Generator", device: str) -> float:
    """The processor time of an image in a run of the network: of one image, and of a few where that
    is quick."""
    network, size = generator.network.to(device).eval(), generator.size
    seconds = 0.0
    for count in (1, FEW, FEW):  # the first warms up
        images = torch.zeros(count, 3, size, size, device=device)
        condition = torch.zeros(count, generator.adapters.width, device=device)
        clock = Clock()
        with torch.inference_mode(), clock.running():
            network(images, torch.full((count,), 500.0, device=device), condition)
        seconds = clock.seconds / count
        if seconds > SLOW:
            break
    return seconds


def _time_features(model: "Backbone", images: "ImageSet", device: str) -> float:
    """The processor time of an image's features by a model."""
    few, clock = images.take(range(min(FEW, len(images)))), Clock()
    with clock.running():
        collect(model, few, (FeatureReducer(),), device=device)
    model.to("cpu")
    return clock.seconds / len(few)
