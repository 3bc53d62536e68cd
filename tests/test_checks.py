"""The checks of types that all tests run with: compiled when a function is called, and as strict as
those of jaxtyping."""

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import check_when_called
from jaxtyping import Float, TypeCheckError
from torch import Tensor

checked: Callable[[Any], Any] = check_when_called(typechecker=None)


@checked
def add(x: Float[Tensor, "row dim"], y: Float[Tensor, "row dim"]) -> Float[Tensor, "row dim"]:
    return x + y


@checked
def join(*words: str, times: int = 1) -> str:
    return 3 if times == 3 else " ".join(words * times)  # type: ignore[return-value]


@checked
def repeat(x: Float[Tensor, " row"], count: int) -> Float[Tensor, "{count} row"]:
    return x.expand(min(count, 3), -1)


@checked
def first(x: Float[Tensor, "row dim"]) -> Float[Tensor, " dim"]:
    return x[0] if len(x) < 3 else x[:, 0]


@checked
@dataclass(frozen=True)
class Pair:
    a: Float[Tensor, " row"]
    b: Float[Tensor, " row"]
    names: Sequence[str] = field(default=())

    @classmethod
    @checked
    def of(cls, a: Float[Tensor, " row"], later: "Later | None" = None) -> "Pair":
        return cls(a, a if later is None else later.b)


@checked
@dataclass(frozen=True)
class Later:
    b: Tensor


@checked
def count(upto: int) -> Iterator[int]:
    yield from range(upto)


def test_an_axis_of_one_name_has_one_size() -> None:
    x = torch.ones(2, 3)
    assert torch.equal(add(x, y=x), x + x)
    assert first(x).shape == (3,)
    Pair(x[0], x[0])
    for wrong in (
        lambda: add(x, x[:, :2]),
        lambda: add(x, x.int()),
        lambda: first(torch.ones(4, 3)),  # gives a column
        lambda: Pair(x[0], x[:, 0]),
    ):
        with pytest.raises(TypeCheckError):
            wrong()
    assert add(x[:1], x[:1]).shape == (1, 3)  # sizes are those of one call


def test_an_axis_may_be_named_by_an_argument() -> None:
    assert repeat(torch.ones(2), 3).shape == (3, 2)
    with pytest.raises(TypeCheckError):
        repeat(torch.ones(2), 4)


def test_all_arguments_and_what_comes_back_are_checked() -> None:
    assert join("a", "b", times=2) == "a b a b"
    for wrong in (
        lambda: join("a", 1),
        lambda: join("a", times="2"),
        lambda: join("a", times=3),
        lambda: Pair(torch.ones(2), torch.ones(2), (1,)),  # type: ignore[arg-type]
    ):
        with pytest.raises(TypeCheckError):
            wrong()


def test_what_has_a_name_that_was_not_there_is_not_checked() -> None:
    x = torch.ones(2)
    later: Any = SimpleNamespace(b=x)
    assert Pair.of(x, later).b is x
    assert Pair.of.__name__ == "of"


def test_what_yields_is_called_with_what_it_takes() -> None:
    assert list(count(3)) == [0, 1, 2]
    with contextmanager(count)(1) as number:
        assert number == 0
    with pytest.raises(TypeCheckError):
        count("3")


COMPILED = """
import importlib, pkgutil, conftest

def compile_now(function):
    return conftest._compile_checks(function, conftest._resolve_hints(function))

conftest._defer = compile_now
import sslens
names = [one.name for one in pkgutil.walk_packages(sslens.__path__, "sslens.")]
for name in names:
    if not name.endswith("__main__"):
        importlib.import_module(name)
print(len(names))
"""


@pytest.mark.slow
def test_checks_of_all_functions_can_be_compiled() -> None:
    """Also of those that no test calls."""
    line = [sys.executable, "-c", COMPILED]
    root = Path(__file__).parent.parent
    done = subprocess.run(line, cwd=root, capture_output=True, text=True, check=True)
    assert int(done.stdout) > 500
