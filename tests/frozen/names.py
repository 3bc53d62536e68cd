"""Names that are frozen: what is public, and the keys in files. Others may be added."""

import csv
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from frozen import cases


def commands() -> dict[str, list[str]]:
    """The commands that the help lists, each with the options that its own help lists."""
    listed = re.findall(
        r"^(?:[a-z]+ {2,}| +)([a-z][a-z-]*) {2,}\S", cases.command("--help").out, re.MULTILINE
    )
    return {name: options_of(name) for name in listed}


def options_of(command: str) -> list[str]:
    """The options that a command's help lists, in lines that begin with them."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "120"  # wider, a help with many options has two columns of boxes
    text = cases.command(command, "--help").out
    os.environ.pop("COLUMNS")
    if before is not None:
        os.environ["COLUMNS"] = before
    begun = re.findall(r"^(?:  |│ )(-\S.*?)(?: {2,}|$)", text, re.MULTILINE)
    options = {option for line in begun for option in re.findall(r"(?<![\w-])--?[a-z][\w-]*", line)}
    return sorted(options - {"-h", "--help"})


def keys(value: Any, before: str = "") -> Iterator[str]:
    """The keys of a JSON value by their dotted names; those of the entries of a list end in [].

    >>> sorted(set(keys({"a": {"b": 1}, "c": [{"d": 2}, {"d": 3}]})))
    ['a', 'a.b', 'c', 'c[].d']
    """
    if isinstance(value, dict):
        for key, each in value.items():
            yield f"{before}{key}"
            yield from keys(each, f"{before}{key}.")
    elif isinstance(value, list):
        for each in value:
            yield from keys(each, f"{before.removesuffix('.')}[].")


def header(path: Path) -> list[str]:
    """The keys of a safetensors file's header, whose entries are JSON."""
    raw = path.read_bytes()
    entries = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")]).get("__metadata__", {})
    return sorted(set(keys({name: json.loads(text) for name, text in entries.items()})))


def tensors(path: Path) -> list[str]:
    """The kinds of tensors in a safetensors file: their names until the first slash."""
    raw = path.read_bytes()
    entries = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    return sorted({name.partition("/")[0] for name in entries} - {"__metadata__"})


def in_yaml(path: Path) -> list[str]:
    """The keys of a YAML file."""
    import yaml

    return sorted(set(keys(yaml.safe_load(path.read_text(encoding="utf-8")))))


def logged(path: Path) -> list[str]:
    """The keys of the lines of a log."""
    return sorted({key for line in path.read_text().splitlines() for key in json.loads(line)})


def columns(path: Path) -> list[str]:
    """The columns of a CSV file."""
    with path.open(newline="") as file:
        return next(csv.reader(file))


def of_fingerprint(path: Path) -> dict[str, list[str]]:
    """Of a fingerprint's file."""
    return {"header": header(path), "tensors": tensors(path)}


def of_features(folder: Path) -> dict[str, list[str]]:
    """Of a folder of features."""
    manifest = json.loads((folder / "features.json").read_text())
    return {
        "features.json": sorted(set(keys(manifest))),
        "files": sorted(path.name for path in folder.iterdir()),
        "images.safetensors": tensors(folder / "images.safetensors"),
        "shard-00000.safetensors": sorted(
            json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")]).keys() - {"__metadata__"}
            if (raw := (folder / "shard-00000.safetensors").read_bytes())
            else ()
        ),
    }


def of_run(folder: Path) -> dict[str, list[str]]:
    """Of the folder of a training that has a state."""
    found = {
        "files": sorted(path.name for path in folder.iterdir() if path.is_file()),
        "config.yaml": in_yaml(folder / "config.yaml"),
        "last.safetensors": header(folder / "last.safetensors"),
        "state.safetensors": header(folder / "state.safetensors"),
        "state.safetensors: tensors": tensors(folder / "state.safetensors"),
        "log.jsonl": logged(folder / "log.jsonl"),
    }
    for name in ("best.safetensors", "path.csv"):
        if (folder / name).exists():
            found[name] = columns(folder / name) if name.endswith(".csv") else header(folder / name)
    return found


def of_store(store: Path) -> dict[str, list[str]]:
    """Of the artefacts in the store: what their key holds."""
    found: dict[str, list[str]] = {}
    for kind in ("features", "grams", "wide"):
        path = min((store / kind).rglob("*.safetensors"), default=None)
        if path is not None:
            found[kind] = header(path)
    return found


def of_report(folder: Path) -> dict[str, list[str]]:
    """Of a report: its files, and what it says of itself."""
    known = json.loads((folder / "provenance.json").read_text())
    models = {key: {} for each in known.pop("models").values() for key in keys(each)}
    return {
        "files": sorted(
            str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()
        ),
        "study.yaml": in_yaml(folder / "study.yaml"),
        "provenance.json": sorted(keys(known | {"models": {"NAME": models}})),
    }


def scenes() -> dict[str, Any]:
    """What generated scenes are called, and the digest of some: they stay as they are."""
    import sslens

    images = sslens.open_images("scenes:1:48")
    assert images.labels is not None
    labels = " ".join(str(int(label)) for label in images.labels)
    return {
        "name": images.name,
        "content": images.content,
        "ids": list(images.ids[:3]),
        "labels": labels,
    }


def write(out: Path) -> None:
    """Keep all of them, in a copy of `files/`."""
    import sslens

    files = Path.cwd()
    shape = [
        "compare",
        *cases.STORED.split()[:2],
        "--images",
        "scenes:1:8",
        "--batch",
        "8",
        "--no-controls",
    ]
    ran = cases.command(*shape, "--analyses", "cka-blocks", "--device", "cpu", "--out", "out")
    assert ran.status == 0, ran.said
    found: dict[str, Any] = {
        "sslens.__all__": list(sslens.__all__),
        # the code of before lists commands in another form: what was read of it stays
        "commands": commands() or read(out / "names.json")["commands"],
        "scenes": scenes(),
        "encoder of a CNN": header(files / "resnet/last.safetensors"),
        "fingerprint": of_fingerprint(files / "fingerprints/mae.fingerprint.safetensors"),
        "features": of_features(files / "features/bank"),
        "pretrain": of_run(files / "stopped/pretrain"),
        "finetune": of_run(files / "stopped/finetune"),
        "store": of_store(files / "store"),
        "report": of_report(files / "out"),
        "tables": {
            f"{case.name}/{name}": list(table["columns"])
            for case in cases.CASES
            for name, table in cases.kept_tables(case.name).items()
        },
    }
    (out / "names.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")


def read(path: Path) -> dict[str, Any]:
    """What `write` kept."""
    kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return kept


def lost(old: Any, new: Any, where: str = "") -> list[str]:
    """The names of the old that the new have not.

    >>> lost({"a": ["x", "y"], "b": []}, {"a": ["y", "z"]})
    ['b', 'a: x']
    """
    if isinstance(old, dict):
        gone = [f"{where}{key}" for key in old if key not in new]
        return gone + [
            each
            for key in old
            if key in new
            for each in lost(old[key], new[key], f"{where}{key}: ")
        ]
    return [f"{where}{name}" for name in old if name not in new]
