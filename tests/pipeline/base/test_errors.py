"""Errors: one line that a terminal can be trusted with."""

import pickle

import pytest

from pipeline.base.errors import (
    SHOWN,
    BusyError,
    InputError,
    IntegrityError,
    SoftcacheError,
    first_line,
    lacks_memory,
    printable,
)


def test_a_message_has_four_parts():
    error = InputError("file.txt", expected="one", found="two", fix="Mend it.")
    assert str(error) == "file.txt: expected one, found two. Mend it."
    assert (error.what, error.expected, error.found, error.fix) == ("file.txt", "one", "two", "Mend it.")


def test_exit_codes():
    """As README.md promises them."""
    assert [kind.exit_code for kind in (SoftcacheError, InputError, IntegrityError, BusyError)] == [1, 2, 3, 4]


def test_no_part_moves_the_cursor():
    parts = {name: f"{name}\n\x1b[2J\u202e\ud800é" for name in ("expected", "found", "fix")}
    text = str(InputError("a\tb", **parts))
    assert text.startswith(r"a\tb: expected expected\n\x1b[2J\u202e\ud800é, found")
    assert text.isprintable()


def test_what_is_very_long_is_cut():
    error = InputError("w" * 1000, expected="e" * SHOWN, found="f" * (SHOWN + 1), fix="x" * 1000)
    assert (len(error.what), error.expected, error.found) == (SHOWN, "e" * SHOWN, "f" * (SHOWN - 1) + "…")
    assert error.fix == "x" * 1000  # a command is of no use without its end


def test_printable_leaves_what_can_be_read():
    assert printable("µ ü 数 ~") == "µ ü 数 ~"
    assert printable("\x00\x7f\u200b") == r"\x00\x7f\u200b"


class Odd(Exception):
    def __str__(self):
        raise RuntimeError


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("  one\ntwo"), "one"),
        (ValueError(), "ValueError"),
        (ValueError(" \n"), "ValueError"),
        (Odd(), "Odd"),
    ],
)
def test_first_lines(error, line):
    assert first_line(error) == line


class OutOfMemoryError(RuntimeError):
    """As torch calls it."""


@pytest.mark.parametrize(
    ("error", "lacks"),
    [
        (MemoryError(), True),
        (OutOfMemoryError("CUDA"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("memory"), False),
        (OSError("No space left on device"), False),
    ],
)
def test_too_little_memory(error, lacks):
    assert lacks_memory(error) == lacks


def test_an_error_of_another_process_arrives_whole():
    found = pickle.loads(pickle.dumps(IntegrityError("a", expected="b", found="c", fix="Mend it.")))
    assert (type(found), str(found), found.fix) == (IntegrityError, "a: expected b, found c. Mend it.", "Mend it.")
