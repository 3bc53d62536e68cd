"""Files of Lightning's trainer that no more specific layout claims: one network, or a network and
its average, with heads beside."""

from sslens.zoo.claim import Claim
from sslens.zoo.claiming import LIGHTNING, claim_trainer
from sslens.zoo.files import Contents

TITLE = "Lightning"


def claim(contents: Contents) -> Claim | None:
    """Claim a file that says Lightning's version. Its parts are those of anybody's own module."""
    if LIGHTNING not in contents.rest:
        return None
    sign = f"it says Lightning's version ({contents.rest[LIGHTNING]})"
    return claim_trainer(contents, method=TITLE, signs=(sign,), strict=False, certain=False)
