"""Which anchors and regions train: random, and a pure function of a number for each image."""

import torch
from jaxtyping import Bool, Float32, Int, Int64
from torch import Tensor

#: the constants of SplitMix64 (Steele et al., 2014) as signed 64-bit integers
_STEP, _FIRST, _SECOND = -0x61C8864680B583EB, -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15


def uniform(seeds: Int64[Tensor, " image"], places: int) -> Float32[Tensor, "image place"]:
    """Return numbers in [0, 1) for the places of each image: the output number `place` of the
    generator SplitMix64 (Steele et al., 2014, doi:10.1145/2714064.2660195) that starts at the
    image's seed, of which the upper 24 bits are used.

    A number depends on the seed and the place alone, so it is the same on every device, for every
    split of a batch, and for every number of places.

    >>> uniform(torch.tensor([1234567]), 2)  # 6457827717110365317 / 2^64, ...
    tensor([[0.3501, 0.1736]])
    """
    state = seeds.unsqueeze(1) + _STEP * torch.arange(1, places + 1, device=seeds.device)
    state = (state ^ _shift(state, 30)) * _FIRST
    state = (state ^ _shift(state, 27)) * _SECOND
    return _shift(state ^ _shift(state, 31), 40).float() * 2**-24


def _shift(x: Int64[Tensor, "*any"], bits: int) -> Int64[Tensor, "*any"]:
    """Shift to the right and fill with zeros; torch's shift of a negative number fills with
    ones."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def sample(
    noise: Float32[Tensor, "image place"],
    positive: Bool[Tensor, "image place"],
    negative: Bool[Tensor, "image place"],
    count: int,
    share: float,
) -> tuple[
    tuple[Int[Tensor, "image _"], Bool[Tensor, "image _"]],
    tuple[Int[Tensor, "image _"], Bool[Tensor, "image _"]],
]:
    """Choose `count` places of each image, and of these at most `share` positive ones.

    The positive ones with the smallest noise are taken, then as many negative ones as are still
    missing; fewer where there are too few.

    Returns:
        for the positive and for the negative ones the places, and which of them are taken (the
        rest is padding).

    >>> noise = torch.tensor([[0.1, 0.2, 0.3, 0.4]])
    >>> positive = torch.tensor([[False, True, True, False]])
    >>> (chosen, taken), (others, also) = sample(noise, positive, ~positive, count=3, share=0.4)
    >>> chosen[taken].tolist(), others[also].tolist()
    ([1], [0, 3])
    """
    most, places = int(count * share), noise.shape[1]
    keys, chosen = noise.where(positive, 2.0).topk(min(most, places), dim=1, largest=False)
    taken = keys < 1
    keys, others = noise.where(negative, 2.0).topk(min(count, places), dim=1, largest=False)
    missing = count - taken.sum(dim=1, keepdim=True)
    rank = torch.arange(keys.shape[1], device=keys.device)
    return (chosen, taken), (others, (keys < 1) & (rank < missing))
