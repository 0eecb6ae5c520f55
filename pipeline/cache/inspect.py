"""Inspect: what a cache is, in words and numbers that a person asks for."""

from pathlib import Path
from typing import Any

from pipeline.base.errors import InputError
from pipeline.cache.layout import ARRAYS, SPLITS
from pipeline.cache.provenance import Provenance
from pipeline.cache.reader import Cache
from pipeline.cache.writer import require_sealed
from pipeline.data.splits import UNLABELLED, open_splits
from pipeline.stats import metrics


def inspect(path: Path, *, splits: Path, provenance: Path, work: Path) -> dict[str, Any]:
    """Facts about a sealed cache, as plain values that JSON can hold.

    splits: the folder that ingest wrote, for the labels that accuracy is measured with, on validation and transfer rows.
    provenance: the file that capture wrote beside the cache. Either may be missing or of another cache: then what it
    would tell is null. Raises IntegrityError for a cache that is not sealed or not all there, and for damaged splits or
    provenance.
    """
    require_sealed(path, work)
    cache = Cache.open(path)
    manifest, layout = cache.manifest, cache.layout
    extents, records = manifest.extents, manifest.records
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return {
        "cache": str(path),
        "digest": manifest.digest,
        "teacher": manifest.identity["teacher"],
        "classes": manifest.identity["classes"],
        "inputs": manifest.identity["inputs"] | {"digest": extents["transfer"].inputs_digest},
        "views": manifest.identity["views"] | {"count": extents["transfer"].views},
        "arrays": {
            split: {"path": f"{ARRAYS}/{split}", "shape": [extent.views, extent.rows, layout.classes]}
            for split, extent in extents.items()
        },
        "dtype": layout.dtype,
        "span_rows": layout.span,
        "spans": len(records),
        "size_bytes": size,
        "bytes_per_row": size / sum(extent.rows for extent in extents.values()),
        "logit_range": [min(record.low for record in records), max(record.high for record in records)],
        "accuracy": _accuracy(cache, splits),
        "created_by": _created_by(provenance, manifest.digest),
    }


def _accuracy(cache: Cache, splits: Path) -> dict[str, float] | None:
    """Share of labelled rows, untouched, that the teacher gets right; the test split's labels are for `evaluate` alone."""
    try:
        opened = open_splits(splits, SPLITS)
        cache.require_data(opened)
    except InputError:
        return None
    found = {}
    for name in ("transfer", "valid"):
        labels = opened[name].labels()
        right = known = 0
        for span, (start, stop) in enumerate(opened[name].spans()):
            given = labels[start:stop]
            logits = cache.span(cache.record(name, 0, span))[given != UNLABELLED]
            known += len(logits)
            right += len(logits) - metrics.errors(logits, given[given != UNLABELLED])
        if known:
            found[name] = right / known
    return found


def _created_by(path: Path, digest: str) -> dict[str, Any] | None:
    found = Provenance.open(path)
    return vars(found) if found is not None and found.manifest == digest else None
