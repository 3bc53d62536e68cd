"""The cards: every file keeps the same rules, a slip in one is found, and listing them costs no
torch."""

import dataclasses
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sslens import cards
from sslens.cards import Card
from sslens.cards import cards as all_cards
from sslens.cards.__main__ import markdown
from sslens.cli import main
from sslens.cli.zoo import format_table, show_card
from sslens.data.imagenet import IMAGENET_MEAN, IMAGENET_STD
from sslens.data.transform import EvalTransform
from sslens.errors import InputError
from sslens.models.vit import ViTArch
from sslens.zoo.architecture import read_arch
from sslens.zoo.architectures.vit import ViTShape
from sslens.zoo.arrays import Array
from sslens.zoo.files import Contents
from sslens.zoo.identity import require_claims
from sslens.zoo.recognise import recognise

FOLDER = Path(cards.__file__).parent
LAYOUTS = {file.stem for file in (FOLDER.parent / "zoo" / "layouts").glob("[!_]*.py")}
#: the papers' checkpoints and their near relations
ASKED = """
mae_vitb16 mae_vitl16 mae_vith14 mae_vitb16_full mae_vitl16_full mae_vith14_full
mae_vitb16_visualize mae_vitl16_visualize mae_vith14_visualize mae_vitb16_finetuned
mae_vitl16_finetuned mae_vith14_finetuned mocov3_vits16 mocov3_vitb16 mocov3_resnet50_100ep
mocov3_resnet50_300ep mocov3_resnet50_1000ep dino_vits16 dino_vits8 dino_vitb16 dino_vitb8
dino_resnet50 dino_vits16_full dino_vits8_full dino_vitb16_full dino_vitb8_full dino_resnet50_full
msn_vits16 msn_vitb16 msn_vitl16 msn_vitb4 msn_vitl7 fcmae_convnextv2_atto fcmae_convnextv2_femto
fcmae_convnextv2_pico fcmae_convnextv2_nano fcmae_convnextv2_tiny fcmae_convnextv2_base
fcmae_convnextv2_large fcmae_convnextv2_huge deit_vits16 deit_vitb16 augreg_vits16 augreg_vitb16
dinov2_vitb14 dinov2_vitb14_reg dinov3_vitb16 clip_vitb16 siglip_vitb16 ibot_vitb16
beit_vitb16_in22k
"""
#: of tiles of histology, which have the size that the network sees
TILES = {"uni_vitl16", "phikon_vitb16", "phikonv2_vitl16", "virchow_vith14", "virchow2_vith14"}


@pytest.mark.parametrize("card", all_cards().values(), ids=lambda card: card.name)
def test_a_card_keeps_the_rules(card: Card) -> None:
    cnn = card.arch.startswith(("resnet", "convnextv2_", "timm/convnext_"))
    named = r"vit_(mini|small|base|large|huge)_patch\d+_\d+|timm/\w+"
    makers = "capi|vjepa2|webssl|uni|franca|phikonv2|virchow2?"
    own = rf"({makers})_vit_(base|large|huge|giant)_patch\d+_\d+"
    assert cnn or re.fullmatch(named, card.arch) or (card.url and re.fullmatch(own, card.arch))
    assert (card.heads is None) == cnn, "heads are what a ViT has, and no file tells"
    transform = EvalTransform(**dataclasses.asdict(card.evaluation))
    assert transform.crop in ((32, 64) if card.file else (224, 256, 336, 384, 448, 512, 518))
    assert re.fullmatch(r"\d{4}\.\d{5}", card.paper.arxiv)
    assert (
        (card.repository is None)
        if card.file
        else str(card.repository).startswith("https://github.com/")
    )
    assert all(note.endswith(".") for note in card.notes)
    assert card.file or card.epochs is None or 30 <= card.epochs <= 1600
    assert all(fact.endswith(".") and ": " in fact for fact in card.facts)
    assert card.gated is None or card.facts, "gated or not, its source is named"
    assert card.source is None or card.layout is card.branch is card.size is card.sha256 is None


