"""Chapters: what students are compared with."""

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
