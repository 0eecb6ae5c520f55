"""Provenance: the machine that made a cache, and the time that it took. For people, and for `softcache cost`."""

from dataclasses import asdict, dataclass

from pipeline.base import commands, facts, files
from pipeline.base.errors import InputError
from pipeline.base.places import Place


@dataclass(frozen=True)
class Provenance:
    """The facts in the file, of one of the machines if there were several.

    manifest: digest of the cache's manifest. spans_kept: those of an earlier run. seconds: now. workers: processes that ran it.
    """

    teacher: str
    manifest: str
    host: str
    system: str
    processor: str
    device: str
    threads: int
    python: str
    torch: str
    numpy: str
    zarr: str
    spans_computed: int
    spans_kept: int
    seconds: float
    workers: int = 1

    def write(self, path: Place) -> None:
        """Write the file, with its digest."""
        files.write(path, facts.sealed(asdict(self)))

    @classmethod
    def open(cls, path: Place) -> "Provenance | None":
        """Read the file; None if there is none. Raises IntegrityError if it is damaged."""
        try:
            found, _ = facts.read(cls, path, f"Run {commands.capture(path.with_suffix(''))}, which writes it anew.")
        except InputError:
            return None
        return found
