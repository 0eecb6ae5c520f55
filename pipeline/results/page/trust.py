"""Trust: how right a net is when it is sure, and what it takes for what."""

from pipeline.results.page.chapter import Chapter
from pipeline.results.page.confusions import confusions
from pipeline.results.page.judged import judged
from pipeline.results.page.reliability import reliability
from pipeline.results.page.section import Section


def trust(chapter: Chapter) -> Section | None:
    """The section of trust; None where the tables say nothing of it."""
    nets = judged(chapter)
    curve = reliability(chapter, nets)
    maps = confusions(chapter, [net for net in nets if net.line.kind != "baseline"])
    figures = [*([curve] if curve else []), *maps]
    return Section("trust", "Trust", figures, {"curve": curve, "maps": maps}) if figures else None
