"""Small nets for pixels of 5×4 in three classes, and a teacher of one on disk."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from conftest import write_teacher
from pipeline.data.inputs.image import Images
from pipeline.models.build import build, parse_model
from pipeline.models.checkpoint import Checkpoint

PIXELS = torch.from_numpy(np.random.default_rng(0).integers(0, 255, (37, 1, 5, 4), dtype=np.uint8))


def made(text: str, seed=0, shape=(1, 5, 4)) -> torch.nn.Module:
    return build(parse_model(text), Images("L" if shape[0] == 1 else "RGB", shape), 3, seed=seed).eval()


@dataclass
class Source:
    """What a checkpoint wants of a split."""

    inputs: Images = field(default_factory=lambda: Images("L", (1, 5, 4)))
    classes: tuple = ("a", "b", "c")
    path: Path = Path("nowhere/train.parquet")
    inputs_digest: str = "inputs"
    labels_digest: str = "labels"


def saved(folder, text="mlp(hidden=[6])"):
    net = made(text, seed=7)
    write_teacher(folder, net, Source(), model=text, seed=7)
    return net


def loaded(folder):
    checkpoint = Checkpoint.teacher(folder)
    return checkpoint.load(checkpoint.nets[0], torch.device("cpu"))
