"""Every verdict and number of a report's first screen, recomputed from its CSV files by code that
shares nothing with the package. `SSLENS_DEMO` may name the folder of a report of `sslens demo`;
without it the demo's models are compared here on fewer images."""

import itertools
import json
import os
import re
import runpy
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.optimize

pytestmark = pytest.mark.slow

#: the analyses of the demo that the first screen reads
READ = ("cka-blocks", "cka-layer-types", "cka-finetune", "knn-depth", "finetune-path")
#: parts of claims that do not say "more": the sign that they expect, by claim and part
EXPECTED: Mapping[tuple[str, str], int] = {
    ("c19", "fc1 in the last third,"): -1,
    ("c19", "block in the last third,"): -1,
}
#: the fewest that an interval may rest on
FEWEST = {"minibatches": 6, "images": 20, "trainings": 4, "minibatches and trainings": 4}
#: what a CSV file rounds away
SIX_DIGITS = 2e-6


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if os.environ.get("SSLENS_DEMO"):
        return Path(os.environ["SSLENS_DEMO"])
    from sslens import study
    from sslens.demo import MODELS
    from sslens.store import Store

    out = tmp_path_factory.mktemp("demo")
    asked = study.Study(MODELS, "scenes:1:192", READ, "scenes:2:160", limit=None, tokens=("all",))
    study.run(asked, out / "report", store=Store(out / "store"), title="demo", quiet=True)
    return out / "report"


@pytest.fixture(scope="module")
def screen(folder: Path) -> Mapping[str, Any]:
    read: Mapping[str, Any] = json.loads((folder / "front.json").read_text(encoding="utf-8"))
    return read


