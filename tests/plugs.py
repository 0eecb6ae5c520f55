"""A plug-in of two files in the folder that a command runs in."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.base import plugins, source

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


def make(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Go into a folder with nets.py and helper.py, which are allowed."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    monkeypatch.setenv("SOFTCACHE_PLUGINS", "nets,package")
    write(folder, NETS, HELPER)


@contextlib.contextmanager
def module(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> Iterator[Path]:
    """Go into a folder with one file of plug-ins, which is allowed; gives its path. Afterwards it is as never imported."""
    path = folder / f"{name}.py"
    path.write_text(text)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("SOFTCACHE_PLUGINS", name)
    yield path
    sys.modules.pop(name, None)
