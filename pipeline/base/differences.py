"""Differences: the fields in which two nested mappings differ."""

from collections.abc import Iterator, Mapping
from typing import Any


def differences(expected: Mapping[str, Any], found: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Every leaf in which two nested mappings differ: (dotted field, expected, found); None where one side lacks it."""
    left, right = dict(_leaves(expected)), dict(_leaves(found))
    names = [*left, *(name for name in right if name not in left)]
    return [(name, left.get(name), right.get(name)) for name in names if left.get(name) != right.get(name)]


def _leaves(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, item in value.items():
        if isinstance(item, Mapping):
            yield from _leaves(item, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", item
