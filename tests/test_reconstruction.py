"""Pictures that a masked autoencoder paints."""

from pathlib import Path

import pytest
import torch

from sslens.data.transform import EvalTransform
from sslens.errors import InputError
from sslens.methods.pixels import compute_masked_error, patchify
from sslens.tasks.reconstruction import Reconstructor, build_method, load_reconstructor

TRANSFORM = EvalTransform(resize=32, crop=32)
SMALL = {"decoder_dim": 32, "decoder_heads": 2, "decoder_blocks": 1}


@pytest.mark.parametrize("normalised", [True, False])
def test_what_is_painted_has_the_error_that_is_the_loss(normalised: bool) -> None:
    torch.manual_seed(0)
    method = build_method("mae", "vit_nano_patch8_32", {**SMALL, "normalise_pixels": normalised})
    images = torch.randn(3, 3, 32, 32)
    made = Reconstructor(method, TRANSFORM).reconstruct(images, seed=4)
    mean, deviation = (
        torch.tensor(values)[:, None, None] for values in (TRANSFORM.mean, TRANSFORM.std)
    )
    painted = patchify((made.painted - mean) / deviation, 8)
    target = patchify(images, 8)
    torch.testing.assert_close(painted[~made.masked], target[~made.masked], rtol=0, atol=1e-5)
    assert made.masked.sum(1).tolist() == [12, 12, 12]
    places = made.masked.nonzero()[:, 1].view(3, 12)
    if normalised:
        own = target.mean(-1, keepdim=True), (target.var(-1, keepdim=True) + 1e-6).sqrt()
        painted = (painted - own[0]) / own[1]
    chosen = painted.gather(1, places[:, :, None].expand(-1, -1, 192))
    error = compute_masked_error(images, chosen, places, patch=8, normalise=normalised)
    from sslens.data.streams import mask_noise

    noise = mask_noise(4, 0, slice(0, 3), total=3, patches=16)
    with torch.no_grad():
        loss = method({"view": images, "noise": noise})
    torch.testing.assert_close(error, loss, rtol=1e-4, atol=1e-6)


def test_masked_patches_are_shown_grey() -> None:
    method = build_method("mae", "vit_nano_patch8_32", SMALL)
    made = Reconstructor(method, TRANSFORM).reconstruct(torch.zeros(1, 3, 32, 32))
    shown = patchify(made.shown, 8)
    assert (shown[made.masked] == 0.5).all()
    assert (shown[~made.masked] != 0.5).all()


def test_mistakes(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No decoder comes with mae_vitb16"):
        load_reconstructor("mae_vitb16")
    with pytest.raises(InputError, match="is no folder of a training that holds its state"):
        load_reconstructor(str(tmp_path))
    with pytest.raises(InputError, match="dino paints no masked patches"):
        build_method("dino", "vit_nano_patch8_32", {})
    with pytest.raises(InputError, match='no setting "decoder_dm": did you mean decoder_dim'):
        build_method("mae", "vit_nano_patch8_32", {"decoder_dm": 32})
