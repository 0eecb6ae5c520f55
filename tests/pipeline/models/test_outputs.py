"""Which outputs of a teacher the classes are."""

import pytest
import torch
from torch import nn

from foreign import adopted, pictures, refused, require_equal
from pipeline.base.errors import InputError
from pipeline.models.outputs import matched


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        ({"cat": 4, "dog": 0, "eel": 2}, lambda logits: logits[:, [4, 0, 2]]),
        (
            {"cat": "1", "dog": [0, 3], "eel": 2},
            lambda z: torch.stack([z[:, 1], (z[:, 0].exp() + z[:, 3].exp()).log(), z[:, 2]], 1),
        ),
    ],
)
def test_classes_are_outputs_of_a_teacher_that_has_more(mine, tmp_path, classes, expected):
    pictures(tmp_path, 8)
    mine.out = nn.Linear(8, 5)
    torch.save(mine.state_dict(), "mine.pt")
    adopted(tmp_path, "nets_of_theirs:build()", "mine.pt", classes)
    require_equal(tmp_path, lambda rows: expected(mine(rows)))


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ({"cat": 0, "dog": 1}, "expected each class of the transfer set .* found none for eel"),
        ({"cat": 0, "dog": 1, "eel": 2, "fox": 2}, "found others: fox"),
        ({"cat": 0, "dog": 1, "eel": 1}, "expected each output in one class, found 1 in several"),
        ({"cat": 0, "dog": 1, "eel": 3}, "classes.eel: expected a number from 0 to 2, found 3"),
        ({"cat": 0, "dog": 1, "eel": "tabby"}, "classes.eel: expected a number from 0 to 2, found 'tabby'"),
        ({"cat": 0, "dog": [], "eel": 1}, r"classes.dog: expected a number from 0 to 2, found \[\]"),
    ],
)
def test_classes_that_are_no_outputs(mine, tmp_path, classes, message):
    torch.save(mine.state_dict(), tmp_path / "mine.pt")
    refused(pictures(tmp_path, 8), message, "nets_of_theirs:build()", tmp_path / "mine.pt", classes)


def test_a_name_that_several_outputs_have_is_none():
    """ImageNet has two cranes."""
    classes, names = ["bird", "machine"], ["crane", "jay", "crane"]
    with pytest.raises(
        InputError, match=r"classes\.bird: expected the name of one output, or its number, found 'crane', of several"
    ):
        matched("big", classes, 3, names, {"bird": "crane", "machine": 2})
    assert matched("big", classes, 3, names, {"bird": [0, "jay"], "machine": 2}).groups == ((0, 1), (2,))
    with pytest.raises(InputError, match="classes: expected each name once"):
        matched("big", ["crane", "jay"], 3, names, None)
    assert matched("big", ["jay", "crane"], 2, ["crane", "jay"], None).groups == ((1,), (0,))
    assert matched("big", ["jay", "crane"], 2, ["jay", "crane"], None) is None


def test_probabilities_of_more_classes_than_the_data_have_are_known_for_what_they_are(mine, tmp_path):
    """Those that the classes pick no longer sum to 1."""
    mine.out = nn.Linear(8, 5)
    torch.save({f"0.{name}": value for name, value in mine.state_dict().items()}, tmp_path / "mine.pt")
    classes = {"cat": 0, "dog": [1, 4], "eel": 3}
    message = "expected logits, found probabilities"
    refused(pictures(tmp_path, 8), message, "nets_of_theirs:softmaxed()", tmp_path / "mine.pt", classes)
