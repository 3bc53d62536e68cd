"""The reference models: what is declared can be trained, and what is shipped is what was
declared."""

import dataclasses
import hashlib
import importlib
import json
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import save_file

import sslens
from sslens import cards
from sslens.arguments.training import override_settings
from sslens.comparisons.paths import find_path
from sslens.errors import InputError
from sslens.find import plugin
from sslens.models.about import About, Origin
from sslens.tasks.reconstruction import load_reconstructor
from sslens.training.finetune import Settings, finetune
from sslens.training.pretrain import pretrain
from sslens.training.schedule import Training
from sslens.training.watch import Watch

RUNS = Path(__file__).parents[1] / "runs/scenes"
sys.path.insert(0, str(RUNS))
MAKE, PACKING = importlib.import_module("make"), importlib.import_module("packing")
JUDGING = importlib.import_module("judging")
SHIPPED = [card for card in cards.cards().values() if card.file]


@pytest.mark.parametrize("name", MAKE.REFERENCES)
def test_its_settings_are_its_objectives(name: str) -> None:
    reference = MAKE.REFERENCES[name]
    given = {key: yaml.safe_load(str(value)) for key, value in reference.settings.items()}
    given = {
        key: tuple(value) if isinstance(value, list) else value for key, value in given.items()
    }
    settings = plugin("objectives", reference.objective).Settings(**given)
    assert all(getattr(settings, key) == value for key, value in given.items())
    command = reference.command(Path(name))
    assert command[:4] == ["-m", "sslens", "pretrain", reference.objective]
    assert command[command.index("--name") + 1] == name
    every = float(command[command.index("--knn-every") + 1]) if "--knn-every" in command else 1.0
    assert reference.epochs / every >= 10  # states that are looked at


@pytest.mark.parametrize("name", MAKE.TUNED)
def test_fine_tunings_are_of_one_recipe_and_of_references(name: str, tmp_path: Path) -> None:
    tuned = MAKE.TUNED[name]
    command = tuned.command(tmp_path / name)
    settings = override_settings(Settings(), command[command.index("--set") + 1 :])
    assert (settings.pooling, settings.randaugment, settings.mixing(), settings.erasing) == (
        "cls",
        "",
        None,
        0,
    )
    start = command[command.index("finetune") + 1]
    if tuned.before is None:
        assert start == f"random:{MAKE.ARCH}:{tuned.seed}"
    else:
        assert tuned.before in MAKE.REFERENCES
        assert start in (tuned.before, str(tmp_path / tuned.before))
    other = MAKE.TUNED["scenes_mae_ft"].command(tmp_path / name)
    own = {"finetune", "--seed"}  # what stands after these words
    alike = [
        [word for before, word in pairwise(["", *words]) if before not in own]
        for words in (command, other)
    ]
    assert alike[0] == alike[1]
    assert "--path" in command