@pytest.mark.parametrize(
    "card", [card for card in all_cards().values() if card.file], ids=lambda card: card.name
)
def test_a_card_of_a_file_that_is_shipped_fits_it(card: Card) -> None:
    assert card.shipped is not None
    content = card.shipped.read_bytes()
    assert (card.file, card.layout, card.size) == (
        f"{card.name}.safetensors",
        "sslens",
        len(content),
    )
    assert hashlib.sha256(content).hexdigest() == card.sha256


def test_what_is_shipped_is_small() -> None:
    files, shipped = (
        list((FOLDER / "weights").glob("*")),
        [card for card in all_cards().values() if card.file],
    )
    paths = {f"{card.name}.path.csv" for card in shipped if card.tuned == "fine-tuned"}
    decoders = {card.decoder for card in shipped if card.decoder}
    assert {file.name for file in files} == {card.file for card in shipped} | paths | decoders
    assert sum(file.stat().st_size for file in files) <= 70e6


@pytest.mark.parametrize(
    "card", [card for card in all_cards().values() if card.url], ids=lambda card: card.name
)
def test_a_card_of_a_file_fits_its_address(card: Card) -> None:
    """Address, architecture and layout say the same: a line that was copied from a neighbour is
    found."""
    url, layout = str(card.url), str(card.layout)
    assert layout in LAYOUTS
    twins = layout in ("moco_v3", "msn") and card.tuned is False
    twins |= url.endswith("_full_checkpoint.pth") or "/Franca/" in url
    assert (card.branch is not None) == twins
    e = card.evaluation
    if layout == "vjepa2":
        assert e.resize == e.crop * 256 // 224
    elif e.crop == 518:
        assert e.resize == 518
        assert card.arch.endswith(("_518", "_dinov2"))
    else:
        assert e.crop == 224
        assert e.resize == (224 if card.name in TILES else 256)
    assert card.name == "rad_dino_vitb14" or (e.mean, e.std) == (IMAGENET_MEAN, IMAGENET_STD)
    assert card.sha256_prefix is None or f"-{card.sha256_prefix}." in url
    if url.startswith("https://huggingface.co/"):  # the names of these repositories tell no size
        return
    name = re.search(r"small|base|large|huge|giant|resnet50|atto|femto|pico|nano|tiny", card.arch)
    assert name is not None
    spelt = {
        "small": "vits|small|vit-s",
        "base": "vitb|base|vit-b",
        "large": "vitl|large",
        "huge": "vith|huge",
        "giant": "vitg|dino1b",
        "resnet50": "r-50|resnet50",
    }
    assert re.search(spelt.get(name[0], name[0]), url)
    patch = re.search(r"patch(\d+)", card.arch)
    told = re.search(r"(?:vit[sbl]_?|vitbase|deitsmall|patch)(\d+)", url)
    assert patch is None or told is None or told[1] == patch[1]
    epochs = re.search(r"(\d+)ep\.", url)
    assert epochs is None or card.epochs == int(epochs[1])


def test_every_checkpoint_that_was_asked_for_has_a_card() -> None:
    assert [name for name in ASKED.split() if name not in all_cards()] == []


def test_heads_that_no_file_tells() -> None:
    assert cards.find("mocov3_vits16").heads == 12, "32 wide, unlike all others"
    assert cards.find("mae_vith14").heads == 16, "80 wide"
    odd = {"mocov3_vits16", "mocov3_vits16_linear", "ijepa_vith14", "mae_vith14"}
    odd |= {"ijepa_vitg16_in22k"}  # 88 wide
    odd |= {"aimv2_vitl14", "vjepa2_vitg16", "vjepa2_vitg16_384"}  # 128 and 64 wide
    assert cards.find("virchow_vith14").heads == cards.find("virchow2_vith14").heads == 16
    for card in all_cards().values():
        size = re.search(r"_(small|base|large|giant)_", card.arch)
        if size and card.heads and card.name not in odd:
            assert card.heads == {"small": 6, "base": 12, "large": 16, "giant": 24}[size[1]], (
                card.name
            )


