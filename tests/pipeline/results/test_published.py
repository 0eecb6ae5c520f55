"""Published figures: measured values against ones worked out by hand, and what is said of settings that are wrong."""

import pytest

from conftest import write_tables
from pipeline.base.errors import InputError, IntegrityError
from pipeline.results.published import Published
from pipeline.results.tables import Tables

ROW = {"what": "teachers", "runs": ["a", "b"]}


def parse(*rows: object) -> Published:
    return Published.parse({"source": "a paper", "rows": list(rows)})


@pytest.fixture
def plots(tmp_path) -> Tables:
    """Teachers a and b with 10 and 13 of 200 wrong, students s with 20, 22 and 27; b and s by class. Validation is worse."""
    wrong = {"a": (10,), "b": (13,), "s": (20, 22, 27)}
    rows, by_class = [], []
    for run, errors in wrong.items():
        for seed, number in enumerate(errors):
            for split, more in (("valid", 100), ("test", 0)):
                key = {"run": run, "seed": seed if run == "s" else None, "split": split}
                rows.append(key | {"accuracy": 1 - (number + more) / 200, "errors": number + more})
                if run != "a":
                    by_class.append(key | {"class_": "3", "rows": 40, "errors": number - 12 + more // 10})
                    by_class.append(key | {"class_": "seven, 7", "rows": 160, "errors": 12})
                    by_class.append(key | {"class_": "none", "rows": 0, "errors": 0})
    return Tables.open(write_tables(tmp_path / "plots", runs=rows, classes=by_class))


@pytest.mark.parametrize(
    ("change", "values", "mean", "std"),
    [
        ({}, [10, 13], 11.5, 4.5**0.5),  # 1.5² + 1.5², over 1
        ({"runs": ["s"]}, [20, 22, 27], 23, 13**0.5),  # 3² + 1² + 4² = 26, over 2
        ({"runs": ["s", "a"]}, [20, 22, 27, 10], 19.75, (152.75 / 3) ** 0.5),  # pooled: a mean of 4, not of 2 means
        ({"runs": ["b"]}, [13], 13, None),
        ({"runs": ["s"], "metric": "error_rate"}, [10, 11, 13.5], 11.5, 3.25**0.5),
        ({"runs": ["s"], "metric": "accuracy"}, [90, 89, 86.5], 88.5, 3.25**0.5),
        ({"runs": ["s", "b"], "class": "3"}, [8, 10, 15, 1], 8.5, (101 / 3) ** 0.5),
        ({"runs": ["s"], "class": 3, "metric": "error_rate"}, [20, 25, 37.5], 27.5, 81.25**0.5),
        ({"runs": ["s"], "class": 3, "metric": "accuracy"}, [80, 75, 62.5], 72.5, 81.25**0.5),
        ({"runs": ["s"], "class": "seven, 7"}, [12, 12, 12], 12, 0),
    ],
)
def test_measured(plots, change, values, mean, std):
    (measured,) = parse(ROW | change).measure({"": plots})
    assert list(measured.values) == values
    assert measured.mean == pytest.approx(mean)
    assert measured.std == (None if std is None else pytest.approx(std))


def test_to_dict(plots):
    row = {"what": "threes", "folder": "no3", "runs": ["s"], "class": 3, "metric": "error_rate", "published": 21.5}
    (measured,) = parse(row).measure({"other": None, "no3": plots})
    assert measured.to_dict() == row | {
        "class": "3", "mean": 27.5, "std": pytest.approx(81.25**0.5), "count": 3, "values": [20, 25, 37.5],
    }  # fmt: skip
    (measured,) = parse(ROW | {"runs": ["a"], "folder": None, "published": None}).measure({"": plots})
    assert measured.to_dict() == {
        "what": "teachers", "folder": None, "runs": ["a"], "class": None, "metric": "errors", "published": None,
        "mean": 10, "std": None, "count": 1, "values": [10],
    }  # fmt: skip


def test_names_that_are_numbers(plots):
    figure = parse(ROW | {"runs": [1, "b"], "folder": 7}).figures[0]
    assert (figure.runs, figure.folder) == (("1", "b"), "7")


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"sauce": "x", "rows": [ROW]}, "published: expected keys out of source, rows, found 'sauce'."),
        ({"rows": [ROW]}, "published, source: expected where the figures were published, found None."),
        ({"source": 1503.02531, "rows": [ROW]}, "published, source: expected where the figures were published, found 1503.0"),
        ({"source": "x"}, "published, rows: expected a list of figures, found None."),
        ({"source": "x", "rows": []}, "published, rows: expected a list of figures, found []."),
        ({"source": "x", "rows": ROW}, "published, rows: expected a list of figures, found {"),
    ],
)
def test_sections_that_are_wrong(section, message):
    with pytest.raises(InputError) as raised:
        Published.parse(section)
    assert str(raised.value).startswith(message)
    assert str(raised.value).endswith("Correct the section `published`.")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("67", "published, row 2: expected a row with what, folder, runs, class, metric, published, found '67'."),
        (
            ROW | {"run": "a"},
            "published, row 2: expected keys out of what, folder, runs, class, metric, published, found 'run'",
        ),
        ({"runs": ["a"]}, "published, row 2, what: expected the name of an experiment, found None."),
        (ROW | {"what": " "}, "published, row 2, what: expected the name of an experiment, found ' '."),
        ({"what": "x"}, "published 'x', runs: expected a list of names of runs, each once, found None."),
        (ROW | {"runs": "a"}, "published 'teachers', runs: expected a list of names of runs, each once, found 'a'."),
        (ROW | {"runs": []}, "published 'teachers', runs: expected a list of names of runs, each once, found []."),
        (ROW | {"runs": ["a", "a"]}, "published 'teachers', runs: expected a list of names of runs, each once, found ['a', 'a"),
        (ROW | {"runs": [True]}, "published 'teachers', runs: expected a list of names of runs, each once, found [True]."),
        (ROW | {"folder": ["x"]}, "published 'teachers', folder: expected a name, found ['x']."),
        (ROW | {"class": 3.5}, "published 'teachers', class: expected a name, found 3.5."),
        (ROW | {"metric": "nll"}, "published 'teachers', metric: expected one of errors, error_rate, accuracy, found 'nll'."),
        (ROW | {"published": "67"}, "published 'teachers', published: expected a number, or null, found '67'."),
        (ROW | {"published": True}, "published 'teachers', published: expected a number, or null, found True."),
        (ROW | {"published": float("nan")}, "published 'teachers', published: expected a number, or null, found nan."),
    ],
)
def test_rows_that_are_wrong(row, message):
    with pytest.raises(InputError) as raised:
        parse(ROW, row)
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize(
    ("change", "names", "message"),
    [
        ({"folder": "no4"}, ("paper", "no3"), "folder: expected one of paper, no3, found 'no4'. Correct the section `publishe"),
        ({}, ("paper", "no3"), "folder: expected one of paper, no3, found ''."),
        ({"folder": "no3"}, ("",), "folder: expected none, because there are none, found 'no3'."),
        ({"runs": ["a", "t"]}, ("",), "runs: expected one of a, b, s, found 't'."),
        ({"class": "3"}, ("",), "runs: expected one of b, s, found 'a'."),
        ({"runs": ["b"], "class": "4"}, ("",), "class: expected one of 3, seven, 7, none, found '4'."),
        ({"runs": ["b"], "class": "none"}, ("",), "class 'none': expected rows of it in the test split, found none."),
    ],
)
def test_what_is_not_there(plots, change, names, message):
    with pytest.raises(InputError) as raised:
        parse(ROW | change).measure(dict.fromkeys(names, plots))
    assert str(raised.value).startswith(f"published 'teachers', {message}")