def read(folder: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(folder / f"{name}.csv", keep_default_na=False, na_values=[""])


def numbers(text: str, names: Sequence[str]) -> list[float]:
    """The numbers of a sentence without the names in it, and shares instead of points."""
    for name in sorted(names, key=len, reverse=True):
        text = text.replace(name, "")
    text = text.replace("the interval holds 0", "")
    text = re.sub(r"blocks\.\d+|\d+-NN|random #\d|fc1|norm[12]|(depth|at|under) \d\.\d+", "", text)
    scale = 0.01 if "%" in text or "points" in text else 1.0
    return [scale * float(one.replace(",", "")) for one in re.findall(r"[+-]?\d[\d,]*\.?\d*", text)]


def check(text: str, expected: Sequence[float], names: Sequence[str]) -> None:
    """Hold the numbers of a sentence against what they should be, to the digits that it has."""
    found = numbers(text, names)
    assert len(found) == len(expected), (text, expected)
    for one, other in zip(found, expected, strict=True):
        least = 0.00051 if "%" in text or "points" in text else 0.0051
        assert abs(one - other) <= max(least, SIX_DIGITS * abs(other)), (text, one, other)


def triple(row: Mapping[str, Any], name: str, ends: Sequence[str] = ()) -> list[float]:
    low, high = ends or (f"{name}_low", f"{name}_high")
    return [float(row[name]), float(row[low]), float(row[high])]


def side(value: float, low: float, high: float, smallest: float, n: float, over: str) -> str:
    if np.isnan(low) or n < FEWEST[over] or high - low < 1e-12:
        return "undecided"
    if -smallest <= low and high <= smallest:
        return "the same"
    if low <= 0 <= high or abs(value) < smallest:
        return "undecided"
    return "more" if low > 0 else "less"


def clearness(low: float, high: float, smallest: float, which: str) -> float:
    if which == "the same":
        return 1 - max(abs(low), abs(high)) / smallest
    return min(abs(low), abs(high)) / smallest if which in ("more", "less") else 0.0


# ------------------------------------------------------------------------------------------------
# claims


def judge(rows: pd.DataFrame) -> tuple[str, float, Mapping[str, Any], int]:
    """The outcome, the strength and the deciding row of a claim over one choice of tokens, and how
    many more rows have this outcome."""
    answers, strengths, records = [], [], rows.to_dict("records")
    for row in records:
        which = side(row["effect"], row["low"], row["high"], row["smallest"], row["n"], row["over"])
        expected = EXPECTED.get((row["claim"], row["part"]), 1)
        answer = which
        if which in ("more", "less"):
            answer = "holds" if (which == "more") == (expected == 1) else "contradicted"
        answers.append(answer)
        strengths.append(clearness(row["low"], row["high"], row["smallest"], which))
    of = {one: [s for s, a in zip(strengths, answers, strict=True) if a == one] for one in answers}
    if len(of) == 1:
        outcome = answers[0]
    elif "undecided" in of:
        outcome = "undecided"
    else:
        outcome = "in part" if "holds" in of else "contradicted"
    strength = 0.0
    if outcome in ("holds", "the same"):
        strength = min(strengths)
    elif outcome == "contradicted":
        strength = max(of["contradicted"])
    elif outcome == "in part":
        rest = [s for one, several in of.items() if one != "holds" for s in several]
        strength = min(max(of["holds"]), max(rest))
    deciding = next((r for r, a in zip(records, answers, strict=True) if a == outcome), records[0])
    return outcome, strength, deciding, len(of.get(outcome, ())) - 1


def test_claims_on_the_screen(folder: Path, screen: Mapping[str, Any]) -> None:
    verdicts = read(folder, "verdicts")
    names = list_models(folder)
    answers = {one["label"]: one for one in (*screen["answers"], *screen["more_answers"])}
    answers.pop("", None)
    ran = verdicts[verdicts.outcome != "not run"]
    assert {one.upper() for one in ran.claim} == set(answers)
    undecided = []
    for claim, rows in ran.groupby("claim", sort=False):
        answer = answers[str(claim).upper()]
        judged = {}
        for tokens, own in rows.groupby("tokens", dropna=False, sort=False):
            judged[tokens] = judge(own)
            assert own.outcome.iloc[0].startswith(judged[tokens][0]), (claim, tokens)
        outcomes = {one[0] for one in judged.values()}
        mixed = "undecided" if "undecided" in outcomes else "depends"
        assert answer["word"] == (outcomes.pop() if len(outcomes) == 1 else mixed), claim
        assert answer["strength"] == pytest.approx(
            min(one[1] for one in judged.values()), rel=1e-4, abs=1e-4
        )
        first, agreeing = next(iter(judged.values()))[2:]
        told = re.findall(r"; (\d+) more agree", answer["effect"])
        effect = re.sub(r"; \d+ more agrees?", "", answer["effect"])
        shown = [one[2] for one in judged.values()] if "; " in effect else [first]
        if answer["word"] not in ("depends", "undecided"):
            shown = [first]
            decided = answer["word"] in ("holds", "contradicted")
            assert told == [str(agreeing)] * (decided and agreeing > 0), claim
        expected = [number for row in shown for number in numbers_of(row)]
        check(effect, expected, names)
        for row in shown:  # its depth too, where it is at one
            assert str(row["part"]).replace("nan", "").rstrip(",:") in answer["effect"]
        count = re.search(r"\d[\d,]*", answer["over"])
        assert count is not None
        assert int(count[0].replace(",", "")) == int(shown[0]["n"]), claim
        if answer["word"] == "undecided":
            undecided.append(str(claim).upper())
    for label in undecided:
        assert re.search(rf"Undecided: .*\b{label}\b", screen["undecided"]), label


def numbers_of(row: Mapping[str, Any]) -> list[float]:
    """The numbers that a sentence has of a part of a verdict: the effect and its interval."""
    return [row["effect"], *([] if np.isnan(row["low"]) else [row["low"], row["high"]])]


# ------------------------------------------------------------------------------------------------
# questions, order


def list_models(folder: Path) -> list[str]:
    return list(dict.fromkeys(read(folder, "tables/knn-depth/accuracies").model))


def list_pairs(folder: Path) -> dict[frozenset[str], list[float]]:
    """CKA of each two models under study, deconfounded where all are."""
    rows = read(folder, "tables/cka-blocks/means")
    rows = rows[(rows.tokens == "all") & ~rows.control & (rows.model_a != rows.model_b)]
    beyond = bool(rows.deconfounded.notna().all())
    names = ("deconfounded",) if beyond else ("cka", ("low", "high"))
    return {
        frozenset((row["model_a"], row["model_b"])): triple(row, *names)
        for row in rows.to_dict("records")
    }


def list_groups(pairs: Mapping[frozenset[str], list[float]]) -> Iterator[tuple[set[str], Any, Any]]:
    """All sets of which any two are more alike than a member and another, by their intervals, with
    the two pairs of the extreme values and the two of the extreme ends: all subsets are tried, the
    largest first."""
    names = sorted(frozenset.union(*pairs))
    found: list[set[str]] = []
    for size in range(len(names) - 1, 1, -1):
        for some in map(set, itertools.combinations(names, size)):
            inside = [v for pair, v in pairs.items() if pair <= some]
            across = [v for pair, v in pairs.items() if len(pair & some) == 1]
            weakest, nearest = min(inside, key=lambda v: v[1]), max(across, key=lambda v: v[2])
            clear = weakest[1] > nearest[2] and weakest[0] - nearest[0] >= 0.02
            if clear and not any(some <= other for other in found):
                found.append(some)
                yield some, (min(inside), max(across)), (weakest, nearest)


def test_which_models_are_alike(folder: Path, screen: Mapping[str, Any]) -> None:
    (answer,) = [one for one in screen["answers"] if one["question"] == "Which models are alike?"]
    groups = list(list_groups(list_pairs(folder)))
    if not groups:
        assert answer["word"] == "undecided"
        return
    told = [set(re.split(r", | and ", part)) for part in answer["names"].split("; ")]
    studied = len(frozenset.union(*list_pairs(folder)))
    word = f"{len(told[0])} of {studied}" if len(told) == 1 else f"{len(told)} groups"
    gaps = [(weak[0] - near[0], weak[1] - near[2]) for _, _, (weak, near) in groups]
    settled = all(low >= gap - low for gap, low in gaps)  # another draw would see them too
    assert answer["word"] == (word if settled else f"probably {word}")
    assert sorted(map(sorted, told)) == sorted(sorted(some) for some, _, _ in groups)
    ends = {low: pair for (_, pair, _), (_, low) in zip(groups, gaps, strict=True)}
    gap, (weakest, nearest) = min(ends.items(), key=lambda one: one[0])
    rest = studied - sum(map(len, told))
    check(answer["effect"], [*weakest, *nearest, *([rest] if rest else [])], list_models(folder))
    assert answer["strength"] == pytest.approx(gap / 0.02, rel=1e-3)
    ceilings = read(folder, "tables/cka-blocks/ceilings")
    ceiling = ceilings[ceilings.tokens == "all"].to_dict("records")[0]
    means = read(folder, "tables/cka-blocks/means")
    means = means[(means.tokens == "all") & means.model_a.str.startswith("random #")]
    random = means[means.model_b.str.startswith("random #") & (means.model_a != means.model_b)]
    (twins,) = random.to_dict("records")
    beside = [*triple(ceiling, "deconfounded"), float(twins["cka"])]
    check(answer["control"], beside, list_models(folder))


def test_which_model_separates_the_classes_best(folder: Path, screen: Mapping[str, Any]) -> None:
    choices = read(folder, "tables/knn-depth/choices")
    names = list_models(folder)
    question = "Which separates the classes best?"
    (answer,) = [one for one in screen["answers"] if one["question"] == question]
    chosen = choices["use"] == "chosen"
    for name in ("tap", "accuracy", "low", "high"):
        choices[f"use_{name}"] = choices[name].where(chosen, choices[f"usual_{name}"])
    for end in ("", "_low", "_high"):
        gains = choices[f"over_pixels{end}"]
        choices[f"use_over_pixels{end}"] = gains.where(chosen, choices[f"usual_over_pixels{end}"])
    studied = choices[~choices.control].sort_values("use_accuracy", ascending=False, kind="stable")
    best, second = studied.to_dict("records")[:2]
    near = [
        row
        for row in studied.to_dict("records")[1:]
        if side(*triple(row, "first_over"), 0.005, best["images"], "images") != "more"
    ]
    second = near[0] if near else second
    ahead = triple(second, "first_over")
    pixels = choices[choices.model == "pixels"].to_dict("records")[0]
    pieces = [triple(best, "use_accuracy", ("use_low", "use_high"))]
    pieces += [triple(best, "use_over_pixels"), ahead]
    check(answer["effect"], [number for one in pieces for number in one], names)
    sides = [side(*one, 0.005, best["images"], "images") for one in pieces[1:]]
    assert answer["names"].startswith(str(best["model"]))
    assert (second["model"] in answer["names"]) == (sides[1] != "more")
    words = {"more": "beats pixels", "less": "pixels win", "the same": "as pixels"}
    assert answer["word"] == words.get(sides[0], "undecided")
    every = [triple(row, "use_over_pixels") for row in studied.to_dict("records")]
    beaten = all(side(*one, 0.005, best["images"], "images") == "less" for one in every)
    assert screen["pixels"].startswith("Raw pixels beat") == beaten
    # paired differences are the differences of the accuracies
    for piece, other in zip(pieces[1:], (pixels, second), strict=True):
        assert piece[0] == pytest.approx(best["use_accuracy"] - other["use_accuracy"], abs=1e-5)
    random = choices[choices.control & (choices.model != "pixels")].use_accuracy.max()
    check(answer["control"], [*triple(pixels, "accuracy", ("low", "high")), random], names)
    images = read(folder, "tables/knn-depth/accuracies").images.iloc[0]
    assert best["images"] < images
    assert answer["over"].startswith(f"{best['images']:,} images")


def test_answers_are_in_order_and_few(screen: Mapping[str, Any]) -> None:
    strengths = [one["strength"] for one in screen["answers"]]
    assert strengths == sorted(strengths, reverse=True)
    assert 0 < len(strengths) <= 8
    assert len(screen["cards"]) <= 4
    sections = {one["link"] for one in screen["answers"]}
    assert sections <= {*READ, "factors-depth", "neighbours"}


def test_what_was_compared(folder: Path, screen: Mapping[str, Any]) -> None:
    accuracies = read(folder, "tables/knn-depth/accuracies")
    studied = accuracies[~accuracies.control].model.nunique()
    images = int(accuracies.images.iloc[0])
    assert re.fullmatch(rf"{studied} models on scenes-v\d, {images:,} images", screen["compared"])


def test_the_page_is_within_its_budget(folder: Path) -> None:
    driver = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("no chromium on this machine")
    bench = runpy.run_path(str(Path(__file__).parents[1] / "bench" / "report.py"))
    page = folder / "report.html"
    assert page.stat().st_size <= bench["BUDGET"]["bytes"]
    with driver.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program)
        visit = browser.new_page(viewport={"width": 1400, "height": 900})
        visit.goto(page.resolve().as_uri())
        height = visit.evaluate("document.documentElement.scrollHeight")
        assert height <= 900 * bench["BUDGET"]["screens"]
        assert visit.evaluate(bench["WORDS"]) <= bench["BUDGET"]["words"]
        # verdicts, the picture and the cards are all seen without scrolling
        assert visit.locator("header .card").count() == 4
        last = "document.querySelector('header').getBoundingClientRect().bottom"
        assert visit.evaluate(last) <= 900
        assert not re.search(r"(^|[\s\[(])-\d", visit.locator("header").inner_text())
        browser.close()


