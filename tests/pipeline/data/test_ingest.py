"""Ingest: splits, order, and rows that do not go together."""

import csv
import io
import json
import shutil
import struct
import subprocess
import sys
import zlib
from collections import Counter
from pathlib import Path

import ingest_kills
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from conftest import images, png, tree, write_parquet
from pipeline.base import runtime
from pipeline.base.errors import InputError, IntegrityError
from pipeline.data import buckets, splitfile
from pipeline.data import ingest as job
from pipeline.data.assignment import SPLITS
from pipeline.data.ingest import ingest
from pipeline.data.inputs.array import Arrays
from pipeline.data.inputs.image import Images
from pipeline.data.inputs.text import Texts
from pipeline.data.sources import parquet
from pipeline.data.splits import Split, bind_splits, open_splits


def run(out, train, **changes):
    settings = {"valid": 0.25, "test": 0.25, "transfer_set": (), "damaged": "fail", "seed": 0} | changes
    return ingest(train=str(train), out=out, **settings)


def ids(split: Split) -> list[str]:
    return pq.read_table(split.path).column("id").to_pylist()


def rows_of(split: Split) -> dict[str, tuple[bytes, int | None]]:
    """Image and label of each row, by its id, as Parquet has them."""
    return {row["id"]: (row["image"]["bytes"], row["label"]) for row in pq.read_table(split.path).to_pylist()}


# ---------------------------------------------------------------- what is written


def test_splits_cover_the_source_once_in_shuffled_order(tmp_path, source):
    splits = run(tmp_path / "out", source)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "splits.json",
        "test.parquet",
        "train.parquet",
        "valid.parquet",
    ]
    assert [splits[name].rows for name in ("train", "valid", "test")] == [27, 9, 12]
    every = ids(splits["train"]) + ids(splits["valid"]) + ids(splits["test"])
    assert sorted(every) == [f"train-{row:06d}" for row in range(48)]
    assert ids(splits["train"]) != sorted(ids(splits["train"]))


def test_images_and_labels_stay_together(tmp_path, source):
    original = pq.read_table(source).to_pylist()
    splits = run(tmp_path / "out", source)
    for name in ("train", "valid", "test"):
        for row in pq.read_table(splits[name].path).to_pylist():
            first = original[int(row["id"].removeprefix("train-"))]
            assert (row["label"], row["image"]["bytes"]) == (first["label"], first["image"]["bytes"])


def test_a_source_added_at_the_end_moves_no_row_of_the_others(tmp_path, source):
    first = write_parquet(tmp_path / "first.parquet", images(20)[0], None)
    second = write_parquet(tmp_path / "second.parquet", images(7, seed=1)[0], None)
    alone = run(tmp_path / "alone", source, transfer_set=[str(first)])["transfer"]
    both = run(tmp_path / "both", source, transfer_set=[str(first), str(second)])["transfer"]
    assert ids(both)[:20] == ids(alone)
    assert sorted(ids(both)[20:]) == [f"transfer-{row:06d}" for row in range(20, 27)]
    assert both.read(0)[:20].tobytes() == alone.read(0).tobytes()


def test_transfer_sources_agree_in_their_classes(tmp_path, source):
    other = write_parquet(tmp_path / "other.parquet", *images(20), names=["high", "middle", "low"])
    plain = write_parquet(tmp_path / "plain.parquet", *images(20))
    with pytest.raises(
        InputError, match=r"other.parquet: expected the classes of train \(low, middle, high\), found high, middle, low"
    ):
        run(tmp_path / "out", source, transfer_set=[str(plain), str(source), str(other)])


def test_damaged_images_are_left_out_where_that_is_asked_for(tmp_path, caplog):
    encoded, labels = images(48)
    encoded[5], encoded[17] = encoded[5][:30], b"not an image"
    source = write_parquet(tmp_path / "source.parquet", encoded, labels)
    splits = run(tmp_path / "out", source, damaged="exclude")
    left_out = sorted(name for split in splits.values() for name in split.excluded)
    assert left_out == ["train-000005", "train-000017"]
    every = sorted(name for split in splits.values() for name in ids(split))
    assert every == [f"train-{row:06d}" for row in range(48) if row not in (5, 17)]
    assert (
        sum("row 17 (path 17.png), id train-000017: expected a PNG, JPEG or WebP image" in text for text in caplog.messages)
        == 1
    )
    with pytest.raises(InputError, match=r"row (5|17) .*, id train-0000"):
        run(tmp_path / "out", source)
    assert Split.open(tmp_path / "out/train.parquet").excluded == splits["train"].excluded  # the former one stays


def test_what_is_left_out_is_part_of_the_inputs(tmp_path):
    """The same rows, once because others were damaged and once because there are no others, are not the same inputs."""
    encoded, labels = images(20)
    train = write_parquet(tmp_path / "train.parquet", *images(48))
    whole = write_parquet(tmp_path / "whole.parquet", encoded[:19], labels[:19])
    damaged = write_parquet(tmp_path / "damaged.parquet", [*encoded[:19], b""], labels)
    one = run(tmp_path / "one", train, transfer_set=[str(whole)], damaged="exclude")["transfer"]
    other = run(tmp_path / "other", train, transfer_set=[str(damaged)], damaged="exclude")["transfer"]
    assert sorted(ids(one)) == sorted(ids(other))
    assert one.inputs_digest != other.inputs_digest


def test_no_image_that_decodes(tmp_path):
    source = write_parquet(tmp_path / "source.parquet", [b"x"] * 48, images(48)[1])
    with pytest.raises(InputError, match="expected inputs that are sound, found none"):
        run(tmp_path / "out", source, damaged="exclude")
    with pytest.raises(InputError, match="expected fail or exclude, found 'skip'"):
        run(tmp_path / "out", source, damaged="skip")


