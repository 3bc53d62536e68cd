"""What strangers give: settings that are bombs, folders and headers that lie, names that a terminal
would obey. Each is refused in a sentence, or read for what it is."""

import dataclasses
import json
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import sslens
from sslens import fingerprint, study, tensor_file, zoo
from sslens.cli import main
from sslens.data.coco_file import find_faults, read_coco
from sslens.data.faces.lists import read_list
from sslens.data.sources import require_source
from sslens.data.transform import EvalTransform
from sslens.errors import InputError, make_line
from sslens.fingerprint.header import ENTRY
from sslens.models.unet import UNetShape
from sslens.plan import Plan
from sslens.settings_file import LONGEST, parse_yaml, read_yaml
from sslens.store import write_tensors
from sslens.tasks.diffusion_settings import describe_shape
from sslens.tasks.generator import open_generator
from sslens.zoo import doctor, folders

# ------------------------------------------------------------------------------------------------
# settings


def make_bomb(form: str) -> str:
    """Seven lists, or settings, each of ten times the one before."""
    start = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" if form == "[{}]" else "a0: &a0 {x: 1}\n"
    lines = (f"a{n}: &a{n} {form.format(', '.join([f'*a{n - 1}'] * 10))}\n" for n in range(1, 8))
    return start + "".join(lines)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: &a [*a]", "has a value that contains itself"),
        ("a: &a {b: {c: *a}}", "has a value that contains itself"),
        (make_bomb("[{}]") + "models: *a7", "has over 200,000 values"),
        (make_bomb("{{<<: [{}]}}") + "models: *a7", "has over 200,000 values"),
        ("limit: !!int ''", "has a value that its tag"),
        ("limit: !!int '-'", "has a value that its tag"),
        ("limit: !!bool x", "has a value that its tag"),
        ("limit: " + "1:" * 200 + "1.5", "has a value that its tag"),
        ("models: [a]\nmodels: [b]", 'says "models" twice: say it once'),
        ("seed: 0x" + "f" * 5000, "has a number of 5,002 digits"),
        ("seed: " + "9" * 5000, "has a number of 5,000 digits"),
        ("when: 2001-13-45", "is not YAML: month must be in 1..12"),
        ("seed: !!int x", "is not YAML: invalid literal"),
        ("when: !!timestamp x", "is not YAML"),
        ("a: !!python/object/apply:os.system [x]", "is not YAML: could not determine"),
        ("- " * 1500, "is not YAML"),
        ("[" * 400, "is not YAML"),
        ("? [a]\n: b", "is not YAML"),
        ("\0" * 10, "is not YAML: unacceptable character"),
        ("a" * (LONGEST + 1), "has over 4,194,304 bytes"),
    ],
    ids=lambda text: text[:20],
)
def test_settings_that_are_none_are_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "s.yaml").write_text(text)
    began = time.process_time()
    with pytest.raises(InputError, match=said) as caught:
        read_yaml(tmp_path / "s.yaml")
    with pytest.raises(InputError, match=said):
        study.read(tmp_path / "s.yaml")
    assert str(caught.value).startswith(f"{tmp_path / 's.yaml'} ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert time.process_time() - began < 5


def test_aliases_and_merges_of_usual_size_are_read() -> None:
    text = "base: &b {limit: 64, seed: 1}\nown: {<<: *b, seed: 2}\nlist: [*b, *b]"
    base = {"limit": 64, "seed": 1}
    assert parse_yaml(text, "It") == {"base": base, "own": base | {"seed": 2}, "list": [base] * 2}
    assert parse_yaml("", "It") is None


# ------------------------------------------------------------------------------------------------
# names


def test_a_name_cannot_look_like_a_message_or_move_a_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    weights = sslens.load("random:vit_nano_patch8_32", blocks=1).network.state_dict()
    path = tmp_path / "a\nsslens: all is well\x1b[31m.pth"
    torch.save(weights, path)
    torch.save({"a\nb\x1b[2J": {"w\nsslens: all is well": torch.zeros(2)}}, tmp_path / "b.pth")
    for name in (path, tmp_path / "b.pth", tmp_path / "none\nsslens: all is well\x1b[31m.pth"):
        main(["doctor", str(name)])
        said = "".join(capfd.readouterr())
        assert "\x1b" not in said
        assert not any(line.startswith("sslens: all") for line in said.splitlines())
    assert make_line("a\nb\x1b") == r"a\nb\x1b"


@pytest.mark.parametrize("name", ["x" * 5000, "y/" * 2500, "a\0b", "\ud800.pth"])
def test_a_name_that_can_be_none_of_a_file_is_refused(name: str) -> None:
    for use in (zoo.check, sslens.load, sslens.open_images):
        with pytest.raises(InputError) as caught:
            use(name)
        str(caught.value).encode()


@pytest.mark.parametrize(
    "source",
    ["random:vit_nano_patch8_32:" + "9" * 5000, "random:vit_nano_patch8_32:²", "pixels@heads=²"],
)
def test_a_number_beyond_any_in_a_name_is_refused(source: str) -> None:
    with pytest.raises(InputError, match=r"whole number|There is no"):
        sslens.load(source)


def test_scenes_beyond_any_number_are_refused_before_they_are_made() -> None:
    for source in ("scenes:0:" + "9" * 30, "scenes:0:99999999999", "scenes:" + "9" * 5000):
        with pytest.raises(InputError, match=r"whole numbers|more scenes than 10,000,000"):
            require_source(source)


def test_a_long_message_is_cut() -> None:
    assert len(str(InputError("x" * 10**6, mend="give {less}"))) < 10_000


# ------------------------------------------------------------------------------------------------
# folders of Hugging Face


@pytest.mark.parametrize(
    ("file", "settings"),
    [
        ("config.json", {"hidden_act": ["gelu"]}),
        ("config.json", {"num_attention_heads": 10**30, "hidden_act": {}}),
        ("config.json", {"image_size": [[1], [1]]}),
        ("config.json", {"layer_norm_eps": float("nan")}),
        ("config.json", {"layer_norm_eps": 10**400}),
        ("config.json", {"num_hidden_layers": 1e9}),
        ("config.json", {"pretrained_cfg": {"mean": "xyz", "crop_pct": float("nan")}}),
        ("config.json", "[" * 100_000),
        ("preprocessor_config.json", {"image_std": [0, 0, 0]}),
        ("preprocessor_config.json", {"image_std": [float("nan")] * 3}),
        ("preprocessor_config.json", {"image_mean": [1e308] * 3}),
        ("preprocessor_config.json", {"image_mean": [10**400] * 3}),
        ("preprocessor_config.json", {"image_mean": [True, True, True]}),
        ("open_clip_config.json", {"model_cfg": [1]}),
        ("open_clip_config.json", {"model_cfg": {"vision_cfg": 5}}),
        ("open_clip_config.json", {"preprocess_cfg": ["mean"]}),
    ],
    ids=lambda value: str(value)[:50],
)
def test_settings_beside_weights_that_make_no_sense_are_refused(
    tmp_path: Path, file: str, settings: Any
) -> None:
    if file == "preprocessor_config.json":
        (tmp_path / "config.json").write_text("{}")
    text = settings if isinstance(settings, str) else json.dumps(settings)
    (tmp_path / file).write_text(text)
    with pytest.raises(InputError) as caught:
        folders.read_beside(tmp_path)
    assert file in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_processor_that_would_enlarge_images_to_nothing_that_is_seen_is_not_followed(
    tmp_path: Path,
) -> None:
    (tmp_path / "config.json").write_text("{}")
    for size in (10**6, 10**400):
        told = {"size": {"shortest_edge": size}, "crop_size": 1, "resample": [3]}
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(told))
        assert folders.read_beside(tmp_path).transform == {}


