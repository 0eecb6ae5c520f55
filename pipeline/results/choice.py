"""Which setting of each student is best by the validation split, and what it gains over hard labels on the test split."""

import logging
import statistics
from collections.abc import Sequence

from pipeline.base.errors import InputError
from pipeline.results.run import Run, spread
from pipeline.results.tables import BestRow
from pipeline.stats import comparison

_log = logging.getLogger(__name__)


def best(runs: Sequence[Run]) -> list[BestRow]:
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
        if baseline.student is None or chosen is None or chosen.temperature is None or chosen.alpha is None:
            _require_reason(baseline, settings)
            continue
        shared = _shared(baseline, chosen)
        before, after = baseline.of(shared), chosen.of(shared)
        errors = [dict(zip(shared, run.column("test", "errors"), strict=True)) for run in (before, after)]
        over_seeds = comparison.paired(*errors)
        over_rows = comparison.bootstrap(before.wrong["test"], after.wrong["test"])
        every = {*baseline.seeds, *baseline.diverged, *chosen.seeds, *chosen.diverged}
        rows.append(
            BestRow(
                baseline.student, chosen.name, chosen.temperature, chosen.alpha, len(shared), len(every) - len(shared),
                *spread(after.column("valid", "nll")), *spread(errors[1].values()), *spread(errors[0].values()),
                *spread(errors[0][seed] - errors[1][seed] for seed in shared),
                over_seeds.low if over_seeds else None, over_seeds.high if over_seeds else None, over_rows.low, over_rows.high,
            )
        )  # fmt: skip
    return rows


def _seeds(run: Run) -> list[int]:
    """Those of a student's nets that did not diverge."""
    return [seed for seed in run.seeds if seed is not None]


def _shared(baseline: Run, run: Run) -> list[int]:
    """Seeds that both have."""
    return [seed for seed in _seeds(baseline) if seed in run.seeds]


def _chosen(baseline: Run, settings: Sequence[Run]) -> Run | None:
    """The best of those that share most seeds with the baseline; None where none shares any."""
    most = max((len(_shared(baseline, run)) for run in settings), default=0)
    if not most:
        return None
    rivals = [run for run in settings if len(_shared(baseline, run)) == most]
    common = [seed for seed in _seeds(baseline) if all(seed in run.seeds for run in rivals)]
    return min(rivals, key=lambda run: statistics.fmean(run.of(common or _shared(baseline, run)).column("valid", "nll")))


def _require_reason(baseline: Run, settings: Sequence[Run]) -> None:
    """Say that nets diverged where nothing can be compared; raise InputError where none did."""
    had = [{*run.seeds, *run.diverged} for run in settings]
    if any({*baseline.seeds, *baseline.diverged} & seeds for seeds in had):
        _log.warning("%s: nothing to compare: of the seeds that both sides had, all have diverged", baseline.student)
    elif settings:
        found = f"{sorted(_seeds(baseline))} and {sorted(_seeds(settings[0]))}"
        what, fix = f"seeds of {baseline.name} and {settings[0].name}", "Train both with the same seeds."
        raise InputError(what, expected="some in common", found=found, fix=fix)
