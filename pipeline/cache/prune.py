"""Prune: what in a store is in nobody's way but costs room: former generations, and what was given up half-way."""

from dataclasses import dataclass

from pipeline.base import files
from pipeline.base.places import GENERATION, ObjectPlace
from pipeline.cache.manifest import FILE_NAME as MANIFEST


@dataclass(frozen=True)
class Superseded:
    """A folder that no artifact needs. size_bytes: of all that is below it."""

    place: ObjectPlace
    size_bytes: int


def superseded(data: ObjectPlace) -> list[Superseded]:
    """The generations in a store that are not the present ones, with what belongs to them.

    Captures that are unfinished are left out, as they will be gone on with. What another process puts at this moment is not: no
    other may write there while it is removed.

    Args:
        data: The folder of all data.

    Returns:
        Their folders, sorted.

    Raises:
        IntegrityError: A current.json is damaged, so that the present generation is not known.
    """
    held: dict[ObjectPlace, int] = {}
    sealed: set[ObjectPlace] = set()  # generations of caches that have a manifest
    for place, size in data.objects():
        for folder in place.parents:
            if GENERATION.fullmatch(folder.name.removesuffix(files.WORK)):
                held[folder] = held.get(folder, 0) + size
                if place.name == MANIFEST and place.parent == folder:
                    sealed.add(folder)
    present = {folder.parent: files.current(folder.parent) for folder in held}
    found = []
    for folder, size in sorted(held.items()):
        generation = ObjectPlace(folder.url.removesuffix(files.WORK))
        unfinished = ObjectPlace(f"{generation}{files.WORK}") in held and generation not in sealed
        if generation != present[folder.parent] and not unfinished:
            found.append(Superseded(folder, size))
    return found
