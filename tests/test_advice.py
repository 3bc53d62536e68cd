"""Advice in refusals works when it is followed: each case makes what is refused, reads the advice
out of the sentence, follows it, and loads. (Objects, branches and heads: `test_extracting.py`,
`test_files.py`; folders and parts: `test_folders_of_weights.py`.)"""

import gzip
import io
import json
import re
import shlex
import sys
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import sslens
from checkpoints import EXAMPLES
from forks import together
from released import LIGHTNING
from sslens import cli, zoo
from sslens.errors import InputError
from sslens.models.backbone import Backbone
from sslens.store import write_tensors
from sslens.study.members import load_members
from sslens.study.related import describe_assumed
from sslens.tasks.generator import open_generator
from sslens.zoo import doctor
from test_strangers import SAID, SHAPE, write_generator
from written import HEADS, VIT, under, vit

STATE = vit("learned").state_dict()


def refuse(source: Path | str, **options: Any) -> str:
    """What loading and the doctor say of a file that both refuse."""
    with pytest.raises(InputError) as caught:
        zoo.load(source, **options)
    if Path(source).exists():
        told: str | None
        try:
            told = doctor.examine(source, **options).refused
        except InputError as error:  # where there is no file to examine
            told = str(error)
        assert told == str(caught.value)
    return str(caught.value)


def require_same(model: Backbone) -> None:
    """The weights are those of `STATE`."""
    own = model.network.state_dict()
    assert own.keys() == STATE.keys()
    assert all(torch.equal(own[name], value) for name, value in STATE.items())


def rename(folder: Path) -> tuple[Path, str, Callable[[str], Path]]:
    path = folder / "a.weights"
    torch.save(STATE, path)
    return path, r"files that can be loaded end in (\.\w+)", lambda end: path.rename(f"{path}{end}")


def gunzip(folder: Path) -> tuple[Path, str, Callable[[str], Path]]:
    path, out = folder / "a.pth", io.BytesIO()
    torch.save(STATE, out)
    path.write_bytes(gzip.compress(out.getvalue()))

    def follow(_: str) -> Path:
        (folder / "b.pth").write_bytes(gzip.decompress(path.read_bytes()))
        return folder / "b.pth"

    return path, "compressed with gzip: (unpack) it first", follow


def untar(folder: Path) -> tuple[Path, str, Callable[[str], Path]]:
    torch.save(STATE, folder / "inner.pth")
    with tarfile.open(folder / "a.tar", "w") as archive:
        archive.add(folder / "inner.pth", "out/inner.pth")

    def follow(_: str) -> Path:
        with tarfile.open(folder / "a.tar") as archive:
            archive.extract("out/inner.pth", folder, filter="data")
        return folder / "out/inner.pth"

    return folder / "a.tar", "a tar archive: (unpack) it first", follow


def join_parts(folder: Path) -> tuple[Path, str, Callable[[str], Path]]:
    """torch.distributed's own writer, and the function that the command runs."""
    from torch.distributed import checkpoint
    from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that one process writes them
        checkpoint.save({"model": STATE}, checkpoint_id=folder / "parts", no_dist=True)

    def follow(command: str) -> Path:
        _, _, module, mode, source, out = command.split()
        assert (module, mode) == ("torch.distributed.checkpoint.format_utils", "dcp_to_torch")
        dcp_to_torch_save(source, folder / out)
        return folder / out

    return folder / "parts", "by `(python -m [^`]+)`, and give whole.pth", follow


def save_again(change: Callable[[dict[str, Tensor]], Any], said: str) -> Any:
    """A file of weights in another form, and the plain one."""

    def make(folder: Path) -> tuple[Path, str, Callable[[str], Path]]:
        torch.save(change(dict(STATE)), folder / "a.pth")

        def follow(_: str) -> Path:
            torch.save(STATE, folder / "b.pth")
            return folder / "b.pth"

        return folder / "a.pth", said, follow

    return make


def make_script(folder: Path) -> tuple[Path, str, Callable[[str], Path]]:
    with zipfile.ZipFile(folder / "a.pth", "w") as archive:  # as torch.jit.save has it
        archive.writestr("a/constants.pkl", b"\x80\x02).")
        archive.writestr("a/data.pkl", b"\x80\x02}.")
    return folder / "a.pth", r"save the network's (state_dict)\(\)", lambda _: save(folder)


def make_arrays(folder: Path) -> tuple[Path, str, Callable[[str], Path]]:
    path = next(iter(EXAMPLES["jax-vit"]().values())).write(folder)
    arrays = dict(np.load(path))
    np.savez(folder / "a.npz", **arrays, more=np.array([{}], object))

    def follow(_: str) -> Path:
        np.savez(folder / "b.npz", **arrays)
        return folder / "b.npz"

    return folder / "a.npz", "Save its (arrays) of numbers alone", follow


