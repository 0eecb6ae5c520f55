"""Rows: each class gives its share, smaller shares are parts of larger ones, and every wrong choice is refused."""

import sys

import numpy as np
import pytest

from pipeline.base.errors import InputError
from pipeline.data.selection import Selection, stratified

NAMES = ("cat", "dog", "owl")
LABELS = np.array([0, 1, 2, 0, 1, 2, 0])
SHARES = (0.001, 0.01, 0.03, 0.1, 0.25, 0.5, 0.6, 0.9, 1)


def choose(text: str, labels=LABELS, names=NAMES) -> np.ndarray:
    return Selection.parse(text).choose(np.asarray(labels), names)


def mixed(sizes: list[int], seed: int = 0) -> np.ndarray:
    """Labels 0, 1, … as often as `sizes` says, mixed."""
    return np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))


def refused(text: str, *parts: str, labels=LABELS) -> None:
    with pytest.raises(InputError) as caught:
        choose(text, labels)
    for part in parts:
        assert part in str(caught.value)


# ---------------------------------------------------------------- what is chosen


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("all", [0, 1, 2, 3, 4, 5, 6]),
        ("only([0])", [0, 3, 6]),
        ("only([2, 0])", [0, 2, 3, 5, 6]),
        ("only(['dog', 2])", [1, 2, 4, 5]),
        ("without([0])", [1, 2, 4, 5]),
        ("without(('owl', 'cat'))", [1, 4]),
        ("without([])", [0, 1, 2, 3, 4, 5, 6]),
        ("fraction(1)", [0, 1, 2, 3, 4, 5, 6]),
        ("fraction(1.0, balanced=False)", [0, 1, 2, 3, 4, 5, 6]),
    ],
)
def test_rows_come_in_ascending_order(text, rows):
    found = choose(text)
    assert found.dtype == np.int64
    assert found.tolist() == rows


def test_the_text_is_canonical():
    assert Selection.parse("fraction(0.03)").text == "fraction(share=0.03, balanced=True, seed=0)"
    assert Selection.parse("only((7, 8))").text == "only(classes=[7, 8])"
    assert Selection.parse(Selection.parse("all").text).text == "all()"


def test_a_name_is_a_name_and_a_number_a_label():
    """Where the names of classes are numbers in another order."""
    assert choose("only(['0'])", [0, 1], ("1", "0")).tolist() == [1]
    assert choose("only([0])", [0, 1], ("1", "0")).tolist() == [1]  # a name first


# ---------------------------------------------------------------- fractions


@pytest.mark.parametrize(
    "sizes", [[600, 300, 100], [1] * 1000 + [1000], [7] * 300, [5923, 6742, 5958, 6131, 5842, 5421], [1, 2, 3, 4, 5]]
)
@pytest.mark.parametrize("seed", [0, 1])
def test_every_class_gives_its_share_to_within_one_row(sizes, seed):
    labels = mixed(sizes)
    for share in (0.03, 0.1, 0.4, 0.5, 0.97):
        rows = Selection.parse(f"fraction({share}, seed={seed})")
        try:
            given = np.bincount(labels[rows.choose(labels, NAMES)], minlength=len(sizes))
        except InputError:
            given = np.zeros(len(sizes))  # all classes round down
            assert share * len(labels) < 2
        assert np.abs(given - share * np.array(sizes)).max() < 1


def test_a_share_that_divides_is_exact():
    """3 % of 6,000, of 5,900 and of 100 rows: 180, 177 and 3, although 0.03 has no exact float."""
    labels = mixed([6000, 5900, 100])
    assert np.bincount(labels[choose("fraction(0.03)", labels)]).tolist() == [180, 177, 3]


def test_classes_of_fewer_rows_than_the_share_asks_for_take_turns():
    """Of a thousand classes of 30 rows 1 % is three rows in ten classes: 300 give one row, and another seed others."""
    labels = mixed([30] * 1000)
    first, second = (choose(f"fraction(0.01, seed={seed})", labels) for seed in (0, 1))
    assert len(first) == len(second) == 300
    assert len(np.unique(labels[first])) == 300
    assert len(np.intersect1d(labels[first], labels[second])) < 150


def test_rows_without_a_label_are_a_class_of_their_own():
    labels = mixed([400, 200, 100]) - 1
    assert np.bincount(labels[choose("fraction(0.1)", labels)] + 1).tolist() == [40, 20, 10]


@pytest.mark.parametrize("balanced", [True, False])
@pytest.mark.parametrize("seed", [0, 7])
def test_a_smaller_share_is_part_of_a_larger_one(balanced, seed):
    labels = mixed([500, 700, 5, 1, 294])
    former = np.empty(0)
    for share in SHARES[1:]:
        rows = choose(f"fraction({share}, balanced={balanced}, seed={seed})", labels)
        assert np.isin(former, rows).all()
        assert len(rows) > len(former)
        former = rows


def test_unbalanced_is_a_share_of_all_rows_whatever_their_classes():
    labels = mixed([900, 100])
    rows = choose("fraction(0.1, balanced=False)", labels)
    assert len(rows) == 100
    assert len(choose("fraction(0.0996, balanced=False)", labels)) == 100
    assert (rows == choose("fraction(0.1, balanced=False)", np.zeros(1000, np.int64))).all()
    chances = [(labels[choose(f"fraction(0.1, balanced=False, seed={seed})", labels)] == 1).sum() for seed in range(50)]
    assert len(set(chances)) > 5
    assert 8 < np.mean(chances) < 12  # 10 ± 0.4, the standard error


