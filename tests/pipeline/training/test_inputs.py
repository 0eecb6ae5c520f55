"""Inputs: rows of a split as a net takes them, untouched or in a view."""

import numpy as np
import pytest
import torch

from conftest import png
from pipeline.data.inputs.array import Arrays
from pipeline.data.inputs.image import Images
from pipeline.data.inputs.kinds import Inputs as Kind
from pipeline.data.inputs.text import Texts
from pipeline.data.splitfile import Rows, write_split
from pipeline.data.splits import Split
from pipeline.data.views import Policy
from pipeline.models.encoding import encode
from pipeline.models.zoo.bag import bag
from pipeline.training.inputs import Encoded, Inputs, NoInputs, Numbers, inputs_of

COUNT, SPAN = 11, 4
NUMBERS = np.random.default_rng(0).normal(size=(COUNT, 2, 3)).astype(np.float32)
WORDS = [f"text {row} of so many words as {row * row}" for row in range(COUNT)]
PIXELS = np.random.default_rng(0).integers(0, 256, (COUNT, 4, 5), dtype=np.uint8)
STORED = {
    "image": ([png(picture) for picture in PIXELS], Images("L", (1, 4, 5))),
    "array": ([row.tobytes() for row in NUMBERS], Arrays("float32", (2, 3))),
    "text": ([text.encode() for text in WORDS], Texts()),
}
NONE, DROP = Policy.parse("none", 0), Policy.parse("drop(3)", 3)
MEMBERS = [name for name in vars(Inputs) if not name.startswith("_")]


def split(folder, kind: str) -> Split:
    stored, facts = STORED[kind]
    held: Kind = facts
    rows = Rows.of([str(row) for row in range(COUNT)], stored, np.arange(COUNT) % 3)
    write_split(folder / f"{kind}.parquet", [rows], role="train", classes=["0", "1", "2"], inputs=held, span=SPAN)
    return Split.open(folder / f"{kind}.parquet")


def net() -> torch.nn.Module:
    return bag((), 3, 50, characters=[], width=4, length=8)


def test_each_has_what_the_protocol_asks_for(tmp_path):
    assert len(MEMBERS) == 8
    made = [
        Numbers(split(tmp_path, "array")),
        NoInputs(COUNT, SPAN, ["0", "1", "2"]),
        Encoded(split(tmp_path, "text"), DROP, net()),
    ]
    for inputs in made:
        assert all(hasattr(inputs, name) for name in MEMBERS)
        assert (inputs.rows, inputs.span, list(inputs.classes)) == (COUNT, SPAN, ["0", "1", "2"])
        [found] = inputs.read(2, None, [np.ones(3, np.int64)])
        assert (found.shape, found.dtype) == ((3, *inputs.shape), inputs.dtype)
        assert (inputs.example(7).shape, inputs.example(7).dtype) == ((7, *inputs.shape), inputs.dtype)


@pytest.mark.parametrize(("kind", "rows"), [("image", PIXELS[:, None]), ("array", NUMBERS)])
def test_numbers_are_read_untouched_in_every_view(tmp_path, kind, rows):
    inputs = inputs_of(split(tmp_path, kind), Policy.parse("none", 0))
    assert isinstance(inputs, Numbers)
    assert not inputs.replays
    for found in inputs.read(1, None, [np.zeros(4, np.int64), np.arange(4)]):
        assert (found.numpy() == rows[4:8]).all()
    [found] = inputs.read(2, np.array([2, 0]), [np.full(2, 5)])
    assert (found.numpy() == rows[[10, 8]]).all()


def test_texts_are_encoded_in_views_and_read_once(tmp_path, monkeypatch):
    model, reads, read = net(), [], Split._read
    inputs = inputs_of(split(tmp_path, "text"), DROP, model)
    monkeypatch.setattr(Split, "_read", lambda split, span: reads.append(span) or read(split, span))
    expected = [encode(model, DROP.rewrite(WORDS, np.arange(COUNT), np.full(COUNT, view))) for view in range(3)]
    found = list(inputs.read(1, None, [np.full(4, view) for view in range(3)]))
    assert all(torch.equal(one, wanted[4:8]) for one, wanted in zip(found, expected, strict=True))
    [found] = inputs.read(2, np.array([2, 0]), [np.array([1, 2])])
    assert torch.equal(found, torch.stack([expected[1][10], expected[2][8]]))
    assert reads == [1, 2]
    assert (inputs.shape, inputs.dtype) == ((8,), torch.int32)


def test_texts_are_in_views_where_the_policy_makes_some(tmp_path):
    """Without, one encoding serves all epochs."""
    held = split(tmp_path, "text")
    assert [inputs_of(held, policy, net()).replays for policy in (DROP, NONE)] == [True, False]


def test_without_a_net_a_text_counts_as_its_bytes_and_is_not_read(tmp_path):
    """A lesson plans memory before any net is built."""
    inputs = inputs_of(split(tmp_path, "text"), DROP)
    assert (inputs.shape, inputs.dtype) == ((256,), torch.uint8)
    with pytest.raises(ValueError, match="expected a net"):
        list(inputs.read(0, None, [np.zeros(4, np.int64)]))


def test_no_inputs_take_no_memory():
    inputs = NoInputs(COUNT, SPAN, ["a", "b"])
    none = [np.zeros(1, np.int64)] * 2
    assert [[found.shape for found in inputs.read(span, None, none)] for span in (0, 2)] == [[(4, 0)] * 2, [(3, 0)] * 2]
    assert [found.shape for found in inputs.read(0, np.array([1]), none)] == [(1, 0)] * 2
