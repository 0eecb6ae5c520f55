"""Teachers that were trained elsewhere: what is cached of them is what their own libraries compute."""

import json
import pickle
import sys

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

import foreign
from conftest import tree
from foreign import CLASSES, CPU, Conv, adopted, captured, onnx_file, pictures, require_equal, sentences
from pipeline.base.errors import InputError, IntegrityError
from pipeline.cache.identity import require_teacher
from pipeline.cache.reader import Cache
from pipeline.cache.verify import probe
from pipeline.data.splits import open_splits
from pipeline.models.checkpoint import Checkpoint

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


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A plug-in with a net that has tied weights, batch statistics and a buffer, and the net itself, trained, so to speak."""
    (tmp_path / "nets_of_theirs.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("SOFTCACHE_PLUGINS", "nets_of_theirs")
    space: dict = {}
    exec(NETS, space)
    torch.manual_seed(0)
    net = space["build"]((3, 8, 8), 3)
    with torch.no_grad():
        for tensor in net.state_dict().values():
            tensor.copy_(torch.rand(tensor.shape) * 4 + 0.1)
    yield net.eval()
    sys.modules.pop("nets_of_theirs", None)


# ---------------------------------------------------------------- what fits


def test_a_net_of_ones_own_with_tied_weights_batch_statistics_and_buffers(mine, tmp_path):
    torch.save({"state_dict": {f"module.{name}": value for name, value in mine.state_dict().items()}, "epoch": 3}, "mine.pt")
    done = adopted(pictures(tmp_path, 8), "nets_of_theirs:build()", "mine.pt")
    found = require_equal(tmp_path, mine)
    opened = open_splits(tmp_path / "transfer", ("valid",))["valid"]
    assert done.rows == 6
    assert done.accuracy == pytest.approx((found["valid"].argmax(1) == opened.labels()).mean())
    teacher = Checkpoint.teacher(tmp_path / "teachers/big")
    assert (teacher.kind, teacher.recipe, teacher.history()) == ("adopted", None, [])
    state = teacher.load(teacher.nets[0], CPU).state_dict()
    assert all(torch.equal(state[name], value) for name, value in mine.state_dict().items())


def test_a_cache_of_an_adopted_teacher_is_verified_and_bound_to_it(mine, tmp_path):
    safetensors.torch.save_model(mine, "mine.safetensors")
    adopted(pictures(tmp_path, 8), "nets_of_theirs:build()", "mine.safetensors")
    captured(tmp_path)
    found = probe(tmp_path / "caches/big", 11, teacher=tmp_path / "teachers/big", splits=tmp_path / "transfer", device=CPU)
    assert found.findings(tmp_path) == []
    require_teacher(Cache.open(tmp_path / "caches/big"), tmp_path / "teachers/big")
    adopted(tmp_path, "nets_of_theirs:build()", "mine.safetensors", {"cat": 1, "dog": 0, "eel": 2})
    with pytest.raises(InputError, match="outputs"):
        require_teacher(Cache.open(tmp_path / "caches/big"), tmp_path / "teachers/big")


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        ({"cat": 4, "dog": 0, "eel": 2}, lambda logits: logits[:, [4, 0, 2]]),
        (
            {"cat": "1", "dog": [0, 3], "eel": 2},
            lambda z: torch.stack([z[:, 1], (z[:, 0].exp() + z[:, 3].exp()).log(), z[:, 2]], 1),
        ),
    ],
)
def test_classes_are_outputs_of_a_teacher_that_has_more(mine, tmp_path, classes, expected):
    pictures(tmp_path, 8)
    mine.out = nn.Linear(8, 5)
    torch.save(mine.state_dict(), "mine.pt")
    adopted(tmp_path, "nets_of_theirs:build()", "mine.pt", classes)
    require_equal(tmp_path, lambda rows: expected(mine(rows)))


def test_an_image_classifier_of_transformers(tmp_path):
    model = foreign.image_classifier(tmp_path / "vit")
    adopted(pictures(tmp_path, 32), f"transformers({str(tmp_path / 'vit')!r})")
    for path in (tmp_path / "vit").iterdir():  # it is all in the teacher's own folder now
        path.unlink()
    mean, std = (torch.tensor(each).view(-1, 1, 1) for each in ([0.1, 0.2, 0.3], [0.4, 0.5, 0.6]))
    require_equal(tmp_path, lambda rows: model(((rows / 255) - mean) / std).logits)


def test_a_text_classifier_of_transformers_whose_classes_have_another_order(tmp_path):
    model = foreign.text_classifier(tmp_path / "bert", labels=("eel", "cat", "dog"))
    tokenize = foreign.tokenizer(tmp_path / "same")
    adopted(sentences(tmp_path), f"transformers({str(tmp_path / 'bert')!r})")

    def forward(texts):
        rows = [model(**tokenize(text, return_tensors="pt")).logits[0] for text in texts]  # one by one: without padding
        return torch.stack(rows)[:, [1, 2, 0]]

    require_equal(tmp_path, forward)
    (tmp_path / "teachers/big/assets/tokenizer.json").write_bytes(b"{}")
    with pytest.raises(IntegrityError, match="tokenizer.json: expected sha256"):
        Checkpoint.teacher(tmp_path / "teachers/big").load(Checkpoint.teacher(tmp_path / "teachers/big").nets[0], CPU)


@pytest.mark.parametrize(
    ("file", "settings"),
    [
        ({}, ""),
        ({}, ", mean=[0.5, 0.4, 0.3], std=0.25"),
        ({"order": "last"}, ""),
        ({"order": "flat"}, ""),
        ({"label": True}, ", output='logits'"),
        ({"rows": 3}, ""),
        ({"softmax": True}, ", probabilities=True"),
    ],
)
def test_an_onnx_file(tmp_path, file, settings):
    path = onnx_file(tmp_path / "net.onnx", **file)
    done = adopted(pictures(tmp_path, 8), f"onnx({str(path)!r}{settings})")
    assert done.parameters == 3 * 4 * 9 + 4 + 4 * 3 + 3 + 4  # and the four numbers of a shape
    path.unlink()
    mean, std = (torch.tensor([0.5, 0.4, 0.3]).view(-1, 1, 1), 0.25) if "mean" in settings else (0.0, 1.0)
    last = (lambda z: torch.log_softmax(z, 1)) if "softmax" in file else (lambda z: z)
    require_equal(tmp_path, lambda rows: last(Conv()((rows / 255 - mean) / std)))


def test_an_onnx_file_that_torch_has_exported(tmp_path):
    """Weights lie beside it, as torch writes them by default."""
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    rows = {0: torch.export.Dim.DYNAMIC}
    made = torch.onnx.export(Conv().eval(), (torch.rand(2, 3, 8, 8),), dynamo=True, dynamic_shapes=(rows,), verbose=False)
    made.save(tmp_path / "net.onnx", external_data=True)
    adopted(pictures(tmp_path, 8), f"onnx({str(tmp_path / 'net.onnx')!r})")
    require_equal(tmp_path, lambda rows: Conv()(rows / 255))


def test_an_onnx_file_that_takes_bytes_sees_them_as_they_are(tmp_path):
    path = onnx_file(tmp_path / "net.onnx", dtype=2)
    adopted(pictures(tmp_path, 8), f"onnx({str(path)!r})")
    require_equal(tmp_path, lambda rows: Conv()(rows.float()))


def test_an_onnx_file_with_its_weights_beside_it(tmp_path):
    import onnx

    path = onnx_file(tmp_path / "net.onnx")
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="net.data", size_threshold=0)
    adopted(pictures(tmp_path, 8), f"onnx({str(path)!r})")
    (tmp_path / "net.data").unlink()
    require_equal(tmp_path, lambda rows: Conv()(rows / 255))


# ---------------------------------------------------------------- a new head


def test_a_linear_probe_learns_on_outputs_that_are_computed_once(tmp_path, monkeypatch):
    from pipeline.training.recipe import Recipe
    from pipeline.training.teach import teach

    model = foreign.encoder(tmp_path / "encoder")
    tokenize = foreign.tokenizer(tmp_path / "same")
    runs = []
    monkeypatch.setattr(
        "pipeline.models.transformers._Encoder.forward", _counting(runs, "pipeline.models.transformers", "_Encoder")
    )
    sentences(tmp_path)
    recipe = Recipe.parse(optimizer="sgd(lr=0.5)", epochs=30, batch_size=11, schedule="constant")
    settings = {"policy": "none", "seed": 0, "splits": tmp_path / "transfer", "work": tmp_path / "work", "device": CPU}
    spec = f"transformers({str(tmp_path / 'encoder')!r}, head='linear', pool='mean')"
    teach(model=spec, recipe=recipe, out=tmp_path / "teachers/big", **settings)
    assert sum(runs) < 3 * 32  # whole tiles of train, of valid, and some rows to try the net with; never an epoch
    teacher = Checkpoint.teacher(tmp_path / "teachers/big")
    head = teacher.load(teacher.nets[0], CPU).net.head

    def encoded(texts):
        rows = [model(**tokenize(text, return_tensors="pt")).last_hidden_state[0].mean(0) for text in texts]
        return torch.stack(rows)

    require_equal(tmp_path, lambda texts: encoded(texts) @ head.weight.T + head.bias)
    train = open_splits(tmp_path / "transfer", ("train",))["train"]
    with torch.no_grad():
        inputs, labels = encoded(train.read_all().tolist()), torch.from_numpy(train.labels())
    weight, bias = torch.zeros(3, 16), torch.zeros(3)  # plain gradient descent, full batches, by hand
    start = _initial_head(spec, train)
    weight, bias = start.weight.detach().clone(), start.bias.detach().clone()
    for _ in range(30):
        error = torch.softmax(inputs @ weight.T + bias, 1)
        error[torch.arange(11), labels] -= 1
        weight, bias = weight - 0.5 * error.T @ inputs / 11, bias - 0.5 * error.mean(0)
    torch.testing.assert_close(head.weight, weight, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(head.bias, bias, rtol=1e-3, atol=1e-4)
    with pytest.raises(InputError, match="policy: expected none"):
        teach(model=spec, recipe=recipe, out=tmp_path / "teachers/big", **settings | {"policy": "drop(1)"})


def _initial_head(spec, train):
    from pipeline.models.build import build, parse_model

    return build(parse_model(spec), train.inputs, 3, seed=0).net.head


def _counting(runs, module, name):
    own = getattr(sys.modules.get(module) or __import__(module, fromlist=[name]), name).forward

    def forward(self, inputs, **more):
        runs.append(len(inputs))
        return own(self, inputs, **more)

    return forward


# ---------------------------------------------------------------- what does not fit


def refused(tmp_path, message, *args, error=InputError):
    """Adopting fails with this message, and nothing is written."""
    before = tree(tmp_path)
    with pytest.raises(error, match=message):
        adopted(tmp_path, *args)
    assert tree(tmp_path) == before


class Whole:
    """What torch.save pickles whole."""


def test_weights_that_do_not_fit(mine, tmp_path):
    pictures(tmp_path, 8)
    net = "nets_of_theirs:build()"
    (tmp_path / "pickle.pt").write_bytes(pickle.dumps(Whole()))
    torch.save(nn.Linear(3, 3), tmp_path / "whole.pt")
    torch.save({"epoch": 3, "optimizer": {}}, tmp_path / "other.pt")
    torch.save(nn.Linear(3, 3).state_dict(), tmp_path / "linear.pt")
    state = mine.state_dict()
    torch.save({name: value for name, value in state.items() if "bias" not in name}, tmp_path / "partly.pt")
    torch.save(state | {"inside.bias": torch.zeros(9)}, tmp_path / "shape.pt")
    torch.save(state | {"out.weight": torch.zeros(1000, 8), "out.bias": torch.zeros(1000)}, tmp_path / "thousand.pt")
    torch.save(state | {"offset": torch.full((8,), torch.nan)}, tmp_path / "nan.pt")
    (tmp_path / "cut.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}")
    for file, message in (
        ("none.pt", "none.pt: expected a file, found none. Correct `weights`"),
        ("pickle.pt", r"pickle.pt: expected tensors that load without running code \(weights_only\), found a pickle"),
        ("whole.pt", r"whole.pt: expected tensors that load without running code .* Save its state_dict alone"),
        ("other.pt", "other.pt: expected a state_dict: tensors by name, found a dict with epoch, optimizer"),
        ("linear.pt", "found 12 missing: offset, inside.weight, .*; 2 unexpected: weight, bias"),
        ("partly.pt", "4 missing: inside.bias, again.bias, norm.bias, out.bias"),
        ("shape.pt", r"1 of another shape: inside.bias \(9,\) for \(8,\)"),
        ("thousand.pt", "teacher big, classes: expected 3, as in the transfer set, found 1,000 outputs. Say which"),
        ("nan.pt", "teacher big, valid row 0, class cat: expected a finite logit, found nan"),
        ("cut.safetensors", "cut.safetensors: expected a safetensors file"),
    ):
        refused(tmp_path, message, net, tmp_path / file)
    torch.save({f"0.{name}": value for name, value in state.items()}, tmp_path / "mine.pt")
    refused(tmp_path, "expected logits, found probabilities", "nets_of_theirs:softmaxed()", tmp_path / "mine.pt")
    refused(tmp_path, "weights: expected a file with the weights of nets_of_theirs:build", net, None)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ({"cat": 0, "dog": 1}, "expected each class of the transfer set .* found none for eel"),
        ({"cat": 0, "dog": 1, "eel": 2, "fox": 2}, "found others: fox"),
        ({"cat": 0, "dog": 1, "eel": 1}, "expected each output in one class, found 1 in several"),
        ({"cat": 0, "dog": 1, "eel": 3}, "classes.eel: expected a number from 0 to 2, found 3"),
        ({"cat": 0, "dog": 1, "eel": "tabby"}, "classes.eel: expected a number from 0 to 2, found 'tabby'"),
        ({"cat": 0, "dog": [], "eel": 1}, r"classes.dog: expected a number from 0 to 2, found \[\]"),
    ],
)
def test_classes_that_are_no_outputs(mine, tmp_path, classes, message):
    torch.save(mine.state_dict(), tmp_path / "mine.pt")
    refused(pictures(tmp_path, 8), message, "nets_of_theirs:build()", tmp_path / "mine.pt", classes)


def test_folders_of_transformers_that_do_not_fit(tmp_path):
    pictures(tmp_path, 32)
    model = foreign.image_classifier(tmp_path / "vit", labels=("ant", "bee"))
    refused(tmp_path, "classes: expected cat, dog, eel, as in the transfer set, found ant, bee", _hf(tmp_path / "vit"))
    foreign.image_classifier(tmp_path / "large", size=64)
    refused(tmp_path, r"size of images: expected 64×64, .* found 32×32. Set `size: \[64, 64\]`", _hf(tmp_path / "large"))
    foreign.image_classifier(tmp_path / "bare").vit.save_pretrained(tmp_path / "bare")
    refused(tmp_path, "expected weights for all of the model, found none for classifier.bias", _hf(tmp_path / "bare"))
    foreign.text_classifier(tmp_path / "bert")
    refused(tmp_path, "expected preprocessor_config.json, as its image processor's", _hf(tmp_path / "bert"))
    refused(tmp_path, "expected a folder with config.json", _hf(tmp_path / "none"))
    refused(tmp_path, "Train it: `softcache teach`", f"transformers({str(tmp_path / 'vit')!r}, head='linear')")
    refused(tmp_path, "expected the weights in its own files", _hf(tmp_path / "vit"), tmp_path / "more.pt")
    config = json.loads((tmp_path / "vit/config.json").read_text())
    (tmp_path / "vit/config.json").write_text(json.dumps(config | {"model_type": "of mine", "auto_map": {"AutoConfig": "x.Y"}}))
    refused(tmp_path, "expected the configuration of a model that transformers knows", _hf(tmp_path / "vit"))
    (tmp_path / "pickled").mkdir()
    (tmp_path / "pickled/config.json").write_text(json.dumps(config | {"id2label": dict(enumerate(CLASSES))}))
    (tmp_path / "pickled/preprocessor_config.json").write_text('{"image_mean": [0, 0, 0]}')
    torch.save(model.state_dict(), tmp_path / "pickled/pytorch_model.bin")
    refused(tmp_path, "expected weights as safetensors, found a pickle, pytorch_model.bin", _hf(tmp_path / "pickled"))


def _hf(folder):
    return f"transformers({str(folder)!r})"


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ({"label": True}, "one output, or `output='…'` .* found logits, label"),
        ({"softmax": True}, r"found probabilities: every row sums to 1. Write onnx\(…, proba"),
        ({"shape": (3, 9, 9)}, r"input x: expected rows of shape \(3, 8, 8\), .* found \(3, 9, 9\)"),
    ],
)
def test_onnx_files_that_do_not_fit(tmp_path, file, message):
    path = onnx_file(tmp_path / "net.onnx", **file)
    refused(pictures(tmp_path, 8), message, f"onnx({str(path)!r})")


def test_files_that_are_no_onnx(tmp_path):
    (tmp_path / "net.onnx").write_bytes(b"not a model")
    refused(pictures(tmp_path, 8), "net.onnx: expected an ONNX model", f"onnx({str(tmp_path / 'net.onnx')!r})")
    refused(tmp_path, "path: expected an ONNX file, found none at nowhere.onnx", "onnx('nowhere.onnx')")
    onnx_file(tmp_path / "net.onnx")
    (tmp_path / "texts").mkdir()
    refused(sentences(tmp_path / "texts"), "expected inputs that are numbers", f"onnx({str(tmp_path / 'net.onnx')!r})")


def test_a_library_that_is_not_installed_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    message = r'expected the library timm, found none. Install it: `pip install "softcache\[timm\]"'
    refused(pictures(tmp_path, 8), message, "timm('resnet18')", _any(tmp_path))


def _any(tmp_path):
    torch.save({"weight": torch.zeros(1)}, tmp_path / "any.pt")
    return tmp_path / "any.pt"


# ---------------------------------------------------------------- timm and torchvision, in an environment of their own


@pytest.mark.parametrize(
    ("spec", "size", "mean", "std"),
    [
        ("timm('vit_tiny_patch16_224')", 224, [0.5, 0.5, 0.5], [0.5, 0.5, 0.5]),
        ("timm('resnet18', size=32)", 32, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ("timm('resnet18', size=32, mean=0.5, std=[0.2, 0.3, 0.4])", 32, [0.5] * 3, [0.2, 0.3, 0.4]),
        ("torchvision('resnet18', size=32)", 32, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ],
)
def test_nets_of_timm_and_torchvision(tmp_path, spec, size, mean, std):
    library, name = spec.partition("(")[0], spec.split("'")[1]
    made = pytest.importorskip(library, reason=f"{library} is not installed; `make test-zoo` has it", exc_type=Exception)
    torch.manual_seed(0)
    fixed = {"img_size": size} if "vit" in name else {}
    if library == "timm":
        net = made.create_model(name, num_classes=3, **fixed).eval()
    else:
        net = made.models.get_model(name, num_classes=3).eval()
    with torch.no_grad():
        for tensor in net.state_dict().values():
            tensor += tensor.abs().mean() * torch.rand(tensor.shape) if tensor.is_floating_point() else 0
    safetensors.torch.save_file(net.state_dict(), tmp_path / "net.safetensors")
    adopted(pictures(tmp_path, size), spec, tmp_path / "net.safetensors")
    shift, scale = (torch.tensor(each).view(-1, 1, 1) for each in (mean, std))
    require_equal(tmp_path, lambda rows: net((rows / 255 - shift) / scale))


@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_what_is_no_net_of_these_libraries(tmp_path, library):
    made = pytest.importorskip(library, reason=f"{library} is not installed; `make test-zoo` has it", exc_type=Exception)
    pictures(tmp_path, 32)
    build = made.create_model if library == "timm" else made.models.get_model
    safetensors.torch.save_file(build("resnet18", num_classes=3).state_dict(), tmp_path / "net.safetensors")
    net = tmp_path / "net.safetensors"
    refused(tmp_path, "'resnet81', which is not one; close to .*resnet", f"{library}('resnet81')", net)
    refused(tmp_path, r"size of images: expected 224×224, .* found 32×32. .* or write", f"{library}('resnet18')", net)
    other = "torchvision('mobilenet_v3_large')" if library == "torchvision" else "timm('resnet26', size=32)"
    refused(tmp_path, "missing: .* unexpected: ", other, net)


def test_grey_pictures_are_shown_in_three_channels(tmp_path):
    timm = pytest.importorskip("timm", reason="timm is not installed; `make test-zoo` has it", exc_type=Exception)
    torch.manual_seed(0)
    net = timm.create_model("resnet18", num_classes=3).eval()
    safetensors.torch.save_file(net.state_dict(), tmp_path / "net.safetensors")
    adopted(pictures(tmp_path, 32, channels=1), "timm('resnet18', size=32, mean=0, std=1)", tmp_path / "net.safetensors")
    require_equal(tmp_path, lambda rows: net((rows / 255).expand(-1, 3, -1, -1)))


def test_numbers_of_scaling():
    from pipeline.models.scaled import Scaled

    net = Scaled(nn.Identity(), 3, [0.5, 0.25, 0.0], [0.5, 1.0, 0.25], None)
    pixels = torch.tensor([255, 0, 51], dtype=torch.uint8).view(1, 3, 1, 1)
    np.testing.assert_allclose(net(pixels).flatten(), [1.0, -0.25, 0.8], rtol=1e-6)
    floats = torch.tensor([2.0, 3.0, 4.0]).view(1, 3, 1, 1)
    assert torch.equal(net(floats), floats)
