"""The path of a training: by hand, against float64 in NumPy, and while it runs."""

import itertools
import math
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from sslens.errors import InputError
from sslens.models.parts import find_block, find_kind_of_layer, find_kinds_of_layers
from sslens.models.vit import ViTArch
from sslens.paths import path as module
from sslens.paths.path import PathMeter, group_masks
from sslens.paths.tracker import PathCallback, PathTracker
from sslens.table import Table


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSLENS_HOME", str(tmp_path / "home"))


def through(points: Sequence[Sequence[float]]) -> pd.DataFrame:
    """The rows of a path of one parameter through points."""
    first, *others = ({"w": torch.tensor(point)} for point in points)
    trail = PathMeter.begin(first)
    for number, weights in enumerate(others, 1):
        trail.add(weights, str(number))
    return trail.path.table().frame.query("group == 'backbone'").reset_index(drop=True)


def last(table: Table, group: str = "backbone") -> Any:
    frame = table.frame[table.frame.group == group]
    return frame.iloc[-1]


# ------------------------------------------------------------------------------------------------
# by hand


def test_a_straight_line_is_straight() -> None:
    rows = through([[0.0, 0.0], [3.0, 4.0], [4.5, 6.0], [6.0, 8.0]])
    assert rows.straightness.tolist() == pytest.approx([1, 1, 1], abs=1e-15)
    assert rows.move.tolist() == [5.0, 2.5, 2.5]
    assert rows.displacement.tolist() == [5.0, 7.5, 10.0]
    assert rows.cosine.tolist()[1:] == pytest.approx([1, 1], abs=1e-15)
    assert rows.move_of_whole.tolist() == [0.5, 0.25, 0.25]
    assert rows.displacement_of_whole.tolist() == [0.5, 0.75, 1.0]
    assert rows.relative.isna().all()  # from 0


def test_a_closed_polygon_gets_nowhere() -> None:
    rows = through([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [0.0, 0.0], [1.0, 0.0]])
    assert rows.straightness.tolist() == pytest.approx([1, 2**0.5 / 2, 1 / 3, 0], abs=1e-15)
    assert rows.cosine.tolist()[1:] == [0.0, 0.0, 0.0]
    assert rows.move_of_whole.isna().all()  # the whole is 0
    assert rows.relative.tolist() == pytest.approx([1, 2**0.5, 1, 0])


def test_a_right_angle_and_a_way_back() -> None:
    assert through([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]]).straightness[1] == pytest.approx(
        1 / 2**0.5, abs=1e-15
    )
    rows = through([[0.0], [3.0], [2.0]])
    assert (rows.length[1], rows.displacement[1], rows.straightness[1], rows.cosine[1]) == (
        4,
        2,
        0.5,
        -1,
    )
    # what the paper draws: moves relative to the whole, whose sum is 1 / straightness
    assert rows.move_of_whole.tolist() == [1.5, 0.5]


def test_what_does_not_move_is_undefined() -> None:
    rows = through([[1.0, 2.0], [1.0, 2.0], [2.0, 2.0]])
    assert math.isnan(rows.straightness[0])
    assert (rows.straightness[1], rows.relative[0]) == (1, 0)
    assert rows.cosine.isna().all()


def test_the_beginning_alone_is_no_path() -> None:
    with pytest.raises(InputError, match="two or more times"):
        PathMeter.begin({"w": torch.zeros(1)}).path.table()


# ------------------------------------------------------------------------------------------------
# against NumPy


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(ViTArch.parse("vit_nano_patch8_32").build(), nn.Linear(1, 3))


def walk(model: nn.Module, steps: int, seed: int = 0) -> list[dict[str, np.ndarray]]:
    """Move the weights at random and with a drift; the weights before and after every step, in
    float64."""
    generator = torch.Generator().manual_seed(seed)
    trained = [
        (n, p) for n, p in model.named_parameters() if p.requires_grad
    ]  # positions are fixed
    seen = [{n: p.detach().double().numpy().copy() for n, p in trained}]
    for _ in range(steps):
        for _, parameter in trained:
            parameter.data += 0.01 + 0.02 * torch.randn(parameter.shape, generator=generator)
        seen.append({n: p.detach().double().numpy().copy() for n, p in trained})
    return seen


