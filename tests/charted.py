"""Chapters of made-up tables, and what their charts draw."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from conftest import NO_GALLERY, NO_LINEAGE, write_tables
from pipeline.results.footprint import FORMAT, Entry, Footprint
from pipeline.results.page.chapter import Chapter
from pipeline.results.page.section import Figure
from pipeline.results.tables import Tables
from runs import rows

HOSTILE = "<script>alert('&')</script>\u202e" + "x" * 10_000


def chapter(folder: Path, every: list[dict], *, teachers=("a",), classes=("x", "y"), models=None, **more) -> Chapter:
    """The chapter of these rows of the table `runs`. more: rows of other tables, by their names, and fields of the chapter."""
    fields = {name: more.pop(name) for name in ("costs", "footprint", "name") if name in more}
    gallery = replace(NO_GALLERY, teachers=tuple(teachers), classes=tuple(classes))
    lineage = replace(NO_LINEAGE, classes=len(classes), models=models or {})
    written = write_tables(folder / "plots", gallery=gallery, lineage=lineage, runs=every, **more)
    return Chapter(**{"name": "", "tables": Tables.open(written)} | fields)


def students(name: str, *temperatures: float, errors=(12, 16), alpha=0.5) -> list[dict]:
    """A student at these temperatures."""
    return [
        row for T in temperatures for row in rows(f"{name}-T{T:g}-{alpha:g}", "student", name, T, errors, alpha)
    ]  # fmt: skip


def best(student: str, run: str, **more: Any) -> dict:
    """A row of the table `best`: 14 errors of 100, where hard labels make 21."""
    return {
        "student": student, "run": run, "temperature": 4.0, "alpha": 0.5, "seeds": 2, "lost": 0, "valid_nll": 0.25,
        "test_errors": 14.0, "baseline_test_errors": 21.0, "baseline_test_errors_std": 1.0, "errors_saved": 7.0,
        "over_rows_low": 2.0, "over_rows_high": 12.0,
    } | more  # fmt: skip


def everything(names: Sequence[str], teachers: Sequence[str], temperatures=(1, 4), errors=(12, 16), epochs=2) -> dict[str, Any]:
    """Rows of every table that a page draws: of teachers, their ensemble, and students with baselines; and nets by run."""
    runs = [*(row for name in teachers for row in rows(name, "teacher")), *rows("ensemble", "ensemble")]
    for name in names:
        runs += rows(f"{name}-hard", "baseline", name, None, errors) + students(name, *temperatures, errors=errors)
    nets = dict.fromkeys((row["run"], row["seed"]) for row in runs)
    curve = {"train_loss": 1.0, "valid_accuracy": 0.5, "valid_nll": 1.0}
    confident = {"rows": 9, "confidence": 0.95, "accuracy": 1.0}
    return {
        "runs": runs,
        "best": [best(name, f"{name}-T4-0.5") for name in names],
        "epochs": [
            {"run": run, "seed": seed, "epoch": epoch} | curve
            for run, seed in nets if run != "ensemble" for epoch in range(1, epochs + 1)
        ],
        "bins": [{"run": run, "seed": seed, "bin": number} | confident for run, seed in nets for number in range(15)],
        "confusions": [
            {"run": run, "label": label, "predicted": taken, "rows": number + 1.5}
            for number, (run, _) in enumerate(nets) for label, taken in ((0, 1), (1, 0))
        ],
        "models": {run: "net" for run, _ in nets if run != "ensemble"},
    }  # fmt: skip


def footprint(classes: int = 2, **entries: tuple[int, float]) -> Footprint:
    """Parameters and milliseconds of a row, by model; 64 rows take ten times as long."""
    return Footprint(FORMAT, "a machine", tuple(
        Entry(model, (1, 4, 4), classes, size, 10 * size, 4 * size, {"1": ms / 1e3, "64": ms / 1e2}, "")
        for model, (size, ms) in entries.items()
    ))  # fmt: skip


def drawn(figure: Figure) -> list[Mapping[str, Any]]:
    """Every row of data that a chart has."""
    return [row for table in _tables(dict(figure.spec)) for row in table]


def _tables(spec: Any) -> Iterator[list[Mapping[str, Any]]]:
    if isinstance(spec, Mapping):
        yield from spec.get("datasets", {}).values()
        if "values" in spec.get("data", {}):
            yield spec["data"]["values"]
        for part in spec.get("layer", []):
            yield from _tables(part)
