"""The notebook in the docs runs, cell by cell, and comes to a decision that its table bears out."""

import ast
import json
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).parent.parent / "docs" / "tutorial.ipynb"


def read_cells() -> list[dict[str, Any]]:
    return json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]


def run_cell(source: str, names: dict[str, Any]) -> Any:
    """Run a cell; returns what it shows, the value of its last expression."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, str(NOTEBOOK), "exec"), names)
    if not isinstance(last, ast.Expr):
        return None
    return eval(compile(ast.Expression(last.value), str(NOTEBOOK), "eval"), names)


def test_the_notebook_is_one_that_jupyter_opens() -> None:
    whole = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert (whole["nbformat"], whole["nbformat_minor"]) == (4, 5)
    cells = read_cells()
    assert len({cell["id"] for cell in cells}) == len(cells)
    for cell in cells:
        if cell["cell_type"] == "code":
            assert {"execution_count", "outputs"} < cell.keys()
            ast.parse("".join(cell["source"]))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:deconfounded-cka of mae and dino is undefined")
def test_the_notebook_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SSLENS_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    sources = ["".join(cell["source"]) for cell in read_cells() if cell["cell_type"] == "code"]
    shown = [run_cell(source, names) for source in sources[:-1]]
    assert not (tmp_path / "sslens-report").exists()
    page = run_cell(sources[-1], names)
    assert page.read_text(encoding="utf-8").startswith("<!")
    assert all(len(repr(one)) < 5_000 for one in shown if one is not names["figure"])
    assert type(names["figure"]).__module__.startswith("plotly")
    assert "mine" in capsys.readouterr().out
    # the decision, from the tables alone
    answer = names["result"].answer
    models = answer[~answer.control].sort_values("knn", ascending=False).model.tolist()
    choices = names["result"].tables["knn-depth/choices"].set_index("model")
    first, second = (
        {
            name: one[name if one["use"] == "chosen" else f"usual_{name}"]
            for name in ("tap", "low", "high", "over_pixels_low")
        }
        for one in (choices.loc[models[0]], choices.loc[models[1]])
    )
    untrained = choices[choices.control & (choices.tap != "pixels")].high.max()
    if first["over_pixels_low"] > 0 and first["low"] > max(second["high"], untrained):
        assert names["decision"].startswith(f"use {models[0]} at {first['tap']},")
    else:
        assert not names["decision"].startswith("use")
