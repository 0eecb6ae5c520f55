"""What stores gave, kept nearby: read back equal, bounded, the longest unread going first, and never in the way."""

import errno
import hashlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pipeline.base import nearby
from pipeline.base.errors import InputError

FILE_BYTES = 1000 + 32  # of a piece of 1,000 bytes


def piece(name: str) -> bytes:
    return hashlib.shake_256(name.encode()).digest(1000)


@pytest.fixture
def fetched(tmp_path, monkeypatch) -> list[str]:
    """A folder with room for three pieces; gives the names that were fetched."""
    monkeypatch.setattr(nearby, "_room", None)
    nearby.use(tmp_path / "nearby", f"{3.5 * FILE_BYTES / 1e9:.12f}")
    return []


def read(name: str, fetched: list[str]) -> None:
    assert nearby.data(name, lambda: (fetched.append(name), piece(name))[1]) == piece(name)


def held(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"lock"}


def test_a_piece_is_fetched_once(tmp_path, fetched):
    for name in "abab":
        read(name, fetched)
    assert fetched == ["a", "b"]
    assert (tmp_path / "nearby/a").read_bytes() == piece("a") + hashlib.sha256(b"a" + piece("a")).digest()


def test_what_was_read_longest_ago_makes_room(tmp_path, fetched):
    """a was written first and read since; so b goes for d."""
    for number, name in enumerate("abc"):
        read(name, fetched)
        os.utime(tmp_path / "nearby" / name, (number, number))
    for name in "ad":
        read(name, fetched)
    assert held(tmp_path / "nearby") == {"a", "c", "d"}
    nearby.use(tmp_path / "nearby", f"{FILE_BYTES / 1e9:.12f}")  # less room than is taken
    read("e", fetched)
    assert held(tmp_path / "nearby") == {"e"}
    nearby.use(tmp_path / "nearby", "1e-7")
    read("f", fetched)
    assert held(tmp_path / "nearby") == {"e"}, "what is larger than the room moves nothing"


@pytest.mark.parametrize("damage", ["flipped", "cut", "another's", "empty"])
def test_a_damaged_file_is_fetched_again_with_a_warning(tmp_path, fetched, damage, caplog):
    read("a", fetched)
    read("b", fetched)
    path = tmp_path / "nearby/a"
    data = path.read_bytes()
    other = (tmp_path / "nearby/b").read_bytes()
    path.write_bytes({"flipped": bytes([data[0] ^ 1]) + data[1:], "cut": data[:500], "another's": other, "empty": b""}[damage])
    read("a", fetched)
    read("a", fetched)
    assert fetched == ["a", "b", "a"]
    assert [record.message.endswith("damaged, so it is fetched again") for record in caplog.records] == [True]


def test_what_turns_out_wrong_is_not_kept(tmp_path, fetched):
    """It may be mended in the store."""
    with pytest.raises(ValueError, match="wrong"), nearby.sound("a", lambda: b"x"):
        raise ValueError("wrong")
    with pytest.raises(OSError, match="lost"):
        nearby.data("a", lambda: (_ for _ in ()).throw(OSError("lost")))
    assert not (tmp_path / "nearby").exists()


def test_what_a_kill_left_half_written_goes(tmp_path, fetched):
    """When room is wanted, or when what there is has not been noted."""
    read("a", fetched)
    (tmp_path / "nearby/b.partial").write_bytes(bytes(1000))
    for name in "cde":
        read(name, fetched)
    assert held(tmp_path / "nearby") == {"c", "d", "e"}
    (tmp_path / "nearby/b.partial").write_bytes(bytes(10**6))
    (tmp_path / "nearby/lock").write_bytes(b"")
    read("f", fetched)
    assert held(tmp_path / "nearby") == {"d", "e", "f"}


def test_what_is_held_is_counted_once_not_for_each_piece(tmp_path, fetched, monkeypatch):
    counts, count = [], nearby._make_room
    monkeypatch.setattr(nearby, "_make_room", lambda *given: counts.append(given) or count(*given))
    for name in "abc":
        read(name, fetched)
    assert len(counts) == 1
    assert sum(path.stat().st_size for path in (tmp_path / "nearby").iterdir() if path.name != "lock") == 3 * FILE_BYTES


def test_a_full_disk_stops_nothing(tmp_path, fetched, monkeypatch, caplog):
    monkeypatch.setattr(Path, "replace", lambda path, target: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left")))
    read("a", fetched)
    read("a", fetched)
    assert (fetched, held(tmp_path / "nearby")) == (["a", "a"], set())
    assert sum("nothing more is kept there" in record.message for record in caplog.records) == 1


def test_a_room_that_is_no_number_is_refused(tmp_path):
    for room in ("much", "-1", "nan", "inf"):
        with pytest.raises(InputError, match="SOFTCACHE_NEARBY: expected GB of disk"):
            nearby.use(tmp_path, room)
    nearby.use(tmp_path, "")
    assert nearby.data("a", lambda: b"x") == b"x"
    assert list(tmp_path.iterdir()) == []


def test_many_readers_share_a_room_that_is_never_too_full(tmp_path, fetched):
    """Two processes of four threads read ten pieces again and again, in other orders, where three have room."""
    program = (
        "import random, sys, threading\nfrom pathlib import Path\nsys.path[:0] = sys.argv[3:]\n"
        "from pipeline.base import nearby\nfrom test_nearby import piece\nnearby.use(Path(sys.argv[1]), sys.argv[2])\n"
        "def run(seed):\n    for _ in range(60):\n        name = random.Random(seed + _ * 31).choice('abcdefghij')\n"
        "        assert nearby.data(name, lambda: piece(name)) == piece(name)\n"
        "threads = [threading.Thread(target=run, args=(seed,)) for seed in range(4)]\n"
        "[each.start() for each in threads]; [each.join() for each in threads]\n"
    )
    folder, room = tmp_path / "nearby", f"{3.5 * FILE_BYTES / 1e9:.12f}"
    command = [
        sys.executable,
        "-c",
        program,
        str(folder),
        room,
        str(Path(__file__).parent),
        str(Path(nearby.__file__).parents[2]),
    ]
    sizes, done = [], threading.Event()

    def watch() -> None:
        while not done.wait(0.001):
            found = 0
            for path in [] if not folder.exists() else folder.iterdir():
                try:
                    found += path.stat().st_size
                except FileNotFoundError:
                    continue
            sizes.append(found)

    watcher = threading.Thread(target=watch)
    watcher.start()
    runs = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [run.communicate(timeout=60)[1] for run in runs]
    done.set()
    watcher.join()
    assert [run.returncode for run in runs] == [0, 0], said
    assert said == ["", ""], "nobody found a damaged file"
    assert max(sizes) <= 3.5 * FILE_BYTES
    assert 1 <= len(held(folder)) <= 3
