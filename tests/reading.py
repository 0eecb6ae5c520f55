"""Sources as tests read them: all rows at once, or the message that refuses them."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from pipeline.base.errors import InputError
from pipeline.data.sources.source import Source
from pipeline.data.sources.table import parse_source


@dataclass(frozen=True)
class Read:
    """All rows of a source."""

    source: Source
    ids: list[str] | None
    inputs: list[bytes]
    labels: list[int | str | None]
    places: list[str]
    sizes: list[int]  # rows of each chunk


def read(text: str, role: str = "transfer") -> Read:
    """All rows; their index must say the same of them."""
    source = parse_source(text, role)
    rows, index = (list(source.chunks(with_inputs)) for with_inputs in (True, False))
    held = Read(
        source,
        None if rows[0].ids is None else _joined(chunk.ids for chunk in rows),
        _joined(chunk.inputs for chunk in rows),
        _joined(chunk.labels for chunk in rows),
        [chunk.place(row) for chunk in rows for row in range(len(chunk.labels))],
        [len(chunk.labels) for chunk in rows],
    )
    assert _joined(chunk.labels for chunk in index) == held.labels
    assert (None if index[0].ids is None else _joined(chunk.ids for chunk in index)) == held.ids
    assert not any(chunk.inputs for chunk in index)
    assert len(held.inputs) == len(held.labels)
    return held


def refused(text: str, *parts: str, role: str = "transfer") -> None:
    """One InputError, on opening or on reading, whose message holds these parts."""
    with pytest.raises(InputError) as caught:
        read(text, role)
    for part in parts:
        assert part in str(caught.value), str(caught.value)


def _joined(parts: Iterator) -> list:
    return [item for part in parts for item in part]
