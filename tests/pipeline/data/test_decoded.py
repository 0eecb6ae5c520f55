"""Decoded spans on disk: read back equal, decoded again where a file is not what it should be, and never in the way."""

import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from conftest import run_capture, tree, write_split, write_stage_one
from pipeline.base.errors import InputError
from pipeline.data import decoded
from pipeline.data.pixels import decode
from pipeline.data.splits import Split
from stages.cli import main

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 1, 4, 6), dtype=np.uint8)
FILE_BYTES = PIXELS.size + 32


@pytest.fixture
def store(tmp_path, monkeypatch) -> Path:
    """A folder that holds decoded spans, with room for all."""
    monkeypatch.setattr(decoded, "_store", None)
    decoded.use(tmp_path / "decoded", "1")
    return tmp_path / "decoded"


@pytest.fixture
def times(monkeypatch) -> list[bytes]:
    """The images that are decoded, as they are."""
    seen: list[bytes] = []

    def counted(data: bytes, *given) -> np.ndarray:
        seen.append(data)
        return decode(data, *given)

    monkeypatch.setattr("pipeline.data.pixels.decode", counted)
    return seen


def split(folder: Path, pixels: np.ndarray = PIXELS, name: str = "train") -> Split:
    return write_split(folder / f"{name}.parquet", pixels, np.arange(len(pixels)) % 2, 2)


def files(store: Path) -> list[Path]:
    return sorted(store.iterdir()) if store.exists() else []


def test_a_span_is_decoded_once_and_read_back_equal(tmp_path, store, times):
    held = split(tmp_path / "a")
    first, second = held.read(0), held.read(0)
    assert (first == PIXELS).all()
    assert (second == PIXELS).all()
    assert second.strides[1] == 1, "channels last in memory, as they are decoded"
    assert len(times) == 20
    assert [file.stat().st_size for file in files(store)] == [FILE_BYTES]


def test_what_a_kill_left_half_written_takes_no_room(tmp_path, store, times):
    """It is removed after an hour, when it is no other process's that is still writing."""
    store.mkdir()
    for name, age_s in {"old": 3700, "young": 3500}.items():
        (store / f".{name}.1.2.partial").write_bytes(b"1" * 5000)
        os.utime(store / f".{name}.1.2.partial", (time.time() - age_s,) * 2)
    decoded.use(store, f"{FILE_BYTES / 1e9:.9f}")
    split(tmp_path / "a").read(0)
    kept = [file.name for file in files(store)]
    assert (kept[0], len(kept)) == (".young.1.2.partial", 2)
    assert files(store)[1].stat().st_size == FILE_BYTES


def test_some_rows_come_from_a_span_that_is_there(tmp_path, store, times):
    """Rows alone do not decode their whole span."""
    held, some = split(tmp_path / "a"), np.array([7, 3])
    assert (held.read(0, some) == PIXELS[some]).all()
    assert (len(times), files(store)) == (2, [])
    held.read(0)
    assert (held.read(0, some) == PIXELS[some]).all()
    assert len(times) == 22


