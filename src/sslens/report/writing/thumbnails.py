"""What sheets of small pictures show, in words."""

from sslens.report.writing.numbers import spell_count, spell_level

APART = "Images seen most differently"
ONE_RIGHT = "Images that only one has right"
#: why a page has no pictures of images
NO_IMAGES = (
    "There are no pictures of images: the models are fingerprints, which hold none. With the images"
    " given as {images} there are."
)


def name_similarity(value: float) -> str:
    """Name how alike two models are on an image.

    >>> name_similarity(0.714)
    'cosine 0.71'
    """
    return f"cosine {spell_level(value)}"


def name_only(model: str, count: int, images: int) -> str:
    """Name the images that only one model has right.

    >>> name_only("mae", 12, 1024)
    'only mae right: 12 of 1,024'
    """
    return f"only {model} right: {spell_count(count)} of {spell_count(images)}"
