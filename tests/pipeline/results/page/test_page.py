"""The page in a real browser: offline, quiet, as wide as the screen, by keyboard; its sliders soften as numpy does.

What users name is shown as text. One page with several chapters is opened once.
"""

import base64
import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy.special import softmax

import lineages
from browser import chromium, opened, settled, until
from charted import everything, footprint
from conftest import NO_LINEAGE, write_tables
from galleries import made
from pipeline.results.gallery import _png
from pipeline.results.page.page import SECTIONS, brief
from pipeline.results.page.students import PROPERTIES
from pipeline.results.published import Published
from pipeline.results.report import report
from runs import rows

ATTACK = '<script>window.pwned=1</script><img src=x onerror="window.pwned=1">'
OBJECTS = ("constructor", "__proto__", "toString", "valueOf")
NAMES = (ATTACK, "</script><!--'\"`", "\u202eevil", "{{7*7}} ${7*7}", "datum.z + alert(1)", "long" * 2500, *OBJECTS)
TEXTS = (f"{ATTACK}\n</blockquote></script>", "' onload=alert(1) \u202e", "مرحبا")
PICTURE = {"picture": base64.b64encode(_png(np.arange(64, dtype=np.uint8).reshape(1, 8, 8))).decode()}
WAVE = {"values": tuple(np.sin(np.arange(50)).tolist())}
GALLERIES = {  # chapter → its gallery; its name is hostile, too
    "few": made([f"class {index}" for index in range(10)], 4, "probabilities", [PICTURE] * 3),
    "many": made([f"class {index}" for index in range(1000)], 2, "probabilities", [WAVE]),
    ATTACK.replace("/", "") + "long" * 30: replace(
        made(NAMES, 3, "logits", [{"text": each} for each in TEXTS], ids=NAMES), teachers=(ATTACK, *OBJECTS[:2])
    ),
    "one teacher": made("xy", 1, "probabilities", [WAVE], student=False),
}
HOSTILE = 2  # the place of the chapter whose nets have such names, too
TEMPERATURES = (1.0, 3.0, 4.0, 40.0)  # of students


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    plots, temperatures = {}, dict.fromkeys(GALLERIES, TEMPERATURES) | {"one teacher": (0.001, 40.0)}
    for number, (name, gallery) in enumerate(GALLERIES.items()):
        nets = [row for T in temperatures[name] for row in rows(f"s-T{T:g}", "uncorrected", "s", T)]  # which have no charts
        tables, lineage = {"runs": rows(ATTACK, "teacher") + nets}, NO_LINEAGE
        if number == HOSTILE:  # it has every section, and every chart
            students, teachers = [ATTACK, *OBJECTS], gallery.teachers
            tables = everything(students, teachers, TEMPERATURES)
            told = [lineages.student(each, teachers, model=each) for each in students]
            taught = [lineages.teacher(each, model=each) for each in teachers]
            lineage = lineages.made(taught, told, classes=len(NAMES), models=tables.pop("models"))
        plots[name] = write_tables(folder / str(number), gallery=gallery, lineage=lineage, **tables)
    footprint(len(NAMES), net=(9, 1.0)).write(folder / "footprint")
    figures = [{"what": ATTACK, "folder": "few", "runs": ["s-T3"], "published": 10}]
    published = Published.parse({"source": ATTACK, "rows": figures})
    report(plots=plots, published=published, out=folder / "report", data=folder / "data")
    return folder / "report/index.html"


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def seen(browser, path):
    return opened(browser, path)


@pytest.fixture
def page(seen):
    """Of one size and colour at first, whatever a test made of it."""
    seen.page.set_viewport_size({"width": 1280, "height": 900})
    seen.page.emulate_media(color_scheme="light")
    return seen.page


# ---------------------------------------------------------------- the slider

CHART = """chart => {
  const { data } = chart.view.getState({ data: () => true, signals: () => false });
  const found = Object.keys(data).map(name => chart.view.data(name)).filter(rows => rows?.length && "p" in rows[0]);
  const plain = rows => rows.map(({ net, place, p }) => ({ net, place, p }));
  const drawn = layer => [...chart.querySelectorAll(`.layer_${layer}_marks path`)].map(path => path.getAttribute("d"));
  return {
    nets: plain(found.find(rows => "net" in rows[0]) ?? []), bars: plain(found.find(rows => !("net" in rows[0]))),
    rects: drawn(0), ticks: drawn(1).length, diamonds: drawn(2).length, width: chart.view.width(),
    labels: [...chart.querySelectorAll(".role-axis-label text")].map(text => text.textContent),
  };
}"""

