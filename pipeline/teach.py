"""Teach: train one teacher on the training split's labels."""

from pathlib import Path

import torch

from pipeline import files, losses, models, table, transfer
from pipeline.checkpoint import WEIGHTS, Checkpoint
from pipeline.examples import Examples
from pipeline.fit import Recipe, Validation, fit
from pipeline.views import Policy


def teach(
    *, name: str, model: str, recipe: Recipe, policy: str, seed: int, splits: Path, out: Path, device: torch.device
) -> dict[str, float]:
    """Write model.safetensors, model.json and history.csv below `out`. Returns the last epoch's row of the history.

    policy: how training images are augmented; every epoch shows each row in a view that no epoch had before, or as it
    is under `none`. splits: the folder that ingest wrote. Raises BusyError where another process trains the same.
    """
    train, valid = transfer.open_splits(splits, ("train", "valid")).values()
    spec = models.parse(model)
    net = models.build(spec, train.shape, len(train.classes), seed=seed).to(device)
    seen = Policy.parse(policy, seed)
    examples = Examples(train, seen, None, None, recipe.memory_bytes, device)
    labels = torch.from_numpy(train.labels()).to(device)

    def objective(logits, batch):
        return losses.cross_entropy(logits, labels[batch.rows])

    validation = Validation(torch.from_numpy(valid.all_images()), valid.labels())
    facts = {"seed": seed, "policy": seen.text, "recipe": recipe.facts(), "source_sha256": spec.source_sha256}
    with files.replaced_folder(out) as folder:
        rows = fit(net, examples, objective, recipe, validation, seed=seed, name=f"teacher {name}")
        Checkpoint(spec.text, train.shape, train.classes, facts).save(folder, {WEIGHTS: net})
        files.write(folder / "history.csv", table.to_csv(rows))
    return rows[-1]
