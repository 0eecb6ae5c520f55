"""Theme: the colours and letters of charts. On the page they take the colours of the text around them, in light and in dark.

The hues are those of Okabe and Ito (2008, "Color Universal Design"), which colour-blind readers can tell apart: without black
and yellow, which are too close to one of both backgrounds, and with a darker orange and sky blue, so that each hue stands out
from both by 3 to 1, as WCAG 2.2 asks of what a picture says (1.4.11).
"""

from typing import Any

from pipeline.base.errors import InputError

HUES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#C48600", "#3391C8")
QUIET = "#868e96"  # of what is there for comparison: teachers, members, guides
_FONT = "system-ui, sans-serif"
# The pixels that a chart has, as an expression of Vega. `width` alone would change once more, after legends have their place.
ROOM = "(width && containerSize()[0] || 600)"


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
        "legend": labels | {"orient": "bottom", "columns": {"signal": columns()}, "labelLimit": 200, "symbolOpacity": 1},
        "title": {"color": text, "subtitleColor": text},
        "text": {"color": text},
        "range": {"category": list(HUES)},
    }


def columns(beside: int = 0, wide: int = 150) -> str:
    """How many columns a legend has room for, as an expression of Vega. beside: pixels of something else. wide: of a column."""
    return f"max(1, floor(({ROOM} - {beside}) / {wide}))"


def standing_alone() -> dict[str, Any]:
    """The configuration of a picture in a file: dark letters on white, of a font that is found anywhere."""
    return config("#212529", "#e5e7eb", "white", "sans-serif")


def libraries() -> Any:
    """Vega, Vega-Lite and vega-embed, in the module that draws without a browser. Raises InputError if it is not installed."""
    try:
        import altair  # noqa: F401
        import vl_convert
    except ImportError as error:
        fix = 'Install them: pip install "softcache[report]".'
        raise InputError("report", expected="altair and vl-convert-python", found="not installed", fix=fix) from error
    return vl_convert
