"""The arithmetic of docs/scaling.md: what caches too large for this machine will take, from how the library lays them out."""

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipeline.cache.knowledge.hidden import Hidden
from pipeline.cache.knowledge.knowledge import Knowledge
from pipeline.data.splits import span_rows

if TYPE_CHECKING:
    from benchmarks.scaling import Constants

PAGE = 1000  # objects in the reply to one LIST
OBJECTS = 2  # that are put for every file of a span: itself and its record
TOKEN_FILE = 65_000_000  # bytes of a file of top-k logits, which the library does not write yet: as large as other spans


@dataclass(frozen=True)
class Gpu:
    """A GPU. flops: its peak a second, in float32, in which captures run. share: of that, which a teacher reaches."""

    name: str
    flops: float
    share: float

    def hours(self, flops: float) -> float:
        """Hours for so many operations."""
        return flops / (self.flops * self.share) / 3600


H100 = Gpu("H100 SXM", 67e12, 0.5)  # peak: NVIDIA's data sheet, FP32 without tensor cores; the share is assumed
VIT = 2 * 61.55e9  # operations an image: ViT-L/16 at 224, 61.55e9 multiply-adds by torchvision's documentation of vit_l_16
LANGUAGE = 2 * 8e9  # operations a token: two a weight, of 8e9 (Kaplan et al. 2020, arXiv 2001.08361, section 2.1)
IMAGE_BYTES = 3 * 224 * 224  # of an input, decoded
TOKEN_BYTES = 4


@dataclass(frozen=True)
class Plan:
    """Caches of one transfer set.

    input_bytes: of a row, once it is decoded. flops: of a teacher, for a row. kept: the dtype. width: of hidden states.
    """

    what: str
    rows: int
    classes: int
    input_bytes: int
    flops: float
    kept: str
    width: int | None = None
    views: int = 1
    teachers: int = 1

    @property
    def span(self) -> int:
        """Rows of a span."""
        return span_rows(self.classes, self.input_bytes)

    @property
    def knowledge(self) -> Knowledge:
        """What is kept."""
        if self.width is None:
            return Knowledge.of_logits(self.classes, self.kept, self.span)
        return Knowledge(Hidden.plan(self.width, self.kept, self.span, "head", ""))

    @property
    def spans(self) -> int:
        """Of all views and teachers."""
        return self.teachers * self.views * -(-self.rows // self.span)

    @property
    def files(self) -> int:
        """Of spans: int8 has a second one for scales."""
        return self.spans * len(self.knowledge.arrays)

    @property
    def size_bytes(self) -> int:
        """Of all spans."""
        whole, rest = divmod(self.rows, self.span)
        one = whole * self.knowledge.shard_bytes(self.span) + (self.knowledge.shard_bytes(rest) if rest else 0)
        return self.teachers * self.views * one

    @property
    def passes(self) -> float:
        """Operations of all forward passes."""
        return self.flops * self.rows * self.views * self.teachers


@dataclass(frozen=True)
class TopK(Plan):
    """The k largest logits of a row: a number and a float16 of each, and the logarithm of the sum of all exponentials."""

    k: int = field(default=64, kw_only=True)

    @property
    def size_bytes(self) -> int:
        return self.rows * (self.k * (4 + 2) + 4)

    @property
    def files(self) -> int:
        return math.ceil(self.size_bytes / TOKEN_FILE)


IMAGENET = ("ImageNet-1k × 8 views × 4 teachers", 1_281_167, 1000, IMAGE_BYTES, VIT)
IMAGES = ("100 M images × 1,000 classes", 100_000_000, 1000, IMAGE_BYTES, VIT)
TOKENS = ("1e9 tokens × 128,000 classes", 1_000_000_000, 128_000, TOKEN_BYTES, LANGUAGE)
PLANS = (
    Plan(*IMAGENET, "float32", views=8, teachers=4),
    Plan(*IMAGENET, "float16", views=8, teachers=4),
    Plan(*IMAGES, "float16"),
    Plan(*IMAGES, "float16", width=2048),
    Plan(*IMAGES, "int8", width=2048),
    Plan(*TOKENS, "float16"),
    Plan(*TOKENS, "float16", width=4096),
    Plan(*TOKENS, "int8", width=4096),
    TopK(*TOKENS, "float16"),
)


def page(found: "Constants") -> str:
    """The two tables of the page: what the plans take, and the figures that some of it comes from."""
    cells = [[
        "what", "kept", "rows a span", "bytes", "files", "PUT", "LIST", "GET an epoch", "manifest, each", "core hours",
        f"{H100.name} hours",
    ]]  # fmt: skip
    cells += [_row(each, found) for each in PLANS]
    lines = [_line(cells[0]), _line(["---", "---", *["---:"] * (len(cells[0]) - 2)]), *map(_line, cells[1:])]
    return "\n".join([*lines, "", *_measured(found)]) + "\n"


def _row(plan: Plan, found: "Constants") -> list[str]:
    what = f"hidden states, {plan.width:,} {plan.kept}" if plan.width else f"logits, {plan.kept}"
    top = isinstance(plan, TopK)
    return [
        plan.what, f"top {plan.k} logits: a plan only" if isinstance(plan, TopK) else what, "" if top else f"{plan.span:,}",
        size(plan.size_bytes), f"{plan.files:,}", f"{OBJECTS * plan.files:,}", f"{math.ceil(plan.files / PAGE):,}",
        f"{plan.files:,}", size(plan.files / plan.teachers * found.manifest_bytes),
        amount(plan.size_bytes / (found.encode * 1e6) / 3600), amount(H100.hours(plan.passes)),
    ]  # fmt: skip


def _measured(found: "Constants") -> list[str]:
    opened = ", ".join(f"{int(count):,} spans in {seconds:.1f} s" for count, seconds in found.opening.items())
    speeds = {
        "encode and sha256": found.encode,
        "publish: that, write, fsync, record": found.publish,
        "read for the first time": found.read,
        "read again": found.again,
        "put into a store": found.put,
        "get from a store": found.get,
    }
    return [
        _line(["measured", f"spans of {size(found.span_bytes)}, one process"]),
        _line(["---", "---:"]),
        *(_line([what, "—" if speed is None else f"{speed:,.0f} MB/s"]) for what, speed in speeds.items()),
        _line(["one such span, published", f"{found.span_seconds:.2f} s"]),
        _line(["a span in a manifest; its record", f"{found.manifest_bytes:.0f} B; {found.record_bytes:.0f} B"]),
        _line(["a manifest opens", opened]),
        "",
        f"On {found.machine}; the store is SeaweedFS there.",
    ]


def size(count: float) -> str:
    """Bytes, with three digits."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{amount(count)} {unit}"
        count /= 1000
    return f"{amount(count)} TB"


def amount(number: float) -> str:
    """A number with three digits, or all before the point."""
    return f"{number:,.{max(0, 2 - math.floor(math.log10(number)))}f}" if number > 0 else "0"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
