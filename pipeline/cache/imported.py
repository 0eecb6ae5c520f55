"""Import: a teacher of which there are logits only, made elsewhere, joined with the rows of the splits by their ids.

The logits go into one file, row by row, and then it is a teacher like another: `capture` seals its cache. Memory holds a
batch of rows, and some 25 bytes for each row of the splits.
"""

import contextlib
import errno
import logging
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from pipeline.base import facts, files, runtime, table
from pipeline.base.errors import InputError
from pipeline.base.places import Place
from pipeline.base.settings import check
from pipeline.cache.layout import SPLITS
from pipeline.data.index import id_digests
from pipeline.data.logits import Batch, LogitFile
from pipeline.data.settings import Views
from pipeline.data.splits import Split, open_splits
from pipeline.data.views import open_views
from pipeline.models import modelfile
from pipeline.models.lookup import MODEL, Places, shown
from pipeline.models.modelfile import Data, Facts, Imported, Net
from pipeline.stats.metrics import are_probabilities

VERSION = 1  # of the logits that the same files give
NAMED = 5  # ids in a message
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Joined:
    """The result of an import. rows: written, of all splits and views. ignored: rows of the files that the data lack."""

    rows: int
    ignored: int


def import_logits(*, logits: Sequence[str], splits: Place, views: Views, out: Place) -> Joined:
    """Write a teacher that gives these logits, to a folder whose name is the teacher's.

    The folder gets logits.npy, (rows of all splits and views, classes) float32, model.json and an empty history.
    Log-probabilities will do as well: they are logits but for a constant of each row, which no softmax sees. Rows of other
    ids, or of views past those that are wanted, are ignored and counted.

    Args:
        logits: The files, Parquet or .npz; see data.logits. Together they hold each row of the transfer set in every view,
            and each row of the validation and the test split, once.
        splits: The folder that ingest wrote.
        views: The views that the logits are of: view 0 is the row's own input.
        out: The folder to write; it is replaced as a whole.

    Returns:
        How many rows were written, and how many ignored.

    Raises:
        InputError: A file is wrong; rows are missing, or there twice; a logit is NaN or infinite; they are probabilities; an
            id is that of rows in two splits, and no column tells which is meant; or the disk is full. Nothing is written then.
        IntegrityError: The data are damaged.
        BusyError: The data were replaced meanwhile.
    """
    check(views)
    opened = open_splits(splits, ("train", *SPLITS))
    train, valid = opened.pop("train"), opened["valid"]
    policy, count = open_views(views)
    policy.require_kind(valid.inputs.kind)
    found = [LogitFile.open(path, valid.classes) for path in logits]
    if not found:
        raise InputError("logits", expected="files of logits", found="none", fix="Name a file.")
    if count > 1 and not any(each.has_views for each in found):
        fix = "Say of which view each row is, or set views.views to 1."
        raise InputError(str(found[0].path), expected=f"a column `view`, for {count:,} views", found="none", fix=fix)
    places = Places({name: split.rows for name, split in opened.items()}, count)
    join = _Join(opened, places, {name: _Ids.of(split) for name, split in opened.items()})
    join.require_distinct(found)
    rows = Imported({name: split.inputs_digest for name, split in opened.items()}, shown(policy, count))
    with _room(out, places.total * len(valid.classes) * 4), files.replaced_folder(out, read=[valid.witness]) as folder:
        with (folder / modelfile.LOGITS).open("xb") as file:
            join.write(found, file, len(valid.classes))
        history = table.to_parquet([], modelfile.HISTORY_COLUMNS)
        files.write(folder / modelfile.HISTORY, history)
        net = Net(0, files.sha256_file(folder / modelfile.LOGITS), None)
        said = Facts(
            modelfile.FORMAT, "imported", out.name, MODEL, f"version {VERSION}", valid.inputs, valid.classes, (net,),
            Data.of(train, valid), files.sha256(history), recipe=None, views=None, rows=None, soft=None, imported=rows,
            outputs=None, parameters=None, assets={}, generations=(), mutual=None,
        )  # fmt: skip
        files.write(folder / modelfile.FILE_NAME, facts.sealed(asdict(said)))
    if join.ignored:
        _log.info("%s: %s rows of other ids or views, which were ignored", out.name, f"{join.ignored:,}")
    return Joined(places.total, join.ignored)


