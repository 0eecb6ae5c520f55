"""Teachers that were trained elsewhere: what is cached of them is what their own libraries compute."""

import json
import sys

import pytest
import safetensors.torch
import torch

import foreign
from foreign import CLASSES, CPU, adopted, captured, pictures, refused, require_equal, sentences
from pipeline.base.errors import InputError, IntegrityError
from pipeline.cache.identity import require_teacher
from pipeline.cache.reader import Cache
from pipeline.cache.verify import probe
from pipeline.data.splits import open_splits
from pipeline.models.checkpoint import Checkpoint


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


def test_an_image_classifier_of_transformers(tmp_path):
    model = foreign.image_classifier(tmp_path / "vit")
    adopted(pictures(tmp_path, 32), f"transformers({str(tmp_path / 'vit')!r})")
    for path in (tmp_path / "vit").iterdir():  # it is all in the teacher's own folder now
        path.unlink()
    mean, std = (torch.tensor(each).view(-1, 1, 1) for each in ([0.1, 0.2, 0.3], [0.4, 0.5, 0.6]))
    require_equal(tmp_path, lambda rows: model(((rows / 255) - mean) / std).logits)
    require_equal(tmp_path, lambda rows: model(((rows / 255) - mean) / std).logits, knowledge="hidden")


def test_a_text_classifier_of_transformers_whose_classes_have_another_order(tmp_path):
    model = foreign.text_classifier(tmp_path / "bert", labels=("eel", "cat", "dog"))
    tokenize = foreign.tokenizer(tmp_path / "same")
    adopted(sentences(tmp_path), f"transformers({str(tmp_path / 'bert')!r})")

    def forward(texts):
        rows = [model(**tokenize(text, return_tensors="pt")).logits[0] for text in texts]  # one by one: without padding
        return torch.stack(rows)[:, [1, 2, 0]]

    require_equal(tmp_path, forward)
    require_equal(tmp_path, forward, knowledge="hidden", features=("bert.encoder.layer.0 | pool",))
    assert Cache.open(tmp_path / "caches/big").head.weight.shape[0] == 3
    (tmp_path / "teachers/big/assets/tokenizer.json").write_bytes(b"{}")
    with pytest.raises(IntegrityError, match="tokenizer.json: expected sha256"):
        Checkpoint.teacher(tmp_path / "teachers/big").load(Checkpoint.teacher(tmp_path / "teachers/big").nets[0], CPU)


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
