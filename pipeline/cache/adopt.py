"""Adopt: take a teacher that was trained elsewhere, with its weights, after a look at what it makes of real rows."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pipeline.base import files, runtime
from pipeline.base.errors import InputError
from pipeline.base.places import Place
from pipeline.base.spec import Spec, name_in, witnesses
from pipeline.data.splits import UNLABELLED, Split, open_splits
from pipeline.models import elsewhere, onnx, pretrained
from pipeline.models import weights as weight_files
from pipeline.models.build import assemble, flops, parameter_count, parse_model, placed
from pipeline.models.checkpoint import Checkpoint
from pipeline.models.encoding import example, tensor
from pipeline.models.modelfile import Data, Net
from pipeline.models.outputs import Named, mapped, matched
from pipeline.models.predict import HostBuffer, tiles
from pipeline.models.scaled import Scaled, wrong_size
from pipeline.stats import metrics

VERSION = 1  # of what the teacher is that comes of a spec and weights
ROWS = 2048  # of the validation split, at most, that a teacher is tried on
TILE = 32
_WHOLE = ("transformers", "onnx")  # models whose files hold their weights
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Adopted:
    """An adopted teacher. parameters: how many it has. rows: of the validation split, that it was tried on.

    accuracy: on those of them that have labels; NaN where none has.
    """

    parameters: int
    rows: int
    accuracy: float


def adopt(
    *,
    model: str,
    weights: Path | None,
    classes: Named | None,
    splits: Place,
    out: Place,
    device: torch.device,
) -> Adopted:
    """Write a teacher of this net and these weights to a folder, whose name is the teacher's, after trying it on real rows.

    The folder gets model.safetensors, model.json, and a copy of what else the net is made of, such as a tokenizer.

    Args:
        model: A model spec, such as `timm('resnet18')`, `transformers('data/source/classifier')`, `onnx('net.onnx')`, or a
            plug-in; see models.build.parse_model.
        weights: A safetensors file, or a state_dict that loads without unpickling; None for a model whose files hold them.
        classes: For each class of the data, the number or name of the teacher's output, or a list of them; None where the
            outputs are the classes, by name where the teacher has names, else in the order of the data.
        splits: The folder that ingest wrote.
        out: The folder to write; it is replaced as a whole.
        device: Where the teacher is tried; see base.runtime.prepare.

    Returns:
        What was adopted, and how it did on validation rows.

    Raises:
        InputError: Net, weights and data do not fit, or a logit of a real row is not finite, or is a probability.
        BusyError: A file was replaced meanwhile.
    """
    train, valid = open_splits(splits, ("train", "valid")).values()
    spec = parse_model(model)
    read = [train.witness, *elsewhere.witnesses_of(spec), *witnesses(spec)]
    tensors = None
    if _holds_weights(spec, weights):
        count, names = _outputs_of(spec, train)
    else:
        tensors, witness = weight_files.read(_required(spec, weights))
        read.append(witness)
        inner = _inner(assemble(spec, train.inputs, len(train.classes)))
        count, names = weight_files.outputs_in(inner, tensors, len(train.classes)), None
    outputs = matched(out.name, train.classes, count, names, classes)
    net = assemble(spec, train.inputs, count)
    _require_size(out.name, spec, net, train)
    if tensors is not None:
        weight_files.load(_inner(net), tensors, f"teacher {out.name}, {weights}")
    own, labels = _tried(placed(net, device), valid, out.name)
    _require_no_probabilities(out.name, spec, own)
    logits = mapped(torch.from_numpy(own), outputs).numpy() if outputs else own
    _require_finite(out.name, logits, valid)
    known = labels != UNLABELLED
    accuracy = metrics.accuracy(logits[known], labels[known]) if known.any() else float("nan")
    chance = bool(known.any()) and metrics.at_chance(accuracy, labels[known])
    if chance:
        _log.warning(
            "teacher %s: right on %.2f %% of %s validation rows, which is not clearly above always naming the commonest class: "
            "are its classes in another order? `classes` says which is which",
            out.name, 100 * accuracy, f"{known.sum():,}",
        )  # fmt: skip
    with files.replaced_folder(out, read=read) as folder:
        Checkpoint.write(
            folder, kind="adopted", name=out.name, model=spec, split=train, data=Data.of(train, valid),
            nets={Net(0, None, None, chance=chance): net}, history=[], recipe=None, views=None, outputs=outputs,
        )  # fmt: skip
    return Adopted(parameter_count(net), len(logits), accuracy)


def adopts(model: str, weights: object) -> bool:
    """Whether a teacher of this model, in an entry with or without weights, is adopted rather than trained."""
    spec = parse_model(model)
    return weights is not None or (name_in(spec.text) in _WHOLE and not spec.arguments.get("head"))


def _holds_weights(spec: Spec, weights: Path | None) -> bool:
    """Whether the files of a model hold its weights.

    Raises InputError for weights beside them, and for a head that is still to be trained.
    """
    if name_in(spec.text) not in _WHOLE:
        return False
    if spec.arguments.get("head"):
        what, expected = f"model {spec.text}", "a trained teacher"
        raise InputError(what, expected=expected, found="one with a new head", fix="Train it: `softcache teach`.")
    if weights is not None:
        found = f"{weights} beside them"
        raise InputError(f"model {spec.text}", expected="the weights in its own files", found=found, fix="Leave out `weights`.")
    return True


def _required(spec: Spec, weights: Path | None) -> Path:
    if weights is None:
        fix = "Name a safetensors file or a state_dict, or train the teacher: `softcache teach`."
        raise InputError("weights", expected=f"a file with the weights of {spec.text}", found="none", fix=fix)
    return weights


def _outputs_of(spec: Spec, train: Split) -> tuple[int, tuple[str, ...] | None]:
    """How many outputs a model has whose files hold its weights, and their names, if it has any."""
    path = str(spec.arguments["path"])
    if name_in(spec.text) == "transformers":
        return pretrained.class_names(path)
    return onnx.class_count(path, spec.arguments["output"], train.inputs.shape), None


def _inner(net: torch.nn.Module) -> torch.nn.Module:
    """The library's own net, whose weights have the names in files of that library."""
    return net.net if isinstance(net, Scaled) else net


