"""Subjects: any process that opens the same request finds the same identity, and what would change it."""

import pickle

import torch

from conftest import change_teacher, run_capture, write_stage_one
from pipeline.base import files, runtime
from pipeline.base.differences import differences
from pipeline.cache.manifest import Manifest
from pipeline.cache.settings import Keep
from pipeline.cache.subject import Request, Subject
from pipeline.data.settings import Views


def test_a_request_that_was_sent_is_of_the_cache_until_the_teacher_changes(tmp_path):
    runtime.prepare("cpu")
    run_capture(write_stage_one(tmp_path))
    request = Request(tmp_path / "teachers/a", tmp_path / "transfer", Views("shift(1)", 3, 5), Keep(tile=4), tmp_path / "work")
    subject = Subject.open(pickle.loads(pickle.dumps(request)), torch.device("cpu"))
    manifest = Manifest.read(tmp_path / "caches/a")
    assert (subject.name, subject.identity, subject.extents) == ("a", manifest.identity, manifest.extents)
    files.require_unchanged(subject.witnesses)
    change_teacher(tmp_path / "teachers/a", lambda net: next(iter(net.parameters())).add_(1))
    again = Subject.open(request, torch.device("cpu"))
    assert [field for field, _, _ in differences(subject.identity, again.identity)] == ["teacher.weights_sha256"]
    assert [witness.now() == witness.digest for witness in subject.witnesses] == [False, True]