def test_a_span_holds_little_of_large_files(tmp_path):
    """Files of 12,300 bytes for 2×2 pixels: 64 MB are 5,456 of them, and 4,096 is the power of two below."""
    encoded, labels = images(24)
    large = [data + bytes(12_300 - len(data)) for data in encoded]  # what follows the end of a PNG is no part of it
    source = write_parquet(tmp_path / "large.parquet", large, labels)
    assert run(tmp_path / "out", source, size=[2])["train"].span == 4096
    plain = write_parquet(tmp_path / "plain.parquet", encoded, labels)
    assert run(tmp_path / "plain", plain, size=[2])["train"].span == 8192


def test_class_names_come_from_the_metadata_or_are_numbers(tmp_path, source):
    assert run(tmp_path / "named", source)["train"].classes == ("low", "middle", "high")
    plain = write_parquet(tmp_path / "plain.parquet", *images(48))
    assert run(tmp_path / "numbered", plain)["train"].classes == ("0", "1", "2")


def test_same_settings_same_bytes_and_another_seed_another_order(tmp_path, source):
    first, second, third = (run(tmp_path / name, source, seed=seed) for name, seed in (("a", 1), ("b", 1), ("c", 2)))
    for name in ("train", "valid", "test"):
        assert first[name].path.read_bytes() == second[name].path.read_bytes()
    assert ids(first["train"]) != ids(third["train"])


def test_given_splits_and_an_unlabelled_transfer_set(tmp_path, source):
    given = {
        name: write_parquet(tmp_path / f"{name}.parquet", *images(9, seed=seed)) for seed, name in enumerate(("valid", "test"))
    }
    bare = write_parquet(tmp_path / "bare.parquet", images(20, seed=5)[0], None)
    splits = run(tmp_path / "out", source, valid=str(given["valid"]), test=str(given["test"]), transfer_set=[str(bare)])
    assert {name: split.rows for name, split in splits.items()} == {"train": 48, "valid": 9, "test": 9, "transfer": 20}
    assert (splits["transfer"].labels() == -1).all()


@pytest.mark.parametrize("changes", [{}, {"valid": "valid.parquet", "size": [3, 5]}, {"fold": True}, {"damaged": "exclude"}])
def test_few_labels_are_those_of_the_training_split(tmp_path, monkeypatch, changes):
    """Against an ingest that keeps all labels: the same rows, of which the others have none any more."""
    monkeypatch.chdir(tmp_path)
    encoded, labels = images(60)
    write_parquet(tmp_path / "valid.parquet", *images(9, seed=1))
    if "damaged" in changes:
        encoded[:6] = [b"no image"] * 6
    source = write_parquet(tmp_path / "source.parquet", encoded, labels)
    plain = {name: rows_of(split) for name, split in run(tmp_path / "plain", source, **changes).items()}
    splits = run(tmp_path / "few", source, labels=5, **changes)
    found = {name: rows_of(split) for name, split in splits.items()}
    assert {name: found[name] for name in ("valid", "test")} == {name: plain[name] for name in ("valid", "test")}
    folded = set(plain["valid"]) if "fold" in changes else set()
    kept = set(found["train"]) - folded
    known = {name: row if name in kept | folded else (row[0], None) for name, row in plain["train"].items()}
    assert found["transfer"] == known
    assert found["train"] == {name: plain["train"][name] for name in kept | folded}
    if "damaged" in changes:
        assert set(Counter(found["train"][name][1] for name in kept)) == {0, 1, 2}
        assert len(kept) + len(splits["train"].excluded) == 15
    else:
        assert Counter(found["train"][name][1] for name in kept) == {0: 5, 1: 5, 2: 5}
    opened = open_splits(tmp_path / "few", ["transfer"])["transfer"]
    assert opened.inputs_digest == splits["transfer"].inputs_digest
    assert opened.role == "transfer"


NO_LABELS = "labels: expected 1 or more labels of each class, or all, found {}. Correct the setting `labels`."


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": 0}, NO_LABELS.format(0)),
        ({"labels": -3}, NO_LABELS.format(-3)),
        (
            {"labels": 2, "transfer_set": ["a.parquet", "b"]},
            "transfer: expected no sources, as the training rows are it where `labels` is 2, found a.parquet, b. "
            "Leave `transfer` out, or set `labels: all`.",
        ),
    ],
)
def test_labels_that_cannot_be_kept(tmp_path, source, changes, message):
    with pytest.raises(InputError) as caught:
        run(tmp_path / "out", source, **changes)
    assert str(caught.value) == message
    assert not (tmp_path / "out").exists()


def test_labels_whose_rows_are_damaged_are_missed(tmp_path, caplog):
    """All rows that test and valid leave of class 1 are drawn."""
    encoded, labels = images(60)
    plain = run(tmp_path / "plain", write_parquet(tmp_path / "whole.parquet", encoded, labels))["train"]
    own = [int(name.removeprefix("train-")) for name, (_, label) in rows_of(plain).items() if label == 1]
    for number, row in enumerate(own):
        encoded[row] = encoded[row] if number < 2 else b"no image"
    source = write_parquet(tmp_path / "some.parquet", encoded, labels)
    run(tmp_path / "few", source, labels=len(own), damaged="exclude")
    assert f"class 1 keeps 2 of {len(own)} labels: the other rows are damaged" in caplog.text
    for row in own:
        encoded[row] = b"no image"
    source = write_parquet(tmp_path / "none.parquet", encoded, labels)
    with pytest.raises(InputError, match=f"labels of class 1: expected sound rows, found none among the {len(own)} drawn"):
        run(tmp_path / "out", source, labels=len(own), damaged="exclude")
    assert not (tmp_path / "out").exists()


def test_an_id_column_is_kept(tmp_path):
    encoded, labels = images(12)
    path = write_parquet(tmp_path / "s.parquet", encoded, labels, id=[f"x{row}" for row in range(12)])
    splits = run(tmp_path / "out", path)
    assert {name[0] for split in splits.values() for name in ids(split)} == {"x"}


def test_digits_are_the_uci_digits(tmp_path):
    splits = run(tmp_path / "out", "digits")
    assert sum(splits[name].rows for name in ("train", "valid", "test")) == 1797
    assert splits["train"].inputs.shape == (1, 8, 8)
    pixels = splits["train"].read_all()
    assert set(np.unique(pixels)) == {15 * value for value in range(17)}


