"""Tabled: logits made elsewhere, as a source; tests/pipeline/cache/test_imported.py has what comes of them."""

import pytest
import torch

import elsewhere
from conftest import write_stage_one
from pipeline.base.errors import InputError, IntegrityError
from pipeline.cache.imported import import_logits
from pipeline.cache.settings import Keep
from pipeline.cache.subject import Request, Subject
from pipeline.cache.tabled import Tabled
from pipeline.data.settings import Views

VIEWS = Views("shift(1)", 3, 5)


def test_a_table_has_logits_alone_and_is_checked_once_it_is_loaded(tmp_path):
    write_stage_one(tmp_path, teachers="b")
    rows = elsewhere.lines(tmp_path, elsewhere.made(tmp_path))
    elsewhere.write_lists(tmp_path / "x.parquet", rows)
    teacher = tmp_path / "teachers/a"
    import_logits(logits=[str(tmp_path / "x.parquet")], splits=tmp_path / "transfer", views=VIEWS, out=teacher)

    def opened(keep: Keep) -> Subject:
        return Subject.open(Request(teacher, tmp_path / "transfer", VIEWS, keep, tmp_path / "work"), torch.device("cpu"))

    with pytest.raises(InputError, match="teacher a, knowledge: expected a teacher with a net, found logits"):
        opened(Keep(knowledge="hidden"))
    source = opened(Keep()).source
    assert isinstance(source, Tabled)
    assert source.witnesses == []
    source.load()
    assert [witness.now() == witness.digest for witness in source.witnesses] == [True]
    (teacher / "logits.npy").write_bytes(b"")
    with pytest.raises(IntegrityError, match="logits.npy: expected sha256"):
        opened(Keep()).source.load()
