"""Chapters: what students are compared with, and which is the best."""

import dataclasses

from conftest import NO_GALLERY, write_tables
from pipeline.results.page.chapter import Chapter
from pipeline.results.tables import Tables
from runs import rows


def chapter(folder, teachers=("a",), **tables) -> Chapter:
    gallery = dataclasses.replace(NO_GALLERY, teachers=teachers)
    return Chapter("", Tables.open(write_tables(folder, gallery=gallery, **tables)))


def test_students_are_compared_with_the_ensemble_or_the_only_teacher(tmp_path):
    nets = rows("a", "teacher") + rows("b", "teacher") + rows("ensemble", "ensemble")
    assert chapter(tmp_path / "two", ("a", "b"), runs=nets).teacher.run == "ensemble"
    assert chapter(tmp_path / "one", ("b",), runs=nets).teacher.run == "b"
    assert chapter(tmp_path / "none", ("z",), runs=nets).teacher is None


def test_the_headline_is_the_student_of_the_lowest_validation_nll(tmp_path):
    zeros = {"temperature": 1.0, "alpha": 0.5, "seeds": 1, "lost": 0, "test_errors": 0.0, "baseline_test_errors": 0.0,
             "errors_saved": 0.0, "over_rows_low": 0.0, "over_rows_high": 0.0}  # fmt: skip
    best = [zeros | {"student": name, "run": name, "valid_nll": nll} for name, nll in (("s", 0.3), ("t", 0.2), ("u", 0.4))]
    assert chapter(tmp_path / "some", best=best).headline.run == "t"
    assert chapter(tmp_path / "none").headline is None
