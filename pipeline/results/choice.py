"""Which setting of each student is best by the validation split, and what it gains over hard labels on the test split."""

import logging
import statistics
from collections.abc import Sequence
from typing import Any

from pipeline.base.errors import InputError
from pipeline.results.run import Run, spread
from pipeline.stats import comparison
from pipeline.stats.comparison import Interval

_log = logging.getLogger(__name__)


def best(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """For each student the temperature and alpha with the lowest mean validation NLL, against its baseline on the test split.

    The difference is baseline minus distilled in errors: above 0 is a gain. Its intervals are those of comparison.py:
    over_seeds is Student's paired over the seeds, over_rows is the bootstrap over test rows. All of a row is of the `seeds`
    that both sides have; `lost` are those that one lacks, such as nets that diverged. The choice is among the settings that
    share most seeds with the baseline, by the seeds that all of these have, if they have some. Where nothing is left to
    compare, the student has no row.
    """
    rows = []
    for baseline in (run for run in runs if run.kind == "baseline"):
        settings = [run for run in runs if run.kind == "student" and run.student == baseline.student]
        chosen = _chosen(baseline, settings)
        if chosen is None:
            _require_reason(baseline, settings)
            continue
        shared = _shared(baseline, chosen)
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


def _shared(baseline: Run, run: Run) -> list[int]:
    """Seeds that both have."""
    return [seed for seed in baseline.seeds if seed in run.seeds]


def _chosen(baseline: Run, settings: Sequence[Run]) -> Run | None:
    """The best of those that share most seeds with the baseline; None where none shares any."""
    most = max((len(_shared(baseline, run)) for run in settings), default=0)
    if not most:
        return None
    rivals = [run for run in settings if len(_shared(baseline, run)) == most]
    common = [seed for seed in baseline.seeds if all(seed in run.seeds for run in rivals)]
    return min(rivals, key=lambda run: statistics.fmean(run.of(common or _shared(baseline, run)).column("valid", "nll")))


def _require_reason(baseline: Run, settings: Sequence[Run]) -> None:
    """Say that nets diverged where nothing can be compared; raise InputError where none did."""
    had = [{*run.seeds, *run.diverged} for run in settings]
    if any({*baseline.seeds, *baseline.diverged} & seeds for seeds in had):
        _log.warning("%s: nothing to compare: of the seeds that both sides had, all have diverged", baseline.student)
    elif settings:
        found = f"{sorted(baseline.seeds)} and {sorted(settings[0].seeds)}"
        what, fix = f"seeds of {baseline.name} and {settings[0].name}", "Train both with the same seeds."
        raise InputError(what, expected="some in common", found=found, fix=fix)


def _ends(name: str, interval: Interval | None) -> dict[str, float]:
    return {} if interval is None else {f"{name}_low": interval.low, f"{name}_high": interval.high}
