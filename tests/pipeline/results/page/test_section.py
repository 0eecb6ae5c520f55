"""Figures: the table of their numbers, from wherever altair puts them."""

import altair

from pipeline.results.page.section import MOST, Figure

ROWS = [{"T": 1.0, "accuracy": 0.5}, {"T": 2.0, "accuracy": 0.6}]


def figure(chart) -> Figure:
    return Figure("name", "title", "text", chart if isinstance(chart, dict) else chart.to_dict())


def chart(rows=ROWS):
    return altair.Chart(altair.Data(values=rows)).mark_line().encode(x="T:Q", y="accuracy:Q")


def test_numbers_are_the_rows_that_are_drawn():
    assert figure(chart()).numbers == ROWS
    assert figure(altair.layer(chart().mark_point(), chart(), data=altair.Data(values=ROWS))).numbers == ROWS
    assert figure({"datasets": {"data-1": ROWS}, "data": {"name": "data-1"}}).numbers == ROWS
    assert figure({"facet": {"row": {"field": "T"}}, "spec": {"data": {"values": ROWS}}}).numbers == ROWS


def test_no_table_where_it_would_be_long_or_several():
    assert figure(chart(ROWS[:1] * MOST)).numbers
    assert figure(chart(ROWS[:1] * (MOST + 1))).numbers == []
    assert figure(chart([*ROWS, {"T": 3.0}])).numbers == []
    assert figure({"layer": [{"data": {"values": ROWS}}, {"data": {"values": ROWS[:1]}}]}).numbers == []
    assert figure({"data": {"url": "x"}}).numbers == []


def test_room_is_kept_for_heights_that_are_numbers():
    heights = [figure({"height": height} if height else {}).height for height in (200, {"step": 20}, None)]
    assert heights == [200, 0, 0]