def test_an_index_is_followed_to_the_file_that_it_names_and_never_out(tmp_path: Path) -> None:
    one = {"a": torch.zeros(2), "b": torch.zeros(2)}
    save_file(one, tmp_path / "1.safetensors")
    save_file({name: value + 1 for name, value in one.items()}, tmp_path / "2.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "2.safetensors", "b": "1.safetensors"}}))
    (weights,) = folders.read_checkpoint(index).states.values()
    assert {name: array.values.tolist() for name, array in weights.items()} == {
        "a": [1.0, 1.0],
        "b": [0.0, 0.0],
    }
    (tmp_path / "in").mkdir()
    index = tmp_path / "in" / index.name
    for name in ("../1.safetensors", str(tmp_path / "1.safetensors"), "..", "", "x\0y", "x" * 5000):
        index.write_text(json.dumps({"weight_map": dict.fromkeys(one, name)}))
        with pytest.raises(InputError, match="which is not in its folder"):
            folders.read_checkpoint(index)


# ------------------------------------------------------------------------------------------------
# headers


@pytest.mark.parametrize(
    ("mean", "std"), [((0.5,) * 3, (0.5, 0.0, 0.5)), ((float("nan"),) * 3, (1.0,) * 3)]
)
def test_colours_that_give_no_numbers_are_refused(mean: Any, std: Any) -> None:
    with pytest.raises(InputError, match="are not of images with values from 0 to 1"):
        EvalTransform(mean=mean, std=std)


def test_a_header_that_says_a_name_twice_or_has_a_million_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tensor_file.MOST == 65_536
    monkeypatch.setattr(tensor_file, "MOST", 700)
    one = '"norm.weight":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'
    none = '{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    many = ",".join(f'"{number}":{none}' for number in range(701))
    for text, said in ((f"{{{one},{one}}}", "a name twice"), (f"{{{many}}}", "701 tensors")):
        content = bytes(8) if said == "a name twice" else b""
        (tmp_path / "a.safetensors").write_bytes(
            struct.pack("<Q", len(text)) + text.encode() + content
        )
        assert said in str(doctor.examine(tmp_path / "a.safetensors").refused)


@pytest.mark.parametrize(
    "about", [{"tuned": "x"}, {"tuned": [1]}, {"objective": {"a": 1}}, {"family": ["JE"]}], ids=str
)
def test_what_a_header_knows_of_a_model_must_be_words(
    tmp_path: Path, about: dict[str, Any]
) -> None:
    shape = {"image_size": 32, "patch_size": 8, "dim": 64, "blocks": 1, "heads": 1}
    weights = sslens.load("random:vit_nano_patch8_32", blocks=1).network.state_dict()
    path = tmp_path / "last.safetensors"
    write_tensors(path, weights, zoo.make_header("m", shape, about))
    assert f"its about.{next(iter(about))} is no" in str(doctor.examine(path).refused)


SHAPE = UNetShape(16, 32, 1, (1, 2), attention=(8,), condition=10)
CONDITION = {
    "model": "m",
    "source": "m",
    "digest": "",
    "transform": EvalTransform(resize=16, crop=16).spec(),
    "tap": "norm",
    "pooling": "cls",
    "dim": 10,
}
SAID = {
    "network": json.loads(json.dumps(describe_shape(SHAPE))),
    "process": {"process": "gaussian", "schedule": "linear", "times": 1000},
    "preparation": "none",
    "conditions": [CONDITION],
}


def write_generator(path: Path, said: Any, **more: torch.Tensor) -> Path:
    weights = {f"network.{k}": v for k, v in SHAPE.build(seed=0).state_dict().items()}
    about = {"objective": "rcdm"}
    write_tensors(path, weights | more, zoo.make_header("g", {"generator": said}, about))
    return path


def test_a_generator_of_plain_settings_is_opened(tmp_path: Path) -> None:
    made = open_generator(write_generator(tmp_path / "last.safetensors", SAID))
    assert (made.name, made.models, made.size) == ("g", ("m",), 16)


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("network", {"blocks": 10**6}),
        ("network", {"blocks": 2**70}),
        ("network", {"width": 2**20, "multipliers": [2**20, 2**20]}),
        ("network", {"width": 64}),
        ("network", {"kind": "lost"}),
        ("network", {"kind": ["dit"]}),
        ("network", {"width": 32.5}),
        ("network", {"dropout": float("nan")}),
        ("network", {"multipliers": [1] * 10_000}),
        ("network", {"multipliers": "12"}),
        ("network", {"condition": 11}),
        ("process", {"times": 10**12}),
        ("process", {"times": 1.5}),
        ("process", {"process": "flow"}),
        ("process", {"schedule": [[]]}),
        ("conditions", []),
        ("conditions", [{**CONDITION, "dim": 10**9}]),
        ("conditions", [{**CONDITION, "dim": "10"}]),
        ("conditions", [{**CONDITION, "model": 5}]),
        ("conditions", [{**CONDITION, "transform": {"resize": -1}}]),
        ("conditions", [{**CONDITION, "transform": {"std": [0, 0, 0]}}]),
        ("conditions", 7),
        ("preparation", ["none"]),
        ("preparation", "lost"),
    ],
    ids=str,
)
def test_a_generator_that_cannot_be_is_refused(tmp_path: Path, part: str, change: Any) -> None:
    before: Any = SAID[part]
    said = {**SAID, part: before | change if isinstance(change, dict) else change}
    began = time.process_time()
    with pytest.raises(InputError, match="is damaged: its header describes no generator") as caught:
        open_generator(write_generator(tmp_path / "last.safetensors", said))
    assert len(str(caught.value)) < 1500
    assert time.process_time() - began < 5


