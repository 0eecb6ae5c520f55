"""softcache footprint: how large and how fast teachers and students are."""

from pathlib import Path

import click

from stages.options import anew_option, counted, example, local_data_option
from stages.terminal import echo


@click.command(
    short_help="Measure how large and how fast teachers and students are.",
    epilog=example("softcache footprint"),
)
@anew_option
@local_data_option
def command(anew: bool, data: Path) -> None:
    """Measure parameters, multiply-adds, bytes on disk and latency of teachers, students and students of sweeps.

    Write data/footprint/footprint.json, in which each architecture is once. Latency is the median over half a second of runs,
    and of one at least, of 1 row and of 64, by torch on one thread of the CPU: let the machine do nothing else meanwhile.

    What was measured before on such a machine, by the same torch, is not measured again, except with --anew.
    """
    from pipeline.base import runtime
    from pipeline.results.measurement import measure

    runtime.prepare("cpu")
    out = data / "footprint"
    found = measure(data, out, anew=anew)
    echo(f"wrote {out}: {counted(len(found.entries), 'architecture')}, by {found.machine}")
