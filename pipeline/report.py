"""Report: one page that opens offline, with the table of all runs and accuracy against temperature."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import files, table
from pipeline.errors import InputError

KINDS = {
    "teacher": "Teachers",
    "ensemble": "Ensemble",
    "baseline": "Hard-label baselines",
    "student": "Distilled students",
}
COLUMNS = {  # metric → (heading, factor, digits)
    "accuracy": ("accuracy, %", 100, 2),
    "errors": ("errors", 1, 1),
    "nll": ("NLL, nats", 1, 4),
    "ece": ("ECE, %", 100, 2),
    "agreement": ("agrees with teacher, %", 100, 2),
}


@dataclass(frozen=True)
class Line:
    """One run in the report: its cells are (mean, std or None) by (split, metric), over seeds."""

    run: str
    kind: str
    student: str
    temperature: str
    alpha: str
    parameters: int
    seeds: int
    cells: Mapping[tuple[str, str], tuple[float, float | None]]


def report(*, plots: Path, out: Path) -> None:
    """Write index.html, results.md (the same table) and temperature.svg to `out`, from what `evaluate` wrote to `plots`."""
    lines = _lines(table.from_csv(plots / "runs.csv", "evaluate"))
    best = table.from_csv(plots / "best.csv", "evaluate")
    picture = _draw(_chart(lines))
    with files.replaced_folder(out) as folder:
        files.write(folder / "index.html", _page(lines, best, picture).encode())
        files.write(folder / "results.md", _markdown(lines, best).encode())
        files.write(folder / "temperature.svg", picture.encode())


def _lines(rows: Sequence[Mapping[str, str]]) -> list[Line]:
    """Rows of runs.csv (one per run, seed and split) to one line per run, in their order."""
    grouped: dict[str, list[Mapping[str, str]]] = {}
    for row in rows:
        grouped.setdefault(row["run"], []).append(row)
    lines = []
    for run, members in grouped.items():
        cells = {}
        for split in ("valid", "test"):
            for metric in COLUMNS:
                values = [float(row[metric]) for row in members if row["split"] == split]
                cells[split, metric] = (statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None)
        first = members[0]
        seeds = len({row["seed"] for row in members})
        lines.append(
            Line(
                run,
                first["kind"],
                first["student"],
                first["temperature"],
                first["alpha"],
                int(first["parameters"]),
                seeds,
                cells,
            )
        )
    return lines


# ---------------------------------------------------------------- the picture


def _chart(lines: Sequence[Line]) -> dict[str, Any]:
    """Test accuracy against temperature, as a Vega-Lite specification."""
    several = len({line.alpha for line in lines if line.kind == "student"}) > 1
    students = [_point(line, several) for line in lines if line.kind == "student"]
    baselines = [_point(line, several) for line in lines if line.kind == "baseline"]
    teacher = [_point(line) for line in lines if line.kind in ("teacher", "ensemble")][-1:]  # the ensemble comes last
    hues = ["#1f6feb", "#d9480f", "#2b8a3e", "#9c36b5", "#0b7285", "#e67700", "#c2255c", "#5c940d", "#495057", "#862e9c"]
    palette = {"range": hues}
    colour = {"field": "student", "type": "nominal", "title": None, "sort": None, "scale": palette}
    x = {
        "field": "T",
        "type": "quantitative",
        "title": "temperature T (log scale)",
        "scale": {"type": "log", "nice": False, "padding": 16},
        "axis": {"values": sorted({point["T"] for point in students}), "grid": False, "format": "~r"},
    }
    y = {
        "field": "accuracy",
        "type": "quantitative",
        "title": "test accuracy, %",
        "scale": {"zero": False, "padding": 12},
    }
    subtitle = "mean ± standard deviation over seeds; dashed: the same student on hard labels"
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "width": 600,
        "height": 340,
        "title": {
            "text": "Students distilled from cached logits",
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


def _point(line: Line, several_alphas: bool = False) -> dict[str, Any]:
    mean, std = line.cells["test", "accuracy"]
    spread = std or 0.0
    setting = f"alpha {line.alpha}" if line.alpha else "hard labels"
    return {
        "student": f"{line.student}, {setting}" if several_alphas else line.student,
        "label": "teacher ensemble" if line.kind == "ensemble" else f"teacher {line.run}",
        "T": float(line.temperature or 0),
        "accuracy": 100 * mean,
        "low": 100 * (mean - spread),
        "high": 100 * (mean + spread),
    }


def _draw(chart: dict[str, Any]) -> str:
    try:
        import vl_convert
    except ImportError as error:
        fix = 'Install it: pip install "softcache[report]".'
        raise InputError("report", expected="vl-convert-python", found="not installed", fix=fix) from error
    return vl_convert.vegalite_to_svg(chart)


# ---------------------------------------------------------------- the tables


def _number(cell: tuple[float, float | None], factor: float, digits: int) -> str:
    mean, std = cell
    spread = f" ± {std * factor:.{digits}f}" if std is not None else ""
    return f"{mean * factor:.{digits}f}{spread}"


def finding(row: Mapping[str, str]) -> str:
    """What a row of best.csv says: distilled at the T and alpha that validation chose, against the baseline."""

    def value(name: str) -> str:
        return _number((abs(float(row[name])), float(spread) if (spread := row.get(f"{name}_std")) else None), 1, 1)

    def ends(name: str) -> str:
        return f"{float(row[f'{name}_low']):.1f} to {float(row[f'{name}_high']):.1f}"

    comparison = "fewer" if float(row["errors_saved"]) >= 0 else "more"
    over_seeds = f"{ends('over_seeds')} over seeds (paired t), " if row.get("over_seeds_low") else ""
    return (
        f"{row['student']} at T = {row['temperature']} and alpha = {row['alpha']} (lowest validation NLL): "
        f"{value('test_errors')} test errors; on hard labels {value('baseline_test_errors')}. "
        f"That is {abs(float(row['errors_saved'])):.1f} {comparison}; 95 % intervals of what is saved: "
        f"{over_seeds}{ends('over_rows')} over test rows (bootstrap)."
    )


def _markdown(lines: Sequence[Line], best: Sequence[Mapping[str, str]]) -> str:
    """The test table in Markdown: what the README shows."""
    shown = ("accuracy", "errors", "nll", "agreement")
    heading = ["run", "parameters", *(COLUMNS[metric][0] for metric in shown)]
    rows = [heading, ["---", *["---:"] * (len(heading) - 1)]]
    for line in lines:
        rows.append(
            [
                line.run,
                f"{line.parameters:,}",
                *(_number(line.cells["test", metric], *COLUMNS[metric][1:]) for metric in shown),
            ]
        )
    text = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    return text + "\n" + "".join(f"- {finding(row)}\n" for row in best)


def _page(lines: Sequence[Line], best: Sequence[Mapping[str, str]], picture: str) -> str:
    import jinja2

    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    return environment.from_string(_TEMPLATE).render(
        groups=[(title, [line for line in lines if line.kind == kind]) for kind, title in KINDS.items()],
        columns=COLUMNS,
        number=_number,
        chosen={row["run"] for row in best},
        findings=[finding(row) for row in best],
        picture=picture,
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
<p>Each teacher ran once; every student below learned from its cached logits.</p>
{% if findings %}
<h2>Soft targets against hard labels</h2>
<ul>
{% for finding in findings %}
  <li>{{ finding }}</li>
{% endfor %}
</ul>
{% endif %}
<h2>Accuracy against temperature</h2>
{{ picture | safe }}
{% for split, title in (("test", "Test split"), ("valid", "Validation split")) %}
<h2>{{ title }}</h2>
<div class="scroll">
<table>
<thead><tr><th>run</th><th>parameters</th><th>seeds</th>
{% for heading, _, _ in columns.values() %}<th>{{ heading }}</th>{% endfor %}
</tr></thead>
<tbody>
{% for group, members in groups if members %}
<tr><th colspan="8">{{ group }}</th></tr>
{% for line in members %}
<tr{% if line.run in chosen %} class="chosen"{% endif %}>
<td>{{ line.run }}</td><td>{{ "{:,}".format(line.parameters) }}</td><td>{{ line.seeds }}</td>
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
<p class="note">Mean ± sample standard deviation over seeds. Shaded: the temperature with the lowest mean validation NLL;
the test split had no part in the choice. ECE: expected calibration error, 15 bins. Predictions are made at T = 1.</p>
</body>
</html>
"""
