"""Memory and speed of a student that streams a transfer set and a cache out of a store, which may hold more than disks here.

The data are a few spans again and again: parts and spans are hard links to a few files, which a server of this benchmark gives
out as S3 would. So a store of 50 GB takes a few hundred MB of disk, and every byte is sent, received and checked.
"""

import argparse
import functools
import gc
import http.server
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import numpy as np
import torch

from benchmarks.capture import run
from benchmarks.measure import CPU, folder_for_data, images, machine, show, write_splits, write_teacher
from pipeline.base import files, nearby, places, runtime
from pipeline.cache.reader import Cache
from pipeline.data.inputs.image import Images
from pipeline.data.splitfile import Rows, Shape, list_parts, write_part
from pipeline.data.splits import bind_splits, open_splits, span_rows
from pipeline.data.views import NONE
from pipeline.training.examples import Examples
from pipeline.training.inputs import inputs_of
from pipeline.training.targets import Targets

CLASSES, SIZE, SPANS = 1000, 8, 4  # classes; pixels a side; spans that differ
SPAN = span_rows(CLASSES, SIZE * SIZE)
SPAN_BYTES = SPAN * (CLASSES * 4 + SIZE * SIZE)  # about, of logits and inputs
BATCH = 256
MEMORY = 1_000_000_000


# ---------------------------------------------------------------- a store of links


class Objects(http.server.SimpleHTTPRequestHandler):
    """What S3 answers to GET, HEAD and ListObjectsV2, of the files in a folder; the first part of a path is the bucket."""

    protocol_version = "HTTP/1.1"

    def __init__(self, folder: Path, *given: object):
        self._folder = folder
        super().__init__(*given)  # type: ignore[arg-type]

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        asked = parse_qs(urlsplit(self.path).query, keep_blank_values=True)
        if "list-type" in asked:
            self._list(asked.get("prefix", [""])[0])
        else:
            self._answer(with_body=True)

    def log_message(self, *given: object) -> None:
        return

    def _answer(self, with_body: bool) -> None:
        path = self._folder / unquote(urlsplit(self.path).path).lstrip("/").partition("/")[2]
        if not path.is_file():
            self._head(404, 0)
            return
        size = path.stat().st_size
        first, _, last = self.headers.get("Range", "").removeprefix("bytes=").partition("-")
        start, stop = int(first or 0), min(int(last or size - 1) + 1, size)
        more = {"Content-Range": f"bytes {start}-{stop - 1}/{size}"} if first else {}
        self._head(206 if first else 200, stop - start, **more)
        if with_body:
            with path.open("rb") as file:
                self.wfile.flush()
                self.connection.sendfile(file, start, stop - start)

    def _list(self, prefix: str) -> None:
        found = []
        for path in sorted(self._folder.rglob("*")):
            key = str(path.relative_to(self._folder))
            if path.is_file() and key.startswith(prefix):
                facts = f"<Size>{path.stat().st_size}</Size><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
                found.append(f"<Contents><Key>{escape(key)}</Key>{facts}</Contents>")
        text = f"<ListBucketResult><IsTruncated>false</IsTruncated>{''.join(found)}</ListBucketResult>".encode()
        self._head(200, len(text))
        self.wfile.write(text)

    def _head(self, status: int, size: int, **more: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(size), "Last-Modified": formatdate(0, usegmt=True), **more}.items():
            self.send_header(name, value)
        self.end_headers()


def serve(folder: Path, port: int) -> None:
    """Until this process is ended, or its input ends."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", port), functools.partial(Objects, folder)) as server:
        import threading

        threading.Thread(target=server.serve_forever, daemon=True).start()
        sys.stdin.read()


@contextmanager
def store(folder: Path) -> Iterator[dict[str, str]]:
    """The variables by which obstore reaches a server of this folder, which runs meanwhile."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    command = [sys.executable, "-m", "benchmarks.streaming", "--serve", str(folder), str(port)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as server:
        for _ in range(500):
            with socket.socket() as tried:
                if tried.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.02)
        yield {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1",
            "AWS_SKIP_SIGNATURE": "true",
        }  # fmt: skip
        server.communicate()


# ---------------------------------------------------------------- data


def prepare(root: Path, spans: int) -> None:
    """A data folder of so many spans: a split in parts and a cache, both of links to SPANS spans that differ."""
    small, data = root / "small", root / "data"
    write_splits(small / "transfer", SPANS * SPAN, classes=CLASSES, size=SIZE)
    write_teacher(small / "teacher", "mlp(hidden=[16])", small / "transfer")
    run(small, "float32")
    times = spans // SPANS
    _link_split(data / "transfer", times)
    _link_cache(small / "cache", data, times)


def _link_split(folder: Path, times: int) -> None:
    path = folder / "train.parquet"
    path.mkdir(parents=True)
    shape = Shape("train", [str(label) for label in range(CLASSES)], Images("L", (1, SIZE, SIZE)), SPAN)
    count = SPANS * SPAN
    rows = Rows.of([f"train-{row}" for row in range(count)], images(count, SIZE), np.arange(count) % CLASSES)
    first = write_part(path / "part-00000.parquet", [rows], shape)
    parts = [replace(first, part=replace(first.part, name=f"part-{number:05d}.parquet")) for number in range(times)]
    for each in parts[1:]:
        os.link(path / first.part.name, path / each.part.name)
    list_parts(path, shape, parts)
    bind_splits(folder, ["train"])


