"""Tables of an evaluation: written together, bound to each other, and read as they were."""

import json
import shutil
from pathlib import Path

import pytest

from conftest import tree
from pipeline.base.errors import InputError, IntegrityError
from pipeline.base.facts import sealed
from pipeline.base.files import sha256
from pipeline.results import tables
from pipeline.results.tables import Tables

RUN = {"run": "a", "kind": "teacher", "seed": 0, "split": "test", "errors": 3, "accuracy": 0.1 + 0.2, "chance": False}
BEST = {"student": "s", "temperature": 4.0, "over_rows_low": -1.5}


@pytest.fixture
def plots(tmp_path) -> Path:
    """Below a folder that is not the usual one, so that commands name it."""
    write(tmp_path / "plots", [RUN])
    return tmp_path / "plots"


def write(folder: Path, runs: list[dict]) -> None:
    every = {"runs": runs, "classes": [], "best": [BEST], "results": []}
    tables.write(folder, every, {"history": [{"series": "a", "epoch": 1}], "temperature": []}, {"a": "digest"})


def test_rows_come_back_with_null_for_what_they_lack(plots):
    opened = Tables.open(plots)
    assert opened.teachers == {"a": "digest"}
    assert opened.read("runs") == [dict.fromkeys(tables.COLUMNS["runs"]) | RUN]
    assert opened.read("best") == [dict.fromkeys(tables.COLUMNS["best"]) | BEST]
    assert opened.read("classes") == opened.read("results") == []


def test_what_is_written(plots):
    """What binds the tables says the sha256 of each; the ones for plots are for plots alone."""
    assert sorted(tree(plots)) == [
        "best.parquet", "classes.parquet", "history.csv", "results.parquet", "runs.parquet", "tables.json", "temperature.csv",
    ]  # fmt: skip
    said = json.loads((plots / "tables.json").read_text())
    assert said["files"] == {path.stem: sha256(path.read_bytes()) for path in plots.glob("*.parquet")}
    assert (plots / "history.csv").read_text() == "series,epoch,train_loss,valid_accuracy,valid_nll\na,1,,,\n"
    assert (plots / "temperature.csv").read_text() == "series,temperature,valid_accuracy,test_accuracy\n"


def test_what_is_not_there(plots):
    with pytest.raises(InputError, match="nowhere: expected tables, found none. Run `softcache evaluate.* Or correct the path"):
        Tables.open(plots.with_name("nowhere"))
    (plots / "tables.json").unlink()
    with pytest.raises(IntegrityError, match="plots: expected tables with tables.json, found none of it"):
        Tables.open(plots)


def test_another_format_is_refused(plots):
    said = json.loads((plots / "tables.json").read_text())
    del said["digest"]
    (plots / "tables.json").write_bytes(sealed(said | {"version": 2}))
    with pytest.raises(IntegrityError, match="expected version 1, found version 2"):
        Tables.open(plots)


@pytest.mark.parametrize("damage", ["other", "missing", "unbound", "swapped"])
def test_a_table_that_is_not_what_was_written_with_the_others(plots, damage):
    path = plots / "runs.parquet"
    if damage == "other":
        write(plots.with_name("other"), [RUN | {"errors": 4}])
        shutil.copyfile(plots.with_name("other") / "runs.parquet", path)
    elif damage == "missing":
        path.unlink()
    elif damage == "swapped":
        shutil.copyfile(plots / "results.parquet", path)
    else:
        said = json.loads((plots / "tables.json").read_text())
        del said["digest"], said["files"]["runs"]
        (plots / "tables.json").write_bytes(sealed(said))
    opened = Tables.open(plots)
    with pytest.raises(IntegrityError, match="runs.parquet: expected sha256"):
        opened.read("runs")
    opened.read("best")


def test_tables_of_a_sweep_are_mended_by_the_sweep(tmp_path):
    with pytest.raises(InputError, match="softcache sweep all"):
        Tables.open(tmp_path / "sweeps/all/plots")
