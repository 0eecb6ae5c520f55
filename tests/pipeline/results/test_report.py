"""The report: numbers as they were measured, a page without outside parts, text that cannot break out."""

import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from conftest import tree, write_stage_one, write_tables
from pipeline.base.errors import InputError, IntegrityError
from pipeline.results import tables
from pipeline.results.published import Published
from pipeline.results.report import report
from pipeline.results.tables import BestRow, Tables

METRICS = {"accuracy": 0.9, "errors": 10, "nll": 0.25, "ece": 0.05, "brier": 0.1, "agreement": 1.0, "kl_to_teacher": 0.0}


def rows(run: str, kind: str, student=None, temperature=None, errors=(10,), alpha=0.5) -> list[dict]:
    return [
        {"run": run, "kind": kind, "student": student, "temperature": temperature, "alpha": alpha if temperature else None,
         "parameters": 1234, "seed": seed}
        | METRICS | {"split": split, "errors": wrong, "accuracy": 1 - wrong / 100}
        for seed, wrong in enumerate(errors)
        for split in ("valid", "test")
    ]  # fmt: skip


def write(folder: Path, every: list[dict], best=()) -> Path:
    """The tables that the report reads."""
    return write_tables(folder, runs=every, best=list(best))


def alone(plots: Path, out: Path) -> None:
    """The report on one folder, without a name."""
    report(plots={"": plots}, published=None, out=out)


