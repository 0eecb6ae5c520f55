"""Evaluate: measure teachers, their ensemble, baselines and students on the validation and the test split, at T = 1.

Teachers are not run: their cached logits are measured. No other job reads the labels of the test split.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pipeline.base import files, runtime, spec
from pipeline.base.differences import differences
from pipeline.base.errors import InputError, IntegrityError
from pipeline.base.places import Place
from pipeline.cache.identity import require_teacher
from pipeline.cache.layout import SPLITS as STORED
from pipeline.cache.reader import Cache
from pipeline.cache.writer import require_sealed
from pipeline.data.splits import Split, described, open_splits
from pipeline.models.build import flops
from pipeline.models.checkpoint import Checkpoint
from pipeline.models.encoding import example
from pipeline.models.ensemble import combine, normalised
from pipeline.models.modelfile import Data, Kind, Net
from pipeline.models.predict import TILE, predict
from pipeline.models.rows import Rows
from pipeline.results import plotted, summary, tables
from pipeline.results.choice import best, compared, headline
from pipeline.results.columns import FILE_NAME, columns, pairs
from pipeline.results.gallery import gallery
from pipeline.results.lineage import Lineage
from pipeline.results.run import BEFORE, ENSEMBLE, SPLITS, Measure, Run
from pipeline.results.tables import Basis, BestRow

VERSION = 2  # of the choice of the best setting, its intervals, the content of the tables and of metrics.json
HELD_BYTES = 1 << 28  # of the inputs of each split: larger ones are read again for every student
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluated:
    """The result of an evaluation. missing: the students that are not trained yet."""

    runs: Sequence[Run]
    best: Sequence[BestRow]
    missing: Sequence["Trained"]


@dataclass(frozen=True)
class Trained:
    """One student setting, and the folder with its weights, one file per seed.

    temperature: None for a baseline. command: the command that trains it, from commands.py. live: whether it had its teachers
    in the loop.
    """

    name: str
    student: str
    temperature: float | None
    folder: Place
    command: str
    live: bool = False

    @property
    def kind(self) -> Kind:
        """The kind of run, as tables have it."""
        return "baseline" if self.temperature is None else "student"

    def open(self, study: str | None) -> Checkpoint:
        """Open its folder. study: its sweep, if any. Raises what Checkpoint.open raises."""
        name = f"{study}/{self.name}" if study else self.name
        fix = f"Run {self.command}."
        checkpoint = Checkpoint.open(self.folder, kinds=["live" if self.live else self.kind], name=name, fix=fix)
        found = checkpoint.soft and checkpoint.soft.temperature
        if found != self.temperature:
            what = f"{self.folder}, temperature"
            raise IntegrityError(what, expected=str(self.temperature), found=str(found), fix=fix)
        return checkpoint


def evaluate(
    *,
    splits: Place,
    teachers: Mapping[str, tuple[Place, Place]],
    ensemble: Sequence[str],
    rule: str,
    weights: Sequence[float] | None,
    students: Sequence[Trained],
    work: Place,
    plots_out: Place,
    device: torch.device,
    study: str | None = None,
) -> Evaluated:
    """Measure teachers, their ensemble, baselines and students, and write tables, and a few figures for DVC (see columns.py).

    A student whose class biases were corrected is also measured without the correction, as <name>-uncorrected. A student
    that is not trained yet is left out with a warning, and so is a net that diverged in training or gives logits that are
    not finite.

    Args:
        splits: The folder that ingest wrote.
        teachers: (model folder, cache folder) of each teacher by name.
        ensemble: The names of the teachers that students learn from. Agreement and KL are computed against them.
        rule: What the ensemble averages: "probabilities" or "logits".
        weights: The weight of each of `ensemble`; None for equal weights.
        students: The student settings, and the baselines.
        work: The folder for work in progress, where an unfinished capture is looked up.
        plots_out: The folder of the tables (see tables.py). It is replaced.
        device: Where students run.
        study: The sweep that the students belong to, if any.

    Returns:
        The runs, the best setting of each student, and the students that are not trained yet.

    Raises:
        InputError: A name, a folder or data do not match, a teacher was trained again after its cache was made, or settings
            of a student would be compared on validation rows that it was trained on.
        IntegrityError: A cache, a model or a split is damaged or unfinished.
        BusyError: An input changed during the run.
    """
    opened = open_splits(splits, ("train", *STORED))
    require_comparable(list(teachers), ensemble, students, opened["valid"])
    missing = [trained for trained in students if not trained.folder.exists()]
    for trained in missing:
        _log.warning("%s: not trained yet and left out. To train it, run %s.", trained.name, trained.command)
    labels = {name: opened[name].labels() for name in SPLITS}
    caches = measured_caches(teachers, opened, work)
    taught = {name: Checkpoint.teacher(folder) for name, (folder, _) in teachers.items()}
    for name in caches:
        learned = [Data.of(opened[split], opened["valid"]) for split in ("train", "transfer")]  # the latter: once a student
        if taught[name].kind != "imported" and taught[name].data not in learned[: 1 + (taught[name].kind == "promoted")]:
            _log.warning("teacher %s: trained on other data than these, so it may have seen rows of the evaluation", name)
    logits = {name: {split: cache.read(split)[0] for split in SPLITS} for name, cache in caches.items()}
    combined = {split: _ensemble([logits[name][split] for name in ensemble], rule, weights) for split in SPLITS}
    read = [cache.witness for cache in caches.values()] + [each.witness for each in taught.values()]
    read.append(opened["test"].witness)
    measure = Measure(labels, combined)

    runs, specs, models, histories = [], [], dict(taught), {name: each.history() for name, each in taught.items()}
    for name, each in taught.items():
        runs.append(measure.run(name, "teacher", each.parameters, {None: logits[name]}))
    if len(ensemble) > 1:
        sizes = [run.parameters for run in runs if run.name in ensemble]
        known = [size for size in sizes if size is not None]
        size = sum(known) if len(known) == len(sizes) else None
        runs.append(measure.run(ENSEMBLE, "ensemble", size, {None: combined}))
    rows = {name: Rows(opened[name], torch.device("cpu"), HELD_BYTES) for name in SPLITS}
    present = [trained for trained in students if trained not in missing]
    for trained in runtime.progress(present, "evaluate", unit="runs"):
        checkpoint = trained.open(study)
        _check_student(trained, checkpoint, opened, caches, taught)
        read.append(checkpoint.witness)
        histories[trained.name] = checkpoint.history()
        specs.append(checkpoint.spec)
        models[trained.name] = checkpoint
        runs += _student_runs(trained, checkpoint, rows, device, measure)
    found = best(runs)
    reference = ENSEMBLE if len(ensemble) > 1 else ensemble[0]
    read += spec.witnesses(*specs)
    few = pairs(runs, found)
    with files.replaced_folder(plots_out, read=read) as folder:
        files.write(folder / FILE_NAME, files.readable_json(columns(runs, few, reference)))
        tables.write(
            folder,
            runs=summary.by_split(runs),
            classes=summary.by_class(runs, labels, opened["transfer"].classes),
            best=found,
            results=summary.by_seed(runs),
            epochs=summary.by_net(histories, runs),
            bins=summary.by_bin(runs),
            confusions=summary.confusions(
                [run for run in runs if run.name == reference] + compared(found, runs), labels["test"]
            ),
            history=plotted.by_epoch(histories, runs, few),
            temperature=plotted.by_temperature(runs, few, reference),
            gallery=gallery(
                opened["test"],
                labels["test"],
                teachers={name: logits[name]["test"] for name in ensemble},
                combined=combined["test"],
                rule=rule,
                weights=normalised(weights, len(ensemble)),
                student=_shown(headline(found, runs), models, rows, device),
            ),
            lineage=Lineage.of(
                opened,
                models,
                caches={name: cache.manifest for name, cache in caches.items()},
                students={trained.name: trained.student for trained in present},
                study=study,
            ),
            basis=Basis(
                teachers={name: each.weights_sha256 for name, each in taught.items()},
                students={trained.name: tables.weights(models[trained.name]) for trained in present},
                rows=tables.digests({name: opened[name] for name in SPLITS}),
            ),
        )
    return Evaluated(runs, found, missing)


def measured_caches(teachers: Mapping[str, tuple[Place, Place]], splits: Mapping[str, Split], work: Place) -> dict[str, Cache]:
    """The caches that teachers are measured by.

    Args:
        teachers: (model folder, cache folder) of each teacher by name.
        splits: Those of which a cache has logits, by name.
        work: The folder for work in progress, where an unfinished capture is looked up.

    Returns:
        The cache of each teacher by name.

    Raises:
        InputError: A cache is of other data or another teacher, or of one that was trained again since; or there is no teacher.
        IntegrityError: A cache or a teacher is missing, unfinished or damaged.
    """
    for _, folder in teachers.values():
        require_sealed(folder, work)
    caches = {name: Cache.open(folder) for name, (_, folder) in teachers.items()}
    for name, cache in caches.items():
        cache.require_data({split: splits[split] for split in STORED})
        cache.require_of(name)
        require_teacher(cache, teachers[name][0])
        Checkpoint.teacher(teachers[name][0])  # students need a cache alone, but it is measured as well
    return caches


def _student_runs(
    trained: Trained, checkpoint: Checkpoint, rows: Mapping[str, Rows], device: torch.device, measure: Measure
) -> list[Run]:
    """The run of a student and, if its class biases were corrected, its run without the correction."""
    diverged = {net.seed: net.diverged for net in checkpoint.nets if net.diverged is not None}
    nets: dict[int | None, dict[str, np.ndarray]] = {}
    before: dict[int | None, dict[str, np.ndarray]] = {}
    for net in checkpoint.trained:
        logits = _predicted(checkpoint, net, rows, device, SPLITS)
        if not all(np.isfinite(each).all() for each in logits.values()):
            _log.warning("%s, seed %d: its logits are not finite, so it is left out", trained.name, net.seed)
            diverged[net.seed] = net.kept_epoch or 0
            continue
        nets[net.seed] = logits
        if net.offsets is not None:
            before[net.seed] = {split: each - np.array(net.offsets, np.float32) for split, each in logits.items()}
    size = checkpoint.parameters
    alpha = checkpoint.soft.alpha if checkpoint.soft else None
    setting = {"temperature": trained.temperature, "alpha": alpha, "diverged": diverged}
    runs = [measure.run(trained.name, trained.kind, size, nets, student=trained.student, **setting)]
    if before:
        runs.append(measure.run(f"{trained.name}{BEFORE}", "uncorrected", size, before, **setting))
    return runs


def _predicted(
    checkpoint: Checkpoint, net: Net, rows: Mapping[str, Rows], device: torch.device, splits: Sequence[str]
) -> dict[str, np.ndarray]:
    """The logits of a net on these splits."""
    module = checkpoint.load(net, device)
    with runtime.suited_threads(flops(module, example(module, checkpoint.inputs)) * TILE):
        return {split: predict(module, rows[split].of(module)) for split in splits}


def _shown(
    chosen: tuple[Run, int] | None, models: Mapping[str, Checkpoint], rows: Mapping[str, Rows], device: torch.device
) -> tuple[str, int, np.ndarray] | None:
    """The run, the seed and the test logits of the student in the gallery, which were not kept when it was measured."""
    if chosen is None:
        return None
    run, seed = chosen
    checkpoint = models[run.name]
    (net,) = (net for net in checkpoint.trained if net.seed == seed)
    return run.name, seed, _predicted(checkpoint, net, rows, device, ["test"])["test"]


def _check_student(
    trained: Trained,
    checkpoint: Checkpoint,
    splits: Mapping[str, Split],
    caches: Mapping[str, Cache],
    taught: Mapping[str, Checkpoint],
) -> None:
    """Raise InputError if a student was trained on other data, or on caches or teachers that have changed since."""
    source = splits["train" if checkpoint.soft is None else "transfer"]
    wanted = {
        "classes": list(source.classes),
        "inputs": described(source.inputs),
        "data": vars(Data.of(source, splits["valid"])),
    }
    found = {"classes": list(checkpoint.classes), "inputs": described(checkpoint.inputs), "data": vars(checkpoint.data)}
    if checkpoint.soft is not None:
        what, names = ("teachers" if trained.live else "caches"), [name for name in checkpoint.soft.teachers if name in caches]
        found[what] = dict(checkpoint.soft.teachers)
        wanted[what] = {name: taught[name].net_digest if trained.live else caches[name].manifest.digest for name in names}
    for name, expected, had in differences(wanted, found):
        fix = f"Run {trained.command} again; under DVC, its deps in dvc.yaml must name the cache of every teacher."
        raise InputError(f"student {trained.name}, {name}", expected=f"{expected} as it is now", found=str(had), fix=fix)


def require_comparable(teachers: Sequence[str], ensemble: Sequence[str], students: Sequence[Trained], valid: Split) -> None:
    """Raise InputError for runs that cannot be compared.

    These are an ensemble with an unknown or repeated teacher, two runs with one name, and several settings of a student that
    was trained on the validation split, by which the best one is chosen.
    """
    if not ensemble:
        fix = "Name the teachers of the students in the setting `teachers`."
        raise InputError("ensemble", expected="teachers to compare students with", found="none", fix=fix)
    if unknown := [name for name in ensemble if name not in teachers]:
        fix = "Correct the teachers that students learn from."
        raise InputError("ensemble", expected=f"some of {', '.join(teachers)}", found=", ".join(unknown), fix=fix)
    if len(set(ensemble)) < len(ensemble):
        fix = "Name each once, and set `weights` to weight them."
        raise InputError("ensemble", expected="each teacher once", found=", ".join(ensemble), fix=fix)
    runs = [(name, "teacher") for name in teachers] + [(ENSEMBLE, "ensemble")] * (len(ensemble) > 1)
    for name in [*teachers, *(trained.student for trained in students)]:
        if name.endswith(BEFORE):
            expected = f"a name that does not end in {BEFORE}, which marks students before their bias correction"
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
    return combine([torch.from_numpy(member) for member in members], 1.0, rule, weights).numpy()
