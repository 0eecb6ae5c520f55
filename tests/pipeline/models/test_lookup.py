"""The lookup: where the logits of a split, a view and a row are; and whose they are."""

import json

import numpy as np
import pytest

import elsewhere
from conftest import write_stage_one
from pipeline.base.errors import InputError, IntegrityError
from pipeline.base.facts import sealed
from pipeline.base.files import sha256_file
from pipeline.cache.imported import import_logits
from pipeline.data.settings import Views
from pipeline.data.splits import open_splits
from pipeline.data.views import open_views
from pipeline.models.lookup import Lookup, Places, shown
from pipeline.models.modelfile import ModelFile, Shown


def test_places_are_counted_by_split_view_and_row():
    places = Places({"transfer": 10, "valid": 4, "test": 3}, 2)
    assert places.total == 27
    starts = [places.start("transfer"), places.start("transfer", 1), places.start("valid"), places.start("test")]
    assert starts == [0, 10, 20, 24]


def test_views_as_model_json_says_them():
    assert shown(*open_views(Views("flip()", 3, 7))) == Shown("flip()", 7, ("version 1",), 3)
    assert shown(*open_views(Views("flip()", "all", 7))) == Shown("flip()", None, ("version 1",), 2)


def test_rows_are_looked_up(tmp_path):
    """In a split and a view, from one row to another; a net has none to look up."""
    write_stage_one(tmp_path, teachers="b")
    logits, views = elsewhere.made(tmp_path, views=2), Views("flip()", 2)
    path = elsewhere.write_npz(tmp_path / "x.npz", elsewhere.lines(tmp_path, logits))
    import_logits(logits=[path], splits=tmp_path / "transfer", views=views, out=tmp_path / "teachers/a")
    splits, (policy, count) = open_splits(tmp_path / "transfer", elsewhere.SPLITS), open_views(views)
    lookup = Lookup.open(ModelFile.teacher(tmp_path / "teachers/a"), splits, policy, count)
    assert (lookup.read("transfer", 1, 3, 9) == logits["transfer"][1, 3:9]).all()
    assert (lookup.read("test", 0, 1, 3) == logits["test"][0, 1:]).all()
    assert lookup.check().digest == lookup.teacher.weights_sha256
    np.save(tmp_path / "teachers/a/logits.npy", np.zeros((47, 3), np.float32))
    with pytest.raises(IntegrityError, match="logits.npy: expected sha256"):
        lookup.check()
    said = json.loads((tmp_path / "teachers/a/model.json").read_bytes())
    del said["digest"]
    said["nets"][0]["sha256"] = sha256_file(tmp_path / "teachers/a/logits.npy")
    (tmp_path / "teachers/a/model.json").write_bytes(sealed(said))
    forged = Lookup.open(ModelFile.teacher(tmp_path / "teachers/a"), splits, policy, count)
    with pytest.raises(IntegrityError, match=r"expected float32 of the shape \(48, 3\), found float32 of the shape \(47, 3\)"):
        forged.check()
    with pytest.raises(IntegrityError, match="expected an imported teacher, found another. Run `softcache teach b"):
        Lookup.open(ModelFile.teacher(tmp_path / "teachers/b"), splits, policy, count)
    with pytest.raises(InputError, match="teacher a, --live: expected a teacher with a net"):
        lookup.teacher.require_net("--live")
