"""softcache inspect: describe a cache."""

import json
from typing import Any

import click

from pipeline.base.places import Place
from stages.options import cache_folder, counted, data_option, example, option, shown_inputs, work_option
from stages.terminal import echo


@click.command(short_help="Describe a cache.", epilog=example("softcache inspect a"))
@click.argument("cache")
@option("--json", "as_json", is_flag=True, help="Print JSON instead.")
@data_option
@work_option
def command(cache: str, as_json: bool, data: Place, work: Place) -> None:
    """Describe CACHE, named by its teacher or by a path: teacher, data, views, size, accuracy and origin."""
    from pipeline.cache.inspect import inspect

    path = cache_folder(data, cache)
    provenance = data / "provenance" / f"{path.name}.json"
    facts = inspect(path, splits=data / "transfer", provenance=provenance, work=work)
    if as_json:
        echo(*json.dumps(facts, indent=2).split("\n"))
        return
    lines = _lines(facts)
    width = max(16, *map(len, lines))
    for name, value in lines.items():
        echo(f"{name:{width}} {value}")


def _told_distance(kl: dict[str, float] | None, exact: bool) -> str:
    if kl is None:
        return "unknown: the cache was made before captures measured it"
    if exact:
        return "by nothing: its logits, bit for bit"
    return f"KL {', '.join(f'{value:.2g} at T = {t}' for t, value in kl.items())}, in nats, mean of sampled rows"


def _saved(facts: dict[str, Any]) -> str:
    if facts["knowledge"] == "logits":
        return ""
    return f"; float32 logits alone would take {facts['size_as_logits'] / 1e6:,.2f} MB"


def _lines(facts: dict[str, Any]) -> dict[str, str]:
    classes, views, inputs = facts["classes"], facts["views"], facts["inputs"]
    shown = ", ".join(classes[:10]) + (", …" if len(classes) > 10 else "")
    low, high = facts["logit_range"]
    accuracy, made = facts["accuracy"], facts["created_by"]
    lines = {
        "cache": facts["cache"] + (f", its spans in {facts['lies_in']}" if facts["lies_in"] != facts["cache"] else ""),
        "teacher": ": ".join(facts["teacher"][key] for key in ("name", "model") if key in facts["teacher"]),
        "weights": f"sha256 {facts['teacher']['weights_sha256']}",
        "transfer set": f"{facts['arrays']['transfer']['shape'][1]:,} rows, inputs digest {inputs['digest']}",
        "inputs": shown_inputs(inputs),
        "classes": f"{len(classes):,}: {shown}",
        "views": f"{views['count']}, policy {views['policy']}, seed {views['seed']}",
    }
    for split, array in facts["arrays"].items():
        lines[f"{split} logits"] = f"{' × '.join(f'{size:,}' for size in array['shape'])} (views, rows, classes)"
    for array, kept in facts["kept"].items():
        shape = " × ".join(f"{size:,}" for size in kept["shape"])
        lines[f"keeps {array}"] = f"{shape} {kept['dtype']}, {kept['size_bytes'] / 1e6:,.2f} MB"
    lines |= {
        "off the teacher": _told_distance(facts["kl"], facts["exact"]),
        "spans": f"{facts['spans']:,} of at most {facts['span_rows']:,} rows",
        "size on disk": f"{facts['size_bytes'] / 1e6:,.2f} MB, {facts['bytes_per_row']:,.1f} bytes a row{_saved(facts)}",
        "logit range": f"{low:.4g} to {high:.4g}",
        "accuracy": "unknown: data/transfer is missing or has other rows",
        "created by": "unknown: no provenance file of this cache",
        "digest": facts["digest"],
    }
    if accuracy is not None:
        lines["accuracy"] = ", ".join(f"{split} {share:.2%}" for split, share in accuracy.items()) or "no labels"
    if made is not None:
        lines["created by"] = (
            f"torch {made['torch']}, zarr {made['zarr']}, Python {made['python']} on {made['host']} ({made['device']}, "
            f"{counted(made['threads'], 'thread')}{_told_workers(made['workers'])}) in {made['seconds']:,} s"
        )
    return lines


def _told_workers(workers: int) -> str:
    return f" each of {workers:,} workers" if workers > 1 else ""
