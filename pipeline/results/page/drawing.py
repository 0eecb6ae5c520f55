"""Drawing: boxes in columns, and curves between them, for a wide screen and for a narrow one. Only positions are computed here.

All numbers are in units of the drawing, which is WIDE or NARROW wide; the page scales it. A curve that skips a column runs in
the gap below a box, so that it hides behind none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

WIDE, NARROW = 992, 344
DATA, TEACHER, CACHE, STUDENT = COLUMNS = ("data", "teacher", "cache", "student")  # from left to right, or downwards
_GAP = 26  # between boxes that lie below each other
_BETWEEN = 56  # columns
_MARGIN = 18  # of a narrow drawing, in which its curves run
_PAIR = 18  # between a teacher and its cache in a narrow drawing
_HEADING = 28
_LETTER = 6.8  # the width of a letter of a line, generously
_LANE = 13  # between curves that run below all boxes


@dataclass(frozen=True)
class Node:
    """What a box shows. column: one of COLUMNS. lines: each is cut where it does not fit.

    beside: the key of the teacher that a cache is of. dashed: whether it is none of the nets and rows of the page. shade: of it
    and of the curves that start there, where it is not that of its column.
    """

    key: str
    column: str
    name: str
    lines: tuple[str, ...] = ()
    fingerprint: str = ""
    beside: str | None = None
    dashed: bool = False
    shade: str = ""


@dataclass(frozen=True)
class Edge:
    """From one node to another, by their keys. back: whether it leads from a student to the teacher that it became."""

    start: str
    end: str
    back: bool = False


@dataclass(frozen=True)
class Box:
    """A node in its place: its left upper corner, and its size. folded: whether its first line takes two."""

    node: Node
    x: float
    y: float
    width: float
    height: float
    folded: bool

    @property
    def middle(self) -> float:
        """Of its height."""
        return self.y + self.height / 2

    @property
    def right(self) -> float:
        """Of its right side."""
        return self.x + self.width

    @property
    def bottom(self) -> float:
        """Of its lower side."""
        return self.y + self.height


@dataclass(frozen=True)
class Curve:
    """An edge in its place. path: of SVG, its arrow too."""

    edge: Edge
    start: Node
    path: str


@dataclass(frozen=True)
class Drawing:
    """Everything in its place. headings: text, x and y."""

    width: float
    height: float
    boxes: tuple[Box, ...]
    curves: tuple[Curve, ...]
    headings: tuple[tuple[str, float, float], ...]


def wide(nodes: Sequence[Node], edges: Sequence[Edge], headings: Mapping[str, str]) -> Drawing:
    """A column for each of COLUMNS that has nodes.

    Args:
        nodes: In the order of the drawing; each cache stands beside its teacher.
        edges: Between them.
        headings: Of columns.

    Returns:
        The drawing.
    """
    columns = [each for name in COLUMNS if (each := [node for node in nodes if node.column == name])]
    width = (WIDE - _BETWEEN * (len(columns) - 1)) / len(columns)
    heights = _heights(nodes, dict.fromkeys(COLUMNS, width))
    totals = [sum(heights[node.key] + _GAP for node in column) - _GAP for column in columns]
    tallest = max(totals)
    boxes: dict[str, Box] = {}
    for index, column in enumerate(columns):
        y = _HEADING + (tallest - totals[index]) / 2
        for node in column:
            y = boxes[node.beside].y if node.beside else y
            boxes[node.key] = _box(node, index * (width + _BETWEEN), y, width, heights)
            y += heights[node.key] + _GAP
    below, curves = _HEADING + tallest + _GAP / 2 + _LANE, []
    for edge in edges:
        start, end = boxes[edge.start], boxes[edge.end]
        below += _LANE if edge.back else 0
        own = start if start.node.column == TEACHER else end
        at = below if edge.back or own.node.column == STUDENT else own.bottom + _GAP / 2
        path = _back(start, end, at) if edge.back else _forth(start, end, at)
        curves.append(Curve(edge, start.node, path))
    titles = tuple((headings[column[0].column], boxes[column[0].key].x, 14.0) for column in columns)
    return Drawing(WIDE, below, tuple(boxes.values()), tuple(curves), titles)


def narrow(nodes: Sequence[Node], edges: Sequence[Edge], headings: Mapping[str, str]) -> Drawing:
    """What `wide` draws from left to right, downwards; each teacher has its cache at its right. Curves run in the margins."""
    inner = NARROW - 2 * _MARGIN
    half, y = (inner - _PAIR) / 2, 0.0
    heights = _heights(nodes, {DATA: inner, TEACHER: half, CACHE: half, STUDENT: inner})
    boxes: dict[str, Box] = {}
    titles: list[tuple[str, float, float]] = []
    for name in (DATA, TEACHER, STUDENT):
        column = [node for node in nodes if node.column == name]
        beside = {node.beside: node for node in nodes if node.column == CACHE} if name == TEACHER else {}
        if column:
            titles.append((headings[name], _MARGIN, y + 14))
            titles += [(headings[CACHE], _MARGIN + half + _PAIR, y + 14)] if beside else []
            y += _HEADING
        for node in column:
            boxes[node.key] = _box(node, _MARGIN, y, half if beside else inner, heights)
            if (cache := beside.get(node.key)) is not None:
                boxes[cache.key] = _box(cache, _MARGIN + half + _PAIR, y, half, heights)
            y += heights[node.key] + _GAP / 2
        y += _GAP / 2
    curves = []
    for edge in edges:
        start, end = boxes[edge.start], boxes[edge.end]
        if end.node.beside == edge.start:
            path = f"M{_at(start.right, start.middle)} H{_number(end.x)} {_arrow(end.x, end.middle)}"
        elif CACHE in (start.node.column, end.node.column):
            path = _bracket(start.right, start.middle, end.right, end.middle, 1)
        else:
            path = _bracket(start.x, start.middle, end.x, end.middle, -1)
        curves.append(Curve(edge, start.node, path))
    return Drawing(NARROW, y - _GAP / 2, tuple(boxes.values()), tuple(curves), tuple(titles))


def _heights(nodes: Sequence[Node], widths: Mapping[str, float]) -> dict[str, float]:
    """The height of each node's box; teachers and caches, which stand beside each other, have one height."""
    own = {}
    for node in nodes:
        lines = len(node.lines) + _folded(node, widths[node.column])
        own[node.key] = 38.0 + 17 * lines + (20 if node.fingerprint else 0)
    beside = {node.key for node in nodes if node.column in (TEACHER, CACHE) and not node.dashed}
    tallest = max((own[key] for key in beside), default=0.0)
    return {key: tallest if key in beside else height for key, height in own.items()}


