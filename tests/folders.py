"""Folders as `save_pretrained` of transformers writes them, changed, and what the nets out of them give."""

import json

import numpy as np
import pytest
import safetensors.torch
import torch

import foreign
from foreign import WORDS
from pipeline.base.errors import InputError
from pipeline.data.inputs.image import Images
from pipeline.data.inputs.text import Texts
from pipeline.models.build import assemble, parse_model
from pipeline.models.encoding import tensor
from pipeline.models.predict import predict

hf = pytest.importorskip("transformers", reason="transformers is not installed")
SOME = ("card", "where is my card ?", "the money is late", "lost money")
SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "num_labels": 3}
WORDY = {"vocab_size": 5 + len(WORDS), "initializer_range": 0.5}


def spec(folder, settings=""):
    return f"transformers({str(folder)!r}{settings})"


def net_of(folder, settings="", inputs=None):
    """The net that a spec with these settings makes; of texts where no kind of images is given."""
    return assemble(parse_model(spec(folder, settings)), inputs or Texts(), 3)


def refused(message, folder, settings="", inputs=None):
    with pytest.raises(InputError, match=message):
        net_of(folder, settings, inputs)


def write(folder, name, facts):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(facts))


def changed(folder, name, **facts):
    """Change facts in a JSON file; those that are None go."""
    found = json.loads((folder / name).read_text()) | facts
    write(folder, name, {key: value for key, value in found.items() if value is not None})


def logits_of(net, texts=SOME):
    return predict(net, tensor(net, np.array(texts, object)), tile=8)


def alone(model, folder, texts=SOME):
    """The library's own logits, text by text: without padding."""
    tokenize = hf.AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        return np.stack([model(torch.tensor([tokenize(text)["input_ids"]])).logits[0].numpy() for text in texts])


def require_close(found, expected):
    assert found.shape == expected.shape
    assert np.ptp(expected) > 0
    assert np.abs(found - expected).max() <= 1e-5 * np.ptp(expected)


def saved(folder, model):
    """A model in a folder, with the tokenizer of WORDS if it is of texts."""
    foreign.tokenizer(folder)
    model.eval().save_pretrained(folder)
    return model


def changed_weights(folder, change):
    path = folder / "model.safetensors"
    safetensors.torch.save_file(change(safetensors.torch.load_file(path)), path, metadata={"format": "pt"})


def resnet(folder, size):
    torch.manual_seed(0)
    config = hf.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=3)
    model = hf.ResNetForImageClassification(config).eval()
    model.save_pretrained(folder)
    facts = {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": size}, "crop_pct": 0.875}
    write(folder, "preprocessor_config.json", facts)
    return model


def processed(model, folder, rows):
    """The library's own logits of pixels (n, 3, height, width), which it does not resize."""
    processor = hf.AutoImageProcessor.from_pretrained(folder)
    pixels = processor(list(rows.permute(0, 2, 3, 1).numpy()), return_tensors="pt", do_resize=False, do_center_crop=False)
    with torch.no_grad():
        return model(**pixels).logits


def pictured(size):
    return Images("RGB", (3, size, size))
