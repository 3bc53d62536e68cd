"""What sheets of small pictures show, in words."""

from sslens.report.writing.numbers import spell_count

APART = "Images seen most differently, by cosine"
ONE_RIGHT = "Images that only one has right"
NEIGHBOURS = "Nearest neighbours by layer"
#: why a page has no pictures of images
NO_IMAGES = (
    "There are no pictures of images: the models are fingerprints, which hold none. With the images"
    " given as {images} there are."
)


def name_layer(tap: str, same: int, shown: int) -> str:
    """Name a layer, with how many of the neighbours there have the class of the image.

    >>> name_layer("blocks.3", 4, 5)
    'blocks.3: 4 of 5 of its class'
    """
    return f"{tap}: {spell_count(same)} of {spell_count(shown)} of its class"


def name_only(model: str, count: int, images: int) -> str:
    """Name the images that only one model has right.

    >>> name_only("mae", 12, 1024)
    'only mae right: 12 of 1,024'
    """
    return f"only {model} right: {spell_count(count)} of {spell_count(images)}"
