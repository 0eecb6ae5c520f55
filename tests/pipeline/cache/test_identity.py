"""Identity: what a cache is bound to, field by field, and whose teacher it may be read beside."""

import shutil
from pathlib import Path

import pytest

from conftest import change_teacher, run_capture, write_stage_one
from pipeline.base.errors import InputError
from pipeline.cache.identity import identity, require_teacher
from pipeline.cache.knowledge.knowledge import Knowledge
from pipeline.cache.manifest import fingerprint
from pipeline.cache.reader import Cache
from pipeline.data.policies import table
from pipeline.data.splits import open_splits
from pipeline.data.views import Policy
from pipeline.models import predict
from pipeline.models.modelfile import ModelFile


@pytest.fixture
def folder(tmp_path) -> Path:
    return write_stage_one(tmp_path, teachers="ab")


def of(folder: Path, policy: str = "shift(1)", seed: int = 5, tile: int = 4, dtype: str = "float32") -> dict:
    split = open_splits(folder / "transfer", ["train"])["train"]
    kept = Knowledge.of_logits(3, dtype, split.span)
    return identity(ModelFile.teacher(folder / "teachers/a"), split, Policy.parse(policy, seed), tile, kept)


def test_what_it_says(folder):
    found = of(folder)
    assert found == {
        "output": "raw logits, before any temperature",
        "teacher": {
            "name": "a",
            "model": "mlp(hidden=[5], dropout=0.0, input_dropout=0.0)",
            "behaviour": "version 1",
            "weights_sha256": ModelFile.teacher(folder / "teachers/a").nets[0].sha256,
        },
        "classes": ["0", "1", "2"],
        "inputs": {"kind": "image", "mode": "L", "shape": [1, 4, 4], "decoder": "pillow version 2", "fit": None},
        "views": {"policy": "shift(pixels=1)", "seed": 5, "behaviours": ["version 1"]},
        "precision": "float32",
        "tile": 4,
        "inference": 2,
        "layout": {"dtype": "float32", "span": 8, "chunk": 1, "codecs": "bytes(little), crc32c"},
        "knowledge": {"kind": "logits", "features": {}},
    }
    run_capture(folder)
    assert Cache.open(folder / "caches/a").manifest.identity == found


def test_all_that_a_logit_depends_on_makes_another(folder, monkeypatch):
    found = [of(folder), *(of(folder, **change) for change in (
        {"policy": "none"}, {"policy": "shift(2)"}, {"seed": 6}, {"tile": 8}, {"dtype": "float16"},
    ))]  # fmt: skip
    with monkeypatch.context() as patch:
        patch.setattr(predict, "VERSION", 7)
        found.append(of(folder))
    with monkeypatch.context() as patch:
        patch.setitem(table.VERSIONS, "shift", 2)
        found.append(of(folder))
    change_teacher(folder / "teachers/a", lambda net: next(net.parameters())[0, 0].add_(1))
    found.append(of(folder))
    assert len({fingerprint(each) for each in found}) == len(found)


def test_a_teacher_of_other_data_is_refused(folder, tmp_path):
    other = write_stage_one(tmp_path / "other", classes=4)
    shutil.rmtree(folder / "transfer")
    (other / "transfer").rename(folder / "transfer")
    with pytest.raises(InputError, match=r"teacher a, classes: expected \('0', '1', '2', '3'\) as in the transfer set"):
        of(folder)


def test_the_teacher_that_lies_there_is_the_one_whose_logits_these_are(folder):
    run_capture(folder)
    cache, place = Cache.open(folder / "caches/a"), folder / "teachers/a"
    require_teacher(cache, place)
    require_teacher(cache, folder / "teachers/none")  # a cache may come without
    with pytest.raises(InputError, match="cache a, teacher.name: expected b"):
        require_teacher(cache, folder / "teachers/b")
    change_teacher(place, lambda net: next(net.parameters())[0, 0].add_(1))
    with pytest.raises(InputError, match="cache a, teacher.weights_sha256: expected .* Run `softcache capture a"):
        require_teacher(cache, place)
