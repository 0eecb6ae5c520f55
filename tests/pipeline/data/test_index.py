"""Indices: ids and labels of a source in order, what rows are called, and sources that change between two readings."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest

from pipeline.base.errors import InputError
from pipeline.data.index import Index, id_digests, names, place
from pipeline.data.inputs.form import Form
from pipeline.data.sources.source import Chunk, Label, Source, SourcePart


def source(*chunks: tuple[Sequence[str] | None, Sequence[Label]], classes: tuple[str, ...] | None = None) -> Source:
    """Chunks of ids and labels; each input is the number of its row in its chunk."""

    def read(with_inputs: bool) -> Iterator[Chunk]:
        for number, (ids, labels) in enumerate(chunks):
            inputs = [str(row).encode() for row in range(len(labels))] if with_inputs else []
            yield Chunk(ids, inputs, labels, lambda row, number=number: f"chunk {number}, row {row}")

    return Source(Form("text"), read, (), 0, classes, text="it")


def test_labels_and_digests_of_ids_in_order():
    index = Index.read(source((["a", "é"], [2, 0]), (["c"], [1])), "train")
    assert index.labels.tolist() == [2, 0, 1]
    assert index.classes is None
    wanted = [hashlib.blake2b(name.encode(), digest_size=16).digest() for name in ("a", "é", "c")]
    assert index.ids.dtype.itemsize == 16
    assert index.ids.tobytes() == b"".join(wanted)
    assert len(index) == 3


def test_rows_without_ids_are_numbered_on_from_the_first():
    """From one source to the next of a split, and from one chunk to the next."""
    index = Index.read(source((None, [0, 1]), (None, [0])), "test", first=999_999)
    wanted = ["test-999999", "test-1000000", "test-1000001"]
    assert (index.ids == id_digests(wanted)).all()
    assert [index.name(row) for row in range(3)] == wanted


def test_an_unknown_label_is_minus_one():
    assert Index.read(source((None, [2, None]), (None, [None])), "transfer").labels.tolist() == [2, -1, -1]
    assert Index.read(source((None, [None])), "transfer").classes is None


@pytest.mark.parametrize(
    ("labels", "dtype"),
    [
        ([0, 127], "int8"),
        ([None, 127], "int8"),
        ([128], "int16"),
        ([32767, 1], "int16"),
        ([1, 32768], "int32"),
        ([2**31], "int64"),
    ],
)
def test_labels_take_as_little_memory_as_they_can(labels, dtype):
    """Chunk by chunk; together they take what the largest needs."""
    index = Index.read(source((None, [0, None]), (None, labels)), "train")
    assert (index.labels.dtype, index.labels.tolist()) == (dtype, [0, -1, *(-1 if each is None else each for each in labels)])
    names = Index.read(source((None, [f"{number:03d}" for number in range(200)])), "train")
    assert (names.labels.dtype, names.renamed(names.classes[:100]).labels.dtype) == ("int16", "int8")


def test_names_of_classes_are_sorted_whenever_they_turn_up():
    index = Index.read(source((None, ["dog", None]), (None, ["ant", "dog", "cat"])), "train")
    assert index.classes == ("ant", "cat", "dog")
    assert index.labels.tolist() == [2, -1, 0, 2, 1]


def test_classes_that_a_source_declares_keep_their_order():
    index = Index.read(source((None, ["dog", "ant"]), classes=("dog", "cat", "ant")), "train")
    assert (index.classes, index.labels.tolist()) == (("dog", "cat", "ant"), [0, 2])
    with pytest.raises(InputError, match="chunk 1, row 1, id train-000002: expected a class of dog, cat, found 'cow'"):
        Index.read(source((None, ["dog"]), (None, ["cat", "cow"]), classes=("dog", "cat")), "train")


@pytest.mark.parametrize("chunks", [[], [(None, [])]])
def test_a_source_without_rows_is_refused(chunks):
    with pytest.raises(InputError, match="valid source it: expected rows, found none"):
        Index.read(source(*chunks), "valid")


def test_other_class_names_give_other_labels():
    index = Index.read(source((None, ["dog", None, "ant"])), "test")
    assert index.renamed(("cat", "dog", "ant")).labels.tolist() == [1, -1, 2]
    assert index.renamed(("cat", "dog")).labels.tolist() == [1, -1, 2], "ant is none of them, and is refused later"
    plain = Index.read(source((None, [1, 0])), "test")
    assert plain.renamed(("cat", "dog")).labels.tolist() == [1, 0]
    assert plain.renamed(("cat", "dog")).classes == ("cat", "dog")


def test_chunks_come_with_the_number_of_their_first_row_and_their_ids():
    index = Index.read(source((["a", "b"], [0, 1]), (["c"], [0])), "train")
    [part] = index.parts
    found = [(start, list(chunk.inputs), list(ids)) for start, chunk, ids in part.read()]
    assert found == [(0, [b"0", b"1"], ["a", "b"]), (2, [b"0"], ["c"])]


def test_parts_are_read_by_themselves():
    """Ids that are numbers go on from one to the next, and each is compared with what the index saw of it alone."""
    pieces = [(None, [0, 1]), (None, [2]), (None, [1, 0])]
    whole = source(*pieces)
    parts = tuple(SourcePart(sum(len(labels) for _, labels in some), source(*some).chunks) for some in (pieces[:2], pieces[2:]))
    index = Index.read(replace(whole, parts=parts), "train", first=7)
    assert [(part.start, part.stop) for part in index.parts] == [(0, 3), (3, 5)]
    assert [list(ids) for _, _, ids in index.parts[1].read()] == [["train-000010", "train-000011"]]
    assert [start for start, _, _ in index.parts[0].read()] == [0, 2]
    with pytest.raises(InputError, match="expected the same rows all the time"):
        list(replace(index.parts[0], chunks=parts[1].chunks).read())
    with pytest.raises(InputError, match="expected the same rows all the time"):
        Index.read(replace(whole, parts=parts[:1]), "train")


CHANGES = {
    "fewer": [(["a", "b"], [0, 1])],
    "more": [(["a", "b"], [0, 1]), (["c", "d"], [0, 0])],
    "another": [(["a", "b"], [0, 1]), (["d"], [0])],
    "another order": [(["b", "a"], [0, 1]), (["c"], [0])],
    "other borders": [(["a"], [0]), (["b", "c"], [1, 0])],
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_source_that_has_changed_is_noticed(change):
    """Before ingest is done with it; chunks may be cut elsewhere."""
    index = Index.read(source((["a", "b"], [0, 1]), (["c"], [0])), "train")
    changed = replace(index.parts[0], chunks=source(*CHANGES[change]).chunks)
    if change == "other borders":
        assert [start for start, _, _ in changed.read()] == [0, 1]
        return
    with pytest.raises(InputError, match="train source it: expected the same rows all the time, found others"):
        list(changed.read())


def test_what_a_row_is_called():
    """Its id is said where its place does not hold it."""
    index = Index.read(source((["a", "b"], [0, 1]), (["row 0"], [0])), "train")
    assert [index.place(row) for row in range(3)] == ["chunk 0, row 0, id a", "chunk 0, row 1, id b", "chunk 1, row 0"]
    with pytest.raises(InputError, match="expected the same rows all the time"):
        index.place(3)
    chunk = Chunk(None, (), [0], lambda row: f"row {row}")
    assert (list(names(chunk, "valid", 4)), place(chunk, 0, "valid-000004")) == (["valid-000004"], "row 0, id valid-000004")


def test_without_ids_only_labels_take_memory():
    index = Index.read(source((["a", "b"], [0, 1])), "train")
    slim = index.without_ids()
    assert (slim.ids.nbytes, slim.labels.tolist(), len(slim)) == (0, [0, 1], 2)
    assert [list(ids) for _, _, ids in slim.parts[0].read()] == [["a", "b"]]
    with pytest.raises(InputError, match="expected the same rows"):
        list(replace(slim.parts[0], chunks=source((["a", "x"], [0, 1])).chunks).read())


def test_equal_digests_are_of_equal_ids():
    ids = [str(number) for number in range(2000)]
    assert len(np.unique(id_digests(ids))) == 2000
    assert (id_digests(ids)[7:9] == id_digests(ids[7:9])).all()
