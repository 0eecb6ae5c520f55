"""The summary: figures in large letters, and what it says where there are none."""

import pytest

from charted import best, chapter, footprint, students
from pipeline.results.page.summary import duration, summary
from runs import lost, rows

HARD, SOFT = (20, 22, 24), (12, 13, 14)  # errors by seed; they save 8, 9 and 10


@pytest.mark.parametrize(
    ("hard", "soft", "teacher", "rows_from", "value", "note"),
    [
        (
            HARD,
            SOFT,
            10,
            2,
            "75 %",
            "of the 12.0 test errors between hard labels and teacher; by seed 71 % to 80 %",
        ),  # of 10, 12, 14
        (HARD, SOFT, 16, 2, "150 %", "of the 6.0 test errors between hard labels and teacher; by seed 125 % to 200 %"),
        ((10, *[20] * 5), (7, *[15] * 5), 10, 2, "56 %", "of the 8.3 test errors between hard labels and teacher"),  # 28 of 50
        (
            HARD,
            (30, 32, 33),
            10,
            -12,
            "none",
            "of the 12.0 test errors between hard labels and teacher; by seed -100 % to -64 %",
        ),
        (HARD, SOFT, 10, -1, "—", "of 12.0 test errors between hard labels and teacher; the gain is not clear"),
        (HARD, (12, 22, 13), 10, 2, "—", "of 12.0 test errors between hard labels and teacher; the gain is not clear"),
        (HARD, SOFT, 20, 2, "—", "hard labels and teacher are 2.0 test errors apart, which is not clear over the seeds"),  # ± 5
        (HARD, SOFT, 22, 2, "—", "there is none: on hard labels the student is as good as the teacher"),
        ((20,), (12,), 10, 2, "—", "8.0 of 10.0 test errors between hard labels and teacher, but of one seed"),
    ],
)
def test_the_share_of_the_gap_that_is_closed(tmp_path, hard, soft, teacher, rows_from, value, note):
    """Seeds that one side lacks count on neither: a fourth one of the student is of no use."""
    every = rows("a", "teacher", errors=(teacher,)) + rows("s-hard", "baseline", "s", errors=hard)
    every += students("s", 4, errors=(*soft, 99) if len(soft) == 3 else soft)
    chosen = best("s", "s-T4-0.5", over_rows_low=rows_from, over_rows_high=rows_from + 10)
    (tile,) = (tile for tile in summary(chapter(tmp_path, every, best=[chosen])).content["tiles"] if tile.what == "Gap closed")
    assert (tile.value, tile.note) == (value, note)


def tiles(chapter) -> dict[str, str]:
    return {tile.what: tile.value for tile in summary(chapter).content["tiles"]}


def test_the_headline_in_large_letters(tmp_path):
    """86 % for the student, 79 % on hard labels, 90 % for the teacher; of two seeds, 7 ± 9 errors are saved."""
    every = rows("a", "teacher") + students("s", 4) + rows("s-hard", "baseline", "s", errors=(20, 22))
    spent = [
        (1, "teach", "a", 20.0), (1, "capture", "a", 10.0), (1, "teach", "other", 99.0), (1, "teach", None, 119.0),
        (2, "distill", "s", 500.0), (2, "distill", "other", 99.0), (2, "sweep", "all", 99.0), (2, "evaluate", None, 100.0),
    ]  # fmt: skip
    keys = ("stage", "command", "name", "seconds")
    costs = {"rows": [dict(zip(keys, row, strict=True), live=False) for row in spent]}
    made = chapter(
        tmp_path, every, best=[best("s", "s-T4-0.5")], costs=costs,
        models={"a": "large", "s-T4-0.5": "little"}, footprint=footprint(large=(1234, 2.0), little=(1234, 0.5)),
    )  # fmt: skip
    assert tiles(made) == {
        "s at T = 4": "86.00 ± 2.83 %", "s on hard labels": "79.00 ± 1.41 %", "teacher a": "90.00 %",
        "Gap closed": "—", "Size": "as large", "Multiply-adds": "as many", "Speed on one row": "4.0× faster",
        "Speed on 64 rows": "4.0× faster", "Stage one, once": "30 s", "Stage two": "10 min",
    }  # fmt: skip
    section = summary(made)
    assert (
        section.content["sentences"][0]
        == "1 student learned 2 classes of images of 4×4×1 from the cached answers of the teacher a."
    )
    assert section.content["findings"][0].startswith("s at T = 4 and alpha = 0.5 (lowest validation NLL): 14.0 test errors")


def test_without_baselines_students_or_nets_that_learned(tmp_path):
    alone = tiles(chapter(tmp_path / "1", rows("a", "teacher") + students("s", 4)))
    assert list(alone) == ["s at T = 4", "teacher a", "Size"]
    section = summary(chapter(tmp_path / "2", rows("a", "teacher") + rows("b", "teacher"), teachers=("a", "b")))
    assert section.content["sentences"][0] == "No student was measured: here are teachers of 2 classes of images of 4×4×1."
    assert not section.figures
    section = summary(chapter(tmp_path / "3", [lost(row) for row in students("s", 4)]))
    assert section.content["sentences"][0] == "All nets of s diverged."
    assert section.content["tiles"] == []


def test_durations():
    assert [duration(seconds) for seconds in (0.4, 99, 100, 5969, 5970)] == ["0 s", "99 s", "2 min", "99 min", "1.7 h"]
