"""Rows: held or read span by span, a net is given the same pieces, in the same layout in memory."""

import numpy as np
import pytest
import torch
from torch import nn

from conftest import png
from pipeline.data.inputs.array import Arrays
from pipeline.data.inputs.image import Images
from pipeline.data.inputs.text import Texts
from pipeline.data.splitfile import Rows as Stored
from pipeline.data.splitfile import write_split
from pipeline.data.splits import Split
from pipeline.models.build import build, parse_model
from pipeline.models.encoding import encode
from pipeline.models.predict import predict
from pipeline.models.rows import Rows
from pipeline.models.zoo.bag import bag

CPU = torch.device("cpu")
COUNT, SPAN = 23, 4
GENERATOR = np.random.default_rng(0)
PIXELS = GENERATOR.integers(0, 256, (COUNT, 6, 5, 3), dtype=np.uint8)
NUMBERS = GENERATOR.normal(size=(COUNT, 2, 3)).astype(np.float32)
WORDS = [f"text {row} of so many words as {row * row}" for row in range(COUNT)]
STORED = {
    "image": ([png(picture) for picture in PIXELS], Images("RGB", (3, 6, 5))),
    "array": ([row.tobytes() for row in NUMBERS], Arrays("float32", (2, 3))),
    "text": ([text.encode() for text in WORDS], Texts()),
}
ROW_BYTES = {"image": 3 * 6 * 5, "array": 2 * 3 * 4, "text": 8 * 4}


@pytest.fixture(params=STORED)
def split(request, tmp_path) -> Split:
    stored, facts = STORED[request.param]
    rows = Stored.of([str(row) for row in range(COUNT)], stored, np.arange(COUNT) % 3)
    write_split(tmp_path / "valid.parquet", [rows], role="valid", classes=["0", "1", "2"], inputs=facts, span=SPAN)
    return Split.open(tmp_path / "valid.parquet")


def net_for(split: Split) -> nn.Module:
    torch.manual_seed(0)
    if split.inputs.kind == "text":
        return bag((), 3, 50, characters=[], width=4, length=8)
    text = "cnn(channels=[8, 8])" if split.inputs.kind == "image" else "mlp(hidden=[9])"
    return build(parse_model(text), split.inputs, 3)


def expected(split: Split, net: nn.Module) -> torch.Tensor:
    if split.inputs.kind == "text":
        return encode(net, WORDS)
    return torch.from_numpy(PIXELS.transpose(0, 3, 1, 2) if split.inputs.kind == "image" else NUMBERS)


@pytest.mark.parametrize("size", [1, 3, 4, 8, 9, 23, 40])
def test_pieces_begin_at_multiples_of_their_size_and_cross_spans(split, size):
    net = net_for(split)
    whole = expected(split, net)
    for most in (0, 10**9):
        pieces = list(Rows(split, CPU, most).of(net).split(size))
        assert [len(piece) for piece in pieces] == [size] * (COUNT // size) + [COUNT % size] * (COUNT % size > 0)
        assert torch.equal(torch.cat(pieces), whole)


@pytest.mark.parametrize("tile", [3, 8, 512])
def test_logits_are_the_same_to_the_last_bit(split, tile):
    net = net_for(split)
    held, read = (predict(net, Rows(split, CPU, most).of(net), tile=tile) for most in (10**9, 0))
    assert held.tobytes() == read.tobytes()
    assert held.tobytes() == predict(net, next(Rows(split, CPU, 10**9).of(net).split(COUNT)), tile=tile).tobytes()


def test_what_is_held(split, monkeypatch):
    """Rows that take just the memory that there is, once for all passes; one byte less, and they are read in each."""
    net, reads = net_for(split), []
    read = Split._read
    monkeypatch.setattr(Split, "_read", lambda split, span: reads.append(span) or read(split, span))
    for missing, passes in ((0, 1), (1, 2)):
        rows = Rows(split, CPU, COUNT * ROW_BYTES[split.inputs.kind] - missing).of(net)
        for _ in range(2):
            list(rows.split(5))
        assert len(rows) == COUNT
        assert reads == list(range(6)) * passes
        reads.clear()


@pytest.mark.parametrize(("first", "end", "spans"), [(0, 9, [0, 1, 2]), (9, 12, [2]), (12, 23, [3, 4, 5]), (20, 40, [5])])
def test_some_rows_are_read_alone(split, first, end, spans, monkeypatch):
    net, reads = net_for(split), []
    wanted = expected(split, net)[first:end]
    whole = predict(net, Rows(split, CPU, 0).of(net), tile=3)
    read = Split._read
    monkeypatch.setattr(Split, "_read", lambda split, span: reads.append(span) or read(split, span))
    room = len(wanted) * ROW_BYTES[split.inputs.kind]  # for these rows, and no others
    for most, passes in ((room, 1), (room - 1, 2)):
        rows = Rows(split, CPU, most).of(net)[first:end]
        for _ in range(2):
            assert torch.equal(torch.cat(list(rows.split(5))), wanted)
        assert len(rows) == len(wanted)
        assert reads == spans * passes
        if first % 3 == 0:
            assert predict(net, rows, tile=3).tobytes() == whole[first:end].tobytes()
        reads.clear()
    assert torch.equal(torch.cat(list(rows[1:][:2].split(1))), wanted[1:3])


def test_numbers_are_held_once_for_all_nets_and_texts_by_each(split):
    rows = Rows(split, CPU, 10**9)
    assert (rows.of(net_for(split)) is rows) == (split.inputs.kind != "text")
