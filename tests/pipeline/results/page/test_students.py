"""Students of a page: which setting stands for each, and which have a colour."""

from charted import HOSTILE, best, chapter, students
from pipeline.results.page.students import called, headline, labels, left_out
from pipeline.results.page.students import students as found
from pipeline.results.page.theme import HUES, QUIET
from runs import lost, rows


def test_the_setting_is_that_of_the_table_of_the_best(tmp_path):
    """Without such a row it is the one of the lowest validation NLL; nets that diverged and uncorrected ones are none."""
    every = students("s", 1, 4) + students("t", 1, 4) + [lost(row) for row in students("lost", 1)]
    for row in every:
        row["nll"] = 0.1 if row["run"] == "t-T4-0.5" else 0.2
    every += rows("s-hard", "baseline", "s") + rows("s-T1-raw", "uncorrected", "s", 1.0)
    made = found(chapter(tmp_path, every, best=[best("s", "s-T4-0.5")]))
    assert [(each.best.run, each.baseline and each.baseline.run) for each in made] == [
        ("s-T4-0.5", "s-hard"), ("t-T4-0.5", None),
    ]  # fmt: skip
    assert called(made[0], made[0].best) == "s at T = 4"


def test_the_headline_has_a_baseline_where_one_has(tmp_path):
    every = students("s", 4) + [row | {"nll": 0.01} for row in students("t", 4)]
    assert headline(chapter(tmp_path, every, best=[best("s", "s-T4-0.5")])).name == "s"
    assert headline(chapter(tmp_path, every)).name == "t"
    assert headline(chapter(tmp_path, rows("a", "teacher"))) is None


def test_the_best_have_colours_in_the_order_of_the_table(tmp_path):
    """The third and the fifth of eight are the worst."""
    every = [
        row | {"nll": 0.9 if number in (2, 4) else 0.5 - number / 100}
        for number in range(8)
        for row in students(f"s{number}", 4)
    ]
    made = found(chapter(tmp_path, every))
    assert [each.colour for each in made if each.named] == list(HUES)
    assert [each.name for each in made if each.colour == QUIET] == ["s2", "s4"]
    assert left_out(made) == "Coloured: the 6 students of the lowest validation NLL. Grey: the other 2."


def test_labels_are_short_lines_that_differ():
    short = labels([HOSTILE, HOSTILE + "y", "a\nb", "a"])
    assert max(map(len, short)) < 50
    assert len(set(short)) == 4
    assert all(label.isprintable() for label in short)
    assert short[2:] == ["a\\nb", "a"]


def test_labels_are_no_properties_of_objects():
    """The mark is invisible, and no name of a user's can have it: it would be shown as an escape."""
    assert labels(["toString", "tostring", "toString", "\u200btoString"]) == [
        "\u200btoString", "tostring", "\u200btoString (2)", "\\u200btoString",
    ]  # fmt: skip
