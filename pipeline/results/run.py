"""What was measured of one teacher, ensemble, baseline or student setting, with all its seeds."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from pipeline.stats import metrics
from pipeline.stats.metrics import Summary

SPLITS = ("valid", "test")
BEFORE = "-uncorrected"  # how the run of a student before its bias correction ends
SHOWN = ("accuracy", "errors", "nll", "ece", "agreement")


@dataclass(frozen=True)
class Run:
    """One line of the results: a teacher, the ensemble, or one student setting with all its seeds.

    kind: teacher, ensemble, baseline, student, or uncorrected: a student before the bias correction. student, temperature,
    alpha: None where they do not apply. seeds: of the nets that are measured; values: of each, per split, every metric.
    wrong: per split (seeds, N) bool, the rows that each seed got wrong. diverged: seed → epoch, of nets that are left out.
    chance: seeds of nets that are no better than naming the commonest class.
    """

    name: str
    kind: str
    parameters: int
    seeds: tuple[int | None, ...]
    values: tuple[Mapping[str, Summary], ...]
    wrong: Mapping[str, np.ndarray]
    student: str | None = None
    temperature: float | None = None
    alpha: float | None = None
    diverged: Mapping[int, int] = field(default_factory=dict)
    chance: frozenset[int | None] = frozenset()

    def column(self, split: str, metric: str) -> list[float]:
        """One metric on one split, a value per seed."""
        return [getattr(measured[split], metric) for measured in self.values]

    def of(self, seeds: Sequence[int | None]) -> "Run":
        """The same of these seeds alone, in this order."""
        places = [self.seeds.index(seed) for seed in seeds]
        wrong = {split: each[places] for split, each in self.wrong.items()}
        return replace(self, seeds=tuple(seeds), values=tuple(self.values[place] for place in places), wrong=wrong)

    def facts(self) -> dict[str, Any]:
        """What goes into the metrics file: means, and the sample standard deviation where there are several seeds."""
        facts: dict[str, Any] = {"parameters": self.parameters, "seeds": len(self.seeds)}
        if self.diverged:
            facts["diverged"] = len(self.diverged)
        for split in SPLITS if self.seeds else ():
            facts[split] = {}
            for metric in SHOWN:
                mean, std = spread(self.column(split, metric))
                facts[split] |= {metric: mean} if std is None else {metric: mean, f"{metric}_std": std}
        return facts


@dataclass(frozen=True)
class Measure:
    """What logits are measured against. labels: per split; teacher: per split the ensemble's logits."""

    labels: Mapping[str, np.ndarray]
    teacher: Mapping[str, np.ndarray]

    def run(self, name: str, kind: str, size: int, nets: Mapping[int | None, Mapping[str, np.ndarray]], **settings: Any) -> Run:
        """A run of these nets, seed → split → logits (N, C). settings: further fields of Run."""
        values = [
            {split: metrics.summary(z[split], self.labels[split], self.teacher[split]) for split in SPLITS}
            for z in nets.values()
        ]
        wrong = {
            split: np.stack([z[split].argmax(axis=1) != self.labels[split] for z in nets.values()])
            if nets
            else np.zeros((0, len(self.labels[split])), bool)
            for split in SPLITS
        }
        chance = [
            seed
            for seed, measured in zip(nets, values, strict=True)
            if metrics.at_chance(measured["valid"].accuracy, self.labels["valid"])
        ]
        return Run(name, kind, size, tuple(nets), tuple(values), wrong, chance=frozenset(chance), **settings)


def spread(values: Iterable[float]) -> tuple[float, float | None]:
    """Mean, and sample standard deviation where there are several values."""
    held = list(values)
    return statistics.fmean(held), statistics.stdev(held) if len(held) > 1 else None
