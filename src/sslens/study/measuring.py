"""`sslens.knn`, `sslens.probe`, `sslens.fingerprint` and `sslens.path`: what the commands of these
names do, for Python and notebooks."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from sslens.counts import spell_count
from sslens.errors import require_type
from sslens.study.comparing import open_store, require_first
from sslens.study.given import name_model, name_source
from sslens.study.knn import KS, TEMPERATURES
from sslens.study.settings import KnnSettings, PassSettings, ProbeSettings, collect_settings

if TYPE_CHECKING:
    from sslens.capture import Features
    from sslens.fingerprint import Fingerprint
    from sslens.paths.order import CheckpointOrder
    from sslens.study.given import Model
    from sslens.study.result import Result


def knn(
    model: "Model | Features",
    images: Any = None,
    bank: Any = None,
    *,
    k: int | Sequence[int] = KS,
    temperature: float | Sequence[float] = TEMPERATURES,
    taps: Sequence[str] = (),
    controls: bool = True,
    limit: int | None = None,
    store: str | Path | None = None,
    quiet: bool = False,
    **settings: "Unpack[KnnSettings]",
) -> "Result":
    """Classify images by k-NN at every layer, pooling, k and temperature, as `sslens knn` does;
    nothing is written but the store.

    `.answer` has what was chosen on about a third of the images, judged on the others, with a row
    a model or control; `.tables["knn"]` has every choice.

    Args:
        model: a model as `sslens.compare` takes it, a folder of stored features, or Features.
        images: labelled images to classify, as `sslens.open_images` takes them; none with features.
        bank: labelled images, or features, that vote; all other images unless given.
        k: numbers of neighbours.
        temperature: a neighbour with cosine s has exp(s / temperature) votes.
        taps: names of layers; the outputs of all blocks and the final norm unless given.
        controls: whether random initialisations and raw pixels are classified too.
        limit: the largest number of images taken; the bank is taken whole.
        store, quiet, settings: as in `sslens.compare`: seed, device, precision, on_bad, sample.

    Raises:
        InputError: something given cannot be used.

    >>> found = knn("random:vit_nano_patch8_32", "scenes:0:60", k=5, controls=False, quiet=True)
    >>> found.tables["knn"].k.unique().tolist(), found.answer.model.tolist()
    ([5], ['random #0'])
    """
    from sslens.study.knn import KnnRequest, classify

    given: dict[str, Any] = {}
    request = KnnRequest(
        model=name_model(model, given),
        images=name_source(images, "images", given),
        bank=name_source(bank, "bank", given),
        k=(k,) if isinstance(k, int) else tuple(k),
        temperature=(temperature,) if isinstance(temperature, float) else tuple(temperature),
        taps=tuple(taps),
        controls=controls,
        limit=limit,
        given=given,
        **collect_settings(settings, KnnSettings, knn),
    )
    return require_first(classify(request, store=open_store(store), quiet=quiet))


def probe(
    model: "Model | Features",
    images: Any = None,
    *,
    test: Any = None,
    val: Any = None,
    folds: int | None = None,
    store: str | Path | None = None,
    quiet: bool = False,
    **settings: "Unpack[ProbeSettings]",
) -> "Result":
    """Train probes on a model's features, as `sslens probe` does; nothing is written but the store.

    `.answer` has the probe that the validation images prefer, judged on the test images;
    `.tables["probes"]` has every probe.

    Args:
        model: a model as `sslens.compare` takes it, or a folder of stored features of the training
            images, or Features of these.
        images: labelled images to train on, as `sslens.open_images` takes them; none with features.
        test: images, or features, on which the accuracy is measured.
        val: images, or features, on which the penalty or the point of the grid is chosen; a fifth
            of the training images unless given.
        folds: in place of `test`, the number of folds in which every training image is tested once.
        store, quiet: as in `sslens.compare`.
        settings: `sslens.study.settings.ProbeSettings`, such as taps, pooling, layers and grid.

    Raises:
        InputError: something given cannot be used.

    >>> trained = probe("random:vit_nano_patch8_32", "scenes:0:120", test="scenes:1:60", quiet=True)
    >>> trained.tables["probes"].tap.tolist(), trained.answer.best_tap.tolist()
    (['norm'], ['norm'])
    """
    from sslens.study.probe_request import ProbeRequest
    from sslens.study.probing import train

    given: dict[str, Any] = {}
    request = ProbeRequest(
        model=name_model(model, given),
        images=name_source(images, "images", given),
        test=name_source(test, "test", given),
        val=name_source(val, "val", given),
        folds=folds,
        given=given,
        **collect_settings(settings, ProbeSettings, probe),
    )
    return require_first(train(request, store=open_store(store), quiet=quiet))


def fingerprint(
    model: "Model",
    images: Any,
    *,
    tokens: str | Sequence[str] = "all",
    taps: Sequence[str] = (),
    interpolation: str = "own",
    batch: int = 32,
    limit: int | None = 1024,
    store: str | Path | None = None,
    quiet: bool = False,
    **settings: "Unpack[PassSettings]",
) -> "Fingerprint":
    """Make the fingerprint of a model, as `sslens fingerprint` does; its `save(path)` writes the
    file.

    Args:
        model: a model as `sslens.compare` takes it.
        images: whatever `sslens.open_images` takes.
        tokens: whose Grams it holds, one or more of "all" (flattened), "cls" and "patch".
        taps: names of layers; all unless given.
        interpolation: "own", as the model's own transform has it, or "bicubic" or "bilinear".
        batch: the number of images in a minibatch of CKA.
        limit: the largest number of images taken.
        store, quiet, settings: as in `sslens.compare`: seed, device, precision and on_bad.

    Raises:
        InputError: something given cannot be used.

    >>> fingerprint("random:vit_nano_patch8_32", "scenes:0:40", quiet=True)
    <Fingerprint random #0: tokens all, 40 images of scenes-v4>
    """
    from sslens.study.fingerprinting import FingerprintRequest, make

    given: dict[str, Any] = {}
    request = FingerprintRequest(
        model=name_model(model, given),
        images=str(name_source(images, "images", given)),
        tokens=(tokens,) if isinstance(tokens, str) else tuple(tokens),
        taps=tuple(taps),
        interpolation=interpolation,
        batch=batch,
        limit=limit,
        given=given,
        **collect_settings(settings, PassSettings, path),
    )
    return make(request, store=open_store(store), quiet=quiet)


def path(
    checkpoints: str | Path | Sequence[str | Path],
    *,
    state: str | None = None,
    as_given: bool = False,
) -> "Result":
    """Follow a training through its checkpoints, as `sslens path` does.

    `.tables["path"]` has a row for each checkpoint and group of parameters: how far the weights
    got, and how straight they went; `.answer` has the rows of the last checkpoint.

    Args:
        checkpoints: the folder that they are in, or files: the first is where the path begins.
        state: whose weights, in files that hold several sets, such as "student".
        as_given: whether files keep their order, and none is left out; those of a folder are sorted
            by the numbers in their names in any case.

    Raises:
        InputError: there are fewer than two checkpoints, or they are not of one network.

    >>> import tempfile, torch
    >>> from safetensors.torch import save_file
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for epoch, weights in enumerate(([0.0, 0.0], [3.0, 0.0], [3.0, 4.0])):
    ...         file = f"{folder}/epoch{epoch}.safetensors"
    ...         save_file({"blocks.0.attn.qkv.bias": torch.tensor(weights)}, file)
    ...     followed = path(folder)
    >>> end = followed.answer.set_index("group").loc["attention"]
    >>> float(end.displacement), float(end.length)  # √(3² + 4²), and 3 + 4
    (5.0, 7.0)
    """
    from sslens.paths.order import order_checkpoints

    given = [checkpoints] if isinstance(checkpoints, str | Path) else checkpoints
    require_type(given, (list, tuple), "list of checkpoints", "give files, or their folder")
    for one in given:
        require_type(one, (str, Path), "file", "give the path of a checkpoint")
    files = tuple(Path(one).expanduser() for one in given)
    return follow(order_checkpoints(files, as_given=as_given), state)


def follow(order: "CheckpointOrder", state: str | None = None) -> "Result":
    """Follow a training through checkpoints in their order.

    Raises:
        InputError: there are fewer than two checkpoints, or they are not of one network.
    """
    from sslens.paths.order import require_two
    from sslens.paths.path import list_equal, measure_path
    from sslens.study.result import Result, Tables
    from sslens.table import Table

    require_two(order)
    files = order.paths
    table = measure_path(files, state)
    ends = table.frame[table.frame.record == table.frame.record.max()].reset_index(drop=True)

    def write_files(folder: Path, **_: bool) -> Path:
        table.save(folder / "path.csv")
        return folder / "path.csv"

    return Result(
        f"The path of {spell_count(len(files), 'checkpoint')}, from {files[0].name} to"
        f" {files[-1].name}",
        Table(ends, table.units),
        Tables({"path": table}),
        write_files,
        notes=(
            *(f"{file} was left out: its name has no number." for file in order.left_out),
            *(f"{one} has the same weights as {other}." for one, other in list_equal(table)),
        ),
    )
