"""`sslens blur-faces`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from sslens.arguments.options import Text

GROUP = "images"


@dataclass(frozen=True)
class Command:
    """Blur the faces in images: copies go to another folder, and a list of boxes says where.

    Subfolders, names and formats stay, and images without a face are copied as they are. The blur
    has no seam: the boxes' mask is blurred too, as in the face-blurred ImageNet. The same command
    goes on where it was stopped. Beside the images is a manifest, blurred.jsonl, with the digest of
    each; a study with require_blurred: true takes no other images. No faces are looked for: boxes
    come from a list such as ImageNet's, or from a detector.

    Examples:
      sslens blur-faces imagenet/train --boxes face_annotations_ILSVRC.json --orientation stored
      sslens blur-faces photos --boxes faces.csv -o blurred --dry-run
      sslens compare mae_vitb16 dino_vitb16 --images photos_blurred --require-blurred
    """

    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DIR")]
    """A folder of images, with or without subfolders; nothing in it is changed."""
    boxes: Path | None = None
    """The faces: JSON in the format of ImageNet's list, [{"url": …, "bboxes": [{"x0": …, "y0": …,
    "x1": …, "y1": …}]}], or CSV with the columns image, x0, y0, x1, y1; in pixels."""
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """The folder for the blurred images; DIR_blurred unless given."""
    orientation: Literal["upright", "stored"] | None = None
    """Whether boxes are of images as a viewer shows them or as they are stored (ImageNet's); needed
    where EXIF turns an image with faces."""
    unlisted: Literal["stop", "copy"] = "stop"
    """What to do with an image that the list does not have: stop, or take it as showing no
    face."""
    on_bad: Literal["stop", "skip"] = "stop"
    """What to do with an image that cannot be decoded, or has a bad box, and with a name in the
    list that no image has: stop, or leave it out."""
    dry_run: bool = False
    """Check the images and the boxes, say what would be done, and stop."""


def run(command: Command, line: str, say: Text) -> Path | None:
    """Carry it out; returns the path of the manifest."""
    from sslens.data.faces.folder import BlurRequest, blur_folder

    asked = {name: value for name, value in vars(command).items() if name != "dry_run"}
    return blur_folder(BlurRequest(**asked), dry_run=command.dry_run, say=say)
