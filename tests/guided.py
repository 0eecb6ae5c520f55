"""Teachers whose caches keep features, and students that learn from them."""

from pathlib import Path

import torch
from safetensors.torch import load_file

from conftest import write_stage_one, write_teacher
from pipeline.base import runtime
from pipeline.cache.capture import capture
from pipeline.cache.reader import Cache
from pipeline.cache.settings import Keep
from pipeline.data.inputs.image import Images
from pipeline.data.settings import Views
from pipeline.data.splits import open_splits
from pipeline.data.views import Policy
from pipeline.models.build import build, parse_model
from pipeline.training.distill import distill
from pipeline.training.features import FeatureLoss
from pipeline.training.lesson import Soft
from pipeline.training.losses import SoftLoss
from pipeline.training.objective import LossWeights
from pipeline.training.recipe import Recipe

CPU = torch.device("cpu")
TEACHER, STUDENT = "cnn(channels=[6, 5])", "cnn(channels=[4, 7])"
VIEWS = Views("shift(1)", 3, 5)
POLICY = Policy.parse("shift(1)", 5)
RECIPE = Recipe.parse(optimizer="sgd(lr=0.2, momentum=0.9)", schedule="constant", epochs=3, batch_size=8, clip_grad=2.0)
WEIGHTING = LossWeights(2.0, 0.7, 0.5, features=True)
HINT, SIMILAR = "hint(teacher=layer1, student=layer1, weight=0.5)", "sp(teacher='layer2 | pool', student='layer2', weight=30)"
KEPT = ("layer1", "layer2 | pool")
ROWS = 20  # in spans of 8


def captured(folder: Path, names: str) -> Path:
    """Small pictures, some teachers, and their caches: that of `b` is float16, and that of `c` has no features."""
    runtime.prepare("cpu", threads=1)
    write_stage_one(folder, teachers="", rows=ROWS)
    split = open_splits(folder / "transfer", ["train"])["train"]
    for seed, name in enumerate(names, start=5):
        net = build(parse_model(TEACHER), Images("L", (1, 4, 4)), 3, seed=seed)
        write_teacher(folder / "teachers" / name, net, split, model=TEACHER, seed=seed)
        keep = Keep(dtype="float16" if name == "b" else "float32", features=() if name == "c" else KEPT, tile=4)
        capture(
            teacher=folder / "teachers" / name, splits=folder / "transfer", work=folder / "work", out=folder / "caches" / name,
            provenance=folder / f"{name}.json", device=CPU, views=VIEWS, keep=keep,
        )  # fmt: skip
    return folder


def soft(data: Path, *features: str, names: str = "a", live: bool = False, weights=None) -> Soft:
    teachers = {name: data / ("teachers" if live else "caches") / name for name in names}
    return Soft(teachers, "logits", SoftLoss.parse("kl"), weights, live, features=tuple(map(FeatureLoss.parse, features)))


def trained(data: Path, out: Path, taught: Soft, weighting=WEIGHTING, model=STUDENT, recipe=RECIPE, seeds=(3,)) -> dict:
    """The saved weights of the last seed."""
    distill(
        model=model, recipe=recipe, views=VIEWS, rows="all", soft=taught, weighting=weighting, correct=(), seeds=seeds,
        splits=data / "transfer", work=out.parent / "work", out=out, device=CPU,
    )  # fmt: skip
    return load_file(out / f"seed-{seeds[-1]}.safetensors")


def caches(data: Path, names: str) -> dict[str, Cache]:
    return {name: Cache.open(data / "caches" / name) for name in names}
