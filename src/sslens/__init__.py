"""What did this training objective put into my vision backbone, where is it, and what should I do
with it?

>>> import sslens
>>> model = sslens.load("random:vit_nano_patch8_32")
>>> images = sslens.open_images("scenes:0:64")
>>> grams = sslens.grams(model, images)
>>> cka = sslens.minibatch_cka(grams, grams)
>>> cka.shape  # four taps a block and the final norm, with themselves
(17, 17)

`sslens.compare(models, images)` does the whole of it, and answers in a table.
"""

from typing import TYPE_CHECKING

from sslens.find import lazy_names

if TYPE_CHECKING:
    from sslens.capture import activations as activations
    from sslens.capture import extract as extract
    from sslens.capture import open_features as open_features
    from sslens.capture.passes import features as features
    from sslens.capture.passes import grams as grams
    from sslens.data import ImageSet as ImageSet
    from sslens.data import open_images as open_images
    from sslens.data.transform import EvalTransform as EvalTransform
    from sslens.errors import InputError as InputError
    from sslens.measures.cka import minibatch_cka as minibatch_cka
    from sslens.study import Result as Result
    from sslens.study import Study as Study
    from sslens.study.comparing import cka as cka
    from sslens.study.comparing import compare as compare
    from sslens.study.measuring import fingerprint as fingerprint
    from sslens.study.measuring import knn as knn
    from sslens.study.measuring import path as path
    from sslens.study.measuring import probe as probe
    from sslens.zoo import load as load
    from sslens.zoo.wrapping import wrap as wrap

__version__ = "0.1.0"

# torch and timm take seconds to import: a name is fetched from its module when it is first used
_HOME = {
    "activations": "sslens.capture",
    "extract": "sslens.capture",
    "features": "sslens.capture.passes",
    "grams": "sslens.capture.passes",
    "open_features": "sslens.capture",
    "EvalTransform": "sslens.data.transform",
    "ImageSet": "sslens.data",
    "open_images": "sslens.data",
    "InputError": "sslens.errors",
    "minibatch_cka": "sslens.measures.cka",
    "Result": "sslens.study",
    "Study": "sslens.study",
    "cka": "sslens.study.comparing",
    "compare": "sslens.study.comparing",
    "fingerprint": "sslens.fingerprint",  # the package, which can be called like the function
    "knn": "sslens.study.measuring",
    "path": "sslens.study.measuring",
    "probe": "sslens.study.measuring",
    "load": "sslens.zoo",
    "wrap": "sslens.zoo.wrapping",
}
__all__ = [
    "EvalTransform",
    "ImageSet",
    "InputError",
    "Result",
    "Study",
    "activations",
    "cka",
    "compare",
    "extract",
    "features",
    "fingerprint",
    "grams",
    "knn",
    "load",
    "minibatch_cka",
    "open_features",
    "open_images",
    "path",
    "probe",
    "wrap",
]


__getattr__ = lazy_names(__name__, _HOME)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