# ---------------------------------------------------------------- validation rows folded in


def content(split: Split) -> list[tuple]:
    """(id, label, image) of every row, in order."""
    return [(row["id"], row["label"], row["image"]["bytes"]) for row in pq.read_table(split.path).to_pylist()]


def both(tmp_path, *given, **changes) -> tuple[dict[str, Split], dict[str, Split]]:
    """The same input, plain and folded."""
    return tuple(run(tmp_path / f"out-{fold}", *given, fold=fold, **changes) for fold in (False, True))


@pytest.mark.parametrize("file", [False, True], ids=["carved", "file"])
def test_folded_validation_rows_follow_the_training_rows(tmp_path, source, file):
    valid = str(write_parquet(tmp_path / "valid.parquet", *images(9, seed=1))) if file else 0.25
    plain, folded = both(tmp_path, source, valid=valid)
    assert content(folded["train"]) == content(plain["train"]) + content(plain["valid"])
    assert len(set(ids(folded["train"]))) == folded["train"].rows == 36 + 9 * file
    for name in ("valid", "test"):
        assert content(folded[name]) == content(plain[name])
        assert folded[name].inputs_digest == plain[name].inputs_digest
    assert sorted(folded) == ["test", "train", "valid"]
    assert {name: split.folded for name, split in folded.items()} == {"train": False, "valid": True, "test": False}
    assert not any(split.folded for split in plain.values())
    with pytest.raises(InputError, match=r"early stopping: .* ingest\.fold"):
        folded["valid"].require_unfolded("early stopping")


def test_folded_rows_extend_the_spans_and_move_none(tmp_path, source, monkeypatch):
    """27 rows and 9 in spans of 8: three spans stay, the fourth grows, a fifth comes."""
    monkeypatch.setattr("pipeline.data.ingest.span_rows", lambda classes, row_bytes: 8)
    plain, folded = (splits["train"] for splits in both(tmp_path, source))
    assert folded.span_digests[:3] == plain.span_digests[:3]
    assert (len(plain.span_digests), len(folded.span_digests)) == (4, 5)


def test_a_transfer_set_of_its_own_gets_the_validation_rows_too(tmp_path, source):
    other = write_parquet(tmp_path / "other.parquet", images(20, seed=5)[0], None)
    plain, folded = both(tmp_path, source, transfer_set=[str(other)])
    assert content(folded["transfer"]) == content(plain["transfer"]) + content(plain["valid"])
    assert content(folded["train"]) == content(plain["train"]) + content(plain["valid"])
    assert not folded["transfer"].folded
    assert Counter(folded["transfer"].labels().tolist()) == {-1: 20, 0: 3, 1: 3, 2: 3}


def test_validation_rows_that_the_transfer_set_has_already_are_not_added_again(tmp_path):
    """Where it is made of the file that they were carved out of, ids and all, with one damaged validation image."""
    encoded, labels = images(48)
    encoded[9] = encoded[9][:30]
    source = write_parquet(tmp_path / "source.parquet", encoded, labels, id=[f"row {row}" for row in range(48)])
    part = write_parquet(tmp_path / "part.parquet", encoded[:30], labels[:30], id=[f"row {row}" for row in range(30)])
    settings = {"valid": 0.5, "damaged": "exclude"}
    plain, folded = both(tmp_path, source, transfer_set=[str(source)], **settings)
    assert content(folded["transfer"]) == content(plain["transfer"])
    assert folded["transfer"].excluded == folded["valid"].excluded == ("row 9",)
    plain, folded = both(tmp_path, source, transfer_set=[str(part)], **settings)
    there = set(content(plain["transfer"]))
    assert content(folded["transfer"]) == content(plain["transfer"]) + [
        row for row in content(plain["valid"]) if row not in there
    ]
    assert 29 < folded["transfer"].rows < 29 + plain["valid"].rows


def test_a_validation_id_that_means_another_image_in_the_transfer_set(tmp_path):
    names = [f"row {row}" for row in range(48)]
    source = write_parquet(tmp_path / "source.parquet", *images(48), id=names)
    other = write_parquet(tmp_path / "other.parquet", *images(48, seed=1), id=names)
    run(tmp_path / "plain", source, transfer_set=[str(other)])
    refuse(
        tmp_path, source, "transfer split, ids", "in transfer and in valid, with different inputs",
        transfer_set=[str(other)], fold=True,
    )  # fmt: skip


def test_damaged_validation_rows_are_left_out_of_all_that_they_are_folded_into(tmp_path):
    encoded, labels = images(48)
    source = write_parquet(tmp_path / "source.parquet", encoded, labels)
    plain = run(tmp_path / "sound", source)
    bad = [ids(plain[name])[2] for name in ("train", "valid", "test")]
    for name in bad:
        encoded[int(name.removeprefix("train-"))] = b"not an image"
    damaged = write_parquet(tmp_path / "damaged.parquet", encoded, labels)
    more = write_parquet(tmp_path / "more.parquet", [*images(20, seed=5)[0], b""], None)
    before, folded = both(tmp_path, damaged, damaged="exclude", transfer_set=[str(more)])
    assert content(folded["train"]) == [row for row in content(plain["train"]) + content(plain["valid"]) if row[0] not in bad]
    assert content(folded["transfer"]) == content(before["transfer"]) + content(before["valid"])
    excluded = {name: list(split.excluded) for name, split in folded.items()}
    stray = "transfer-000020"
    assert excluded == {"train": bad[:2], "valid": bad[1:2], "test": bad[2:], "transfer": [stray, bad[1]]}
    assert {name: list(split.excluded) for name, split in before.items()} == {
        "train": bad[:1], "valid": bad[1:2], "test": bad[2:], "transfer": [stray],
    }  # fmt: skip


