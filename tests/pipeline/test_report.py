"""The report: numbers as they were measured, a page without outside parts, text that cannot break out."""

import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from conftest import tree
from pipeline import table
from pipeline.errors import InputError
from pipeline.published import Published
from pipeline.report import report

METRICS = {"accuracy": 0.9, "errors": 10, "nll": 0.25, "ece": 0.05, "brier": 0.1, "agreement": 1.0, "kl_to_teacher": 0.0}


def rows(run: str, kind: str, student="", temperature="", errors=(10,)) -> list[dict]:
    return [
        {"run": run, "kind": kind, "student": student, "temperature": temperature, "alpha": "0.5" if temperature else "",
         "parameters": 1234, "seed": seed}
        | METRICS | {"split": split, "errors": wrong, "accuracy": 1 - wrong / 100}
        for seed, wrong in enumerate(errors)
        for split in ("valid", "test")
    ]  # fmt: skip


def write(folder: Path, every: list[dict], best=()) -> Path:
    """The tables that the report reads."""
    folder.mkdir(parents=True)
    (folder / "runs.csv").write_bytes(table.to_csv(every))
    (folder / "best.csv").write_bytes(table.to_csv(list(best)))
    return folder


def alone(plots: Path, out: Path) -> None:
    """The report on one folder, without a name."""
    report(plots={"": plots}, published=None, out=out)


@pytest.fixture
def plots(tmp_path):
    every = rows("a", "teacher") + rows("s-hard", "baseline", "s", "", (20, 22)) + rows("s-T4", "student", "s", "4", (12, 16))
    best = {
        "student": "s",
        "run": "s-T4",
        "temperature": "4",
        "alpha": "0.5",
        "test_errors": 14.0,
        "test_errors_std": 2.83,
        "baseline_test_errors": 21.0,
    }
    best |= {"baseline_test_errors_std": 1.41, "errors_saved": 7.0, "errors_saved_std": 1.41}
    best |= {"over_seeds_low": -5.71, "over_seeds_high": 19.71, "over_rows_low": 2.0, "over_rows_high": 12.04}
    return write(tmp_path / "plots", every, [best])


def test_numbers(tmp_path, plots):
    alone(plots, tmp_path / "out")
    text = (tmp_path / "out/results.md").read_text()
    assert "| s-T4 | 1,234 | 86.00 ± 2.83 | 14.0 ± 2.8 |" in text  # of 12 and 16: deviation √8
    assert "| a | 1,234 | 90.00 | 10.0 |" in text
    assert "s at T = 4 and alpha = 0.5 (lowest validation NLL): 14.0 ± 2.8 test errors; on hard labels 21.0 ± 1.4." in text
    assert "That is 7.0 fewer; 95 % intervals of what is saved: -5.7 to 19.7 over seeds (paired t), 2.0 to 12.0 over" in text


def test_a_loss_is_called_a_loss(tmp_path, plots):
    text = (plots / "best.csv").read_text().replace(",7.0,", ",-7.0,")
    (plots / "best.csv").write_text(text)
    alone(plots, tmp_path / "out")
    assert "That is 7.0 more; 95 % intervals of what is saved:" in (tmp_path / "out/index.html").read_text()


def test_the_page_is_whole(tmp_path, plots):
    alone(plots, tmp_path / "out")
    page = (tmp_path / "out/index.html").read_text()
    assert not re.search(r"<(script|link|img|iframe)|(src|href)=\"(?!#)", page)
    assert page.count('class="chosen"') == 2  # in the test table and in the validation table
    assert [title in page for title in ("Teachers", "Hard-label baselines", "Distilled students", "Ensemble")] == [
        True,
        True,
        True,
        False,
    ]


def test_the_picture_is_an_image_of_every_student_point(tmp_path, plots):
    alone(plots, tmp_path / "out")
    root = ElementTree.parse(tmp_path / "out/temperature.svg").getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "temperature T" in "".join(root.itertext())


