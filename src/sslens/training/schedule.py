"""How long a run is, on what, and in which steps; or why there can be no such run."""

import warnings
from dataclasses import dataclass

import numpy as np
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from sslens.counts import spell_count
from sslens.data.images import ImageSet
from sslens.errors import Doubt, InputError
from sslens.methods.job import TrainingJob
from sslens.models.heads import BatchNorm
from sslens.training.lengths import FREE as FREE
from sslens.training.lengths import Training as Training
from sslens.training.lengths import require_shares as require_shares

#: modules that give zero for a single image
NORMS = (BatchNorm, _BatchNorm)
#: number of images that the check of sizes reads
LOOKED_AT = 16


@dataclass(frozen=True)
class Schedule:
    """The steps of a run."""

    images: int
    batch_size: int
    epochs: int

    @property
    def epoch(self) -> int:
        """Steps of an epoch."""
        return self.images // self.batch_size

    @property
    def steps(self) -> int:
        """Steps of the run."""
        return self.epoch * self.epochs


def schedule_run(job: TrainingJob, images: int, training: Training, world: int = 1) -> Schedule:
    """Work out the steps of a run from the number of its images and of its processes.

    Args:
        job: what is trained.
        images: the number of images.
        training: the length of the run, and on what it runs.
        world: the number of processes.

    Raises:
        InputError: the minibatch is larger than the set of images; it cannot be divided over the
            processes and parts; `accumulate` is above 1, and the method's steps cannot be computed
            in parts; or the minibatch is one image, and the method contrasts images or the network
            has batch norms.
    """
    shares = world * training.accumulate
    job.require_batch_size(training.batch_size, shares)
    method = job.sketch
    if training.accumulate > 1 and not method.divisible:
        raise InputError(
            f"{job.learner} on {job.network} normalises over all images of a step, which parts"
            " would change",
            mend="leave {accumulate} out, and give a smaller {batch_size} or more"
            f" processes{job.in_parts}",
        )
    if training.batch_size > images:
        raise InputError(
            f"A minibatch of {training.batch_size} is more than the {spell_count(images, 'image')}",
            mend=f"give {{batch_size={images}}} or less",
        )
    require_shares(training.batch_size, world, training.accumulate)
    if method.whole_batch and training.batch_size < 2:
        raise InputError(
            f"{job.learner} contrasts images with each other",
            mend="give a {batch_size} of 2 or more",
        )
    assert isinstance(method, nn.Module)
    if training.batch_size < 2 and any(isinstance(module, NORMS) for module in method.modules()):
        raise InputError(
            f"{job.learner} on {job.network} normalises over the images of a step",
            mend="give a {batch_size} of 2 or more",
        )
    return Schedule(images, training.batch_size, training.epochs)


def doubt_small(images: ImageSet, image_size: int) -> None:
    """Warn where most images are smaller than the views that are cut from them.

    Sixteen images, spread evenly from the first to the last, are looked at.

    Raises:
        InputError: one of these images cannot be decoded.

    Warns:
        Doubt: most of them are smaller than `image_size`.
    """
    rows = np.unique(np.linspace(0, len(images) - 1, LOOKED_AT).astype(int)).tolist()
    sides = [min(images.image(row).size) for row in rows]
    small = sum(side < image_size for side in sides)
    if 2 * small > len(sides):
        warnings.warn(
            f"{small} of {spell_count(len(sides), 'image')} of {images.name} that were looked at"
            f" are smaller than the {image_size} px of the arch (the smallest has {min(sides)}"
            " px): they are enlarged, which costs time and adds nothing. An arch for smaller"
            " images may do.",
            Doubt,
            stacklevel=2,
        )