def flipped(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[100] ^= 1
    file.write_bytes(data)


def in_the_digest(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-1] ^= 128
    file.write_bytes(data)


CHANGES = {
    "a flipped bit": flipped,
    "a flipped bit of the digest": in_the_digest,
    "truncated": lambda file: file.write_bytes(file.read_bytes()[:-1]),
    "longer": lambda file: file.write_bytes(file.read_bytes() + b"\0"),
    "empty": lambda file: file.write_bytes(b""),
    "a folder": lambda file: (file.unlink(), file.mkdir()),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_damaged_file_is_decoded_again(tmp_path, store, times, change):
    held = split(tmp_path / "a")
    held.read(0)
    [file] = files(store)
    whole = file.read_bytes()
    CHANGES[change](file)
    assert (held.read(0) == PIXELS).all()
    assert len(times) == 40
    if change != "a folder":
        assert file.read_bytes() == whole, "it is mended"
        held.read(0)
        assert len(times) == 40


def test_a_file_under_the_name_of_another_is_decoded_again(tmp_path, store, times):
    """Its pixels are whole, and of the right number, but other ones."""
    one, other = split(tmp_path / "a"), split(tmp_path / "b", 255 - PIXELS)
    one.read(0)
    [first] = files(store)
    other.read(0)
    [second] = set(files(store)) - {first}
    second.write_bytes(first.read_bytes())
    assert (other.read(0) == 255 - PIXELS).all()
    assert len(times) == 60


def test_splits_that_share_a_span_share_its_file(tmp_path, store, times, monkeypatch):
    """The second has a span more."""
    monkeypatch.setattr("pipeline.data.splits.span_rows", lambda classes, row_bytes: 16)
    assert (split(tmp_path / "a", PIXELS[:16]).read_all() == PIXELS[:16]).all()
    assert (split(tmp_path / "b").read_all() == PIXELS).all()
    assert (len(times), len(files(store))) == (20, 2)


def test_without_room_nothing_is_kept(tmp_path, monkeypatch, times):
    monkeypatch.setattr(decoded, "_store", None)
    held = split(tmp_path / "a")
    for room in ("", "0", str((FILE_BYTES - 1) / 1e9)):
        decoded.use(tmp_path / "decoded", room)
        assert (held.read(0) == PIXELS).all()
        assert (held.read(0) == PIXELS).all()
        assert files(tmp_path / "decoded") == []
    assert len(times) == 6 * 20


def test_what_is_there_takes_room(tmp_path, store, monkeypatch):
    """Of an earlier command too."""
    one, other = split(tmp_path / "a"), split(tmp_path / "b", 255 - PIXELS)
    one.read(0)
    decoded.use(store, str(1.5 * FILE_BYTES / 1e9))
    assert (other.read(0) == 255 - PIXELS).all()
    assert len(files(store)) == 1
    decoded.use(store, str(2 * FILE_BYTES / 1e9))
    other.read(0)
    assert len(files(store)) == 2


def test_a_file_that_is_mended_takes_its_room_once(tmp_path, store):
    held, other = split(tmp_path / "a"), split(tmp_path / "b", 255 - PIXELS)
    decoded.use(store, str(2 * FILE_BYTES / 1e9))
    for _ in range(3):
        held.read(0)
        flipped(files(store)[0])
    held.read(0)
    other.read(0)
    assert len(files(store)) == 2


@pytest.mark.parametrize("failing", ["writing", "mkdir", "replace"])
def test_a_full_disk_stops_nothing(tmp_path, store, times, monkeypatch, failing, caplog):
    """Then nothing more is tried, and nothing is left behind."""

    def full(*given, **more) -> None:
        raise OSError(28, "No space left on device")

    held = split(tmp_path / "a")
    if failing == "writing":
        opens = Path.open
        monkeypatch.setattr(Path, "open", lambda path, mode: opens(path if mode == "rb" else Path("/dev/full"), mode))
    else:
        monkeypatch.setattr(Path, failing, full)
    with caplog.at_level("INFO"):
        assert (held.read(0) == PIXELS).all()
        assert (held.read(0) == PIXELS).all()
    monkeypatch.undo()
    assert files(store) == []
    assert len(times) == 40
    assert sum("images are decoded every time" in text for text in caplog.messages) == 1


def test_a_folder_that_is_a_file_stops_nothing(tmp_path, monkeypatch, times):
    monkeypatch.setattr(decoded, "_store", None)
    (tmp_path / "decoded").write_text("mine")
    decoded.use(tmp_path / "decoded", "1")
    assert (split(tmp_path / "a").read(0) == PIXELS).all()
    assert (tmp_path / "decoded").read_text() == "mine"


@pytest.mark.parametrize("room", ["much", "-1", "nan", "inf", "20 GB"])
def test_a_room_that_is_no_number_is_refused(tmp_path, monkeypatch, room):
    monkeypatch.setattr(decoded, "_store", None)
    with pytest.raises(InputError, match="SOFTCACHE_DECODED: expected GB of disk for decoded images, such as 20, found"):
        decoded.use(tmp_path, room)


def test_logits_are_the_same_with_and_without(tmp_path, monkeypatch):
    """Decoded now, and read back."""
    monkeypatch.setattr(decoded, "_store", None)
    folder = write_stage_one(tmp_path / "data")
    found: list[dict[str, bytes]] = []
    for room in ("", "1", "1"):
        decoded.use(tmp_path / "decoded", room)
        run_capture(folder)
        found.append(tree(folder / "caches/a"))
        shutil.rmtree(folder / "work")
        shutil.rmtree(folder / "caches")
    assert found[0] == found[1] == found[2]
    assert len(files(tmp_path / "decoded")) == 5, "three spans of train, one of valid and test each"


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(decoded, "_store", None)
    monkeypatch.setenv("SOFTCACHE_DEVICE", "cpu")
    monkeypatch.chdir(tmp_path)
    return write_stage_one(tmp_path / "data").parent


def says(*words: str) -> str:
    result = CliRunner().invoke(main, words)
    return f"{result.exit_code} {result.output}"


def test_the_variable_of_the_command_line(project, monkeypatch, times):
    """Capture and training read the spans that either has decoded, and the student is the same as without."""
    distill = (
        "distill", "tiny", "-T", "2", "--teachers", "a", "--model", "mlp(hidden=[3])", "--optimizer", "sgd(lr=0.1)",
        "--epochs", "1", "--batch-size", "4",
    )  # fmt: skip
    monkeypatch.delenv("SOFTCACHE_DECODED", raising=False)
    assert says("capture", "a").startswith("0 ")
    assert says(*distill).startswith("0 ")
    plain = tree(project / "data/students")
    assert plain
    assert not list(project.rglob("decoded"))
    monkeypatch.setenv("SOFTCACHE_DECODED", "0.5")
    assert says("capture", "a", "--anew").startswith("0 ")
    [folder] = project.rglob("decoded")
    assert len(files(folder)) == 5
    times.clear()
    assert says(*distill).startswith("0 ")
    assert times == [], "the capture has decoded all"
    assert {path: data for path, data in tree(project / "data/students").items() if "json" not in path} == {
        path: data for path, data in plain.items() if "json" not in path
    }
    monkeypatch.setenv("SOFTCACHE_DECODED", "lots")
    assert "2 Error: SOFTCACHE_DECODED: expected GB of disk for decoded images" in says("capture", "a", "--anew")
