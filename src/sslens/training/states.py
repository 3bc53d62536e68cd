"""The states of an encoder in the course of its training, each kept as Grams of the same images,
and at the end the CKA of each of them with the last one.

A state is a file `states/STEP.safetensors` in the run's folder. The encoder is read through a copy,
so a run that keeps its states ends with the same weights, bit for bit, as one that does not.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, final

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from sslens import zoo
from sslens.capture import GramReducer, Grams, collect
from sslens.data.decoded import Decoded
from sslens.data.images import ImageSet
from sslens.errors import InputError
from sslens.measures.cka import minibatch_cka
from sslens.models.taps import Tap
from sslens.own_files import OwnFiles
from sslens.plan import Plan
from sslens.store import digest, write_tensors
from sslens.table import Table
from sslens.training.observers import Findings, RunningTraining
from sslens.training.reading import copy_encoder

#: the folder of the states, and the table that is written at the end
FOLDER, TABLE = "states", "states.csv"
HEADER = "sslens.state-grams"
#: images of which Grams are kept: eight minibatches of the papers' 32
COUNT, MINIBATCH = 256, 32
UNITS = {
    "step": "optimiser's steps done",
    "epoch": "passes over the images done",
    "tap": "name of the layer",
    "kind": "kind of layer",
    "depth": "relative depth, 0 to 1",
    "tokens": "tokens that were flattened: all, or the CLS token",
    "cka": "minibatch CKA with the same layer after the last step",
}


@final
class StateKeeper:
    """The observer that keeps the states of an encoder.

    Args:
        run: the training.
        images: the images that the encoder is shown, of which 256 are drawn.
        is_due: whether to keep the state after a step.

    Raises:
        InputError: the run's folder has states on other images.
    """

    def __init__(
        self, run: RunningTraining, images: ImageSet, is_due: Callable[[int], bool]
    ) -> None:
        self._run, self.due = run, is_due
        sample = images.sample(COUNT, 0)
        self._decoded = Decoded(sample, run.job.transform)
        self._plan = Plan.draw(sample.ids, size=MINIBATCH)
        self._key = digest([sample.digest, self._plan.digest, run.job.transform.spec()])
        self._folder = run.out / FOLDER
        if run.where.first:
            self._begin()

    def _begin(self) -> None:
        """Delete the run's states later than the step at which the run goes on."""
        own = OwnFiles(self._run.out)
        for path in list_states(self._run.out):
            if int(path.stem) > self._run.start:
                own.remove(path)
                own.before(path)
                continue
            if read_about(path)[0]["key"] != self._key:
                raise InputError(
                    f"The states in {self._folder} were kept on other images than now",
                    mend="give the same images to {held}, or delete that folder",
                )

    def look(self, step: int) -> Findings:
        """Keep the state; after the last step, also write the table. The log gets no numbers."""
        run = self._run
        model = copy_encoder(run.method.encoder, run.job.transform)
        names = [tap.name for tap in model.taps.values() if tap.kind in ("block", "norm")]
        readings = [GramReducer("all"), *([GramReducer("cls")] if model.prefix else [])]
        grams = collect(
            model,
            self._decoded.images,
            readings,
            plan=self._plan,
            taps=names,
            device=run.where.device,
            decoded=self._decoded,
        )
        if run.where.first:
            self._write(step, {r.tokens: one for r, one in zip(readings, grams, strict=True)})
            if step == run.schedule.steps:
                table = compare_with_last(run.out, run.schedule.epoch)
                table.save(OwnFiles(run.out).before(run.out / TABLE))
        return Findings()

    def _write(self, step: int, grams: Mapping[str, Grams]) -> None:
        tensors: dict[str, Tensor] = {}
        for tokens, one in grams.items():
            tensors |= {f"{tokens}/grams": one.blocks, f"{tokens}/energy": one.energy}
        some = next(iter(grams.values()))
        header = {
            "key": self._key,
            "ids": some.ids,
            "sizes": some.sizes.tolist(),
            "taps": [[tap.name, tap.kind, tap.depth] for tap in some.taps],
        }
        self._folder.mkdir(exist_ok=True)
        path = OwnFiles(self._run.out).before(self._folder / f"{step:09d}.safetensors")
        write_tensors(path, tensors, {HEADER: json.dumps(header)})


def list_states(out: Path) -> list[Path]:
    """List the files of the states in a run's folder, the earliest first."""
    return sorted((out / FOLDER).glob("[0-9]*.safetensors"))


def read_about(path: Path) -> tuple[Mapping[str, Any], dict[str, Tensor]]:
    """Read what the file of a state says of itself, and its tensors.

    Raises:
        InputError: the file is cut off, damaged or no state.
    """
    header, tensors = zoo.read(path)
    try:
        said = json.loads(header[HEADER])
        missing = {"key", "ids", "sizes", "taps"} - said.keys()
        if missing:
            raise KeyError(sorted(missing)[0])
        return said, tensors
    except (ValueError, KeyError, AttributeError, RecursionError) as error:
        raise _make_error(path, error) from error


def read_state(path: Path) -> dict[str, Grams]:
    """Read the Grams of a state, by the tokens that were flattened: "all", and "cls" where the
    network has a CLS token."""
    said, tensors = read_about(path)
    try:
        taps = tuple(Tap(*tap) for tap in said["taps"])
        key = {"images": said["key"], "plan": said["key"]}
        sizes, ids = torch.tensor(said["sizes"]), tuple(said["ids"])
        return {
            tokens: Grams(
                path.stem,
                ids,
                taps,
                tensors[f"{tokens}/grams"],
                tensors[f"{tokens}/energy"],
                sizes,
                key,
            )
            for tokens in ("all", "cls")
            if f"{tokens}/grams" in tensors
        }
    except (KeyError, TypeError, ValueError) as error:
        raise _make_error(path, error) from error


def _make_error(path: Path, error: Exception) -> InputError:
    return InputError(
        f"{path} is no state of an encoder, or a damaged one ({error})", mend="delete it"
    )


def compare_with_last(out: Path, epoch: int) -> Table:
    """Compute CKA of each layer in each state with the same layer in the last state.

    Args:
        out: the folder of a run that kept its states.
        epoch: the number of steps in an epoch.

    Returns:
        One row for each state, layer and choice of tokens; `UNITS` explains the columns. CKA is nan
            where a layer does not vary over images.

    Raises:
        InputError: the folder has no states.
    """
    paths = list_states(out)
    if not paths:
        raise InputError(f"{out} has no states", mend="train with {states=True}")
    last = read_state(paths[-1])
    rows = []
    for path in paths:
        step = int(path.stem)
        for tokens, grams in read_state(path).items():
            values = np.diag(minibatch_cka(grams, last[tokens]))
            rows += [
                (step, step / epoch, tap.name, tap.kind, tap.depth, tokens, value)
                for tap, value in zip(grams.taps, values.tolist(), strict=True)
            ]
    return Table(pd.DataFrame(rows, columns=list(UNITS)), UNITS)
