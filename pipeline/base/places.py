"""Places: where files lie. A path of this machine is one, an object in a store under s3://, gs:// or az:// the other.

Stores are reached through obstore, which takes addresses and credentials from its usual variables, such as AWS_ENDPOINT_URL.
"""

import contextlib
import functools
import io
import os
import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from pipeline.base.errors import InputError, first_line
from pipeline.base.libraries import needed

if TYPE_CHECKING:
    from obstore.store import ObjectStore

T = TypeVar("T")

SCHEMES = ("s3", "gs", "az")
GENERATION = re.compile(r"[0-9a-f]{16}")  # the name of a folder that holds one generation of an artifact in a store
_URL = re.compile(rf"({'|'.join(SCHEMES)})://([^/]+)(/.*)?", re.DOTALL)
_VARIABLES = ("AWS_", "GOOGLE_", "AZURE_")  # how those begin that say where a store is, and who asks
_KEYS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY", "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}  # fmt: skip
_ASKED_FOR_KEYS = (
    "/latest/api/token",
    "/latest/meta-data",
    "metadata.google.internal",
    "metadata/identity",
)  # where a machine's role is asked for
PATIENCE = 60.0  # seconds for which a request is repeated, after obstore gave it up; a conditional one it does not repeat
_PAUSE_SECONDS = (0.05, 5.0)  # between two of them: at first, and at most
_BUFFER_BYTES = 1 << 20
_PART_BYTES = 128 << 20
_REQUEST_SECONDS = 300  # obstore's own 30 seconds are few for a span on a slow line
_FIRST_SECONDS = 10
_CONFLICTS = "HTTP 409 again and again"
_answered: set[str] = set()  # the buckets that have answered this process


class Sized(Protocol):
    """What is known of a file."""

    @property
    def st_size(self) -> int:
        """Its bytes."""


class Place(Protocol):
    """What is asked of a file or folder, wherever it lies; pathlib.Path has all of it."""

    @property
    def name(self) -> str: ...
    @property
    def stem(self) -> str: ...
    @property
    def suffix(self) -> str: ...
    @property
    def parts(self) -> tuple[str, ...]: ...
    @property
    def parent(self) -> "Place": ...
    @property
    def parents(self) -> "Sequence[Place]": ...
    def __truediv__(self, name: str) -> "Place": ...
    def __lt__(self, other: Any) -> bool: ...
    def with_suffix(self, suffix: str) -> "Place": ...
    def exists(self) -> bool: ...
    def is_file(self) -> bool: ...
    def is_dir(self) -> bool: ...
    def stat(self) -> Sized: ...
    def read_bytes(self) -> bytes: ...
    def open(self, mode: Literal["rb"]) -> io.BufferedReader: ...
    def iterdir(self) -> "Iterator[Place]": ...
    def glob(self, pattern: str) -> "Iterator[Place]": ...


def place(text: str) -> Place:
    """The place that a text names: a URL of a store, or a path. Raises InputError for another URL, and without obstore."""
    if not re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", text):  # one slash, too: it was meant to be a URL
        return Path(text)
    found = _URL.fullmatch(text)
    if not found or {"", ".", ".."} & set((found[3] or "/x").rstrip("/").split("/")[1:]):
        known = ", ".join(f"{scheme}://bucket/folder" for scheme in SCHEMES)
        raise InputError(
            text,
            expected=f"a path, or {known}",
            found="another URL" if not found else "one with an empty part, or with dots for a part",
            fix="Correct it.",
        )
    needed("obstore", text)
    return ObjectPlace(text.rstrip("/"))


def artifact(folder: Place) -> Place:
    """The folder of an artifact; the one given may be that of its present generation, see files.current."""
    if not GENERATION.fullmatch(folder.name):
        return folder
    return folder.parent if isinstance(folder, ObjectPlace) or (folder.parent / "current.json").exists() else folder


@dataclass(frozen=True)
class Size:
    """The size of an object."""

    st_size: int


