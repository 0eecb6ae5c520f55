"""Colours stand out from both backgrounds, by the formula of WCAG 2.2 for relative luminance."""

import pytest
from colours import DARK, LIGHT, PRINT, contrast

from pipeline.results.page import theme


def test_the_formula():
    assert contrast("#fff", "#000000") == pytest.approx(21)
    assert contrast("#777", "#fff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("colours", [LIGHT, DARK, PRINT], ids=["light", "dark", "print"])
def test_letters_and_marks_stand_out(colours):
    for behind in ("page", "raised", "chosen"):
        assert all(contrast(colours[letters], colours[behind]) >= 4.5 for letters in ("text", "quiet", "link"))
    assert all(contrast(hue, colours["page"]) >= 3 for hue in (*theme.HUES, theme.QUIET))


def test_a_picture_that_stands_alone_has_colours_of_its_own():
    alone = theme.standing_alone()
    assert "currentColor" not in str(alone)
    assert "currentColor" in str(theme.config())
    assert contrast(alone["axis"]["labelColor"], "#fff") >= 4.5
