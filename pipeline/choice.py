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
    over_seeds is paired over the `seeds` that both have, over_rows is the bootstrap over test rows. Nets that diverged are
    in no mean; where that leaves nothing to compare, the student has no row.
    """
    rows = []
    for baseline in (run for run in runs if run.kind == "baseline"):
        settings = [run for run in runs if run.kind == "student" and run.student == baseline.student]
        rivals = [run for run in settings if run.seeds]
        if not rivals or not baseline.seeds:
            if settings:
                _log.warning("%s: nothing to compare: all seeds of one side diverged", baseline.student)
            continue
        chosen = min(rivals, key=lambda run: statistics.fmean(run.column("valid", "nll")))
        before = dict(zip(baseline.seeds, baseline.column("test", "errors"), strict=True))
        after = dict(zip(chosen.seeds, chosen.column("test", "errors"), strict=True))
        gains = [before[seed] - after[seed] for seed in before if seed in after]
        if not gains:
            if baseline.diverged or chosen.diverged:
                _log.warning("%s: nothing to compare: the seeds that are left of each side are others", baseline.student)
                continue
            found = f"{sorted(before)} and {sorted(after)}"
            fix = "Train both with the same seeds."
            raise InputError(f"seeds of {baseline.name} and {chosen.name}", expected="some in common", found=found, fix=fix)
        rows.append(
            {
                "student": baseline.student,
                "run": chosen.name,
                "temperature": chosen.temperature,
                "alpha": chosen.alpha,
                "seeds": len(gains),
                **spread("valid_nll", chosen.column("valid", "nll")),
                **spread("test_errors", after.values()),
                **spread("baseline_test_errors", before.values()),
                **spread("errors_saved", gains),
                **_ends("over_seeds", comparison.paired(before, after)),
                **_ends("over_rows", comparison.bootstrap(baseline.wrong["test"], chosen.wrong["test"])),
            }
        )
    return rows


def _ends(name: str, interval: Interval | None) -> dict[str, float]:
    return {} if interval is None else {f"{name}_low": interval.low, f"{name}_high": interval.high}
