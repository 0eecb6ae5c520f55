"""Distill: train students of one architecture at one temperature, one per seed, from cached logits: no teacher runs."""

from collections.abc import Sequence
from pathlib import Path

import torch

from pipeline.base import files
from pipeline.models.build import parse_model
from pipeline.training.lesson import Ground, Lesson, Soft, Student, require_seeds
from pipeline.training.objective import LossWeights
from pipeline.training.recipe import Recipe
from pipeline.training.resume import Kept
from pipeline.training.settings import Views


def distill(
    *,
    model: str,
    recipe: Recipe,
    views: Views,
    rows: str,
    soft: Soft | None,
    weighing: LossWeights,
    correct: Sequence[int | str],
    seeds: Sequence[int],
    splits: Path,
    work: Path,
    out: Path,
    device: torch.device,
) -> dict[int, Student]:
    """Write model.json, seed-<seed>.safetensors and the history below `out`; returns the students, by seed.

    soft None trains the hard-label baseline on the training split, in the same views; no cache is read. Order and views
    are functions of (seed, epoch): they differ between seeds and agree between temperatures. rows, correct: see Lesson.
    work: where a training keeps how far it is, to go on after a kill with the same bits. A student that diverges has no
    weights: it is written as such. Raises InputError for settings that do not fit and for a cache that is not of these data
    or views (the field is named), IntegrityError for a damaged cache, BusyError where another process trains the same, or
    replaces what it is trained from meanwhile.
    """
    require_seeds(seeds)
    ground = Ground.open(splits, ("transfer" if soft else "train", "valid"), work, device)
    lesson = Lesson.prepare(ground, views=views, rows=rows, soft=soft, weighings=[weighing], correct=correct, recipe=recipe)
    spec = parse_model(model)
    students = {}
    members = [lesson.identity(spec, recipe, weighing, seed) for seed in seeds]
    with Kept.hold(work, out, members) as kept, files.replaced_folder(out, read=lesson.read(spec, recipe)) as folder:
        for seed in seeds:
            [students[seed]] = lesson.train(spec, recipe, [weighing], seed=seed, names=[out.name], kept=kept)
        lesson.write(folder, spec, recipe, weighing, students, name=out.name)
    return students
