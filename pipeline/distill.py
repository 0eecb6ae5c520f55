"""Distill: train students of one architecture at one temperature from cached logits, one per seed; no teacher runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from pipeline import files, losses, models, table, targets, transfer
from pipeline.cache import Cache
from pipeline.checkpoint import Checkpoint, seed_weights
from pipeline.errors import InputError
from pipeline.fit import Examples, Objective, Recipe, Validation, fit
from pipeline.transfer import UNLABELLED, Split
from pipeline.views import Policy


@dataclass(frozen=True)
class Views:
    """The views that a student draws from: of each row `count`, under a policy and its seed."""

    policy: str
    count: int
    seed: int


@dataclass(frozen=True)
class Soft:
    """Where soft targets come from and what they weigh.

    caches: folders by teacher name. weights: one per cache, equal where None. rule: see targets.combine.
    alpha: weight of the soft term, α · T² · KL(teacher ‖ student); the labels' cross-entropy weighs 1 − α.
    """

    caches: Mapping[str, Path]
    temperature: float
    alpha: float
    rule: str
    weights: Sequence[float] | None = None


def distill(
    *,
    name: str,
    model: str,
    recipe: Recipe,
    views: Views,
    soft: Soft | None,
    seeds: Sequence[int],
    splits: Path,
    out: Path,
    device: torch.device,
) -> list[dict[str, float]]:
    """Write model.json, seed-<seed>.safetensors and history.csv below `out`; returns each seed's last history row.

    soft None trains the hard-label baseline on the training split, in the same views; no cache is read. Order and views
    are functions of (seed, epoch): they differ between seeds and agree between temperatures. Raises InputError for
    settings that do not fit and for a cache that is not of these data or views (the field is named), IntegrityError
    for a damaged cache, BusyError where another process trains the same.
    """
    if not seeds or len(set(seeds)) != len(seeds):
        raise InputError("seeds", expected="one or more, all different", found=str(list(seeds)), fix="Correct the setting.")
    if views.count < 1:
        raise InputError("views", expected="1 or more", found=str(views.count), fix="Correct the setting.")
    opened = transfer.open_splits(splits, ("transfer" if soft else "train", "valid"))
    source, valid = opened.values()
    policy = Policy.parse(views.policy, views.seed)
    caches = _open(soft, opened, policy, views.count)
    labels = _labels(source, soft)
    objective = _objective(labels.to(device), soft, caches, views.count, device)
    spec = models.parse(model)
    examples = Examples(torch.from_numpy(source.all_images()).to(device), policy, views.count)
    validation = Validation(torch.from_numpy(valid.all_images()), valid.labels())
    facts = {
        "seeds": list(seeds),
        "soft": _facts(soft, caches),
        "recipe": recipe.facts(),
        "source_sha256": spec.source_sha256,
    }
    facts |= {"views": {"policy": policy.text, "count": views.count, "seed": views.seed}}
    history, students = [], {}
    with files.replaced_folder(out) as folder:
        for seed in seeds:
            net = models.build(spec, source.shape, len(source.classes), seed=seed).to(device)
            rows = fit(net, examples, objective, recipe, validation, seed=seed, name=f"{name}, seed {seed}")
            history += [{"seed": seed, **row} for row in rows]
            students[seed_weights(seed)] = net
        Checkpoint(spec.text, source.shape, source.classes, facts).save(folder, students)
        files.write(folder / "history.csv", table.to_csv(history))
    return [row for row in history if row["epoch"] == recipe.epochs]


def _open(soft: Soft | None, splits: Mapping[str, Split], policy: Policy, views: int) -> dict[str, Cache]:
    """Open the caches, and refuse those that are not of exactly these splits and views."""
    if soft is None:
        return {}
    if not soft.caches:
        raise InputError("teachers", expected="at least one", found="none", fix="Name them in the setting `teachers`.")
    caches = {name: Cache.open(path) for name, path in soft.caches.items()}
    for cache in caches.values():
        cache.require_data(splits)
        cache.require_views(policy.text, policy.seed, views)
    return caches


def _labels(source: Split, soft: Soft | None) -> torch.Tensor:
    labels = source.labels()
    alpha = soft.alpha if soft else 0.0
    if not 0 <= alpha <= 1:
        raise InputError("alpha", expected="a number from 0 to 1", found=str(alpha), fix="Correct the setting.")
    missing = int((labels == UNLABELLED).sum())
    if missing and alpha < 1:
        fix = "Set alpha to 1 to learn from the soft targets alone."
        raise InputError(str(source.path), expected="a label for every row", found=f"{missing:,} rows without", fix=fix)
    return torch.from_numpy(labels)


def _objective(
    labels: torch.Tensor, soft: Soft | None, caches: Mapping[str, Cache], views: int, device: torch.device
) -> Objective:
    """α · T² · KL(teacher ‖ student) + (1 − α) · cross-entropy with the labels, per example; a term of weight 0 is left out."""
    if soft is None:
        return lambda logits, rows, view: losses.cross_entropy(logits, labels[rows])
    members = [torch.from_numpy(cache.read("transfer", views)).to(device) for cache in caches.values()]
    soft_targets = targets.combine(members, soft.temperature, soft.rule, soft.weights)  # (views, rows, classes)
    alpha = soft.alpha

    def objective(logits: torch.Tensor, rows: torch.Tensor, view: torch.Tensor) -> torch.Tensor:
        total = torch.zeros((), dtype=torch.float64, device=device)
        if alpha > 0:
            total = total + alpha * losses.kl(logits, soft_targets[view, rows], soft.temperature)
        if alpha < 1:
            total = total + (1 - alpha) * losses.cross_entropy(logits, labels[rows])
        return total

    return objective


def _facts(soft: Soft | None, caches: Mapping[str, Cache]) -> dict | None:
    """What model.json says of the soft targets: the digests bind a student to the caches it learned from."""
    if soft is None:
        return None
    return {
        "temperature": soft.temperature,
        "alpha": soft.alpha,
        "rule": soft.rule,
        "weights": targets.normalised(soft.weights, len(caches)),
        "caches": {name: cache.manifest.digest for name, cache in caches.items()},
    }
