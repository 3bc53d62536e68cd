"""Any network as a model: taps that are found or named, pooling by shape, functions of the user's,
and options in a source."""

import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import timm
import torch
import torchvision
from PIL import Image
from torch import Tensor, nn

import sslens
from sslens import zoo
from sslens.arguments.sizes import with_image_size
from sslens.capture.pooling import pool_tap
from sslens.cli import main
from sslens.data.transform import EvalTransform
from sslens.errors import Doubt, InputError
from sslens.models.backbone import Backbone
from sslens.models.networks import read_network
from sslens.models.outputs import count_before, find_part
from sslens.models.sizes import RESAMPLED, at_image_size, resample_as
from sslens.zoo.own_code import describe_code

SMALL = EvalTransform(resize=32, crop=32)


class Block(nn.Module):
    """A residual block of tokens, as many people write it."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(dim)
        self.attn = nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(x), None


class Transformer(nn.Module):
    """Tokens with CLS, with registers, or with neither, and blocks that return tuples."""

    def __init__(self, cls: bool = True, registers: int = 0) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 12, 8, stride=8)
        self.class_embedding = nn.Parameter(torch.randn(1, 1, 12)) if cls else None
        self.extra = nn.Parameter(torch.randn(1, registers, 12))
        self.layers = nn.ModuleList([Block(12) for _ in range(3)])
        self.ln_post = nn.LayerNorm(12)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        cls = [] if self.class_embedding is None else [self.class_embedding]
        before = [part.expand(len(x), -1, -1) for part in (*cls, self.extra)]
        tokens = torch.cat([*before, tokens], dim=1)
        for layer in self.layers:
            tokens, _ = layer(tokens)
        return {"last_hidden_state": self.ln_post(tokens)}


class Maps(nn.Module):
    """Two stages of residual blocks with channels last, and a merging between them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 4, stride=4)
        self.stages = nn.ModuleList(
            [nn.Sequential(Last(6), Last(6)), Merging(), nn.Sequential(Last(6))]
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).permute(0, 2, 3, 1)
        for stage in self.stages:
            x = stage(x)
        return x


class Last(nn.Module):
    """A block of maps with channels last."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, dim)
        self.fc2 = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.fc2(self.fc1(x).relu())


class Merging(nn.Module):
    """Halves a map."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Sequential(nn.Linear(24, 6))

    def forward(self, x: Tensor) -> Tensor:
        parts = [x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)]
        return self.fc(torch.cat(parts, dim=-1))


def plain() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 8, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    )


def told(model: Backbone) -> list[tuple[str, str, float]]:
    return [(tap.name, tap.kind, round(tap.depth, 2)) for tap in model.taps.values()]


# ------------------------------------------------------------------------------------------------
# taps and pooling


