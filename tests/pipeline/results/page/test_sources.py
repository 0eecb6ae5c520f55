"""Sources in words: which teachers, cached or in the loop, how they are combined, and the rows."""

from dataclasses import replace

import pytest

from lineages import ROWS, made, student, teacher, telling
from pipeline.models.modelfile import Chosen, Mutual
from pipeline.results.lineage import Part
from pipeline.results.page.sources import learned_from

ALL = " on 40 rows, all with labels"
WHOLE = student("s", ["a", "b"])
LIVE = replace(student("t", ["a", "b"]), kind="live")


def changed(of, **soft):
    return replace(of, soft=replace(of.soft, **soft))


def few(of, count):
    return replace(of, rows=Chosen("fraction(0.5)", count, "rows"))


PEERS = student("s", ["a"], mutual=Mutual(1.0, (0, 1)))
PEERS = replace(PEERS, runs=tuple(replace(run, alpha=0.0) for run in PEERS.runs))


@pytest.mark.parametrize(
    ("students", "said"),
    [
        ([student("s", ["a"]), student("s")], f"the cached answers of the teacher a{ALL}"),
        ([WHOLE], f"the cached answers of 2 teachers (a, b; the mean of their probabilities){ALL}"),
        ([LIVE], f"2 teachers (a, b; the mean of their probabilities) in the loop{ALL}"),
        (
            [WHOLE, LIVE],
            f"the cached answers of 2 teachers (a, b; the mean of their probabilities), or with these in the loop,{ALL}",
        ),
        (
            [changed(WHOLE, rule="logits", weights=(0.25, 0.75))],
            f"the cached answers of 2 teachers (a, b; the mean of their logits, weighted 0.25, 0.75){ALL}",
        ),
        (
            [student("s", ["b"]), student("t", ["a"])],
            f"the cached answers of 2 teachers (b, a; combined in several ways, see Lineage){ALL}",
        ),
        ([few(student("s", ["a"]), 20)], "the cached answers of the teacher a on 20 of 40 rows"),
        (
            [few(student("s", ["a"]), 20), student("t", ["a"])],
            "the cached answers of the teacher a on 20 to 40 of 40 rows",
        ),
        ([PEERS], "labels and from each other"),
    ],
)
def test_what_students_learned_from(students, said):
    assert learned_from(telling(made([teacher("a"), teacher("b")], students))) == said


def test_few_labels():
    parts = {"train": ROWS, "transfer": Part(40, 6, "i", "l", 0)}
    told = made([teacher("a")], [student("s", ["a"])], parts=parts)
    assert learned_from(telling(told)) == "the cached answers of the teacher a on 40 rows, of which 6 have labels"
