"""The settings of a detection."""

from dataclasses import dataclass, field

from sslens.errors import InputError
from sslens.methods.settings import require_bounds
from sslens.models.detection.settings import find_settings


@dataclass(frozen=True)
class Settings:
    """The settings of a detection; the defaults are those of ViTDet's released code for a ViT-B on
    COCO, where it has them.

    | | papers, appendix B.7 | released code, ViT-B | here |
    |---|---|---|---|
    | lr | – | 1e-4 for 64 images | base lr 4e-4, of 256 images |
    | weight decay, betas | – | 0.1, (0.9, 0.999) | the code's |
    | batch, epochs | – | 64, 100 | the code's |
    | warm-up, then × 0.1 | – | 250 steps; at 88.9 %, 96.3 % | the code's, as shares |
    | layer decay, drop path | – | 0.7, 0.1 | the code's, end to end |
    | image | – | 1024 px, jitter 0.1 – 2 | end to end; frozen: three fixed scales |
    | windows, relative positions | – | 14, global after each quarter | the code's, end to end |
    | heads | Mask R-CNN | 2-conv RPN, 4conv1fc, LN | `vitdet` |

    Biases of the network and everything in pyramid and heads are decayed; the network's norms,
    positions and CLS token are not.

    Attributes:
        heads: the name of the heads, "vitdet" or "small".
        blocks: the blocks, counted from 0, after which the maps are read and concatenated; the last
            one unless given. A CNN is read after its four stages.
        tuned: whether the network is trained too.
        size: side in pixels of the square that an image is fitted into.
        scales: the sides of the squares of which maps are kept, as shares of `size`; frozen only.
        flip: whether images are also seen mirrored.
        jitter: the range of the random scales of an image; end to end only.
        window: side in places of the windows of attention, 0 for none; end to end only.
        relative: whether attention learns relative positions; end to end only.
        milestones: the shares of the training after which the learning rate is a tenth.
        classes: the names of the categories, which come from the images.
    """

    heads: str = "vitdet"
    blocks: tuple[int, ...] = ()
    tuned: bool = False
    size: int = 1024
    scales: tuple[float, ...] = (0.5, 0.75, 1.0)
    flip: bool = True
    jitter: tuple[float, float] = (0.1, 2.0)
    window: int = 14
    relative: bool = True
    layer_decay: float = 0.7
    drop_path: float = 0.1
    base_lr: float = 4e-4
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.999)
    warmup: float = 250 / 184375
    milestones: tuple[float, ...] = (163889 / 184375, 177546 / 184375)
    optimiser: str = "adamw"
    classes: tuple[str, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        find_settings(self.heads)
        require_bounds(
            self,
            above_0=("layer_decay", "size"),
            below_1=("drop_path",),
            shares=("layer_decay",),
            counts=("window",),
        )
        if not self.scales or min(self.scales) <= 0 or not 0 < self.jitter[0] <= self.jitter[1]:
            raise InputError(
                f"The scales are {self.scales} and the jitter is {self.jitter}: expected numbers"
                " above 0, and a range that rises."
            )
        if list(self.blocks) != sorted(set(self.blocks)) or min(self.blocks, default=0) < 0:
            raise InputError(
                f"The blocks are {', '.join(map(str, self.blocks))}: expected different numbers"
                " from 0 on, in rising order."
            )
