"""Verify: does a cache still hold the bytes that were sealed, and does its teacher still give these logits?"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pipeline.base import commands, randomness, runtime
from pipeline.base.differences import differences
from pipeline.base.errors import InputError, IntegrityError
from pipeline.base.places import Place
from pipeline.base.randomness import Use
from pipeline.cache.identity import identity
from pipeline.cache.knowledge.hidden import Hidden
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

    logits: how they compare. hidden: how hidden states do, where they are kept. features: how each feature does.
    aligned, shifted: mean KL, in nats, of the fresh logits to the cached ones of the same row, and of the next row; `shifted`
    is None if all rows have equal logits.
    """

    pairs: int
    logits: "Compared"
    hidden: "Compared | None"
    features: Mapping[str, "Compared"]
    aligned: float
    shifted: float | None

    @property
    def compared(self) -> Mapping[str, "Compared"]:
        """All comparisons, by what they are of."""
        hidden = {} if self.hidden is None else {"hidden states": self.hidden}
        return {"logits": self.logits} | hidden | {f"feature {text}": each for text, each in self.features.items()}

    def findings(self, path: Place) -> list[Finding]:
        """The defects that these numbers show. If all rows have equal logits, alignment passes untested."""
        found = []
        for what, each in self.compared.items():
            if each.difference > each.limit:
                wanted = f"what its teacher gives, within {each.limit:.2g}"
                found.append(
                    Finding(f"{path}, {self.pairs} sampled rows, {what}", wanted, f"a difference of {each.difference:.2g}")
                )
        if self.shifted is not None and self.shifted < CLEARLY * self.aligned:
            wanted = f"a clearly larger loss against the next row (aligned {self.aligned:.2g} nats)"
            found.append(Finding(f"{path}, alignment of rows", wanted, f"{self.shifted:.2g} nats"))
        return found


@dataclass(frozen=True)
class Compared:
    """What is cached against what the teacher gives now.

    difference: between the cached and the fresh number that are worst, compared with what rounding allows there. limit: what is
    allowed there. control: the largest between two fresh runs with the rows in another order.
    """

    difference: float
    control: float
    limit: float

    @classmethod
    def of(cls, held: "_Numbers", fresh: np.ndarray, control: np.ndarray, extent: float) -> "Compared":
        """Compare the numbers of n rows, (n, …). extent: their range."""
        noise = float(np.abs(fresh - control).max())
        allowed = max(TOLERANCE * extent, CLEARLY * noise)
        apart, rounding = np.broadcast_arrays(np.abs(held.cached.astype(np.float32) - fresh), held.rounding)
        worst = int((apart - rounding).argmax())
        return cls(float(apart.flat[worst]), noise, allowed + float(rounding.flat[worst]))


@dataclass(frozen=True)
class Verified:
    """The result of a verification. spans, size_bytes, options: of the cache; 0 and none if its manifest is unreadable."""

    path: Place
    spans: int
    size_bytes: int
    findings: Sequence[Finding]
    options: Sequence[str] = ()


def verify(path: Place, *, work: Place, progress: Callable[[int], object] = lambda size: None) -> Verified:
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
    return Verified(path, spans, sum(record.size_bytes for record in records), findings, cache.options)


def size_bytes(path: Place) -> int:
    """Bytes of the spans of a cache, for a progress bar; 0 if the manifest is unreadable."""
    try:
        return sum(record.size_bytes for record in Cache.listed(path).manifest.records)
    except IntegrityError:
        return 0


def probe(path: Place, count: int, *, teacher: Place, splits: Place, device: torch.device) -> Probe:
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
    _require_same(
        path, facts, identity(taught, split, policy, facts["tile"], kept)
    )  # before another net is asked for its layers
    running = None if taught.kind == "imported" else Running(taught, policy, opened, keep, device)
    if running is not None:
        _require_same(path, facts, identity(taught, split, policy, facts["tile"], running.knowledge))
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
    first = len(fresh) - len(kept.features)
    others = zip(cached.features.items(), fresh[first:], control[first:], strict=True)
    return Probe(
        pairs=len(rows),
        logits=Compared.of(cached.logits, fresh[0], control[0], extent),
        hidden=None if cached.hidden is None else Compared.of(cached.hidden, fresh[1], control[1], _extent(fresh[1])),
        features={text: Compared.of(held, found, again, _extent(found)) for (text, held), found, again in others},
        aligned=metrics.kl_to_teacher(cached.logits.cached, fresh[0]),
        shifted=(
            None if (cached.logits.cached == cached.following).all() else metrics.kl_to_teacher(cached.following, fresh[0])
        ),
    )


def _extent(numbers: np.ndarray) -> float:
    return float(numbers.max() - numbers.min())


def _require_same(path: Place, facts: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise InputError unless an identity of any format is what it would be now; the former ones did not say what they kept."""
    said = facts if "knowledge" in facts else {**facts, "knowledge": Knowledge.of(facts).to_dict()}
    for field, expected, found in differences(said, now):
        fix = f"Restore what the cache was made with, or run {commands.capture(path)}."
        raise InputError(f"{path}, {field}", expected=f"{expected} as in the cache", found=f"{found} now", fix=fix)


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
class _Numbers:
    """Cached numbers of n pairs, (n, …) floats, and by how much rounding may have changed each of them, of a shape to match."""

    cached: np.ndarray
    rounding: np.ndarray


@dataclass(frozen=True)
class _Cached:
    """What a cache has of n pairs. following: (n, classes) float32, the logits of the next row in the span.

    hidden: None where logits are kept. features: by text.
    """

    logits: _Numbers
    following: np.ndarray
    hidden: _Numbers | None
    features: Mapping[str, _Numbers]


def _read(cache: Cache, split: Split, rows: np.ndarray, views: np.ndarray) -> _Cached:
    """Read what the cache has of these pairs; of one span and view at a time, because those of features may be large."""
    kept, spans = cache.knowledge, rows // split.span
    logits, following = np.empty((2, len(rows), cache.classes), np.float32)
    rounding = np.empty((len(rows), 1), np.float32)
    hidden = np.empty((2, len(rows), *cache.layout.shape), np.float32) if isinstance(kept.main, Hidden) else None
    features = {text: np.empty((len(rows), *each.shape), each.dtype) for text, each in kept.features.items()}
    places = np.unique(np.stack([spans, views], axis=1), axis=0).tolist()
    for span, view in runtime.progress(places, "reading cached rows", unit="spans"):
        here, (start, stop) = (spans == span) & (views == view), split.spans()[span]
        inside = rows[here] - start
        stored = cache.held("transfer", view, span)
        given = kept.main.logits(stored, cache.head)
        logits[here], following[here] = given[inside], given[(inside + 1) % (stop - start)]
        sampled = {name: block[inside] for name, block in stored.items()}
        rounding[here, 0] = kept.main.rounding(sampled, cache.head)
        if hidden is not None and isinstance(kept.main, Hidden):
            hidden[0, here], hidden[1, here] = kept.main.restored(sampled, cache.head), kept.main.off(sampled, cache.head)
        for text, block in features.items():
            block[here] = cache.feature(text, "transfer", view, span)[inside]
    return _Cached(
        _Numbers(logits, rounding),
        following,
        None if hidden is None else _Numbers(*hidden),
        {text: _Numbers(block, kept.features[text].layout.rounding(block)) for text, block in features.items()},
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
