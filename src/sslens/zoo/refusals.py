"""Files that hold no network that can be loaded: each is named for what it is, with what to do."""

import re
from collections import Counter
from collections.abc import Mapping

from sslens.counts import spell_count
from sslens.errors import InputError
from sslens.zoo.architecture import Architecture, read_arch
from sslens.zoo.arrays import Array
from sslens.zoo.claim import Claim
from sslens.zoo.files import Contents
from sslens.zoo.foreign import OWN

#: what each file of guided diffusion's UNet holds; `sslens.zoo.generators` loads it
GENERATOR = ("time_embed.0.weight", "input_blocks.0.0.weight", "out.2.weight")
#: keys of networks that a detector or a segmentation model was made of
_DETECTORS = (
    "roi_heads.",
    "proposal_generator.",
    "rpn.",
    "rpn_head.",
    "backbone.fpn",
    "backbone.net.",
    "backbone.simfp",
    "bbox_head.",
    "decode_head.",
    "transformer.decoder.",
)
#: ends of keys that quantisation writes: bitsandbytes, GPTQ, AWQ, torchao
_QUANTISED = re.compile(r"\.(SCB|weight_format|absmax|quant_map|qweight|qzeros|scales|g_idx)$")
#: names that peft's LoRA writes
_ADAPTER = re.compile(r"\.lora_[AB]\.")
_FLAT = re.compile(r"(^|\.)_?flat_param(_\d+)?$")


def refuse_others(contents: Contents, *, detectors: bool = False) -> None:
    """Refuse files that are something else than the weights of a network.

    Args:
        contents: the contents of the file.
        detectors: whether detectors and generators are refused too, once no layout reads them.

    Raises:
        InputError: the message says what the file is, and what to give in its place.
    """
    where = contents.path
    keys = [key for weights in contents.states.values() for key in weights]
    if "sslens.fingerprint" in contents.header:
        raise InputError(
            f"{where} is a fingerprint (Grams), not weights: give it to sslens compare, without"
            " options."
        )
    if "sslens.state" in contents.header:
        raise InputError(
            f"{where} is the state that a training goes on from: load the last.safetensors beside"
            " it."
        )
    if flat := next((key for key in keys if _FLAT.search(key)), None):
        raise InputError(
            f"{where} was written by FSDP with its weights flattened and cut into parts ({flat}):"
            " only the training itself can put them together. Save it there with"
            " StateDictType.FULL_STATE_DICT, and give that file."
        )
    if quantised := next((key for key in keys if _QUANTISED.search(key)), None):
        raise InputError(
            f"{where} holds quantised weights ({quantised}), which are read by the library that"
            " wrote them alone: give the file from before the quantisation."
        )
    if adapter := next((key for key in keys if _ADAPTER.search(key)), None):
        raise InputError(
            f"{where} holds an adapter (LoRA: {adapter}), which changes the weights of a network:"
            " merge it into its network, with merge_and_unload of peft, and save that."
        )
    if not detectors:
        return
    if detector := next((key for key in keys if key.startswith(_DETECTORS)), None):
        raise InputError(
            f"{where} is a detection or segmentation checkpoint ({detector}): its backbone was"
            " built for another use. Give the checkpoint that it was started from."
        )
    if any(set(GENERATOR) <= weights.keys() for weights in contents.states.values()):
        raise InputError(
            f"{where} is a generator, guided diffusion's UNet, and no backbone: give it to sslens"
            " rcdm sample, with the model that it is conditioned on."
        )


def require_numbers(weights: Mapping[str, Array], where: str) -> None:
    """Refuse weights in whole numbers: quantised ones, without the scales that make them numbers.

    Raises:
        InputError: the message names the first such tensor.

    >>> import numpy as np
    >>> require_numbers({"norm.weight": Array(np.ones(2, np.int8), "int8")}, "a.pth")
    Traceback (most recent call last):
    sslens.errors.InputError: a.pth holds 1 of 1 tensor as whole numbers, the first norm.weight...
    """
    # counters of batch normalisation and tables of indices are whole numbers
    whole = [
        name
        for name, value in weights.items()
        if value.size > 1
        and not value.is_floating
        and not value.kind.startswith("complex")
        and not name.endswith(("_index", "_ids", "bias_mask"))
    ]
    if whole:
        raise InputError(
            f"{where} holds {len(whole)} of {spell_count(len(weights), 'tensor')} as whole numbers,"
            f" the first {whole[0]} ({weights[whole[0]].kind}): they were quantised, and the scales"
            " that make weights of them are not in the file. Give the file from before the"
            " quantisation."
        )


def require_final_norm(
    weights: Mapping[str, Array],
    shape: Architecture,
    contents: Contents,
    claim: Claim,
    dropped: Mapping[str, str],
) -> None:
    """Refuse a transformer that was cut off: without its final normalisation, unless it is of a
    kind that normalises after the pooling.

    Raises:
        InputError: the message says what is missing.
    """
    arch = read_arch(shape)
    if arch is None or claim.written is not None:
        return
    pooled = any(re.match(r"(fc_norm|pooler\.layernorm)\.", name) for name in dropped)
    if not ("norm.weight" in weights or claim.normless or pooled):
        raise InputError(
            f"{contents.path} holds a transformer of {spell_count(arch.blocks, 'block')} without"
            " its final normalisation (norm.weight): the file was cut off, or holds a part of the"
            " network. Give the whole file."
        )


def explain_unknown(contents: Contents) -> str:
    """Return what is said of a file without a network that is known."""
    keys = [key for weights in contents.states.values() for key in weights]
    first = Counter(key.split(".")[0] for key in keys).most_common(4)
    if all(weights for weights in contents.states.values()) and len(keys) <= 4:
        return (
            f"{contents.path} holds {spell_count(len(keys), 'tensor')} and no backbone"
            f" ({', '.join(keys)}): it may be a linear probe's classifier alone. Give the"
            " checkpoint of the network that it was trained on."
        )
    return (
        f"{contents.path} holds no ViT, ResNet or ConvNeXt under names that are known: its"
        f" {len(keys)} tensors are {', '.join(f'{name} ({count})' for name, count in first)}."
        f" `sslens doctor` lists them; timm:NAME loads what timm has, and {OWN}."
    )
