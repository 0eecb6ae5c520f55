"""Ingest: from sources of rows to the splits that all other commands read.

Rows are shuffled once, here, and keep that order. Sources are read twice: first ids and labels, which decide where each row
goes, then inputs, which are checked and put into buckets on disk, out of which splits are written. Where there is much to do,
processes share it: parts of the sources, then parts of the splits. Memory of each one holds some chunks and a bucket.
"""

import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import Literal, Protocol, TypeVar

import numpy as np

from pipeline.base import files, runtime, spec
from pipeline.base.background import ahead, processes
from pipeline.base.errors import InputError
from pipeline.base.places import Place
from pipeline.data import intake
from pipeline.data.assignment import SPLITS, Assignment
from pipeline.data.buckets import Buckets
from pipeline.data.index import Index
from pipeline.data.inputs.form import Form
from pipeline.data.inputs.kinds import KINDS
from pipeline.data.inputs.resizing import Resizing
from pipeline.data.intake import Intake, Wanted
from pipeline.data.parts import part_name
from pipeline.data.sources.source import Source
from pipeline.data.sources.table import parse_source
from pipeline.data.splitfile import Rows, Shape, WrittenPart, list_parts, part_rows, write_part, write_split
from pipeline.data.splits import UNLABELLED, Split, bind_splits, open_splits, span_rows

VERSION = 1  # of the assignment of rows to splits, and of their order
DAMAGED = ("fail", "exclude")
SHARED_BYTES = 64 << 20  # of inputs, from which on it is quicker to start processes that write them
_log = logging.getLogger(__name__)

T = TypeVar("T", covariant=True)
C = TypeVar("C", Intake, WrittenPart)


