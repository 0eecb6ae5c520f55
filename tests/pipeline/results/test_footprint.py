"""The file of footprints: written, read, and refused where it is damaged."""

import pytest

from pipeline.base.errors import InputError, IntegrityError
from pipeline.results.footprint import FILE_NAME, FORMAT, Entry, Footprint

SMALL = Entry("mlp(hidden=[3])", (1, 4, 4), 3, 63, 57, 400, {"1": 0.001, "64": 0.002}, "its code")
TABLE = Entry("imported", (1, 4, 4), 3, None, None, None, {}, "its code")


def test_what_is_written_is_read_and_found(tmp_path):
    made = Footprint(FORMAT, "a processor", (TABLE, SMALL))
    made.write(tmp_path)
    found = Footprint.open(tmp_path)
    assert found == made
    assert found.of("mlp(hidden=[3])", [1, 4, 4], 3) == SMALL
    assert found.of("imported", (1, 4, 4), 3) == TABLE
    for other in (("mlp(hidden=[4])", (1, 4, 4), 3), ("mlp(hidden=[3])", (1, 4, 5), 3), ("mlp(hidden=[3])", (1, 4, 4), 2)):
        assert found.of(*other) is None


def test_none_and_a_damaged_one_name_the_command(tmp_path):
    folder = tmp_path / "some data/footprint"
    with pytest.raises(
        InputError, match=r"footprint.json: expected a file, found none. Run `softcache footprint --data '.*data'"
    ):
        Footprint.open(folder)
    Footprint(FORMAT, "a processor", (SMALL,)).write(folder)
    path = folder / FILE_NAME
    text = path.read_text()
    path.write_text(text.replace("0.001", "0.0001"))
    with pytest.raises(IntegrityError, match="expected facts with their digest, as they were written, found others"):
        Footprint.open(folder)
    Footprint(FORMAT + 1, "a processor", (SMALL,)).write(folder)
    with pytest.raises(IntegrityError, match=f"expected version {FORMAT}, found version {FORMAT + 1}"):
        Footprint.open(folder)
