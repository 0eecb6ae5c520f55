"""Lines of text files: UTF-8, one by one."""

from collections.abc import Iterator
from pathlib import Path

from pipeline.base.errors import InputError
from pipeline.data.sources import paths

LONGEST_BYTES = 16 << 20  # of a line, so that a file without lines does not fill the memory
_PACKED = 4  # how much larger than its .gz a text is, about


def lines(path: Path, what: str) -> Iterator[str]:
    """The lines of a UTF-8 file, with their ends; a byte order mark is left out. A file that ends in .gz is unpacked.

    Raises InputError, by the number of the line, for a line that is too long or no UTF-8, and for a file that cannot be read,
    which says that `what` was expected.
    """
    with paths.reading(path, what), paths.opened(path) as file:
        number = 0
        while data := file.readline(LONGEST_BYTES + 1):
            number += 1
            where = f"{path}, line {number}"
            if len(data) > LONGEST_BYTES:
                expected, fix = f"lines of at most {LONGEST_BYTES:,} bytes", f"Give {what}."
                raise InputError(where, expected=expected, found="a longer one", fix=fix)
            try:
                text = data.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                found = f"byte 0x{data[error.start]:02x} after {error.start} others"
                raise InputError(where, expected="UTF-8", found=found, fix="Save the file as UTF-8.") from error
            yield text


def size_bytes(path: Path) -> int:
    """About how much text a file holds."""
    return path.stat().st_size * (_PACKED if paths.is_packed(path) else 1)
