"""The page: one HTML file that opens from disk, offline, in which nothing runs but its own script."""

import base64
import hashlib
import re
from collections.abc import Sequence
from functools import cache

from pipeline.base.errors import printable
from pipeline.results.page import theme
from pipeline.results.page.chapter import Chapter
from pipeline.results.page.deploy import deploy
from pipeline.results.page.gallery import gallery
from pipeline.results.page.lineage import lineage
from pipeline.results.page.runs import runs
from pipeline.results.page.section import Section
from pipeline.results.page.summary import summary
from pipeline.results.page.temperature import temperature
from pipeline.results.page.training import training
from pipeline.results.page.trust import trust
from pipeline.results.published import HEADING, Measured, Published
from pipeline.results.wording import cut

SECTIONS = (summary, temperature, gallery, deploy, trust, training, lineage, runs)  # in the order of the page
LONGEST = 80  # letters of a name
_UNITS = re.compile(r" (?=[=±%])|(?<=[=±]) |(?<=\d) (?=(?:s|ms|kB|points|nats)\b)")


def sections(chapter: Chapter) -> list[Section]:
    """The sections of a chapter that have something to show."""
    made = [make(chapter) for make in SECTIONS]
    return [section for section in made if section is not None]


def page(
    chapters: Sequence[tuple[Chapter, Sequence[Section]]], published: Published | None, measured: Sequence[Measured]
) -> str:
    """The page as HTML.

    Args:
        chapters: Each with its sections.
        published: Where published figures come from.
        measured: These figures, and what was measured.

    Returns:
        The text of index.html.

    Raises:
        InputError: altair's libraries are not installed.
    """
    import jinja2

    loader = jinja2.PackageLoader("pipeline.results", "templates/page")
    strict = jinja2.StrictUndefined
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=strict)
    environment.filters |= {"printable": printable, "brief": brief, "unbroken": unbroken}
    script = _script((environment.loader.get_source(environment, "page.js")[0]) if environment.loader else "")
    return environment.get_template("page.html").render(
        chapters=chapters, source=published.source if published else None, heading=HEADING, compared=measured,
        theme=theme.config(), hues=theme.HUES, script=script, script_hash=_hash(script),
    )  # fmt: skip


def brief(text: str) -> str:
    """A name as one line that is safe to show, cut where it is very long."""
    return cut(text, LONGEST)


def unbroken(text: str) -> str:
    """Text whose lines do not break within T = 4, or between a number and its unit."""
    return _UNITS.sub("\u00a0", text)


@cache
def _script(own: str) -> str:
    """Vega, Vega-Lite and vega-embed, bundled with the page's own script, which takes a second or two."""
    bundle: str = theme.libraries().javascript_bundle(own)
    return bundle.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _hash(script: str) -> str:
    """What the policy of the page calls a script that may run: see https://www.w3.org/TR/CSP3/#grammardef-hash-source."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"
