"""Showing: rows of a span are those that the policy makes of them, with partners out of the same span."""

import numpy as np
import pytest
import torch

from conftest import write_split as write_images
from pipeline.data.inputs.array import Arrays
from pipeline.data.inputs.text import Texts
from pipeline.data.splitfile import Rows, write_split
from pipeline.data.splits import Split
from pipeline.data.views import Policy
from pipeline.models.encoding import encode
from pipeline.models.showing import in_views, span_in_views, texts_in_views
from pipeline.models.zoo.bag import bag

COUNT, SPAN = 21, 8
PIXELS = np.random.default_rng(0).integers(0, 256, (COUNT, 1, 5, 5), dtype=np.uint8)
WORDS = [f"text {row} of so many words as {row * row}" for row in range(COUNT)]


@pytest.fixture
def images(tmp_path, monkeypatch) -> Split:
    monkeypatch.setattr("pipeline.data.splits.span_rows", lambda classes, row_bytes: SPAN)
    return write_images(tmp_path / "images/train.parquet", PIXELS, np.arange(COUNT) % 3, 3)


@pytest.fixture
def texts(tmp_path) -> Split:
    rows = Rows.of([str(row) for row in range(COUNT)], [text.encode() for text in WORDS], np.arange(COUNT) % 3)
    write_split(tmp_path / "t.parquet", [rows], role="train", classes=["0", "1", "2"], inputs=Texts(), span=SPAN)
    return Split.open(tmp_path / "t.parquet")


def whole(policy: Policy, views: np.ndarray) -> torch.Tensor:
    """All rows in views, by the policy itself."""
    rows, pixels = np.arange(COUNT), torch.from_numpy(PIXELS)
    others, _ = policy.partners(rows, views, SPAN, COUNT, (1, 5, 5))
    return policy.apply(pixels, rows, views, (others, pixels[others]))


@pytest.mark.parametrize("text", ["none", "shift(2) | flip()", "mixup(1)", "shift(1) | cutmix(0.7) | flip()"])
def test_rows_of_every_span_in_views(images, text):
    policy, views = Policy.parse(text, 3), np.arange(COUNT) % 4
    expected = whole(policy, views)
    for span, (start, stop) in enumerate(images.spans()):
        held = torch.from_numpy(images.read(span))
        every = in_views(held, images, span, slice(0, stop - start), views[start:stop], policy)
        assert torch.equal(every, expected[start:stop])
        wanted = np.arange(stop - start)[::-2].copy()
        some = in_views(held, images, span, wanted, views[start:stop][wanted], policy)
        assert torch.equal(some, expected[start:stop][wanted])
        assert torch.equal(span_in_views(torch.nn.Identity(), images, span, wanted, views[start:stop][wanted], policy), some)


def test_partners_are_of_the_same_span(images):
    """The last span has five rows; each is mixed with one of them."""
    policy = Policy.parse("mixup(1)", 3)
    seen = set()
    for view in range(1, 60):
        others, _ = policy.partners(np.arange(16, 21), np.full(5, view), SPAN, COUNT, (1, 5, 5))
        seen |= set(others.tolist())
    assert seen == set(range(16, 21))


def test_arrays_are_shown_by_their_own_steps(tmp_path):
    rows = np.random.default_rng(0).normal(size=(COUNT, 4, 3)).astype(np.float32)
    held = Rows.of([str(row) for row in range(COUNT)], [row.tobytes() for row in rows], np.arange(COUNT) % 3)
    facts = Arrays("float32", (4, 3))
    write_split(tmp_path / "a.parquet", [held], role="train", classes=["0", "1", "2"], inputs=facts, span=SPAN)
    split, policy = Split.open(tmp_path / "a.parquet"), Policy.parse("noise(0.5) | mask(2, axis=0)", 3)
    expected = policy.apply(torch.from_numpy(rows), np.arange(COUNT), np.full(COUNT, 2))
    found = [span_in_views(torch.nn.Identity(), split, span, np.arange(stop - start), np.full(stop - start, 2), policy)
             for span, (start, stop) in enumerate(split.spans())]  # fmt: skip
    assert torch.equal(torch.cat(found), expected)


def test_texts_are_rewritten_and_then_encoded(texts):
    net, policy, views = bag((), 3, 50, characters=[], width=4, length=8), Policy.parse("drop(3)", 3), np.arange(COUNT) % 3
    said = policy.rewrite(WORDS, np.arange(COUNT), views)
    assert sum(one != other for one, other in zip(said, WORDS, strict=True)) > 5
    expected = encode(net, said)
    assert torch.equal(texts_in_views(net, np.array(WORDS, object), np.arange(COUNT), views, policy), expected)
    for span, (start, stop) in enumerate(texts.spans()):
        wanted = np.arange(stop - start)[::2]
        found = span_in_views(net, texts, span, wanted, views[start:stop][wanted], policy)
        assert torch.equal(found, expected[start:stop][wanted])
