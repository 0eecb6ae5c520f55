"""Plug-ins: what is hashed is what runs, and of whatever a plug-in raises the place."""

import os
import sys
from pathlib import Path

import pytest

import plugs
from pipeline.base import files, source, spec
from pipeline.base.errors import BusyError, InputError
from plugs import HELPER, NETS, digest, forget, write


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    plugs.make(tmp_path, monkeypatch)
    yield tmp_path
    forget()


def test_files_that_are_imported_beside_a_plug_in_count(place):
    """Two nets with a helper each, and a file that is imported for what it does to others: all of them run."""
    (place / "deep.py").write_text("def deep():\n    return 1\n")
    (place / "patches.py").write_text("import json\njson.W = 1\n")
    write(place, f"import patches\nfrom deep import deep\n{NETS}\ndef other():\n    return deep()\n")
    found = spec.parse("nets:build", {}, {}, given=2)
    assert found(1, 2).forward(1) == 8
    before = digest()
    (place / "patches.py").write_text("import json\njson.W = 2\n")
    assert digest() != before == found.behaviour


def test_where_modules_are_found_is_where_they_are_hashed(place, monkeypatch):
    """The folder of the command is on the path, but after another with a file of that name."""
    (place / "lib").mkdir()
    (place / "lib/nets.py").write_text("def build():\n    return 'lib'\n")
    monkeypatch.setattr(sys, "path", [str(place / "lib"), str(place), *sys.path])
    found = spec.parse("nets:build", {}, {})
    assert found() == "lib"
    assert found.source.files["nets"] == place / "lib/nets.py"


