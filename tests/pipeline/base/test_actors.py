"""Crews on Ray, where it is missing; what they do is tested with captures, see tests/pipeline/cache/test_workers.py."""

import sys
from functools import partial

import pytest

import crews
from pipeline.base.crew import Workers, open_crew
from pipeline.base.errors import InputError


def test_without_ray_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        pytest.raises(InputError, match=r"--on ray: expected the library ray, found none\. .*pip install .softcache\[ray\]"),
        open_crew(Workers("ray", 1), partial(crews.begin, tmp_path)),
    ):
        pass
