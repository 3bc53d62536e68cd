"""How the command line spells a parameter of the library."""


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
