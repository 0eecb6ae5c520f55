"""The lookup: the logits of an imported teacher, by split, view and row. It stands in the place of a net."""

import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from pipeline.base import files
from pipeline.base.differences import differences
from pipeline.base.errors import InputError, IntegrityError, first_line
from pipeline.data.splits import Split
from pipeline.data.views import Policy
from pipeline.models.modelfile import LOGITS, Imported, ModelFile, Shown

MODEL = "imported"  # what an imported teacher has for a model


@dataclass(frozen=True)
class Places:
    """Where logits are in the file: by split in order, then by view, then by row.

    rows: of each split. views: of the first split, the transfer set; the others have one.
    """

    rows: Mapping[str, int]
    views: int

    @property
    def total(self) -> int:
        """The number of rows of the file."""
        return sum(self.rows[split] * self.views_of(split) for split in self.rows)

    def views_of(self, split: str) -> int:
        """How many views of each row a split has."""
        return self.views if split == next(iter(self.rows)) else 1

    def start(self, split: str, view: int = 0) -> int:
        """The first row of the file with logits of this view of the split."""
        before = list(self.rows)[: list(self.rows).index(split)]
        return sum(self.rows[each] * self.views_of(each) for each in before) + view * self.rows[split]


@dataclass(frozen=True)
class Lookup:
    """An opened table of logits, for these splits."""

    teacher: ModelFile
    places: Places

    @classmethod
    def open(cls, teacher: ModelFile, splits: Mapping[str, Split], policy: Policy, count: int) -> Self:
        """Open the logits of an imported teacher, without reading them; `check` compares their sha256.

        Args:
            teacher: The folder of the teacher.
            splits: The transfer set, the validation and the test split, in this order.
            policy: The views that are wanted.
            count: How many views are wanted.

        Returns:
            The lookup.

        Raises:
            InputError: Logits of other rows, or of other views, were imported; the message names the split or the setting.
            IntegrityError: model.json does not say which rows these are.
        """
        if (imported := teacher.imported) is None:
            raise IntegrityError(str(teacher.folder), expected="an imported teacher", found="another", fix=teacher.fix)
        for name, split in splits.items():
            if (found := imported.inputs.get(name, "none")) != split.inputs_digest:
                what, expected = f"teacher {teacher.name}, rows of {name}", f"digest {split.inputs_digest[:12]}… as in the data"
                fix = f"Its logits are of other rows, or in another order: import them again. {teacher.fix}"
                raise InputError(what, expected=expected, found=f"{found[:12]}…", fix=fix)
        _require_views(teacher, imported, policy, count)
        return cls(teacher, Places({name: split.rows for name, split in splits.items()}, imported.views.count or 1))

    def check(self) -> files.Witness:
        """Compare the file with its sha256 in model.json, and its shape with the rows. Returns its witness.

        Raises:
            IntegrityError: It is missing, its bytes have changed, or it is of another shape.
        """
        path, digest, fix = self.teacher.base / LOGITS, self.teacher.weights_sha256, self.teacher.fix
        found = files.sha256_file(path) if path.is_file() else None
        if found != digest:
            told = "no file" if found is None else f"sha256 {found}"
            raise IntegrityError(str(path), expected=f"sha256 {digest}", found=told, fix=fix)
        wanted = (self.places.total, len(self.teacher.classes))
        try:
            with path.open("rb") as file:
                shape, _, dtype = _header(file)
            told = f"{dtype} of the shape {shape}"
        except (ValueError, EOFError) as error:
            told = first_line(error)
        if told != (expected := f"float32 of the shape {wanted}"):
            raise IntegrityError(str(path), expected=expected, found=told, fix=fix)
        return files.Witness.of_file(path, digest)

    def read(self, split: str, view: int, start: int, stop: int) -> np.ndarray:
        """Logits as they were imported.

        Args:
            split: `transfer`, `valid` or `test`.
            view: The view; 0 for the row itself.
            start: The number of the first row.
            stop: The number after the last row.

        Returns:
            (stop - start, classes) float32.
        """
        first = self.places.start(split, view)
        classes, size = len(self.teacher.classes), np.dtype(np.float32).itemsize
        with (self.teacher.base / LOGITS).open("rb") as file:
            _header(file)
            file.seek((first + start) * classes * size, os.SEEK_CUR)
            held = file.read((stop - start) * classes * size)
        return np.frombuffer(bytearray(held), np.float32).reshape(stop - start, classes)


def _header(file: io.BufferedReader) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """The shape, the order and the dtype that a .npy file begins with; the numbers follow."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(file)


def shown(policy: Policy, count: int) -> Shown:
    """These views as model.json says it."""
    return Shown(policy.text, None if policy.every else policy.seed, policy.behaviours, count)


def _require_views(teacher: ModelFile, imported: Imported, policy: Policy, count: int) -> None:
    """Raise InputError unless logits of these views were imported. A single view is the row itself under any policy."""
    if count == 1:
        return
    wanted, found = vars(shown(policy, count)), vars(imported.views)
    found = found | {"count": count if count <= (imported.views.count or 1) else imported.views.count}
    for name, expected, had in differences(wanted, found):
        fix = f"Correct the setting, or import logits of these views. {teacher.fix}"
        raise InputError(
            f"teacher {teacher.name}, views.{name}", expected=f"{expected} as wanted", found=f"{had} as imported", fix=fix
        )
