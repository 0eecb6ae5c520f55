"""Colours of the page's style, and how far two of them stand apart, by the formula of WCAG 2.2 for relative luminance."""

import re
from pathlib import Path

import pipeline.results

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
