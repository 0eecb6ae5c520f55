"""Resizing: to what size images of several sizes are brought, and how; softcache_export.resized does it."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.base.errors import InputError

FITS = ("crop", "pad", "stretch")


@dataclass(frozen=True)
class Resizing:
    """size: (height, width) in pixels; None where all images have one size already. fit: one of FITS."""

    size: tuple[int, int] | None = None
    fit: str = "crop"

    @classmethod
    def of(cls, size: Sequence[int], fit: str) -> "Resizing":
        """From settings. size: none, one number for both, or height and width. Raises InputError for others."""
        if fit not in FITS:
            raise InputError("fit", expected=" or ".join(FITS), found=repr(fit), fix="Correct the setting.")
        if not size:
            return cls(None, fit)
        if len(size) > 2 or min(size) < 1:
            expected = "a number of pixels, or [height, width]"
            raise InputError("size", expected=expected, found=str(list(size)), fix="Correct the setting.")
        return cls((size[0], size[-1]), fit)
