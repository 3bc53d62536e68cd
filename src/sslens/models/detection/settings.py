"""The sizes of the heads, and the two sets of them that have a name."""

from dataclasses import dataclass

from sslens.errors import InputError, nearest


@dataclass(frozen=True)
class HeadSettings:
    """What a detector's heads are made of and how they are trained.

    | | ViTDet's code (ViT-B, COCO) | `vitdet` | `small` |
    |---|---|---|---|
    | channels of the pyramid and of every convolution | 256 | 256 | 64 |
    | convolutions: proposals, boxes, masks | 2, 4, 4 | 2, 4, 4 | 2, 2, 2 |
    | width of the fully connected layer | 1024 | 1024 | 256 |
    | side of an anchor of ratio 1 | 8 strides | 8 strides | 4 strides |
    | anchors that train the proposals, positive ones at most | 256, ½ | 256, ½ | 64, ½ |
    | proposals a level before suppression: training, detecting | 2000, 1000 | the same | 256, 256 |
    | proposals an image after it | 1000 | 1000 | 256 |
    | regions that train boxes and masks, positive ones at most | 512, ¼ | 512, ¼ | 64, ¼ |
    | score, overlap and number of detections an image | 0.05, 0.5, 100 | the same | the same |

    `small` is for scenes of 64 px with objects of 8 to 52 px and for other small images: anchors of
    8, 16, 32, 64 and 128 px at strides of 2 to 32 px.

    Args:
        channels: channels of the pyramid's levels and of the heads' convolutions.
        proposal_convolutions: 3 × 3 convolutions before the two outputs for proposals.
        box_convolutions: 3 × 3 convolutions with norm of the box head.
        mask_convolutions: 3 × 3 convolutions with norm of the mask head.
        hidden: width of the box head's fully connected layer.
        anchor_sizes: sides of the anchors at each place, in strides of their level.
        aspect_ratios: heights over widths of the anchors at each place.
        anchors: anchors of an image that train the proposals.
        positive_anchors: the largest share of positive ones among them.
        candidates: best proposals of a level before suppression: in training, in detecting.
        proposals: best proposals of an image after suppression.
        proposal_overlap: the IoU above which the worse of two proposals of a level is dropped.
        regions: regions of an image that train boxes and masks.
        positive_regions: the largest share of positive ones among them.
        score: the score that a detection must exceed.
        overlap: the IoU above which the worse of two detections of a class is dropped.
        detections: the most detections of an image.

    Raises:
        InputError: a number is below 1, a share or an overlap is outside of 0 to 1, or there is no
            anchor.

    >>> NAMED["small"].channels, NAMED["vitdet"].hidden
    (64, 1024)
    """

    channels: int = 256
    proposal_convolutions: int = 2
    box_convolutions: int = 4
    mask_convolutions: int = 4
    hidden: int = 1024
    anchor_sizes: tuple[float, ...] = (8.0,)
    aspect_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    anchors: int = 256
    positive_anchors: float = 0.5
    candidates: tuple[int, int] = (2000, 1000)
    proposals: int = 1000
    proposal_overlap: float = 0.7
    regions: int = 512
    positive_regions: float = 0.25
    score: float = 0.05
    overlap: float = 0.5
    detections: int = 100

    def __post_init__(self) -> None:
        counts = {
            name: getattr(self, name)
            for name in (
                "channels",
                "proposal_convolutions",
                "box_convolutions",
                "mask_convolutions",
                "hidden",
                "anchors",
                "proposals",
                "regions",
                "detections",
            )
        }
        for name, number in {**counts, "candidates": min(self.candidates)}.items():
            if number < 1:
                raise InputError(f"The heads' setting {name} is {number}: expected 1 or more.")
        for name in (
            "positive_anchors",
            "positive_regions",
            "proposal_overlap",
            "score",
            "overlap",
        ):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(
                    f"The heads' setting {name} is {getattr(self, name)}: expected 0 to 1."
                )
        for name in ("anchor_sizes", "aspect_ratios"):
            if not getattr(self, name) or min(getattr(self, name)) <= 0:
                raise InputError(
                    f"The heads' setting {name} is {getattr(self, name)}: expected one or more"
                    " numbers above 0."
                )


#: heads by name: ViTDet's, for parity and COCO, and small ones for scenes and other small images
NAMED = {
    "vitdet": HeadSettings(),
    "small": HeadSettings(
        channels=64,
        box_convolutions=2,
        mask_convolutions=2,
        hidden=256,
        anchor_sizes=(4.0,),
        anchors=64,
        candidates=(256, 256),
        proposals=256,
        regions=64,
    ),
}


def find_settings(name: str) -> HeadSettings:
    """Return the settings of the heads of a name.

    Raises:
        InputError: there are no such heads; the message offers the nearest names.

    >>> find_settings("smal")
    Traceback (most recent call last):
    sslens.errors.InputError: There are no heads "smal": did you mean small?...
    """
    if name not in NAMED:
        raise InputError(f'There are no heads "{name}": {nearest(name, list(NAMED))}')
    return NAMED[name]