def test_evaluation_is_the_authors() -> None:
    bilinear = {
        name for name, card in all_cards().items() if card.evaluation.interpolation == "bilinear"
    }
    assert bilinear == {
        name
        for name in all_cards()
        if name.startswith(("mocov3", "msn", "vjepa2", "uni_", "phikon"))
    } | {"supervised_resnet50"}


def test_files_of_networks_without_a_name_of_timms_are_read_as_their_cards_say() -> None:
    """Names and shapes as the authors' classes have them, at full size, without their values."""
    cases = "franca_vitb14 franca_vitl14_224 phikon rad_dino phikon_v2 virchow virchow2"
    for card in map(cards.find, cases.split()):
        states = make_states(card)
        found = recognise(Contents(Path("a.pth"), states), branch=card.branch, num_heads=card.heads)
        require_claims(card, found, Path("a.pth"))
        arch = read_arch(found.shape)
        assert arch is not None
        assert found.layout == card.layout, card.name
        assert (arch.heads, arch.image_size) == (card.heads, card.evaluation.crop), card.name
        prefix = found.shape.cls + found.shape.registers  # type: ignore[attr-defined]
        assert prefix == card.prefix_tokens, card.name


#: from timm's names to those of DINOv2 and ViT in Hugging Face's transformers
HUGGING = (
    (r"(cls_token)", r"embeddings.\1"),
    (r"pos_embed", "embeddings.position_embeddings"),
    (r"patch_embed.proj", "embeddings.patch_embeddings.projection"),
    (r"norm\.", "layernorm."),
    (r"blocks\.(\d+)\.", r"encoder.layer.\1."),
    (r"(.*)attn\.proj", r"\1attention.output.dense"),
    (r"(.*)ls([12])\.gamma", r"\1layer_scale\2.lambda1"),
)
PLAIN = (
    (r"(.*)\.norm1", r"\1.layernorm_before"),
    (r"(.*)\.norm2", r"\1.layernorm_after"),
    (r"(.*)mlp\.fc1", r"\1intermediate.dense"),
    (r"(.*)mlp\.fc2", r"\1output.dense"),
)


def make_states(card: Card) -> dict[str, dict[str, Array]]:
    """The state dicts of a card's file: memory is taken only where values are read."""
    gated, plain = card.name.startswith(("franca", "virchow")), "phikon_" in card.name
    size = re.search(r"_(base|large|huge)_patch(\d+)", card.arch)
    assert size is not None
    dim, blocks = {"base": (768, 12), "large": (1024, 2), "huge": (1280, 2)}[size[1]]
    hidden = {("franca", 768): 2048, ("franca", 1024): 2736, ("virchow", 1280): 3416}
    shape = ViTShape(
        ViTArch(card.evaluation.crop, int(size[2]), dim, blocks, int(card.heads or 0)),
        hidden=hidden.get((re.split(r"2?_", card.name)[0], dim), 4 * dim),
        gated=gated,
        layer_scale=not plain,
        registers=int(card.prefix_tokens or 0) - 1,
    )
    state = {}
    for name, sides in shape.list_tensors().items():
        value = Array(np.broadcast_to(np.float32(0), sides), "float32")
        if card.layout == "dino":
            if numbered := re.match(r"blocks\.(\d+)", name):
                chunk = int(numbered[1]) // (blocks // min(4, blocks))
                name = name.replace("blocks", f"blocks.{chunk}")
            name = name.replace("mlp.fc1", "mlp.w12").replace("mlp.fc2", "mlp.w3")
            name = f"backbone.{name}"
        elif card.layout == "huggingface":
            for pattern, into in HUGGING + (PLAIN if plain else ()):
                name = re.sub(f"^{pattern}", into, name)
            if "attn.qkv" in name:
                for i, part in enumerate(("query", "key", "value")):
                    named = name.replace("attn.qkv", f"attention.attention.{part}")
                    state[named] = value[i * dim : (i + 1) * dim]
                continue
        state[name] = value
    if card.layout == "dino":
        for name in ("dino_head.mlp.0.weight", "rasa_head.pos_pred.weight"):
            state[name] = Array(np.zeros((3, 4), np.float32), "float32")
    return {"teacher" if card.layout == "dino" else "": state}


