"""Evaluate: every teacher, their ensemble, every baseline and student on the validation and the test split, at T = 1.

Teachers are measured by their cached logits; none is run. This is the only job that reads the test split's labels.
"""

import logging
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline import commands, comparison, files, metrics, models, runtime, spec, tables, targets, transfer
from pipeline.cache import Cache
from pipeline.checkpoint import Checkpoint
from pipeline.commands import short
from pipeline.comparison import Interval
from pipeline.errors import InputError, IntegrityError
from pipeline.identity import require_teacher
from pipeline.layout import SPLITS as STORED
from pipeline.manifest import differences
from pipeline.predict import TILE, predict
from pipeline.tables import Rows
from pipeline.transfer import Split
from pipeline.work import require_sealed

SPLITS = ("valid", "test")
BEFORE = "-uncorrected"  # how the run of a student before its bias correction ends
SHOWN = ("accuracy", "errors", "nll", "ece", "agreement")
_log = logging.getLogger(__name__)


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
    values: tuple[Mapping[str, Mapping[str, float]], ...]
    wrong: Mapping[str, np.ndarray]
    student: str | None = None
    temperature: float | None = None
    alpha: float | None = None
    diverged: Mapping[int, int] = field(default_factory=dict)
    chance: frozenset[int | None] = frozenset()

    def column(self, split: str, metric: str) -> list[float]:
        """One metric on one split, a value per seed."""
        return [measured[split][metric] for measured in self.values]

    def facts(self) -> dict[str, Any]:
        """What goes into the metrics file: means, and the sample standard deviation where there are several seeds."""
        facts: dict[str, Any] = {"parameters": self.parameters, "seeds": len(self.seeds)}
        if self.diverged:
            facts["diverged"] = len(self.diverged)
        for split in SPLITS if self.seeds else ():
            facts[split] = {}
            for metric in SHOWN:
                facts[split] |= _spread(metric, self.column(split, metric))
        return facts


@dataclass(frozen=True)
class Evaluated:
    """What an evaluation found. missing: students that are not trained yet."""

    runs: Sequence[Run]
    best: Rows
    missing: Sequence["Trained"]


@dataclass(frozen=True)
class Trained:
    """Where the weights of one student setting lie, one file per seed. temperature: None for a baseline."""

    name: str
    student: str
    temperature: float | None
    folder: Path

    @property
    def kind(self) -> str:
        """Which kind of run it is."""
        return "baseline" if self.temperature is None else "student"

    @property
    def command(self) -> str:
        """What trains it."""
        return commands.distill(self.student, None if self.temperature is None else short(self.temperature), self.folder)

    def open(self, study: str | None) -> Checkpoint:
        """Its model.json. study: the sweep that it is of. Raises what Checkpoint.open raises."""
        name = f"{study}/{self.name}" if study else self.name
        fix = f"Run {self.command}."
        checkpoint = Checkpoint.open(self.folder, kinds=[self.kind], name=name, fix=fix)
        found = checkpoint.soft and checkpoint.soft.temperature
        if found != self.temperature:
            what = f"{self.folder}, temperature"
            raise IntegrityError(what, expected=str(self.temperature), found=str(found), fix=fix)
        return checkpoint


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
    study: str | None = None,
) -> Evaluated:
    """Write a metrics file per run to `metrics_out`, and the tables to `plots_out`; see tables.py.

    A student whose class biases were corrected is measured as it was before that as well, as <name>-uncorrected. One that
    is not trained yet is left out, and so is every net that diverged, while training or by logits that are not finite.
    teachers: name → (model folder, cache folder). ensemble: names of those that teach. students: baselines among them;
    study: the sweep that they are of, if any. Agreement and KL are with the ensemble.
    Raises InputError for a name, a folder or data that do not match, where a teacher was trained anew since its cache was
    made, and where settings of a student would be compared on validation rows that it was trained on; IntegrityError for
    what is damaged; BusyError where any of it changes meanwhile.
    """
    opened = transfer.open_splits(splits, STORED)
    require_comparable(list(teachers), ensemble, students, opened["valid"])
    missing = [trained for trained in students if not trained.folder.exists()]
    for trained in missing:
        _log.warning("%s: not trained yet and left out; %s trains it", trained.name, trained.command)
    labels = {name: opened[name].labels() for name in SPLITS}
    for _, folder in teachers.values():
        require_sealed(folder, work)
    caches = {name: Cache.open(folder) for name, (_, folder) in teachers.items()}
    taught = {name: Checkpoint.teacher(folder) for name, (folder, _) in teachers.items()}
    for name, cache in caches.items():
        cache.require_data(opened)
        require_teacher(cache, teachers[name][0])
    logits = {name: {split: cache.read(split)[0] for split in SPLITS} for name, cache in caches.items()}
    combined = {split: _ensemble([logits[name][split] for name in ensemble], rule, weights) for split in SPLITS}
    read = [opened["test"].witness, *(each.witness for each in (*caches.values(), *taught.values()))]
    measure = _Measure(labels, combined)

    runs, specs, histories = [], [], {name: each.history() for name, each in taught.items()}
    for name, each in taught.items():
        runs.append(measure.run(name, "teacher", _parameters(each), {None: logits[name]}))
    if len(ensemble) > 1:
        size = sum(run.parameters for run in runs if run.name in ensemble)
        runs.append(measure.run("ensemble", "ensemble", size, {None: combined}))
    pixels = {name: torch.from_numpy(opened[name].all_images()).to(device) for name in SPLITS}
    there = [trained for trained in students if trained not in missing]
    for trained in runtime.progress(there, "evaluate", unit="run"):
        checkpoint = trained.open(study)
        _check_student(trained, checkpoint, opened["transfer"], caches)
        read.append(checkpoint.witness)
        histories[trained.name] = checkpoint.history()
        specs.append(models.parse(checkpoint.model))
        runs += _student_runs(trained, checkpoint, pixels, device, measure)
    found = best(runs)
    read += spec.witnesses(*specs)
    _write(runs, found, histories, taught, opened["transfer"].classes, labels, read, metrics_out, plots_out)
    return Evaluated(runs, found, missing)


