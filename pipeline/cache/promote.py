"""Promote: make a student the teacher of the next generation, with its net as it is and a record of whom it descends from.

Born-again networks (Furlanello et al. 2018, arXiv 1805.04770) have teachers of the students' own size, teacher assistants
(Mirzadeh et al. 2020, arXiv 1902.03393) a size between teacher and student.
"""

import logging
from collections.abc import Iterator
from dataclasses import asdict, fields

from pipeline.base import commands, facts, files, table
from pipeline.base.errors import InputError
from pipeline.base.places import Place
from pipeline.base.spec import witnesses
from pipeline.cache.manifest import FILE_NAME as MANIFEST
from pipeline.cache.manifest import Manifest
from pipeline.data.splits import open_splits
from pipeline.models import modelfile
from pipeline.models.checkpoint import Checkpoint
from pipeline.models.modelfile import Facts, Generation, ModelFile, Net
from pipeline.models.runfolder import open_run

VERSION = 1  # of which net of a student is taken, and what is recorded of it
_log = logging.getLogger(__name__)


def promote(*, student: str, seed: int | None, data: Place, out: Place) -> tuple[Generation, ...]:
    """Write a student's net to the folder of a teacher: the bytes of its weights, and all that its model.json says of it.

    Args:
        student: The name of its run, such as `small-T4`, a baseline's, `small-hard`, or a sweep's, `born/small-T4-alpha0.5`.
        seed: Which of its nets; None for that of the lowest validation NLL, or the first where those rows were trained on.
        data: The folder of all data.
        out: The folder to write, whose name is the teacher's; it is replaced as a whole.

    Returns:
        The students that the teacher descends from, oldest first, itself last.

    Raises:
        InputError: There is no such student, or no such net of it, it is of other data, or it learned from this teacher.
        IntegrityError: The student is damaged, or the code of its net has changed.
        BusyError: The student was replaced meanwhile.
    """
    train, valid = open_splits(data / "transfer", ("train", "valid")).values()
    source = open_run(data, student)
    if source.kind in modelfile.TEACHERS:
        found, fix = f"{student}, which is a teacher already", "Name a student, such as small-T4."
        raise InputError(f"teacher {out.name}, student", expected="the run of a student", found=found, fix=fix)
    source.require_fit(train)
    net = source.chosen(seed, folded=valid.folded)
    generations = (*_before(source, data), _generation(source, net))
    if out.name in {name for each in generations for name in each.teachers}:
        what, fix = f"teacher {out.name}, student", "Give the new teacher a name of its own."
        raise InputError(what, expected="a student of others", found=f"{student}, which learned from it", fix=fix)
    read = [train.witness, source.witness, *witnesses(source.spec)]
    with files.replaced_folder(out, read=read) as folder:
        files.write(folder / modelfile.WEIGHTS, source.read(source.file(net), str(net.sha256)))
        for name, digest in source.assets.items():
            files.write(folder / modelfile.ASSETS / name, source.read(source.folder / modelfile.ASSETS / name, digest))
        own = [row for row in source.history() if row["seed"] == net.seed]
        history = table.to_parquet(own, modelfile.HISTORY_COLUMNS)
        files.write(folder / modelfile.HISTORY, history)
        said = {field.name: getattr(source, field.name) for field in fields(Facts)}
        said |= {"kind": "promoted", "name": out.name, "nets": (net,), "history_sha256": files.sha256(history)}
        files.write(folder / modelfile.FILE_NAME, facts.sealed(asdict(Facts(**said | {"generations": generations}))))
    return generations


def _generation(source: Checkpoint, net: Net) -> Generation:
    """What is recorded of a student's net."""
    return Generation(source.name, net.seed, str(net.sha256), dict(source.soft.teachers) if source.soft else {})


def _before(source: Checkpoint, data: Place) -> Iterator[Generation]:
    """The generations before a student: those of its teachers, each once."""
    seen: list[Generation] = []
    for name, digest in source.soft.teachers.items() if source.soft else ():
        folder = data / "teachers" / name
        teacher = ModelFile.teacher(folder) if files.holds(folder, modelfile.FILE_NAME) else None
        if teacher is None or not _taught(teacher, data / commands.CACHES / name, digest):
            _log.warning("%s: its teacher %s is not here as it was, so no generation before it is recorded", source.name, name)
            continue
        yield from (each for each in teacher.generations if each not in seen)
        seen += teacher.generations


def _taught(teacher: ModelFile, cache: Place, digest: str) -> bool:
    """Whether a student that names this digest, of a cache or of a teacher in the loop, learned from this very teacher."""
    if files.holds(cache, MANIFEST) and (manifest := Manifest.read(cache)).digest == digest:
        return bool(manifest.identity["teacher"]["weights_sha256"] == teacher.nets[0].sha256)
    return teacher.nets[0].sha256 is not None and teacher.net_digest == digest
