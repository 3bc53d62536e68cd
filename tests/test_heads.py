"""A detector's heads against the equations: each step in float64 or against plain loops, and whole
losses against a second implementation that takes nothing from the package but the weights."""

import dataclasses
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sslens.data.streams import sampling_noise
from sslens.errors import InputError
from sslens.models.detection import matching
from sslens.models.detection.anchors import place_anchors, shape_anchors
from sslens.models.detection.boxes import clip, decode, encode, overlaps, suppress
from sslens.models.detection.heads import Heads, make_heads
from sslens.models.detection.masks import crop_targets, paste
from sslens.models.detection.matching import match
from sslens.models.detection.objects import Detections, Objects, pad
from sslens.models.detection.proposals import Proposed
from sslens.models.detection.regions import align
from sslens.models.detection.sampling import sample, uniform
from sslens.models.detection.settings import NAMED, HeadSettings

STRIDES = {f"p{level}": 2.0 ** (level - 1) for level in range(2, 7)}
SIDE = 64
TINY = dataclasses.replace(
    NAMED["small"], channels=8, hidden=16, anchors=16, regions=16, candidates=(40, 30), proposals=30
)


def random_boxes(count: int, seed: int, side: float = SIDE) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    sides = 4 + torch.rand(count, 2, generator=generator) * side * 0.4
    corners = torch.rand(count, 2, generator=generator) * (side - sides)
    return torch.cat([corners, corners + sides], dim=1)


def make_objects(count: int, seed: int, side: int = SIDE, classes: int = 3) -> Objects:
    """Ellipses in an image."""
    boxes = random_boxes(count, seed, side)
    places = torch.arange(side) + 0.5
    low, high = boxes[:, :2], boxes[:, 2:]
    x, y = ((places - low[:, axis, None]) / (high - low)[:, axis, None] * 2 - 1 for axis in (0, 1))
    masks = x[:, None, :] ** 2 + y[:, :, None] ** 2 <= 1
    return Objects(boxes, torch.arange(count) % classes, masks)


