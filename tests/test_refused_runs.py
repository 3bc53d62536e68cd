"""What a training refuses, and what it says of what befalls it: a sentence each, with nothing
lost."""

import dataclasses
import json
import math
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from forks import forked, free_port, together
from runs import ARCH, IMAGES, RESNET, SETTINGS, TRAINING, fit, log, same
from sslens import zoo
from sslens.cli import main
from sslens.data.images import ImageSet
from sslens.errors import Doubt, InputError, Mishap
from sslens.own_files import LIST, OwnFiles
from sslens.processes import Processes
from sslens.recipes import recipe
from sslens.store import write_tensors
from sslens.tasks.detection import Detection
from sslens.training.kept import HEADER
from sslens.training.mishaps import Circumstances, explain
from sslens.training.pretrain import pretrain
from sslens.training.schedule import Training, doubt_small


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run that nothing happened to."""
    return {"mae": fit(tmp_path_factory.mktemp("whole")).parent}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"batch_size": 21}, r"21 is more than the 20 images: give batch_size=20 or less"),
        (
            {"batch_size": 9, "accumulate": 2},
            r"9 cannot be shared by 1 process in 2 parts: give a multiple of 2",
        ),
        ({"batch_size": 0}, r"batch_size is 0: give 1 or more"),
        ({"epochs": 0}, r"epochs is 0"),
        ({"log_every": 0}, r"log_every is 0"),
        ({"save_every": -1}, r"save_every is -1: give 0 or more"),
        ({"seed": -1}, r"seed is -1"),
        ({"accumulate": 0}, r"accumulate is 0"),
        ({"precision": "bf16"}, r'no precision "bf16": '),
        ({"device": "gpu"}, r'no device "gpu"'),
        ({"device": "cuda:99"}, r'no device "cuda:99"'),
        ({"arch": "vit_nano_patch9_32"}, r"multiple of the patch size"),
        ({"arch": "nano"}, r'"nano" is not an architecture'),
        ({"arch": "resnet5"}, r"did you mean resnet50"),
        (
            {"arch": "resnet18_64"},
            r"mae cannot train resnet18_64: it trains Vision Transformers \(such as vit_small",
        ),
        ({"arch": "convnextv2_atto_100"}, r"images of 100 px .* Give a multiple of 32"),
        (
            {"objective": "fcmae", "arch": ARCH},
            r"fcmae cannot train vit_nano_patch16_32: it trains ConvNeXt-V2",
        ),
        (
            {"objective": "fcmae", "arch": "resnet18_64"},
            r"fcmae cannot train resnet18_64: it trains ConvNeXt-V2",
        ),
        (
            {"objective": "fcmae", "arch": "convnextv2_atto_32"},
            r"a grid of 1 × 1 patches of 32 px, of .* keeps 0: some must be seen",
        ),
        (
            {"objective": "fcmae", "accumulate": 2},
            r"fcmae on convnextv2_.* over all images of a step.* or settings.responses=.image.\.$",
        ),
        (
            {"objective": "moco-v3", "arch": "resnet18_64", "accumulate": 2},
            r"moco-v3 on resnet18_64 normalises over all",
        ),
        (
            {"objective": "supervised", "arch": RESNET, "batch_size": 1},
            (
                r"supervised on resnet_8.* normalises over the images of a step: give a"
                r" batch_size of 2 or more\.$"
            ),
        ),
        (
            {"objective": "moco-v3", "arch": "convnextv2_atto"},
            r"it trains Vision Transformers .* and ResNets \(such as",
        ),
        ({"objective": "msn", "arch": "resnet18_64"}, r"msn cannot train resnet18_64"),
        (
            {
                "objective": "dino",
                "settings": dataclasses.replace(SETTINGS["dino"], optimiser="lasr"),
            },
            r'no optimiser "lasr": did you mean lars',
        ),
        (
            {"settings": dataclasses.replace(SETTINGS["mae"], base_lr=-1.0)},
            r"base_lr is -1.0: expected above 0",
        ),
        (
            {"settings": dataclasses.replace(SETTINGS["mae"], weight_decay=math.nan)},
            r"weight_decay is nan",
        ),
        ({"settings": dataclasses.replace(SETTINGS["mae"], betas=(0.9, 1.0))}, r"betas is"),
        (
            {"settings": dataclasses.replace(SETTINGS["mae"], warmup=40.0)},
            r"warmup is 40.0: expected a share",
        ),
    ],
)
def test_an_impossible_run_is_refused_before_anything_is_written(
    tmp_path: Path, changed: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=said) as refused:
        fit(tmp_path / "out", changed.pop("objective", "mae"), **changed)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_an_unknown_objective_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="did you mean moco-v3"):
        pretrain("moco-v2", IMAGES, ARCH, tmp_path)


def test_one_image_has_nothing_to_be_contrasted_with(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="2 or more"):
        fit(tmp_path, "moco-v3", batch_size=1)


def test_a_folder_with_a_run_is_not_overwritten(whole: dict[str, Path]) -> None:
    before = (whole["mae"] / "state.safetensors").read_bytes()
    with pytest.raises(
        InputError,
        match="already holds a run: go on with resume=True, replace it with overwrite=True, or",
    ):
        fit(whole["mae"])
    assert (whole["mae"] / "state.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"batch_size": 5}, r"batch_size was 4 and is now 5"),
        ({"precision": "bfloat16"}, r"precision was float32 and is now bfloat16"),
        (
            {"settings": dataclasses.replace(SETTINGS["mae"], mask_ratio=0.5)},
            r"mask_ratio was 0.75 and is now 0.5",
        ),
        (
            {"settings": recipe("mae", "official").settings},
            r"settings.base_lr was 0.05 and is now 0.00015",
        ),
        (
            {"images": IMAGES.take(range(19, -1, -1))},
            r"the images are the same 20 of .+ in another order",
        ),
        (
            {"images": IMAGES.take(range(8))},
            r"the images were 20 of .+ and are now 8 of .+, digest",
        ),
        ({"objective": "moco-v3"}, r"objective was mae and is now moco-v3"),
        (
            {"arch": "vit_nano_patch8_32"},
            r"arch was vit_nano_patch16_32 and is now vit_nano_patch8_32",
        ),
    ],
)
def test_a_run_does_not_go_on_with_other_settings(
    whole: dict[str, Path], changed: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        fit(whole["mae"], changed.pop("objective", "mae"), resume=True, **changed)


def copied(run: Path, out: Path, *files: str) -> Path:
    out.mkdir(exist_ok=True)
    for name in files:
        (out / name).write_bytes((run / name).read_bytes())
    return out


@pytest.mark.parametrize("length", [0, 5, 5000, -1])
def test_a_truncated_state_is_refused(whole: dict[str, Path], tmp_path: Path, length: int) -> None:
    out = copied(
        whole["mae"], tmp_path, "config.yaml", "log.jsonl", "last.safetensors", "state.safetensors"
    )
    (out / "state.safetensors").write_bytes((out / "state.safetensors").read_bytes()[:length])
    with pytest.raises(InputError, match=r"state\.safetensors is not a whole safetensors file"):
        fit(out, resume=True)


LINE = b'{"step": 4, "epoch": 1.0, "loss": 2.0}\n'


@pytest.mark.parametrize(
    ("first", "said"),
    [
        (b"5\n", "it has no step"),
        (b"[1]\n", "it has no step"),
        (b'{"step": null}\n', "its step is no number"),
        (b'{"step": 4, "loss": null}\n', "its loss is no number"),
        (b'{"step": 4, "spread": "s"}\n', "its spread is no number"),
        (b'{"step": 4, "top1": 0.5}\n', "its top1 is of no epoch"),
        (b'{"step": Infinity}\n', "its step is not finite"),
        (b"\xff\n", "'utf-8' codec can't decode"),
        (b"[" * 100_000 + b"\n", "maximum recursion depth"),
    ],
)
def test_a_damaged_line_of_a_log_is_named(
    whole: dict[str, Path], tmp_path: Path, first: bytes, said: str
) -> None:
    out = copied(whole["mae"], tmp_path, "config.yaml", "last.safetensors", "state.safetensors")
    (out / "log.jsonl").write_bytes(LINE + first + LINE)
    with pytest.raises(InputError, match=rf"log\.jsonl is damaged in line 2 \({said}.*remove that"):
        fit(out, resume=True)


@pytest.mark.parametrize(("make", "said"), [(os.mkdir, "Is a directory"), (os.mkfifo, "a pipe")])
def test_a_log_that_is_no_file_is_refused(
    whole: dict[str, Path], tmp_path: Path, make: Callable[[Path], None], said: str
) -> None:
    out = copied(whole["mae"], tmp_path, "config.yaml", "last.safetensors", "state.safetensors")
    make(out / "log.jsonl")
    with pytest.raises(InputError, match=rf"log\.jsonl .*{said}"):
        fit(out, resume=True)


def test_a_list_of_files_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / LIST)
    with pytest.raises(InputError, match=r"\.sslens\.json is a pipe"):
        OwnFiles(tmp_path).read()


NORM = "encoder.norm.weight"


@pytest.mark.parametrize(
    ("changed", "step", "said"),
    [
        ({}, math.inf, "its header tells no step"),
        ({}, 10**9, r"step 1,000,000,000 of 15"),
        ({f"module/{NORM}": None}, 15, rf"module/{NORM} is missing"),
        ({"module/more": torch.ones(1)}, 15, r"module/more is of no weight"),
        (
            {f"module/{NORM}": torch.ones(64, dtype=torch.int64)},
            15,
            rf"module/{NORM} is 64 \(int64\) where the weight is 64 \(float32\)",
        ),
        ({f"optimizer/{NORM}/exp_avg": torch.ones(1, 64)}, 15, r"exp_avg is 1 × 64"),
        ({f"optimizer/{NORM}/exp_avg": None}, 15, r"exp_avg is missing"),
        ({"optimizer/more/exp_avg": torch.ones(1)}, 15, r"is of no parameter"),
        ({"log/losses": torch.ones(2, 2)}, 15, r"log/losses are no list of numbers"),
    ],
)
def test_a_state_that_does_not_fit_its_run_is_refused(
    whole: dict[str, Path],
    tmp_path: Path,
    changed: dict[str, torch.Tensor | None],
    step: float,
    said: str,
) -> None:
    out = copied(whole["mae"], tmp_path, "config.yaml", "log.jsonl", "last.safetensors")
    header, tensors = zoo.read(whole["mae"] / "state.safetensors")
    edited = {name: value for name, value in (tensors | changed).items() if value is not None}
    told = json.loads(header[HEADER]) | {"step": step}
    write_tensors(out / "state.safetensors", edited, {HEADER: json.dumps(told)})
    with pytest.raises(
        InputError, match=rf"state\.safetensors is damaged: .*{said}.*copy it again"
    ):
        fit(out, resume=True)


def test_another_kind_of_file_is_no_state(whole: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "state.safetensors").write_bytes((whole["mae"] / "last.safetensors").read_bytes())
    with pytest.raises(InputError, match="is not the state of a run"):
        fit(tmp_path, resume=True)


@pytest.mark.parametrize("resume", [False, True])
def test_an_encoder_without_its_state_is_not_overwritten(
    whole: dict[str, Path], tmp_path: Path, resume: bool
) -> None:
    out = copied(whole["mae"], tmp_path, "last.safetensors")
    with pytest.raises(InputError, match=r"holds a trained encoder but no state\.safetensors"):
        fit(out, resume=resume)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"The loss is (nan|inf) at step \d+ of 15: the training has diverged"
    ) as said:
        fit(tmp_path, settings=dataclasses.replace(SETTINGS["mae"], base_lr=1e25))
    assert "\n" not in str(said.value)
    assert all(math.isfinite(loss) for loss in log(tmp_path))


# ------------------------------------------------------------------------------------------------
# mishaps


class Failing:
    """Images in memory; when so many have been taken, something happens to this process."""

    def __init__(self, after: int, happens: Callable[[], object]) -> None:
        self.after, self.happens = after, happens

    def image(self, row: int) -> Image.Image:
        self.after -= 1
        if self.after == 0:
            self.happens()
        return IMAGES.source.image(row)

    def digests(self, rows: Sequence[int]) -> list[str]:
        return IMAGES.source.digests(rows)


def failing(step: int, happens: Callable[[], object]) -> ImageSet:
    """The same images; it happens in the middle of a step."""
    return dataclasses.replace(IMAGES, source=Failing(TRAINING.batch_size * step - 1, happens))


def one_sentence_or_two(error: BaseException) -> str:
    text = str(error)
    assert "\n" not in text
    assert "Traceback" not in text
    return text


def test_memory_that_runs_out_at_the_start_leaves_nothing(tmp_path: Path) -> None:
    settings = dataclasses.replace(SETTINGS["dino"], prototypes=10**15)
    with pytest.raises(
        Mishap, match=r"Memory ran out on cpu \(\d+ bytes were asked for\)\. Nothing was kept yet: "
    ) as said:
        fit(tmp_path / "out", "dino", settings=settings)
    assert one_sentence_or_two(said.value).endswith('a smaller batch_size or precision="bfloat16".')
    assert not (tmp_path / "out").exists()


def test_memory_that_runs_out_in_a_step_leaves_the_state_and_the_run_goes_on(
    whole: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(Mishap) as said:
        fit(tmp_path, images=failing(6, lambda: torch.empty(2**60)))
    assert (
        one_sentence_or_two(said.value)
        == f"Memory ran out on cpu ({2**62} bytes were asked for). The last state is kept in"
        f" {tmp_path}: go on with resume=True and accumulate=2 or recompute=True, which leave the"
        " numbers as they are, or start again in another out with a smaller batch_size or"
        ' precision="bfloat16".'
    )
    fit(tmp_path, resume=True, recompute=True)
    same(tmp_path, whole["mae"])


@pytest.mark.parametrize(
    ("training", "divisible", "advice"),
    [
        (
            Training(batch_size=6, accumulate=2),
            True,
            "start again with accumulate=3 or recompute=True, which",
        ),
        (Training(batch_size=6), False, "start again with recompute=True, which"),
        (
            Training(batch_size=6, accumulate=6, recompute=True),
            True,
            "kept yet: start again with a smaller batch_size or",
        ),
    ],
)
def test_what_helps_where_memory_is_short(training: Training, divisible: bool, advice: str) -> None:
    run = Circumstances(Path("nowhere"), training, Processes(0, 1, "cuda"), "float32", divisible)
    error = torch.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 20.50 GiB. GPU 0 has a total capacity of 14.56 GiB"
        " of which 1.00 GiB is free."
    )
    said = str(explain(error, run))
    assert "Memory ran out on cuda (20.50 GiB were asked for)" in said
    assert advice in said


def test_parts_of_a_detectors_step_are_not_said_to_leave_the_numbers() -> None:
    assert not Detection.exact
    training, here = Training(batch_size=8), Processes(0, 1, "cuda")
    run = Circumstances(Path("nowhere"), training, here, "bfloat16", True, Detection.exact)
    assert str(explain(torch.OutOfMemoryError("CUDA out of memory."), run)).endswith(
        "start again with recompute=True, which leaves the numbers as they are, or with"
        " accumulate=2 or a smaller batch_size."
    )


# torch opens files to see whether any can be opened, and its signal may come in between
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_lost_data_worker_is_said_and_the_run_goes_on(
    whole: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(
        Mishap, match=r"data worker was lost.*/dev/shm.*fewer workers than 1"
    ) as said:
        fit(tmp_path, images=failing(11, lambda: signal.raise_signal(signal.SIGKILL)), workers=1)
    assert f"kept in {tmp_path}: go on with" in one_sentence_or_two(said.value)
    fit(tmp_path, resume=True)
    same(tmp_path, whole["mae"])


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_went_bad_is_said_as_it_is(tmp_path: Path, workers: int) -> None:
    def bad() -> None:
        raise InputError("photos/a.png cannot be decoded (truncated): repair it or leave it out.")

    with pytest.raises(
        InputError,
        match=r"^photos/a\.png cannot be decoded \(truncated\): repair it or leave it out\.$",
    ):
        fit(tmp_path, images=failing(3, bad), workers=workers)


def test_a_lost_process_is_said_and_the_run_goes_on(whole: dict[str, Path], tmp_path: Path) -> None:
    def body() -> None:
        images = IMAGES
        if os.environ["RANK"] == "1":  # which takes 2 of a step's 4 images
            images = dataclasses.replace(
                IMAGES, source=Failing(2 * 7, lambda: signal.raise_signal(signal.SIGKILL))
            )
        lost = r"^Process 0 of 2 lost its connection to another.* the same command and resume=True"
        with pytest.raises(Mishap, match=lost) as said:
            fit(tmp_path, images=images)
        one_sentence_or_two(said.value)

    base = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "WORLD_SIZE": "2"}
    assert forked(body, [base | {"RANK": rank, "LOCAL_RANK": rank} for rank in "01"]) == [
        0,
        -signal.SIGKILL,
    ]
    fit(tmp_path, resume=True)
    np.testing.assert_allclose(log(tmp_path), log(whole["mae"]), rtol=0, atol=1e-4)


def test_a_mishap_is_said_by_the_process_that_it_befell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "1")
    asked = ["pretrain", "dino", "--images", "scenes:0:8", "--arch", ARCH, "--device", "cpu"]
    assert main([*asked, "--out", str(tmp_path), "--batch-size", "9"]) == 2
    assert capsys.readouterr().err == ""  # the first process says it
    assert (
        main(
            [
                *asked,
                "--out",
                str(tmp_path),
                "--batch-size",
                "4",
                "--set",
                "prototypes=1000000000000000",
            ]
        )
        == 2
    )
    assert capsys.readouterr().err.startswith("sslens: Memory ran out on cpu (")


# ------------------------------------------------------------------------------------------------
# batches and images


@pytest.mark.parametrize("case", ["moco-v3-on-resnet", "msn"])
def test_one_image_a_process_is_normalised_with_those_of_the_others(
    tmp_path: Path, case: str
) -> None:
    images = IMAGES.take(range(4))
    fit(tmp_path / "one", case, images, batch_size=2, epochs=1)
    together(lambda: fit(tmp_path / "two", case, images, batch_size=2, epochs=1))
    np.testing.assert_allclose(
        log(tmp_path / "two")[0], log(tmp_path / "one")[0], rtol=0, atol=1e-4
    )


def test_images_smaller_than_the_crops_are_doubted() -> None:
    doubt_small(IMAGES, 32)
    with pytest.warns(
        Doubt,
        match=r"^16 of 16 images of array .* smaller than the 64 px .* \(the smallest has 32 px\)",
    ):
        doubt_small(IMAGES, 64)
    with pytest.warns(Doubt, match=r"^2 of 2 images"):
        doubt_small(IMAGES.take([0, 1]), 33)
