"""Jobs of SLURM: what sbatch gets, and runs that are asked to make room, go back into the queue and
end with the same weights.

The cluster is this machine: programs on PATH that keep what they are told, and the processes that
srun would start, with its environment. Those are forked from the test's own, which has torch
imported; those of the job's script itself are slow.
"""

import contextlib
import dataclasses
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tyro
from PIL import Image
from submitit.core.submission import process_job

import sslens
from forks import forked, free_port, together
from sslens.cli import main
from sslens.data.images import ImageSet, Source, from_arrays
from sslens.errors import Doubt, InputError, Interrupted
from sslens.find import plugin
from sslens.objectives import mae
from sslens.slurm import Slurm, split_line, submit
from sslens.training.pretrain import pretrain
from sslens.training.schedule import Training
from sslens.training.stopping import note_signals

SBATCH = """#!/bin/sh
cp "$1" "$CLUSTER/42.sh" && echo "Submitted batch job 42"
"""
SCONTROL = """#!/bin/sh
echo "$@" >> "$CLUSTER/scontrol"
"""
#: a task an SLURM_NTASKS, as if each were on its own machine
SRUN = """#!/bin/bash
echo "$@" > "$CLUSTER/srun"
while [[ $1 == --* ]]; do
    [[ $1 == --output ]] && { output=${2//%j/$SLURM_JOB_ID}; shift; }
    shift
done
for ((task = 0; task < SLURM_NTASKS; task++)); do
    SLURM_PROCID=$task SLURM_NODEID=$task SLURM_LOCALID=0 "$@" >> "${output//%t/$task}" 2>&1 &
    tasks+=($!)
done
echo "${tasks[@]}" > "$CLUSTER/tasks"
status=0
for task in "${tasks[@]}"; do wait "$task" || status=$?; done
exit $status
"""
LINE = ["pretrain", "mae", "--images", "photos", "--arch", "vit_nano_patch16_32"]


@dataclass(frozen=True)
class Cluster:
    """What the programs were told, and what they would do."""

    folder: Path

    @property
    def script(self) -> str:
        return (self.folder / "42.sh").read_text()

    @property
    def requeued(self) -> list[str]:
        told = self.folder / "scontrol"
        return told.read_text().splitlines() if told.exists() else []

    def option(self, name: str) -> str:
        (line,) = [
            line for line in self.script.splitlines() if line.startswith(f"#SBATCH --{name}=")
        ]
        return line.partition("=")[2]

    def job(self) -> dict[str, str]:
        """The environment of the job's script."""
        nodes, per_node = int(self.option("nodes")), int(self.option("ntasks-per-node"))
        return {
            "SLURM_JOB_ID": "42",
            "SLURM_JOB_NODELIST": "localhost",
            "SLURM_JOB_NUM_NODES": str(nodes),
            "SLURM_NTASKS": str(nodes * per_node),
            "MASTER_PORT": free_port(),
        }

    def started(self, folder: Path, **more: Sequence[str]) -> list[int]:
        """Start the job's tasks, with a variable each for `more`; returns how they ended."""
        job = self.job() | {"SUBMITIT_EXECUTOR": "slurm"}
        tasks = range(int(job["SLURM_NTASKS"]))
        where = [
            {"SLURM_PROCID": str(task), "SLURM_NODEID": str(task), "SLURM_LOCALID": "0"}
            for task in tasks
        ]
        own = [{name: values[task] for name, values in more.items()} for task in tasks]
        return forked(
            lambda: process_job(folder), [job | where[task] | own[task] for task in tasks]
        )


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, on a machine without SLURM."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def cluster(place: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    for name, text in (("sbatch", SBATCH), ("scontrol", SCONTROL), ("srun", SRUN)):
        program = place / "bin" / name
        program.write_text(text)
        program.chmod(0o755)
    (place / "cluster").mkdir()
    monkeypatch.setenv("PATH", f"{place / 'bin'}:/usr/bin:/bin")
    monkeypatch.setenv("CLUSTER", str(place / "cluster"))
    return Cluster(place / "cluster")


