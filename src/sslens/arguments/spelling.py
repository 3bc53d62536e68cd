"""How the command line spells a parameter of the library, and how a title names models."""

from collections.abc import Callable, Collection, Sequence

#: models that a title names; of more it says how many
NAMED = 4


def as_option(name: str, value: str | None) -> str:
    """Return the command-line option for a parameter, with the value that it is given.

    >>> as_option("batch_size", None), as_option("limit", "64"), as_option("resume", "True")
    ('--batch-size', '--limit 64', '--resume')
    >>> as_option("controls", "False"), as_option("settings.base_lr", None)
    ('--no-controls', '--set base_lr')
    """
    first, _, key = name.partition(".")
    if key:
        return f"--set {key}" if value is None else f"--set {key}={value}"
    option = first.replace("_", "-")
    if value in (None, "True"):
        return f"--{option}"
    return f"--no-{option}" if value == "False" else f"--{option} {value}"


def spell_keys(options: Collection[str]) -> Callable[[str, str | None], str]:
    """Return how a command that takes a study's keys as KEY=VALUE spells a parameter: its own
    options as options, and all others as keys.

    Args:
        options: the names of the command's own options.

    >>> spell = spell_keys({"out"})
    >>> spell("out", None), spell("limit", "64"), spell("controls", "False"), spell("images", None)
    ('--out', 'limit=64', 'controls=false', 'images=…')
    """

    def spell(name: str, value: str | None) -> str:
        if name in options:
            return as_option(name, value)
        shown = "…" if value is None else value.lower() if value in ("True", "False") else value
        return f"{name}={shown}"

    return spell


def name_for_title(sources: Sequence[str]) -> tuple[str, ...]:
    """Name models for a title: by the name that a source gives, else by the source without its
    options, unless the options alone tell two models apart.

    >>> name_for_title(["runs/mae@image_size=64", "own/last.pth@heads=3,name=mine"])
    ('runs/mae', 'mine')
    >>> name_for_title(["a.pth@branch=student", "a.pth@branch=teacher"])
    ('a.pth@branch=student', 'a.pth@branch=teacher')
    """
    from sslens.zoo import split_options

    plain = [split_options(source) for source in sources]
    names = [str(options.get("name", source)) for source, options in plain]
    return tuple(
        name if names.count(name) == 1 else source
        for name, source in zip(names, sources, strict=True)
    )


def name_subjects(models: Sequence[str], one: str, several: str) -> str:
    """Name the models of a title and their verb; of many say how many.

    Args:
        models: their names.
        one, several: the verb for one model, and for several.

    >>> name_subjects(["pixels"], "is", "are"), name_subjects(["dino", "mae"], "knows", "know")
    ('pixels is', 'dino and mae know')
    """
    if len(models) > NAMED:
        return f"{len(models)} models {several}"
    *first, last = models
    return f"{', '.join(first)} and {last} {several}" if first else f"{last} {one}"