def flat(weights: dict[str, np.ndarray], chosen: Callable[[str], bool]) -> np.ndarray:
    return np.concatenate([value.ravel() for name, value in weights.items() if chosen(name)])


GROUPS: dict[str, Callable[[str], bool]] = {
    "backbone": lambda name: name[0] == "0",
    "attention": lambda name: "attn" in name,
    "attention qkv": lambda name: "attn.qkv" in name,
    "attention projection": lambda name: "attn.proj" in name,
    "mlp": lambda name: "mlp" in name,
    "norm": lambda name: "norm" in name,
    "embedding": lambda name: "embed" in name or "token" in name,
    "head": lambda name: "head" in name,
    "block 2": lambda name: "blocks.2." in name,
}


def named(model: nn.Module) -> nn.Module:
    """A network whose parameters are called 0.… and head.…."""
    return nn.ModuleDict({"0": model[0], "head": model[1]})  # type: ignore[index]


def test_a_followed_run_is_that_of_numpy_in_every_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 1000)
    model = named(network())
    tracker = PathTracker(model)
    seen = walk(model, 0)
    for epoch in range(1, 4):
        for _ in range(4):
            seen += walk(model, 1, seed=len(seen))[1:]
            tracker.step()
        tracker.record(at=f"epoch {epoch}")
    frame = tracker.table().frame
    assert set(frame["at"]) == {"epoch 1", "epoch 2", "epoch 3"}
    assert frame.step.tolist() == sorted([4, 8, 12] * frame.group.nunique())
    assert set(GROUPS) | {f"block {i}" for i in range(4)} == set(frame.group)
    for group, chosen in GROUPS.items():
        steps = [flat(weights, chosen) for weights in seen]
        ends = steps[::4]
        rows = frame[frame.group == group].reset_index(drop=True)
        assert set(rows.parameters) == {len(steps[0])}
        moves = [b - a for a, b in itertools.pairwise(ends)]
        lengths = np.cumsum([np.linalg.norm(move) for move in moves])
        by_step = np.cumsum([np.linalg.norm(b - a) for a, b in itertools.pairwise(steps)])[3::4]
        far = np.array([np.linalg.norm(end - ends[0]) for end in ends[1:]])
        cosines = [
            a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in itertools.pairwise(moves)
        ]
        for column, expected, rtol in (
            ("displacement", far, 1e-12),
            ("length", lengths, 1e-12),
            ("straightness", far / lengths, 1e-12),
            ("step_length", by_step, 2e-6),  # steps are measured in float32
            ("step_straightness", far / by_step, 2e-6),
            ("relative", far / np.linalg.norm(ends[0]), 1e-12),
            ("move_of_whole", np.diff(lengths, prepend=0) / far[-1], 1e-12),
            ("displacement_of_whole", far / far[-1], 1e-12),
        ):
            np.testing.assert_allclose(
                rows[column], expected, rtol=rtol, err_msg=f"{group} {column}"
            )
        np.testing.assert_allclose(rows.cosine[1:], cosines, rtol=0, atol=1e-12)
        assert (rows.step_straightness < rows.straightness).all()


def test_records_alone_are_the_same_without_steps() -> None:
    model = named(network())
    both = [PathTracker(model), PathTracker(model, steps=False)]
    for _ in range(2):
        walk(model, 2)
        for tracker in both:
            tracker.step()
            tracker.record()
    one, other = (tracker.table().frame for tracker in both)
    pd.testing.assert_frame_equal(
        one.drop(columns=["step_length", "step_straightness", "step"]),
        other.drop(columns=["step_length", "step_straightness", "step"]),
    )
    assert other[["step_length", "step_straightness"]].isna().to_numpy().all()


