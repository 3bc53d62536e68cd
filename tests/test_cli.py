"""The command line, as a person meets it: what a mistake says, what it leaves, and what it
imports."""

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from sslens import __version__, zoo
from sslens.arguments.training import override_settings
from sslens.cli import GROUPS, main, overview
from sslens.errors import InputError
from sslens.find import names as plugin_names
from sslens.find import plugin
from sslens.models.vit import ViTArch, describe
from sslens.objectives.mae import Settings
from sslens.store import write_tensors

NANO = "random:vit_nano_patch8_32"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with pictures in `photos` and a trained model in `runs/mae`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        Path("photos", name).mkdir(parents=True)
        for i in range(5):
            Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(
                f"photos/{name}/{i}.png"
            )
    arch = ViTArch.parse("vit_nano_patch8_32")
    about = {"family": "sslens", "objective": "mae", "arch": "vit_nano_patch8_32"}
    write_tensors(
        Path("runs/mae") / zoo.ENCODER,
        arch.build(7).state_dict(),
        zoo.make_header("mae", describe(arch), about),
    )
    Path("study.yaml").write_text("models: [pixels]\nimages: photos\ndevice: cpu\n")
    return tmp_path


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def run(line: str) -> int:
    """Run a command line without its first word; returns the status."""
    return main(shlex.split(line))


