"""The manifest: what it binds, and every way of being another than was sealed, or not whole."""

import copy
import dataclasses
import functools
import json
import os

import pytest

from caches import EXTENTS, PARTS, sealed, span_file
from conftest import run_capture, tree, write_stage_one
from pipeline.base import files
from pipeline.base.errors import IntegrityError
from pipeline.cache.manifest import Extent, Manifest, Record, fingerprint, parts


def test_manifest_survives_a_round_trip(tmp_path):
    out = sealed(tmp_path)
    manifest = Manifest.read(out)
    assert manifest.extents == EXTENTS
    assert len(manifest.records) == len(PARTS)
    assert manifest.to_json() == (out / "manifest.json").read_bytes()
    assert all(
        record.sha256 == files.sha256_file(span_file(out, record.split, record.view, record.span))
        for record in manifest.records
    )


def test_manifest_names_no_clock_and_no_host(tmp_path):
    assert tree(sealed(tmp_path / "one")) == tree(sealed(tmp_path / "two"))
    text = (tmp_path / "one/caches/a/manifest.json").read_text()
    assert os.uname().nodename not in text or len(os.uname().nodename) < 3
    assert str(tmp_path) not in text


@pytest.mark.parametrize(
    "edit",
    [
        lambda facts: facts["records"][0].update(sha256="0" * 64),
        lambda facts: facts["records"].pop(),
        lambda facts: facts["extents"]["transfer"].update(rows=9),
        lambda facts: facts["identity"].update(classes=["x", "z", "y"]),
        lambda facts: facts.update(digest="0" * 64),
        lambda facts: facts.update(format=2),
        lambda facts: facts.pop("records"),
        lambda facts: facts["records"][0].pop("sha256"),
    ],
)
def test_an_edited_manifest_is_refused(tmp_path, edit):
    path = sealed(tmp_path) / "manifest.json"
    facts = json.loads(path.read_text())
    edit(facts)
    path.write_text(json.dumps(facts))
    with pytest.raises(IntegrityError, match="manifest.json"):
        Manifest.read(path.parent)


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff", b"null"])
def test_what_is_no_manifest_is_refused(tmp_path, content):
    path = sealed(tmp_path) / "manifest.json"
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match="manifest"):
        Manifest.read(path.parent)


def test_digests_by_hand():
    """A fingerprint is of the identity alone, a digest of all but the format; both of canonical JSON."""
    record = Record("test", 0, 0, "r", 8, "s", -1.5, 2.0)
    manifest = Manifest({"b": [1, 2], "a": "é"}, {"test": Extent(1, 1, "i")}, (record,), {"test": "m"})
    text = (
        '{"extents":{"test":{"inputs_digest":"i","rows":1,"views":1}},"identity":{"a":"é","b":[1,2]},"metadata_sha256":'
        '{"test":"m"},"records":[{"array":"logits","high":2.0,"kl":null,"low":-1.5,"rows":"r","sha256":"s","size_bytes":8,"span":0,'
        '"split":"test","view":0}]}'
    )
    assert manifest.digest == files.sha256(text.encode())
    assert fingerprint({"a": "é", "b": [1, 2]}) == files.sha256('{"a":"é","b":[1,2]}'.encode())
    former = text.replace('"array":"logits",', "").replace('"kl":null,', "")  # until format 3 there were logits only
    assert dataclasses.replace(manifest, format=1).digest == files.sha256(former.encode())


def test_parts_are_in_the_order_of_records():
    """Ten rows in spans of four are three, the last of two rows."""
    assert list(parts({"transfer": Extent(10, 2, "t"), "test": Extent(4, 1, "e")}, 4)) == [
        ("transfer", 0, 0), ("transfer", 0, 1), ("transfer", 0, 2), ("transfer", 1, 0), ("transfer", 1, 1), ("transfer", 1, 2),
        ("test", 0, 0),
    ]  # fmt: skip


def test_a_record_knows_its_rows(tmp_path):
    manifest = Manifest.read(sealed(tmp_path))
    ends = {record.part: manifest.rows_of(record) for record in manifest.records}
    assert (ends["transfer", 1, 1], ends["transfer", 1, 2], ends["test", 0, 0]) == ((4, 8), (8, 10), (0, 3))


def test_the_options_of_a_cache(tmp_path):
    said = "--policy none() --views 2 --view-seed 0 --dtype float32 --knowledge logits --tile 4 --features none"
    manifest = Manifest.read(sealed(tmp_path))
    assert " ".join(manifest.options) == said
    every = {**manifest.identity, "views": {**manifest.identity["views"], "outcomes": 2}}
    assert " ".join(dataclasses.replace(manifest, identity=every).options) == said.replace("--views 2", "--views all")


@pytest.mark.parametrize(
    ("inputs", "sound"),
    [
        ({"kind": "text"}, True),
        ({"kind": "array", "array_dtype": "float32", "shape": [4, 5]}, True),
        ({"kind": "image", "mode": "L", "shape": [1, 2, 2], "decoder": "d", "fit": "crop"}, True),
        ({"mode": "L", "shape": [1, 2, 2], "decoder": "d"}, True),  # of formats 1 and 2
        ({"kind": "array", "shape": [4, 5]}, False),
        ({"kind": "sound"}, False),
        ({"kind": None}, False),
    ],
)
def test_what_inputs_may_be(tmp_path, inputs, sound):
    """The facts of every kind, and those of caches that were made when images were all there was."""
    manifest = Manifest.read(sealed(tmp_path))
    changed = dataclasses.replace(manifest, identity={**manifest.identity, "inputs": inputs})
    files.write(tmp_path / "manifest.json", changed.to_json())
    if sound:
        assert Manifest.read(tmp_path).identity["inputs"] == inputs
    else:
        with pytest.raises(IntegrityError, match="identity: expected facts of the right types, found inputs"):
            Manifest.read(tmp_path)


