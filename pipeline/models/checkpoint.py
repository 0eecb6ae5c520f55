"""Checkpoints: trained nets as safetensors weights, in a folder whose model.json binds them.

Weights never travel as pickles: reading one could run code.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import safetensors
import safetensors.torch
import torch

from pipeline.base import facts, files, table
from pipeline.base.errors import IntegrityError, first_line
from pipeline.base.spec import Spec
from pipeline.data.splits import Split
from pipeline.models.build import build, parse_model
from pipeline.models.modelfile import (
    FILE_NAME,
    FORMAT,
    HISTORY,
    HISTORY_COLUMNS,
    Chosen,
    Data,
    Facts,
    Kind,
    Learned,
    ModelFile,
    Net,
    Shown,
    weights_name,
)  # fmt: skip
from pipeline.models.training import Training


class Checkpoint(ModelFile):
    """A folder with trained nets, opened, whose weights can be loaded."""

    @staticmethod
    def write(
        folder: Path,
        *,
        kind: Kind,
        name: str,
        model: Spec,
        split: Split,
        data: Data,
        nets: Mapping[Net, torch.nn.Module | None],
        history: Sequence[Mapping[str, object]],
        recipe: Training,
        views: Shown,
        rows: Chosen | None = None,
        soft: Learned | None = None,
    ) -> None:
        """Write model.json, the history, and the weights of every net that has some into `folder`; see modelfile.Facts.

        nets: each as it is known before its sha256 is. split: whose pixels and classes the nets are of.
        """
        written = []
        for net, module in nets.items():
            digest = None
            if module is not None:
                held = _weights(module)
                digest = files.sha256(held)
                files.write(folder / weights_name(kind, net.seed), held)
            written.append(Net(**vars(net) | {"sha256": digest}))
        past = table.to_parquet(history, HISTORY_COLUMNS)
        files.write(folder / HISTORY, past)
        said = Facts(
            FORMAT, kind, name, model.text, model.behaviour, split.shape, split.classes, tuple(written),
            data, files.sha256(past), recipe, views, rows, soft,
        )  # fmt: skip
        files.write(folder / FILE_NAME, facts.sealed(asdict(said)))

    @property
    def spec(self) -> Spec:
        """The model, parsed; raises IntegrityError where it does something else by now than when it was trained."""
        spec = parse_model(self.model)
        if spec.behaviour != self.behaviour:
            what, expected = f"{self.folder}, model {self.model}", f"{self.behaviour}, with which it was trained"
            fix = self.fix if spec.source is None else f"{self.fix} Or restore the plug-in."
            raise IntegrityError(what, expected=expected, found=spec.behaviour, fix=fix)
        return spec

    def load(self, net: Net, device: torch.device) -> torch.nn.Module:
        """Build the model and fill it with the weights of a net: those bytes, and no others, that model.json binds.

        Raises IntegrityError where the file is missing or changed, and what `spec` raises.
        """
        path = self.file(net)
        data = self.read(path, net.sha256 or "none, for it diverged")
        model = build(self.spec, self.shape, len(self.classes))
        try:
            model.load_state_dict(safetensors.torch.load(data))
        except (RuntimeError, safetensors.SafetensorError) as error:
            found = first_line(error)
            raise IntegrityError(str(path), expected=f"weights of {self.model}", found=found, fix=self.fix) from error
        return model.to(device).eval()


def _weights(model: torch.nn.Module) -> bytes:
    """All of a model's state as a safetensors file."""
    tensors = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    return safetensors.torch.save(tensors)
