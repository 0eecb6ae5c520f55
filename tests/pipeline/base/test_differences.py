"""Differences, field by field."""

from pipeline.base.differences import differences


def test_differences_name_the_field():
    expected = {"views": {"policy": "shift(pixels=2)", "seed": 0}, "tile": 512}
    found = {"views": {"policy": "none()", "seed": 0}, "extra": [1]}
    assert differences(expected, found) == [
        ("views.policy", "shift(pixels=2)", "none()"),
        ("tile", 512, None),
        ("extra", None, [1]),
    ]


def test_values_are_compared_whole():
    """A list is one value, a section against a value is two differences, and equal things are none."""
    assert differences({"a": [1, 2], "b": {"c": 1}}, {"a": [1, 2], "b": {"c": 1}}) == []
    assert differences({"a": [1, 2]}, {"a": [2, 1]}) == [("a", [1, 2], [2, 1])]
    assert differences({"a": {"b": 1}}, {"a": 1}) == [("a.b", 1, None), ("a", None, 1)]
