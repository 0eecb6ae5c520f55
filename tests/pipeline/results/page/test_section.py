"""Figures: the room that is kept for them."""

from pipeline.results.page.section import Figure


def test_room_is_kept_for_heights_that_are_numbers():
    specs = [{"height": 200}, {"height": {"step": 20}}, {}]
    assert [Figure("name", "title", "text", spec).height for spec in specs] == [200, 0, 0]
