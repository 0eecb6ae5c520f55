"""Run: the metrics of one teacher, ensemble, baseline or student setting, with all its seeds."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from pipeline.stats import metrics
from pipeline.stats.metrics import Summary

SPLITS = ("valid", "test")
ENSEMBLE = "ensemble"  # the run of several teachers
BEFORE = "-uncorrected"  # the suffix of the run of a student before its bias correction


@dataclass(frozen=True)
class Run:
    """A teacher, the ensemble, a baseline or a student setting, with all its seeds.

    kind: teacher, ensemble, baseline, student, or uncorrected (a student before its bias correction). student, temperature,
    alpha: None if they do not apply. parameters: None where they are not known. seeds: of the measured nets. values: for
    each of them all metrics, by split. wrong: by split (seeds, N) bool, true where the net of that seed is wrong on that
    row. said: (seeds, N) int64, the class that it names on each test row. bins: for each of them, metrics.reliability on
    the test split. diverged: the epoch by seed, for nets that are left out. chance: the seeds of nets that are no better than
    predicting the commonest class.
    """

    name: str
    kind: str
    parameters: int | None
    seeds: tuple[int | None, ...]
    values: tuple[Mapping[str, Summary], ...]
    wrong: Mapping[str, np.ndarray]
    said: np.ndarray
    bins: tuple[np.ndarray, ...]
    student: str | None = None
    temperature: float | None = None
    alpha: float | None = None
    diverged: Mapping[int, int] = field(default_factory=dict)
    chance: frozenset[int | None] = frozenset()

    def column(self, split: str, metric: str) -> list[float]:
        """One metric on one split: a value per seed."""
        return [getattr(measured[split], metric) for measured in self.values]

    def of(self, seeds: Sequence[int | None]) -> "Run":
        """This run with only these seeds, in this order."""
        indices = [self.seeds.index(seed) for seed in seeds]
        wrong = {split: each[indices] for split, each in self.wrong.items()}
        values, bins = (tuple(self.values[index] for index in indices), tuple(self.bins[index] for index in indices))
        return replace(self, seeds=tuple(seeds), values=values, wrong=wrong, said=self.said[indices], bins=bins)


@dataclass(frozen=True)
class Measure:
    """What logits are compared with, by split. labels: (N,) int64. teacher: (N, C) float, the logits of the ensemble."""

    labels: Mapping[str, np.ndarray]
    teacher: Mapping[str, np.ndarray]

    def run(
        self, name: str, kind: str, size: int | None, nets: Mapping[int | None, Mapping[str, np.ndarray]], **settings: Any
    ) -> Run:
        """The run of these nets. nets: logits (N, C) by seed and split. settings: further fields of Run."""
        values = [
            {split: metrics.summary(z[split], self.labels[split], self.teacher[split]) for split in SPLITS}
            for z in nets.values()
        ]
        said = {
            split: np.array([z[split].argmax(axis=1) for z in nets.values()], np.int64).reshape(len(nets), len(labels))
            for split, labels in self.labels.items()
        }
        wrong = {split: said[split] != labels for split, labels in self.labels.items()}
        bins = [metrics.reliability(z["test"], self.labels["test"]) for z in nets.values()]
        at_chance = [metrics.at_chance(measured["valid"].accuracy, self.labels["valid"]) for measured in values]
        chance = frozenset(seed for seed, is_so in zip(nets, at_chance, strict=True) if is_so)
        return Run(name, kind, size, tuple(nets), tuple(values), wrong, said["test"], tuple(bins), chance=chance, **settings)


def mean_std(values: Iterable[float]) -> tuple[float, float | None]:
    """The mean, and the sample standard deviation if there are several values."""
    numbers = list(values)
    return statistics.fmean(numbers), statistics.stdev(numbers) if len(numbers) > 1 else None
