"""Errors that a user's own code raised: the place in it."""

import sysconfig
import traceback
from pathlib import Path


def locate(error: BaseException) -> str:
    """Name the place in the user's own code that raised an error, as a clause that begins with a
    comma; "" where none of it is theirs."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not _is_foreign(frame.filename)
    ]
    if isinstance(error, SyntaxError) and error.filename:
        return f", at {error.filename}, line {error.lineno}"
    if frames:
        return f", at {frames[-1].filename}, line {frames[-1].lineno}, in {frames[-1].name}"
    return ""


def _is_foreign(filename: str) -> bool:
    """Whether a file is of Python, of what is installed, or of this package."""
    package = str(Path(__file__).parents[1])
    installed = (sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"), package, "<frozen")
    return filename.startswith(installed)
