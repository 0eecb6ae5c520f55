"""Distill: train students of one architecture at one temperature, one per seed, from cached logits."""

from collections.abc import Sequence

import torch

from pipeline.base import files, ranks
from pipeline.base.places import Place
from pipeline.data.settings import Views
from pipeline.models.build import parse_model
from pipeline.models.elsewhere import require_student
from pipeline.training.lesson import Ground, Lesson, Soft, Student, require_seeds
from pipeline.training.objective import LossWeights
from pipeline.training.recipe import Recipe
from pipeline.training.resume import Kept


def distill(
    *,
    model: str,
    recipe: Recipe,
    views: Views,
    rows: str,
    soft: Soft | None,
    weighting: LossWeights,
    correct: Sequence[int | str],
    seeds: Sequence[int],
    splits: Place,
    work: Place,
    out: Place,
    device: torch.device,
) -> list[Student]:
    """Train students of one architecture, one per seed, and write them to a folder.

    The folder gets model.json, seed-<seed>.safetensors for each student and history.parquet. The order of rows and their
    views are functions of (seed, epoch): they differ between seeds and agree between temperatures. A training that was
    killed goes on from what it kept in `work`, and ends with the same bits. A student that diverges is written without
    weights.

    Args:
        model: A model spec, such as `mlp(hidden=[30])`; see models.build.parse_model.
        recipe: Optimizer, schedule, epochs, batch size and so on.
        views: The views that students draw from; those of the caches.
        rows: Which rows to learn from: `all`, `fraction(0.03)`, `only([7, 8])`, `without([3])`; see data.selection.
        soft: Where soft targets come from, and their loss. None trains the baseline: on the labels of the training split,
            in the same views, without reading a cache.
        weighting: Temperature and weights of soft loss and labels; objective.HARD for the baseline.
        correct: Classes, as numbers or names, whose bias to correct on the validation split after training.
        seeds: One student each; they decide initial weights, order of rows, drawn views and dropout.
        splits: The folder that ingest wrote.
        work: The folder where unfinished trainings are kept.
        out: The folder to write; it is replaced as a whole.
        device: Where to train; see base.runtime.prepare.

    Returns:
        The students in the order of the seeds; of several ranks, the first one gets them, and others none.

    Raises:
        InputError: For bad settings, and for a cache of other data or views; it names the field.
        IntegrityError: For a damaged cache.
        BusyError: Where another process trains the same students, or replaces data or caches meanwhile.
    """
    require_seeds(seeds)
    ground = Ground.open(splits, ("transfer" if soft else "train", "valid"), work, device)
    lesson = Lesson.prepare(ground, views=views, rows=rows, soft=soft, weightings=[weighting], correct=correct, recipe=recipe)
    spec = parse_model(model)
    require_student(spec)
    lesson.require_guided(spec)
    students = []
    members = [lesson.identity(spec, recipe, weighting, seed) for seed in seeds]
    replaced = ranks.only_first(files.replaced_folder(out, read=lesson.read(spec, recipe)))
    with Kept.hold(work, out, members) as kept, replaced as folder:
        for seed in seeds:
            students += lesson.train(spec, recipe, [weighting], seed=seed, names=[out.name], kept=kept)
        if folder is not None:
            lesson.write(folder, spec, recipe, weighting, students, name=out.name)
    return students
