"""Neighbours in a pool: their spread against loops, their pictures, and the whole way."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from given import Given, compute, draw, make_models, write
from sslens.capture import Features
from sslens.comparisons.inputs import FeatureSets
from sslens.comparisons.pool import Pool, ShownImages
from sslens.comparisons.sheets import TABLES, SheetRow, draw_sheets, list_sheets, save_sheets
from sslens.comparisons.targets import code_factors
from sslens.data.images import from_arrays
from sslens.data.transform import EvalTransform
from sslens.errors import InputError
from sslens.figure import PAPER, Figure, Sheet, decode_picture, save, to_matplotlib, to_plotly
from sslens.figure.arrangement import arrange
from sslens.own_files import OwnFiles
from sslens.statistics.spread import estimate_spread, measure_spread
from sslens.store import Store
from sslens.study import Study, prepare, run
from sslens.table import Results, Table

NANO = "random:vit_nano_patch8_32"
RNG = np.random.default_rng(0)


# ------------------------------------------------------------------------------------------------
# the spread


def spread_by_loops(sources: np.ndarray, others: np.ndarray, pool: np.ndarray) -> float:
    """The definition, image by image."""
    near = [np.mean([((c - s) ** 2).sum() for c in own]) for s, own in zip(sources, others)]  # noqa: B905
    far = [np.mean([((c - s) ** 2).sum() for c in pool]) for s in sources]
    return float(sum(near) / sum(far))


def test_the_spread_is_that_of_loops_with_and_without_each_source() -> None:
    sources, pool = RNG.normal(size=(9, 2)), RNG.normal(size=(40, 2)) + 1
    others = pool[RNG.integers(0, 40, (9, 5))]
    found = measure_spread(sources, others, pool)
    assert float(found.value) == pytest.approx(spread_by_loops(sources, others, pool), abs=1e-12)
    for left in range(9):
        rest = np.delete(np.arange(9), left)
        expected = spread_by_loops(sources[rest], others[rest], pool)
        assert found.left_out[left] == pytest.approx(expected, abs=1e-12)


def test_the_interval_of_a_spread_covers_one_of_random_neighbours() -> None:
    covered = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        sources, pool = rng.normal(size=(60, 1)), rng.normal(size=(200, 1))
        others = pool[rng.integers(0, 200, (60, 4))]
        estimate = estimate_spread(measure_spread(sources, others, pool), 60)
        covered += estimate.low <= 1 <= estimate.high
        assert estimate.high - estimate.value == pytest.approx(estimate.value - estimate.low)
    assert 180 <= covered <= 198  # 95 % of 200 less what 60 sources take


def test_a_kind_has_its_share_and_an_angle_goes_around() -> None:
    frame = pd.DataFrame({"hue": [359.0, 1.0, 181.0, 180.0], "side": ["a", "b", "a", "a"]})
    coded = code_factors(frame)
    first = measure_spread(coded["hue"][:1], coded["hue"][None, 1:2], coded["hue"])
    cosines = 2 - 2 * np.cos(np.deg2rad([0.0, 2.0, 178.0, 179.0]))
    assert float(first.value) == pytest.approx(cosines[1] / cosines.mean())
    share = measure_spread(coded["side"][:1], coded["side"][None, 1:3], coded["side"])
    assert float(share.value) == pytest.approx(0.5 / 0.25)


def test_what_never_varies_has_no_spread_and_nothing_is_refused() -> None:
    same = np.ones((3, 1))
    assert np.isnan(measure_spread(same, same[:, None], same).value)
    with pytest.raises(InputError, match="3 sources, 0 images of each and a pool of 3"):
        measure_spread(same, np.ones((3, 0, 1)), same)


# ------------------------------------------------------------------------------------------------
# the analysis


def make_given(bank: bool) -> tuple[Given, dict[str, np.ndarray], np.ndarray]:
    """A model that knows x and one that knows nothing, of images in another order than features."""
    count, size = 30, 50 if bank else 30
    known = {"images": RNG.uniform(size=(count, 1)), "bank": RNG.uniform(size=(size, 1))}
    among = known["bank"] if bank else known["images"]
    views = []
    for x, prefix in ((known["images"], "i"), (among, "b")):
        pixels = np.broadcast_to((255 * x).astype(np.uint8)[:, :, None, None], (len(x), 4, 4, 3))
        ids = [f"{prefix}{row}" for row in range(len(x))]
        images = from_arrays(np.ascontiguousarray(pixels), ids=ids)
        views.append(ShownImages(images, EvalTransform(resize=4, crop=4), {"x": x}))
    order, other = RNG.permutation(count), RNG.permutation(size)
    sets: dict[str, dict[str, Features]] = {"images": {}, "bank": {}}
    for name, knows in (("good", 1.0), ("random #0", 0.0)):
        for role, view, rows in (("images", views[0], order), ("bank", views[1], other)):
            x = view.values["x"]
            angle = knows * x + (1 - knows) * RNG.uniform(size=x.shape)
            values = np.concatenate([np.cos(angle), np.sin(angle)], 1)[rows]
            ids = [view.images.ids[row] for row in rows]
            columns = {("norm", "cls"): torch.from_numpy(values).float()}
            sets[role][name] = Features.of(columns, ids=ids, model=name)
    models = make_models(("good",), ("random #0",), {"good": {}, "random #0": {}})
    pool = Pool(views[0], views[1] if bank else None, {"x": "continuous"})
    features = FeatureSets(sets["images"], sets["bank"] if bank else {})
    return Given(models, {"features": features, "pool": pool}), known, among


@pytest.mark.parametrize("bank", [True, False])
def test_neighbours_are_those_of_a_plain_search(bank: bool) -> None:
    given, known, among = make_given(bank)
    results = compute("neighbours", given)
    frame = results["spreads"]
    row = frame[(frame.model == "good") & (frame.features == "raw")].iloc[0]
    near = []
    for place, x in enumerate(known["images"]):  # cosines of angles fall with their difference
        apart = np.abs(among - x)[:, 0]
        apart[place] = np.inf if not bank else apart[place]
        near.append(among[np.argsort(apart)[:8]])
    expected = spread_by_loops(known["images"], np.array(near), among)
    assert row.spread == pytest.approx(expected, abs=1e-9)
    assert row.neighbours == 8
    assert (row.images, row["pool"]) == (30, len(among))
    control = frame[(frame.model == "random #0") & (frame.features == "raw")].iloc[0]
    assert row.over_control == pytest.approx(row.spread - control.spread)
    assert row.against == "random #0"
    assert row.over_control_high < 0 < control.spread
    assert frame.main.sum() == 2

    (beyond,) = [text for text in write("neighbours", results) if "beyond" in text]
    assert "good x, less than random #0 (-" in beyond
    assert "good least in x 0." in write("neighbours", results)[0]
    turned = frame.assign(over_control=0.01, over_control_low=-0.02, over_control_high=0.04)
    units = results.tables["spreads"].units
    least = write("neighbours", Results({"spreads": Table(turned, units)}))[0]
    assert "good least in nothing beyond the controls" in least
    sheet = results["sheets"]
    first = sheet[(sheet.sheet == "good") & (sheet.row == 0)].image.tolist()
    assert first[0] == "i0"
    assert len(first) == 7
    shown = {row.image: decode_picture(row.picture) for row in results["pictures"].itertuples()}
    levels = [int(shown[name][0, 0, 0]) for name in first]
    assert max(abs(level - levels[0]) for level in levels) < 80  # grey as their x is
    assert len(set(results["pictures"].image)) == len(results["pictures"])


def test_the_figure_shows_a_sheet_a_model_with_the_source_first() -> None:
    given, _, _ = make_given(True)
    figure = draw("neighbours", compute("neighbours", given))
    sheets = [panel for panel in figure.shown() if isinstance(panel, Sheet)]
    assert [sheet.title for sheet in sheets] == ["good", "random #0"]
    assert sheets[0].columns == ("source", "1", "2", "3", "4", "5", "6")
    assert sheets[0].rows == ("i0", "i1", "i2", "i3")
    assert (sheets[0].pixels[:, 0] == sheets[1].pixels[:, 0]).all()


# ------------------------------------------------------------------------------------------------
# sheets


def make_sheet(rows: int = 3, columns: int = 4, side: int = 8) -> Sheet:
    pixels = RNG.integers(0, 255, (rows, columns, side, side, 3), dtype=np.uint8)
    labels = tuple(f"row {i}" for i in range(rows))
    return Sheet("dino", pixels, labels, tuple(map(str, range(columns))))


def test_a_composed_sheet_has_each_picture_at_its_place() -> None:
    sheet = make_sheet()
    whole = sheet.compose()
    assert whole.shape == (3 * 8 + 2, 4 * 8 + 3 + 2, 3)
    assert (whole == decode_picture(sheet.encode())).all()
    for row, y in enumerate(sheet.middles("y")):
        for column, x in enumerate(sheet.middles("x")):
            top, left = int(y) - 4, int(x) - 4
            assert (whole[top : top + 8, left : left + 8] == sheet.pixels[row, column]).all()
    between = np.ones(whole.shape[1], bool)
    for x in sheet.middles("x"):
        between[int(x) - 4 : int(x) + 4] = False
    assert between.sum() == 5
    assert (whole[:, between] == 255).all()


def test_a_sheet_is_drawn_for_the_screen_and_for_paper(tmp_path: Path) -> None:
    sheet = make_sheet()
    figure = Figure("samples", ((sheet, make_sheet()),))
    drawn = to_plotly(figure)
    assert len(drawn.layout.images) == 2
    assert drawn.layout.images[0].source == sheet.encode()
    assert tuple(drawn.layout.xaxis.ticktext) == sheet.columns
    assert tuple(drawn.layout.yaxis.tickvals) == tuple(sheet.middles("y"))
    assert tuple(drawn.layout.yaxis.range) == (26.0, 0.0)  # the first row at the top
    assert drawn.data[0].text[0] == "row 0, 0"
    axes = to_matplotlib(figure).axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == list(sheet.rows)
    save(figure, tmp_path / "samples.png")
    assert (tmp_path / "samples.png").stat().st_size > 1000
    for box in arrange(figure, PAPER).boxes:
        assert box.height / box.width == pytest.approx(box.panel.ratio)  # type: ignore[union-attr]


def test_a_sheet_of_wrong_labels_is_refused() -> None:
    with pytest.raises(ValueError, match="pictures with 1 rows and 2 columns"):
        Sheet("", np.zeros((1, 1, 2, 2, 3), np.uint8), ("a",), ("b", "c"))


def test_sheets_of_tables_are_the_pictures_that_went_in() -> None:
    pictures = RNG.integers(0, 255, (4, 6, 6, 3), dtype=np.uint8)
    rows = [
        SheetRow(sheet, row, f"label {row}", [(str(i), pictures[i]) for i in (row, 3, 2)])
        for sheet in ("a", "b", "c")
        for row in (0, 1)
    ]
    tables: dict[str, list[dict[str, object]]] = {"sheets": [], "pictures": []}
    for name, row in list_sheets(rows):
        tables[name].append(row)
    frames = {name: pd.DataFrame(each) for name, each in tables.items()}
    assert len(frames["pictures"]) == 4
    drawn = draw_sheets(frames["sheets"], frames["pictures"])
    assert [[panel and panel.title for panel in row] for row in drawn] == [["a", "b"], ["c", None]]
    sheet = drawn[1][0]
    assert sheet is not None
    assert sheet.rows == ("label 0", "label 1")
    assert (sheet.pixels[1] == pictures[[1, 3, 2]]).all()


def test_sheets_are_written_as_files_and_those_of_before_are_gone(tmp_path: Path) -> None:
    pixels = RNG.integers(0, 255, (2, 32, 32, 3), dtype=np.uint8)
    row = SheetRow("runs/mae: 1", 0, "fish", [("a", pixels[0]), ("b", pixels[1])])
    rows = {name: [each for of, each in list_sheets([row]) if of == name] for name in TABLES}
    tables = {
        name: Table(pd.DataFrame(each), dict.fromkeys(TABLES[name], ""))
        for name, each in rows.items()
    }
    results = Results(tables)
    own = OwnFiles(tmp_path)
    own.before(tmp_path / "sheets" / "gone.png")
    (tmp_path / "sheets").mkdir()
    for name in ("gone.png", "mine.png"):
        (tmp_path / "sheets" / name).write_text("")
    save_sheets(results, tmp_path / "sheets", own)
    path, mine = sorted((tmp_path / "sheets").iterdir(), reverse=True)
    assert (path.name, mine.name) == ("runs-mae-1.png", "mine.png")
    with Image.open(path) as image:
        written = np.asarray(image)
    assert written.shape == (96, 3 * (64 + 3), 3)
    assert (written[::3, :96:3] == pixels[0]).all()
    save_sheets(Results({"pictures": tables["pictures"]}), tmp_path / "none", own)
    assert not (tmp_path / "none").exists()


# ------------------------------------------------------------------------------------------------
# the whole way


def test_factors_of_scenes_and_appearance_of_other_images_are_known(tmp_path: Path) -> None:
    def gather(images: str) -> Pool:
        asked = Study((NANO,), images, ("neighbours",), device="cpu", controls=False, batch=8)
        from sslens.study.capturing import capture
        from sslens.study.needs import pool

        plan = prepare(asked, Store(tmp_path / "store"), quiet=True)
        return pool.gather(capture(plan.situation, plan.passes, plan.runner))

    scenes = gather("scenes:0:20")
    assert {"class", "facing", "hue"} <= scenes.kinds.keys()
    assert "luminance" not in scenes.kinds
    np.savez(tmp_path / "grey.npz", images=RNG.integers(0, 255, (18, 32, 32, 3), dtype=np.uint8))
    photos = gather(str(tmp_path / "grey.npz"))
    assert set(photos.kinds) == {"mean colour", "luminance", "local contrast"}
    assert photos.sources.look(3).shape == (32, 32, 3)
    with pytest.raises(InputError, match="16 images or more, and there are 7"):
        gather("scenes:0:8")


@pytest.mark.slow
def test_a_report_has_the_pictures(tmp_path: Path) -> None:
    asked = Study(
        (NANO,), "scenes:0:20", ("neighbours",), bank="scenes:1:24", device="cpu", batch=8
    )
    page = run(asked, tmp_path / "out", store=Store(tmp_path / "store"), quiet=True)
    assert page is not None
    text = page.read_text(encoding="utf-8")
    assert "data:image/png" in text
    assert (tmp_path / "out" / "sheets" / "neighbours" / "pixels.png").exists()
    assert _read(tmp_path, "pictures").picture.str.startswith("data:image/png").all()
    assert _read(tmp_path, "spreads").control.any()


def _read(folder: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(folder / "out" / "tables" / "neighbours" / f"{name}.csv")
