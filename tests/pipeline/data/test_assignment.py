"""Assignments: which row goes where, against rules written in another way."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from pipeline.base import randomness
from pipeline.base.errors import InputError
from pipeline.base.randomness import Use
from pipeline.data.assignment import NOWHERE, Assignment, carve
from pipeline.data.index import Index
from pipeline.data.inputs.form import Form
from pipeline.data.sources.source import Chunk, Source


def index(role: str, ids: Sequence[str], labels: Sequence[int] | None = None, first: int = 0) -> Index:
    labels = [0] * len(ids) if labels is None else labels
    chunk = Chunk(list(ids), (), list(labels), lambda row: f"{role} {row}")
    return Index.read(Source(Form("text"), lambda with_inputs: iter([chunk]), (), 0, text=role), role, first)


def rows(name: str, count: int) -> list[str]:
    return [f"{name}{row}" for row in range(count)]


def order(plan: Assignment, ids: Sequence[Sequence[str]], split: str) -> list[str]:
    """The ids of a split, in order; every place is taken once."""
    found: dict[int, str] = {}
    for held, places in zip(ids, plan.places, strict=True):
        for row, where in enumerate(dict(places.of()).get(split, np.full(len(held), NOWHERE)).tolist()):
            if where != NOWHERE:
                assert where not in found
                found[where] = held[row]
    assert sorted(found) == list(range(plan.sizes[split]))
    return [found[where] for where in range(len(found))]


def planned(
    given: Mapping[str, Sequence[Sequence[str]]],
    amounts: Mapping[str, float] | None = None,
    *,
    seed: int = 0,
    fold: bool = False,
) -> tuple[Assignment, dict[str, list[str]]]:
    """The plan for sources of these ids, and the ids of each split in order."""
    made = {name: [index(name, ids, [row % 3 for row in range(len(ids))]) for ids in some] for name, some in given.items()}
    plan = Assignment.plan(made, amounts or {}, seed=seed, fold=fold)
    every = [ids for name in ("train", "valid", "test", "transfer") for ids in given.get(name, ())]
    return plan, {split: order(plan, every, split) for split in plan.sizes}


def shuffled(ids: Sequence[str], split: int, seed: int = 0) -> list[str]:
    return [ids[row] for row in randomness.permutation(len(ids), seed, Use.SHUFFLE, split)]


def test_given_splits_are_shuffled_each_by_itself():
    given = {"train": [rows("a", 20)], "valid": [rows("v", 7)], "test": [rows("t", 9)]}
    _, found = planned(given, seed=3)
    assert found == {name: shuffled(given[name][0], place, 3) for place, name in enumerate(("train", "valid", "test"))}
    assert found["train"] != rows("a", 20)


def test_test_rows_are_carved_before_validation_rows():
    """In the order of `amounts`; a count of the validation rows changes no test row."""
    ids = rows("a", 60)
    some, more = (planned({"train": [ids]}, {"test": 0.2, "valid": amount})[1] for amount in (6, 12))
    assert some["test"] == more["test"]
    assert {name: len(found) for name, found in more.items()} == {"test": 12, "valid": 12, "train": 36}
    assert sorted(some["train"] + some["valid"] + some["test"]) == sorted(ids)
    labels = {name: Counter(ids.index(row) % 3 for row in found) for name, found in more.items()}
    assert labels == {"test": {0: 4, 1: 4, 2: 4}, "valid": {0: 4, 1: 4, 2: 4}, "train": {0: 12, 1: 12, 2: 12}}


def test_sources_of_the_transfer_set_follow_each_other():
    given = {"train": [rows("a", 8)], "valid": [rows("v", 3)], "test": [rows("t", 3)]}
    alone = planned(given | {"transfer": [rows("x", 20)]})[1]["transfer"]
    both = planned(given | {"transfer": [rows("x", 20), rows("y", 7)]})[1]["transfer"]
    assert (both[:20], both[20:]) == (alone, shuffled(rows("y", 7), 3))


def test_folded_rows_follow_in_the_order_of_the_validation_split():
    given = {"train": [rows("a", 20)], "test": [rows("t", 3)], "transfer": [rows("x", 5)]}
    plan, plain = planned(given, {"valid": 6})
    folding, folded = planned(given, {"valid": 6}, fold=True)
    assert folded["valid"] == plain["valid"]
    assert folded["train"] == plain["train"] + plain["valid"]
    assert folded["transfer"] == plain["transfer"] + plain["valid"]
    assert not len(plan.twice)
    assert not len(folding.twice)


def test_folded_rows_that_the_transfer_set_has_are_not_added_again():
    """They are told, so that their inputs can be compared."""
    shared = rows("a", 20)[5:]
    plan, folded = planned({"train": [rows("a", 20)], "test": [rows("t", 3)], "transfer": [shared]}, {"valid": 9}, fold=True)
    both = [row for row in folded["valid"] if row in shared]
    assert 0 < len(both) < 9
    assert folded["transfer"] == shuffled(shared, 3) + [row for row in folded["valid"] if row not in shared]
    assert len(plan.twice) == len(both)
    assert set(plan.twice.tolist()) == set(index("valid", both).ids.tolist())


def test_the_split_of_a_row_is_its_own():
    plan, folded = planned({"train": [rows("a", 9)], "test": [rows("t", 3)]}, {"valid": 3}, fold=True)
    for row, name in enumerate(rows("a", 9)):
        assert plan.split_of(0, row) == ("valid" if name in folded["valid"] else "train")
    assert plan.split_of(1, 0) == "test"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"train": [["a", "b", "a"]]}, "train split, ids: expected each id once, found 'a' twice"),
        ({"test": [["t", "b", "s"]]}, "test split, ids: expected each id once, found 'b' in train and in test"),
        ({"transfer": [["x", "y"], ["z", "x"]]}, "transfer split, ids: expected each id once, found 'x' twice"),
    ],
)
def test_an_id_is_there_once(given, message):
    usual = {"train": [["a", "b", "c"]], "valid": [["v", "w"]], "test": [["t", "s"]], "transfer": [["x", "a", "t"]]}
    planned(usual)[0].require_unique()  # the transfer set may have rows of the others
    with pytest.raises(InputError, match=message):
        planned(usual | given)[0].require_unique()


def test_an_id_in_two_splits_carved_out_of_one_source():
    """Both places are named, in the order of the source."""
    valid = planned({"train": [rows("a", 30)], "test": [rows("t", 3)]}, {"valid": 10})[1]["valid"]
    split = ["valid" if name in valid else "train" for name in rows("a", 30)]
    for twin in range(1, 30):
        ids = rows("a", 30)
        ids[twin] = ids[0]
        made = {"train": [index("train", ids, [row % 3 for row in range(30)])], "test": [index("test", rows("t", 3))]}
        found = f"in {split[0]} and in {split[twin]}" if split[0] != split[twin] else "twice"
        with pytest.raises(InputError, match=f"{split[twin]} split, ids: expected each id once, found 'a0' {found}"):
            Assignment.plan(made, {"valid": 10}, seed=0, fold=False).require_unique()


def test_the_places_of_some_rows():
    """Those that a cut of all has; a split that has none of them is left out."""
    plan, _ = planned({"train": [rows("a", 40)], "test": [rows("t", 3)]}, {"valid": 5}, fold=True)
    every = dict(plan.places[0].of())
    assert set(every) == {"train", "valid"}
    for row in range(40):
        found = dict(plan.places[0].of(row, row + 1))
        wanted = {name: places[row : row + 1].tolist() for name, places in every.items() if places[row] != NOWHERE}
        assert {name: places.tolist() for name, places in found.items()} == wanted
        assert ("train" in found, len(found)) == (True, 2 if plan.split_of(0, row) == "valid" else 1)


def test_without_ids_places_stay():
    plan, _ = planned({"train": [rows("a", 9)], "test": [rows("t", 3)]}, {"valid": 3})
    slim = plan.without_ids()
    assert slim.places is plan.places
    assert [len(each.ids) for each in slim.indices] == [0, 0]
    assert [len(each) for each in slim.indices] == [9, 3]


# ---------------------------------------------------------------- few labels


def few(labels: int | None, *, fold: bool = False, valid: float = 9, seed: int = 2) -> tuple[Assignment, dict[str, list[str]]]:
    """60 rows, of which each class, 0 to 2, has 20; 12 are test rows."""
    ids = rows("a", 60)
    train = index("train", ids, [row % 3 for row in range(60)]).renamed(("x", "y", "z"))
    plan = Assignment.plan({"train": [train]}, {"test": 12, "valid": valid}, seed=seed, fold=fold, labels=labels)
    return plan, {split: order(plan, [ids], split) for split in plan.sizes}


def test_the_rows_that_keep_their_labels_have_the_lowest_random_bits_of_their_class():
    """Their numbers in the source decide: another size of the validation split draws no others in their place."""
    _, plain = few(None)
    plan, found = few(4)
    left = [int(name[1:]) for name in plain["train"]]
    bits = {row: int(randomness.bits(2, Use.LABELS, row)) for row in left}
    expected = {
        f"a{row}" for label in range(3) for row in sorted((r for r in left if r % 3 == label), key=bits.__getitem__)[:4]
    }
    assert set(found["train"]) == expected
    assert len(found["train"]) == 12
    assert set(found["transfer"]) == set(plain["train"])
    assert found["transfer"] == shuffled([f"a{row}" for row in sorted(left)], 3, 2)
    assert [found[name] for name in ("valid", "test")] == [plain[name] for name in ("valid", "test")]
    known = [f"a{row}" for row in np.flatnonzero(plan.indices[0].labels >= 0)]
    assert set(known) == expected | set(found["valid"]) | set(found["test"])
    assert all(plan.indices[0].labels[int(name[1:])] == int(name[1:]) % 3 for name in known)
    assert set(few(3)[1]["train"]) < expected < set(few(5)[1]["train"])
    more = few(4, valid=12)[1]
    assert expected - set(more["train"]) == expected & set(more["valid"])


def test_folded_rows_follow_few_labelled_ones_and_the_others():
    _, plain = few(4)
    plan, folded = few(4, fold=True)
    for name in ("train", "transfer"):
        assert folded[name] == plain[name] + plain["valid"]
    assert [folded[name] for name in ("valid", "test")] == [plain[name] for name in ("valid", "test")]
    assert {plan.split_of(0, int(name[1:])) for name in plain["train"]} == {"train"}
    assert plan.split_of(0, int((set(plain["transfer"]) - set(plain["train"])).pop()[1:])) == "transfer"


def test_a_class_with_fewer_rows_than_labels_to_keep():
    plan, found = few(13)
    assert len(found["train"]) == len(found["transfer"]) == 39
    assert (plan.indices[0].labels >= 0).all()
    with pytest.raises(InputError) as caught:
        few(14)
    assert str(caught.value) == (
        "labels: expected 14 rows or more of every class beside those of test and valid, "
        "found 13 of class x. Set it to 13 at most, or add rows."
    )


# ---------------------------------------------------------------- carving


def test_carving_is_stratified():
    """Of 600, 300 and 100 rows a tenth is 60, 30 and 10."""
    labels = np.array([0] * 600 + [1] * 300 + [2] * 100)
    rest, carved = carve(labels, 0.1, "test", seed=3)
    assert Counter(labels[carved].tolist()) == {0: 60, 1: 30, 2: 10}
    assert sorted(rest.tolist() + carved.tolist()) == list(range(1000))


def test_carving_takes_a_count_too_and_depends_on_the_seed():
    first, second = (carve(np.array([0, 1] * 50), 20, "valid", seed=seed)[1].tolist() for seed in (1, 2))
    assert len(first) == len(second) == 20
    assert first != second


@pytest.mark.parametrize("amount", [0, 1.5, 100, 1000, -0.5, 0.001])
def test_carving_that_leaves_a_side_empty_is_refused(amount):
    with pytest.raises(InputError, match="that leaves rows on both sides"):
        carve(np.array([0, 1] * 50), amount, "valid", seed=0)
