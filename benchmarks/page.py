"""The page of a large report, of 1,000 classes and 50 students at 5 temperatures with 5 seeds: how soon it is made, its bytes,
and how soon the slider of its gallery has softened all cards in sight, in a headless Chromium where there is one.

It is compared with one chart as altair writes it by `to_html(inline=True)`.
"""

import argparse
import itertools
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import altair
import numpy as np

from benchmarks.measure import machine, median, show
from pipeline.data.inputs.array import Arrays
from pipeline.results import tables
from pipeline.results.gallery import EACH, NUMBERS, Exhibit, Gallery
from pipeline.results.lineage import Lineage
from pipeline.results.report import report
from pipeline.results.tables import Basis, BestRow, BinRow, ConfusionRow, EpochRow, RunRow

CLASSES, STUDENTS, TEMPERATURES, SEEDS, EPOCHS, TEACHERS, TEST = 1000, 50, (1.0, 2.0, 4.0, 8.0, 20.0), 5, 100, 4, 10_000
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
MOVES = 30
# Moves the slider to an octave, and answers with the milliseconds until every card in sight is at that temperature.
MOVE = """async octave => {
  const input = document.querySelector(".slider input"), T = 2 ** octave, start = performance.now();
  const seen = [...document.querySelectorAll(".card [data-chart]")].filter(chart => {
    const { top, bottom } = chart.getBoundingClientRect();
    return bottom > 0 && top < innerHeight;
  });
  Object.assign(input, { step: "any", valueAsNumber: octave }).dispatchEvent(new Event("input"));
  while (seen.some(chart => Math.abs(chart.view.signal("T") - T) > 1e-9)) await new Promise(done => setTimeout(done));
  await Promise.all(seen.map(chart => chart.view.runAsync()));
  return [performance.now() - start, seen.length];
}"""


def runs() -> Iterator[tuple[str, str, str | None, float | None, int]]:
    """Every run: its name, kind, student, temperature and number of nets."""
    yield from ((f"teacher-{number}", "teacher", None, None, 1) for number in range(TEACHERS))
    yield "ensemble", "ensemble", None, None, 1
    for number in range(STUDENTS):
        yield f"s{number}-hard", "baseline", f"s{number}", None, SEEDS
        yield from ((f"s{number}-T{T:g}", "student", f"s{number}", T, SEEDS) for T in TEMPERATURES)


def write(folder: Path) -> None:
    """Tables of made-up figures."""
    chance, held = np.random.default_rng(0), list(runs())
    nets = [
        (run, seed if kind in ("baseline", "student") else None) for run, kind, _, _, count in held for seed in range(count)
    ]
    rows = [
        RunRow(
            run, kind, student, T, 1.0 if T else None, 10_000, seed if student else None, split, 1 - wrong / TEST, wrong,
            2 * wrong / TEST, 0.02, 0.1, 0.9, 0.1, None, False,
        )
        for run, kind, student, T, count in held
        for seed, wrong in enumerate(chance.integers(1500, 2500, count).tolist())
        for split in ("valid", "test")
    ]  # fmt: skip
    best = [
        BestRow(f"s{number}", f"s{number}-T4", 4.0, 1.0, SEEDS, 0, 0.4 + number / 100, 0.01, 2000.0, 30.0, 2300.0, 30.0, 300.0,
                20.0, 250.0, 350.0, 240.0, 360.0)
        for number in range(STUDENTS)
    ]  # fmt: skip
    each = max(1, min(EACH, NUMBERS // (3 * CLASSES * (TEACHERS + 1))))  # as evaluate chooses them
    logits = chance.normal(0, 3, (3 * each, TEACHERS + 1, CLASSES)).astype(np.float32)
    exhibits = tuple(
        Exhibit(number, f"row-{number}", number, reason, tuple(tuple(z.tolist()) for z in own[:-1]), tuple(own[-1].tolist()),
                values=tuple(chance.normal(size=64).tolist()))
        for number, (own, reason) in enumerate(zip(logits, ("second", "apart", "wrong") * each, strict=True))
    )  # fmt: skip
    names = tuple(f"class {number}" for number in range(CLASSES))
    members = tuple(f"teacher-{number}" for number in range(TEACHERS))
    folder.mkdir()
    tables.write(
        folder, runs=rows, classes=[], best=best, results=[],
        epochs=[EpochRow(*net, epoch, 3 / epoch, 0.8, 1.0) for net in nets for epoch in range(1, EPOCHS + 1)],
        bins=[BinRow(*net, number, 600, (number + 0.5) / 15, (number + 0.4) / 15) for net in nets for number in range(15)],
        confusions=[
            ConfusionRow(run, int(label), int(taken), float(count))
            for run in ("ensemble", "s0-hard", "s0-T4")
            for label, taken, count in chance.integers(0, CLASSES, (1600, 3))
        ],
        gallery=Gallery(1, names, members, (1 / TEACHERS,) * TEACHERS, "probabilities", "s0-T4", 0, exhibits),
        lineage=Lineage(1, Arrays("float32", (64,)), CLASSES, {run: "net" for run, *_ in held}, {}, (), {}, (), None),
        basis=Basis({}, {}, {}),
    )  # fmt: skip


def moved(path: Path) -> tuple[list[float], int]:
    """Milliseconds of each move of the slider, and how many cards were in sight."""
    from playwright.sync_api import sync_playwright

    program = next(filter(None, map(shutil.which, PROGRAMS)))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-drawn]", state="attached")
        page.locator(".cards").first.evaluate("cards => cards.scrollIntoView()")
        found = [page.evaluate(MOVE, 4 * abs(np.sin(number))) for number in range(1, MOVES + 1)]
        browser.close()
    return [ms for ms, _ in found], max(count for _, count in found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=3, help="Reports.")
    given = parser.parse_args()
    print(f"page, {CLASSES:,} classes, {STUDENTS} students × {len(TEMPERATURES)} T × {SEEDS} seeds: {machine()}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder / "plots")
        seconds = []
        for _ in range(given.times):
            start = time.perf_counter()
            report(plots={"": folder / "plots"}, published=None, out=folder / "report")
            seconds.append(time.perf_counter() - start)
        path = folder / "report/index.html"
        size = path.stat().st_size / 1e6
        show("time of the report", median(seconds), "≤ 10", median(seconds) <= 10, unit=" s")
        show("size of the page", size, "≤ 10", size <= 10, unit=" MB")
        points = altair.Data(values=[{"x": x, "y": y} for x, y in itertools.product(range(5), range(2))])
        alone = len(altair.Chart(points).mark_line().encode(x="x:Q", y="y:Q").to_html(inline=True)) / 1e6
        show("size of the page / of one chart of altair's, inline", size / alone, detail=f"{size:.2f} against {alone:.2f} MB")
        if any(map(shutil.which, PROGRAMS)):
            times, cards = moved(path)
            detail = f"{cards} cards × {CLASSES:,} classes × {TEACHERS + 1} nets; at most {max(times):.0f} ms"
            what, holds = "slider to softened cards in sight, median", median(times) <= 100
            show(what, median(times), "≤ 100", holds, detail, unit=" ms", form=".0f")


if __name__ == "__main__":
    main()
