"""Report: one page that opens offline: published figures beside those measured, tables of all runs, and pictures.

A picture shows accuracy against temperature, or against alpha where there is one temperature.
"""

import html
import logging
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.base import commands, files
from pipeline.base.commands import short
from pipeline.base.errors import InputError, printable
from pipeline.models.modelfile import FILE_NAME, ModelFile
from pipeline.results.published import Measured, Published
from pipeline.results.tables import Tables
from pipeline.results.wording import finding, spread

KINDS = {
    "teacher": "Teachers",
    "ensemble": "Ensemble",
    "baseline": "Hard-label baselines",
    "student": "Distilled students",
    "uncorrected": "Students before the bias correction",
}
COLUMNS = {  # metric → (heading, factor, digits)
    "accuracy": ("accuracy, %", 100, 2),
    "errors": ("errors", 1, 1),
    "nll": ("NLL, nats", 1, 4),
    "ece": ("ECE, %", 100, 2),
    "agreement": ("agrees with teacher, %", 100, 2),
}
VERSION = 1  # of what the page and its tables show
_log = logging.getLogger(__name__)
UNITS = {"errors": ("", 1), "error_rate": (" %", 2), "accuracy": (" %", 2)}  # metric of a published figure → (unit, digits)


@dataclass(frozen=True)
class Line:
    """One run in the report: its cells are (mean, std or None) by (split, metric), over seeds; None where all diverged.

    student, temperature, alpha: None where they do not apply. seeds: of the nets that are in the means; diverged: how many
    are not; chance: how many of the former are no better than naming the commonest class.
    """

    run: str
    kind: str
    student: str | None
    temperature: float | None
    alpha: float | None
    parameters: int
    seeds: int
    diverged: int
    chance: int
    cells: Mapping[tuple[str, str], tuple[float, float | None] | None]

    @property
    def remark(self) -> str:
        """What is to be said of nets that did not learn; empty where all did."""
        lost = f"{self.diverged} diverged" if self.diverged else ""
        vain = f"{self.chance} no better than the commonest class, on the validation split" if self.chance else ""
        return ", ".join(filter(None, (lost, vain)))


@dataclass(frozen=True)
class Section:
    """One folder of results on the page. picture: SVG, or None where there is nothing to draw."""

    name: str
    lines: Sequence[Line]
    best: Sequence[Mapping[str, Any]]
    picture: str | None
    against: str = "temperature"


def report(*, plots: Mapping[str, Path], published: Published | None, out: Path, teachers: Path | None = None) -> None:
    """Write index.html, results.md (its test tables) and pictures to `out`, from what `evaluate` or `sweep` wrote.

    plots: name → folder with tables; they come under their names, in the order given. A folder whose name
    is empty has no heading, and its picture is temperature.svg; that of another is <name>.svg, and is there if it has
    students at two temperatures, or alphas, or more. published: figures to show beside those measured, on top of the page and
    in published.md and results.json. teachers: the folder of the teachers, to tell of those that were trained anew since.
    `out` is replaced; raises InputError where it holds something else than a report, IntegrityError for damaged tables.
    """
    _require_a_report(out)
    opened = {name: Tables.open(folder) for name, folder in plots.items()}
    for tables in opened.values():
        _tell_of_new_teachers(tables, teachers)
    sections = [_section(name, tables) for name, tables in opened.items()]
    measured = published.measure(opened) if published else []
    written = {"index.html": _page(sections, published, measured), "results.md": _results(sections)}
    written |= {f"{section.name or 'temperature'}.svg": section.picture for section in sections if section.picture}
    if published:
        told = {"source": published.source, "rows": [each.facts() for each in measured]}
        written |= {"published.md": _comparison(published, measured), "results.json": files.readable_json(told).decode()}
    with files.replaced_folder(out) as folder:
        for name, text in written.items():
            files.write(folder / name, text.encode())


def _require_a_report(out: Path) -> None:
    """The folder that is replaced has a name, and holds nothing but a report."""
    others = [path.name for path in sorted(out.iterdir()) if not _is_ours(path)] if out.is_dir() else []
    if others or not out.name:
        fix = "Name a folder for the report."
        raise InputError(str(out), expected="a report, or nothing", found=", ".join(others[:3]) or "no name", fix=fix)


def _is_ours(path: Path) -> bool:
    return path.suffix == ".svg" or path.name in ("index.html", "results.md", "published.md", "results.json")


