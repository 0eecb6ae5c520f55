"""Plug-ins: what is hashed is what runs, of a file only what is needed, and of whatever a plug-in raises the place."""

import os
import sys
import textwrap
from pathlib import Path

import pytest

from pipeline.base import files, plugins, source, spec
from pipeline.base.errors import BusyError, InputError

NETS = """
import torch
from torch import nn
from helper import scale

WIDTH = 4
OTHER = 5

class Mine(nn.Module):
    '''A net.'''
    def forward(self, x):
        return x * scale() * WIDTH

class Unused(nn.Module):
    def forward(self, x):
        return x * OTHER

def build(shape, classes):
    return Mine()

def unused(shape, classes):
    return OTHER
"""
HELPER = "FACTOR = 2\n\ndef scale():\n    return FACTOR\n"


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A folder to run in, with nets.py and helper.py, which are allowed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setenv("SOFTCACHE_PLUGINS", "nets,package")
    write(tmp_path, NETS, HELPER)
    yield tmp_path
    forget()


def forget() -> None:
    """As in a new process."""
    names = {"nets", "helper", "package", "hidden", "deep", "patches"}
    for name in [name for name in sys.modules if name.partition(".")[0] in names]:
        del sys.modules[name]
    for held in (plugins._Finder.loaded, plugins._Finder.imports, plugins._Finder.followed):
        held.clear()


def write(folder: Path, nets: str, helper: str = HELPER) -> None:
    (folder / "nets.py").write_text(nets)
    (folder / "helper.py").write_text(helper)


def digest(name: str = "nets:build") -> str:
    return source.read(name).sha256


@pytest.mark.parametrize(
    "nets",
    [
        f"# a comment\n{NETS}",
        NETS.replace("'''A net.'''", "'''Another word for it.'''"),
        NETS.replace("return OTHER", "return 1"),
        NETS.replace("OTHER = 5", "OTHER = 6"),
        NETS.replace("x * OTHER", "x"),
        f"{NETS}\ndef more(shape, classes, width=3):\n    return None\n",
        f"{NETS}\nclass More(nn.Linear):\n    pass\n",
        f"{NETS}\nimport json\n",
        f"{NETS}\nif __name__ == '__main__':\n    print(build(1, 2))\n",
        f"{NETS}\nimport logging\nlog = logging.getLogger(__name__)\n",
        f"{NETS}\nfrom dataclasses import dataclass, field\n@dataclass()\nclass More:\n    x: int = field(default=3)\n",
        f"{NETS}\n@torch.no_grad()\ndef evaluate(net: Mine | None, x: list[int] = ()):\n    print(x)\n",
        f"{NETS}\nimport functools\n@functools.cache\ndef other():\n    print(1)\n",
        f"{NETS}\nclass Other(nn.Module):\n    act = nn.ReLU()\n    WIDTHS = [2 * WIDTH, -1]\n",
        f"{NETS}\ntry:\n    import json\nexcept ImportError:\n    json = None\n",
        f"{NETS}\nclass P:\n    @property\n    def x(self): ...\n    @x.setter\n    def x(self, v): ...\n",
    ],
    ids=[
        "comment", "docstring", "unused", "constant", "class", "function", "another class", "import", "script", "logger",
        "dataclass", "no_grad", "cache", "layer", "try", "property",
    ],
)  # fmt: skip
def test_what_is_beside_a_plug_in_changes_nothing(place, nets):
    before = digest()
    write(place, nets)
    assert digest() == before


@pytest.mark.parametrize(
    ("nets", "helper"),
    [
        (NETS.replace("return Mine()", "return Mine().train()"), HELPER),
        (NETS.replace("WIDTH = 4", "WIDTH = 5"), HELPER),
        (NETS.replace("x * scale()", "x + scale()"), HELPER),
        (NETS, HELPER.replace("FACTOR = 2", "FACTOR = 3")),
        (NETS, f"{HELPER}\ndef more():\n    return 1\n"),  # of a helper all counts
        (f"{NETS}\nWIDTH += 1\n", HELPER),
        (f"{NETS}\nfor WIDTH in range(3):\n    pass\n", HELPER),
        (f"{NETS}\nMine.forward = None\n", HELPER),
        (f"{NETS}\ntorch.set_default_dtype(torch.float64)\n", HELPER),
        (f"{NETS}\nDONE = torch.manual_seed(3)\n", HELPER),
        (f"{NETS}\n@print\ndef more():\n    pass\n", HELPER),
        (f"{NETS}\ndef more(x=print(1)):\n    pass\n", HELPER),
        (f"{NETS}\nclass More(Mine):\n    pass\n", HELPER),  # which Mine may take notice of
        (f"{NETS}\nclass More(nn.Linear):\n    seed = torch.manual_seed(3)\n", HELPER),
        (f"{NETS}\nfrom helper import *\n", HELPER),
        (f"{NETS}\n@torch.no_grad\ndef more(x=print(1)):\n    pass\n", HELPER),
        (f"{NETS}\ndef more(x: print(1)):\n    pass\n", HELPER),
        (f"{NETS}\nx: print(1) = 3\n", HELPER),
        (f"{NETS}\nALSO = [WIDTH]\nALSO += [2]\n", HELPER),
        (f"{NETS}\nclass Settings:\n    TABLE[0] = 1\n", HELPER),
        (f"{NETS}\nREGISTRY = Mine()\n_ = REGISTRY << build\n", HELPER),
        (f"{NETS}\nAlias = Mine\nclass More(Alias):\n    pass\n", HELPER),
        (f"{NETS}\nif torch.seed():\n    pass\n", HELPER),
        (f"{NETS}\nclass More(nn.Linear, metaclass=Mine):\n    pass\n", HELPER),
        (f"{NETS}\nnn.init.zeros_ = None\n", HELPER),
        (f"{NETS}\nwith torch.no_grad():\n    pass\n", HELPER),
    ],
)
def test_what_a_plug_in_needs_or_what_acts_on_it_makes_another(place, nets, helper):
    before = digest()
    write(place, nets, helper)
    assert digest() != before


