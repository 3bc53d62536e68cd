"""Maps: patch tokens in their places, kept in shards, resumed, checksummed, at any image size."""

import math
import pickle
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.layers import resample_abs_pos_embed

import sslens
from sslens.capture import (
    FeatureReducer,
    GramReducer,
    MapReducer,
    activations,
    collect,
    find_missing,
    kept,
    passes,
)
from sslens.capture import (
    maps as maps_module,
)
from sslens.capture.keys import PassRequest
from sslens.capture.manifest import read_sums
from sslens.data.images import ImageSet, from_arrays
from sslens.data.transform import EvalTransform
from sslens.errors import Doubt, InputError, Mishap
from sslens.models import networks
from sslens.models.about import About
from sslens.models.backbone import Backbone
from sslens.models.sizes import at_size, patch_side, pixels_at_size
from sslens.models.taps import Tap
from sslens.plan import Plan
from sslens.store import Store
from sslens.zoo.builders import wrap_network

NANO = "random:vit_nano_patch8_32"


@pytest.fixture(scope="module")
def model() -> Backbone:
    return sslens.load(NANO)


@pytest.fixture(scope="module")
def images() -> ImageSet:
    return sslens.open_images("scenes:0:50")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def look(model: Backbone, images: ImageSet, rows: list[int]) -> torch.Tensor:
    """The transformed images of some rows."""
    return torch.stack([model.transform(images.image(row)) for row in rows])


def test_each_token_is_in_the_place_of_its_patch(model: Backbone, images: ImageSet) -> None:
    made = passes.maps(model, images, plan=Plan.in_order(images.ids, 16))
    tokens = activations(model, look(model, images, [3, 17]), ["blocks.1"])["blocks.1"]
    read = made.read("blocks.1", [3, 17])
    assert (read.shape, read.dtype) == ((2, 4, 4, 64), torch.float16)
    for row in range(4):
        for column in range(4):
            expected = tokens[:, 1 + 4 * row + column].half()
            torch.testing.assert_close(read[:, row, column], expected, atol=2e-3, rtol=2e-3)
    assert [tap.name for tap in made.taps] == [f"blocks.{i}" for i in range(4)]
    assert (made.side, made.stride("blocks.0"), made.row_bytes) == (32, 8.0, 2 * 4 * 16 * 64)
    assert made.rows(images.ids[4:6]).tolist() == [4, 5]


@pytest.mark.parametrize("batch", [16, 12, 50])
def test_what_is_stored_is_what_a_pass_in_memory_gives(
    model: Backbone, images: ImageSet, store: Store, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maps_module, "SHARD", 20 * 2 * 4 * 16 * 64)  # of 20 images
    plan = Plan.draw(images.ids, batch)
    kept_maps, alone = (passes.maps(model, images, plan=plan, store=each) for each in (store, None))
    assert kept_maps.key == alone.key
    assert kept_maps.ids == alone.ids == images.ids
    assert kept_maps.grids == alone.grids
    for tap in kept_maps.grids:
        assert torch.equal(kept_maps.read(tap), alone.read(tap))
        some = np.array([49, 0, 20])
        assert torch.equal(kept_maps.read(tap, some), alone.read(tap)[some])
        blocks = list(kept_maps.blocks(tap, 15))
        assert [len(block) for block in blocks] == [15, 15, 15, 5]
        assert torch.equal(torch.cat(blocks), alone.read(tap))
        assert torch.equal(
            kept_maps.read(tap, slice(40, 2, -7)), alone.read(tap)[[40, 33, 26, 19, 12, 5]]
        )
    shards = list((store.root / "maps").glob("*/*/*/shard-*"))
    assert len(shards) == {16: 2, 12: 3, 50: 1}[batch]  # 32, 24 or all images