def ingest(
    *,
    train: str,
    valid: str | float | int,
    test: str | float | int,
    transfer_set: Sequence[str],
    damaged: str,
    seed: int,
    out: Place,
    fold: bool = False,
    size: Sequence[int] = (),
    fit: str = "crop",
    labels: int | Literal["all"] = "all",
) -> dict[str, Split]:
    """Write {train,valid,test}.parquet in `out`, and transfer.parquet if the transfer set has rows of its own.

    A split of more than splitfile.PART_BYTES is a folder of parts. The bytes are the same for any number of cores. Memory
    of a process does not grow with the size of the inputs. That of the first grows with the number of rows: by some 60 bytes
    a row while it is planned where each goes, before any input is read, and by 6 afterwards. After an error or a kill `out`
    is unchanged.

    Args:
        train: A source: its spec, such as `csv("train.csv", text="question")`, or a path; see sources.table.
        valid: Likewise; or a number: this share (below 1) or count of the training rows is carved out, stratified by class,
            after the test rows.
        test: Likewise.
        transfer_set: Sources, which may lack labels; empty for the training split. Each is shuffled by itself and appended, so
            that a source added at the end moves no row of the others.
        damaged: `fail`, or `exclude` to leave out rows whose images do not decode, or whose numbers are not finite, and classes
            whose folders in `train` hold no images.
        seed: The seed of carving and shuffling.
        out: The folder to write or replace.
        fold: Whether to append the validation rows to the training rows, and to the transfer set's own rows, for final models.
            No other row moves. They stay the validation split too, which is then marked as folded: nothing may be chosen by it.
        size: What images are resized to whenever they are read, in pixels: one number, or height and width. Without it all
            images must have one size.
        fit: How images are brought to that size: `crop`, `pad` or `stretch`; see inputs.resizing.resized.
        labels: How many training rows of each class keep their labels; or `all`. If it is a number, these rows alone are the
            training split, and all that test and valid leave are the transfer set, the others without their labels.

    Returns:
        The splits train, valid and test, and transfer if it has rows of its own, opened, by name.

    Raises:
        InputError: A source or a setting is wrong.
        BusyError: Another process writes the same folder, or edits a plug-in meanwhile.
    """
    if damaged not in DAMAGED:
        raise InputError("damaged", expected=" or ".join(DAMAGED), found=repr(damaged), fix="Correct the setting.")
    if labels != "all":
        _require_labels(labels, transfer_set)
    resizing = Resizing.of(size, fit)
    given = {"train": (train,), "test": test, "valid": valid, "transfer": transfer_set}
    sources = {
        name: [parse_source(each, name) for each in ((texts,) if isinstance(texts, str) else texts)]
        for name, texts in given.items()
        if not isinstance(texts, int | float)
    }
    amounts = {name: amount for name, amount in given.items() if isinstance(amount, int | float)}
    _require_apart(sources)
    _warn_of_shared(sources, amounts)
    _require_filled(sources["train"][0], damaged)
    form = _form(sources)
    plug_ins = spec.witnesses(*(source.spec for some in sources.values() for source in some if source.spec))
    with runtime.lean_memory(), files.replaced_folder(out, read=plug_ins) as folder, processes(runtime.cores()) as pool:
        indices = {name: list(_indices(name, some)) for name, some in sources.items() if some}
        runtime.release_memory()
        indices = _named(indices)
        classes = _class_names(indices)
        _check_labels(indices, classes)
        indices = {name: [index.renamed(classes) for index in some] for name, some in indices.items()}
        plan = Assignment.plan(indices, amounts, seed=seed, fold=fold, labels=None if labels == "all" else labels)
        plan.require_unique()
        plan, indices = plan.without_ids(), {}
        runtime.release_memory()
        room = folder / "buckets"
        room.mkdir()
        buckets = _buckets(plan, room)
        taken = _taken(plan, Wanted(form, damaged, resizing, plan.twice), buckets, pool)
        inputs = KINDS[form.kind].settle(form, taken.seen, resizing)
        stored = taken.stored_bytes / max(taken.rows, 1)
        # Who reads a span holds its stored bytes too, and photos may be larger than the pixels that they are brought to.
        span = span_rows(len(classes), max(inputs.row_bytes(stored), round(stored)))
        jobs = []
        for name, held in buckets.items():
            lost = sorted(taken.damaged[name])
            shape = Shape(name, classes, inputs, span, [identity for _, identity in lost], fold and name == "valid")
            path, places = folder / f"{name}.parquet", plan.sizes[name]
            jobs.append(_writes(path, held, places, [place for place, _ in lost], shape, part_rows(span, stored)))
        every, total = [job for some in jobs for job in some], sum(plan.sizes.values())
        written = _done(every, "writing", total, pool if taken.stored_bytes > SHARED_BYTES else None)
        for (first, *_), some in ((each, list(islice(written, len(each)))) for each in jobs):
            if not first.whole:
                list_parts(first.path.parent, first.shape, some)
        shutil.rmtree(room)
        bind_splits(folder, list(buckets))
        if labels != "all":
            _require_kept(open_splits(folder, ["train"])["train"].labels(), classes, labels)
    return open_splits(out, [name for name in SPLITS if name in plan.sizes])


def _require_labels(labels: int, transfer_set: Sequence[str]) -> None:
    """Raise InputError for few labels that are none, or beside sources of the transfer set: it is the training rows then."""
    if labels < 1:
        expected, fix = "1 or more labels of each class, or all", "Correct the setting `labels`."
        raise InputError("labels", expected=expected, found=str(labels), fix=fix)
    if transfer_set:
        expected, found = f"no sources, as the training rows are it where `labels` is {labels}", ", ".join(transfer_set)
        fix = "Leave `transfer` out, or set `labels: all`."
        raise InputError("transfer", expected=expected, found=found, fix=fix)


def _require_kept(labels: np.ndarray, classes: Sequence[str], count: int) -> None:
    """Warn of classes of which damaged rows took labels away; raise InputError for one that has none left."""
    kept = np.bincount(labels, minlength=len(classes)).tolist()
    for name, number in zip(classes, kept, strict=True):
        if not number:
            fix = "Repair these rows, raise the setting `labels`, or set another seed."
            raise InputError(f"labels of class {name}", expected="sound rows", found=f"none among the {count:,} drawn", fix=fix)
        if number < count:
            _log.warning("class %s keeps %d of %d labels: the other rows are damaged", name, number, count)