@pytest.mark.parametrize(
    "line",
    [
        "return globals()['Mine']()", "return build.__globals__['Mine']()", "return nn.Module.__subclasses__()[-1]()",
        "return sys._getframe().f_globals['Mine']()", "import nets\n    return getattr(nets, 'Mine')()",
        "from sys import modules as m\n    return m['nets'].Mine()", "from nets import Mine as other\n    return other()",
    ],
)  # fmt: skip
def test_names_that_are_looked_up_at_run_time_bind_the_whole_file(place, line):
    write(place, NETS.replace("return Mine()", line))
    before = digest()
    write(place, NETS.replace("return Mine()", line).replace("x * OTHER", "x"))
    assert digest() != before


def test_a_helper_that_imports_the_file_of_the_plug_in_may_use_any_of_it(place):
    write(place, NETS, f"{HELPER}\ndef later():\n    from nets import Unused\n")
    before = digest()
    write(place, NETS.replace("x * OTHER", "x"), f"{HELPER}\ndef later():\n    from nets import Unused\n")
    assert digest() != before


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


def test_what_else_is_allowed_changes_nothing(monkeypatch):
    monkeypatch.setenv("SOFTCACHE_PLUGINS", "safetensors.torch")
    before = source.read("safetensors.torch:save")
    monkeypatch.setenv("SOFTCACHE_PLUGINS", "safetensors,numpy")
    assert source.read("safetensors.torch:save") == before


def test_a_package_with_relative_imports(place):
    files.write(place / "package/__init__.py", b"LEVEL = 1\n")
    files.write(place / "package/deep/__init__.py", b"from ..tools import build\n")
    files.write(
        place / "package/tools.py", b"from .deep import parts\nfrom . import LEVEL\n\ndef build():\n    import package.lazy\n"
    )
    files.write(place / "package/deep/parts.py", b"import numpy, os, torch\n")
    files.write(place / "package/lazy.py", b"A = 1\n")
    files.write(place / "package/idle.py", b"A = 1\n")
    found = source.read("package.deep:build")
    assert set(found.files) == {"package", "package.deep", "package.deep.parts", "package.tools", "package.lazy"}
    files.write(place / "package/idle.py", b"A = 2\n")
    assert digest("package.deep:build") == found.sha256
    files.write(place / "package/lazy.py", b"A = 2\n")
    assert digest("package.deep:build") != found.sha256


def test_libraries_and_this_project_are_nobodys_own(place):
    write(place, "import json\nimport numpy\nfrom pipeline import models\n\ndef build():\n    return models, json, numpy\n")
    assert set(source.read("nets:build").files) == {"nets"}


def test_a_part_of_an_installed_package_that_is_allowed(monkeypatch):
    """Its own files count, the rest of the package does not."""
    monkeypatch.setenv("SOFTCACHE_PLUGINS", "torch.optim")
    found = set(source.read("torch.optim:Adafactor").files)
    assert "torch.optim._adafactor" in found
    assert all(module.startswith("torch.optim") for module in found)


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
    assert (found.text, found()) == ("nets:build(width=(1, 2))", (1, 2))


def test_specs_name_plug_ins():
    assert spec.names_in("shift(2) | a.b:c(d=[1]) | e:f") == ["shift", "a.b:c", "e:f"]
    assert spec.names_in("a caption: with words") == []


def test_code_is_read_and_not_run(place):
    write(place, textwrap.dedent("""
        from pathlib import Path
        Path("ran").touch()
        def build(): ...
    """))  # fmt: skip
    digest()
    assert not (place / "ran").exists()