def test_a_validation_row_that_is_a_training_row_is_refused_folded_or_not(tmp_path):
    encoded, labels = images(12)
    one, two = (
        write_parquet(tmp_path / f"{name}.parquet", encoded, labels, id=[f"{name}{row}" for row in range(11)] + ["shared"])
        for name in ("one", "two")
    )
    for fold in (False, True):
        refuse(tmp_path, one, "valid split, ids", "each id once", "'shared' in train and in valid", valid=str(two), fold=fold)


# ---------------------------------------------------------------- bad input: one clear message, nothing written


def refuse(tmp_path, train, *parts: str, **changes):
    out = tmp_path / "out"
    with pytest.raises(InputError) as caught:
        run(out, train, **changes)
    for part in parts:
        assert part in str(caught.value)
    assert not list(tmp_path.glob("*out*")), "something was written"


@pytest.mark.parametrize(("label", "found"), [(3, "found 3"), (-2, "found -2"), (None, "no label"), (-1, "no label")])
def test_label_out_of_range(tmp_path, label, found):
    encoded, labels = images(12)
    path = write_parquet(tmp_path / "s.parquet", encoded, [*labels[:11], label], names=["a", "b", "c"])
    refuse(tmp_path, path, "from 0 to 2", found, "train-000011")


@pytest.mark.parametrize("data", [b"", b"not an image", b"\x89PNG\r\n\x1a\n" + b"\0" * 40, b"GIF89a" + b"\0" * 20])
def test_undecodable_image_is_named_by_row(tmp_path, data):
    encoded, labels = images(12)
    path = write_parquet(tmp_path / "s.parquet", [*encoded[:7], data, *encoded[8:]], labels)
    refuse(tmp_path, path, "train-000007", "7.png", "a PNG, JPEG or WebP image")


def test_images_of_different_sizes(tmp_path):
    encoded, labels = images(12)
    path = write_parquet(tmp_path / "s.parquet", [*encoded[:11], png(np.zeros((6, 7), np.uint8))], labels)
    refuse(tmp_path, path, "6×6 pixels as in ", "6×7 pixels", "train-000011")


def test_empty_valid(tmp_path, source):
    empty = write_parquet(tmp_path / "e.parquet", [], [])
    refuse(tmp_path, source, "e.parquet: expected rows, found none", valid=str(empty))


def test_labels_beyond_int64(tmp_path):
    encoded, labels = images(12)
    table = pq.read_table(write_parquet(tmp_path / "s.parquet", encoded, labels, names=["a", "b", "c"]))
    stray = pa.array([*labels[:11], 2**63 + 5], pa.uint64())
    pq.write_table(table.set_column(1, "label", stray), tmp_path / "s.parquet")
    refuse(tmp_path, tmp_path / "s.parquet", "a label that fits 64 bits")


def test_a_stray_label_does_not_make_classes(tmp_path):
    encoded, labels = images(12)
    path = write_parquet(tmp_path / "s.parquet", encoded, [*labels[:11], 3_000_000])
    refuse(tmp_path, path, "no row has label 3", "label 3000000", valid=0.25, test=0.25)


def test_duplicate_ids_within_a_file(tmp_path):
    encoded, labels = images(12)
    path = write_parquet(tmp_path / "s.parquet", encoded, labels, id=["same", "same", *(str(row) for row in range(10))])
    refuse(tmp_path, path, "each id once", "'same'")


def test_an_id_in_train_and_test(tmp_path):
    encoded, labels = images(12)
    paths = [
        write_parquet(tmp_path / f"{name}.parquet", encoded, labels, id=[f"{name}{row}" for row in range(11)] + ["shared"])
        for name in ("one", "two")
    ]
    refuse(tmp_path, paths[0], "test split, ids", "each id once", "'shared' in ", test=str(paths[1]))


def test_another_label_map(tmp_path, source):
    other = write_parquet(tmp_path / "o.parquet", *images(9), names=["high", "low", "middle"])
    refuse(tmp_path, source, "low, middle, high", "high, low, middle", test=str(other))


def test_a_failed_ingest_leaves_the_former_output(tmp_path, source):
    before = run(tmp_path / "out", source)["train"].path.read_bytes()
    with pytest.raises(InputError):
        run(tmp_path / "out", tmp_path / "none.parquet")
    assert (tmp_path / "out/train.parquet").read_bytes() == before


def test_a_source_that_vanishes_while_writing_leaves_nothing(tmp_path, source, monkeypatch):
    calls = []

    def fails(*args, **kwargs):
        calls.append(args)
        if len(calls) == 2:
            raise OSError("disk")
        return original(*args, **kwargs)

    original = job.write_split
    monkeypatch.setattr(job, "write_split", fails)
    with pytest.raises(OSError, match="disk"):
        run(tmp_path / "out", source)
    assert not list(tmp_path.glob("*out*"))


# ---------------------------------------------------------------- MNIST, where its path is given


def test_mnist_comes_through_whole(tmp_path, mnist):
    """Counts and mean pixels as published with the files: 33.318 and 33.791."""
    splits = run(tmp_path / "out", mnist / "mnist-train.parquet", valid=5000, test=str(mnist / "mnist-test.parquet"))
    assert [splits[name].rows for name in ("train", "valid", "test")] == [55_000, 5_000, 10_000]
    assert splits["train"].span == 8192
    assert len(splits["train"].span_digests) == 7
    pixels = {name: splits[name].read_all() for name in ("train", "valid", "test")}
    both = pixels["train"].sum(dtype=np.int64) + pixels["valid"].sum(dtype=np.int64)
    assert both / (60_000 * 784) == pytest.approx(33.318, abs=0.001)
    assert pixels["test"].mean() == pytest.approx(33.791, abs=0.001)
    published = np.array([5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949])
    assert (np.abs(np.bincount(splits["valid"].labels()) - published / 12) < 1).all()


# ---------------------------------------------------------------- nothing given is dropped, and nothing counts twice