def _tell_of_new_teachers(tables: Tables, teachers: Path | None) -> None:
    """Say where the teachers that were measured are others by now; the tables are of those that were."""
    for name, digest in tables.teachers.items() if teachers else ():
        folder = teachers / name
        if (folder / FILE_NAME).exists() and ModelFile.teacher(folder).nets[0].sha256 != digest:
            again = commands.evaluate(tables.folder)
            _log.warning("%s: measured with teacher %s as it was before it was trained anew; %s", tables.folder, name, again)


def _section(name: str, tables: Tables) -> Section:
    lines = _lines(tables.read("runs"))
    best = tables.read("best")
    students = [line for line in lines if line.kind == "student" and line.seeds]
    temperatures, alphas = ({getattr(line, field) for line in students} for field in ("temperature", "alpha"))
    against = "alpha" if len(temperatures) < 2 <= len(alphas) else "temperature"
    drawn = not name or max(len(temperatures), len(alphas)) > 1
    return Section(name, lines, best, _draw(_chart(lines, name, against)) if drawn else None, against)


def _lines(rows: Sequence[Mapping[str, Any]]) -> list[Line]:
    """Rows of `runs` (one per run, seed and split) to one line per run, in their order but for uncorrected ones: last."""
    grouped: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        grouped.setdefault(row["run"], []).append(row)
    lines = []
    for run, members in grouped.items():
        cells = {}
        for split in ("valid", "test"):
            for metric in COLUMNS:
                values = [row[metric] for row in members if row["split"] == split and row["diverged"] is None]
                spread = statistics.stdev(values) if len(values) > 1 else None
                cells[split, metric] = (statistics.fmean(values), spread) if values else None
        first, nets = members[0], [row for row in members if row["split"] == "test"]
        lines.append(
            Line(
                run, first["kind"], first["student"], first["temperature"], first["alpha"], first["parameters"],
                seeds=sum(row["diverged"] is None for row in nets), diverged=sum(row["diverged"] is not None for row in nets),
                chance=sum(bool(row["chance"]) for row in nets), cells=cells,
            )
        )  # fmt: skip
    return sorted(lines, key=lambda line: line.kind == "uncorrected")


# ---------------------------------------------------------------- the picture


def _chart(lines: Sequence[Line], name: str, against: str) -> dict[str, Any]:
    """Test accuracy against temperature or alpha, as a Vega-Lite specification. name: of the folder, or empty."""
    lines = [line for line in lines if line.seeds]
    several = against == "temperature" and len({line.alpha for line in lines if line.kind == "student"}) > 1
    students = [_point(line, against, several) for line in lines if line.kind == "student"]
    baselines = [_point(line, against, several) for line in lines if line.kind == "baseline"]
    teacher = [_point(line, against) for line in lines if line.kind in ("teacher", "ensemble")][-1:]  # the ensemble is last
    hues = ["#1f6feb", "#d9480f", "#2b8a3e", "#9c36b5", "#0b7285", "#e67700", "#c2255c", "#5c940d", "#495057", "#862e9c"]
    palette = {"range": hues}
    colour: dict[str, Any] = {"field": "student", "type": "nominal", "title": None, "sort": None, "scale": palette}
    if len({point["student"] for point in students + baselines}) == 1:
        colour["legend"] = None
    titles = {"temperature": "temperature T (log scale)", "alpha": "alpha, the weight of the soft targets"}
    x = {
        "field": "x",
        "type": "quantitative",
        "title": titles[against],
        "scale": {"type": "log", "nice": False, "padding": 16} if against == "temperature" else {"zero": False, "padding": 16},
        "axis": {
            "values": sorted({point["x"] for point in students}),
            "grid": False,
            "format": "~r",
            "labelOverlap": "greedy",
            "labelSeparation": 4,
        },
    }
    y = {
        "field": "accuracy",
        "type": "quantitative",
        "title": "test accuracy, %",
        "scale": {"zero": False, "padding": 12},
    }
    subtitle = "mean ± standard deviation over seeds" + ("; dashed: the same student on hard labels" if baselines else "")
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "width": 600,
        "height": 340,
        "title": {
            "text": "Students distilled from cached logits" + (f": {name}" if name else ""),
            "subtitle": subtitle,
            "anchor": "start",
            "offset": 12,
        },
        "config": {
            "view": {"stroke": None},
            "font": "sans-serif",
            "axis": {"gridColor": "#e5e7eb", "labelFontSize": 12, "titleFontSize": 12},
            "legend": {"labelFontSize": 12},
        },
        "background": "white",
        "layer": [
            _layer(baselines, {"type": "rule", "strokeDash": [6, 4], "strokeWidth": 1.5}, y=y, color=colour),
            _layer(teacher, {"type": "rule", "color": "#868e96"}, y=y),
            _layer(
                teacher,
                {
                    "type": "text",
                    "color": "#495057",
                    "align": "right",
                    "x": "width",
                    "dx": -4,
                    "dy": -7,
                    "fontSize": 12,
                },
                y=y,
                text={"field": "label"},
            ),
            _layer(
                students,
                {"type": "rule", "strokeWidth": 1.5},
                x=x,
                y=y | {"field": "low"},
                y2={"field": "high"},
                color=colour,
            ),
            _layer(students, {"type": "line", "strokeWidth": 2}, x=x, y=y, color=colour),
            _layer(students, {"type": "point", "filled": True, "size": 60, "opacity": 1}, x=x, y=y, color=colour),
        ],
    }


