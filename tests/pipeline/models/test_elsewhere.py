"""What nets from elsewhere are bound to: the library whose code they are, and the files that they are made of."""

import pytest

from foreign import image_classifier, onnx_file
from pipeline.base.errors import InputError
from pipeline.base.files import sha256_file
from pipeline.models import elsewhere
from pipeline.models.build import parse_model


def test_another_version_of_a_library_is_another_behaviour(monkeypatch):
    monkeypatch.setattr(elsewhere, "version", lambda name: f"7.{len(name)}")
    assert parse_model("timm('resnet18')").behaviour == "version 1, timm 7.4"
    assert parse_model("transformers('folder')").behaviour == "version 1, transformers 7.12"
    assert parse_model("onnx('net.onnx')").behaviour == "version 1"
    assert parse_model("mlp([3])").behaviour == "version 1"


def test_files_that_decide_what_a_net_does(tmp_path):
    image_classifier(tmp_path / "vit")
    (tmp_path / "vit/notes.txt").write_text("of mine")
    spec = parse_model(f"transformers({str(tmp_path / 'vit')!r})")
    names = {each.what.removeprefix(f"{tmp_path}/vit/"): each.digest for each in elsewhere.witnesses_of(spec)}
    assert {"config.json", "model.safetensors", "preprocessor_config.json"} <= names.keys()
    assert names["model.safetensors"] == sha256_file(tmp_path / "vit/model.safetensors")
    assert elsewhere.assets_of(spec)["config.json"] == (tmp_path / "vit/config.json").read_bytes()
    assert not any(name.endswith(".safetensors") for name in elsewhere.assets_of(spec))
    assert elsewhere.assets_of(parse_model("mlp([3])")) == {}
    assert elsewhere.files_of(parse_model("timm('resnet18')")) == []


def test_students_out_of_files_are_refused(tmp_path):
    onnx_file(tmp_path / "net.onnx")
    with pytest.raises(InputError, match="expected a student built in, .* found one out of files"):
        elsewhere.require_student(parse_model(f"onnx({str(tmp_path / 'net.onnx')!r})"))
    elsewhere.require_student(parse_model("timm('resnet18')"))
