"""Pictures: files of figures, and those that a report writes."""

import io
import xml.etree.ElementTree as ElementTree

import pytest
from PIL import Image

from charted import chapter, footprint, students
from pipeline.base.errors import InputError
from pipeline.results.page.deploy import deploy
from pipeline.results.page.picture import picture
from pipeline.results.page.temperature import temperature
from pipeline.results.report import report
from runs import rows


def said(svg: bytes) -> list[str]:
    texts = ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")
    return [element.text for element in texts if element.text and element.get("opacity") != "0"]


def test_a_picture_has_its_title_and_is_dark_on_white(tmp_path):
    figure = temperature(chapter(tmp_path, rows("a", "teacher") + students("s", 1, 2, 2.5, 20, 20.1, 1000))).figures[0]
    svg = picture(figure, "svg")
    words = said(svg)
    assert " ".join(words).count(figure.title[:40]) == 1
    assert [word for word in words if word in ("1", "2", "2.5", "20", "20.1", "1000")] == ["1", "2", "2.5", "20", "1000"]
    assert {"temperature T (log scale)", "test accuracy, %", "teacher a"} <= set(words)
    assert b"currentColor" not in svg
    assert b'fill="white"' in svg
    drawn = Image.open(io.BytesIO(picture(figure, "png")))
    assert drawn.width == pytest.approx(2 * float(ElementTree.fromstring(svg).get("width")), abs=2)
    assert drawn.convert("RGB").getpixel((1, 1)) == (255, 255, 255)


def test_a_chart_with_a_choice_shows_its_first(tmp_path):
    made = chapter(tmp_path, students("s", 4), models={"s-T4-0.5": "net"}, footprint=footprint(net=(9, 1.0)))
    words = said(picture(deploy(made).figures[0], "svg"))
    assert {"multiply-adds a row", "Worth a look: s"} <= set(words)


def test_a_report_writes_pictures(tmp_path):
    """That of temperatures always, the others where they are asked for; and it knows them as its own again."""
    plots = {
        "": chapter(tmp_path / "1", students("s", 1, 4)).tables.folder,
        "one": chapter(tmp_path / "2", students("s", 4)).tables.folder,
    }
    report(plots=plots, published=None, out=tmp_path / "out", pictures=["svg"])
    names = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.svg")}
    assert {"temperature.svg", "figures/deploy.svg", "figures/one-temperature-nll.svg"} <= names
    assert "one.svg" not in names
    same = [(tmp_path / "out" / name).read_bytes() for name in ("temperature.svg", "figures/temperature-accuracy.svg")]
    assert same[0] == same[1]
    report(plots={"one": plots["one"]}, published=None, out=tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["index.html", "results.md"]
    (tmp_path / "out/figures").mkdir()
    (tmp_path / "out/figures/mine.txt").touch()
    with pytest.raises(InputError, match="expected a report, or nothing, found figures"):
        report(plots={"one": plots["one"]}, published=None, out=tmp_path / "out")
