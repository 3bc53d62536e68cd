"""One pass a model: what the reducers make of it, what they leave behind, and when it is not run
again."""

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import sslens
from forks import together
from sslens.capture import (
    FeatureReducer,
    Features,
    GramReducer,
    Grams,
    MapReducer,
    PassRequest,
    WideGramReducer,
    activations,
    centred_gram,
    collect,
    gram_reducers,
    visit_taps,
)
from sslens.capture.passes import features, grams
from sslens.data import ImageSet
from sslens.data.decoded import Decoded
from sslens.data.images import from_arrays
from sslens.errors import Doubt, InputError, Mishap
from sslens.measures.cka import minibatch_cka, u_centre
from sslens.models.backbone import Backbone
from sslens.models.taps import Tap
from sslens.plan import Plan
from sslens.processes import processes
from sslens.store import Store, home

NANO = "random:vit_nano_patch8_32"
#: minibatches of 16 and 10 of the 26 images
PLAN_SIZES = (16, 10)


@pytest.fixture(scope="module")
def model() -> Backbone:
    return sslens.load(NANO)


@pytest.fixture(scope="module")
def images() -> ImageSet:
    rng = np.random.default_rng(0)
    smooth = rng.integers(0, 256, (26, 4, 4, 3), dtype=np.uint8).repeat(8, 1).repeat(8, 2)
    return from_arrays(smooth, labels=[i % 2 for i in range(26)])


@pytest.fixture(scope="module")
def plan(images: ImageSet) -> Plan:
    return Plan.draw(images.ids, 16)


def batches(model: Backbone, images: ImageSet, plan: Plan) -> list[Tensor]:
    row = {name: i for i, name in enumerate(images.ids)}
    return [
        torch.stack([model.transform(images.image(row[i])) for i in ids])
        for ids in plan.minibatches
    ]


def require_equal(a: Grams | Features, b: Grams | Features) -> None:
    """Refuse results of two passes that differ in anything."""
    assert (a.model, a.ids, a.taps, a.key) == (b.model, b.ids, b.taps, b.key)
    if isinstance(a, Grams):
        assert isinstance(b, Grams)
        for ours, theirs in ((a.blocks, b.blocks), (a.energy, b.energy), (a.sizes, b.sizes)):
            assert torch.equal(ours, theirs)
    else:
        assert isinstance(b, Features)
        assert a.columns.keys() == b.columns.keys()
        assert all(torch.equal(a.read(*column), b.read(*column)) for column in a.columns)


@contextmanager
def counted(model: Backbone) -> Iterator[list[int]]:
    """The sizes of the batches that go through the real network."""
    seen: list[int] = []
    handle = model.network.patch_embed.register_forward_hook(
        lambda _m, args, _o: seen.append(len(args[0]))
    )
    try:
        yield seen
    finally:
        handle.remove()


def hooks(model: Backbone) -> int:
    return sum(len(module._forward_hooks) for module in model.modules())


# ------------------------------------------------------------------------------------------------
# activations


def test_activations_are_what_the_modules_compute(
    model: Backbone, images: ImageSet, plan: Plan
) -> None:
    """Blocks and their children tapped together, against the network walked by hand, module by
    module."""
    x = batches(model, images, plan)[1]
    found = activations(model, x)
    assert list(found) == list(model.taps)
    network: Any = model.network
    with torch.inference_mode():
        stream = network._pos_embed(network.patch_embed(x))
        for i, block in enumerate(network.blocks):
            normed = block.norm1(stream)
            attended = stream + block.attn(normed)
            hidden = block.mlp.fc1(block.norm2(attended))
            stream = block(stream)
            expected = {"norm1": normed, "attn.qkv": block.attn.qkv(normed), "mlp.fc1": hidden}
            for tap, value in expected.items():
                torch.testing.assert_close(found[f"blocks.{i}.{tap}"], value)
            torch.testing.assert_close(found[f"blocks.{i}"], stream)
            torch.testing.assert_close(stream, attended + block.mlp.fc2(block.mlp.act(hidden)))
        torch.testing.assert_close(found["norm"], network.norm(stream))
        torch.testing.assert_close(found["norm"], model(x))


