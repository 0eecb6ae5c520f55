"""Captures by several workers: whoever dies, and however many there are, the bytes are those of one process."""

import dataclasses
import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import crews
from conftest import run_capture, tree, write_stage_one, write_teacher, write_texts
from pipeline.base import files, nearby, runtime
from pipeline.base.crew import Workers
from pipeline.base.errors import InputError, IntegrityError
from pipeline.cache import workers
from pipeline.cache.manifest import by_span
from pipeline.cache.provenance import Provenance
from pipeline.cache.settings import Keep
from pipeline.cache.source import size_of
from pipeline.cache.subject import Request, Subject
from pipeline.cache.writer import Work
from pipeline.data.settings import Views
from pipeline.data.splits import open_splits
from pipeline.models.build import build, parse_model

ONE = Workers("processes", 1, device="cpu")
TILES = 4 * 3 * 2 + 2 * 2 * 2  # of 4 rows: spans × views × 2 of the transfer set, and of the others
ONCE = workers.IN_HAND * 3 * 2  # that are lost with a worker, at most


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    runtime.prepare("cpu")
    crews.stage(tmp_path, monkeypatch)
    return tmp_path


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.soak)])
def test_a_process_that_dies_is_replaced_and_the_bytes_are_those_of_this_process(folder, monkeypatch, caplog, method):
    """A fork takes no time; a process that is spawned, as they all are in earnest, imports torch and the plug-in itself."""
    context = multiprocessing.get_context(method)
    monkeypatch.setattr("pipeline.base.processes.multiprocessing.get_context", lambda kind: context)
    (folder / "notes/die").mkdir()
    done = run_capture(folder, workers=ONE)
    assert (done.computed, done.kept) == (4 * 3 + 2 + 2, 0)
    assert tree(folder / "caches/a") == tree(folder / "here")
    assert len([text for text in caplog.messages if "was ended by SIGKILL" in text]) == 1
    assert sum(crews.seen(folder).values()) <= TILES + ONCE
    found = Provenance.open(folder / "provenance/a.json")
    assert found is not None
    assert found.workers == 1


@pytest.mark.soak
def test_actors_one_of_which_dies_give_the_bytes_of_this_process(folder):
    pytest.importorskip("ray")
    (folder / "notes/die").mkdir()
    capture = crews.capturing(folder, *crews.alone(), on="ray", count=2)
    told, _ = capture.communicate(timeout=300)
    assert capture.returncode == 0, told
    assert tree(folder / "caches/a") == tree(folder / "here")
    assert told.count("what it had in hand") == 1
    assert "raylet" not in told  # what Ray would print of that
    assert sum(crews.seen(folder).values()) <= TILES + ONCE


def requested(folder: Path, **keep) -> tuple[Request, Subject]:
    """What run_capture asks for."""
    views = Views(keep.pop("policy", "shift(1)"), 3, 5)
    request = Request(folder / "teachers/a", folder / "transfer", views, Keep(tile=4, **keep), folder / "work")
    return request, Subject.open(request, torch.device("cpu"))


def hold(folder: Path, request: Request, subject: Subject):
    return Work.hold(request.work, folder / "caches/a", subject.identity, subject.source.knowledge, subject.extents)


@pytest.mark.parametrize("keep", [{"knowledge": "hidden", "dtype": "int8", "features": ("layer1",)}, {"policy": "drop(2)"}])
def test_three_threads_of_a_worker_give_what_this_process_gives_of_every_kind(tmp_path, keep):
    """The second is of texts."""
    runtime.prepare("cpu")
    if "policy" in keep:
        write_texts(tmp_path)
        split = open_splits(tmp_path / "transfer", ["train"])["train"]
        net = build(parse_model("bag(features=64, length=8, width=4)"), split.inputs, 3)
        write_teacher(tmp_path / "teachers/a", net, split, model="bag(features=64, length=8, width=4)")
    else:
        write_stage_one(tmp_path, classes=9)
    run_capture(tmp_path, **keep)
    expected = tree(tmp_path / "caches")
    for made in ("caches", "work"):
        files.remove(tmp_path / made)
    request, subject = requested(tmp_path, **keep)
    with hold(tmp_path, request, subject) as work:
        if subject.source.knowledge.main.headed:
            work.keep_head(subject.source.head)
        missing = work.resume({name: split.span_digests for name, split in subject.splits.items()})
        fill = workers.start(request, work.ticket, "cpu", 1)
        with ThreadPoolExecutor(workers.IN_HAND) as threads:
            list(threads.map(fill, by_span(missing)))
        before = {path: path.stat().st_mtime_ns for path in (tmp_path / "work").rglob("*.json")}
        fill(by_span(missing)[0])  # once more, as after a death
        assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "work").rglob("*.json")}
        assert work.gather(missing) == []
        manifest = work.seal()
        assert size_of(work) == sum(record.size_bytes for record in manifest.records)  # which it says beforehand
    assert tree(tmp_path / "caches") == expected


def test_a_worker_keeps_what_stores_give_where_its_coordinator_does(tmp_path, monkeypatch):
    monkeypatch.setattr(nearby, "_room", None)  # put back afterwards
    monkeypatch.setenv(nearby.NEARBY, "1")
    runtime.prepare("cpu")
    request, subject = requested(write_stage_one(tmp_path))
    with hold(tmp_path, request, subject) as work:
        workers.start(request, work.ticket, "cpu", 1)
    nearby.data("piece", lambda: b"x")
    assert (tmp_path / "work/nearby/piece").exists()


def test_a_capture_says_how_large_it_becomes_and_calls_spans_by_their_splits(folder, monkeypatch, caplog):
    class Stop(Exception):
        pass

    def run(tasks, name):
        raise Stop(name(tasks[0]), name(tasks[-1]))

    caplog.set_level("INFO")
    monkeypatch.setattr(workers, "open_crew", lambda *given, **settings: nullcontext(SimpleNamespace(run=run)))
    monkeypatch.setattr(workers, "size_of", lambda work: 2_345_678_901)
    with pytest.raises(Stop) as raised:
        run_capture(folder, workers=ONE)
    assert raised.value.args == ("a, span 0 of transfer", "a, span 1 of test")
    assert "a: 2,345.7 MB; 16 views of 8 spans to run, on processes" in caplog.messages


def test_a_worker_with_other_files_is_refused(tmp_path):
    runtime.prepare("cpu")
    request, subject = requested(write_stage_one(tmp_path))
    with hold(tmp_path, request, subject) as work:
        others = dataclasses.replace(request, views=Views("shift(2)", 3, 5))
        with pytest.raises(
            IntegrityError, match=r"worker on .*, views.policy: expected shift\(pixels=1\), found shift\(pixels=2\)\. Give all"
        ):
            workers.start(others, work.ticket, "cpu", 1)
        room = dataclasses.replace(work.ticket.room, folder=tmp_path / "elsewhere")
        with pytest.raises(InputError, match=r"expected .*/elsewhere, as the others see it, found no such folder\. Give all"):
            workers.start(request, dataclasses.replace(work.ticket, room=room), "cpu", 1)
