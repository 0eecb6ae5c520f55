"""A proxy before an object store that loses replies, answers for it, waits and cuts short, as a plan says."""

import enum
import hashlib
import http.client
import random
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import urlsplit

PIECE = 1 << 18
DELAY = 0.2  # seconds
HOPS = {"connection", "keep-alive", "transfer-encoding", "content-length"}  # said anew on each side


class Fault(enum.Enum):
    """What may happen to a request; the first loses what the store did, the others tell or keep the client waiting."""

    LOST = "the store did it, and nobody says so"
    GONE = "the connection closes before the store hears of it"
    BROKEN = "500 InternalError, and the store hears nothing"
    BUSY = "503 SlowDown, and the store hears nothing"
    CONFLICT = "409 ConditionalRequestConflict, and the store hears nothing"
    SLOW = "the answer comes late"
    CUT = "half of the body, then the end of the connection"


class Asked(NamedTuple):
    """A request: `turn` counts those of the same method and path before it."""

    method: str
    path: str
    conditional: bool  # a PUT that may not replace anything
    turn: int


Plan = Callable[[Asked], Fault | None]


def nothing(asked: Asked) -> Fault | None:
    """No fault at all."""
    return None


def in_turn(every: int, *given: Fault) -> Plan:
    """One fault after the other, each befalling the next request that it can, with at least `every` - 1 without between two."""
    waiting, asked_since = deque(given), 0

    def plan(asked: Asked) -> Fault | None:
        nonlocal asked_since
        asked_since += 1
        fault = next((each for each in waiting if fits(each, asked)), None)
        if asked_since < every or fault is None:
            return None
        waiting.remove(fault)
        waiting.append(fault)
        asked_since = 0
        return fault

    return plan


def by_chance(seed: int, **shares: float) -> Plan:
    """Faults by name, each with its share of the requests that it can befall.

    Addressed by request: it does not matter in which order several clients ask.
    """

    def plan(asked: Asked) -> Fault | None:
        drawn = random.Random(f"{seed} {asked.method} {asked.path} {asked.turn}").random()
        for name, share in shares.items():
            if drawn < share:
                return Fault[name.upper()] if fits(Fault[name.upper()], asked) else None
            drawn -= share
        return None

    return plan


def fits(fault: Fault, asked: Asked) -> bool:
    """Conflicts are of conditional PUTs; only what is got has a body to cut."""
    return {Fault.CONFLICT: asked.conditional, Fault.CUT: asked.method == "GET"}.get(fault, True)


ANSWERS = {
    Fault.BROKEN: (500, "InternalError"), Fault.BUSY: (503, "SlowDown"), Fault.CONFLICT: (409, "ConditionalRequestConflict"),
}  # fmt: skip


class Proxy(ThreadingHTTPServer):
    """Passes requests on to `store`, but for the faults of `plan`.

    seen, done: how many requests and faults there were of each kind. kept: by path, the sha256 of each body that was stored.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, store: str, plan: Plan = nothing) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.store = urlsplit(store).netloc
        self.plan = plan
        self.seen: Counter[str] = Counter()
        self.done: Counter[Fault] = Counter()
        self.kept: defaultdict[str, list[str]] = defaultdict(list)
        self.turns: Counter[tuple[str, str]] = Counter()
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def fault(self, method: str, path: str, conditional: bool) -> Fault | None:
        """Count a request, and say what befalls it."""
        with self.lock:
            fault = self.plan(Asked(method, path, conditional, self.turns[method, path]))
            self.turns[method, path] += 1
            self.seen[method] += 1
            if fault is not None:
                self.done[fault] += 1
        return fault

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that was killed is no news."""


class Handler(BaseHTTPRequestHandler):
    """One connection of a client, with one to the store behind it."""

    protocol_version = "HTTP/1.1"
    server: Proxy

    def setup(self) -> None:
        super().setup()
        self.store = http.client.HTTPConnection(self.server.store, timeout=60)

    def finish(self) -> None:
        self.store.close()
        with suppress(OSError):
            super().finish()

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = self.server.fault(self.command, self.path, "If-None-Match" in self.headers and self.command == "PUT")
        if fault is Fault.GONE:
            self.close_connection = True
        elif fault in ANSWERS:
            self.refuse(*ANSWERS[fault])
        else:
            self.pass_on(body, fault)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer

    def refuse(self, status: int, code: str) -> None:
        body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>by the proxy</Message></Error>".encode()
        self.send_response_only(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def pass_on(self, body: bytes, fault: Fault | None) -> None:
        """Host stays what the client sent, because it signed it."""
        self.store.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in HOPS:
                self.store.putheader(name, value)
        self.store.putheader("Content-Length", str(len(body)))
        self.store.endheaders(body)
        reply = self.store.getresponse()
        if self.command == "PUT" and reply.status == 200:
            self.server.kept[self.path].append(hashlib.sha256(body).hexdigest())
        if fault is Fault.SLOW:
            time.sleep(DELAY)
        if fault is Fault.LOST:
            reply.read()
            self.close_connection = True
            return
        self.send_response_only(reply.status)
        for name, value in reply.getheaders():
            if name.lower() not in HOPS:
                self.send_header(name, value)
        if reply.getheader("Content-Length") is None:
            whole = reply.read()  # of a listing, which comes in chunks
            length, pieces = len(whole), iter([whole])
        else:
            length, pieces = int(reply.getheader("Content-Length")), iter(lambda: reply.read(PIECE), b"")
        self.send_header("Content-Length", str(length))
        self.end_headers()
        left = length // 2 if fault is Fault.CUT else length
        self.close_connection |= left < length
        for piece in pieces:
            self.wfile.write(piece[:left])
            left -= len(piece[:left])


@contextmanager
def proxy(store: str, plan: Plan = nothing) -> Iterator[Proxy]:
    """A proxy before the store at this URL; its plan may be changed while it runs."""
    with Proxy(store, plan) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        serving.start()
        try:
            yield server
        finally:
            server.shutdown()
            serving.join()