def test_a_run_that_was_stopped_goes_on_bit_for_bit(tmp_path: Path) -> None:
    def run(stop: int | None) -> pd.DataFrame:
        model = named(network())
        tracker = PathTracker(model)
        for epoch in range(4):
            if epoch == stop:
                save_file(tracker.state(), tmp_path / "path.safetensors")
                save_file(
                    {n: p.detach().clone() for n, p in model.named_parameters()},
                    tmp_path / "weights.safetensors",
                )
                model = named(network(seed=5))
                from safetensors.torch import load_file

                model.load_state_dict(load_file(tmp_path / "weights.safetensors"), strict=False)
                tracker = PathTracker(model)
                tracker.load(load_file(tmp_path / "path.safetensors"))
            for step in range(2):
                walk(model, 1, seed=10 * epoch + step)
                tracker.step()
            tracker.record()
        return tracker.table().frame

    whole = run(None)
    for stop in (0, 1, 3):
        pd.testing.assert_frame_equal(run(stop), whole, check_exact=True)


def test_a_state_of_another_run_is_refused() -> None:
    state = PathTracker(nn.Linear(2, 2)).state()
    with pytest.raises(InputError, match="other parameters"):
        PathTracker(nn.Linear(2, 3)).load(state)
    with pytest.raises(InputError, match="measured otherwise"):
        PathTracker(nn.Linear(2, 2), steps=False).load(state)


def test_frozen_parameters_are_no_part_of_a_path_and_wrappers_no_part_of_a_name() -> None:
    inner = nn.Linear(2, 2)
    inner.bias.requires_grad_(False)
    tracker = PathTracker(nn.ModuleDict({"module": inner}))
    inner.weight.data += 1
    tracker.record()
    assert last(tracker.table()).parameters == 4
    assert list(tracker._meter.first) == ["weight"]
    inner.weight.requires_grad_(False)
    with pytest.raises(InputError, match="no parameters"):
        PathTracker(inner)


def test_the_followed_weights_are_left_as_they_are_and_low_precision_is_measured() -> None:
    model = nn.Linear(64, 64).bfloat16()
    before = model.weight.detach().clone()
    tracker = PathTracker(model)
    model.weight.data.mul_(2)
    model.bias.data.zero_()
    tracker.step()
    tracker.record()
    torch.testing.assert_close(model.weight, before * 2, rtol=0, atol=0)
    row = tracker.table().frame.query("group == 'backbone'").iloc[0]
    assert row.step_length == pytest.approx(row.length, rel=1e-3)
    assert row.displacement == row.length


def test_a_step_that_breaks_the_weights_is_named() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    tracker = PathTracker(model)
    for step in range(1, 6):
        model[0].weight.data += 0.1
        if step == 3:
            model[1].bias.data[0] = torch.nan
        if step == 4:
            model[0].weight.data[0] = torch.inf
        tracker.step()
    with pytest.raises(InputError, match=r"1\.bias holds numbers that are not finite since step 3"):
        tracker.record()
    alone = PathTracker(nn.Linear(1, 1), steps=False)
    alone._values[0].data.fill_(torch.nan)
    with pytest.raises(
        InputError, match="weight holds numbers that are not finite in the weights at 1"
    ):
        alone.record()
    with pytest.raises(InputError, match="at the start"):
        PathTracker(nn.ParameterList([torch.tensor([torch.inf])]))


# ------------------------------------------------------------------------------------------------
# kinds and blocks


