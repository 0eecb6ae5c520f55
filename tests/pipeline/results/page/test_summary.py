"""The summary: figures in large letters, and what it says where there are none."""

import pytest

from charted import best, chapter, footprint, students
from pipeline.results.page.summary import duration, recovered, summary
from pipeline.results.tables import BestRow
from runs import lost, rows


def row(**more) -> BestRow:
    return BestRow(**dict.fromkeys(BestRow._fields) | best("s", "s-T4-0.5", **more))


@pytest.mark.parametrize(
    ("teacher", "more", "value", "note"),
    [
        (11, {}, "70 %", "of the 10.0 test errors between hard labels and teacher"),
        (11, {"over_seeds_low": 2.0, "over_seeds_high": 12.0}, "70 %", "95 % interval over seeds 20 % to 120 %"),
        (16, {}, "140 %", "of the 5.0 test errors"),
        (11, {"errors_saved": -1.0}, "none", "of the 10.0 test errors"),
        (21, {}, "—", "there is none"),
        (30, {}, "—", "there is none"),
        (20, {}, "—", "within the noise of the seeds"),  # 1 error, and two standard errors are 2 · 1 / √2
    ],
)
def test_the_share_of_the_gap_that_is_closed(teacher, more, value, note):
    tile = recovered(row(**more), teacher)
    assert tile.value == value
    assert note in tile.note


def tiles(chapter) -> dict[str, str]:
    return {tile.what: tile.value for tile in summary(chapter).content["tiles"]}


def test_the_headline_in_large_letters(tmp_path):
    """86 % for the student, 79 % on hard labels, 90 % for the teacher; 7 of 11 errors are saved."""
    every = rows("a", "teacher") + students("s", 4) + rows("s-hard", "baseline", "s", errors=(20, 22))
    stage = {"command": None, "students": 3, "seconds": 30.0, "share": 0.25}
    costs = {"rows": [stage | {"stage": 1}, stage | {"stage": 1, "command": "teach"}, stage | {"stage": 2, "seconds": 600.0}]}
    made = chapter(
        tmp_path, every, best=[best("s", "s-T4-0.5")], costs=costs,
        models={"a": "large", "s-T4-0.5": "little"}, footprint=footprint(large=(1234, 2.0), little=(1234, 0.5)),
    )  # fmt: skip
    assert tiles(made) == {
        "s at T = 4 and alpha = 0.5": "86.00 ± 2.83 %", "s on hard labels": "79.00 ± 1.41 %", "teacher a": "90.00 %",
        "Gap closed": "64 %", "Size": "1.0× smaller", "Multiply-adds": "1.0× fewer", "Speed on one row": "4.0× faster",
        "Speed on 64 rows": "4.0× faster", "Stage one, once": "30 s", "Stage two": "10 min",
    }  # fmt: skip
    section = summary(made)
    assert (
        section.content["sentences"][0]
        == "1 student learned 2 classes of images (1 × 4 × 4) from the cached logits of the teacher a."
    )
    assert section.content["findings"][0].startswith("s at T = 4 and alpha = 0.5 (lowest validation NLL): 14.0 test errors")


def test_without_baselines_students_or_nets_that_learned(tmp_path):
    alone = tiles(chapter(tmp_path / "1", rows("a", "teacher") + students("s", 4)))
    assert list(alone) == ["s at T = 4 and alpha = 0.5", "teacher a", "Size"]
    section = summary(chapter(tmp_path / "2", rows("a", "teacher") + rows("b", "teacher"), teachers=("a", "b")))
    assert section.content["sentences"][0] == "No student was measured: here are teachers of 2 classes of images (1 × 4 × 4)."
    assert not section.figures
    section = summary(chapter(tmp_path / "3", [lost(row) for row in students("s", 4)]))
    assert section.content["sentences"][0] == "All nets of s diverged."
    assert section.content["tiles"] == []


def test_durations():
    assert [duration(seconds) for seconds in (0.4, 99, 100, 5969, 5970)] == ["0 s", "99 s", "2 min", "99 min", "1.7 h"]