def test_taps_are_given_in_the_order_of_computation(
    model: Backbone, images: ImageSet, plan: Plan
) -> None:
    found = activations(
        model, batches(model, images, plan)[1], taps=["norm", "blocks.2", "blocks.0.norm1"]
    )
    assert list(found) == ["blocks.0.norm1", "blocks.2", "norm"]


@pytest.mark.parametrize("ask", [activations, grams], ids=["activations", "grams"])
def test_a_misspelt_tap_is_refused_with_the_nearest(
    model: Backbone, images: ImageSet, ask: Callable[..., Any]
) -> None:
    what = torch.zeros(4, 3, 32, 32) if ask is activations else images
    with pytest.raises(
        InputError, match=r'has no tap "blocks.0.nrm1": did you mean .*blocks.0.norm1'
    ):
        ask(model, what, taps=["blocks.0", "blocks.0.nrm1"])
    assert hooks(model) == 0


def test_hooks_are_removed_also_when_the_pass_fails(
    model: Backbone, images: ImageSet, plan: Plan, tmp_path: Path
) -> None:
    with (
        pytest.raises(RuntimeError),
        visit_taps(model, model.pick(None), lambda _tap, _output: None),
    ):
        model(torch.zeros(2, 1, 32, 32))  # one channel: the patch embedding refuses it
    assert hooks(model) == 0
    with visit_taps(model, model.pick(None), lambda _tap, _output: None):
        assert hooks(model) == len(model.taps)  # it can count them
    assert hooks(model) == 0

    @final
    class Breaking:
        kind: ClassVar[str] = "breaking"
        together = 1

        def settings(self) -> dict[str, Any]:
            return {}

        def taps(self, model: Backbone, taps: Sequence[Tap]) -> tuple[Tap, ...]:
            return tuple(taps)

        def has(self, request: PassRequest, store: Store) -> bool:
            return False

        def find(self, request: PassRequest, store: Store) -> None:
            return None

        def start(self, request: PassRequest, store: Store | None) -> "Breaking":
            self.minibatches = range(len(request.plan.sizes))
            return self

        def add(self, tap: Tap, output: Tensor, batch: int) -> None:
            if batch == 1:
                raise KeyboardInterrupt

        def finish(self) -> None:
            return None

    with pytest.raises(KeyboardInterrupt):
        collect(model, images, [GramReducer(), Breaking()], plan=plan, store=Store(tmp_path))
    assert hooks(model) == 0
    assert not list(tmp_path.rglob("*.safetensors"))  # half of the Grams are no artefact


def test_a_tap_that_is_never_computed_is_refused(images: ImageSet) -> None:
    """Its Grams would be zeros, which look like a constant layer."""
    model = sslens.load(NANO)
    model.network.unused = nn.Linear(1, 1)
    model.taps["unused"] = Tap("unused", "block", 1.0)
    with pytest.raises(InputError, match="never calls the module of the tap unused"):
        grams(model, images)


def test_no_activation_outlives_its_batch(model: Backbone, images: ImageSet) -> None:
    def survivors(reducers: Sequence[Any]) -> list[int]:
        born: list[weakref.ref[Tensor]] = []
        alive: list[int] = []

        def at_start(_module: nn.Module, _args: Any) -> None:
            alive.append(sum(one() is not None for one in born))

        handles = [model.network.get_submodule("patch_embed").register_forward_pre_hook(at_start)]
        for tap in model.taps.values():
            module = model.network.get_submodule(tap.name)
            handles.append(
                module.register_forward_hook(
                    lambda _m, _a, output: born.append(weakref.ref(output))
                )
            )
        try:
            collect(model, images, reducers, plan=Plan.draw(images.ids, 7))
            at_start(model, ())
        finally:
            for handle in handles:
                handle.remove()
        assert len(born) == 4 * len(model.taps)
        return alive

    assert (
        survivors([GramReducer(), GramReducer("cls"), GramReducer("patch"), FeatureReducer()])
        == [0] * 5
    )

    @final
    class Keeping:
        """A reducer that holds on to one tap, to show that this test would see it."""

        kind: ClassVar[str] = "keeping"
        together = 1

        def settings(self) -> dict[str, Any]:
            return {}

        def taps(self, model: Backbone, taps: Sequence[Tap]) -> tuple[Tap, ...]:
            return tuple(taps[:1])

        def has(self, request: PassRequest, store: Store) -> bool:
            return False

        def find(self, request: PassRequest, store: Store) -> None:
            return None

        def start(self, request: PassRequest, store: Store | None) -> "Keeping":
            self.minibatches = range(len(request.plan.sizes))
            self.kept: list[Tensor] = []
            return self

        def add(self, tap: Tap, output: Tensor, batch: int) -> None:
            self.kept.append(output)

        def finish(self) -> None:
            return None

    assert survivors([Keeping()]) == [0, 1, 2, 3, 4]


