"""scripts/count as a module: a script's name has no ending that Python imports by."""

import importlib.machinery
import importlib.util
from pathlib import Path
from types import ModuleType


def load_counter() -> ModuleType:
    path = Path(__file__).parent.parent / "scripts" / "count"
    loader = importlib.machinery.SourceFileLoader("sslens_count", str(path))
    spec = importlib.util.spec_from_loader("sslens_count", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


COUNTER = load_counter()
