"""Checkpoints: a trained model as safetensors weights and a JSON file that says how to build it.

Weights never travel as pickles: reading one could run code.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from pipeline import files, models
from pipeline.errors import IntegrityError

VERSION = 1
WEIGHTS = "model.safetensors"


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
