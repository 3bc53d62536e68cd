"""Two seeds of one thing on either side of a claim: nothing is decided about objectives.

`runs/false_decisions.py trainings` does the same with trained models and more analyses.
"""

from pathlib import Path

import pandas as pd
import pytest

from sslens import zoo
from sslens.models.vit import ViTArch, describe
from sslens.store import Store, write_tensors
from sslens.study.asked import Study
from sslens.study.running import run

#: the probes have tests of their own
pytestmark = pytest.mark.usefixtures("short_probes")

ARCH = "vit_nano_patch8_32"


def write_network(folder: Path, seed: int, family: str, objective: str) -> str:
    """Write random weights that say to be trained by an objective."""
    arch = ViTArch.parse(ARCH)
    about = {"family": family, "objective": objective, "arch": ARCH, "seed": seed, "recipe": "r"}
    header = zoo.make_header(f"{objective}-{seed}", describe(arch), about)
    write_tensors(folder / zoo.ENCODER, arch.build(seed).state_dict(), header)
    return str(folder)


@pytest.mark.slow
def test_two_trainings_a_side_have_an_interval_and_decide_nothing(tmp_path: Path) -> None:
    roles = [("JE", "dino"), ("REC", "mae"), ("JE", "dino"), ("REC", "mae")]
    files = tuple(
        write_network(tmp_path / f"{role}-{seed}", seed, family, role)
        for seed, (family, role) in enumerate(roles)
    )
    analyses = ("cka-blocks", "cka-layer-types", "knn-depth")
    study = Study(files, "scenes:0:64", analyses, controls=False, batch=8)
    run(study, tmp_path / "out", store=Store(tmp_path / "store"), quiet=True)
    verdicts = pd.read_csv(tmp_path / "out" / "verdicts.csv", keep_default_na=False)
    judged = verdicts[verdicts.outcome != "not run"]
    assert len(judged)
    assert not judged.outcome.str.endswith("of these objectives").any()
    # there is an interval over trainings, of two a side
    over = judged[judged.trainings_low != ""]
    assert len(over)
    assert (over.trainings.astype(float) == 2).all()
    decided = judged[judged.outcome.str.endswith("in these models")]
    assert decided.why.str.contains("a side has 2 trainings, and fewer than 4 decide").all()
