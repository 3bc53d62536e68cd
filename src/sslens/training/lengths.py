"""How long a training is and on what it runs; torch is not imported."""

from dataclasses import dataclass

from sslens.counts import spell_count
from sslens.errors import InputError


@dataclass(frozen=True)
class Training:
    """How long a run is, on what it runs, and how it is kept; what belongs to the method is in the
    method's own settings.

    Attributes:
        epochs: passes over the images; a last minibatch that is not whole is dropped.
        batch_size: images of a step, over all processes and parts.
        accumulate: parts that a process computes its share of a step in, one after another.
        precision: "float32", "bfloat16" (autocast; losses stay float32), or "auto".
        compile: run the networks' blocks by code that torch generates for them, after a minute or
            so of compiling.
        recompute: keep only the inputs of the networks' blocks, and compute the rest again in the
            backward pass: a part of the memory, for a fifth to a third more time.
        workers: processes that decode and augment; 0 does it in the training process.
        save_every: steps between checkpoints; an epoch for 0.
        log_every: steps between lines of the log.
    """

    epochs: int = 100
    batch_size: int = 256
    accumulate: int = 1
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"
    compile: bool = False
    recompute: bool = False
    workers: int = 0
    save_every: int = 0
    log_every: int = 10

    def __post_init__(self) -> None:
        least = {
            "epochs": 1,
            "batch_size": 1,
            "accumulate": 1,
            "log_every": 1,
            "seed": 0,
            "workers": 0,
            "save_every": 0,
        }
        for name, low in least.items():
            if getattr(self, name) < low:
                raise InputError(f"{name} is {getattr(self, name)}", mend=f"give {low} or more")
        if self.precision == "float16":
            raise InputError(
                "Gradients vanish in float16",
                mend="train with {precision=bfloat16}, or float32",
            )


#: settings that may differ when a run goes on: `workers`, `save_every`, `log_every` and, on CPUs,
#: `recompute` change no bit of what is computed; `accumulate`, `compile` and `device` change it by
#: rounding alone
FREE = ("device", "workers", "save_every", "log_every", "accumulate", "compile", "recompute")


def require_shares(batch_size: int, world: int, accumulate: int) -> None:
    """Refuse a minibatch that cannot be divided evenly over `world` processes with `accumulate`
    parts each.

    Raises:
        InputError: `batch_size` is no multiple of world · accumulate.
    """
    shares = world * accumulate
    if batch_size % shares:
        raise InputError(
            f"A minibatch of {batch_size} cannot be shared by {spell_count(world, 'process')} in"
            f" {accumulate} parts",
            mend=f"give a multiple of {shares}",
        )
