"""A command as a job of SLURM, submitted through submitit: every task runs the same command line, a
task a GPU.

Some minutes before a job's hours are over, SLURM sends submitit's signal to every task. A training
finishes its step, keeps its state and hands the signal on to submitit, which puts the job back into
the queue; what is kept in the store needs no more than that. A job that SLURM itself puts back, as
after preemption or the loss of a node, starts from the same command line, and so goes on from the
last state as well.
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
from typing import Annotated, Any, final

from tyro.conf import arg

from sslens.errors import InputError, nearest

#: what runs a command line and returns its exit status
Main = Callable[[Sequence[str]], int]

#: options of sbatch that another of our options sets
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

#: other options of sbatch; of those that there are (https://slurm.schedmd.com/sbatch.html) they
#: leave a task a GPU
OPTIONS = (  # noqa: SIM905 (fifty lines of one word each say no more)
    "account begin bb clusters comment constraint contiguous core-spec cpu-freq deadline delay-boot"
    " dependency distribution exclude exclusive export gpu-freq gpus-per-node gres gres-flags hint"
    " hold job-name licenses mail-type mail-user mem-bind mem-per-cpu mem-per-gpu mincpus network"
    " nice nodelist oversubscribe prefer priority profile propagate qos reservation segment"
    " spread-job switches threads-per-core time-min tmp use-min-nodes wait-all-nodes wckey"
).split()


@dataclass(frozen=True)
class Slurm:
    """The command as a job of a SLURM cluster; docs/tutorial.md says more."""

    submit: Annotated[bool, arg(name="slurm")] = False
    """Submit the command as a job and return; with --dry-run show the job. Wants pip install 'sslens[slurm]'."""
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
        self._set()

    @property
    def tasks(self) -> int:
        """Tasks of the job.

        >>> Slurm(nodes=2, gpus=8).tasks
        16
        """
        return self.nodes * max(self.gpus, 1)

    def parameters(self, name: str) -> dict[str, Any]:
        """What submitit's executor is told.

        >>> asked = Slurm(hours=1.5, set=("account=vision", "exclusive")).parameters("pretrain")
        >>> asked["time"], asked["additional_parameters"]
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
            # k-NN after a step may take minutes; earlier than 10 minutes, or a fifth, before the
            # end submitit sees preemption
            "signal_delay_s": min(300, minutes * 60 // 6),
            "wckey": None,
            "stderr_to_stdout": True,
            # from 22.05 on srun has forgotten the CPUs that sbatch was asked for; a task that is
            # lost ends the others
            "srun_args": [f"--cpus-per-task={self.cpus}", "--kill-on-bad-exit=1"],
            "additional_parameters": {"requeue": True, **self._set()},
        }

    def _set(self) -> dict[str, str | bool]:
        """The options of --slurm-set: their values, or True where there is none."""
        found: dict[str, str | bool] = {}
        for each in self.set:
            name, equals, value = each.partition("=")
            key = name.lstrip("-").replace("_", "-")
            if key in SET_BY:
                raise InputError(f"--slurm-set {each}: {key} is what {SET_BY[key]} sets.")
            if key not in OPTIONS:
                raise InputError(
                    f'--slurm-set {each}: there is no option "{key}" of sbatch that suits:'
                    f" {nearest(key, OPTIONS)}"
                )
            found[key] = value if equals else True
        return found

    def __str__(self) -> str:
        """The resources in a line."""
        gpus = f"{self.gpus} {'GPU' if self.gpus == 1 else 'GPUs'}" if self.gpus else "no GPU"
        machines = f"{self.nodes} machine{'s' * (self.nodes > 1)} of {gpus}"
        tasks = f"{self.tasks} task{'s' * (self.tasks > 1)} of {self.cpus} CPUs"
        return f"{machines}, {tasks}, {self.hours:g} hours, then up to {self.requeues} times again"


@final
@dataclass(frozen=True)
class Task:
    """What every task of a job does: find the others, run the command, and see that the job goes
    back into the queue."""

    run: Main
    line: tuple[str, ...]

    def __call__(self) -> None:
        """Run the command; a status that is not 0 is the task's."""
        from submitit.helpers import TorchDistributedEnvironment

        # a task sees all GPUs of its machine, and takes that of its LOCAL_RANK
        TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)
        leaving = _leaving()
        status = self.run(self.line)
        if (
            status and not leaving.is_set()
        ):  # of tasks that leave only the first ends the job, by submitit's hand
            sys.exit(status)

    def checkpoint(self) -> Any:
        """What submitit starts when the job's turn comes again: the same, which finds what was
        kept."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def _leaving() -> threading.Event:
    """An event that is set once submitit was asked to put the job back; that it did so too often is
    said in a sentence."""
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


def separated(line: Sequence[str]) -> tuple[list[str], list[str]]:
    """A command line without the options of this module, and the names of those that it had.

    >>> separated(["pretrain", "mae", "--slurm", "--slurm-nodes", "2", "--images", "photos", "--slurm-set", "qos=high", "hold"])
    (['pretrain', 'mae', '--images', 'photos'], ['--slurm', '--slurm-nodes', '--slurm-set'])
    """
    rest: list[str] = []
    options: list[str] = []
    values = 0  # that the last option still takes
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
    """Submit a command line as a job; returns the path of its log, or None for a dry run, which
    only says what the job is.

    Args:
        run: what runs a command line, such as `sslens.cli.main`; a task finds it by the name of its
            module.
        line: the command and its arguments.

    Raises:
        InputError: submitit is not installed, this machine submits no jobs, or sbatch refuses this
            one.
    """
    parameters = asked.parameters(line[0])
    submitit = _submitit()
    folder = asked.folder.expanduser().absolute()
    said = (
        f"job       {parameters['job_name']}: {asked}\nlogs      {folder}\neach task"
        f" {shlex.join(['sslens', *line])}"
    )
    if dry_run:
        say(f"{said}\nscript\n\n{_script(folder, parameters)}")
        return None
    _require_cluster(asked)
    had = set(folder.iterdir()) if folder.exists() else None
    executor = submitit.SlurmExecutor(folder, max_num_timeout=asked.requeues)
    executor.update_parameters(**parameters)
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # submitit prints what it raises
            job = executor.submit(Task(run, tuple(line)))
    except submitit.core.utils.FailedJobError as error:
        _remove_left(folder, had)
        raise InputError(f"sbatch refused the job: {' '.join(str(error).split())}") from error
    say(
        f"{said}\nsubmitted {job.job_id}: squeue -j {job.job_id} shows it, scancel {job.job_id}"
        " ends it"
    )
    return Path(job.paths.stdout)


def _submitit() -> ModuleType:
    try:
        import submitit
    except ImportError as error:
        raise InputError(
            "--slurm needs the package submitit, which is not installed: run pip install"
            " 'sslens[slurm]'."
        ) from error
    return submitit


def _script(folder: Path, parameters: dict[str, Any]) -> str:
    """The script that sbatch would get, also where there is no SLURM, in which submitit's executor
    will not be made."""
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


def _remove_left(folder: Path, had: set[Path] | None) -> None:
    """Remove the two files of a job that was refused; where there are more, they are of jobs
    submitted meanwhile."""
    left = set(folder.iterdir()) - (had or set())
    if len(left) == 2:
        for path in left:
            path.unlink()
        if had is None:
            folder.rmdir()
