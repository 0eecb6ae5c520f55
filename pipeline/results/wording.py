"""Wording: how results are written for people."""

from collections.abc import Mapping
from typing import Any

from pipeline.base.commands import short

FEW_SEEDS = 3  # below so many a t-interval is said to say little


def spread(mean: float, std: float | None, digits: int) -> str:
    """How a mean with its standard deviation is written, such as 73.3 ± 2.5; a single value has none."""
    return f"{mean:.{digits}f}" + ("" if std is None else f" ± {std:.{digits}f}")


def finding(row: Mapping[str, Any]) -> str:
    """What a row of the table `best` says: distilled at the T and alpha that validation chose, against the baseline."""

    def value(name: str) -> str:
        return spread(row[name], row.get(f"{name}_std"), 1)

    def ends(name: str) -> str:
        return " to ".join(f"{round(row[f'{name}_{end}'], 1) + 0.0:.1f}" for end in ("low", "high"))  # no -0.0

    comparison = "fewer" if row["errors_saved"] >= 0 else "more"
    over_seeds = ""
    if row.get("over_seeds_low") is not None:
        caution = " (paired t; of so few it says little)" if row["seeds"] < FEW_SEEDS else " (paired t)"
        over_seeds = f"{ends('over_seeds')} over {row['seeds']} seeds{caution}, "
    lost = f" {row['lost']} more of one side are left out of both." if row.get("lost") else ""
    return (
        f"{row['student']} at T = {short(row['temperature'])} and alpha = {short(row['alpha'])} (lowest validation NLL): "
        f"{value('test_errors')} test errors; on hard labels {value('baseline_test_errors')}. "
        f"That is {abs(row['errors_saved']):.1f} {comparison}; 95 % intervals of what is saved: "
        f"{over_seeds}{ends('over_rows')} over test rows (bootstrap).{lost}"
    )
