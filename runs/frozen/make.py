"""Write what today's code does into `tests/frozen/`: files, tables, texts and names.

    python runs/frozen/make.py              # all parts, about two minutes on one core
    python runs/frozen/make.py tables --out FOLDER      # the tables alone, elsewhere

| part | writes | what it is |
|---|---|---|
| files | files/ | tiny models, fingerprints, features, the store, stopped runs, study.yaml |
| tables | tables/, said/, findings.txt | of the commands of `cases.py` all tables, and the texts |
| refused | refused.json | the exit status and text of commands that are wrong |
| names | names.json | names that are public, and the keys that lie in files |
| refusals | refusals.txt | the texts of all refusals in the source, placeholders as {} |

Only `files` is never to be written again: it is what later code must read. The other parts are
compared with what later code gives. Networks have a width of 8 or 12 and see 32 px, so that all of
it is some 2 MB.

Where images or shipped weights change, the code of before writes them anew, so that they stay what
later code is held against: in a checkout of 95658a4, give it the new files of `src/sslens/data/`
that draw scenes (scenes, scene_images, painting, patterns, silhouettes) and the new cards, without
the keys that it does not know, and

    PYTHONPATH=../before/src python runs/frozen/make.py files tables refused names
    PYTHONPATH=../before/src python runs/frozen/make.py tables --cases paths live    # new weights

which are the cases that read shipped models. Last done for version 4 of the scenes.
"""

import argparse
import ast
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from frozen import cases, names, refused  # noqa: E402 (which lie in tests/)

ARCH, STOPPED = "vit_12x3_patch8_32", "vit_8x2_patch8_32"
SMALL = ["--device", "cpu", "--precision", "float32", "--log-every", "1"]
#: settings that make each objective's heads tiny
HEADS = {
    "mae": "decoder_dim=16 decoder_blocks=1 decoder_heads=2 base_lr=0.02",
    "moco-v3": "head_dim=16 out_dim=8 base_lr=0.02",
    "dino": "prototypes=16 head_dim=16 out_dim=8 local_crops=0 base_lr=0.02",
    "msn": "prototypes=16 head_dim=16 out_dim=8 focal_views=1 focal_size=16 base_lr=0.02",
    "fcmae": "decoder_dim=16 base_lr=0.02",
}
#: the models that are pre-trained: name, objective, architecture, seed
PRETRAINED = (
    ("mae", "mae", ARCH, 0),
    ("moco", "moco-v3", ARCH, 0),
    ("moco1", "moco-v3", ARCH, 1),
    ("dino", "dino", ARCH, 0),
    ("msn", "msn", ARCH, 0),
    ("resnet", "moco-v3", "resnet_4x6x8x10_1x1x1x1_32", 0),
    ("fcmae", "fcmae", "convnextv2_4x6x8x10_1x1x1x1_64", 0),
)
#: what they are fine-tuned to, by one recipe
TUNED = {"mae-ft": "mae", "moco-ft": "moco", "random-ft": f"random:{ARCH}:0"}
#: and with another seed, so that paths have intervals
AGAIN = {"mae-ft1": "mae", "moco-ft1": "moco"}
TUNING = "--images scenes:6:64 --epochs 3 --batch-size 16 --set drop_path=0 base_lr=0.02 together=4"
CONTROLS = {
    "random-0": f"random:{ARCH}:0",
    "random-1": f"random:{ARCH}:1",
    "random-resnet": "random:resnet_4x6x8x10_1x1x1x1_32:0",
    "pixels": "pixels",
}
#: runs that are stopped after so many steps, of 48 and 24
HALVES = {"pretrain": 20, "finetune": 10}
#: the second begins with what the first ends at: the last digits of a random initialisation hang on
#: the processor, and a run that goes on wants the weights that it began with
STOPPING = {
    "pretrain": f"pretrain mae --images scenes:5:48 --arch {STOPPED} --epochs 8 --batch-size 8"
    f" --save-every 4 --set {HEADS['mae']}",
    "finetune": "finetune stopped/pretrain-ended --images scenes:5:48 --val scenes:7:16 --epochs 4"
    " --batch-size 8 --path --set drop_path=0.1 base_lr=0.02 together=4",
}


