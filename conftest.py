"""Every test and every docstring example runs with shapes checked, on one torch thread, with a
store of its own."""

import builtins
import gc
from collections.abc import Iterator

import pytest
from jaxtyping import install_import_hook

install_import_hook("sslens", "beartype.beartype")


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    import torch

    torch.set_num_threads(1)
    # what the imports made stays: to look through it again and again took a twentieth of the tests'
    # time
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def _own_store(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSLENS_HOME", str(tmp_path_factory.mktemp("home")))


@pytest.fixture(autouse=True)
def _no_last_value() -> Iterator[None]:
    yield
    # an example leaves its last value in `builtins._`, where tyro, imported later, fails on a list
    vars(builtins).pop("_", None)