def test_blocks_of_a_transformer_are_its_repeated_children() -> None:
    model = sslens.wrap(Transformer(registers=2), transform=SMALL, name="mine", family="JE")
    kinds = ("norm1", "ln_1"), ("fc1", "mlp.0")
    expected = [
        (f"layers.{i}.{name}" if name else f"layers.{i}", kind, round((i + 1) / 3, 2))
        for i in range(3)
        for kind, name in (*kinds, ("block", ""))
    ]
    assert told(model) == [*expected, ("ln_post", "norm", 1.0)]
    assert (model.prefix, model.about.network, model.about.family) == (3, "vit", "JE")
    assert not any(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize(("cls", "registers"), [(True, 0), (True, 4), (False, 0), (False, 2)])
def test_tokens_are_pooled_by_what_stands_before_the_patches(cls: bool, registers: int) -> None:
    network = Transformer(cls, registers).eval()
    if not cls:
        network.cls_token = None
    model = sslens.wrap(network, transform=SMALL, name="mine")
    x = torch.randn(2, 3, 32, 32)
    out = network(x)["last_hidden_state"]
    before = cls + registers
    wanted = {"mean": out.mean(1)} | ({"cls": out[:, 0]} if cls else {})
    wanted |= {"patch": out[:, before:].mean(1)} if before else {}
    tap = model.taps["ln_post"]
    pooled = pool_tap(model, tap, sslens.activations(model, x)["ln_post"])
    assert pooled.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(pooled[name], value)
    assert [model.has_tokens(tap, kind) for kind in ("all", "cls", "patch")] == [True, cls, True]
    assert torch.equal(model(x), out)
    images = sslens.open_images("scenes:0:8")
    read = sslens.grams(model, images, tokens="patch", taps=["ln_post"])
    shown = torch.stack([model.transform(images.image(row)) for row in range(8)])
    patches = network(shown)["last_hidden_state"][:, before:].flatten(1).double()
    patches = patches[[images.ids.index(name) for name in read.ids]]
    centred = patches - patches.mean(0)
    torch.testing.assert_close(
        read.blocks[0, 0].double(), centred @ centred.T, rtol=1e-4, atol=1e-4
    )
    if not cls:
        with pytest.raises(InputError, match="mine has no CLS token"):
            sslens.grams(model, images, tokens="cls")


def test_the_user_may_say_the_number_of_tokens_before_the_patches() -> None:
    model = sslens.wrap(Transformer(False), transform=SMALL, name="mine", prefix=7)
    assert (model.prefix, model.output_of(model.taps["ln_post"]).places) == (7, True)
    with pytest.raises(InputError, match=r"16 tokens at .*, and 16 of them cannot be before"):
        sslens.wrap(Transformer(False), transform=SMALL, prefix=16)


def test_maps_with_channels_last_are_pooled_over_their_places() -> None:
    network = Maps().eval()
    model = sslens.wrap(network, transform=SMALL, name="mine")
    blocks = [(name, depth) for name, kind, depth in told(model) if kind == "block"]
    assert blocks == [("stages.0.0", 0.33), ("stages.0.1", 0.67), ("stages.2.0", 1.0)]
    images = sslens.open_images("scenes:0:8")
    x = torch.stack([model.transform(images.image(row)) for row in range(8)])
    wanted = network(x)
    features = sslens.features(model, images)
    rows = [features.ids.index(name) for name in images.ids]
    torch.testing.assert_close(features.read("stages.2.0", "mean")[rows], wanted.mean((1, 2)))
    from sslens.capture.passes import maps

    made = maps(model, images)
    assert list(made.grids) == ["stages.0.1", "stages.2.0"]  # the last of each size
    torch.testing.assert_close(
        made.read("stages.2.0", made.rows(images.ids)).float(), wanted, rtol=1e-2, atol=1e-2
    )


def test_layers_are_blocks_where_nothing_is_repeated() -> None:
    network = plain().eval()
    model = sslens.wrap(network, transform=SMALL, name="mine")
    assert told(model) == [("2", "block", 0.5), ("5", "block", 1.0)]
    x = torch.randn(2, 3, 32, 32)
    found = sslens.activations(model, x)
    assert torch.equal(found["2"], network[:3](x))
    assert torch.equal(found["5"], network[:6](x))
    vectors = sslens.wrap(network, taps=["8", "2"], transform=SMALL)
    assert told(vectors) == [("2", "block", 0.5), ("8", "block", 1.0)]
    assert list(pool_tap(vectors, vectors.taps["8"], network(x))) == ["flat"]


@pytest.mark.slow
def test_networks_of_torchvision_have_a_tap_a_block() -> None:
    # stages of two blocks each, as their papers count them
    for name, side, kind, count, first in (
        ("resnet18", 64, "BasicBlock", 8, "layer1.0"),
        ("mobilenet_v2", 64, "InvertedResidual", 17, "features.1"),
        ("efficientnet_b0", 64, "MBConv", 16, "features.1.0"),
        ("convnext_tiny", 64, "CNBlock", 18, "features.1.0"),
        ("swin_t", 64, "SwinTransformerBlock", 12, "features.1.0"),
        ("vit_b_32", 224, "EncoderBlock", 12, "encoder.layers.encoder_layer_0"),
        ("vgg11", 64, "ReLU", 8, "features.1"),
        ("inception_v3", 96, "InceptionA", 3, "Mixed_5b"),
    ):
        with torch.device("meta"):
            options = {"init_weights": False} if name == "inception_v3" else {}
            network = torchvision.models.get_model(name, **options).eval()
        taps = read_network(network, side=side).taps
        of_kind = [
            tap.name
            for tap in taps
            if tap.kind == "block" and type(network.get_submodule(tap.name)).__name__ == kind
        ]
        assert (len(of_kind), of_kind[0]) == (count, first), name
        assert [tap.depth for tap in taps] == sorted(tap.depth for tap in taps)


def test_a_part_of_an_output_is_the_last_hidden_state_or_the_largest() -> None:
    small, large = torch.zeros(2, 3), torch.zeros(2, 5, 3)
    assert find_part({"pooled": large, "last_hidden_state": small}, 2) == ("last_hidden_state",)
    assert find_part((small, [large]), 2) == (1, 0)
    assert find_part((large[:1], torch.zeros(2, 3, dtype=torch.int64)), 2) is None
    assert count_before(Transformer(), 17) == 1
    assert count_before(Transformer(), 30) == 5


# ------------------------------------------------------------------------------------------------
# the network of the user stays, and its identity


def test_a_network_is_left_as_it_is_and_shares_its_weights() -> None:
    network = Transformer()
    model = sslens.wrap(network, transform=SMALL)
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert model.network.patches.weight.data_ptr() == network.patches.weight.data_ptr()
    before = model.digest
    with torch.no_grad():
        network.patches.weight.add_(1)
    assert model.digest != before


def test_the_digest_holds_taps_and_how_they_are_read() -> None:
    network = Transformer(False)
    one = sslens.wrap(network, transform=SMALL)
    assert sslens.wrap(network, transform=SMALL).digest == one.digest
    assert sslens.wrap(network, transform=SMALL, prefix=7).digest != one.digest
    assert sslens.wrap(network, taps=["ln_post"], transform=SMALL).digest != one.digest


class Scaled(nn.Module):
    """A network with settings that no module prints."""

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.stem, self.last = nn.Conv2d(3, 4, 8, 8), nn.Conv2d(4, 4, 1)
        self.kept = torch.rand(4000)  # as results of a pass before
        self._scale, self.act = settings.get("scale", 1.0), settings.get("act", torch.relu)
        self.config = SimpleNamespace(steps=[1, settings.get("steps", 2)], network=self)
        self.mean = torch.tensor([0.5, settings.get("mean", 0.5)])

    def forward(self, x: Tensor) -> Tensor:
        x = self.last(self.act(self.stem(x) - self.mean.mean()))
        return x * self._scale * self.config.steps[1]


@pytest.mark.parametrize(
    "other", [{"scale": 2.0}, {"act": torch.tanh}, {"act": Tensor.sin}, {"steps": 3}, {"mean": 0.1}]
)
def test_the_digest_holds_what_modules_do_not_print(other: dict[str, Any]) -> None:
    """Two networks with the same weights and classes would else share what the store keeps."""
    one, two, again = Scaled(), Scaled(**other), Scaled()
    for network in (two, again):
        network.load_state_dict(one.state_dict())
    digests = [sslens.wrap(each, transform=SMALL).digest for each in (one, two, again)]
    assert digests[0] == digests[2] != digests[1]


def test_the_digest_holds_what_modules_of_libraries_do_not_print() -> None:
    first = nn.TransformerEncoderLayer(8, 2, norm_first=True)
    last = nn.TransformerEncoderLayer(8, 2, norm_first=False)
    assert describe_code(first) != describe_code(last)
    assert describe_code(torchvision.models.resnet18()) == b""


def test_the_transform_is_read_from_what_other_libraries_have() -> None:
    preset = torchvision.models.ResNet18_Weights.IMAGENET1K_V1.transforms()
    model = sslens.wrap(torchvision.models.resnet18(), transform=preset)
    assert model.transform.spec()["resize"] == 256
    config = {"input_size": (3, 32, 32), "crop_pct": 1.0, "interpolation": "bilinear"}
    config |= {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    assert sslens.wrap(plain(), transform=config).transform.mean == (0.5, 0.5, 0.5)
    with pytest.warns(Doubt, match="mine does not say how its images are prepared"):
        assert sslens.wrap(plain(), name="mine", image_size=48).transform.crop == 48


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"taps": ["layers.9"]}, 'has no module "layers.9": did you mean layers.'),
        ({"taps": "layers.0"}, "give a list of names as taps"),
        ({"taps": ["layers"]}, "The module layers of .* never runs .*: leave it out of taps"),
        ({"family": "JEE"}, 'no family "JEE": did you mean JE'),
        ({"transform": object()}, "The transform of .* is object, .*EvalTransform"),
        ({"transform": EvalTransform(resize=36, crop=36)}, "36 × 36|No taps|tokens"),
    ],
)
def test_what_cannot_be_read_is_said(options: dict[str, Any], said: str) -> None:
    settings: dict[str, Any] = {"transform": SMALL, **options}
    if settings["transform"] == EvalTransform(resize=36, crop=36):
        network: nn.Module = nn.Sequential(nn.Flatten(), nn.Linear(3072, 5))
        said = (
            "does not run on images of 3 × 36 × 36 .*runs on images of 32 px, so give sslens.wrap"
        )
    else:
        network = Transformer()
    with pytest.raises(InputError, match=said):
        sslens.wrap(network, **settings)


