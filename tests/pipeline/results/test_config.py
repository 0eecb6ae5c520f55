"""What config.json says of a net, most of all how it encodes texts."""

import numpy as np
import pytest
import torch

from conftest import write_teacher, write_texts
from pipeline.base import files
from pipeline.base.errors import InputError
from pipeline.data.splits import open_splits
from pipeline.models.build import build, parse_model
from pipeline.models.modelfile import ModelFile
from pipeline.results.config import config
from softcache_export import encoded

BAG = "bag(width=4, features=50, ngrams=1, length=6)"


def said(folder, net: torch.nn.Module) -> dict:
    """The content of config.json for a net of texts."""
    split = open_splits(write_texts(folder) / "transfer", ["train"])["train"]
    write_teacher(folder / "teachers/t", net, split, model=BAG)
    model = ModelFile.teacher(folder / "teachers/t")
    return config(model, model.nets[0], net, "logits", {"x": b"content"})


class Plain(torch.nn.Module):
    """A net of a user's own: the length of a text."""

    def __init__(self, encoding=None):
        super().__init__()
        self.layer, self.encoding = torch.nn.Linear(1, 3), encoding

    def encode(self, texts):
        return np.array([[len(text)] for text in texts], np.float32)

    def forward(self, lengths):
        return self.layer(lengths)


def test_words_are_encoded_as_the_net_does(tmp_path):
    net = build(parse_model(BAG), open_splits(write_texts(tmp_path) / "transfer", ["train"])["train"].inputs, 3)
    (tmp_path / "more").mkdir()
    found = said(tmp_path / "more", net)
    assert found["inputs"] == {"kind": "text", "shape": [6], "dtype": "int32"}
    texts = ["To be, or not", "", "Ärger"]
    np.testing.assert_array_equal(encoded(found["encoding"], texts), net.encode(texts))
    assert found["id2label"] == {"0": "0", "1": "1", "2": "2"}
    assert found["files"] == {"x": files.sha256(b"content")}


@pytest.mark.parametrize("encoding", [None, "words", {"name": "of my own"}, {}])
def test_an_encoding_of_a_users_own_is_not_carried(tmp_path, encoding):
    found = said(tmp_path, Plain(encoding))
    assert found["encoding"] is None
    assert found["inputs"] == {"kind": "text", "shape": [1], "dtype": "float32"}


def test_an_encoding_that_is_not_what_the_net_does_is_refused(tmp_path):
    wrong = {"name": "words", "features": 7, "ngrams": 1, "characters": [], "length": 1}
    with pytest.raises(InputError, match="net Plain: expected a property `encoding` that says what its `encode` does"):
        said(tmp_path, Plain(wrong))
