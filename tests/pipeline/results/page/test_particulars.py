"""Particulars: digests in full, and all nets."""

import lineages
from pipeline.results.page.particulars import particulars


def test_digests_stand_there_in_full():
    chapter = lineages.opened()
    told, weights = chapter.lineage, chapter.tables.basis.students
    found = particulars(told, weights)
    assert {heading: [entry.name for entry in entries] for heading, entries in found.items()} == {
        "Rows": ["transfer set, which is the training split", "validation split", "test split"],
        "Teachers": ["a", "b"],
        "Caches": ["cache of a", "cache of b"],
        "Students": ["s, from labels alone", "s, from caches", "t, from caches"],
    }
    facts = {entry.name: {fact.name: fact.value for fact in entry.facts} for entries in found.values() for entry in entries}
    assert facts["b"]["descends from"] == "a → s-T2 (seed 7)"
    assert facts["a"]["sha256 of its weights"] == chapter.tables.basis.teachers["a"]
    assert facts["cache of b"]["digest"] == facts["t, from caches"]["digest of b"] == told.caches["b"].digest
    assert facts["t, from caches"]["teachers"] == "a × 0.667, b × 0.333"
    assert facts["s, from caches"]["optimizer"].endswith(" of version 1")
    nets = [net for entry in found["Students"] for net in entry.nets]
    assert {run: {net.seed: net.weights for net in nets if net.run == run} for run in weights} == weights
