"""Verify: does a cache still hold the bytes that were sealed, and does its teacher still give these logits?"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pipeline.base import commands, randomness, runtime
from pipeline.base.differences import differences
from pipeline.base.errors import InputError, IntegrityError
from pipeline.base.randomness import Use
from pipeline.cache.identity import identity
from pipeline.cache.layout import SPLITS
from pipeline.cache.manifest import Record
from pipeline.cache.reader import Cache, Finding
from pipeline.cache.writer import require_sealed
from pipeline.data.splits import Split, open_splits
from pipeline.data.views import Policy
from pipeline.models.build import flops
from pipeline.models.checkpoint import Checkpoint
from pipeline.models.encoding import example
from pipeline.models.lookup import Lookup
from pipeline.models.predict import predict
from pipeline.models.showing import span_in_views
from pipeline.stats import metrics

TOLERANCE = 1e-5  # of the logit range: the last bits of float32 logits depend on the batch
CLEARLY = 10  # factor: a difference is that much above noise, a wrong row has that much more loss


@dataclass(frozen=True)
class Probe:
    """The result of a probe of sampled (row, view) pairs.

    difference: the largest between cached and fresh logits. control: the largest between two fresh runs with the rows in
    another order. limit: the largest difference that is allowed. aligned, shifted: mean KL, in nats, of the fresh logits to
    the cached ones of the same row, and of the next row; `shifted` is None if all rows have equal logits.
    """

    pairs: int
    difference: float
    control: float
    limit: float
    aligned: float
    shifted: float | None

    def findings(self, path: Path) -> list[Finding]:
        """The defects that these numbers show. If all rows have equal logits, alignment passes untested."""
        found = []
        if self.difference > self.limit:
            wanted = f"the logits of its teacher, within {self.limit:.2g}"
            found.append(Finding(f"{path}, {self.pairs} sampled logits", wanted, f"a difference of {self.difference:.2g}"))
        if self.shifted is not None and self.shifted < CLEARLY * self.aligned:
            wanted = f"a clearly larger loss against the next row (aligned {self.aligned:.2g} nats)"
            found.append(Finding(f"{path}, alignment of rows", wanted, f"{self.shifted:.2g} nats"))
        return found


@dataclass(frozen=True)
class Verified:
    """The result of a verification. spans, size_bytes, options: of the cache; 0 and none if its manifest is unreadable."""

    path: Path
    spans: int
    size_bytes: int
    findings: Sequence[Finding]
    options: Sequence[str] = ()


def verify(path: Path, *, work: Path, progress: Callable[[int], object] = lambda size: None) -> Verified:
    """Check that a cache is complete and unchanged: manifest, metadata, size and sha256 of every span, no stray file.

    Args:
        path: The cache folder.
        work: The folder for work in progress, where an unfinished capture is looked up.
        progress: Called after each span with its size in bytes, from several threads.

    Returns:
        The size of the cache, and all defects as findings; damage raises nothing.
    """
    try:
        require_sealed(path, work)
        cache = Cache.listed(path)
    except IntegrityError as error:
        return Verified(path, 0, 0, [Finding(error.what, error.expected, error.found)])
    findings = list(cache.shortcomings())
    short = {finding.where for finding in findings}

    def check(record: Record) -> Finding | None:
        found = None if cache.where(record) in short else cache.damage(record)
        progress(record.size_bytes)
        return found

    records = cache.manifest.records
    with ThreadPoolExecutor(runtime.cores()) as pool:
        findings += [finding for finding in pool.map(check, records) if finding]
    findings += cache.strays()
    return Verified(path, len(records), sum(record.size_bytes for record in records), findings, cache.manifest.options)


def size_bytes(path: Path) -> int:
    """Bytes of the spans of a cache, for a progress bar; 0 if the manifest is unreadable."""
    try:
        return sum(record.size_bytes for record in Cache.listed(path).manifest.records)
    except IntegrityError:
        return 0


def probe(path: Path, count: int, *, teacher: Path, splits: Path, device: torch.device) -> Probe:
    """Run a sample of the transfer set through the teacher again, and compare with the cached logits.

    Imported logits are looked up again instead.

    Args:
        path: The cache folder.
        count: How many (row, view) pairs, at most as many as there are. The sample is the same every time.
        teacher: The folder of the teacher.
        splits: The folder that ingest wrote.
        device: Where the teacher runs.

    Returns:
        The differences, and what they may be; `Probe.findings` judges them.

    Raises:
        InputError: Teacher, data or versions differ from those of the cache; the message names the field.
        IntegrityError: The cache, the splits or the teacher are damaged.
    """
    cache, opened = Cache.open(path), open_splits(splits, SPLITS)
    cache.require_data(opened)
    facts, split = cache.manifest.identity, opened["transfer"]
    policy = Policy.of(facts["views"])
    taught = Checkpoint.teacher(teacher)
    now = identity(taught, split, policy, facts["tile"], cache.layout)
    for field, expected, found in differences(facts, now):
        fix = f"Restore what the cache was made with, or run {commands.capture(path)}."
        raise InputError(f"{path}, {field}", expected=f"{expected} as in the cache", found=f"{found} now", fix=fix)
    total = cache.manifest.extents["transfer"].views
    rows, views = _sample(count, split.rows, total)
    cached, following = _read(cache, split, rows, views)
    if taught.kind == "imported":
        lookup = Lookup.open(taught, opened, policy, total)
        lookup.check()
        fresh = control = _look_up(lookup, rows, views)
    else:
        fresh, control = _run(taught.load(taught.nets[0], device), split, policy, rows, views, facts["tile"])
    records = [record for record in cache.manifest.records if record.split == "transfer"]
    low, high = min(record.low for record in records), max(record.high for record in records)
    noise = float(np.abs(fresh - control).max())
    rounding = max(-low, high) * 2.0**-11 if cache.layout.dtype == "float16" else 0.0
    return Probe(
        pairs=len(rows),
        difference=float(np.abs(cached - fresh).max()),
        control=noise,
        limit=max(TOLERANCE * (high - low), CLEARLY * noise) + rounding,
        aligned=metrics.kl_to_teacher(cached, fresh),
        shifted=None if (cached == following).all() else metrics.kl_to_teacher(following, fresh),
    )


def _sample(count: int, rows: int, views: int) -> tuple[np.ndarray, np.ndarray]:
    """Up to `count` different (row, view) pairs, ordered by row."""
    total = rows * views
    if 2 * count > total:
        pairs = randomness.permutation(total, 0, Use.PROBE, 0)
    else:
        pairs, draws = np.empty(0, np.int64), count
        while len(pairs) < count:
            drawn = randomness.integers(total, 0, Use.PROBE, np.arange(draws))
            pairs = drawn[np.sort(np.unique(drawn, return_index=True)[1])]  # each once, in the order of the draws
            draws *= 2
    pairs = np.sort(pairs[:count])
    return pairs // views, pairs % views


def _read(cache: Cache, split: Split, rows: np.ndarray, views: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pairs' cached logits (n, classes) float32, and those of the next row in the span."""
    cached, following = [], []
    for span in runtime.progress(np.unique(rows // split.span), "reading cached rows", unit="spans"):
        start, stop = split.spans()[span]
        here = (rows >= start) & (rows < stop)
        logits = {view: cache.span(cache.record("transfer", int(view), int(span))) for view in np.unique(views[here])}
        for row, view in zip(rows[here] - start, views[here], strict=True):
            cached.append(logits[view][row])
            following.append(logits[view][(row + 1) % (stop - start)])
    return np.stack(cached).astype(np.float32), np.stack(following).astype(np.float32)


def _run(
    net: torch.nn.Module, split: Split, policy: Policy, rows: np.ndarray, views: np.ndarray, tile: int
) -> tuple[np.ndarray, np.ndarray]:
    """Logits of the pairs from a net, (n, classes) float32, and again, with the rows in another order."""
    shown = []
    for span in runtime.progress(np.unique(rows // split.span), "reading sampled rows", unit="spans"):
        here = rows // split.span == span
        shown.append(span_in_views(net, split, int(span), rows[here] - span * split.span, views[here], policy))
    inputs = torch.cat(shown)
    with runtime.suited_threads(flops(net, example(net, split.inputs)) * tile):
        return predict(net, inputs, tile=tile), predict(net, inputs.flip(0), tile=tile)[::-1]


def _look_up(lookup: Lookup, rows: np.ndarray, views: np.ndarray) -> np.ndarray:
    """Imported logits of the pairs, (n, classes) float32."""
    pairs = zip(rows.tolist(), views.tolist(), strict=True)
    return np.concatenate([lookup.read("transfer", view, row, row + 1) for row, view in pairs])