def sslens(*arguments: str) -> cases.Ran:
    """Run a command in the current folder; it must end well."""
    ran = cases.command(*arguments)
    if ran.status:
        raise SystemExit(f"sslens {' '.join(arguments)}: {ran.said}")
    return ran


# --------------------------------------------------------------------------------------------------
# ----------- files


def write_files(out: Path) -> None:
    """Everything that later code must read, in the current folder first."""
    for name, objective, arch, seed in PRETRAINED:
        settings = ["--set", *HEADS[objective].split()]
        images = [
            "--images",
            "scenes:5:64",
            "--epochs",
            "4",
            "--batch-size",
            "16",
            "--seed",
            str(seed),
        ]
        sslens(
            "pretrain",
            objective,
            *images,
            "--arch",
            arch,
            "--name",
            name,
            *SMALL,
            *settings,
            "--out",
            name,
        )
        keep(Path(name), "last.safetensors")
    for name, source in {**TUNED, **AGAIN}.items():
        seed = "1" if name in AGAIN else "0"
        tuning = [*TUNING.split(), *SMALL, "--name", name, "--seed", seed, "--path", "--out", name]
        sslens("finetune", source, *(["--val", "scenes:7:32"] if name == "mae-ft" else []), *tuning)
        keep(
            Path(name),
            "last.safetensors",
            "path.csv",
            "config.yaml",
            *(["best.safetensors"] if name == "mae-ft" else []),
        )
    for name, source in {
        **{name: name for name, *_ in PRETRAINED},
        **{name: name for name in TUNED},
        **CONTROLS,
    }.items():
        if name == "moco1":
            continue
        tokens = (
            []
            if name in ("resnet", "fcmae", "random-resnet", "pixels")
            else ["--tokens", "all", "cls"]
        )
        given = ["--images", "scenes:1:48", "--batch", "8", "--device", "cpu"]
        sslens(
            "fingerprint",
            source,
            *given,
            *tokens,
            "--out",
            f"fingerprints/{name}.fingerprint.safetensors",
        )
    given = [
        "--images",
        "scenes:1:48",
        "--batch",
        "8",
        "--device",
        "cpu",
        "--half",
        "--out",
        "half.fingerprint.safetensors",
    ]
    sslens("fingerprint", "mae", *given)
    for name, images in (("images", "scenes:17:56"), ("bank", "scenes:2:48")):
        sslens(
            "features",
            "mae",
            "--images",
            images,
            "--device",
            "cpu",
            "--dtype",
            "float32",
            "--out",
            f"features/{name}",
        )
    shutil.rmtree("store")
    for name in ("bank", "halves", "convergence"):
        cases.run(cases.BY_NAME[name])
    sslens(*cases.BY_NAME["blocks"].command, "--device", "cpu", "--out", "out")
    shutil.copy("out/study.yaml", "study.yaml")
    keep_store(Path("store"))
    for name in STOPPING:
        stop(name)
    for left in ("out", "scratch"):
        shutil.rmtree(left, ignore_errors=True)
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(".", out)


