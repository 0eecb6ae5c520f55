"""The tables of an evaluation: what columns they have, and how they are written together, and read.

Beside them lies tables.json, which binds them to each other by their sha256, and says which teachers were measured.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.base import commands, facts, files, table
from pipeline.base.errors import InputError, IntegrityError
from pipeline.base.table import FLAG, INTEGER, NUMBER, TEXT

FORMAT = 1
FILE_NAME = "tables.json"
METRICS = {
    "accuracy": NUMBER, "errors": INTEGER, "nll": NUMBER, "ece": NUMBER, "brier": NUMBER, "agreement": NUMBER,
    "kl_to_teacher": NUMBER,
}  # fmt: skip
_SETTING = {"student": TEXT, "temperature": NUMBER, "alpha": NUMBER}  # null where they do not apply
_OUTCOME = {"diverged": INTEGER, "chance": FLAG}  # the epoch in which it did, or null; whether it is no better than chance


def _spread(*names: str) -> table.Columns:
    return {column: NUMBER for name in names for column in (name, f"{name}_std")}


COLUMNS: Mapping[str, table.Columns] = {
    "runs": {
        "run": TEXT, "kind": TEXT, **_SETTING, "parameters": INTEGER, "seed": INTEGER, "split": TEXT, **METRICS, **_OUTCOME,
    },
    "classes": {"run": TEXT, "seed": INTEGER, "split": TEXT, "class": TEXT, "rows": INTEGER, "errors": INTEGER},
    "best": {
        "student": TEXT, "run": TEXT, "temperature": NUMBER, "alpha": NUMBER, "seeds": INTEGER, "lost": INTEGER,
        **_spread("valid_nll", "test_errors", "baseline_test_errors", "errors_saved"),
        **{f"{name}_{end}": NUMBER for name in ("over_seeds", "over_rows") for end in ("low", "high")},
    },
    "results": {
        **_SETTING, "seed": INTEGER, "parameters": INTEGER,
        **{f"{split}_{metric}": kind for split in ("valid", "test") for metric, kind in METRICS.items()}, **_OUTCOME,
    },
}  # fmt: skip
PLOTTED = {  # for DVC's plots alone; nothing reads them back
    "history": ("series", "epoch", "train_loss", "valid_accuracy", "valid_nll"),
    "temperature": ("series", "temperature", "valid_accuracy", "test_accuracy"),
}

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class _Facts:
    """What tables.json says. teachers: the sha256 of each one's weights. files: the sha256 of each table."""

    version: int
    teachers: Mapping[str, str]
    files: Mapping[str, str]


@dataclass(frozen=True)
class Tables:
    """The tables in a folder, opened. teachers: the sha256 of the weights of each teacher that was measured."""

    folder: Path
    teachers: Mapping[str, str]
    files: Mapping[str, str]
    fix: str

    @classmethod
    def open(cls, folder: Path) -> "Tables":
        """Raises InputError where no tables are there, IntegrityError where they are damaged."""
        fix = f"Run {commands.evaluate(folder)}."
        try:
            said, _ = facts.read(_Facts, folder / FILE_NAME, fix, FORMAT)
        except InputError as error:
            if any(folder.glob("*.parquet")):
                raise IntegrityError(str(folder), expected=f"tables with {FILE_NAME}", found="none of it", fix=fix) from error
            raise InputError(str(folder), expected="tables", found="none", fix=f"{fix} Or correct the path.") from error
        return cls(folder, said.teachers, said.files, fix)

    def read(self, name: str) -> list[dict[str, Any]]:
        """Rows of a table of COLUMNS. Raises IntegrityError where it is not what was written with the others."""
        path = self.folder / f"{name}.parquet"
        data = files.read_bound(path, self.files.get(name, ""), self.fix)
        return table.from_parquet(data, COLUMNS[name], str(path), self.fix)


def write(folder: Path, tables: Mapping[str, Rows], plotted: Mapping[str, Rows], teachers: Mapping[str, str]) -> None:
    """Write every table of COLUMNS and PLOTTED into a folder, and what binds those that are read again."""
    digests = {}
    for name, columns in COLUMNS.items():
        data = table.to_parquet(tables[name], columns)
        files.write(folder / f"{name}.parquet", data)
        digests[name] = files.sha256(data)
    for name, order in PLOTTED.items():
        files.write(folder / f"{name}.csv", table.to_csv(plotted[name], order))
    files.write(folder / FILE_NAME, facts.sealed(asdict(_Facts(FORMAT, teachers, digests))))
