"""Fingerprints: what is written is read again, what is not alike is refused, and no damage passes
for data."""

import dataclasses
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import sslens
from sslens.capture import GramReducer, Grams, collect
from sslens.data.images import from_arrays
from sslens.errors import InputError
from sslens.fingerprint import (
    Conditions,
    Fingerprint,
    is_fingerprint,
    read,
    require_comparable,
    triangles,
    write,
)
from sslens.fingerprint.file import describe
from sslens.fingerprint.header import ENTRY, FORMAT
from sslens.fingerprint.tensors import find_not_finite
from sslens.measures.cka import minibatch_cka
from sslens.models.about import About
from sslens.models.taps import Tap
from sslens.plan import Plan

NANO = "random:vit_nano_patch8_32"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Conditions, list[Grams]]:
    """A fingerprint of a random ViT over 70 images, so that its last minibatch is short, of all
    tokens and CLS."""
    path = tmp_path_factory.mktemp("made") / "nano.safetensors"
    model, images = sslens.load(NANO), sslens.open_images("scenes:0:70")
    plan = Plan.draw(images.ids)
    artefacts = collect(model, images, [GramReducer("all"), GramReducer("cls")], plan=plan)
    conditions = Conditions.of(model, images, plan, tokens=("all", "cls"), seed=0)
    write(path, artefacts, conditions, model=model)
    return path, conditions, artefacts


@dataclasses.dataclass(frozen=True)
class Named:
    """A model of which only a name is needed."""

    name: str
    source: str = "nowhere"
    about: About = dataclasses.field(default_factory=About)
    digest: str = "d1"


def synthetic(grams: Tensor, ids: list[str], sizes: list[int]) -> tuple[list[Grams], Conditions]:
    """Grams that no model made, and conditions that fit them."""
    starts = np.cumsum([0, *sizes])
    batches = tuple(tuple(ids[a:b]) for a, b in itertools.pairwise(starts))
    plan = Plan(batches)
    transform = {
        "resize": 256,
        "crop": 224,
        "interpolation": "bicubic",
        "mean": [0.5] * 3,
        "std": [0.25] * 3,
    }
    taps = tuple(Tap(f"blocks.{i}.mlp.fc1", "fc1", (i + 1) / len(grams)) for i in range(len(grams)))
    key = {
        "reducer": "grams",
        "version": 1,
        "settings": {"tokens": "all"},
        "weights": "d1",
        "transform": transform,
    }
    key |= {
        "taps": [dataclasses.asdict(tap) for tap in taps],
        "images": "c1",
        "plan": plan.digest,
        "precision": "float32",
    }
    energy = torch.linspace(0, 1, len(grams) * len(sizes), dtype=torch.float64).view(
        len(grams), len(sizes)
    )
    conditions = Conditions(
        name="one",
        ids=plan.ids,
        images={"name": "photos", "count": len(ids), "content": "c1"},
        plan={"batch": sizes[0], "seed": 0, "digest": plan.digest},
        sizes=tuple(sizes),
        transform=transform,
        precision="float32",
        versions={"all": 1},
    )
    return [Grams("one", plan.ids, taps, grams, energy, torch.tensor(sizes), key)], conditions


# ------------------------------------------------------------------------------------------------
# there and back


def test_large_numbers_are_finite_though_their_sum_is_not() -> None:
    large = torch.full((2, 2), 1e308, dtype=torch.float64)
    assert find_not_finite(large) is None
    assert find_not_finite(large, torch.tensor([[0.0], [torch.nan]])) == 1


def test_what_is_written_in_float32_is_read_again_exactly(
    made: tuple[Path, Conditions, list[Grams]],
) -> None:
    path, conditions, artefacts = made
    found = read(path)
    assert list(found.grams) == ["all", "cls"]
    assert found.conditions == conditions
    assert (found.name, found.source, found.dtype, found.note) == (
        "random #0",
        NANO + ":0",
        "float32",
        "as computed",
    )
    assert found.about == sslens.load(NANO).about
    assert found.digest == sslens.load(NANO).digest
    for before, after in zip(artefacts, found.grams.values(), strict=True):
        assert (before.key, before.taps, before.ids, before.model) == (
            after.key,
            after.taps,
            after.ids,
            after.model,
        )
        upper, kept = (each.blocks.triu() for each in (before, after))
        assert after.blocks.dtype == torch.float32
        assert torch.equal(upper, kept)
        assert torch.equal(after.blocks, after.blocks.mT)
        assert torch.equal(before.energy, after.energy)
        assert after.sizes.tolist() == [32, 32, 6]
        # a product of matrices is symmetric but for its rounding, which is all that the lower
        # triangle lost
        apart = (after.blocks - before.blocks).abs().max()
        assert apart < 5e-7 * before.blocks.abs().max()
        np.testing.assert_allclose(
            minibatch_cka(after, after), minibatch_cka(before, before), rtol=0, atol=1e-6
        )


