"""Processor: how the image processor in a pretrained folder scales pixels, and for images of which size."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.base.errors import InputError, first_line
from pipeline.base.libraries import needed
from pipeline.models.pretrained import WHAT, unusable
from pipeline.models.scaled import Scaled
from pipeline.models.zoo.requirements import require

PREPROCESSOR = "preprocessor_config.json"
# What image processors do that is done here, or by ingest.
DONE = {"do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb", "do_reduce_labels"}


def processor_of(folder: Path) -> Any:
    """The image processor of a folder, with the library's defaults for what its file does not say."""
    has = (folder / PREPROCESSOR).is_file()
    require(has, f"{WHAT}, {folder}", f"{PREPROCESSOR}, as its image processor's save_pretrained writes it", "none")
    try:
        return needed("transformers", WHAT).AutoImageProcessor.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
    except InputError:
        raise
    except Exception as error:
        raise unusable(folder / PREPROCESSOR, "an image processor that transformers can load", error) from error


def native_size(facts: Mapping[str, Any], config: Any) -> tuple[int, int] | None:
    """Height and width of the images that a model was made for, if its folder says."""
    crop = facts.get("crop_size") if facts.get("do_center_crop") else None
    size, side = crop or facts.get("size") or {}, getattr(config, "image_size", None)
    if "height" in size and "width" in size:
        return int(size["height"]), int(size["width"])
    side = size.get("shortest_edge") or side
    return (side, side) if isinstance(side, int) else None


def scaling(facts: Mapping[str, Any], channels: int) -> tuple[list[float], list[float]]:
    """What is subtracted from pixels in [0, 1], and what they are divided by then, for each channel."""
    factor = 255 * facts["rescale_factor"] if facts.get("do_rescale") else 255.0  # of pixels in [0, 1]
    normal = facts.get("do_normalize")
    mean, std = (_each(facts.get(name) if normal else None, channels) for name in ("image_mean", "image_std"))
    return [each / factor for each in mean or [0.0] * channels], [each / factor for each in std or [1.0] * channels]


def require_same_pixels(folder: Path, processor: Any, scaled: Scaled) -> None:
    """Raise InputError where the library makes other values of a small image than `scaled` shows its net."""
    pixels = np.random.default_rng(0).integers(0, 256, (7, 9, scaled.channels), dtype=np.uint8)
    kept = {"do_resize": False, "do_center_crop": False, "input_data_format": "channels_last"}
    found: Any
    try:
        (found,) = processor(pixels, return_tensors="np", **kept)["pixel_values"]
    except Exception as error:
        found = first_line(error)
    own = ((torch.from_numpy(pixels).permute(2, 0, 1) / 255 - scaled.mean) / scaled.std).numpy()
    if isinstance(found, np.ndarray) and found.shape == own.shape and np.allclose(found, own, rtol=0, atol=1e-4 * np.ptp(own)):
        return
    more = sorted(name for name, value in processor.to_dict().items() if value is True and name not in DONE)
    told = ", ".join(f"{name}: true" for name in more) or (found if isinstance(found, str) else "another scaling")
    fix = "Import its logits instead: `softcache adopt NAME --logits FILE`."
    expected = "an image processor that resizes, crops and scales, and does nothing else"
    raise InputError(f"{WHAT}, {folder / PREPROCESSOR}", expected=expected, found=told, fix=fix)


def _each(value: Any, channels: int) -> list[float]:
    """A number for each channel, of a list of them or of one for all; none of None."""
    return [value] * channels if isinstance(value, int | float) else list(value or ())
