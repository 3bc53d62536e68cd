"""Images: from wherever the user has them, checked, in a fixed order, with ids."""

from typing import TYPE_CHECKING

from sslens.find import lazy_names

if TYPE_CHECKING:
    from sslens.data.images import ImageSet as ImageSet
    from sslens.data.opening import open_images as open_images

__all__ = ["ImageSet", "open_images"]

# a name is fetched when it is first used, so that `sslens.data.sources` is there without NumPy
__getattr__ = lazy_names(
    __name__, {"ImageSet": "sslens.data.images", "open_images": "sslens.data.opening"}
)
