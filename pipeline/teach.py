"""Teach: train one teacher on the training split's labels."""

from pathlib import Path

import torch

from pipeline import files, models, table, transfer
from pipeline.checkpoint import WEIGHTS, Checkpoint, resumable
from pipeline.examples import Examples
from pipeline.fit import Recipe, Row, Validation, best_row, circumstances, fit
from pipeline.objective import HARD, Objective
from pipeline.views import Policy


def teach(
    *,
    name: str,
    model: str,
    recipe: Recipe,
    policy: str,
    seed: int,
    splits: Path,
    work: Path,
    out: Path,
    device: torch.device,
) -> Row:
    """Write model.safetensors, model.json and history.csv below `out`. Returns the row of the epoch that was kept.

    policy: how training images are augmented; every epoch shows each row in a view that no epoch had before, or as it
    is under `none`. splits: the folder that ingest wrote. work: where the training keeps how far it is, to go on after a
    kill with the same bits. Raises InputError for settings that do not fit, BusyError where another process trains the same.
    """
    train, valid = transfer.open_splits(splits, ("train", "valid")).values()
    if recipe.selects:
        valid.require_unfolded("keep: best")
    spec = models.parse(model)
    net = models.build(spec, train.shape, len(train.classes), seed=seed).to(device)
    seen = Policy.parse(policy, seed)
    examples = Examples(train, seen, None, None, recipe.memory_bytes, device)
    objective = Objective.of([HARD], torch.from_numpy(train.labels()).to(device))
    validation = Validation.of(valid, device)
    facts = {"seed": seed, "policy": seen.text, "recipe": recipe.facts(), "source_sha256": spec.source_sha256}
    identity = {
        "model": spec.text,
        **facts,
        "views": seen.facts(),
        **circumstances(train, valid, device, "pipeline.teach"),
    }
    with resumable(work, out, identity) as kept, files.replaced_folder(out) as folder:
        what = {"seed": seed, "name": f"teacher {name}", "state": kept / WEIGHTS}
        [rows] = fit(net, examples, objective, recipe, validation, **what)
        best = best_row(rows) if recipe.selects else rows[-1]
        facts["kept_epoch"] = best["epoch"]
        Checkpoint(spec.text, train.shape, train.classes, facts).save(folder, {WEIGHTS: net})
        files.write(folder / "history.csv", table.to_csv(rows))
    return best
