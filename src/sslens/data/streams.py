"""Random streams: the random numbers of a training step, a pure function of (seed, step).

All random numbers of a step are drawn for the whole global batch, and each process, micro-batch or
data worker takes its rows. So a step does not depend on how its batch is split, and training
resumes at any step without the state of a generator.
"""

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from sslens.errors import InputError


def stream(seed: int, step: int, *key: int) -> np.random.Generator:
    """Return the random generator for one purpose (`key`) in one training step.

    It is independent of the generators for other purposes, steps and seeds.

    PCG64 seeded by NumPy's `SeedSequence(seed, spawn_key=(step, *key))`. The views of `RandomViews`
    use the keys (0, view, operation), `mask_noise` uses (1,), the order of images (2,),
    `depth_noise` (3,), `sslens.data.classification.Mixing` (4,) and `sampling_noise` (5,); noise
    and times of a generator's training have (6,), noise of its samples (7, image, …).

    Raises InputError for a negative seed and a step outside 32 bits.

    >>> stream(0, 7, 1).random(2).round(4).tolist()
    [0.0134, 0.9416]
    """
    if seed < 0 or not 0 <= step < 1 << 32:  # a longer step would run into the key
        raise InputError(
            f"The seed is {seed} and the step {step}; both must be 0 or more, and the step below"
            " 2³²."
        )
    sequence = np.random.SeedSequence(seed, spawn_key=(step, *key))
    return np.random.Generator(np.random.PCG64(sequence))


def mask_noise(
    seed: int, step: int, rows: slice, total: int, patches: int
) -> Float32[Tensor, "image patch"]:
    """Draw uniform noise in [0, 1) for random masking (MAE: He et al., 2022, section 3).

    In each image the patches with the smallest noise stay visible. The noise is drawn for the
    `total` images of the step, and returned for the images in `rows`.

    >>> whole = mask_noise(0, 3, slice(0, 4), total=4, patches=9)
    >>> bool((mask_noise(0, 3, slice(2, 4), total=4, patches=9) == whole[2:]).all())
    True
    """
    return torch.from_numpy(stream(seed, step, 1).random((total, patches), dtype=np.float32)[rows])


def depth_noise(
    seed: int, step: int, rows: slice, total: int, places: int
) -> Float32[Tensor, "image place"]:
    """Draw uniform noise in [0, 1) for stochastic depth.

    Each residual branch of the network is a place, numbered from 0. The branch is dropped for an
    image if the image's noise at that place is below the branch's drop rate. The noise is drawn for
    the `total` images of the step, and returned for the images in `rows`.

    >>> depth_noise(0, 3, slice(2, 4), total=4, places=9).shape
    torch.Size([2, 9])
    """
    return torch.from_numpy(stream(seed, step, 3).random((total, places), dtype=np.float32)[rows])


def sampling_noise(seed: int, step: int, rows: slice, total: int) -> Int64[Tensor, " image"]:
    """Draw a random 64-bit number for each image, on which a detector chooses the anchors and
    regions of the image that train it.

    The numbers are drawn for the `total` images of the step, and returned for the images in `rows`.

    >>> whole = sampling_noise(0, 3, slice(0, 4), total=4)
    >>> bool((sampling_noise(0, 3, slice(2, 4), total=4) == whole[2:]).all())
    True
    """
    bounds = np.iinfo(np.int64)
    numbers = stream(seed, step, 5).integers(bounds.min, bounds.max, total, endpoint=True)
    return torch.from_numpy(numbers[rows])
