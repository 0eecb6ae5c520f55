"""ONNX files: what torch gives, in bytes that repeat and say nothing of where they were made."""

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import exports
from pipeline.base.errors import InputError
from pipeline.models import int8, onnxfile
from pipeline.models.encoding import example
from pipeline.models.program import Program
from softcache_export import session, softmax


@pytest.mark.parametrize("name", exports.NETS)
def test_onnxruntime_gives_what_torch_gives(name):
    net, run = exports.net(name), session(exports.model(name))
    for rows in (1, 5):
        inputs = example(net, exports.NETS[name][1], rows)
        with torch.no_grad():
            np.testing.assert_allclose(run(inputs.numpy()), net(inputs).numpy(), rtol=1e-5, atol=1e-6)


def test_inputs_and_outputs_have_names_and_any_number_of_rows():
    model = onnx.load_from_string(exports.model("mlp"))
    onnx.checker.check_model(model, full_check=True)
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", onnxfile.OPSET)]
    for each, name, shape in ((model.graph.input[0], "inputs", [1, 6, 6]), (model.graph.output[0], "logits", [4])):
        first, *others = each.type.tensor_type.shape.dim
        assert each.name == name
        assert first.dim_param == "batch"
        assert [dim.dim_value for dim in others] == shape
    assert model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8


def test_the_format_of_the_file_is_as_old_as_its_operations():
    """Of ONNX 1.15, whose list of releases says: operations of version 20, files of version 9."""
    small = int8.quantised(exports.model("mlp"), [example(exports.net("mlp"), exports.NETS["mlp"][1], 4).numpy()], int8.WAYS[0])
    [known] = [row for row in onnx.helper.VERSION_TABLE if row[0] == "1.15.0"]
    for model in map(onnx.load_from_string, (exports.model("mlp"), onnxfile.softened(exports.model("mlp")), small)):
        assert [model.ir_version, model.opset_import[0].version] == [*known[1:3]] == [9, 20]


def test_the_same_net_gives_the_same_bytes_and_no_path(capfd, recwarn):
    """Nor does anything reach the terminal."""
    assert onnxfile.onnx_of(exports.program("mlp"), "mlp") == exports.model("mlp")
    assert b".py" not in exports.model("mlp")
    assert b"pipeline" not in exports.model("mlp")
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list


def test_a_softmax_at_the_end():
    plain, soft = exports.model("mlp"), onnxfile.softened(exports.model("mlp"))
    onnx.checker.check_model(onnx.load_from_string(soft), full_check=True)
    inputs = example(exports.net("mlp"), exports.NETS["mlp"][1], 4).numpy()
    np.testing.assert_allclose(session(soft)(inputs), softmax(session(plain)(inputs)), rtol=1e-5)
    assert onnx.load_from_string(soft).graph.output[0].name == "probabilities"


def test_what_onnx_cannot_express_is_named():
    class Rotated(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 2)

        def forward(self, values):
            return self.layer(torch.linalg.qr(values.unsqueeze(1))[1].squeeze(1) + values)

    traced = Program.of(Rotated().eval(), torch.ones(2, 4), "rotated")
    with pytest.raises(InputError, match="rotated: expected a net that ONNX can express") as caught:
        onnxfile.onnx_of(traced, "rotated")
    assert ".." not in str(caught.value)


def test_what_is_missing_is_named(monkeypatch):
    monkeypatch.setattr(onnxfile, "NEEDED", ("onnx", "no_such_library"))
    with pytest.raises(InputError, match=r"export: expected onnx, no_such_library, found no no_such_library\. Install them"):
        onnxfile.require_installed()
