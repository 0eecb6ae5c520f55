"""Choice: the best setting of each student by the validation split, and its gain over hard labels on the test split."""

import logging
import statistics
from collections.abc import Sequence

from pipeline.base.errors import InputError
from pipeline.results.run import Run, mean_std
from pipeline.results.tables import BestRow
from pipeline.stats import comparison

COMPARED = 8  # students
_log = logging.getLogger(__name__)


def best(runs: Sequence[Run]) -> list[BestRow]:
    """For each student: the temperature and alpha with the lowest mean validation NLL, compared with its baseline on test rows.

    The difference is baseline − student, in errors: above 0 is a gain. over_seeds is its interval by `comparison.paired`,
    over_rows that by `comparison.bootstrap`. All figures are over the `seeds` that both sides have; `lost` counts seeds that
    one side lacks, such as nets that diverged. The candidates are the settings that share most seeds with the baseline. They
    are compared on the seeds that all of them have, if there are any. A student with nothing to compare is left out.
    Raises InputError if a student and its baseline were trained with different seeds.
    """
    chosen_rows = []
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
        chosen_rows.append(
            BestRow(
                baseline.student, chosen.name, chosen.temperature, chosen.alpha, len(shared), len(every) - len(shared),
                *mean_std(after.column("valid", "nll")), *mean_std(errors[1].values()), *mean_std(errors[0].values()),
                *mean_std(errors[0][seed] - errors[1][seed] for seed in shared),
                over_seeds.low if over_seeds else None, over_seeds.high if over_seeds else None, over_rows.low, over_rows.high,
            )
        )  # fmt: skip
    return chosen_rows


def headline(rows: Sequence[BestRow], runs: Sequence[Run]) -> tuple[Run, int] | None:
    """The student to show where there is room for one: a run, and its seed with the lowest validation NLL.

    It is the row of `best` with the lowest validation NLL; where there is none, the student of the lowest mean; else None.
    """
    row = min(rows, key=lambda row: row.valid_nll, default=None)
    students = [run for run in runs if run.kind == "student" and run.seeds and (row is None or run.name == row.run)]
    if not students:
        return None
    run = min(students, key=lambda run: statistics.fmean(run.column("valid", "nll")))
    _, seed = min(zip(run.column("valid", "nll"), _seeds(run), strict=True))
    return run, seed


def compared(rows: Sequence[BestRow], runs: Sequence[Run]) -> list[Run]:
    """The students of the COMPARED rows of `best` with the lowest validation NLL, each after its baseline."""
    shown = sorted(rows, key=lambda row: row.valid_nll)[:COMPARED]
    names, students = {row.run for row in shown}, {row.student for row in shown}
    return [run for run in runs if run.name in names or (run.kind == "baseline" and run.student in students)]


def _seeds(run: Run) -> list[int]:
    """The seeds of the nets that did not diverge."""
    return [seed for seed in run.seeds if seed is not None]


def _shared(baseline: Run, run: Run) -> list[int]:
    """The seeds that both have."""
    return [seed for seed in _seeds(baseline) if seed in run.seeds]


def _chosen(baseline: Run, settings: Sequence[Run]) -> Run | None:
    """The best of the settings that share most seeds with the baseline; None if none shares a seed."""
    most = max((len(_shared(baseline, run)) for run in settings), default=0)
    if not most:
        return None
    rivals = [run for run in settings if len(_shared(baseline, run)) == most]
    common = [seed for seed in _seeds(baseline) if all(seed in run.seeds for run in rivals)]
    return min(rivals, key=lambda run: statistics.fmean(run.of(common or _shared(baseline, run)).column("valid", "nll")))


def _require_reason(baseline: Run, settings: Sequence[Run]) -> None:
    """Warn if the seeds in common are lost because nets diverged; raise InputError if there never were any in common."""
    if any({*baseline.seeds, *baseline.diverged} & {*run.seeds, *run.diverged} for run in settings):
        _log.warning("%s: nothing to compare: for each seed in common, the student or its baseline diverged", baseline.student)
    elif settings:
        found = f"{sorted(_seeds(baseline))} and {sorted(_seeds(settings[0]))}"
        what, fix = f"seeds of {baseline.name} and {settings[0].name}", "Train both with the same seeds."
        raise InputError(what, expected="some in common", found=found, fix=fix)
