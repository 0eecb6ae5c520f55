"""The form of a source's rows: their kind, and of arrays their dtype and shape."""

from dataclasses import dataclass

from pipeline.base.errors import InputError

KINDS = ("image", "text", "array")
DTYPES = ("float32", "float16", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")


@dataclass(frozen=True)
class Form:
    """What the rows of a source are: `image`, `text`, or `array` with its dtype, one of DTYPES, and the shape of a row.

    Raises InputError for any other.
    """

    kind: str
    dtype: str | None = None
    shape: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        plain = self.kind in KINDS[:2] and self.dtype is None and self.shape is None
        array = self.kind == "array" and self.dtype in DTYPES and bool(self.shape) and min(self.shape or (0,)) > 0
        if not plain and not array:
            expected = f"image, text, or array with a dtype of {', '.join(DTYPES)} and a shape of whole numbers from 1 on"
            raise InputError("form of a source", expected=expected, found=str(self), fix="Correct it.")

    def __str__(self) -> str:
        return self.kind if self.kind != "array" else f"array of {self.dtype}, {'×'.join(map(str, self.shape or ())) or '()'}"