def test_networks_without_taps_are_refused() -> None:
    with pytest.raises(InputError, match=r"No taps are found in Identity.*taps"):
        sslens.wrap(nn.Identity(), transform=SMALL)
    shared = nn.Conv2d(3, 3, 3, padding=1)
    twice = nn.Sequential(shared, nn.Sequential(shared))
    with pytest.raises(InputError, match="runs 2 times in a forward pass"):
        sslens.wrap(twice, taps=["0"], transform=SMALL)


# ------------------------------------------------------------------------------------------------
# MODULE:FUNCTION

FUNCTIONS = (
    "import torch\ndef build(): raise SystemExit\ndef build2(width): ...\ndef other(): ...\n"
)
NETWORKS = "from torch import nn\nclass Net(nn.Module):\n    def __init__(self, width=4): ...\n"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("mynet", "mynet.py is a Python file: did you mean mynet:build?"),
        ("mynet.py", "did you mean mynet:build?"),
        ("mynet.py:build", "did you mean mynet:build?"),
        ("./mynet:bild", "did you mean mynet:build?"),
        ("mynet.py:other", "did you mean mynet:other?"),
        ("nets/own", "did you mean nets.own:Net?"),
        ("nets.own", "did you mean nets.own:Net?"),
        ("empty.py", "give empty:FUNCTION, with a function in it that returns the network"),
        ("broken.py:build", "give broken:FUNCTION"),
        ("my-net.py", "a name that no module can have: rename it"),
    ],
)
def test_python_files_are_named_as_modules_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("nets").mkdir()
    texts = {"mynet": FUNCTIONS, "my-net": FUNCTIONS, "nets/own": NETWORKS}
    for name, text in {**texts, "empty": "", "broken": "def ("}.items():
        Path(f"{name}.py").write_text(text)
    with pytest.raises(InputError) as error:
        zoo.check(source)
    assert said in str(error.value)
    other = tmp_path / "nets"
    monkeypatch.chdir(other)
    with pytest.raises(InputError, match=f"change to {tmp_path}, .* did you mean mynet:build"):
        zoo.check("../mynet.py")


