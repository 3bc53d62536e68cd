"""`sslens fingerprint`: the same bytes in another process, nothing computed twice, and no mistake
that leaves anything."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import sslens
from sslens.cli import main
from sslens.fingerprint import (
    describe,
    read,
    require_comparable,
)

NANO = "random:vit_nano_patch8_32"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with pictures in `photos`."""
    monkeypatch.chdir(tmp_path)
    pictures(tmp_path / "photos", range(10))
    return tmp_path


def pictures(folder: Path, numbers: Any) -> None:
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, 256, (10, 40, 32, 3), dtype=np.uint8)
    for number in numbers:
        path = folder / f"class{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(drawn[number]).save(path)


UNBATCHED = ["fingerprint", NANO, "--images", "photos", "--device", "cpu"]
LINE = [*UNBATCHED, "--batch", "5"]

ELSEWHERE = """
import sys
from pathlib import Path
from sslens.fingerprint import is_fingerprint, read
from sslens.cli import main
assert is_fingerprint(Path(sys.argv[1])) and not is_fingerprint(Path("photos"))
for model, out in (("randm:vit", "file"), (sys.argv[1], "file"), ("pixels", ".")):
    assert main(["fingerprint", model, "--images", "photos", "-o", out]) == 2
heavy = {"torch", "timm", "pandas", "safetensors"} & set(sys.modules)
assert not heavy, heavy
status = main(sys.argv[2:])
assert status == 0, status
"""


@pytest.mark.slow
def test_another_process_and_order_of_files_gives_the_same_bytes(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main([*LINE, "--tokens", "all", "cls", "-o", "here"]) == 0
    assert capsys.readouterr().out == "here\n"
    (place / "photos").rename(place / "first")
    pictures(place / "photos", reversed(range(10)))
    monkeypatch.setenv("SSLENS_HOME", str(place / "another-home"))
    line = [*LINE, "--tokens", "all", "cls", "--out", "there"]
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, "here", *line],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert Path("here").read_bytes() == Path("there").read_bytes()


def test_a_short_option_ends_the_words_of_the_option_before_it(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["fingerprint", "pixels", "--images", "missing", "--tokens", "all", "cls", "-o", "here"]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "missing" in said
    assert "--tokens" not in said


def test_a_second_run_computes_nothing(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from timm.layers import PatchEmbed

    passed: list[int] = []

    def see(module: torch.nn.Module, args: Any, _output: Any) -> None:
        if isinstance(module, PatchEmbed):
            passed.append(len(args[0]))

    handle = torch.nn.modules.module.register_module_forward_hook(see)
    try:
        assert main(LINE) == 0
        assert passed == [5, 5]
        out, err = capsys.readouterr()
        assert out == "random-0.fingerprint.safetensors\n"
        assert "pass      to be made" in err
        assert main([*LINE, "--half", "-o", "half"]) == 0
        assert passed == [5, 5]
        assert "pass      in the store" in capsys.readouterr().err
        assert main(LINE) == 0  # over its own file
    finally:
        handle.remove()
    full, half = read(Path("random-0.fingerprint.safetensors")), read(Path("half"))
    assert Path("half").stat().st_size < Path("random-0.fingerprint.safetensors").stat().st_size
    assert (full.dtype, half.dtype) == ("float32", "float16")
    require_comparable(full.conditions, half.conditions)


def test_options_reach_the_file(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = [
        *UNBATCHED,
        "--interpolation",
        "bilinear",
        "--tokens",
        "cls",
        "patch",
        "--taps",
        "blocks.3",
        "blocks.0.attn.qkv",
    ]
    assert (
        main(
            [
                *line,
                "--limit",
                "8",
                "--seed",
                "3",
                "--batch",
                "4",
                "--precision",
                "bfloat16",
                "-o",
                "file",
            ]
        )
        == 0
    )
    found = read(Path("file"))
    assert found.conditions.transform["interpolation"] == "bilinear"
    assert list(found.grams) == ["cls", "patch"]
    assert [tap.name for tap in found.grams["cls"].taps] == ["blocks.0.attn.qkv", "blocks.3"]
    assert (len(found.ids), found.conditions.plan["seed"], found.conditions.sizes) == (8, 3, (4, 4))
    assert found.conditions.precision == "bfloat16"
    assert set(found.ids) == set(sslens.open_images("photos", limit=8, seed=3).ids)
    said = describe(Path("file"))
    assert "8 of photos" in said
    assert "32 of 32 px, bilinear, forward pass in bfloat16" in said
    assert "2 of 4 images, seed 3" in said
    assert "tokens cls    2 taps: 1 qkv, 1 block" in said


def test_a_dry_run_writes_nothing(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*LINE, "--dry-run"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "model     random #0, 17 taps, tokens all" in err
    assert "images    10 of photos" in err
    assert [path.name for path in place.iterdir()] == ["photos"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["fingerprint", "random:vit_nono_patch8_32", "--images", "photos"],
            'no model "vit_nono_patch8_32": did you mean',
        ),
        ([*LINE, "--taps", "blocks.9"], 'random #0 has no tap "blocks.9": did you mean blocks.'),
        ([*UNBATCHED, "--batch", "3"], "A minibatch of 3 images is too small"),
        ([*LINE, "--limit", "2"], "the limit is 2"),
        ([*LINE, "-o", "photos"], "photos is a folder: give the file to write"),
        (
            [*LINE, "-o", "photos/class0/0.png"],
            "0.png is there and is no fingerprint: it would be lost",
        ),
        (
            [*LINE, "--tokens"],
            "No tokens are named: give one or more of all, cls and patch to --tokens",
        ),
        (
            ["fingerprint", "pixels", "--images", "photos", "--tokens", "cls"],
            "pixels has no CLS token",
        ),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_nothing(
    place: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in place.rglob("*.*") if path.is_file()}
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = [line for line in err.splitlines() if line.startswith("sslens: ")]
    assert said in line
    assert {path: path.read_bytes() for path in place.rglob("*.*") if path.is_file()} == before


def test_doctor_tells_what_a_fingerprint_is_of(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "random-0.fingerprint.safetensors"
    assert main(LINE) == 0
    capsys.readouterr()
    assert main(["doctor", name]) == 0
    assert "\nchecksums     right\n" in capsys.readouterr().out
    assert main(["doctor", name, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == json.loads(json.dumps(read(Path(name)).to_json()))
    assert told["images"]["count"] == 10


def test_no_file_of_another_model_is_lost(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(LINE) == 0
    assert main(["fingerprint", "random:vit_nano_patch16_32", *LINE[2:]]) == 2
    assert (
        "random-0.fingerprint.safetensors is there and is of random:vit_nano_patch8_32:0 over 10"
        " images of photos: it would be lost. Give another name with --out."
        in capsys.readouterr().err
    )
    assert read(Path("random-0.fingerprint.safetensors")).source == f"{NANO}:0"
    assert main(["fingerprint", "random-0.fingerprint.safetensors", "--images", "photos"]) == 2
    assert "is a fingerprint already: sslens doctor" in capsys.readouterr().err
