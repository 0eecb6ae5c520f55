"""How results are written, word by word."""

import pytest

from pipeline.data.inputs.array import Arrays
from pipeline.data.inputs.image import Images
from pipeline.data.inputs.text import Texts
from pipeline.results import wording
from pipeline.results.tables import BestRow

ROW = BestRow(
    student="s", run="s-T4", temperature=4.0, alpha=0.5, seeds=3, lost=0, valid_nll=0.3, valid_nll_std=0.1,
    test_errors=14.0, test_errors_std=2.83, baseline_test_errors=21.04, baseline_test_errors_std=1.41,
    errors_saved=7.04, errors_saved_std=1.41, over_seeds_low=-5.71, over_seeds_high=19.71,
    over_rows_low=2.0, over_rows_high=12.04,
)  # fmt: skip


def test_a_finding():
    assert wording.finding(ROW) == (
        "s at T = 4 and alpha = 0.5 (lowest validation NLL): 14.0 ± 2.8 test errors; on hard labels 21.0 ± 1.4. That is 7.0 "
        "fewer; 95 % intervals of what is saved: -5.7 to 19.7 over 3 seeds (paired t), 2.0 to 12.0 over test rows (bootstrap)."
    )


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"errors_saved": -1.26}, "That is 1.3 more; "),
        ({"errors_saved": 0.0}, "That is 0.0 fewer; "),
        ({"seeds": 2}, "over 2 seeds (paired t; of so few it says little), 2.0"),
        ({"over_seeds_low": None, "over_seeds_high": None}, "what is saved: 2.0 to 12.0 over test rows"),
        ({"over_rows_low": -0.04}, " 0.0 to 12.0 over test rows"),
        ({"lost": 2}, "(bootstrap). 2 more of one side are left out of both."),
        ({"test_errors_std": None}, ": 14.0 test errors;"),
    ],
)
def test_what_a_finding_depends_on(change, part):
    assert part in wording.finding(ROW._replace(**change))


def test_spreads():
    assert [wording.spread(73.25, 2.549, 1), wording.spread(0.5, None, 3), wording.spread(9.96, 0, 1)] == [
        "73.2 ± 2.5", "0.500", "10.0 ± 0.0",
    ]  # fmt: skip


def test_counts_sizes_and_shapes():
    assert [wording.counted(1, "seed"), wording.counted(1200, "row")] == ["1 seed", "1,200 rows"]
    assert [wording.size(count) for count in (12, 1540, 2.5e6, 3e9, 999_400, 999_700, 999, 1.2345e13)] == [
        "12 bytes", "1.54 kB", "2.5 MB", "3 GB", "999 kB", "1 MB", "999 bytes", "12,345 GB",
    ]  # fmt: skip
    inputs = (Images("RGB", (3, 32, 24)), Arrays("float32", (4, 2)), Texts())
    assert [wording.shape(each) for each in inputs] == ["images of 32×24×3", "arrays of 4×2 float32", "texts"]


def test_numbers_settings_and_cut_lines():
    assert [wording.number(value) for value in (0, 0.01234, 12.34, 999.4, 999.6, 1234.5, -1234567)] == [
        "0", "0.0123", "12.3", "999", "1,000", "1,234", "-1,234,567",
    ]  # fmt: skip
    assert [wording.setting(*each) for each in ((4.0, 0.5), (2.5, None), (None, 1.0))] == [
        "T = 4 and alpha = 0.5", "T = 2.5", "alpha = 1",
    ]  # fmt: skip
    assert [wording.cut(text, 5) for text in ("abcde", "abcdef", "a\nb", "\u202eabc", "")] == [
        "abcde", "abcd…", "a\\nb", "\\u20…", "",
    ]  # fmt: skip
