"""Verify: does a cache still hold the bytes that were sealed, and does its teacher still give these logits?"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.base import commands, randomness, runtime
from pipeline.base.differences import differences
from pipeline.base.errors import InputError, IntegrityError
from pipeline.base.randomness import Use
from pipeline.cache.identity import identity
from pipeline.cache.knowledge.knowledge import Knowledge
from pipeline.cache.layout import SPLITS
from pipeline.cache.manifest import Record
from pipeline.cache.reader import Cache, Finding
from pipeline.cache.running import Running
from pipeline.cache.settings import Keep
from pipeline.cache.writer import require_sealed
from pipeline.data.splits import Split, open_splits
from pipeline.data.views import Policy
from pipeline.models.checkpoint import Checkpoint
from pipeline.models.lookup import Lookup
from pipeline.models.showing import span_in_views
from pipeline.stats import metrics

TOLERANCE = 1e-5  # of the logit range: the last bits of float32 logits depend on the batch
CLEARLY = 10  # factor: a difference is that much above noise, a wrong row has that much more loss


@dataclass(frozen=True)
class Probe:
    """The result of a probe of sampled (row, view) pairs.

    logits: how they compare. features: how each feature does. aligned, shifted: mean KL, in nats, of the fresh logits to the
    cached ones of the same row, and of the next row; `shifted` is None if all rows have equal logits.
    """

    pairs: int
    logits: "Compared"
    features: Mapping[str, "Compared"]
    aligned: float
    shifted: float | None

    def findings(self, path: Path) -> list[Finding]:
        """The defects that these numbers show. If all rows have equal logits, alignment passes untested."""
        found = []
        for what, each in {"logits": self.logits, **self.features}.items():
            if each.difference > each.limit:
                wanted = f"the {'logits' if what == 'logits' else 'feature'} of its teacher, within {each.limit:.2g}"
                where = f"{path}, {self.pairs} sampled {'logits' if what == 'logits' else f'rows of {what}'}"
                found.append(Finding(where, wanted, f"a difference of {each.difference:.2g}"))
        if self.shifted is not None and self.shifted < CLEARLY * self.aligned:
            wanted = f"a clearly larger loss against the next row (aligned {self.aligned:.2g} nats)"
            found.append(Finding(f"{path}, alignment of rows", wanted, f"{self.shifted:.2g} nats"))
        return found


@dataclass(frozen=True)
class Compared:
    """What is cached against what the teacher gives now.

    difference: the largest between cached and fresh numbers. control: the largest between two fresh runs with the rows in
    another order. limit: the largest difference that is allowed.
    """

    difference: float
    control: float
    limit: float

    @classmethod
    def of(
        cls, cached: np.ndarray, fresh: np.ndarray, control: np.ndarray, extent: float, rounding: np.ndarray | float
    ) -> "Compared":
        """Compare the numbers of n rows. extent: their range. rounding: what storing them may change, of each row or of all."""
        noise = float(np.abs(fresh - control).max())
        allowed = max(TOLERANCE * extent, CLEARLY * noise)
        apart = np.abs(cached.astype(np.float32) - fresh).reshape(len(fresh), -1).max(axis=1)
        worst = int((apart - rounding).argmax())
        limit = allowed + (float(rounding[worst]) if isinstance(rounding, np.ndarray) else rounding)
        return cls(float(apart[worst]), noise, limit)


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
    spans = len({record.part for record in records})
    with ThreadPoolExecutor(runtime.cores()) as pool:
        findings += [finding for finding in pool.map(check, records) if finding]
    findings += cache.strays()
    return Verified(path, spans, sum(record.size_bytes for record in records), findings, cache.manifest.options)


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
    kept = cache.knowledge
    keep = Keep(kept.main.name, cache.layout.dtype, tuple(kept.features), max(facts["tile"], 1))
    running = None if taught.kind == "imported" else Running(taught, policy, opened, keep, device)
    now = identity(taught, split, policy, facts["tile"], running.knowledge if running else kept)
    for field, expected, found in differences(_comparable(facts), now):
        fix = f"Restore what the cache was made with, or run {commands.capture(path)}."
        raise InputError(f"{path}, {field}", expected=f"{expected} as in the cache", found=f"{found} now", fix=fix)
    total = cache.manifest.extents["transfer"].views
    rows, views = _sample(count, split.rows, total)
    cached = _read(cache, split, rows, views)
    if running is None:
        lookup = Lookup.open(taught, opened, policy, total)
        lookup.check()
        fresh = control = [_look_up(lookup, rows, views)]
    else:
        fresh, control = _run(running, split, rows, views)
    records = [record for record in cache.records if record.split == "transfer"]
    extent = max(record.high for record in records) - min(record.low for record in records)
    features = {}
    first = len(fresh) - len(kept.features)
    for text, now_given, again in zip(kept.features, fresh[first:], control[first:], strict=True):
        rounding = 2.0**-11 * float(np.abs(now_given).max()) if kept.features[text].dtype == "float16" else 0.0
        span = float(now_given.max() - now_given.min())
        features[text] = Compared.of(cached.features[text], now_given, again, span, rounding)
    same = (cached.logits == cached.following).all()
    return Probe(
        pairs=len(rows),
        logits=Compared.of(cached.logits, fresh[0], control[0], extent, cached.rounding),
        features=features,
        aligned=metrics.kl_to_teacher(cached.logits, fresh[0]),
        shifted=None if same else metrics.kl_to_teacher(cached.following, fresh[0]),
    )


def _comparable(facts: Mapping[str, Any]) -> Mapping[str, Any]:
    """An identity of any format, as it would be written now: the former ones kept logits, and did not say so."""
    return facts if "knowledge" in facts else {**facts, "knowledge": Knowledge.of(facts).to_dict()}


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


@dataclass(frozen=True)
class _Cached:
    """What a cache has of n pairs. logits, following: (n, classes) float32, of the row and of the next one in the span.

    rounding: by how much the logits of each row may be off because numbers were rounded: (n,). features: by text.
    """

    logits: np.ndarray
    following: np.ndarray
    rounding: np.ndarray
    features: Mapping[str, np.ndarray]


def _read(cache: Cache, split: Split, rows: np.ndarray, views: np.ndarray) -> _Cached:
    """Read what the cache has of these pairs, which are ordered by row."""
    kept, pieces = cache.knowledge, []
    for span in runtime.progress(np.unique(rows // split.span), "reading cached rows", unit="spans"):
        start, stop = split.spans()[span]
        for row, view in zip(rows, views, strict=True):
            if start <= row < stop:
                pieces.append((int(span), int(view), int(row - start), int((row - start + 1) % (stop - start))))
    logits, following, rounding, features = [], [], [], {text: [] for text in kept.features}  # type: ignore[var-annotated]
    held: dict[tuple[int, int], Any] = {}
    for span, view, row, after in pieces:
        if (span, view) not in held:
            held = {key: found for key, found in held.items() if key[0] == span}  # of one span at a time
            stored = cache.held("transfer", view, span)
            read = {text: cache.feature(text, "transfer", view, span) for text in kept.features}
            held[span, view] = stored, kept.main.logits(stored, cache.head), read
        stored, given, read = held[span, view]
        logits.append(given[row])
        following.append(given[after])
        rounding.append(kept.main.rounding({name: block[row : row + 1] for name, block in stored.items()}, cache.head)[0])
        for text, block in read.items():
            features[text].append(block[row])
    stacked = {text: np.stack(found) for text, found in features.items()}
    return _Cached(
        np.stack(logits).astype(np.float32), np.stack(following).astype(np.float32), np.array(rounding, np.float32), stacked
    )


def _run(running: Running, split: Split, rows: np.ndarray, views: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """What a net gives for the pairs, logits first, and again, with the rows in another order."""
    shown = []
    for span in runtime.progress(np.unique(rows // split.span), "reading sampled rows", unit="spans"):
        here = rows // split.span == span
        inside = rows[here] - span * split.span
        shown.append(span_in_views(running.load(), split, int(span), inside, views[here], running.policy))
    inputs = torch.cat(shown)
    return running.run(inputs), [each[::-1] for each in running.run(inputs.flip(0))]


def _look_up(lookup: Lookup, rows: np.ndarray, views: np.ndarray) -> np.ndarray:
    """Imported logits of the pairs, (n, classes) float32."""
    pairs = zip(rows.tolist(), views.tolist(), strict=True)
    return np.concatenate([lookup.read("transfer", view, row, row + 1) for row, view in pairs])
