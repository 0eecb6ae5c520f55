"""The measurement of footprints: every net in a data folder, each architecture once."""

import logging
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from pipeline.base import files, runtime
from pipeline.base.errors import InputError, IntegrityError, first_line
from pipeline.base.files import visible
from pipeline.data.splits import open_splits
from pipeline.models.checkpoint import Checkpoint
from pipeline.models.encoding import example, tensor
from pipeline.models.latency import latency, one_thread
from pipeline.models.modelfile import FILE_NAME, ModelFile
from pipeline.models.onnx import Onnx
from pipeline.models.operations import multiply_adds
from pipeline.models.runfolder import open_student
from pipeline.results.footprint import FORMAT, Entry, Footprint, Key
from pipeline.results.trial import BATCHES, in_torch

LONGEST = 20.0  # seconds that a batch may take
_CPU = torch.device("cpu")
Failed = InputError | IntegrityError
T = TypeVar("T")
_log = logging.getLogger(__name__)


def measure(data: Path, out: Path, *, anew: bool = False) -> Footprint:
    """Measure every architecture of the teachers and students in a data folder, those of sweeps too; write footprint.json.

    What was measured before, on a machine like this one, is taken from the former file: times differ from run to run, and a net
    with new weights alone is to change nothing. A net that cannot be loaded is left out with a warning, and so is a batch that
    it does not take: what else lies in the folder, such as a student that is of use no more, is in nobody's way.

    Args:
        data: The data folder.
        out: The folder of the footprint, which is replaced.
        anew: Whether to measure all again.

    Returns:
        What was written.

    Raises:
        InputError: There are no nets.
        InputError, IntegrityError: Not one of them can be loaded.
        BusyError: One of them was replaced meanwhile.
    """
    opened, damaged = _opened(data)
    machine = f"{runtime.processor()}; torch {version('torch')}"
    known = {} if anew else _known(out, machine)
    found: dict[Key, Entry] = {}
    failed: dict[Key, tuple[Path, Failed]] = {}
    with one_thread():
        for model in runtime.progress(opened, "footprint", unit="nets"):
            key = _key(model)
            if key in found or not (model.trained or model.kind == "imported"):
                continue
            try:
                basis, former = _basis(model, data), known.get(key)
                found[key] = former if former and former.basis == basis else _entry(model, data, basis)
            except (InputError, IntegrityError) as error:  # another net of this architecture may do
                failed.setdefault(key, (model.folder, error))
    missing = damaged + [each for key, each in failed.items() if key not in found]
    if missing and not found:
        raise missing[0][1]
    for folder, reason in missing:
        _log.warning("%s: left out: %s", folder, reason)
    made = Footprint(FORMAT, machine, tuple(found[key] for key in sorted(found)))
    with files.replaced_folder(out, read=[model.witness for model in opened]) as folder:
        made.write(folder)
    return made


def _opened(data: Path) -> tuple[list[Checkpoint], list[tuple[Path, Failed]]]:
    """The folders of all nets, and those that are damaged."""
    paths = [path for part in ("teachers", "students", "sweeps/*/students") for path in visible(data, f"{part}/*/{FILE_NAME}")]
    if not paths:
        fix = "Run `softcache teach`, `adopt` or `distill` first, or correct --data."
        raise InputError(str(data), expected="teachers or students", found="none", fix=fix)
    opened: list[Checkpoint] = []
    damaged: list[tuple[Path, Failed]] = []
    for path in paths:
        folder = path.parent
        try:
            if folder.parent == data / "teachers":
                opened.append(Checkpoint.teacher(folder))
            else:
                sweep = folder.parents[1]
                opened.append(open_student(data, folder.name if sweep == data else f"{sweep.name}/{folder.name}"))
        except IntegrityError as error:
            damaged.append((folder, error))
    return opened, damaged


def _known(folder: Path, machine: str) -> dict[Key, Entry]:
    """What was measured by such a machine; nothing where the former file is damaged, because it is replaced anyway."""
    try:
        former = Footprint.open(folder)
    except (InputError, IntegrityError):
        return {}
    return {entry.key: entry for entry in former.entries} if former.machine == machine else {}


def _basis(model: Checkpoint, data: Path) -> str:
    """A digest of what an entry follows from, besides its key and the machine: the code of the net, and the texts for it.

    Raises InputError or IntegrityError where these cannot be opened.
    """
    text = model.inputs.kind == "text"
    texts = open_splits(data / "transfer", ["valid"])["valid"].inputs_digest if text else None
    return files.sha256(files.canonical_json([model.behaviour, dict(model.assets), model.parameters, texts]))


def _key(model: ModelFile) -> Key:
    return model.model, tuple(model.inputs.shape), len(model.classes)


def _entry(model: Checkpoint, data: Path, basis: str) -> Entry:
    """The entry of one net of a folder. Raises InputError or IntegrityError where it, or the texts for it, cannot be loaded."""
    if model.kind == "imported":
        return Entry(*_key(model), None, None, None, {}, basis)
    net = model.load(model.trained[0], _CPU)
    size = model.file(model.trained[0]).stat().st_size
    size += sum(len(module.data) for module in net.modules() if isinstance(module, Onnx))  # they are in no other file
    batch, what = _batch(model, net, data), f"{model.folder}, {model.model}"
    adds = _tried(f"{what}, multiply-adds", partial(multiply_adds, net, batch[-1:]))
    seconds: dict[str, float] = {}
    for rows in BATCHES:
        expected = rows * seconds.get("1", 0.0)
        if expected > LONGEST:
            _log.warning("%s: no time of %d rows, which would take about %.0f s on one thread", what, rows, expected)
        elif (
            found := _tried(f"{what}, time of {rows} rows", partial(latency, in_torch(net), batch[-rows:].numpy()))
        ) is not None:
            seconds[str(rows)] = found
    return Entry(*_key(model), model.parameters, adds, size, seconds, basis)


def _batch(model: Checkpoint, net: torch.nn.Module, data: Path) -> torch.Tensor:
    """Rows for a net, (64, *shape); the last one is usual. Numbers are made up, but texts, which take as long as they are, not.

    Those are the first of the validation split, repeated where they are few, and last the one of median length.
    """
    count = max(BATCHES)
    if model.inputs.kind != "text":
        return example(net, model.inputs, count)
    split = open_splits(data / "transfer", ["valid"])["valid"]
    model.require_fit(split)
    texts = split.read(0, np.arange(min(count, split.spans()[0][1])))
    usual = sorted(texts, key=len)[len(texts) // 2]
    return tensor(net, np.append(np.resize(texts, count - 1), usual))


def _tried(what: str, job: Callable[[], T | None]) -> T | None:
    """What a job returns; None, and a warning, where it fails: the net's own code runs in it, and may raise anything."""
    try:
        return job()
    except Exception as error:
        _log.warning("%s: left out: %s", what, first_line(error))
        return None