def test_what_timm_fetches_is_in_timm_and_seen_as_it_says() -> None:
    import timm

    there = set(timm.list_pretrained())
    for card in all_cards().values():
        if card.source is None:
            continue
        name = card.source.removeprefix("timm:")
        assert name in there, card.name
        assert card.arch in (f"timm/{name.partition('.')[0]}", name.partition(".")[0]), card.name
        config = timm.get_pretrained_cfg(name)
        seen = (config.input_size[-1], config.interpolation, tuple(config.mean), tuple(config.std))
        e = card.evaluation
        assert seen == (e.crop, e.interpolation, e.mean, e.std), card.name
        if not card.name.startswith(
            "clip"
        ):  # OpenAI resizes to 224; timm's crop of ViT-B/16 is another
            assert e.resize == int(e.crop / config.crop_pct), card.name


def test_names_and_aliases_are_found_once() -> None:
    assert len(set(cards.names())) == len(cards.names())
    assert cards.find("dino_deitsmall16") is cards.find("dino_vits16")
    assert cards.look_up("vit_base_patch16_224") is None
    with pytest.raises(InputError, match=r"did you mean.* mae_vitb16"):
        cards.find("mae_vitb61")


def test_a_card_is_found_by_its_file() -> None:
    mae, deit = cards.find("mae_vitb16"), cards.find("deit_vitb16")
    assert mae.sha256 is not None
    assert mae.size is not None
    assert cards.by_sha256(mae.sha256) == mae
    assert cards.by_size(mae.size) == (mae,)
    assert cards.by_sha256("b5f2ef4d" + "0" * 56) == deit
    assert cards.by_sha256("b5f2ef4e" + "0" * 56) is None