def test_a_decoder_is_packed_and_paints_with_its_encoder(
    shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "scenes_mae"
    settings = plugin("objectives", "mae").Settings(
        decoder_dim=32, decoder_blocks=1, decoder_heads=2
    )
    pretrain(
        "mae",
        sslens.open_images("scenes:0:40"),
        MAKE.ARCH,
        shelf / name,
        settings=settings,
        training=Training(epochs=1, batch_size=20, precision="float32", device="cpu", log_every=1),
        name=name,
        watch=Watch(states=True),
    )
    PACKING.pack([name], shelf)
    forget_cards()
    card = cards.find(name)
    assert card.decoder == "scenes_mae.decoder.safetensors"
    packed, trained = load_reconstructor(name), load_reconstructor(str(shelf / name))
    assert packed.method.settings == trained.method.settings == settings
    image = sslens.open_images("scenes:1:4").image(0)
    prepared = packed.transform(image)[None]
    one, other = (each.reconstruct(prepared, seed=1) for each in (packed, trained))
    torch.testing.assert_close(one.painted, other.painted, rtol=0, atol=0.02)  # float16
    assert torch.equal(one.masked, other.masked)
    assert (shelf / f"{name}.states.csv").read_text().startswith("step,epoch,tap")
    judged = json.loads((shelf / "judged.json").read_text())
    found = judged["trainings"][name]
    assert found["last 20-NN"][0] == found["knn"]["norm/cls"]
    assert found["losses"]["floor"] < found["losses"]["oracle"] < found["losses"]["loss"]
    assert "scenes_mae: (loss − floor) / (oracle − floor)" in judged["broken"]
    file = shelf / "cards/weights" / card.decoder
    with safe_open(file, "pt") as opened:
        tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
        header = opened.metadata()
    for change, said in (
        (dict(list(tensors.items())[1:]), "lacks"),
        (tensors | {"extra": tensors["mask_token"].clone()}, "MAE lacks"),
    ):
        save_file(change, file, header)
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        monkeypatch.setattr(
            cards, "look_up", lambda _, d=digest: dataclasses.replace(card, decoder_sha256=d)
        )
        with pytest.raises(InputError, match=said):
            load_reconstructor(name)
    monkeypatch.setattr(cards, "look_up", lambda _: card)
    with pytest.raises(InputError, match="is not the file that its card describes"):
        load_reconstructor(name)


def forget_cards() -> None:
    for kept in (cards._read_cards, cards._read_values, cards._read_card):
        kept.cache_clear()


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that cards are packed into, and read from."""
    monkeypatch.setattr(PACKING, "PACKAGE", tmp_path / "cards")
    monkeypatch.setattr(PACKING, "HERE", tmp_path)
    monkeypatch.setattr(PACKING, "BANK", "scenes:2:30")
    monkeypatch.setattr(PACKING, "QUERIES", "scenes:1:10")
    monkeypatch.setattr(cards, "_FOLDER", tmp_path / "cards")
    forget_cards()
    yield tmp_path
    forget_cards()


def test_a_fine_tuned_model_is_packed_with_its_path(
    shelf: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "scenes_random_ft"
    model = sslens.load(MAKE.RANDOM)
    settings = Settings(pooling="cls", randaugment="", erasing=0.0, mixup=0.0, cutmix=0.0)
    finetune(
        model,
        sslens.open_images("scenes:3:20"),
        shelf / name,
        settings=settings,
        training=Training(epochs=2, batch_size=10, precision="float32", device="cpu", log_every=1),
        held=sslens.open_images("scenes:1:10"),
        name=name,
        path=True,
    )
    forget_cards()
    PACKING.pack([name, "scenes_mae_ft"], shelf)
    lines = capsys.readouterr().out.splitlines()
    seen = f"| `{name}` | {4 * MAKE.BATCH} | 0.1 of {MAKE.TUNED[name].epochs} |"
    assert any(line.startswith(seen) for line in lines)
    kept = json.loads((shelf / "judged.json").read_text())
    found = kept["trainings"][name]
    assert found["start"] == {"source": MAKE.RANDOM, "same digest": True}
    (criterion,) = found["must"].values()
    assert criterion["at most"] == pytest.approx((1 - found["probe before"]) / 2, abs=1e-5)
    assert criterion["value"] == pytest.approx(1 - found["top1"], abs=1e-5)
    # of the same weights nothing is measured again
    monkeypatch.setattr(JUDGING, "judge", None)
    monkeypatch.setattr(JUDGING, "judge_control", None)
    PACKING.judge([name], shelf)
    assert json.loads((shelf / "judged.json").read_text()) == kept
    forget_cards()
    assert list(cards.cards()) == [name]
    packed = sslens.load(name)
    assert packed.source == name
    known = {
        "family": "control",
        "objective": None,
        "tuned": "fine-tuned",
        "arch": MAKE.ARCH,
        "card": name,
    }
    assert {key: packed.about.to_json()[key] for key in known} == known
    assert packed.about.pretrained == Origin("random #0", MAKE.RANDOM, model.digest)
    table = find_path(packed.source, packed.about)
    run = find_path(str(shelf / name), sslens.load(str(shelf / name)).about)
    assert table is not None
    assert run is not None
    assert table.csv() == run.csv()
    assert table.frame.record.max() == 2
    (shelf / "cards/weights" / f"{name}.path.csv").unlink()
    assert find_path(packed.source, packed.about) is None  # shipped without


@pytest.mark.parametrize("card", SHIPPED, ids=lambda card: card.name)
def test_what_is_shipped_is_where_its_log_ends(card: cards.Card) -> None:
    reference = MAKE.ALL[card.name]
    assert card.shipped is not None
    with safe_open(card.shipped, "pt") as file:
        encoder = json.loads(file.metadata()["sslens.encoder"])
        kinds = {file.get_tensor(key).dtype for key in file.keys()}  # noqa: SIM118
        assert kinds - {torch.int64} == {torch.float16}  # a batch norm counts its steps
    assert (encoder["name"], card.arch) == (card.name, getattr(reference, "arch", MAKE.ARCH))
    assert (encoder["about"]["objective"], encoder["about"]["family"]) == (
        card.objective,
        card.family,
    )
    log = [
        json.loads(line)
        for line in (RUNS / f"{card.name}.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert log[-1]["step"] <= encoder["about"]["step"] < log[-1]["step"] + 10
    assert round(encoder["about"]["epochs"]) <= reference.epochs
    if card.name in MAKE.TUNED:
        table = find_path(card.name, About.from_json(encoder["about"]))
        assert table is not None
        assert table.frame.step.max() == encoder["about"]["step"]
        assert (encoder["about"]["tuned"], card.tuned) == ("fine-tuned", "fine-tuned")
        begun = reference.before or f"random:{MAKE.ARCH}:{reference.seed}"
        assert encoder["about"]["pretrained"]["source"] == begun
    else:
        assert (card.objective, card.epochs) == (
            reference.objective,
            round(encoder["about"]["epochs"]),
        )
    assert f"{encoder['about']['step'] * MAKE.BATCH:,} images" in card.notes[0]


def test_what_is_shipped_was_judged() -> None:
    judged = json.loads((RUNS / "judged.json").read_text(encoding="utf-8"))
    assert {card.name for card in SHIPPED} <= judged["trainings"].keys()
    failing = [
        f"{name}: {criterion}"
        for name, training in judged["trainings"].items()
        for criterion, found in training["must"].items()
        if not found["holds"]
    ]
    assert judged["broken"] == failing
