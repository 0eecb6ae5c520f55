"""The report: numbers as they were measured, a page without outside parts, text that cannot break out."""

import re
import xml.etree.ElementTree as ElementTree

import pytest

from pipeline import table
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


@pytest.fixture
def plots(tmp_path):
    folder = tmp_path / "plots"
    folder.mkdir()
    every = rows("a", "teacher") + rows("s-hard", "baseline", "s", "", (20, 22)) + rows("s-T4", "student", "s", "4", (12, 16))
    (folder / "runs.csv").write_bytes(table.to_csv(every))
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
    (folder / "best.csv").write_bytes(table.to_csv([best]))
    return folder


def test_numbers(tmp_path, plots):
    report(plots=plots, out=tmp_path / "out")
    text = (tmp_path / "out/results.md").read_text()
    assert "| s-T4 | 1,234 | 86.00 ± 2.83 | 14.0 ± 2.8 |" in text  # of 12 and 16: deviation √8
    assert "| a | 1,234 | 90.00 | 10.0 |" in text
    assert "s at T = 4 and alpha = 0.5 (lowest validation NLL): 14.0 ± 2.8 test errors; on hard labels 21.0 ± 1.4." in text
    assert "That is 7.0 fewer; 95 % intervals of what is saved: -5.7 to 19.7 over seeds (paired t), 2.0 to 12.0 over" in text


def test_a_loss_is_called_a_loss(tmp_path, plots):
    text = (plots / "best.csv").read_text().replace(",7.0,", ",-7.0,")
    (plots / "best.csv").write_text(text)
    report(plots=plots, out=tmp_path / "out")
    assert "That is 7.0 more; 95 % intervals of what is saved:" in (tmp_path / "out/index.html").read_text()


def test_the_page_is_whole(tmp_path, plots):
    report(plots=plots, out=tmp_path / "out")
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
    report(plots=plots, out=tmp_path / "out")
    root = ElementTree.parse(tmp_path / "out/temperature.svg").getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "temperature T" in "".join(root.itertext())


def test_same_tables_same_bytes(tmp_path, plots):
    for name in ("one", "two"):
        report(plots=plots, out=tmp_path / name)
    for name in ("index.html", "results.md", "temperature.svg"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_names_are_escaped(tmp_path, plots):
    (plots / "runs.csv").write_text((plots / "runs.csv").read_text().replace("s-T4", "<script>alert(1)</script>"))
    report(plots=plots, out=tmp_path / "out")
    assert "<script>" not in (tmp_path / "out/index.html").read_text()


def test_teachers_alone(tmp_path, plots):
    (plots / "runs.csv").write_bytes(table.to_csv(rows("a", "teacher")))
    (plots / "best.csv").write_bytes(table.to_csv([]))
    report(plots=plots, out=tmp_path / "out")
    assert "<td>a</td>" in (tmp_path / "out/index.html").read_text()
