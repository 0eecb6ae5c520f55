"""The source `jsonl`: texts as JSON, an object a line."""

import functools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.base import files
from pipeline.base.errors import InputError, first_line
from pipeline.base.facts import NOT_JSON
from pipeline.data.sources import columns, lines, paths
from pipeline.data.sources.source import Chunk, Form, Label, Source, chunked

_WHAT = "a JSONL file"


def jsonl(path: str, text: str = "text", label: str | None = None, id: str | None = None) -> Source:
    """Texts of a file with one JSON object a line, in UTF-8 (jsonlines.org); empty lines are left out.

        ingest: {train: "jsonl('data/source/train.jsonl', text='question', label='intent')"}

    Args:
        path: The file; it may be packed as .jsonl.gz.
        text: The key of texts, which are strings.
        label: The key of labels, whole numbers or names; null where unknown. None: `label`, `labels` or `y`, if the first
            line has it.
        id: The key of ids, whole numbers or strings. None: `id`, if the first line has it.

    Returns:
        The source.

    Raises:
        InputError: A line is no object or no UTF-8, or lacks a key that the first has, or holds something else there.
    """
    columns.require_names("jsonl", text=text, label=label, id=id)
    file = paths.one(path, _WHAT)
    line, first = next(_objects(file), (1, {}))
    there, what = list(first), f"{file}, line {line}"
    keys = _Keys(columns.input_of(there, text, what), columns.label_of(there, label, what), columns.id_of(there, id, what))
    chunks, lacks = functools.partial(_chunks, file, keys), columns.lacking(keys.label)
    return Source(Form("text"), chunks, (files.resolved(file),), lines.size_bytes(file), unlabelled=lacks)


class _Keys(NamedTuple):
    """The keys that are read."""

    text: str
    label: str | None
    id: str | None


def _chunks(path: Path, keys: _Keys, with_inputs: bool) -> Iterator[Chunk]:
    return chunked(_rows(path, keys, with_inputs), lambda line: f"{path}, line {line}")


def _rows(path: Path, keys: _Keys, with_inputs: bool) -> Iterator[tuple[str | None, bytes | None, Label, int]]:
    for line, row in _objects(path):
        where = f"{path}, line {line}"
        if missing := [key for key in keys if key is not None and key not in row]:
            fix = "Give every line the keys of the first; null stands for an unknown label."
            raise InputError(where, expected=f"a key `{missing[0]}`", found=", ".join(row) or "no keys", fix=fix)
        if keys.label is None and (stray := [key for key in columns.LABELS if key in row]):
            fix = f'Give the first line "{stray[0]}": null.'
            raise InputError(where, expected="no label, as in the first line", found=f"a key `{stray[0]}`", fix=fix)
        label = row[keys.label] if keys.label is not None else None
        name = None if keys.id is None else str(_value(row, keys.id, where, (str, int), "a string or a whole number"))
        words = _value(row, keys.text, where, (str,), "a string")
        yield name, _utf8(words, where) if with_inputs else None, label, line


def _objects(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The object in each line, with the line's number."""
    for number, line in enumerate(lines.lines(path, _WHAT), 1):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except NOT_JSON as error:
            fix = "Write one object a line."
            where = f"{path}, line {number}"
            raise InputError(where, expected="JSON", found=f"another text ({first_line(error)})", fix=fix) from error
        if not isinstance(found, dict):
            fix = 'Write lines such as {"text": "…", "label": 3}.'
            raise InputError(f"{path}, line {number}", expected="an object", found=type(found).__name__, fix=fix)
        yield number, found


def _value(row: Mapping[str, Any], key: str, where: str, kinds: tuple[type, ...], expected: str) -> Any:
    if type(row[key]) not in kinds:
        found, fix = json.dumps(row[key]), "Correct the line, or leave it out."
        raise InputError(f"{where}, key {key}", expected=expected, found=found, fix=fix)
    return row[key]


def _utf8(words: str, where: str) -> bytes:
    try:
        return words.encode()
    except UnicodeEncodeError as error:
        found, fix = "half of a surrogate pair", "Correct the line."
        raise InputError(where, expected="a text that UTF-8 can hold", found=found, fix=fix) from error
