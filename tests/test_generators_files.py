"""Files of RCDM's authors: loaded strictly, and refused where they are something else."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

import sslens
from sslens.diffusion.gaussian import Gaussian
from sslens.errors import InputError
from sslens.models.unet import UNetShape
from sslens.tasks.generator import NoiseSource, open_generator, to_pixels
from sslens.zoo.generators import load_rcdm

SHAPES = [
    UNetShape(16, 32, 1, (1, 2), attention=(8,), condition=10),
    UNetShape(32, 32, 2, (1, 1, 2), attention=(32, 8), heads=2, condition=7),
    UNetShape(8, 32, 3, (2,), attention=(), head_width=16, learned_variance=False),
]
State = dict[str, Tensor]


def make_state(shape: UNetShape, seed: int = 0) -> State:
    """A state dict as the authors save it: flat, plain tensors."""
    state = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(value.shape, generator=state) / 20
        for name, value in shape.build().state_dict().items()
    }


def save(state: State, path: Path) -> Path:
    torch.save(state, path)
    return path


@pytest.mark.parametrize("shape", SHAPES)
def test_the_shape_is_read_from_names_and_shapes(shape: UNetShape, tmp_path: Path) -> None:
    state = make_state(shape)
    file = save(state, tmp_path / "rcdm_ema_dino_trunk.pt")
    network = load_rcdm(file, size=shape.size, heads=shape.heads, head_width=shape.head_width)
    assert network.shape == shape
    assert not network.training
    own = network.state_dict()
    assert own.keys() == state.keys()
    assert all(torch.equal(own[name], value) for name, value in state.items())


def test_the_official_form_is_recognised(tmp_path: Path) -> None:
    """Five levels of 1, 1, 2, 3 and 4 widths are 128 px; the attention is where the README says."""
    shape = UNetShape(128, 32, 2, (1, 1, 2, 3, 4), attention=(32, 16, 8), condition=12)
    network = load_rcdm(save(make_state(shape), tmp_path / "rcdm_ema_vicreg_head.pt"))
    assert network.shape == shape
    assert len(network.state_dict()) == 494


def test_a_file_with_its_model_samples(tmp_path: Path) -> None:
    """The samples are those of the network itself, by ancestral steps of the linear schedule."""
    shape = UNetShape(32, 32, 1, (1, 2, 2, 2), attention=(16,), condition=64)
    state = make_state(shape)
    file = save(state, tmp_path / "rcdm_ema_dino_trunk.pt")
    model = sslens.load("random:vit_nano_patch8_32")
    vectors = torch.randn(2, 64)
    images = open_generator(file, model).sample(vectors, model.name, draws=2, seed=3, steps="2")
    network = shape.build()
    network.load_state_dict(state)
    noise = NoiseSource(3, [(0, 0), (0, 1), (1, 0), (1, 1)], 32)
    chosen = vectors.repeat_interleave(2, 0)
    expected = Gaussian().sample(network.eval(), noise.draw(), chosen, "2", noise.draw)
    assert images.shape == (2, 2, 32, 32, 3)
    assert (images.reshape(4, 32, 32, 3) == to_pixels(expected)).all()
    with pytest.raises(InputError, match="does not say which model conditions it"):
        open_generator(file)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s | {"label_emb.weight": torch.zeros(5, 128)}, "conditioned on classes"),
        (lambda s: s | {"input_blocks.2.0.op.weight": torch.zeros(1)}, "halved by a convolution"),
        (lambda s: s | {"more": torch.zeros(1)}, "in 1 of 146 tensors; the first is more"),
        (
            lambda s: {k: v for k, v in s.items() if k != "middle_block.1.qkv.bias"},
            "the first is middle_block.1.qkv.bias: expected .192,., found none",
        ),
        (
            lambda s: s | {"input_blocks.1.0.emb_layers.1.weight": torch.zeros(32, 128)},
            r"expected \(64, 128\), found \(32, 128\)",
        ),
        (
            lambda s: {k: v for k, v in s.items() if not k.startswith("output_blocks.3.")},
            "stages that are missing or left over",
        ),
        (
            lambda s: s | {"out.2.bias": torch.full((6,), torch.nan)},
            "the first out.2.bias",
        ),
        (lambda s: {"fc.weight": s["out.2.weight"]}, "holds no network of RCDM's"),
    ],
)
def test_what_does_not_fit_is_refused(change: object, message: str, tmp_path: Path) -> None:
    assert callable(change)
    file = save(change(make_state(SHAPES[0])), tmp_path / "rcdm.pt")
    with pytest.raises(InputError, match=message):
        load_rcdm(file, size=16)


def test_an_unknown_size_is_asked_for(tmp_path: Path) -> None:
    file = save(make_state(SHAPES[0]), tmp_path / "rcdm.pt")
    with pytest.raises(InputError, match=r"no preset has its levels \(1, 2\): .* as size"):
        load_rcdm(file)


def test_a_generator_is_no_backbone(tmp_path: Path) -> None:
    file = save(make_state(SHAPES[0]), tmp_path / "rcdm_ema_simclr_trunk.pt")
    with pytest.raises(InputError, match=r"is a generator, .* and no backbone"):
        sslens.load(str(file))
