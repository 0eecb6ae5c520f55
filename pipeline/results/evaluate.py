"""Evaluate: every teacher, their ensemble, every baseline and student on the validation and the test split, at T = 1.

Teachers are measured by their cached logits; none is run. This is the only job that reads the test split's labels.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.base import files, runtime, spec
from pipeline.base.differences import differences
from pipeline.base.errors import InputError, IntegrityError
from pipeline.cache.identity import require_teacher
from pipeline.cache.layout import SPLITS as STORED
from pipeline.cache.reader import Cache
from pipeline.cache.writer import require_sealed
from pipeline.data.splits import Split, open_splits
from pipeline.models import ensemble
from pipeline.models.build import build, flops, parameter_count
from pipeline.models.checkpoint import Checkpoint
from pipeline.models.modelfile import Data, Kind
from pipeline.models.predict import TILE, predict
from pipeline.results import summary, tables
from pipeline.results.choice import best
from pipeline.results.run import BEFORE, SPLITS, Measure, Run
from pipeline.results.tables import BestRow

VERSION = 1  # of what is made of measurements: the choice of the best, its intervals, what the tables say
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluated:
    """What an evaluation found. missing: students that are not trained yet."""

    runs: Sequence[Run]
    best: Sequence[BestRow]
    missing: Sequence["Trained"]


@dataclass(frozen=True)
class Trained:
    """Where the weights of one student setting lie, one file per seed.

    temperature: None for a baseline. command: what trains it, as commands.py writes it.
    """

    name: str
    student: str
    temperature: float | None
    folder: Path
    command: str

    @property
    def kind(self) -> Kind:
        """Which kind of run it is."""
        return "baseline" if self.temperature is None else "student"

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
    opened = open_splits(splits, ("train", *STORED))
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
        cache.require_data({split: opened[split] for split in STORED})
        cache.require_of(name)
        require_teacher(cache, teachers[name][0])
        if taught[name].data != Data.of(opened["train"], opened["valid"]):
            _log.warning("teacher %s: trained on other data than these, so it may have seen rows that it is measured on", name)
    logits = {name: {split: cache.read(split)[0] for split in SPLITS} for name, cache in caches.items()}
    combined = {split: _ensemble([logits[name][split] for name in ensemble], rule, weights) for split in SPLITS}
    read = [cache.witness for cache in caches.values()] + [each.witness for each in taught.values()]
    read += [each for each in (opened["test"].witness,) if each]
    measure = Measure(labels, combined)

    runs, specs, histories = [], [], {name: each.history() for name, each in taught.items()}
    for name, each in taught.items():
        runs.append(measure.run(name, "teacher", _parameters(each), {None: logits[name]}))
    if len(ensemble) > 1:
        size = sum(run.parameters for run in runs if run.name in ensemble)
        runs.append(measure.run("ensemble", "ensemble", size, {None: combined}))
    pixels = {name: torch.from_numpy(opened[name].all_images()).to(device) for name in SPLITS}
    there = [trained for trained in students if trained not in missing]
    for trained in runtime.progress(there, "evaluate", unit="runs"):
        checkpoint = trained.open(study)
        _check_student(trained, checkpoint, opened, caches)
        read.append(checkpoint.witness)
        histories[trained.name] = checkpoint.history()
        specs.append(checkpoint.spec)
        runs += _student_runs(trained, checkpoint, pixels, device, measure)
    found = best(runs)
    read += spec.witnesses(*specs)
    _write(runs, found, histories, taught, opened["transfer"].classes, labels, read, metrics_out, plots_out)
    return Evaluated(runs, found, missing)


def _student_runs(
    trained: Trained, checkpoint: Checkpoint, pixels: Mapping[str, torch.Tensor], device: torch.device, measure: Measure
) -> list[Run]:
    """The run of a student, and that of the same before its biases were corrected, if they were."""
    diverged = {net.seed: net.diverged for net in checkpoint.nets if net.diverged is not None}
    nets: dict[int | None, dict[str, np.ndarray]] = {}
    before: dict[int | None, dict[str, np.ndarray]] = {}
    for net in checkpoint.trained:
        module = checkpoint.load(net, device)
        with runtime.suited_threads(flops(module, checkpoint.shape) * TILE):
            logits = {split: predict(module, pixels[split]) for split in SPLITS}
        if not all(np.isfinite(each).all() for each in logits.values()):
            _log.warning(
                "%s, seed %d: its logits are not finite on rows to be measured, and it is left out", trained.name, net.seed
            )
            diverged[net.seed] = net.kept_epoch or 0
            continue
        nets[net.seed] = logits
        if net.offsets is not None:
            before[net.seed] = {split: each - np.array(net.offsets, np.float32) for split, each in logits.items()}
    size = _parameters(checkpoint)
    alpha = checkpoint.soft.alpha if checkpoint.soft else None
    setting = {"temperature": trained.temperature, "alpha": alpha, "diverged": diverged}
    runs = [measure.run(trained.name, trained.kind, size, nets, student=trained.student, **setting)]
    if before:
        runs.append(measure.run(f"{trained.name}{BEFORE}", "uncorrected", size, before, **setting))
    return runs


def _check_student(trained: Trained, checkpoint: Checkpoint, splits: Mapping[str, Split], caches: Mapping[str, Cache]) -> None:
    """Refuse a student of other data, or of caches that are no longer these."""
    source = splits["train" if checkpoint.soft is None else "transfer"]
    wanted = {"classes": list(source.classes), "shape": list(source.shape), "data": vars(Data.of(source, splits["valid"]))}
    found = {"classes": list(checkpoint.classes), "shape": list(checkpoint.shape), "data": vars(checkpoint.data)}
    if checkpoint.soft is not None:
        found["caches"] = dict(checkpoint.soft.teachers)
        wanted["caches"] = {name: caches[name].manifest.digest for name in checkpoint.soft.teachers if name in caches}
    for name, expected, had in differences(wanted, found):
        fix = f"Run {trained.command} again; under DVC, its deps in dvc.yaml must name the cache of every teacher."
        raise InputError(f"student {trained.name}, {name}", expected=f"{expected} as it is now", found=str(had), fix=fix)


def require_comparable(teachers: Sequence[str], ensemble: Sequence[str], students: Sequence[Trained], valid: Split) -> None:
    """Raise InputError for what cannot be measured side by side.

    That is an ensemble of unknown teachers, or with one of them twice, two runs of one name, and several settings of a
    student where the validation split, by which one would be chosen, was trained on.
    """
    if not ensemble:
        fix = "Name those that teach in the setting `teachers`."
        raise InputError("ensemble", expected="teachers to measure students by", found="none", fix=fix)
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


def _ensemble(members: list[np.ndarray], rule: str, weights: Sequence[float] | None) -> np.ndarray:
    return ensemble.combine([torch.from_numpy(member) for member in members], 1.0, rule, weights).numpy()


def _parameters(checkpoint: Checkpoint) -> int:
    return parameter_count(build(checkpoint.spec, checkpoint.shape, len(checkpoint.classes)))


def _write(
    runs: Sequence[Run],
    found: Sequence[BestRow],
    histories: Mapping[str, Sequence[Mapping[str, Any]]],
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
            runs=summary.by_split(runs),
            classes=summary.by_class(runs, labels, classes),
            best=found,
            results=summary.by_seed(runs),
            history=summary.by_epoch(histories),
            temperature=summary.by_temperature(runs),
            teachers={name: each.nets[0].sha256 or "" for name, each in taught.items()},
        )