def test_one_pass_gives_all_nouns_and_none_is_run_twice(
    model: Backbone, images: ImageSet, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    run = passes.run_pass
    monkeypatch.setattr(passes, "run_pass", lambda *a: (seen.append(1), run(*a)))
    reducers = [GramReducer(), FeatureReducer(), MapReducer()]
    _, features, made = collect(model, images, reducers, store=store)
    torch.testing.assert_close(
        made.read("blocks.2").float().mean((1, 2)),
        features.read("blocks.2", "patch"),
        atol=2e-3,
        rtol=0,
    )
    turned = images.take(range(49, -1, -1))
    again = passes.maps(
        model, turned, plan=Plan.in_order(turned.ids), taps=["blocks.2"], store=store
    )
    assert seen == [1]
    rows = made.rows(again.ids)
    assert torch.equal(again.read("blocks.2"), made.read("blocks.2")[rows])
    assert find_missing(model, images, [MapReducer()], store=store) == (False,)
    assert find_missing(model, images, [MapReducer(("norm",))], store=store) == (True,)


def test_a_pass_that_was_cut_off_goes_on_after_its_last_shard(
    model: Backbone, images: ImageSet, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maps_module, "SHARD", 10 * 2 * 4 * 16 * 64)
    plan = Plan.in_order(images.ids, 10)
    add = kept.Filer.add

    def fail(self: object, tap: Tap, output: torch.Tensor, batch: int) -> None:
        if batch == 3:
            raise KeyboardInterrupt
        add(self, tap, output, batch)

    with monkeypatch.context() as patch:
        patch.setattr(kept.Filer, "add", fail)
        with pytest.raises(KeyboardInterrupt):
            passes.maps(model, images, plan=plan, store=store)
    (folder,) = (store.root / "maps").glob("*/*/*")
    assert len(list(folder.glob("shard-*"))) == 2  # the third was not full yet for certain
    request = PassRequest.of(model, images, plan, None, "float32")
    started = MapReducer().start(
        PassRequest(model, images, plan, MapReducer().taps(model, request.taps), "float32"), store
    )
    assert list(started.minibatches) == [2, 3, 4]
    made = passes.maps(model, images, plan=plan, store=store)
    alone = passes.maps(model, images, plan=plan)
    assert torch.equal(made.read("blocks.0"), alone.read("blocks.0"))


def test_a_flipped_bit_is_found_when_it_is_read(
    model: Backbone, images: ImageSet, store: Store
) -> None:
    made = passes.maps(model, images, store=store)
    (shard,) = (store.root / "maps").glob("*/*/*/shard-*")
    assert len(read_sums(shard)) == 4
    content = bytearray(shard.read_bytes())
    content[-5] ^= 1
    shard.write_bytes(content)
    made = pickle.loads(pickle.dumps(made))  # which holds nothing that was read before
    for _ in range(2):
        with pytest.raises(InputError, match=r"shard-00000.* is damaged: its values at blocks.3"):
            made.read("blocks.3")
    columns = {tap: made.read(tap) for tap in ("blocks.0", "blocks.1", "blocks.2")}
    with pytest.warns(Doubt, match=r"shard-00000.* is damaged: .* It is computed again"):
        again = passes.maps(model, images, store=store)
    assert all(torch.equal(again.read(tap), values) for tap, values in columns.items())
    assert again.read("blocks.3").isfinite().all()


def test_maps_that_float16_cannot_hold_are_refused(images: ImageSet, store: Store) -> None:
    model = sslens.load(NANO)
    with torch.no_grad():
        model.network.blocks[2].mlp.fc2.bias.fill_(1e5)
    with pytest.raises(Mishap, match=r"blocks\.2 .* float16 ends at 65,504"):
        passes.maps(model, images, store=store)
    with pytest.raises(Mishap, match=r"blocks\.2 .* float16 ends at 65,504"):
        passes.maps(model, images)


@pytest.mark.parametrize(
    ("name", "grids"),
    [
        ("random:resnet_mini_32", [(32, 24), (16, 48), (8, 96), (4, 192)]),
        ("random:convnextv2_mini_32", [(32, 24), (16, 48), (8, 96), (4, 192)]),
    ],
)
def test_cnns_give_their_stages(
    name: str, grids: list[tuple[int, int]], images: ImageSet, store: Store
) -> None:
    model = sslens.load(name)
    made = passes.maps(
        model, images.take(range(8)), plan=Plan.in_order(images.ids[:8]), store=store
    )
    assert [(g.rows, g.dim) for g in made.grids.values()] == grids
    assert len(made.taps) == 4
    assert made.taps[-1].depth == 1.0
    last = made.taps[2].name
    expected = activations(model, look(model, images, list(range(8))), [last])[last]
    got = made.read(last).permute(0, 3, 1, 2).float()
    torch.testing.assert_close(got, expected, atol=5e-3, rtol=2e-3)
    larger = passes.maps(model, images.take(range(4)), side=48)
    assert larger.grids[made.taps[-1].name].rows == 6


def test_the_channels_of_a_linear_fc1_are_last_already(images: ImageSet) -> None:
    model = sslens.load("random:convnextv2_mini_32")
    tap = "stages.1.blocks.0.mlp.fc1"
    made = passes.maps(model, images.take(range(4)), taps=[tap])
    assert made.grids[tap] == (16, 16, 192)


@pytest.mark.parametrize(
    ("name", "patch"),
    [
        ("vit_tiny_patch16_224", 16),
        ("eva02_tiny_patch14_224", 14),
        ("beit_base_patch16_224", 16),
        ("vit_small_patch14_reg4_dinov2", 14),
    ],
)
def test_positions_are_resampled_and_other_weights_shared(name: str, patch: int) -> None:
    few = {"num_classes": 0, "depth": 2, "embed_dim": 48, "num_heads": 2}
    own = timm.create_model(name, **few)
    torch.manual_seed(0)
    for parameter_name, value in own.named_parameters():
        if "pos_embed" in parameter_name or "relative_position" in parameter_name:
            torch.nn.init.normal_(value)
    usual = own.patch_embed.img_size[0]
    model = wrap_network(
        networks.prepare(own.eval()),
        name=name,
        source=name,
        transformed=EvalTransform(usual, usual),
        about=About(),
    )
    assert patch_side(model) == patch
    before = model.digest
    side = 3 * patch
    small = at_size(model, side)
    assert small.network.blocks[0].mlp is not model.network.blocks[0].mlp
    shared = {value.data_ptr() for value in model.network.parameters()}
    own_tensors = [
        parameter
        for parameter, value in small.network.named_parameters()
        if value.data_ptr() not in shared
    ]
    assert all("pos_embed" in own or "relative_position" in own for own in own_tensors)
    x = torch.randn(2, 3, side, side)
    with torch.inference_mode():
        out = small(x)
        reference = timm.create_model(name, img_size=side, **few).eval()
        state = dict(networks.prepare(reference).state_dict())
        loaded = small.network.state_dict()
        reference.load_state_dict({k: loaded[k] for k in state})
        torch.testing.assert_close(out, reference.forward_features(x), atol=1e-5, rtol=1e-5)
    assert model.digest == before
    assert (
        model(torch.zeros(1, 3, usual, usual)).shape[1]
        == own.num_prefix_tokens + (usual // patch) ** 2
    )
    if own.pos_embed is not None:
        before = 0 if getattr(own, "no_embed_class", False) else own.num_prefix_tokens
        expected = resample_abs_pos_embed(own.pos_embed, [3, 3], num_prefix_tokens=before)
        assert torch.equal(small.network.pos_embed, expected)


def test_maps_go_to_another_process(model: Backbone, images: ImageSet, store: Store) -> None:
    made = passes.maps(model, images, store=store)
    first = made.read("blocks.0", [7])
    copied = pickle.dumps(made)
    assert len(copied) < 20_000
    assert torch.equal(pickle.loads(copied).read("blocks.0", [7]), first)
    assert MapReducer().image_bytes(model) == made.row_bytes == 2 * 4 * 16 * 64


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"side": 30}, r"patches of 8 px, which do not divide 30 px: give 24 or 32 as side"),
        ({"side": 5}, r"do not divide 5 px: give 8 as side"),
        ({"side": 0}, r"Images of 0 px cannot be seen: give 1 to 16,384 as side"),
        ({"side": 64, "fit": "padd"}, r'no fit "padd" of images: did you mean pad\?'),
        ({"side": 64, "longest": 32}, r"for padded images only: give fit=\"pad\""),
        ({"side": 64, "longest": 80, "fit": "pad"}, r"80 px cannot be padded to 64 px"),
    ],
)
def test_sizes_that_a_model_cannot_take_are_refused(
    model: Backbone, change: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        at_size(model, **change)  # type: ignore[arg-type]


def test_pixels_are_cut_into_the_patches_of_another_model(
    images: ImageSet, model: Backbone
) -> None:
    pixels = pixels_at_size(sslens.load("pixels"), model.transform, 8)
    some = images.take(range(4))
    made = passes.maps(pixels, some, plan=Plan.in_order(some.ids))
    x = look(model, images, list(range(4)))
    expected = x[:, :, 8:16, 24:32].permute(0, 2, 3, 1).flatten(1).half()
    assert torch.equal(made.read("pixels")[:, 1, 3], expected)
    assert MapReducer().taps(sslens.load("pixels"), sslens.load("pixels").pick(None)) == ()
    with pytest.raises(InputError, match="32 px cannot be cut into patches of 5 px"):
        pixels_at_size(sslens.load("pixels"), model.transform, 5)


def test_taps_without_places_are_refused(images: ImageSet, model: Backbone) -> None:
    with pytest.raises(InputError, match="Maps of pixels were asked for at no tap that has them"):
        passes.maps(sslens.load("pixels"), images)
    with pytest.raises(InputError, match=r"at pixels, \[32, 3072\], is no map"):
        passes.maps(sslens.load("pixels"), images, taps=["pixels"])
    made = passes.maps(model, images.take(range(4)))
    with pytest.raises(InputError, match=r'have no tap "blocks.O": did you mean blocks'):
        made.read("blocks.O")
    with pytest.raises(InputError, match=r"no maps of 1 of these images .* first elsewhere"):
        made.rows(["elsewhere"])


# ------------------------------------------------------------------------------------------------
# where an image lies in the square


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(("fit", "resize", "crop"), [("crop", 80, 64), ("pad", 48, 64)])
@pytest.mark.parametrize("size", [(40, 20), (20, 40), (13, 31)])
def test_masks_and_boxes_go_where_the_pixels_go(
    size: tuple[int, int], fit: str, resize: int, crop: int, flip: bool
) -> None:
    """A bright rectangle in a dark image is found where its mask and its box are."""
    width, height = size
    left, upper, right, lower = width // 4, height // 4, 3 * width // 4, 2 * height // 3
    mask = np.zeros((height, width), bool)
    mask[upper:lower, left:right] = True
    pixels = np.repeat((255 * mask.astype(np.uint8))[..., None], 3, 2)
    transform = EvalTransform(resize, crop, mean=(0.0,) * 3, std=(1.0,) * 3, fit=fit, flip=flip)
    seen = transform.crop_image(Image.fromarray(pixels))[..., 0] > 127
    place = transform.place(size)
    shown = place.sample(mask[None], False)[0]
    assert (seen ^ shown).sum() <= 0.15 * shown.sum()
    box = torch.tensor([[left, upper, right, lower]], dtype=torch.float64)
    there = place.boxes(box)[0]
    torch.testing.assert_close(place.boxes_back(there[None]), box)
    rows, columns = np.nonzero(seen)
    around = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    clipped = there.clamp(0, crop).tolist()
    assert all(math.isclose(a, b, abs_tol=1.01) for a, b in zip(around, clipped, strict=True))


def test_what_is_padded_has_the_mean_colour_and_no_label() -> None:
    transform = EvalTransform(8, 12, fit="pad")
    image = Image.fromarray(np.full((4, 8, 3), 255, np.uint8))
    x = transform(image)
    assert x[:, 4:].abs().max() < 0.02  # half a level of 255
    assert x[:, :, 8:].abs().max() < 0.02
    assert (x[:, :4, :8] > 2).all()
    labels = transform.place((8, 4)).sample(np.ones((4, 8), np.int64), -1)
    assert (labels[:4, :8] == 1).all()
    assert (labels[4:] == -1).all()
    assert (labels[:, 8:] == -1).all()
    assert transform.spec()["fit"] == "pad"
    assert "fit" not in EvalTransform().spec()
    views = [
        EvalTransform(8, 8, fit=fit, flip=flip) for fit in ("crop", "pad") for flip in (False, True)
    ]
    assert len({view.geometry for view in views}) == 4


def test_maps_of_flipped_images_are_those_of_the_mirrored_pixels(model: Backbone) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (4, 32, 32, 3), np.uint8)
    flipped = passes.maps(at_size(model, 32, flip=True), from_arrays(pixels))
    mirrored = passes.maps(
        at_size(model, 32), from_arrays(np.ascontiguousarray(pixels[:, :, ::-1]))
    )
    assert torch.equal(flipped.read("blocks.3"), mirrored.read("blocks.3"))
    assert flipped.key["transform"] != mirrored.key["transform"]
