"""Lineages: made up ones, and a small project that has one of everything."""

import functools
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

import projects
from conftest import RECIPE
from pipeline.data.inputs.image import Images
from pipeline.models.modelfile import Chosen, Data, Learned, Shown
from pipeline.results.lineage import Lineage, Part, Setting, Stored, Student, Teacher
from pipeline.results.page.chapter import Chapter
from pipeline.results.tables import Basis, Tables
from projects import says

PARAMS = """
teach: {optimizer: "sgd(lr=0.1)", epochs: 2, batch_size: 8, policy: "shift(1)", keep: best, label_smoothing: 0.1}
teachers: {a: {model: "mlp(hidden=[5])", seed: 3}, b: {student: s-T2, seed: 7}}
views: {policy: "shift(1) | flip()", views: 2, view_seed: 5}
capture: {tile: 4, dtype: float16}
recipe: {optimizer: "adam(lr=0.01)", schedule: cosine, epochs: 2, batch_size: 8, seeds: [7, 1], draws: 2, max_norm: 3.5}
students: {s: {model: "mlp(hidden=[3])", rows: "fraction(0.5)", correct: ["1"]}, t: {model: "mlp(hidden=[4])", clip_grad: 1.5}}
temperatures: [2, 2.5]
distill: {teachers: [a], loss: "dkd(beta=2.0)", alpha: 0.7, label_weight: 0.2, t_squared: false, standardise: true,
  loss_warmup: 1, temperature_schedule: linear(end=0.5)}
sweeps: {live: {live: true, students: [t], baseline: false, alphas: [0.5, 0.9], temperatures: [4]}}
"""
VIEWS = Shown("none()", 0, ("version 1",), 1)
DATA = Data("inputs", "labels", "valid inputs", "valid labels")
ROWS = Part(40, 40, "inputs", "labels", 0)


def project() -> Path:
    """A project with a teacher that was trained, and one that was its student; with students of one and of both; and a sweep.

    It is made once for all tests of a process; nobody changes it.
    """
    return Path(_made().name)


@functools.cache
def _made() -> tempfile.TemporaryDirectory:
    folder = tempfile.TemporaryDirectory()
    with pytest.MonkeyPatch.context() as patch:
        projects.make(Path(folder.name), patch)
        Path("params.yaml").write_text(PARAMS)
        for line in (
            "teach a", "capture a", "distill s -T 2", "distill s -T 2.5", "distill s --hard", "teach b", "capture b",
            "distill t -T 2 --teachers a --teachers b --weights 2 --weights 1 --rule logits", "evaluate", "sweep live",
        ):  # fmt: skip
            says(0, *line.split())
    return folder


def opened(plots: str = "data/plots") -> Chapter:
    """The chapter of these tables of the project."""
    return Chapter("", Tables.open(project() / plots))


def telling(told: Lineage) -> Chapter:
    """A chapter of this lineage, and no tables."""
    chapter = Chapter("", Tables(Path("nowhere"), Path("nowhere"), Basis({}, {}, {}), {}, ""))
    vars(chapter)["lineage"] = told
    return chapter


def teacher(name: str, **changes) -> Teacher:
    """A trained teacher, or another with these changes."""
    made = Teacher(name, "teacher", "mlp(hidden=[5])", "version 1", "f" * 64, 1234, 3, 2, DATA, RECIPE, VIEWS, ())
    return replace(made, **changes)


def student(name: str, teachers: Sequence[str] = (), **changes) -> Student:
    """A student of the caches of these teachers at five temperatures with five seeds; a baseline without teachers."""
    kept = dict.fromkeys("01234", 80)
    soft, runs = None, (Setting(f"{name}-hard", None, None, None, kept, {}),)
    if teachers:
        caches, weights = dict.fromkeys(teachers, "c" * 64), (1 / len(teachers),) * len(teachers)
        terms = (1.0, 0.5, 0.5, "kl()", "version 1", True, False, "probabilities", 1)
        soft = Learned(*terms, weights, caches, None)
        runs = tuple(Setting(f"{name}-T{t}", float(t), 0.5, 0.5, kept, {}) for t in (1, 2, 4, 8, 20))
    made = Student(
        name, "student" if teachers else "baseline", "mlp(hidden=[3])", "version 1", 99, DATA, RECIPE, VIEWS,
        Chosen("all()", 40, "rows"), soft, None, (), runs,
    )  # fmt: skip
    return replace(made, **changes)


def made(teachers: Sequence[Teacher], students: Sequence[Student], **changes) -> Lineage:
    """A lineage of these, each teacher with a cache."""
    stored = Stored("c" * 64, "logits", (), "float32", 40, 31_400, VIEWS, 2, "float32", 512, ("--views", "1"))
    parts = dict.fromkeys(("train", "transfer"), ROWS) | {"valid": Part(5, 5, "v", "w", 0), "test": Part(3, 3, "t", "u", 0)}
    caches = {each.name: stored for each in teachers}
    told = Lineage(1, Images("L", (1, 4, 4)), 3, {}, parts, tuple(teachers), caches, tuple(students), None)
    return replace(told, **changes)


def many(teachers: int, students: int) -> Lineage:
    """A lineage of so many."""
    names = [f"n{number}" for number in range(teachers)]
    each = [(student(f"s{number}"), student(f"s{number}", names)) for number in range(students)]
    return made([teacher(name) for name in names], [one for pair in each for one in pair])
