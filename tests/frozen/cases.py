"""The commands that the fixtures are made with: run in a copy of `files/`, by public entry points.

`files/` holds what today's code wrote: tiny trained models, fingerprints, folders of features,
artefacts of the store, stopped runs. `CASES` are commands on these files. Their tables are kept
with all digits, in `tables/CASE/NAME.json.gz`.
"""

import contextlib
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
FILES, TABLES, SAID = HERE / "files", HERE / "tables", HERE / "said"

#: floats of tables that are computed in float64 from stored artefacts
EXACT = 1e-10
#: of the thresholds of null distributions, whose CKAs are in float32 (3e-8 was measured between two
#: processors with AVX-512)
NULLS = 1e-7
#: of ridge probes: eigenvectors of nearly singular matrices, at penalties of 1e-6, magnify rounding
#: (1.2e-5 was measured between AVX-512 and SSE)
RIDGE = 1e-4
#: behind a forward pass in float32, which other instruction sets sum in another order (3e-7 was
#: measured, of CKA)
FORWARD = 1e-4
#: of models beside random initialisations, the last digits of which hang on the processor: an image
#: of 56 counts 0.02
CONTROLS = 0.05
#: of probes that are trained in float32, whose paths part: each of 11 validation images counts 0.09
#: (0.18 was measured)
TRAINED = 0.3


@dataclass(frozen=True)
class Case:
    """A command and what is known of its tables.

    Attributes:
        command: arguments of `sslens`; `--out` is added.
        tolerance: of floats where a processor computes otherwise; where it does not, all are equal
            within `EXACT`.
        out: what is given to `--out`.
        slow: whether it takes seconds.
    """

    name: str
    command: tuple[str, ...]
    tolerance: float = EXACT
    out: str = "out"
    slow: bool = False


def _of(name: str, command: str, tolerance: float = EXACT, **more: Any) -> Case:
    return Case(name, tuple(command.split()), tolerance, **more)


def prints(*names: str) -> str:
    """Fingerprints of `files/`, for a command."""
    return " ".join(f"fingerprints/{name}.fingerprint.safetensors" for name in names)


#: images of the artefacts that lie in `files/store`, and the bank
SEEN = "--images scenes:17:56 --bank scenes:2:48"
STORED = "mae moco moco1 mae-ft"

