"""Hidden states instead of logits: how far off the logits are that they give, their bytes, and the time of reading them."""

import argparse
import shutil
from pathlib import Path

import numpy as np

from benchmarks.measure import CPU, folder_for_data, in_turns, machine, median, ratio, show, write_splits, write_teacher
from benchmarks.reading import BATCH, drain, examples
from pipeline.base import runtime
from pipeline.cache.capture import capture
from pipeline.cache.reader import Cache
from pipeline.cache.settings import Keep
from pipeline.data.ingest import ingest
from pipeline.data.settings import Views
from pipeline.stats.metrics import kl_at
from pipeline.training.recipe import Recipe
from pipeline.training.teach import teach

TEMPERATURES = (1, 2, 4, 8, 20)
BARS = {"float32": 1e-9, "float16": 1e-6, "int8": 1e-3}  # nats
NETS = ("mlp(hidden=[128])", "cnn(channels=[16, 32])", "resnet(depth=8)")


def kept(folder: Path, name: str, keep: Keep) -> Cache:
    """A capture of the only teacher in a folder."""
    out = folder / "caches" / name
    capture(
        teacher=folder / "teacher", splits=folder / "transfer", views=Views(), keep=keep, work=folder / "work" / name, out=out,
        provenance=folder / "provenance.json", device=CPU,
    )  # fmt: skip
    return Cache.open(out)


def exactness(root: Path, epochs: int) -> None:
    """Nets that are trained on the embedded digits: the largest difference, and KL to the logits of the teacher, all rows."""
    for number, model in enumerate(NETS):
        folder = root / str(number)
        ingest(train="digits", test=0.2, valid=0.2, transfer_set=(), damaged="fail", seed=0, out=folder / "transfer")
        recipe = Recipe.parse(optimizer="sgd(lr=0.05, momentum=0.9)", schedule="one_cycle()", epochs=epochs, batch_size=64)
        teach(
            model=model, recipe=recipe, policy="none", seed=0, splits=folder / "transfer", work=folder / "training",
            out=folder / "teacher", device=CPU,
        )  # fmt: skip
        exact = kept(folder, "logits", Keep()).read("transfer")[0]
        for dtype, bar in BARS.items():
            found = kept(folder, dtype, Keep(knowledge="hidden", dtype=dtype)).read("transfer")[0]
            worst = max(kl_at(found, exact, each) for each in TEMPERATURES)
            off = float(np.abs(found - exact).max() / (exact.max() - exact.min()))
            detail = f"largest difference {off:.1g} of the range of the logits; T = {', '.join(map(str, TEMPERATURES))}"
            if dtype == "float32":
                show(f"largest difference, float32, {model}", off, "≤ 1e-5", off <= 1e-5, unit="", form=".1e")
            show(f"KL of hidden {dtype}, {model}", worst, f"≤ {bar:g}", worst <= bar, detail, unit="", form=".1e")


def reading(root: Path, rows: int, times: int) -> None:
    """1,000 classes from 512 hidden numbers: bytes, and the time of an epoch, against the logits themselves."""
    write_splits(root / "transfer", rows, classes=1000, size=4)
    write_teacher(root / "teacher", "mlp(hidden=[512])", root / "transfer")
    caches = {name: kept(root, name, Keep(knowledge=name)) for name in ("logits", "hidden")}
    size = {name: sum(record.size_bytes for record in cache.manifest.records) for name, cache in caches.items()}
    share = size["hidden"] / size["logits"]
    show("bytes of hidden states / of logits, 512 and 1,000", share, "≤ 0.52", share <= 0.52, f"{size['hidden'] / 1e6:,.0f} MB")
    rounds = iter(range(10**6))
    for title, memory_bytes in (("in memory", 10**12), ("streamed", rows * 1000 * 4 * 5 // 8)):
        held = {name: examples(cache.path, memory_bytes) for name, cache in caches.items()}
        for each in held.values():
            drain(each.epoch(0, next(rounds), BATCH))
        seconds = in_turns(
            {name: lambda each=each: drain(each.epoch(0, next(rounds), BATCH)) for name, each in held.items()}, times
        )
        found = ratio(seconds["hidden"], seconds["logits"])
        detail = f"{median(seconds['hidden']) * 1e3:,.0f} against {median(seconds['logits']) * 1e3:,.0f} ms"
        show(f"time of an epoch, {title}, hidden / logits", found, "≤ 1.3", found <= 1.3, detail)
    first = {name: lambda cache=cache: drain(examples(cache.path, 10**12).epoch(0, 0, BATCH)) for name, cache in caches.items()}
    seconds = in_turns(first, times)
    detail = (
        f"{median(seconds['hidden']) * 1e3:,.0f} against {median(seconds['logits']) * 1e3:,.0f} ms: it compares every sha256"
    )
    show("the same, the first epoch in memory", ratio(seconds["hidden"], seconds["logits"]), detail=detail)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--rows", type=int, default=65_536)
    given = parser.parse_args()
    runtime.prepare("cpu")
    print(f"knowledge: {machine()}")
    root = folder_for_data()
    try:
        exactness(root, epochs=20)
        reading(root / "reading", given.rows, given.times)
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