def make_pyramid(images: int, channels: int, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(images, channels, *[int(SIDE // stride)] * 2, generator=generator)
        for name, stride in STRIDES.items()
    }


def lively(seed: int = 0, settings: HeadSettings = TINY) -> Heads:
    """Heads with large weights, so that their answers differ from place to place."""
    torch.manual_seed(seed)
    heads = Heads(settings, 3, STRIDES)
    with torch.no_grad():
        for name, parameter in heads.named_parameters():
            if name.endswith(("logits.weight", "deltas.weight", "score.weight", "pred.weight")):
                parameter.mul_(20)
            if name.endswith("predictor.weight"):
                parameter.mul_(300)
    return heads


def overlap_of(a: list[float], b: list[float]) -> float:
    """The IoU of two boxes, by hand."""
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return width * height / (sum(areas) - width * height)


# --- boxes


def test_overlaps_are_those_of_pairs() -> None:
    a, b = random_boxes(5, 0).double(), random_boxes(7, 1).double()
    expected = [[overlap_of(x, y) for y in b.tolist()] for x in a.tolist()]
    torch.testing.assert_close(overlaps(a[None], b[None])[0], torch.tensor(expected).double())


def test_a_code_leads_back_to_its_box() -> None:
    boxes, origins = random_boxes(50, 2).double(), random_boxes(50, 3).double()
    weights = (10.0, 10.0, 5.0, 5.0)
    torch.testing.assert_close(decode(encode(boxes, origins, weights), origins, weights), boxes)


def test_a_code_is_the_published_one() -> None:
    box, origin = [3.0, 5.0, 11.0, 9.0], [1.0, 1.0, 5.0, 17.0]
    expected = [2 * (7 - 3) / 4, 3 * (7 - 9) / 16, 5 * math.log(8 / 4), 7 * math.log(4 / 16)]
    code = encode(torch.tensor([box]), torch.tensor([origin]), (2.0, 3.0, 5.0, 7.0))
    torch.testing.assert_close(code, torch.tensor([expected]))


def test_a_box_does_not_explode() -> None:
    grown = decode(torch.full((1, 4), 50.0), torch.tensor([[0.0, 0.0, 2.0, 2.0]]), (1.0,) * 4)
    assert (grown[:, 2:] - grown[:, :2]).tolist() == [[125.0, 125.0]]


def test_boxes_are_clipped_to_their_image() -> None:
    boxes = torch.tensor([[[-3.0, -1.0, 70.0, 20.0]], [[5.0, 6.0, 7.0, 90.0]]])
    sizes = torch.tensor([[[10.0, 60.0]], [[80.0, 6.0]]])
    assert clip(boxes, sizes).tolist() == [[[0, 0, 60, 10]], [[5, 6, 6, 80]]]


def test_suppression_is_greedy_in_each_group() -> None:
    boxes, generator = random_boxes(120, 4), torch.Generator().manual_seed(0)
    scores = torch.rand(120, generator=generator)
    groups = torch.randint(4, (120,), generator=generator)
    stays: list[int] = []
    for i in scores.argsort(descending=True).tolist():
        rivals = [j for j in stays if groups[j] == groups[i]]
        if all(overlap_of(boxes[i].tolist(), boxes[j].tolist()) <= 0.3 for j in rivals):
            stays.append(i)
    assert suppress(boxes, scores, groups, 0.3).nonzero()[:, 0].tolist() == sorted(stays)
    assert 4 < len(stays) < 120
    assert suppress(boxes[:0], scores[:0], groups[:0], 0.3).shape == (0,)


# --- anchors


def test_anchors_are_not_rounded() -> None:
    shapes = shape_anchors(4.0, [8.0], [0.5, 1.0, 2.0]).double()
    sides = shapes[:, 2:] - shapes[:, :2]
    torch.testing.assert_close(sides.prod(dim=1), torch.full((3,), 1024.0).double())
    torch.testing.assert_close(sides[:, 1] / sides[:, 0], torch.tensor([0.5, 1, 2]).double())
    assert (shapes[0] % 1 != 0).all()  # 45.25 × 22.63 px


def test_anchors_stand_at_the_corners_of_places() -> None:
    shapes = shape_anchors(2.5, [4.0], [1.0, 2.0])
    anchors = place_anchors(shapes, 2.5, rows=3, columns=4).view(3, 4, 2, 4)
    for row, column, shape in np.ndindex(3, 4, 2):
        shift = torch.tensor([column, row, column, row]) * 2.5
        torch.testing.assert_close(anchors[row, column, shape], shapes[shape] + shift)


# --- sampling


def test_uniform_is_splitmix64() -> None:
    """The algorithm as published, in Python's unbounded integers."""
    limit = (1 << 64) - 1

    def outputs(seed: int, count: int) -> list[float]:
        numbers = []
        for _ in range(count):
            seed = (seed + 0x9E3779B97F4A7C15) & limit
            z = ((seed ^ (seed >> 30)) * 0xBF58476D1CE4E5B9) & limit
            z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & limit
            numbers.append(((z ^ (z >> 31)) >> 40) / 2**24)
        return numbers

    seeds = [0, -1, 1234567, -(2**63), 2**63 - 1]
    assert uniform(torch.tensor(seeds), 100).tolist() == [outputs(s % 2**64, 100) for s in seeds]


def test_uniform_is_uniform_and_unrelated_between_images() -> None:
    numbers = uniform(sampling_noise(0, 0, slice(0, 16), total=16), 4096).double()
    counts = torch.histc(numbers, bins=64, min=0, max=1)
    chi = ((counts - 1024) ** 2 / 1024).sum().item()
    assert 30 < chi < 110  # 63 degrees of freedom: 63 ± 11
    correlations = torch.corrcoef(numbers) - torch.eye(16).double()
    assert correlations.abs().max() < 0.08  # 5 standard deviations


def test_as_many_are_sampled_as_there_can_be() -> None:
    noise = uniform(torch.tensor([1, 2, 3]), 40)
    positive = torch.zeros(3, 40, dtype=torch.bool)
    positive[0, :2] = positive[1, :30] = True
    negative = ~positive
    negative[:, 35:] = False
    negative[2, 4:] = False
    (chosen, taken), (others, also) = sample(noise, positive, negative, count=16, share=0.5)
    assert taken.sum(dim=1).tolist() == [2, 8, 0]
    assert also.sum(dim=1).tolist() == [14, 5, 4]
    for image in range(3):
        picked = chosen[image][taken[image]]
        assert positive[image, picked].all()
        assert len(picked.unique()) == len(picked)
        rest = others[image][also[image]]
        assert negative[image, rest].all()
        assert len(rest.unique()) == len(rest)
    smallest = noise[1, :30].sort().values[:8]
    assert noise[1][chosen[1][taken[1]]].tolist() == smallest.tolist()


def test_what_is_sampled_does_not_depend_on_the_batch() -> None:
    heads, pyramid = lively(), make_pyramid(4, TINY.channels)
    objects = [make_objects(count, count) for count in (5, 0, 9, 2)]
    noise = sampling_noise(0, 7, slice(0, 4), total=4)
    generator = heads.proposal_generator
    sizes = torch.full((4, 2), float(SIDE))
    proposed = generator.propose(generator(pyramid), sizes, training=True)
    whole = heads._choose(proposed, pad(objects), ~noise)
    for i in range(4):
        alone = Proposed(proposed.boxes[i : i + 1], proposed.present[i : i + 1])
        part = heads._choose(alone, pad(objects[i : i + 1]), ~noise[i : i + 1])
        mine = whole.images == i
        assert torch.equal(whole.boxes[mine], part.boxes)
        assert torch.equal(whole.labels[mine], part.labels)


def test_noise_decides_and_nothing_else_does() -> None:
    heads, pyramid = lively(), make_pyramid(2, TINY.channels)
    objects, sizes = [make_objects(5, 1), make_objects(3, 2)], [(SIDE, SIDE)] * 2

    def total(noise: list[int]) -> float:
        torch.rand(3)  # the global generator moves on
        losses = heads.losses(pyramid, sizes, objects, torch.tensor(noise))
        return sum(loss.item() for loss in losses.values())

    assert total([1, 2]) == total([1, 2])
    assert total([1, 2]) != total([3, 4])


# --- matching


@pytest.mark.parametrize("at_once", [1, 1000, 1 << 22])
def test_candidates_match_as_by_hand(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matching, "_AT_ONCE", at_once)
    objects = [make_objects(4, 5), make_objects(0, 6), make_objects(2, 7)]
    candidates = torch.stack([random_boxes(60, 8), random_boxes(60, 9), random_boxes(60, 10)])
    candidates[0, 11] = candidates[0, 10] = objects[0].boxes[1]  # a tie: both are best
    found = match(pad(objects), candidates)
    for image in range(3):
        boxes = objects[image].boxes.tolist()
        table = np.array(
            [[overlap_of(box, c) for c in candidates[image].tolist()] for box in boxes]
        )
        if not boxes:
            assert (found.overlap[image] == -1).all()
            assert not found.best[image].any()
            continue
        np.testing.assert_allclose(found.overlap[image], table.max(axis=0), atol=1e-6)
        meets = table.max(axis=0) > 0
        assert found.object[image][meets].tolist() == table.argmax(axis=0)[meets].tolist()
        near = np.isclose(table, table.max(axis=1, keepdims=True), atol=1e-7).any(axis=0)
        assert found.best[image].tolist() == near.tolist()
    assert found.best[0, [10, 11]].all()


def test_objects_without_area_or_outside_of_all_anchors_have_no_best_anchor() -> None:
    boxes = torch.tensor([[5.0, 5.0, 5.0, 9.0], [500.0, 500.0, 510.0, 510.0]])
    objects = pad([Objects(boxes, torch.tensor([0, 1]), torch.zeros(2, 4, 4).bool())])
    found = match(objects, random_boxes(20, 0)[None])
    assert objects.present.tolist() == [[False, True]]
    assert not found.best.any()
    assert found.overlap.max() == 0


# --- regions


def bilinear(image: Tensor, y: float, x: float) -> Tensor:
    """The value of a map [channel, row, column] at a place, as RoIAlign's paper and code have it:
    the edge goes on by one place, and beyond there is nothing."""
    rows, columns = image.shape[1:]
    if not (-1 <= y <= rows and -1 <= x <= columns):
        return torch.zeros(len(image), dtype=image.dtype)
    y, x = min(max(y, 0), rows - 1), min(max(x, 0), columns - 1)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, rows - 1), min(left + 1, columns - 1)
    v, u = y - top, x - left
    upper = image[:, top, left] * (1 - u) + image[:, top, right] * u
    lower = image[:, bottom, left] * (1 - u) + image[:, bottom, right] * u
    return upper * (1 - v) + lower * v


def align_by_hand(image: Tensor, box: list[float], stride: float, cells: int) -> Tensor:
    x0, y0, x1, y1 = (edge / stride - 0.5 for edge in box)
    height, width = (y1 - y0) / cells, (x1 - x0) / cells
    n, m = math.ceil(height), math.ceil(width)
    pooled = torch.zeros(len(image), cells, cells, dtype=image.dtype)
    for i, j in np.ndindex(cells, cells):
        for k, q in np.ndindex(n, m):
            y, x = y0 + (i + (k + 0.5) / n) * height, x0 + (j + (q + 0.5) / m) * width
            pooled[:, i, j] += bilinear(image, y, x) / (n * m)
    return pooled


def test_features_are_aligned_at_the_level_of_the_regions_size() -> None:
    sides = {4.0: 40, 8.0: 20, 16.0: 10, 32.0: 5}
    generator = torch.Generator().manual_seed(0)
    levels = {
        stride: torch.randn(2, 3, side, side, generator=generator).double()
        for stride, side in sides.items()
    }
    boxes = torch.tensor(
        [
            [3.3, 2.1, 20.0, 31.7],
            [0.0, 0.0, 111.0, 111.0],  # just under 112 px: the second level's last
            [0.0, 0.0, 112.5, 112.5],
            [10.0, 5.0, 160.0, 120.0],
            [-20.0, -9.0, 700.0, 400.0],
            [50.0, 60.0, 50.5, 60.25],
        ]
    ).double()
    images = torch.tensor([0, 1, 0, 1, 0, 1])
    pooled = align(levels, boxes, images, 3)
    for number, stride in enumerate([4.0, 4.0, 8.0, 8.0, 32.0, 4.0]):
        side = (boxes[number, 2:] - boxes[number, :2]).prod().sqrt().item()
        wanted = min(max(math.floor(4 + math.log2(side / 224)), 2), 5)  # FPN's equation 1
        expected_stride = 2.0**wanted
        del stride
        expected = align_by_hand(
            levels[expected_stride][images[number]], boxes[number].tolist(), expected_stride, 3
        )
        torch.testing.assert_close(pooled[number], expected, rtol=1e-9, atol=1e-9)


def test_no_region_has_no_features() -> None:
    level = torch.zeros(1, 3, 4, 4, requires_grad=True)
    pooled = align({4.0: level}, torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), 7)
    assert pooled.shape == (0, 3, 7, 7)
    pooled.sum().backward()
    assert level.grad is not None


# --- masks


def test_mask_targets_are_half_covered_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    objects = [make_objects(5, 11, side=48), make_objects(0, 12), make_objects(3, 13)]
    images = torch.tensor([2, 0, 0, 2, 0])
    numbers = torch.tensor([1, 4, 0, 1, 4])
    boxes = random_boxes(5, 14, 48)
    masks = [image.masks for image in objects]
    targets = crop_targets(masks, boxes, images, numbers, 7)
    for region in range(5):
        mask = masks[images[region]][numbers[region]].double()[None]
        expected = align_by_hand(mask, boxes[region].tolist(), 1.0, 7)[0]
        clear = (expected - 0.5).abs() > 1e-5
        assert torch.equal(targets[region][clear], (expected >= 0.5)[clear])
    assert 0 < targets.sum() < targets.numel()
    monkeypatch.setattr("sslens.models.detection.masks._AT_ONCE", 1)  # one object at a time
    assert torch.equal(crop_targets(masks, boxes, images, numbers, 7), targets)


def paste_by_hand(mask: Tensor, box: Tensor, size: tuple[int, int]) -> Tensor:
    """torch's bilinear sampling of the mask, with zeros outside, at the centres of pixels."""
    x0, y0, x1, y1 = box.double()
    y = (torch.arange(size[0]).double() + 0.5 - y0) / (y1 - y0) * 2 - 1
    x = (torch.arange(size[1]).double() + 0.5 - x0) / (x1 - x0) * 2 - 1
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)[None]
    return F.grid_sample(mask.double()[None, None], grid, align_corners=False)[0, 0]


