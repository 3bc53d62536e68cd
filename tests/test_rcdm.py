"""Generators from representations: what a step is given, that runs go on to the same bytes, what is
kept and sampled, and what is refused."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import sslens
from forks import together
from runs import same
from sslens.arguments.watching import describe_reach
from sslens.capture import Features
from sslens.cli import main
from sslens.data.images import ImageSet, from_arrays
from sslens.data.streams import stream
from sslens.diffusion.adapters import Adapters
from sslens.errors import InputError
from sslens.methods import Moment, Rows
from sslens.models.backbone import Backbone
from sslens.models.blocks import Way, set_block_runs
from sslens.models.dit import DiTShape
from sslens.models.unet import UNetShape
from sslens.own_files import OwnFiles
from sslens.processes import Processes
from sslens.recipes import recipe, recipes
from sslens.store import Store
from sslens.study.generating import SampleRequest, read_condition, represent, sample
from sslens.study.lone_sheets import require_own, write_sheet
from sslens.tasks.diffusion import Diffusion, GeneratorStart, batch, job, see_images
from sslens.tasks.diffusion_settings import Settings
from sslens.tasks.generator import NoiseSource, open_generator, to_pixels
from sslens.tasks.held_out_loss import HeldOutLoss
from sslens.tasks.representations import Condition, Represented
from sslens.training.diffuse import prepare, train_generator
from sslens.training.folder import RunFolder
from sslens.training.optim import scale_lr
from sslens.training.schedule import Training

NANO = "random:vit_nano_patch8_32"
SETTINGS = Settings(
    conditions="standardise",
    size=8,
    width=32,
    blocks=1,
    multipliers=(1,),
    attention=(),
    base_lr=0.05,
    warmup=0.25,
    ema=0.9,
    ema_ramp=True,
)
#: 3 steps an epoch, 6 in all; checkpoints do not fall on the ends of epochs
TRAINING = Training(
    epochs=2, batch_size=5, precision="float32", device="cpu", save_every=2, log_every=1
)


def draw_images(count: int, seed: int = 0) -> ImageSet:
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 12, 12, 3), dtype=np.uint8)
    return from_arrays(pixels, ids=[f"{seed}/{row}" for row in range(count)])


IMAGES, HELD = draw_images(16), draw_images(5, seed=1)


@pytest.fixture(scope="module")
def models() -> tuple[Backbone, Backbone]:
    one, other = sslens.load(f"{NANO}:0"), sslens.load(f"{NANO}:1")
    one.name, other.name = "one", "other"
    return one, other


@pytest.fixture(scope="module")
def made(
    models: tuple[Backbone, Backbone], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Represented, Represented]:
    """Training and held-out images with the features of two models."""
    store = Store(tmp_path_factory.mktemp("store"))
    first, second = (represent(models, images, store=store) for images in (IMAGES, HELD))
    return first, second


@pytest.fixture(scope="module")
def whole(made: tuple[Represented, Represented], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupts."""
    return fit(tmp_path_factory.mktemp("runs") / "run", made)


def fit(
    out: Path, made: tuple[Represented, Represented], resume: bool = False, **changed: Any
) -> Path:
    settings, pictures = changed.pop("settings", SETTINGS), changed.pop("pictures", False)
    train_generator(
        made[0],
        out,
        settings=settings,
        training=dataclasses.replace(TRAINING, **changed),
        held=made[1],
        resume=resume,
        name="run",
        pictures=pictures,
    )
    return out


def lines(out: Path, key: str) -> list[float]:
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [line[key] for line in log if key in line]


# ------------------------------------------------------------------------------------------------
# what a step is given


def test_a_step_has_each_image_with_the_features_of_one_model_in_turn(
    made: tuple[Represented, Represented],
) -> None:
    represented, _ = made
    start = prepare(represented, SETTINGS)
    chosen: tuple[int, ...] = (5, 2, 9, 14)
    whole = batch([], SETTINGS, start, Rows(7, 3, slice(0, 4), 4, None, chosen))
    drawn = SETTINGS.make_process().draw(stream(7, 3, 6), 4, (3, 8, 8))
    assert torch.equal(whole["draw.noise"], drawn["noise"])
    assert torch.equal(whole["draw.time"], drawn["time"])
    matrices = represented.matrices()
    for place, row in enumerate(chosen):
        model = represented.models[(place + 3) % 2]
        own = start.adapters.place(model, matrices[model][[row]])
        torch.testing.assert_close(whole["condition"][place], own[0], rtol=0, atol=0)
        assert torch.equal(whole["view"][place], see_images(8)(IMAGES.image(row)))
    parts = [
        batch([], SETTINGS, start, Rows(7, 3, rows, 4, None, chosen[rows]))
        for rows in (slice(0, 1), slice(1, 4))
    ]
    for name, value in whole.items():
        assert torch.equal(torch.cat([part[name] for part in parts]), value), name