def test_a_fraction_is_a_function_of_seed_and_labels():
    labels = mixed([50, 50])
    for balanced in (True, False):
        texts = [f"fraction(0.2, {balanced}, {seed})" for seed in (3, 3, 4)]
        first, again, other = (choose(text, labels) for text in texts)
        assert (first == again).all()
        assert len(np.intersect1d(first, other)) < 15


def test_rows_of_a_class_have_equal_chances():
    """40 of 200 rows over 200 seeds: each row comes 40 times, ± 5.7."""
    labels = mixed([100, 100])
    times = np.zeros(200)
    for seed in range(200):
        times[choose(f"fraction(0.2, seed={seed})", labels)] += 1
    assert times.sum() == 200 * 40
    assert 4.2 < times.std() < 7.2
    assert times.min() > 15


def test_the_rows_of_a_fraction_stay_what_they_were():
    """Written down once: results that name a fraction can be had again."""
    labels = np.arange(30) % 3
    assert choose("fraction(0.2, seed=5)", labels).tolist() == [8, 9, 11, 13, 15, 22]
    assert choose("fraction(0.2, balanced=False, seed=5)", labels).tolist() == [8, 9, 11, 15, 22, 27]


def test_stratified_places():
    labels, order = np.array([5, 5, 5, 5, -1, -1]), np.array([3, 4, 0, 1, 5, 2])
    assert stratified(labels, order).tolist() == [3 / 8, 5 / 8, 7 / 8, 1 / 8, 1 / 4, 3 / 4]
    offsets = np.array([0.1, 0.2])  # of labels -1 and 5
    assert stratified(labels, order, offsets).tolist() == [1.2 / 4, 2.2 / 4, 3.2 / 4, 0.2 / 4, 0.1 / 2, 1.1 / 2]


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize("share", ["0", "-0.1", "1.1", "2", "'a'", "True", "None", "[0.1]"])
def test_a_share_out_of_range(share):
    refused(f"fraction({share})", "share: expected a number in (0, 1], found ", "Correct the setting `rows`.")


def test_other_settings_of_a_fraction():
    refused("fraction(0.5, balanced='yes')", "balanced: expected True or False, found 'yes'")
    refused("fraction(0.5, seed=1.5)", "seed: expected a whole number, found 1.5")
    refused("fraction(0.5, seed=True)", "seed: expected a whole number, found True")


@pytest.mark.parametrize("kind", ["only", "without"])
@pytest.mark.parametrize(
    ("classes", "found"),
    [("[3]", "3"), ("[-1]", "-1"), ("['bird']", "'bird'"), ("[1.0]", "1.0"), ("[True]", "True")],
)
def test_unknown_classes(kind, classes, found):
    refused(f"{kind}({classes})", f"expected a label from 0 to 2, or a name of cat, dog, owl, found {found}.")


@pytest.mark.parametrize("kind", ["only", "without"])
def test_classes_are_a_list_without_duplicates(kind):
    refused(f"{kind}(1)", "expected a list of classes such as [7, 8], found 1")
    refused(f"{kind}('cat')", "expected a list of classes such as [7, 8], found 'cat'")
    refused(f"{kind}([1, 0, 1])", "expected each class once, found dog twice")
    refused(f"{kind}([1, 'dog'])", "expected each class once, found dog twice")


@pytest.mark.parametrize("kind", ["only", "without"])
def test_classes_need_labels(kind):
    refused(f"{kind}([1])", "expected a label for every row, found 2 rows without", labels=[0, 1, -1, -1])


@pytest.mark.parametrize("text", ["only([])", "without([0, 1, 2])", "fraction(0.01)", "fraction(0.01, False)"])
def test_nothing_selected(text):
    refused(text, f"rows {text.split('(')[0]}(", "expected one row or more, found none of 7")


def test_a_class_without_rows_is_nothing():
    refused("only(['owl'])", "expected one row or more, found none of 3", labels=[0, 1, 0])
    assert choose("without(['owl'])", [0, 1, 0]).tolist() == [0, 1, 2]


def test_an_unknown_selection():
    refused("some(3)", "one of all, fraction, only, without")
    refused("fraction()", "share")


@pytest.mark.parametrize(
    ("returned", "part"),
    [
        ("[0, 7]", "row numbers from 0 to 6, found 0 to 7"),
        ("[-1, 2]", "row numbers from 0 to 6, found -1 to 2"),
        ("[1, 1]", "found int64 (2,) with duplicates"),
        ("labels == 0", "found bool (7,) with duplicates"),
        ("[[1, 2]]", "found int64 (1, 2)"),
        ("[0.5]", "found float64 (1,)"),
    ],
)
def test_a_function_of_ones_own_is_checked(tmp_path, monkeypatch, returned, part):
    code = "def odd(labels, names, first=1):\n    return range(first, len(labels), 2)\n\n"
    (tmp_path / "my_rows.py").write_text(f"{code}def bad(labels, names):\n    return {returned}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setenv("SOFTCACHE_PLUGINS", "my_rows")
    try:
        assert choose("my_rows:odd(first=3)").tolist() == [3, 5]
        refused("my_rows:bad", part, "Correct the function.")
    finally:
        sys.modules.pop("my_rows", None)
