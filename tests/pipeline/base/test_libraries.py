"""Libraries that are not installed, or not in a version that works."""

import sys

import torch

from foreign import pictures, refused


def test_a_library_that_is_not_installed_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    message = r'expected the library timm, found none. Install it: `pip install "softcache\[timm\]"'
    refused(pictures(tmp_path, 8), message, "timm('resnet18')", _any(tmp_path))


def _any(tmp_path):
    torch.save({"weight": torch.zeros(1)}, tmp_path / "any.pt")
    return tmp_path / "any.pt"
