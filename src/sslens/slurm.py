"""A command as a job of SLURM, submitted through submitit: every task runs the same command line,
and there is a task for each GPU.

Some minutes before a job's hours are over, SLURM sends submitit's signal to every task. A training
finishes its step, writes its state and hands the signal on to submitit, which puts the job back
into the queue. Commands that keep their results in the store need nothing more. A job that SLURM
itself puts back into the queue, as after preemption or the loss of a node, starts from the same
command line, and therefore goes on from the last state as well.
"""

import contextlib
import io
import math
import re
import shlex
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, ModuleType
from typing import Annotated, Any, TypedDict, final

from tyro.conf import arg

from sslens.errors import InputError, nearest
from sslens.settings_file import require_one_value

#: a function that runs a command line and returns its exit status
Main = Callable[[Sequence[str]], int]

#: options of sbatch that an option of sslens sets
SET_BY = {
    "partition": "--slurm-partition",
    "nodes": "--slurm-nodes",
    "ntasks": "--slurm-gpus",
    "ntasks-per-node": "--slurm-gpus",
    "time": "--slurm-hours",
    "cpus-per-task": "--slurm-cpus",
    "mem": "--slurm-mem",
    "output": "--slurm-folder",
    "error": "--slurm-folder",
}

#: the other options of sbatch (https://slurm.schedmd.com/sbatch.html) that leave one task for each
#: GPU
OPTIONS = (  # noqa: SIM905 (fifty lines of one word each say no more)
    "account begin bb clusters comment constraint contiguous core-spec cpu-freq deadline delay-boot"
    " dependency distribution exclude exclusive export gpu-freq gpus-per-node gres gres-flags hint"
    " hold job-name licenses mail-type mail-user mem-bind mem-per-cpu mem-per-gpu mincpus network"
    " nice nodelist oversubscribe prefer priority profile propagate qos reservation segment"
    " spread-job switches threads-per-core time-min tmp use-min-nodes wait-all-nodes wckey"
).split()


class JobParameters(TypedDict):
    """The parameters of a job as submitit's executor names them."""

    job_name: str
    partition: str | None
    nodes: int
    ntasks_per_node: int
    gpus_per_node: int | None
    cpus_per_task: int
    mem: str | None
    time: int
    signal_delay_s: int
    wckey: Any  # None, which keeps submitit from setting its own
    stderr_to_stdout: bool
    srun_args: list[str]
    additional_parameters: dict[str, str | bool]


