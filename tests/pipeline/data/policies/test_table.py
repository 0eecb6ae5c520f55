"""The table of steps says the same of each step in all of its parts."""

import inspect

import numpy as np
import pytest

from pipeline.data.policies import table

# Parameters of a step that are not its settings.
GIVEN = 2


def settings(name: str) -> list[str]:
    return list(inspect.signature(table.POLICIES[name]).parameters)[GIVEN:]


def test_every_step_has_a_version_and_one_kind():
    assert table.POLICIES.keys() == table.VERSIONS.keys()
    assert len(table.POLICIES) == 1 + sum(map(len, table.KINDS.values()))
    kinds = {"none": None, "flip": "image", "noise": "array", "drop": "text", "plug:in": None}
    assert {name: table.kind_of(name) for name in kinds} == kinds


@pytest.mark.parametrize("name", table.POLICIES)
def test_every_setting_has_a_range(name):
    assert sorted(table.RANGES.get(name, {})) == sorted(settings(name))


@pytest.mark.parametrize("name", table.POLICIES)
def test_defaults_are_in_range(name):
    for parameter in list(inspect.signature(table.POLICIES[name]).parameters.values())[GIVEN:]:
        if parameter.default is not parameter.empty:
            assert table.RANGES[name][parameter.name].allows(parameter.default)


@pytest.mark.parametrize("name", table.OUTCOMES)
def test_outcomes_take_the_settings_of_the_step(name):
    assert list(inspect.signature(table.OUTCOMES[name]).parameters) == settings(name)


def test_what_mixes_is_an_image_step():
    assert table.MIXING.keys() <= table.IMAGES.keys()
    assert all(
        isinstance(weigh(lambda high, slot: np.zeros(2, int), (1, 4, 4), 1), np.ndarray) for weigh in table.MIXING.values()
    )
