"""Fast generators: one for several models at once, by flow matching and a small transformer."""

import copy
import dataclasses
import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import sslens
from runs import same
from sslens.cli import main
from sslens.data.images import ImageSet, from_arrays
from sslens.diffusion.flow import Flow
from sslens.errors import InputError, Interrupted
from sslens.methods import Rows
from sslens.models.backbone import Backbone
from sslens.models.dit import DiT, DiTShape
from sslens.models.unet import UNetShape
from sslens.recipes import recipe
from sslens.recipes.diffusion import resize
from sslens.study.generating import represent
from sslens.tasks import diffusion
from sslens.tasks.diffusion_settings import Settings, describe_shape, make_shape
from sslens.tasks.generator import Generator, open_generator
from sslens.tasks.representations import Represented
from sslens.training.diffuse import prepare, train_generator
from sslens.training.schedule import Training

sys.path.insert(0, str(Path(__file__).parents[1] / "runs/generators"))
SHARED = importlib.import_module("shared")
NANO = "random:vit_nano_patch8_32"
SETTINGS = Settings(
    process="flow",
    network="dit",
    conditions="whiten",
    size=8,
    width=16,
    blocks=1,
    heads=2,
    patch=4,
    embedding=16,
    canvas=4,
    decoder=8,
    base_lr=0.3,
    ema=0.5,
    weighting="image",
)
TRAINING = Training(
    epochs=30, batch_size=8, precision="float32", device="cpu", save_every=30, log_every=1
)


def draw_images(count: int, seed: int) -> ImageSet:
    """Images of one colour each, which the mean colour of patches tells."""
    colours = np.random.default_rng(seed).integers(0, 256, (count, 1, 1, 3), dtype=np.uint8)
    return from_arrays(colours.repeat(8, 1).repeat(8, 2), ids=[f"{seed}/{i}" for i in range(count)])


IMAGES, HELD = draw_images(32, 0), draw_images(6, 1)


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
    from sslens.store import Store

    store = Store(tmp_path_factory.mktemp("store"))
    first, second = (
        represent(models, images, tokens="patch", store=store) for images in (IMAGES, HELD)
    )
    return first, second