@pytest.mark.parametrize("at_once", [64, 1 << 24])
@pytest.mark.parametrize("together", [1, 20_000, 1 << 18])
def test_masks_are_drawn_to_the_pixel(
    at_once: int, together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sslens.models.detection.masks._AT_ONCE", at_once)
    monkeypatch.setattr("sslens.models.detection.masks._TOGETHER", together)
    size, generator = (90, 70), torch.Generator().manual_seed(0)
    boxes = random_boxes(12, 15, 70)
    boxes[0] = torch.tensor([-8.0, -5.0, 30.0, 200.0])
    boxes[1] = torch.tensor([80.0, 10.0, 95.0, 20.0])  # outside
    boxes[2] = torch.tensor([20.2, 30.3, 20.4, 30.6])  # between the centres of pixels
    masks = F.interpolate(torch.rand(12, 1, 5, 5, generator=generator), size=28)[:, 0]
    masks[3] = 1
    drawn = paste(masks, boxes, size)
    for mask, box, pixels in zip(masks, boxes, drawn, strict=True):
        expected = paste_by_hand(mask, box, size)
        clear = (expected - 0.5).abs() > 1e-5
        assert torch.equal(pixels[clear], (expected >= 0.5)[clear])
    assert not drawn[1:3].any()
    assert paste(masks[:0], boxes[:0], size).shape == (0, *size)


def test_a_mask_in_a_huge_image_is_drawn_in_parts() -> None:
    mask, box = torch.ones(1, 28, 28), torch.tensor([[100.0, 200.0, 19_900.0, 1_400.0]])
    (drawn,) = paste(mask, box, (1_500, 20_000))
    assert drawn[800].nonzero()[:, 0].tolist() == list(range(100, 19_900))
    assert drawn[:, 9000].nonzero()[:, 0].tolist() == list(range(200, 1_400))
    assert not drawn[:200].any()
    assert not drawn[1_400:].any()


def test_detections_are_resized() -> None:
    boxes = torch.tensor([[10.0, 20.0, 30.0, 40.0], [99.0, 0.0, 120.0, 10.0]])
    found = Detections(
        boxes, torch.tensor([0.9, 0.8]), torch.tensor([1, 0]), torch.zeros(2, 28, 28), (50, 100)
    )
    larger = found.resize((100, 300))
    assert larger.boxes.tolist() == [[30, 40, 90, 80], [297, 0, 300, 20]]
    assert larger.size == (100, 300)
    outside = dataclasses.replace(found, boxes=boxes + torch.tensor([100.0, 0, 100, 0]))
    assert len(outside.resize((50, 100)).labels) == 0
    with pytest.raises(InputError, match="0 × 10"):
        found.resize((0, 10))


# --- the whole


def losses_by_hand(
    heads: Heads, pyramid: dict[str, Tensor], targets: list[Objects], noise: Tensor
) -> dict[str, float]:
    """The losses as the papers state them, object by object, with every choice in plain Python."""
    settings, state = heads.settings, heads.state_dict()
    sums = dict.fromkeys(("objectness", "proposals", "classes", "boxes", "masks"), 0.0)
    regions = masks = 0
    for image, objects in enumerate(targets):
        boxes = objects.boxes.tolist()
        places = list_anchors(heads, pyramid, state, image)
        table = [[overlap_of(box, place["box"]) for box in boxes] for place in places]
        tops = [max(column) for column in zip(*table, strict=True)]
        labels = []
        for row in table:
            best = max(row, default=0.0)
            top = any(value == most > 0 for value, most in zip(row, tops, strict=True))
            labels.append(1 if best >= 0.7 or top else 0 if best < 0.3 else -1)
        ranks = uniform(noise[image : image + 1], len(places))[0].tolist()
        for i in choose(labels, ranks, settings.anchors, settings.positive_anchors):
            sign = 1 if labels[i] else -1
            sums["objectness"] += math.log1p(math.exp(-sign * places[i]["logit"]))
            if labels[i]:
                box = boxes[int(np.argmax(table[i]))]
                code = code_by_hand(box, places[i]["box"], (1, 1, 1, 1))
                pairs = zip(code, places[i]["code"], strict=True)
                sums["proposals"] += sum(abs(a - b) for a, b in pairs)
        proposals = propose_by_hand(places, settings)
        candidates = proposals + boxes
        table = [[overlap_of(box, place) for box in boxes] for place in candidates]
        labels = [int(max(row, default=0.0) >= 0.5) for row in table]
        counts = [3 * level.shape[2] * level.shape[3] for level in pyramid.values()]
        room = min(settings.proposals, sum(min(settings.candidates[0], n) for n in counts))
        ranks = uniform(~noise[image : image + 1], room + len(boxes))[0].tolist()
        ranks = ranks[: len(proposals)] + ranks[room:]
        for i in choose(labels, ranks, settings.regions, settings.positive_regions):
            regions += 1
            owner = int(np.argmax(table[i])) if labels[i] else -1
            label = int(objects.labels[owner]) if labels[i] else heads.classes
            logits, codes = look(state, pool(heads, pyramid, image, candidates[i], 7))
            sums["classes"] += -float(logits.log_softmax(0)[label])
            if labels[i]:
                code = code_by_hand(boxes[owner], candidates[i], (10, 10, 5, 5))
                own = codes.view(-1, 4)[label].tolist()
                sums["boxes"] += sum(abs(a - b) for a, b in zip(code, own, strict=True))
                answer = draw(state, pool(heads, pyramid, image, candidates[i], 14))[label]
                mask = align_by_hand(objects.masks[owner].double()[None], candidates[i], 1.0, 28)[0]
                wanted = (mask >= 0.5).double()
                sums["masks"] += float(F.binary_cross_entropy_with_logits(answer, wanted))
                masks += 1
    total = settings.anchors * len(targets)
    counts = {"objectness": total, "proposals": total, "classes": regions, "boxes": regions}
    return {name: value / (counts | {"masks": masks})[name] for name, value in sums.items()}


def choose(labels: list[int], ranks: list[float], count: int, share: float) -> list[int]:
    order = sorted(range(len(labels)), key=lambda i: ranks[i])
    positive = [i for i in order if labels[i] == 1][: int(count * share)]
    return positive + [i for i in order if labels[i] == 0][: count - len(positive)]


def code_by_hand(box: list[float], origin: list[float], weights: tuple[int, ...]) -> list[float]:
    code = []
    for axis in (0, 1):
        side, reference = box[axis + 2] - box[axis], origin[axis + 2] - origin[axis]
        shift = (box[axis] + box[axis + 2] - origin[axis] - origin[axis + 2]) / 2 / reference
        code.append((shift, math.log(side / reference)))
    values = [code[0][0], code[1][0], code[0][1], code[1][1]]
    return [value * weight for value, weight in zip(values, weights, strict=True)]


def list_anchors(
    heads: Heads, pyramid: dict[str, Tensor], state: dict[str, Tensor], image: int
) -> list[dict[str, object]]:
    places = []
    prefix = "proposal_generator.rpn_head."
    for number, (name, stride) in enumerate(STRIDES.items()):
        x = pyramid[name][image : image + 1]
        for layer in range(heads.settings.proposal_convolutions):
            key = f"{prefix}conv.conv{layer}"
            x = F.conv2d(x, state[f"{key}.weight"], state[f"{key}.bias"], padding=1).relu()
        outputs = [
            F.conv2d(x, state[f"{prefix}{key}.weight"], state[f"{prefix}{key}.bias"])[0]
            for key in ("objectness_logits", "anchor_deltas")
        ]
        for row, column, ratio in np.ndindex(*x.shape[2:], 3):
            shape = heads.settings.aspect_ratios[ratio]
            side = heads.settings.anchor_sizes[0] * stride
            w, h = side / math.sqrt(shape) / 2, side * math.sqrt(shape) / 2
            cx, cy = column * stride, row * stride
            code = outputs[1][4 * ratio : 4 * ratio + 4, row, column].tolist()
            places.append(
                {
                    "level": number,
                    "box": [cx - w, cy - h, cx + w, cy + h],
                    "logit": float(outputs[0][ratio, row, column]),
                    "code": code,
                }
            )
    return places


def propose_by_hand(places: list[dict[str, object]], settings: HeadSettings) -> list[list[float]]:
    stays: list[dict[str, object]] = []
    for level in range(len(STRIDES)):
        mine = sorted((p for p in places if p["level"] == level), key=lambda p: -p["logit"])
        rivals: list[dict[str, object]] = []
        for place in mine[: settings.candidates[0]]:
            box = []
            for axis in (0, 1):
                low, high = place["box"][axis], place["box"][axis + 2]
                centre = (low + high) / 2 + place["code"][axis] * (high - low)
                half = math.exp(min(place["code"][axis + 2], math.log(62.5))) * (high - low) / 2
                box.append([min(max(edge, 0), SIDE) for edge in (centre - half, centre + half)])
            corners = [box[0][0], box[1][0], box[0][1], box[1][1]]
            if corners[2] <= corners[0] or corners[3] <= corners[1]:
                continue
            if all(overlap_of(corners, one["proposal"]) <= 0.7 for one in rivals):
                rivals.append(place | {"proposal": corners})
        stays += rivals
    stays.sort(key=lambda place: -place["logit"])
    return [place["proposal"] for place in stays[: settings.proposals]]


def pool(
    heads: Heads, pyramid: dict[str, Tensor], image: int, box: list[float], cells: int
) -> Tensor:
    side = math.sqrt((box[2] - box[0]) * (box[3] - box[1]))
    names = list(STRIDES)[:-1]
    level = min(max(math.floor(2 + math.log2(side / (56 * STRIDES["p2"]))), 0), 3)
    return align_by_hand(pyramid[names[level]][image], box, STRIDES[names[level]], cells)


def convolve(state: dict[str, Tensor], key: str, x: Tensor) -> Tensor:
    x = F.conv2d(x, state[f"{key}.weight"], padding=1)
    x = (x - x.mean(1, keepdim=True)) / (x.var(1, unbiased=False, keepdim=True) + 1e-6).sqrt()
    x = x * state[f"{key}.norm.weight"].view(-1, 1, 1) + state[f"{key}.norm.bias"].view(-1, 1, 1)
    return x.relu()


def look(state: dict[str, Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    for layer in (1, 2):
        x = convolve(state, f"roi_heads.box_head.conv{layer}", x[None] if x.ndim == 3 else x)
    key = "roi_heads.box_head.fc1"
    x = (state[f"{key}.weight"] @ x.flatten() + state[f"{key}.bias"]).relu()
    key = "roi_heads.box_predictor"
    logits = state[f"{key}.cls_score.weight"] @ x + state[f"{key}.cls_score.bias"]
    return logits, state[f"{key}.bbox_pred.weight"] @ x + state[f"{key}.bbox_pred.bias"]


def draw(state: dict[str, Tensor], x: Tensor) -> Tensor:
    for layer in (1, 2):
        x = convolve(state, f"roi_heads.mask_head.mask_fcn{layer}", x[None] if x.ndim == 3 else x)
    key = "roi_heads.mask_head"
    x = F.conv_transpose2d(x, state[f"{key}.deconv.weight"], state[f"{key}.deconv.bias"], stride=2)
    return F.conv2d(x.relu(), state[f"{key}.predictor.weight"], state[f"{key}.predictor.bias"])[0]


def test_losses_are_those_of_the_equations() -> None:
    heads = lively().double()
    pyramid = {name: level.double() for name, level in make_pyramid(2, TINY.channels).items()}
    boxes = [  # of about an anchor's size: a much smaller or larger object has many best anchors
        [5.2, 7.1, 22.5, 24.2],
        [30.3, 9.6, 39.4, 18.4],
        [20.1, 25.3, 53.2, 58.0],
        [41.7, 40.2, 53.5, 46.1],
    ]
    some, none = make_objects(4, 3), make_objects(0, 4)
    some = dataclasses.replace(some, boxes=torch.tensor(boxes).double())
    targets = [some, dataclasses.replace(none, boxes=none.boxes.double())]
    noise = torch.tensor([5, 6])
    losses = heads.losses(pyramid, [(SIDE, SIDE)] * 2, targets, noise)
    expected = losses_by_hand(heads, pyramid, targets, noise)
    assert min(expected.values()) > 1e-3
    for name, loss in losses.items():
        assert loss.item() == pytest.approx(expected[name], rel=1e-5), name


def test_a_detector_learns_and_finds_what_it_was_shown() -> None:
    """The heads and a pyramid learn one image by heart."""
    torch.manual_seed(0)
    strides = {name: STRIDES[name] for name in ("p3", "p4", "p5")}
    heads = Heads(
        dataclasses.replace(TINY, channels=16, hidden=32, regions=32, anchors=32), 3, strides
    )
    boxes = torch.tensor([[6.0, 8.0, 26.0, 30.0], [30.0, 34.0, 60.0, 56.0]])
    masks = torch.zeros(2, SIDE, SIDE, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes.int().tolist(), strict=True):
        mask[y0:y1, x0:x1] = True
    objects = Objects(boxes, torch.tensor([2, 0]), masks)
    levels = make_pyramid(1, 16)
    pyramid = {name: levels[name].requires_grad_() for name in strides}
    sizes, steps = [(SIDE, SIDE)], 110
    optimiser = torch.optim.Adam([*heads.parameters(), *pyramid.values()], 0.01)
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = 0.01 * (1 - step / steps)
        losses = heads.losses(pyramid, sizes, [objects], sampling_noise(0, step, slice(0, 1), 1))
        optimiser.zero_grad()
        sum(losses.values()).backward()
        optimiser.step()
    (found,) = heads.detect(pyramid, sizes)
    best = {int(label): i for i, label in reversed(list(enumerate(found.labels)))}
    drawn = paste(found.masks, found.boxes, sizes[0])
    for number, label in enumerate((2, 0)):
        assert found.scores[best[label]] > 0.5
        assert overlaps(found.boxes[None, best[label], None], boxes[None, number, None]) > 0.7
        pixels = drawn[best[label]]
        both = (pixels & masks[number]).sum() / (pixels | masks[number]).sum()
        assert both > 0.7


def test_detections_are_bounded_sorted_and_each_images_own() -> None:
    settings = dataclasses.replace(TINY, detections=7, score=0.1)
    heads, pyramid = lively(3, settings), make_pyramid(3, TINY.channels, 5)
    sizes = [(SIDE, SIDE), (40, 50), (64, 30)]
    found = heads.detect(pyramid, sizes)
    for i, (image, size) in enumerate(zip(found, sizes, strict=True)):
        assert len(image.labels) == 7
        assert image.size == size
        assert all(a >= b for a, b in pairwise(image.scores.tolist()))
        assert image.boxes[:, [0, 2]].max() <= size[1]
        assert image.boxes[:, [1, 3]].max() <= size[0]
        assert image.boxes.min() >= 0
        assert image.scores.min() > 0.1
        assert image.masks.shape == (7, 28, 28)
        alone = {name: level[i : i + 1] for name, level in pyramid.items()}
        (single,) = heads.detect(alone, [size])
        torch.testing.assert_close(single.boxes, image.boxes, atol=1e-3, rtol=0)
        assert single.labels.tolist() == image.labels.tolist()


def test_detection_in_parts_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    heads, pyramid, sizes = lively(1), make_pyramid(2, TINY.channels), [(SIDE, SIDE)] * 2
    whole = heads.detect(pyramid, sizes)
    monkeypatch.setattr("sslens.models.detection.heads._REGIONS_AT_ONCE", 7)
    monkeypatch.setattr("sslens.models.detection.heads._MASKS_AT_ONCE", 3)
    for a, b in zip(whole, heads.detect(pyramid, sizes), strict=True):
        assert len(a.labels)
        torch.testing.assert_close(a.boxes, b.boxes, atol=1e-3, rtol=0)
        torch.testing.assert_close(a.masks, b.masks, atol=1e-5, rtol=0)


def test_an_image_without_detections_has_none() -> None:
    heads = Heads(dataclasses.replace(TINY, score=1.0), 3, STRIDES)
    (found,) = heads.detect(make_pyramid(1, TINY.channels), [(SIDE, SIDE)])
    assert found.boxes.shape == (0, 4)
    assert found.masks.shape == (0, 28, 28)


def test_a_step_without_any_object_has_gradients_everywhere() -> None:
    heads, pyramid = lively(), make_pyramid(2, TINY.channels)
    losses = heads.losses(
        pyramid, [(SIDE, SIDE)] * 2, [make_objects(0, 0)] * 2, torch.tensor([0, 1])
    )
    assert losses["masks"] == losses["boxes"] == losses["proposals"] == 0
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in heads.parameters())


def test_heads_without_masks_are_the_others_without_the_mask_head() -> None:
    whole, pyramid = lively(), make_pyramid(2, TINY.channels)
    boxes_alone = Heads(TINY, 3, STRIDES, masks=False)
    weights = {k: v for k, v in whole.state_dict().items() if ".mask_head." not in k}
    boxes_alone.load_state_dict(weights)
    objects = [make_objects(3, seed) for seed in (1, 2)]
    sizes, noise = [(SIDE, SIDE)] * 2, torch.tensor([3, 4])
    expected = whole.losses(pyramid, sizes, objects, noise)
    without = [dataclasses.replace(image, masks=None) for image in objects]
    losses = boxes_alone.losses(pyramid, sizes, without, noise)
    assert losses.keys() == expected.keys() - {"masks"}
    for name, loss in losses.items():
        assert torch.equal(loss, expected[name]), name
    for one, other in zip(
        boxes_alone.detect(pyramid, sizes), whole.detect(pyramid, sizes), strict=True
    ):
        assert one.masks is None
        assert torch.equal(one.boxes, other.boxes)
        assert one.resize((32, 32)).masks is None
    with pytest.raises(InputError, match="The objects have no masks"):
        whole.losses(pyramid, sizes, without, noise)


def test_half_precision_is_kept_out_of_boxes_and_losses() -> None:
    heads, pyramid = lively(), make_pyramid(1, TINY.channels)
    objects, sizes, noise = [make_objects(4, 1)], [(SIDE, SIDE)], torch.tensor([3])
    exact = heads.losses(pyramid, sizes, objects, noise)
    with torch.autocast("cpu", torch.bfloat16):
        losses = heads.losses(pyramid, sizes, objects, noise)
        (found,) = heads.detect(pyramid, sizes)
    assert {loss.dtype for loss in losses.values()} == {torch.float32}
    assert found.boxes.dtype == torch.float32
    for name in ("objectness", "masks"):
        torch.testing.assert_close(losses[name], exact[name], rtol=0.1, atol=0)


def test_the_named_heads_have_detectron2s_parameters() -> None:
    """The names and shapes of ViTDet's ViT-B file for COCO, as its configuration gives them."""
    state = make_heads("vitdet", 80, {f"p{i}": 2.0**i for i in range(2, 7)}).state_dict()
    conv = {"weight": (256, 256, 3, 3), "norm.weight": (256,), "norm.bias": (256,)}
    expected = {
        "proposal_generator.rpn_head.objectness_logits.weight": (3, 256, 1, 1),
        "proposal_generator.rpn_head.objectness_logits.bias": (3,),
        "proposal_generator.rpn_head.anchor_deltas.weight": (12, 256, 1, 1),
        "proposal_generator.rpn_head.anchor_deltas.bias": (12,),
        "roi_heads.box_head.fc1.weight": (1024, 12544),
        "roi_heads.box_head.fc1.bias": (1024,),
        "roi_heads.box_predictor.cls_score.weight": (81, 1024),
        "roi_heads.box_predictor.cls_score.bias": (81,),
        "roi_heads.box_predictor.bbox_pred.weight": (320, 1024),
        "roi_heads.box_predictor.bbox_pred.bias": (320,),
        "roi_heads.mask_head.deconv.weight": (256, 256, 2, 2),
        "roi_heads.mask_head.deconv.bias": (256,),
        "roi_heads.mask_head.predictor.weight": (80, 256, 1, 1),
        "roi_heads.mask_head.predictor.bias": (80,),
    }
    for i in range(2):
        expected[f"proposal_generator.rpn_head.conv.conv{i}.weight"] = (256, 256, 3, 3)
        expected[f"proposal_generator.rpn_head.conv.conv{i}.bias"] = (256,)
    for i in range(1, 5):
        for name, shape in conv.items():
            expected[f"roi_heads.box_head.conv{i}.{name}"] = shape
            expected[f"roi_heads.mask_head.mask_fcn{i}.{name}"] = shape
    assert {name: tuple(value.shape) for name, value in state.items()} == expected


def test_new_weights_begin_as_detectron2s() -> None:
    torch.manual_seed(0)
    state = make_heads("small", 4, STRIDES).state_dict()
    fan_out = math.sqrt(2 / (64 * 9))
    for name, deviation in {
        "proposal_generator.rpn_head.conv.conv0.weight": 0.01,
        "proposal_generator.rpn_head.anchor_deltas.weight": 0.01,
        "roi_heads.box_head.conv1.weight": fan_out,
        "roi_heads.mask_head.mask_fcn2.weight": fan_out,
        "roi_heads.mask_head.deconv.weight": math.sqrt(2 / (64 * 4)),
        "roi_heads.box_head.fc1.weight": math.sqrt(1 / (64 * 49)),
        "roi_heads.box_predictor.cls_score.weight": 0.01,
        "roi_heads.box_predictor.bbox_pred.weight": 0.001,
        "roi_heads.mask_head.predictor.weight": 0.001,
    }.items():
        assert state[name].std().item() == pytest.approx(deviation, rel=0.15), name
    for name, value in state.items():
        if name.endswith("bias"):
            assert not value.any(), name


# --- bad input


def test_what_does_not_fit_is_refused() -> None:
    heads, pyramid = lively(), make_pyramid(2, TINY.channels)
    sizes, noise = [(SIDE, SIDE)] * 2, torch.tensor([0, 1])
    objects = [make_objects(2, 0), make_objects(1, 1)]
    with pytest.raises(InputError, match="lacks p5: it has p2, p3"):
        heads.detect({name: pyramid[name] for name in ("p2", "p3", "p4")}, sizes)
    with pytest.raises(InputError, match="8 channels, and the heads are for 64"):
        make_heads("small", 3, STRIDES).detect(pyramid, sizes)
    with pytest.raises(InputError, match="2 images, and there are 1 sizes"):
        heads.detect(pyramid, sizes[:1])
    with pytest.raises(InputError, match="the objects of 1"):
        heads.losses(pyramid, sizes, objects[:1], noise)
    wrong = dataclasses.replace(objects[0], labels=torch.tensor([0, 3]))
    with pytest.raises(InputError, match="label 3, and the heads know 3"):
        heads.losses(pyramid, sizes, [wrong, objects[1]], noise)
    with pytest.raises(InputError, match="0 classes"):
        make_heads("small", 0, STRIDES)
    with pytest.raises(InputError, match="two levels or more, not 1"):
        make_heads("small", 1, {"p2": 4.0})
    with pytest.raises(InputError, match="did you mean vitdet"):
        make_heads("vitdt", 1, STRIDES)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"channels": 0}, "channels is 0: expected 1 or more"),
        ({"candidates": (0, 5)}, "candidates is 0"),
        ({"positive_anchors": 1.5}, "positive_anchors is 1.5: expected 0 to 1"),
        ({"anchor_sizes": ()}, "anchor_sizes"),
        ({"aspect_ratios": (1.0, -1.0)}, "aspect_ratios"),
    ],
)
def test_settings_that_make_no_sense_are_refused(change: dict[str, object], text: str) -> None:
    with pytest.raises(InputError, match=text):
        dataclasses.replace(TINY, **change)


def test_one_class_and_one_image_are_enough() -> None:
    heads = Heads(TINY, 1, STRIDES)
    objects = make_objects(3, 0, classes=1)
    losses = heads.losses(make_pyramid(1, 8), [(SIDE, SIDE)], [objects], torch.tensor([0]))
    assert all(loss.isfinite() for loss in losses.values())
