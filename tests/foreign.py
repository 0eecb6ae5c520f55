"""Trained nets of other libraries, small ones with random weights, and splits that they can be run on."""

import importlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from conftest import png, tree
from pipeline.base.errors import InputError
from pipeline.cache.adopt import adopt
from pipeline.cache.capture import capture
from pipeline.cache.layout import SPLITS
from pipeline.cache.reader import Cache
from pipeline.cache.settings import Keep
from pipeline.data import splitfile
from pipeline.data.inputs.image import Images
from pipeline.data.inputs.text import Texts
from pipeline.data.settings import Views
from pipeline.data.splitfile import Rows
from pipeline.data.splits import bind_splits, open_splits

CPU = torch.device("cpu")
COUNTS = {"train": 11, "valid": 6, "test": 3}
CLASSES = ("cat", "dog", "eel")
WORDS = ("card", "lost", "money", "where", "is", "my", "the", "?", "transfer", "late")


def pictures(folder: Path, size: int, *, channels: int = 3) -> Path:
    """Splits of random pictures in three classes below `folder`/transfer, in spans of eight rows."""
    generator = np.random.default_rng(0)
    inputs = Images("RGB" if channels == 3 else "L", (channels, size, size))
    for name, count in COUNTS.items():
        pixels = generator.integers(0, 256, (count, size, size, channels), dtype=np.uint8).squeeze(-1 if channels == 1 else ())
        _write(folder, name, [png(picture) for picture in pixels], inputs)
    bind_splits(folder / "transfer", list(COUNTS))
    return folder


def sentences(folder: Path) -> Path:
    """Splits of short sentences of WORDS, likewise."""
    generator = np.random.default_rng(0)
    for name, count in COUNTS.items():
        texts = [" ".join(generator.choice(WORDS, 2 + row % 5)) for row in range(count)]
        _write(folder, name, [text.encode() for text in texts], Texts())
    bind_splits(folder / "transfer", list(COUNTS))
    return folder


def adopted(folder: Path, model: str, weights: Path | None = None, classes=None, name: str = "big"):
    """Adopt a teacher into `folder`/teachers."""
    return adopt(
        model=model, weights=None if weights is None else Path(weights), classes=classes, splits=folder / "transfer",
        out=folder / "teachers" / name, device=CPU,
    )  # fmt: skip


def refused(tmp_path, message, *args, error=InputError):
    """Adopting fails with this message, and nothing is written."""
    before = tree(tmp_path)
    with pytest.raises(error, match=message):
        adopted(tmp_path, *args)
    assert tree(tmp_path) == before


def captured(folder: Path, name: str = "big", **kept) -> dict[str, np.ndarray]:
    """Capture a teacher, and give the logits in its cache: (rows, classes) of each split."""
    capture(
        teacher=folder / "teachers" / name, splits=folder / "transfer", views=Views(), keep=Keep(tile=4, **kept),
        work=folder / "work", out=folder / "caches" / name, provenance=folder / "provenance.json", device=CPU,
    )  # fmt: skip
    cache = Cache.open(folder / "caches" / name)
    records = cache.records
    return {split: np.concatenate([cache.span(record) for record in records if record.split == split]) for split in SPLITS}


def require_equal(folder: Path, forward, name: str = "big", **kept) -> dict[str, np.ndarray]:
    """Compare all cached logits with the library's own; within 1e-5 of their range.

    forward: from rows as a split has them, uint8 pixels (n, channels, height, width) or texts, to logits (n, classes).
    """
    found = captured(folder, name, **kept)
    opened = open_splits(folder / "transfer", ("transfer", "valid", "test"))
    for split, logits in found.items():
        rows = opened[split].read_all()
        with torch.no_grad():
            expected = np.asarray(forward(rows.tolist() if rows.dtype == object else torch.from_numpy(rows)))
        assert logits.shape == expected.shape
        assert np.abs(logits - expected).max() <= 1e-5 * np.ptp(expected)
        assert np.ptp(expected) > 0
    return found


def library(name: str):
    """A library that the main environment lacks; where it must be there, as in `make test-zoo`, a missing one is a failure."""
    if "SOFTCACHE_ZOO" in os.environ:
        return importlib.import_module(name)
    return pytest.importorskip(name, reason=f"{name} is not installed; `make test-zoo` has it", exc_type=Exception)


def stirred(net: torch.nn.Module) -> torch.nn.Module:
    """The net in evaluation mode, with weights and statistics that are not those of the start."""
    torch.manual_seed(5)
    with torch.no_grad():
        for tensor in net.state_dict().values():
            tensor += tensor.abs().mean() * torch.rand(tensor.shape) if tensor.is_floating_point() else 0
    return net.eval()


def image_classifier(folder: Path, *, size: int = 32, labels=CLASSES) -> torch.nn.Module:
    """A vision transformer of two layers, as save_pretrained writes it, with the configuration of its preprocessing."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    torch.manual_seed(1)
    config = transformers.ViTConfig(
        image_size=size, patch_size=8, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        id2label=dict(enumerate(labels)), label2id={name: index for index, name in enumerate(labels)}, initializer_range=0.5,
    )  # fmt: skip
    model = transformers.ViTForImageClassification(config).eval()
    model.save_pretrained(folder)
    facts = {"do_normalize": True, "image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}
    facts["size"] = {"height": size, "width": size}
    (folder / "preprocessor_config.json").write_text(json.dumps(facts))
    return model


def tokenizer(folder: Path, words=WORDS):
    """A tokenizer of some words, as save_pretrained writes it."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = folder.parent / "vocab.txt"
    vocabulary.write_text("\n".join(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words)) + "\n")
    found = transformers.BertTokenizer(str(vocabulary), model_max_length=12)
    found.save_pretrained(folder)
    return found


