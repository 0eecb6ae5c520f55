"""The kinds of input: what all of them do, and the table that names them."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import ClassVar, Protocol, Self

import numpy as np
import pyarrow as pa

from pipeline.data.inputs.array import Arrays
from pipeline.data.inputs.form import Form
from pipeline.data.inputs.image import Images
from pipeline.data.inputs.resizing import Resizing
from pipeline.data.inputs.text import Texts

Inputs = Images | Arrays | Texts
KINDS: dict[str, type[Inputs]] = {"image": Images, "array": Arrays, "text": Texts}


class Kind(Protocol):
    """What a class in KINDS is: an instance holds the facts that the inputs of a split share.

    A row is stored as bytes. `examine` and `settle` serve ingest, the rest serves who writes and reads splits. To add a kind,
    write such a class, and name it in KINDS, in `Inputs` and in form.KINDS.
    """

    COLUMN: ClassVar[str]  # of a split's file

    @property
    def kind(self) -> str:
        """Its name in KINDS."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a row as it is read; () for text."""

    @property
    def dtype(self) -> np.dtype:
        """Dtype of a row as it is read; object for text."""

    def row_bytes(self, stored: float) -> int:
        """Bytes of a row in memory, once it is read. stored: the mean of a row as it is stored."""

    @staticmethod
    def examine(form: Form, stored: bytes, where: str) -> Hashable:
        """What `settle` has to know of a row. Raises InputError, naming `where`, for a damaged one."""

    @classmethod
    def settle(cls, form: Form, seen: Mapping[Hashable, str], resizing: Resizing) -> Self:
        """The facts of a split. seen: what was seen of its rows, with the place of the first such row.

        Raises InputError for rows that do not go together, naming two of them.
        """

    @staticmethod
    def column(stored: pa.Array) -> pa.Array:
        """Rows, (N,) binary, as a column of a split's file."""

    @staticmethod
    def stored(column: pa.Array) -> list[bytes | None]:
        """The rows in such a column."""

    def read(self, stored: Sequence[bytes], place: Callable[[int], str]) -> np.ndarray:
        """Rows as numpy has them: (n, *shape). place: what a row is called in messages, by its index."""
