"""The mean-centred Gram of features, in one reading of them."""

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from sslens.processes import gains_by_onednn

#: columns of a Gram's operand that are centred and multiplied at a time, two such parts a thread:
#: with 32 images 0.5 MB, which stay in its cache; no power of two, with which all rows of a column
#: would fall into one set of the cache (25 % slower)
COLUMNS = 2064
#: the same where oneDNN multiplies, which gains by wider parts (10 to 30 %)
WIDER = 5160
#: values of a Gram's operand that are centred and multiplied at a time on a GPU: 256 MB
ELEMENTS = 2**26
#: features that vary over images by less than this share of their size carry rounding only: float32
#: has 24 bits, 2⁻²⁴ ≈ 6e-8
CONSTANT = 4e-6


def centred_gram(
    x: Float[Tensor, "image feature"], device: torch.device | None = None
) -> tuple[Float64[Tensor, "image image"], Float64[Tensor, ""]]:
    """Compute the Gram K = (X − 1μᵀ)(X − 1μᵀ)ᵀ of float32 features about their mean μ over images,
    and the energy n‖μ‖².

    No estimate of this package depends on the centring, but without it a large common offset would
    use up the digits of a float32 product. Products are float32; sums over blocks of columns are
    float64. The blocks are computed on `device`, or on the device of `x` unless given.

    >>> gram, energy = centred_gram(torch.tensor([[30.0, 1.0], [31.0, 3.0]]))
    >>> gram.tolist(), energy.item()  # ±(0.5, 1) about (30.5, 2): 2 · (30.5² + 2²)
    ([[1.25, -1.25], [-1.25, 1.25]], 1868.5)
    """
    n, features = x.shape
    device = device or x.device
    columns = WIDER if gains_by_onednn() else COLUMNS
    parts = 2 * torch.get_num_threads()
    if device.type != "cpu":
        columns, parts = max(1, min(features, ELEMENTS // n)), 1
    parts = max(1, min(parts, features // columns))
    place = torch.empty(
        parts, n, columns, device=device
    )  # written over and over: a new one a block is 20 % slower
    grams, energies = [], []
    with torch.autocast(device.type, enabled=False):  # which would multiply in bfloat16
        for block in x.detach().split(parts * columns, dim=1):
            whole = block.shape[1] == parts * columns
            part = block.to(device).float().view(n, parts if whole else 1, -1).transpose(0, 1)
            total = part.sum(1, keepdim=True)
            centred = torch.sub(part, total, alpha=1 / n, out=place if whole else None)
            grams.append(torch.bmm(centred, centred.mT))
            energies.append(total.square().sum())
    return (
        torch.cat(grams).sum(0, dtype=torch.float64),
        torch.stack(energies).sum(dtype=torch.float64) / n,
    )