def _require_apart(sources: Mapping[str, Sequence[Source]]) -> None:
    """Raise InputError if two splits, or the transfer set twice, read the same file or folder: splits must not share rows.

    The transfer set may share rows with any split, because students learn the teachers' logits from it.
    """
    for what, some in (
        ("train, valid and test", [source for name in SPLITS[:3] for source in sources.get(name, ())]),
        ("transfer", sources.get("transfer", ())),
    ):
        seen: set[Path] = set()
        around: set[Path] = set()  # folders that hold something of what was seen
        for source in some:
            places = set(source.files) or {Path(source.text)}
            folders = {folder for place in places for folder in place.parents}
            if (places | folders) & seen or places & around:
                fix = "Give another source, or a share to carve out."
                raise InputError(what, expected="different sources", found=f"{source.text} twice", fix=fix)
            seen |= places
            around |= folders


def _warn_of_shared(sources: Mapping[str, Sequence[Source]], amounts: Mapping[str, float | int]) -> None:
    """Warn where the transfer set reads files of the validation or test split: students would learn from their rows."""
    for name in ("valid", "test"):
        origin = sources["train"] if name in amounts else sources.get(name, ())
        held = {path for source in origin for path in source.files}
        for source in sources.get("transfer", ()):
            if held & set(source.files):
                told = "the transfer set reads %s, which the %s split is made of: students learn from its rows"
                _log.warning(told, source.text, name)


def _require_filled(train: Source, damaged: str) -> None:
    """Raise InputError for a class of the training source that has no rows, unless such are to be left out."""
    for empty in train.empty:
        if damaged == "fail":
            fix = "Add rows, remove it, or set `damaged: exclude` to leave the class out."
            raise InputError(empty, expected="rows of a class", found="none", fix=fix)
        _log.warning("left out: %s, a class without rows", empty)


def _form(sources: Mapping[str, Sequence[Source]]) -> Form:
    """The form of all rows; raises InputError, naming both sources, where they have several."""
    every = [(name, source) for name, some in sources.items() for source in some]
    _, first = every[0]
    for name, source in every[1:]:
        if source.form != first.form:
            what, expected = f"{name} source {source.text}", f"{first.form} as in {first.text}"
            raise InputError(what, expected=expected, found=str(source.form), fix="Give sources of one kind.")
    return first.form


def _indices(name: str, sources: Sequence[Source]) -> Iterator[Index]:
    """The index of every source of a split; numbers in ids continue from one to the next."""
    first = 0
    for source in sources:
        index = Index.read(source, name, first)
        first += len(index)
        yield index


def _named(indices: Mapping[str, Sequence[Index]]) -> dict[str, list[Index]]:
    """The same indices. Where the training labels are names, a number in any source is a name too, not a place among them.

    Numbers that are written in a text file are names unless they are 0, 1, 2, … without a gap: ratings from 1 to 5, say.
    """
    [train] = indices["train"]
    is_rating = train.source.written and train.first_gap() is not None
    by_name = train.source.classes is None and (train.classes is not None or is_rating)
    return {name: [index.named() if by_name else index for index in some] for name, some in indices.items()}


def _class_names(indices: Mapping[str, Sequence[Index]]) -> tuple[str, ...]:
    """The class names of the training source, or numbers if it names none. Others must agree, but need not name all of them."""
    [train] = indices["train"]
    classes = train.classes or _numbered(train)
    for name, some in indices.items():
        for index in some:
            declared = index.source.classes
            unknown = [] if declared else sorted(set(index.classes or ()) - set(classes))
            if (declared and declared != tuple(each for each in classes if each in declared)) or unknown:
                expected = f"the classes of train ({', '.join(classes)})"
                what, found = f"{name} source {index.source.text}", ", ".join(declared or unknown)
                raise InputError(what, expected=expected, found=found, fix="Use one label map for all.")
    if len(classes) < 2:
        found = str(len(classes))
        raise InputError(f"train source {train.source.text}", expected="two classes or more", found=found, fix="Add rows.")
    return classes


def _numbered(index: Index) -> tuple[str, ...]:
    """The classes 0 to the largest label. Each must occur, so that one stray label does not make many classes."""
    present, gap = index.present(), index.first_gap()
    if gap is not None:
        expected = f"labels 0, 1, 2, … without a gap, or class names (no row has label {gap})"
        found, fix = f"label {present[gap]}", "Correct the labels, or write them as names."
        raise InputError(f"train source {index.source.text}", expected=expected, found=found, fix=fix)
    return tuple(str(label) for label in present)