# ------------------------------------------------------------------------------------------------
# cards and the picture


def test_cards(folder: Path, screen: Mapping[str, Any]) -> None:
    choices = read(folder, "tables/knn-depth/choices")
    names, best = list_models(folder), {}
    controls = {one["name"] for one in screen["overview"]["points"] if one["control"]}
    rows = {row["model"]: row for row in choices[~choices.control].to_dict("records")}
    for card in (*screen["cards"], *screen["more_cards"]):
        row = rows.pop(card["title"])
        over = triple(row, "over_usual")
        n = row["images"]
        replaces = side(*over, 0.005, n, "images") == "more"
        name, ends = ("accuracy", ("low", "high"))
        if not replaces:
            name, ends = ("usual_accuracy", ("usual_low", "usual_high"))
        best[card["title"]] = row[name]
        check(card["use"].rpartition(": ")[2], triple(row, name, ends), names)
        place = "" if replaces else "usual_"
        assert f", {row[place + 'tap']}" in card["use"], card
        if np.isnan(over[0]):
            assert card["gain_usual"] == "nothing beats the usual choice"
        else:
            check(f"{card['gain_usual']} points", over, names)
            beaten = card["gain_usual"].startswith("nothing beats the usual choice")
            assert beaten == (side(*over, 0.005, n, "images") in ("less", "the same"))
        pixels = triple(row, "over_pixels" if replaces else "usual_over_pixels")
        check(card["gain_pixels"], pixels, names)
        which = side(*pixels, 0.005, n, "images")
        assert card["beats_pixels"] == {"more": True, "undecided": None}.get(which, False)
        assert card["gain_pixels"].startswith("nothing beats raw pixels") == (
            which in ("less", "the same")
        )
        counts = [str(row["options"]), f"{row['chosen_on']:,.0f}", f"{n:,}"]
        assert re.findall(r"\d[\d,]*\b", card["why"])[:3] == counts
    assert not rows
    order = sorted(best, key=lambda one: (one in controls, -best[one]))
    assert list(best) == order  # random weights that were fine-tuned last


