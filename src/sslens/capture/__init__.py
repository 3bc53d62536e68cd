"""One pass a model: hooks at the taps feed streaming reducers, and no activation outlives its
minibatch.

A pass yields Grams, Features and Maps. They are looked up in the store by the digests of weights,
images and plan, by the transform, and by the reducer's settings and version, and computed only when
they are not there. All results that are missing for a model are computed in the same pass.
"""

from typing import TYPE_CHECKING

from sslens.find import lazy_names

if TYPE_CHECKING:
    from sslens.capture.feature_reducer import FeatureReducer as FeatureReducer
    from sslens.capture.features import FeatureBlock as FeatureBlock
    from sslens.capture.features import Features as Features
    from sslens.capture.features import open_features as open_features
    from sslens.capture.gram import CONSTANT as CONSTANT
    from sslens.capture.gram import centred_gram as centred_gram
    from sslens.capture.gram_reducers import GramReducer as GramReducer
    from sslens.capture.gram_reducers import WideGramReducer as WideGramReducer
    from sslens.capture.grams import Grams as Grams
    from sslens.capture.grams import require_same_images as require_same_images
    from sslens.capture.hooks import activations as activations
    from sslens.capture.hooks import visit_taps as visit_taps
    from sslens.capture.keys import PassRequest as PassRequest
    from sslens.capture.manifest import Column as Column
    from sslens.capture.manifest import is_features as is_features
    from sslens.capture.maps import Grid as Grid
    from sslens.capture.maps import MapReducer as MapReducer
    from sslens.capture.maps import Maps as Maps
    from sslens.capture.passes import collect as collect
    from sslens.capture.passes import find_missing as find_missing
    from sslens.capture.pooling import choose_tokens as choose_tokens
    from sslens.capture.pooling import pool as pool
    from sslens.capture.reducers import Accumulator as Accumulator
    from sslens.capture.reducers import Reducer as Reducer
    from sslens.capture.shards import extract as extract

__all__ = [
    "CONSTANT",
    "Accumulator",
    "Column",
    "FeatureBlock",
    "FeatureReducer",
    "Features",
    "GramReducer",
    "Grams",
    "Grid",
    "MapReducer",
    "Maps",
    "PassRequest",
    "Reducer",
    "WideGramReducer",
    "activations",
    "centred_gram",
    "choose_tokens",
    "collect",
    "extract",
    "find_missing",
    "is_features",
    "open_features",
    "pool",
    "require_same_images",
    "visit_taps",
]

# torch takes seconds to import: a refusal that needs no activation must not pay it
__getattr__ = lazy_names(
    __name__,
    {
        "Accumulator": "sslens.capture.reducers",
        "CONSTANT": "sslens.capture.gram",
        "Column": "sslens.capture.manifest",
        "FeatureBlock": "sslens.capture.features",
        "FeatureReducer": "sslens.capture.feature_reducer",
        "Features": "sslens.capture.features",
        "GramReducer": "sslens.capture.gram_reducers",
        "Grams": "sslens.capture.grams",
        "Grid": "sslens.capture.maps",
        "MapReducer": "sslens.capture.maps",
        "Maps": "sslens.capture.maps",
        "PassRequest": "sslens.capture.keys",
        "Reducer": "sslens.capture.reducers",
        "WideGramReducer": "sslens.capture.gram_reducers",
        "activations": "sslens.capture.hooks",
        "centred_gram": "sslens.capture.gram",
        "choose_tokens": "sslens.capture.pooling",
        "collect": "sslens.capture.passes",
        "extract": "sslens.capture.shards",
        "find_missing": "sslens.capture.passes",
        "is_features": "sslens.capture.manifest",
        "open_features": "sslens.capture.features",
        "pool": "sslens.capture.pooling",
        "require_same_images": "sslens.capture.grams",
        "visit_taps": "sslens.capture.hooks",
    },
)
