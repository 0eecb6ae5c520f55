"""Decoded spans on disk: the pixels that decoding gives, or decoding again; never others."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.base.errors import InputError
from pipeline.data import decoded

SHOWN = np.random.default_rng(0).integers(0, 256, (4, 5, 6, 3), dtype=np.uint8).transpose(0, 3, 1, 2)


@pytest.fixture
def folder(tmp_path):
    decoded.use(tmp_path / "decoded", "1")
    yield tmp_path / "decoded"
    decoded.use(tmp_path / "decoded", "")


def pixels(facts: object = "a", shown: np.ndarray = SHOWN) -> tuple[np.ndarray, int]:
    """The pixels, and how often they were decoded for it."""
    calls = []

    def decode() -> np.ndarray:
        calls.append(facts)
        return shown

    return decoded.pixels(facts, shown.shape, decode), len(calls)


def test_pixels_are_decoded_once(folder):
    assert not decoded.has("a")
    first, again = pixels(), pixels()
    assert decoded.has("a")
    assert (first[1], again[1]) == (1, 0)
    for found, _ in (first, again):
        assert (found.shape, found.dtype, found.strides) == (SHOWN.shape, np.uint8, SHOWN.strides)
        assert (found == SHOWN).all()
    assert pixels("b", 255 - SHOWN)[1] == 1, "other facts are other pixels"
    assert (pixels("b")[0] == 255 - SHOWN).all()
    assert not list(folder.glob(".*")), "nothing is left half written"


def test_off_unless_there_is_room(tmp_path):
    for room in ("", "0"):
        decoded.use(tmp_path / "none", room)
        assert [pixels()[1], pixels()[1]] == [1, 1]
        assert not decoded.has("a")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("damage", ["flipped", "cut", "longer", "empty", "another's"])
def test_a_damaged_file_is_decoded_again(folder, damage):
    pixels()
    pixels("b", 255 - SHOWN)
    path = next(path for path in folder.iterdir() if path.read_bytes().startswith(SHOWN.transpose(0, 2, 3, 1).tobytes()))
    [other] = set(folder.iterdir()) - {path}
    held = path.read_bytes()
    changed = {
        "flipped": bytes([held[0] ^ 1]) + held[1:], "cut": held[:-1], "longer": held + b"\0", "empty": b"",
        "another's": other.read_bytes(),
    }  # fmt: skip
    path.write_bytes(changed[damage])
    found, count = pixels()
    assert (count, (found == SHOWN).all()) == (1, True)
    assert pixels()[1] == 0


def test_no_more_than_the_room_is_taken(tmp_path):
    size = SHOWN.nbytes + 32
    decoded.use(tmp_path / "decoded", str(2.5 * size / 1e9))
    for facts in "abc":
        pixels(facts)
    assert [pixels(facts)[1] for facts in "abc"] == [0, 0, 1]
    decoded.use(tmp_path / "decoded", str(2.5 * size / 1e9))  # what lies there counts
    assert [pixels("d")[1], pixels("d")[1]] == [1, 1]
    assert sum(path.stat().st_size for path in (tmp_path / "decoded").iterdir()) == 2 * size
    decoded.use(tmp_path, "")


def test_a_folder_that_cannot_be_written_stops_nothing(tmp_path):
    (tmp_path / "file").write_text("no folder")
    decoded.use(tmp_path / "file" / "decoded", "1")
    assert [pixels()[1], pixels()[1]] == [1, 1]
    decoded.use(tmp_path, "")


@pytest.mark.parametrize("room", ["much", "-1", "nan", "inf"])
def test_room_is_a_number(tmp_path: Path, room):
    with pytest.raises(InputError, match="expected GB of disk for decoded images, such as 20"):
        decoded.use(tmp_path, room)
