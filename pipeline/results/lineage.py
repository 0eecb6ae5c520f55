"""Lineage: what the nets of an evaluation come from."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.base import facts
from pipeline.data.splits import Split
from pipeline.models.modelfile import ModelFile

FORMAT = 1
FILE_NAME = "lineage.json"


@dataclass(frozen=True)
class Lineage:
    """The content of lineage.json. models: the net of each teacher and student, by run. shape: of a row of inputs."""

    version: int
    kind: str
    shape: tuple[int, ...]
    classes: int
    models: Mapping[str, str]

    @classmethod
    def of(cls, split: Split, models: Mapping[str, ModelFile]) -> "Lineage":
        """The lineage of these nets. models: by run."""
        inputs, texts = split.inputs, {name: each.model for name, each in models.items()}
        return cls(FORMAT, inputs.kind, tuple(inputs.shape), len(split.classes), texts)

    def to_json(self) -> bytes:
        """The bytes of lineage.json."""
        return facts.sealed(asdict(self))

    @classmethod
    def parse(cls, data: bytes, path: Path, fix: str) -> "Lineage":
        """The content of lineage.json. Raises IntegrityError if it is damaged."""
        return facts.unsealed(cls, data, str(path), fix, FORMAT)
