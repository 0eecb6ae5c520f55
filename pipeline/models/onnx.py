"""onnx: a model of any framework, out of an ONNX file, run by onnxruntime. It is a teacher only: it cannot be trained."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from pipeline.base.errors import InputError, first_line
from pipeline.base.libraries import needed
from pipeline.models.scaled import numbers
from pipeline.models.zoo.requirements import require

WHAT = "model onnx"
FILE = "model.onnx"
_FLOATS = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16}
_TAKES = {**_FLOATS, "tensor(uint8)": np.uint8, "tensor(int8)": np.int8, "tensor(int32)": np.int32, "tensor(int64)": np.int64}


def onnx(
    shape: Sequence[int],
    classes: int,
    path: str,
    output: str | None = None,
    probabilities: bool = False,
    mean: Any = None,
    std: Any = None,
) -> nn.Module:
    """A model out of an ONNX file.

    Args:
        shape: Of an image, (channels, height, width), or of an array.
        classes: Not used: the file decides how many logits there are.
        path: The file, or a folder that holds it as model.onnx.
        output: Which of its outputs, by name; needed where it has several.
        probabilities: Whether that output is softmax(logits); its logarithm is taken then.
        mean, std: What is subtracted from pixels in [0, 1], and what they are divided by then, for each channel. Without them a
            model that takes floats sees pixels in [0, 1], and one that takes uint8 sees them as they are.

    Returns:
        The net; it takes what the file says: channels first or last, or rows flattened to one axis.

    Raises:
        InputError: onnxruntime is not installed, or the file does not hold a model with one input for rows of this shape.
    """
    require(len(shape) > 0, WHAT, "inputs that are numbers: texts need their tokenizer", "texts")
    require(isinstance(probabilities, bool), f"{WHAT} probabilities", "True or False", probabilities)
    shift, scale = numbers(f"{WHAT} mean", mean, [0.0]), numbers(f"{WHAT} std", std, [1.0], above=0)
    return Onnx(contents(path), shape, output, probabilities, shift, scale)


def files(path: str) -> list[Path]:
    """The files that decide what the model does: the model, and weights that lie beside it."""
    found = Path(path) / FILE if Path(path).is_dir() else Path(path)
    if not found.is_file():
        raise InputError(f"{WHAT}, path", expected="an ONNX file", found=f"none at {path}", fix="Correct the path.")
    return [found, *sorted({found.parent / each for each in _beside(_parsed(found))})]


def assets(path: str) -> dict[str, bytes]:
    """The model as one file, by name."""
    return {FILE: contents(path)}


def contents(path: str) -> bytes:
    """The bytes of the model, with weights that lie in files beside it."""
    file, *beside = files(path)
    if not beside:
        return file.read_bytes()
    model = _parsed(file)
    try:
        needed("onnx", WHAT).external_data_helper.load_external_data_for_model(model, str(file.parent))
        whole: bytes = model.SerializeToString()
    except Exception as error:
        fix = "Put its weights beside it; a model of more than 2 GB has to be made smaller, such as by float16."
        raise InputError(f"{WHAT}, {file}", expected="a model with its weights", found=first_line(error), fix=fix) from error
    return whole


def class_count(path: str, output: str | None, shape: Sequence[int]) -> int:
    """How many logits a row has."""
    net = onnx(shape, 0, path, output)
    with torch.inference_mode():
        return int(net(torch.zeros((1, *shape), dtype=torch.uint8)).shape[1])


class Onnx(nn.Module):
    """An ONNX model as a net. Its session is made at the first forward pass, with as many threads as torch then has.

    flops: a guess of the operations of a row, which are not counted: enough for all cores.
    """

    flops = 1e9

    def __init__(
        self,
        data: bytes,
        shape: Sequence[int],
        output: str | None,
        probabilities: bool,
        mean: Sequence[float],
        std: Sequence[float],
    ):
        super().__init__()
        self.data, self.shape, self.probabilities = data, tuple(shape), probabilities
        self._sessions: dict[int, Any] = {}
        session = self._session(1)
        [self._input, dtype, self._order, self._rows] = _input(session, self.shape)
        self.dtype = _TAKES[dtype]
        self.output = _output(session, output)
        self.mean, self.std = (np.asarray(each, np.float32).reshape(-1, *(1,) * (len(shape) - 1)) for each in (mean, std))
        self.scaled = bool(self.mean.any() or (self.std != 1).any())
        self.weights = _weights(data)  # how many numbers it was trained for

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Logits of inputs.

        Args:
            inputs: (B, *shape), uint8 pixels or other numbers.

        Returns:
            (B, classes) float32.
        """
        rows = self._prepared(inputs.cpu().numpy())
        session = self._session(torch.get_num_threads())
        size = self._rows or len(rows)
        pieces = []
        for start in range(0, len(rows), size):
            piece = rows[start : start + size]
            filled = np.concatenate([piece, np.zeros((size - len(piece), *piece.shape[1:]), piece.dtype)])
            [found] = self._run(session, filled)
            pieces.append(np.asarray(found, np.float32).reshape(size, -1)[: len(piece)])
        logits = torch.from_numpy(np.concatenate(pieces)).to(inputs.device)
        return logits.clamp(min=torch.finfo(torch.float32).tiny).log() if self.probabilities else logits

    def _run(self, session: Any, rows: np.ndarray) -> list[np.ndarray]:
        try:
            found: list[np.ndarray] = session.run([self.output], {self._input: rows})
        except Exception as error:  # of onnxruntime's own kinds
            fix = "Set ingest.size to what the model takes, or export it again."
            what, expected = f"{WHAT}, input {self._input}", f"a model for rows of shape {rows.shape[1:]}"
            raise InputError(what, expected=expected, found=first_line(error), fix=fix) from error
        return found

    @property
    def takes(self) -> tuple[str, tuple[int, ...]]:
        """The name of its input, and the shape of a batch of one row, or of as many rows as the file wants."""
        return self._input, (self._rows or 1, *_orders(self.shape)[self._order])

    def __deepcopy__(self, memo: dict[int, Any]) -> "Onnx":
        return self

    def _prepared(self, inputs: np.ndarray) -> np.ndarray:
        """Rows as the model takes them."""
        if inputs.dtype == np.uint8 and np.issubdtype(self.dtype, np.floating):
            inputs = (inputs.astype(np.float32) / 255 - self.mean) / self.std
        elif self.scaled or not (np.issubdtype(self.dtype, np.floating) or np.can_cast(inputs.dtype, self.dtype, "safe")):
            kind = np.dtype(self.dtype).name
            expected = f"{kind}, without mean and std" if self.scaled else f"numbers that {kind} holds"
            fix = "Export it for floats, or store the data as what it takes."
            raise InputError(f"{WHAT}, input {self._input}", expected=expected, found=inputs.dtype.name, fix=fix)
        if self._order == "last":
            inputs = np.moveaxis(inputs, 1, -1)
        elif self._order == "flat":
            inputs = inputs.reshape(len(inputs), -1)
        return np.ascontiguousarray(inputs.astype(self.dtype, copy=False))

    def _session(self, threads: int) -> Any:
        if threads not in self._sessions:
            library = needed("onnxruntime", WHAT)
            options = library.SessionOptions()
            options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 4
            try:
                self._sessions[threads] = library.InferenceSession(self.data, options, providers=["CPUExecutionProvider"])
            except Exception as error:
                fix = "Export it again, for this version of onnxruntime."
                raise InputError(WHAT, expected="a model that onnxruntime runs", found=first_line(error), fix=fix) from error
        return self._sessions[threads]