def test_a_side_that_no_tensor_tells_is_bounded(tmp_path: Path) -> None:
    """Without attention a UNet of any side has the same tensors, and samples would take 6 TB."""
    shape = dataclasses.replace(SHAPE, attention=())
    weights = {f"network.{k}": v for k, v in shape.build(seed=0).state_dict().items()}
    for side, most in ((1 << 20, "1,048,576 px, over 512"), (16, None)):
        network = json.loads(json.dumps(describe_shape(dataclasses.replace(shape, size=side))))
        header = zoo.make_header("g", {"generator": {**SAID, "network": network}}, {})
        write_tensors(tmp_path / "last.safetensors", weights, header)
        if most is None:
            assert open_generator(tmp_path / "last.safetensors").size == side
            continue
        with pytest.raises(InputError, match=most):
            open_generator(tmp_path / "last.safetensors")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (torch.full((6,), torch.nan), "not finite"),
        (torch.zeros(6, dtype=torch.int64), "torch.int64"),
        (torch.zeros(7), r"has the shape \[7\]"),
    ],
)
def test_a_generator_of_odd_weights_is_refused(
    tmp_path: Path, value: torch.Tensor, said: str
) -> None:
    path = write_generator(tmp_path / "last.safetensors", SAID, **{"network.out.2.bias": value})
    with pytest.raises(InputError, match=said):
        open_generator(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda told: told["grams"]["all"].update(taps=[told["grams"]["all"]["taps"][0]] * 17),
        lambda told: told["transform"].update(resize=10**30, crop=10**30),
        lambda told: told["transform"].update(std=[float("nan")] * 3),
        lambda told: told["transform"].update(mean=[[]] * 3),
        lambda told: told["images"].update(count=10**9),
    ],
)
def test_a_fingerprint_with_a_header_that_lies_is_refused(
    tmp_path: Path, fingerprint_file: Path, change: Callable[[Any], None]
) -> None:
    content = fingerprint_file.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    told = json.loads(header["__metadata__"][ENTRY])
    change(told)
    header["__metadata__"] = {ENTRY: json.dumps(told)}
    text = json.dumps(header).encode()
    (tmp_path / "a.safetensors").write_bytes(
        struct.pack("<Q", len(text)) + text + content[8 + length :]
    )
    with pytest.raises(InputError, match="is a damaged fingerprint"):
        fingerprint.read(tmp_path / "a.safetensors")