def test_a_source_is_read_once(tmp_path, source):
    link = tmp_path / "link.parquet"
    link.symlink_to(source)
    for changes in ({"test": str(source)}, {"valid": str(link)}, {"transfer_set": [str(source), str(link)]}):
        with pytest.raises(InputError, match="expected different sources, found .* twice"):
            run(tmp_path / "out", source, **changes)
    assert not (tmp_path / "out").exists()


def test_splits_of_two_ingests_are_not_mixed(tmp_path, source):
    """Train of one seed beside test of another would be tested on what it was trained on."""
    run(tmp_path / "one", source, seed=0)
    run(tmp_path / "two", source, seed=1)
    shared = set(ids(Split.open(tmp_path / "one/train.parquet"))) & set(ids(Split.open(tmp_path / "two/test.parquet")))
    assert shared
    (tmp_path / "two/test.parquet").replace(tmp_path / "one/test.parquet")
    with pytest.raises(
        IntegrityError, match=r"test.parquet: expected the test split that belongs to splits.json, found another"
    ):
        open_splits(tmp_path / "one", ("train", "test"))
    open_splits(tmp_path / "one", ("train", "valid"))


def test_a_lost_transfer_set_is_not_replaced_by_the_training_split(tmp_path, source):
    other = write_parquet(tmp_path / "other.parquet", images(20)[0], None)
    run(tmp_path / "out", source, transfer_set=[str(other)])
    (tmp_path / "out/transfer.parquet").rename(tmp_path / "aside.parquet")
    with pytest.raises(IntegrityError, match=r"transfer.parquet: expected a split written by ingest, found no file"):
        open_splits(tmp_path / "out", ("transfer", "valid"))
    run(tmp_path / "out", source)
    (tmp_path / "aside.parquet").rename(tmp_path / "out/transfer.parquet")
    with pytest.raises(IntegrityError, match="found a transfer.parquet from another ingest"):
        open_splits(tmp_path / "out", ("transfer", "valid"))


def test_swapped_splits_know_their_role(tmp_path, source):
    run(tmp_path / "out", source, test=12, valid=12)
    for name, other in (("valid", "test"), ("test", "train")):
        (tmp_path / f"out/{name}.parquet").rename(tmp_path / "aside")
        (tmp_path / f"out/{other}.parquet").rename(tmp_path / f"out/{name}.parquet")
        (tmp_path / "aside").rename(tmp_path / f"out/{other}.parquet")
        with pytest.raises(IntegrityError, match=f"{name}.parquet: expected the {name} split"):
            open_splits(tmp_path / "out", (name,))
        bind_splits(tmp_path / "out", ("train", "valid", "test"))
        with pytest.raises(IntegrityError, match=f"{name}.parquet: expected the {name} split, found the {other} split"):
            open_splits(tmp_path / "out", (name,))
        run(tmp_path / "out", source, test=12, valid=12)


def test_control_characters_of_the_data_are_shown_as_such(tmp_path):
    encoded, labels = images(12)
    encoded[3] = b"no image"
    source = write_parquet(tmp_path / "source.parquet", encoded, labels, id=[f"\x1b[31m\n{row}" for row in range(12)])
    with pytest.raises(InputError) as caught:
        run(tmp_path / "out", source)
    assert r"(id \x1b[31m\n3, path 3.png)" in str(caught.value)


# ---------------------------------------------------------------- a folder of images as people have them

SHOWN = np.stack([np.arange(64, dtype=np.uint8).reshape(8, 8) * 3] * 3, 2)