CASES = (
    # Grams of fingerprints: float64 from stored artefacts, but for the nulls
    _of(
        "blocks",
        f"compare {prints('mae', 'moco', 'dino', 'random-0', 'random-1', 'pixels')}"
        " --analyses cka-blocks",
        NULLS,
    ),
    _of(
        "types",
        f"compare {prints('mae', 'moco', 'dino', 'random-0', 'random-1')} --tokens all"
        " --analyses cka-layer-types",
        NULLS,
    ),
    _of(
        "measures",
        f"compare {prints('mae', 'moco', 'dino', 'random-0', 'random-1', 'pixels')} --tokens all"
        " --analyses other-measures",
        NULLS,
    ),
    _of(
        "finetuned",
        f"compare {prints('mae', 'moco', 'mae-ft', 'moco-ft', 'random-ft', 'random-0', 'random-1')}"
        " --tokens all --analyses cka-finetune",
        NULLS,
    ),
    _of(
        "msn",
        f"compare {prints('msn', 'mae', 'moco', 'random-0', 'random-1', 'pixels')}"
        " --analyses cka-msn",
        NULLS,
    ),
    _of(
        "distance",
        f"compare {prints('mae', 'moco', 'resnet', 'fcmae', 'random-0', 'random-resnet')}"
        " --tokens all --analyses cka-distance",
        NULLS,
    ),
    _of("study", "study study.yaml", NULLS),
    # tables of paths
    _of(
        "paths",
        "compare mae-ft moco-ft random-ft scenes_mae_ft scenes_moco_v3_ft scenes_dino_ft"
        " scenes_random_ft --analyses finetune-path",
    ),
    _of(
        "paths-alike", "compare mae-ft mae-ft1 moco-ft moco-ft1 random-ft --analyses finetune-path"
    ),
    _of(
        "path",
        "path mae/last.safetensors mae-ft/best.safetensors mae-ft/last.safetensors --as-given",
        out="out/path.csv",
    ),
    # features and wide Grams of the store
    _of(
        "bank",
        f"compare {STORED} {SEEN} --analyses knn-depth agreement",
        CONTROLS,
    ),
    _of("factors", f"compare {STORED} {SEEN} --analyses factors-depth", RIDGE),
    _of(
        "factors-halves",
        f"compare {STORED} --images scenes:17:56 --analyses factors-depth",
        RIDGE,
    ),
    _of(
        "halves",
        f"compare {STORED} --images scenes:17:56 --analyses knn-depth agreement",
        CONTROLS,
    ),
    _of(
        "convergence",
        "compare mae moco --images scenes:1:68 --no-controls --analyses cka-convergence",
    ),
    # folders of features
    _of("knn", "knn features/images --bank features/bank"),
    _of("knn-one-out", "knn features/images --k 1 5 20 --temperature 0.07"),
    # probes that are trained in float32
    _of(
        "probes",
        f"compare {STORED} {SEEN} --analyses probe-depth probe-layers knn-depth --grid small",
        TRAINED,
        slow=True,
    ),
    _of(
        "probe",
        "probe features/bank --test features/images --taps all --with-last --layers 1 2"
        " --grid small --few-shot 0.5 --draws 2",
        TRAINED,
        slow=True,
    ),
    _of("probe-folds", "probe features/images --folds 3 --grid small", TRAINED, slow=True),
    _of(
        "live-probe",
        "probe mae --images scenes:2:48 --test scenes:17:56 --grid small --factors",
        TRAINED,
        slow=True,
    ),
    # trainings: the losses, the path of the weights and what held-out images say, but no times
    _of(
        "finetune",
        "finetune mae --images scenes:5:32 --val scenes:7:16 --epochs 3 --batch-size 8 --path"
        " --log-every 1 --precision float32 --set drop_path=0.1 base_lr=0.02 together=4",
        TRAINED,
        out="tuned",
        slow=True,
    ),
    _of(
        "pretrain",
        "pretrain mae --images scenes:5:32 --arch vit_8x2_patch8_32 --epochs 3 --batch-size 8"
        " --knn scenes:7:40 --knn-every 1 --log-every 1 --precision float32"
        " --set decoder_dim=16 decoder_blocks=1 decoder_heads=2 base_lr=0.02",
        TRAINED,
        out="trained",
        slow=True,
    ),
    # forward passes
    _of(
        "live",
        "compare scenes_mae scenes_moco_v3 --images scenes:1:32 --batch 8 --no-controls"
        " --tokens all --analyses cka-blocks knn-depth",
        FORWARD,
        slow=True,
    ),
    _of(
        "live-convergence",
        "compare mae moco --images scenes:1:224 --no-controls --analyses cka-convergence",
        FORWARD,
        slow=True,
    ),
    _of(
        "live-knn",
        f"knn random:vit_nano_patch8_32 {SEEN} --k 5 20 --temperature 0.07",
        FORWARD,
        slow=True,
    ),
)
BY_NAME = {case.name: case for case in CASES}


@dataclass(frozen=True)
class Ran:
    """What a command did.

    Attributes:
        status: the exit status.
        said: standard output and error, without what depends on the clock.
        tables: every table that was saved, as `Table.to_json` gives it, by the name of its file; a
            table in a folder of a report has the folder's name too, as in `cka-blocks/cells`.
        findings: by analysis the sentences of the report; the advice under "advice".
    """

    status: int
    out: str
    said: str
    tables: dict[str, dict[str, Any]]
    findings: dict[str, list[str]]


def lay_out(folder: Path) -> Path:
    """A copy of `files/` to work in, with the store beside it."""
    shutil.copytree(FILES, folder, dirs_exist_ok=True)
    return folder


def run(case: Case, *more: str, whole: bool = False) -> Ran:
    """Run the command of a case, with `more` options, in the current folder, which is a copy of
    `files/`."""
    options = () if case.command[0] in ("path", "study", "features") else ("--device", "cpu")
    return command(*case.command, *options, *more, "--out", case.out, whole=whole)