@pytest.fixture(scope="module")
def fingerprint_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model, images = sslens.load("random:vit_nano_patch8_32"), sslens.open_images("scenes:0:4")
    plan = Plan.draw(images.ids, 4)
    path = tmp_path_factory.mktemp("print") / "a.safetensors"
    conditions = fingerprint.Conditions.of(model, images, plan)
    grams = sslens.grams(model, images, plan=plan)
    fingerprint.write(path, [grams], conditions, model=model)
    return path


# ------------------------------------------------------------------------------------------------
# lists of objects and faces


def change_coco(part: str, **changed: Any) -> Any:
    content: Any = {
        "images": [{"id": 0, "file_name": "0.png", "height": 32, "width": 32}],
        "categories": [{"id": 1, "name": "a"}],
        "annotations": [{"id": 0, "image_id": 0, "category_id": 1, "bbox": [2, 2, 9, 9]}],
    }
    content[part][0] |= changed
    return content


@pytest.mark.parametrize(
    "content",
    ["[" * 5000, change_coco("images", height=10**30), change_coco("images", width=10**12)],
    ids=lambda content: str(content)[:60],
)
def test_annotations_of_no_image_are_refused(tmp_path: Path, content: Any) -> None:
    text = content if isinstance(content, str) else json.dumps(content)
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError, match=r"is no JSON|lacks an id"):
        read_coco(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"bbox": [10**400] * 4}, "without a box"),
        ({"bbox": [float("nan")] * 4}, "without a box"),
        ({"area": 10**400}, None),
        ({"image_id": [1]}, "of an image that is not listed"),
        ({"segmentation": {"size": [32, 32], "counts": "o" * 10**5}}, "with a damaged mask"),
        ({"segmentation": {"size": [32, 32], "counts": [10**30]}}, "with a damaged mask"),
        ({"segmentation": [[1e308, -1e308] * 4]}, "with a mask outside its image"),
    ],
    ids=str,
)
def test_annotations_that_cannot_be_are_counted_as_faults(
    tmp_path: Path, changed: dict[str, Any], fault: str | None
) -> None:
    (tmp_path / "a.json").write_text(json.dumps(change_coco("annotations", **changed)))
    read = read_coco(tmp_path / "a.json")
    assert find_faults(read.annotations, read.sizes) == [fault]


@pytest.mark.parametrize(
    "text",
    [
        "[" * 5000,
        json.dumps([{"url": "a.png", "bboxes": [[10**400] * 4]}]),
        json.dumps([{"url": "a.png", "bboxes": [[True, 0, 5, 5]]}]),
        "image,x0,y0,x1,y1\n" + "x" * 200_000 + ",1,1,5,5\n",
        "\0" * 100,
    ],
    ids=lambda text: text[:40],
)
def test_lists_of_faces_that_are_none_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "faces").write_text(text)
    with pytest.raises(InputError, match="is no list of faces") as caught:
        read_list(tmp_path / "faces")
    assert len(str(caught.value)) < 9000
