"""What to deploy: the front, the points of each size, and the table."""

import itertools

from charted import chapter, drawn, footprint, students
from pipeline.results.page.deploy import deploy, pareto
from runs import rows


def test_the_front_is_of_those_that_nothing_beats():
    """All sets of three points on a grid, against the definition."""
    grid = list(itertools.product((1.0, 2.0, 3.0), repeat=2))
    for points in itertools.combinations_with_replacement(grid, 3):
        beaten = {
            (x, y) for x, y in points for cost, gain in points if cost <= x and gain >= y and (cost < x or gain > y)
        }  # fmt: skip
        assert pareto(points) == sorted(set(points) - beaten)


def test_accuracy_against_each_size(tmp_path):
    """90 and 95 % for the teachers, 86 % for the student: all are on the front, unlike the student on hard labels."""
    every = rows("a", "teacher") + rows("b", "teacher") + rows("ensemble", "ensemble", errors=(5,))
    every += students("s", 4) + rows("s-hard", "baseline", "s", errors=(20, 22))
    models = {"a": "large", "b": "large", "s-T4-0.5": "little", "s-hard": "little"}
    measured = footprint(large=(12_340, 2.0), little=(1234, 0.25))
    section = deploy(chapter(tmp_path, every, teachers=("a", "b"), models=models, footprint=measured))
    (figure,) = section.figures
    shown = {(row["net"], row["kind"], row["measure"]): row["x"] for row in drawn(figure) if "net" in row}
    assert len(shown) == 5 * 5
    assert shown["teacher ensemble", "teacher", "ms for 1 row"] == 4
    assert shown["s", "distilled", "multiply-adds a row"] == shown["s", "hard labels", "multiply-adds a row"] == 12_340
    steps = [(row["x"], row["y"]) for row in drawn(figure) if "net" not in row and row["measure"] == "ms for 1 row"]
    assert steps == [(0.25, 86), (2, 90), (4, 95), (4, 95)]
    assert figure.title == "Worth a look: s, teacher a, teacher b and teacher ensemble"  # both teachers, which are equal
    assert "less accurate than one with no more multiply-adds a row" in figure.note
    settings = {row["net"]: row["setting"] for row in drawn(figure) if "net" in row and row["kind"] != "hard labels"}
    assert settings == {"teacher a": "", "teacher b": "", "teacher ensemble": "", "s": "T = 4 and alpha = 0.5"}
    assert figure.text.startswith("test accuracy, % against size. teacher a: 90.00 %, 123,400 multiply-adds a row")
    row = section.content["rows"][-1]
    assert row["net"] == "s at T = 4 and alpha = 0.5"
    assert row["ms for 64 rows"] == "2.5"


def test_without_a_footprint_there_are_parameters(tmp_path):
    section = deploy(chapter(tmp_path, rows("a", "teacher") + students("s", 4)))
    (figure,) = section.figures
    assert "params" not in figure.spec
    assert section.content["machine"] is None
    assert section.content["measure"] == f"softcache footprint --data {tmp_path}"
    assert list(section.content["rows"][0]) == ["net", "accuracy, %", "parameters"]
    assert deploy(chapter(tmp_path, rows("a", "teacher"))) is None
