"""RoIAlign by matrix products beside torchvision's, which takes its samples one by one."""

import pytest
import torch
from torch import Tensor
from torchvision.ops import roi_align

from sslens.models.detection import pooling
from sslens.models.detection.pooling import pool


def make_regions(count: int, sides: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Boxes of all sizes, some partly or wholly outside of the map and one without area, of the
    images 0 and 2 of three."""
    drawn = torch.rand(count, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    height, width = sides
    edges = torch.tensor([width, height], dtype=torch.float64)
    corners = drawn[:, :2] * 1.6 * edges - 0.3 * edges
    boxes = torch.cat([corners, corners + drawn[:, 2:] ** 2 * 1.2 * edges], dim=1)
    boxes[1, 2:] = boxes[1, :2]
    return boxes, 2 * (torch.arange(count) % 2)


@pytest.mark.parametrize("cells", [1, 7, 14])
@pytest.mark.parametrize("sides", [(9, 13), (32, 32), (1, 5)])
@pytest.mark.parametrize("between", [1, 4000, 1 << 19])
def test_products_are_torchvisions_samples(
    cells: int, sides: tuple[int, int], between: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pooling, "_BETWEEN", between)
    boxes, images = make_regions(40, sides)
    state = torch.random.manual_seed(0)
    features = torch.randn(3, 5, *sides, dtype=torch.float64, generator=state)
    wanted = torch.randn(40, 5, cells, cells, dtype=torch.float64, generator=state)
    theirs, ours = (features.clone().requires_grad_() for _ in range(2))
    rois = torch.cat([images.unsqueeze(1).double(), boxes], dim=1)
    expected = roi_align(theirs, rois, cells, 1.0, sampling_ratio=0, aligned=True)
    pooled = pool(ours, boxes, images, cells).permute(0, 3, 1, 2)
    torch.testing.assert_close(pooled, expected, rtol=1e-12, atol=1e-12)
    expected.backward(wanted)
    pooled.backward(wanted)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-11, atol=1e-11)


def test_a_large_map_is_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes, images = make_regions(20, (16, 16))
    boxes = boxes.float()
    features = torch.randn(3, 4, 16, 16, generator=torch.random.manual_seed(0))
    products = pool(features, boxes, images, 7)
    monkeypatch.setattr(pooling, "_PLACES", 16**2 - 1)
    monkeypatch.setattr(pooling, "weigh_places", None)
    torch.testing.assert_close(pool(features, boxes, images, 7), products, rtol=1e-5, atol=1e-5)


def test_half_precision_is_rounded_once() -> None:
    boxes, images = make_regions(20, (16, 16))
    features = torch.randn(3, 4, 16, 16, generator=torch.random.manual_seed(0)).bfloat16()
    half, single = features.clone().requires_grad_(), features.float().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        pooled = pool(half, boxes.float(), images, 7)
        exact = pool(single, boxes.float(), images, 7)
        assert exact.dtype == torch.float32
        assert torch.equal(pooled, exact.bfloat16())
        (rounded,) = torch.autograd.grad(pooled, half, pooled.detach())
        (gradient,) = torch.autograd.grad(exact, single, pooled.detach().float())
    assert torch.equal(rounded, gradient.bfloat16())