@dataclass(frozen=True, order=True)
class ObjectPlace:
    """An object, or the folder that the names of some begin with. url: without a slash at the end.

    Every method raises InputError where the store is missing, refuses, or gives no answer.
    """

    url: str

    def __str__(self) -> str:
        return self.url

    @property
    def root(self) -> str:
        """The URL of the bucket."""
        return "/".join(self.url.split("/", 3)[:3])

    @property
    def key(self) -> str:
        """The name of the object in its bucket."""
        return self.url[len(self.root) + 1 :]

    @property
    def name(self) -> str:
        return self.key.rpartition("/")[2]

    @property
    def stem(self) -> str:
        return Path(self.name).stem

    @property
    def suffix(self) -> str:
        return Path(self.name).suffix

    @property
    def parts(self) -> tuple[str, ...]:
        return (self.root, *filter(None, self.key.split("/")))

    @property
    def parent(self) -> "ObjectPlace":
        return ObjectPlace(self.url.rpartition("/")[0]) if self.key else self

    @property
    def parents(self) -> "Sequence[ObjectPlace]":
        found, here = [], self
        while here.key:
            here = here.parent
            found.append(here)
        return found

    def __truediv__(self, name: str | Path) -> "ObjectPlace":
        return ObjectPlace(f"{self.url}/{name}")

    def with_suffix(self, suffix: str) -> "ObjectPlace":
        return self.parent / f"{self.stem}{suffix}"

    def exists(self) -> bool:
        return self.is_file() or self.is_dir()

    def is_file(self) -> bool:
        try:
            self.stat()
        except FileNotFoundError:
            return False
        return True

    def is_dir(self) -> bool:
        import obstore

        return self._ask(lambda store: next(iter(obstore.list(store, prefix=self.key or None, chunk_size=1)), None)) is not None

    def stat(self) -> Size:
        import obstore

        return Size(self._ask(lambda store: obstore.head(store, self.key)["size"]))

    def read_bytes(self) -> bytes:
        import obstore

        return self._ask(lambda store: bytes(obstore.get(store, self.key).bytes()))

    def read_version(self) -> tuple[memoryview, str | None]:
        """Its bytes, held once, and its ETag, by which the store tells it from what was or will be there."""
        import numpy as np
        import obstore

        def received(store: "ObjectStore") -> tuple[memoryview, str | None]:
            found = obstore.get(store, self.key)
            data, at = np.empty(found.meta["size"], np.uint8).data, 0  # bytearray would fill it first
            for some in found.stream(min_chunk_size=_BUFFER_BYTES):  # bytes() would join them into a copy
                data[at : at + len(some)] = memoryview(some)
                at += len(some)
            return data, found.meta["e_tag"]

        return self._ask(received)

    def read_range(self, start: int, stop: int) -> bytes:
        """Its bytes from start to stop, which must lie within it."""
        import obstore

        return self._ask(lambda store: bytes(obstore.get_range(store, self.key, start=start, end=stop)))

    def read_parts(self) -> Iterator[bytes]:
        """All of its bytes, in parts that memory holds."""
        size = self.stat().st_size
        if size <= _PART_BYTES:
            yield self.read_bytes()
            return
        for start in range(0, size, _PART_BYTES):
            yield self.read_range(start, min(start + _PART_BYTES, size))

    def open(self, mode: Literal["rb"]) -> io.BufferedReader:
        return io.BufferedReader(Pieces(self.stat().st_size, self.read_range), _BUFFER_BYTES)

    def iterdir(self) -> "Iterator[ObjectPlace]":
        import obstore

        found = self._ask(lambda store: obstore.list_with_delimiter(store, prefix=self.key or None))
        names = [*found["common_prefixes"], *(each["path"] for each in found["objects"])]
        return iter(sorted(ObjectPlace(f"{self.root}/{name.rstrip('/')}") for name in names))

    def glob(self, pattern: str) -> "Iterator[ObjectPlace]":
        """Objects below this folder whose names match, part by part; unlike pathlib's, no folders."""
        count = pattern.count("/")
        for each, _ in self.objects():
            rest = Path(each.key[len(self.key) + 1 if self.key else 0 :])
            if len(rest.parts) == count + 1 and rest.match(pattern):
                yield each

    # ------------------------------------------------------------ what paths do not have

    def objects(self) -> "Iterator[tuple[ObjectPlace, int]]":
        """All objects below this folder, with their sizes."""
        import obstore

        def listed(store: "ObjectStore") -> list[tuple[str, int]]:  # as a whole: a stream that broke would seem to end
            return [(each["path"], each["size"]) for some in obstore.list(store, prefix=self.key or None) for each in some]

        for key, size in self._ask(listed):
            yield ObjectPlace(f"{self.root}/{key}"), size

    def write(self, data: bytes | Path) -> None:
        """Put these bytes, or those of a file, as a whole, in place of what is there."""
        import obstore
        from obstore.exceptions import AlreadyExistsError

        for pause in _pauses():
            with contextlib.suppress(AlreadyExistsError), self._in_a_bucket():  # HTTP 409: it met another request
                self._ask(lambda store: obstore.put(store, self.key, data))
                return
            time.sleep(pause)
        raise self._unanswered(_CONFLICTS)

    def create(self, data: bytes | memoryview) -> bool:
        """Put these bytes unless there are some; returns whether they are there now, whoever has put them.

        A request whose reply was lost looks like a conflict when it is repeated, and so does one that met another (HTTP 409):
        what is there is read back and compared.
        """
        import obstore
        from obstore.exceptions import AlreadyExistsError, GenericError

        failure: object = _CONFLICTS
        for pause in _pauses():
            try:
                with self._in_a_bucket():
                    self._ask(
                        lambda store: obstore.put(store, self.key, data, mode="create", use_multipart=False), GenericError
                    )
                return True
            except AlreadyExistsError:
                with contextlib.suppress(FileNotFoundError):  # of two requests at a time the other one failed
                    return self.stat().st_size == len(data) and self.read_bytes() == data
            except GenericError as error:
                if not _passes(error, self.root):
                    raise self._unanswered(error) from error
                failure = error
            time.sleep(pause)
        raise self._unanswered(failure)

    def copy(self, target: "ObjectPlace") -> None:
        """Copy the object to another of the same bucket, within the store."""
        import obstore

        self._ask(lambda store: obstore.copy(store, self.key, target.key))

    def remove(self) -> None:
        """Remove the object, and all below this folder."""
        import obstore

        found = [each.key for each, _ in self.objects()] + ([self.key] if self.key and self.is_file() else [])
        with contextlib.suppress(FileNotFoundError):  # another has removed it meanwhile
            self._ask(lambda store: obstore.delete(store, found))

    def require_writable(self) -> None:
        """Raise InputError where nothing can be put: before hours of work whose result would have no place."""
        probe = self._probe
        probe.write(b"")
        probe.remove()

    @property
    def _probe(self) -> "ObjectPlace":
        return self / f"probe-{os.getpid():x}-{random.getrandbits(64):x}"

    def require_conditional(self) -> None:
        """Raise InputError where the store ignores If-None-Match: two workers could then overwrite each other's spans."""
        probe = self._probe
        try:
            obeys = probe.create(b"first") and not probe.create(b"second")
        finally:
            probe.remove()
        if not obeys:
            fix = "Use another store, or a newer version of this one."
            raise InputError(self.root, expected="a store that obeys If-None-Match", found="one that ignores it", fix=fix)

    def _ask(self, request: "Callable[[ObjectStore], T]", *raised: type[BaseException]) -> T:
        """What a request gives; `raised` are left to the caller, as are FileNotFoundError and conflicts."""
        from obstore.exceptions import AlreadyExistsError, BaseError, GenericError

        failure: object = None
        for pause in _pauses():
            try:
                found = request(_store(self.root, _variables(), self.root in _answered))
                _answered.add(self.root)
                return found
            except (AlreadyExistsError, *raised):  # type: ignore[misc]  # a tuple of them
                raise
            except GenericError as error:
                if not _passes(error, self.root):
                    raise self._unanswered(error) from error
                failure = error
                time.sleep(pause)
            except BaseError as error:
                raise self._unanswered(error) from error
        raise self._unanswered(failure)

    @contextlib.contextmanager
    def _in_a_bucket(self) -> Iterator[None]:
        """Raise InputError where something is to be put, and there is no bucket."""
        try:
            yield
        except FileNotFoundError as error:
            raise self._unanswered("no such bucket") from error

    def _unanswered(self, error: object) -> InputError:
        scheme, text = self.root.partition(":")[0], str(error)
        said = first_line(error) if isinstance(error, Exception) else text
        said = said.partition("Error performing ")[2] or said
        if code := re.search(r"<Code>(\w+)</Code>", text):
            said = f"{said.partition('<?xml')[0].strip(' :')} {code[1]}"
        if any(sign in text for sign in _ASKED_FOR_KEYS):
            said = "no credentials, neither in the environment nor from the machine's own role"
        named = f"credentials ({_KEYS[scheme]}) and address" + (" (AWS_ENDPOINT_URL)" if scheme == "s3" else "")
        fix = f"Check bucket, {named}, then run again: what is stored already is kept."
        return InputError(str(self), expected="a store that answers", found=said, fix=fix)