@pytest.mark.parametrize(
    "name", ["vit_tiny_patch16_224", "resnet18", "convnextv2_atto", "swin_tiny_patch4_window7_224"]
)
def test_every_parameter_of_a_network_is_in_one_kind_and_one_block_at_most(name: str) -> None:
    with torch.device("meta"):
        model = timm.create_model(name)
    parameters = {name: value.ndim for name, value in model.named_parameters()}
    found = group_masks(parameters)
    kinds = [
        each
        for each in found
        if each not in ("backbone", "attention") and not each.startswith("block ")
    ]
    assert (np.sum([found[kind] for kind in kinds], axis=0) == 1).all()
    assert (found["backbone"] | found["head"]).all()
    assert not (found["backbone"] & found["head"]).any()
    blocks = [each for each in found if each.startswith("block ")]
    assert len(blocks) == {"vit": 12, "res": 8, "con": 12, "swi": 12}[name[:3]]
    assert (np.sum([found[block] for block in blocks], axis=0) <= 1).all()
    assert {each.partition(" ")[0] for each in kinds} >= (
        {"attention", "mlp"} if name[0] in "vs" and name[:2] != "sc" else set()
    )


@pytest.mark.parametrize(
    ("name", "kind", "block"),
    [
        ("vit.encoder.layer.3.attention.attention.query.weight", "attention qkv", "3"),
        ("vit.encoder.layer.3.attention.output.dense.weight", "attention projection", "3"),
        ("vit.encoder.layer.3.output.dense.weight", "mlp", "3"),
        ("vit.encoder.layer.3.layernorm_after.bias", "norm", "3"),
        ("vit.embeddings.patch_embeddings.projection.weight", "embedding", None),
        ("classifier.bias", "head", None),
        ("encoder.layers.encoder_layer_11.self_attention.in_proj_weight", "attention qkv", "11"),
        ("visual.transformer.resblocks.4.attn.out_proj.bias", "attention projection", "4"),
        ("blocks.0.5.norm1.weight", "norm", "5"),
        ("blocks.5.attn.q_norm.weight", "norm", "5"),
        ("layer2.0.conv1.weight", "other", "2.0"),
        ("conv1.weight", "embedding", None),
        ("decoder_blocks.1.mlp.fc1.weight", "mlp", None),
    ],
)
def test_other_spellings_are_known(name: str, kind: str, block: str | None) -> None:
    assert (find_kind_of_layer(name), find_block(name)) == (kind, block)


@pytest.mark.parametrize("library", ["timm", "torchvision"])
@pytest.mark.parametrize("arch", ["resnet18", "resnet50", "convnext_tiny", "vit", "swin"])
def test_norms_are_the_layers_that_normalise(library: str, arch: str) -> None:
    """Whatever their names: "layer2.0.downsample.1" of a ResNet, "features.0.1" of a ConvNeXt."""
    names = {"vit": ("vit_tiny_patch16_224", "vit_b_16"), "swin": ("swin_tiny_patch4_window7_224",)}
    here, *there = names.get(arch, (arch,))
    with torch.device("meta"):
        network = (
            timm.create_model(here)
            if library == "timm"
            else torchvision.models.get_model((*there, "swin_t" if arch == "swin" else arch)[0])
        )
    modules = nn.modules
    types = (
        modules.batchnorm._NormBase,
        modules.normalization.LayerNorm,
        modules.normalization.GroupNorm,
    )
    norms = {
        f"{name}.{own}"
        for name, module in network.named_modules()
        if isinstance(module, types)
        for own, _ in module.named_parameters(recurse=False)
    }
    kinds = find_kinds_of_layers({name: one.ndim for name, one in network.named_parameters()})
    assert {name for name, kind in kinds.items() if kind == "norm"} == norms
    masks = group_masks({name: one.ndim for name, one in network.named_parameters()})
    assert masks["norm"].sum() == len(norms) > 20


# ------------------------------------------------------------------------------------------------
# in other loops


