"""The size of images that commands give to the models they are given."""

from pathlib import Path

from sslens import zoo
from sslens.errors import InputError
from sslens.fingerprint import is_fingerprint


def with_image_size(source: str, image_size: int | None) -> str:
    """Return a source of a model with a size of images, unless it says one; raw pixels have none.

    Args:
        source: the model, as `sslens.load` takes it.
        image_size: the side of the square images in pixels, or None.

    Raises:
        InputError: the size is not 1 or more, or the source is a fingerprint.

    >>> with_image_size("dino_vitb16@name=mine", 448), with_image_size("pixels", 448)
    ('dino_vitb16@name=mine,image_size=448', 'pixels')
    """
    if image_size is None:
        return source
    if image_size < 1:
        raise InputError(
            f"Images of {image_size} px cannot be", mend="give 1 or more as {image_size}"
        )
    if is_fingerprint(Path(source)):
        raise InputError(
            f"{source} is a fingerprint, of images in one size", mend="leave {image_size} out"
        )
    plain, given = zoo.split_options(source)
    if plain == "pixels" or "image_size" in given:
        return source
    options = [f"{key}={value}" for key, value in {**given, "image_size": image_size}.items()]
    return f"{plain}@{','.join(options)}"
