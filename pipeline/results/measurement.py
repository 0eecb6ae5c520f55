"""The measurement of footprints: every net in a data folder, each architecture once."""

import logging
from collections.abc import Callable, Iterator
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
T = TypeVar("T")
_log = logging.getLogger(__name__)


def measure(data: Path, out: Path) -> Footprint:
    """Measure every architecture of the teachers and students in a data folder, those of sweeps too; write footprint.json.

    A net that cannot be loaded is left out with a warning, and so is a batch that it does not take: what else lies in the
    folder, such as a student that is of use no more, is in nobody's way.

    Args:
        data: The data folder.
        out: The folder of the footprint, which is replaced.

    Returns:
        What was written.

    Raises:
        InputError: There are no nets.
        InputError, IntegrityError: Not one of them can be loaded.
        BusyError: One of them was replaced meanwhile.
    """
    opened = list(_opened(data))
    found: dict[Key, Entry] = {}
    failed: dict[Key, tuple[Path, InputError | IntegrityError]] = {}
    with one_thread():
        for model in runtime.progress(opened, "footprint", unit="nets"):
            key = _key(model)
            if key in found or not (model.trained or model.kind == "imported"):
                continue
            try:
                found[key] = _entry(model, data)
            except (InputError, IntegrityError) as error:  # another net of this architecture may do
                failed.setdefault(key, (model.folder, error))
    missing = [each for key, each in failed.items() if key not in found]
    if missing and not found:
        raise missing[0][1]
    for folder, reason in missing:
        _log.warning("%s: left out: %s", folder, reason)
    made = Footprint(FORMAT, f"{runtime.processor()}; torch {version('torch')}", tuple(found[key] for key in sorted(found)))
    with files.replaced_folder(out, read=[model.witness for model in opened]) as folder:
        made.write(folder)
    return made


def _opened(data: Path) -> Iterator[Checkpoint]:
    """The folders of all nets. One that is damaged is left out with a warning."""
    paths = [path for part in ("teachers", "students", "sweeps/*/students") for path in visible(data, f"{part}/*/{FILE_NAME}")]
    if not paths:
        fix = "Run `softcache teach`, `adopt` or `distill` first, or correct --data."
        raise InputError(str(data), expected="teachers or students", found="none", fix=fix)
    for path in paths:
        folder = path.parent
        try:
            if folder.parent == data / "teachers":
                yield Checkpoint.teacher(folder)
            else:
                sweep = folder.parents[1]
                yield open_student(data, folder.name if sweep == data else f"{sweep.name}/{folder.name}")
        except IntegrityError as error:
            _log.warning("%s: left out: %s", folder, error)


def _key(model: ModelFile) -> Key:
    return model.model, tuple(model.inputs.shape), len(model.classes)


def _entry(model: Checkpoint, data: Path) -> Entry:
    """The entry of one net of a folder. Raises InputError or IntegrityError where it, or the texts for it, cannot be loaded."""
    if model.kind == "imported":
        return Entry(*_key(model), None, None, None, {})
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
    return Entry(*_key(model), model.parameters, adds, size, seconds)


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
