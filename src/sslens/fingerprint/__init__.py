"""A model's Grams over a set of images as one file of a few MB, comparable later with models that
were never on the same machine.

`write` makes it and `read` takes it in again, strictly; `Conditions` say what the model was shown,
and `require_comparable` refuses two models that were shown different things. What the file holds,
so that others can write one: docs/fingerprints.md. `sslens.fingerprint(model, images)` makes one.
"""

from typing import TYPE_CHECKING

from sslens.find import lazy_names, make_callable

if TYPE_CHECKING:
    from sslens.fingerprint.conditions import Conditions as Conditions
    from sslens.fingerprint.conditions import remarks as remarks
    from sslens.fingerprint.conditions import require_comparable as require_comparable
    from sslens.fingerprint.file import Described as Described
    from sslens.fingerprint.file import Fingerprint as Fingerprint
    from sslens.fingerprint.file import describe as describe
    from sslens.fingerprint.file import read as read
    from sslens.fingerprint.file import write as write
    from sslens.fingerprint.header import is_fingerprint as is_fingerprint

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

#: what a call of the package calls
CALLED = "sslens.study.measuring:fingerprint"
make_callable(__name__)

# a name is fetched when it is first used: whether a file is a fingerprint is asked at every start
__getattr__ = lazy_names(
    __name__,
    {
        "Conditions": "sslens.fingerprint.conditions",
        "Described": "sslens.fingerprint.file",
        "Fingerprint": "sslens.fingerprint.file",
        "describe": "sslens.fingerprint.file",
        "is_fingerprint": "sslens.fingerprint.header",
        "read": "sslens.fingerprint.file",
        "remarks": "sslens.fingerprint.conditions",
        "require_comparable": "sslens.fingerprint.conditions",
        "write": "sslens.fingerprint.file",
    },
)