# ------------------------------------------------------------------------------------------------
# reducers


def by_hand(output: Tensor, tokens: str) -> tuple[np.ndarray, float]:
    """A mean-centred Gram, and what the centring took away, in float64."""
    x = (
        {"all": output, "cls": output[:, :1], "patch": output[:, 1:]}[tokens]
        .flatten(1)
        .double()
        .numpy()
    )
    centred = x - x.mean(0)
    return centred @ centred.T, float(len(x) * (x.mean(0) ** 2).sum())


@pytest.mark.parametrize("tokens", ["all", "cls", "patch"])
def test_grams_are_those_of_the_activations(
    model: Backbone, images: ImageSet, plan: Plan, tokens: str
) -> None:
    made = grams(model, images, tokens=tokens, plan=plan)
    assert made.blocks.shape == (len(model.taps), 2, 16, 16)
    assert made.blocks.dtype == torch.float32
    assert made.sizes.tolist() == list(PLAN_SIZES)
    assert [tap.name for tap in made.taps] == list(model.taps)
    for number, x in enumerate(batches(model, images, plan)):
        n = len(x)
        for row, output in enumerate(activations(model, x).values()):
            gram, energy = by_hand(output, tokens)
            found = made.blocks[row, number].double().numpy()
            scale = energy + np.trace(gram)
            np.testing.assert_allclose(found[:n, :n], gram, rtol=1e-5, atol=1e-7 * scale)
            assert not found[n:].any()
            assert not found[:, n:].any()
            assert made.energy[row, number].item() == pytest.approx(
                energy, rel=1e-5, abs=1e-6 * scale
            )


def test_a_wide_tap_is_summed_over_blocks_of_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(6, 101, generator=torch.Generator().manual_seed(0)) + 30
    expected, energy = by_hand(x[:, None], "all")
    for columns in (10, 7, 101, 1000):
        monkeypatch.setattr(sslens.capture.gram, "COLUMNS", columns)
        gram, found = centred_gram(x)
        np.testing.assert_allclose(gram.numpy(), expected, rtol=0, atol=2e-4)
        assert found.item() == pytest.approx(energy, rel=1e-5)


def test_features_are_pooled_in_the_order_of_the_plan(
    model: Backbone, images: ImageSet, plan: Plan
) -> None:
    (made,) = collect(model, images, [FeatureReducer()], plan=plan)
    read = [*(f"blocks.{i}" for i in range(4)), "norm"]
    assert made.ids == plan.ids
    assert [tap.name for tap in made.taps] == read
    assert sorted(made.columns) == sorted(
        (tap, pooling) for tap in read for pooling in ("cls", "mean", "patch")
    )
    outputs = [activations(model, x, read) for x in batches(model, images, plan)]
    for tap in read:
        tokens = torch.cat([output[tap] for output in outputs])
        assert made.read(tap, "cls").shape == (26, 64)
        torch.testing.assert_close(made.read(tap, "cls"), tokens[:, 0])
        torch.testing.assert_close(made.read(tap, "mean"), tokens.sum(1) / 17)
        torch.testing.assert_close(made.read(tap, "patch"), tokens[:, 1:].sum(1) / 16)


def test_what_a_pass_returns_can_be_trained_on(model: Backbone, images: ImageSet) -> None:
    plan = Plan.in_order(images.ids, 8)
    made, maps = collect(model, images, [FeatureReducer(), MapReducer()], plan=plan)
    x = batches(model, images, plan)[0]
    for given in (
        made.read("norm", "cls"),
        maps.read("blocks.3").float()[:, 0, 0],
        activations(model, x, ["norm"])["norm"][:, 0],
    ):
        torch.nn.Linear(64, 2)(given).sum().backward()
    assert not maps.read("blocks.3").is_inference()