@dataclass(frozen=True)
class Slurm:
    """The command as a job of a SLURM cluster; docs/tutorial.md says more."""

    submit: Annotated[bool, arg(name="slurm")] = False
    """Submit the command as a job and return; with --dry-run show the job. Wants
    pip install 'sslens[slurm]'."""
    partition: Annotated[str | None, arg(name="slurm-partition")] = None
    """The cluster's default unless given."""
    nodes: Annotated[int, arg(name="slurm-nodes")] = 1
    """Machines."""
    gpus: Annotated[int, arg(name="slurm-gpus")] = 1
    """Of each machine, with a task each; 0 is one task on its CPUs."""
    hours: Annotated[float, arg(name="slurm-hours")] = 24.0
    """After which the job makes room, and goes back into the queue to go on."""
    requeues: Annotated[int, arg(name="slurm-requeues")] = 20
    """How often it does so at the most."""
    cpus: Annotated[int, arg(name="slurm-cpus")] = 10
    """Of each task."""
    mem: Annotated[str | None, arg(name="slurm-mem")] = None
    """Memory of each machine, such as 200G; the cluster's default unless given."""
    set: Annotated[tuple[str, ...], arg(name="slurm-set", metavar="KEY[=VALUE]")] = ()
    """Other options of sbatch, e.g. account=vision qos=high exclusive."""
    folder: Annotated[Path, arg(name="slurm-folder")] = Path("slurm")
    """For the job's script and logs; every machine must see it."""

    def __post_init__(self) -> None:
        for option, value, least in (
            ("nodes", self.nodes, 1),
            ("gpus", self.gpus, 0),
            ("requeues", self.requeues, 0),
            ("cpus", self.cpus, 1),
        ):
            if value < least:
                raise InputError(f"--slurm-{option} is {value}: give {least} or more.")
        if not 0 < self.hours < math.inf:
            raise InputError(
                f"--slurm-hours is {self.hours:g}: give more than 0, such as 24 or 0.5."
            )
        self._read_set()

    @property
    def tasks(self) -> int:
        """Tasks of the job.

        >>> Slurm(nodes=2, gpus=8).tasks
        16
        """
        return self.nodes * max(self.gpus, 1)

    def parameters(self, name: str) -> "JobParameters":
        """The parameters of submitit's executor.

        >>> slurm = Slurm(hours=1.5, set=("account=vision", "exclusive"))
        >>> parameters = slurm.parameters("pretrain")
        >>> parameters["time"], parameters["additional_parameters"]
        (90, {'requeue': True, 'account': 'vision', 'exclusive': True})
        """
        minutes = math.ceil(self.hours * 60)
        return {
            "job_name": f"sslens-{name}",
            "partition": self.partition,
            "nodes": self.nodes,
            "ntasks_per_node": max(self.gpus, 1),
            "gpus_per_node": self.gpus or None,
            "cpus_per_task": self.cpus,
            "mem": self.mem,
            "time": minutes,
            # k-NN after a step may take minutes; a signal that comes earlier than 10 minutes, or a
            # fifth of the time, before the end is taken for preemption by submitit
            "signal_delay_s": min(300, minutes * 60 // 6),
            "wckey": None,
            "stderr_to_stdout": True,
            # from SLURM 22.05 on, srun does not take over the CPUs from sbatch; a task that is lost
            # must end the other tasks
            "srun_args": [f"--cpus-per-task={self.cpus}", "--kill-on-bad-exit=1"],
            "additional_parameters": {"requeue": True, **self._read_set()},
        }

    def _read_set(self) -> dict[str, str | bool]:
        """The options that --slurm-set gives: their values, or True for an option without one."""
        options: dict[str, str | bool] = {}
        given: list[tuple[str, str]] = []
        for text in self.set:
            name, equals, value = text.partition("=")
            key = name.lstrip("-").replace("_", "-")
            if key in SET_BY:
                raise InputError(f"--slurm-set {text}: {key} is what {SET_BY[key]} sets.")
            if key not in OPTIONS:
                raise InputError(
                    f'--slurm-set {text}: there is no option "{key}" of sbatch that suits:'
                    f" {nearest(key, OPTIONS)}"
                )
            require_one_value(given, f"--slurm-set {key}", value)
            given.append((f"--slurm-set {key}", value))
            options[key] = value if equals else True
        return options

    def __str__(self) -> str:
        """The resources in a line."""
        gpus = f"{self.gpus} {'GPU' if self.gpus == 1 else 'GPUs'}" if self.gpus else "no GPU"
        machines = f"{self.nodes} machine{'s' * (self.nodes > 1)} of {gpus}"
        tasks = f"{self.tasks} task{'s' * (self.tasks > 1)} of {self.cpus} CPUs"
        return f"{machines}, {tasks}, {self.hours:g} hours, then up to {self.requeues} times again"


@final
@dataclass(frozen=True)
class Task:
    """The work of every task of a job: it finds the other tasks, runs the command, and sees that
    the job goes back into the queue."""

    run: Main
    line: tuple[str, ...]

    def __call__(self) -> None:
        """Run the command; the task ends with the command's status."""
        from submitit.helpers import TorchDistributedEnvironment

        # a task sees all GPUs of its machine, and takes the GPU of its LOCAL_RANK
        TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)
        leaving = _watch_requeue()
        status = self.run(self.line)
        # when the job goes back into the queue, submitit in the first task ends it
        if status and not leaving.is_set():
            sys.exit(status)

    def checkpoint(self) -> Any:
        """The work that submitit starts when the job's turn comes again: the same task, which goes
        on from the state that was written."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def _watch_requeue() -> threading.Event:
    """Make an event that is set once submitit was asked to put the job back into the queue.

    If the job has gone back too often, the task ends with a sentence that says so.
    """
    import submitit
    from submitit.core.utils import UncompletedJobError

    number = signal.Signals[f"SIG{submitit.JobEnvironment.USR_SIG}"]
    requeue, leaving = signal.getsignal(number), threading.Event()
    assert callable(requeue), "submitit has set its handler before it calls us"

    def leave(number: int, frame: FrameType | None) -> None:
        leaving.set()
        try:
            requeue(number, frame)
        except UncompletedJobError as error:
            raise SystemExit(
                "sslens: The job's hours are over, and it has gone back into the queue as often as"
                " --slurm-requeues allows. What was kept is kept: the same command goes on from"
                " there (a training with --resume)."
            ) from error

    signal.signal(number, leave)
    return leaving


def split_line(line: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split a command line into the line without the options of this module, and the names of these
    options.

    >>> split_line("pretrain mae --slurm --slurm-nodes 2 --images photos".split())
    (['pretrain', 'mae', '--images', 'photos'], ['--slurm', '--slurm-nodes'])
    >>> split_line("compare mae dino --slurm-set qos=high hold".split())
    (['compare', 'mae', 'dino'], ['--slurm-set'])
    """
    rest: list[str] = []
    options: list[str] = []
    values = 0  # how many values the last option still takes
    for token in line:
        name, equals, _ = token.partition("=")
        name = name.replace("_", "-")
        if re.fullmatch(r"--(no-)?slurm(-[a-z]+)?", name):
            options.append(name)
            flag = name in ("--slurm", "--no-slurm")
            values = 0 if flag or equals else len(line) if name == "--slurm-set" else 1
        elif values and not token.startswith("-"):
            values -= 1
        else:
            values = 0
            rest.append(token)
    return rest, options


