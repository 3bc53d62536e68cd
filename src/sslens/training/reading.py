"""How an encoder is read in the course of its training: a copy of it, in evaluation mode."""

import copy

from torch import nn

from sslens.data.transform import EvalTransform
from sslens.models import networks
from sslens.models.about import About
from sslens.models.backbone import Backbone
from sslens.models.transformers import set_explicit_attention


def copy_encoder(encoder: nn.Module, transform: EvalTransform) -> Backbone:
    """Copy an encoder as a Backbone in evaluation mode, which computes attention as the encoder's
    file does when it is loaded; the encoder is not changed, and no random number is drawn.

    Args:
        encoder: a network of a class that is known here.
        transform: how images are prepared for it.
    """
    network = networks.prepare(copy.deepcopy(encoder)).eval()
    set_explicit_attention(network, False)
    return Backbone(
        network,
        name="encoder",
        source="training",
        taps=networks.list_taps(network),
        transform=transform,
        prefix=networks.count_prefix_tokens(network),
        about=About(),
    )
