"""Behaviour has a version: what each versioned thing does is what it did when its version was recorded."""

import json
import math
from pathlib import Path

import behaviour
import pytest

from pipeline.base import runtime
from pipeline.data import selection
from pipeline.data.policies import table as policies
from pipeline.data.sources import table as sources
from pipeline.models.zoo import table as nets
from pipeline.training import features, losses, recipe

ROOT = Path(__file__).resolve().parent.parent
RECORDED = json.loads(behaviour.RECORD.read_text())
EVERYTHING = behaviour.everything()


@pytest.mark.parametrize("name", sorted(EVERYTHING))
def test_what_it_does_is_what_its_version_did(name):
    """A failure here is a change of behaviour: raise the version beside the code, then run `python tests/behaviour.py`."""
    runtime.prepare("cpu")
    version, tolerance, what = EVERYTHING[name]
    assert str(version) in RECORDED.get(name, {}), f"{name}, version {version}, has no record: run `python tests/behaviour.py`"
    expected = dict(behaviour.leaves(RECORDED[name][str(version)]))
    found = dict(behaviour.leaves(behaviour.plain(what())))
    assert found.keys() == expected.keys()
    for where, value in expected.items():
        if isinstance(value, float) and tolerance:
            assert math.isclose(found[where], value, rel_tol=tolerance, abs_tol=tolerance), where
        else:
            assert found[where] == value, where


@pytest.mark.parametrize(
    ("table", "versions"),
    [
        (policies.POLICIES, policies.VERSIONS),
        (selection.ROWS, selection.VERSIONS),
        (sources.SOURCES, sources.VERSIONS),
        (nets.MODELS, nets.VERSIONS),
        (losses.LOSSES, losses.VERSIONS),
        (features.FEATURE_LOSSES, features.VERSIONS),
        (losses.VIRTUAL, losses.VIRTUAL_VERSIONS),
        (recipe.OPTIMIZERS, recipe.OPTIMIZER_VERSIONS),
        (recipe.SCHEDULES, recipe.SCHEDULE_VERSIONS),
    ],
)
def test_everything_that_can_be_named_has_a_version(table, versions):
    assert table.keys() == versions.keys()
