"""A model's Grams over a set of images as one file of a few MB, comparable later with models that
were never on the same machine.

`write` makes it and `read` takes it in again, strictly; `Conditions` say what the model was shown,
and `require_comparable` refuses two models that were shown different things. What the file holds,
so that others can write one: docs/fingerprints.md.
"""

from sslens.fingerprint.conditions import Conditions, remarks, require_comparable
from sslens.fingerprint.file import Described, Fingerprint, describe, is_fingerprint, read, write

__all__ = [
    "Conditions",
    "Described",
    "Fingerprint",
    "describe",
    "is_fingerprint",
    "read",
    "remarks",
    "require_comparable",
    "write",
]