USERS = """
import torch, sslens
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.Sequential(*[nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.ReLU())
                                      for _ in range(2)])
    def forward(self, x):
        return self.blocks(x)

def build():
    return Net()

def prepared():
    return sslens.wrap(Net(), transform=sslens.EvalTransform(resize=16, crop=16), objective="dino")

def broken():
    raise ValueError("no\\nweights")

def nothing():
    return 3

def flat():
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 8), nn.Linear(8, 2))

class Sized(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.layers = nn.Conv2d(3, 8, 8, 8), nn.ModuleList([nn.Linear(8, 8)] * 2)
        self.places = nn.Parameter(torch.zeros(64, 8))

    def forward(self, images):
        tokens = self.stem(images).flatten(2).transpose(1, 2) + self.places
        for layer in self.layers:
            tokens = tokens + layer(tokens)
        return tokens

def sized():
    return Sized()

network = Net()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "usersnets").mkdir()
    (tmp_path / "usersnets" / "models.py").write_text(USERS)
    (tmp_path / "usersnets" / "lame.py").write_text("import no_such_thing\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in [name for name in sys.modules if name.startswith("usersnets")]:
        monkeypatch.delitem(sys.modules, name)
    (tmp_path / "photos").mkdir()
    for i in range(8):
        Image.new("RGB", (32, 32), (30 * i, 255 - 30 * i, 90)).save(tmp_path / f"photos/{i}.png")
    return tmp_path


@pytest.mark.filterwarnings("ignore::sslens.errors.Doubt")
def test_a_function_of_the_users_is_a_model(folder: Path) -> None:
    source = "usersnets.models:prepared"
    zoo.check(source)
    model = zoo.load(source)
    assert (model.source, model.about.objective) == (source, "dino")
    assert told(model)[-1] == ("blocks.1", "block", 1.0)
    assert zoo.load(f"{source}@name=mine,image_size=24").transform.crop == 24
    assert zoo.load(f"{source}@name=mine").name == "mine"
    assert zoo.load("usersnets.models:network").name == "usersnets.models:network"
    with pytest.warns(Doubt, match="build does not say how its images are prepared"):
        assert zoo.load("usersnets.models:build", image_size=24).transform.crop == 24
    with pytest.warns(Doubt, match="^flatnet does not say") as doubts:  # by the name that is given
        assert zoo.load("usersnets.models:build@name=flatnet", image_size=24).name == "flatnet"
    with pytest.warns(Doubt, match="^flatnet does not say") as more:
        sslens.wrap(sys.modules["usersnets.models"].build(), name="flatnet", image_size=16)
    # at the line of the user's that led to it
    assert [one.filename for one in (*doubts, *more)] == [__file__, __file__]


@pytest.mark.filterwarnings("ignore::sslens.errors.Doubt")
@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("usersnets.models:bild", 'usersnets.models has no "bild": did you mean build?'),
        ("usersnets.models:two", 'models has no "two": there are (?!.*torch)(?!.*nn)(?!.*sslens)'),
        ("usersnets.model:build", "There is no module usersnets.model to import"),
        ("usersnets.lame:build", "cannot be imported: ModuleNotFoundError: .*lame.py, line 1"),
        ("usersnets.models:broken", r"fails: ValueError: no weights, at .*models.py, line \d+, in"),
        ("usersnets.models:nothing", "returns int: expected a torch.nn.Module"),
        (
            "userznets.models:build",
            "There is no module userznets to import userznets.models:build .*did you mean usersn",
        ),
        ("zzz:build", "There is no module zzz .* MODULE:FUNCTION is imported from there"),
        ("usersnets.models:flat", r"as usersnets.models:flat@image_size=SIDE, or their transform"),
        (
            "usersnets.models:sized",
            r"at .*models.py, line \d+, in forward. It runs on images of 64 px, so give"
            r" usersnets.models:sized@image_size=64\.",
        ),
    ],
)
def test_errors_of_the_users_function_are_shown_as_theirs(
    folder: Path, source: str, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        zoo.load(source)


@pytest.mark.filterwarnings("ignore::sslens.errors.Doubt")
def test_the_size_that_a_refusal_names_is_for_that_network_alone(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = "compare {} random:vit_nano_patch8_32@name=other --images photos --dry-run".format
    own = "usersnets.models:sized"
    assert main(line(own).split()) == 2
    assert f"{own}@image_size=64" in capsys.readouterr().err
    assert main(line(f"{own}@image_size=64").split()) == 0
    assert "usually" not in capsys.readouterr().err
    assert main([*line(own).split(), "--image-size", "64"]) == 0
    assert (
        "other sees images of 64 px here, and usually of 32 px: at 32 px the numbers are others."
        f" A size behind one model, such as {own}@image_size=64, is for that model alone."
    ) in capsys.readouterr().err
    network = sys.modules["usersnets.models"].Sized()
    with pytest.raises(InputError, match=r"so give sslens\.wrap\(network, image_size=64\)") as told:
        sslens.compare([network, "random:vit_nano_patch8_32"], "photos", quiet=True)
    assert told.value.__suppress_context__
    assert sslens.wrap(network, image_size=64).transform.crop == 64
    network.pretrained_cfg = {"input_size": (3, 32, 32)}  # which is not so
    assert sslens.wrap(network, image_size=64).transform.crop == 64


def test_compare_takes_a_function(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = "compare usersnets.models:prepared --images photos --analyses cka-blocks --dry-run"
    assert main(line.split()) == 0
    assert "Net over 8 images of photos" in capsys.readouterr().err
    assert main(["fingerprint", "usersnets.models:broken", "--images", "photos", "--dry-run"]) == 2
    assert "ValueError: no weights" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------
# options in a source, and other sizes


def test_options_stand_after_an_at(tmp_path: Path) -> None:
    from sslens.zoo import split_options

    assert split_options("a.pth@branch=teacher,heads=12,name=mine,image_size=448") == (
        "a.pth",
        {"branch": "teacher", "num_heads": 12, "name": "mine", "image_size": 448},
    )
    assert split_options("a.pth@branch=student@heads=12") == split_options(
        "a.pth@branch=student,heads=12"
    )
    assert split_options("lr@rate=1/a.pth@heads=2") == ("lr@rate=1/a.pth", {"num_heads": 2})
    assert split_options("hf-hub:timm/x@main") == ("hf-hub:timm/x@main", {})
    odd = tmp_path / "a@branch=b.pth"
    odd.write_bytes(b"")
    assert split_options(str(odd)) == (str(odd), {})  # a path that exists as written
    with pytest.raises(InputError, match="says branhc=x: did you mean branch"):
        split_options("a.pth@branhc=x")
    with pytest.raises(InputError, match="says heads=x: expected a whole number"):
        split_options("a.pth@heads=x")
    assert with_image_size("a.pth@heads=2", 64) == "a.pth@num_heads=2,image_size=64"


def test_a_model_sees_images_of_another_size(monkeypatch: pytest.MonkeyPatch) -> None:
    source = "random:vit_nano_patch8_32:1"
    model = sslens.load(f"{source}@image_size=64,name=mine")
    assert (model.name, model.transform.crop, model.transform.resize) == ("mine", 64, 64)
    assert sslens.load(model.source).digest == model.digest
    assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 65, 64)
    assert zoo.name_random_twins(model.about, [0]) == ["random:vit_nano_patch8_32:0@image_size=64"]
    with pytest.raises(InputError, match="takes images of 64 × 64 px, and was given 32 × 32 px"):
        model(torch.zeros(1, 3, 32, 32))
    with pytest.raises(InputError, match="patches of 8 px, which do not divide 60 px: give 56 or"):
        sslens.load(source, image_size=60)
    with pytest.raises(InputError, match="80000 px cannot be seen: give 1 to 16,384 as image_size"):
        sslens.load(source, image_size=80_000)

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("can't allocate memory")

    monkeypatch.setattr(type(model.network), "set_input_size", fail, raising=True)
    with pytest.raises(InputError, match=r"96 px \(can't allocate memory\): give a smaller image"):
        sslens.load(source, image_size=96)
    monkeypatch.undo()
    cut = sslens.load("random:vit_tiny_patch16_224").transform
    assert at_image_size(sslens.load("random:resnet18"), 112).transform.resize == cut.resize // 2


def test_positions_are_resampled_as_the_method_does_it() -> None:
    table = torch.randn(1, 17, 8, dtype=torch.float64)
    for objective, offset in (("dino", 0.1), ("mae", 0.0)):
        made = resample_as(table, 1 + 6 * 6, RESAMPLED[objective])
        # written as the authors' interpolate_pos_encoding: the factor, and not the sizes
        grid = table[:, 1:].reshape(1, 4, 4, 8).permute(0, 3, 1, 2)
        factor = (6 + offset) / 4
        by_hand = torch.nn.functional.interpolate(
            grid, scale_factor=(factor, factor), mode="bicubic"
        )
        wanted = torch.cat([table[:, :1], by_hand.permute(0, 2, 3, 1).reshape(1, 36, 8)], dim=1)
        torch.testing.assert_close(made, wanted, rtol=0, atol=1e-12)


def test_an_architecture_without_taps_is_refused_before_its_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[bool] = []
    create = timm.create_model

    def watch(name: str, pretrained: bool = False, **options: Any) -> nn.Module:
        asked.append(pretrained)
        return create(name, pretrained=False, **options)

    def find_none(network: nn.Module, calls: Any) -> list[Any]:
        return []

    monkeypatch.setattr(timm, "create_model", watch)
    monkeypatch.setattr(sslens.models.networks, "find_taps", find_none)
    with pytest.raises(InputError, match="No taps are found in a RegNet"):
        zoo.load("timm:regnetx_002")
    assert asked == [False]


# ------------------------------------------------------------------------------------------------
# families of timm


@pytest.mark.parametrize(
    ("name", "blocks", "kinds"),
    [
        ("swin_tiny_patch4_window7_224", 12, {"norm1": 12, "fc1": 12}),
        ("hiera_tiny_224", 12, {"norm1": 12, "qkv": 12, "fc1": 12}),
        ("pvt_v2_b0", 8, {"norm1": 8, "fc1": 8}),
        ("regnetx_002", 13, {}),
        ("vgg11", 8, {}),
    ],
)
def test_families_have_a_tap_a_block(name: str, blocks: int, kinds: dict[str, int]) -> None:
    from sslens.models import networks

    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = timm.create_model(name, num_classes=0).eval()
    taps = networks.read_network(network).taps
    count = {kind: sum(tap.kind == kind for tap in taps) for kind in ("block", *kinds)}
    assert count == {"block": blocks, **kinds}
    depths = [tap.depth for tap in taps if tap.kind == "block"]
    assert depths == pytest.approx([(i + 1) / blocks for i in range(blocks)])


def test_a_network_with_a_module_in_two_places_is_left_as_it_is() -> None:
    from sslens.models.tracing import trace_shapes

    shared = Block(12)
    network = nn.ModuleDict({"one": nn.Linear(12, 12), "two": nn.Sequential(nn.Linear(12, 12))})
    network["three"] = nn.Sequential(nn.Conv2d(3, 4, 4), network["one"])
    network["four"] = shared
    before = {id(value) for value in network.parameters()}
    with pytest.raises(Exception, match="forward"):
        trace_shapes(network, 16)
    assert {id(value) for value in network.parameters()} == before
    coat = timm.create_model("coat_lite_tiny", num_classes=0).eval()
    weights = {id(value) for value in coat.parameters()}
    read_network(coat)
    assert {id(value) for value in coat.parameters()} == weights
