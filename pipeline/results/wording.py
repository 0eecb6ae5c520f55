"""Wording: results as text."""

from pipeline.base.commands import short
from pipeline.base.errors import printable
from pipeline.data.inputs.array import Arrays
from pipeline.data.inputs.image import Images
from pipeline.data.inputs.kinds import Inputs
from pipeline.results.tables import BestRow

FEW_SEEDS = 3  # with fewer seeds, the text warns that a t-interval says little


def spread(mean: float, std: float | None, digits: int) -> str:
    """A mean with its standard deviation as text, such as 73.3 ± 2.5; without one, only the mean."""
    return f"{mean:.{digits}f}" + ("" if std is None else f" ± {std:.{digits}f}")


def finding(row: BestRow) -> str:
    """A sentence that compares a student at its best T and alpha with its baseline."""
    comparison = "fewer" if row.errors_saved >= 0 else "more"
    over_seeds = ""
    if row.over_seeds_low is not None and row.over_seeds_high is not None:
        caution = " (paired t; of so few it says little)" if row.seeds < FEW_SEEDS else " (paired t)"
        over_seeds = f"{_interval(row.over_seeds_low, row.over_seeds_high)} over {row.seeds} seeds{caution}, "
    lost = f" {row.lost} more of one side are left out of both." if row.lost else ""
    return (
        f"{row.student} at {setting(row.temperature, row.alpha)} (lowest validation NLL): "
        f"{spread(row.test_errors, row.test_errors_std, 1)} test errors; "
        f"on hard labels {spread(row.baseline_test_errors, row.baseline_test_errors_std, 1)}. "
        f"That is {abs(row.errors_saved):.1f} {comparison}; 95 % intervals of what is saved: "
        f"{over_seeds}{_interval(row.over_rows_low, row.over_rows_high)} over test rows (bootstrap).{lost}"
    )


def _interval(low: float, high: float) -> str:
    return f"{round(low, 1) + 0.0:.1f} to {round(high, 1) + 0.0:.1f}"  # no -0.0


def counted(number: int, noun: str) -> str:
    """A number with its noun: 1 seed, 5 seeds."""
    return f"{number:,} {noun if number == 1 else f'{noun}s'}"


def number(value: float) -> str:
    """A number to three digits; from 1,000 on to the whole number, in groups of three."""
    return f"{value:,.0f}" if abs(value) >= 999.5 else f"{value:.3g}"


def cut(text: str, letters: int) -> str:
    """A text as one printable line of so many letters at most, with an ellipsis where it goes on."""
    shown = printable(text[: letters + 1])  # not of the whole text, which may be very long
    return shown if len(shown) <= letters else f"{shown[: letters - 1]}…"


def setting(temperature: float | None, alpha: float | None) -> str:
    """T and alpha of a student, as far as they are given: T = 4 and alpha = 0.5."""
    given = {"T": temperature, "alpha": alpha}
    return " and ".join(f"{name} = {short(value)}" for name, value in given.items() if value is not None)


def size(count: float) -> str:
    """A number of bytes, such as 31.4 kB."""
    units = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))
    factor, unit = next((each for each in units if count >= 0.9995 * each[0]), (1, "bytes"))  # 999,700 are 1 MB
    return f"{number(count / factor)} {unit}"


def shape(inputs: Inputs) -> str:
    """What rows are: images of 8×8×1, arrays of 4×2 float32, texts."""
    if isinstance(inputs, Images):
        channels, height, width = inputs.shape
        return f"images of {height}×{width}×{channels}"
    return f"arrays of {'×'.join(map(str, inputs.shape))} {inputs.array_dtype}" if isinstance(inputs, Arrays) else "texts"