def _bert(labels):
    import transformers

    return transformers.BertConfig(
        vocab_size=5 + len(WORDS), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=16, id2label=dict(enumerate(labels)), initializer_range=0.5,
        label2id={name: index for index, name in enumerate(labels)},
    )  # fmt: skip


def text_classifier(folder: Path, *, labels=CLASSES) -> torch.nn.Module:
    """A BERT of two layers, likewise, with its tokenizer."""
    return _saved_bert(folder, "BertForSequenceClassification", labels, seed=2)


def encoder(folder: Path) -> torch.nn.Module:
    """A BERT of two layers without a head, likewise."""
    return _saved_bert(folder, "BertModel", CLASSES, seed=3)


def _saved_bert(folder: Path, kind: str, labels, seed: int) -> torch.nn.Module:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    tokenizer(folder)
    torch.manual_seed(seed)
    model = getattr(transformers, kind)(_bert(labels)).eval()
    model.save_pretrained(folder)
    return model


class Conv(nn.Module):
    """A small net on pixels in [0, 1]."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.first, self.out = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(torch.relu(self.first(x)).mean((2, 3))) * 30


def onnx_file(
    path: Path,
    *,
    rows="rows",
    shape=(3, 8, 8),
    order="first",
    softmax: bool = False,
    label: bool = False,
    dtype: int = 1,
    free: bool = False,
) -> Path:
    """The net Conv as an ONNX file, put together node by node.

    rows: how many it takes. order: of the axes of its inputs, channels `first` or `last`, or `flat`. softmax: whether it ends
    in one. label: whether it gives the likeliest class too. dtype: of its inputs, as ONNX counts them. free: whether it says
    nothing of their sizes.
    """
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    helper, net = onnx.helper, Conv()
    nodes = [helper.make_node("Cast", ["x"], ["float"], to=1)]
    held = {"last": (*shape[1:], shape[0]), "flat": (shape[0] * shape[1] * shape[2],)}.get(order, shape)
    axes = [f"axis {axis}" if free else axis for axis in held]
    tensors = {
        "w": net.first.weight, "b": net.first.bias, "v": net.out.weight * 30, "c": net.out.bias * 30,
        "shape": torch.tensor([-1, *shape]),
    }  # fmt: skip
    if order == "last":
        nodes.append(helper.make_node("Transpose", ["float"], ["first"], perm=[0, 3, 1, 2]))
    else:
        nodes.append(helper.make_node("Reshape", ["float", "shape"], ["first"]))
    nodes += [
        helper.make_node("Conv", ["first", "w", "b"], ["convolved"]), helper.make_node("Relu", ["convolved"], ["relu"]),
        helper.make_node("GlobalAveragePool", ["relu"], ["mean"]), helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("Gemm", ["flat", "v", "c"], ["z" if softmax else "logits"], transB=1),
    ]  # fmt: skip
    outputs = [helper.make_tensor_value_info("logits", 1, [rows, 3])]
    if softmax:
        nodes.append(helper.make_node("Softmax", ["z"], ["logits"], axis=1))
    if label:
        nodes.append(helper.make_node("ArgMax", ["logits"], ["label"], axis=1, keepdims=0))
        outputs.append(helper.make_tensor_value_info("label", 7, [rows]))
    graph = helper.make_graph(
        nodes, "conv", [helper.make_tensor_value_info("x", dtype, [rows, *axes])], outputs,
        [onnx.numpy_helper.from_array(tensor.detach().numpy(), name) for name, tensor in tensors.items()],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def _write(folder: Path, name: str, stored: list[bytes], inputs) -> None:
    (folder / "transfer").mkdir(parents=True, exist_ok=True)
    held = [Rows.of([f"{name}-{row}" for row in range(len(stored))], stored, np.arange(len(stored)) % 3)]
    splitfile.write_split(folder / f"transfer/{name}.parquet", held, role=name, classes=list(CLASSES), inputs=inputs, span=8)


NETS = """
import torch
from torch import nn

class Tied(nn.Module):
    def __init__(self, shape, classes, width):
        super().__init__()
        self.inside = nn.Linear(shape[1] * shape[2], width)
        self.back = nn.Linear(width, shape[1] * shape[2], bias=False)
        self.back.weight = nn.Parameter(self.inside.weight.T.contiguous())
        self.again = nn.Linear(shape[1] * shape[2], width)
        self.again.weight = self.inside.weight
        self.norm = nn.BatchNorm1d(width)
        self.out = nn.Linear(width, classes)
        self.register_buffer("offset", torch.zeros(width))

    def forward(self, x):
        x = x.flatten(2).float().mean(1) / 255
        return self.out(self.norm(self.again(x) + self.inside(x)) + self.offset)

def build(shape, classes, width=8):
    return Tied(shape, classes, width)

def softmaxed(shape, classes):
    return nn.Sequential(build(shape, classes), nn.Softmax(1))
"""