def _check_labels(indices: Mapping[str, Sequence[Index]], classes: tuple[str, ...]) -> None:
    """Raise InputError for a label outside of the names that its source has, or of these classes if it has none."""
    for name, some in indices.items():
        lowest = UNLABELLED if name == "transfer" else 0
        for index in some:
            count = len(index.classes or classes)
            bad = np.flatnonzero((index.labels < lowest) | (index.labels >= count))
            if len(bad):
                row = int(bad[0])
                found = "no label" if index.labels[row] == UNLABELLED else str(index.labels[row])
                expected = f"a label from 0 to {count - 1}"
                raise InputError(index.place(row), expected=expected, found=found, fix="Correct the label or the class names.")


# ---------------------------------------------------------------- inputs


class _Job(Protocol[T]):
    """Some of the work. It can be pickled, and what it gives knows of how many rows it is."""

    def __call__(self, tell: Callable[[int], object] = ...) -> T: ...


def _done(jobs: Sequence[_Job[C]], what: str, rows: int, pool: Executor | None) -> Iterator[C]:
    """What the jobs give, in order; the processes of a pool do them unless there is but one job, or one core."""
    with runtime.progress((), what, total=rows, unit="rows") as bar:
        if pool is None or len(jobs) < 2 or runtime.cores() < 2:
            for job in jobs:
                yield job(bar.update)
            return
        for found in ahead(jobs, depth=2 * runtime.cores(), pool=pool):
            bar.update(found.rows)
            yield found


def _buckets(plan: Assignment, folder: Path) -> dict[str, Buckets]:
    """Empty buckets for every split."""
    whole = sum(index.source.size_bytes for index in plan.indices)
    total = sum(len(index) for index in plan.indices)
    every = sum(plan.sizes.values())  # a row in two splits counts twice
    return {name: Buckets(folder / name, rows, whole * rows // total, rows / every) for name, rows in plan.sizes.items()}


def _taken(plan: Assignment, wanted: Wanted, buckets: Mapping[str, Buckets], pool: Executor) -> Intake:
    """Read and check all rows, and put them into buckets. Raises InputError for a damaged one that is not to be left out."""
    taken = Intake(wanted)
    for index, jobs in zip(plan.indices, intake.jobs(plan, wanted, buckets), strict=True):
        for each in _done(jobs, "checking", len(index), pool):
            for error in each.left_out:
                _log.warning("left out: %s: expected %s, found %s", error.what, error.expected, error.found)
            taken.join(each)
    for name, size in plan.sizes.items():
        if len(taken.damaged[name]) == size:
            raise InputError(f"{name} split", expected="inputs that are sound", found="none", fix="Repair them.")
    return taken


@dataclass(frozen=True)
class _Write:
    """Writing the rows of these places of a split, as the file of it, or as a part if it is a folder."""

    buckets: Buckets
    start: int
    stop: int
    path: Path
    shape: Shape
    whole: bool

    def __call__(self, tell: Callable[[int], object] = lambda rows: None) -> WrittenPart:
        with runtime.lean_memory():
            rows = _told(self.buckets.between(self.start, self.stop), tell)
            return write_split(self.path, rows, **vars(self.shape)) if self.whole else write_part(self.path, rows, self.shape)


def _told(pieces: Iterator[Rows], tell: Callable[[int], object]) -> Iterator[Rows]:
    """The same pieces, of whose rows somebody is told; none is held while the next one is made."""
    for piece in pieces:
        tell(len(piece))
        yield piece
        del piece


def _writes(path: Path, buckets: Buckets, places: int, damaged: Sequence[int], shape: Shape, most: int) -> list[_Write]:
    """The jobs that write a split of so many places. damaged: places without rows, ascending. most: rows of a file."""
    rows = places - len(damaged)
    if rows <= most:
        return [_Write(buckets, 0, places, path, shape, whole=True)]
    path.mkdir()
    shifted = np.array(damaged, np.int64) - np.arange(len(damaged))
    first_rows = np.arange(0, rows, most)
    starts = (first_rows + np.searchsorted(shifted, first_rows, side="right")).tolist()  # places of these rows
    return [
        _Write(buckets, start, stop, path / part_name(number), shape, whole=False)
        for number, (start, stop) in enumerate(pairwise([*starts, places]))
    ]
