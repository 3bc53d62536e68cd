"""What changed between two sets of weights: names, shapes, number types, and by layer how far and
in which direction the numbers went."""

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from sslens.comparisons.inputs import Models
from sslens.comparisons.roles import PIXELS
from sslens.comparisons.rows import Row, make_results
from sslens.comparisons.weight_changes import (
    BUFFERS,
    NOTHING,
    OTHER_NETWORKS,
    join_changes,
    list_backbone,
    list_blocks,
    list_groups,
)
from sslens.comparisons.weight_pairs import TensorPair, WeightPair, WeightSets, list_pairs
from sslens.figure import Figure, Heatmap, Line, Lines, Panel
from sslens.models.parts import find_block
from sslens.table import Results

TITLE = "What changed in the weights?"
CAPTION = (
    "θ_A are the weights of the first model and θ_B those of the other one, under the names that"
    " all copies of a network have here. Change: ‖θ_B − θ_A‖ / ‖θ_A‖, by block and kind of layer; a"
    " cell of 0 was not touched. Angle: between θ_A and θ_B. A model is its own control: of weights"
    " that nothing was done to, all changes are 0, and rounding to float16 changes weights by"
    " 0.0002, to bfloat16 by 0.002. Running means and variances of batch normalisations are no"
    " weights: their change is in the tables alone, as the kind statistics. Nothing is random here,"
    " so that there are no intervals."
)
ON_REQUEST = True
CHANGE = (
    *("parameters", "norm_a", "norm_b", "change", "relative", "angle", "cosine", "stretch"),
    "largest",
)
STATES = ("equal", "rounded", "changed", "broken", "unlike", "only_a", "only_b")
#: a row of `pairs` is two models, of `layers` a group of tensors that both have, of `tensors` a
#: tensor of either
TABLES: Mapping[str, tuple[str, ...]] = {
    "pairs": (
        *("model_a", "model_b", "method_a", "method_b", "unknown", "state", "kinds_a", "kinds_b"),
        *("tensors_a", "tensors_b", "shared", *STATES, "renamed", "reshaped", "first", *CHANGE),
        *("branch_a", "branch_b", "others_a", "others_b"),
        *("measured", "head", "statistics", "statistics_state", "statistics_relative"),
        *("backbone_a", "backbone_b", "blocks_a", "blocks_b"),
    ),
    "layers": (
        *("model_a", "model_b", "block", "depth", "kind", "state", "tensors", "equal", *CHANGE),
    ),
    "tensors": (
        *("model_a", "model_b", "tensor", "block", "kind", "state", "keys_a", "keys_b", "done_a"),
        *("done_b", "beside", "shape_a", "shape_b", "kind_a", "kind_b", *CHANGE),
    ),
}
TEXTS = (
    *("model_a", "model_b", "method_a", "method_b", "unknown", "state", "kinds_a", "kinds_b"),
    *("first", "block", "kind", "tensor", "keys_a", "keys_b", "done_a", "done_b", "beside"),
    *("shape_a", "shape_b", "kind_a", "kind_b", "branch_a", "branch_b", "others_a", "others_b"),
    "statistics_state",
)
UNITS = {
    "model_a": "the first model",
    "model_b": "the other model",
    "method_a": "what wrote the first model's file, and which form of it this is",
    "method_b": "the same of the other model's",
    "unknown": "why a file's own names were compared, and not a network's; empty where they were",
    "state": (
        "equal (number for number), equal in float16 or in bfloat16 (both round to the same"
        " numbers), changed, not finite; of two models also other networks (of other numbers of"
        " blocks, or under two thirds of the tensors of a backbone are in the other: no change is"
        " measured) or nothing in common; of a"
        " tensor also of another shape, of another number type, only in A or only in B"
    ),
    "kinds_a": "number types in the first model's file",
    "kinds_b": "number types in the other model's file",
    "tensors_a": "tensors of the first model",
    "tensors_b": "tensors of the other model",
    "shared": (
        "parameters, as tensors, that both have in one shape: all tensors but the running"
        " statistics and counters of normalisations"
    ),
    "equal": "of these, equal ones",
    "rounded": "of these, ones that are equal but for rounding to float16 or bfloat16",
    "changed": "of these, ones that changed",
    "broken": "of these, ones with numbers that are not finite",
    "unlike": "tensors of one name in two shapes, or of two number types that cannot be compared",
    "only_a": "tensors that the first model has alone",
    "only_b": "tensors that the other model has alone",
    "renamed": "shared tensors whose keys in the two files differ",
    "reshaped": "shared tensors that one file holds in other pieces or in another shape",
    "first": "the first tensor that is not equal, in the order of computation",
    "parameters": "numbers that are compared",
    "norm_a": "‖θ_A‖",
    "norm_b": "‖θ_B‖",
    "change": "‖θ_B − θ_A‖",
    "relative": "‖θ_B − θ_A‖ / ‖θ_A‖; empty where θ_A is 0",
    "angle": "between θ_A and θ_B, degrees; empty where one is 0",
    "cosine": "of θ_A and θ_B",
    "stretch": "(θ_B − θ_A)·θ_A / ‖θ_A‖²: above 0 the weights grew along themselves",
    "largest": "the largest change of a number",
    "branch_a": "which network of the first file it is; empty where the file holds one",
    "branch_b": "which network of the other file",
    "others_a": "the other networks of the first file",
    "others_b": "the other networks of the other file",
    "measured": (
        "of the shared tensors, ones of the backbone, over which norms, change, angle and largest"
        " are: all but the head's; of two heads alone, the head's"
    ),
    "backbone_a": "parameters of the first model's backbone, as tensors: all but the head's",
    "backbone_b": "the same of the other model's",
    "blocks_a": "blocks of the first model's backbone",
    "blocks_b": "blocks of the other model's backbone",
    "head": "‖θ_B − θ_A‖ / ‖θ_A‖ of the head beside the backbone; empty where there is none",
    "statistics": "running means and variances of batch normalisations that both have",
    "statistics_state": "of these: equal, equal in float16 or in bfloat16, changed, not finite",
    "statistics_relative": "of these: change divided by their norm in the first model",
    "block": "number of the block; empty of all blocks, and outside of blocks",
    "depth": "relative depth of the block, 0 to 1",
    "kind": "kind of layer; empty of all kinds",
    "tensors": "tensors in the group that both have",
    "tensor": "name of the tensor",
    "keys_a": "its keys in the first model's file",
    "keys_b": "its keys in the other model's file",
    "done_a": "how the first file's tensor was changed to fit the network",
    "done_b": "the same of the other file's",
    "beside": "why a backbone does not have it; empty of the network's own",
    "shape_a": "its shape in the first model",
    "shape_b": "its shape in the other model",
    "kind_a": "number type in the first model's file",
    "kind_b": "number type in the other model's file",
}


