"""Checkpoints: folders with the weights of trained nets, as safetensors files, and a model.json with their sha256.

Weights are never pickled, because reading a pickle can run code.
"""

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import safetensors
import safetensors.torch
import torch

from pipeline.base import facts, files, table
from pipeline.base.errors import InputError, IntegrityError, first_line
from pipeline.base.spec import Spec
from pipeline.data.splits import Split
from pipeline.models import elsewhere, modelfile, weights
from pipeline.models.build import assemble, parameter_count, parse_model, placed
from pipeline.models.modelfile import Chosen, Data, Facts, Kind, Learned, ModelFile, Mutual, Net, Outputs, Shown
from pipeline.models.outputs import Mapped
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
        outputs: Outputs | None = None,
        mutual: Mutual | None = None,
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
            outputs: Which outputs of the nets are those of the classes; None for all, one by one.
            mutual: How the nets learned from each other, if they did.

        Raises:
            InputError: An asset of the model, such as a tokenizer, is missing.
        """
        written = []
        for net, module in nets.items():
            digest = None
            if module is not None:
                held = _weights(module)
                digest = files.sha256(held)
                files.write(folder / modelfile.weights_name(kind, net.seed), held)
            written.append(Net(**vars(net) | {"sha256": digest}))
        epochs = table.to_parquet(history, modelfile.HISTORY_COLUMNS)
        files.write(folder / modelfile.HISTORY, epochs)
        pattern = next((net for net in nets.values() if net is not None), None)
        if pattern is None:
            pattern = assemble(model, split.inputs, outputs.count if outputs else len(split.classes))
        assets = elsewhere.assets_of(model)
        for asset, content in assets.items():
            files.write(folder / modelfile.ASSETS / asset, content)
        said = Facts(
            modelfile.FORMAT, kind, name, model.text, model.behaviour, split.inputs, split.classes, tuple(written),
            data, files.sha256(epochs), recipe, views, rows, soft, None, outputs, parameter_count(pattern),
            {asset: files.sha256(content) for asset, content in assets.items()}, (), mutual,
        )  # fmt: skip
        files.write(folder / modelfile.FILE_NAME, facts.sealed(asdict(said)))

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
        model = self.assembled()
        try:
            weights.load(model, safetensors.torch.load(data), str(path))
        except (InputError, safetensors.SafetensorError) as error:
            found = error.found if isinstance(error, InputError) else first_line(error)
            raise IntegrityError(str(path), expected=f"weights of {self.model}", found=found, fix=self.fix) from error
        return placed(Mapped(model, self.outputs) if self.outputs else model, device).eval()

    def assembled(self) -> torch.nn.Module:
        """Build the model with all of its own outputs, and initial weights.

        Returns:
            The model in eval mode, on the CPU.

        Raises:
            IntegrityError: An asset is missing or damaged, or the code of the model has changed since it was trained.
        """
        with self._assets() as spec:
            return assemble(spec, self.inputs, self.outputs.count if self.outputs else len(self.classes))

    @contextlib.contextmanager
    def _assets(self) -> Iterator[Spec]:
        """The spec of the model; its assets, if it has any, are copies that are as model.json says."""
        if not self.assets:
            yield self.spec
            return
        with tempfile.TemporaryDirectory() as folder:
            for name, digest in self.assets.items():
                copy = Path(folder, name)
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(self.read(self.base / modelfile.ASSETS / name, digest))
            yield elsewhere.moved(self.spec, Path(folder))


def _weights(model: torch.nn.Module) -> bytes:
    """All of a model's state as a safetensors file; tied weights are in it once, under the first of their names."""
    held: dict[object, tuple[str, torch.Tensor]] = {}
    for name, tensor in model.state_dict().items():
        held.setdefault((tensor.data_ptr(), tensor.shape) if tensor.numel() else name, (name, tensor))
    return safetensors.torch.save({name: tensor.detach().cpu().contiguous() for name, tensor in held.values()})