def test_no_table_of_classes(plots):
    (plots.folder / "classes.parquet").unlink()
    parse(ROW).measure({"": plots})
    with pytest.raises(IntegrityError, match=r"classes.parquet: expected sha256 .*, found no file. Run `softcache evaluate"):
        parse(ROW | {"class": "3"}).measure({"": plots})


def test_a_net_that_diverged_is_not_counted(tmp_path):
    rows = [{"run": run, "seed": seed, "split": "test", "errors": seed, "accuracy": 0.5} for run in "ab" for seed in (3, 5)]
    rows[1] |= {"errors": None, "accuracy": None, "diverged": 2}
    (measured,) = parse(ROW).measure({"": Tables.open(write_tables(tmp_path / "some", runs=rows))})
    assert measured.values == (3, 3, 5)
    rows[0] |= {"errors": None, "accuracy": None, "diverged": 1}
    with pytest.raises(InputError, match="runs: expected a net that did not diverge, found none in 'a'"):
        parse(ROW).measure({"": Tables.open(write_tables(tmp_path / "none", runs=rows))})


def test_an_empty_table(tmp_path):
    plots = Tables.open(write_tables(tmp_path / "plots"))
    with pytest.raises(InputError, match="runs: expected none, because there are none, found 'a'"):
        parse(ROW).measure({"": plots})
