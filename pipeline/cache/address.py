"""The address of a cache whose spans are kept apart: beside its manifest, which alone then lies in the folder of the cache.

DVC tracks the two small files. The spans lie in a folder that is named after all that they are of, and stay there when another
cache of the same name is captured: a manifest of before, which DVC brings back, finds its own.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.base import commands, facts, files
from pipeline.base.places import Place, place
from pipeline.cache.manifest import FILE_NAME as MANIFEST
from pipeline.cache.manifest import Manifest

FILE_NAME = "address.json"


@dataclass(frozen=True)
class Address:
    """The content of the file. place: the folder of the spans, a path or a URL."""

    place: str

    def write(self, cache: Path, manifest: Manifest) -> None:
        """Make a folder a cache whose spans lie at this address."""
        with files.replaced_folder(cache) as folder:
            files.write(folder / FILE_NAME, facts.sealed(asdict(self)))
            files.write(folder / MANIFEST, manifest.to_json())


def base_of(cache: Place, folder: Place) -> Place:
    """Where the files of a cache lie, its manifest apart: at its address if it has one. folder: where the manifest is.

    Raises IntegrityError if the address is damaged.
    """
    if not isinstance(folder, Path) or not (folder / FILE_NAME).is_file():
        return folder
    found, _ = facts.read(Address, folder / FILE_NAME, f"Run {commands.capture(cache)}, which writes it anew.")
    return place(found.place)
