"""The gallery: which rows are chosen, by hand; what is kept of them; how it is bound."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from conftest import write_stage_one, write_texts
from pipeline.base.errors import IntegrityError
from pipeline.data.splits import open_splits
from pipeline.results.gallery import NUMBERS, Gallery, choose, gallery

Z = np.log(
    [[0.6, 0.3, 0.1], [0.5, 0.4, 0.1], [0.1, 0.8, 0.1], [0.2, 0.7, 0.1], [0.3, 0.1, 0.6], [0.05, 0.9, 0.05], [0.9, 0.06, 0.04]]
)
SAID = Z.argmax(axis=1).tolist()  # 0, 0, 1, 1, 2, 1, 0


def surely(*classes: int, by: float = 5.0) -> np.ndarray:
    return np.eye(3)[list(classes)] * by


def test_rows_by_reason_the_most_telling_first():
    """Rows 0, 1 and 6: both are right. 2 and 3: the student is wrong; 4: the teacher is. 5: both are, and do not even agree."""
    student, labels = surely(0, 0, 0, 2, 0, 2, 0), np.array([0, 0, 1, 1, 0, 0, 0])
    assert choose(Z, labels, student, 6) == [
        (1, "second"), (0, "second"), (6, "second"), (2, "apart"), (3, "apart"), (4, "apart"), (5, "wrong"),
    ]  # fmt: skip
    assert choose(Z, labels, student, 1) == [(1, "second"), (2, "apart"), (5, "wrong")]
    student[3] *= 100  # it is surer of row 3: 0.8 · 0.987 against 0.7 · 1
    assert [row for row, reason in choose(Z, labels, student, 6) if reason == "apart"] == [2, 3, 4]
    student[2] /= 5  # and of row 2 no longer: 0.8 · 0.576
    assert [row for row, reason in choose(Z, labels, student, 6) if reason == "apart"] == [3, 4, 2]


def test_without_a_student_rows_say_what_the_teacher_knows():
    assert choose(Z, np.array([0, 0, 1, 1, 0, 0, 0]), None, 2) == [(1, "second"), (0, "second"), (5, "wrong"), (4, "wrong")]


def made(folder, classes: int = 3, **changes) -> Gallery:
    split = open_splits(folder / "transfer", ["test"])["test"]
    z = np.random.default_rng(0).normal(size=(3, classes)).astype(np.float32)
    settings = {
        "teachers": {"a": z, "b": -z},
        "combined": z,
        "rule": "logits",
        "weights": [0.25, 0.75],
        "student": ("s-T4", 1, z),
    }
    return gallery(split, z.argmax(axis=1), **settings | changes)


def test_logits_are_kept_raw_beside_the_picture(tmp_path):
    """Rows of both reasons with their logits as float32 has them, and every pixel."""
    write_stage_one(tmp_path)
    found = made(tmp_path)
    z = np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32)
    assert (found.teachers, found.weights, found.student, found.seed) == (("a", "b"), (0.25, 0.75), "s-T4", 1)
    assert found.reference == "ensemble"
    split = open_splits(tmp_path / "transfer", ["test"])["test"]
    assert sorted(each.row for each in found.exhibits) == [0, 1, 2]
    for each in found.exhibits:
        np.testing.assert_array_equal(np.array(each.teachers, np.float32), np.stack([z, -z])[:, each.row])
        np.testing.assert_array_equal(np.array(each.student, np.float32), z[each.row])
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(each.picture))))
        np.testing.assert_array_equal(pixels, split.read(0)[each.row, 0])
        assert each.id == split.ids(0)[each.row]
        assert each.text is each.values is None


def test_it_comes_back_and_knows_a_changed_bit(tmp_path):
    write_stage_one(tmp_path)
    data = made(tmp_path, student=None, teachers={"a": np.eye(3, dtype=np.float32)}, weights=[1.0]).to_json()
    read = Gallery.parse(data, tmp_path / "gallery.json", "Run it.")
    assert (read.to_json(), read.student, read.reference) == (data, None, "a")
    with pytest.raises(IntegrityError, match="gallery.json: expected facts with their digest"):
        Gallery.parse(data.replace(b'"second"', b'"wrong"'), tmp_path / "gallery.json", "Run it.")


def test_many_classes_leave_room_for_fewer_rows(tmp_path):
    """So that a page can soften all of them at once."""
    write_stage_one(tmp_path, rows=8)
    split = open_splits(tmp_path / "transfer", ["train"])["train"]
    z = np.random.default_rng(0).normal(size=(8, NUMBERS // 12)).astype(np.float32)  # 2 teachers: 2 rows
    found = gallery(
        split, z.argmax(axis=1), teachers={"a": z, "b": z}, combined=z, rule="probabilities", weights=[0.5, 0.5], student=None
    )
    assert [each.reason for each in found.exhibits] == ["second", "second"]


def test_texts_are_shown_as_text(tmp_path):
    write_texts(tmp_path)
    split = open_splits(tmp_path / "transfer", ["test"])["test"]
    z = np.eye(3, dtype=np.float32)[np.arange(split.rows) % 3]
    found = gallery(split, z.argmax(axis=1), teachers={"a": z}, combined=z, rule="logits", weights=[1.0], student=None)
    texts = split.read_all()
    assert [each.text for each in found.exhibits] == [texts[each.row] for each in found.exhibits] != []
    assert found.exhibits[0].picture is None
