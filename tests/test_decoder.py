"""The deterministic decoder: against scikit-learn's ridge, by hand, and by depth."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from given import Given, compute, draw, make_models, write
from sslens.analyses import decoder_depth
from sslens.capture import Features, Maps
from sslens.comparisons.inputs import FeatureSets, MapSets
from sslens.comparisons.pool import Pool, ShownImages
from sslens.data.images import from_arrays
from sslens.data.transform import EvalTransform
from sslens.errors import InputError
from sslens.figure import Lines, Sheet
from sslens.models.taps import Tap
from sslens.probes import decoder
from sslens.probes.decoder import LAMBDAS, fit_decoder, measure_psnr
from sslens.store import Store
from sslens.study import Study, run

RNG = np.random.default_rng(0)


def test_the_decoder_is_the_ridge_regression_on_its_inputs() -> None:
    from sklearn.linear_model import Ridge

    x, y = (torch.from_numpy(RNG.normal(size=(60, dim))).float() for dim in (4, 3))
    found = fit_decoder(x[:40], y[:40], x[40:], y[40:], hidden=7, seed=3)
    z = (x - x[:40].mean(0)) / x[:40].std(0, correction=0)
    inputs = torch.cat([z, torch.relu(z @ found.hidden[:-1] + found.hidden[-1])], 1).numpy()
    errors = []
    for penalty in LAMBDAS:
        oracle = Ridge(alpha=40 * penalty).fit(inputs[:40].astype(float), y[:40].numpy())
        errors.append(np.square(oracle.predict(inputs[40:]) - y[40:].numpy()).mean())
        if penalty == found.penalty:
            expected = oracle.predict(inputs)
    assert LAMBDAS[int(np.argmin(errors))] == found.penalty
    assert found.inside == (0 < int(np.argmin(errors)) < len(LAMBDAS) - 1)
    np.testing.assert_allclose(found.decode(x).numpy(), expected, atol=2e-4)


def test_a_constant_feature_says_nothing_and_what_is_broken_is_refused() -> None:
    x = torch.cat([torch.linspace(-1, 1, 20)[:, None], torch.full((20, 1), 7.0)], 1)
    found = fit_decoder(x[::2], x[::2, :1], x[1::2], x[1::2, :1], hidden=4)
    assert torch.isfinite(found.decode(x)).all()
    with pytest.raises(InputError, match="two rows or more"):
        fit_decoder(x[:1], x[:1], x[:1], x[:1])
    with pytest.raises(InputError, match="not finite"):
        fit_decoder(x / 0, x, x, x)


def test_psnr_is_cut_off_and_by_picture() -> None:
    pictures = torch.zeros(3, 2, 2, 3)
    decoded = torch.stack([torch.full((2, 2, 3), level) for level in (0.1, -5.0, 2.0)])
    np.testing.assert_allclose(measure_psnr(decoded, pictures), [20.0, 100.0, 0.0], atol=1e-4)


def test_cells_are_joined_as_they_were_cut() -> None:
    pictures = torch.rand(3, 6, 6, 3)
    cells = decoder_depth._cut(pictures, 2)
    assert cells.shape == (12, 27)
    assert (cells[1].reshape(3, 3, 3) == pictures[0, :3, 3:]).all()  # upper right
    assert (decoder_depth._join(cells, 3, 2, 6) == pictures).all()


@pytest.fixture(scope="module")
def given() -> Given:
    """A model that holds the grey of each quarter in its first block, and in its last nothing."""
    levels = RNG.integers(0, 255, (60, 2, 2), dtype=np.uint8)
    pixels = levels.repeat(16, 1).repeat(16, 2)[..., None].repeat(3, 3)
    images = from_arrays(pixels, ids=[f"i{row}" for row in range(60)])
    known = torch.from_numpy(levels / 255.0)[..., None].float()
    noise = torch.from_numpy(RNG.normal(size=(60, 2, 2, 1))).float()
    columns, maps = {}, {}
    for name in ("mae", "random #0"):
        taps = {"blocks.0": known if name == "mae" else noise, "blocks.1": noise}
        taps = {tap: torch.cat([each, noise], 3) for tap, each in taps.items()}
        cls = {(tap, "cls"): each.flatten(1) for tap, each in taps.items()}
        kinds = [Tap(tap, "block", depth) for tap, depth in zip(taps, (0.5, 1.0), strict=True)]
        columns[name] = Features.of(cls, ids=images.ids, taps=kinds, model=name)
        maps[name] = Maps.of(taps, side=32, ids=images.ids, taps=kinds, model=name)
    pool = Pool(ShownImages(images, EvalTransform(32, 32), {}), None, {})
    models = make_models(("mae",), ("random #0",), {name: {} for name in columns})
    return Given(models, {"features": FeatureSets(columns), "maps": MapSets(maps), "pool": pool})


def test_what_a_block_holds_is_decoded_from_it_and_from_no_other(given: Given) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoder, "HIDDEN", 32)
        results = compute("decoder-depth", given)
    assert set(results["decoded"].hidden) == {32}
    rows = results["decoded"].set_index(["model", "reading", "tap"]).sort_index()
    for reading in ("CLS token", "patch tokens"):
        first, last = (rows.loc[("mae", reading, f"blocks.{place}")] for place in (0, 1))
        assert first.psnr > last.psnr + 10
        assert first.over_random_low > 10
        assert abs(last.psnr - last.nothing) < 2
    assert set(rows.trained + rows.images) == {24 + 30}
    shown = draw("decoder-depth", results).shown()
    sheets = [panel for panel in shown if isinstance(panel, Sheet)]
    (sheet,) = [panel for panel in sheets if panel.title == "mae, patch tokens"]
    apart = np.abs(sheet.pixels.astype(int) - sheet.pixels[:, :1]).mean((0, 2, 3, 4))
    assert apart[0] == 0
    assert apart[1] < 12 < 30 < apart[2]
    lines = [panel for panel in shown if isinstance(panel, Lines)]
    assert [panel.title for panel in lines] == ["pooled features", "patch tokens"]
    (said,) = [text for text in write("decoder-depth", results) if "patch tokens" in text]
    assert "at blocks.1, " in said
    assert "at blocks.0, at the end" in said


@pytest.mark.slow
def test_scenes_are_decoded_in_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder, "HIDDEN", 32)
    asked = Study(
        ("random:vit_nano_patch8_32:1",), "scenes:0:24", ("decoder-depth",), bank="scenes:1:40",
        device="cpu", batch=8,
    )  # fmt: skip
    assert run(asked, tmp_path / "out", store=Store(tmp_path / "store"), quiet=True) is not None
    frame = pd.read_csv(tmp_path / "out" / "tables" / "decoder-depth" / "decoded.csv")
    pixels = frame[(frame.model == "pixels") & (frame.reading == "patch tokens")]
    assert (pixels.psnr > frame[frame.model != "pixels"].psnr.max()).all()
    assert set(frame.side) == {32}