def trained(follow: Callable[[str, nn.Module], None]) -> pd.DataFrame:
    """A real training of a small network, in which `follow` is told what happens; the path of its
    weights, kept in full."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
    images, labels = torch.randn(24, 4), torch.randint(0, 2, (24,))
    follow("begin", model)
    steps = [torch.cat([p.detach().double().flatten() for p in model.parameters()])]
    for _ in range(3):
        for x, y in zip(images.split(8), labels.split(8), strict=True):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
            follow("step", model)
            steps.append(torch.cat([p.detach().double().flatten() for p in model.parameters()]))
        follow("epoch", model)
    by_step = torch.stack(steps).diff(dim=0).norm(dim=1).cumsum(0)[2::3]
    far = (torch.stack(steps[3::3]) - steps[0]).norm(dim=1)
    return pd.DataFrame({"displacement": far.numpy(), "step_length": by_step.numpy()})


def hooks(callback: PathCallback, kind: str) -> Callable[[str, nn.Module], None]:
    """Call a callback as the library's trainer does: its arguments, by position and name."""
    trainer = SimpleNamespace(is_global_zero=True)
    state, options, control = (
        SimpleNamespace(is_world_process_zero=True),
        SimpleNamespace(),
        SimpleNamespace(),
    )

    def lightning(what: str, model: nn.Module) -> None:
        if what == "begin":
            callback.on_train_start(trainer, model)
        elif what == "step":
            callback.on_train_batch_end(trainer, model, {"loss": torch.zeros(())}, None, 0)
        else:
            callback.on_train_epoch_end(trainer, model)

    def hugging_face(what: str, model: nn.Module) -> None:
        name = {"begin": "on_train_begin", "step": "on_step_end", "epoch": "on_epoch_end"}[what]
        getattr(callback, name)(
            options, state, control, model=model, optimizer=None, train_dataloader=None
        )

    return {"lightning": lightning, "hugging face": hugging_face}[kind]


@pytest.mark.parametrize("kind", ["lightning", "hugging face"])
def test_a_callback_follows_a_training_and_writes_its_table(tmp_path: Path, kind: str) -> None:
    class Theirs:
        """What a trainer wants its callbacks to be: with every other hook."""

        def setup(self) -> str:
            return "theirs"

    class Ours(PathCallback, Theirs):
        pass

    callback = Ours(tmp_path / "path.csv")
    assert callback.setup() == "theirs"
    expected = trained(hooks(callback, kind))
    frame = pd.read_csv(tmp_path / "path.csv").query("group == 'backbone'")
    assert frame.step.tolist() == [3, 6, 9]
    np.testing.assert_allclose(frame.displacement, expected.displacement, rtol=1e-5)
    np.testing.assert_allclose(frame.step_length, expected.step_length, rtol=1e-5)


def test_a_plain_loop_needs_three_lines() -> None:
    kept: list[PathTracker] = []

    def follow(what: str, model: nn.Module) -> None:
        if what == "begin":
            kept.append(PathTracker(model))
        elif what == "step":
            kept[0].step()
        else:
            kept[0].record()

    expected = trained(follow)
    frame = kept[0].table().frame.query("group == 'backbone'")
    np.testing.assert_allclose(frame.displacement, expected.displacement, rtol=1e-6)
    np.testing.assert_allclose(frame.step_length, expected.step_length, rtol=1e-6)


def test_a_tracker_is_a_hook_of_an_optimizer() -> None:
    model = nn.Linear(1, 1, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    tracker = PathTracker(model)
    optimizer.register_step_post_hook(tracker.step)
    for gradient in (1.0, -3.0):
        model.weight.grad = torch.full((1, 1), gradient)
        optimizer.step()
    tracker.record()
    row = last(tracker.table())
    assert (row.step, row.step_length, row.displacement) == (2, 4.0, 2.0)


def test_processes_that_are_not_the_first_follow_nothing(tmp_path: Path) -> None:
    callback = PathCallback(tmp_path / "path.csv")
    callback.on_train_start(SimpleNamespace(is_global_zero=False), nn.Linear(1, 1))
    callback.on_train_batch_end()
    callback.on_train_epoch_end()
    assert not (tmp_path / "path.csv").exists()


def test_a_path_leaves_no_files_behind(tmp_path: Path) -> None:
    tracker = PathTracker(nn.Linear(4, 4))
    for _ in range(5):
        tracker.record()
    assert [path for path in (tmp_path / "home").rglob("*") if path.is_file()] == []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del tracker
