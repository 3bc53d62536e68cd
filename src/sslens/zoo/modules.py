"""Models that a function of the user's makes, `MODULE:FUNCTION`, imported from the working
directory or from what is installed."""

import importlib
import importlib.machinery
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from sslens.errors import InputError, nearest
from sslens.zoo.raised import locate

if TYPE_CHECKING:
    from sslens.models.backbone import Backbone

_NAME = r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*"
_FORM = re.compile(rf"({_NAME}):({_NAME})")


def is_function(source: str) -> bool:
    """Whether a source has the form MODULE:FUNCTION, and there is such a module; nothing is
    imported.

    >>> is_function("sslens.zoo:load"), is_function("no_such_module:build"), is_function("a.pth")
    (True, False, False)
    """
    match = _FORM.fullmatch(source)
    return match is not None and _find_spec(match[1].partition(".")[0])


def looks_like_function(source: str) -> bool:
    """Whether a source has the form MODULE:FUNCTION, be there such a module or not.

    >>> looks_like_function("no_such_module:build"), looks_like_function("dino_vitb16")
    (True, False)
    """
    return _FORM.fullmatch(source) is not None


def explain_no_module(source: str) -> str:
    """Say that there is no module of MODULE:FUNCTION, and which in the working directory is spelt
    like it."""
    top = source.partition(":")[0].partition(".")[0]
    here = Path.cwd()
    beside = {path.stem for path in here.glob("*.py")}
    beside |= {path.parent.name for path in here.glob("*/*.py")}
    close = nearest(top, beside)
    hint = close if close.startswith("did you mean") else "MODULE:FUNCTION is imported from there"
    return (
        f"There is no module {top} to import {source} from, in {here} or among what is installed:"
        f" {hint}"
    )


def _find_spec(top: str) -> bool:
    if top in sys.modules or top in sys.builtin_module_names:
        return True
    places = [str(Path.cwd()), *sys.path]
    return importlib.machinery.PathFinder.find_spec(top, places) is not None


def load_function(
    source: str, *, image_size: int | None = None, name: str | None = None
) -> "Backbone":
    """Call the function of MODULE:FUNCTION without arguments, and wrap the network that it returns;
    a Backbone (`sslens.wrap`) is taken as it is.

    The working directory is searched first, and stays among the places that Python imports from. A
    name that stands for a network itself is taken as it is.

    Args:
        source: MODULE:FUNCTION.
        image_size: the side in pixels of the images, for a network that does not say it.
        name: for tables and figures, and for what is said of the network; `source` unless given.

    Raises:
        InputError: the module cannot be imported or has no such name, the function raises an error,
            which is shown with its place, or it returns no network.
    """
    from torch import nn

    from sslens.models.backbone import Backbone
    from sslens.zoo.wrapping import wrap_own

    module_name, function = source.split(":")
    module = _import_module(module_name, source)
    made: Any = module
    for part in function.split("."):
        if not hasattr(made, part):
            public = [word for word, value in vars(made).items() if _is_offered(word, value, made)]
            raise InputError(f'{module_name} has no "{function}": {nearest(part, public)}')
        made = getattr(made, part)
    if not isinstance(made, nn.Module):
        if not callable(made):
            raise InputError(
                f"{source} is {type(made).__name__}: expected a function or a network."
            )
        made = _call(made, source)
    if isinstance(made, Backbone):
        return made.copy_with(source=source)
    if not isinstance(made, nn.Module):
        raise InputError(
            f"{source} returns {type(made).__name__}: expected a torch.nn.Module, or what"
            " sslens.wrap returns."
        )
    return wrap_own(made, name=name or source, source=source, image_size=image_size)


def _is_offered(name: str, value: Any, holder: Any) -> bool:
    """Whether a name may be meant where another is not there: it is public, stands for a function,
    a class or a network, and `holder` has not imported it from another package."""
    if name.startswith("_") or not callable(value):
        return False
    if not isinstance(holder, ModuleType) or not hasattr(value, "__qualname__"):
        return True
    package = str(getattr(value, "__module__", "")).partition(".")[0]
    return package == holder.__name__.partition(".")[0]


def _import_module(name: str, source: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise InputError(
                f"There is no module {error.name} to import {source} from, in {here} or among what"
                " is installed."
            ) from error
        raise InputError(_explain(f"{name} cannot be imported", error)) from error
    except (Exception, SystemExit) as error:
        raise InputError(_explain(f"{name} cannot be imported", error)) from error


def _call(function: Any, source: str) -> Any:
    try:
        return function()
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        raise InputError(_explain(f"{source} fails", error)) from error


def _explain(what: str, error: BaseException) -> str:
    """Say which error the user's own code raised, and where in it."""
    text = " ".join(str(error).split())
    return f"{what}: {type(error).__name__}{f': {text}' if text else ''}{locate(error)}."