def refused(arguments: Sequence[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command that is refused; returns the message. No file is left of it."""
    before = sorted(Path().rglob("*"))
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("sslens: ")
    assert err.count("\n") == 1
    assert sorted(Path().rglob("*")) == before
    return err.removeprefix("sslens: ").rstrip()


# ------------------------------------------------------------------------------------------------
# the command line


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ("--slurm", Slurm(submit=True)),
        ("--slurm --slurm-nodes 2 --slurm-gpus=8", Slurm(submit=True, nodes=2, gpus=8)),
        ("--slurm_hours 1.5 --slurm --slurm-mem=200G", Slurm(submit=True, hours=1.5, mem="200G")),
        (
            "--slurm --slurm-set account=a exclusive",
            Slurm(submit=True, set=("account=a", "exclusive")),
        ),
        ("--slurm-set=qos=high --slurm", Slurm(submit=True, set=("qos=high",))),
        ("--slurm --no-slurm --slurm-partition gpu", Slurm(partition="gpu")),
        (
            "--slurm-cpus 4 --slurm-requeues 3 --slurm-folder logs",
            Slurm(cpus=4, requeues=3, folder=Path("logs")),
        ),
    ],
)
@pytest.mark.parametrize("where", ["start", "middle", "end"])
def test_without_its_options_a_command_line_says_the_same(
    options: str, wanted: Slurm, where: str
) -> None:
    given = options.split()
    place = {"start": 0, "middle": 5, "end": 9}[where]
    rest = [
        "--images",
        "photos",
        "--arch",
        "vit_nano_patch16_32",
        "--set",
        "mask_ratio=0.5",
        "base_lr=1e-3",
        "--resume",
    ]
    line = ["mae", *rest]
    line[place:place] = given
    if where == "start":  # where the objective stands last
        line = [*given, *rest, "mae"]
    without, _ = split_line(line)
    kind: Any = plugin("cli", "pretrain").Command
    whole = tyro.cli(kind, args=line)
    assert whole.slurm == wanted
    assert tyro.cli(kind, args=without) == dataclasses.replace(whole, slurm=Slurm())
    assert without == (["mae", *rest] if where != "start" else [*rest, "mae"])


def test_a_dry_run_shows_the_script_that_sbatch_gets(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = [*LINE, "--batch-size", "64", "--set", "mask_ratio=0.5"]
    options = (
        "--slurm --slurm-nodes 2 --slurm-gpus 8 --slurm-hours 0.5 --slurm-partition gpu --slurm-mem"
        " 200G"
    )
    given = [*line, *options.split(), "--slurm-set", "account=a b", "exclusive", "qos=high"]
    with monkeypatch.context() as away:
        away.setenv("PATH", "")  # it is shown where there is no SLURM, too
        assert main([*given, "--dry-run"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert not list(cluster.folder.iterdir())
    assert not Path("slurm").exists()
    message, _, shown = err.partition("script\n\n")
    assert message.splitlines() == [
        (
            "job       sslens-pretrain: 2 machines of 8 GPUs, 16 tasks of 10 CPUs, 0.5 hours, then"
            " up to 20 times again"
        ),
        f"logs      {Path('slurm').absolute()}",
        f"each task sslens {shlex.join(line)} --resume",
    ]
    flags = {text for text in shown.splitlines() if text.startswith("#SBATCH")}
    assert flags == {
        f"#SBATCH --{flag}"
        for flag in (
            "account='a b'",
            "cpus-per-task=10",
            "exclusive",
            "gpus-per-node=8",
            "job-name=sslens-pretrain",
            "mem=200G",
            "nodes=2",
            "ntasks-per-node=8",
            "open-mode=append",
            f"output={Path('slurm').absolute()}/%j_0_log.out",
            "partition=gpu",
            "qos=high",
            "requeue",
            "signal=USR2@300",
            "time=30",
        )
    }
    (step,) = [text for text in shown.splitlines() if text.startswith("srun")]
    assert "--cpus-per-task=10 --kill-on-bad-exit=1" in step

    assert main(given) == 0
    out, err = capsys.readouterr()
    assert out == f"{Path('slurm').absolute()}/42_0_log.out\n"
    assert err.startswith(message)
    assert "submitted 42: squeue -j 42 shows it, scancel 42 ends it" in err
    assert cluster.script == shown.rstrip("\n") + "\n"
    assert Path("slurm/42_submission.sh").read_text() == cluster.script


@pytest.mark.parametrize(
    "line",
    [
        ["compare", "pixels", "--images", "scenes:0:32"],
        ["fingerprint", "random:vit_nano_patch8_32", "--images", "photos"],
        ["study", "study.yaml", "limit=8"],
    ],
)
def test_other_commands_are_submitted_as_they_are(
    cluster: Cluster, capsys: pytest.CaptureFixture[str], line: list[str]
) -> None:
    Path("study.yaml").write_text("models: [pixels]\nimages: photos\n")
    assert main([*line, "--slurm", "--slurm-gpus", "0"]) == 0
    assert f"each task sslens {shlex.join(line)}\n" in capsys.readouterr().err
    assert cluster.option("job-name") == f"sslens-{line[0]}"
    assert "gpus" not in cluster.script


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("--slurm-nodes 0", "--slurm-nodes is 0: give 1 or more."),
        ("--slurm-gpus -1", "--slurm-gpus is -1: give 0 or more."),
        ("--slurm-cpus 0", "--slurm-cpus is 0: give 1 or more."),
        ("--slurm-requeues -1", "--slurm-requeues is -1: give 0 or more."),
        ("--slurm-hours 0", "--slurm-hours is 0: give more than 0, such as 24 or 0.5."),
        ("--slurm-hours nan", "--slurm-hours is nan: give more than 0, such as 24 or 0.5."),
        (
            "--slurm-set acount=a",
            (
                '--slurm-set acount=a: there is no option "acount" of sbatch that suits: did you'
                " mean account?"
            ),
        ),
        ("--slurm-set time=60", "--slurm-set time=60: time is what --slurm-hours sets."),
        (
            "--slurm-gpus 3",
            "A minibatch of 256 cannot be shared by 3 processes in 1 parts: give a multiple of 3.",
        ),
        ("--set mask_ration=1", 'There is no setting "mask_ration": did you mean mask_ratio?'),
        ("--arch vit_nano", '"vit_nano" is not an architecture: '),
    ],
)
def test_a_job_that_would_fail_is_not_submitted(
    cluster: Cluster, capsys: pytest.CaptureFixture[str], more: str, message: str
) -> None:
    line = LINE[: LINE.index("--arch")] if "--arch" in more else LINE  # no option is given twice
    assert refused([*line, "--slurm", *more.split()], capsys).startswith(message)


def test_options_of_a_job_want_the_job(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = "--slurm-nodes is an option of a job: give --slurm too, or leave it out."
    assert refused([*LINE, "--slurm-nodes", "1"], capsys) == message
    assert refused([*LINE, "--slurm-nodes", "1", "--no-slurm"], capsys) == message


def test_without_submitit_the_extra_is_named(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    message = (
        "--slurm needs the package submitit, which is not installed: run pip install"
        " 'sslens[slurm]'."
    )
    assert refused([*LINE, "--slurm", "--dry-run"], capsys) == message


def test_a_machine_without_slurm_is_told_what_to_do(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refused([*LINE, "--slurm", "--slurm-gpus", "4"], capsys)
    assert message.startswith(
        "There is no sbatch here: --slurm submits from the login node of a SLURM cluster."
    )
    assert "--slurm --dry-run shows the job" in message
    assert "torchrun --nproc-per-node 4 -m sslens" in message


@pytest.mark.parametrize("had", [None, "41_0_log.out"])
def test_what_sbatch_says_is_passed_on(
    cluster: Cluster, capsys: pytest.CaptureFixture[str], had: str | None
) -> None:
    program = Path("bin/sbatch")
    program.write_text(
        "#!/bin/sh\necho 'sbatch: error: invalid partition specified: gpux' >&2\nexit 1\n"
    )
    if had is not None:
        Path("slurm").mkdir()
        Path("slurm", had).touch()
    message = refused([*LINE, "--slurm", "--slurm-partition", "gpux"], capsys)
    assert message == "sbatch refused the job: sbatch: error: invalid partition specified: gpux"


def test_a_run_that_is_there_is_not_gone_on_with_unless_asked(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("runs/mae").mkdir(parents=True)
    Path("runs/mae/state.safetensors").touch()
    message = refused([*LINE, "--slurm"], capsys)
    assert message == (
        "runs/mae already holds a run: go on with --resume, replace it with --overwrite, or choose"
        " another --out."
    )
    assert main([*LINE, "--slurm", "--resume"]) == 0
    assert capsys.readouterr().err.count("--resume") == 1


# ------------------------------------------------------------------------------------------------
# the job

SEED = np.random.default_rng(0)
IMAGES = from_arrays(SEED.integers(0, 256, (20, 32, 32, 3), dtype=np.uint8))
SETTINGS = mae.Settings(
    decoder_dim=32, decoder_blocks=1, decoder_heads=2, base_lr=0.05, warmup=0.25
)
#: 5 steps an epoch, 15 in all
TRAINING = Training(
    epochs=3, batch_size=4, precision="float32", device="cpu", save_every=100, log_every=1
)
SIGNALS = {"room": signal.SIGUSR2, "end": signal.SIGTERM}


@pytest.mark.parametrize("kept", [False, True])
def test_a_signal_is_handed_on_once_the_state_is_kept(kept: bool) -> None:
    came: list[int] = []
    before = [
        signal.signal(number, lambda number, _: came.append(number)) for number in SIGNALS.values()
    ]
    try:
        with note_signals() as stop:
            assert stop.asked == 0
            for number in SIGNALS.values():  # as SLURM sends them
                signal.raise_signal(number)
            assert stop.asked == signal.SIGUSR2
            assert came == []
            stop.kept = stop.asked if kept else 0
        assert came == ([signal.SIGUSR2] if kept else [])
        signal.raise_signal(signal.SIGTERM)
        assert came[kept:] == [signal.SIGTERM]
    finally:
        for number, handler in zip(SIGNALS.values(), before, strict=True):
            signal.signal(number, handler)


def fail(error: Exception, *, asked: bool) -> None:
    """Raise an error where a run notes signals, after one came or not."""
    with note_signals():
        if asked:
            signal.raise_signal(signal.SIGTERM)
        raise error


def test_a_signal_that_takes_the_compiler_with_it_is_no_fault() -> None:
    from torch._inductor.exc import CppCompileError

    with pytest.raises(Interrupted, match="while code was compiled"):
        fail(CppCompileError(["g++"], ""), asked=True)
    with pytest.raises(CppCompileError):
        fail(CppCompileError(["g++"], ""), asked=False)
    with pytest.raises(ValueError, match="ours"):
        fail(ValueError("ours"), asked=True)


@dataclass
class Signalling:
    """Images in memory; when so many have been taken, this process gets a signal."""

    after: int
    number: int
    source: Source = field(default_factory=lambda: IMAGES.source)

    def image(self, row: int) -> Image.Image:
        self.after -= 1
        if self.after == 0:
            signal.raise_signal(self.number)
        return self.source.image(row)

    def digests(self, rows: Sequence[int]) -> list[str]:
        return self.source.digests(rows)


def trained(line: Sequence[str]) -> int:
    """What a task of these jobs runs: a training in line[1], of which some process is signalled in
    its 6th step."""
    images: ImageSet = IMAGES
    asked = SIGNALS.get(os.environ.get("ASKED", ""))
    if asked is not None:
        each = TRAINING.batch_size // int(os.environ["WORLD_SIZE"])
        images = dataclasses.replace(images, source=Signalling(6 * each, asked))
    try:
        pretrain(
            "mae",
            images,
            "vit_nano_patch16_32",
            Path(line[1]),
            settings=SETTINGS,
            training=TRAINING,
            resume=True,
        )
    except InputError:
        return 2
    return 0


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two processes that nothing happened to."""
    out = tmp_path_factory.mktemp("undisturbed")
    together(lambda: trained(["pretrain", str(out)]))
    assert sslens.load(out).about.step == 15
    return out


def steps(out: Path) -> list[int]:
    """The steps that the log has; between them stand looks at the encoder."""
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [line["step"] for line in lines if "loss" in line]


def submitted(run: Any, line: Sequence[str], **options: Any) -> Path:
    """Submit a job of two tasks; returns the folder of its logs."""
    log = submit(run, line, Slurm(submit=True, nodes=2, gpus=0, **options))
    assert log is not None
    return log.parent


@pytest.mark.parametrize("who", [0, 1])
def test_asked_to_make_room_a_training_ends_with_the_same_weights(
    cluster: Cluster, undisturbed: Path, tmp_path: Path, who: int
) -> None:
    """Also where the first task, which puts the job back, has not heard of it itself by the end of
    the step."""
    folder = submitted(trained, ["pretrain", str(tmp_path / "run")])
    first, second = cluster.started(
        folder, ASKED=["room" if who == task else "" for task in range(2)]
    )
    assert first == 255  # submitit's sys.exit(-1)
    assert second == 0
    assert cluster.requeued == ["requeue 42"]
    assert steps(tmp_path / "run") == [1, 2, 3, 4, 5, 6]
    with pytest.warns(Doubt, match="is not over"):
        assert sslens.load(tmp_path / "run").about.step == 6
    assert cluster.started(folder) == [0, 0]
    assert cluster.requeued == ["requeue 42"]
    assert steps(tmp_path / "run") == list(range(1, 16))
    for name in ("last.safetensors", "state.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (undisturbed / name).read_bytes()


def test_a_job_that_is_ended_keeps_its_state_and_does_not_come_again(
    cluster: Cluster, tmp_path: Path
) -> None:
    """As by scancel; a job that SLURM preempts in the same way is put back by SLURM."""
    folder = submitted(trained, ["pretrain", str(tmp_path / "run")])
    assert cluster.started(folder, ASKED=["end", "end"]) == [2, 2]
    assert cluster.requeued == []
    with pytest.warns(Doubt, match="is not over"):
        assert sslens.load(tmp_path / "run").about.step == 6


def test_a_job_comes_again_as_often_as_asked(
    cluster: Cluster, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The ends of hours are counted; in a job of minutes submitit takes any time for the end."""
    folder = submitted(trained, ["pretrain", str(tmp_path / "run")], hours=0.1, requeues=1)
    assert cluster.option("time") == "6"
    assert cluster.option("signal") == "USR2@60"
    assert cluster.started(folder, ASKED=["room", "room"])[0] == 255
    assert cluster.requeued == ["requeue 42"]
    capfd.readouterr()
    assert cluster.started(folder, ASKED=["room", "room"]) == [1, 0]
    assert cluster.requeued == ["requeue 42"]
    with pytest.warns(Doubt, match="is not over"):
        assert sslens.load(tmp_path / "run").about.step == 12
    (message,) = [
        line for line in capfd.readouterr().err.splitlines() if line.startswith("sslens: ")
    ]
    assert message.startswith(
        "sslens: The job's hours are over, and it has gone back into the queue as often as"
    )


def elsewhere(line: Sequence[str]) -> int:
    """A command that keeps its work as it goes, and is asked to make room."""
    signal.raise_signal(SIGNALS["room"])
    return 0


def test_what_keeps_its_work_as_it_goes_makes_room_at_once(cluster: Cluster) -> None:
    folder = submitted(elsewhere, ["compare"])
    first, _ = cluster.started(folder)
    assert first == 255
    assert cluster.requeued == ["requeue 42"]


def failed(line: Sequence[str]) -> int:
    """A command that says where it stands among the others, and that its input cannot be used."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "CUDA_VISIBLE_DEVICES")
    Path(line[1], os.environ["RANK"]).write_text(
        " ".join(os.environ.get(name, "-") for name in names)
    )
    return 2


def test_a_task_finds_the_others_and_its_status_is_that_of_the_command(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "7")  # of a job that this one was submitted from
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    folder = submitted(failed, ["compare", str(tmp_path)])
    assert cluster.started(folder) == [2, 2]
    assert cluster.requeued == []
    assert (tmp_path / "0").read_text() == "0 2 0 localhost 0,1"
    assert (tmp_path / "1").read_text() == "1 2 0 localhost 0,1"


@pytest.mark.slow
def test_the_script_is_run_asked_to_make_room_run_again_and_ends_with_the_same_weights(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    options = (
        "--images scenes:0:32 --epochs 20 --batch-size 16 --precision float32 --device cpu"
        " --log-every 1"
    )
    line = [
        "pretrain",
        "mae",
        *options.split(),
        "--arch",
        "vit_nano_patch16_32",
        "--set",
        "decoder_dim=32",
    ]

    def running() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            ["/bin/bash", cluster.folder / "42.sh"], env=os.environ | cluster.job()
        )

    job_of_two = ["--slurm", "--slurm-nodes", "2", "--slurm-gpus", "0"]
    assert main([*line, "--out", "undisturbed", *job_of_two, "--slurm-folder", "other"]) == 0
    with running() as job:
        assert job.wait() == 0, Path("other/42_0_log.out").read_text()
    assert main([*line, "--out", "run", *job_of_two]) == 0
    with running() as job:
        while not Path("run/log.jsonl").exists() or len(steps(Path("run"))) < 9:
            with contextlib.suppress(subprocess.TimeoutExpired):
                job.wait(0.05)
                raise AssertionError(Path("slurm/42_0_log.out").read_text())
        number = signal.Signals[f"SIG{cluster.option('signal').partition('@')[0]}"]
        for task in (cluster.folder / "tasks").read_text().split():
            os.kill(int(task), number)
    log = Path("slurm/42_0_log.out").read_text()
    assert cluster.requeued == ["requeue 42"], log
    assert 9 <= len(steps(Path("run"))) < 40, log
    with running() as job:
        assert job.wait() == 0, Path("slurm/42_0_log.out").read_text()
    assert cluster.requeued == ["requeue 42"]
    assert steps(Path("run")) == list(range(1, 41))
    for name in ("last.safetensors", "state.safetensors"):
        assert Path("run", name).read_bytes() == Path("undisturbed", name).read_bytes()
    assert Path("run/report/report.html").exists()
    assert "going on at step" in Path("slurm/42_0_log.out").read_text()
