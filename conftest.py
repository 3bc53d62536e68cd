"""Every test and every docstring example runs with shapes checked, on one torch thread, with a
store of its own."""

import builtins
import dataclasses
import functools
import gc
import inspect
import itertools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FunctionType
from typing import Any, get_type_hints

import jaxtyping
import pytest
from beartype import BeartypeConf, beartype

jaxtyped = jaxtyping.jaxtyped
#: in which names of axes mean one size
CONTEXT = jaxtyped("context")
CHECK = functools.partial(beartype, conf=BeartypeConf(violation_type=jaxtyping.TypeCheckError))


def check_when_called(thing: Any = None, *, typechecker: Any) -> Any:
    """Decorate as `jaxtyping.jaxtyped`, but compile a function's checks when it is first called.

    jaxtyping compiles all of them at the import (10 s of 744 modules, and in each process of the
    tests), and its functions bind their arguments a second time and check them before and after.
    """
    if thing is None:
        return functools.partial(check_when_called, typechecker=typechecker)
    if inspect.isclass(thing):
        if dataclasses.is_dataclass(thing) and not hasattr(thing.__init__, "__wrapped__"):
            checked = check_when_called(thing.__init__, typechecker=typechecker)
            thing.__init__ = checked  # type: ignore[method-assign]
        return thing
    return _defer(thing)


def _defer(function: FunctionType) -> Callable[..., Any]:
    """A function that compiles the checks of another when it is called, with names in annotations
    as they stand now."""
    hints, compile_checks, context = _resolve_hints(function), _compile_checks, CONTEXT
    checked: Callable[..., Any] | None = None

    def call(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        nonlocal checked
        if checked is None:
            checked = compile_checks(function, hints)
        with context:
            return checked(*args, **kwargs)

    # with the function's own globals, by which `sslens.errors.warn_of_doubt` knows frames of ours
    own = FunctionType(
        call.__code__, function.__globals__, function.__name__, None, call.__closure__
    )
    return functools.update_wrapper(own, function)


def _resolve_hints(function: FunctionType) -> dict[str, Any]:
    """The annotations of a function by the name of what they are of."""
    names = function.__globals__
    return {name: _resolve(hint, names) for name, hint in function.__annotations__.items()}


def _resolve(hint: Any, names: dict[str, Any]) -> Any:
    """An annotation without strings; anything where a name in it is not there."""
    if isinstance(hint, type):
        return hint

    def holder() -> None: ...

    holder.__annotations__ = {"value": hint}
    try:
        return get_type_hints(holder, names, include_extras=True)["value"]
    except Exception:
        return Any


def _compile_checks(function: FunctionType, hints: Mapping[str, Any]) -> Callable[..., Any]:
    """The function with checks of its arguments and of what it returns."""
    copy = FunctionType(
        function.__code__,
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    functools.update_wrapper(copy, function)
    del copy.__wrapped__  # type: ignore[attr-defined]
    copy.__kwdefaults__, copy.__annotations__ = function.__kwdefaults__, dict(hints)
    named = any("{" in repr(hint) for hint in hints.values())  # an axis, by an argument's value
    # of a generator only that it is one is checked, and not what it yields
    if named or inspect.isgeneratorfunction(function):
        return jaxtyped(copy, typechecker=CHECK)
    return CHECK(copy)


jaxtyping.jaxtyped = check_when_called  # type: ignore[assignment]
jaxtyping.install_import_hook("sslens", "beartype.beartype")


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    import torch

    torch.set_num_threads(1)
    # what the imports made stays: to look through it again and again took a twentieth of the tests'
    # time
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="session")
def _homes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Folders of one folder by number: pytest would look through all that it has made for the next
    number, 4 ms after some thousand tests."""
    folder = tmp_path_factory.mktemp("homes")
    return (folder / str(number) for number in itertools.count())


@pytest.fixture(autouse=True)
def _own_store(_homes: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    home = next(_homes)
    home.mkdir()
    monkeypatch.setenv("SSLENS_HOME", str(home))


@pytest.fixture(scope="module")
def short_probes() -> Iterator[None]:
    """Few epochs of deeper probes, few penalties of others: the probes have tests of their own."""
    from given import shorten_predictions, shorten_probes

    with pytest.MonkeyPatch.context() as patch:
        shorten_predictions(patch)
        shorten_probes(patch)
        yield


@pytest.fixture(autouse=True)
def _no_last_value() -> Iterator[None]:
    yield
    # an example leaves its last value in `builtins._`, where tyro, imported later, fails on a list
    vars(builtins).pop("_", None)