@pytest.fixture(scope="module")
def whole(made: tuple[Represented, Represented], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupts."""
    out = tmp_path_factory.mktemp("runs") / "run"
    train_generator(made[0], out, settings=SETTINGS, training=TRAINING, pictures=False)
    return out


@pytest.fixture(scope="module")
def generator(whole: Path) -> Generator:
    return open_generator(whole)


def paint(generator: Generator, vectors: Tensor, model: str, steps: str = "heun5") -> np.ndarray:
    return generator.sample(vectors, model, 2, steps=steps).astype(int)


def test_a_generator_of_two_models_is_opened_as_it_was_trained(generator: Generator) -> None:
    assert isinstance(generator.network, DiT)
    assert generator.network.shape == SETTINGS.shape(generator.adapters.width)
    assert generator.process == Flow(weighting="image")
    assert generator.adapters.how == "whiten"
    assert generator.models == ("one", "other")


def test_a_step_trains_what_the_decoder_paints_by_every_model(
    made: tuple[Represented, Represented],
) -> None:
    start = prepare(made[0], SETTINGS)
    rows = Rows(seed=0, step=3, rows=slice(2, 5), total=6, numbers=(7, 1, 4))
    step = diffusion.batch([], SETTINGS, start, rows)
    method = diffusion.Diffusion(SETTINGS, start.adapters.width)
    loss = method.losses(method.network, step)["loss"].mean()
    for number, row in enumerate((7, 1, 4)):
        pixels = torch.from_numpy(np.asarray(IMAGES.image(row)) / np.float32(127.5) - 1)
        torch.testing.assert_close(step["view"][number], pixels.permute(2, 0, 1))
        for model in (0, 1):
            painted = method.network.paint(start.condition([row], [model]))
            loss = loss + (painted[0] - pixels.permute(2, 0, 1)).square().mean() / 6
    torch.testing.assert_close(method(step), loss)


def test_samples_follow_the_features_of_either_model(
    generator: Generator, made: tuple[Represented, Represented]
) -> None:
    sources = np.stack([np.asarray(HELD.image(row)) for row in range(6)]).astype(int)
    for number, model in enumerate(generator.models):
        samples = paint(generator, made[1].read(number), model)
        own = np.abs(samples - sources[:, None]).mean()
        others = np.abs(samples - np.roll(sources, 1, axis=0)[:, None]).mean()
        assert own < 0.7 * others, model


def test_samples_of_two_models_differ_by_the_representation_alone(
    generator: Generator, made: tuple[Represented, Represented]
) -> None:
    # where the network hears nothing of the representation, both models' samples are the same
    network = copy.deepcopy(generator.network)
    with torch.no_grad():
        for layer in ("ssl_emb", "decoder.0"):
            network.get_parameter(f"{layer}.weight").zero_()
    deaf = dataclasses.replace(generator, network=network)
    vectors = [made[1].read(number) for number in range(2)]
    assert np.array_equal(paint(deaf, vectors[0], "one"), paint(deaf, vectors[1], "other"))
    one, other = paint(generator, vectors[0], "one"), paint(generator, vectors[1], "other")
    assert not np.array_equal(one, other)
    assert not np.array_equal(one[:, 0], one[:, 1])


def test_a_run_goes_on_to_the_same_bytes(
    whole: Path,
    made: tuple[Represented, Represented],
    tmp_path: Path,
) -> None:
    def stop(line: object) -> None:
        import os
        import signal

        assert isinstance(line, dict)
        if line["step"] == 50:
            os.kill(os.getpid(), signal.SIGINT)

    given = {"settings": SETTINGS, "training": TRAINING, "pictures": False}
    with pytest.raises(Interrupted):
        train_generator(made[0], tmp_path / "run", **given, tell=[stop])  # type: ignore[arg-type]
    train_generator(made[0], tmp_path / "run", **given, resume=True)  # type: ignore[arg-type]
    same(tmp_path / "run", whole)


def test_a_packed_generator_is_half_as_large_and_opened_by_its_name(
    whole: Path,
    generator: Generator,
    made: tuple[Represented, Represented],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = SHARED.pack(whole, tmp_path)
    monkeypatch.setattr("sslens.cards.GENERATORS", tmp_path)
    packed = open_generator(SHARED.NAME)
    vectors = made[1].read(1)
    gap = np.abs(paint(packed, vectors, "other") - paint(generator, vectors, "other"))
    assert gap.max() <= 8
    assert path.stat().st_size < 0.75 * (whole / "last.safetensors").stat().st_size
    with pytest.raises(InputError, match=f"There is no generator nothing.*or {SHARED.NAME}"):
        open_generator("nothing")
    monkeypatch.setattr(SHARED, "MOST", 100)
    with pytest.raises(SystemExit, match="more than 100"):
        SHARED.pack(whole, tmp_path)


def test_the_command_of_the_shared_generator_is_one_that_is_parsed(tmp_path: Path) -> None:
    import tyro

    from sslens.cli.rcdm import Train

    words = SHARED.make_command(tmp_path)
    assert words[:4] == ["-m", "sslens", "rcdm", "train"]
    command = tyro.cli(Train, args=words[4:])
    assert tuple(command.models) == SHARED.MODELS
    assert command.fast
    assert recipe("diffusion", str(command.preset)).settings.size == 32


def test_a_preset_that_is_not_fast_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["scenes_mae", "--images", "scenes:0:8", "--fast", "--preset", "small32"]
    assert main(["rcdm", "train", *words]) == 2
    said = capsys.readouterr().err
    assert "The preset small32 is not one of the fast generators" in said
    assert "leave --fast out" in said


def test_shapes_are_made_again_from_plain_values() -> None:
    for shape in (DiTShape(canvas=3, condition=7), UNetShape(32, 32, 1, (1, 2), (16,))):
        assert make_shape(describe_shape(shape)) == shape
    with pytest.raises(InputError, match='no network "unett": did you mean unet'):
        make_shape({"kind": "unett"})
    with pytest.raises(InputError, match=r'network is "ditt": did you mean dit\?'):
        dataclasses.replace(SETTINGS, network="ditt")
    with pytest.raises(InputError, match="Patches of 4 px do not tile images of 10 px"):
        dataclasses.replace(SETTINGS, size=10)


@pytest.mark.parametrize("side", [32, 64])
def test_the_shared_generator_of_eight_models_fits_in_ten_megabytes(side: int) -> None:
    preset = recipe("diffusion", f"fast{side}")
    dims = [128] * 8
    with torch.device("meta"):
        network = preset.settings.shape(sum(dims) + len(dims)).build()
    weights = sum(value.numel() for value in network.parameters())
    statistics = sum(dim * (dim + 1) for dim in dims)
    assert 2 * (weights + statistics) < 10e6  # in float16
    assert resize(preset.settings, 96).shape(None).size == 96
