"""Wrong arguments to public functions end in an InputError that says what is wrong, never in an
error of Python's from somewhere else."""

import json
import subprocess
import sys

import pytest

#: the functions and methods of `sslens.__all__` and of docs/*.md, each with arguments of a wrong
#: type, unknown names, and values that do not fit each other
CALLS = {
    "grams of a name": "sslens.grams('mae', images)",
    "grams over a folder's name": "sslens.grams(model, 'photos')",
    "unknown tokens": "sslens.grams(model, images, tokens='clss')",
    "tokens of no type": "sslens.grams(model, images, tokens=None)",
    "an unknown tap": "sslens.grams(model, images, taps=['blocks.99'])",
    "an unknown precision": "sslens.grams(model, images, precision='float23')",
    "an unknown device": "sslens.grams(model, images, device='cud')",
    "a number as plan": "sslens.grams(model, images, plan=32)",
    "another plan": "sslens.grams(model, images, plan=Plan.draw(['a', 'b', 'c', 'd']))",
    "features of a name": "sslens.features('mae', images)",
    "features over a name": "sslens.features(model, 'photos')",
    "features at an unknown tap": "sslens.features(model, images, taps=['x'])",
    "features at no tap": "sslens.features(model, images, taps=[])",
    "activations of a name": "sslens.activations('mae', torch.zeros(1, 3, 32, 32))",
    "activations at an unknown tap": "sslens.activations(model, torch.zeros(1, 3, 32, 32), ['x'])",
    "activations of one image": "sslens.activations(model, torch.zeros(3, 32, 32))",
    "activations of an array": "sslens.activations(model, np.zeros((1, 3, 32, 32)))",
    "extract of a name": "sslens.extract('mae', images, folder)",
    "extract over a name": "sslens.extract(model, 'photos', folder)",
    "extract as another type": "sslens.extract(model, images, folder, dtype='float61')",
    "extract another pooling": "sslens.extract(model, images, folder, poolings=['x'])",
    "extract in no batch": "sslens.extract(model, images, folder, batch=0)",
    "extract to nowhere": "sslens.extract(model, images, None)",
    "load a number": "sslens.load(3)",
    "load a state_dict": "sslens.load({'norm.weight': torch.zeros(10_000)})",
    "wrap what takes no images": "sslens.wrap(torch.nn.Identity())",
    "load an unknown name": "sslens.load('nonesuch')",
    "images of a number": "sslens.open_images(3)",
    "images that are not there": "sslens.open_images('nonesuch')",
    "features of a number": "sslens.open_features(3)",
    "features that are not there": "sslens.open_features('nowhere')",
    "CKA of a name": "sslens.minibatch_cka('mae', grams)",
    "CKA of features": "sslens.minibatch_cka(grams, features)",
    "CKA of models": "sslens.minibatch_cka(model, model)",
    "CKA over other images": "sslens.minibatch_cka(grams, other)",
    "a measure over other images": "measure('rsa', grams, other)",
    "a measure of models": "measure('bures', model, model)",
    "an unknown measure": "measure('ckaa', grams, grams)",
    "read an unknown tap": "features.read('x', 'cls')",
    "read an unknown pooling": "features.read('norm', 'x')",
    "features of nothing": "Features.of({})",
    "features of other ids": "Features.of({('a', 'flat'): torch.zeros(2, 3)}, ids=['a'])",
    "Grams of nothing": "Grams.of_features([])",
    "Grams of other ids": "Grams.of_features([torch.zeros(4, 3)], ids=['a'])",
    "Grams of other sizes": "Grams.of_features([torch.zeros(4, 3)], sizes=np.array([3]))",
    "Grams of other images": "Grams.of_features([torch.zeros(4, 3), torch.zeros(5, 3)])",
    "a study of no model": "sslens.Study(models=())",
    "a study of an unknown model": "sslens.Study(models=('nonesuch',))",
    "a study of a number": "sslens.Study(models=3)",
    "a study of one name": "sslens.Study(models='mae_vitb16')",
    "a study of numbers": "sslens.Study(models=(3,))",
    "a study over a number": "sslens.Study(models=('pixels',), images=3)",
    "a study with a text as limit": "sslens.Study(models=('pixels',), images='x', limit='9')",
    "a study with a number as switch": "sslens.Study(models=('pixels',), images='x', controls=1)",
    "a study with no seed": "sslens.Study(models=('pixels',), images='x', seed=None)",
    "a study of one analysis' name": "sslens.Study(models=('pixels',), images='x', analyses='a')",
    "compare a number": "sslens.compare(3, images)",
    "compare nothing": "sslens.compare([], images)",
    "compare over a number": "sslens.compare(model, 3)",
    "compare over nothing": "sslens.compare(model)",
    "compare with an unknown setting": "sslens.compare(model, images, sead=1)",
    "compare with a text as limit": "sslens.compare(model, images, limit='9')",
    "CKA of a number": "sslens.cka(3, model, images)",
    "CKA of Grams and a model": "sslens.cka(grams, model, images)",
    "CKA by an unknown measure": "sslens.cka(grams, grams, measure='ckaa')",
    "k-NN of a number": "sslens.knn(3, images)",
    "k-NN over no images": "sslens.knn(model)",
    "k-NN of no neighbours": "sslens.knn(model, images, k=0)",
    "a probe of a number": "sslens.probe(3, images, folds=2)",
    "a probe without a test": "sslens.probe(model, images)",
    "a probe with an unknown setting": "sslens.probe(model, images, folds=2, lairs=1)",
    "a fingerprint of a number": "sslens.fingerprint(3, images)",
    "a fingerprint over a number": "sslens.fingerprint(model, 3)",
    "a path of a number": "sslens.path(3)",
    "a path of one file": "sslens.path([folder / 'none.pth'])",
    "a plan of one image": "Plan.draw(['a'])",
    "read a number": "fingerprint.read(3)",
    "read what is not there": "fingerprint.read(folder / 'none')",
    "describe what is not there": "fingerprint.describe(folder / 'none')",
    "write other Grams": "fingerprint.write(folder / 'a', [other], conditions, model=model)",
    "write features": "fingerprint.write(folder / 'a', [features], conditions, model=model)",
    "write Grams of arrays": "fingerprint.write(folder / 'a', [arrays], conditions, model=model)",
    "write of a name": "fingerprint.write(folder / 'a', [grams], conditions, model='mae')",
    "write no conditions": "fingerprint.write(folder / 'a', [grams], None, model=model)",
    "write another type": (
        "fingerprint.write(folder / 'a', [grams], conditions, model=model, dtype='float61')"
    ),
    "write to nowhere": "fingerprint.write(None, [grams], conditions, model=model)",
    "conditions of a name": "fingerprint.Conditions.of('mae', images, plan)",
    "compare a name": "fingerprint.require_comparable(conditions, 'mae')",
    "sweep a name": "list(sweep('mae'))",
    "sweep Grams": "list(sweep(grams))",
    "sweep without labels": "list(sweep(Features.of({('x', 'flat'): torch.eye(6)})))",
    "sweep too many": "list(sweep(features, ks=[100]))",
    "sweep none": "list(sweep(features, ks=[]))",
    "sweep at no temperature": "list(sweep(features, ks=[1], temperatures=[0.0]))",
    "k-NN of other widths": "knn(torch.eye(3), torch.eye(5), torch.arange(5), k=1)",
    "k-NN of other labels": "knn(torch.eye(3), torch.eye(3), torch.arange(2), k=1)",
}
PROGRAM = """
import json, sys, tempfile
from pathlib import Path
import numpy as np
import torch
import sslens
from sslens import fingerprint
from sslens.capture import Features, Grams
from sslens.measures import measure
from sslens.plan import Plan
from sslens.probes.knn import knn, sweep

folder = Path(tempfile.mkdtemp())
model, images = sslens.load("random:vit_nano_patch8_32"), sslens.open_images("scenes:0:8")
plan = Plan.draw(images.ids, 4)
grams, features = sslens.grams(model, images, plan=plan), sslens.features(model, images)
other = sslens.grams(model, sslens.open_images("scenes:1:8"))
arrays = Grams.of_features([torch.eye(8)], ids=plan.ids)
conditions = fingerprint.Conditions.of(model, images, plan)
ends = {}
for name, call in json.load(sys.stdin).items():
    try:
        eval(call)
        ends[name] = "nothing"
    except Exception as error:
        ends[name] = type(error).__name__ if len(str(error)) < 1000 else "a long error"
print(json.dumps(ends))
"""


@pytest.fixture(scope="module")
def ends() -> dict[str, str]:
    """The error of each call in a process of its own: here the types of arguments are checked."""
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=json.dumps(CALLS),
        capture_output=True,
        text=True,
        check=True,
    )
    values: dict[str, str] = json.loads(ran.stdout)
    return values


@pytest.mark.parametrize("name", CALLS)
def test_wrong_arguments_end_in_an_input_error(name: str, ends: dict[str, str]) -> None:
    assert ends[name] == "InputError"


def test_every_public_function_is_called() -> None:
    import sslens

    for name in set(sslens.__all__) - {"EvalTransform", "ImageSet", "InputError", "Result"}:
        assert any(f"sslens.{name}(" in call for call in CALLS.values()), name