@contextlib.contextmanager
def _room(out: Place, size_bytes: int) -> Iterator[None]:
    """Let a full disk raise an InputError, which says how much is needed."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not isinstance(out, Path):
            raise
        free = f"{shutil.disk_usage(out.parent).free / 1e9:.3g} GB"
        fix = "Make room, then run again."
        raise InputError(str(out), expected=f"{size_bytes / 1e9:.3g} GB of room", found=free, fix=fix) from error


# ---------------------------------------------------------------- ids


@dataclass(frozen=True)
class _Ids:
    """The rows of a split by id. digests: sorted. rows: the row number of each."""

    digests: np.ndarray
    rows: np.ndarray

    @classmethod
    def of(cls, split: Split) -> "_Ids":
        spans = runtime.progress(range(len(split.spans())), f"reading the ids of {split.path.stem}", unit="spans")
        digests = np.concatenate([id_digests(split.ids(span)) for span in spans])
        order = np.argsort(digests, kind="stable")
        return cls(digests[order], order)

    def find(self, digests: np.ndarray) -> np.ndarray:
        """The row of each id, -1 where the split lacks it: (n,) int64."""
        places = np.searchsorted(self.digests, digests).clip(max=len(self.digests) - 1)
        return np.where(self.digests[places] == digests, self.rows[places], -1)


@dataclass
class _Tally:
    """How many rows are wrong in one way, and which are the first of them."""

    count: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, names: Iterable[str], count: int) -> None:
        """Count rows. names: at least the first ones."""
        self.count += count
        self.first += [name for _, name in zip(range(NAMED - len(self.first)), names, strict=False)]

    def __str__(self) -> str:
        more = ", …" if self.count > len(self.first) else ""
        return f"{self.count:,} row{'s' * (self.count != 1)}: {', '.join(self.first)}{more}"


# ---------------------------------------------------------------- joining


class _Join:
    """Rows of files on their way to their places. ignored: how many had none."""

    def __init__(self, splits: Mapping[str, Split], places: Places, ids: Mapping[str, _Ids]):
        self.splits, self.places, self.ids = splits, places, ids
        self.there = np.zeros(places.total, bool)
        self.odd, self.twice = _Tally(), _Tally()
        self.probabilities = True
        self.ignored = 0

    def require_distinct(self, found: Sequence[LogitFile]) -> None:
        """Raise InputError if an id is in two splits, and some file does not say which it means.

        Validation rows that are folded into the transfer set are the same rows there.
        """
        silent = next((each for each in found if not each.has_splits), None)
        if silent is None:
            return
        for one, other in (("transfer", "valid"), ("transfer", "test"), ("valid", "test")):
            rows = self.ids[one].find(self.ids[other].digests)
            if (rows >= 0).any() and not (other == "valid" and self.splits[other].folded):
                both = _Tally()
                both.add(self._names(one, np.sort(rows[rows >= 0])), int((rows >= 0).sum()))
                fix = "Add a column `split` that says transfer, valid or test; in an .npz file an array `splits`."
                what, expected = f"{silent.path}, ids", f"ids that are of one row, but {one} and {other} share some"
                raise InputError(what, expected=expected, found=str(both), fix=fix)

    def write(self, found: Sequence[LogitFile], file: BinaryIO, classes: int) -> None:
        """Write all logits. Raises InputError unless each place gets one row of finite ones, and they are no probabilities."""
        header = {"descr": "<f4", "fortran_order": False, "shape": (self.places.total, classes)}
        np.lib.format.write_array_header_1_0(file, header)
        start = file.tell()
        for each in found:
            for batch in runtime.counting(each.batches(), f"reading {each.path.name}", lambda batch: len(batch.ids)):
                self._put(batch, file, start)
        self._require_whole(", ".join(str(each.path) for each in found))

    def _put(self, batch: Batch, file: BinaryIO, start: int) -> None:
        """Write a batch. start: the first byte of the logits in the file."""
        used, odd, twice = np.zeros((3, len(batch.ids)), bool)
        for rows, places in self._places(batch):
            used[rows] = True
            first = np.zeros(len(rows), bool)
            first[np.unique(places, return_index=True)[1]] = True
            again = ~first | self.there[places]
            twice[rows[again]] = True
            self.there[places] = True
            _write(file, start, places[~again], batch.logits[rows[~again]])
        odd[used] = ~np.isfinite(batch.logits[used]).all(axis=1)
        self.odd.add((batch.ids[row] for row in np.flatnonzero(odd).tolist()), int(odd.sum()))
        self.twice.add((_row_name(batch, row) for row in np.flatnonzero(twice).tolist()), int(twice.sum()))
        self.probabilities &= are_probabilities(batch.logits[used])
        self.ignored += int((~used).sum())

    def _places(self, batch: Batch) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """For each split the rows of a batch that are of it, and the place of each."""
        digests = id_digests(batch.ids)
        for name, split in self.splits.items():
            wanted = (batch.views >= 0) & (batch.views < self.places.views_of(name))
            if batch.splits is not None:
                wanted &= np.isin(np.array(batch.splits, object), [name, split.role])
            found = self.ids[name].find(digests)
            rows = np.flatnonzero(wanted & (found >= 0))
            if len(rows):
                yield rows, self.places.start(name) + batch.views[rows] * split.rows + found[rows]

    def _require_whole(self, what: str) -> None:
        if self.there.any() and self.probabilities and not self.odd.count:
            fix = "Take their logarithms, which are logits but for a constant of each row; those of 0 are too small to keep."
            raise InputError(what, expected="logits", found="probabilities: every row sums to 1", fix=fix)
        if self.odd.count:
            fix = "Correct them. The logarithm of 0 cannot be kept: give such a class a small probability first."
            raise InputError(what, expected="finite logits that float32 can hold", found=f"others in {self.odd}", fix=fix)
        if self.twice.count:
            fix = "Leave out all but one; rows of several views need a column `view`."
            raise InputError(what, expected="one row for each id and view", found=f"more for {self.twice}", fix=fix)
        missing = _Tally()
        for name, split in self.splits.items():
            for view in range(self.places.views_of(name)):
                first = self.places.start(name, view)
                rows = np.flatnonzero(~self.there[first : first + split.rows])
                told = f" ({name}, view {view})"
                missing.add((f"{each}{told}" for each in self._names(name, rows)), len(rows))
        if missing.count:
            fix = "Add them. Ids are those of the column `id` in data/transfer."
            raise InputError(what, expected="logits of every row of the data", found=f"none of {missing}", fix=fix)

    def _names(self, split: str, rows: np.ndarray) -> Iterator[str]:
        """The ids of rows, read one by one."""
        source = self.splits[split]
        for row in rows.tolist():
            yield source.ids(row // source.span)[row % source.span]


def _row_name(batch: Batch, row: int) -> str:
    return batch.ids[row] + (f" (view {batch.views[row]})" if batch.views[row] else "")


def _write(file: BinaryIO, start: int, places: np.ndarray, logits: np.ndarray) -> None:
    """Write rows of logits at their places, those that follow each other at once."""
    order = np.argsort(places)
    places, logits = places[order], logits[order].astype("<f4")
    row_bytes = logits.shape[1] * 4
    ends = np.flatnonzero(np.diff(places, append=-1) != 1) + 1
    begin = 0
    for end in ends.tolist():
        file.seek(start + int(places[begin]) * row_bytes)
        file.write(logits[begin:end].tobytes())
        begin = end