def test_features_are_found_by_the_ids_of_the_images(models: tuple[Backbone, Backbone]) -> None:
    whole = represent(models[:1], IMAGES)
    order = [9, 3, 4]
    taken = Represented(
        IMAGES.take(range(16)), whole.conditions, [shuffle(whole.features[0], seed=3)]
    )
    assert torch.equal(taken.read(0), whole.read(0))
    assert torch.equal(whole.take(order).read(0, np.array([1, 2])), whole.read(0)[[3, 4]])


def shuffle(features: Features, seed: int, **key: object) -> Features:
    """The same features in another order."""
    order = np.random.default_rng(seed).permutation(len(features)).tolist()
    columns = {column: features.read(*column)[order] for column in features.columns}
    return Features.of(
        columns,
        ids=[features.ids[row] for row in order],
        model=features.model,
        key={**features.key, **key},
    )


def test_the_average_follows_the_weights_with_a_momentum_that_rises() -> None:
    settings = dataclasses.replace(SETTINGS, ema=0.25)
    torch.manual_seed(0)
    method = Diffusion(settings, 5)
    own, average = (
        network.get_parameter("time_embed.0.weight") for network in (method.network, method.average)
    )
    wanted = own.detach().clone()
    for step, momentum in enumerate((2 / 11, 0.25, 0.25)):  # 3 / 12 is 0.25
        with torch.no_grad():
            own.add_(1.0 + step)
        wanted = momentum * wanted + (1 - momentum) * own.detach()
        method.after_update(Moment(step, 10, 5))
    torch.testing.assert_close(average.detach(), wanted)


def test_the_learning_rate_warms_up_and_falls_to_its_end() -> None:
    method = Diffusion(dataclasses.replace(SETTINGS, end_lr=0.1, warmup=0.5), 5)
    rates = [method.rates(Moment(step, 8, 4), 2.0)[0] for step in (0, 2, 4, 6)]
    assert rates == pytest.approx([0.0, 1.0, 2.0, 0.2 + 0.9])  # half of the cosine from 2 to 0.2


def test_the_official_preset_is_rcdms() -> None:
    official = recipe("diffusion", "official")
    assert official.settings == Settings()
    assert scale_lr(official.settings.base_lr, official.batch_size) == pytest.approx(1e-4)
    with torch.device("meta"):
        network = official.settings.shape(2048).build()
    assert sum(value.numel() for value in network.parameters()) == 422_603_782
    for name, preset in recipes("diffusion").items():
        shape = preset.settings.shape(10)
        assert shape.size in (32, 64, 128, 256), name
        small = isinstance(shape, DiTShape) or shape.width in (32, 64)
        assert small == (shape.size < 128), name


# ------------------------------------------------------------------------------------------------
# runs


class Killed(Exception):  # noqa: N818 (it is no error)
    pass