def _box(node: Node, x: float, y: float, width: float, heights: Mapping[str, float]) -> Box:
    return Box(node, x, y, width, heights[node.key], _folded(node, width))


def _folded(node: Node, width: float) -> bool:
    """Whether the first line, which says most, takes two."""
    return bool(node.lines) and len(node.lines[0]) * _LETTER > width - 24


def _forth(start: Box, end: Box, lane: float) -> str:
    """From a box to one further right, through a lane where a column lies between."""
    if end.x - start.right <= _BETWEEN:
        path = f"M{_at(start.right, start.middle)} {_bend(start.right, start.middle, end.x, end.middle)}"
    else:
        first, last = start.right + _BETWEEN, end.x - _BETWEEN
        path = (
            f"M{_at(start.right, start.middle)} {_bend(start.right, start.middle, first, lane)} H{_number(last)} "
            f"{_bend(last, lane, end.x, end.middle)}"
        )
    return f"{path} {_arrow(end.x, end.middle)}"


def _back(start: Box, end: Box, lane: float) -> str:
    """From a box to one further left, through a lane below all."""
    first, reach = start.x - _BETWEEN, end.x - _BETWEEN
    return (
        f"M{_at(start.x, start.middle)} {_bend(start.x, start.middle, first, lane)} H{_number(end.x)} "
        f"C{_at(reach, lane)} {_at(reach, end.middle)} {_at(end.x, end.middle)} {_arrow(end.x, end.middle)}"
    )


def _bracket(x: float, y: float, x_end: float, y_end: float, side: int) -> str:
    """Out into a margin and back. side: 1 for the right one, −1 for the left one."""
    out = (max if side > 0 else min)(x, x_end) + side * _MARGIN * 1.25
    return f"M{_at(x, y)} C{_at(out, y)} {_at(out, y_end)} {_at(x_end, y_end)} {_arrow(x_end, y_end, side)}"


def _bend(x: float, y: float, x_end: float, y_end: float) -> str:
    """A curve that leaves and arrives level."""
    middle = (x + x_end) / 2
    return f"C{_at(middle, y)} {_at(middle, y_end)} {_at(x_end, y_end)}"


def _arrow(x: float, y: float, side: int = -1) -> str:
    """The head of an arrow that comes from the left, or from the right."""
    return f"M{_at(x + side * 6, y - 4)} L{_at(x, y)} L{_at(x + side * 6, y + 4)}"


def _at(x: float, y: float) -> str:
    return f"{_number(x)} {_number(y)}"


def _number(value: float) -> str:
    return f"{round(value, 1):g}"
