"""Which setting of each student is best by the validation split, and what it gains over hard labels on the test split."""

import logging
import statistics
from collections.abc import Sequence
from typing import Any

from pipeline import comparison
from pipeline.comparison import Interval
from pipeline.errors import InputError
from pipeline.run import Run, spread

_log = logging.getLogger(__name__)


def best(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """For each student the temperature and alpha with the lowest mean validation NLL, against its baseline on the test split.

    The difference is baseline minus distilled in errors: above 0 is a gain. Its intervals are those of comparison.py:
    over_seeds is Student's paired over the seeds, over_rows is the bootstrap over test rows. All of a row is of the `seeds`
    that both sides have; `lost` are those that one lacks, such as nets that diverged. A setting of which a net diverged is
    chosen only where there is no other. Where nothing is left to compare, the student has no row.
    """
    rows = []
    for baseline in (run for run in runs if run.kind == "baseline"):
        settings = [run for run in runs if run.kind == "student" and run.student == baseline.student]
        rivals = [run for run in settings if run.seeds]
        if not rivals or not baseline.seeds:
            if settings:
                _log.warning("%s: nothing to compare: all seeds of one side diverged", baseline.student)
            continue
        sound = [run for run in rivals if not run.diverged] or rivals
        chosen = min(sound, key=lambda run: statistics.fmean(run.column("valid", "nll")))
        shared = [seed for seed in baseline.seeds if seed in chosen.seeds]
        if not shared:
            if baseline.diverged or chosen.diverged:
                _log.warning("%s: nothing to compare: the seeds that are left of each side are others", baseline.student)
                continue
            found = f"{sorted(baseline.seeds)} and {sorted(chosen.seeds)}"
            fix = "Train both with the same seeds."
            raise InputError(f"seeds of {baseline.name} and {chosen.name}", expected="some in common", found=found, fix=fix)
        before, after = baseline.of(shared), chosen.of(shared)
        errors = [dict(zip(shared, run.column("test", "errors"), strict=True)) for run in (before, after)]
        every = {*baseline.seeds, *baseline.diverged, *chosen.seeds, *chosen.diverged}
        rows.append(
            {
                "student": baseline.student,
                "run": chosen.name,
                "temperature": chosen.temperature,
                "alpha": chosen.alpha,
                "seeds": len(shared),
                "lost": len(every) - len(shared),
                **spread("valid_nll", after.column("valid", "nll")),
                **spread("test_errors", errors[1].values()),
                **spread("baseline_test_errors", errors[0].values()),
                **spread("errors_saved", [errors[0][seed] - errors[1][seed] for seed in shared]),
                **_ends("over_seeds", comparison.paired(*errors)),
                **_ends("over_rows", comparison.bootstrap(before.wrong["test"], after.wrong["test"])),
            }
        )
    return rows


def _ends(name: str, interval: Interval | None) -> dict[str, float]:
    return {} if interval is None else {f"{name}_low": interval.low, f"{name}_high": interval.high}
