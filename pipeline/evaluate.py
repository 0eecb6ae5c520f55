"""Evaluate: every teacher, their ensemble, every baseline and student on the validation and the test split, at T = 1.

Teachers are measured by their cached logits; none is run. This is the only job that reads the test split's labels.
"""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline import comparison, files, layout, metrics, models, runtime, table, targets, transfer
from pipeline.cache import Cache
from pipeline.checkpoint import Checkpoint, seed_weights
from pipeline.comparison import Interval
from pipeline.errors import InputError
from pipeline.manifest import differences
from pipeline.predict import predict
from pipeline.transfer import Split
from pipeline.work import require_sealed

SPLITS = ("valid", "test")
BEFORE = "-uncorrected"  # how the run of a student before its bias correction ends
_HEADINGS = {"best": ("student", "run", "temperature", "alpha"), "temperature": ("series", "temperature")}  # even without rows
SHOWN = ("accuracy", "errors", "nll", "ece", "agreement")


@dataclass(frozen=True)
class Run:
    """One line of the results: a teacher, the ensemble, or one student setting with all its seeds.

    kind: teacher, ensemble, baseline, student, or uncorrected: a student before the bias correction. student, temperature,
    alpha: text, empty where they do not apply. values: per seed, per split, each metric. wrong: per split (seeds, N) bool,
    the rows that each seed got wrong.
    """

    name: str
    kind: str
    student: str
    temperature: str
    alpha: str
    parameters: int
    seeds: tuple[int | None, ...]
    values: tuple[Mapping[str, Mapping[str, float]], ...]
    wrong: Mapping[str, np.ndarray]

    def column(self, split: str, metric: str) -> list[float]:
        """One metric on one split, a value per seed."""
        return [measured[split][metric] for measured in self.values]

    def facts(self) -> dict[str, Any]:
        """What goes into the metrics file: means, and the sample standard deviation where there are several seeds."""
        facts: dict[str, Any] = {"parameters": self.parameters, "seeds": len(self.seeds)}
        for split in SPLITS:
            facts[split] = {}
            for metric in SHOWN:
                facts[split] |= _spread(metric, self.column(split, metric))
        return facts


@dataclass(frozen=True)
class Trained:
    """Where the weights of one student setting lie, one file per seed. temperature: as written; empty for a baseline."""

    name: str
    student: str
    temperature: str
    folder: Path

    @property
    def kind(self) -> str:
        """Which kind of run it is."""
        return "student" if self.temperature else "baseline"


def evaluate(
    *,
    splits: Path,
    teachers: Mapping[str, tuple[Path, Path]],
    ensemble: Sequence[str],
    rule: str,
    weights: Sequence[float] | None,
    students: Sequence[Trained],
    work: Path,
    metrics_out: Path,
    plots_out: Path,
    device: torch.device,
) -> list[Run]:
    """Write a metrics file per run to `metrics_out`, and the tables to `plots_out`.

    Those are runs, classes, best, history, temperature.csv and results.parquet, which has a row for every student of every
    seed. A student whose class biases were corrected is measured as it was before that as well, as <name>-uncorrected.
    teachers: name → (model folder, cache folder). ensemble: names of those that teach. students: baselines among them.
    Agreement and KL are with the ensemble.
    Raises InputError for a name, a folder or data that do not match, and where settings of a student would be compared on
    validation rows that it was trained on; IntegrityError for damaged ones.
    """
    opened = transfer.open_splits(splits, layout.SPLITS)
    require_comparable(list(teachers), ensemble, students, opened["valid"])
    labels = {name: opened[name].labels() for name in SPLITS}
    for _, folder in teachers.values():
        require_sealed(folder, work)
    caches = {name: Cache.open(folder) for name, (_, folder) in teachers.items()}
    for cache in caches.values():
        cache.require_data(opened)
    logits = {name: {split: cache.read(split)[0] for split in SPLITS} for name, cache in caches.items()}
    combined = {split: _ensemble([logits[name][split] for name in ensemble], rule, weights) for split in SPLITS}

    def run(name: str, kind: str, size: int, seeds: Sequence, found: Sequence[Mapping[str, np.ndarray]], *setting: str) -> Run:
        values = [
            {split: metrics.summary(logits[split], labels[split], combined[split]) for split in SPLITS} for logits in found
        ]
        wrong = {split: np.stack([logits[split].argmax(axis=1) != labels[split] for logits in found]) for split in SPLITS}
        return Run(name, kind, *(setting or ("", "", "")), size, tuple(seeds), tuple(values), wrong)

    runs, sizes = [], {}
    for name, (folder, _) in teachers.items():
        sizes[name] = _parameters(Checkpoint.open(folder))
        runs.append(run(name, "teacher", sizes[name], [None], [logits[name]]))
    if len(ensemble) > 1:
        runs.append(run("ensemble", "ensemble", sum(sizes[name] for name in ensemble), [None], [combined]))
    pixels = {name: torch.from_numpy(opened[name].all_images()).to(device) for name in SPLITS}
    for trained in runtime.progress(students, "evaluate", unit="run"):
        checkpoint = Checkpoint.open(trained.folder)
        _check_student(trained.name, checkpoint, opened["transfer"], caches)
        seeds, offsets = checkpoint.facts["seeds"], checkpoint.facts.get("offsets")
        found = []
        for seed in seeds:
            net = checkpoint.load(trained.folder / seed_weights(seed), device)
            found.append({split: predict(net, pixels[split]) for split in SPLITS})
        alpha = str(checkpoint.facts["soft"]["alpha"]) if trained.temperature else ""
        size = models.parameter_count(net)
        runs.append(run(trained.name, trained.kind, size, seeds, found, trained.student, trained.temperature, alpha))
        if offsets:
            before = [
                {split: logits[split] - np.float32(offset) for split in SPLITS}
                for logits, offset in zip(found, offsets, strict=True)
            ]
            runs.append(run(f"{trained.name}{BEFORE}", "uncorrected", size, seeds, before, "", trained.temperature, alpha))
    _write(runs, labels, opened["transfer"].classes, teachers, students, metrics_out, plots_out)
    return runs