SOFTENED = """([number, T]) => [...document.querySelectorAll(`#gallery-${number} [data-chart]`)].every(
  chart => Math.abs(chart.view.signal("T") - T) < 1e-12)"""


def soften(page, number: int, temperature: float) -> None:
    """By a button, or by the slider where there is none; waits for all cards of the chapter."""
    gallery = page.locator(f"#gallery-{number} .gallery")
    button = gallery.locator(f'button[value="{temperature}"]')
    if button.count():
        button.click()
    else:
        move = "(input, value) => { input.step = 'any'; input.value = value; input.dispatchEvent(new Event('input')); }"
        gallery.locator("input").evaluate(move, float(np.log2(temperature)))
    until(page, SOFTENED, [number, temperature])
    settled(page)


def expected(gallery, exhibit, temperature: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """By scipy: the bars (C,), the members (M, C) and the student (C,)."""
    logits, weights = np.array(exhibit.teachers), np.array(gallery.weights)
    members = softmax(logits / temperature, axis=1)
    bars = weights @ members if gallery.rule == "probabilities" else softmax(weights @ logits / temperature)
    return bars, members, softmax(np.array(exhibit.student or [0.0] * len(gallery.classes)) / temperature)


def by_bar(p: np.ndarray, order: list[int]) -> np.ndarray:
    """The last axis in the order of the bars, of which one more has all that is left, where there are more classes."""
    left = 1 - p[..., order].sum(-1, keepdims=True)
    return np.concatenate([p[..., order], left][: 1 + (len(order) < p.shape[-1])], axis=-1)


@pytest.mark.parametrize("number", range(1, len(GALLERIES) + 1))
@pytest.mark.parametrize("temperature", [0.6, 1.0, 40.0])
def test_bars_are_the_softmax_of_scipy_in_data_and_as_drawn(page, number, temperature):
    gallery = [*GALLERIES.values()][number - 1]
    soften(page, number, temperature)
    ordered = sorted(gallery.exhibits, key=lambda exhibit: ["second", "apart", "wrong"].index(exhibit.reason))
    for card, exhibit in zip(page.locator(f"#gallery-{number} [data-chart]").all(), ordered, strict=True):
        found = card.evaluate(CHART)
        order = [*range(len(gallery.classes))]
        if len(order) > 12:
            order = [gallery.classes.index(name) for name in found["labels"][-11:-1]]
        bars, members, student = (by_bar(p, order) for p in expected(gallery, exhibit, temperature))
        held = {row["place"]: row["p"] for row in found["bars"]}
        np.testing.assert_allclose([held[place] for place in range(len(bars))], bars, atol=1e-6)
        drawn = [re.fullmatch(r"M[^,]*,([\d.]+)h([\d.e-]+)v.*", d).groups() for d in found["rects"]]
        lengths = [float(length) / found["width"] for _, length in sorted(drawn, key=lambda each: float(each[0]))]
        np.testing.assert_allclose(lengths, bars, atol=1e-6)
        shown = [*members] if len(members) > 1 else []
        assert found["ticks"] == sum((p >= 0.005).sum() for p in shown)
        if exhibit.student:
            shown.append(student)
            assert found["diamonds"] == (student >= 0.005).sum()
        nets = {(row["net"], row["place"]): row["p"] for row in found["nets"]}
        for place in range(len(bars)):
            each = [nets[net, place] for net in sorted({net for net, _ in nets})]
            if shown and gallery.rule == "logits":
                each.pop(len(members))  # the ensemble, of its own logits
            np.testing.assert_allclose(each[: len(shown)], [p[place] for p in shown], atol=1e-6)


def test_the_likeliest_of_many_classes_have_bars_and_so_have_label_and_choice(page):
    gallery = GALLERIES["many"]
    (exhibit,) = gallery.exhibits
    names = page.locator("#gallery-2 [data-chart]").evaluate(CHART)["labels"][-11:]
    ranked = np.argsort(-expected(gallery, exhibit, 1.0)[0])
    wanted = {exhibit.label, int(np.argmax(exhibit.student))}
    kept = [*wanted, *(index for index in ranked.tolist() if index not in wanted)][:10]
    assert names == [f"class {index}" for index in ranked.tolist() if index in kept] + ["990 others"]


def test_by_keyboard(page):
    """The first key leads past the contents; from the slider on, arrows are a step, and Home the least T."""
    page.evaluate("document.body.tabIndex = -1; document.body.focus()")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.type") == "range":
            break
    soften(page, 1, 1.0)
    page.evaluate("document.querySelector('#gallery-1 input').step = 0.02")
    page.locator("#gallery-1 input").focus()
    for key, text in (("ArrowRight", "1.01"), ("ArrowRight", "1.03"), ("Home", "0.500"), ("End", "81.0")):
        page.keyboard.press(key)
        assert page.evaluate("document.activeElement.getAttribute('aria-valuetext')") == f"T = {text}"
        assert page.locator("#gallery-1 output").inner_text() == text
    until(page, "() => document.querySelector('#gallery-1 [data-chart]').view.signal('T') > 80")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.locator("#gallery-1 output").inner_text() == "1.00"


def test_small_temperatures_are_on_the_slider(page):
    """With three digits, and the slider goes there: by hand it moves in whole steps."""
    soften(page, 4, 0.001)
    said = page.evaluate("[...document.querySelectorAll('#gallery-4 output, #gallery-4 input')].map(each => each.value)")
    assert said[0] == "0.00100"
    assert float(said[1]) == pytest.approx(np.log2(0.001), abs=0.02)


# ---------------------------------------------------------------- the frame


@pytest.mark.parametrize("width", [360, 800, 1600])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_never_scrolls_sideways(page, width, scheme):
    page.set_viewport_size({"width": width, "height": 800})
    page.emulate_media(color_scheme=scheme)
    settled(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.locator("#gallery-1 [data-chart] svg").first.bounding_box()["width"] <= width
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    assert dark == (scheme == "dark")
    text = page.locator("#gallery-1 .role-axis-label text").first.evaluate("text => getComputedStyle(text).fill")
    assert text == page.evaluate("getComputedStyle(document.body).color")
    assert page.locator("#contents").evaluate("contents => contents.open") == (width == 1600)


def test_every_chart_has_a_title_and_a_text_and_every_link_a_place(page):
    charts = page.locator("[data-chart]").all()
    assert len(charts) == page.locator(".chart svg.marks").count() >= 8
    for chart in charts:
        assert chart.get_attribute("role") == "img"
        assert len(chart.get_attribute("aria-label")) > 5
        assert chart.evaluate("chart => chart.closest('figure').querySelector('figcaption').textContent.trim().length") > 5
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(element => element.id)")
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch("[A-Za-z0-9_-]+", each) for each in ids if not each.startswith("vg-"))
    links = page.evaluate("[...document.querySelectorAll('a')].map(link => link.getAttribute('href'))")
    assert len(links) > 8
    assert {link[1:] for link in links} <= set(ids)
    levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map(heading => Number(heading.tagName[1]))")
    assert all(later <= earlier + 1 for earlier, later in pairwise(levels))


# ---------------------------------------------------------------- what users name


def test_hostile_names_are_text(page):
    shown = page.evaluate("document.body.innerText")
    assert ATTACK[:30] in shown
    assert "{{7*7}} ${7*7}" in shown
    assert "</blockquote></script>" in page.locator("blockquote").first.inner_text()
    assert page.evaluate("document.querySelectorAll('img[src=x], [onerror], [onload]').length") == 0
    names = page.locator("#gallery-3 dl").all_inner_texts()
    assert not any("\u202e" in text for text in names)  # it would turn round what follows
    assert any("\\u202eevil" in text for text in names)
    assert max(map(len, shown.split("\n"))) < 2_000  # the name of 10,000 letters is cut
    labels = page.locator("#gallery-3 [data-chart]").first.evaluate(CHART)["labels"]
    assert any(label.startswith("<script>") for label in labels)
    assert any(label.startswith("datum.z") for label in labels)


def test_every_section_is_drawn_with_hostile_names(page):
    """Also those that objects of JavaScript have, in charts with a label of their own for each student and class."""
    number = HOSTILE + 1
    assert page.evaluate("Object.getOwnPropertyNames(Object.prototype).sort()") == sorted(PROPERTIES)
    ids = page.evaluate("[...document.querySelectorAll('main > section')].map(section => section.id)")
    assert [each for each in ids if each.endswith(f"-{number}")] == [f"{make.__name__}-{number}" for make in SECTIONS]
    for chart in ("summary-accuracy", "confusions-student", "confusions-difference"):
        labels = page.locator(f"#figure-{chart}-{number} .role-axis-label text").all_text_contents()
        assert {f"\u200b{name}" for name in OBJECTS} <= set(labels)
    sizes = page.locator(f"#figure-deploy-{number} input").all()
    assert [size.get_attribute("name") for size in sizes] == [f"sizedeploy-{number}"] * 5  # not that of another chapter
    for size in sizes:
        size.check()
    settled(page)


def test_hostile_names_are_text_in_tooltips(page):
    soften(page, 3, 40.0)
    bar = page.locator("#gallery-3 [data-chart]").first.locator(".layer_0_marks path").first
    bar.evaluate("bar => bar.scrollIntoView({ block: 'center' })")  # not below the slider
    bar.hover(position={"x": 2, "y": 5}, force=True)
    page.wait_for_selector("#vg-tooltip-element.visible")
    assert page.locator("#vg-tooltip-element").inner_text().count("<script>") == 1
    assert page.locator("#vg-tooltip-element img, #vg-tooltip-element script").count() == 0


def test_without_javascript_charts_are_in_words(browser, path):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(path.as_uri())
    charts = page.locator("[data-chart]").evaluate_all("charts => charts.map(chart => chart.getAttribute('aria-label'))")
    assert page.locator("figure noscript p:visible").all_inner_texts() == charts
    assert page.locator(":is(.chart, .slider, .choices):visible").count() == 0
    context.close()


def test_nothing_ran_nothing_left_and_nothing_failed(seen, path):
    """After all that the tests above did."""
    assert seen.page.evaluate("window.pwned") is None
    assert seen.dialogs == []
    assert seen.errors == []
    assert [url for url in seen.requests if not url.startswith("data:")] == [path.as_uri()]
    policy = re.search('Content-Security-Policy" content="([^"]*)"', path.read_text())[1]
    assert "default-src 'none'" in policy
    assert "unsafe-eval" not in policy
    assert re.search("script-src [^;]*", policy)[0].count("'") == 2  # the hash of the only script


@pytest.mark.parametrize(
    ("classes", "students", "temperatures", "epochs", "rows_shown", "megabytes"),
    [(10, 2, (1, 2, 4, 8), 80, 18, 1.5), (1000, 50, (4,), 2, 10, 10)],
    ids=["like the default", "large"],
)
def test_the_page_is_light(tmp_path, classes, students, temperatures, epochs, rows_shown, megabytes):
    """With every section, four teachers, and five seeds. As many rows are shown as a gallery may have."""
    names, teachers = [f"s{number}" for number in range(students)], tuple("abcd")
    tables = everything(names, teachers, temperatures, errors=(12, 13, 14, 15, 16), epochs=epochs)
    shown = [PICTURE] * rows_shown
    gallery = made([f"class {number}" for number in range(classes)], 4, "probabilities", shown)
    told = [each for name in names for each in (lineages.student(name), lineages.student(name, teachers))]
    lineage = lineages.made([lineages.teacher(name) for name in teachers], told, classes=classes, models=tables.pop("models"))
    plots = write_tables(tmp_path / "plots", gallery=gallery, lineage=lineage, **tables)
    report(plots={"": plots}, published=None, out=tmp_path / "report")
    written = tmp_path / "report/index.html"
    assert re.findall('<section id="(.*)-1">', written.read_text()) == [make.__name__ for make in SECTIONS]
    assert written.stat().st_size < megabytes * 1e6


def test_names_are_cut():
    assert brief("x" * 81) == "x" * 79 + "…"
    assert brief("a\nb\u202e") == "a\\nb\\u202e"