WHOLE = (FOLDER / "mae_vitb16.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("heads: 12", "head: 12", "unknown key head: did you mean heads"),
        ("heads: 12\n", "", "lacks heads; say null"),
        ("heads: 12", "heads: twelve", "heads is 'twelve': expected a whole number"),
        ("heads: 12", "heads: true", "heads is True: expected a whole number"),
        (
            "family: REC",
            "family: reconstruction",
            "family is 'reconstruction': expected one of JE, REC",
        ),
        ("tuned: false", "tuned: true", "tuned is True: expected one of False, fine-tuned, linear"),
        ("tuned: false", "tuned: 0", "tuned is 0: expected one of False"),
        ('arxiv: "2111.06377", ', "", "lacks paper.arxiv"),
        ('arxiv: "2111.06377"', "arxiv: 2111.06377", "paper.arxiv is 2111.06377: expected text"),
        ("resize: 256", "resize: 200", "evaluation.crop is 224"),
        (
            "mean: [0.485, 0.456, 0.406]",
            "mean: [0.485, 0.456]",
            "evaluation.mean is .* a list of 3",
        ),
        ("interpolation: bicubic", "interpolation: cubic", "evaluation.interpolation is 'cubic'"),
        ("sha256: aec5f0b6", "sha256: aec5", "sha256 is 'aec5.*64 digits"),
        ("md5_prefix: 8cad7c", "md5_prefix: 8CAD7C", "md5_prefix is '8CAD7C'"),
        ("url: https", "url: http", "url is 'http:.*https address"),
        ("layout: mae\n", "", "needs a layout"),
        (
            "layout: mae",
            "source: timm:vit_base_patch16_224.mae",
            "give one of url, source and file",
        ),
        ("objective:", "name: other\nobjective:", "says its name"),
        ("heads: 12", "heads: [12", "is not YAML"),
    ],
)
def test_a_slip_in_a_card_is_found(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert WHOLE.count(old) == 1
    file = tmp_path / "mae_vitb16.yaml"
    file.write_text(WHOLE.replace(old, new), encoding="utf-8")
    with pytest.raises(InputError, match=said) as error:
        cards.read(file)
    assert str(file) in str(error.value)


def test_a_hash_that_is_missing_is_explained(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    text = re.sub(r"sha256: \w+\n", "sha256: null\n", WHOLE)
    file.write_text(re.sub(r"sha256_note: >-\n(  .*\n)+", "", text), encoding="utf-8")
    with pytest.raises(InputError, match="say why in sha256_note"):
        cards.read(file)
    file.write_text("- a list", encoding="utf-8")
    with pytest.raises(InputError, match="not a YAML mapping"):
        cards.read(file)


def test_the_table_in_the_docs_is_that_of_the_cards() -> None:
    docs = Path(__file__).parent.parent / "docs" / "zoo.md"
    assert docs.read_text(encoding="utf-8").partition("## The cards\n\n")[2] == markdown(), (
        "python -m sslens.cards prints it"
    )


@pytest.fixture
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SSLENS_HOME", str(tmp_path))
    return tmp_path


def test_the_list_fits_and_filters(at_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["zoo"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines if line} >= set(all_cards())
    assert not any("…" in line for line in lines)  # where no terminal is, nothing is cut
    lines = format_table([*all_cards().values()]).splitlines()
    assert max(map(len, lines)) <= 120
    assert not any(re.search(r"  \w{1,3}…", line) for line in lines)  # more than a letter is left
    assert (
        main(
            ["zoo", "--family", "je", "--arch", "vit_base", "--objective", "DINO", "full", "--json"]
        )
        == 0
    )
    assert [each["name"] for each in json.loads(capsys.readouterr().out)] == [
        "dino_vitb16_full",
        "dino_vitb8_full",
    ]


def test_one_card_is_shown_whole(at_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    card = cards.find("mocov3_vits16")
    assert main(["zoo", "moco_v3_vits16"]) == 0
    out = capsys.readouterr().out
    for part in (
        card.title,
        card.origin,
        card.licence,
        "12 heads",
        "300 epochs",
        "not published",
        str(at_home),
        "base_encoder",
    ):
        assert part in out
    assert all(" ".join(note.split()) in " ".join(out.split()) for note in card.notes)
    file = at_home / "checkpoints" / card.name / str(card.filename)
    file.parent.mkdir(parents=True)
    file.write_bytes(b"0" * 3_000_000)
    assert main(["zoo", card.name, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["path"], told["cached"], told["heads"]) == (str(file), True, 12)
    assert main(["zoo", "vits16", "moco"]) == 0
    assert re.search(r"mocov3_vits16 .* 3 MB .* yes", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--family", "REX"], 'No card has the family "REX": '),
        (["--objective", "dyno"], "did you mean dino"),
        (["--arch", "vit_bass"], 'No card has "vit_bass" in its architecture'),
        (["mae_vitb61"], "did you mean mae_vitb16"),
    ],
)
def test_a_mistake_is_answered(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["zoo", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_no_torch_is_paid_for() -> None:
    code = (
        "import sys; from sslens.cli import main; assert main(['zoo', '--family', 'JE']) == 0;"
        " assert main(['zoo', 'mae_vitb16']) == 0; print([m for m in ('torch', 'timm', 'pandas',"
        " 'numpy') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", all_cards())
def test_of_one_thing_a_card_speaks_in_the_singular(name: str) -> None:
    card = dataclasses.replace(all_cards()[name], heads=1, epochs=1)
    assert not re.search(r"(?<![\d.,/-])1 (?!is\b|as\b|has\b)[a-z]+s\b", show_card(card))
