"""The source of a plug-in: what is beside it changes nothing, and whatever it needs, or acts on it, does."""

import textwrap
from pathlib import Path

import pytest

import plugs
from pipeline.base import files, source
from pipeline.base.errors import InputError
from plugs import HELPER, NETS, digest, forget, write


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    plugs.make(tmp_path, monkeypatch)
    yield tmp_path
    forget()


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


def test_code_is_read_and_not_run(place):
    write(place, textwrap.dedent("""
        from pathlib import Path
        Path("ran").touch()
        def build(): ...
    """))  # fmt: skip
    digest()
    assert not (place / "ran").exists()


def test_a_module_that_is_in_no_file(place):
    with pytest.raises(InputError, match=r"spec nothing:build\(…\): expected a module in a file, found none"):
        source.read("nothing:build")


def test_a_file_that_is_no_python_is_named_with_its_line(place):
    (place / "helper.py").write_text("A = 1\ndef (:\n")
    with pytest.raises(InputError, match=r"helper.py: expected Python that parses, found invalid syntax.*, line 2"):
        digest()
