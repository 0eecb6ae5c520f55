"""Marks: names that users chose are values of data, and never code or names of fields."""

import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from typing import Any

from charted import HOSTILE, best, chapter, footprint, students
from pipeline.results.page.deploy import deploy
from pipeline.results.page.picture import picture
from pipeline.results.page.summary import summary
from pipeline.results.page.temperature import temperature
from pipeline.results.page.training import training
from pipeline.results.page.trust import trust
from runs import rows

CODE = {"expr", "signal", "test", "filter", "calculate", "field", "labelExpr", "sort", "name", "param"}


def code(spec: Any) -> Iterator[str]:
    """The texts in a chart that Vega-Lite reads as code, or as names of fields."""
    if isinstance(spec, list):
        for each in spec:
            yield from code(each)
    if isinstance(spec, dict):
        for key, value in spec.items():
            if key in ("values", "datasets", "domain"):  # data, which it draws as text
                continue
            if key in CODE and not isinstance(value, dict):
                yield json.dumps(value)
            yield from code(value)


def test_hostile_names_are_text(tmp_path):
    """In every chart; and what a chart is drawn to has no element that they made."""
    run, hard = f"{HOSTILE}-T4-0.5", f"{HOSTILE}-hard"
    every = rows(HOSTILE, "teacher") + students(HOSTILE, 1, 4) + students(f"{HOSTILE}y", 4) + rows(hard, "baseline", HOSTILE)
    made = chapter(
        tmp_path, every, teachers=(HOSTILE,), classes=(HOSTILE, f"{HOSTILE}y"), best=[best(HOSTILE, run)],
        bins=[{"run": run, "seed": 0, "bin": 14, "rows": 9, "confidence": 0.95, "accuracy": 1.0}],
        confusions=[{"run": each, "label": 0, "predicted": 1, "rows": 2.0} for each in (run, HOSTILE)],
        epochs=[
            {"run": each, "seed": 0, "epoch": epoch, "train_loss": 1.0, "valid_accuracy": 0.5, "valid_nll": 1.0}
            for each in (run, hard) for epoch in (1, 2)
        ],
        models={HOSTILE: "net", run: "net"}, footprint=footprint(net=(9, 1.0)),
    )  # fmt: skip
    figures = [figure for section in (summary, temperature, deploy, trust, training) for figure in section(made).figures]
    assert len(figures) == 10
    for figure in figures:
        assert not [text for text in code(figure.spec) if "script" in text or "alert" in text]
        assert max(map(len, re.findall(r"x+", json.dumps(figure.spec) + figure.title + figure.text))) < 50
    for figure in (figures[1], figures[-1]):
        root = ElementTree.fromstring(picture(figure, "svg"))
        assert not [element for element in root.iter() if element.tag.endswith("script")]
        assert "<script>alert" in "".join(root.itertext())
