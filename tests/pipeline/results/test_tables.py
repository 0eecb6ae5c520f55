"""Tables of an evaluation: written together, bound to each other, and read as they were."""

import json
import shutil
from pathlib import Path

import pytest

from conftest import NO_GALLERY, NO_LINEAGE, tree
from pipeline.base.errors import InputError, IntegrityError
from pipeline.base.facts import sealed
from pipeline.base.files import sha256
from pipeline.results import tables
from pipeline.results.tables import Basis, BestRow, ClassRow, EpochPoint, RunRow, StudentRow, Tables

RUN = RunRow("a", "teacher", None, None, None, 7, 0, "test", 0.1 + 0.2, 3, 0.5, 0.25, 0.125, 1.0, 0.0, None, False)
BEST = BestRow("s", "s-T4", 4.0, 0.5, 1, 0, 0.3, None, 14.0, None, 21.0, None, 7.0, None, None, None, -1.5, 12.0)
BASIS = Basis({"a": "digest"}, {"s-T4": {"0": "another", "5": "third"}}, {"test": {"inputs": "x", "labels": "y"}})
CLASS = ClassRow("a", 0, "test", "x", 40, 3)


@pytest.fixture
def plots(tmp_path) -> Path:
    """Below a folder that is not the usual one, so that commands name it."""
    write(tmp_path / "plots", [RUN])
    return tmp_path / "plots"


def write(folder: Path, runs: list[RunRow]) -> None:
    history = [EpochPoint("a", 1, 0.75, 0.5, 2.0)]
    tables.write(
        folder,
        runs=runs,
        classes=[CLASS],
        best=[BEST],
        results=[],
        history=history,
        gallery=NO_GALLERY,
        lineage=NO_LINEAGE,
        basis=BASIS,
    )


def test_rows_come_back_as_they_were(plots):
    opened = Tables.open(plots)
    assert opened.basis == BASIS
    assert [opened.read(kind) for kind in (RunRow, BestRow, ClassRow, StudentRow)] == [[RUN], [BEST], [CLASS], []]
    assert isinstance(opened.read(RunRow)[0], RunRow)


def test_what_is_written(plots):
    """What binds the tables says the sha256 of each; the ones for plots are for plots alone."""
    assert sorted(tree(plots)) == [
        "best.parquet", "bins.parquet", "classes.parquet", "confusions.parquet", "epochs.parquet", "gallery.json",
        "history.csv", "lineage.json", "results.parquet", "runs.parquet", "tables.json", "temperature.csv",
    ]  # fmt: skip
    said = json.loads((plots / "tables.json").read_text())
    bound = {path.stem: path for path in plots.glob("*.parquet")} | {
        name: plots / name for name in ("gallery.json", "lineage.json")
    }
    assert said["files"] == {name: sha256(path.read_bytes()) for name, path in bound.items()}
    assert (plots / "history.csv").read_text() == "series,epoch,train_loss,valid_accuracy,valid_nll\na,1,0.75,0.5,2.0\n"
    assert (plots / "temperature.csv").read_text() == "series,temperature,valid_nll,test_accuracy\n"


def test_what_is_not_there(plots):
    with pytest.raises(InputError, match="nowhere: expected tables, found none. Run `softcache evaluate.* Or correct the path"):
        Tables.open(plots.with_name("nowhere"))
    (plots / "tables.json").unlink()
    with pytest.raises(IntegrityError, match="plots: expected tables with tables.json, found no such file"):
        Tables.open(plots)


def test_another_format_is_refused(plots):
    said = json.loads((plots / "tables.json").read_text())
    del said["digest"]
    (plots / "tables.json").write_bytes(sealed(said | {"version": 1}))
    with pytest.raises(IntegrityError, match="expected version 3, found version 1"):
        Tables.open(plots)


@pytest.mark.parametrize("damage", ["other", "missing", "unbound", "swapped"])
def test_a_table_that_is_not_what_was_written_with_the_others(plots, damage):
    path = plots / "runs.parquet"
    if damage == "other":
        write(plots.with_name("other"), [RUN._replace(errors=4)])
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
    with pytest.raises(IntegrityError, match="runs.parquet: expected sha256 .* Run `softcache evaluate --data"):
        opened.read(RunRow)
    opened.read(BestRow)


def test_any_flipped_bit_is_found(plots):
    """In the bytes of every table, and of what binds them."""
    bound = {f"{name}.parquet": kind for kind, name in tables.NAMES.items()}
    for name, kind in [("tables.json", RunRow), *bound.items()]:
        held = (plots / name).read_bytes()
        for place in range(0, len(held), max(1, len(held) // 40)):
            (plots / name).write_bytes(held[:place] + bytes([held[place] ^ 1 << place % 8]) + held[place + 1 :])
            with pytest.raises(IntegrityError, match=name):
                Tables.open(plots).read(kind)
        (plots / name).write_bytes(held)


def test_tables_of_a_sweep_are_mended_by_the_sweep(tmp_path):
    with pytest.raises(InputError, match="softcache sweep all"):
        Tables.open(tmp_path / "sweeps/all/plots")
