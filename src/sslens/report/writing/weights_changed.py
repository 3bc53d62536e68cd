"""Sentences about the analysis weights-changed."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from sslens.comparisons.weight_changes import BUFFERS, OTHER_NETWORKS
from sslens.report.writing.numbers import (
    list_names,
    spell_count,
    spell_degrees,
    spell_relative,
)
from sslens.statistics.estimate import NAN
from sslens.table import Results

#: weights that changed by less are said to be the same to so much: a conversion does not do more
CLOSE = 1e-4
#: names, groups and models that are listed at most
NAMED, PAIRS = 4, 2


def sentences(results: Results) -> tuple[str, ...]:
    """Write of each pair of models whether their weights are the same, and to what; where they
    changed most and where not at all; what one of the two has alone; and how their files differ. Of
    more than two pairs only the first sentence is written."""
    pairs = results["pairs"].to_dict("records")
    written = []
    for pair in pairs:
        layers, tensors = (_select(results, name, pair) for name in ("layers", "tensors"))
        equal = _write_equal(pair)
        told = [_write_change(pair), equal, _write_kind(pair, layers), describe_statistics(pair)]
        own = [f"{'; '.join(filter(None, told))}."]
        if len(pairs) <= PAIRS:
            own += [*_write_layers(pair, layers, tensors), *_write_names(pair, tensors)]
        written.append(own)
    if len(pairs) > 1:  # one paragraph a pair
        return tuple(" ".join(own) for own in written)
    return tuple(sentence for own in written for sentence in own)


def _select(results: Results, table: str, pair: Mapping[Any, Any]) -> pd.DataFrame:
    if table not in results:
        return pd.DataFrame(columns=["block", "kind", "state", "tensor", "beside"])
    frame = results[table]
    return select_weights(frame, pair, table)


def select_weights(frame: pd.DataFrame, pair: Mapping[Any, Any], table: str) -> pd.DataFrame:
    """Select the rows of one pair of models, of parameters alone among `layers`, and without
    counters among `tensors`.

    Args:
        frame: a table with rows of several pairs.
        pair: a row of the table `pairs`.
        table: the name of the table.
    """
    own = frame[(frame.model_a == pair["model_a"]) & (frame.model_b == pair["model_b"])]
    if table == "layers":
        return own[~own.kind.isin(BUFFERS)]
    return own[own.kind != "counter"] if table == "tensors" else own


def _write_change(pair: Mapping[Any, Any]) -> str:
    """Write whether two models have the same weights, or how far they are apart."""
    names = f"{pair['model_a']} and {pair['model_b']}"
    effect = describe_weights(pair)
    state = str(pair["state"])
    if are_other_networks(pair):
        return f"{names} are not two states of one network: {effect}"
    if state == "equal":
        return f"{names} have the same weights: {effect}"
    if state == "not finite":
        return f"{names}: {effect}"
    if state.startswith("equal in"):
        kind = state.removeprefix("equal in ")
        return f"{names} have the same weights but for rounding to {kind}: {effect}"
    if pair["relative"] < CLOSE:
        return f"{names} have {effect}"
    if pair["relative"] != pair["relative"]:
        shared = _count_shared(pair)
        return f"{pair['model_a']} is all zeros in the {shared} that {pair['model_b']} has too"
    return f"From {pair['model_a']} to {pair['model_b']} the weights {effect}"


def _write_equal(pair: Mapping[Any, Any]) -> str:
    """Write how many tensors are equal where others changed; empty where none is."""
    if str(pair["state"]) != "changed" or not pair["relative"] >= CLOSE or not pair["equal"]:
        return ""
    are = "is" if pair["equal"] == 1 else "are"
    return f"{spell_count(pair['equal'])} of {_count_shared(pair)} {are} equal, number for number"


def _write_kind(pair: Mapping[Any, Any], layers: pd.DataFrame) -> str:
    """Write which kind of layer changed most where weights changed (`describe_weights`)."""
    changed = pair["shared"] and pair["state"] == "changed" and pair["relative"] >= CLOSE
    return write_most_changed_kind(pair, layers) if changed else ""


def describe_weights(pair: Mapping[Any, Any]) -> str:
    """Describe how far the weights of two models are apart, as a clause without their names.

    Args:
        pair: a row of the table `pairs`.
    """
    every = _name_shared(pair)
    are = "is" if pair["shared"] == 1 else "are"
    state, shared = str(pair["state"]), _count_shared(pair)
    if are_other_networks(pair):
        return _describe_other_networks(pair)
    if state == "equal":
        return f"{every} {are} equal, number for number"
    if state == "not finite":
        broken = spell_count(pair["broken"])
        return f"{broken} of {shared} hold numbers that are not finite, the first {pair['first']}"
    relative = spell_relative(pair["relative"])
    if state.startswith("equal in"):
        round_ = "rounds" if pair["shared"] == 1 else "round"
        return f"{every} {round_} to the same numbers (they differ by {relative} of their norm)"
    if pair["relative"] < CLOSE and has_head(pair) and pair["head"] >= CLOSE:
        close = f" to {relative} of its norm" if pair["relative"] else ""
        changed = spell_relative(pair["head"])
        return f"the same backbone{close}, and other heads: the head changed by {changed}"
    if pair["relative"] < CLOSE:
        return (
            f"the same weights to {relative} of their norm; {spell_count(pair['equal'])} of"
            f" {shared} are equal, and the first that is not is {pair['first']}"
        )
    if pair["relative"] != pair["relative"]:
        return f"the first is all zeros in the {shared} that both have"
    head = ""
    if has_head(pair):
        measured = spell_count(int(pair["measured"]), "tensor")
        every = every.replace(shared, f"{measured} of the backbone")
        head = f"; the head changed by {spell_relative(pair['head'])}"
    return f"changed by {relative} of their norm{_write_angle(pair)}, over {every}{head}"


def are_other_networks(pair: Mapping[Any, Any]) -> bool:
    """Whether two models have so little in common that they are no states of one network.

    Args:
        pair: a row of the table `pairs`.
    """
    return not pair["shared"] or str(pair["state"]) == OTHER_NETWORKS


def _describe_other_networks(pair: Mapping[Any, Any]) -> str:
    """Describe what two networks have in common, which is too little for a change of weights."""
    if not pair["shared"]:
        return "no tensor of one name and shape, so that no change of weights is measured"
    if not pair["measured"]:
        return (
            "no tensor of the backbones is in both by name and shape, so that no change is measured"
        )
    first, second = (spell_count(int(pair[f"backbone_{side}"])) for side in ("a", "b"))
    are = "is" if pair["measured"] == 1 else "are"
    both = f"{spell_count(int(pair['measured']))} {are} in both by name and shape"
    shared = f"of the {first} and {second} tensors of the backbones {both}"
    if pair["blocks_a"] != pair["blocks_b"]:
        blocks = f"{int(pair['blocks_a'])} and {int(pair['blocks_b'])} blocks"
        return f"the backbones have {blocks}, so that no change is measured; {shared}"
    return f"{shared}, too few for a change to be measured"


def _count_shared(pair: Mapping[Any, Any]) -> str:
    return spell_count(int(pair["shared"]), "tensor")


def _count_each(pair: Mapping[Any, Any]) -> str:
    """Count in brackets the tensors that each of two models has, of the backbones where a head was
    measured beside them."""
    both = int(pair["shared"]) + int(pair["unlike"])
    counts = [both + int(pair[f"only_{side}"]) for side in ("a", "b")]
    if has_head(pair):
        counts = [int(pair[f"backbone_{side}"]) for side in ("a", "b")]
    return f" (of {' and '.join(map(spell_count, counts))})"


def _name_shared(pair: Mapping[Any, Any]) -> str:
    """Name the tensors that are compared."""
    if pair["only_a"] + pair["only_b"] + pair["unlike"]:
        return f"the {_count_shared(pair)} that both have in one shape{_count_each(pair)}"
    return f"{'all' if pair['shared'] > 1 else 'the'} {_count_shared(pair)}"


def has_head(pair: Mapping[Any, Any]) -> bool:
    """Whether a head was measured beside the backbone.

    Args:
        pair: a row of the table `pairs`.
    """
    return bool(pair.get("head", NAN) == pair.get("head", NAN))


def describe_statistics(pair: Mapping[Any, Any]) -> str:
    """Describe how far the running statistics of normalisations changed, which are no weights, as a
    clause; empty where there are none.

    Args:
        pair: a row of the table `pairs`.
    """
    count = pair.get("statistics", 0)
    if not count > 0:  # nor where it is not known
        return ""
    of = (
        "the running means and variances of batch normalisation, which are no weights"
        f" ({spell_count(int(count))} tensor{'' if count == 1 else 's'}),"
    )
    state = str(pair["statistics_state"])
    if state == "equal":
        return f"{of} are equal"
    if state == "not finite":
        return f"{of} hold numbers that are not finite"
    if pair["statistics_relative"] != pair["statistics_relative"]:
        return f"{of} changed from zeros"
    return f"{of} changed by {spell_relative(pair['statistics_relative'])} of their norm"


def _write_angle(row: Mapping[Any, Any]) -> str:
    if row["angle"] != row["angle"]:
        return ""
    return f", at an angle of {spell_degrees(row['angle'])}"


def _write_layers(
    pair: Mapping[Any, Any], layers: pd.DataFrame, tensors: pd.DataFrame
) -> Iterator[str]:
    """Write where weights changed most and least, and which were not touched."""
    if pair["state"] == "equal" or are_other_networks(pair):
        return
    states = layers.state
    kinds = layers[(layers.block == "") & (layers.kind != "") & (states != "equal")]
    moved = kinds[kinds.relative.notna()].sort_values("relative", ascending=False, kind="stable")
    if len(moved):
        parts = [f"{row.kind} {spell_relative(row.relative)}" for row in moved.itertuples()]
        text = f"By kind of layer from {pair['model_a']} to {pair['model_b']}: {', '.join(parts)}"
        found = find_most_changed(layers)
        if found is not None:
            name, most = found
            text += f"; most in {name} ({spell_relative(most['relative'])}{_write_angle(most)})"
        yield f"{text}."
    untouched = list_untouched(layers, tensors)
    if untouched:
        yield f"Untouched by {pair['model_b']}: {list_names(untouched)}."


def write_most_changed_kind(pair: Mapping[Any, Any], layers: pd.DataFrame) -> str:
    """Write which kind of layer changed most, relative to its own norm, as a clause: the norm of
    all weights may be nearly that of one kind. Empty where none changed by more than all together.

    Args:
        pair: a row of the table `pairs`.
        layers: the rows of this pair, of parameters alone (`select_weights`).

    >>> rows = [("", "norm", 0.06), ("", "attention", 0.324), ("1", "attention", 0.5)]
    >>> layers = pd.DataFrame(rows, columns=["block", "kind", "relative"])
    >>> write_most_changed_kind({"relative": 0.088}, layers)
    'attention by 32% of its own norm'
    """
    if not len(layers):
        return ""
    kinds = layers[(layers.block == "") & ~layers.kind.isin(["", "head"])]
    kinds = kinds[kinds.relative.notna()]
    if not len(kinds):
        return ""
    most = kinds.loc[kinds.relative.idxmax()]
    if not most.relative > pair["relative"]:
        return ""
    return f"{most.kind} by {spell_relative(most.relative)} of its own norm"


def find_most_changed(layers: pd.DataFrame) -> tuple[str, Mapping[Any, Any]] | None:
    """Find what changed most: a kind of layer in a block, or one that no block has, as the stem of
    a ResNet; a head counts for none. None where no change is known.

    Args:
        layers: the rows of one pair, of parameters alone (`select_weights`).

    >>> rows = [("", "embedding", 0.85), ("", "norm", 0.9), ("1.0", "norm", 0.1)]
    >>> find_most_changed(pd.DataFrame(rows, columns=["block", "kind", "relative"]))[0]
    'embedding, before the blocks'
    """
    if not len(layers):
        return None
    named = layers[~layers.kind.isin(["", "head"]) & layers.relative.notna()]
    inside = set(named.kind[named.block != ""])
    cells = named[(named.block != "") | ~named.kind.isin(inside)]
    if not len(cells):
        return None
    most = cells.loc[cells.relative.idxmax()].to_dict()
    if most["block"]:
        return f"block {most['block']}, {most['kind']}", most
    return f"{most['kind']}{', before the blocks' if most['kind'] == 'embedding' else ''}", most


def list_untouched(layers: pd.DataFrame, tensors: pd.DataFrame) -> list[str]:
    """List kinds of layers and blocks that are equal number for number, runs of blocks together,
    then the first tensors that are in none of these.

    Args:
        layers, tensors: the rows of one pair (`select_weights`).
    """
    equal = layers[layers.state == "equal"]
    kinds = [str(kind) for kind in equal.kind[(equal.block == "") & (equal.kind != "")]]
    order = list(dict.fromkeys(layers.block[layers.block != ""]))
    blocks = set(equal.block[(equal.block != "") & (equal.kind == "")])
    runs: list[list[str]] = []
    for place, block in enumerate(order):
        if block in blocks:
            if not runs or place == 0 or order[place - 1] not in blocks:
                runs.append([])
            runs[-1].append(str(block))
    spans = [
        f"block {run[0]}" if len(run) == 1 else f"blocks {run[0]} to {run[-1]}" for run in runs
    ]
    if not len(tensors):
        return [*kinds, *spans]
    single = tensors[(tensors.state == "equal") & ~tensors.kind.isin([*kinds, *BUFFERS])]
    names = [str(name) for name in single.tensor[~single.block.isin(blocks)]]
    more = [f"{spell_count(len(names) - NAMED)} tensors more"] if len(names) > NAMED else []
    return [*kinds, *spans, *names[:NAMED], *more]


def _write_names(pair: Mapping[Any, Any], tensors: pd.DataFrame) -> Iterator[str]:
    """Write what one model has alone or in another shape, and how the two files differ."""
    alone = write_alone(pair, tensors)
    if alone:
        yield f"{alone}."
    files = []
    if pair["kinds_a"] != pair["kinds_b"]:
        files.append(
            f"{pair['model_a']} is stored in {pair['kinds_a']}, {pair['model_b']} in"
            f" {pair['kinds_b']}"
        )
    if pair["renamed"]:
        files.append(f"{spell_count(pair['renamed'])} of the shared tensors have other keys")
    if pair["reshaped"]:
        files.append(f"{spell_count(pair['reshaped'])} lie in other pieces or shapes")
    if files:
        yield f"The files of {pair['model_a']} and {pair['model_b']} differ: {'; '.join(files)}."
    if pair["unknown"]:
        yield (
            f"The tensors of {pair['model_a']} and {pair['model_b']} are paired by the names in"
            " their files, since of at least one no network is known."
        )


def write_alone(pair: Mapping[Any, Any], tensors: pd.DataFrame) -> str:
    """Write what one of two models has alone or in another shape; empty if nothing.

    Args:
        pair: a row of the table `pairs`.
        tensors: the rows of the table `tensors` about the same two models.
    """
    alone = [
        f"{pair[f'model_{side}']} alone has {_list_tensors(tensors, f'only in {side.upper()}')}"
        for side in ("a", "b")
        if pair[f"only_{side}"]
    ]
    if pair["unlike"]:
        unlike = tensors[tensors.state.str.startswith("of another")]
        shown = [_describe_unlike(row) for row in unlike.head(NAMED).to_dict("records")]
        alone.append(
            f"{pair['model_a']} and {pair['model_b']} cannot be compared in"
            f" {_shorten(shown, len(unlike))}"
        )
    return "; ".join(alone)


def _list_tensors(tensors: pd.DataFrame, state: str) -> str:
    """List the tensors that one model has alone, by the reason for which a backbone has none."""
    own = tensors[tensors.state == state]
    parts = []
    for reason, rows in own.groupby("beside", sort=False):
        shown = _shorten([str(name) for name in rows.tensor.head(NAMED)], len(rows))
        parts.append(f"{shown} ({reason})" if reason else shown)
    return ", ".join(parts)


def _shorten(shown: Sequence[str], count: int) -> str:
    if count <= len(shown):
        return list_names(shown)
    return f"{', '.join(shown)} and {spell_count(count - len(shown))} more"


def _describe_unlike(row: Mapping[Any, Any]) -> str:
    if row["state"] == "of another shape":
        return f"{row['tensor']} ({row['shape_a']} and {row['shape_b']})"
    return f"{row['tensor']} ({row['kind_a']} and {row['kind_b']})"
