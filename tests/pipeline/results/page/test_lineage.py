"""Lineage on the page: texts stay texts, and drawings fit."""

import shlex
from dataclasses import replace
from html.parser import HTMLParser

import jinja2

from conftest import NO_LINEAGE
from lineages import made, student, teacher, telling
from pipeline.base.errors import printable
from pipeline.results.lineage import Part
from pipeline.results.page.lineage import lineage


class Page(HTMLParser):
    """The elements of a page, and its text."""

    def __init__(self, page: str):
        super().__init__()
        self.elements: set[str] = set()
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.elements.add(tag)

    def handle_data(self, data):
        self.text += data


def test_texts_stay_texts():
    odd = "</svg><script>alert('\u202e1\")</script>" + "x" * 10_000
    told = made([teacher("a", model=odd)], [student("s", ["a"], model=odd, corrected=(odd,))])
    loader = jinja2.PackageLoader("pipeline.results", "templates/page")
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters["printable"] = printable
    section = lineage(telling(told))
    page = Page(environment.get_template("lineage.html").render(section=section))
    assert "script" not in page.elements
    assert page.text.count(printable(odd)) == 3  # two nets, and a class
    assert page.text.count(shlex.quote(odd)) == 3  # in commands they stand letter for letter
    assert all(
        len(line) <= 60 for each in section.content["drawings"].values() for box in each.boxes for line in box.node.lines
    )


def test_the_title_says_what_it_took():
    """Of one teacher, or of teachers in the loop; without students; of few labels; and nothing of tables without data."""
    one, two = made([teacher("a")], [student("s", ["a"])]), made([teacher("a"), teacher("b")], [])
    live = replace(one, students=(student("s", ["a"], kind="live"),))
    few = replace(one, parts={**one.parts, "train": Part(7, 6, "i", "l", 0)})
    assert [lineage(telling(told)).content["title"] for told in (one, two, live, few)] == [
        "From 40 rows through 1 teacher and its cache to 25 trained nets",
        "From 40 rows through 2 teachers and their caches",
        "From 40 rows through 1 teacher in the loop to 25 trained nets",
        "From 40 rows and 6 labels through 1 teacher and its cache to 25 trained nets",
    ]
    assert lineage(telling(NO_LINEAGE)) is None


def test_words_say_how_many_have_no_box():
    """Of ten teachers and their caches."""
    told = made([teacher(name) for name in "abcdefghij"], [student("s", ["a"])])
    named = "a, b, c, d, e, f, g, h and 2 more"
    assert f"teachers {named}; caches {named}; students s." in lineage(telling(told)).content["text"]