def _require_size(name: str, spec: Spec, net: torch.nn.Module, train: Split) -> None:
    """Raise InputError where images are of another size than a net of a library was made for."""
    inner = net if isinstance(net, Scaled) else None
    found = tuple(train.inputs.shape[1:])
    if inner is None or inner.native is None or inner.native == found:
        return
    own = f", or write {name_in(spec.text)}(…, size={found[0]}) if these weights were trained on such images"
    raise wrong_size(f"teacher {name}, size of images", inner.native, found, own)


def _tried(net: torch.nn.Module, valid: Split, name: str) -> tuple[np.ndarray, np.ndarray]:
    """All outputs of a net for the first validation rows, (n, count) float32, and the labels of these, (n,) int64."""
    count = min(valid.rows, ROWS)
    labels, buffer = valid.labels()[:count], HostBuffer(count)
    with runtime.suited_threads(flops(net, example(net, valid.inputs)) * TILE):
        bar = runtime.progress((), f"trying {name}", total=count, unit="rows")
        for span, (start, stop) in enumerate(valid.spans()):
            if start >= count:
                break
            held = tensor(net, valid.read(span, np.arange(min(stop, count) - start)))
            for first, logits in tiles(net, len(held), held.__getitem__, tile=TILE):
                buffer.add(start + first, logits)
                bar.update(len(logits))
        bar.close()
    return buffer.numpy(), labels


def _require_no_probabilities(name: str, spec: Spec, outputs: np.ndarray) -> None:
    """Raise InputError where all outputs of a net, (n, count), are probabilities: those of some classes need not sum to 1."""
    if metrics.are_probabilities(outputs):
        own = name_in(spec.text) == "onnx"
        fix = "Write onnx(…, probabilities=True)." if own else "Let the net return what goes into its softmax."
        raise InputError(f"teacher {name}", expected="logits", found="probabilities: every row sums to 1", fix=fix)


def _require_finite(name: str, logits: np.ndarray, valid: Split) -> None:
    """Raise InputError for logits that are not finite."""
    odd = np.argwhere(~np.isfinite(logits))
    if len(odd):
        row, column = map(int, odd[0])
        what = f"teacher {name}, valid row {row}, class {valid.classes[column]}"
        fix = "Correct the weights, or how inputs are scaled."
        raise InputError(what, expected="a finite logit", found=str(logits[row, column]), fix=fix)
