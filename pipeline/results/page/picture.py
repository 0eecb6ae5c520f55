"""Pictures: figures as files that stand alone, such as a README or a paper wants."""

import textwrap
from collections.abc import Callable, Mapping
from typing import Any, Literal

from pipeline.results.page import theme
from pipeline.results.page.section import Figure

Format = Literal["svg", "png"]
WIDTH = 600  # pixels, where a figure takes the width that there is
_LETTERS = 88  # of a line of the title
_SCALE = 2  # of the pixels of a PNG


def picture(figure: Figure, kind: Format) -> bytes:
    """A figure as a file, with its title above it, in dark letters on white. Raises InputError without altair's libraries."""
    libraries = theme.libraries()
    draw: Mapping[Format, Callable[[], bytes]] = {
        "svg": lambda: libraries.vegalite_to_svg(standing_alone(figure), config=theme.standing_alone()).encode(),
        "png": lambda: libraries.vegalite_to_png(standing_alone(figure), config=theme.standing_alone(), scale=_SCALE),
    }
    return draw[kind]()


def standing_alone(figure: Figure) -> dict[str, Any]:
    """The specification of a figure with a width of its own, and with its title and note."""
    spec = dict(figure.spec)
    if spec.get("width") == "container":
        spec["width"] = WIDTH
    if "title" in spec:  # it has one already, so that this one goes around it
        spec = {"vconcat": [spec]} | {key: spec.pop(key) for key in ("$schema", "datasets", "params") if key in spec}
    title = {"anchor": "start", "offset": 12, "text": _wrapped(figure.title)}
    return spec | {"title": title | ({"subtitle": _wrapped(figure.note)} if figure.note else {})}


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _LETTERS)