# Each a manifest with a digest that is right, of something that is no whole cache.
NOT_WHOLE = {
    "no record": ({"records": lambda records: records[:-1]}, "a record of each of 8 spans, found 7 records"),
    "one twice": ({"records": lambda records: (*records[:-1], records[0])}, "of each of 8 spans, found 8 records"),
    "one more": ({"records": lambda records: (*records, records[0])}, "of each of 8 spans, found 9 records"),
    "a stray": (
        {"records": lambda records: (*records[:-1], dataclasses.replace(records[-1], view=7))},
        "of each of 8 spans, found 8 records",
    ),
    "no split": (
        {"extents": lambda extents: {"transfer": extents["transfer"]}},
        "rows of transfer, valid, test, found transfer",
    ),
    "another split": ({"extents": lambda extents: extents | {"x": Extent(1, 1, "x")}}, "rows of transfer, valid, test"),
    "no rows": ({"extents": lambda extents: extents | {"test": Extent(0, 1, "e")}}, "rows of .*, test 0 × 1"),
    "no views": ({"extents": lambda extents: extents | {"test": Extent(3, 0, "e")}}, "rows of .*, test 3 × 0"),
    "no metadata": (
        {"metadata_sha256": lambda held: {name: held[name] for name in held if "valid" not in name}},
        "rows of transfer, valid, test",
    ),
    "one class": ({"identity": lambda found: found | {"classes": ["x"]}}, "two classes or more"),
    "no span": (
        {"identity": lambda found: found | {"layout": found["layout"] | {"span": 0}}},
        "chunks of spans, found a chunk of 1 and a span of 0",
    ),
    "no chunk": ({"identity": lambda found: found | {"layout": found["layout"] | {"chunk": 0}}}, "chunks of spans"),
    "a long chunk": ({"identity": lambda found: found | {"layout": found["layout"] | {"chunk": 8}}}, "chunks of spans"),
    "other spans": (
        {"identity": lambda found: found | {"layout": found["layout"] | {"span": 8}}},
        "a record of each of 6 spans, found 8 records",
    ),
    "no identity": (
        {"identity": lambda found: found | {"tile": "4"}},
        "identity: expected facts of the right types, found tile",
    ),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Manifest:
    return Manifest.read(sealed(tmp_path_factory.mktemp("whole")))


@pytest.mark.parametrize("case", NOT_WHOLE)
def test_what_is_not_whole_is_refused(tmp_path, whole, case):
    changes, message = NOT_WHOLE[case]
    changed = dataclasses.replace(whole, **{name: change(getattr(whole, name)) for name, change in changes.items()})
    files.write(tmp_path / "manifest.json", changed.to_json())
    with pytest.raises(IntegrityError, match=f"manifest.json.* expected {message}|manifest.json.*{message}"):
        Manifest.read(tmp_path)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """The facts of a cache of int8 hidden states with a feature."""
    folder = write_stage_one(tmp_path_factory.mktemp("kept"))
    manifest = run_capture(folder, knowledge="hidden", dtype="int8", features=("layer1",)).manifest
    return json.loads(manifest.to_json())


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("identity", "knowledge", "width"), -1),
        (("identity", "knowledge", "width"), 2**62),
        (("identity", "knowledge", "width"), None),
        (("identity", "knowledge", "layer"), None),
        (("identity", "knowledge", "calibrated"), None),
        (("identity", "knowledge", "kind"), "logits"),
        (("identity", "knowledge", "features", "layer1", "chunk"), 0),
        (("identity", "knowledge", "features", "layer1", "shape"), []),
        (("identity", "knowledge", "features", "layer1", "shape"), [-5]),
        (("identity", "knowledge", "features", "layer1", "shape"), [1] * 64),
        (("identity", "knowledge", "features", "layer1", "shape"), [2**40]),
        (("identity", "knowledge", "features"), {"../../layer1": {"shape": [5], "dtype": "float16", "chunk": 1}}),
        (("identity", "knowledge", "features"), {"a" * 300: {"shape": [5], "dtype": "float16", "chunk": 1}}),
        (("extents", "valid", "views"), 2**62),
        (("records", 0, "kl"), [0.5]),
    ],
)
def test_facts_that_no_cache_has_are_refused_although_the_digest_fits(tmp_path, kept, place, value):
    facts = copy.deepcopy(kept)
    *way, last = place
    functools.reduce(lambda held, key: held[key], way, facts)[last] = value
    assert read_again(tmp_path, kept).knowledge.arrays.keys() == {"hidden", "hidden_scale", "feature.layer1"}
    with pytest.raises(IntegrityError, match="manifest.json") as caught:
        read_again(tmp_path, facts)
    assert "edited" not in str(caught.value)


def read_again(folder, facts) -> Manifest:
    """A manifest of these facts, whose digest is put right."""
    said = {key: value for key, value in facts.items() if key not in ("format", "digest")}
    digest = files.sha256(files.canonical_json(said))
    files.write(folder / "manifest.json", files.readable_json({"format": facts["format"], "digest": digest, **said}))
    return Manifest.read(folder)


def test_a_head_may_be_the_whole_net():
    """Its name is empty then."""
    identity = {"layout": {"dtype": "float32"}, "knowledge": {"kind": "hidden", "layer": "", "width": 3, "features": {}}}
    Manifest(identity, {}, (), {})._require_knowledge("here", "")
