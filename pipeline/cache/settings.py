"""The settings of a capture. No torch is needed."""

from dataclasses import dataclass

from pipeline.base.errors import InputError
from pipeline.base.settings import setting

NONE = "none"  # of features


@dataclass(frozen=True)
class Keep:
    """What a cache keeps of its teacher, and how it is computed; see knowledge.Knowledge."""

    knowledge: str = setting(
        "What to keep: logits; hidden states, which give them through the teacher's last layer; or auto, what is smaller.",
        default="logits", choices=("logits", "hidden", "auto"),
    )  # fmt: skip
    dtype: str = setting(
        "float32 (exact), float16 (half the size), or int8 (a quarter; of hidden states only).",
        default="float32", choices=("float32", "float16", "int8"),
    )  # fmt: skip
    features: tuple[str, ...] = setting(
        "Layer whose outputs to keep as well, such as `layer3 | pool`; repeatable; or none.", default=()
    )
    tile: int = setting("Rows per forward pass.", default=512, least=1)

    @property
    def layers(self) -> tuple[str, ...]:
        """The features; the word none, which overrides those of params.yaml, is no feature."""
        return () if self.features == (NONE,) else self.features

    def require_dtype(self, kind: str) -> None:
        """Raise InputError for int8 logits. kind: logits or hidden."""
        if self.dtype == "int8" and kind == "logits":
            fix = "Choose one of these, or set `knowledge: hidden`."
            raise InputError("dtype", expected="float32 or float16, for logits", found="int8", fix=fix)