def command(*arguments: str, whole: bool = True) -> Ran:
    """Run `sslens` in this process, with the store of the current folder.

    Args:
        whole: whether reports are written; their tables are in any case, in a quarter of the time.
    """
    from sslens.cli import main

    out, err = io.StringIO(), io.StringIO()
    before = os.environ.get("SSLENS_HOME")
    os.environ["SSLENS_HOME"] = str(Path.cwd())  # whose folder `store` it is
    try:
        with (
            warnings.catch_warnings(),  # which tests make errors
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            _recorded(whole) as (tables, findings),
        ):
            warnings.simplefilter("always")
            try:
                status = main(list(arguments))
            except SystemExit as stopped:
                status = stopped.code if isinstance(stopped.code, int) else 1
    finally:
        if before is None:
            del os.environ["SSLENS_HOME"]
        else:
            os.environ["SSLENS_HOME"] = before
    return Ran(status, out.getvalue(), timeless(err.getvalue()), tables, findings)


@contextlib.contextmanager
def _recorded(whole: bool) -> Iterator[tuple[dict[str, dict[str, Any]], dict[str, list[str]]]]:
    """Record every table that is saved, with all digits, and the sentences of reports.

    The files of tables have six digits. Only here names of the package are used that are not
    public: where they move, this moves with them.
    """
    from sslens import report
    from sslens.table import Table

    tables: dict[str, dict[str, Any]] = {}
    findings: dict[str, list[str]] = {}
    save, add, finish = Table.save, report.Draft.add, report.Draft.finish

    def saving(self: Any, path: Path) -> None:
        parts = path.with_suffix("").parts
        inside = parts[parts.index("tables") + 1 :] if "tables" in parts else parts[-1:]
        tables["/".join(inside)] = self.to_json()
        save(self, path)

    def adding(self: Any, section: Any) -> None:
        findings[section.name] = list(section.findings)
        add(self, section)

    def finishing(self: Any, **rest: Any) -> Path:
        findings["notes"] = list(rest.get("notes", ()))
        findings["advice"] = list(rest.get("advice", ()))
        path: Path = finish(self, **rest) if whole else self.out / "report.html"
        return path

    kinds: Any = Table, report.Draft
    kinds[0].save, kinds[1].add, kinds[1].finish = saving, adding, finishing
    try:
        yield tables, findings
    finally:
        kinds[0].save, kinds[1].add, kinds[1].finish = save, add, finish


def arithmetic() -> dict[str, str]:
    """How this processor and these libraries compute: where it is the same, so are floats.

    The digest is of what rounding leaves of products, exponentials and convolutions in float32, by
    the library that multiplies in a run, and of an eigenvalue problem.
    """
    import numpy as np
    import torch
    import torch.nn.functional as F

    from sslens.processes import fast_products

    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(size=(48, 3, 32, 32)).astype(np.float32))
    flat = x.flatten(1)
    found = [F.gelu(flat).softmax(1), F.layer_norm(flat, flat.shape[1:])]
    found += [
        F.conv2d(x, x[:8, :, :8, :8], stride=8),
        torch.linalg.eigh(flat[:, :24].double().T @ flat[:, :24].double())[1],
    ]
    with fast_products():
        found.insert(0, flat @ flat.T)
        for size in (8, 12, 24, 100):
            part = flat[:, :size].contiguous()
            found += [part @ part[:size].T, part.T @ part]
    text = b"".join(each.contiguous().numpy().tobytes() for each in found)
    return {
        "digest": hashlib.sha256(text).hexdigest(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


def timeless(text: str) -> str:
    """The text without lines of progress, in which rates depend on the machine.

    >>> timeless("a: 48/48 img, 315 img/s\\nmodel     a\\n")
    'model     a\\n'
    """
    lines = text.splitlines(keepends=True)
    return "".join(
        line for line in lines if not re.match(r".*: [\d,]+/[\d,]+ \w+, [\d.,]+ \w+/s", line)
    )


def write_table(path: Path, table: dict[str, Any]) -> None:
    """Keep a table with all digits; the same bytes for the same table."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = {key: value for key, value in table.items() if key != "provenance"}
    path.write_bytes(gzip.compress(json.dumps(kept).encode(), mtime=0))


def read_table(path: Path) -> dict[str, Any]:
    """The table that `write_table` kept."""
    table: dict[str, Any] = json.loads(gzip.decompress(path.read_bytes()))
    return table


def kept_tables(case: str, tables: Path = TABLES) -> dict[str, dict[str, Any]]:
    """The tables of a case as they were, by name."""
    folder = tables / case
    paths = sorted(folder.rglob("*.json.gz"))
    return {
        path.relative_to(folder).as_posix().removesuffix(".json.gz"): read_table(path)
        for path in paths
    }
