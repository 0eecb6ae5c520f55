"""Teach: train one teacher on the training split's labels."""

from pathlib import Path

import torch

from pipeline.base import files
from pipeline.base.errors import InputError
from pipeline.base.spec import witnesses
from pipeline.data.splits import open_splits
from pipeline.data.views import Policy
from pipeline.models.build import build, parse_model
from pipeline.models.checkpoint import Checkpoint
from pipeline.models.modelfile import Data, Net, Shown
from pipeline.training.examples import Examples
from pipeline.training.fit import Epoch, Validation, circumstances, fit
from pipeline.training.objective import HARD, Objective
from pipeline.training.recipe import Recipe
from pipeline.training.resume import Kept
from pipeline.training.signal import NoTeacher


def teach(
    *,
    model: str,
    recipe: Recipe,
    policy: str,
    seed: int,
    splits: Path,
    work: Path,
    out: Path,
    device: torch.device,
) -> Epoch:
    """Write model.safetensors, model.json and its history below `out`. Returns the epoch that was kept.

    The teacher is called after `out`. policy: how training images are augmented; every epoch shows each row in a view that
    no epoch had before, or as it is under `none`. splits: the folder that ingest wrote. work: where the training keeps how
    far it is, to go on after a kill with the same bits. Raises InputError for settings that do not fit and where the training
    diverges, BusyError where another process trains the same, or replaces the splits meanwhile.
    """
    train, valid = open_splits(splits, ("train", "valid")).values()
    if recipe.selects:
        valid.require_unfolded("keep: best")
    spec = parse_model(model)
    net = build(spec, train.shape, len(train.classes), seed=seed).to(device)
    seen = Policy.parse(policy, seed)
    examples = Examples(train, seen, None, NoTeacher(), recipe.memory_bytes, device)
    objective = Objective.of([HARD], torch.from_numpy(train.labels()).to(device))
    validation = Validation.of(valid, device)
    identity = {
        "model": {"spec": spec.text, "behaviour": spec.behaviour},
        "recipe": recipe.to_dict(),
        "seed": seed,
        "views": seen.to_dict(),
        **circumstances(train, valid, device),
    }
    read = [train.witness, *witnesses(spec, *recipe.specs, *seen.steps)]
    with Kept.hold(work, out, [identity]) as kept, files.replaced_folder(out, read=read) as folder:
        [fitted] = fit(
            net, examples, objective, recipe, validation, seed=seed, name=f"teacher {out.name}", state=kept.state([identity])
        )
        if fitted.diverged:
            raise InputError(
                f"training of teacher {out.name}, epoch {fitted.diverged}",
                expected="a finite loss and finite logits",
                found="others: it diverged",
                fix="Lower the learning rate.",
            )
        kept_epoch = fitted.kept(recipe)
        taught = Net(seed, None, kept_epoch.epoch, chance=validation.at_chance(kept_epoch, f"teacher {out.name}"))
        Checkpoint.write(
            folder, kind="teacher", name=out.name, model=spec, split=train, data=Data.of(train, valid), nets={taught: net},
            history=[{"seed": seed, **epoch.to_dict()} for epoch in fitted.history], recipe=recipe.told,
            views=Shown(seen.text, seen.seed, seen.behaviours, None),
        )  # fmt: skip
    return kept_epoch
