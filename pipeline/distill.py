"""Distill: train students of one architecture at one temperature, one per seed, from cached logits: no teacher runs."""

from collections.abc import Sequence
from pathlib import Path

import torch

from pipeline import files, models
from pipeline.checkpoint import resumable, seed_weights
from pipeline.fit import Recipe, Row
from pipeline.lesson import Lesson, Soft, Views, require_seeds
from pipeline.objective import Weighing


def distill(
    *,
    model: str,
    recipe: Recipe,
    views: Views,
    rows: str,
    soft: Soft | None,
    weighing: Weighing,
    correct: Sequence[int | str],
    seeds: Sequence[int],
    splits: Path,
    work: Path,
    out: Path,
    device: torch.device,
) -> list[Row]:
    """Write model.json, seed-<seed>.safetensors and history.csv below `out`; returns the row that each seed's weights are of.

    soft None trains the hard-label baseline on the training split, in the same views; no cache is read. Order and views
    are functions of (seed, epoch): they differ between seeds and agree between temperatures. rows, correct: see Lesson.
    work: where a training keeps how far it is, to go on after a kill with the same bits. Raises InputError for settings
    that do not fit and for a cache that is not of these data or views (the field is named), IntegrityError for a damaged
    cache, BusyError where another process trains the same.
    """
    require_seeds(seeds)
    lesson = Lesson.prepare(
        splits=splits, views=views, rows=rows, soft=soft, weighings=[weighing], correct=correct,
        recipe=recipe, work=work, device=device,
    )  # fmt: skip
    spec = models.parse(model)
    identity = {**lesson.identity(spec, recipe), "weighing": weighing.facts(), "seeds": list(seeds)}
    students = {}
    with resumable(work, out, identity) as kept, files.replaced_folder(out) as folder:
        for seed in seeds:
            [students[seed]] = lesson.train(
                spec, recipe, [weighing], seed=seed, name=f"{out.name}, seed {seed}", state=kept / seed_weights(seed)
            )
        lesson.write(folder, spec, recipe, weighing, students)
    return [student.kept for student in students.values()]
