"""The answer of analyses that ran without others: numbers beside the models' names."""

import pandas as pd

from sslens.report.answer_alone import add_alone
from sslens.table import Results, Table


def make_table(rows: list[dict[str, object]]) -> Table:
    return Table(pd.DataFrame(rows), dict.fromkeys(rows[0], "what it is"))


def add(analysis: str, name: str, rows: list[dict[str, object]]) -> pd.DataFrame:
    """The answer of the models a and b."""
    models = make_table([{"model": "a", "control": False}, {"model": "b", "control": False}])
    return add_alone(models, {analysis: Results({name: make_table(rows)})}).frame


def test_dense_depth_alone_has_the_probe_of_the_last_block() -> None:
    place = {"model": "a", "size": "all", "low": 0.1, "high": 0.5, "images": 9}
    read = [
        ("blocks.0", 0.5, "linear", 0.2),
        ("blocks.1", 1.0, "linear", 0.3),
        ("blocks.0 + blocks.1", 1.0, "linear", 0.4),
        ("blocks.1", 1.0, "k-NN", 0.1),
    ]
    rows = [
        place | {"tap": tap, "depth": depth, "reading": reading, "miou": miou}
        for tap, depth, reading, miou in read
    ]
    answer = add("dense-depth", "scores", [{**rows[0], "size": "small", "miou": 0.9}, *rows])
    assert answer.dense_depth_miou.tolist()[0] == 0.3
    assert answer.dense_depth_miou.isna().tolist() == [False, True]
    assert answer.dense_depth_tap[0] == "blocks.1"


def test_a_diff_alone_has_the_change_beside_the_second_model() -> None:
    row = {"model_a": "a", "model_b": "b", "relative": 0.2, "angle": 12.0}
    answer = add("weights-changed", "pairs", [row])
    assert answer.weights_changed_relative[1] == 0.2
    assert answer.weights_changed_model_a.isna()[0]
