"""Models and images that are in memory: a study names them by texts, as it names files."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from sslens import zoo
from sslens.errors import InputError, require_type
from sslens.fingerprint import is_fingerprint

if TYPE_CHECKING:
    from torch import nn

    from sslens.capture import Features
    from sslens.fingerprint import Fingerprint
    from sslens.models.backbone import Backbone

    #: a model as Python has it: a source or a file, a network, a Backbone, or a fingerprint
    Model: TypeAlias = str | Path | nn.Module | Backbone | Fingerprint

#: how the text begins that stands for something in memory which no file holds
MEMORY = zoo.MEMORY
#: the things in memory by the texts that stand for them
Given: TypeAlias = Mapping[str, Any]


def list_models(models: "Model | Sequence[Model] | Mapping[str, Model]") -> "list[Model]":
    """List models that were given alone, in a sequence, or by name.

    Raises:
        InputError: nothing is given that could be a model, or a name has spaces, commas, @ or =.

    >>> list_models({"mine": "dino_vitb16", "control": "random:vit_nano_patch8_32:1@blocks=2"})
    ['dino_vitb16@name=mine', 'random:vit_nano_patch8_32:1@blocks=2,name=control']
    """
    if isinstance(models, Mapping):
        return [rename(model, name) for name, model in models.items()]
    if isinstance(models, list | tuple):
        return list(models)
    return [models]  # type: ignore[list-item]


def rename(model: "Model", name: str) -> "Model":
    """Return a model under another name.

    Raises:
        InputError: the name has spaces, commas, @ or =.
    """
    zoo.require_name(name)
    if isinstance(model, str | Path):
        source = str(model)
        if not is_fingerprint(Path(source)):
            return f"{source}{',' if zoo.split_options(source)[1] else '@'}name={name}"
        from sslens.fingerprint import read

        model = read(Path(source))
    from sslens.fingerprint import Fingerprint
    from sslens.models.backbone import Backbone
    from sslens.zoo.wrapping import wrap

    if isinstance(model, Fingerprint):
        return replace(model, name=name)
    if not isinstance(model, Backbone):
        return wrap(model, name=name)
    return model.copy_with(name=name, source=_rename_source(model.source, name))


def _rename_source(source: str, name: str) -> str:
    """The source of a Backbone with another name in its options; as it is where it is none that
    could be loaded again."""
    try:
        zoo.check(source)
        plain, options = zoo.split_options(source)
    except (InputError, OSError):
        return source
    options = {{"num_heads": "heads"}.get(key, key): value for key, value in options.items()}
    told = [f"{key}={value}" for key, value in {**options, "name": name}.items()]
    return f"{plain}@{','.join(told)}"


def name_models(models: "Sequence[Model]") -> tuple[tuple[str, ...], dict[str, Any]]:
    """Return a text for each model, and the models in memory by their texts.

    The text of a Backbone that `sslens.load` made is its source, by which it can be loaded again;
    the text of any other model in memory begins with "memory:".

    Raises:
        InputError: an argument is no model.
    """
    texts: list[str] = []
    given: dict[str, Any] = {}
    for model in models:
        if isinstance(model, str | Path):
            texts.append(str(model))
            continue
        text = _name_model(model)
        number = 1
        while given.get(text, model) is not model or (text in texts and text not in given):
            number += 1
            text = f"{MEMORY}{_call(model)}-{number}"
        texts.append(text)
        given[text] = model
    return tuple(texts), given


def _name_model(model: Any) -> str:
    """The text of a model in memory."""
    from torch import nn

    from sslens.fingerprint import Fingerprint
    from sslens.models.backbone import Backbone

    what = "give a name, a file, a torch.nn.Module, a Backbone or a fingerprint as {models}"
    require_type(model, (nn.Module, Fingerprint), "model", what)
    if isinstance(model, Backbone):
        with contextlib.suppress(InputError, OSError):
            zoo.check(model.source)
            return str(model.source)
    return f"{MEMORY}{_call(model)}"


def _call(model: Any) -> str:
    """What a model in memory is called."""
    return str(getattr(model, "name", type(model).__name__))


def name_source(
    source: Any, role: str, given: dict[str, Any], *, drawn: bool = False
) -> str | None:
    """Return a text for images or stored features; what is in memory is put into `given` under it.
    None stands for None.

    The text of a set that `sslens.open_images` opened whole is its source, from which it can be
    opened again; the text of any other thing in memory begins with "memory:".

    Args:
        source: a source of images as `sslens.open_images` reads it, or Features.
        role: what it is called where it has no name, or its name is taken, such as "bank".
        given: the things in memory by their texts.
        drawn: whether the study draws the same images from the source of a set that was drawn when
            it was opened.

    Raises:
        InputError: it cannot be a set of images.

    >>> name_source(Path("photos/val"), "images", {}), name_source(None, "bank", {})
    ('photos/val', None)
    """
    if source is None or isinstance(source, str | Path):
        return None if source is None else str(source)
    if not hasattr(source, "__len__"):
        raise InputError(
            f"{source!r} ({type(source).__name__}) is no source of images",
            mend=f"give a folder, an array, a data set or another source as {{{role}}}",
        )
    opened = getattr(source, "opened", None)
    if opened is not None and (opened.limit is None or drawn):
        text = str(opened.source)
        other = given.setdefault(text, source)
        if other is source or (opened == getattr(other, "opened", None)):
            return text
    name = getattr(source, "name", None)
    text = f"{MEMORY}{name if isinstance(name, str) else role}"
    if given.get(text, source) is not source:
        text = f"{MEMORY}{role}"
    given[text] = source
    return text


def name_model(model: "Model | Features", given: dict[str, Any]) -> str:
    """Return a text for one model or its stored features; what is in memory is put into `given`
    under it.

    Raises:
        InputError: it is no model.
    """
    if not isinstance(model, str | Path):
        from sslens.capture import Features

        if isinstance(model, Features):
            return str(name_source(model, "model", given))
    (text,), own = name_models([model])
    given |= own
    return text


@contextlib.contextmanager
def keep_devices(given: Given) -> Iterator[None]:
    """Put the models in memory back onto the devices on which they were; passes move them."""
    if not given:
        yield
        return
    from torch import nn

    places = [
        (one, next(one.parameters()).device)
        for one in given.values()
        if isinstance(one, nn.Module) and next(one.parameters(), None) is not None
    ]
    try:
        yield
    finally:
        for one, device in places:
            one.to(device)
