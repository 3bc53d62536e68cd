"""CLIP in OpenAI's names, which open_clip's trainings and releases keep: the vision tower under
`visual.`."""

from sslens.zoo.claim import Claim
from sslens.zoo.claiming import CLIP_MEAN, CLIP_STD, claim_network
from sslens.zoo.files import Contents
from sslens.zoo.hints import Hints
from sslens.zoo.trunks import find_trunks

TITLE = "open_clip"
TEXT = "the text tower"
#: three numbers that OpenAI's own files have beside the weights
OPENAI = ("input_resolution", "context_length", "vocab_size")


def claim(contents: Contents) -> Claim | None:
    """Claim a vision tower with `transformer.resblocks` under `visual.`.

    OpenAI's files have QuickGELU, and three numbers beside the weights by which they are told.
    open_clip's default is GELU; its open_clip_config.json beside the weights says where it is not.
    """
    trunks = [t for t in find_trunks(contents.states) if t.naming == "clip"]
    if not trunks:
        return None
    state = contents.states[trunks[0].state]
    openai = all(name in state for name in OPENAI)
    told = contents.beside.hints.activation is not None
    assumed = (
        "No weight tells the activation function: GELU is open_clip's default, and models with a"
        " name that ends in -quickgelu have another one. An open_clip_config.json beside the file"
        " is read."
    )
    return claim_network(
        contents,
        ("clip",),
        method="CLIP" if openai else TITLE,
        sign=f"it has a vision tower ({trunks[0]})"
        + (f", and OpenAI's numbers ({', '.join(OPENAI)})" if openai else ""),
        objective="clip",
        family="language-image",
        beside=(
            (r"(module\.)?(text\.|transformer\.|token_embedding|ln_final|attn_mask).*", TEXT),
            (r"(module\.)?positional_embedding|(module\.)?text_projection.*", TEXT),
            (r"(module\.)?logit_(scale|bias)", "a number of the training"),
            (rf"(module\.)?({'|'.join(OPENAI)})", "a number of the text tower"),
        ),
        hints=Hints(eps=1e-5, activation="quick_gelu" if openai else "gelu"),
        transform={"mean": CLIP_MEAN, "std": CLIP_STD},
        notes=() if openai or told else (assumed,),
        certain=True,
    )