@pytest.fixture
def plots(tmp_path):
    every = rows("a", "teacher") + rows("s-hard", "baseline", "s", None, (20, 22)) + rows("s-T4", "student", "s", 4.0, (12, 16))
    best = {
        "student": "s",
        "run": "s-T4",
        "temperature": 4.0,
        "alpha": 0.5,
        "seeds": 2,
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
    assert "That is 7.0 fewer; 95 % intervals of what is saved: -5.7 to 19.7 over 2 seeds (paired t; of so few it says" in text
    assert "little), 2.0 to 12.0 over test rows (bootstrap)." in text


def test_a_loss_is_called_a_loss(tmp_path, plots):
    (row,) = Tables.open(plots).read(BestRow)
    alone(write(tmp_path / "loss", [], [row._asdict() | {"errors_saved": -7.0, "seeds": 3}]), tmp_path / "out")
    assert "over 3 seeds (paired t), " in (tmp_path / "out/index.html").read_text()
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
    """HTML, Markdown and what steers a terminal, on the page and in the tables."""
    name = "<script>alert(1)</script>[x](y)`|\x1b[2J\u202e"
    alone(write(tmp_path / "odd", rows(name, "student", name, 4.0)), tmp_path / "out")
    page, results = ((tmp_path / "out" / each).read_text() for each in ("index.html", "results.md"))
    assert "<script>" not in page + results
    assert "| &lt;script&gt;alert(1)&lt;/script&gt;\\[x\\](y)\\`\\|\\\\x1b\\[2J\\\\u202e |" in results


def test_teachers_alone(tmp_path):
    """There is nothing to draw then."""
    alone(write(tmp_path / "plots", rows("a", "teacher")), tmp_path / "out")
    assert "<td>a</td>" in (tmp_path / "out/index.html").read_text()
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
    every = rows("s-T4", "student", "s", 4.0) + rows("t-T4", "student", "t", 4.0)
    alone(write(tmp_path / "both", every), tmp_path / "two")
    legends = ["legend" in (tmp_path / name / "temperature.svg").read_text() for name in ("one", "two")]
    assert legends == [False, True]


def test_dashes_are_explained_where_there_are_any(tmp_path, plots, folders):
    report(plots={"": plots, "warm": folders["warm"]}, published=None, out=tmp_path / "out")
    dashed = ["dashed" in (tmp_path / "out" / name).read_text() for name in ("temperature.svg", "warm.svg")]
    assert dashed == [True, False]


def test_labels_of_close_temperatures_do_not_overlap(tmp_path):
    every = [row for T in (1.0, 2.0, 2.5, 20.0, 20.1, 1000.0) for row in rows(f"s-T{T}", "student", "s", T)]
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
        "| &lt;script&gt; | 13.2 % | 50.50 ± 0.71 % | 2 |\n"  # of 50 and 51: deviation √0.5
        "| right | — | 18.00 ± 2.83 % | 2 |\n"
        "\nPublished: Hinton &amp; &lt;i&gt;others&lt;/i&gt;\n"
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


# ---------------------------------------------------------------- what did not go well


def test_nets_that_diverged_or_learned_nothing_are_told_and_in_no_mean(tmp_path):
    every = rows("s-hard", "baseline", "s", None, (20, 22)) + rows("s-T4", "student", "s", 4.0, (12, 90, 16))
    every += rows("s-T8", "student", "s", 8.0, (1,))
    for row in every:
        if (row["run"], row["seed"]) == ("s-T4", 1) or row["run"] == "s-T8":
            row |= dict.fromkeys(METRICS) | {"diverged": 3}
        if (row["run"], row["seed"]) == ("s-hard", 1):
            row["chance"] = True
    alone(write(tmp_path / "plots", every), tmp_path / "out")
    page, results = ((tmp_path / "out" / each).read_text() for each in ("index.html", "results.md"))
    assert "| s-T4 (1 diverged) | 1,234 | 86.00 ± 2.83 | 14.0 ± 2.8 |" in results
    assert "| s-T8 (1 diverged) | 1,234 | — | — | — | — |" in results
    assert "| s-hard (1 no better than the commonest class, on the validation split) |" in results
    assert "<td>s-T4 <small>(1 diverged)</small></td>" in page


def test_one_temperature_and_several_alphas_are_drawn_against_alpha(tmp_path):
    every = [row for alpha in (0.1, 0.5, 0.9) for row in rows(f"s-{alpha}", "student", "s", 4.0, (12, 16), alpha)]
    report(plots={"alphas": write(tmp_path / "plots", every)}, published=None, out=tmp_path / "out")
    drawn = "".join(ElementTree.parse(tmp_path / "out/alphas.svg").getroot().itertext())
    assert "alpha, the weight of the soft targets" in drawn
    assert "temperature T" not in drawn
    assert "<h3>Accuracy against alpha</h3>" in (tmp_path / "out/index.html").read_text()


def test_groups_span_all_columns(tmp_path, plots):
    alone(plots, tmp_path / "out")
    page = (tmp_path / "out/index.html").read_text()
    head = re.search("<thead>.*?</thead>", page, re.DOTALL)[0].count("<th>")
    assert set(re.findall(r'colspan="(\d+)"', page)) == {str(head)}


def test_tables_of_two_evaluations_are_not_mixed(tmp_path, plots):
    other = write(tmp_path / "other", rows("a", "teacher", errors=(11,)))
    (other / "runs.parquet").replace(plots / "runs.parquet")
    with pytest.raises(IntegrityError, match=r"runs.parquet: expected sha256 .* Run `softcache evaluate --data"):
        alone(plots, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_any_flipped_bit_in_a_table_is_found(tmp_path, plots):
    """In the bytes of every table that is read, and of what binds them."""
    for name in ("tables.json", "runs.parquet", "best.parquet"):
        held = (plots / name).read_bytes()
        for place in range(0, len(held), max(1, len(held) // 40)):
            (plots / name).write_bytes(held[:place] + bytes([held[place] ^ 1 << place % 8]) + held[place + 1 :])
            with pytest.raises(IntegrityError, match=name):
                alone(plots, tmp_path / "out")
        (plots / name).write_bytes(held)
    alone(plots, tmp_path / "out")


def test_a_teacher_that_was_trained_anew_since_is_told(tmp_path, plots, caplog):
    write_stage_one(tmp_path / "data")
    for digest, told in (("0" * 64, True), (None, False)):
        caplog.clear()
        held = Tables.open(plots)
        rows = {name: held.read(kind) for kind, name in tables.NAMES.items()}
        digest = digest or json.loads((tmp_path / "data/teachers/a/model.json").read_text())["nets"][0]["sha256"]
        tables.write(plots, **rows, teachers={"a": digest, "not here": digest})
        report(plots={"": plots}, published=None, out=tmp_path / "out", teachers=tmp_path / "data/teachers")
        assert ("measured with teacher a as it was before it was trained anew; `softcache evaluate" in caplog.text) == told
