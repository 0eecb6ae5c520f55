"""Whole runs in an object store: the bytes that they would have on disk, whatever the network does; and what is refused."""

import contextlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

import faults
import servers
from conftest import tree, write_stage_one
from faults import Fault
from pipeline.base import files, places
from stages.cli import main

obstore = pytest.importorskip("obstore")


def client(**settings):
    """obstore's own, of the store of the environment, or one at another address."""
    return obstore.store.from_url(f"s3://{servers.BUCKET}", **settings)


def inner(url: str) -> str:
    """The name of a folder within its bucket."""
    return url.removeprefix(f"s3://{servers.BUCKET}/")


# ---------------------------------------------------------------- the servers and the proxy themselves


@pytest.mark.soak
def test_a_server_dies_with_whoever_started_it():
    held = "with servers.seaweedfs() as given:\n  print(given['AWS_ENDPOINT_URL'], flush=True)"
    code = f"import os, servers\n{held}\n  os.kill(os.getpid(), 9)"
    ran = subprocess.run([sys.executable, "-c", code], cwd=Path(servers.__file__).parent, capture_output=True, text=True)
    assert ran.returncode == -9, ran.stderr
    port = int(ran.stdout.rpartition(":")[2])
    for _ in range(500):
        if servers.free(port):
            return
        time.sleep(0.01)
    raise AssertionError("it still listens")


def test_one_store_obeys_if_none_match_and_the_other_does_not(bucket, monkeypatch):
    obstore.put(client(), "twice", b"first")
    with pytest.raises(obstore.exceptions.AlreadyExistsError):
        obstore.put(client(), "twice", b"second", mode="create")
    with servers.s3rver() as environment:
        servers.enter(monkeypatch, environment)
        for data in (b"first", b"second"):
            obstore.put(client(), "twice", data, mode="create", use_multipart=False)
        assert bytes(obstore.get(client(), "twice").bytes()) == b"second"


UNHEARD = "error sending request"


@pytest.mark.parametrize(
    ("fault", "there", "said"),
    [
        (Fault.LOST, True, UNHEARD),
        (Fault.GONE, False, UNHEARD),
        (Fault.BROKEN, False, "500 Internal"),
        (Fault.BUSY, False, "503 Service"),
        (Fault.CONFLICT, False, "409 Conflict"),
    ],
)
def test_the_proxy_does_what_its_plan_says(seaweed, bucket, fault, there, said):
    with faults.proxy(seaweed["AWS_ENDPOINT_URL"], lambda asked: None if asked.turn else fault) as proxy:
        once = client(endpoint=proxy.url, retry_config={"max_retries": 0})
        with pytest.raises(obstore.exceptions.BaseError, match=said):
            obstore.put(once, f"{inner(bucket)}/one", b"bytes", mode="create", use_multipart=False)
        assert proxy.done == {fault: 1}
    assert servers.tree(bucket) == ({"one": b"bytes"} if there else {})


def test_the_proxy_cuts_what_is_got(seaweed, bucket):
    obstore.put(client(), f"{inner(bucket)}/one", b"bytes")
    with faults.proxy(seaweed["AWS_ENDPOINT_URL"], lambda asked: None if asked.turn else Fault.CUT) as proxy:
        once = client(endpoint=proxy.url, retry_config={"max_retries": 0})
        with pytest.raises(obstore.exceptions.BaseError):
            obstore.get(once, f"{inner(bucket)}/one").bytes()
        assert bytes(obstore.get(once, f"{inner(bucket)}/one").bytes()) == b"bytes"


# ---------------------------------------------------------------- whole runs

TRAINING = ["--optimizer", "sgd(lr=0.3, momentum=0.9)", "--epochs", 8, "--batch-size", 20, "--device", "cpu"]
VIEWS = ["--views", 3, "--policy", "shift(1)"]


def ok(*arguments: object) -> str:
    result = CliRunner().invoke(main, [str(each) for each in arguments])
    assert result.exit_code == 0, result.output
    return result.output


def whole_run(data: str) -> str:
    """Teacher, cache and student of the embedded digits; returns what the cache is said to be."""
    ok("ingest", "--data", data, "--train", "digits", "--labels", 10, "--test", 0.4, "--valid", 100)
    ok("teach", "a", "--data", data, "--model", "mlp(hidden=[32])", *TRAINING)
    ok("capture", "a", "--data", data, *VIEWS, "--device", "cpu")
    assert "as sealed" in ok("verify", "--data", data, "a")
    said = ok("inspect", "--data", data, "a")
    ok(
        "distill",
        "tiny",
        "--data",
        data,
        "-T",
        4,
        "--teachers",
        "a",
        *VIEWS,
        "--model",
        "mlp(hidden=[8])",
        "--seeds",
        0,
        *TRAINING,
    )
    return said.replace(data, "DATA").partition("created by")[0]


GENERATION = re.compile(r"/[0-9a-f]{16}(?=/)")


def artifacts(found: dict[str, bytes]) -> dict[str, bytes]:
    """What a run makes, wherever it lies; without what is about the run itself, and work in progress."""
    left = {GENERATION.sub("", path, 1): data for path, data in found.items() if not re.search(r"current\.json$|\.work/", path)}
    return {path: data for path, data in left.items() if not path.startswith(("provenance/", "times.csv"))}


@pytest.fixture(scope="module")
def on_disk(tmp_path_factory) -> tuple[dict[str, bytes], str]:
    """What a run on this machine makes, and what is said of it."""
    folder = tmp_path_factory.mktemp("disk")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        said = whole_run("data")
    return artifacts(tree(folder / "data")), said