def _check_student(name: str, checkpoint: Checkpoint, data: Split, caches: Mapping[str, Cache]) -> None:
    """Refuse a student of other data, or of caches that are no longer these."""
    soft = checkpoint.facts["soft"]
    wanted = {"classes": list(data.classes), "shape": list(data.shape)}
    found = {"classes": list(checkpoint.classes), "shape": list(checkpoint.shape)}
    if soft is not None:
        found["caches"] = soft["caches"]
        wanted["caches"] = {teacher: caches[teacher].manifest.digest for teacher in soft["caches"] if teacher in caches}
    for field, expected, had in differences(wanted, found):
        fix = "Run `softcache distill` again; under DVC, its deps in dvc.yaml must name the cache of every teacher."
        raise InputError(f"student {name}, {field}", expected=f"{expected} as it is now", found=str(had), fix=fix)


def require_comparable(teachers: Sequence[str], ensemble: Sequence[str], students: Sequence[Trained], valid: Split) -> None:
    """Raise InputError for what cannot be measured side by side.

    That is an ensemble of unknown teachers, two runs of one name, and several settings of a student where the validation
    split, by which one would be chosen, was trained on.
    """
    if unknown := [name for name in ensemble if name not in teachers]:
        fix = "Correct the teachers that students learn from."
        raise InputError("ensemble", expected=f"some of {', '.join(teachers)}", found=", ".join(unknown), fix=fix)
    runs = [(name, "teacher") for name in teachers] + [("ensemble", "ensemble")] * (len(ensemble) > 1)
    for name in [*teachers, *(trained.student for trained in students)]:
        if name.endswith(BEFORE):
            expected = f"a name that does not end in {BEFORE}, as those of corrected students do"
            raise InputError(f"run name {name}", expected=expected, found=name, fix="Rename it.")
    kinds: dict[str, str] = {}
    for name, kind in runs + [(trained.name, trained.kind) for trained in students]:
        if name in kinds:
            found = f"a {kinds[name]} and a {kind}"
            raise InputError(f"run name {name}", expected="one run of that name", found=found, fix="Rename one of them.")
        kinds[name] = kind
    settings = [trained.student for trained in students if trained.temperature]
    if len(set(settings)) < len(settings):
        valid.require_unfolded("choice among several settings of a student")