def test_same_tables_same_bytes(tmp_path, plots):
    for name in ("one", "two"):
        alone(plots, tmp_path / name)
    for name in ("index.html", "results.md", "temperature.svg"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_names_are_escaped(tmp_path, plots):
    (plots / "runs.csv").write_text((plots / "runs.csv").read_text().replace("s-T4", "<script>alert(1)</script>"))
    alone(plots, tmp_path / "out")
    assert "<script>" not in (tmp_path / "out/index.html").read_text()


def test_teachers_alone(tmp_path, plots):
    (plots / "runs.csv").write_bytes(table.to_csv(rows("a", "teacher")))
    (plots / "best.csv").write_bytes(table.to_csv([]))
    alone(plots, tmp_path / "out")
    assert "<td>a</td>" in (tmp_path / "out/index.html").read_text()


# ---------------------------------------------------------------- several folders


@pytest.fixture
def folders(tmp_path, plots):
    """One of each: teachers alone; all kinds; students at one temperature, before and after the bias correction."""
    seen = rows("w-T20-raw", "uncorrected", "w", "30", (80, 84)) + rows("w-T20", "student", "w", "20", (50, 51))
    warm = rows("s-T1", "student", "s", "1", (14, 15)) + rows("s-T2.5", "student", "s", "2.5", (11, 12))
    return {
        "many": write(tmp_path / "many", rows("a", "teacher") + rows("b", "teacher", errors=(13,))),
        "warm": write(tmp_path / "warm", warm),
        "all": plots,
        "no3": write(tmp_path / "no3", seen),
    }


def test_folders_stand_in_order_under_their_names(tmp_path, folders):
    report(plots=folders, published=None, out=tmp_path / "out")
    page, results = ((tmp_path / "out" / name).read_text() for name in ("index.html", "results.md"))
    assert re.findall('<h2 class="folder">(.*)</h2>', page) == re.findall("^### (.*)$", results, re.M) == list(folders)
    assert page.count("<h3>Test split</h3>") == page.count("<h3>Validation split</h3>") == 4
    assert page.count("<h3>Soft targets against hard labels</h3>") == 1  # only one has baselines
    assert page.count("</svg>") == 1
    assert "\n\n### warm\n\n| run |" in results
    assert "\n\n\n" not in results
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["index.html", "results.md", "warm.svg"]  # the others have students at one temperature, or none


def test_uncorrected_students_come_last_and_are_not_drawn(tmp_path, folders):
    report(plots={"no3": folders["no3"]}, published=None, out=tmp_path / "named")
    assert not (tmp_path / "named/no3.svg").exists()  # 20 and 30 are not two of the same kind
    alone(folders["no3"], tmp_path / "out")
    results, page = ((tmp_path / "out" / name).read_text() for name in ("results.md", "index.html"))
    assert results.index("| w-T20 |") < results.index("| w-T20-raw |")
    assert page.index("Distilled students") < page.index("Students before the bias correction") < page.index("w-T20-raw")
    points = re.findall('aria-label="([^"]*)" role="graphics-symbol" aria-roledescription="point"', page)
    assert points == ["temperature T (log scale): 20; test accuracy, %: 49.5; student: w"]


def test_one_student_needs_no_legend(tmp_path, plots):
    alone(plots, tmp_path / "one")
    every = rows("s-T4", "student", "s", "4") + rows("t-T4", "student", "t", "4")
    alone(write(tmp_path / "both", every), tmp_path / "two")
    legends = ["legend" in (tmp_path / name / "temperature.svg").read_text() for name in ("one", "two")]
    assert legends == [False, True]


def test_dashes_are_explained_where_there_are_any(tmp_path, plots, folders):
    report(plots={"": plots, "warm": folders["warm"]}, published=None, out=tmp_path / "out")
    dashed = ["dashed" in (tmp_path / "out" / name).read_text() for name in ("temperature.svg", "warm.svg")]
    assert dashed == [True, False]


def test_labels_of_close_temperatures_do_not_overlap(tmp_path):
    every = [row for T in ("1", "2", "2.5", "20", "20.1", "1000") for row in rows(f"s-T{T}", "student", "s", T)]
    alone(write(tmp_path / "close", every), tmp_path / "out")
    shown = re.findall('opacity="1">([0-9.]+)</text>', (tmp_path / "out/temperature.svg").read_text())
    assert shown[:5] == ["1", "2", "2.5", "20", "1000"]


# ---------------------------------------------------------------- published figures


def test_published_beside_measured(tmp_path, folders):
    figures = [
        {"what": "teachers", "folder": "many", "runs": ["a", "b"], "published": 67},
        {"what": "one | teacher\n", "folder": "many", "runs": ["a"]},
        {"what": "<script>", "folder": "no3", "runs": ["w-T20"], "metric": "error_rate", "published": 13.2},
        {"what": "right", "folder": "no3", "runs": ["w-T20-raw"], "metric": "accuracy", "published": None},
    ]
    source = "Hinton & <i>others</i>"
    report(plots=folders, published=Published.parse({"source": source, "rows": figures}), out=tmp_path / "out")
    assert (tmp_path / "out/published.md").read_text() == (
        "| experiment | published | measured | runs |\n"
        "| --- | ---: | ---: | ---: |\n"
        "| teachers | 67 | 11.5 ± 2.1 | 2 |\n"  # of 10 and 13: deviation √4.5
        "| one \\| teacher | — | 10 | 1 |\n"
        "| <script> | 13.2 % | 50.50 ± 0.71 % | 2 |\n"  # of 50 and 51: deviation √0.5
        "| right | — | 18.00 ± 2.83 % | 2 |\n"
        "\nPublished: Hinton & <i>others</i>\n"
    )
    page = (tmp_path / "out/index.html").read_text()
    assert "<tr><td>&lt;script&gt;</td><td>13.2 %</td><td>50.50 ± 0.71 %</td><td>2</td></tr>" in page
    assert "Published: Hinton &amp; &lt;i&gt;others&lt;/i&gt;" in page
    assert page.index("Published and measured") < page.index('<h2 class="folder">')
    found = json.loads((tmp_path / "out/results.json").read_text())
    assert found["source"] == source
    assert [(row["what"], row["mean"], row["count"]) for row in found["rows"]] == [
        ("teachers", 11.5, 2), ("one | teacher\n", 10, 1), ("<script>", 50.5, 2), ("right", 18, 2),
    ]  # fmt: skip


def test_without_published_figures_there_is_no_trace_of_them(tmp_path, plots):
    alone(plots, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["index.html", "results.md", "temperature.svg"]
    assert "Published" not in (tmp_path / "out/index.html").read_text()


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
