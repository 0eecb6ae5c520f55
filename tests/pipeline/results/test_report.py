"""The report: a page without outside parts, text that cannot break out, and the files beside it."""

import json
import re
import sys
from pathlib import Path

import pytest

from conftest import NO_GALLERY, NO_LINEAGE, tree, write_stage_one, write_tables
from pipeline.base.errors import InputError
from pipeline.results import tables, wording
from pipeline.results.published import Published
from pipeline.results.report import report
from pipeline.results.tables import BestRow, Tables
from runs import lost, rows


def write(folder: Path, every: list[dict], best=()) -> Path:
    """The tables that the report reads."""
    return write_tables(folder, runs=every, best=list(best))


def shown(out: Path) -> str:
    """The page without its scripts and its style."""
    return re.sub("<(script|style).*?</(script|style)>", "", (out / "index.html").read_text(), flags=re.DOTALL)


def alone(plots: Path, out: Path) -> None:
    """The report on one folder, without a name."""
    report(plots={"": plots}, published=None, out=out)


@pytest.fixture
def plots(tmp_path):
    every = rows("a", "teacher") + rows("s-hard", "baseline", "s", None, (20, 22)) + rows("s-T4", "student", "s", 4.0, (12, 16))
    best = {
        "student": "s", "run": "s-T4", "temperature": 4.0, "alpha": 0.5, "seeds": 2,
        "test_errors": 14.0, "test_errors_std": 2.83, "baseline_test_errors": 21.0, "baseline_test_errors_std": 1.41,
        "errors_saved": 7.0, "errors_saved_std": 1.41, "over_seeds_low": -5.71, "over_seeds_high": 19.71,
        "over_rows_low": 2.0, "over_rows_high": 12.04,
    }  # fmt: skip
    return write(tmp_path / "plots", every, [best])


