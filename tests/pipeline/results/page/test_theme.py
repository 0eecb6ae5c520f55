"""Colours stand out from both backgrounds, by the formula of WCAG 2.2 for relative luminance."""

import re
from pathlib import Path

import pytest

import pipeline.results
from pipeline.results.page import theme

CSS = (Path(pipeline.results.__file__).parent / "templates/page/page.css").read_text()
LIGHT, DARK, PRINT = (
    dict(re.findall(r"--(\w+): (#\w+);", block)) for block in re.findall(r":root \{([^}]*--page[^}]*)\}", CSS)
)


def luminance(colour: str) -> float:
    digits = colour.lstrip("#")
    digits = "".join(2 * digit for digit in digits) if len(digits) == 3 else digits
    parts = [int(digits[start : start + 2], 16) / 255 for start in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


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