@dataclass(frozen=True)
class _Measure:
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
            if metrics.at_chance(measured["valid"]["accuracy"], self.labels["valid"])
        ]
        return Run(name, kind, size, tuple(nets), tuple(values), wrong, chance=frozenset(chance), **settings)


def _student_runs(
    trained: Trained, checkpoint: Checkpoint, pixels: Mapping[str, torch.Tensor], device: torch.device, measure: _Measure
) -> list[Run]:
    """The run of a student, and that of the same before its biases were corrected, if they were."""
    diverged = {net.seed: net.diverged for net in checkpoint.nets if net.diverged is not None}
    nets: dict[int | None, dict[str, np.ndarray]] = {}
    before: dict[int | None, dict[str, np.ndarray]] = {}
    for net in checkpoint.trained:
        module = checkpoint.load(net, device)
        runtime.suit_threads(models.flops(module, checkpoint.shape) * TILE)
        logits = {split: predict(module, pixels[split]) for split in SPLITS}
        if not all(np.isfinite(each).all() for each in logits.values()):
            _log.warning(
                "%s, seed %d: its logits are not finite on rows to be measured, and it is left out", trained.name, net.seed
            )
            diverged[net.seed] = net.kept_epoch
            continue
        nets[net.seed] = logits
        if net.offsets is not None:
            before[net.seed] = {split: each - np.float32(net.offsets) for split, each in logits.items()}
    size = _parameters(checkpoint)
    alpha = None if trained.temperature is None else checkpoint.soft.alpha
    setting = {"temperature": trained.temperature, "alpha": alpha, "diverged": diverged}
    runs = [measure.run(trained.name, trained.kind, size, nets, student=trained.student, **setting)]
    if before:
        runs.append(measure.run(f"{trained.name}{BEFORE}", "uncorrected", size, before, **setting))
    return runs


def _check_student(trained: Trained, checkpoint: Checkpoint, data: Split, caches: Mapping[str, Cache]) -> None:
    """Refuse a student of other data, or of caches that are no longer these."""
    wanted = {"classes": list(data.classes), "shape": list(data.shape)}
    found = {"classes": list(checkpoint.classes), "shape": list(checkpoint.shape)}
    if checkpoint.soft is not None:
        found["caches"] = dict(checkpoint.soft.caches)
        wanted["caches"] = {name: caches[name].manifest.digest for name in checkpoint.soft.caches if name in caches}
    for name, expected, had in differences(wanted, found):
        fix = f"Run {trained.command} again; under DVC, its deps in dvc.yaml must name the cache of every teacher."
        raise InputError(f"student {trained.name}, {name}", expected=f"{expected} as it is now", found=str(had), fix=fix)


def require_comparable(teachers: Sequence[str], ensemble: Sequence[str], students: Sequence[Trained], valid: Split) -> None:
    """Raise InputError for what cannot be measured side by side.

    That is an ensemble of unknown teachers, or with one of them twice, two runs of one name, and several settings of a
    student where the validation split, by which one would be chosen, was trained on.
    """
    if unknown := [name for name in ensemble if name not in teachers]:
        fix = "Correct the teachers that students learn from."
        raise InputError("ensemble", expected=f"some of {', '.join(teachers)}", found=", ".join(unknown), fix=fix)
    if len(set(ensemble)) < len(ensemble):
        fix = "Name each once, and give `weights` to weigh them."
        raise InputError("ensemble", expected="each teacher once", found=", ".join(ensemble), fix=fix)
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
    settings = [trained.student for trained in students if trained.temperature is not None]
    if len(set(settings)) < len(settings):
        valid.require_unfolded("choice among several settings of a student")