def _layer(points: list[dict[str, Any]], mark: dict[str, Any], **encoding: dict[str, Any]) -> dict[str, Any]:
    return {"data": {"values": points}, "mark": mark, "encoding": encoding}


def _point(line: Line, against: str, several_alphas: bool = False) -> dict[str, Any]:
    mean, std = line.cells["test", "accuracy"]
    reach = std or 0.0
    setting = "hard labels" if line.alpha is None else f"alpha {short(line.alpha)}"
    return {
        "student": f"{line.student}, {setting}" if several_alphas else line.student,
        "label": "teacher ensemble" if line.kind == "ensemble" else f"teacher {line.run}",
        "x": getattr(line, against) or 0.0,
        "accuracy": 100 * mean,
        "low": 100 * (mean - reach),
        "high": 100 * (mean + reach),
    }


def _draw(chart: dict[str, Any]) -> str:
    try:
        import vl_convert
    except ImportError as error:
        fix = 'Install it: pip install "softcache[report]".'
        raise InputError("report", expected="vl-convert-python", found="not installed", fix=fix) from error
    return vl_convert.vegalite_to_svg(chart)


# ---------------------------------------------------------------- the tables


def _number(cell: tuple[float, float | None] | None, factor: float, digits: int) -> str:
    if cell is None:
        return "—"
    mean, std = cell
    return spread(mean * factor, None if std is None else std * factor, digits)


def _results(sections: Sequence[Section]) -> str:
    """What results.md says: each folder's test table, under its name where it has one."""
    texts = [(section.name, _markdown(section.lines, section.best)) for section in sections]
    return "\n".join(f"### {_plain(name)}\n\n{text.rstrip()}\n" if name else text for name, text in texts)


def _markdown(lines: Sequence[Line], best: Sequence[Mapping[str, Any]]) -> str:
    """The test table in Markdown: what the README shows."""
    shown = ("accuracy", "errors", "nll", "agreement")
    rows = [
        [
            _plain(line.run) + (f" ({line.remark})" if line.remark else ""),
            f"{line.parameters:,}",
            *(_number(line.cells["test", metric], *COLUMNS[metric][1:]) for metric in shown),
        ]
        for line in lines
    ]
    text = _table(["run", "parameters", *(COLUMNS[metric][0] for metric in shown)], rows)
    return text + "\n" + "".join(f"- {_plain(finding(row))}\n" for row in best)


def _comparison(published: Published, measured: Sequence[Measured]) -> str:
    """The published figures in Markdown."""
    rows = [[_plain(each.figure.what), *_cells(each)] for each in measured]
    return f"{_table(_HEADING, rows)}\nPublished: {_plain(published.source)}\n"


_HEADING = ["experiment", "published", "measured", "runs"]


def _cells(measured: Measured) -> list[str]:
    """What the columns published, measured and runs say of a figure."""
    figure = measured.figure
    unit, digits = UNITS[figure.metric]
    if figure.metric == "errors" and measured.std is None:
        digits = 0
    published = "—" if figure.published is None else f"{figure.published}{unit}"
    return [published, f"{_number((measured.mean, measured.std), 1, digits)}{unit}", str(len(measured.values))]


def _table(heading: list[str], rows: Sequence[list[str]]) -> str:
    """A table in Markdown; numbers, which all columns but the first are, to the right."""
    held = [heading, ["---", *["---:"] * (len(heading) - 1)], *rows]
    return "".join(f"| {' | '.join(row)} |\n" for row in held)


def _plain(text: str) -> str:
    """Text as Markdown that shows it as it is, in a line and in a cell: no HTML, no link, no control character."""
    shown = html.escape(printable(" ".join(text.split())), quote=False)
    return "".join(f"\\{char}" if char in "\\`*[]|" else char for char in shown)


