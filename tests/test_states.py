"""The states of an encoder while it is trained: CKA with the last one; runs that are stopped."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import sslens
from forks import together
from sslens.capture import GramReducer, collect
from sslens.errors import InputError, Interrupted
from sslens.measures.cka import hsic1
from sslens.own_files import OwnFiles
from sslens.plan import Plan
from sslens.probes.effective_rank import measure_effective_rank
from sslens.training.states import TABLE, compare_with_last, list_states, read_state
from sslens.training.watch import HeldOut, Watch
from test_signs import HELD, IMAGES, Interrupting, fit, labelled, lines
from tuning import fit as tune

WATCH = Watch(every=0.5, held=HELD, states=True)  # 4 steps an epoch, 6 epochs


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run that was stopped after step 10 of 24 and went on, and the encoder of step 10."""
    out = tmp_path_factory.mktemp("stopped")
    images = dataclasses.replace(IMAGES, source=Interrupting(16 * 10 - 1), rows=None)
    with pytest.raises(Interrupted, match="after step 10 of 24"):
        fit(out / "run", "mae", WATCH, images=images)
    shutil.copyfile(out / "run/last.safetensors", out / "tenth.safetensors")
    later = out / "run/states/000000023.safetensors"  # as a killed run leaves it
    shutil.copyfile(list_states(out / "run")[0], OwnFiles(out / "run").before(later))
    fit(out / "run", "mae", WATCH, resume=True)
    return out / "run", out / "tenth.safetensors"


def test_a_run_keeps_its_states_whether_or_not_it_was_stopped(
    tmp_path: Path, stopped: tuple[Path, Path]
) -> None:
    fit(tmp_path / "whole", "mae", WATCH)
    fit(tmp_path / "plain", "mae", None)
    whole, parts = tmp_path / "whole", stopped[0]
    assert [int(path.stem) for path in list_states(whole)] == list(range(2, 25, 2))
    assert (whole / TABLE).read_bytes() == (parts / TABLE).read_bytes()
    for one, other in zip(list_states(whole), list_states(parts), strict=True):
        assert one.read_bytes() == other.read_bytes()
    weights = (tmp_path / run / "last.safetensors" for run in ("whole", "plain"))
    first, second = (sslens.load(path).digest for path in weights)
    assert first == second == sslens.load(parts).digest
    ranks = [line["rank_cls"] for line in lines(parts) if "rank_cls" in line]
    assert ranks == [line["rank_cls"] for line in lines(whole) if "rank_cls" in line]
    assert len(ranks) == 12


def test_cka_with_the_last_state_is_that_of_the_two_encoders(stopped: tuple[Path, Path]) -> None:
    out, tenth = stopped
    sample = HELD.queries.sample(256, 0)
    plan = Plan.draw(sample.ids, size=32)
    tap, grams = "blocks.1", {}
    for name, path in (("tenth", tenth), ("last", out / "last.safetensors")):
        encoder = sslens.load(path)
        for tokens in ("all", "cls"):
            made = collect(encoder, sample, [GramReducer(tokens)], plan=plan, taps=[tap])
            grams[name, tokens] = made[0].blocks[0]
    table = pd.read_csv(out / TABLE)
    rows = table[(table.step == 10) & (table.tap == tap)].set_index("tokens")
    assert set(rows.index) == {"all", "cls"}
    for tokens in ("all", "cls"):
        pairs = [("tenth", "last"), ("tenth", "tenth"), ("last", "last")]
        # minibatches are of one size here, so that sums of HSIC_1 need no sizes
        assert len(set(plan.sizes)) == 1
        both, one, other = (
            float(
                sum(hsic1(*batch) for batch in zip(grams[a, tokens], grams[b, tokens], strict=True))
            )
            for a, b in pairs
        )
        np.testing.assert_allclose(rows.cka[tokens], both / (one * other) ** 0.5, atol=1e-4)
        assert rows.cka[tokens] < 0.999
    assert (rows.epoch == 2.5).all()
    last = table[table.step == 24]
    np.testing.assert_allclose(last.cka, 1.0, atol=1e-6)
    assert set(table.kind) == {"block", "norm"}


def test_states_of_other_images_are_refused(tmp_path: Path) -> None:
    images = dataclasses.replace(IMAGES, source=Interrupting(16 * 5 - 1), rows=None)
    with pytest.raises(Interrupted):
        fit(tmp_path, "mae", WATCH, images=images)
    other = dataclasses.replace(WATCH, held=HeldOut.split(labelled(60, ["a", "b"])))
    with pytest.raises(InputError, match="were kept on other images than now"):
        fit(tmp_path, "mae", other, resume=True)
    fit(tmp_path, "mae", dataclasses.replace(other, states=False), resume=True)


def test_processes_share_the_states(tmp_path: Path) -> None:
    watch = Watch(every=1, states=True)
    fit(tmp_path / "alone", "mae", watch, epochs=2)

    def shared() -> None:
        fit(tmp_path / "shared", "mae", watch, epochs=2)

    together(shared)
    alone, both = (pd.read_csv(tmp_path / run / TABLE) for run in ("alone", "shared"))
    np.testing.assert_allclose(both.cka, alone.cka, atol=1e-3)
    assert len(alone) == 2 * 2 * 3  # two states; two blocks and the norm, all tokens and CLS


def test_a_fine_tuning_keeps_its_states(tmp_path: Path) -> None:
    out = tmp_path / "tuned"
    tune(out, watch=Watch(every=1, states=True))
    table = pd.read_csv(out / TABLE)
    assert table.step.nunique() == len(list_states(out)) >= 2
    assert read_state(list_states(out)[0]).keys() == {"all", "cls"}


def test_a_run_without_states_has_nothing_to_compare(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no states"):
        compare_with_last(tmp_path, 1)


def test_the_effective_rank_of_known_features() -> None:
    generator = torch.Generator().manual_seed(0)
    turned = torch.linalg.qr(torch.randn(40, 5, generator=generator, dtype=torch.float64)).Q
    x = turned @ torch.diag(torch.tensor([4.0, 2, 1, 1, 0], dtype=torch.float64))
    share = np.array([4, 2, 1, 1]) / 8
    expected = np.exp(-(share * np.log(share)).sum())
    np.testing.assert_allclose(measure_effective_rank(x.float()), expected, rtol=1e-5)
    assert measure_effective_rank(torch.zeros(3, 2)) == 0.0
    np.testing.assert_allclose(measure_effective_rank(torch.eye(7)), 7.0)