def test_a_run_goes_on_after_a_kill_to_the_same_bytes(
    whole: Path,
    made: tuple[Represented, Represented],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keep = RunFolder.keep_encoder

    def die(self: RunFolder, *given: Any, **named: Any) -> None:
        if given[3].step == 4:
            raise Killed
        keep(self, *given, **named)

    with monkeypatch.context() as patched:
        patched.setattr(RunFolder, "keep_encoder", die)
        with pytest.raises(Killed):
            fit(tmp_path / "run", made)
    fit(tmp_path / "run", made, resume=True)
    same(tmp_path / "run", whole)
    assert lines(tmp_path / "run", "held_loss") == lines(whole, "held_loss")


@pytest.mark.slow
def test_parts_and_data_workers_change_nothing(
    whole: Path, made: tuple[Represented, Represented], tmp_path: Path
) -> None:
    fit(tmp_path / "workers", made, workers=1)
    same(tmp_path / "workers", whole)
    fit(tmp_path / "parts", made, accumulate=5)
    np.testing.assert_allclose(lines(tmp_path / "parts", "loss"), lines(whole, "loss"), rtol=1e-4)


def test_a_run_learns(whole: Path) -> None:
    losses = lines(whole, "held_loss")
    assert losses[-1] < losses[0]
    assert len(lines(whole, "held_gain")) == len(losses) == 6


@pytest.mark.slow
def test_two_processes_take_the_same_steps(
    made: tuple[Represented, Represented], tmp_path: Path
) -> None:
    fit(tmp_path / "one", made, batch_size=4)
    together(lambda: fit(tmp_path / "two", made, batch_size=4))
    for column in ("loss", "held_loss"):
        np.testing.assert_allclose(
            lines(tmp_path / "two", column), lines(tmp_path / "one", column), rtol=1e-4
        )


@pytest.mark.slow
def test_a_run_in_bfloat16_is_near(
    whole: Path, made: tuple[Represented, Represented], tmp_path: Path
) -> None:
    fit(tmp_path, made, precision="bfloat16", epochs=1)
    assert all(
        value.dtype == torch.float32
        for value in sslens.zoo.read(tmp_path / "last.safetensors")[1].values()
    )
    np.testing.assert_allclose(lines(tmp_path, "loss")[:2], lines(whole, "loss")[:2], rtol=2e-2)


def test_blocks_that_are_computed_again_have_the_same_gradients() -> None:
    settings = dataclasses.replace(SETTINGS, attention=(8,))
    generator = np.random.default_rng(0)
    drawn = settings.make_process().draw(generator, 2, (3, 8, 8))
    given = {f"draw.{name}": value for name, value in drawn.items()}
    given |= {"view": torch.rand(2, 3, 8, 8), "condition": torch.rand(2, 5)}
    gradients = []
    for recompute in (False, True):
        torch.manual_seed(0)
        method = Diffusion(settings, 5).train()
        if recompute:
            assert set_block_runs(method.network, Way(recompute=True)) == 9
        method(given).backward()
        gradients.append([value.grad for value in method.network.parameters()])
    for one, other in zip(*gradients, strict=True):
        assert torch.equal(one, other)


@pytest.mark.slow
def test_samples_keep_what_the_features_hold_and_vary_in_the_rest(tmp_path: Path) -> None:
    """Images of one colour, of which the features tell the colour and not the dark half."""
    generator = np.random.default_rng(0)
    colours, darker = generator.integers(0, 256, (256, 3)), generator.integers(0, 2, 256)
    pixels = np.broadcast_to(colours[:, None, None], (256, 8, 8, 3)).copy()
    pixels[darker == 0, :, :4] //= 4
    pixels[darker == 1, :, 4:] //= 4
    images = from_arrays(pixels.astype(np.uint8))
    values = torch.from_numpy(colours / 255).float()
    features = Features.of({("mean", "flat"): values}, ids=images.ids, model="colour")
    condition = Condition("colour", "colour", "", {}, "mean", "flat", 3)
    settings = dataclasses.replace(
        SETTINGS, process="flow", multipliers=(1, 2), ema=0.98, end_lr=0.1
    )
    training = dataclasses.replace(TRAINING, epochs=24, batch_size=32, save_every=1000)
    represented = Represented(images, [condition], [features])
    train_generator(
        represented,
        tmp_path / "run",
        settings=dataclasses.replace(settings, base_lr=0.032, warmup=0.05),
        training=training,
        pictures=False,
    )
    made = open_generator(tmp_path / "run").sample(values[:8], "colour", 16, steps="heun8")
    halves = np.stack([made[..., :4, :], made[..., 4:, :]]).mean((3, 4))
    brighter = halves.max(0)  # [image, draw, colour]
    wanted = np.repeat(colours[:8, None], 16, axis=1)
    assert np.corrcoef(brighter.ravel(), wanted.ravel())[0, 1] > 0.8
    left = (halves[0].sum(-1) > halves[1].sum(-1)).mean(1)
    assert ((left > 0.1) & (left < 0.9)).sum() >= 6


@pytest.mark.slow
def test_a_run_paints_and_is_the_same_as_without(
    whole: Path, made: tuple[Represented, Represented], tmp_path: Path
) -> None:
    fit(tmp_path / "run", made, pictures=True)
    assert (tmp_path / "run/last.safetensors").read_bytes() == (
        whole / "last.safetensors"
    ).read_bytes()
    painted = sorted(path.name for path in (tmp_path / "run/samples").iterdir())
    assert painted == [f"step-{step:07d}.png" for step in (1, 2, 3, 4, 6)]
    with Image.open(tmp_path / "run/samples" / painted[-1]) as sheet:
        assert sheet.size == (5 * 66 + 2, 8 * 66 + 2)  # 4 sources by 2 models, 4 samples each


def test_another_model_is_another_run(
    whole: Path, made: tuple[Represented, Represented], models: tuple[Backbone, Backbone]
) -> None:
    alone = represent(models[:1], IMAGES), represent(models[:1], HELD)
    with pytest.raises(
        InputError, match=r"other settings \(models were one, other and are now one"
    ):
        fit(whole, alone, resume=True)


def test_the_held_out_loss_is_the_mean_over_images_by_the_average(
    made: tuple[Represented, Represented],
) -> None:
    represented, held = made
    start = prepare(represented, SETTINGS)
    torch.manual_seed(0)
    method = Diffusion(SETTINGS, start.adapters.width)
    for network, scale in ((method.network, 0.0), (method.average, 0.05)):
        with torch.no_grad():
            for value in network.parameters():
                value.add_(scale * torch.randn_like(value))
    own = GeneratorStart.of(held, start.adapters, SETTINGS)
    found = HeldOutLoss(own).measure(method, Processes(0, 1, "cpu"), "float32")
    process, drawn = SETTINGS.make_process(), own.draw(0, 0, 5)
    means = []
    for shift in (0, 1):
        losses = []
        for row in range(5):
            vectors = held.read(row % 2, np.array([(row + shift) % 5]))
            condition = own.adapters.place(held.models[row % 2], vectors)
            view = see_images(8)(HELD.image(row))[None]
            alone = {name: value[[row]] for name, value in drawn.items()}
            losses.append(process.loss(method.average, view, condition, alone)["mse"].item())
        means.append(np.mean(losses))
    assert found["held_loss"] == pytest.approx(means[0], rel=1e-4)
    assert found["held_gain"] == pytest.approx(1 - means[0] / means[1], abs=1e-4)
    assert abs(found["held_gain"]) > 1e-6
    assert found["held_images"] == 5
    assert found["held_gain_low"] < found["held_gain"] < found["held_gain_high"]


# ------------------------------------------------------------------------------------------------
# what is kept and sampled


def test_a_generator_is_opened_as_it_was_trained(
    whole: Path, made: tuple[Represented, Represented], models: tuple[Backbone, Backbone]
) -> None:
    generator = open_generator(whole)
    assert generator.models == ("one", "other")
    assert generator.size == 8
    assert (generator.tap("one"), generator.pooling("other")) == ("norm", "cls")
    assert generator.digests == {model.name: model.digest for model in models}
    assert generator.find_model(models[1]) == "other"
    state = sslens.zoo.read(whole / "state.safetensors")[1]
    for name, value in generator.network.state_dict().items():
        assert torch.equal(value, state[f"module/average.{name}"]), name
    fitted = Adapters.fit(made[0].matrices(), "standardise")
    features = made[1].read(1)
    placed = fitted.place("other", features)
    assert torch.equal(generator.adapters.place("other", features), placed)
    assert open_generator(whole / "last.safetensors").key == generator.key
    json.dumps(generator.key)


def test_samples_have_the_same_noise_for_every_model_and_minibatch(
    whole: Path, made: tuple[Represented, Represented]
) -> None:
    generator = open_generator(whole)
    vectors = made[1].read(0)[:3]
    found = generator.sample(vectors, "one", 2, seed=5, steps="6")
    assert found.shape == (3, 2, 8, 8, 3)
    again = generator.sample(vectors, "one", 2, seed=5, steps="6", batch=4)
    assert np.abs(found.astype(int) - again).max() <= 1
    assert (found != generator.sample(vectors, "one", 2, seed=6, steps="6")).any()
    more = generator.sample(vectors[:2], "one", 3, seed=5, steps="6")
    assert np.abs(found[:2].astype(int) - more[:, :2]).max() <= 1
    # by hand: noise of (seed, draw, image), then of (…, time), by the process itself
    pairs = [(image, draw) for image in range(3) for draw in range(2)]
    noise = NoiseSource(5, pairs, 8)
    first = stream(5, 1, 7, 2).standard_normal((3, 8, 8), np.float32)
    assert np.array_equal(noise.draw()[5].numpy(), first)
    placed = generator.adapters.place("one", vectors).repeat_interleave(2, 0)
    images = generator.process.sample(generator.network, noise.draw(), placed, "6", noise.draw)
    assert np.abs(found.reshape(6, 8, 8, 3).astype(int) - to_pixels(images)).max() <= 1


def test_ddim_adds_no_noise(whole: Path, made: tuple[Represented, Represented]) -> None:
    generator = open_generator(whole)
    vectors = made[1].read(0)[:1]
    twice = generator.sample(vectors.repeat(2, 1), "one", 2, steps="ddim5")
    assert (twice[0] != twice[1]).any()  # each source has noise of its own
    noise = NoiseSource(0, [(0, 0), (0, 1)], 8).draw()
    placed = generator.adapters.place("one", vectors).repeat(2, 1)
    images = generator.process.sample(generator.network, noise, placed, "ddim5", None)
    assert np.abs(twice[0].astype(int) - to_pixels(images)).max() <= 1


# ------------------------------------------------------------------------------------------------
# what is refused


def condition_of(made: tuple[Represented, Represented], number: int = 0) -> Condition:
    return made[0].conditions[number]


def test_features_of_another_model_or_width_are_refused(
    whole: Path, made: tuple[Represented, Represented]
) -> None:
    generator, (one, other) = open_generator(whole), made[0].features
    with pytest.raises(InputError, match="of other weights than the representation of one"):
        generator.select(other, model="one")
    with pytest.raises(InputError, match=r'takes no features of "two": there are one, other'):
        generator.sample(torch.zeros(1, 64), "two")
    narrow = Features.of({("norm", "cls"): torch.rand(4, 8)}, model="one")
    with pytest.raises(InputError, match="are 8 numbers, and the generator takes 64"):
        generator.select(narrow)
    with pytest.raises(InputError, match=r"have 8 numbers.* takes 64 of one"):
        generator.sample(torch.zeros(1, 8), "one")
    seen = shuffle(one, 0, transform={"resize": 48})
    with pytest.raises(InputError, match="images prepared in another way"):
        generator.select(seen)
    with pytest.raises(InputError, match="of no model with the weights of"):
        generator.find_model(sslens.load(f"{NANO}:2"))


def test_features_of_other_images_are_refused(
    whole: Path, made: tuple[Represented, Represented]
) -> None:
    generator, (one, _) = open_generator(whole), made[0].features
    with pytest.raises(InputError, match=r"of other images: they lack 1/0 \(5 of 5\)"):
        generator.select(one, HELD)
    pixels = np.zeros((16, 12, 12, 3), np.uint8)
    changed = from_arrays(pixels, ids=list(IMAGES.ids))
    with pytest.raises(InputError, match="under the same ids"):
        generator.select(one, changed)
    with pytest.raises(InputError, match="under the same ids"):
        Represented(changed, [condition_of(made)], [one])
    taken = generator.select(one, IMAGES.take([4, 1]))
    assert torch.equal(taken, made[0].read(0)[[4, 1]])


def replaced(made: tuple[Represented, Represented], values: torch.Tensor) -> Represented:
    condition = dataclasses.replace(condition_of(made), dim=values.shape[1])
    features = Features.of({("norm", "cls"): values}, ids=IMAGES.ids[: len(values)], model="one")
    return Represented(IMAGES.take(range(len(values))), [condition], [features])


def test_a_condition_that_says_nothing_is_refused(
    made: tuple[Represented, Represented], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="the same for all 16 images: a generator would learn"):
        replaced(made, torch.ones(16, 4))
    with pytest.raises(InputError, match="not finite"):
        replaced(made, torch.full((16, 4), torch.nan))
    with pytest.raises(InputError, match="called one: give each model once"):
        Represented(IMAGES, [condition_of(made)] * 2, [made[0].features[0]] * 2)
    with pytest.raises(InputError, match="give one or more"):
        Represented(IMAGES, [], [])
    with pytest.raises(InputError, match="other models, taps or poolings"):
        fit(tmp_path, (made[0], replaced(made, torch.rand(4, 64))))


def test_sizes_samples_and_images_that_will_not_do_are_refused(
    whole: Path, made: tuple[Represented, Represented], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="10 px cannot be halved 2 times: give a size of 4, 8"):
        dataclasses.replace(SETTINGS, size=10, multipliers=(1, 1, 1))
    with pytest.raises(InputError, match=r'process is "gausian": did you mean gaussian\?'):
        Settings(process="gausian")
    generator = open_generator(whole)
    with pytest.raises(InputError, match="shows nothing of what varies: give draws=2 or more"):
        generator.sample(torch.zeros(1, 64), "one", 1)
    with pytest.raises(InputError, match="not finite"):
        generator.sample(torch.full((1, 64), torch.nan), "one")
    start = prepare(made[0], SETTINGS)
    few = GeneratorStart.of(made[0].take([0]), start.adapters, SETTINGS)
    with pytest.raises(InputError, match="1 image is too few"):
        job(few, SETTINGS)
    with pytest.raises(InputError, match="There is no generator"):
        open_generator(tmp_path / "nowhere")
    with pytest.raises(InputError, match="is a generator of images, and no model of them"):
        sslens.load(whole)


def test_a_file_that_is_no_generator_or_is_damaged_is_refused(whole: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    header, tensors = sslens.zoo.read(whole / "last.safetensors")
    path = tmp_path / "cut.safetensors"
    save_file({name: tensors[name] for name in list(tensors)[:-1]}, path, header)
    with pytest.raises(InputError, match="is missing, as the network is described"):
        open_generator(path)
    save_file(tensors, path)
    with pytest.raises(InputError, match="holds no generator"):
        open_generator(path)


def test_a_folder_or_file_of_something_else_is_told_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no generator: give the folder that sslens rcdm train"):
        open_generator(tmp_path)
    torch.save({"fc.weight": torch.zeros(2, 2)}, tmp_path / "ck.pth")
    with pytest.raises(InputError, match=r"holds no network of RCDM's.*: give the folder that"):
        open_generator(tmp_path / "ck.pth")


def test_swapped_arguments_are_refused(whole: Path, made: tuple[Represented, Represented]) -> None:
    generator, features = open_generator(whole), made[1].features[0]
    with pytest.raises(InputError, match=r"is no features: give what sslens\.features returns"):
        generator.select.__wrapped__(generator, HELD, features)  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="no set of images"):
        generator.select.__wrapped__(generator, features, features)  # type: ignore[attr-defined]


def test_a_model_of_a_known_name_and_other_weights_is_named_by_its_source(
    whole: Path, models: tuple[Backbone, Backbone]
) -> None:
    other = sslens.load(f"{NANO}:2")
    other.name = "one"
    with pytest.raises(InputError, match=f"this other one, by its source {NANO}:2"):
        open_generator(whole).find_model(other)


def test_samples_of_another_run_are_not_mixed(
    whole: Path, models: tuple[Backbone, Backbone], tmp_path: Path
) -> None:
    generator, store, out = open_generator(whole), Store(tmp_path / "store"), tmp_path / "out"

    def make(images: ImageSet, **changed: Any) -> Path:
        request = SampleRequest(**{"out": out, "draws": 2, "steps": "ddim2"} | changed)
        return sample(generator, models[:1], images, request, store=store)

    make(HELD)
    make(HELD)  # the same again
    (out / "mine.txt").write_text("mine")
    before = sorted(out.rglob("*.png"))
    few = HELD.take([1, 0])
    with pytest.raises(InputError, match=r"another set of samples \("):
        make(few)
    assert sorted(out.rglob("*.png")) == before
    make(few, overwrite=True)
    assert len(list(out.rglob("model-*/*.png"))) == 4
    assert (out / "mine.txt").exists()
    (out / ".sslens.json").unlink()  # as a folder of before is
    with pytest.raises(InputError, match="another set of samples"):
        make(HELD)


def test_images_of_someone_are_no_place_for_samples(
    whole: Path,
    models: tuple[Backbone, Backbone],
    made: tuple[Represented, Represented],
    tmp_path: Path,
) -> None:
    photos = Path(write_folder(tmp_path / "photos", HELD))
    before = sorted(tmp_path.rglob("*"))
    generator, store = open_generator(whole), Store(tmp_path / "store")
    for folder in (photos, tmp_path):  # images, and a folder with classes of images
        with pytest.raises(InputError, match="holds images that sslens did not write"):
            sample(generator, models[:1], HELD, SampleRequest(folder, 2, "ddim2"), store=store)
        with pytest.raises(InputError, match="holds images that sslens did not write"):
            fit(folder, made, pictures=True)
    with pytest.raises(InputError, match=r"is a \.png file, and .*: give out=.*s\.png"):
        SampleRequest(tmp_path / "s.jpg", 2, "ddim2").require_out()
    assert sorted(tmp_path.rglob("*")) == before


def test_steps_are_checked_before_anything_is_computed(
    whole: Path, models: tuple[Backbone, Backbone], tmp_path: Path
) -> None:
    store = Store(tmp_path / "store")
    request = SampleRequest(tmp_path / "out", steps="heun10")
    with pytest.raises(InputError, match="heun10 are of fast generators"):
        sample(open_generator(whole), models[:1], HELD, request, store=store)
    assert not list(tmp_path.iterdir())


def test_a_file_of_the_authors_is_opened_with_its_model(
    made: tuple[Represented, Represented], models: tuple[Backbone, Backbone], tmp_path: Path
) -> None:
    shape = UNetShape(32, 32, 1, (1, 2, 2, 2), attention=(8,), condition=64)
    network, file = shape.build(seed=0), tmp_path / "rcdm_ema_one.pt"
    torch.save(network.state_dict(), file)
    with pytest.raises(InputError, match="does not say which model conditions it"):
        open_generator(file)
    generator = open_generator(file, models[0])
    assert (generator.models, generator.size, generator.tap("one")) == (("one",), 32, "norm")
    with pytest.raises(InputError, match="of images prepared in another way"):
        generator.select(made[1].features[0], HELD)
    condition = generator.condition("one")
    assert condition.transform["mean"] == condition.transform["std"] == [0.5, 0.5, 0.5]
    store = Store(tmp_path / "store")
    vectors = read_condition(condition, models[0], HELD, store=store)[:1]
    seen = see_images(32)(HELD.image(0))[None]  # values from −1 to 1
    torch.testing.assert_close(vectors, models[0](seen)[:, 0], rtol=1e-4, atol=1e-4)
    found = generator.sample(vectors, "one", 2, steps="ddim2")
    noise = NoiseSource(0, [(0, 0), (0, 1)], 32).draw()
    images = generator.process.sample(network, noise, vectors.repeat(2, 1), "ddim2", None)
    assert np.abs(found[0].astype(int) - to_pixels(images)).max() <= 1
    with pytest.raises(InputError, match="of other weights"):
        generator.select(made[1].features[1], HELD, model="one")
    torch.save(dataclasses.replace(shape, condition=None).build(seed=0).state_dict(), file)
    with pytest.raises(InputError, match="takes no representation"):
        open_generator(file, models[0])


# ------------------------------------------------------------------------------------------------
# the commands


def write_folder(folder: Path, images: ImageSet) -> str:
    folder.mkdir()
    for row in range(len(images)):
        images.image(row).save(folder / f"{row:02d}.png")
    return str(folder)


def call(words: Sequence[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    status = main(words)
    out, err = capsys.readouterr()
    return status, out, err


@pytest.mark.slow
def test_the_commands_train_and_sample(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSLENS_HOME", str(tmp_path / "home"))
    photos, run = write_folder(tmp_path / "photos", IMAGES), str(tmp_path / "run")
    shape = ["width=32", "blocks=1", "multipliers=[1]", "attention=[]"]
    line = [
        *f"rcdm train {NANO}:0 --images {photos} --val {photos} --preset cpu32 --size 8".split(),
        *"--epochs 1 --batch-size 8 --precision float32 --device cpu --out".split(),  # noqa: SIM905
        run,
        "--set",
        *shape,
    ]
    status, _, err = call([*line, "--dry-run"], capsys)
    assert status == 0, err
    assert "at norm (cls, 64); 16 images of photos at 8 px: 2 steps an epoch, 2 in all" in err
    assert "million parameters" in err
    assert "min here" in err
    assert "Without --val" not in err
    status, _, err = call([*line[:5], *line[7:], "--dry-run"], capsys)
    assert status == 0, err
    assert "Without --val nothing tells whether the features reach the images.\n" in err
    assert not Path(run).exists()
    status, out, err = call(line, capsys)
    assert status == 0, err
    assert out.strip() == f"{run}/last.safetensors"
    assert "16 of the 16 images of --val are also trained on" in err
    assert (Path(run) / "report/report.html").is_file()
    unsure = "An image's own features take away "  # of 16 images nothing is decided
    assert f"gain      {unsure}" in err
    assert "is undecided; hold out more images, or train longer" in err
    status, _, err = call(line, capsys)
    assert status == 2
    assert "already holds a run: go on with --resume" in err
    asked = ["rcdm", "sample", run, "--images", photos, "--steps", "ddim3", "--limit", "3"]
    sheet, folder = str(tmp_path / "grid.png"), str(tmp_path / "samples")
    status, out, err = call([*asked, "--out", sheet, "--draws", "2", "--device", "cpu"], capsys)
    assert status == 0, err
    with Image.open(sheet) as image:
        assert image.size == (3 * 66 + 2, 3 * 66 + 2)
    assert f"note      {unsure}" in err
    status, out, err = call([*asked, "--out", folder, "--draws", "2", "--device", "cpu"], capsys)
    assert status == 0, err
    listed = (Path(folder) / "samples.csv").read_text().splitlines()
    assert listed[0] == "file,model,image,draw"
    assert len(listed) == 1 + 3 * 2
    with Image.open(Path(folder) / listed[1].split(",")[0]) as one, Image.open(sheet) as whole:
        first = np.asarray(whole)[2:66, 68:132].reshape(8, 8, 8, 8, 3)[:, 0, :, 0]
        assert np.array_equal(np.asarray(one), first)
    status, _, err = call([*asked, "--out", sheet, "--draws", "1"], capsys)
    assert status == 2
    assert "give --draws 2 or more" in err
    status, _, err = call([*asked, "--out", sheet, "--models", f"{NANO}:1"], capsys)
    assert status == 2
    assert "of no model with the weights of" in err


def test_the_end_of_a_training_says_what_its_gain_came_to(tmp_path: Path) -> None:
    log, models, val = tmp_path / "log.jsonl", ("mae", "my dino"), "scenes:1:40"
    judge = f"--analyses samples --generator {tmp_path}"
    unreached = "does not reach the images (gain 0.0% [-0.5%, 0.5%], of 40 held-out images)"
    for gain, half, word in (
        (0.8, 0.1, "take away 80.0% [70.0%, 90.0%] of the loss that 40 held-out images have"),
        (0.02, 0.05, "(a gain of 1% or more) is undecided; hold out more images, or train longer"),
        (0.005, 0.05, "is undecided"),
        (0.005, None, "is undecided"),  # a log of before
        (2e-6, 0.005, unreached),
    ):
        ends = {} if half is None else {"held_gain_low": gain - half, "held_gain_high": gain + half}
        line = {"step": 1, "held_gain": gain, "held_images": 40} | ends
        log.write_text(json.dumps(line) + "\n")
        said = describe_reach(models, val, 40, tmp_path)
        assert word in said
        wanted = f"samples: sslens compare mae 'my dino' --images scenes:1:40 {judge}"
        assert said.endswith(wanted) == (word != unreached)
    few = describe_reach(models, val, 20, tmp_path)  # too few to look for a source among them
    assert "train longer" in few
    log.unlink()
    bare = describe_reach(models, None, 0, tmp_path)
    assert bare.startswith("note      Without --val nothing tells whether the features reach")
    assert bare.endswith(f"--images DIR {judge}")


def test_samples_are_not_put_into_the_folder_of_their_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = write_folder(tmp_path / "photos", HELD)
    for line in (
        f"rcdm sample scenes_generator --images {photos} --out {photos}/sheet.png",
        f"rcdm train {NANO}:0 --images scenes:0:64 --val {photos} --out {photos}/run --dry-run",
    ):
        status, _, err = call(line.split(), capsys)
        assert (status, "the folder of the images: samples there" in err) == (2, True), err


def test_a_sheet_alone_lies_among_no_files_of_others(tmp_path: Path) -> None:
    photos = Path(write_folder(tmp_path / "photos", HELD))
    with pytest.raises(InputError, match="holds images that sslens did not write, such as "):
        SampleRequest(photos / "sheet.png").require_out()
    report = tmp_path / "report"
    OwnFiles(report).claim("study", {"models": ["mae"]}, command="sslens compare mae")
    OwnFiles(report).before(report / "sheets" / "samples" / "mae.png")
    OwnFiles(report).before(report / "report.html")
    for place in (report / "mine.png", report / "sheets" / "samples" / "mine.png"):
        with pytest.raises(InputError, match="is a folder of a study by `sslens compare mae`"):
            SampleRequest(place).require_out()
    SampleRequest(report / "own" / "mine.png").require_out()

    sheet, pixels = tmp_path / "sheets" / "one.png", np.zeros((4, 4, 3), np.uint8)
    sheet.parent.mkdir()
    write_sheet(sheet, pixels, {"seed": 0})
    SampleRequest(sheet.parent / "two.png").require_out()  # beside another sheet
    require_own(sheet, {"seed": 0}, overwrite=False)
    with pytest.raises(InputError, match=r"another sheet of samples \(seed was 0 and is now 1\)"):
        require_own(sheet, {"seed": 1}, overwrite=False)
    require_own(sheet, {"seed": 1}, overwrite=True)
    Image.fromarray(pixels).save(sheet)
    with pytest.raises(InputError, match=r"one\.png is there, and sslens did not write it"):
        require_own(sheet, {"seed": 1}, overwrite=True)


def test_what_is_wrong_with_the_words_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["rcdm", "trian"], capsys)[2] == (
        'sslens: sslens rcdm has no "trian": did you mean train?\n'
    )
    status, _, err = call(["rcdm", "train", "--images", "scenes:0:16"], capsys)
    assert status == 2
    assert "Give one or more models: sslens rcdm train MODEL" in err
    status, _, err = call(f"rcdm train {NANO}:0 --images scenes:0:16 --size 30".split(), capsys)
    assert status == 2
    assert "30 px cannot be halved 2 times: give a --size of 4, 8" in err
    status, _, err = call(
        f"rcdm train {NANO}:0 --images scenes:0:16 --preset offical".split(), capsys
    )
    assert status == 2
    assert "did you mean official" in err
    for words, said in {
        "--fast --set multipliers=[9,9]": "multipliers has no effect: it is of the network unet",
        "--preset cpu32 --set multipliers=(1,2,2)": "expected a list such as [1,2,3].",
        "--preset cpu32 --set multipliers=[1.5,2]": "expected a list such as [1,2,3].",
        "--preset cpu32 --set width=abc": "expected a whole number such as 32.",
        "--preset cpu32 --set betas=[2,0.9]": "betas is [2.0,0.9]: expected two",
    }.items():
        line = f"rcdm train {NANO}:0 --images scenes:0:64 --dry-run {words}"
        status, _, err = call(line.split(), capsys)
        assert (status, said in err) == (2, True), err
    with pytest.raises(SystemExit):
        main(["rcdm", "sample", "--help"])
    assert "--draws" in capsys.readouterr().out