def saved(image: Image.Image, kind: str, **settings) -> bytes:
    held = io.BytesIO()
    image.save(held, kind, **settings)
    return held.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    """Of a PNG: length, name, data and their CRC-32."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


HUGE = chunk(b"IHDR", struct.pack(">IIBBBBB", 20_000, 20_000, 8, 0, 0, 0, 0))
HUGE_PNG = b"\x89PNG\r\n\x1a\n" + HUGE + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
JPEG = saved(Image.fromarray(SHOWN), "JPEG")
_SIZE = JPEG.index(b"\xff\xc0") + 5  # of the frame header: marker, length, bits, then height and width
HUGE_JPEG = JPEG[:_SIZE] + struct.pack(">HH", 20_000, 20_000) + JPEG[_SIZE + 4 :]
MOVING = saved(Image.fromarray(SHOWN), "WEBP", save_all=True, append_images=[Image.fromarray(255 - SHOWN)], duration=90)
BAD = {  # file → its bytes, and what is said of it
    "cut.jpg": (JPEG[: len(JPEG) // 2], "a PNG, JPEG or WebP image, found"),
    "notes.txt": (b"not an image", "a PNG, JPEG or WebP image, found 12 bytes that do not decode (not an image file)"),
    "none.png": (b"", "a PNG, JPEG or WebP image, found 0 bytes"),
    "huge.png": (HUGE_PNG, "an image of at most 89,478,485 pixels, found Image size (400000000 pixels)"),
    "huge.jpg": (HUGE_JPEG, "an image of at most 89,478,485 pixels, found Image size (400000000 pixels)"),
    "deep.png": (
        saved(Image.new("I;16", (8, 8), 40_000), "PNG"),
        "8 bits per channel, found 16",
    ),
    "moving.webp": (MOVING, "one picture, found an animation of 2"),
}


def folder_of_images(root: Path, **more: bytes) -> Path:
    """Two classes of eight images, PNG, JPEG and WebP, one with a name in Unicode; and more files in the second class."""
    for number in range(16):
        kind = ("PNG", "JPEG", "WEBP")[number % 3]
        path = root / ("cat", "dög")[number % 2] / f"{number} ü.{kind.lower()}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(saved(Image.fromarray(SHOWN + number), kind))
    for name, data in more.items():
        (root / "dög" / name).write_bytes(data)
    return root


def test_a_folder_of_sound_images(tmp_path):
    splits = run(tmp_path / "out", folder_of_images(tmp_path / "images"))
    assert (splits["train"].classes, splits["train"].inputs) == (("cat", "dög"), Images("RGB", (3, 8, 8)))
    assert sum(split.rows for split in splits.values()) == 16
    for split in splits.values():
        for name, label in zip(ids(split), split.labels(), strict=True):
            assert name.startswith(("cat/", "dög/")[label])


@pytest.mark.parametrize("name", BAD)
def test_a_bad_image_is_named_or_left_out(tmp_path, name, caplog):
    data, message = BAD[name]
    images = folder_of_images(tmp_path / "images", **{name: data})
    refuse(tmp_path, images, f"dög/{name}: expected {message}")
    splits = run(tmp_path / "out", images, damaged="exclude")
    assert [left_out for split in splits.values() for left_out in split.excluded] == [f"dög/{name}"]
    assert sum(split.rows for split in splits.values()) == 16
    assert any(f"left out: {images}/dög/{name}" in text for text in caplog.messages)


def test_an_empty_class_is_named_or_left_out(tmp_path, caplog):
    images = folder_of_images(tmp_path / "images")
    (images / "cow").mkdir()
    refuse(tmp_path, images, f"{images}/cow: expected rows of a class, found none. Add rows, remove it, or set `damaged: excl")
    assert run(tmp_path / "out", images, damaged="exclude")["train"].classes == ("cat", "dög")
    assert f"left out: {images}/cow, a class without rows" in caplog.messages


def test_a_test_folder_may_lack_classes(tmp_path):
    """With an empty folder or with none; classes are those of the same names."""
    train, test = folder_of_images(tmp_path / "train"), folder_of_images(tmp_path / "test")
    for path in test.glob("*/*"):
        path.rename(path.with_stem(f"test {path.stem}"))  # ids must differ
    for path in (test / "cat").iterdir():
        path.unlink()
    for _ in ("empty", "none"):
        splits = run(tmp_path / "out", train, test=str(test))
        assert splits["test"].classes == ("cat", "dög")
        assert splits["test"].labels().tolist() == [1] * 8
        shutil.rmtree(test / "cat", ignore_errors=True)
    (test / "dög").rename(test / "dog")
    with pytest.raises(InputError, match=r"expected the classes of train \(cat, dög\), found dog"):
        run(tmp_path / "other", train, test=str(test))


def test_labels_beyond_the_classes_that_a_split_names(tmp_path, source):
    """They are no labels of other classes of train."""
    encoded, _ = images(9)
    for label in (2, 3, -2):
        other = write_parquet(tmp_path / "o.parquet", encoded, [0, 1, label] * 3, names=["low", "high"])
        refuse(tmp_path, source, "o.parquet, row 2", f"expected a label from 0 to 1, found {label}", test=str(other))
    other = write_parquet(tmp_path / "o.parquet", encoded, [0, 1, 0] * 3, names=["low", "high"])
    assert sorted(run(tmp_path / "out", source, test=str(other))["test"].labels().tolist()) == [0] * 6 + [2] * 3


def test_a_stray_file_that_is_too_large_is_not_read(tmp_path, monkeypatch):
    """It has no bytes on disk, and 300 GB of zeros if it was read."""
    images = folder_of_images(tmp_path / "images")
    with (images / "cat/backup.tar").open("wb") as file:
        file.truncate(300_000_000_000)
    refuse(tmp_path, images, "cat/backup.tar: expected a file of at most 268,435,456 bytes, found 300,000,000,000 bytes")
    splits = run(tmp_path / "out", images, damaged="exclude")
    assert [left_out for split in splits.values() for left_out in split.excluded] == ["cat/backup.tar"]
    assert sum(split.rows for split in splits.values()) == 16


def test_two_sizes_are_no_damage_and_are_named_whatever_is_asked_for(tmp_path):
    images = folder_of_images(tmp_path / "images", **{"wide.png": png(SHOWN[:, :6].copy())})
    for damaged in ("fail", "exclude"):
        refuse(tmp_path, images, "8×8 pixels as in ", "found 8×6 pixels", "Set `size`", "wide.png", damaged=damaged)
    for fit in ("crop", "pad", "stretch"):
        inputs = run(tmp_path / "out", images, size=[5, 4], fit=fit)["train"].inputs
        assert inputs == Images("RGB", (3, 5, 4), fit=fit)


def test_sizes_are_those_of_sound_images_alone(tmp_path):
    """A damaged image of another size does not count."""
    images = folder_of_images(tmp_path / "images", **{"deep.png": saved(Image.new("I;16", (3, 3)), "PNG")})
    assert run(tmp_path / "out", images, damaged="exclude")["train"].inputs.shape == (3, 8, 8)


def test_a_turned_jpeg_is_upright(tmp_path):
    """Stored lying on its side, it has the size of the others, and its pixels."""
    exif, upright = Image.Exif(), np.zeros((8, 16, 3), np.uint8)
    exif[274] = 6
    upright[:, :8] = 250
    stored = Image.fromarray(np.ascontiguousarray(np.rot90(upright)))
    for number in range(12):
        path = tmp_path / "images" / "ab"[number % 2] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(saved(stored, "JPEG", exif=exif) if number % 3 else saved(Image.fromarray(upright), "JPEG"))
    splits = run(tmp_path / "out", tmp_path / "images")
    for split in splits.values():
        assert split.inputs.shape == (3, 8, 16)
        assert (np.abs(split.read_all().astype(int) - upright.transpose(2, 0, 1)) < 6).all()


def test_resized_images_are_those_of_their_files(tmp_path):
    images = folder_of_images(tmp_path / "images")
    split = run(tmp_path / "out", images, size=[4], fit="crop")["test"]
    for name, shown in zip(ids(split), split.read_all(), strict=True):
        image = Image.open(images / name).convert("RGB").resize((4, 4), Image.Resampling.BILINEAR)
        assert (shown == np.asarray(image).transpose(2, 0, 1)).all()


def test_a_size_and_a_fit_are_part_of_the_inputs(tmp_path):
    images = folder_of_images(tmp_path / "images")
    digests = {run(tmp_path / "out", images, size=size, fit=fit)["train"].inputs_digest
               for size, fit in (((), "crop"), ([8], "crop"), ([8], "pad"), ([4], "crop"), ([4, 8], "crop"))}  # fmt: skip
    assert len(digests) == 5
    assert run(tmp_path / "out", images, fit="pad")["train"].inputs_digest in digests, "without a size a fit does nothing"


# ---------------------------------------------------------------- arrays and texts


def arrays(path: Path, rows: np.ndarray, **more) -> Path:
    columns = {
        "array": pa.array(rows.tolist(), pa.list_(pa.list_(pa.float32()))),
        "label": [row % 2 for row in range(len(rows))],
    }
    pq.write_table(pa.table(columns | more), path)
    return path


def test_arrays_come_through(tmp_path):
    rows = np.random.default_rng(0).normal(size=(20, 2, 3)).astype(np.float32)
    splits = run(tmp_path / "out", arrays(tmp_path / "x.parquet", rows))
    assert splits["train"].inputs == Arrays("float32", (2, 3))
    for split in splits.values():
        numbers = [int(name.removeprefix("train-")) for name in ids(split)]
        assert split.read_all().tobytes() == rows[numbers].tobytes()
        assert (split.labels() == np.array(numbers) % 2).all()


@pytest.mark.parametrize(("value", "name"), [(np.nan, "nan"), (np.inf, "inf"), (-np.inf, "-inf")])
def test_a_number_that_is_not_finite_is_named_by_row_and_id(tmp_path, value, name):
    rows = np.zeros((20, 2, 3), np.float32)
    rows[7, 1, 2] = value
    path = arrays(tmp_path / "x.parquet", rows, id=[f"take {row}" for row in range(20)])
    refuse(tmp_path, path, "x.parquet, row 7 (id take 7): expected finite numbers", f"found {name} at [1, 2]")
    splits = run(tmp_path / "out", path, damaged="exclude")
    assert [left_out for split in splits.values() for left_out in split.excluded] == ["take 7"]


def test_texts_come_through(tmp_path):
    texts = [f"text {row}, “quoted”\n" for row in range(20)]
    pq.write_table(pa.table({"text": texts, "label": ["a", "b"] * 10}), tmp_path / "x.parquet")
    splits = run(tmp_path / "out", tmp_path / "x.parquet")
    assert (splits["train"].inputs, splits["train"].classes) == (Texts(), ("a", "b"))
    for split in splits.values():
        assert split.read_all().tolist() == [texts[int(name.removeprefix("train-"))] for name in ids(split)]


def test_sources_of_two_kinds_are_refused(tmp_path, source):
    pq.write_table(pa.table({"text": ["a", "b"], "label": [0, 1]}), tmp_path / "x.parquet")
    refuse(tmp_path, source, "x.parquet: expected image as in ", "found text", test=str(tmp_path / "x.parquet"))
    first = arrays(tmp_path / "one.parquet", np.zeros((9, 2, 3)))
    second = arrays(tmp_path / "two.parquet", np.zeros((9, 3, 2)))
    refuse(tmp_path, first, "expected array of float32, 2×3 as in ", "found array of float32, 3×2", test=str(second))


# ---------------------------------------------------------------- memory, and kills


@pytest.mark.parametrize("least", [1, 500, 10**9])
def test_buckets_change_no_byte(tmp_path, source, monkeypatch, least):
    """Whether rows went through one file or through many."""
    other = write_parquet(tmp_path / "other.parquet", images(20, seed=5)[0], None)
    settings = {"transfer_set": [str(other)], "fold": True}
    plain = run(tmp_path / "plain", source, **settings)
    monkeypatch.setattr(buckets, "HELD_BYTES", 700)
    monkeypatch.setattr(buckets, "BUCKET_BYTES", (least, 10**9))
    for name, split in run(tmp_path / "out", source, **settings).items():
        assert split.path.read_bytes() == plain[name].path.read_bytes()


@pytest.fixture
def in_parts(monkeypatch) -> None:
    """Spans of four rows, parts of eight, and row groups of a source that are read by themselves."""
    monkeypatch.setattr("pipeline.data.splits.SPAN_ROWS", 4)
    monkeypatch.setattr(splitfile, "PART_BYTES", 8 * 100)
    monkeypatch.setattr(job, "SHARED_BYTES", 1)
    monkeypatch.setattr(parquet, "PART_BYTES", 1)


def test_neither_processes_nor_parts_change_a_row(tmp_path, monkeypatch, in_parts, caplog):
    """Of damaged rows, of several sources, of rows in two splits; nor what is told of them, nor its order."""
    encoded, labels = images(48)
    encoded[5], encoded[30] = b"no image", b"nor this"
    write_parquet(tmp_path / "all.parquet", encoded, labels, names=["low", "middle", "high"])
    pq.write_table(pq.read_table(tmp_path / "all.parquet"), tmp_path / "source.parquet", row_group_size=7)
    other = write_parquet(tmp_path / "other.parquet", images(30, seed=5)[0], None)
    settings = {"transfer_set": [str(other)], "fold": True, "damaged": "exclude"}
    found, told = {}, {}
    for cores in (1, 2):
        monkeypatch.setattr(runtime, "cores", lambda cores=cores: cores)
        caplog.clear()
        found[cores] = run(tmp_path / f"{cores}", tmp_path / "source.parquet", **settings)
        told[cores] = caplog.messages
    assert len(told[1]) == 2
    assert told[1] == told[2]
    assert tree(tmp_path / "1") == tree(tmp_path / "2")
    assert {name: len(split.parts) > 1 for name, split in found[2].items()} == dict.fromkeys(SPLITS, True)
    monkeypatch.setattr(splitfile, "PART_BYTES", 1 << 30)
    for name, whole in run(tmp_path / "whole", tmp_path / "source.parquet", **settings).items():
        cut = found[2][name]
        assert (tmp_path / f"whole/{name}.parquet").is_file()
        assert (cut.inputs_digest, cut.labels_digest, cut.span_digests) == (
            whole.inputs_digest, whole.labels_digest, whole.span_digests,
        )  # fmt: skip
        assert rows_of(cut) == rows_of(whole)
        assert ids(cut) == ids(whole)


def test_an_error_of_another_process_is_this_one_s(tmp_path, monkeypatch, in_parts):
    encoded, labels = images(48)
    encoded[30] = b"no image"
    write_parquet(tmp_path / "all.parquet", encoded, labels)
    pq.write_table(pq.read_table(tmp_path / "all.parquet"), tmp_path / "source.parquet", row_group_size=20)
    monkeypatch.setattr(runtime, "cores", lambda: 2)
    with pytest.raises(InputError, match=r"source.parquet, row 30 \(path 30.png\), id train-000030: expected a PNG"):
        run(tmp_path / "out", tmp_path / "source.parquet")
    assert not list(tmp_path.glob("*out*"))


def killed(root: Path, first: int, step: int) -> int:
    """Run ingest_kills.py; returns the number of kills, all of which must have ended well."""
    command = [sys.executable, ingest_kills.__file__, str(root), str(first), str(step)]
    *wrong, kills = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    assert wrong == []
    return int(kills)


@pytest.fixture
def kills(tmp_path) -> Path:
    """A source, and below `start` its splits of another seed."""
    write_parquet(tmp_path / "source.parquet", *images(48))
    run(tmp_path / "start/transfer", tmp_path / "source.parquet")
    return tmp_path


def test_a_killed_ingest_leaves_nothing_that_could_be_taken_for_splits(kills):
    assert killed(kills, 0, 9) >= 5


@pytest.mark.soak
def test_killed_at_every_file_operation(kills):
    assert killed(kills, 0, 1) > 40


# ---------------------------------------------------------------- one data set, several files


def test_equal_rows_have_equal_digests_whatever_file_they_come_from(tmp_path):
    """Texts with quotes, line breaks and letters beyond ASCII; names in the metadata of one, in the rows of the others."""
    names = ["no", "yes", "ä"]
    texts = [f'say "{row}",\nand {chr(233 + row)}' for row in range(30)]
    labels = [row * row % 3 for row in range(30)]
    features = {"label": {"_type": "ClassLabel", "names": names}}
    table = pa.table({"text": texts, "label": labels})
    pq.write_table(
        table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})}), tmp_path / "x.parquet"
    )
    with (tmp_path / "x.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(
            [("text", "label"), *((text, names[label]) for text, label in zip(texts, labels, strict=True))]
        )
    lines = [json.dumps({"text": text, "label": names[label]}) for text, label in zip(texts, labels, strict=True)]
    (tmp_path / "x.jsonl").write_text("\n".join(lines))
    found = [run(tmp_path / ending, tmp_path / f"x.{ending}") for ending in ("parquet", "csv", "jsonl")]
    for splits in found[1:]:
        for name in ("train", "valid", "test"):
            assert splits[name].inputs_digest == found[0][name].inputs_digest
            assert splits[name].labels_digest == found[0][name].labels_digest
    assert sorted(text for split in found[0].values() for text in split.read_all()) == sorted(texts)


# ---------------------------------------------------------------- labels that are numbers in one source and names in another


def texts_of(split: Split) -> dict[str, str]:
    """By the text of each row, the name of its class; here both are equal."""
    return dict(zip(split.read_all().tolist(), [split.classes[label] for label in split.labels().tolist()], strict=True))


def labelled(path: Path, *labels: str | int) -> Path:
    """Texts that say their label, as CSV, JSONL or Parquet."""
    if path.suffix == ".csv":
        path.write_text("text,label\n" + "".join(f"{label} {row},{label}\n" for row, label in enumerate(labels)))
    elif path.suffix == ".jsonl":
        rows = [{"text": f"{label} {row}", "label": label} for row, label in enumerate(labels)]
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    else:
        table = {"text": [f"{label} {row}" for row, label in enumerate(labels)], "label": list(labels)}
        pq.write_table(pa.table(table), path)
    return path


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_a_number_is_the_name_that_it_is_in_the_training_split(tmp_path, ending):
    """In CSV the test split holds numbers alone, elsewhere they are numbers by type; none is a place among the names."""
    train = labelled(tmp_path / f"train.{ending}", *["1", "2", "x"] * 4)
    test = labelled(tmp_path / f"test.{ending}", *([1, 2] * 3))
    unknown = labelled(tmp_path / f"unknown.{ending}", 1, 0, 1)
    refuse(tmp_path, train, f"unknown.{ending}: expected the classes of train (1, 2, x), found 0", test=str(unknown))
    splits = run(tmp_path / "out", train, test=str(test))
    assert splits["test"].classes == ("1", "2", "x")
    for split in splits.values():
        assert all(text.split()[0] == name for text, name in texts_of(split).items())


def test_ratings_in_a_csv_are_names(tmp_path):
    refuse(tmp_path, labelled(tmp_path / "train.parquet", *[5, 1, 2] * 4), "no row has label 0", "write them as names")
    splits = run(tmp_path / "out", labelled(tmp_path / "train.csv", *[5, 1, 2, 3, 4] * 4), valid=5, test=5)
    assert splits["train"].classes == ("1", "2", "3", "4", "5")
    assert all(text.split()[0] == name for split in splits.values() for text, name in texts_of(split).items())


def test_numbers_in_a_csv_are_numbers_in_every_split(tmp_path):
    """A test split may lack classes, and an unlabelled transfer set has none."""
    train = labelled(tmp_path / "train.csv", *[0, 1, 2, 10, 9, 8, 7, 6, 5, 4, 3] * 2)
    more = labelled(tmp_path / "more.csv", "", "")
    splits = run(tmp_path / "out", train, test=str(labelled(tmp_path / "test.csv", 10, 2)), transfer_set=[str(more)])
    assert splits["test"].classes == tuple(map(str, range(11)))
    assert sorted(splits["test"].labels().tolist()) == [2, 10]
    names = run(tmp_path / "names", labelled(tmp_path / "names.csv", *"abba"), transfer_set=[str(more)])
    assert names["transfer"].labels().tolist() == [-1, -1]
