"""One pass a model: hooks at the taps feed streaming reducers, and no activation outlives its
minibatch.

What a pass yields is an artefact. It is looked up in the store by the digests of weights, images
and plan, by the transform, and by the reducer's settings and version, and computed only when it is
not there. All artefacts of a model that are missing are computed in the same pass.
"""

from sslens.capture.artefact import Artefact, key_of
from sslens.capture.gram import CONSTANT, centred_gram
from sslens.capture.grams import from_features, require_same_images
from sslens.capture.hooks import activations, tapped
from sslens.capture.manifest import is_features
from sslens.capture.passes import collect, features, grams
from sslens.capture.reducers import Features, Grams, Reducer, Wide, choose_tokens, pooled
from sslens.capture.shards import extract
from sslens.capture.stored import Block, FeatureStore, in_memory, open_features

__all__ = [
    "CONSTANT",
    "Artefact",
    "Block",
    "FeatureStore",
    "Features",
    "Grams",
    "Reducer",
    "Wide",
    "activations",
    "centred_gram",
    "choose_tokens",
    "collect",
    "extract",
    "features",
    "from_features",
    "grams",
    "in_memory",
    "is_features",
    "key_of",
    "open_features",
    "pooled",
    "require_same_images",
    "tapped",
]
