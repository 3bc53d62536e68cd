"""Learning rates by layer: the further a layer is below the classifier, the slower it learns."""

from timm.models.convnext import ConvNeXt
from torch import nn

from sslens.models import networks

#: what stands after the last block
_AFTER = ("norm.", "fc_norm.", "head")


def layer_scales(network: nn.Module, decay: float) -> dict[str, float]:
    """Return the factor of each parameter's learning rate: decay^(L − i) in block i of L, from 0
    (Clark et al., 2020, arXiv:2003.10555; MAE).

    Parameters after the last block, such as the final norm, have the factor 1. Patch embedding, CLS
    and other tokens before the patches, positions and a CNN's stem have decay^(L + 1). A CNN's
    downsampling between stages has the factor of the block after it. timm's own grouping differs in
    one point: where the classifier sees the CLS token, it gives the final norm the factor of the
    last block.

    >>> from sslens.models.vit import ViTArch
    >>> scales = layer_scales(ViTArch.parse("vit_nano_patch8_32").build(), 0.5)
    >>> names = "norm.weight", "blocks.3.mlp.fc1.bias", "blocks.0.norm1.weight", "pos_embed"
    >>> [scales[name] for name in names]
    [1.0, 0.5, 0.0625, 0.03125]
    """
    blocks = [tap.name for tap in networks.list_taps(network) if tap.kind == "block"]
    return {name: decay ** _below(name, blocks, network) for name, _ in network.named_parameters()}


def _below(name: str, blocks: list[str], network: nn.Module) -> int:
    """How many steps of layers a parameter lies under the classifier."""
    for number, block in enumerate(blocks):
        if name.startswith(f"{block}."):
            return len(blocks) - number
    if name.startswith(_AFTER) or (name.startswith("norm_pre.") and isinstance(network, ConvNeXt)):
        return 0
    if name.startswith("stages."):  # a ConvNeXt's downsampling
        stage = ".".join(name.split(".")[:2])
        return len(blocks) - next(
            i for i, block in enumerate(blocks) if block.startswith(f"{stage}.")
        )
    return len(blocks) + 1
