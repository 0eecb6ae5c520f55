"""Examples: whole or streamed, every row once, with the pixels and the targets of the view that is drawn."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import run_capture, write_stage_one
from pipeline.base import randomness, runtime
from pipeline.base.errors import InputError, IntegrityError
from pipeline.base.randomness import Use
from pipeline.cache.reader import Cache
from pipeline.data import pixels as image_pixels
from pipeline.data.inputs.text import Texts
from pipeline.data.splitfile import Rows, write_split
from pipeline.data.splits import Split, open_splits
from pipeline.data.views import Policy
from pipeline.models.encoding import encode
from pipeline.models.ensemble import combine
from pipeline.models.zoo.bag import bag
from pipeline.training.examples import Batch, Examples
from pipeline.training.inputs import Encoded, Numbers
from pipeline.training.signal import NoTeacher
from pipeline.training.targets import Targets

CPU = torch.device("cpu")
ROWS, SPAN, ROW_BYTES = 100, 8, 16 + 3 * 4
WHOLE, STREAMED = 10**9, 8 * SPAN * ROW_BYTES  # the latter: windows of 3 of the 13 spans
POLICY = Policy.parse("shift(1)", 5)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """100 rows in spans of 8, and the caches of two teachers in three views."""
    runtime.prepare("cpu")
    folder = write_stage_one(tmp_path_factory.mktemp("data"), teachers="ab", rows=ROWS)
    for name in "ab":
        run_capture(folder, name)
    return folder


def targets(data: Path, names: str = "a", rule: str = "probabilities") -> Targets:
    caches = {name: Cache.open(data / "caches" / name) for name in names}
    return Targets.of(caches, temperatures=[2.0], rule=rule, weights=[2, 1][: len(names)])


def examples(data: Path, memory: int, views: int | None = 3, names: str = "a", chosen: np.ndarray | None = None) -> Examples:
    split = open_splits(data / "transfer", ["train"])["train"]
    return Examples(Numbers(split), POLICY, views, targets(data, names) if names else NoTeacher(), memory, CPU, chosen)


def rows_of(batches: list[Batch]) -> np.ndarray:
    return torch.cat([batch.rows for batch in batches]).numpy()


def test_the_budget_decides(data):
    assert examples(data, ROWS * (16 + 3 * 3 * 4)).whole
    assert not examples(data, ROWS * (16 + 3 * 3 * 4) - 1).whole
    assert not examples(data, STREAMED).whole
    assert examples(data, STREAMED).window_spans == 3
    assert examples(data, ROWS * 16, views=None, names="").whole
    with pytest.raises(InputError, match=r"memory: expected at least 8.96e-07 GB: four spans of 8 rows, found 8.9.*e-07 GB"):
        examples(data, 4 * SPAN * ROW_BYTES - 1)


@pytest.mark.parametrize("memory", [WHOLE, STREAMED])
@pytest.mark.parametrize("names", ["a", "ab"])
@pytest.mark.parametrize("batch_size", [7, 16, 33, 100, 1000])
def test_every_row_comes_once_with_its_own_pixels_and_targets(data, memory, names, batch_size):
    made = examples(data, memory, names=names)
    pixels = torch.from_numpy(made.inputs.split.read_all())
    members = [torch.from_numpy(Cache.open(data / "caches" / name).read("transfer")) for name in names]
    expected = combine(members, 2.0, "probabilities", [2, 1][: len(names)])
    for epoch in range(3):
        batches = list(made.epoch(1, epoch, batch_size))
        assert [len(batch.rows) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
        assert sorted(rows_of(batches)) == list(range(ROWS))
        for batch in batches:
            rows, views = batch.rows.numpy(), batch.views.numpy()
            assert (views == randomness.integers(3, 1, Use.DRAW, epoch, rows)).all()
            assert torch.equal(batch.inputs, POLICY.apply(pixels[rows], rows, views))
            assert torch.equal(batch.targets[:, 0], expected[views, rows])


def test_in_memory_the_shuffle_is_exact(data):
    batches = list(examples(data, WHOLE).epoch(1, 2, 16))
    assert (rows_of(batches) == randomness.permutation(ROWS, 1, Use.ORDER, 2)).all()


def test_streamed_rows_are_shuffled_within_windows_of_shuffled_spans(data):
    made = examples(data, STREAMED)
    rows = rows_of(list(made.epoch(1, 2, 16)))
    order = randomness.permutation(13, 1, Use.SPANS, 2)
    start = 0
    for first in range(0, 13, 3):
        window = np.concatenate([np.arange(ROWS)[span * SPAN : (span + 1) * SPAN] for span in order[first : first + 3]])
        found = rows[start : start + len(window)]
        assert set(found) == set(window)
        if len(window) > SPAN:
            assert len(set(found[:SPAN] // SPAN)) > 1, "spans are mixed"
        start += len(window)


def test_the_order_is_a_function_of_seed_and_epoch_alone(data):
    for memory in (WHOLE, STREAMED):
        made = examples(data, memory)
        first = rows_of(list(made.epoch(1, 0, 16)))
        assert (first == rows_of(list(made.epoch(1, 0, 33)))).all()
        assert (first == rows_of(list(examples(data, memory).epoch(1, 0, 16)))).all()
        assert (first != rows_of(list(made.epoch(1, 1, 16)))).any()
        assert (first != rows_of(list(made.epoch(2, 0, 16)))).any()


def test_over_the_epochs_every_view_is_drawn_for_every_row(data):
    made = examples(data, STREAMED)
    drawn = set()
    for epoch in range(40):
        for batch in made.epoch(0, epoch, 50):
            drawn |= set(zip(batch.rows.tolist(), batch.views.tolist(), strict=True))
    assert len(drawn) == ROWS * 3


@pytest.mark.parametrize("memory", [WHOLE, STREAMED])
@pytest.mark.parametrize(("names", "draws", "some"), [("a", 2, None), ("ab", 3, None), ("ab", 2, slice(1, 99, 2))])
def test_a_batch_shows_each_of_its_rows_in_several_different_views(data, memory, names, draws, some):
    """The rows and their first views are those of one draw; pixels and targets are those of each view."""
    chosen = None if some is None else np.arange(ROWS)[some]
    made = replace(examples(data, memory, names=names, chosen=chosen), draws=draws)
    assert made.whole == (memory == WHOLE)
    pixels = torch.from_numpy(made.inputs.split.read_all())
    members = [torch.from_numpy(Cache.open(data / "caches" / name).read("transfer")) for name in names]
    expected, drawn = combine(members, 2.0, "probabilities", [2, 1][: len(names)]), set()
    for epoch in range(3):
        batches = list(made.epoch(1, epoch, 7))
        assert [len(batch.rows) for batch in batches[:-1]] == [7 * draws] * (-(-made.rows // 7) - 1)
        found = rows_of(batches).reshape(-1, draws)
        assert (found == found[:, :1]).all()
        assert sorted(found[:, 0]) == list(np.arange(ROWS) if chosen is None else chosen)
        if memory == WHOLE:
            assert (found[:, 0] == rows_of(list(replace(made, draws=1).epoch(1, epoch, 7)))).all()
        for batch in batches:
            rows, views = batch.rows.numpy(), batch.views.numpy()
            each = views.reshape(-1, draws)
            assert (each[:, 0] == randomness.integers(3, 1, Use.DRAW, epoch, rows[::draws])).all()
            assert (np.diff(np.sort(each, axis=1)) > 0).all()
            assert torch.equal(batch.inputs, POLICY.apply(pixels[rows], rows, views))
            assert torch.equal(batch.targets[:, 0], expected[views, rows])
            drawn |= set(map(tuple, each.tolist()))
    assert len(drawn) == 6, "every order of them comes"


def test_without_a_number_of_views_every_epoch_shows_several_new_ones(data):
    made = replace(examples(data, WHOLE, views=None, names=""), draws=3)
    shown = [next(made.epoch(1, epoch, 5)).views.tolist() for epoch in range(2)]
    assert shown == [[1, 2, 3] * 5, [4, 5, 6] * 5]


def test_a_batch_that_is_kept_does_not_change(data):
    """Streaming fills the same memory again; what was handed out is a copy."""
    made = examples(data, STREAMED)
    kept = [(batch, batch.targets.clone(), batch.inputs.clone()) for batch in made.epoch(0, 0, 16)]
    for batch, logits, pixels in kept:
        assert torch.equal(batch.targets, logits)
        assert torch.equal(batch.inputs, pixels)


def test_two_epochs_at_once_and_one_left_early_do_not_disturb_each_other(data):
    made = examples(data, STREAMED)
    alone = [[batch.targets for batch in made.epoch(0, epoch, 16)] for epoch in range(2)]
    left = made.epoch(0, 5, 16)
    next(left)
    for first, second, *expected in zip(made.epoch(0, 0, 16), made.epoch(0, 1, 16), *alone, strict=True):
        assert torch.equal(first.targets, expected[0])
        assert torch.equal(second.targets, expected[1])


def test_without_a_number_of_views_every_epoch_shows_a_new_one(data):
    made = examples(data, WHOLE, views=None, names="")
    assert [set(next(made.epoch(0, epoch, 9)).views.tolist()) for epoch in range(3)] == [{1}, {2}, {3}]
    assert next(made.epoch(0, 0, 9)).targets.shape == (9, 0)


@pytest.mark.parametrize("memory", [WHOLE, 4 * SPAN * 12])
def test_logits_alone_for_those_who_keep_their_inputs(data, memory):
    made = Examples.of_targets(targets(data), 3, memory, CPU)
    expected = torch.from_numpy(Cache.open(data / "caches/a").read("transfer"))
    batches = list(made.epoch(0, 0, 9))
    assert sorted(rows_of(batches)) == list(range(ROWS))
    for batch in batches:
        assert not batch.inputs.numel()
        assert torch.equal(batch.targets[:, 0], expected[batch.views, batch.rows])


def test_float16_stays_float16_until_it_is_used(data, tmp_path):
    shutil.copytree(data, tmp_path / "half")
    run_capture(tmp_path / "half", dtype="float16")
    assert targets(tmp_path / "half").dtype == torch.float16
    assert next(examples(tmp_path / "half", WHOLE).epoch(0, 0, 4)).targets.dtype == torch.float16
    run_capture(tmp_path / "half", "b", dtype="float16")
    assert targets(tmp_path / "half", "ab").dtype == torch.float32


def test_a_span_that_changes_while_it_is_streamed_is_found(data, tmp_path):
    """Bytes of another cache, whole by their own checksums, in place of the ones that were verified in the first epoch."""
    folder = tmp_path / "data"
    shutil.copytree(data, folder)
    made = examples(folder, STREAMED)
    list(made.epoch(0, 0, 16))
    span = folder / "caches/a/logits.zarr/transfer/c/1/5/0"
    other = folder / "caches/b/logits.zarr/transfer/c/1/5/0"
    times = os.stat(span)
    os.replace(other, span)
    os.utime(span, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(IntegrityError, match=r"transfer/c/1/5/0 \(transfer view 1, rows 40 to 47\): expected sha256"):
        list(made.epoch(0, 1, 16))


def test_a_span_that_vanishes_while_it_is_streamed_is_found(data, tmp_path):
    folder = tmp_path / "data"
    shutil.copytree(data, folder)
    made = examples(folder, STREAMED)
    list(made.epoch(0, 0, 16))
    (folder / "caches/a/logits.zarr/transfer/c/1/5/0").unlink()
    with pytest.raises(IntegrityError, match=r"expected 260 bytes, found no such file"):
        list(made.epoch(0, 1, 16))


def test_members_of_an_ensemble_must_be_of_one_kind(data, tmp_path):
    other = write_stage_one(tmp_path / "other", rows=ROWS, classes=4)
    run_capture(other)
    caches = {"a": Cache.open(data / "caches/a"), "x": Cache.open(other / "caches/a")}
    message = r"ensemble, classes of cache x: expected \['0', '1', '2'\] as in cache a, found \['0', '1', '2', '3'\]"
    with pytest.raises(InputError, match=message):
        Targets.of(caches, temperatures=[1.0], rule="logits")
    run_capture(write_stage_one(tmp_path / "fewer", rows=ROWS - 1))
    caches["x"] = Cache.open(tmp_path / "fewer/caches/a")
    with pytest.raises(InputError, match=r"ensemble, rows of cache x"):
        Targets.of(caches, temperatures=[1.0], rule="logits")


# ---------------------------------------------------------------- some of the rows

SOME = np.arange(ROWS)[np.isin(np.arange(ROWS) // SPAN, [0, 1, 3, 4, 6, 7, 9, 12]) & (np.arange(ROWS) % 5 > 0)]  # 45 rows
SPANS = np.unique(SOME // SPAN)
CHOICES = {"some": SOME, "half": np.arange(1, ROWS, 2), "last": np.array([ROWS - 1]), "all": np.arange(ROWS)}


def columns(batches: list[Batch]) -> list[tuple]:
    """Each column of all batches; none has features."""
    assert all(batch.features == () for batch in batches)
    return list(zip(*(batch[:-1] for batch in batches), strict=True))


def filtered(batches: list[Batch], chosen: np.ndarray) -> list[torch.Tensor]:
    """The columns of the batches, as one, of the chosen rows only: what training on them should be."""
    keep = torch.isin(torch.cat([batch.rows for batch in batches]), torch.from_numpy(chosen))
    return [torch.cat(column)[keep] for column in columns(batches)]


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("names", ["a", "ab"])
@pytest.mark.parametrize("views", [1, 3])
def test_in_memory_chosen_rows_come_as_in_the_epoch_of_all_rows(data, choice, names, views):
    chosen = CHOICES[choice]
    every, made = (examples(data, WHOLE, views, names, rows) for rows in (None, chosen))
    assert made.rows == len(chosen)
    for epoch in range(2):
        expected = filtered(list(every.epoch(1, epoch, 16)), chosen)
        batches = list(made.epoch(1, epoch, 7))
        assert [len(batch.rows) for batch in batches[:-1]] == [7] * (len(batches) - 1)
        for column, wanted in zip(columns(batches), expected, strict=True):
            assert torch.equal(torch.cat(column), wanted)
            assert column[0].dtype == wanted.dtype


@pytest.mark.parametrize("choice", ["some", "half", "all"])
@pytest.mark.parametrize("names", ["a", "ab"])
@pytest.mark.parametrize("batch_size", [7, 16, 1000])
def test_streamed_chosen_rows_come_once_with_their_own_pixels_and_targets(data, choice, names, batch_size):
    chosen = CHOICES[choice]
    made = examples(data, STREAMED, names=names, chosen=chosen)
    assert not made.whole
    every = filtered(list(examples(data, WHOLE, names=names).epoch(1, 4, 16)), chosen)
    sort = torch.argsort(every[0])
    batches = list(made.epoch(1, 4, batch_size))
    assert [len(batch.rows) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
    found = [torch.cat(column) for column in columns(batches)]
    again = torch.argsort(found[0])
    for column, wanted in zip(found, every, strict=True):
        assert torch.equal(column[again], wanted[sort])


@pytest.mark.parametrize("choice", ["some", "half", "all"])
def test_a_window_holds_as_many_chosen_rows_as_fit(data, choice):
    """Its spans come in the order of the epoch of all rows, and its rows too; more spans fit where fewer rows are chosen."""
    chosen = CHOICES[choice]
    made = examples(data, STREAMED, chosen=chosen)
    windows = [[]]
    for span in randomness.permutation(13, 1, Use.SPANS, 2):
        rows = chosen[chosen // SPAN == span].tolist()
        if len(windows[-1]) + len(rows) > 3 * SPAN:
            windows.append([])
        windows[-1] += rows
    order = randomness.permutation(ROWS, 1, Use.ORDER, 2).tolist()
    assert rows_of(list(made.epoch(1, 2, 16))).tolist() == [row for window in windows for row in order if row in window]
    assert len(windows) == {"some": 3, "half": 3, "all": 5}[choice]


def test_chosen_rows_decide_what_fits(data):
    bytes_of_a_row = 16 + 3 * 3 * 4
    assert examples(data, len(SOME) * bytes_of_a_row, chosen=SOME).whole
    assert not examples(data, len(SOME) * bytes_of_a_row - 1, chosen=SOME).whole
    made = examples(data, WHOLE, chosen=SOME)
    assert made._kept.inputs.shape == (1, len(SOME), 1, 4, 4)
    assert made._kept.stored.shape == (3, len(SOME), 1, 3)


@pytest.mark.parametrize("memory", [WHOLE, STREAMED])
def test_spans_without_a_chosen_row_are_not_read(data, memory, monkeypatch):
    made = examples(data, memory, chosen=SOME)
    seen, decoded = {"images": set(), "targets": set()}, []
    images, read, decode = Split.read, Targets.read, image_pixels.decode

    def images_of(self, span, *rest):
        assert span in SPANS
        seen["images"].add(span)
        return images(self, span, *rest)

    def targets_of(self, view, span, out):
        assert span in SPANS
        drawn = randomness.integers(3, 0, Use.DRAW, 0, SOME[span == SOME // SPAN])
        assert memory == WHOLE or view in drawn, "streamed, a view that no chosen row draws is not read"
        seen["targets"].add(span)
        read(self, view, span, out)

    monkeypatch.setattr(Split, "read", images_of)
    monkeypatch.setattr(Targets, "read", targets_of)
    monkeypatch.setattr("pipeline.data.pixels.decode", lambda *given: decoded.append(given) or decode(*given))
    assert sorted(rows_of(list(made.epoch(0, 0, 16)))) == SOME.tolist()
    assert seen == {"images": set(SPANS), "targets": set(SPANS)}
    assert len(decoded) == len(SOME), "no other image is decoded"


@pytest.mark.parametrize("memory", [WHOLE, STREAMED])
def test_a_cache_whose_other_spans_are_gone_still_serves_chosen_rows(data, tmp_path, memory):
    shutil.copytree(data, tmp_path / "data")
    made = examples(tmp_path / "data", memory, chosen=SOME)
    for path in (tmp_path / "data/caches/a/logits.zarr/transfer/c").rglob("0"):
        if path.is_file() and int(path.parent.name) not in SPANS:
            path.unlink()
    assert len(rows_of(list(made.epoch(0, 0, 16)))) == len(SOME)


@pytest.mark.parametrize("memory", [WHOLE, STREAMED])
def test_damage_beside_chosen_rows_is_found(data, tmp_path, memory):
    """Whatever is read is checked, rows that are not chosen too: their bytes lie in the same file."""
    shutil.copytree(data, tmp_path / "data")
    made = examples(tmp_path / "data", memory, chosen=SOME)
    path = tmp_path / "data/caches/a/logits.zarr/transfer/c/0/0/0"
    damaged = bytearray(path.read_bytes())
    damaged[0] ^= 1  # of row 0, which is not chosen
    path.write_bytes(damaged)
    with pytest.raises(IntegrityError):
        for epoch in range(5):  # streamed, view 0 of the span is read when a row of it draws that view
            list(made.epoch(0, epoch, 16))


@pytest.mark.parametrize("memory", [WHOLE, 4 * SPAN * 12])
def test_chosen_logits_alone(data, memory):
    made = replace(Examples.of_targets(targets(data), 3, memory, CPU), chosen=SOME)
    expected = torch.from_numpy(Cache.open(data / "caches/a").read("transfer"))
    batches = list(made.epoch(0, 0, 9))
    assert made.whole == (memory == WHOLE)
    assert sorted(rows_of(batches)) == SOME.tolist()
    for batch in batches:
        assert not batch.inputs.numel()
        assert torch.equal(batch.targets[:, 0], expected[batch.views, batch.rows])


def test_chosen_rows_to_learn_from_labels_alone(data):
    """As a teacher does: a new view every epoch."""
    every, made = (examples(data, WHOLE, None, "", rows) for rows in (None, SOME))
    for epoch in range(2):
        batches, all_batches = ([batch._replace(targets=batch.rows) for batch in e.epoch(0, epoch, 16)] for e in (made, every))
        for column, wanted in zip(columns(batches), filtered(all_batches, SOME), strict=True):
            assert torch.equal(torch.cat(column), wanted)
        assert set(batches[0].views.tolist()) == {epoch + 1}


@pytest.mark.parametrize(
    ("chosen", "found"),
    [
        (np.array([], np.int64), "found int64 (0,)"),
        (np.array([3, 2]), "found int64 (2,): [3 2]"),
        (np.array([2, 2]), "found int64 (2,): [2 2]"),
        (np.array([-1, 2]), "found int64 (2,): [-1  2]"),
        (np.array([2, ROWS]), "found int64 (2,): [  2 100]"),
        (np.array([2, 3], np.int32), "found int32 (2,)"),
        (np.array([[2], [3]]), "found int64 (2, 1)"),
        (np.ones(ROWS, bool), "found bool (100,): [ True  True ...  True  True]"),
    ],
)
def test_chosen_rows_are_ascending_rows_of_the_split(data, chosen, found):
    with pytest.raises(InputError) as caught:
        examples(data, WHOLE, chosen=chosen)
    assert "chosen rows: expected one or more of rows 0 to 99, ascending, int64" in str(caught.value)
    assert found in str(caught.value)


# ---------------------------------------------------------------- views that mix two rows

MIXED = ["mixup(1)", "shift(1) | cutmix(0.7) | flip()"]


def mixing(data: Path, text: str, memory: int, views: int | None = 3) -> Examples:
    split = open_splits(data / "transfer", ["train"])["train"]
    signal = NoTeacher() if views is None else targets(data)
    return Examples(Numbers(split), Policy.parse(text, 5), views, signal, memory, CPU)


@pytest.mark.parametrize("memory", [WHOLE, STREAMED])
@pytest.mark.parametrize("text", MIXED)
def test_a_batch_knows_the_partners_and_shares_of_its_rows(data, memory, text):
    made = replace(mixing(data, text, memory), draws=2)
    pixels, seen = torch.from_numpy(made.inputs.split.read_all()), 0
    for epoch in range(3):
        batches = list(made.epoch(1, epoch, 7))
        assert sorted(rows_of(batches)) == sorted(2 * list(range(ROWS)))
        for batch in batches:
            rows, views = batch.rows.numpy(), batch.views.numpy()
            partners, shares = made.policy.partners(rows, views, SPAN, ROWS, (1, 4, 4))
            assert (batch.partners.shape, batch.partners.dtype) == ((len(rows), 1), torch.int64)
            assert (batch.shares.shape, batch.shares.dtype) == ((len(rows), 1), torch.float32)
            assert (batch.partners[:, 0].numpy() == partners).all()
            assert (batch.shares[:, 0].numpy() == shares).all()
            assert (partners // SPAN == rows // SPAN).all()
            assert torch.equal(batch.inputs, made.policy.apply(pixels[rows], rows, views, (partners, pixels[partners])))
            seen += int((partners != rows).sum())
    assert seen > 50


@pytest.mark.parametrize("text", MIXED)
def test_mixed_or_not_rows_and_views_are_the_same(data, text):
    """And what is not mixed says so by columns of no width."""
    for memory in (WHOLE, STREAMED):
        plain, made = examples(data, memory), mixing(data, text, memory)
        for one, other in zip(plain.epoch(1, 0, 16), made.epoch(1, 0, 16), strict=True):
            assert (one.rows == other.rows).all()
            assert (one.views == other.views).all()
            assert (one.partners.shape, one.shares.shape) == ((len(one.rows), 0), (len(one.rows), 0))


def test_every_epoch_mixes_anew(data):
    made = mixing(data, "mixup(1)", WHOLE, views=None)
    first, second = (next(made.epoch(0, epoch, ROWS)) for epoch in (0, 1))
    assert (first.partners != second.partners).any()
    assert set(first.views.tolist()) == {1}


# ---------------------------------------------------------------- texts, which are rewritten when they are read

WORDS = [f"text {row} of so many words as {row * row}" for row in range(ROWS)]


def texts(folder: Path, policy: Policy, memory: int, views: int | None = 3, chosen: np.ndarray | None = None) -> Examples:
    rows = Rows.of([str(row) for row in range(ROWS)], [text.encode() for text in WORDS], np.arange(ROWS) % 3)
    write_split(folder / "t.parquet", [rows], role="train", classes=["0", "1", "2"], inputs=Texts(), span=SPAN)
    return Examples(Encoded(Split.open(folder / "t.parquet"), policy, BAG), policy, views, NoTeacher(), memory, CPU, chosen)


BAG = bag((), 3, 50, characters=[], width=4, length=8)
TEXT_BYTES = 8 * 4  # of an encoded text, in one view


@pytest.mark.parametrize("text", ["none", "drop(3)"])
@pytest.mark.parametrize("views", [3, None])
@pytest.mark.parametrize("choice", [None, "some"])
def test_texts_are_those_of_their_views(tmp_path, text, views, choice):
    policy = Policy.parse(text, 5)
    chosen = None if choice is None else CHOICES[choice]
    expected, draws = {}, 2 if policy.augments else 1
    for memory in (WHOLE, 4 * draws * SPAN * (TEXT_BYTES + 3 * 4)):
        made = replace(texts(tmp_path, policy, memory, views, chosen), draws=draws)
        assert made.whole == (memory == WHOLE and not (views is None and policy.augments))
        for epoch in range(2):
            batches = list(made.epoch(1, epoch, 7))
            assert sorted(rows_of(batches)) == sorted(draws * (list(range(ROWS)) if chosen is None else chosen.tolist()))
            for batch in batches:
                rows, drawn = batch.rows.numpy(), batch.views.numpy()
                said = policy.rewrite([WORDS[row] for row in rows], rows, drawn)
                assert torch.equal(batch.inputs, encode(BAG, said))
                for number, row, view in zip(np.arange(len(rows)) % draws, rows, drawn, strict=True):
                    assert expected.setdefault((epoch, number, row), view) == view, "streamed or not, the same view is drawn"


def test_the_budget_counts_texts_in_every_view(tmp_path):
    """Three encodings of a row, where they differ, and one for all where not; and the logits of three views."""
    for text, held in (("drop(3)", 3 * TEXT_BYTES), ("none", TEXT_BYTES)):
        need = ROWS * (held + 3 * 3 * 4)
        assert texts(tmp_path, Policy.parse(text, 5), need).whole
        assert not texts(tmp_path, Policy.parse(text, 5), need - 1).whole


def test_views_that_mix_rows_need_all_of_them(data):
    """Else rows that were left out would be learned from as partners; all rows may be named as chosen ones."""
    split = open_splits(data / "transfer", ["train"])["train"]
    made = Examples(Numbers(split), Policy.parse("mixup(1)", 5), None, NoTeacher(), STREAMED, CPU)
    partners = torch.cat([batch.partners[:, 0] for batch in made.epoch(0, 0, 9)]).numpy()
    assert len(np.unique(partners)) > ROWS // 2
    with pytest.raises(InputError, match=r"rows: expected all.*, as view policy mixup\(strength=1\) mixes .*found 38 of 100"):
        replace(made, chosen=np.arange(38))


def test_buffers_are_not_handed_on(data):
    """To the same examples of other inputs, whose rows may be of another shape."""
    made = examples(data, STREAMED)
    list(made.epoch(0, 0, 9))
    assert made._spare
    assert not replace(made)._spare
