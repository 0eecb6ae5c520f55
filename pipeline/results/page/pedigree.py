"""Pedigree: the boxes and edges of the drawing of lineage."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipeline.base import files
from pipeline.base.commands import short
from pipeline.base.spec import name_in
from pipeline.models.modelfile import Shown
from pipeline.results.lineage import Lineage, Part, Stored, Student, Teacher
from pipeline.results.page.drawing import CACHE, DATA, STUDENT, TEACHER, Edge, Node
from pipeline.results.page.reproduction import NO_VIEWS, bare
from pipeline.results.wording import counted, cut, shape, size

MOST = 8  # boxes of teachers, and of students
LETTERS = 12  # of a fingerprint
_LINE = 60  # letters of a line, of which a box shows fewer still
_BEFORE = 3  # generations before a teacher
_LABELS = "labels"
Weights = Mapping[str, Mapping[str, str]]  # by run and by seed in digits, the sha256; see tables.Basis


def pedigree(told: Lineage, weights: Weights) -> tuple[list[Node], list[Edge]]:
    """What the drawing shows.

    Args:
        told: The lineage.
        weights: Of students.

    Returns:
        The nodes, in the order of their columns, and which comes from which. Of teachers and students the first MOST; a box
        stands for the others, which others may come from.
    """
    rows = _rows(told)
    asked, taught = rows[0].key, rows[-1].key  # which may be the same
    students: dict[str, list[Student]] = {}
    for each in told.students:
        students.setdefault(each.name, []).append(each)
    teachers, drawn = told.teachers[:MOST], list(students)[:MOST]
    before, nodes, edges = [], [], []
    for teacher in teachers:
        own, cache = f"{TEACHER} {teacher.name}", f"{CACHE} {teacher.name}"
        nodes += [_teacher(own, teacher), _cache(cache, own, told.caches[teacher.name])]
        if (parent := _parent(told, teacher, weights)) in drawn:
            edges.append(Edge(f"{STUDENT} {parent}", own, back=True))
        elif teacher.generations:
            before.append(_ancestors(teacher))
            edges.append(Edge(before[-1].key, own))
        learned = teacher.kind == "teacher"
        edges += [Edge(taught, own)] if learned else []
        edges += [] if learned and asked == taught else [Edge(asked, cache)]
        edges.append(Edge(own, cache))
    more = len(told.teachers) - len(teachers)
    nodes += [*_more(TEACHER, more), *_more(CACHE, more)]
    there = {node.key for node in (*rows, *nodes)}
    labels = asked if told.parts["transfer"].labelled else None
    for name in drawn:
        nodes.append(_student(f"{STUDENT} {name}", students[name], weights))
        sources = [source for each in students[name] for source in _sources(each, labels, taught)]
        keys = dict.fromkeys(source if source in there else f"more {source.partition(' ')[0]}" for source in sources)
        edges += [Edge(key, nodes[-1].key) for key in keys]
    nodes += _more(STUDENT, len(students) - len(drawn))
    return [*rows, *before, *nodes], edges


def fingerprint(digest: str | None) -> str:
    """The first letters of a digest."""
    return (digest or "")[:LETTERS]


def labelled(part: Part) -> str:
    """How many rows have labels, in words."""
    if part.labelled in (0, part.rows):
        return "all labelled" if part.labelled else "no labels"
    return f"{part.labelled:,} labelled"


def together(students: Sequence[Student], weights: Weights) -> str:
    """One digest of all nets of a student: equal where all their weights are."""
    runs = {run.run: dict(weights.get(run.run, {})) for each in students for run in each.runs}
    return files.sha256(files.canonical_json(runs))


def _rows(told: Lineage) -> list[Node]:
    """The transfer set and, where labels are learned from other rows, the training split."""
    transfer, train = told.parts["transfer"], told.parts["train"]
    lines = [
        f"{transfer.rows:,} {shape(told.inputs)}",
        f"{told.classes:,} classes · {labelled(transfer)}",
        " · ".join(f"{name} {told.parts[name].rows:,}" for name in ("valid", "test")),
    ]
    found = [_node(DATA, DATA, "transfer set", lines, transfer.inputs)]
    if train != transfer:
        lines = [counted(train.rows, "row"), labelled(train)]
        found.append(_node(_LABELS, DATA, "training split", [" · ".join(lines)], train.inputs, shade=_LABELS))
    return found


def _teacher(key: str, of: Teacher) -> Node:
    lines = [of.model, "parameters not known" if of.parameters is None else counted(of.parameters, "parameter")]
    if of.generations:
        lines.append(f"was {of.generations[-1].run}, seed {of.generations[-1].seed}")
    elif of.recipe is None or of.views is None:
        lines.append("made elsewhere")
    else:
        lines.append(f"seed {of.seed} · {counted(of.recipe.epochs, 'epoch')}")
        lines.append(" · ".join([name_in(bare(of.recipe.optimizer)), *_policy(of.views)]))
    return _node(key, TEACHER, of.name, lines, of.sha256)


def _cache(key: str, teacher: str, of: Stored) -> Node:
    kept = " + ".join((of.knowledge, *(["features"] if of.features else [])))
    views = f"{counted(of.rows, 'row')} × {counted(of.views.count or 1, 'view')}"
    lines = [f"{kept} · {of.dtype}", views, size(of.size_bytes), *_policy(of.views)]
    return _node(key, CACHE, teacher.partition(" ")[2], lines, of.digest, beside=teacher)


def _policy(views: Shown) -> list[str]:
    """The policy of views, if it does anything."""
    return [] if views.policy == NO_VIEWS else [views.policy]


def _student(key: str, groups: Sequence[Student], weights: Weights) -> Node:
    """A student with all of its runs."""
    soft = [run for each in groups if each.soft for run in each.runs]
    nets = [seed for each in groups for run in each.runs for seed in run.kept]
    lines = [" / ".join(dict.fromkeys(each.model for each in groups))]
    if soft:
        ways = dict.fromkeys(way for each in groups for way in _ways(each))
        lines.append(f"T = {_numbers(run.temperature for run in soft)}")
        lines.append(" · ".join([f"alpha {_numbers(run.alpha for run in soft)}", *ways]))
    if any(each.soft is None for each in groups):
        lines.append("also from hard labels" if soft else "from hard labels")
    sizes = dict.fromkeys(
        "? parameters" if each.parameters is None else counted(each.parameters, "parameter") for each in groups
    )
    lines += [" / ".join(sizes), f"{counted(len(set(nets)), 'seed')} · {counted(len(nets), 'net')}"]
    return _node(key, STUDENT, groups[0].name, lines, together(groups, weights))


def _ways(of: Student) -> list[str]:
    """What a student learns by besides hard labels, in a few words."""
    if of.soft is None:
        return []
    found = [name_in(of.soft.loss)] if _softened(of) else []
    live = ["live"] if of.kind == "live" else []
    return [*found, *live, *map(name_in, of.soft.features), *(["peers"] if of.mutual else [])]


def heeds(of: Student) -> bool:
    """Whether a student learns from teachers: whether soft targets or features have a weight in any run."""
    return of.soft is not None and (_softened(of) or bool(of.soft.features))


def _softened(of: Student) -> bool:
    """Whether soft targets have a weight in any run."""
    return any(run.alpha for run in of.runs)


def _sources(of: Student, asked: str | None, taught: str) -> list[str]:
    """The keys of what a student learns from: caches, or teachers in the loop, and rows for their labels.

    asked: the transfer set, whose labels students of teachers learn from; None if it has none. taught: the training split.
    """
    if of.soft is None:
        return [taught]
    found = [f"{TEACHER if of.soft.live else CACHE} {name}" for name in of.soft.teachers] if heeds(of) else []
    return found + ([asked] if asked and any(run.label_weight for run in of.runs) else [])


def _parent(told: Lineage, teacher: Teacher, weights: Weights) -> str | None:
    """The student of this lineage that a teacher was, if it was one."""
    if not teacher.generations:
        return None
    was, prefix = teacher.generations[-1], f"{told.study}/" if told.study else ""
    runs = {f"{prefix}{run.run}": (each.name, run.run) for each in told.students for run in each.runs}
    name, run = runs.get(was.run, (None, ""))
    return name if weights.get(run, {}).get(str(was.seed)) == was.sha256 else None


def _ancestors(teacher: Teacher) -> Node:
    """The students that a teacher descends from, the latest ones first."""
    lines = [f"{' + '.join(each.teachers) or 'labels'} → {each.run}, seed {each.seed}" for each in teacher.generations[::-1]]
    shown = lines if len(lines) <= _BEFORE else [*lines[: _BEFORE - 1], f"and {len(lines) - _BEFORE + 1} more before"]
    digest = teacher.generations[-1].sha256
    return _node(f"before {teacher.name}", DATA, f"what {teacher.name} was", shown, digest, dashed=True)


def _more(column: str, count: int) -> list[Node]:
    """The box that stands for those without one."""
    beside = f"more {TEACHER}" if column == CACHE else None
    return [_node(f"more {column}", column, f"and {count:,} more", [], None, beside=beside, dashed=True)] if count else []


def _node(key: str, column: str, name: str, lines: Iterable[str], digest: str | None, **more: Any) -> Node:
    return Node(key, column, cut(name, _LINE), tuple(cut(line, _LINE) for line in lines), fingerprint(digest), **more)


def _numbers(values: Iterable[float | None]) -> str:
    """Different numbers in ascending order."""
    return ", ".join(map(short, sorted({value for value in values if value is not None})))