def test_the_order_of_the_triangles_and_their_values_are_as_documented(tmp_path: Path) -> None:
    grams = torch.tensor([[1.0, 2, 3, 4], [2, 5, 6, 7], [3, 6, 8, 9], [4, 7, 9, 10]])
    artefacts, conditions = synthetic(grams[None, None], ["a", "b", "c", "d"], [4])
    write(tmp_path / "one", artefacts, conditions, model=Named("one"))
    assert load_file(tmp_path / "one")["triangles/all"].tolist() == [
        [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    ]
    assert torch.equal(read(tmp_path / "one").grams["all"].blocks[0, 0], grams)


@pytest.mark.parametrize("sizes", [[32, 34], [5], [4, 4, 7, 4]])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_minibatches_of_any_sizes_come_back(tmp_path: Path, sizes: list[int], dtype: Any) -> None:
    torch.manual_seed(0)
    whole = torch.zeros(3, len(sizes), max(sizes), max(sizes))
    for batch, n in enumerate(sizes):
        x = torch.randn(3, n, 7) * 10.0 ** torch.tensor([-12.0, 0, 12])[:, None, None]
        whole[:, batch, :n, :n] = x @ x.mT
    whole = whole.triu() + whole.triu(1).mT
    artefacts, conditions = synthetic(whole, [f"é{i}" for i in range(sum(sizes))], sizes)
    write(tmp_path / "one", artefacts, conditions, model=Named("one"), dtype=dtype)
    found = read(tmp_path / "one").grams["all"].blocks
    if dtype == "float32":
        assert torch.equal(found, whole)
        return
    for batch, n in enumerate(sizes):
        expected, got = (each[:, batch, :n, :n].double() for each in (whole, found))
        mean = (expected.sum((-1, -2)) - expected.diagonal(dim1=-2, dim2=-1).sum(-1)) / (
            n * (n - 1)
        )
        distance = (expected - mean[:, None, None]).abs()
        assert ((got - expected).abs() <= 2.0**-11 * distance + 2.0**-24 * expected.abs()).all()
        assert found[:, batch, n:].abs().sum() == found[:, batch, :, n:].abs().sum() == 0


def test_what_float16_adds_to_cka_is_less_than_the_note_says(tmp_path: Path) -> None:
    """Over 32 images, the fewest that the note speaks of; with more of them it is less."""
    images = sslens.open_images("scenes:0:32")
    plan = Plan.draw(images.ids)
    found: dict[str, list[Fingerprint]] = {"float32": [], "float16": []}
    for name in (NANO, "random:vit_mini_patch8_32:1"):
        model = sslens.load(name)
        artefacts = collect(model, images, [GramReducer("all"), GramReducer("cls")], plan=plan)
        conditions = Conditions.of(model, images, plan, tokens=("all", "cls"))
        for dtype in ("float32", "float16"):
            write(tmp_path / "file", artefacts, conditions, model=model, dtype=dtype)
            found[dtype].append(read(tmp_path / "file"))
    assert "within 5e-5" in found["float16"][0].note
    worst = 0.0
    for tokens in ("all", "cls"):
        full, half = (
            [each.grams[tokens] for each in found[dtype]] for dtype in ("float32", "float16")
        )
        for a, b in ((0, 0), (0, 1), (1, 1)):
            exact = minibatch_cka(full[a], full[b])
            for rounded in (minibatch_cka(half[a], half[b]), minibatch_cka(half[a], full[b])):
                assert (
                    np.isnan(rounded) == np.isnan(exact)
                ).all()  # a constant tap is known as before
                worst = max(worst, float(np.nanmax(np.abs(rounded - exact))))
        assert half[0].key != full[0].key
        assert half[0].key == full[0].key | {"rounded": "float16"}
    assert 1e-7 < worst < 5e-5


def test_float16_keeps_what_cka_sees_of_features_in_many_directions() -> None:
    """Their Grams are a constant and ten times smaller differences: without the offset the error is
    six times this."""
    torch.manual_seed(0)
    x = [torch.randn(64, 60_000) for _ in range(2)]
    sizes = [32, 32]
    full = [Grams.of_features([each], sizes=np.array(sizes)) for each in (x[0], x[0] + x[1])]
    half = []
    for each in full:
        kept = triangles.pack(each.blocks, sizes)
        grams = triangles.unpack(triangles.restore(*triangles.halve(kept, sizes), sizes), sizes)
        half.append(dataclasses.replace(each, blocks=grams))
    assert abs(minibatch_cka(*half) - minibatch_cka(*full)).item() < 1e-5


def test_float16_neither_overflows_nor_loses_small_values() -> None:
    rows = [
        [3e38, 0.0, 3e38],
        [1e-40, 0.0, 1e-45],
        [0.0, 0.0, 0.0],
        [1.0, 0.0, 2.0**-29],
        [2 - 2.0**-20, 0.0, 1.0],
    ]
    kept = torch.tensor(rows)
    half, scale, offset = triangles.halve(kept, [2])
    assert half.isfinite().all()
    assert offset.abs().sum() == 0
    back = triangles.restore(half, scale, offset, [2])
    assert torch.allclose(back[0], kept[0], rtol=2.0**-11, atol=0)
    assert torch.allclose(back[1], kept[1], rtol=2.0**-11, atol=1e-45)
    assert torch.equal(back[2:4], kept[2:4])
    assert back[4].tolist() == [2, 0, 1]


def test_the_sizes_are_those_promised(tmp_path: Path) -> None:
    """A ViT-B/16 with its 49 taps over 1,024 images of ImageNet's names."""
    torch.manual_seed(0)
    x = torch.randn(49, 32, 32, 64)
    ids = [
        f"n{i * 7919 % 10**8:08d}/ILSVRC2012_val_{i * 104729 % 10**8:08d}.JPEG" for i in range(1024)
    ]
    artefacts, conditions = synthetic(x @ x.mT, ids, [32] * 32)
    for dtype, most in (("float32", 4_000_000), ("float16", 2_000_000)):
        write(tmp_path / dtype, artefacts, conditions, model=Named("one"), dtype=dtype)
        assert (tmp_path / dtype).stat().st_size < most
    values = 49 * 32 * (32 * 33 // 2)
    assert (tmp_path / "float32").stat().st_size < 4 * values + 12.5e3 + 30e3  # energies; taps, ids


def test_a_fingerprint_can_be_written_from_one(
    made: tuple[Path, Conditions, list[Grams]], tmp_path: Path
) -> None:
    found = read(made[0])
    write(tmp_path / "again", list(found.grams.values()), found.conditions, model=found)
    assert (tmp_path / "again").read_bytes() == made[0].read_bytes()
    write(
        tmp_path / "half",
        list(found.grams.values()),
        found.conditions,
        model=found,
        dtype="float16",
    )
    half = read(tmp_path / "half")
    with pytest.raises(InputError, match="rounded to float16 already"):
        write(tmp_path / "no", list(half.grams.values()), half.conditions, model=half)


def test_a_caller_cannot_mix_up_models_or_conditions(
    made: tuple[Path, Conditions, list[Grams]], tmp_path: Path
) -> None:
    _, conditions, artefacts = made
    model = sslens.load(NANO)
    path = tmp_path / "no"
    with pytest.raises(InputError, match="not those of the weights"):
        write(path, artefacts, conditions, model=sslens.load(f"{NANO}:1"))
    with pytest.raises(InputError, match="of the tokens"):
        write(path, artefacts[:1], conditions, model=model)
    with pytest.raises(InputError, match="does not say these conditions"):
        write(path, artefacts, dataclasses.replace(conditions, precision="bfloat16"), model=model)
    with pytest.raises(InputError, match="not these conditions'"):
        write(path, artefacts, dataclasses.replace(conditions, ids=conditions.ids[1:]), model=model)
    assert not path.exists()


def test_a_gram_without_numbers_is_not_written(tmp_path: Path) -> None:
    grams = torch.eye(4).repeat(3, 1, 1, 1)
    grams[1, 0, 2, 3] = torch.nan
    artefacts, conditions = synthetic(grams, ["a", "b", "c", "d"], [4])
    with pytest.raises(
        InputError,
        match=r"^one: blocks\.1\.mlp\.fc1 gives values that are no numbers .* not written",
    ):
        write(tmp_path / "one", artefacts, conditions, model=Named("one"))
    assert list(tmp_path.iterdir()) == []


def test_conditions_are_those_of_the_pass(made: tuple[Path, Conditions, list[Grams]]) -> None:
    conditions = made[1]
    pictures = sslens.open_images("scenes:0:70")
    assert conditions.images == {"name": "scenes-v4", "count": 70, "content": pictures.content}
    assert conditions.plan == {"batch": 32, "seed": 0, "digest": Plan.draw(pictures.ids).digest}
    assert conditions.versions == {"all": GramReducer.version, "cls": GramReducer.version}
    changed = from_arrays(np.zeros((4, 8, 8, 3), np.uint8), ids=list("abcd"))
    other = from_arrays(np.ones((4, 8, 8, 3), np.uint8), ids=list("abcd"))
    model, plan = sslens.load("pixels"), Plan.draw(list("abcd"))
    with pytest.raises(InputError, match="contents or the classes differ"):
        require_comparable(Conditions.of(model, changed, plan), Conditions.of(model, other, plan))


# ------------------------------------------------------------------------------------------------
# damage


def change(
    path: Path, to: Path, header: Callable[[Any], Any] | None = None, **tensors: Tensor | None
) -> Path:
    """A copy of a fingerprint with another header, or other tensors (None takes one away; _ stands
    for /)."""
    from sslens.fingerprint.header import metadata

    entry = json.loads(metadata(path)[ENTRY])
    entry = header(entry) if header else entry
    kept: dict[str, Tensor] = load_file(path)
    for name, value in tensors.items():
        kept.pop(name.replace("_", "/"))
        if value is not None:
            kept[name.replace("_", "/")] = value
    save_file(
        {name: value.contiguous() for name, value in kept.items()}, to, {ENTRY: json.dumps(entry)}
    )
    return to


def test_a_name_in_a_header_changes_neither_screen_nor_file(
    made: tuple[Path, Conditions, list[Grams]], tmp_path: Path
) -> None:
    def rename(name: str) -> Path:
        return change(
            made[0],
            tmp_path / "named.safetensors",
            lambda entry: entry | {"model": entry["model"] | {"name": name}},
        )

    said = describe(rename("evil\x1b[2J\nchecksums     right"))
    assert r"evil\x1b[2J\nchecksums     right" in said
    assert len(said.splitlines()) == len(describe(made[0]).splitlines())
    with pytest.raises(InputError, match="a name in its header holds half of a character"):
        read(rename("\ud800"))


@pytest.mark.parametrize("share", [0.0, 0.00005, 0.01, 0.5, 0.9999])
def test_a_file_that_was_cut_off(
    made: tuple[Path, Conditions, list[Grams]], tmp_path: Path, share: float
) -> None:
    whole = made[0].read_bytes()
    path = tmp_path / "cut.safetensors"
    path.write_bytes(whole[: int(share * len(whole))])
    length = int.from_bytes(whole[:8], "little") + 8
    known = path.stat().st_size >= length
    assert is_fingerprint(path) == known
    said = "was cut off in writing or copying" if known else "is no whole safetensors file"
    with pytest.raises(InputError, match=rf"cut\.safetensors .*{said}"):
        read(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no whole safetensors file"),
        (b"<!DOCTYPE html><html>Not found</html>" * 100, "no whole safetensors file"),
        (b"\x02\0\0\0\0\0\0\0[]", "no whole safetensors file"),
        (b"\x02\0\0\0\0\0\0\0{}", "is a safetensors file, but no fingerprint"),
        (b'\x14\0\0\0\0\0\0\0{"__metadata__":123}', "no whole safetensors file"),
    ],
)
def test_a_file_of_another_kind(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "other"
    path.write_bytes(content)
    assert not is_fingerprint(path)
    with pytest.raises(InputError, match=said):
        read(path)


def test_what_is_no_file(tmp_path: Path) -> None:
    for path, said in ((tmp_path, "Is a directory"), (tmp_path / "none", "No such file")):
        assert not is_fingerprint(path)
        with pytest.raises(InputError, match=rf"cannot be read as a fingerprint \({said}"):
            read(path)
    assert not is_fingerprint(Path("a\0b"))


def test_weights_are_no_fingerprint(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({"blocks.0": torch.zeros(3)}, path, {"sslens.encoder": "{}"})
    assert not is_fingerprint(path)
    with pytest.raises(
        InputError,
        match=r"weights\.safetensors is a safetensors file, but no fingerprint: make one with",
    ):
        read(path)


def test_a_newer_format(made: tuple[Path, Conditions, list[Grams]], tmp_path: Path) -> None:
    path = change(
        made[0],
        tmp_path / "new",
        lambda entry: {"format": FORMAT + 1, "sslens": "9.0", "unheard": "of"},
    )
    assert is_fingerprint(path)
    with pytest.raises(
        InputError, match=r"format 2, written by sslens 9\.0; .* reads format 1: update sslens"
    ):
        read(path)


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (lambda e: [], "no entries"),
        (lambda e: {k: v for k, v in e.items() if k != "plan"}, r"no plan,"),
        (lambda e: e | {"plan": e["plan"] | {"seed": "0"}}, r"no plan\.seed"),
        (lambda e: e | {"images": e["images"] | {"count": True}}, r"no images\.count"),
        (
            lambda e: e | {"images": e["images"] | {"count": 10**19}},
            "70 ids for 10,000,000,000,000,000,000 images",
        ),
        (
            lambda e: e | {"images": e["images"] | {"count": -1}},
            "it has 70 ids for -1 images|its ids cannot be read",
        ),
        (
            lambda e: e | {"plan": e["plan"] | {"digest": "0" * 64}},
            "its ids are not those of its plan",
        ),
        (lambda e: e | {"format": 0}, "no format"),
        (lambda e: e | {"dtype": "bfloat16"}, "no dtype"),
        (lambda e: e | {"dtype": "float16"}, "triangles/all is not float16 of shape"),
        (lambda e: e | {"transform": e["transform"] | {"crop": 0}}, "no transform"),
        (lambda e: e | {"grams": {}}, "no grams"),
        (lambda e: e | {"grams": {"mean": e["grams"]["all"]}}, r"no grams\.mean"),
        (lambda e: e | {"grams": {"all": {"version": 1, "taps": [["a", "b"]]}}}, r"no grams\.all"),
        (
            lambda e: e | {"grams": {"all": {"version": 1, "taps": [["a", "b", 1.5]]}}},
            r"no grams\.all",
        ),
        (
            lambda e: e | {"grams": {"all": {"version": 1, "taps": [["a", "b", 0]]}}},
            r"of shape \(1, 1077\)",
        ),
    ],
)
def test_a_header_that_is_not_right(
    made: tuple[Path, Conditions, list[Grams]],
    tmp_path: Path,
    header: Callable[[Any], Any],
    said: str,
) -> None:
    path = change(made[0], tmp_path / "bad", header)
    with pytest.raises(InputError, match=rf"bad is a damaged fingerprint: .*({said})"):
        read(path)


def test_a_header_may_say_more(made: tuple[Path, Conditions, list[Grams]], tmp_path: Path) -> None:
    path = change(made[0], tmp_path / "more", lambda entry: entry | {"by": "someone else"})
    assert read(path).conditions == made[1]


def test_tensors_that_are_not_right(
    made: tuple[Path, Conditions, list[Grams]], tmp_path: Path
) -> None:
    kept = load_file(made[0])
    nan, inf = (kept[name].clone() for name in ("triangles/all", "energy/cls"))
    nan[4, 17], inf[3, 1] = torch.nan, torch.inf
    ids = kept["ids"].clone()
    ids[20] ^= 1
    cases: list[tuple[dict[str, Tensor | None], str]] = [
        (
            {"triangles_all": nan},
            r"triangles/all has values that are no numbers at blocks\.1\.norm1",
        ),
        ({"energy_cls": inf}, r"energy/cls has values that are no numbers at blocks\.0"),
        ({"triangles_all": None}, "triangles/all is not float32 of shape"),
        ({"triangles_cls": kept["triangles/cls"][:, 1:]}, "triangles/cls is not float32 of shape"),
        ({"energy_all": kept["energy/all"].float()}, "energy/all is not float64 of shape"),
        ({"ids": None}, "it has no ids"),
        ({"ids": ids}, "its ids (cannot be read|are not those of its plan)"),
        ({"ids": kept["ids"][:-9]}, "its ids cannot be read"),
        ({"sizes": torch.tensor([32, 32])}, "it has 70 ids for 70 images in minibatches of 64"),
        ({"sizes": torch.tensor([32, 6, 32])}, "its ids are not those of its plan"),
        ({"sizes": torch.tensor([71, -1])}, "it has 70 ids for 70 images in minibatches of 70"),
    ]
    for tensors, said in cases:
        path = change(made[0], tmp_path / "bad", **tensors)
        with pytest.raises(InputError, match=rf"bad is a damaged fingerprint: {said}"):
            read(path)


def test_a_scale_beyond_float32(tmp_path: Path) -> None:
    artefacts, conditions = synthetic(torch.eye(4)[None, None], ["a", "b", "c", "d"], [4])
    write(tmp_path / "half", artefacts, conditions, model=Named("one"), dtype="float16")
    path = change(
        tmp_path / "half", tmp_path / "bad", scale_all=torch.tensor([1e39], dtype=torch.float64)
    )
    with pytest.raises(
        InputError, match="bad is a damaged fingerprint: scale/all takes its values beyond"
    ):
        read(path)
