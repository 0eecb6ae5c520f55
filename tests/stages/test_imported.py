"""A teacher of which there are logits only, in every command that a user gives."""

import re

import pytest

import elsewhere
from pipeline.cache.imported import import_logits
from pipeline.data.settings import Views
from pipeline.data.splits import open_splits
from pipeline.results.tables import RunRow, Tables
from projects import make, says


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project with students of teacher x, whose logits were made elsewhere, and of a, which is a net."""
    with pytest.MonkeyPatch.context() as patch:
        folder = make(tmp_path_factory.mktemp("project"), patch)
        path = folder / "params.yaml"
        text = path.read_text().replace("distill: {teachers: [a]", "distill: {teachers: [x]")
        path.write_text(text.replace("teachers:\n", "teachers:\n  x: {model: none}\n", 1))
        logits = elsewhere.made(folder / "data")
        file = elsewhere.write_lists(folder / "x.parquet", elsewhere.lines(folder / "data", logits))
        import_logits(
            logits=[file], splits=folder / "data/transfer", views=Views("shift(1)", 3, 5), out=folder / "data/teachers/x"
        )
        assert "20 rows × 3 views" in says(0, "capture", "x")
        yield folder


def test_students_learn_from_its_cache(project):
    """And not with it in the loop, which is told in one line."""
    assert "s-T2: 1 seed" in says(0, "distill", "s", "-T", "2")
    said = says(2, "distill", "s", "-T", "2", "--live")
    assert said.splitlines()[-1] == (
        "Error: teacher x, --live: expected a teacher with a net, found logits that were made elsewhere. "
        "Leave --live out: students learn from its cache."
    )
    assert not (project / "data/students/s-T2-live").exists()


def test_it_is_verified_deeply(project):
    assert "25 pairs run again, logits, worst difference 0 " in says(0, "verify", "x", "--deep", "25")


def test_it_is_inspected(project):
    said = says(0, "inspect", "x")
    assert "x: imported" in said
    assert "transfer logits  3 × 20 × 3 (views, rows, classes)" in said


def test_it_is_measured_and_reported_without_a_number_of_parameters(project):
    """Its errors are those of the file's logits; an ensemble with it has no size either, and the others keep theirs."""
    says(0, "distill", "s", "-T", "2")
    says(0, "distill", "s", "--hard")
    says(0, "evaluate", "--ensemble", "x", "--ensemble", "a")
    found = {(row.run, row.split): row for row in Tables.open(project / "data/plots").read(RunRow)}
    test = open_splits(project / "data/transfer", ["test"])["test"]
    wrong = int((elsewhere.made(project / "data")["test"][0].argmax(-1) != test.labels()).sum())
    assert (found["x", "test"].errors, found["x", "test"].parameters) == (wrong, None)
    assert found["ensemble", "test"].parameters is None
    assert found["a", "test"].parameters == 16 * 5 + 5 + 5 * 3 + 3
    says(0, "report")
    page = (project / "data/report/results.md").read_text()
    assert re.search(r"^\| x[^|]*\| — \|", page, re.MULTILINE)
    assert re.search(r"^\| a[^|]*\| 103 \|", page, re.MULTILINE)
    assert "<td>—</td>" in (project / "data/report/index.html").read_text()


def test_its_time_is_nobodys(project):
    """No command here trained it; a student with it in the loop cannot be compared with."""
    says(0, "distill", "s", "-T", "2")
    said = says(0, "cost")
    assert "teach x" not in said
    assert "a teacher of which there are logits only cannot run in the loop" in said
