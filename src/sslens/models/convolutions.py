"""The taps of ResNets and ConvNeXts, and how such a network is made ready to be read."""

from collections.abc import Iterator

from jaxtyping import Float
from timm.models.convnext import ConvNeXt
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from torch import Tensor, nn

from sslens.models.taps import Tap


def drop_head(network: ConvNeXt) -> None:
    """Remove the normalisation after the pooling: no feature passes through it, and FCMAE never
    trained it."""
    network.head = nn.Identity()


def begin_small(network: ResNet) -> ResNet:
    """Replace in place the layers before a ResNet's first stage, so that small images are not made
    smaller there: one 3 × 3 convolution of stride 1 and no pooling; returns the network.

    The network is built with timm's deep stem, so that its first normalisation is as wide as the
    first stage.
    """
    kernel = nn.Conv2d(3, network.bn1.num_features, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(kernel.weight, mode="fan_out", nonlinearity="relu")
    network.conv1, network.maxpool = kernel, nn.Identity()
    return network


def list_taps(network: ResNet | ConvNeXt) -> Iterator[Tap]:
    """Yield the taps of a CNN in the order of computation; a tap in block i of L (over all stages)
    has the depth (i + 1) / L.

    The taps are the stem (after its pooling or normalisation), every residual block, and `mlp.fc1`
    in ConvNeXt's blocks. Outputs are [image, channel, height, width]; those of a linear `fc1` have
    the channels last. A ConvNeXt block's normalisation stands before the MLP. So it is not called
    "norm1", the name of a norm before the mixing of places. No output is overwritten after a tap
    has read it: a ResNet adds and rectifies in place, but only within one block.
    """
    if isinstance(network, ResNet):
        yield Tap("maxpool", "stem", 0.0)
        stages = [f"layer{i + 1}" for i in range(4)]
    else:
        yield Tap("stem", "stem", 0.0)
        stages = [f"stages.{i}.blocks" for i in range(len(network.stages))]
    blocks = [f"{stage}.{i}" for stage in stages for i in range(len(network.get_submodule(stage)))]
    for i, block in enumerate(blocks):
        depth = (i + 1) / len(blocks)
        if isinstance(network, ConvNeXt):
            yield Tap(f"{block}.mlp.fc1", "fc1", depth)
        yield Tap(block, "block", depth)
    if isinstance(network, ConvNeXt) and not isinstance(network.norm_pre, nn.Identity):
        yield Tap("norm_pre", "norm", 1.0)


def start_at_identity(network: ResNet) -> None:
    """Set the last normalisation of every residual branch to zero, so that each block returns its
    input, as MoCo-v3 begins."""
    for module in network.modules():
        if isinstance(module, BasicBlock | Bottleneck):
            module.zero_init_last()


def pool(
    network: ResNet | ConvNeXt, images: Float[Tensor, "*image 3 size size"]
) -> Float[Tensor, "*image channel"]:
    """Return the mean of the last features over all places, which is what a ResNet's classifier
    sees."""
    features: Tensor = network.forward_features(images.flatten(0, -4))
    return features.mean((2, 3)).unflatten(0, images.shape[:-3])
