"""Columns: the given one, or the usual one."""

import pytest

from pipeline.base.errors import InputError
from pipeline.data.sources import columns

THERE = ["id", "text", "label", "intent", "speaker"]


def test_the_usual_columns():
    assert columns.input_of(THERE, None, "it") == "text"
    assert (columns.label_of(THERE, None, "it"), columns.id_of(THERE, None, "it")) == ("label", "id")
    assert columns.label_of(["labels"], None, "it") == "labels"
    assert (columns.label_of(["x"], None, "it"), columns.id_of(["x"], None, "it")) == (None, None)


def test_a_given_column():
    assert columns.input_of(THERE, "speaker", "it") == "speaker"
    assert columns.label_of(THERE, "intent", "it") == "intent"
    assert columns.id_of(THERE, "speaker", "it") == "speaker"


@pytest.mark.parametrize(
    ("chosen", "there", "given", "message"),
    [
        (columns.input_of, ["a"], None, "it: expected a column `image`, `img`, `text`, .* found a. Name the column to read"),
        (columns.input_of, ["a"], "b", "it: expected a column `b`, found a"),
        (columns.input_of, [], None, "found no columns"),
        (columns.input_of, ["text", "image"], None, "expected one column of .*, found image and text. Name .* input='image'"),
        (columns.label_of, ["label"], "intent", "expected a column `intent`, found label"),
        (columns.label_of, ["label", "labels"], None, "found label and labels. Name the one to read, such as label='label'"),
        (columns.id_of, ["a"], "number", "expected a column `number`, found a"),
        (columns.id_of, ["id", "id"], None, "expected one column `id`, found 2 of it"),
    ],
)
def test_columns_that_are_missing_or_too_many(chosen, there, given, message):
    with pytest.raises(InputError, match=message):
        chosen(there, given, "it")


@pytest.mark.parametrize("value", [3, "", ["a"]])
def test_settings_that_are_no_names(value):
    with pytest.raises(InputError, match="source csv, label: expected a name in quotes, or None"):
        columns.require_names("csv", text="a", label=value, id=None)
