"""Knowledge, from its identity and back, and how far it says that its logits are from the teacher's."""

import numpy as np
import pytest

from pipeline.cache.knowledge.features import FeatureArray
from pipeline.cache.knowledge.head import Head
from pipeline.cache.knowledge.hidden import Hidden
from pipeline.cache.knowledge.knowledge import Knowledge
from pipeline.cache.layout import Unholdable

FEATURES = {
    text: FeatureArray.plan(text, shape, "float16", 64) for text, shape in {"layer1": (2, 3), "layer2 | pool": (5,)}.items()
}
HEAD = Head(np.eye(3, 4, dtype=np.float32), np.zeros(3, np.float32), np.ones(4, np.float32))
KINDS = [
    Knowledge.of_logits(3, "float16", 64),
    Knowledge(Hidden.plan(4, "float32", 64, "7", "rows")),
    Knowledge(Hidden.plan(4, "int8", 64, "7", "rows"), FEATURES),
]


@pytest.mark.parametrize("kept", KINDS)
def test_an_identity_says_all_of_it(kept):
    identity = {"classes": ["x", "y", "z"], "layout": kept.layout.to_dict(), "knowledge": kept.to_dict()}
    assert Knowledge.of(identity).to_dict() == kept.to_dict()
    assert {name: (each.shape, each.dtype, each.chunk) for name, each in Knowledge.of(identity).arrays.items()} == {
        name: (each.shape, each.dtype, each.chunk) for name, each in kept.arrays.items()
    }


def test_former_formats_kept_logits():
    kept = Knowledge.of_logits(3, "float32", 64)
    assert Knowledge.of({"classes": ["x", "y", "z"], "layout": kept.layout.to_dict()}) == kept


def test_the_distance_is_that_of_the_softened_distributions():
    """Of 64 rows out of 128, evenly spread; written another way, with probabilities."""
    logits = np.random.default_rng(0).normal(size=(128, 3)).astype(np.float32) * 4
    stored = KINDS[0].stored(None, logits)["logits"]
    rows = np.unique(np.linspace(0, 127, 64).astype(int))
    for temperature, said in zip((1, 4, 20), stored.kl, strict=True):
        p, q = (np.exp(each[rows].astype(float) / temperature) for each in (logits, stored.block))
        p, q = p / p.sum(1, keepdims=True), q / q.sum(1, keepdims=True)
        assert said == pytest.approx((p * np.log(p / q)).sum(1).mean(), rel=0.01, abs=1e-15)
    assert KINDS[0].of_logits(3, "float32", 64).stored(None, logits)["logits"].kl is None


def test_a_number_that_cannot_be_held_is_of_its_array():
    hidden, logits = np.ones((2, 4), np.float32), np.ones((2, 3), np.float32)
    features = [np.ones((2, 2, 3), np.float16), np.array([[1, 2, 3, 4, np.inf]] * 2, np.float16)]
    with pytest.raises(Unholdable) as caught:
        KINDS[2].stored(HEAD, logits, hidden, features)
    assert (caught.value.array, caught.value.row, caught.value.column) == ("feature.layer2-pool", 0, 4)
