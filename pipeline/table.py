"""Tables as CSV: the history of a training, and whatever DVC plots."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.errors import InputError


def to_csv(rows: Sequence[Mapping[str, object]]) -> bytes:
    """Rows to CSV, a column for every key; floats keep every digit, so that equal results are equal bytes."""
    held = io.StringIO()
    writer = csv.DictWriter(held, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return held.getvalue().encode()


def from_csv(path: Path, command: str) -> list[dict[str, str]]:
    """Rows of a CSV file that `command` writes, every value as text; raises InputError where there is no such file."""
    try:
        with path.open(newline="") as file:
            return list(csv.DictReader(file))
    except FileNotFoundError as error:
        raise InputError(str(path), expected="a table", found="none", fix=f"Run `softcache {command}`.") from error