def explain_absence(models: Models) -> str | None:
    """Say why there is nothing to show: a change is from one model with weights to another."""
    if sum(name != PIXELS for name in models.studied) > 1:
        return None
    return "a change is from one model with weights to another, and there is one"


def compute(models: Models, *, weights: WeightSets, seed: int = 0) -> Results:
    """Compare the weights of the first model with those of each other one.

    `pairs` has a row for each pair of models, `layers` for each group of tensors (all, by kind, by
    block, by kind and block), `tensors` for each tensor. Nothing is random here, so that the seed
    has no effect.

    Args:
        models: the models.
        weights: their weights.
    """
    rows = [row for pair in list_pairs(models, weights) for row in _list_rows(pair)]
    return make_results(rows, TABLES, UNITS, TEXTS)


def _list_rows(pair: WeightPair) -> Iterator[tuple[str, Row]]:
    names = {"model_a": pair.model_a, "model_b": pair.model_b}
    row = _describe_pair(pair)
    yield "pairs", names | row
    compared = pair.compared if row["state"] != OTHER_NETWORKS else []
    tensors = [one.name for one, _ in compared]
    kinds = [pair.kinds[name] for name in tensors]
    blocks = list_blocks(list_backbone(tensors, kinds))
    for block, kind, places in list_groups(tensors, kinds):
        changes = [compared[place][1] for place in places]
        if not changes:
            continue
        whole = join_changes(changes)
        row = {"block": block, "kind": kind, "state": whole.state, "tensors": len(changes)}
        row["equal"] = sum(change.state == "equal" for change in changes)
        if block:
            row["depth"] = (blocks.index(block) + 1) / len(blocks)
        yield "layers", names | row | whole.columns()
    for one in pair.tensors:
        yield "tensors", names | _describe_tensor(one, pair.kinds[one.name])


def _describe_pair(pair: WeightPair) -> Row:
    """Make the row of two models, without their names."""
    counted, compared = pair.counted, pair.compared
    states = [one.state for one in counted if pair.kinds[one.name] not in BUFFERS]
    trained = [one for one in compared if pair.kinds[one[0].name] not in BUFFERS]
    state = join_changes(change for _, change in trained).state if trained else NOTHING
    if state == "changed" and not pair.is_of_one_network:
        state = OTHER_NETWORKS
    row: Row = {
        "method_a": pair.a.method,
        "method_b": pair.b.method,
        "unknown": pair.a.unknown or pair.b.unknown,
        "state": state,
        "tensors_a": len(pair.a.tensors),
        "tensors_b": len(pair.b.tensors),
        "shared": len(trained),
        "equal": states.count("equal"),
        "rounded": sum(state.startswith("equal in") for state in states),
        "changed": states.count("changed"),
        "broken": states.count("not finite"),
        "unlike": sum(one.state.startswith("of another") for one in counted),
        "only_a": sum(one.state == "only in A" for one in counted),
        "only_b": sum(one.state == "only in B" for one in counted),
        "renamed": sum(_are_renamed(one) for one, _ in compared),
        "reshaped": sum(_are_reshaped(one) for one, _ in compared),
        "first": next((one.name for one, change in trained if change.state != "equal"), ""),
    }
    for side, weights in (("a", pair.a), ("b", pair.b)):
        kinds = (tensor.kind for tensor in weights.tensors.values())
        row[f"kinds_{side}"] = " and ".join(sorted(dict.fromkeys(kinds)))
        row[f"branch_{side}"] = weights.branch
        row[f"others_{side}"] = ", ".join(weights.others)
        row[f"backbone_{side}"] = pair.count_backbone(side)
        row[f"blocks_{side}"] = pair.count_blocks(side)
    if state == OTHER_NETWORKS:
        return row | {"measured": pair.count_backbone("both")}
    return row | _measure_parts(pair)


