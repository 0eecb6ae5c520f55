"""The form of a source's rows: their kind, and of arrays their dtype and shape."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Form:
    """kind: image, array or text. dtype, shape: of an array, such as `float32` and (20, 40)."""

    kind: str
    dtype: str = ""
    shape: tuple[int, ...] = ()

    def __str__(self) -> str:
        shape = "×".join(map(str, self.shape)) or "single numbers"
        return f"arrays of {self.dtype}, {shape}" if self.kind == "array" else f"{self.kind}s"
