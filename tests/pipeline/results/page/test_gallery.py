"""The gallery as the page shows it: words, pictures and lines by hand; test_page.py has what a browser makes of it."""

import base64

import numpy as np
import pytest

from conftest import write_tables
from galleries import made
from pipeline.results.gallery import Exhibit, Gallery, _png
from pipeline.results.page.chapter import Chapter
from pipeline.results.page.gallery import Card, gallery
from pipeline.results.tables import Tables
from runs import rows

HALF = tuple(np.log([0.5, 0.375, 0.125]).tolist())
SURE = tuple(np.log([0.1, 0.9, 1e-9]).tolist())


def card(rule="probabilities", teachers=(HALF, SURE), student=SURE, **shown) -> Card:
    exhibit = Exhibit(0, "row-0", 1, "apart", teachers, student, **shown)
    weights = {1: (1.0,), 2: (0.75, 0.25)}[len(teachers)]
    return Card(Gallery(1, ("cat", "dog", "owl"), tuple("ab"[: len(teachers)]), weights, rule, "s", 0, (exhibit,)), exhibit)


def test_what_teachers_and_student_say_at_1():
    """0.75 · 0.5 + 0.25 · 0.1 = 0.4; 0.75 · 0.375 + 0.25 · 0.9 = 0.506."""
    assert card().said == [
        ("ensemble", ["dog (51\u202f%)", "cat (40\u202f%)"], True), ("student", ["dog (90\u202f%)", "cat (10\u202f%)"], True),
    ]  # fmt: skip
    assert card(teachers=(HALF,), student=None).said == [("teacher", ["cat (50\u202f%)", "dog (38\u202f%)"], False)]
    assert card(student=None).text == (
        "Soft targets of row-0, whose label is dog. At T = 1, ensemble: dog (51\u202f%), cat (40\u202f%)."
    )


def test_a_mean_of_logits_is_a_geometric_mean_of_probabilities():
    ((_, choices, _), _) = card(rule="logits").said
    means = np.array([0.5**0.75 * 0.1**0.25, 0.375**0.75 * 0.9**0.25, 0.125**0.75 * 1e-9**0.25])
    cat, dog, _ = means / means.sum()
    assert choices == [f"dog ({100 * dog:.0f}\u202f%)", f"cat ({100 * cat:.0f}\u202f%)"]
    assert [(net.kind, net.weight) for net in card(rule="logits").nets] == [
        ("member", 0), ("member", 0), ("whole", 1), ("student", 0),
    ]  # fmt: skip


def test_logits_on_the_page_are_those_of_the_cache():
    """As float32 reads them back, in as few digits as that takes."""
    drawn = card(teachers=(HALF,)).drawn
    assert (drawn["names"], drawn["label"]) == (["cat", "dog", "owl"], 1)
    np.testing.assert_array_equal(np.float32(drawn["logits"]), np.float32([HALF, SURE]))
    assert max(len(repr(z)) for z in drawn["logits"][0]) <= 11


@pytest.mark.parametrize(("side", "small"), [(8, True), (64, True), (65, False)])
def test_pixels_of_small_pictures_are_shown(side, small):
    picture = base64.b64encode(_png(np.zeros((3, side, 5), np.uint8))).decode()
    assert card(picture=picture).small == small


def test_a_line_through_numbers():
    """The box is 100 × 40, and y goes down."""
    assert card(values=(1.0, 3.0, 2.0)).line == "0,39 50,1 100,20"
    assert card(values=(1.0, float("nan"), 2.0)).line == "0,39 100,1"
    assert card(values=(5.0, 5.0)).line == "0,39 100,39"
    assert card(values=(float("inf"),)).line == ""


def section(folder, held, temperatures=()):
    nets = rows("a", "teacher") + [row for T in temperatures for row in rows(f"s-T{T}", "student", "s", T)]
    return gallery(Chapter("", Tables.open(write_tables(folder, gallery=held, runs=nets))))


def test_rows_stand_under_their_reason(tmp_path):
    held = made("xyz", 2, "logits", [{"text": "a"}] * 4)
    groups = section(tmp_path / "a", held).content["groups"]
    assert [(heading, len(cards)) for heading, _, cards in groups] == [
        ("Second choices that carry mass", 2), ("Student and teacher disagree", 1), ("Both are wrong", 1),
    ]  # fmt: skip
    alone = made("xyz", 2, "logits", [{"text": "a"}] * 3, student=False)
    assert section(tmp_path / "b", alone).content["groups"][-1][0] == "The teacher is wrong"
    assert section(tmp_path / "c", made("xyz", 2, "logits", [])) is None


def test_the_slider_reaches_past_every_temperature_and_names_a_few(tmp_path):
    held = made("xyz", 1, "logits", [{"text": "a"}])
    few = section(tmp_path / "few", held, (4.0, 2.5)).content
    assert (few["shown"], few["low"]) == ([(1.0, "1"), (2.5, "2.5"), (4.0, "4")], -1)
    assert 20 <= 2 ** few["high"] < 21
    low = section(tmp_path / "low", held, (0.001, 4.0)).content
    assert 0.00049 < 2 ** low["low"] <= 0.0005
    assert (low["low"] / low["step"]) % 1 == pytest.approx(0)  # so that T = 1 is a step
    many = section(tmp_path / "many", held, tuple(map(float, range(2, 52)))).content
    assert [many["shown"][place] for place in (0, 1, -1)] == [(1, "1"), (7, "7"), (51, "51")]
    assert len(many["shown"]) == 10
    assert 102 <= 2 ** many["high"] < 106