def test_raw_pixels_are_one_flat_tap(images: ImageSet, plan: Plan) -> None:
    pixels = sslens.load("pixels")
    made = features(pixels, images, plan=plan).arranged(plan.ids)
    expected = torch.cat([x.flatten(1) for x in batches(pixels, images, plan)])
    assert list(made.columns) == [("pixels", "flat")]
    torch.testing.assert_close(made.read("pixels", "flat"), expected)


def test_one_pass_serves_all_reducers(model: Backbone, images: ImageSet, plan: Plan) -> None:
    done: list[tuple[int, int]] = []
    reducers = [GramReducer(), GramReducer("cls"), FeatureReducer()]
    with counted(model) as seen:
        both = collect(
            model, images, reducers, plan=plan, progress=lambda d, t: done.append((d, t))
        )
    assert seen == list(PLAN_SIZES)
    assert done == [(16, 26), (26, 26)]
    assert [type(made) for made in both] == [Grams, Grams, Features]
    alone = grams(model, images, tokens="cls", plan=plan)
    assert torch.equal(both[1].blocks, alone.blocks)
    assert not torch.equal(both[0].blocks, alone.blocks)


def test_some_taps_are_the_same_as_among_all(model: Backbone, images: ImageSet, plan: Plan) -> None:
    some = grams(model, images, plan=plan, taps=["blocks.3", "blocks.1.attn.qkv"])
    every = grams(model, images, plan=plan)
    rows = [list(model.taps).index(tap.name) for tap in some.taps]
    assert [tap.name for tap in some.taps] == ["blocks.1.attn.qkv", "blocks.3"]
    assert torch.equal(some.blocks, every.blocks[rows])
    part = every.at("qkv")
    assert [tap.name for tap in part.taps] == [f"blocks.{i}.attn.qkv" for i in range(4)]
    assert torch.equal(part.blocks[1], some.blocks[0])


