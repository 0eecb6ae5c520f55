"""model.json: what it says, and whose it must be."""

import json
from dataclasses import asdict, replace

import pytest

from pipeline.base import table
from pipeline.base.errors import InputError, IntegrityError
from pipeline.base.facts import sealed
from pipeline.base.files import sha256
from pipeline.data.inputs.array import Arrays
from pipeline.data.inputs.image import Images
from pipeline.data.inputs.text import Texts
from pipeline.models.checkpoint import Checkpoint
from pipeline.models.modelfile import HISTORY_COLUMNS, Learned, ModelFile, weights_name
from small_nets import Source, saved


def test_an_unknown_version_an_edit_and_another_role_are_refused(tmp_path):
    saved(tmp_path / "a")
    path = tmp_path / "a/model.json"
    before = path.read_bytes()
    facts = json.loads(before)
    del facts["digest"]
    for change, message in (
        ({"version": 9}, "expected version 7, found version 9"),
        ({"kind": "student"}, "kind: expected teacher or adopted or imported or promoted, found student"),
        ({"name": "b"}, "name: expected a, found b"),
        ({"classes": "abc"}, "expected facts of the right types, found classes: "),
        ({"nets": []}, "expected nets of different seeds"),
    ):
        path.write_bytes(sealed(facts | change))
        with pytest.raises(IntegrityError, match=message):
            Checkpoint.teacher(tmp_path / "a")
    path.write_bytes(before.replace(b'"seed": 7', b'"seed": 8'))
    with pytest.raises(IntegrityError, match="expected facts with their digest, as they were written"):
        Checkpoint.teacher(tmp_path / "a")


def test_what_a_teacher_says(tmp_path):
    """Plain JSON under the digest of the rest."""
    saved(tmp_path / "a")
    said = json.loads((tmp_path / "a/model.json").read_text())
    digest = said.pop("digest")
    assert digest == sha256(json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode())
    assert said["nets"] == [
        {
            "seed": 7, "sha256": sha256((tmp_path / "a/model.safetensors").read_bytes()), "kept_epoch": 1, "offsets": None,
            "diverged": None, "chance": False,
        }
    ]  # fmt: skip
    assert (said["version"], said["kind"], said["name"], said["model"]) == (
        7, "teacher", "a", "mlp(hidden=[6], dropout=0.0, input_dropout=0.0)",
    )  # fmt: skip
    assert said["inputs"] == {
        "kind": "image", "mode": "L", "shape": [1, 5, 4], "decoder": "pillow version 2", "fit": None,
    }  # fmt: skip
    assert (said["classes"], said["rows"], said["soft"]) == (["a", "b", "c"], None, None)
    assert said["history_sha256"] == sha256((tmp_path / "a/history.parquet").read_bytes())


def test_another_history_is_refused(tmp_path):
    saved(tmp_path / "a")
    opened = ModelFile.teacher(tmp_path / "a")
    (row,) = opened.history()
    (tmp_path / "a/history.parquet").write_bytes(table.to_parquet([row | {"valid_nll": 0.5}], HISTORY_COLUMNS))
    with pytest.raises(IntegrityError, match="history.parquet: expected sha256"):
        opened.history()


def test_a_teacher_fits_the_classes_and_inputs_that_it_was_trained_on(tmp_path):
    saved(tmp_path / "a")
    opened = ModelFile.teacher(tmp_path / "a")
    opened.require_fit(Source())
    for other, message in (
        (Source(classes=("a", "c", "b")), r"teacher a, classes: expected \('a', 'c', 'b'\) as in the transfer set"),
        (Source(inputs=Images("L", (1, 4, 5))), r"teacher a, shape: expected \[1, 4, 5\] as in the transfer set"),
        (Source(inputs=Images("RGB", (1, 5, 4))), "teacher a, mode: expected RGB as in the transfer set, found L"),
        (Source(inputs=Texts()), "teacher a, kind: expected text as in the transfer set, found image"),
        (Source(inputs=Arrays("uint8", (1, 5, 4))), "teacher a, kind: expected array as in the transfer set, found image"),
    ):
        with pytest.raises(InputError, match=message):
            opened.require_fit(other)


def test_two_nets_of_one_seed_are_refused(tmp_path):
    saved(tmp_path / "a")
    said = json.loads((tmp_path / "a/model.json").read_text())
    del said["digest"]
    for change in ({"nets": said["nets"] * 2}, {"classes": ["a"]}):
        (tmp_path / "a/model.json").write_bytes(sealed(said | change))
        with pytest.raises(IntegrityError, match="nets of different seeds"):
            ModelFile.teacher(tmp_path / "a")


def test_names_of_weights():
    assert [weights_name(kind, 3) for kind in ("teacher", "adopted", "imported", "student", "baseline", "live")] == [
        "model.safetensors", "model.safetensors", "logits.npy", *["seed-3.safetensors"] * 3,
    ]  # fmt: skip


def test_teachers_are_those_of_the_caches_or_those_in_the_loop():
    """In the order given, which is that of the weights."""
    learned = Learned(4.0, 0.9, 0.1, "kl", "version 1", True, False, "logits", 1, (0.5, 0.5), {"b": "1", "a": "2"}, None)
    assert list(learned.teachers.items()) == [("b", "1"), ("a", "2")]
    live = replace(learned, caches=None, live={"z": "3", "a": "4"})
    assert list(live.teachers) == ["z", "a"]
    assert "teachers" not in asdict(live)
