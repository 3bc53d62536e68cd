"""stable-pretraining: `backbone` or `encoder`, alone or as `teacher` and `student`, with callbacks'
modules beside."""

import re

from sslens.zoo.claim import Claim
from sslens.zoo.claiming import claim_trainer
from sslens.zoo.files import Contents
from sslens.zoo.trunks import find_trunks

TITLE = "stable-pretraining"
_PAIR = re.compile(r"(.*\.)?(backbone|encoder|model)\.(teacher|student)\.(.*\.)?")
_CALLBACKS = ("callbacks_modules.", "callbacks_metrics.")


def claim(contents: Contents) -> Claim | None:
    """Claim a file with `backbone.teacher.` and `backbone.student.`, or with the modules that
    stable-pretraining's callbacks keep; the teacher is taken."""
    trunks = find_trunks(contents.states)
    paired = [trunk for trunk in trunks if _PAIR.fullmatch(trunk.prefix)]
    keys = (key for weights in contents.states.values() for key in weights)
    kept = next((key for key in keys if key.startswith(_CALLBACKS)), None)
    if not trunks or (not paired and kept is None):
        return None
    signs = [f"its networks are called {' and '.join(map(str, trunks))}"]
    signs += [f"it has parts of callbacks ({kept})"] if kept else []
    return claim_trainer(contents, method=TITLE, signs=tuple(signs))
