"""Images: one mode and one size for all, files that are kept as they came, and names for those that do not fit."""

import numpy as np
import pyarrow as pa
import pytest

from conftest import png
from pipeline.base.errors import InputError
from pipeline.data.inputs.form import Form
from pipeline.data.inputs.image import Images
from pipeline.data.inputs.resizing import Resizing

FORM = Form("image")
GREY = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40
COLOUR = np.stack([GREY, 255 - GREY, GREY // 2], 2)


def seen(*pictures: np.ndarray) -> dict:
    found: dict = {}
    for row, picture in enumerate(pictures):
        found.setdefault(Images.examine(FORM, png(picture), "it"), f"row {row}")
    return found


def test_what_is_seen_of_a_row():
    assert seen(GREY, COLOUR, GREY) == {("L", 2, 3): "row 0", ("RGB", 2, 3): "row 1"}
    with pytest.raises(InputError, match="row 5: expected a PNG, JPEG or WebP image"):
        Images.examine(FORM, b"text", "row 5")


def test_one_image_in_colour_makes_all_of_them_so():
    assert Images.settle(FORM, seen(GREY), Resizing()) == Images("L", (1, 2, 3))
    facts = Images.settle(FORM, seen(GREY, COLOUR), Resizing())
    assert (facts, facts.fit) == (Images("RGB", (3, 2, 3)), None)
    assert (facts.read([png(GREY)], str) == GREY).all(), "three times the same"


def test_several_sizes_need_a_size():
    """Both are named, by the first rows that have them."""
    sizes = seen(GREY, GREY.T, COLOUR)
    with pytest.raises(InputError) as caught:
        Images.settle(FORM, sizes, Resizing())
    assert str(caught.value) == (
        "row 1: expected 2×3 pixels as in row 0, found 3×2 pixels. Set `size`, and how images `fit` it."
    )  # fmt: skip
    assert Images.settle(FORM, sizes, Resizing((8, 4), "pad")) == Images("RGB", (3, 8, 4), fit="pad")


def test_a_size_counts_even_where_all_have_one():
    facts = Images.settle(FORM, seen(GREY), Resizing((4, 4), "stretch"))
    assert facts == Images("L", (1, 4, 4), fit="stretch")
    assert facts.read([png(GREY)], str).shape == (1, 1, 4, 4)


def test_pixels_are_those_of_the_files():
    facts = Images("RGB", (3, 2, 3))
    found = facts.read([png(COLOUR), png(COLOUR[::-1].copy())], str)
    assert found.dtype == np.uint8
    assert (found[0] == COLOUR.transpose(2, 0, 1)).all()
    assert (found[1] == COLOUR[::-1].transpose(2, 0, 1)).all()
    assert found.strides[1] == 1, "channels last in memory, as they are decoded"


def test_an_image_of_another_size_is_named_where_it_is_read():
    """Which cannot be, unless the file was changed: what is ingested has one size."""
    with pytest.raises(ValueError, match="shape"):
        Images("L", (1, 3, 3)).read([png(GREY)], lambda row: f"row {row}")


def test_a_damaged_image_is_named_by_its_place():
    with pytest.raises(InputError, match="row 1 of it: expected a PNG, JPEG or WebP image"):
        Images("L", (1, 2, 3)).read([png(GREY), b"x"], lambda row: f"row {row} of it")


def test_files_are_kept_byte_by_byte():
    stored = [png(GREY), b"whatever", b""]
    assert Images.stored(Images.column(pa.array(stored))) == stored
    assert Images.column(pa.array(stored)).to_pylist() == [{"bytes": data, "path": None} for data in stored]
