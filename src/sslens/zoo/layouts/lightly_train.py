"""lightly-train: networks in wrappers, `embedding_model.wrapped_model.`, of a student, a teacher or
a momentum twin."""

from sslens.zoo.claim import Claim
from sslens.zoo.claiming import claim_trainer
from sslens.zoo.files import Contents
from sslens.zoo.trunks import find_trunks

TITLE = "lightly-train"
WRAPPER = "wrapped_model."


def claim(contents: Contents) -> Claim | None:
    """Claim a file with networks under `…embedding_model….wrapped_model.`.

    A checkpoint of lightly-train also holds the models as objects, which are never built; sslens
    doctor writes the weights of such a file alone. The exported model is flat, and the layout
    of its names claims it.
    """
    trunks = [t for t in find_trunks(contents.states) if WRAPPER in t.prefix]
    if not trunks:
        return None
    return claim_trainer(
        contents,
        method=TITLE,
        signs=(f"its networks are called {' and '.join(map(str, trunks))}",),
    )
