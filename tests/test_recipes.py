"""A contract for every recipe, and what the papers and the released code say beside it."""

import dataclasses
import inspect

import pytest

from sslens.cli import main
from sslens.errors import InputError
from sslens.find import names, plugin
from sslens.recipes import Recipe, recipe, recipes, trial_settings
from sslens.training.optim import scale_lr
from sslens.training.pretrain import make_pretraining_job
from sslens.training.schedule import Training, schedule_run

ALL = [(objective, name) for objective in names("objectives") for name in recipes(objective)]

#: a network of each kind
ARCHS = {"vit": "vit_base_patch16_224", "resnet": "resnet50", "convnextv2": "convnextv2_base"}


@pytest.mark.parametrize(("objective", "name"), ALL)
def test_a_recipe_is_frozen_says_its_source_and_can_be_trained(objective: str, name: str) -> None:
    found = recipe(objective, name)
    assert isinstance(found, Recipe)
    assert dataclasses.is_dataclass(found)
    assert isinstance(found.settings, plugin("objectives", objective).Settings)
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.epochs = 1  # type: ignore[misc]
    said = inspect.getdoc(type(found)) or ""
    assert any(source in said for source in ("released", "Table")), said
    training = Training(epochs=found.epochs, batch_size=found.batch_size)
    kinds = plugin("objectives", objective).KINDS
    arch = ARCHS[next((kind for kind in kinds if name.startswith(kind)), kinds[0])]
    learns = hasattr(plugin("objectives", objective), "LABELLED")
    settings = (
        dataclasses.replace(found.settings, classes=("cat", "dog")) if learns else found.settings
    )
    imagenet = schedule_run(make_pretraining_job(objective, arch, settings), 1_281_167, training)
    assert imagenet.steps == found.epochs * (1_281_167 // found.batch_size)


@pytest.mark.parametrize("objective", names("objectives"))
def test_a_trial_is_of_kinds_that_the_objective_trains(objective: str) -> None:
    kinds = plugin("objectives", objective).KINDS
    assert set(getattr(plugin("recipes", objective), "TRIAL", {})) <= set(kinds)
    for kind in kinds:
        trial = trial_settings(objective, kind)
        assert isinstance(trial, plugin("objectives", objective).Settings)
        assert trial.warmup == 0.25


@pytest.mark.parametrize("objective", names("objectives"))
def test_the_default_is_the_released_code(objective: str) -> None:
    assert recipe(objective, "official").settings == plugin("objectives", objective).Settings()
    assert set(names("recipes")) == {*names("objectives"), "finetune", "detection", "diffusion"}


@pytest.mark.parametrize(
    ("objective", "name", "lr"),
    [
        ("mae", "official", 2.4e-3),
        ("moco-v3", "official", 2.4e-3),
        ("dino", "official", 2e-3),
        ("msn", "official", 1e-3),
        ("fcmae", "official", 2.4e-3),
        ("supervised", "official", 1e-3),  # 5e-4 · 1024 / 512
        ("moco-v3", "resnet50-e100", 9.6),  # 0.6 · 4096 / 256
        ("moco-v3", "resnet50-e300", 4.8),
        ("moco-v3", "resnet50-e1000", 4.8),
        ("dino", "resnet50", 0.06),  # 0.03 · 512 / 256
    ],
)
def test_the_learning_rate_is_the_published_one(objective: str, name: str, lr: float) -> None:
    found = recipe(objective, name)
    assert scale_lr(found.settings.base_lr, found.batch_size) == pytest.approx(lr)


@pytest.mark.parametrize(
    ("objective", "name", "epochs"),
    [
        ("mae", "official", 40),
        ("mae", "paper", 40),
        ("moco-v3", "official", 40),
        ("moco-v3", "paper", 40),
        ("dino", "official", 10),
        ("dino", "two-crops", 10),
        ("dino", "paper", 10),
        ("msn", "official", 15),
        ("fcmae", "official", 40),
        ("supervised", "official", 5),
        ("moco-v3", "resnet50-e100", 10),
        ("moco-v3", "resnet50-e300", 10),
        ("moco-v3", "resnet50-e1000", 10),
        ("dino", "resnet50", 10),
    ],
)
def test_the_warm_up_is_of_the_published_epochs(objective: str, name: str, epochs: int) -> None:
    found = recipe(objective, name)
    assert found.settings.warmup * found.epochs == pytest.approx(epochs)


@pytest.mark.parametrize(
    ("objective", "name", "differs"),
    [
        ("mae", "paper", {"normalise_pixels": False}),
        ("moco-v3", "paper", {"betas": (0.9, 0.95)}),
        ("dino", "two-crops", {"local_crops": 0, "clip": 0.0, "min_lr": 1e-5, "warmup": 1 / 30}),
        (
            "dino",
            "paper",
            {
                "betas": (0.9, 0.95),
                "last_weight_decay": 0.04,
                "teacher_temperature": 0.07,
                "teacher_epochs": 30,
                "warmup": 10 / 300,
            },
        ),
    ],
)
def test_a_recipe_differs_from_the_official_where_it_says(
    objective: str, name: str, differs: dict[str, object]
) -> None:
    ours, official = (
        dataclasses.asdict(recipe(objective, each).settings) for each in (name, "official")
    )
    assert {key: value for key, value in ours.items() if value != official[key]} == differs


def test_an_unknown_recipe_is_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match='dino has no recipe "two-crop": did you mean two-crops'):
        recipe("dino", "two-crop")
    with pytest.raises(InputError, match="did you mean moco-v3"):
        recipes("moco-v2")


def dry(*more: str) -> list[str]:
    return [
        "pretrain",
        *more,
        "--images",
        "scenes:0:40",
        "--arch",
        "vit_nano_patch8_32",
        "--dry-run",
    ]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["mae"], ["a minibatch of 256 is more than the 40 images"]),
        (["mae", "--recipe", "paper"], ["a minibatch of 4096 is more than the 40 images"]),
        (["mae", "--recipe", "papr"], ['mae has no recipe "papr": did you mean paper']),
        (["mae", "--batch-size", "20"], ["2 steps an epoch, 200 in all", "normalise_pixels true"]),
        (
            ["mae", "--recipe", "paper", "--batch-size", "20"],
            ["1,600 in all", "normalise_pixels false"],
        ),
        (
            ["mae", "--recipe", "paper", "--batch-size", "20", "--epochs", "3"],
            ["6 in all", "normalise_pixels false"],
        ),
        (
            [
                "dino",
                "--recipe",
                "two-crops",
                "--batch-size",
                "20",
                "--set",
                "clip=2",
                "local_size=16",
            ],
            ["600 in all", "local_crops 0", "clip 2", "local_size 16", "min_lr 1e-05"],
        ),
        (["dino", "--batch-size", "20", "--set", "local_size=12"], ["small crops of 12 px"]),
        (["msn", "--batch-size", "20", "--set", "focal_size=40"], ["small crops of 40 px"]),
    ],
    ids=str,
)
def test_the_command_takes_a_recipe_and_changes_of_it(
    capsys: pytest.CaptureFixture[str], more: list[str], said: list[str]
) -> None:
    main(dry(*more))
    text = " ".join(capsys.readouterr().err.split())  # settings are a table
    for each in said:
        assert each.lower() in text.lower(), text
