"""Images, boxes and masks in squares: hand-computed places, and agreement of the three."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sslens.data.jitter import place_at, place_masks, place_pixels, shown
from sslens.errors import InputError


def test_a_part_is_cut_out_as_by_hand() -> None:
    # 40 × 20 px in 20 px at scale 2: one pixel stays one pixel, and 10 of 20 are cut off
    place = place_at((40, 20), 20, scale=2.0, at=(0.5, 0.0), flip=True)
    assert (place.resized, place.left, shown(place)) == ((40, 20), 10, (20, 20))
    boxes = place.boxes(torch.tensor([[12.0, 1.0, 18.0, 5.0]]))
    assert boxes.tolist() == [[12.0, 1.0, 18.0, 5.0]]  # less 10: 2 and 8, from the right 12 and 18


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(8, 60), st.integers(8, 60)),
    side=st.integers(16, 48),
    scale=st.floats(0.4, 2.0),
    at=st.tuples(st.floats(0, 0.999), st.floats(0, 0.999)),
    flip=st.booleans(),
)
def test_image_mask_and_box_move_alike(
    size: tuple[int, int], side: int, scale: float, at: tuple[float, float], flip: bool
) -> None:
    place = place_at(size, side, scale=scale, at=at, flip=flip)
    width, height = size
    mask = np.zeros((1, height, width), bool)
    mask[0, height // 4 : height * 3 // 4, width // 4 : width // 2 + 1] = True
    ys, xs = np.nonzero(mask[0])
    box = torch.tensor([[xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]]).float()
    rows = ((np.arange(place.resized[1]) + 0.5) * height / place.resized[1]).astype(int)
    columns = ((np.arange(place.resized[0]) + 0.5) * width / place.resized[0]).astype(int)
    moved = place_masks(mask[:, rows][:, :, columns], place)[0]
    picture = Image.fromarray(np.repeat(mask[0][..., None] * np.uint8(255), 3, axis=2))
    square = place_pixels(picture, place, (0, 0, 0), "bilinear")[:, :, 0] > 127
    left, top, right, bottom = place.boxes(box).clamp(0, side)[0].tolist()
    edge = 2 * (right - left + bottom - top) + 8
    assert (square != moved).sum() <= edge  # resampling moves an edge by a pixel at most
    if moved.any():
        ys, xs = np.nonzero(moved)
        tight = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
        assert np.abs(tight - [left, top, right, bottom]).max() <= scale * side / 8 + 1
    torch.testing.assert_close(place.boxes_back(place.boxes(box)), box, atol=1e-3, rtol=0)


def test_a_size_of_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="no place in a square of 0 px"):
        place_at((4, 4), 0)
    with pytest.raises(InputError, match="at scale 0"):
        place_at((4, 4), 8, scale=0.0)