def _link_cache(small: Path, data: Path, times: int) -> None:
    """The cache of the split, out of one of SPANS spans. Its zarr.json keeps the shape of that one, which nobody reads here."""
    out = data / "caches/teacher"
    shutil.copytree(small, out, copy_function=os.link)
    cache = Cache.listed(small)
    wide, split = Cache.listed(out), open_splits(data / "transfer", ["train"])["train"]
    records = []
    for record in cache.manifest.records:
        for number in range(record.span, times * SPANS if record.split == "transfer" else record.span + 1, SPANS):
            records.append(replace(record, span=number))
            place = wide.file(records[-1])
            if not place.exists():
                place.parent.mkdir(exist_ok=True)
                os.link(cache.file(record), place)
    extents = dict(cache.manifest.extents)
    extents["transfer"] = replace(extents["transfer"], rows=split.rows, inputs_digest=split.inputs_digest)
    manifest = replace(cache.manifest, records=tuple(records), extents=extents)
    (out / "manifest.json").unlink()
    files.write(out / "manifest.json", manifest.to_json())


# ---------------------------------------------------------------- reading


def read(data: str, memory_bytes: int, epochs: int, kept: str, room: str) -> None:
    """Stream epochs, and print the rows, the seconds of each, and the memory that was taken: at most, and before the first.

    Before it, some steps were made in the least memory there can be, so that libraries have what they take once and for all.
    """
    runtime.prepare("cpu")
    nearby.use(Path(kept), room)
    folder = places.place(data)
    split = open_splits(folder / "transfer", ["train"])["train"]
    targets = Targets.of({"teacher": Cache.open(folder / "caches/teacher")}, temperatures=[1.0], rule="logits")
    examples = Examples(inputs_of(split, NONE), NONE, 1, targets, memory_bytes, CPU)
    assert not examples.whole, "all of it fits in memory"
    net = torch.nn.Linear(SIZE * SIZE, 1)
    warm = Examples(inputs_of(split, NONE), NONE, 1, targets, 4 * SPAN_BYTES, CPU)
    for batch, _ in zip(warm.epoch(0, 0, BATCH), range(2 * SPAN // BATCH), strict=False):
        net(batch.inputs.flatten(1).float()).sum().backward()
    del warm, batch
    gc.collect()
    runtime.release_memory()
    before = resident_bytes()
    seconds = []
    for epoch in range(epochs):
        start, rows = time.perf_counter(), 0
        for batch in examples.epoch(0, epoch, BATCH):
            net(batch.inputs.flatten(1).float()).sum().backward()
            rows += len(batch.targets)
        seconds.append(time.perf_counter() - start)
        assert rows == split.rows
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(json.dumps({"rows": split.rows, "seconds": seconds, "before": before, "peak": peak}))


def resident_bytes() -> int:
    """The memory of this process now; where the system does not tell, the most that it has taken."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def streamed(
    what: str, data: str, memory_bytes: int, variables: dict[str, str], epochs: int = 1, kept: str = "", room: str = ""
) -> None:
    """Stream in a process of its own, and show what it took. It is started by a small one, see ingest.peak_bytes."""
    given = [data, str(memory_bytes), str(epochs), kept, room]
    reads = "[sys.executable, '-m', 'benchmarks.streaming', '--read', *sys.argv[1:]]"
    starts = f"import subprocess, sys; subprocess.run({reads}, check=True)"
    words = [sys.executable, "-c", starts, *given]
    said = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | variables).stdout
    found = json.loads(said)
    taken, size = found["peak"] - found["before"], found["rows"] * (SPAN_BYTES / SPAN)
    speeds = ", ".join(f"{size / each / 1e6:,.0f}" for each in found["seconds"])
    detail = f"{taken / 1e6:,.0f} of {memory_bytes / 1e6:,.0f} MB, {size / 1e9:.1f} GB an epoch, {speeds} MB/s"
    show(f"memory of streaming {what} / its budget", taken / memory_bytes, "≤ 1", taken <= memory_bytes, detail)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gb", type=float, default=3, help="GB of the store; 50 take 0.5 GB of disk.")
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--read", nargs=5, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(Path(given.serve[0]), int(given.serve[1]))
        return
    if given.read:
        data, memory_bytes, epochs, kept, room = given.read
        read(data, int(memory_bytes), int(epochs), kept, room)
        return
    print(f"streaming: {machine()}")
    root = folder_for_data()
    try:
        prepare(root, max(SPANS, round(given.gb * 1e9 / SPAN_BYTES) // SPANS * SPANS))
        streamed("from disk", str(root / "data"), MEMORY, {})
        with store(root) as variables:
            streamed("from a store", "s3://bucket/data", MEMORY, variables)
            streamed("from a store, kept nearby", "s3://bucket/data", MEMORY, variables, 2, str(root / "nearby"), "1")
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
