"""Where the nets of a run lie, by its name."""

import pytest

from conftest import write_stage_one
from pipeline.base.errors import InputError, IntegrityError
from pipeline.models.runfolder import open_run


def place(data, *path: str) -> None:
    """A folder with a model.json, which is that of a teacher: its kind and name are wrong anywhere else."""
    folder = data.joinpath(*path)
    folder.mkdir(parents=True)
    (folder / "model.json").write_bytes((data / "teachers/a/model.json").read_bytes())


def test_a_teacher(tmp_path):
    data = write_stage_one(tmp_path / "data")
    assert open_run(data, "a").kind == "teacher"
    assert open_run(data, "a").folder == data / "teachers/a"


@pytest.mark.parametrize(
    ("run", "path", "fix"),
    [
        ("s-T4", ("students", "s-T4"), "Train it again with `softcache distill`"),
        ("some/s-T4-alpha0.5", ("sweeps", "some", "students", "s-T4-alpha0.5"), "softcache sweep some"),
    ],
)
def test_a_student_must_be_one_and_have_its_name(tmp_path, run, path, fix):
    data = write_stage_one(tmp_path / "data")
    place(data, *path)
    with pytest.raises(IntegrityError, match=f"kind: expected student or baseline or live, found teacher.*{fix}"):
        open_run(data, run)


def test_two_of_one_name(tmp_path):
    data = write_stage_one(tmp_path / "data")
    place(data, "students", "a")
    with pytest.raises(InputError, match="run a: expected one run of that name, found .*teachers/a and .*students/a"):
        open_run(data, "a")


def test_an_unknown_run_names_those_there_are(tmp_path):
    data = write_stage_one(tmp_path / "data", teachers="ba")
    place(data, "students", "s-T4")
    place(data, "sweeps", "some", "students", "s-hard")
    with pytest.raises(InputError, match="run: expected one of a, b, s-T4, some/s-hard, found other/a"):
        open_run(data, "other/a")
    with pytest.raises(InputError, match="expected one of none yet, found a"):
        open_run(tmp_path, "a")
