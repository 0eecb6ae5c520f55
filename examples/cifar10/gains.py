"""What every student gains over hard labels, and over logits alone: points of test accuracy, with intervals over seeds.

python examples/cifar10/gains.py FOLDER    # examples/cifar10 or quick/ in it, after `make cifar10`; prints a table
"""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from ruamel.yaml import YAML

from pipeline.results.markdown import table
from pipeline.results.published import Published
from pipeline.results.run import mean_std
from pipeline.results.tables import RunRow, Tables
from pipeline.results.wording import spread
from pipeline.stats import comparison

HARD, LOGITS = "hard labels", "logits"  # the rows that others are compared with end in these words


def error_rates(folder: Path) -> Iterator[tuple[str, Mapping[int, float]]]:
    """The students among the rows of `published` in params.yaml: what each is called, and its test errors in % by seed."""
    section = YAML(typ="safe", pure=True).load(folder / "params.yaml")["published"]
    for figure in Published.parse(section).figures:
        rows = Tables.open(folder / "data/sweeps" / figure.folder / "plots").read(RunRow)
        found = {
            row.seed: 100 * (1 - row.accuracy)
            for row in rows
            if row.run in figure.runs and row.split == "test" and row.seed is not None and row.accuracy is not None
        }
        if found:
            yield figure.what, found


def gain(before: Mapping[int, float], after: Mapping[int, float]) -> str:
    """Points of accuracy gained, with the 95 % interval over seeds, paired."""
    found = comparison.paired(before, after)
    if before is after or found is None:
        return "—"
    return f"{found.mean:+.2f} ({found.low:+.2f} to {found.high:+.2f})"


def main(folder: Path) -> None:
    rates = dict(error_rates(folder))
    hard, logits = (next(rates[what] for what in rates if what.endswith(words)) for words in (HARD, LOGITS))
    heading = ["student", "accuracy, %", "over hard labels (95 % interval)", "over logits alone (95 % interval)"]
    rows = [
        [what, spread(*mean_std(100 - each for each in found.values()), 2), gain(hard, found), gain(logits, found)]
        for what, found in rates.items()
    ]
    print(table(heading, rows), end="")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(str(__doc__))
    main(Path(sys.argv[1]))
