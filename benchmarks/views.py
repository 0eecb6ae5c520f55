"""Views of a batch against torchvision's, image by image, as a data loader makes them; and with one draw for a whole batch.

torchvision is no dependency: where it does not import, or there is none for this torch, ours are measured alone.
"""

import argparse
from collections.abc import Callable
from types import ModuleType

import numpy as np
import torch

from benchmarks.measure import in_turns, machine, median, ratio, show
from pipeline.base import runtime
from pipeline.data.views import Policy

BATCH = 256
STEPS = (
    "shift(4)", "shift(4, edge='reflect')", "flip()", "affine(rotate=15)", "elastic(2)", "resized_crop()",
    "jitter(0.4, 0.4, 0.4)", "grey(0.2)", "erase()", "mixup(1)", "cutmix(1)",
)  # fmt: skip


def torchvision_v2() -> ModuleType | None:
    """torchvision.transforms.v2, where it imports."""
    try:
        from torchvision.transforms import v2
    except Exception as error:  # of another torch, it fails with a RuntimeError
        print(f"without torchvision: {type(error).__name__}")
        return None
    return v2


def pixels(count: int, size: int) -> torch.Tensor:
    generator = np.random.default_rng(0)
    return torch.from_numpy(generator.integers(0, 256, (count, 3, size, size), dtype=np.uint8))


def ours(text: str, images: torch.Tensor) -> Callable[[], torch.Tensor]:
    """One view after another of these images."""
    policy, rows, view = Policy.parse(text, 0), np.arange(len(images)), iter(range(1, 10**9))

    def run() -> torch.Tensor:
        views = np.full(len(rows), next(view))
        if not policy.mixes:
            return policy.apply(images, rows, views)
        partners, _ = policy.partners(rows, views, len(rows), len(rows), images.shape[1:])
        return policy.apply(images, rows, views, (partners, images[torch.from_numpy(partners)]))

    return run


def against(title: str, text: str, transform: torch.nn.Module, images: torch.Tensor, times: int, bar: str = "") -> None:
    """A policy against a transform."""
    seconds = in_turns(
        {
            "ours": ours(text, images),
            "channels-last": ours(text, images.contiguous(memory_format=torch.channels_last)),
            "one by one": lambda: torch.stack([transform(image) for image in images]),
            "one draw for all": lambda: transform(images),
        },
        times,
    )
    ms = {name: median(each) * 1e3 for name, each in seconds.items()}
    found, detail = ratio(seconds["one by one"], seconds["ours"]), f"{ms['ours']:.2f} against {ms['one by one']:.2f} ms"
    show(f"{title}: speed / torchvision, image by image", found, bar, found >= 1 if bar else None, detail)
    found = ratio(seconds["one draw for all"], seconds["ours"])
    show(f"{title}: speed / torchvision, one draw for all", found, detail=f"against {ms['one draw for all']:.2f} ms")
    found = ratio(seconds["ours"], seconds["channels-last"])
    show(f"{title}: speed of channels-last / of NCHW", found, detail=f"{ms['channels-last']:.2f} ms")


def alone(times: int) -> None:
    """Each step by itself, and the batch of a training step on one thread."""
    with runtime.suited_threads(0):
        few = pixels(128, 32)
        found = median(in_turns({"ours": ours("shift(4) | flip()", few)}, times * 20)["ours"]) * 1e3
        show(f"shift | flip of 128 at 32×32, {torch.get_num_threads()} thread", found, "≤ 0.25", found <= 0.25, unit=" ms")
    for size in (32, 224):
        images = pixels(BATCH if size == 32 else 32, size)
        for text in STEPS:
            found = median(in_turns({"ours": ours(text, images)}, times)["ours"]) / len(images) * 1e6
            show(f"{text} at {size}×{size}", found, unit=" µs an image", form=".1f")


def others(times: int) -> None:
    """Frames of speech and sentences."""
    frames = torch.from_numpy(np.random.default_rng(0).normal(size=(BATCH, 100, 40)).astype(np.float32))
    for text in ("noise(0.1)", "roll(10)", "mask(10, axis=0, count=2) | mask(5, axis=1, count=2)"):
        found = median(in_turns({"ours": ours(text, frames)}, times)["ours"]) / BATCH * 1e6
        show(f"{text} of 100×40 numbers", found, unit=" µs a row", form=".1f")
    texts = ["the quick brown fox jumps over the lazy dog and then it does so again"] * BATCH
    policy, rows = Policy.parse("drop(3)", 0), np.arange(BATCH)
    found = median(in_turns({"ours": lambda: policy.rewrite(texts, rows, rows * 0 + 1)}, times)["ours"]) / BATCH * 1e6
    show("drop(3) of 15 words", found, unit=" µs a text", form=".1f")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=15)
    times = parser.parse_args().times
    runtime.prepare("cpu")
    print(f"views: {machine()}")
    alone(times)
    others(times)
    if (v2 := torchvision_v2()) is not None:
        moved = v2.Compose([v2.RandomCrop(32, padding=4), v2.RandomHorizontalFlip()])
        against(f"shift(4) | flip() of {BATCH} at 32×32", "shift(4) | flip()", moved, pixels(BATCH, 32), times, "≥ 1")
        cropped = v2.Compose([v2.RandomResizedCrop(224, antialias=True), v2.RandomHorizontalFlip()])
        against("resized_crop() | flip() of 32 at 224×224", "resized_crop() | flip()", cropped, pixels(32, 224), times)
        jitter = v2.ColorJitter(0.4, 0.4, 0.4)
        against(f"jitter of {BATCH} at 32×32", "jitter(0.4, 0.4, 0.4)", jitter, pixels(BATCH, 32), times)


if __name__ == "__main__":
    main()
