"""Checkpoints: folders with the weights of trained nets, as safetensors files, and a model.json with their sha256.

Weights are never pickled, because reading a pickle can run code.
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
from pipeline.models import modelfile
from pipeline.models.build import build, parse_model, placed
from pipeline.models.modelfile import Chosen, Data, Facts, Kind, Learned, ModelFile, Net, Shown
from pipeline.models.training import Training


class Checkpoint(ModelFile):
    """An open folder of trained nets. `teacher` and `open` open one, `load` gives a net."""

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
        recipe: Training | None,
        views: Shown | None,
        rows: Chosen | None = None,
        soft: Learned | None = None,
    ) -> None:
        """Write model.json, the history, and the weights of every net into `folder`. modelfile.Facts explains its contents.

        Args:
            folder: Where the files are written.
            kind: What was trained, such as "teacher".
            name: Its name.
            model: The spec of all nets.
            split: The split that the nets were trained on, which sets what they take and the classes.
            data: The digests of the training and validation data.
            nets: Each net with its module; None for a net that diverged. Their field sha256 is filled in here.
            history: One record per net and epoch, with the columns modelfile.HISTORY_COLUMNS.
            recipe: How the nets were trained; None if they were made elsewhere.
            views: The views that they were trained on; likewise.
            rows: The rows that they were trained on, if recorded.
            soft: The soft targets, for students.
        """
        written = []
        for net, module in nets.items():
            digest = None
            if module is not None:
                weights = _weights(module)
                digest = files.sha256(weights)
                files.write(folder / modelfile.weights_name(kind, net.seed), weights)
            written.append(Net(**vars(net) | {"sha256": digest}))
        epochs = table.to_parquet(history, modelfile.HISTORY_COLUMNS)
        files.write(folder / modelfile.HISTORY, epochs)
        content = Facts(
            modelfile.FORMAT, kind, name, model.text, model.behaviour, split.inputs, split.classes, tuple(written),
            data, files.sha256(epochs), recipe, views, rows, soft, None,
        )  # fmt: skip
        files.write(folder / modelfile.FILE_NAME, facts.sealed(asdict(content)))

    @property
    def spec(self) -> Spec:
        """The parsed spec of the model.

        Raises:
            IntegrityError: The code of the model has changed since it was trained.
        """
        spec = parse_model(self.model)
        if spec.behaviour != self.behaviour:
            what, expected = f"{self.folder}, model {self.model}", f"{self.behaviour}, with which it was trained"
            fix = self.fix if spec.source is None else f"{self.fix} Or restore the plug-in."
            raise IntegrityError(what, expected=expected, found=spec.behaviour, fix=fix)
        return spec

    def load(self, net: Net, device: torch.device) -> torch.nn.Module:
        """Build the model, with the weights of a net.

        Args:
            net: One of `nets`.
            device: Where the model is put.

        Returns:
            The model in eval mode.

        Raises:
            IntegrityError: The weights file is missing or its sha256 is not that in model.json, the net diverged, or the
                code of the model has changed since it was trained.
        """
        path = self.file(net)
        data = self.read(path, net.sha256 or "none, because it diverged")
        model = build(self.spec, self.inputs, len(self.classes))
        try:
            model.load_state_dict(safetensors.torch.load(data))
        except (RuntimeError, safetensors.SafetensorError) as error:
            found = first_line(error)
            raise IntegrityError(str(path), expected=f"weights of {self.model}", found=found, fix=self.fix) from error
        return placed(model, device).eval()


def _weights(model: torch.nn.Module) -> bytes:
    """All of a model's state as a safetensors file."""
    tensors = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    return safetensors.torch.save(tensors)
