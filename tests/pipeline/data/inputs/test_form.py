"""Forms: what rows of a source may be, and how messages call them."""

import pytest

from pipeline.base.errors import InputError
from pipeline.data.inputs.form import DTYPES, Form
from pipeline.data.inputs.form import KINDS as NAMES
from pipeline.data.inputs.kinds import KINDS


def test_every_kind_has_a_form():
    assert set(NAMES) == set(KINDS)


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_it_is_called(dtype):
    assert str(Form("array", dtype, (3,))) == f"array of {dtype}, 3"
    assert str(Form("array", dtype, (3, 2))) == f"array of {dtype}, 3×2"
    assert [str(Form(kind)) for kind in ("image", "text")] == ["image", "text"]


@pytest.mark.parametrize(
    "given",
    [
        ("sound",),
        ("array",),
        ("array", "float32"),
        ("array", "float64", (3,)),
        ("array", "bool", (3,)),
        ("array", "float32", ()),
        ("array", "float32", (3, 0)),
        ("array", "float32", (3, -1)),
        ("image", "uint8"),
        ("image", None, (1, 2, 3)),
        ("text", None, (3,)),
    ],
)
def test_other_forms_are_refused(given):
    with pytest.raises(InputError, match=r"form of a source: expected image, text, or array with a dtype of float32, float16"):
        Form(*given)
