"""Every recipe beside the papers' tables, number by number; the tables stand here as they are
printed (Shekhar et al., 2023, tables 1–5; 2022, appendix B)."""

from collections.abc import Callable
from typing import Any

import pytest

from sslens.probes.linear import lars
from sslens.probes.linear.grid import PAPER_BATCH, Point, paper_grid, rates
from sslens.recipes import Recipe, recipe
from sslens.training.optim import scale_lr

MAE = """
optimizer                       AdamW
base learning rate              1.5e-4
weight decay                    0.05
optimizer momentum              0.9, 0.95
batch size                      4096
learning rate schedule          cosine decay
warmup epochs                   40
training epochs                 800
"""
MOCO_V3 = """
optimizer                       AdamW
base learning rate              1.5e-4
weight decay                    0.1
optimizer momentum              0.9, 0.95
batch size                      4096
learning rate schedule          cosine decay
warmup epochs                   40
training epochs                 300
momentum                        0.99
"""
DINO = """
optimizer                       AdamW
base learning rate              5e-4
weight decay                    0.04
optimizer momentum              0.9, 0.95
batch size                      4096
learning rate schedule          cosine decay
warmup epochs                   10
training epochs                 300
teacher momentum                0.996
teacher temperature             0.07
teacher temperature warmup epochs  30
"""
TUNING = """
optimizer                       AdamW
base learning rate              1e-3
weight decay                    0.05
optimizer momentum              0.9, 0.999
layer-wise lr decay             0.75
batch size                      1024
learning rate schedule          cosine decay
warmup epochs                   5
training epochs                 100
augmentation                    RandAug (9, 0.5)
label smoothing                 0.1
mixup                           0.8
cutmix                          1.0
drop path                       0.1
"""
#: "We train on 224×224 ImageNet images using a batch size of 64, and train for 150 epochs on a
#: total of 16 GPUs … An Adam optimizer is used with a learning rate of 5e−4, momentum of 0.9, and
#: weight decay of 0.05. A cosine learning rate scheduler is used with a minimum learning rate of
#: 1e−5. The first five epochs are used for learning rate warm-up with a learning rate of 1e−6."
TUNING_2022 = """
optimizer                       Adam
learning rate                   5e-4
momentum                        0.9
weight decay                    0.05
batch size                      1024
learning rate schedule          cosine decay
minimum learning rate           1e-5
warmup learning rate            1e-6
warmup epochs                   5
training epochs                 150
"""
TABLES = {
    ("mae", "paper"): MAE,
    ("moco-v3", "paper"): MOCO_V3,
    ("dino", "paper"): DINO,
    ("finetune", "paper-2023"): TUNING,
    ("finetune", "paper-2022"): TUNING_2022,
}


def setting(name: str) -> Callable[[Recipe], Any]:
    return lambda found: getattr(found.settings, name)


def say_augmentation(found: Recipe) -> str:
    magnitude, deviation = (part[1:] for part in found.settings.randaugment.split("-")[1:3])
    return f"RandAug ({magnitude}, {deviation.removeprefix('std')})"


def say_optimiser(found: Recipe) -> str:
    name = getattr(found.settings, "optimiser", "adamw")
    return {"adamw": "AdamW"}[name]


#: what a recipe says of each row of a table
ROWS: dict[str, Callable[[Recipe], Any]] = {
    "optimizer": say_optimiser,
    "base learning rate": setting("base_lr"),
    # of the whole minibatch: the papers' rule is base lr × batch / 256
    "learning rate": lambda found: scale_lr(found.settings.base_lr, found.batch_size),
    "weight decay": setting("weight_decay"),
    "optimizer momentum": lambda found: ", ".join(map(str, found.settings.betas)),
    "momentum": setting("momentum"),
    "batch size": lambda found: found.batch_size,
    "warmup epochs": lambda found: round(found.settings.warmup * found.epochs, 9),
    "training epochs": lambda found: found.epochs,
    "teacher momentum": setting("momentum"),
    "teacher temperature": setting("teacher_temperature"),
    "teacher temperature warmup epochs": setting("teacher_epochs"),
    "layer-wise lr decay": setting("layer_decay"),
    "augmentation": say_augmentation,
    "label smoothing": setting("smoothing"),
    "mixup": setting("mixup"),
    "cutmix": setting("cutmix"),
    "drop path": setting("drop_path"),
    "minimum learning rate": setting("min_lr"),
    "warmup learning rate": setting("first_lr"),
}


def read(table: str) -> dict[str, str]:
    rows = [line.split("  ", 1) for line in table.strip().splitlines()]
    return {name: value.strip() for name, value in rows}


@pytest.mark.parametrize(("objective", "name"), TABLES)
def test_a_recipe_is_the_papers_table_number_by_number(objective: str, name: str) -> None:
    found, rows = recipe(objective, name), read(TABLES[objective, name])
    assert len(rows) >= 8
    for row, printed in rows.items():
        if row == "learning rate schedule":
            assert printed == "cosine decay"  # the only one that methods have
            continue
        if (objective, name, row) == ("finetune", "paper-2022", "optimizer"):
            assert say_optimiser(found) == "AdamW"  # an interpretation, which the docstring says
            continue
        if (objective, name, row) == ("finetune", "paper-2022", "momentum"):
            assert found.settings.betas[0] == float(printed)
            continue
        said = ROWS[row](found)
        wanted = type(said)(printed) if not isinstance(said, str) else printed
        assert said == pytest.approx(wanted) if isinstance(said, float) else said == wanted, row


def test_a_weight_decay_in_a_table_holds_to_the_end() -> None:
    assert recipe("dino", "paper").settings.last_weight_decay == 0.04


@pytest.mark.parametrize(
    ("objective", "name", "sources"),
    [
        ("mae", "paper", ("Table 1 of Shekhar et al.", "Table 8")),
        ("moco-v3", "paper", ("Table 2 of Shekhar et al. (2023)",)),
        ("dino", "paper", ("Table 3 of Shekhar et al. (2023)",)),
        ("finetune", "paper-2023", ("Table 5 of Shekhar et al. (2023)",)),
        ("finetune", "paper-2022", ("Appendix B of Shekhar et al. (2022)",)),
    ],
)
def test_a_docstring_names_its_table(objective: str, name: str, sources: tuple[str, ...]) -> None:
    said = " ".join((type(recipe(objective, name)).__doc__ or "").split())
    for source in sources:
        assert source in said


def test_the_grid_of_probes_is_table_4() -> None:
    """LARS; {0.1, 1e-2, 1e-3}; {0, 5e-2, 0.1}; {0, 1e-{1, 2, 3, 4}, 5e-4}; momentum 0.9; batch
    4096; cosine decay; warm-up {10, 40}; epochs {100, 200}."""
    assert lars.MOMENTUM == 0.9
    expected = {
        Point(lr, decay, least, warmup, epochs)
        for lr in (0.1, 1e-2, 1e-3)
        for decay in (0.0, 5e-2, 0.1)
        for least in (0.0, 1e-1, 1e-2, 1e-3, 1e-4, 5e-4)
        for warmup in (10, 40)
        for epochs in (100, 200)
    }
    points = paper_grid(4096)
    assert PAPER_BATCH == 4096
    assert len(points) == len(expected) == 216
    assert set(points) == expected
    after = rates([Point(0.1, warmup=10, epochs=110)], 4096)
    peak = 0.1 * 4096 / 256
    assert after(10.0)[0] == pytest.approx(peak)
    assert after(60.0)[0] == pytest.approx(peak / 2)  # half way down a cosine
