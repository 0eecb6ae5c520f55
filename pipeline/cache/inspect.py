"""Inspect: the facts about a cache, for people."""

from typing import Any

from pipeline.base import files
from pipeline.base.errors import InputError
from pipeline.base.places import Place
from pipeline.cache.knowledge.knowledge import TEMPERATURES, Knowledge
from pipeline.cache.layout import ENDING, SPLITS
from pipeline.cache.provenance import Provenance
from pipeline.cache.reader import Cache
from pipeline.cache.writer import require_sealed
from pipeline.data.splits import UNLABELLED, open_splits
from pipeline.stats import metrics


def inspect(path: Place, *, splits: Place, provenance: Place, work: Place) -> dict[str, Any]:
    """Facts about a sealed cache, as plain values that JSON can hold.

    Args:
        path: The cache folder.
        splits: The folder that ingest wrote. `accuracy` needs its labels; it is None if the splits are missing or do not fit.
        provenance: The file that capture wrote. `created_by` is None if it is missing or belongs to another cache.
        work: The folder for work in progress, where an unfinished capture is looked up.

    Returns:
        By name: where the files lie, the teacher, classes, inputs, views, the arrays that give logits, dtype, what is kept and
        its bytes, sizes in bytes, how far logits are from the teacher's, the range of the logits, the share of labelled
        transfer and validation rows that the teacher gets right, and where the cache was made.

    Raises:
        IntegrityError: The cache is unfinished or incomplete, or the splits or the provenance file are damaged.
    """
    require_sealed(path, work)
    cache = Cache.open(path)
    manifest, layout = cache.manifest, cache.layout
    extents, records, kept = manifest.extents, cache.records, cache.knowledge
    made = Provenance.open(provenance)
    size = sum(files.sizes(cache.base).values())
    return {
        "cache": str(path),
        "lies_in": str(cache.base if cache.base != cache.folder else path),
        "digest": manifest.digest,
        "teacher": manifest.identity["teacher"],
        "classes": manifest.identity["classes"],
        "inputs": manifest.identity["inputs"] | {"digest": extents["transfer"].inputs_digest},
        "views": manifest.identity["views"] | {"count": extents["transfer"].views},
        "arrays": {
            split: {"path": f"{kept.main.name}{ENDING}/{split}", "shape": [extent.views, extent.rows, cache.classes]}
            for split, extent in extents.items()
        },
        "dtype": layout.dtype,
        "knowledge": kept.main.name,
        "kept": {
            name: {"shape": list(each.shape), "dtype": each.dtype, "size_bytes": _bytes(cache, name)}
            for name, each in kept.arrays.items()
        },
        "size_as_logits": _as_logits(cache),
        "exact": kept.main.exact,
        "kl": _distance(cache),
        "span_rows": layout.span,
        "spans": len(records),
        "size_bytes": size,
        "bytes_per_row": size / sum(extent.rows for extent in extents.values()),
        "logit_range": [min(record.low for record in records), max(record.high for record in records)],
        "accuracy": _accuracy(cache, splits),
        "created_by": vars(made) if made is not None and made.manifest == manifest.digest else None,
    }


def _bytes(cache: Cache, array: str) -> int:
    """Bytes of the spans of an array."""
    return sum(record.size_bytes for record in cache.manifest.records if record.array == array)


def _as_logits(cache: Cache) -> int:
    """Bytes that float32 logits would take."""
    plain, manifest = Knowledge.of_logits(cache.classes, "float32", cache.layout.span), cache.manifest
    return sum(plain.shard_bytes(stop - start) for start, stop in map(manifest.rows_of, cache.records))


def _distance(cache: Cache) -> dict[str, float] | None:
    """Mean KL of the teacher to what is read, in nats, by temperature, over the rows that capture compared.

    Until format 3 it is unknown, and None, but for float32 logits, which are as the teacher gave them.
    """
    if cache.knowledge.main.exact:
        return {f"{each:g}": 0.0 for each in TEMPERATURES}
    weighed = [(stop - start, record.kl) for record in cache.records for start, stop in [cache.manifest.rows_of(record)]]
    known = [(rows, kl) for rows, kl in weighed if kl is not None]
    if len(known) < len(weighed):
        return None
    total = sum(rows for rows, _ in known)
    return {f"{t:g}": sum(rows * kl[at] for rows, kl in known) / total for at, t in enumerate(TEMPERATURES)}


def _accuracy(cache: Cache, splits: Place) -> dict[str, float] | None:
    """The teacher's accuracy on labelled rows, unaugmented. Only `evaluate` may read the test split's labels."""
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
