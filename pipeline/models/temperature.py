"""Temperature: the range of T, which divides logits before the softmax (Hinton et al. 2015, arXiv 1503.02531, section 2)."""

from pipeline.base.errors import InputError

LEAST, MOST = 1e-6, 1e6  # beyond these, float64 is too coarse for T² and logits / T


def require_temperature(value: float) -> None:
    """Raise InputError for a T that is not a number from LEAST to MOST."""
    if not LEAST <= value <= MOST:
        expected = f"a number from {LEAST:g} to {MOST:g}"
        raise InputError("temperature", expected=expected, found=str(value), fix="Correct the setting.")
