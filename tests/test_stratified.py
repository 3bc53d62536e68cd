"""Samples of labelled images with the classes in proportion, classes that leave the probes, and
what is said of both."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

import sslens
from sslens.capture import Features
from sslens.cli import main
from sslens.comparisons.inputs import FeatureSets, Labels
from sslens.comparisons.probe_split import Split, find_fit
from sslens.data import open_images
from sslens.data.images import ImageSet, from_arrays
from sslens.errors import InputError
from sslens.models.taps import Tap
from sslens.store import Store
from sslens.study import Study, prepare, read
from sslens.study.image_sets import (
    choose_sample,
    describe_alone,
    describe_skipped,
    describe_small_classes,
    explain_no_votes,
    may_have_more,
)
from sslens.study.situation import Situation


def labelled(sizes: list[int]) -> ImageSet:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    names = [f"c{number:03d}" for number in range(len(sizes))]
    ids = [f"{names[label]}/{row}.png" for row, label in enumerate(labels)]
    return from_arrays(np.zeros((len(labels), 1, 1), np.uint8), labels, names, ids, "made")


def sizes_of(images: ImageSet) -> list[int]:
    assert images.labels is not None
    return np.bincount(images.labels).tolist()


def test_classes_are_in_proportion_and_rare_ones_are_there() -> None:
    images = labelled([600, 300, 97, 3])
    drawn = images.stratify(100, seed=0)
    # 60, 30, 9.7 and 0.3, but the last class whole; what that has more comes from the others
    assert sum(sizes_of(drawn)) == 100
    assert sizes_of(drawn)[3] == 3
    assert np.abs(np.array(sizes_of(drawn)[:3]) - [60, 30, 9.7]).max() <= 1.3
    assert (drawn.drawn_from, drawn.classes_drawn_from) == (1000, None)
    # within a class, and in all, the order is that of a plain sample
    plain = images.sample(None, 0)
    assert [name for name in plain.ids if name in set(drawn.ids)] == list(drawn.ids)
    first = [name for name in plain.ids if name.startswith("c001/")][: sizes_of(drawn)[1]]
    assert [name for name in drawn.ids if name.startswith("c001/")] == first
    assert images.stratify(100, seed=1).ids != drawn.ids


def test_whole_classes_are_drawn_where_a_sample_of_all_is_thin() -> None:
    images = labelled([50] * 1000)  # as the validation images of ImageNet
    drawn = images.stratify(1024, seed=3)
    assert sizes_of(drawn) == [32] * 32
    assert (drawn.drawn_from, drawn.classes_drawn_from) == (50_000, 1000)
    by_hash = sorted(images.classes, key=lambda name: hashlib.sha256(f"3/{name}".encode()).digest())
    assert set(drawn.classes) == set(by_hash[:32])
    assert {photo.split("/")[0] for photo in drawn.ids} == set(drawn.classes)
    (note,) = describe_skipped(drawn)
    assert "so 32 of 1,000 classes were drawn" in note
    assert "The sample is too small for more, not the folder: a limit of 20,000 images" in note
    # a bank has images of each class: all are asked for
    everything = images.stratify(1024, seed=3, per_class=0)
    assert set(sizes_of(everything)) == {1, 2}
    assert everything.classes_drawn_from is None


def test_advice_about_the_limit_is_true_of_the_folder() -> None:
    (note,) = describe_skipped(labelled([4] * 200).stratify(100, seed=0))
    assert "so 25 of 200 classes were drawn, each whole or with 4 images" in note
    assert "The folder has 800 images: a limit of 800 takes all classes" in note
    assert "not the folder" not in note
    thin = labelled([1] * 30).stratify(10, seed=0)
    assert "each whole or with 1 image:" in describe_skipped(thin)[0]
    assert not may_have_more(thin, 2)
    assert may_have_more(labelled([50] * 30).stratify(10, seed=0), 4)


def test_one_image_a_class_wants_a_bank() -> None:
    images = labelled([1] * 30)
    assert "hold one image a class, and without a bank" in str(explain_no_votes(images))
    assert explain_no_votes(images, labelled([2] * 30)) is None
    assert describe_alone(images, None) == []  # no vote is asked for
    (note,) = describe_alone(labelled([1, 1, 8]), None)
    assert note.startswith("2 of 10 images are the only one of their class")
    arrays = from_arrays(
        np.zeros((8, 1, 1), np.uint8), np.arange(8), list("abcdefgh"), None, "made"
    )
    with pytest.raises(InputError, match="one image a class"):
        sslens.knn("pixels", arrays, quiet=True)


@pytest.mark.parametrize(
    ("sizes", "count", "expected"),
    [
        ([10] * 102, 1024, [10] * 102),  # all images are taken
        ([200] * 50, 1024, [20, 21]),  # 20.48 a class
        ([10] * 200, 1024, [10] * 102),  # whole classes of 10
        ([3] * 100 + [40] * 3, 96, [32] * 3),  # of classes with enough
        ([2] * 50, 10, [2] * 5),
        ([100, 100], 10, [5, 5]),  # two at least
    ],
)
def test_samples_of_all_kinds(sizes: list[int], count: int, expected: list[int]) -> None:
    drawn = labelled(sizes).stratify(count, seed=0)
    assert len(drawn) <= count
    assert set(sizes_of(drawn)) == set(expected)
    if len(expected) != 2:
        assert len(drawn.classes) == len(expected)


def test_a_sample_without_classes_and_a_plain_one_are_as_ever(tmp_path: Path) -> None:
    pixels = np.arange(40, dtype=np.uint8).reshape(40, 1, 1)
    assert from_arrays(pixels).stratify(9, 1).ids == from_arrays(pixels).sample(9, 1).ids
    np.savez(tmp_path / "x.npz", images=pixels, labels=np.arange(40) % 2)
    plain = open_images(tmp_path / "x.npz", limit=9)
    assert plain.ids == from_arrays(pixels).sample(9, 0).ids


def test_the_sample_is_kept_in_the_study(tmp_path: Path) -> None:
    study = Study(("pixels",), "scenes:1:64", sample="stratified")
    (tmp_path / "s.yaml").write_text(study.yaml())
    assert read(tmp_path / "s.yaml") == study
    old = Study(("pixels",), "scenes:1:64").yaml()
    assert "sample" not in old
    (tmp_path / "s.yaml").write_text(old)
    assert read(tmp_path / "s.yaml").sample == "plain"
    with pytest.raises(InputError, match='sample is "stratifed": did you mean stratified'):
        Study(("pixels",), "scenes:1:64", sample="stratifed")


def test_fingerprints_are_of_plain_samples(tmp_path: Path) -> None:
    stored = str(Path(__file__).parent / "frozen/files/fingerprints/mae.fingerprint.safetensors")
    assert choose_sample(["pixels"]) == "stratified"
    assert choose_sample(["pixels", stored]) == "plain"
    with pytest.raises(InputError, match=r"is a fingerprint, of a plain sample.*sample=.plain"):
        choose_sample([stored], "stratified")


def test_a_class_with_too_few_images_leaves_the_probes_and_the_rest_runs() -> None:
    labels = np.repeat([0, 1, 2, 3], [8, 8, 3, 1])
    names = [f"{row:02d}" for row in range(20)]
    classes = ("ant", "bee", "cat", "dog")
    taps = (Tap("x", "block", 1.0),)
    features = Features.of({("x", "cls"): torch.randn(20, 3)}, ids=names, taps=taps)
    known = Labels(dict(zip(names, labels.tolist(), strict=True)), {}, classes)
    split = Split.of(FeatureSets({"m": features}), known, 0)
    rows = np.concatenate([split.train, split.validation, split.test])
    assert sorted(rows.tolist()) == list(range(16))
    assert split.classes_of == 4
    train, _, test = split.read(features, None, [("x", "cls")], 0)
    assert set(train.labels.tolist()) == set(test.labels.tolist()) == {0, 1}
    assert find_fit(labels, np.array([0, 0, 2, 2, 3])).tolist() == [0, 2]


def test_small_classes_are_named_with_what_mends_them() -> None:
    images = labelled([8, 8, 3, 1])
    (note,) = describe_small_classes(images.sample(None, 0), None)
    assert note == (
        "2 of 4 classes leave the probes, by name and number of images: c003 (1), c002 (3); without"
        " a bank a class needs four images, to train, to choose and to test on. The folder is too"
        " small, of which all images are taken: more images, or a bank, mend it."
    )
    drawn = labelled([30, 30, 9]).sample(16, 0)
    assert sizes_of(drawn)[2] < 4
    assert "The sample is too small, 16 of 69 images" in describe_small_classes(drawn, None)[0]
    bank = labelled([8, 8, 1, 8])
    (note,) = describe_small_classes(images, bank)
    assert "1 of 4 classes leaves the probes" in note
    assert "c002 (1); a class of the bank needs two" in note
    assert "add images of these classes to it" in note
    assert describe_small_classes(labelled([8, 8]), None) == []


def folder(root: Path, classes: dict[str, int], seed: int = 0) -> str:
    rng = np.random.default_rng(seed)
    names = list(classes)
    labels = np.repeat(np.arange(len(names)), list(classes.values()))
    noise = rng.integers(0, 100, (len(labels), 8, 8, 3))
    noise[..., 0] += 150 * labels[:, None, None] // len(names)
    np.savez(root, images=noise.astype(np.uint8), labels=labels, classes=names)
    return f"{root}.npz" if root.suffix != ".npz" else str(root)


@pytest.mark.parametrize(("analysis", "count"), [("probe-layers", 1), ("invariance", 0)])
def test_small_classes_are_told_where_probes_are_trained(
    tmp_path: Path, analysis: str, count: int
) -> None:
    images = folder(tmp_path / "val.npz", {"ant": 8, "bee": 8, "gnu": 3})
    study = Study(("random:vit_nano_patch8_32",), images, analyses=(analysis,))
    notes = prepare(study, Store(tmp_path / "store"), quiet=True).notes
    assert sum("leaves the probes" in note for note in notes) == count


def test_a_class_without_a_bank_is_named_before_any_pass(tmp_path: Path) -> None:
    images = folder(tmp_path / "val.npz", {"ant": 5, "bee": 5, "gnu": 5})
    bank = folder(tmp_path / "train.npz", {"bee": 5, "gnat": 5, "ant": 5})
    store = Store(tmp_path / "store")
    with pytest.raises(InputError, match=r'the class "gnu", of which train has none'):
        prepare(Study(("pixels",), images, bank=bank), store, quiet=True)
    more = folder(tmp_path / "more.npz", {"gnu": 5, "fly": 5, "bee": 5, "ant": 5})
    plan = prepare(Study(("pixels",), images, bank=more, controls=False), store, quiet=True)
    assert plan.bank is not None
    assert plan.bank.classes == ("ant", "bee", "gnu", "fly")
    assert "knn-depth" in plan.analyses


def test_one_class_is_no_classification(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    from PIL import Image

    for number in range(8):
        for name in ("ant", "bee"):
            path = tmp_path / "photos" / "images" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (number, 9, 9)).save(path)
    assert main(["knn", "pixels", "--images", "photos", "--device", "cpu"]) == 2
    said = capsys.readouterr().err
    assert 'are of one class, "images", which is no classification' in said
    assert "photos/images was probably meant" in said
    plan = prepare(Study(("pixels",), "photos", controls=False), Store(tmp_path / "s"), quiet=True)
    assert "knn-depth" not in plan.analyses
    assert any("photos/images was probably meant" in note for note in plan.notes)
    assert isinstance(plan.situation, Situation)


def test_a_thin_sample_has_all_classes_where_none_are_told_apart(tmp_path: Path) -> None:
    images = folder(tmp_path / "many.npz", {f"class {n}": 40 for n in range(12)})
    for analyses, classes in ((("knn-depth",), 4), (("cka-blocks",), 12), (("invariance",), 12)):
        asked = Study(("pixels",), images, analyses, limit=130, sample="stratified", batch=10)
        plan = prepare(asked, Store(tmp_path / "s"), quiet=True)
        assert plan.images is not None
        assert len(plan.images) == (128 if classes == 4 else 130)
        assert plan.images.labels is not None
        assert len({*plan.images.labels.tolist()}) == classes
        assert any("classes were drawn" in note for note in plan.notes) is (classes == 4)


@pytest.mark.parametrize(("analysis", "used"), [("cka-blocks", False), ("knn-depth", True)])
def test_a_bank_that_no_analysis_reads_is_named(analysis: str, used: bool, tmp_path: Path) -> None:
    asked = Study(("pixels",), "scenes:1:64", (analysis,), bank="scenes:2:64", limit=64)
    plan = prepare(asked, Store(tmp_path / "s"), quiet=True)
    assert any("is used for nothing" in note for note in plan.notes) is not used


@pytest.mark.slow
def test_thin_samples_get_their_probes_and_every_number_says_of_how_many_classes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    images = folder(tmp_path / "many.npz", {f"class {n}": 40 for n in range(12)})
    line = ["compare", "random:vit_nano_patch8_32:0", "--images", images, "--no-controls"]
    line += ["--analyses", "knn-depth", "probe-depth", "--limit", "130", "--batch", "16"]
    assert main([*line, "--device", "cpu", "--out", "out"]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "so 4 of 12 classes were drawn" in said
    assert "sample: stratified" in Path("out/study.yaml").read_text()
    for name, table in (("knn-depth", "accuracies"), ("probe-depth", "probes")):
        header, first, *_ = Path(f"out/tables/{name}/{table}.csv").read_text().splitlines()
        row = dict(zip(header.split(","), first.split(","), strict=False))
        assert (row["classes"], row["classes_of"]) == ("4", "12")
    knn = ["knn", "pixels", "--images", images, "--no-controls", "--limit", "130"]
    assert main([*knn, "--device", "cpu", "--out", "knn"]) == 0
    assert "All accuracies here are of 4 of 12 classes." in capsys.readouterr().err
    header, first, *_ = Path("knn/knn.csv").read_text().splitlines()
    assert header.endswith("classes,classes_of")
    assert first.endswith("4,12")
    assert ", 128 of 480 images, 4 of 12 classes" in Path("out/front.json").read_text()
    page = Path("out/report.html").read_text()
    assert page.count("All accuracies here are of 4 of 12 classes.") >= 2
    assert page.count("4 of 12 classes") > 5


def test_a_class_with_one_training_image_leaves_the_probes(tmp_path: Path) -> None:
    from sslens.study.passes import PassRunner
    from sslens.study.probe_request import ProbeRequest
    from sslens.study.probe_sets import open_probe_sets

    train = folder(tmp_path / "train.npz", {"ant": 5, "bee": 5, "cat": 1})
    test = folder(tmp_path / "test.npz", {"cat": 2, "ant": 3, "bee": 3}, 1)
    request = ProbeRequest("pixels", train, test=test)
    sets = open_probe_sets(request, PassRunner(Store(tmp_path / "s"), "cpu", "float32", True))
    (note,) = sets.notes
    assert note.startswith("1 of 3 classes leaves the probes, with one training image each")
    assert ": cat." in note
    assert note in sets.describe(sets.heads(), 0)
    for part, counts in ((sets.train, [4, 4]), (sets.val, [1, 1]), (sets.test, [3, 3])):
        assert np.bincount(part.labels[part.rows]).tolist() == counts


def test_a_probe_chooses_on_the_images_on_which_a_study_chooses(tmp_path: Path) -> None:
    """`sslens probe` and the probes of `sslens compare`, with one bank and seed."""
    from sslens.comparisons.inputs import FeatureSets, Labels
    from sslens.comparisons.probe_split import Split
    from sslens.study.passes import PassRunner
    from sslens.study.probe_request import ProbeRequest
    from sslens.study.probe_sets import open_probe_sets

    bank, images = "scenes:0:64", "scenes:1:32"
    request = ProbeRequest("random:vit_nano_patch8_32", bank, test=images, seed=5)
    sets = open_probe_sets(request, PassRunner(Store(tmp_path / "s"), "cpu", "float32", True))
    parts = {"images": sets.test.features, "bank": sets.train.features}
    numbers = {
        role: dict(zip(one.ids, np.asarray(one.labels).tolist(), strict=True))
        for role, one in parts.items()
    }
    split = Split.of(
        FeatureSets(*({"random": one} for one in parts.values())),
        Labels(numbers["images"], numbers["bank"], sets.classes),
        5,
    )
    for part, rows in ((sets.train, split.train), (sets.val, split.validation)):
        chosen = {part.features.ids[row] for row in part.rows}
        assert chosen == {split.bank_ids[row] for row in rows}
