"""Prune names former generations alone: what is present, and what is unfinished, stays."""

import pytest
from click.testing import CliRunner

from caches import DIGESTS, PARTS, held, hold_in, publish, sealed_in
from pipeline.base import files
from pipeline.base.places import place
from pipeline.cache.prune import superseded
from stages.cli import main


@pytest.fixture
def data(bucket):
    """A cache that was captured twice, anew, and a third time as far as one span; a model that was written twice."""
    data = place(bucket)
    cache = data / "caches/a"
    sealed_in(cache)
    with hold_in(cache, anew=True) as work:
        for part in work.resume(DIGESTS, anew=True):
            publish(work, part)
        work.seal()
    with hold_in(cache, tile=8) as work:
        publish(work, PARTS[0])
    for content in (b"one", b"two"):
        with files.replaced_folder(data / "students/tiny") as folder:
            (folder / "weights").write_bytes(content)
    return data


def test_what_is_former_is_removed_and_nothing_else(data):
    before, names = held(data / "caches/a"), set(files.sizes(data))
    found = superseded(data)
    assert [each.size_bytes for each in found if "students" in each.place.url] == [3]
    assert {each.place.parent.url[len(data.url) + 1 :] for each in found} == {"caches/a", "students/tiny"}
    assert len(found) == 3, "two folders of the first capture, one of the first student"
    said = CliRunner().invoke(main, ["prune", "--dry-run", "--data", data.url])
    assert said.exit_code == 0
    assert "would remove 3 folders" in said.output
    assert set(files.sizes(data)) == names
    said = CliRunner().invoke(main, ["prune", "--data", data.url])
    assert "removed 3 folders" in said.output
    assert superseded(data) == []
    assert held(data / "caches/a") == before
    assert (files.current(data / "students/tiny") / "weights").read_bytes() == b"two"
    with hold_in(data / "caches/a", tile=8) as work:
        assert work.resume(DIGESTS) == PARTS[1:]


def test_a_disk_has_nothing_to_prune(tmp_path):
    said = CliRunner().invoke(main, ["prune", "--data", str(tmp_path)])
    assert said.exit_code == 2
    assert "expected a store, such as s3://bucket/run" in said.output
