"""V-JEPA 2 (Assran et al., 2025) on single images: the image stands for all frames of one tubelet,
and time has one place."""

from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn


@final
class RepeatedConv(nn.Conv3d):
    """A convolution over frames, rows and columns that sees an image as frames that are all
    alike."""

    def forward(
        self, images: Float[Tensor, "image channel height width"]
    ) -> Float[Tensor, "image dim row column"]:
        """Repeat each image as often as the kernel has frames, and convolve."""
        frames = images.unsqueeze(2).expand(-1, -1, self.kernel_size[0], -1, -1)
        places: Tensor = super().forward(frames)
        return places.squeeze(2)


@final
class PlaneRotation(nn.Module):
    """V-JEPA 2's rotary positions for an image, in the form that timm's attention takes.

    A head of width d has three parts of 2 ⌊⌊d / 3⌋ / 2⌋ numbers, for time, row and column, and a
    rest that is not rotated. In a part of D numbers at the place p, with ω_k = 10000^(−2k / D), the
    authors turn x to

        x_i cos(p ω_(i mod D/2)) + y_i sin(p ω_(i mod D/2)),   y = (−x_1, x_0, −x_3, x_2, …):

    pairs are neighbours and frequencies are not, a slip that the released weights are trained with.
    Time has the place 0, and turns nothing.

    Args:
        width: of a head.
        grid: rows and columns of the patches.

    >>> turned = PlaneRotation(6, (1, 2)).get_embed()
    >>> [round(v, 3) for v in turned[1].tolist()]  # sines, then cosines, of the second column
    [0.0, 0.0, 0.0, 0.0, 0.841, 0.841, 1.0, 1.0, 1.0, 1.0, 0.54, 0.54]
    """

    table: Tensor

    def __init__(self, width: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.width = width
        self.feat_shape = list(grid)
        rows, columns = grid
        self.register_buffer("table", torch.empty(rows * columns, 2 * width), persistent=False)
        self.init_non_persistent_buffers()

    def extra_repr(self) -> str:
        """The settings, which count in a model's digest."""
        return f"width={self.width}, grid={self.feat_shape}"

    def init_non_persistent_buffers(self) -> None:
        """Compute the table where the buffer is."""
        rows, columns = self.feat_shape
        part = 2 * (self.width // 3 // 2)
        omega = 10000.0 ** (-torch.arange(part // 2, dtype=torch.float32) / max(part / 2, 1))
        places = torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).float()
        turns = (places[..., None] * omega).repeat(1, 1, 2)  # [patch, row or column, part]
        angles = torch.zeros(rows * columns, self.width)
        angles[:, part : 3 * part] = turns.flatten(1)
        self.table.data = torch.cat([angles.sin(), angles.cos()], 1).to(self.table.device)

    def update_feat_shape(self, feat_shape: list[int] | tuple[int, int]) -> None:
        """Make the table for another number of rows and columns."""
        self.feat_shape = list(feat_shape)
        self.init_non_persistent_buffers()

    def get_embed(self, shape: list[int] | None = None) -> Float[Tensor, "patch both"]:
        """Return the sines and then the cosines of every patch.

        Args:
            shape: rows and columns, which are those of the table.
        """
        assert shape is None or list(shape) == self.feat_shape
        return self.table