def refused(line: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What is said of a mistake: one sentence on standard error, status 2."""
    capsys.readouterr()
    assert run(line) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    said = [line for line in err.splitlines() if line.startswith("sslens: ")]
    assert len(said) == 1, err
    assert err.endswith(said[0] + "\n")
    return said[0].removeprefix("sslens: ")


# ------------------------------------------------------------------------------------------------
# what works


def test_compare_writes_a_report_and_a_second_time_the_same(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = (
        f"compare runs/mae {NANO}:5 --images photos --batch 5 --device cpu"
        " --analyses cka-blocks knn-depth --limit 8 --no-controls --seed 3 --out first"
    )
    assert run(line) == 0
    out, err = capsys.readouterr()
    assert out == "first/report.html\n"
    assert "images    8 of photos" in err
    assert "model     mae over 8 images of photos" in err
    found = files(place / "first")
    assert {
        "report.html",
        "study.yaml",
        "provenance.json",
        "tables/knn-depth/accuracies.csv",
    } <= found
    assert not Path("first/figures").exists()
    command = json.loads(Path("first/provenance.json").read_text())["command"]
    assert command == f"sslens {line}"

    assert run("study first/study.yaml analyses=knn-depth --out second --figures") == 0
    assert "in the store" in capsys.readouterr().err
    assert (
        Path("second/tables/knn-depth/accuracies.csv").read_bytes()
        == Path("first/tables/knn-depth/accuracies.csv").read_bytes()
    )
    assert files(Path("second/figures")) == {"knn-depth.svg", "knn-depth.pdf"}
    assert not Path("second/tables/cka-blocks.csv").exists()


@pytest.mark.parametrize(
    "line",
    [
        "compare runs/mae --images photos --device cpu",
        "study study.yaml",
        f"pretrain mae --images photos --arch {NANO[7:]} --batch-size 4 --device cpu --out new",
        pytest.param("demo", marks=pytest.mark.slow),
    ],
    ids=lambda line: line.split()[0],
)
def test_a_dry_run_says_the_plan_and_writes_nothing(
    place: Path, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(place)
    assert run(f"{line} --dry-run") == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "images" in err or "scenes" in err
    assert files(place) == before
    home = Path(os.environ["SSLENS_HOME"])
    assert not [
        name for name in files(home) if not name.startswith("indexes")
    ]  # what was read of the folder


@pytest.mark.parametrize("command", ["pretrain mae --arch vit_nano_patch8_32", f"finetune {NANO}"])
def test_a_plan_shows_settings_as_a_table(
    place: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = "--images photos --batch-size 4 --device cpu --set base_lr=3e-4 --out new"
    assert run(f"{command} {options} --dry-run") == 0
    err = capsys.readouterr().err
    assert "Settings(" not in err
    at = [one.startswith("settings  ") for one in err.splitlines()].index(True)
    table = err.splitlines()[at:]
    assert all(len(one) <= 80 for one in table)
    words = " ".join(table).split()
    for name, value in (("base_lr", "0.0003"), ("weight_decay", "0.05"), ("warmup", "0.05")):
        assert words[words.index(name) + 1] == value


def test_the_version_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"sslens {__version__}\n"


# ------------------------------------------------------------------------------------------------
# mistakes

PIXELS = "compare pixels --images photos"
PRETRAIN = "pretrain mae --images photos --arch vit_nano_patch8_32"
#: the command, and what is said of it
MISTAKES = {
    "missing folder": (
        "compare pixels --images fotos",
        'there is no "fotos": did you mean photos?',
    ),
    "empty folder": ("compare pixels --images empty", "empty holds no image (it is empty)"),
    "one image": (
        "compare pixels --images one",
        "At least 4 images are needed; one holds 1: add images",
    ),
    "an image for a folder": (
        "compare pixels --images one/0.png",
        "one/0.png is one image: give a folder",
    ),
    "few images": (f"{PIXELS} --limit 3", "At least 4 images are needed; the limit is 3"),
    "few images in a minibatch": (f"{PIXELS} --batch 3", "A minibatch of 3 images is too small"),
    "broken image": ("compare pixels --images broken", "broken/cat/1.png cannot be decoded"),
    "misspelt model": (
        "compare runs/mea --images photos",
        'There is no model "runs/mea": did you mean runs/mae?',
    ),
    "misspelt form": ("compare pixel --images photos", "did you mean pixels?"),
    "misspelt timm model": (
        "compare random:timm/test_vitt --images photos",
        "did you mean test_vit",
    ),
    "misspelt size": (
        "compare random:vit_nano_patch7_32 --images photos",
        "must be a multiple of the patch size",
    ),
    "no model": ("compare --images photos", "Give one or more models"),
    "a model twice": ("compare pixels pixels --images photos", "pixels is given twice"),
    "misspelt analysis": (f"{PIXELS} --analyses cka-blok", "did you mean cka-blocks"),
    "truncated checkpoint": (
        "compare cut --images photos",
        "cut/last.safetensors is not a whole safetensors file",
    ),
    "pickle": ("compare dino.pth --images photos", "dino.pth is cut off or damaged (3 bytes"),
    "folder without checkpoint": (
        "compare photos --images photos",
        "The folder photos holds images and no last.safetensors",
    ),
    "a model for images": (
        "compare photos --images scenes_mae",
        "scenes_mae is a model, and images are wanted: give the model before the options",
    ),
    "bank of other classes": (f"{PIXELS} --bank other", "of which other has none"),
    "no such device": (f"{PIXELS} --device gpu", 'There is no device "gpu"'),
    "a GPU where there is none": (f"{PIXELS} --device cuda:77", 'There is no device "cuda:77"'),
    "a file for --out": (f"{PIXELS} --out dino.pth", "dino.pth"),
    "missing study": ("study studie.yaml", "There is no file studie.yaml"),
    "folder for a study": ("study photos", "photos is no file"),
    "misspelt key": (
        "study misspelt.yaml",
        'A study has no "limt" (misspelt.yaml): did you mean limit?',
    ),
    "misspelt override": (
        "study study.yaml contrls=false",
        'A study has no "contrls" (study.yaml): did you mean controls?',
    ),
    "no override": ("study study.yaml controls", '"controls" is no override: expected KEY=VALUE'),
    "misspelt objective": (
        "pretrain moco --images photos --arch vit_nano_patch8_32",
        'There is no objective "moco": did you mean moco-v3?',
    ),
    "misspelt architecture": (
        "pretrain mae --images photos --arch vit_nan_patch8_32",
        '"vit_nan_patch8_32" is not an architecture: expected vit_SIZE_patchP_S',
    ),
    "misspelt setting": (
        f"{PRETRAIN} --set mask_rato=0.5",
        'There is no setting "mask_rato": did you mean mask_ratio?',
    ),
    "a setting that is an option": (
        f"{PRETRAIN} --set batch_size=4",
        'There is no setting "batch_size": it is given apart from the settings, as --batch-size.',
    ),
    "no setting": (
        f"{PRETRAIN} --set mask_ratio",
        '"mask_ratio" is no setting: expected KEY=VALUE',
    ),
    "a setting of another kind": (
        f"{PRETRAIN} --out new --set mask_ratio=much",
        'The setting mask_ratio is "much": expected a number such as 0.75',
    ),
    "a setting that is no YAML": (
        f"{PRETRAIN} --out new --set mask_ratio=[",
        'The setting mask_ratio is "[": expected a number such as 0.75',
    ),
    "images without their option": (
        "probe photos pixels --test photos",
        'probe takes MODEL|FEATURES alone without an option, and "photos" and "pixels" are given:'
        " images go to --images.",
    ),
    "misspelt choice": (
        f"{PIXELS} --grid convrged",
        '--grid has no "convrged": did you mean converged?',
    ),
    "misspelt choice after a sign": (
        f"{PIXELS} --taps=norm3",
        '--taps has no "norm3": did you mean norm2?',
    ),
    "misspelt choice among several": (
        f"{PIXELS} --tokens all clss",
        '--tokens has no "clss": did you mean cls?',
    ),
    "no choice at all": (
        f"{PIXELS} --on_bad ignore",
        '--on-bad has no "ignore": there are skip, stop',
    ),
}


@pytest.fixture
def mistaken(place: Path) -> Path:
    """The place, with something wrong for each mistake."""
    Path("empty").mkdir()
    Path("one").mkdir()
    Image.new("RGB", (8, 8)).save("one/0.png")
    for folder, names in (("broken", ("cat", "dog")), ("other", ("cat", "horse"))):
        for name in names:
            Path(folder, name).mkdir(parents=True)
            for i in range(3):
                Image.new("RGB", (8, 8)).save(f"{folder}/{name}/{i}.png")
    Path("broken/cat/1.png").write_bytes(Path("broken/cat/0.png").read_bytes()[:40])
    Path("cut").mkdir()
    Path("cut", zoo.ENCODER).write_bytes(Path("runs/mae", zoo.ENCODER).read_bytes()[:-1000])
    Path("dino.pth").write_bytes(b"\x80\x04.")
    Path("misspelt.yaml").write_text("models: pixels\nimages: photos\nlimt: 8\n")
    return place


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda name: name.replace(" ", "-"))
def test_a_mistake_is_one_sentence_and_leaves_nothing(
    mistaken: Path, mistake: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line, said = MISTAKES[mistake]
    before = files(mistaken)
    found = refused(line, capsys)
    assert said in found, found
    assert found.count(". ") <= 1  # one sentence or two
    assert files(mistaken) == before
    assert not [name for name in files(Path(os.environ["SSLENS_HOME"])) if name.endswith(".part")]


@pytest.mark.parametrize(
    "line",
    ["pretrain mae --images photos", f"{PIXELS} --limt 3"],
    ids=["missing option", "misspelt option"],
)
def test_arguments_that_are_none_exit_with_2(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run(line)
    assert caught.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_misspelt_command_is_offered_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert refused("compar", capsys) == 'sslens has no command "compar": did you mean compare?'


def test_without_a_command_all_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert main(["--help"]) == 0
    assert capsys.readouterr().out == err
    for name in plugin_names("cli"):
        assert re.search(rf"^[a-z]* +{name} +\w", err, re.MULTILINE), name


@pytest.mark.parametrize("command", ["compare", "features", "fingerprint", "finetune"])
def test_help_names_a_network_of_ones_own(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with contextlib.suppress(SystemExit):
        main([command, "--help"])
    assert "MODULE:FUNCTION" in capsys.readouterr().out


@pytest.mark.parametrize(
    "command",
    [
        *("compare", "diff", "features", "fingerprint", "finetune", "invariance", "knn"),
        *("pretrain", "rcdm train"),
    ],
)
def test_help_names_an_index_file_of_images(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with contextlib.suppress(SystemExit):
        main([*command.split(), "--help"])
    assert "an index FILE.csv[:SPLIT]" in re.sub(r"[\s│]+", " ", capsys.readouterr().out)


def test_all_commands_fit_one_screen_and_each_has_examples() -> None:
    """A line a command, in groups, on a screen of 24 lines with 80 characters and its prompt."""
    lines = overview().splitlines()
    assert len(lines) <= 23
    assert max(map(len, lines)) <= 80
    groups = [line.split()[0] for line in lines if re.match(r"[a-z]+ {2,}", line)]
    assert groups == list(GROUPS)
    for name in plugin_names("cli"):
        command = plugin("cli", name)
        assert command.GROUP in GROUPS, name
        examples = (command.Command.__doc__ or "").partition("Examples:\n")[2]
        assert re.search(rf"^ +(torchrun .* )?sslens {name}\b", examples, re.MULTILINE), name


def test_a_doubt_is_a_note(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Heads of attention are in no file: whoever fingerprints or compares one is told, without a
    line of code."""
    state = ViTArch.parse("vit_128x1_patch8_32").build(0).state_dict()
    torch.save({"model": state | {"mask_token": torch.zeros(1, 1, 8)}}, "mae.pth")
    monkeypatch.setattr("warnings.filters", [])
    said = (
        "mae.pth is read with 2 heads, guessed: give @heads=NUMBER behind it. No file tells how"
        " many the training had (for a width of 128), and with a wrong number the features are"
        " wrong."
    )
    assert run("fingerprint mae.pth --images photos --batch 5 -o mae.safetensors") == 0
    assert f"note      {said}" in capsys.readouterr().err.splitlines()
    assert run(f"compare mae.pth {SHOWN} --analyses knn-depth --out out") == 0
    assert said in Path("out/report.html").read_text()
    Path("mae_2.pth").write_bytes(Path("mae.pth").read_bytes())
    assert run("compare mae*.pth@heads=4 --analyses weights-changed --dry-run") == 0
    assert "mae_2" in capsys.readouterr().err
    assert run("compare mae.pth mae_2.pth --analyses knn-depth --images photos --dry-run") == 0
    told = capsys.readouterr()
    assert f"{said} The same holds of mae_2.pth." in told.out + told.err
    assert "UserWarning" not in told.err


def test_settings_take_values_of_their_kind() -> None:
    found = override_settings(Settings(), ["mask_ratio=0.5", "decoder_blocks=2", "base_lr=3e-4"])
    assert (found.mask_ratio, found.decoder_blocks, found.base_lr) == (0.5, 2, 3e-4)
    assert isinstance(override_settings(Settings(), ["base_lr=1"]).base_lr, float)
    with pytest.raises(
        InputError, match=r'The setting decoder_blocks is "2\.5": expected a whole number'
    ):
        override_settings(Settings(), ["decoder_blocks=2.5"])
    assert override_settings(Settings(), ["betas=[0.9, 0.99]"]).betas == (0.9, 0.99)


# ------------------------------------------------------------------------------------------------
# what is no one's mistake


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    """A file system that is really full after `size`."""
    folder.mkdir(exist_ok=True)
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder],
        capture_output=True,
        text=True,
    )
    if made.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {made.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


SHOWN = "--images photos --batch 5 --device cpu --no-controls"
COMPARE = f"compare runs/mae {SHOWN}"


def test_a_full_disk_under_the_report(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with small_disk(place / "disk", "64k"):
        said = refused(f"{COMPARE} --analyses knn-depth --out disk/out", capsys)
        assert said.startswith(
            "The disk is full: disk/out/report.html was not written and nothing half-written was"
            " left."
        )
        left = {name for name in files(place / "disk") if Path(place, "disk", name).is_file()}
        assert "out/report.html" not in left
        assert not [name for name in left if name.endswith(".part")]
        assert json.loads(Path("disk/out/provenance.json").read_text())["images"]["count"] == 10


def test_a_full_disk_under_the_store(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with small_disk(place / "disk", "48k"):
        monkeypatch.setenv("SSLENS_HOME", str(place / "disk"))
        said = refused(f"{COMPARE} --out out", capsys)
        assert said.startswith("The disk is full: ")
        assert "SSLENS_HOME" in said
        for path in (place / "disk").rglob("*.*"):
            assert path.suffix in (".json", ".npz", ".safetensors")
            if path.suffix == ".safetensors":
                with safe_open(path, framework="pt") as file:
                    assert all(file.get_tensor(name).numel() for name in file.keys())  # noqa: SIM118
    assert not Path("out").exists()


@pytest.mark.parametrize("handler", [signal.default_int_handler, signal.SIG_IGN])
def test_ctrl_c_keeps_what_was_finished(
    place: Path, capsys: pytest.CaptureFixture[str], handler: Any
) -> None:
    """A real signal, in the middle of the second model's pass; it also counts where the process was
    started with SIGINT ignored, and then it is ignored again after the command."""
    from timm.layers import PatchEmbed

    seen: list[int] = []
    stop_at = [4]

    def see(module: torch.nn.Module, args: Any, _output: Any) -> None:
        if isinstance(module, PatchEmbed) and not args[0].is_meta and args[0].any():  # no shapes
            seen.append(len(args[0]))
            if len(seen) == stop_at[0]:
                signal.raise_signal(signal.SIGINT)

    line = f"compare runs/mae {NANO}:5 {SHOWN} --analyses knn-depth --out out"
    handle = torch.nn.modules.module.register_module_forward_hook(see)
    before = signal.signal(signal.SIGINT, handler)
    try:
        said = refused(line, capsys)
        assert signal.getsignal(signal.SIGINT) is handler
        assert (
            said == "Stopped. Whatever was finished is kept: the same command goes on from there (a"
            " training with --resume)."
        )
        assert seen == [5, 5, 5, 5]
        assert not Path("out").exists()
        home = Path(os.environ["SSLENS_HOME"])
        assert not [name for name in files(home) if name.endswith(".part")]
        assert len(list(home.rglob("shard-*.safetensors"))) == 1  # the first model's features
        stop_at[0] = 0
        assert run(line) == 0
        assert seen[4:] == [5, 5]  # the second model's alone
    finally:
        handle.remove()
        signal.signal(signal.SIGINT, before)


def test_a_fault_of_ours_has_status_1_and_its_details_in_a_file(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from sslens.analyses import knn_depth

    def compute(_models: Any, *, features: Any, labels: Any, seed: int) -> None:
        raise LookupError("nothing is\nthere")

    monkeypatch.setattr(knn_depth, "compute", compute)
    assert run(f"{COMPARE} --analyses knn-depth --out out --json") == 1
    out, err = capsys.readouterr()
    (said,) = [line for line in err.splitlines() if line.startswith("sslens: ")]
    error = said.removeprefix("sslens: ")
    assert json.loads(out) == {"command": "compare", "status": 1, "error": error}
    assert (
        "this is a fault of sslens, not of your input (LookupError: nothing is); the details are in"
        in said
    )
    assert "Traceback" not in err
    (details,) = place.glob("sslens-fault-*.txt")
    assert str(details) in said
    text = details.read_text()
    assert text.startswith("Traceback")
    assert "sslens/study/running.py" in text
    assert text.endswith("LookupError: nothing is\nthere\n")
    assert not Path("out").exists()


# ------------------------------------------------------------------------------------------------
# imports

LIGHT = """
import sys
from sslens.cli import main
for arguments in {arguments}:
    try:
        status = main(arguments)
    except SystemExit as stop:
        status = stop.code
    print("status", status, *arguments, file=sys.stderr)
heavy = {{"torch", "torchvision", "timm", "pandas", "matplotlib", "plotly", "scipy", "jinja2"}}
heavy |= {{"numpy", "PIL", "jaxtyping", "typeguard", "asyncio", "http.client"}}
heavy.add("importlib.metadata")
print("imported", sorted(heavy & set(sys.modules)), file=sys.stderr)
"""


def test_help_and_mistakes_import_nothing_heavy(place: Path) -> None:
    expected = {
        "--help": 0,
        "compare --help": 0,
        "--version": 0,
        "compare pixels": 2,
        "compare runs/mea --images photos": 2,
        "compare pixels --images nowhere": 2,
        "compare pixels --bank nowhere --images photos": 2,
        "compare pixels --imgs photos": 2,
        "knn pixels --images nowhere": 2,
        "features pixels --images nowhere --out x": 2,
        "fingerprint pixels --images nowhere --out x": 2,
        "pretrain mae --images nowhere --arch vit_nano_patch8_32": 2,
        "compar": 2,
        "zoo": 0,
        "zoo mae_vitb16": 0,
        "zoo mae_vitb61": 2,
        "compare pixels --images photos --analyses cka": 2,
        "study studie.yaml": 2,
        "study study.yaml limt=3": 2,
        "pretrain mea --images photos --arch vit_nano_patch8_32": 2,
        "compare pixels --images photos --grid convrged": 2,
    }
    code = LIGHT.format(arguments=[line.split() for line in expected])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    lines = done.stderr.splitlines()
    assert [line for line in lines if line.startswith("status")] == [
        f"status {status} {line}" for line, status in expected.items()
    ]
    assert lines[-1] == "imported []"
    assert "compare" in done.stdout
    assert "Examples:" in done.stdout


STORED = """
import sys
import sslens.fingerprint.file, sslens.report.page, sslens.report.verdicts, sslens.study.running
from sslens.find import names, plugin
for folder in ("analyses", "claims", "report/writing", "study/needs"):
    for name in names(folder):
        plugin(folder, name)
heavy = {"timm", "torchvision", "matplotlib", "_plotly_utils", "scipy.special", "scipy.sparse"}
print("imported", sorted(heavy & set(sys.modules)))
"""


def test_what_compares_stored_fingerprints_imports_little() -> None:
    """With results in the store this is most of the time: torch and pandas, and no network."""
    done = subprocess.run(
        [sys.executable, "-c", STORED], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.splitlines()[-1] == "imported []"


def test_the_package_gives_its_names_when_they_are_asked_for() -> None:
    import sslens

    assert sslens.load is zoo.load
    assert set(sslens.__all__) <= set(dir(sslens))
    assert all(getattr(sslens, name) is not None for name in sslens.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'laod'"):
        _ = sslens.laod  # type: ignore[attr-defined]


def test_a_word_in_the_place_of_a_number(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in ("--epochs ten", "--epochs=ten"):
        assert run(f"finetune runs/mae --images photos {words}") == 2
        assert '--epochs is "ten", which is no whole number' in capsys.readouterr().err
    for words in ("--k 5 zwanzig", "--k=zwanzig"):
        assert run(f"knn runs/mae --images photos {words}") == 2
        assert '--k is "zwanzig", which is no whole number: give one' in capsys.readouterr().err


def test_examples_name_splits_of_cifar10_that_there_are() -> None:
    texts = [plugin("cli", name).Command.__doc__ or "" for name in plugin_names("cli")]
    pages = Path(__file__).parents[1]
    texts += [path.read_text() for path in (*pages.glob("docs/*.md"), pages / "README.md")]
    splits = {split for text in texts for split in re.findall(r"cifar10:([a-z]+)", text)}
    assert splits <= {"train", "val"}
