"""What can be measured side by side."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.base.errors import InputError
from pipeline.results.evaluate import Trained, require_comparable

COMMAND = "`softcache sweep all`"


def test_an_ensemble_has_teachers():
    with pytest.raises(InputError, match="ensemble: expected teachers to compare students with, found none"):
        require_comparable(["a"], [], [], None)


@pytest.mark.parametrize(("teacher", "student"), [("a-uncorrected", "s"), ("a", "s-uncorrected")])
def test_names_of_runs_before_a_correction_are_kept_free(tmp_path, teacher, student):
    with pytest.raises(InputError, match="a name that does not end in -uncorrected"):
        require_comparable([teacher], [teacher], [Trained(f"{student}-hard", student, None, tmp_path, COMMAND)], None)


def some(*names: str, temperature: float | None = 4.0) -> list[Trained]:
    return [Trained(name, name.partition("-")[0], temperature, Path("nowhere"), COMMAND) for name in names]


@pytest.mark.parametrize(
    ("ensemble", "students", "message"),
    [
        (["a", "c"], [], "ensemble: expected some of a, b, found c"),
        (["a", "b", "a"], [], "ensemble: expected each teacher once, found a, b, a"),
        (["a"], some("a"), "run name a: expected one run of that name, found a teacher and a student"),
        (["a", "b"], some("ensemble"), "run name ensemble: expected one run of that name, found a ensemble and a student"),
        (["a"], some("s-T4", "s-T4"), "run name s-T4: expected one run of that name, found a student and a student"),
    ],
)
def test_runs_are_told_apart_by_their_names(ensemble, students, message):
    with pytest.raises(InputError, match=message):
        require_comparable(["a", "b"], ensemble, students, None)


def test_validation_rows_that_were_trained_on_choose_among_no_settings():
    """One setting for each student, and a baseline beside it, leave nothing to choose."""
    valid = SimpleNamespace(require_unfolded=lambda what: (_ for _ in ()).throw(LookupError(what)))
    one = some("s-T4", "u-T4") + some("s-hard", temperature=None)
    require_comparable(["a"], ["a"], one, valid)
    with pytest.raises(LookupError, match="choice among several settings of a student"):
        require_comparable(["a"], ["a"], [*one, *some("s-T2", temperature=2.0)], valid)