def submit(
    run: Main,
    line: Sequence[str],
    asked: Slurm,
    *,
    dry_run: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Path | None:
    """Submit a command line as a job.

    Args:
        run: runs a command line, such as `sslens.cli.main`; a task imports it by the name of its
            module.
        line: the command and its arguments.
        asked: the job's resources.
        dry_run: only describe the job.
        say: is called with the description.

    Returns the path of the job's log, or None for a dry run.

    Raises:
        InputError: submitit is not installed, this machine submits no jobs, or sbatch refuses this
            one.
    """
    parameters = asked.parameters(line[0])
    submitit = _import_submitit()
    folder = asked.folder.expanduser().absolute()
    description = (
        f"job       {parameters['job_name']}: {asked}\nlogs      {folder}\neach task"
        f" {shlex.join(['sslens', *line])}"
    )
    if dry_run:
        say(f"{description}\nscript\n\n{_write_script(folder, parameters)}")
        return None
    _require_cluster(asked)
    before = set(folder.iterdir()) if folder.exists() else None
    executor = submitit.SlurmExecutor(folder, max_num_timeout=asked.requeues)
    executor.update_parameters(**parameters)
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # submitit prints what it raises
            job = executor.submit(Task(run, tuple(line)))
    except submitit.core.utils.FailedJobError as error:
        _remove_refused(folder, before)
        raise InputError(f"sbatch refused the job: {' '.join(str(error).split())}") from error
    say(
        f"{description}\nsubmitted {job.job_id}: squeue -j {job.job_id} shows it,"
        f" scancel {job.job_id} ends it"
    )
    return Path(job.paths.stdout)


def _import_submitit() -> ModuleType:
    try:
        import submitit
    except ImportError as error:
        raise InputError(
            "--slurm needs the package submitit, which is not installed: run pip install"
            " 'sslens[slurm]'."
        ) from error
    return submitit


def _write_script(folder: Path, parameters: JobParameters) -> str:
    """The script that sbatch would get.

    It is written without submitit's executor, which cannot be made on a machine without SLURM.
    """
    from submitit.slurm.slurm import _make_sbatch_string

    command = (
        f"{shlex.quote(sys.executable)} -u -m submitit.core._submit {shlex.quote(str(folder))}"
    )
    return _make_sbatch_string(command=command, folder=folder, **parameters)


def _require_cluster(asked: Slurm) -> None:
    for program in ("sbatch", "srun"):
        if shutil.which(program) is None:
            raise InputError(
                f"There is no {program} here: --slurm submits from the login node of a SLURM"
                " cluster. --slurm --dry-run shows the job; one machine's GPUs are all used by"
                f" torchrun --nproc-per-node {max(asked.gpus, 1)} -m sslens and the command."
            )


def _remove_refused(folder: Path, before: set[Path] | None) -> None:
    """Remove the two files of a job that was refused.

    If there are more new files, other jobs were submitted meanwhile, and all files stay.
    """
    new = set(folder.iterdir()) - (before or set())
    if len(new) == 2:
        for path in new:
            path.unlink()
        if before is None:
            folder.rmdir()