def keep(folder: Path, *names: str) -> None:
    """Remove all files of a run but these."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name not in names:
            path.unlink()


def keep_store(store: Path) -> None:
    """Remove tables, and artefacts of raw pixels: these are large, and alike on every machine."""
    from safetensors import safe_open

    shutil.rmtree(store / "tables")
    for path in sorted(store.rglob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            pixels = any(
                "pixels" in tap["kind"] for tap in json.loads(file.metadata()["sslens.key"])["taps"]
            )
        if pixels:
            path.unlink()


def stop(name: str) -> None:
    """A run that a signal stops half-way, and what it ends at when it goes on."""
    folder, arguments = Path("stopped", name), [*STOPPING[name].split(), *SMALL, "--workers", "0"]
    environment = {**os.environ, "SSLENS_HOME": str(Path.cwd())}
    line = [sys.executable, "-m", "sslens", *arguments, "--out", str(folder)]
    with subprocess.Popen(
        line, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    ) as process:
        while steps(folder) < HALVES[name]:
            assert process.poll() is None, f"{name} was over before it was stopped"
            time.sleep(0.001)
        process.send_signal(signal.SIGTERM)
    with tempfile.TemporaryDirectory() as temporary:
        ended = Path(temporary, "run")
        shutil.copytree(folder, ended)
        sslens(*arguments, "--resume", "--out", str(ended))
        assert steps(folder) < steps(ended), f"{name} was over before it was stopped"
        Path("stopped", f"{name}-ended").mkdir()
        for file in ("last.safetensors", "best.safetensors", "path.csv", "log.jsonl"):
            if (ended / file).exists():
                shutil.copy(ended / file, Path("stopped", f"{name}-ended"))
    Path("stopped", f"{name}.json").write_text(json.dumps(arguments) + "\n")


def steps(folder: Path) -> int:
    """Steps in the log of a run."""
    log = folder / "log.jsonl"
    return log.read_text().count('"loss"') if log.exists() else 0


# --------------------------------------------------------------------------------------------------
# ---------- tables


def write_tables(out: Path, wanted: list[str]) -> None:
    """The tables of cases, what was printed, and the sentences of reports; of other cases they
    stay."""
    sentences = read_sentences(out / "findings.txt")
    for name in ("tables", "said"):
        (out / name).mkdir(parents=True, exist_ok=True)
    for case in (cases.BY_NAME[name] for name in wanted):
        began = time.monotonic()
        ran = cases.run(case)
        if ran.status:
            raise SystemExit(f"{case.name}: {ran.said}")
        shutil.rmtree(out / "tables" / case.name, ignore_errors=True)
        for name, table in ran.tables.items():
            cases.write_table(out / "tables" / case.name / f"{name}.json.gz", table)
        (out / "said" / f"{case.name}.txt").write_text(f"{ran.said}{ran.out}")
        sentences[case.name] = [
            "\n".join([f"{case.name} {name}", *(f"  {sentence}" for sentence in said), ""])
            for name, said in ran.findings.items()
        ]
        print(
            f"{case.name:<12} {time.monotonic() - began:5.1f} s  {', '.join(ran.tables)}",
            flush=True,
        )
    blocks = [block for name in cases.BY_NAME for block in sentences.get(name, [])]
    (out / "findings.txt").write_text("\n".join(blocks))
    (out / "arithmetic.json").write_text(json.dumps(cases.arithmetic(), indent=1) + "\n")


def read_sentences(path: Path) -> dict[str, list[str]]:
    """The blocks of `findings.txt` by case: a line with the case and the analysis, its sentences,
    and an empty line."""
    sentences: dict[str, list[str]] = {}
    text = path.read_text() if path.exists() else ""
    for block in text.split("\n\n"):
        if block.strip():
            sentences.setdefault(block.split()[0], []).append(block.rstrip("\n") + "\n")
    return sentences


# --------------------------------------------------------------------------------------------------
# -------- refusals


def write_refusals(out: Path) -> None:
    """The templates of all messages of InputError and its kinds, and of Doubt."""
    texts: set[str] = set()
    trees = [ast.parse(path.read_text()) for path in sorted((ROOT / "src").rglob("*.py"))]
    kinds = {"InputError", "Doubt"}
    for tree in trees * 2:  # a kind may be derived in a module that is read later
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and any(named(base) in kinds for base in node.bases):
                kinds.add(node.name)
    scopes = [
        node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)
    ]
    passing = {name for scope in scopes if (name := passed_on(scope, kinds))}
    functions = {scope.name: scope for scope in scopes}
    silent = []
    for scope in scopes:
        for node in ast.walk(scope):
            if isinstance(node, ast.Call) and refuses(node, kinds | passing):
                found = {
                    text for argument in node.args for text in templates(argument, scope, functions)
                }
                texts |= found
                silent += (
                    []
                    if any(" " in text for text in found)
                    else [f"{scope.name}, line {node.lineno}"]
                )
    print(f"{len(silent)} refusals whose text no template gives: {'; '.join(silent)}")
    (out / "refusals.txt").write_text(
        "\n".join(sorted(text for text in texts if " " in text)) + "\n"
    )


def named(node: ast.expr) -> str:
    """The last part of a name."""
    return (
        node.attr
        if isinstance(node, ast.Attribute)
        else node.id
        if isinstance(node, ast.Name)
        else ""
    )


def refuses(node: ast.Call, kinds: set[str]) -> bool:
    """Whether a call makes a refusal, or warns of a doubt."""
    warned = named(node.func) == "warn" and any(named(each) in kinds for each in node.args[1:])
    return named(node.func) in kinds or warned


def passed_on(scope: ast.FunctionDef, kinds: set[str]) -> str | None:
    """The name of a function that puts an argument into a refusal, as `damaged(path, why)`."""
    given = {argument.arg for argument in (*scope.args.args, *scope.args.kwonlyargs)}
    calls = [
        node for node in ast.walk(scope) if isinstance(node, ast.Call) and refuses(node, kinds)
    ]
    used = {
        node.id
        for call in calls
        for each in call.args
        for node in ast.walk(each)
        if isinstance(node, ast.Name)
    }
    return (
        scope.name if given & used & {"why", "reason", "what", "said", "text", "message"} else None
    )


def templates(
    node: ast.expr, scope: ast.FunctionDef, functions: dict[str, ast.FunctionDef], depth: int = 6
) -> Iterator[str]:
    """The texts of an expression: of a name what it was assigned, of a call what it returns."""
    inner: list[tuple[ast.expr, ast.FunctionDef]] = []
    if not depth:
        return
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        yield "".join(
            str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values
        )
        inner = [
            (each.value, scope) for each in node.values if isinstance(each, ast.FormattedValue)
        ]
    elif isinstance(node, ast.IfExp):
        inner = [(node.body, scope), (node.orelse, scope)]
    elif isinstance(node, ast.BinOp):
        inner = [(node.left, scope), (node.right, scope)]
    elif (
        isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in functions
    ):
        called = functions[node.func.id]
        returned = [
            each.value for each in ast.walk(called) if isinstance(each, ast.Return) and each.value
        ]
        inner = [(each, called) for each in returned]
    elif isinstance(node, ast.Name):
        inner = [(each, scope) for each in assigned(node.id, scope)]
    for each, where in inner:
        yield from templates(each, where, functions, depth - 1)


def assigned(name: str, scope: ast.FunctionDef) -> Iterator[ast.expr]:
    """What a local name is assigned."""
    for node in ast.walk(scope):
        targets = node.targets if isinstance(node, ast.Assign) else []
        if isinstance(node, ast.AugAssign | ast.NamedExpr):
            targets = [node.target]
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            yield node.value  # type: ignore[attr-defined]


# --------------------------------------------------------------------------------------------------
# ------------- run


def main() -> None:
    """Write the parts that are asked for."""
    parts = ("files", "tables", "refused", "names", "refusals")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", choices=[*parts, []], help="all unless given")
    parser.add_argument("--out", type=Path, default=cases.HERE, help="tests/frozen unless given")
    parser.add_argument(
        "--cases",
        nargs="+",
        choices=list(cases.BY_NAME),
        default=list(cases.BY_NAME),
        help="all unless given",
    )
    options = parser.parse_args()
    out = options.out.resolve()
    writers = {
        "files": lambda: write_files(out / "files"),
        "tables": lambda: write_tables(out, options.cases),
        "refused": lambda: refused.write(out / "refused.json"),
        "names": lambda: names.write(out),
        "refusals": lambda: write_refusals(out),
    }
    import torch

    torch.set_num_threads(1)
    for part in options.parts or parts:
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as temporary:
            if part != "files":
                cases.lay_out(Path(temporary))
            before = Path.cwd()
            os.chdir(temporary)
            try:
                writers[part]()
            finally:
                os.chdir(before)
        print(f"{part}: {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