def test_without_its_libraries_it_says_what_to_install(tmp_path, plots, monkeypatch):
    monkeypatch.setitem(sys.modules, "altair", None)
    with pytest.raises(InputError, match=r'not installed.*pip install "softcache\[report\]"'):
        alone(plots, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_numbers_and_findings_are_on_the_page(tmp_path, plots):
    """12 and 16 errors: a deviation of √8."""
    alone(plots, tmp_path / "out")
    page = (tmp_path / "out/index.html").read_text()
    cells = re.findall("<td>(.*?)</td>", page[page.index("<h3>Test split") : page.index("<h3>Validation split")])
    start = cells.index("s-T4")
    assert cells[start : start + 5] == ["s-T4", "1,234", "2", "86.00 ± 2.83", "14.0 ± 2.8"]
    (row,) = Tables.open(plots).read(BestRow)
    assert f"<li>{wording.finding(row)}</li>" in page.replace("\u00a0", " ")


def test_the_page_is_whole(tmp_path, plots):
    """No part of it lies elsewhere; test_page.py asks a browser."""
    alone(plots, tmp_path / "out")
    page = shown(tmp_path / "out")
    assert not re.search(r"<(link|iframe)|(src|href)=\"(?!#)", page)
    assert page.count('class="chosen"') == 2  # in the test table and in the validation table
    groups = re.findall('<th scope="rowgroup" colspan="8">(.*)</th>', page)
    assert groups == ["Teachers", "Hard-label baselines", "Distilled students"] * 2


def test_same_tables_same_bytes(tmp_path, plots):
    for name in ("one", "two"):
        alone(plots, tmp_path / name)
    for name in ("index.html", "results.md", "temperature.svg"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_names_are_escaped(tmp_path, plots):
    """In the page's tables and headings; test_page.py looks for them in a browser, test_markdown.py in the files beside it."""
    name = "<script>alert(1)</script>"
    best = Tables.open(plots).read(BestRow)[0]._replace(student=name)._asdict()
    every = rows(name, "student", name, 4.0) + rows("s-T1", "student", name, 1.0)
    report(plots={name.replace("/", ""): write(tmp_path / "odd", every, [best])}, published=None, out=tmp_path / "out")
    page = (tmp_path / "out/index.html").read_text()
    assert "<script>alert" not in page
    assert "<td>&lt;script&gt;alert(1)&lt;/script&gt;</td>" in page
    assert '<h1 class="chapter" id="chapter-1">&lt;script&gt;alert(1)&lt;script&gt;</h1>' in page


def test_teachers_alone(tmp_path):
    """There is nothing to draw then."""
    alone(write(tmp_path / "plots", rows("a", "teacher")), tmp_path / "out")
    assert "<td>a</td>" in shown(tmp_path / "out")
    assert not (tmp_path / "out/temperature.svg").exists()


# ---------------------------------------------------------------- several folders


@pytest.fixture
def folders(tmp_path, plots):
    """One of each: teachers alone; all kinds; students at one temperature, before and after the bias correction."""
    seen = rows("w-T20-raw", "uncorrected", "w", 30.0, (80, 84)) + rows("w-T20", "student", "w", 20.0, (50, 51))
    warm = rows("s-T1", "student", "s", 1.0, (14, 15)) + rows("s-T2.5", "student", "s", 2.5, (11, 12))
    return {
        "many": write(tmp_path / "many", rows("a", "teacher") + rows("b", "teacher", errors=(13,))),
        "warm": write(tmp_path / "warm", warm),
        "all": plots,
        "no3": write(tmp_path / "no3", seen),
    }


def test_folders_stand_in_order_under_their_names(tmp_path, folders):
    report(plots=folders, published=None, out=tmp_path / "out")
    page, results = shown(tmp_path / "out"), (tmp_path / "out/results.md").read_text()
    assert re.findall('<h1 class="chapter".*>(.*)</h1>', page) == re.findall("^### (.*)$", results, re.M) == list(folders)
    assert page.count("<h3>Test split</h3>") == page.count("<h3>Validation split</h3>") == 4
    assert "\n\n### warm\n\n| run |" in results
    assert "\n\n\n" not in results
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["index.html", "results.md", "warm.svg"]  # the others have students at one temperature, or none


def test_uncorrected_students_come_last(tmp_path, folders):
    alone(folders["no3"], tmp_path / "out")
    page = shown(tmp_path / "out")
    assert page.index("Distilled students") < page.index("Students before the bias correction") < page.index("w-T20-raw")


# ---------------------------------------------------------------- published figures


def test_published_beside_measured(tmp_path, folders):
    figures = [
        {"what": "teachers", "folder": "many", "runs": ["a", "b"], "published": 67},
        {"what": "<script>", "folder": "no3", "runs": ["w-T20"], "metric": "error_rate", "published": 13.2},
    ]
    source = "Hinton & <i>others</i>"
    report(plots=folders, published=Published.parse({"source": source, "rows": figures}), out=tmp_path / "out")
    page = shown(tmp_path / "out")
    assert "<tr><td>teachers</td><td>67</td><td>11.5 ± 2.1</td><td>2</td></tr>" in page  # of 10 and 13: deviation √4.5
    assert "<tr><td>&lt;script&gt;</td><td>13.2 %</td><td>50.50 ± 0.71 %</td><td>2</td></tr>" in page
    assert "Published: Hinton &amp; &lt;i&gt;others&lt;/i&gt;" in page
    assert page.index("<h2>Published and measured") < page.index('<h1 class="chapter"')
    assert "| teachers | 67 | 11.5 ± 2.1 | 2 |" in (tmp_path / "out/published.md").read_text()
    found = json.loads((tmp_path / "out/results.json").read_text())
    assert found["source"] == source
    assert [(row["what"], row["mean"], row["count"]) for row in found["rows"]] == [("teachers", 11.5, 2), ("<script>", 50.5, 2)]


def test_without_published_figures_there_is_no_trace_of_them(tmp_path, plots):
    alone(plots, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["index.html", "results.md", "temperature.svg"]
    assert "Published" not in shown(tmp_path / "out")


# ---------------------------------------------------------------- the folder


def test_the_former_report_is_replaced_and_nothing_else(tmp_path, plots, folders):
    report(plots=folders, published=None, out=tmp_path / "out")
    alone(plots, tmp_path / "out")
    assert not (tmp_path / "out/warm.svg").exists()
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/chapter-1").write_text("years of work")
    with pytest.raises(InputError, match="thesis: expected a report, or nothing, found chapter-1"):
        alone(plots, tmp_path / "thesis")
    assert (tmp_path / "thesis/chapter-1").read_text() == "years of work"


def test_a_figure_that_is_not_there_leaves_the_former_report(tmp_path, plots):
    alone(plots, tmp_path / "out")
    before = tree(tmp_path / "out")
    wrong = Published.parse({"source": "x", "rows": [{"what": "x", "runs": ["z"]}]})
    with pytest.raises(InputError, match="expected one of a, s-hard, s-T4, found 'z'"):
        report(plots={"": plots}, published=wrong, out=tmp_path / "out")
    assert tree(tmp_path / "out") == before


# ---------------------------------------------------------------- what did not go well


def test_nets_that_diverged_are_told_on_the_page(tmp_path):
    every = rows("s-T4", "student", "s", 4.0, (12, 90, 16))
    alone(write(tmp_path / "plots", [lost(row) if row["errors"] == 90 else row for row in every]), tmp_path / "out")
    assert "<td>s-T4 <small>(1 diverged)</small></td>" in (tmp_path / "out/index.html").read_text()


def test_groups_span_all_columns(tmp_path, plots):
    alone(plots, tmp_path / "out")
    page = shown(tmp_path / "out")
    head = re.search("<h3>Test split.*?</thead>", page, re.DOTALL)[0].count('<th scope="col">')
    assert set(re.findall(r'colspan="(\d+)"', page)) == {str(head)}


def test_a_teacher_that_was_trained_anew_since_is_told(tmp_path, plots, caplog):
    write_stage_one(tmp_path / "data")
    for digest, told in (("0" * 64, True), (None, False)):
        caplog.clear()
        held = Tables.open(plots)
        rows = {name: held.read(kind) for kind, name in tables.NAMES.items()}
        digest = digest or json.loads((tmp_path / "data/teachers/a/model.json").read_text())["nets"][0]["sha256"]
        tables.write(
            plots, **rows, gallery=NO_GALLERY, lineage=NO_LINEAGE, basis=tables.Basis({"a": digest, "not here": digest}, {}, {})
        )
        report(plots={"": plots}, published=None, out=tmp_path / "out", data=tmp_path / "data")
        assert ("teacher a was trained again after it was measured. Run `softcache evaluate" in caplog.text) == told


def test_names_too_long_for_files_are_cut(tmp_path, plots):
    """A folder may have a name of 255 bytes; of two that begin alike, each has its files."""
    every = rows("s-T1", "student", "s", 1.0) + rows("s-T4", "student", "s", 4.0)
    named = {"é" * 122 + last: write(tmp_path / last, every) for last in "xy"}
    report(plots=named, published=None, out=tmp_path / "out", pictures=["svg"])
    assert sorted(path.name for path in (tmp_path / "out").glob("*.svg")) == [f"{'é' * 90}-{number}.svg" for number in (1, 2)]
    assert (tmp_path / f"out/figures/{'é' * 90}-2-temperature-nll.svg").exists()
