"""Whole runs in an object store: the bytes that they would have on disk, whatever the network does; and what is refused."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

import faults
import servers
from faults import Fault

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
