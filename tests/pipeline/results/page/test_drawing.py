"""Drawing: boxes lie apart, and curves join those that they should."""

import re
from itertools import combinations

import pytest

import lineages
from lineages import many
from pipeline.results.page.drawing import COLUMNS, Box, narrow, wide
from pipeline.results.page.pedigree import pedigree

HEADINGS = {name: name for name in COLUMNS}


def touches(box: Box, x: float, y: float) -> bool:
    """Whether a point is in the middle of a side of a box, as numbers of SVG are rounded."""
    return min(abs(x - box.x), abs(x - box.right)) < 0.1 and abs(y - box.middle) < 0.1


@pytest.mark.parametrize("layout", [wide, narrow])
@pytest.mark.parametrize("count", [0, 1, 8, 50])
def test_boxes_lie_apart_and_curves_end_at_theirs(layout, count):
    """0: the project, which has a curve back, and one that skips a column."""
    chapter = lineages.opened()
    nodes, edges = pedigree(many(count, count), {}) if count else pedigree(chapter.lineage, chapter.tables.basis.students)
    drawing = layout(nodes, edges, HEADINGS)
    boxes = {box.node.key: box for box in drawing.boxes}
    for one, other in combinations(drawing.boxes, 2):
        assert one.right < other.x or other.right < one.x or one.bottom < other.y or other.bottom < one.y
    for box in drawing.boxes:
        assert 0 <= box.x < box.right <= drawing.width + 1e-9
        assert 0 < box.y < box.bottom <= drawing.height
    assert [curve.edge for curve in drawing.curves] == edges
    for curve in drawing.curves:
        numbers = [float(number) for number in re.findall(r"-?[\d.]+", curve.path)]
        assert touches(boxes[curve.edge.start], *numbers[:2])
        assert touches(boxes[curve.edge.end], *numbers[-4:-2])  # the point of the arrow
    more = [box.node.name for box in drawing.boxes if box.node.dashed]
    assert sorted(node.name for node in nodes if node.dashed) == more == (["and 42 more"] * 3 if count == 50 else [])


def test_a_curve_that_skips_a_column_hides_behind_no_box():
    chapter = lineages.opened()
    drawing = wide(*pedigree(chapter.lineage, chapter.tables.basis.students), HEADINGS)
    (skips,) = (curve for curve in drawing.curves if (curve.edge.start, curve.edge.end) == ("data", "cache b"))
    x, y, end = map(float, re.search(r"([\d.]+) ([\d.]+) H([\d.]+)", skips.path).groups())
    teachers = [box for box in drawing.boxes if box.node.column == "teacher"]
    assert (x, end) == pytest.approx((teachers[0].x, teachers[0].right), abs=0.1)
    assert not any(box.y <= y <= box.bottom for box in teachers)
