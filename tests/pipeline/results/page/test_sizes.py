"""Sizes: those of a footprint, summed for an ensemble."""

import pytest

from charted import chapter, footprint
from pipeline.results.page.sizes import ratio, sizes
from runs import rows


def test_an_ensemble_is_the_sum_of_its_members(tmp_path):
    every = rows("a", "teacher") + rows("b", "teacher") + rows("ensemble", "ensemble")
    models = {"a": "one", "b": "two"}
    measured = footprint(one=(100, 2.0), two=(50, 1.0))
    made = chapter(tmp_path, every, teachers=("a", "b"), models=models, footprint=measured)
    single, _, ensemble = (sizes(made, line) for line in made.lines)
    assert single == pytest.approx({"parameters": 100, "multiply_adds": 1000, "kilobytes": 0.4, "one": 2, "many": 20})
    assert ensemble == pytest.approx({"parameters": 150, "multiply_adds": 1500, "kilobytes": 0.6, "one": 3, "many": 30})


def test_without_a_measurement_there_are_the_parameters_of_the_tables(tmp_path):
    every = rows("a", "teacher") + rows("b", "teacher") + rows("ensemble", "ensemble")
    made = chapter(tmp_path, every, teachers=("a", "b"), models={"a": "one"}, footprint=footprint(one=(100, 2.0)))
    assert [set(sizes(made, line)) >= {"one"} for line in made.lines] == [True, False, False]
    assert sizes(made, made.lines[2]) == {"parameters": 1234}


@pytest.mark.parametrize(
    ("large", "small", "said"),
    [
        (24, 2, "12× smaller"),
        (3, 2, "1.5× smaller"),
        (2, 3, "1.5× larger"),
        (100, 100, "as large"),
        (100, 104, "as large"),
        (100, 94, "1.1× smaller"),
        (None, 2, ""),
        (2, None, ""),
        (2468, 1, "2,468× smaller"),
    ],
)
def test_ratios_in_words(large, small, said):
    teacher, net = ({} if size is None else {"parameters": size} for size in (large, small))
    assert ratio("parameters", teacher, net) == said