def best(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """For each student the temperature and alpha with the lowest mean validation NLL, against its baseline on the test split.

    The difference is baseline minus distilled in errors: above 0 is a gain. Its intervals are those of comparison.py:
    over_seeds is paired over the `seeds` that both have, over_rows is the bootstrap over test rows. Nets that diverged are
    in no mean; where that leaves nothing to compare, the student has no row.
    """
    rows = []
    for baseline in (run for run in runs if run.kind == "baseline"):
        settings = [run for run in runs if run.kind == "student" and run.student == baseline.student]
        rivals = [run for run in settings if run.seeds]
        if not rivals or not baseline.seeds:
            if settings:
                _log.warning("%s: nothing to compare: all seeds of one side diverged", baseline.student)
            continue
        chosen = min(rivals, key=lambda run: statistics.fmean(run.column("valid", "nll")))
        before = dict(zip(baseline.seeds, baseline.column("test", "errors"), strict=True))
        after = dict(zip(chosen.seeds, chosen.column("test", "errors"), strict=True))
        gains = [before[seed] - after[seed] for seed in before if seed in after]
        if not gains:
            if baseline.diverged or chosen.diverged:
                _log.warning("%s: nothing to compare: the seeds that are left of each side are others", baseline.student)
                continue
            found = f"{sorted(before)} and {sorted(after)}"
            fix = "Train both with the same seeds."
            raise InputError(f"seeds of {baseline.name} and {chosen.name}", expected="some in common", found=found, fix=fix)
        rows.append(
            {
                "student": baseline.student,
                "run": chosen.name,
                "temperature": chosen.temperature,
                "alpha": chosen.alpha,
                "seeds": len(gains),
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
    found: Rows,
    histories: Mapping[str, Rows],
    taught: Mapping[str, Checkpoint],
    classes: Sequence[str],
    labels: Mapping[str, np.ndarray],
    read: Sequence[files.Witness],
    metrics_out: Path,
    plots_out: Path,
) -> None:
    with files.replaced_folder(metrics_out, read=read) as folder:
        for run in runs:
            files.write(folder / f"{run.name}.json", files.readable_json(run.facts()))
    with files.replaced_folder(plots_out) as folder:
        tables.write(
            folder,
            {"runs": _long(runs), "classes": _by_class(runs, labels, classes), "best": found, "results": _results(runs)},
            {"history": _histories(histories), "temperature": _by_temperature(runs)},
            {name: each.nets[0].sha256 for name, each in taught.items()},
        )


def _nets(run: Run) -> list[tuple[dict[str, object], Mapping[str, Mapping[str, float]]]]:
    """Every net of a run: what is known of it besides metrics, and its metrics per split; none where it diverged."""
    known = [({"seed": seed, "chance": seed in run.chance}, values) for seed, values in zip(run.seeds, run.values, strict=True)]
    lost = [({"seed": seed, "diverged": epoch}, {}) for seed, epoch in run.diverged.items()]
    return [({"parameters": run.parameters, **_setting(run), **each}, values) for each, values in known + lost]


def _setting(run: Run) -> dict[str, object]:
    return {"student": run.student, "temperature": run.temperature, "alpha": run.alpha}


def _results(runs: Sequence[Run]) -> list[dict[str, object]]:
    """One row per student and seed: settings, and each metric on both splits. T and alpha are null for baselines."""
    return [
        known | {f"{split}_{metric}": value for split, found in values.items() for metric, value in found.items()}
        for run in runs
        if run.student
        for known, values in _nets(run)
    ]


def _long(runs: Sequence[Run]) -> list[dict[str, object]]:
    """One row per run, seed and split, with every metric."""
    return [
        {"run": run.name, "kind": run.kind, **known, "split": split, **values.get(split, {})}
        for run in runs
        for known, values in _nets(run)
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
                where = {"run": run.name, "seed": seed, "split": split}
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
        if run.kind == "student" and run.seeds:
            means = {f"{split}_accuracy": statistics.fmean(run.column(split, "accuracy")) for split in SPLITS}
            series = f"{run.student}, alpha {short(run.alpha)}" if several else run.student
            rows.append({"series": series, "temperature": run.temperature, **means})
    return rows


def _histories(found: Mapping[str, Rows]) -> list[dict[str, object]]:
    """Every training's history, the mean over seeds of each epoch."""
    rows = []
    for run, history in found.items():
        by_epoch: dict[int, list[Mapping[str, Any]]] = {}
        for row in history:
            by_epoch.setdefault(row["epoch"], []).append(row)
        for epoch, of_epoch in by_epoch.items():
            means = {
                key: statistics.fmean(row[key] for row in of_epoch) for key in ("train_loss", "valid_accuracy", "valid_nll")
            }
            rows.append({"series": run, "epoch": epoch, **means})
    return rows
