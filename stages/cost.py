"""softcache cost: what stage one and stage two took."""

import json
import math
import shlex
from pathlib import Path
from typing import Any

import click

from stages.options import counted, example, local_data_option, option
from stages.terminal import echo

_STAGES = {1: "stage one", 2: "stage two"}


@click.command(short_help="Show times, and when a cache has paid for itself.", epilog=example("softcache cost"))
@option("--json", "as_json", is_flag=True, help="Print JSON instead.")
@local_data_option
def command(as_json: bool, data: Path) -> None:
    """Show how long teachers, caches and students took, and after how many students a cache has paid for itself.

    Times are of whole commands, from data/times.csv. The time of a sweep is divided among its students by the rows that they
    were shown. A sweep with more than one model, batch size, precision or memory counts only in the table, because the time
    of each student is not known. To see what a cache saves, train a student with --live too. The start of a command counts
    as training, so if epochs are short, compare equal numbers of epochs.
    """
    from pipeline.results.cost import cost

    found = cost(data)
    if as_json:
        echo(*json.dumps(found, indent=2).split("\n"))
        return
    echo(*_table(found["rows"]), *_comparisons(found["student_epochs"]))
    if found["untimed"]:
        echo("", f"Not counted, because no command in {data / 'times.csv'} made it: {', '.join(found['untimed'])}.")
    if found["others"]:
        commands = [shlex.join(("softcache", "cost", "--data", each)) for each in found["others"]]
        echo("", f"Other times: {', '.join(commands)}")


def _table(rows: list[dict[str, Any]]) -> list[str]:
    labels = [_label(row) for row in rows]
    width = max(len(label) for label in (*labels, ""))
    head = f"{'':{width}}  {'students':>8}  {'epochs':>9}  {'time':>9}  {'share':>6}"
    return [head, *(
        f"{label:{width}}  {_number(row['students']):>8}  {_number(row['epochs']):>9}  {_clock(row['seconds']):>9}"
        f"  {row['share']:6.1%}"
        for label, row in zip(labels, rows, strict=True)
    )]  # fmt: skip


def _label(row: dict[str, Any]) -> str:
    end = "" if row["done"] else " (not done)"
    if row["name"]:
        return f"    {row['name']}{', live' if row['live'] else ''}{end}"
    return f"  {row['command']}{end}" if row["command"] else f"{_STAGES[row['stage']]}{end}"


def _comparisons(found: list[dict[str, Any]]) -> list[str]:
    """The time of a student-epoch, and when the caches have paid for themselves."""
    lines = []
    for each in found:
        views = counted(each["views"], "view") + (f" by {each['policy']}" if each["policy"] != "none()" else "")
        shown = f"{counted(each['rows'], 'row')}, {views}, batches of {each['batch_size']:,}"
        shown += f" in {counted(each['draws'], 'view')} each" if each["draws"] > 1 else ""
        at = f"{shown}, {each['precision']}, {each['device']}, {counted(each['threads'], 'thread')}"
        kinds = {"from caches": each["cached"], "live": each["live"]}
        known = {kind: rate for kind, rate in kinds.items() if rate}
        means = ", ".join(f"{_seconds(rate)} {kind}" for kind, rate in known.items())
        of = " and ".join(f"{rate['epochs']:,}" for rate in known.values())
        lines += ["", f"{each['model']} from {', '.join(each['teachers'])} ({at})"]
        lines += [f"  a student-epoch: {means} (mean of {of}, start of the commands included)", f"  {_break_even(each)}"]
    return lines


def _break_even(each: dict[str, Any]) -> str:
    if each["features"]:
        return "no live student to compare with: features are learned from caches alone"
    if each["live_command"] is None:
        return "no live student to compare with: a teacher of which there are logits only cannot run in the loop"
    if each["live"] is None:
        return f"no live student to compare with; on this device and threads, `{each['live_command']}` trains one"
    if each["capture_seconds"] is None:
        return "the time of the capture is not known"
    if each["break_even"] is None:
        return "live students take no longer: the caches save no time"
    students, epochs = each["break_even"]["students"], each["break_even"]["epochs"]
    which = math.ceil(students)
    end = "with the first one" if which <= 1 else f"with number {which:,}"
    captured = f"captured in {_clock(each['capture_seconds'])}, paid for"
    return f"{captured} after {students:,.1f} students of {epochs:,.0f} epochs: {end}"


def _seconds(rate: dict[str, Any]) -> str:
    seconds = rate["seconds_per_epoch"]
    return f"{seconds:,.1f} s" if seconds >= 1 else f"{seconds:.2g} s"


def _number(count: int) -> str:
    return f"{count:,}" if count else ""


def _clock(seconds: float) -> str:
    """Seconds as h:mm:ss."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
