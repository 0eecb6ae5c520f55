"""Theme: the colours and letters of charts. On the page they take the colours of the text around them, in light and in dark.

The hues are those of Okabe and Ito (2008, "Color Universal Design"), which colour-blind readers can tell apart: without black
and yellow, which are too close to one of both backgrounds, and with a darker orange and sky blue, so that each hue stands out
from both by 3 to 1, as WCAG 2.2 asks of what a picture says (1.4.11).
"""

from typing import Any

HUES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#C48600", "#3391C8")
QUIET = "#868e96"  # of what is there for comparison: teachers, members, guides
_FONT = "system-ui, sans-serif"


def config(
    text: str = "currentColor", grid: str = "#868e9640", background: str | None = None, font: str = _FONT
) -> dict[str, Any]:
    """The configuration of every chart, as Vega-Lite has it. A picture that stands alone needs colours of its own."""
    labels = {"labelColor": text, "titleColor": text, "labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal"}
    return {
        "background": background,
        "font": font,
        "aria": False,  # the page says what a chart shows, in words
        "view": {"stroke": None},
        "axis": labels | {"gridColor": grid, "domainColor": QUIET, "tickColor": QUIET, "labelLimit": 140},
        "legend": labels | {"orient": "bottom", "labelLimit": 260, "symbolOpacity": 1},
        "header": labels | {"labelLimit": 200},
        "title": {"color": text, "subtitleColor": text},
        "text": {"color": text},
        "range": {"category": list(HUES)},
    }


def standing_alone() -> dict[str, Any]:
    """The configuration of a picture in a file: dark letters on white, of a font that is found anywhere."""
    return config("#212529", "#e5e7eb", "white", "sans-serif")
