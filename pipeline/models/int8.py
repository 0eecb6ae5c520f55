"""Int8: an ONNX model with weights and values in 8 bits, whose ranges are those that some rows show (static quantisation).

Jacob et al. 2018, arXiv 1712.05877, as onnxruntime does it: a scale for each channel of a weight, one for each other tensor.
Products alone are computed in 8 bits; sums, norms and softmax stay in float, where they are no slower, and so do logits, of
which near ones would become equal.
"""

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.models.onnxfile import serialised
from pipeline.models.quiet import quiet

_LAYERS = ("Conv", "Gemm", "MatMul")
_MOVING = ("Gather", "MaxPool", "Relu", "Reshape", "Flatten", "Transpose")  # they compute nothing, so 8 bits stay as they are


@dataclass(frozen=True)
class Way:
    """How ranges are found, and what stays in float. said: in words. narrow: weights in 7 bits. ends: the first and last layer.

    Processors without the instructions for 8 bits add pairs of products in 16 bits, which 7 bits of weight cannot overflow.
    """

    said: str
    method: str
    narrow: bool = False
    ends: bool = True


WAYS = (  # the first one that is good enough is taken: they run on ever fewer processors, or ever slower
    Way("weights in 7 bits, ranges by the extremes", "MinMax", narrow=True),
    Way("weights in 8 bits, ranges by the extremes", "MinMax"),
    Way("weights in 8 bits, ranges without the most extreme of 100,000 values", "Percentile"),
    Way("weights in 8 bits, ranges by the extremes, the first and the last layer in float", "MinMax", ends=False),
)


def quantised(model: bytes, rows: Iterable[np.ndarray], way: Way) -> bytes:
    """An ONNX model in int8.

    Args:
        model: From onnxfile.onnx_of.
        rows: Batches (n, *shape) of rows such as it will see.
        way: How, one of WAYS.

    Returns:
        The model, with quantisation as pairs of QuantizeLinear and DequantizeLinear; the same inputs give the same bytes. It
        comes back as it was where nothing in it can be quantised.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
        def __init__(self) -> None:
            self.batches: Iterator[np.ndarray] = iter(rows)

        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(self.batches, None)
            return None if batch is None else {"inputs": batch}

    with tempfile.TemporaryDirectory() as folder, quiet():
        given, prepared, made = (Path(folder, f"{name}.onnx") for name in ("given", "prepared", "made"))
        given.write_bytes(model)
        quant_pre_process(given, prepared)
        try:
            quantize_static(
                prepared, made, Reader(), quant_format=QuantFormat.QDQ, per_channel=True, reduce_range=way.narrow,
                activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, calibrate_method=CalibrationMethod[way.method],
                op_types_to_quantize=[*_LAYERS, *_MOVING],
                nodes_to_exclude=[] if way.ends else _ends(onnx.load(prepared)),
                extra_options={"OpTypesToExcludeOutputQuantization": [*_LAYERS]},
            )  # fmt: skip
        except ValueError as error:
            if "has not been collected" not in str(error):
                raise
            return model  # no value in it has a range: there is nothing to quantise
        return serialised(onnx.load(made))


def holds_int8(model: bytes) -> bool:
    """Whether anything in an ONNX model is in 8 bits."""
    import onnx

    return any(node.op_type == "DequantizeLinear" for node in onnx.load_from_string(model).graph.node)


def _ends(model: Any) -> list[str]:
    layers = [node.name for node in model.graph.node if node.op_type in _LAYERS]
    return [*layers[:1], *layers[-1:]]