def give_last(folder: Path) -> tuple[Path, str, Callable[[str], Path]]:
    write_tensors(folder / "state.safetensors", STATE, {"sslens.state": "{}"})
    shape = {"image_size": 48, "patch_size": 16, "dim": 64, "blocks": 2, "heads": 4}
    about = {"family": "REC", "objective": "mae", "tuned": False, "arch": None}
    write_tensors(folder / "last.safetensors", STATE, zoo.make_header("m", shape, about))
    return (
        folder / "state.safetensors",
        r"load the (last\.safetensors) beside it",
        lambda name: folder / name,
    )


def save(folder: Path) -> Path:
    torch.save(STATE, folder / "b.pth")
    return folder / "b.pth"


CASES: dict[str, Any] = {
    "another suffix": rename,
    "gzip": gunzip,
    "tar": untar,
    "parts of torch.distributed": join_parts,
    "TorchScript": make_script,
    "objects in an archive of NumPy's": make_arrays,
    "the state of a training": give_last,
    "sparse": save_again(
        lambda s: s | {"norm.weight": s["norm.weight"].to_sparse()},
        "save them as plain (floating-point) tensors",
    ),
    "complex": save_again(
        lambda s: s | {"norm.weight": s["norm.weight"].to(torch.complex64)},
        "Save them as (floating-point) numbers",
    ),
    "a tensor alone": save_again(lambda s: s["cls_token"], r"save its (state_dict)\(\)"),
    "an optimiser": save_again(
        lambda s: {"state": {}, "param_groups": []}, "that holds the (weights)"
    ),
    "compiled beside plain": save_again(
        lambda s: s | under("_orig_mod.", s), r"Give (one) of them"
    ),
    "more modules than can be named": save_again(
        lambda s: {"state_dict": s | {f"x{i}.bias": torch.ones(3) for i in range(13)}, **LIGHTNING},
        r"save the network's own (state_dict)\(\)",
    ),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_advice_for_a_file_works(name: str, tmp_path: Path) -> None:
    path, said, follow = CASES[name](tmp_path)
    options = {} if name in ("objects in an archive of NumPy's", "another suffix") else HEADS
    advice = re.search(said, refuse(path, **options))
    assert advice is not None, refuse(path, **options)
    if name == "objects in an archive of NumPy's":
        assert zoo.load(follow(advice[1])).about.layout == "jax-vit"
        return
    followed = follow(advice[1])
    require_same(zoo.load(followed, **({} if "last." in followed.name else HEADS)))


def test_generators_are_opened_as_refusals_say(tmp_path: Path) -> None:
    """A generator is given to what makes samples, or its model is."""
    model = sslens.load("random:vit_nano_patch8_32:1")
    conditions = [SAID["conditions"][0] | {"source": model.source, "digest": model.digest}]
    own = write_generator(tmp_path / "last.safetensors", SAID | {"conditions": conditions})
    said = refuse(own)
    assert "sample from it with sslens rcdm sample, or give the model that conditions it" in said
    generator = open_generator(own)
    assert zoo.load(generator.condition("m").source).digest == model.digest
    torch.save(SHAPE.build(seed=0).state_dict(), tmp_path / "rcdm.pt")
    assert "give it to sslens rcdm sample, with the model" in refuse(tmp_path / "rcdm.pt")
    with pytest.raises(InputError, match=r"load_rcdm takes the side as size"):
        open_generator(tmp_path / "rcdm.pt", model)
    from sslens.zoo.generators import load_rcdm

    assert load_rcdm(tmp_path / "rcdm.pt", size=16).shape.size == 16


def test_sides_of_images_and_numbers_of_heads_that_are_advised_are_taken(tmp_path: Path) -> None:
    nano = "random:vit_nano_patch8_32:1"
    said = refuse(f"{nano}@image_size=60")
    advice = re.search(r"give (\d+) or (\d+) as", said)
    assert advice is not None, said
    for side in advice.groups():
        assert sslens.load(f"{nano}@image_size={side}").transform.crop == int(side)
    odd = vit_of_width(96)
    torch.save(odd, tmp_path / "a.pth")
    source = re.search(r"(\S+@heads=)N\b", refuse(tmp_path / "a.pth"))
    assert source is not None
    model: Any = zoo.load(f"{source[1]}3")
    assert model.network.blocks[0].attn.num_heads == 3


def vit_of_width(width: int) -> dict[str, Tensor]:
    from dataclasses import replace

    return dict(replace(VIT, dim=width, heads=3).build(0).state_dict())


class OneSide(nn.Module):
    """A network of images of 24 px alone."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(3 * 24 * 24, 8), nn.ReLU(), nn.Linear(8, 8)
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)  # type: ignore[no-any-return]


def build() -> nn.Module:
    """What `MODULE:FUNCTION` names below."""
    return OneSide()


class Mix(nn.Module):
    """A block of a network of tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(16)
        self.mlp = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens + self.mlp(self.norm(tokens))  # type: ignore[no-any-return]


class Tokens(nn.Module):
    """Patches and three blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 8, 8)
        self.blocks = nn.Sequential(Mix(), Mix(), Mix())

    def forward(self, images: Tensor) -> Tensor:
        tokens: Tensor = self.patches(images).flatten(2).transpose(1, 2)
        return self.blocks(tokens)  # type: ignore[no-any-return]


def make() -> nn.Module:
    """The same weights each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Tokens()


@pytest.mark.filterwarnings("ignore::sslens.errors.Doubt")
def test_advice_for_a_network_of_ones_own_works(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        InputError, match=r"Give the size of the images .*image_size=SIDE"
    ) as caught:
        sslens.wrap(OneSide(), name="mine")
    assert "or their transform" in str(caught.value)
    assert sslens.wrap(OneSide(), name="mine", image_size=24).transform.crop == 24
    given = sslens.EvalTransform(resize=24, crop=24)
    assert sslens.wrap(OneSide(), name="mine", transform=given).transform == given
    monkeypatch.setitem(sys.modules, "advised", sys.modules[__name__])
    assert "image_size" in refuse("advised:build")
    assert zoo.load("advised:build@image_size=24").transform.crop == 24


def test_names_that_are_offered_are_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(STATE, tmp_path / "checkpoint_0003.pth")
    for wrong in ("mae_vitb61", "dino_vits61", "checkpoint_003.pth", "pixel"):
        with pytest.raises(InputError) as caught:
            zoo.check(wrong)
        offered = re.search(r"did you mean (.+?)\?", str(caught.value))
        assert offered is not None, str(caught.value)
        for name in re.split(r", | or ", offered[1]):
            if not name.endswith("NAME"):
                zoo.check(name)


def test_an_activation_that_no_weight_tells_is_read_from_the_folder(tmp_path: Path) -> None:
    """CLIP's in timm's names: refused alone, and read with the config.json of its folder."""
    state = {key: value for key, value in STATE.items() if key != "patch_embed.proj.bias"}
    state |= {"norm_pre.weight": torch.ones(64), "norm_pre.bias": torch.zeros(64)}
    torch.save(state, tmp_path / "pytorch_model.bin")
    assert "or from its folder with its config.json" in refuse(tmp_path, **HEADS)
    config = {"hidden_act": "quick_gelu", "num_attention_heads": 4}
    (tmp_path / "config.json").write_text(json.dumps(config))
    model: Any = zoo.load(tmp_path)
    assert type(model.network.blocks[0].mlp.act).__name__ == "QuickGELU"


#: every command that takes a model, with what else it needs; {} is the model
LINES = (
    "compare {} --images photos",
    "knn {} --images photos",
    "probe {} --images photos --folds 2",
    "features {} --images photos --out features",
    "fingerprint {} --images photos --out a.fingerprint.safetensors",
    "invariance {} --images photos",
    "detect {}",
    "finetune {} --images photos --val photos --batch-size 4 --out tuned",
    "rcdm train {} --images photos --batch-size 4 --out generator",
    "diff {} file.pth@branch=teacher",
    "study study.yaml",
)


@pytest.mark.filterwarnings("ignore::sslens.errors.Doubt")
def test_what_files_do_not_tell_is_said_in_one_note(tmp_path: Path) -> None:
    """As sslens doctor says of each: how images are prepared, and which of two networks is read."""
    twins = {name: vit("learned", k).state_dict() for k, name in enumerate(("student", "teacher"))}
    files = [tmp_path / name for name in ("plain.pth", "pair.pth")]
    torch.save(twins["student"], files[0])
    torch.save({name: under("backbone.", state) for name, state in twins.items()}, files[1])
    sources = [f"{file}@heads=2" for file in files]
    (note,) = describe_assumed(load_members(sources, controls=True))
    assert note == (
        "No file tells how images are prepared for plain and pair (sides, interpolation, mean and"
        " std): ImageNet's settings are assumed, as sslens doctor shows them. Of pair the teacher"
        " and not its student was taken."
    )
    assert "assumed" in doctor.examine(files[1], num_heads=2).facts["images"]
    # what was asked for is not told
    (note,) = describe_assumed(load_members([f"{sources[1]},branch=student"], controls=False))
    assert "taken" not in note
    assert describe_assumed(load_members(["scenes_mae"], controls=True)) == []
    settings = {"mean": 0.5, "std": 0.5}
    torch.save({"model": twins["student"], "args": settings}, files[0])
    (note,) = describe_assumed(load_members(sources[:1], controls=False))
    assert note == (
        "No file tells how images are prepared for plain (sides and interpolation): ImageNet's"
        " settings are assumed, as sslens doctor shows them. Of plain, args in the file says mean"
        " (0.5, 0.5, 0.5) and std (0.5, 0.5, 0.5), which are not taken: no size of images stands"
        " beside them."
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sslens.errors.Doubt")
def test_options_are_taken_wherever_a_model_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SSLENS_HOME", str(tmp_path / "home"))
    for i in range(12):
        place = tmp_path / "photos" / "ab"[i % 2]
        place.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, 256, (32, 32, 3), np.uint8)
        Image.fromarray(pixels).save(place / f"{i}.png")
    twins = {
        name: vit("learned", seed).state_dict() for seed, name in ((1, "student"), (2, "teacher"))
    }
    state = {name: under("backbone.", weights) for name, weights in twins.items()}
    torch.save(state, "file.pth")
    source = "file.pth@branch=student,heads=2,name=mine"
    study = f"models: ['{source}']\nimages: photos\nanalyses: [knn-depth]\n"
    Path("study.yaml").write_text(study)
    for line in LINES:
        assert cli.main([*shlex.split(line.format(source)), "--dry-run"]) == 0, line
        assert "mine" in "".join(capsys.readouterr()), line
    monkeypatch.setitem(sys.modules, "advised", sys.modules[__name__])
    own = "advised:make@name=mine,image_size=32"
    for line in LINES[:7] + LINES[8:10]:  # all but fine-tuning, which is of known networks
        assert cli.main([*shlex.split(line.format(own)), "--dry-run"]) == 0, line
        assert "mine" in "".join(capsys.readouterr()), line
    assert cli.main([*shlex.split(LINES[7].format(own)), "--dry-run"]) == 2
    assert "which can be read but not tuned here" in capsys.readouterr().err
    assert cli.main(["doctor", source, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["recognised"]["branch"], told["recognised"]["heads"]) == ("student", 2)
    assert cli.main(["path", source, "file.pth@branch=teacher"]) == 2
    advice = re.search(r"as they are called, (\S+), and (--state \w+)", capsys.readouterr().err)
    assert advice is not None
    torch.save(state, "other.pth")
    assert cli.main(["path", advice[1], "other.pth", *advice[2].split()]) == 0
    model: Any = sslens.load(source)
    assert model.name == "mine"
    assert model.network.blocks[0].attn.num_heads == 2
    assert torch.equal(model.network.cls_token, twins["student"]["cls_token"])
    result = sslens.compare(
        source, "photos", analyses="cka-blocks", controls=False, quiet=True, batch=4
    )
    assert not result.cka("mine").empty


@pytest.mark.slow
def test_parts_of_sharded_tensors_are_saved_whole_as_refusals_say(tmp_path: Path) -> None:
    """FSDP's files of one process, of both versions: refused, and read once they are saved as the
    refusal says."""
    together(lambda: save_shards(tmp_path))
    for name in ("first", "second", "flat"):
        said = refuse(tmp_path / f"{name}.pth", **HEADS)
        assert "StateDictType.FULL_STATE_DICT" in said
        assert "full_state_dict=True" in said or name == "flat"
        require_same(zoo.load(tmp_path / f"{name}-whole.pth", **HEADS))


def save_shards(folder: Path) -> None:
    """Save a network in one of two processes: its part, and whole."""
    import torch.distributed as dist
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FullyShardedDataParallel, StateDictType, fully_shard

    warnings.simplefilter("ignore")
    dist.init_process_group("gloo")
    files = {}
    network = FullyShardedDataParallel(
        vit("learned").requires_grad_(True), device_id=torch.device("cpu")
    )
    with FullyShardedDataParallel.state_dict_type(network, StateDictType.LOCAL_STATE_DICT):
        files["first"] = network.state_dict()
        files["flat"] = {key: value.local_tensor() for key, value in files["first"].items()}
    with FullyShardedDataParallel.state_dict_type(network, StateDictType.FULL_STATE_DICT):
        files["first-whole"] = files["flat-whole"] = network.state_dict()
    other = vit("learned").requires_grad_(True)
    fully_shard(other, mesh=init_device_mesh("cpu", (2,)))
    files["second"] = other.state_dict()
    whole = StateDictOptions(full_state_dict=True, cpu_offload=True)
    files["second-whole"] = get_model_state_dict(other, options=whole)
    if dist.get_rank() == 0:
        for name, state in files.items():
            torch.save(state, folder / f"{name}.pth")
    dist.destroy_process_group()
