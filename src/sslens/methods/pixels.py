"""Pixels as targets: patches as vectors, and the error of predicted masked patches."""

from jaxtyping import Float, Int
from torch import Tensor


def patchify(
    images: Float[Tensor, "image 3 size size"], patch: int
) -> Float[Tensor, "image patch value"]:
    """Patches in row-major order, each as a vector in the order (row, column, channel).

    >>> import torch
    >>> patchify(torch.arange(12.0).reshape(1, 3, 2, 2), 2).tolist()
    [[[0.0, 4.0, 8.0, 1.0, 5.0, 9.0, 2.0, 6.0, 10.0, 3.0, 7.0, 11.0]]]
    """
    n, channels, size, _ = images.shape
    grid = size // patch
    cut = images.reshape(n, channels, grid, patch, grid, patch)
    return cut.permute(0, 2, 4, 3, 5, 1).reshape(n, grid * grid, patch * patch * channels)


def compute_masked_error(
    images: Float[Tensor, "image 3 size size"],
    predicted: Float[Tensor, "image masked value"],
    masked: Int[Tensor, "image masked"],
    *,
    patch: int,
    normalise: bool,
) -> Float[Tensor, ""]:
    """Return the mean squared error of the predicted pixels of the masked patches.

    Args:
        images: the images, which hold the targets.
        predicted: the predicted patches, each in the order of `patchify`.
        masked: the numbers of the masked patches, in row-major order of the grid.
        patch: the side of a patch in pixels.
        normalise: whether each target patch is first scaled to mean 0 and unbiased variance 1.

    >>> import torch
    >>> images = torch.arange(12.0).reshape(1, 3, 2, 2)  # the first pixel is (0, 4, 8)
    >>> predicted, masked = torch.zeros(1, 1, 3), torch.tensor([[0]])
    >>> error = compute_masked_error(images, predicted, masked, patch=1, normalise=False)
    >>> round(error.item(), 3)  # (0 + 16 + 64) / 3
    26.667
    """
    target = patchify(images, patch)
    target = target.gather(1, masked[:, :, None].expand(-1, -1, target.shape[-1]))
    if normalise:
        centred = target - target.mean(-1, keepdim=True)  # `var` is several times slower
        variance = centred.square().sum(-1, keepdim=True) / (target.shape[-1] - 1)
        target = centred / (variance + 1e-6).sqrt()
    return (predicted - target).square().mean()