CREATING, OTHER = (Fault.LOST, Fault.CONFLICT), (Fault.CUT, Fault.BUSY, Fault.GONE, Fault.BROKEN)


def unreliable() -> faults.Plan:
    """Every third request that may not replace anything fails, and some of the others."""
    creating, other = faults.in_turn(3, *CREATING), faults.in_turn(30, *OTHER)
    return lambda asked: creating(asked) if asked.conditional else other(asked)


@pytest.fixture(scope="module")
def in_store(seaweed, tmp_path_factory) -> tuple[dict[str, bytes], str]:
    """The same of a run in a store, all objects of it."""
    folder, url = tmp_path_factory.mktemp("store"), servers.folder()
    with faults.proxy(seaweed["AWS_ENDPOINT_URL"], unreliable()) as proxy, pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        servers.enter(patch, seaweed | {"AWS_ENDPOINT_URL": proxy.url})
        said = whole_run(url)
        assert proxy.done.keys() == {*CREATING, *OTHER}
        assert tree(folder) == {}
        patch.setenv("AWS_ENDPOINT_URL", seaweed["AWS_ENDPOINT_URL"])
        return servers.tree(url), said


def test_a_run_in_a_store_makes_what_one_on_disk_does_whatever_the_network_does(on_disk, in_store):
    made, expected = artifacts(in_store[0]), on_disk[0]
    assert made.keys() == expected.keys()
    assert [path for path in made if made[path] != expected[path]] == []
    assert in_store[1] == on_disk[1]


def test_a_store_that_ignores_if_none_match_is_refused_and_nothing_is_written(in_store, bucket, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = {path: data for path, data in in_store[0].items() if path.startswith(("transfer/", "teachers/"))}
    with servers.s3rver() as environment:
        servers.enter(monkeypatch, environment)
        servers.put(bucket, before)
        result = CliRunner().invoke(main, ["capture", "a", "--data", bucket, "--device", "cpu"])
        after = servers.tree(bucket)
    assert result.exit_code == 2
    assert result.output == (
        "Error: s3://bucket: expected a store that obeys If-None-Match, found one that ignores it. "
        "Use another store, or a newer version of this one.\n"
    )
    assert after == before
    assert tree(tmp_path) == {}


# ---------------------------------------------------------------- eight workers, a hundred kills

COMMAND = [sys.executable, "-c", "from stages.cli import main; main()"]
SPANS, WORKERS, KILLS, COORDINATORS = 60, 8, 100, 10


STORED = re.compile(r"/c/|/records/")


def stored(proxy: faults.Proxy) -> int:
    """How many spans and records the store holds."""
    return sum(1 for path in list(proxy.kept) if STORED.search(path))


def workers_of(process: int) -> list[int]:
    """The processes that this one has started, but for the dead and multiprocessing's own."""
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,stat=,args="], check=True, capture_output=True, text=True).stdout
    found = [line.split(None, 3) for line in listed.splitlines()]
    ours = [(pid, state, given) for pid, parent, state, given in found if int(parent) == process]
    return [int(pid) for pid, state, given in ours if not state.startswith("Z") and "resource_tracker" not in given]


def upload(folder: Path, url: str) -> None:
    """Splits and teacher as artifacts of the store."""
    for name in ("transfer", "teachers/a"):
        with files.replaced_folder(places.place(f"{url}/{name}")) as target:
            shutil.copytree(folder / name, target, dirs_exist_ok=True)


@pytest.mark.soak
def test_eight_workers_and_a_hundred_kills_lose_no_span_and_write_none_twice(seaweed, bucket, tmp_path):
    keep = ["--views", "8", "--policy", "shift(1)", "--device", "cpu", "--threads", "1"]
    local = write_stage_one(tmp_path / "data", rows=8 * SPANS)
    subprocess.run([*COMMAND, "capture", "a", "--data", str(local), *keep], check=True, cwd=tmp_path)
    upload(local, bucket)
    chance = random.Random(0)
    plan = faults.by_chance(0, lost=0.06, conflict=0.05, busy=0.03, broken=0.03, gone=0.03, cut=0.03, slow=0.05)
    with faults.proxy(seaweed["AWS_ENDPOINT_URL"], plan) as proxy:
        command = [*COMMAND, "capture", "a", "--data", bucket, *keep, "--on", "processes", "--workers", str(WORKERS)]
        environment = os.environ | {"AWS_ENDPOINT_URL": proxy.url}
        coordinators = set(chance.sample(range(KILLS), COORDINATORS))
        running = subprocess.Popen(command, cwd=tmp_path, env=environment)
        try:
            kills = 0
            while kills < KILLS:
                wanted = stored(proxy) + chance.randint(1, 8)
                while stored(proxy) < wanted:
                    assert running.poll() is None, f"ended with {running.returncode} after {kills} kills"
                    time.sleep(0.005)
                time.sleep(chance.uniform(0, 0.05))
                if kills in coordinators:
                    running.kill()
                    running.wait()
                    running = subprocess.Popen(command, cwd=tmp_path, env=environment)
                    kills += 1
                elif workers := workers_of(running.pid):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(chance.choice(workers), signal.SIGKILL)
                        kills += 1
            assert running.wait(600) == 0
        finally:
            running.kill()
            running.wait()
    made = artifacts(servers.tree(bucket))
    assert {path: data for path, data in made.items() if path.startswith("caches/")} == {
        f"caches/{path}": data for path, data in tree(local / "caches").items()
    }
    assert stored(proxy) == 2 * (8 * SPANS + 2)
    assert [path for path, kept in proxy.kept.items() if STORED.search(path) and len(kept) > 1] == []
    assert proxy.done.keys() == set(Fault)