def best(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """For each student the temperature and alpha with the lowest mean validation NLL, against its baseline on the test split.

    The difference is baseline minus distilled in errors: above 0 is a gain. Its intervals are those of comparison.py:
    over_seeds is paired over the seeds both have, over_rows is the bootstrap over test rows.
    """
    rows = []
    for baseline in (run for run in runs if run.kind == "baseline"):
        rivals = [run for run in runs if run.kind == "student" and run.student == baseline.student]
        if not rivals:
            continue
        chosen = min(rivals, key=lambda run: statistics.fmean(run.column("valid", "nll")))
        before = dict(zip(baseline.seeds, baseline.column("test", "errors"), strict=True))
        after = dict(zip(chosen.seeds, chosen.column("test", "errors"), strict=True))
        gains = [before[seed] - after[seed] for seed in before if seed in after]
        if not gains:
            found = f"{sorted(before)} and {sorted(after)}"
            fix = "Train both with the same seeds."
            raise InputError(f"seeds of {baseline.name} and {chosen.name}", expected="some in common", found=found, fix=fix)
        rows.append(
            {
                "student": baseline.student,
                "run": chosen.name,
                "temperature": chosen.temperature,
                "alpha": chosen.alpha,
                **_spread("valid_nll", chosen.column("valid", "nll")),
                **_spread("test_errors", after.values()),
                **_spread("baseline_test_errors", before.values()),
                **_spread("errors_saved", gains),
                **_ends("over_seeds", comparison.paired(before, after)),
                **_ends("over_rows", comparison.bootstrap(baseline.wrong["test"], chosen.wrong["test"])),
            }
        )
    return rows


def _spread(name: str, values: Iterable[float]) -> dict[str, float]:
    """Mean and sample standard deviation, the latter only where there are several values."""
    held = list(values)
    spread = {f"{name}_std": statistics.stdev(held)} if len(held) > 1 else {}
    return {name: statistics.fmean(held), **spread}


def _ends(name: str, interval: Interval | None) -> dict[str, float]:
    return {} if interval is None else {f"{name}_low": interval.low, f"{name}_high": interval.high}


def _ensemble(members: list[np.ndarray], rule: str, weights: Sequence[float] | None) -> np.ndarray:
    return targets.combine([torch.from_numpy(member) for member in members], 1.0, rule, weights).numpy()


def _parameters(checkpoint: Checkpoint) -> int:
    return models.parameter_count(models.build(models.parse(checkpoint.model), checkpoint.shape, len(checkpoint.classes)))


def _write(
    runs: Sequence[Run],
    labels: Mapping[str, np.ndarray],
    classes: Sequence[str],
    teachers: Mapping,
    students: Sequence[Trained],
    metrics_out: Path,
    plots_out: Path,
) -> None:
    sources = [(name, folder) for name, (folder, _) in teachers.items()]
    sources += [(trained.name, trained.folder) for trained in students]
    tables = {
        "runs": _long(runs),
        "classes": _by_class(runs, labels, classes),
        "best": best(runs),
        "history": _histories(sources),
        "temperature": _by_temperature(runs),
    }
    with files.replaced_folder(metrics_out) as folder:
        for run in runs:
            files.write(folder / f"{run.name}.json", files.readable_json(run.facts()))
    with files.replaced_folder(plots_out) as folder:
        for name, rows in tables.items():
            files.write(folder / f"{name}.csv", table.to_csv(rows, _HEADINGS.get(name, ())))
        files.write(folder / "results.parquet", table.to_parquet(_results(runs)))


def _results(runs: Sequence[Run]) -> list[dict[str, object]]:
    """One row per student and seed: settings, and each metric on both splits. T and alpha are null for baselines."""
    return [
        {
            "student": run.student,
            "temperature": float(run.temperature) if run.temperature else None,
            "alpha": float(run.alpha) if run.alpha else None,
            "seed": seed,
            "parameters": run.parameters,
            **{f"{split}_{metric}": value for split in SPLITS for metric, value in values[split].items()},
        }
        for run in runs
        if run.student
        for seed, values in zip(run.seeds, run.values, strict=True)
    ]


def _long(runs: Sequence[Run]) -> list[dict[str, object]]:
    """One row per run, seed and split, with every metric."""
    return [
        {
            "run": run.name,
            "kind": run.kind,
            "student": run.student,
            "temperature": run.temperature,
            "alpha": run.alpha,
            "parameters": run.parameters,
            "seed": "" if seed is None else seed,
            "split": split,
            **values[split],
        }
        for run in runs
        for seed, values in zip(run.seeds, run.values, strict=True)
        for split in SPLITS
    ]


def _by_class(runs: Sequence[Run], labels: Mapping[str, np.ndarray], classes: Sequence[str]) -> list[dict[str, object]]:
    """One row per run, seed, split and class: how many rows are of it, and how many of those were taken for another."""
    rows = []
    for run in runs:
        for split in SPLITS:
            counts = np.bincount(labels[split], minlength=len(classes))
            for seed, wrong in zip(run.seeds, run.wrong[split], strict=True):
                errors = np.bincount(labels[split][wrong], minlength=len(classes))
                where = {"run": run.name, "seed": "" if seed is None else seed, "split": split}
                rows += [
                    where | {"class": name, "rows": int(count), "errors": int(missed)}
                    for name, count, missed in zip(classes, counts, errors, strict=True)
                ]
    return rows


def _by_temperature(runs: Sequence[Run]) -> list[dict[str, object]]:
    """One row per student, alpha and temperature, means over seeds; a line of the plot for each student and alpha."""
    rows = []
    several = len({run.alpha for run in runs if run.kind == "student"}) > 1
    for run in runs:
        if run.kind == "student":
            means = {f"{split}_accuracy": statistics.fmean(run.column(split, "accuracy")) for split in SPLITS}
            series = f"{run.student}, alpha {run.alpha}" if several else run.student
            rows.append({"series": series, "temperature": run.temperature, **means})
    return rows


def _histories(sources: Sequence[tuple[str, Path]]) -> list[dict[str, object]]:
    """Every training's history, the mean over seeds of each epoch."""
    rows = []
    for run, folder in sources:
        by_epoch: dict[str, list[dict[str, str]]] = {}
        for row in table.from_csv(folder / "history.csv", f"teach {run}` or `softcache distill {run}"):
            by_epoch.setdefault(row["epoch"], []).append(row)
        for epoch, found in by_epoch.items():
            means = {
                key: statistics.fmean(float(row[key]) for row in found) for key in ("train_loss", "valid_accuracy", "valid_nll")
            }
            rows.append({"series": run, "epoch": epoch, **means})
    return rows