def _page(sections: Sequence[Section], published: Published | None, measured: Sequence[Measured]) -> str:
    import jinja2

    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    return environment.from_string(_TEMPLATE).render(
        source=published.source if published else None,
        heading=_HEADING,
        compared=[(each.figure.what, _cells(each)) for each in measured],
        sections=sections,
        kinds=KINDS,
        columns=COLUMNS,
        width=3 + len(COLUMNS),
        printable=printable,
        number=_number,
        finding=finding,
    )


_TEMPLATE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Softcache report</title>
<style>
  body { font: 16px/1.5 system-ui, sans-serif; color: #212529; max-width: 68rem; margin: 2.5rem auto; padding: 0 1.25rem; }
  h1 { font-size: 1.75rem; margin-bottom: .25rem; }
  h2 { font-size: 1.2rem; margin-top: 2.25rem; }
  h2.folder { font-size: 1.4rem; margin-top: 3.5rem; border-bottom: 1px solid #adb5bd; }
  h3 { font-size: 1.1rem; margin-top: 2rem; }
  .scroll { overflow-x: auto; }
  table { border-collapse: collapse; font-variant-numeric: tabular-nums; white-space: nowrap; }
  th, td { padding: .3rem .8rem; text-align: right; }
  th:first-child, td:first-child { text-align: left; }
  thead th { border-bottom: 2px solid #adb5bd; font-weight: 600; font-size: .875rem; }
  tbody th { padding-top: 1rem; font-size: .875rem; color: #495057; text-align: left; }
  tbody td { border-top: 1px solid #e9ecef; }
  tr.chosen td { background: #e7f5ff; font-weight: 600; }
  p.note { color: #495057; font-size: .9rem; }
  svg { max-width: 100%; height: auto; }
</style>
</head>
<body>
<h1>Softcache report</h1>
<p>Each teacher ran once; distilled students learned from its cached logits, baselines from labels alone.</p>
{% if compared %}
<h2>Published and measured</h2>
<div class="scroll">
<table>
<thead><tr>{% for name in heading %}<th>{{ name }}</th>{% endfor %}</tr></thead>
<tbody>
{% for what, cells in compared %}
<tr><td>{{ what }}</td>{% for cell in cells %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}
</tbody>
</table>
</div>
<p class="note">Published: {{ source }}</p>
{% endif %}
{% for section in sections %}
{% set h = "h3" if section.name else "h2" %}
{% if section.name %}
<h2 class="folder">{{ printable(section.name) }}</h2>
{% endif %}
{% if section.best %}
<{{ h }}>Soft targets against hard labels</{{ h }}>
<ul>
{% for row in section.best %}
  <li>{{ finding(row) }}</li>
{% endfor %}
</ul>
{% endif %}
{% if section.picture %}
<{{ h }}>Accuracy against {{ section.against }}</{{ h }}>
{{ section.picture | safe }}
{% endif %}
{% for split, title in (("test", "Test split"), ("valid", "Validation split")) %}
<{{ h }}>{{ title }}</{{ h }}>
<div class="scroll">
<table>
<thead><tr><th>run</th><th>parameters</th><th>seeds</th>
{% for heading, _, _ in columns.values() %}<th>{{ heading }}</th>{% endfor %}
</tr></thead>
<tbody>
{% for kind, group in kinds.items() if section.lines | selectattr("kind", "eq", kind) | list %}
<tr><th colspan="{{ width }}">{{ group }}</th></tr>
{% for line in section.lines if line.kind == kind %}
<tr{% if line.run in (section.best | map(attribute="run")) %} class="chosen"{% endif %}>
<td>{{ line.run }}{% if line.remark %} <small>({{ line.remark }})</small>{% endif %}</td>
<td>{{ "{:,}".format(line.parameters) }}</td><td>{{ line.seeds }}</td>
{% for metric, (_, factor, digits) in columns.items() %}
<td>{{ number(line.cells[split, metric], factor, digits) }}</td>
{% endfor %}
</tr>
{% endfor %}
{% endfor %}
</tbody>
</table>
</div>
{% endfor %}
{% endfor %}
<p class="note">Mean ± sample standard deviation over seeds. Shaded: the temperature with the lowest mean validation NLL;
the test split had no part in the choice. Nets that diverged are in no mean. ECE: expected calibration error, 15 bins.
Predictions are made at T = 1.</p>
</body>
</html>
"""
