"""One pass a model: hooks at the taps feed streaming reducers, and no activation outlives its
minibatch.

A pass yields Grams, Features and Maps. They are looked up in the store by the digests of weights,
images and plan, by the transform, and by the reducer's settings and version, and computed only when
they are not there. All results that are missing for a model are computed in the same pass.
"""

from sslens.capture.feature_reducer import FeatureReducer
from sslens.capture.features import FeatureBlock, Features, open_features
from sslens.capture.gram import CONSTANT, centred_gram
from sslens.capture.gram_reducers import GramReducer, WideGramReducer
from sslens.capture.grams import Grams, require_same_images
from sslens.capture.hooks import activations, visit_taps
from sslens.capture.keys import PassRequest
from sslens.capture.manifest import Column, is_features
from sslens.capture.maps import Grid, MapReducer, Maps
from sslens.capture.passes import collect, find_missing
from sslens.capture.pooling import choose_tokens, pool
from sslens.capture.reducers import Accumulator, Reducer
from sslens.capture.shards import extract

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