def _measure_parts(pair: WeightPair) -> Row:
    """Measure the changes of the backbone, of the head beside it and of running statistics."""
    compared = pair.compared
    kinds = [pair.kinds[one.name] for one, _ in compared]
    groups = {
        kind: [compared[place][1] for place in places]
        for block, kind, places in list_groups([one.name for one, _ in compared], kinds)
        if not block
    }
    row: Row = {"measured": len(groups[""]), "statistics": len(groups.get("statistics", ()))}
    if groups[""]:
        row |= join_changes(groups[""]).columns()
    if "head" in groups and len(groups) - ("statistics" in groups) > 2:
        row["head"] = join_changes(groups["head"]).relative
    if "statistics" in groups:
        statistics = join_changes(groups["statistics"])
        row["statistics_state"] = statistics.state
        row["statistics_relative"] = statistics.relative
    return row


def _are_renamed(one: TensorPair) -> bool:
    assert one.a is not None
    assert one.b is not None
    return one.a.keys != one.b.keys


def _are_reshaped(one: TensorPair) -> bool:
    """Whether the two files hold a tensor in different pieces or shapes."""
    assert one.a is not None
    assert one.b is not None
    return one.a.done != one.b.done


def _describe_tensor(one: TensorPair, kind: str) -> Row:
    row: Row = {
        "tensor": one.name,
        "block": find_block(one.name) or "",
        "kind": kind,
        "state": one.state,
        "beside": one.first.beside,
    }
    for side, tensor in (("a", one.a), ("b", one.b)):
        if tensor is not None:
            row[f"keys_{side}"] = ", ".join(tensor.keys)
            row[f"done_{side}"] = tensor.done
            row[f"shape_{side}"] = " × ".join(map(str, tensor.value.shape)) or "1"
            row[f"kind_{side}"] = tensor.kind
    return row | (one.change.columns() if one.change is not None else {})


def draw(results: Results) -> Figure:
    """Draw for each other model the relative change by kind of layer and block, and the relative
    change and the angle of whole blocks against depth."""
    pairs = results["pairs"].to_dict("records")
    layers = results["layers"] if "layers" in results else pd.DataFrame(columns=TABLES["layers"])
    layers = layers[layers.kind != "statistics"]
    for column in ("block", "kind"):  # a CSV file that was read again has nan for an empty text
        texts = layers[column].astype(object).where(layers[column].notna(), "")
        layers = layers.assign(**{column: texts.astype(str)})
    top = float(np.nanmax(layers.relative.to_numpy(float), initial=0.0)) or 1.0
    grid: list[tuple[Panel | None, ...]] = []
    for pair in pairs:
        own = layers[(layers.model_a == pair["model_a"]) & (layers.model_b == pair["model_b"])]
        title = f"{pair['model_a']} → {pair['model_b']}"
        grid.append((_draw_cells(own, title, top), *_draw_lines(own, title)))
    return Figure("weights-changed", tuple(grid))


def _draw_cells(rows: pd.DataFrame, title: str, top: float) -> Heatmap | None:
    """Draw the relative change by kind and block; None where no block is compared."""
    cells = rows[(rows.block != "") & (rows.kind != "")]
    if not len(cells):
        return None
    blocks = tuple(dict.fromkeys(cells.block))
    kinds = tuple(dict.fromkeys(cells.kind))[::-1]
    values = np.full((len(kinds), len(blocks)), np.nan)
    for row in cells.itertuples():
        values[kinds.index(row.kind), blocks.index(row.block)] = row.relative
    return Heatmap(title, values, kinds, blocks, "block", "", (0.0, top), "‖θ_B − θ_A‖ / ‖θ_A‖")


def _draw_lines(rows: pd.DataFrame, title: str) -> tuple[Lines, Lines]:
    whole = rows[(rows.block != "") & (rows.kind == "")]
    x = whole.depth.to_numpy(np.float64)
    panels = []
    for column, label in (("relative", "change, relative"), ("angle", "angle, degrees")):
        values = whole[column].to_numpy(np.float64)
        top = float(np.nanmax(values, initial=0.0))
        limits = (0.0, 1.05 * top) if top > 0 else None  # from 0, so that what is even looks even
        lines = (Line(title, x, values),) if len(x) else ()
        panels.append(Lines("", "relative depth", label, lines, limits))
    return panels[0], panels[1]