def _input(session: Any, shape: tuple[int, ...]) -> tuple[str, str, str, int | None]:
    """Name, type and order of axes of the only input, and the number of rows that it takes; None for any number."""
    inputs = session.get_inputs()
    names = ", ".join(each.name for each in inputs)
    require(len(inputs) == 1, WHAT, "a model with one input", f"{len(inputs)}: {names}")
    [one] = inputs
    require(one.type in _TAKES, f"{WHAT}, input {one.name}", "numbers", one.type)
    rows, *axes = one.shape if one.shape else [None]
    for name, wanted in _orders(shape).items():
        fits = [not isinstance(axis, int) or axis == size for axis, size in zip(axes, wanted, strict=False)]
        if len(axes) == len(wanted) and all(fits):
            return one.name, one.type, name, rows if isinstance(rows, int) else None
    raise InputError(
        f"{WHAT}, input {one.name}", expected=f"rows of shape {shape}, as in the transfer set, or channels last, or flat",
        found=f"({', '.join(map(str, axes))})", fix="Set ingest.size to what the model takes, or export it again.",
    )  # fmt: skip


def _orders(shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """The shape of a row by the order of its axes: channels first or last, or all in one axis."""
    return {"first": shape, "last": (*shape[1:], shape[0]), "flat": (math.prod(shape),)}


def _output(session: Any, name: str | None) -> str:
    """The name of the output that holds the logits."""
    outputs = {each.name: each for each in session.get_outputs()}
    told = ", ".join(outputs)
    if name is None:
        require(len(outputs) == 1, WHAT, "a model with one output, or `output='…'` to name the one with the logits", told)
        [name] = outputs
    require(name in outputs, f"{WHAT} output", f"one of {told}", name)
    found = outputs[name]
    floats = found.type in _FLOATS and len(found.shape) != 1
    fits = "rows of float logits (scikit-learn: export with zipmap=False)"
    require(floats, f"{WHAT}, output {name}", fits, f"{found.type} of shape {found.shape}")
    return name


def _parsed(file: Path) -> Any:
    """The model in a file, without weights that lie beside it."""
    try:
        return needed("onnx", WHAT).load_model_from_string(file.read_bytes())
    except InputError:
        raise
    except Exception as error:
        fix = "Export it again, or correct the path."
        raise InputError(f"{WHAT}, {file}", expected="an ONNX model", found=first_line(error), fix=fix) from error


def _beside(model: Any) -> set[str]:
    """The names of the files beside a model that hold weights of it."""
    return {
        entry.value for each in model.graph.initializer if each.data_location == each.EXTERNAL
        for entry in each.external_data if entry.key == "location"
    }  # fmt: skip


def _weights(data: bytes) -> int:
    """How many numbers the model holds as weights."""
    model = needed("onnx", WHAT).load_model_from_string(data)
    return sum(math.prod(each.dims) for each in model.graph.initializer)