def test_wide_grams_are_those_of_joined_minibatches(
    model: Backbone, images: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two minibatches of 8 make a group of 16; what is left, 8 and 2 joined to it, the next."""
    plan = Plan.draw(images.ids, 8)
    assert plan.sizes == (8, 8, 10)
    wide = WideGramReducer(width=16, drawn=3, seed=1)
    small, made = collect(model, images, [GramReducer(), wide], plan=plan)
    assert len(made.taps) == 3
    assert [tap for tap in model.taps.values() if tap in made.taps] == list(made.taps)
    assert made.sizes.tolist() == [16, 10]
    joined = Plan((plan.minibatches[0] + plan.minibatches[1], plan.minibatches[2]))
    expected = grams(model, images, plan=joined, taps=[tap.name for tap in made.taps])
    for ours, theirs in ((made.blocks, expected.blocks), (made.energy, expected.energy)):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-3)
    rows = [small.taps.index(tap) for tap in made.taps]
    torch.testing.assert_close(
        u_centre(made.blocks[:, 0, 8:16, 8:16]),
        u_centre(small.blocks[rows, 1, :8, :8]),
        rtol=1e-4,
        atol=1e-2,
    )
    monkeypatch.setattr(gram_reducers, "IN_MEMORY", 0)  # features on disk
    (spilt,) = collect(model, images, [wide], plan=plan)
    assert torch.equal(spilt.blocks, made.blocks)
    assert WideGramReducer(seed=2).taps(model, model.pick(None)) != WideGramReducer(seed=3).taps(
        model, model.pick(None)
    )


def test_images_are_decoded_once_for_all_models_that_see_them_alike(
    model: Backbone, images: ImageSet, plan: Plan
) -> None:
    asked: list[int] = []

    @final
    class Counting:
        def image(self, row: int) -> Any:
            asked.append(row)
            return images.image(row)

        def digests(self, rows: Sequence[int]) -> list[str]:
            return images.source.digests(rows)

    counting = replace(images, source=Counting())
    other = sslens.load(f"{NANO}:1")
    expected = [grams(each, images, plan=plan) for each in (model, other)]
    decoded = Decoded(counting, model.transform)
    found = [grams(each, counting, plan=plan, decoded=decoded) for each in (model, other)]
    assert sorted(asked) == list(range(26))
    for a, b in zip(expected, found, strict=True):
        assert torch.equal(a.blocks, b.blocks)
    assert not list((home() / "scratch").iterdir())  # the file has no name
    with pytest.raises(InputError, match=r"decoded at 32 px .* needs them at 64"):
        grams(sslens.load("random:vit_nano_patch8_64"), counting, plan=plan, decoded=decoded)


@pytest.mark.parametrize("size", [2, 4])
def test_processes_share_a_pass_and_return_what_one_does(
    model: Backbone, images: ImageSet, tmp_path: Path, size: int
) -> None:
    """Four processes for three minibatches: one sees nothing."""
    plan = Plan.draw(images.ids, 8)
    wanted = (
        [GramReducer(), GramReducer("cls"), FeatureReducer()]
        if size == 4
        else [WideGramReducer(width=16), GramReducer(), FeatureReducer()]
    )
    alone = collect(model, images, wanted, plan=plan)
    store = Store(tmp_path)

    def shared() -> None:
        torch.set_num_threads(1)
        with processes("cpu"), counted(model) as seen:
            for kept in (None, store, store):
                for a, b in zip(
                    alone, collect(model, images, wanted, plan=plan, store=kept), strict=True
                ):
                    require_equal(a, b)
        assert len(seen) < 2 * len(plan.sizes)

    together(shared, size)
    assert len(list(tmp_path.glob("[gw]*/*/*.safetensors"))) == 2
    assert len(list(tmp_path.glob("features/*/*"))) == 1


def test_unknown_tokens_are_refused(model: Backbone, images: ImageSet) -> None:
    with pytest.raises(InputError, match='no tokens "patches": expected all, cls or patch'):
        grams(model, images, tokens="patches")


@pytest.mark.parametrize("wide", [False, True])
def test_what_float16_cannot_hold_stops_the_pass_and_names_the_tap(wide: bool) -> None:
    """The same model is finite in float32; in float16 its first tap that overflows is named."""
    model = sslens.load("random:vit_nano_patch8_32")
    with torch.no_grad():
        model.network.blocks[1].mlp.fc2.weight *= 1e7
    images = sslens.open_images("scenes:0:8")
    reducer: Any = WideGramReducer(width=8, drawn=99) if wide else GramReducer()
    taps = None if not wide else ["blocks.0", "blocks.1"]
    given: dict[str, Any] = {"plan": Plan.draw(images.ids, 4), "taps": taps}
    (whole,) = collect(model, images, [reducer], **given)
    assert whole.blocks.isfinite().all()
    with pytest.raises(
        Mishap,
        match=r"at blocks\.1 are not finite for the image .* and 3 more of its"
        r" minibatch: the forward pass overflows in float16, which ends at 65,504: give"
        r' precision="bfloat16", which reaches as far as float32, or precision="float32"\.',
    ):
        collect(model, images, [reducer], **given, precision="float16")
    with torch.no_grad():
        model.network.blocks[1].mlp.fc2.weight[0, 0] = torch.nan
    with pytest.raises(Mishap, match=r"blocks\.1 are not finite .*: the model is broken there"):
        collect(model, images, [reducer], **given)


@pytest.mark.parametrize(("precision", "apart"), [("bfloat16", 0.03), ("float16", 0.004)])
def test_half_precision_is_close_to_float32_and_kept_apart(
    model: Backbone, images: ImageSet, plan: Plan, precision: str, apart: float
) -> None:
    full, half = (grams(model, images, plan=plan, precision=p) for p in ("float32", precision))
    assert half.blocks.dtype == torch.float32
    assert full.key != half.key
    difference = (full.blocks - half.blocks).flatten(1).norm(dim=1)
    share = difference / full.blocks.flatten(1).norm(dim=1)
    assert apart / 30 < share.max() < apart
    np.testing.assert_allclose(minibatch_cka(full, half).diagonal(), 1, rtol=0, atol=1e-3)
    gram = half.blocks[0, 0].double()
    assert (
        gram.sum(1).abs() < 1e-4 * gram.trace()
    ).all()  # still centred: the product itself was not bfloat16


# ------------------------------------------------------------------------------------------------
# store


def test_a_second_collect_runs_no_forward(
    model: Backbone, images: ImageSet, plan: Plan, tmp_path: Path
) -> None:
    store = Store(tmp_path)
    reducers = [GramReducer(), FeatureReducer()]
    first = collect(model, images, reducers, plan=plan, store=store)
    with counted(model) as seen:
        second = collect(model, images, [GramReducer(), FeatureReducer()], plan=plan, store=store)
        again = collect(sslens.load(NANO), images, [GramReducer()], plan=plan, store=store)
    assert seen == []
    for a, b in [*zip(first, second, strict=True), (first[0], again[0])]:
        require_equal(a, b)


def test_only_what_is_missing_is_computed(
    model: Backbone, images: ImageSet, plan: Plan, tmp_path: Path
) -> None:
    store = Store(tmp_path)
    collect(model, images, [GramReducer()], plan=plan, store=store)
    path = next(tmp_path.rglob("*.safetensors"))
    before = path.stat().st_mtime_ns
    with counted(model) as seen:
        made = collect(model, images, [GramReducer(), FeatureReducer()], plan=plan, store=store)
    assert seen == [1, *PLAN_SIZES]  # an empty image tells the widths
    assert path.stat().st_mtime_ns == before
    alone = features(model, images, plan=plan).arranged(plan.ids)
    assert torch.equal(made[1].read("norm", "cls"), alone.read("norm", "cls"))


@pytest.mark.parametrize("damage", ["cut", "overwritten"])
def test_a_damaged_artefact_is_computed_again(
    model: Backbone, images: ImageSet, plan: Plan, tmp_path: Path, damage: str
) -> None:
    store = Store(tmp_path)
    (made,) = collect(model, images, [GramReducer()], plan=plan, store=store)
    path = next(tmp_path.rglob("*.safetensors"))
    whole = path.read_bytes()
    path.write_bytes(whole[:-100] if damage == "cut" else b"\xff" * 64)
    with counted(model) as seen, pytest.warns(Doubt, match="is damaged and is computed again"):
        (again,) = collect(model, images, [GramReducer()], plan=plan, store=store)
    assert seen == list(PLAN_SIZES)
    assert torch.equal(made.blocks, again.blocks)
    assert path.read_bytes() == whole


def key(
    model: Backbone, images: ImageSet, plan: Plan, reducer: Any = None, precision: str = "float32"
) -> dict[str, Any]:
    reducer = reducer or GramReducer()
    taps = reducer.taps(model, model.pick(None))
    request = PassRequest(model, images, plan, taps, precision)
    return request.key(reducer.kind, reducer.version, reducer.settings())


def test_whatever_decides_the_content_changes_the_key(
    images: ImageSet, plan: Plan, model: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = key(model, images, plan)
    assert key(sslens.load(NANO), images, plan) == base
    changed = [key(sslens.load(f"{NANO}:1"), images, plan)]
    one_weight = sslens.load(NANO)
    with torch.no_grad():
        one_weight.network.get_parameter("blocks.3.mlp.fc2.bias")[0] += 1e-6
    changed.append(key(one_weight, images, plan))
    other_size = sslens.load(NANO)
    other_size.transform = replace(other_size.transform, interpolation="bilinear")
    changed.append(key(other_size, images, plan))
    changed.append(key(model, images.take(range(25)), Plan.draw(images.ids[:25], 16)))
    pixels = np.stack([np.asarray(images.image(i)) for i in range(26)])
    pixels[7, 0, 0, 0] ^= 1
    changed.append(key(model, from_arrays(pixels, labels=images.labels), plan))
    changed.append(key(model, images, Plan.draw(images.ids, 16, seed=1)))
    changed.append(key(model, images, Plan.draw(images.ids, 13)))
    changed += [
        key(model, images, plan, reducer)
        for reducer in (
            GramReducer("cls"),
            GramReducer("patch"),
            FeatureReducer(),
            FeatureReducer(("norm",)),
        )
    ]
    changed.append(key(model, images, plan, precision="bfloat16"))
    monkeypatch.setattr(GramReducer, "version", 2)
    changed.append(key(model, images, plan))
    texts = [sslens.store.digest(one) for one in (base, *changed)]
    assert len(set(texts)) == len(texts)


def test_the_number_of_heads_changes_the_key(images: ImageSet, plan: Plan, model: Backbone) -> None:
    other = sslens.load(NANO, num_heads=4)
    x = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert not torch.allclose(model(x), other(x))
    assert key(model, images, plan) != key(other, images, plan)


def test_weights_changed_later_change_the_key(images: ImageSet, plan: Plan) -> None:
    model = sslens.load(NANO)
    before = key(model, images, plan)
    with torch.no_grad():
        model.network.get_parameter("blocks.0.mlp.fc2.bias").add_(1)
    assert key(model, images, plan) != before


# ------------------------------------------------------------------------------------------------
# plan


def test_the_plan_does_not_depend_on_the_order_of_the_images(
    model: Backbone, images: ImageSet, plan: Plan
) -> None:
    """Two loaders that shuffle pair nothing; here the ids decide, and CKA with itself stays 1."""
    order = np.random.default_rng(1).permutation(26).tolist()
    turned = images.take(order)
    assert turned.ids != images.ids
    assert Plan.draw(turned.ids, 16) == plan
    a, b = (grams(model, each, plan=Plan.draw(each.ids, 16)) for each in (images, turned))
    assert a.ids == b.ids
    assert torch.equal(a.blocks, b.blocks)
    assert a.key == b.key
    np.testing.assert_allclose(minibatch_cka(a, b).diagonal(), 1, rtol=0, atol=1e-12)


def test_pairing_by_position_would_be_wrong(model: Backbone, images: ImageSet) -> None:
    """What a plan prevents: the same features in another order are nearly unrelated."""
    order = np.random.default_rng(1).permutation(26).tolist()
    given = Plan((images.ids,))
    a = grams(model, images, plan=given, taps=["norm"])
    b = grams(
        model, images.take(order), plan=Plan((tuple(images.ids[i] for i in order),)), taps=["norm"]
    )
    with pytest.raises(InputError, match="the images are the same, but their minibatches differ"):
        minibatch_cka(a, b)
    by_position = replace(b, ids=a.ids, key=a.key)
    assert abs(minibatch_cka(a, by_position)[0, 0]) < 0.5


@pytest.mark.parametrize(
    ("count", "size", "expected"),
    [
        (4, 32, (4,)),
        (32, 32, (32,)),
        (35, 32, (35,)),
        (36, 32, (32, 4)),
        (67, 32, (32, 35)),
        (68, 32, (32, 32, 4)),
        (9, 4, (4, 5)),
        (11, 4, (4, 7)),
    ],
)
def test_a_short_minibatch_of_under_four_joins_the_one_before(
    count: int, size: int, expected: tuple[int, ...]
) -> None:
    ids = [f"{i}.png" for i in range(count)]
    plan = Plan.draw(ids, size)
    assert plan.sizes == expected
    assert sorted(plan.ids) == sorted(ids)


def test_a_plan_is_golden_on_every_machine() -> None:
    # for i in a b c d e f; do printf "plan/0/$i" | sha256sum; done, in order of the sums
    assert Plan.draw("abcdef", 6).ids == ("b", "f", "c", "d", "e", "a")
    assert Plan.draw("abcdef", 6, seed=1).ids != Plan.draw("abcdef", 6).ids
    assert len(Plan.draw("abcdef", 6).digest) == 64
    assert Plan((("a", "b"), ("c",))).digest != Plan((("a",), ("b", "c"))).digest


@pytest.mark.parametrize(("count", "size"), [(3, 32), (0, 32), (10, 3), (10, 0)])
def test_too_few_images_are_refused(count: int, size: int) -> None:
    with pytest.raises(InputError, match=r"too (few|small).* give 4 or more"):
        Plan.draw([str(i) for i in range(count)], size)


def test_a_plan_of_other_images_is_refused_by_name(
    model: Backbone, images: ImageSet, plan: Plan
) -> None:
    with pytest.raises(InputError, match="1 id differs, first 000003, which only the plan has"):
        grams(model, images.take([i for i in range(26) if i != 3]), plan=plan)
    with pytest.raises(InputError, match="2 ids differ, first 000003, which only the images has"):
        Plan.draw(images.ids[:3] + images.ids[5:], 16).require(images.ids)
