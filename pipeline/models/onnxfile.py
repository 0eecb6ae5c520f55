"""ONNX files: a program as one, by torch's exporter, without a word of where or how it was made, so that its bytes repeat."""

from typing import Any

from pipeline.base.errors import InputError, first_line, lacks_memory
from pipeline.models.program import Program
from pipeline.models.quiet import quiet

OPSET, FORMAT = 20, 9  # of operations, and of the file, both of ONNX 1.15; onnxruntime reads them from 1.17 on
NEEDED = ("onnx", "onnxscript", "onnxruntime")
_FIX = "Install them with `pip install softcache[export]`, or `make repro` in this project."


def require_installed() -> None:
    """Raise InputError unless all that writes and runs ONNX is installed."""
    import importlib.util

    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        raise InputError("export", expected=", ".join(NEEDED), found=f"no {' and no '.join(missing)}", fix=_FIX)


def onnx_of(program: Program, name: str) -> bytes:
    """A program as an ONNX file, of opset OPSET.

    Args:
        program: The program.
        name: What it is called in messages.

    Returns:
        The file: from `inputs` (batch, *shape), for any batch, to `logits` (batch, classes).

    Raises:
        InputError: It has an operation that ONNX has not, or 2 GB of weights, which no single file holds.
    """
    import torch

    fix = "Export another net, or write this one in other operations."
    try:
        with quiet():
            made = torch.onnx.export(
                program.exported, (), dynamo=True, input_names=["inputs"], output_names=["logits"], opset_version=OPSET,
                external_data=False, verbose=False,
            )  # fmt: skip
            model: Any = None if made is None else made.model_proto
            _anonymise(model)
            return serialised(model)
    except Exception as error:  # of many kinds
        if lacks_memory(error):
            raise
        raise InputError(name, expected="a net that ONNX can express", found=first_line(error).rstrip("."), fix=fix) from error


def softened(model: bytes) -> bytes:
    """A model with a softmax at its end: its output is `probabilities` (batch, classes), at T = 1."""
    import onnx

    found = onnx.load_from_string(model)
    [output] = found.graph.output
    found.graph.node.append(onnx.helper.make_node("Softmax", ["logits"], ["probabilities"], name="softmax", axis=-1))
    output.name = "probabilities"
    return serialised(found)


def _anonymise(model: Any) -> None:
    """Name the first dimension `batch`, and leave out what the exporter notes for people: paths and lines of code among it."""
    graph = model.graph
    for each in (*graph.input, *graph.output):
        each.type.tensor_type.shape.dim[0].dim_param = "batch"
    del graph.value_info[:]
    for part in (model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
        part.doc_string = ""
        del part.metadata_props[:]


def serialised(model: Any) -> bytes:
    """The bytes of an onnx.ModelProto, always the same, in the format of ONNX files that goes with OPSET."""
    model.ir_version = FORMAT
    data: bytes = model.SerializeToString(deterministic=True)
    return data
