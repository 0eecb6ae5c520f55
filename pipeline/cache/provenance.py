"""Provenance: where and with what a cache was made, and how long it took. For people, and for what it cost; no more."""

from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.base import commands, facts, files
from pipeline.base.errors import InputError


@dataclass(frozen=True)
class Provenance:
    """What lies beside a cache. manifest: the digest of that cache's manifest. spans_kept: from an earlier capture."""

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

    def write(self, path: Path) -> None:
        """Write it with its digest."""
        files.write(path, facts.sealed(asdict(self)))

    @classmethod
    def open(cls, path: Path) -> "Provenance | None":
        """Read it; None where there is none. Raises IntegrityError where it is damaged."""
        try:
            found, _ = facts.read(cls, path, f"Run {commands.capture(path.with_suffix(''))}, which writes it anew.")
        except InputError:
            return None
        return found
