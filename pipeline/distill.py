"""Distill: train students of one architecture at one temperature from cached logits, one per seed; no teacher runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from pipeline import files, losses, models, table, transfer
from pipeline.cache import Cache
from pipeline.checkpoint import Checkpoint, seed_weights
from pipeline.errors import InputError
from pipeline.examples import Batch, Examples
from pipeline.fit import Objective, Recipe, Validation, fit
from pipeline.targets import Targets
from pipeline.transfer import UNLABELLED, Split
from pipeline.views import Policy
from pipeline.work import require_sealed


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
    work: Path,
    out: Path,
    device: torch.device,
) -> list[dict[str, float]]:
    """Write model.json, seed-<seed>.safetensors and history.csv below `out`; returns each seed's last history row.

    soft None trains the hard-label baseline on the training split, in the same views; no cache is read. Order and views
    are functions of (seed, epoch): they differ between seeds and agree between temperatures. work: where captures are under
    way, for a message. Raises InputError for
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
    targets = _targets(soft, opened, policy, views.count, work)
    objective = _objective(_labels(source, soft).to(device), soft)
    spec = models.parse(model)
    examples = Examples(source, policy, views.count, targets, recipe.memory_bytes, device)
    validation = Validation(torch.from_numpy(valid.all_images()), valid.labels())
    facts = {
        "seeds": list(seeds),
        "soft": _facts(soft, targets),
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


def _targets(soft: Soft | None, splits: Mapping[str, Split], policy: Policy, views: int, work: Path) -> Targets | None:
    """Open the caches, and refuse those that are not of exactly these splits and views."""
    if soft is None:
        return None
    for path in soft.caches.values():
        require_sealed(path, work)
    caches = {name: Cache.open(path) for name, path in soft.caches.items()}
    targets = Targets.of(caches, soft.temperature, soft.rule, soft.weights)
    for cache in caches.values():
        cache.require_data(splits)
        cache.require_views(policy.text, policy.seed, views)
    return targets


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


def _objective(labels: torch.Tensor, soft: Soft | None) -> Objective:
    """α · T² · KL(teacher ‖ student) + (1 − α) · cross-entropy with the labels, per example; a term of weight 0 is left out."""
    alpha = soft.alpha if soft else 0.0

    def objective(logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        total = torch.zeros((), dtype=torch.float64, device=logits.device)
        if alpha > 0:
            total = total + alpha * losses.kl(logits, batch.targets, soft.temperature)
        if alpha < 1:
            total = total + (1 - alpha) * losses.cross_entropy(logits, labels[batch.rows])
        return total

    return objective


def _facts(soft: Soft | None, targets: Targets | None) -> dict | None:
    """What model.json says of the soft targets: the digests bind a student to the caches it learned from."""
    if soft is None:
        return None
    return {
        "temperature": soft.temperature,
        "alpha": soft.alpha,
        "rule": soft.rule,
        "weights": targets.weights,
        "caches": {name: cache.manifest.digest for name, cache in targets.caches.items()},
    }