def test_the_picture(folder: Path, screen: Mapping[str, Any]) -> None:
    rows = read(folder, "tables/cka-blocks/means")
    rows = rows[(rows.tokens == "all") & (rows.model_a != rows.model_b) & rows.cka.notna()]
    cka = rows.deconfounded if rows.deconfounded.notna().all() else rows.cka
    points = {one["name"]: one for one in screen["overview"]["points"]}
    assert list(points) == list(dict.fromkeys([*rows.model_a, *rows.model_b]))
    places = np.array([[one["x"], one["y"]] for one in points.values()])
    number = {name: row for row, name in enumerate(points)}
    first, second = rows.model_a.map(number).to_numpy(), rows.model_b.map(number).to_numpy()
    wanted = np.maximum(0, 1 - cka.to_numpy())

    def raw(flat: np.ndarray) -> float:
        apart = np.linalg.norm(flat.reshape(-1, 2)[first] - flat.reshape(-1, 2)[second], axis=1)
        return float(((wanted - apart) ** 2).sum())

    distance = np.linalg.norm(places[first] - places[second], axis=1)
    stress = np.sqrt(((wanted - distance) ** 2).sum() / (distance**2).sum())
    assert screen["overview"]["stress"] == pytest.approx(stress, abs=1e-4)
    nearby = scipy.optimize.minimize(raw, places.ravel(), method="BFGS")
    assert raw(places.ravel()) <= nearby.fun * 1.01 + 1e-6
    choices = read(folder, "tables/knn-depth/choices").set_index("model")
    for name, point in points.items():
        columns = ["accuracy", "low", "high"]
        if choices["use"][name] == "usual":
            columns = [f"usual_{one}" for one in columns]
        accuracy, *ends = choices.loc[name, columns].tolist()
        assert point["size"] == pytest.approx(accuracy, abs=1e-5)
        assert point["control"] == (bool(choices.control[name]) or name == "scenes_random_ft")
        check(point["note"].split("[")[0], [accuracy], [])
        assert [point["low"], point["high"]] == pytest.approx(ends, abs=1e-5)
