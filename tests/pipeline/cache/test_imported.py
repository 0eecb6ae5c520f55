"""Logits made elsewhere: what was in the files is in the cache, whatever their order; what does not fit leaves no trace."""

import errno
import signal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from kills import forked, operations

import elsewhere
from conftest import run_capture, tree, write_stage_one
from elsewhere import Line
from pipeline.base.errors import InputError, IntegrityError
from pipeline.cache.capture import capture
from pipeline.cache.imported import import_logits
from pipeline.cache.manifest import Manifest
from pipeline.cache.reader import Cache
from pipeline.cache.settings import Keep
from pipeline.cache.verify import probe, verify
from pipeline.data.ingest import ingest
from pipeline.data.settings import Views
from pipeline.models.modelfile import ModelFile

VIEWS = Views("shift(1)", 3, 5)  # as run_capture has them


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Splits of 20, 5 and 3 rows, whose ids are row-0, row-1, … in each."""
    return write_stage_one(tmp_path, teachers="b")


def imported(folder: Path, *paths: str, views: Views = VIEWS):
    return import_logits(logits=paths, splits=folder / "transfer", views=views, out=folder / "teachers/a")


def cached(folder: Path) -> dict[str, np.ndarray]:
    cache = Cache.open(folder / "caches/a")
    return {split: cache.read(split) for split in elsewhere.SPLITS}


def write_lists(folder, rows):
    return [elsewhere.write_lists(folder / "x.parquet", rows)]


def write_large_lists(folder, rows):
    return [elsewhere.write_lists(folder / "x.parquet", rows, kind=pa.list_(pa.float64(), 3))]


def write_columns(folder, rows):
    return [elsewhere.write_columns(folder / "x.parquet", rows, "012")]


def write_npz(folder, rows):
    return [elsewhere.write_npz(folder / "x.npz", rows)]


def write_shards(folder, rows):
    """Three, of which the last is an .npz file, and the first says nothing of views: it has none but the first."""
    first = [row for row in rows if row.view == 0][:7]
    rest = [row for row in rows if not any(row is each for each in first)]
    return [
        elsewhere.write_lists(folder / "1.parquet", first, but=["view"]),
        elsewhere.write_columns(folder / "2.parquet", rest[:30], "012", note=["x"] * 30, rank=list(range(30))),
        elsewhere.write_npz(folder / "3.npz", rest[30:]),
    ]


@pytest.mark.parametrize("write", [write_lists, write_large_lists, write_columns, write_npz, write_shards])
def test_the_cache_holds_what_the_file_held(folder, write):
    """Each row of each view, wherever it was in the files."""
    logits = elsewhere.made(folder)
    done = imported(folder, *write(folder, elsewhere.lines(folder, logits)))
    assert (done.rows, done.ignored) == (68, 0)
    assert run_capture(folder).computed == 11
    found = cached(folder)
    for split, expected in logits.items():
        assert found[split].tobytes() == expected.tobytes()


def test_half_precision_is_rounded_as_any_cache_is(folder):
    logits = elsewhere.made(folder)
    imported(folder, *write_lists(folder, elsewhere.lines(folder, logits)))
    run_capture(folder, dtype="float16")
    assert (cached(folder)["transfer"] == logits["transfer"].astype(np.float16)).all()
    large = {split: each * 1e5 for split, each in logits.items()}
    imported(folder, *write_lists(folder, elsewhere.lines(folder, large)))
    with pytest.raises(
        IntegrityError, match="teacher a, transfer view 0, row .* expected a finite logit that float16 can hold"
    ):
        run_capture(folder, dtype="float16")


@pytest.mark.parametrize("temperature", [1, 4])
def test_log_probabilities_are_logits(folder, temperature):
    """Their softened softmax is that of the logits: p ** (1 / T), scaled."""
    logits = elsewhere.made(folder)
    shares = {
        split: np.exp(each.astype(float)) / np.exp(each.astype(float)).sum(-1, keepdims=True) for split, each in logits.items()
    }
    imported(
        folder, *write_large_lists(folder, elsewhere.lines(folder, {split: np.log(each) for split, each in shares.items()}))
    )
    run_capture(folder)
    for split, found in cached(folder).items():
        softened = shares[split] ** (1 / temperature)
        expected = softened / softened.sum(-1, keepdims=True)
        assert np.allclose(torch.softmax(torch.from_numpy(found).double() / temperature, -1).numpy(), expected, atol=1e-6)


def test_what_the_cache_says(folder):
    """Its teacher is imported; how the logits were computed is not known."""
    imported(folder, *write_lists(folder, elsewhere.lines(folder, elsewhere.made(folder))))
    run_capture(folder)
    manifest = Manifest.read(folder / "caches/a")
    digest = ModelFile.teacher(folder / "teachers/a").nets[0].sha256
    assert manifest.format == 4
    assert manifest.identity["teacher"] == {
        "name": "a", "model": "imported", "behaviour": "version 1", "weights_sha256": digest,
    }  # fmt: skip
    assert [manifest.identity[what] for what in ("precision", "tile", "inference")] == ["unknown", 0, None]
    assert manifest.identity["views"] == {"policy": "shift(pixels=1)", "seed": 5, "behaviours": ["version 1"]}
    assert "--tile" not in manifest.options
    assert run_capture(folder, tile=2).kept == 11  # no tile decides a logit
    assert np.load(folder / "teachers/a/logits.npy").shape == (68, 3)
    assert ModelFile.teacher(folder / "teachers/a").history() == []


def test_verify_looks_the_sample_up_again(folder):
    logits = elsewhere.made(folder)
    imported(folder, *write_lists(folder, elsewhere.lines(folder, logits)))
    run_capture(folder)
    cache, where = folder / "caches/a", {"splits": folder / "transfer", "device": torch.device("cpu")}
    assert verify(cache, work=folder / "work").findings == []
    found = probe(cache, 25, teacher=folder / "teachers/a", **where)
    assert (found.pairs, found.logits.difference, found.logits.control, found.findings(cache)) == (25, 0.0, 0.0, [])
    path = folder / "teachers/a/logits.npy"
    held = np.load(path)
    held[3, 1] += 1
    np.save(path, held)
    with pytest.raises(IntegrityError, match=r"teachers/a/logits.npy: expected sha256 .* Run `softcache adopt a"):
        probe(cache, 25, teacher=folder / "teachers/a", **where)
    logits["transfer"] += 1
    imported(folder, *write_lists(folder, elsewhere.lines(folder, logits)))
    with pytest.raises(InputError, match="caches/a, teacher.weights_sha256: expected .* as in the cache"):
        probe(cache, 25, teacher=folder / "teachers/a", **where)


def test_rows_that_the_data_lack_are_ignored(folder, caplog):
    """Other ids, and views and splits past those that are wanted, even where their logits are odd."""
    caplog.set_level("INFO")
    logits = elsewhere.made(folder)
    rows = elsewhere.lines(folder, logits)
    nan = np.full(3, np.nan, np.float32)
    more = [
        Line("transfer", 3, "row-1", nan),
        Line("valid", 1, "row-1", nan),
        Line("train", 0, "x", nan),
        Line("elsewhere", 0, "row-0", nan),
    ]
    done = imported(folder, *write_lists(folder, [*more, *rows, more[1]]))
    assert (done.rows, done.ignored) == (68, 5)
    assert "a: 5 rows of other ids or views, which were ignored" in caplog.messages
    assert np.load(folder / "teachers/a/logits.npy")[:60].tobytes() == logits["transfer"].tobytes()


def test_the_transfer_set_may_be_called_train(folder):
    """It is the training split here."""
    rows = elsewhere.lines(folder, elsewhere.made(folder))
    renamed = [row._replace(split="train") if row.split == "transfer" else row for row in rows]
    assert imported(folder, *write_npz(folder, renamed)).ignored == 0


# ---------------------------------------------------------------- refusals

NAN, LOW = np.array([0, np.nan, 0], np.float32), np.array([0, 0, -np.inf], np.float32)


def without(rows: list[Line], split: str, view: int) -> list[Line]:
    return [row for row in rows if (row.split, row.view) != (split, view)]


def first(rows: list[Line], **change) -> list[Line]:
    return [rows[0]._replace(**change), *rows[1:]]


def scaled(rows: list[Line]) -> list[Line]:
    return [row._replace(logits=np.exp(row.logits) / np.exp(row.logits).sum()) for row in rows]


ROWS = {  # what is done to the rows, and the message
    "missing": (
        lambda rows: rows[3:],
        r"expected logits of every row of the data, found none of 3 rows: row-\d+ \(\w+, view \d\), row-",
    ),
    "a view missing": (
        lambda rows: without(rows, "transfer", 2),
        r"found none of 20 rows: row-0 \(transfer, view 2\), row-1 \(transfer, view 2\), row-2 \(transfer, view 2\), "
        r"row-3 \(transfer, view 2\), row-4 \(transfer, view 2\), …\. Add them",
    ),
    "a split missing": (lambda rows: without(rows, "test", 0), r"found none of 3 rows: row-0 \(test, view 0\)"),
    "twice": (lambda rows: [*rows, *rows[:2]], "expected one row for each id and view, found more for 2 rows: row-"),
    "nan": (lambda rows: first(rows, logits=NAN), "expected finite logits that float32 can hold, found others in 1 row: row-"),
    "log of 0": (lambda rows: first(rows, logits=LOW), "The logarithm of 0 cannot be kept"),
    "all odd": (lambda rows: [row._replace(logits=LOW) for row in rows], r"others in 68 rows: (row-\d+, ){5}…\."),
    "too large": (lambda rows: first(rows, logits=[1e39, 0, 0]), "float32 can hold, found others in 1 row"),
    "probabilities": (scaled, "expected logits, found probabilities: every row sums to 1. Take their logarithms"),
    "two logits": (lambda rows: first(rows, logits=NAN[:2]), r"x.parquet, row 0 \(id row-\d+\): expected 3 logits, .* found 2"),
    "no logits": (lambda rows: first(rows, logits=None), r"x.parquet, row 0 \(id row-\d+\): expected 3 logits, .* found 0"),
}


@pytest.mark.parametrize("what", ROWS)
def test_rows_that_do_not_fit_leave_no_trace(folder, what):
    """One message; the former teacher of the name stays as it was, and nothing is beside it."""
    change, message = ROWS[what]
    rows = elsewhere.lines(folder, elsewhere.made(folder))
    imported(folder, *write_lists(folder, rows))
    path = elsewhere.write_lists(folder / "x.parquet", change(rows), kind=pa.list_(pa.float64()))
    before = tree(folder)
    with pytest.raises(InputError, match=message):
        imported(folder, path)
    assert tree(folder) == before


FILES = {  # how they are written, with no rows, and the message
    "no view": ({"but": ["view"]}, "x.parquet: expected a column `view`, for 3 views, found none. Say of which view"),
    "no split": (
        {"but": ["split"]},
        "ids: expected ids that are of one row, but transfer and valid share some, found 5 rows: row-0, row-1, row-2, row-3, "
        "row-4. Add a column `split`",
    ),
    "no id": ({"but": ["id"]}, "expected a column `id`, found split, view, logits"),
}  # fmt: skip


@pytest.mark.parametrize("what", FILES)
def test_files_that_do_not_fit_leave_no_trace(folder, what):
    settings, message = FILES[what]
    path = elsewhere.write_lists(folder / "x.parquet", [], **settings)
    before = tree(folder)
    with pytest.raises(InputError, match=message):
        imported(folder, path)
    with pytest.raises(InputError, match="logits: expected files of logits, found none"):
        imported(folder)
    assert tree(folder) == before


def test_a_full_disk_is_told(folder, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    (path,) = write_lists(folder, elsewhere.lines(folder, elsewhere.made(folder)))
    before = tree(folder)
    monkeypatch.setattr("pipeline.cache.imported._write", full)
    with pytest.raises(InputError, match=r"teachers/a: expected 8.16e-07 GB of room, found .* GB. Make room"):
        imported(folder, path)
    assert tree(folder) == before


# ---------------------------------------------------------------- ids


def test_ids_of_an_ingest_tell_the_split(source, tmp_path):
    """Folded validation rows are in the transfer set too, under the same ids: one line of the file is for both."""
    ingest(
        train=str(source), valid=0.25, test=0.25, transfer_set=(), damaged="fail", seed=0, out=tmp_path / "transfer", fold=True
    )
    logits = elsewhere.made(tmp_path, views=2)
    rows = elsewhere.lines(tmp_path, logits)
    own = {row.id: row.logits for row in rows if row.split == "valid"}
    logits["transfer"][0] = np.stack(
        [own.get(row.id, row.logits) for row in elsewhere.lines(tmp_path, {"transfer": logits["transfer"][:1]}, seed=None)]
    )
    rows = [row for row in elsewhere.lines(tmp_path, logits) if row.split != "valid"]
    assert len(rows) == 2 * 36 + 12
    for change in ({"but": ["split"]}, {}):
        path = elsewhere.write_lists(tmp_path / "x.parquet", rows, **change)
        if change:
            assert imported(tmp_path, path, views=Views("shift(1)", 2, 5)).rows == len(rows) + 9
            run_capture(tmp_path, views=2)
            for split, expected in logits.items():
                assert cached(tmp_path)[split].tobytes() == expected.tobytes()
        else:
            with pytest.raises(InputError, match="none of 9 rows"):  # a split that is named is meant alone
                imported(tmp_path, path, views=Views("shift(1)", 2, 5))


# ---------------------------------------------------------------- later


def test_capture_wants_the_views_and_rows_that_were_imported(folder):
    """Fewer views will do; a single one is the row itself under any policy."""
    logits = elsewhere.made(folder)
    imported(folder, *write_lists(folder, elsewhere.lines(folder, logits)))
    for change, message in (
        ({"views": 4}, "teacher a, views.count: expected 4 as wanted, found 3 as imported"),
        (
            {"policy": "flip()"},
            r"teacher a, views.policy: expected flip\(\) as wanted, found shift\(pixels=1\) as imported",
        ),
        ({"view_seed": 6}, "teacher a, views.seed: expected 6 as wanted, found 5 as imported"),
    ):
        with pytest.raises(InputError, match=message):
            run_capture(folder, **change)
    assert not (folder / "caches").exists()
    run_capture(folder, views=2)
    assert cached(folder)["transfer"].tobytes() == logits["transfer"][:2].tobytes()
    run_capture(folder, views=1, policy="flip()", view_seed=9)
    assert cached(folder)["transfer"].tobytes() == logits["transfer"][:1].tobytes()
    other = write_stage_one(folder / "other", rows=19)
    with pytest.raises(InputError, match=r"teacher a, rows of transfer: expected digest .* as in the data"):
        capture(
            teacher=folder / "teachers/a", splits=other / "transfer", work=folder / "work", out=folder / "caches/a",
            views=VIEWS, provenance=folder / "provenance/a.json", device=torch.device("cpu"), keep=Keep(tile=4),
        )  # fmt: skip


def test_all_views_of_a_policy(folder):
    every = Views("flip()", "all")
    logits = elsewhere.made(folder, views=2)
    imported(folder, *write_lists(folder, elsewhere.lines(folder, logits)), views=every)
    run_capture(folder, policy="flip()", views="all")
    assert cached(folder)["transfer"].tobytes() == logits["transfer"].tobytes()
    with pytest.raises(InputError, match="views.seed: expected 5 as wanted, found None as imported"):
        run_capture(folder, policy="flip()", views=2)


def test_damaged_logits_are_not_captured(folder):
    """Not one bit of them, and spans that were recorded before are kept."""
    imported(folder, *write_lists(folder, elsewhere.lines(folder, elsewhere.made(folder))))
    run_capture(folder, views=2)
    path = folder / "teachers/a/logits.npy"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    before = tree(folder)
    for settings in ({"views": 3}, {"views": 2, "anew": True}):
        with pytest.raises(IntegrityError, match=r"logits.npy: expected sha256 \w+, found sha256 \w+. Run `softcache adopt a"):
            run_capture(folder, **settings)
        now = tree(folder)
        assert all(now[name] == data for name, data in before.items() if "plan.json" not in name)  # which tells how many
    path.unlink()
    with pytest.raises(IntegrityError, match="logits.npy: expected sha256 .*, found no file"):
        run_capture(folder, views=3)


def test_a_capture_that_was_killed_goes_on(folder):
    """To the bytes of one that was not."""
    imported(folder, *write_lists(folder, elsewhere.lines(folder, elsewhere.made(folder))))
    assert forked(lambda: (operations(60), run_capture(folder))) == signal.SIGKILL
    assert not (folder / "caches/a").exists()
    done = run_capture(folder)
    assert done.kept > 0
    assert done.kept + done.computed == 11
    once = tree(folder / "caches/a")
    run_capture(folder, anew=True)
    assert tree(folder / "caches/a") == once


def test_an_import_that_was_killed_leaves_the_former_teacher(folder):
    """At each change of the file system; the next one ends as if nothing had been."""
    rows = elsewhere.lines(folder, elsewhere.made(folder))
    other = elsewhere.write_lists(folder / "y.parquet", elsewhere.lines(folder, elsewhere.made(folder, seed=2)))
    (path,) = write_lists(folder, rows)
    imported(folder, other)
    new = tree(folder / "teachers/a")
    imported(folder, path)
    old = tree(folder / "teachers/a")
    kills = 0
    for number in range(0, 40, 3):
        kills += forked(lambda number=number: (operations(number), imported(folder, other))) == signal.SIGKILL
        found = tree(folder / "teachers/a")
        assert found in ({}, old, new)  # {}: between two renames, of which the next run knows
        imported(folder, path)
        assert tree(folder / "teachers/a") == old
    assert kills > 3
