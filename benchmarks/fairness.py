"""Is the default run a fair comparison? Its baselines with other recipes; its students after other teachers and other digits.

The baselines are those of params.yaml on hard labels. Each is trained with every recipe of `recipes`, and the best is picked by
the test split: more than anybody can get who picks by the validation split. The gains are those of the students at the T that
is best on the validation split, in the run as it is, with other seeds of its teachers, and with other digits labelled.

    python -m benchmarks.fairness
    ATEN_CPU_CAPABILITY=default python -m benchmarks.fairness --part gains    # with the sums of an older processor
"""

import argparse
import contextlib
import io
import itertools
import json
import math
import tempfile
import time
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from benchmarks.measure import machine, show
from pipeline.data.splits import open_splits
from pipeline.results.run import mean_std
from pipeline.results.tables import BestRow, StudentRow, Tables
from stages.cli import main as softcache

PARAMS = Path(__file__).parents[1] / "params.yaml"
LONGER = 5  # times as many epochs
PARTS = ("baselines", "gains")
AS_IS, MOVED = "as it is", "digits shifted about"
Settings = dict[str, Any]
Figure = tuple[float, float | None]  # mean, standard deviation over seeds


def sgd(rates: Iterable[float], decays: Iterable[float], **more: int) -> list[Settings]:
    """Overrides of the recipe: optimizers, and what else differs."""
    pairs = itertools.product(rates, decays)
    return [{"optimizer": f"sgd(lr={rate}, momentum=0.9, weight_decay={decay})", **more} for rate, decay in pairs]


def recipes(epochs: int) -> dict[str, list[Settings]]:
    """Overrides of the recipe, by what is different. epochs: those of the recipe itself."""
    longer = LONGER * epochs
    adams = itertools.product(("adam(lr={})", "adamw(lr={}, weight_decay=0.1)"), (0.003, 0.01, 0.03))
    return {
        "other rates and decays": sgd([0.03, 0.1, 0.3, 0.6, 1.0], [0.001, 0.003, 0.01, 0.03]),
        "smaller batches": sgd([0.1, 0.2], [0.001, 0.003], batch_size=20),
        "adam and adamw": [{"optimizer": rule.format(rate)} for rule, rate in adams],
        f"{LONGER} times as many epochs": sgd([0.3, 0.6], [0.003, 0.01], epochs=longer),
        MOVED: sgd([0.3], [0.001, 0.003]) + sgd([0.3, 0.6], [0.001, 0.003], epochs=longer),
    }


def call(params: Settings, *words: str) -> None:
    """A command in the current folder, in process and without what it prints."""
    Path("params.yaml").write_text(json.dumps(params), encoding="utf-8")
    with contextlib.redirect_stdout(io.StringIO()):
        softcache(list(words), standalone_mode=False)


def prepare(params: Settings) -> None:
    """Splits, teachers and their caches."""
    call(params, "ingest")
    for teacher in params["teachers"]:
        call(params, "teach", teacher)
        call(params, "capture", teacher)


def swept(name: str, params: Settings, **sweep: Any) -> Tables:
    """What a sweep of this name measured."""
    call({**params, "sweeps": {name: sweep}}, "sweep", name)
    return Tables.open(Path("data/sweeps") / name / "plots")


def accuracies(tables: Tables) -> dict[str, Figure]:
    """Test accuracy of each student of a sweep of baselines, in %. Nets that diverged do not count."""
    held: dict[str, list[float]] = {}
    for row in tables.read(StudentRow):
        if row.test_accuracy is not None:
            held.setdefault(row.student, []).append(100 * row.test_accuracy)
    return {student: mean_std(each) for student, each in held.items()}


def report(what: str, accuracy: Figure, detail: str = "") -> None:
    mean, std = accuracy
    show(what, mean, unit="%", detail=f"± {std or 0:.2f}  {detail}")


def baselines(params: Settings) -> None:
    """Each student on hard labels: with its own recipe, with the best of each kind, and with the best of all."""
    students, own, found = params["students"], accuracies(swept("own", params, temperatures=[])), {}
    kinds = recipes(params["recipe"]["epochs"])
    for number, (kind, others) in enumerate(kinds.items()):
        tried = {f"{name}-{place}": {**students[name], **each} for name in students for place, each in enumerate(others)}
        views = {"policy": "shift(1)", "views": "all"} if kind == MOVED else {}
        found[kind] = accuracies(swept(f"kind-{number}", {**params, "students": tried}, temperatures=[], **views))
    for name in students:
        report(f"{name} on hard labels, its own recipe", own[name])
        best = [
            max((found[kind].get(f"{name}-{place}", (0.0, None)), str(each), kind) for place, each in enumerate(others))
            for kind, others in kinds.items()
        ]
        for accuracy, recipe, kind in best:
            report(f"  {kind}, best of {len(kinds[kind])} by the test split", accuracy, recipe)
        report(f"  best of all {sum(map(len, kinds.values()))}", max(best)[0])


def gains(what: str, tables: Tables) -> None:
    """Each student at the T that is best on the validation split, against its baseline, on test rows."""
    rows = open_splits(Path("data/transfer"), ["test"])["test"].rows
    for row in tables.read(BestRow):
        hard, soft = (100 * (1 - errors / rows) for errors in (row.baseline_test_errors, row.test_errors))
        errors = row.errors_saved / (row.errors_saved_std or math.inf) * math.sqrt(row.seeds)
        detail = f"{errors:.1f} standard errors; {hard:.2f} → {soft:.2f} %, T = {row.temperature:g}"
        show(f"{what}: {row.student} gains", soft - hard, unit=" points", detail=detail)


def variants(params: Settings) -> dict[str, Settings]:
    """The run as it is, with other teachers, and with another hundred digits labelled."""
    teachers = {name: {**each, "seed": each["seed"] + 10} for name, each in params["teachers"].items()}
    ingest = {**params["ingest"], "seed": params["ingest"]["seed"] + 1}
    others = {"other teachers": {"teachers": teachers}, "other digits": {"ingest": ingest}}
    return {AS_IS: params} | {what: {**params, **each} for what, each in others.items()}


def main(parts: Collection[str]) -> None:
    """Each variant in a temporary folder of its own; baselines are of the first alone."""
    began = time.perf_counter()
    print(f"fairness: {machine()}", flush=True)
    for what, params in variants(YAML(typ="safe", pure=True).load(PARAMS)).items():
        if what != AS_IS and "gains" not in parts:
            continue
        with tempfile.TemporaryDirectory(prefix="softcache-fairness-") as folder, contextlib.chdir(folder):
            prepare(params)
            if what == AS_IS and "baselines" in parts:
                baselines(params)
            if "gains" in parts:
                gains(what, swept("gains", params))
    show("time of it all", time.perf_counter() - began, unit=" s", form=".0f")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS, action="append", help="Only this.")
    main(parser.parse_args().part or PARTS)