def test_what_runs_is_what_was_hashed_though_bytecode_is_stale(place):
    """Same size, same second: Python's own import takes the old bytecode."""
    spec.parse("nets:build", {}, {}, given=2)
    stat = (place / "helper.py").stat()
    write(place, NETS, HELPER.replace("FACTOR = 2", "FACTOR = 3"))
    os.utime(place / "helper.py", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    forget()
    found = spec.parse("nets:build", {}, {}, given=2)
    assert found(1, 2).forward(1) == 3 * 4
    assert found.behaviour == digest()


def test_an_edit_while_a_job_runs_is_told_at_its_end(place):
    found = spec.parse("nets:build", {}, {}, given=2)
    witnesses = spec.witnesses(found)
    files.require_unchanged(witnesses)
    write(place, f"# a comment\n{NETS}")
    files.require_unchanged(witnesses)
    write(place, NETS, HELPER.replace("FACTOR = 2", "FACTOR = 3"))
    assert spec.parse("nets:build", {}, {}, given=2).behaviour == found.behaviour  # it is what runs
    with pytest.raises(BusyError, match="plug-in nets:build: expected what it was when this started"):
        files.require_unchanged(witnesses)


@pytest.mark.parametrize("when", ["on import", "when called"])
def test_an_import_that_no_reading_finds_is_refused(place, when):
    (place / "hidden.py").write_text("A = 1\n")
    line = "exec('import hid' + 'den as h', found)"
    body = f"found = {{}}\n{line if when == 'on import' else ''}\ndef build():\n    {line}\n    return found['h'].A\n"
    write(place, body)
    for _ in range(2):  # a refusal is not forgotten
        with pytest.raises(
            InputError, match="hidden.py: expected imports that the source shows, found an import of hidden that the source"
        ):
            spec.parse("nets:build", {}, {})()
    write(place, f"import hidden\n{body}")
    forget()
    assert spec.parse("nets:build", {}, {})() == 1


def test_an_import_in_the_middle_of_a_job_is_told_at_its_end(place):
    """A net that imports while it runs, which is after it was built."""
    (place / "hidden.py").write_text("A = 1\n")
    write(place, "def build():\n    return lambda: exec('import hid' + 'den')\n")
    found = spec.parse("nets:build", {}, {})
    witnesses = spec.witnesses(found)
    found()()
    with pytest.raises(InputError, match="hidden.py: expected imports that the source shows"):
        files.require_unchanged(witnesses)


@pytest.mark.parametrize(
    "line",
    [
        "importlib.import_module('hid' + 'den')", "importlib.import_module(name='hidden')", "__import__('hid' + 'den')",
        "runpy.run_path('hidden.py')", "importlib.util.spec_from_file_location('h', 'hidden.py')",
        "f = importlib.import_module",
    ],
)  # fmt: skip
def test_imports_of_what_is_made_up_at_run_time_are_refused(place, line):
    (place / "hidden.py").write_text("A = 1\n")
    write(place, f"import importlib.util, runpy\ndef build():\n    def forward():\n        {line}\n    return forward\n")
    with pytest.raises(
        InputError, match="nets.py, line 4: expected imports that the source shows, found .* of a name that is computed"
    ):
        spec.parse("nets:build", {}, {})


def test_an_import_by_a_literal_is_followed(place):
    (place / "hidden.py").write_text("A = 1\n")
    write(place, "import importlib\ndef build():\n    return importlib.import_module('hidden').A\n")
    assert spec.parse("nets:build", {}, {})() == 1
    assert set(source.read("nets:build").files) == {"nets", "hidden"}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("def build():\n    return 1 / 0\n", "ZeroDivisionError: division by zero, at {nets}, line 2"),
        ("import sys\ndef build():\n    sys.exit('done')\n", "SystemExit: done, at {nets}, line 3"),
        ("class Odd(BaseException): ...\ndef build():\n    raise Odd()\n", "Odd: Odd, at {nets}, line 3"),
        ("class Odd(BaseException): ...\nraise Odd\n", "Odd: Odd, at {nets}, line 2"),
        ("def build():\n    return " + " + ".join(["1"] * 900) + "\n", "nets.py: expected Python that parses"),
        ("from helper import scale\ndef build():\n    return scale(1)\n", "TypeError: scale.* at {nets}, line 3"),
        ("import nothing_of_that_name\ndef build(): ...\n", "No module named 'nothing_of_that_name', at {nets}, line 1"),
        ("raise RuntimeError('two\\nlines')\ndef build(): ...\n", "RuntimeError: two, at {nets}, line 1"),
        ("def build(:\n", "SyntaxError: .*, at {nets}, line 1"),
        ("def build():\n    return (yield\n", "SyntaxError: .*, at {nets}, line 2"),
        ("import sys\nsys.exit(3)\n", "SystemExit: 3, at {nets}, line 2"),
        ("1 / 0\ndef build(): ...\n", "ZeroDivisionError: division by zero, at {nets}, line 1"),
    ],
)
def test_whatever_a_plug_in_raises_has_a_place(place, body, message):
    write(place, body)
    with pytest.raises(InputError, match=message.format(nets=place / "nets.py")):
        spec.parse("nets:build", {}, {})()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nets:nothing", "expected a name in the module, found module 'nets' has no attribute 'nothing'"),
        ("nets:WIDTH", "expected a callable, found int"),
        ("nets.deep:build", "expected a module, found No module named 'nets.deep'"),
        ("other:build", "expected a plug-in module that SOFTCACHE_PLUGINS allows"),
        ("package:build", "expected a module, found No module named 'package'"),
    ],
)
def test_what_is_no_plug_in(place, name, message):
    with pytest.raises(InputError, match=message):
        spec.parse(name, {}, {})


def test_defaults_that_are_no_literals_are_left_to_the_source(place):
    write(place, "class Odd: ...\ndef build(kind=Odd(), width=(1, 2), act=Odd):\n    return width\n")
    found = spec.parse("nets:build", {}, {})
    assert (found.text, found()) == ("nets:build(width=[1, 2])", (1, 2))  # what is called gets its default as it is


def test_specs_name_plug_ins():
    assert [spec.name_in(text) for text in ("shift(2)", " a.b:c(how='a|b') ", "e:f")] == ["shift", "a.b:c", "e:f"]
    with pytest.raises(InputError, match="spec 'a caption: with words': expected"):
        spec.name_in("a caption: with words")
