"""Export: one net as a folder that runs without this project, each of its models checked on validation rows.

Test rows are not read: what a card says of them is in the tables of an evaluation, of the same weights and the same rows.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import softcache_export
from pipeline.base import commands, facts, files, randomness, spec
from pipeline.base.differences import differences
from pipeline.base.errors import InputError
from pipeline.base.randomness import Use
from pipeline.cache.manifest import FILE_NAME as MANIFEST
from pipeline.cache.manifest import Manifest
from pipeline.data.splits import Split, described, open_splits
from pipeline.models import int8, onnxfile
from pipeline.models.build import parameter_count
from pipeline.models.checkpoint import Checkpoint
from pipeline.models.encoding import example, tensor
from pipeline.models.modelfile import TEACHERS
from pipeline.models.program import Program
from pipeline.models.runfolder import open_run
from pipeline.results import card, tables
from pipeline.results.card import Card, Figures, Measured, Quantised, Source
from pipeline.results.config import config
from pipeline.results.exporting import Exporting
from pipeline.results.run import SPLITS
from pipeline.results.tables import ClassRow, RunRow, Tables
from pipeline.results.trial import Run, Trial, apart, in_torch, require_equal, require_steady
from pipeline.stats import metrics
from softcache_export import CONFIG, FLOAT, INT8, MODULE, NET, TILE, WEIGHTS, session

VERSION = 2  # of the files of an export
LOST = 0.005  # of the accuracy on validation rows: the most that int8 may cost
TORCH = "torch"  # what the net in torch is called beside the files of the folder
_FILES = {WEIGHTS, NET, MODULE, FLOAT, INT8, CONFIG, card.FILE_NAME, "__pycache__"}  # the last is Python's, of MODULE
_LEAST = 1e-38  # the smallest probability that float32 has in full
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Exported:
    """What was written: the seed of the net, and its models as measured, by the name of the file and TORCH."""

    seed: int
    models: Mapping[str, Measured]
    quantised: Quantised


def export(*, run: str, data: Path, out: Path, settings: Exporting) -> Exported:
    """Write the net of a run as a folder: weights, program, ONNX models, a card, and softcache_export.py, which runs them.

    The written-out program and the ONNX model give the probabilities of the net in torch, or nothing is written.

    Args:
        run: Its name, see runfolder.open_run.
        data: The folder of all data.
        out: The folder of the export, which is replaced.
        settings: How.

    Returns:
        What was written.

    Raises:
        InputError: There is no such run or seed, data do not match, the net cannot be exported, or ONNX is not installed.
        IntegrityError: Something stored is damaged, or an exported model differs from the net in torch.
        BusyError: An input changed during the run.
    """
    onnxfile.require_installed()
    _require_an_export(out)
    run_folder = open_run(data, run)
    _require_exportable(run_folder)
    splits = open_splits(data / "transfer", ("train", "valid"))
    _require_data(run_folder, splits["valid"])
    net = run_folder.chosen(settings.seed, folded=splits["valid"].folded)
    module = run_folder.load(net, torch.device("cpu"))
    trial = Trial.of(splits["valid"], module)
    figures, witnesses = _figures(data, run_folder, net.seed)
    program = Program.of(module, example(module, run_folder.inputs), run)
    model = onnxfile.onnx_of(program, run)
    usual = onnxfile.softened(model) if settings.softmax else model
    runs = {TORCH: in_torch(module), NET: in_torch(program.module(run)), FLOAT: _logits(usual, settings.softmax)}
    shares = trial.probabilities(runs)
    require_equal(shares, TORCH, run)
    require_steady(trial.alone(runs, run), shares, run)
    calibration = _calibration(splits["train"], module, settings.calibration)
    small, shares[INT8], quantised = _quantised(model, settings.softmax, trial, shares[TORCH], calibration)
    require_steady(trial.alone({INT8: _logits(small, settings.softmax)}, run), shares, run)
    own = Path(softcache_export.__file__).read_bytes()
    written = {WEIGHTS: program.weights(), NET: program.source(run).encode(), MODULE: own, FLOAT: usual, INT8: small}
    measured = _measured(written, shares, trial, module)
    said = config(run_folder, net, module, "probabilities" if settings.softmax else "logits", written)
    about = Card(
        config=said, model=run_folder, parameters=parameter_count(module), license=settings.license, figures=figures,
        sources=_sources(data, run_folder), models=measured, quantised=quantised, folded=splits["valid"].folded,
        chosen=settings.seed is None and len(run_folder.trained) > 1 and not splits["valid"].folded,
    )  # fmt: skip
    written |= {CONFIG: facts.sealed(said), card.FILE_NAME: about.text().encode()}
    witnesses += [run_folder.witness, splits["valid"].witness, *spec.witnesses(run_folder.spec)]
    with files.replaced_folder(out, read=witnesses) as folder:
        for name, content in written.items():
            files.write(folder / name, content)
    return Exported(net.seed, measured, quantised)


def _require_an_export(out: Path) -> None:
    """Raise InputError if the folder to replace holds anything but the files of an export: it may be one that others lie in."""
    others = sorted(path.name for path in out.iterdir() if path.name not in _FILES) if out.is_dir() else []
    if others:
        found, fix = f"{others[0]}, too", "Move it elsewhere, or name another folder."
        raise InputError(str(out), expected="nothing but the files of an export", found=found, fix=fix)


def _require_exportable(model: Checkpoint) -> None:
    """Raise InputError for a teacher without a net of torch: one of which there are logits only, or a file of ONNX."""
    fix = "Export a student of it."
    if model.kind == "imported":
        found = "logits that were made elsewhere"
        raise InputError(f"teacher {model.name}", expected="a teacher with a net", found=found, fix=fix)
    if spec.name_in(model.model) == "onnx":
        found = "an ONNX file already"
        raise InputError(
            f"teacher {model.name}", expected="a net of torch", found=found, fix=f"Use that file, or {fix.lower()}"
        )


def _require_data(model: Checkpoint, valid: Split) -> None:
    """Raise InputError unless a student was chosen by these validation rows; a teacher need only fit them."""
    if model.kind in TEACHERS:
        model.require_fit(valid)
        return
    now = {"classes": list(valid.classes), "inputs": described(valid.inputs)}
    then = {"classes": list(model.classes), "inputs": described(model.inputs)}
    now |= {"validation rows": valid.inputs_digest, "validation labels": valid.labels_digest}
    then |= {"validation rows": model.data.valid_inputs, "validation labels": model.data.valid_labels}
    for what, expected, found in differences(now, then):
        fix = f"{model.fix} Or restore the data that it was trained on."
        raise InputError(f"run {model.name}, {what}", expected=f"{expected} as it is now", found=str(found), fix=fix)


def _calibration(train: Split, module: torch.nn.Module, count: int) -> list[np.ndarray]:
    """Training rows in batches, as the net takes them: always the same, spread over the split."""
    chosen = np.sort(randomness.permutation(train.rows, 0, Use.CALIBRATION)[:count])
    batches = []
    for span in np.unique(chosen // train.span).tolist():
        found = tensor(module, train.read(span, chosen[chosen // train.span == span] - span * train.span)).numpy()
        batches += [found[start : start + TILE] for start in range(0, len(found), TILE)]
    return batches


def _logits(model: bytes, softmax: bool) -> Run:
    """An ONNX model as a function of inputs. softmax: whether it ends in one; their logarithms do as logits."""
    run = session(model)
    return (lambda inputs: np.log(np.maximum(run(inputs), _LEAST))) if softmax else run


def _quantised(
    model: bytes, softmax: bool, trial: Trial, usual: np.ndarray, calibration: Sequence[np.ndarray]
) -> tuple[bytes, np.ndarray, Quantised]:
    """The first int8 model that loses no more than LOST, else the one that loses least; and its probabilities.

    model: in float, without a softmax at its end. softmax: whether it gets one. usual: the probabilities of the float model.
    """
    tried: list[tuple[bytes, np.ndarray, Quantised]] = []
    for way in int8.WAYS:
        made = int8.quantised(model, calibration, way)
        made = onnxfile.softened(made) if softmax else made
        shares = trial.probabilities({INT8: _logits(made, softmax)})[INT8]
        more = metrics.errors(shares, trial.labels) - metrics.errors(usual, trial.labels)
        said = way.said if (any_int8 := int8.holds_int8(made)) else None
        tried.append((made, shares, Quantised(said, more / len(trial.labels), len(trial.labels))))
        if more <= LOST * len(trial.labels) or not any_int8:
            return tried[-1]
    least = min(tried, key=lambda each: each[2].lost)
    _log.warning("%s: it loses %.2f points of accuracy on the validation rows", INT8, 100 * least[2].lost)
    return least


def _measured(
    written: Mapping[str, bytes], shares: Mapping[str, np.ndarray], trial: Trial, module: torch.nn.Module
) -> dict[str, Measured]:
    """The net in torch and both ONNX models: how large, how right and how fast they are."""
    seconds = trial.seconds({TORCH: in_torch(module), FLOAT: session(written[FLOAT]), INT8: session(written[INT8])})
    return {
        name: Measured(
            size_bytes=len(written.get(name, written[WEIGHTS])),
            rows=len(trial.labels),
            errors=metrics.errors(shares[name], trial.labels),
            apart=apart(shares[name], shares[TORCH]),
            seconds=times,
        )
        for name, times in seconds.items()
    }


def _sources(data: Path, model: Checkpoint) -> list[Source]:
    """The teachers of a student, with what their caches say of them where these are as they were."""
    found = []
    for name, digest in model.soft.teachers.items() if model.soft else ():
        folder, teacher = data / commands.CACHES / name, {}
        if (folder / MANIFEST).exists():
            manifest = Manifest.read(folder)
            teacher = dict(manifest.identity["teacher"]) if manifest.digest == digest else {}
        found.append(Source(name, digest, teacher.get("model"), teacher.get("weights_sha256")))
    return found


def _figures(data: Path, model: Checkpoint, seed: int) -> tuple[Figures, list[files.Witness]]:
    """What the evaluation of this run says, and the witnesses of what it was read from; nothing where it was not evaluated.

    Figures of other rows than those of the splits as they are now are left out. Raises InputError for figures of other weights.
    """
    sweep, _, name = model.name.rpartition("/")
    folder = (files.current(data / "sweeps" / sweep) if sweep else data) / "plots"
    wanted = None if model.kind in TEACHERS else seed
    if not (folder / tables.FILE_NAME).exists():
        return Figures(wanted, [], {}), []
    held = Tables.open(folder)
    rows = [row for row in held.read(RunRow) if row.run == name]
    if not rows:
        return Figures(wanted, [], {}), []
    splits = open_splits(data / "transfer", SPLITS)
    if held.basis.rows != tables.digests(splits):
        _log.warning("%s is of other rows than %s, so the card says nothing of it", folder, data / "transfer")
        return Figures(wanted, [], {}), []
    _require_measured(held, model, name)
    totals: dict[str, int] = {}
    for row in held.read(ClassRow):
        if (row.run, row.seed) == (name, wanted):
            totals[row.split] = totals.get(row.split, 0) + row.rows
    path = folder / tables.FILE_NAME
    return Figures(wanted, rows, totals), [files.Witness.of_file(path, files.sha256_file(path)), splits["test"].witness]


def _require_measured(held: Tables, model: Checkpoint, name: str) -> None:
    """Raise InputError unless these weights were measured."""
    of, taught = held.basis, model.kind in TEACHERS
    now = {f"weights of {model.name}": model.weights_sha256 if taught else tables.weights(model)}
    then = {f"weights of {model.name}": of.teachers.get(name) if taught else of.students.get(name, {})}
    for what, expected, found in differences(now, then):
        fix = f"Run {commands.evaluate(held.folder)} again."
        raise InputError(f"{held.folder}, {what}", expected=f"{expected} as it is now", found=str(found or "none"), fix=fix)
