"""A report in a browser: how long it takes to open, how large it is, and how much there is to read.

    python bench/report.py demo/report.html                            about 10 seconds
    python bench/report.py demo/report.html --picture docs/report.png

The page is opened several times in Debian's Chromium, in a window of 1,400 by 900 pixels; times are
medians, from the beginning of the navigation to the first painted picture and to the end of the
script that draws all of them. Words are those outside folds, tables and pictures; a number is no
word. `--picture` writes the first screen as a PNG file.
"""

import argparse
import re
import shutil
import statistics
from pathlib import Path

from playwright.sync_api import sync_playwright

#: what the demo's page may cost: screens, words, bytes, milliseconds to the first and to the last
#: picture, printed pages
BUDGET = {"screens": 8, "words": 600, "bytes": 3e6, "first": 1000, "all": 2000, "pages": 12}
OPENINGS = 5
TIMES = """() => [
    performance.getEntriesByName("first-contentful-paint")[0].startTime,
    performance.getEntriesByType("navigation")[0].domContentLoadedEventEnd,
]"""
WORDS = """() => {
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    let words = 0;
    while (walker.nextNode()) {
        const parent = walker.currentNode.parentElement;
        const left = "script, style, noscript, svg, option, details, table, .canvas, .hidden";
        if (parent.closest(left) || !parent.checkVisibility()) continue;
        const tokens = walker.currentNode.textContent.split(/\\s+/);
        words += tokens.filter(one => /\\p{L}/u.test(one)).length;
    }
    return words;
}"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("report", type=Path)
    parser.add_argument("--picture", type=Path)
    given = parser.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
        times = []
        for _ in range(OPENINGS):
            context = browser.new_context(viewport={"width": 1400, "height": 900})
            page = context.new_page()
            page.goto(given.report.resolve().as_uri())
            page.wait_for_timeout(200)  # until the first paint is reported
            times.append(page.evaluate(TIMES))
            height = page.evaluate("document.documentElement.scrollHeight")
            words = page.evaluate(WORDS)
            printed = page.pdf(format="A4")
            if given.picture:
                page.screenshot(path=given.picture)
            context.close()
        browser.close()
    first, drawn = (statistics.median(column) for column in zip(*times, strict=True))
    measured = {
        "screens": height / 900,
        "words": words,
        "bytes": given.report.stat().st_size,
        "first": first,
        "all": drawn,
        "pages": len(re.findall(rb"/Type\s*/Page\b", printed)),
    }
    for name, value in measured.items():
        over = "  over" if value > BUDGET[name] else ""
        print(f"{name:8} {value:12,.1f}   of {BUDGET[name]:12,.0f}{over}")


if __name__ == "__main__":
    main()