class Pieces(io.RawIOBase):
    """A file that is read a piece at a time, from any position. size: its bytes. read: gives those between two of them."""

    def __init__(self, size: int, read: Callable[[int, int], bytes | memoryview]):
        self._size, self._read, self._at = size, read, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        stop = min(self._at + len(buffer), self._size)
        if stop <= self._at:
            return 0
        found = self._read(self._at, stop)
        buffer[: len(found)] = found
        self._at += len(found)
        return len(found)


def _pauses() -> Iterator[float]:
    """Seconds to wait after each try, longer every time, and not the same for all who wait."""
    end, pause = time.monotonic() + PATIENCE, _PAUSE_SECONDS[0]
    while time.monotonic() < end:
        yield pause * random.uniform(0.5, 1)
        pause = min(2 * pause, _PAUSE_SECONDS[1])


def _passes(error: Exception, root: str) -> bool:
    """Whether a failure may pass: not that of a request that is refused, nor of a bucket that has never given an answer."""
    refused = re.search(r"status code: (4(?!08|29)\d\d|501)", str(error))
    return not refused and (root in _answered or not re.search(r"after \d+ retries", str(error)))


def _variables() -> tuple[tuple[str, str], ...]:
    return tuple(sorted(pair for pair in os.environ.items() if pair[0].startswith(_VARIABLES)))


@functools.cache
def _store(root: str, variables: tuple[tuple[str, str], ...], known: bool) -> "ObjectStore":
    """The client of a bucket. variables: what it takes from the environment, as another client is needed where they differ.

    known: whether it has answered before. If not, patience is short: an address may be wrong, and without keys obstore asks a
    service for them that most machines lack.
    """
    from obstore.store import from_url

    addresses = {name: value for name, value in variables if "ENDPOINT" in name and value}
    for name, value in addresses.items():
        if not re.match(r"https?://[^/]", value):
            raise InputError(name, expected="an address such as https://host:port", found=value, fix="Correct it.")
    plain = any(value.startswith("http://") for value in addresses.values())  # an address that was given like that is meant
    seconds = _REQUEST_SECONDS if known else _FIRST_SECONDS
    options: Any = {"timeout": f"{seconds}s", "connect_timeout": "5s", "allow_http": plain}
    retries: Any = {} if known else {"retry_config": {"max_retries": 3, "retry_timeout": timedelta(seconds=seconds)}}
    return from_url(root, client_options=options, **retries)
