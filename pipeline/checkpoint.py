"""Checkpoints: a trained model as safetensors weights and a JSON file that says how to build it; a training half done.

Weights never travel as pickles: reading one could run code.
"""

import contextlib
import json
import logging
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from pipeline import files, models
from pipeline.errors import InputError, IntegrityError
from pipeline.manifest import differences
from pipeline.transfer import Split

VERSION = 1
WEIGHTS = "model.safetensors"
_IDENTITY = "identity.json"
_log = logging.getLogger(__name__)


def seed_weights(seed: int) -> str:
    """Name of the weights file of the student of one seed."""
    return f"seed-{seed}.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """What model.json says. shape: (channels, height, width) of the pixels; facts: whatever the job adds."""

    model: str
    shape: tuple[int, ...]
    classes: tuple[str, ...]
    facts: Mapping[str, Any]

    def save(self, folder: Path, weights: Mapping[str, torch.nn.Module]) -> None:
        """Write model.json and one weights file per entry of `weights` (file name → model) into `folder`."""
        for name, model in weights.items():
            tensors = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
            files.write(folder / name, safetensors.torch.save(tensors))
        facts = {"version": VERSION, "model": self.model, "shape": list(self.shape), "classes": list(self.classes)}
        files.write(folder / "model.json", files.readable_json({**facts, **self.facts}))

    @classmethod
    def open(cls, folder: Path) -> "Checkpoint":
        """Read model.json. Raises InputError where it is missing, IntegrityError where it is of another version."""
        path = folder / "model.json"
        facts = files.read_json(path)
        version = facts.pop("version", None)
        if version != VERSION:
            raise IntegrityError(str(path), expected=f"version {VERSION}", found=f"{version}", fix="Train the model again.")
        try:
            return cls(facts.pop("model"), tuple(facts.pop("shape")), tuple(facts.pop("classes")), facts)
        except (KeyError, TypeError) as error:
            raise IntegrityError(str(path), expected="model, shape and classes", found="less", fix="Train it again.") from error

    def require_fit(self, name: str, split: Split) -> None:
        """Raise InputError unless teacher `name`, which this is, takes the pixels of `split` and knows its classes."""
        for what, expected, found in (("classes", split.classes, self.classes), ("pixel shape", split.shape, self.shape)):
            if expected != found:
                wanted, fix = f"{expected} as in the transfer set", f"Train it on these data: run `softcache teach {name}`."
                raise InputError(f"teacher {name}, {what}", expected=wanted, found=str(found), fix=fix)

    def load(self, path: Path, device: torch.device) -> torch.nn.Module:
        """Build the model and fill it with the weights in file `path`.

        Raises IntegrityError where the file is missing, damaged or holds another model's weights.
        """
        spec = models.parse(self.model)
        if spec.source_sha256 != self.facts.get("source_sha256"):
            fix = "Train the model again, or restore the plug-in."
            raise IntegrityError(f"{path}, plug-in", expected="the code it was trained with", found="other code", fix=fix)
        model = models.build(spec, self.shape, len(self.classes))
        try:
            model.load_state_dict(safetensors.torch.load(path.read_bytes()))
        except (FileNotFoundError, RuntimeError, safetensors.SafetensorError) as error:
            found = "no file" if isinstance(error, FileNotFoundError) else str(error).splitlines()[0]
            fix = "Train the model again."
            raise IntegrityError(str(path), expected=f"the weights of {self.model}", found=found, fix=fix) from error
        return model.to(device).eval()


# ---------------------------------------------------------------- a training half done


@contextlib.contextmanager
def resumable(work: Path, out: Path, identity: Mapping[str, Any]) -> Iterator[Path]:
    """Hold the folder below `work` in which the training that writes `out` keeps how far it is, for as long as it runs.

    A training that was killed finds there what it had reached, provided that it has the same identity: all that its
    weights are a function of. What other settings had reached is removed, and so is all of it when the block ends well.
    Raises BusyError where another process trains the same.
    """
    place = str(out.resolve())
    folder = work / "trainings" / f"{out.name}-{files.sha256(place.encode())[:12]}"
    written = files.readable_json({"out": place, **identity})
    with files.locked(folder, f"training of {out.name}"):
        before = (folder / _IDENTITY).read_bytes() if (folder / _IDENTITY).exists() else None
        if before != written:
            if before is not None:
                _announce(out, json.loads(before), json.loads(written))
            files.empty(folder)  # also of what a killed removal left: whose state that is cannot be told
            files.write(folder / _IDENTITY, written)
        yield folder
        shutil.rmtree(folder)


def _announce(out: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    changed = ", ".join(name for name, _, _ in differences(now, before)) or "its settings"
    _log.warning("%s: an unfinished training is given up, because these have changed since: %s", out, changed)


def save_state(path: Path, tensors: Mapping[str, torch.Tensor], facts: Mapping[str, Any]) -> None:
    """Write how far a training is, all of it or nothing: tensors by name, and facts that JSON can hold."""
    held = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    files.write(path, safetensors.torch.save(held, metadata={"facts": json.dumps(facts)}))


def load_state(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
    """What `save_state` wrote, on the CPU; None where there is nothing. Raises IntegrityError where it is damaged."""
    if not path.exists():
        return None
    try:
        with safetensors.safe_open(path, "pt") as file:
            facts = json.loads(file.metadata()["facts"])
            return {name: file.get_tensor(name) for name in file.keys()}, facts  # noqa: SIM118 - it is no mapping
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
        fix = f"Remove {path.parent} and train from the start."
        raise IntegrityError(str(path), expected="how far a training was", found=str(error), fix=fix) from error
