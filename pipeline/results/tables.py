"""Tables: the tables of an evaluation, how they are written together, and how they are read.

The file tables.json next to them holds their sha256, and says which nets were measured, on which rows. Beside the tables lie
gallery.json, the rows that the report shows, and lineage.json, what the nets come from.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple, TypeVar

from pipeline.base import commands, facts, files, table
from pipeline.base.errors import InputError, IntegrityError
from pipeline.base.places import Place
from pipeline.data.splits import Split
from pipeline.models.modelfile import ModelFile
from pipeline.results.gallery import FILE_NAME as GALLERY
from pipeline.results.gallery import Gallery
from pipeline.results.lineage import FILE_NAME as LINEAGE
from pipeline.results.lineage import Lineage

FORMAT = 3
FILE_NAME = "tables.json"


class RunRow(NamedTuple):
    """A net on a split. student, temperature, alpha: None if they do not apply. seed: None for a teacher.

    parameters: None if they are not known. diverged: the epoch in which the net diverged; it then has no metrics. chance:
    whether it is no better than chance.
    """

    run: str
    kind: str
    student: str | None
    temperature: float | None
    alpha: float | None
    parameters: int | None
    seed: int | None
    split: str
    accuracy: float | None
    errors: int | None
    nll: float | None
    ece: float | None
    brier: float | None
    agreement: float | None
    kl_to_teacher: float | None
    diverged: int | None
    chance: bool | None


class ClassRow(NamedTuple):
    """A net on the rows of one class: their number, and the errors on them."""

    run: str
    seed: int | None
    split: str
    class_: str
    rows: int
    errors: int


class BestRow(NamedTuple):
    """A student at its best setting by the validation split, compared with its baseline; see choice.best."""

    student: str
    run: str
    temperature: float
    alpha: float
    seeds: int
    lost: int
    valid_nll: float
    valid_nll_std: float | None
    test_errors: float
    test_errors_std: float | None
    baseline_test_errors: float
    baseline_test_errors_std: float | None
    errors_saved: float
    errors_saved_std: float | None
    over_seeds_low: float | None
    over_seeds_high: float | None
    over_rows_low: float
    over_rows_high: float


class StudentRow(NamedTuple):
    """A net of a student on both splits; see RunRow."""

    student: str
    temperature: float | None
    alpha: float | None
    seed: int | None
    parameters: int | None
    valid_accuracy: float | None
    valid_errors: int | None
    valid_nll: float | None
    valid_ece: float | None
    valid_brier: float | None
    valid_agreement: float | None
    valid_kl_to_teacher: float | None
    test_accuracy: float | None
    test_errors: int | None
    test_nll: float | None
    test_ece: float | None
    test_brier: float | None
    test_agreement: float | None
    test_kl_to_teacher: float | None
    diverged: int | None
    chance: bool | None


class EpochRow(NamedTuple):
    """A net after an epoch of its training. seed: None for a teacher."""

    run: str
    seed: int | None
    epoch: int
    train_loss: float
    valid_accuracy: float
    valid_nll: float


class BinRow(NamedTuple):
    """The test rows of a net in one bin of confidence, of those of metrics.ece; only bins with rows.

    bin: from 0. confidence, accuracy: means over its rows.
    """

    run: str
    seed: int | None
    bin: int
    rows: int
    confidence: float
    accuracy: float


class ConfusionRow(NamedTuple):
    """Test rows of one class that a run takes for another. label, predicted: numbers of classes. rows: mean over its seeds."""

    run: str
    label: int
    predicted: int
    rows: float


class EpochPoint(NamedTuple):
    """A run at an epoch, means over its seeds. Like TemperaturePoint, only for the plots of DVC: nothing reads it back."""

    series: str
    epoch: int
    train_loss: float
    valid_accuracy: float
    valid_nll: float


class TemperaturePoint(NamedTuple):
    """A student at a temperature, means over its seeds."""

    series: str
    temperature: float
    valid_nll: float
    test_accuracy: float


Row = TypeVar("Row", bound=tuple[object, ...])
NAMES: Mapping[type[tuple[object, ...]], str] = {
    RunRow: "runs", ClassRow: "classes", BestRow: "best", StudentRow: "results", EpochRow: "epochs", BinRow: "bins",
    ConfusionRow: "confusions",
}  # fmt: skip


@dataclass(frozen=True)
class Basis:
    """What the figures are of. teachers: the sha256 of the weights of each.

    students: by run and seed, the sha256 of the weights. rows: by split, the digests of its `inputs` and its `labels`.
    """

    teachers: Mapping[str, str]
    students: Mapping[str, Mapping[str, str]]
    rows: Mapping[str, Mapping[str, str]]


def digests(splits: Mapping[str, Split]) -> dict[str, dict[str, str]]:
    """The rows of a Basis."""
    return {name: {"inputs": split.inputs_digest, "labels": split.labels_digest} for name, split in splits.items()}


def weights(model: ModelFile) -> dict[str, str]:
    """The sha256 of the weights of each net of a student, by its seed in digits, as JSON wants keys."""
    return {str(net.seed): net.sha256 for net in model.nets if net.sha256 is not None}


@dataclass(frozen=True)
class _Facts:
    """The content of tables.json. files: the sha256 of each table."""

    version: int
    basis: Basis
    files: Mapping[str, str]


@dataclass(frozen=True)
class Tables:
    """An open folder of tables. base: where its files lie, see files.current."""

    folder: Place
    base: Place
    basis: Basis
    files: Mapping[str, str]
    fix: str

    @classmethod
    def open(cls, folder: Place) -> "Tables":
        """Open a folder. Raises InputError if it has no tables, IntegrityError if they are damaged."""
        fix = f"Run {commands.evaluate(folder)}."
        try:
            base = files.current(folder)
            found, _ = facts.read(_Facts, base / FILE_NAME, fix, FORMAT)
        except InputError as error:
            if any(folder.glob("*.parquet")):
                raise IntegrityError(str(folder), expected=f"tables with {FILE_NAME}", found="no such file", fix=fix) from error
            raise InputError(str(folder), expected="tables", found="none", fix=f"{fix} Or correct the path.") from error
        return cls(folder, base, found.basis, found.files, fix)

    def read(self, kind: type[Row]) -> list[Row]:
        """The records of this kind. Raises IntegrityError if their table is not the one that tables.json names."""
        name = NAMES[kind]
        path, columns = self.base / f"{name}.parquet", table.columns(kind)
        data = files.read_bound(path, self.files.get(name, ""), self.fix)
        records = table.from_parquet(data, columns, str(path), self.fix)
        return [kind(*(record[column] for column in columns)) for record in records]

    def gallery(self) -> Gallery:
        """The rows to show. Raises IntegrityError if they are not those that tables.json names."""
        return Gallery.parse(self._bound(GALLERY), self.base / GALLERY, self.fix)

    def lineage(self) -> Lineage:
        """What the nets come from. Raises IntegrityError if it is not what tables.json names."""
        return Lineage.parse(self._bound(LINEAGE), self.base / LINEAGE, self.fix)

    def _bound(self, name: str) -> bytes:
        return files.read_bound(self.base / name, self.files.get(name, ""), self.fix)


def write(
    folder: Place,
    *,
    runs: Sequence[RunRow],
    classes: Sequence[ClassRow],
    best: Sequence[BestRow],
    results: Sequence[StudentRow],
    epochs: Sequence[EpochRow] = (),
    bins: Sequence[BinRow] = (),
    confusions: Sequence[ConfusionRow] = (),
    history: Sequence[EpochPoint] = (),
    temperature: Sequence[TemperaturePoint] = (),
    gallery: Gallery,
    lineage: Lineage,
    basis: Basis,
) -> None:
    """Write all tables into a folder, and tables.json with the sha256 of those that are read again."""
    records: Mapping[type[tuple[object, ...]], Sequence[tuple[object, ...]]] = {
        RunRow: runs, ClassRow: classes, BestRow: best, StudentRow: results, EpochRow: epochs, BinRow: bins,
        ConfusionRow: confusions,
    }  # fmt: skip
    written = {GALLERY: gallery.to_json(), LINEAGE: lineage.to_json()}
    for name, data in written.items():
        files.write(folder / name, data)
    digests = {name: files.sha256(data) for name, data in written.items()}
    for kind, rows in records.items():
        columns = table.columns(kind)
        data = table.to_parquet([dict(zip(columns, row, strict=True)) for row in rows], columns)
        files.write(folder / f"{NAMES[kind]}.parquet", data)
        digests[NAMES[kind]] = files.sha256(data)
    files.write(folder / "history.csv", table.to_csv(history, EpochPoint))
    files.write(folder / "temperature.csv", table.to_csv(temperature, TemperaturePoint))
    files.write(folder / FILE_NAME, facts.sealed(asdict(_Facts(FORMAT, basis, digests))))
