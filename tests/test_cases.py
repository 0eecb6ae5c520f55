"""What goes wrong with caches, case by case, as a user meets it: exit code, message, and that nothing is lost.

Cases that have a test elsewhere: killed in the midst (test_kills.py, test_cache.py), damage of every kind (test_verify.py),
other rows, views and classes (test_commands.py, test_examples.py), damaged images (test_ingest.py), a new temperature or
alpha (test_dvc.py).
"""

import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from conftest import change_teacher, run_capture, tree, write_stage_one
from pipeline.base import files, runtime
from stages.cli import main

CAPTURE = ("capture", "a", "--policy", "shift(1)", "--views", "3", "--view-seed", "5", "--tile", "4")
DISTILL = (
    "distill", "s", "-T", "2", "--teachers", "a", "--model", "mlp(hidden=[3])", "--optimizer", "sgd(lr=0.1)",
    "--epochs", "1", "--batch-size", "8", "--policy", "shift(1)", "--views", "3", "--view-seed", "5",
)  # fmt: skip


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A folder with data/transfer and data/teachers/a."""
    runtime.prepare("cpu")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOFTCACHE_DEVICE", "cpu")
    write_stage_one(tmp_path / "data")
    return tmp_path


def says(code: int, *args: str) -> str:
    result = CliRunner().invoke(main, args)
    assert result.exit_code == code, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.output


def process(*args: str, **settings) -> subprocess.Popen:
    """The command as a process of its own."""
    script = str(Path(sys.executable).with_name("softcache"))
    return subprocess.Popen([script, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **settings)


def test_sealed_before_dvc_noted_it(project):
    says(0, *CAPTURE)
    before = tree(project / "data/caches")
    shutil.rmtree(project / "data/caches")  # as DVC does before it runs a stage again
    output = says(0, *CAPTURE)
    assert "a: already captured: all 11 spans verified, to be linked again" in output
    assert "0 spans computed, 11 kept" in output
    assert tree(project / "data/caches") == before


def test_two_at_once_and_an_orphan(project):
    """The second exits with 4 and says who holds it; when the holder is gone, however it went, the way is free."""
    says(0, *CAPTURE)
    (folder,) = (path for path in (project / ".softcache").iterdir())
    holder = subprocess.Popen(
        [sys.executable, "-c", "import sys, time; from pathlib import Path; from pipeline.base import files\n"
         "with files.locked(Path(sys.argv[1]) / 'lock', 'x'): print('held', flush=True); time.sleep(60)", str(folder)],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert holder.stdout.readline() == "held\n"
    message = says(4, *CAPTURE)
    assert f"found pid {holder.pid} on {os.uname().nodename} since 20" in message
    holder.kill()
    holder.wait()
    says(0, *CAPTURE)


@pytest.mark.skipif(sys.platform != "linux", reason="PDEATHSIG is Linux's")
@pytest.mark.parametrize("under_dvc", [True, False])
def test_a_stage_dies_with_its_dvc_and_only_then(project, under_dvc):
    """A parent that starts a process as the command line does, and is killed."""
    code = (
        "import os, subprocess, sys, time\n"
        'child = \'import time; from stages.cli import main; main(["versions", "--data", "d"], standalone_mode=False);\'\n'
        "child += 'print(\"ready\", flush=True); time.sleep(60)'\n"
        "print(subprocess.Popen([sys.executable, '-c', child]).pid, flush=True); time.sleep(60)"
    )
    environment = {key: value for key, value in os.environ.items() if key != "DVC_STAGE"}
    environment |= {"PYTHONPATH": str(Path(__file__).parent.parent)} | ({"DVC_STAGE": "capture@a"} if under_dvc else {})
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
    child = int(parent.stdout.readline())
    assert "ready\n" in iter(parent.stdout.readline, "")
    parent.kill()
    parent.wait()
    time.sleep(0.5)
    try:
        stat = Path(f"/proc/{child}/stat")
        alive = stat.exists() and stat.read_text().split()[2] != "Z"
        assert alive != under_dvc
    finally:
        if not under_dvc:
            os.kill(child, signal.SIGKILL)


def test_a_flipped_bit_names_rows_and_view_and_the_way_out(project):
    says(0, *CAPTURE)
    span = project / "data/caches/a/logits.zarr/transfer/c/2/1/0"
    data = bytearray(span.read_bytes())
    data[7] ^= 1
    span.unlink()
    span.write_bytes(data)
    message = says(3, *DISTILL)
    assert "transfer/c/2/1/0 (transfer view 2, rows 8 to 15): expected sha256" in message
    assert "Run `softcache capture a --policy 'shift(pixels=1)' --views 3" in message
    assert not (project / "data/students").exists() or not list((project / "data/students").iterdir())
    says(0, *CAPTURE)
    says(0, *DISTILL)


def test_a_missing_span_is_told_before_the_first_step(project):
    says(0, *CAPTURE)
    (project / "data/caches/a/logits.zarr/transfer/c/2/1/0").unlink()
    assert "expected 260 bytes, found no such file (1 of 14 files missing or damaged)" in says(3, *DISTILL)


def test_new_weights_say_why_nothing_is_reused(project):
    says(0, *CAPTURE)
    change_teacher(project / "data/teachers/a", lambda net: next(net.parameters())[0, 0].add_(1))
    output = says(0, *CAPTURE)
    assert "a: another cache than the last one, which is kept until this one is sealed: teacher.weights_sha256 was" in output
    assert "11 spans computed\n" in output


def test_a_teacher_that_gives_nan_names_the_row(project):
    change_teacher(project / "data/teachers/a", lambda net: list(net.parameters())[-1][1].fill_(torch.nan))
    message = says(3, *CAPTURE)
    assert "teacher a, transfer view 0, row 0 (id row-0), class 1: expected a finite logit that float32 can hold" in message
    assert "found nan" in message
    assert not list((project / ".softcache").glob("*/records/*"))
    assert not (project / "data/caches/a").exists()


def test_logits_too_large_for_float16_suggest_float32(project):
    change_teacher(project / "data/teachers/a", lambda net: list(net.parameters())[-1][1].fill_(70_000))
    assert "set `dtype: float32`" in says(3, *CAPTURE, "--dtype", "float16")
    says(0, *CAPTURE)


def test_a_full_disk_keeps_what_was_recorded_and_says_how_much_is_wanted(project, monkeypatch):
    run_capture(write_stage_one(project / "whole"))
    create, spans = files.create, []

    def full(path: Path, data: bytes) -> bool:
        if "spans" in path.parts:
            spans.append(path)
            if len(spans) > 4:
                raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return create(path, data)

    monkeypatch.setattr(files, "create", full)
    message = says(2, *CAPTURE)
    assert "expected about 1.82e-06 GB of room for the 7 spans that are left" in message
    assert "4 spans are kept" in message
    assert len(spans) == 5, "the first failure stops the teacher and the writer"
    monkeypatch.setattr(files, "create", create)
    assert "a: resuming: 4/11 spans verified" in says(0, *CAPTURE)
    assert tree(project / "data/caches/a") == tree(project / "whole/caches/a")


def test_a_limit_on_file_sizes(project):
    """The kernel's own refusal, in the midst of a write."""
    run_capture(write_stage_one(project / "whole"))
    limited = process(*CAPTURE, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100)))
    _, message = limited.communicate()
    assert limited.returncode == 2
    assert "File too large. Raise the limit on file sizes, then run again" in message
    assert "Traceback" not in message
    says(0, *CAPTURE)
    assert tree(project / "data/caches/a") == tree(project / "whole/caches/a")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written(project):
    (project / "data").chmod(0o555)
    assert "Give access" in says(2, *CAPTURE)
    (project / "data").chmod(0o755)
    assert "11 kept from before" in says(0, *CAPTURE)


def test_a_file_in_the_place_of_the_work_folder(project):
    (project / ".softcache").write_text("x")
    says(2, *CAPTURE)


def test_an_unsealed_cache_says_how_far_it_has_come(project, monkeypatch):
    monkeypatch.setattr("pipeline.cache.writer.Work.seal", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
    CliRunner().invoke(main, CAPTURE)
    for command in (DISTILL, ("inspect", "a"), ("verify", "a")):
        message = says(3, *command)
        assert "an unsealed one: 11 of 11 spans captured" in message
        assert "`softcache capture a --policy 'shift(pixels=1)' --views 3 " in message, "whatever params.yaml says now"


def test_half_a_cache_that_dvc_committed(project):
    says(0, *CAPTURE)
    shutil.rmtree(project / "data/caches/a/logits.zarr/transfer/c/1")
    output = says(3, "verify", "a")
    assert "3 findings" in output
    assert output.count("found no such file") == 3
    assert "`dvc remote modify <remote> verify true`" in output


def test_a_capture_while_a_student_reads_is_never_mixed_in(project, monkeypatch):
    """Between two spans that the student reads, another cache takes the place of the one it opened."""
    from pipeline.cache.reader import Cache

    says(0, *CAPTURE)
    span, read = Cache.span, []

    def reading(self, record, out=None):
        read.append(record)
        if len(read) == 5:
            monkeypatch.setattr(Cache, "span", span)
            change_teacher(project / "data/teachers/a", lambda net: next(net.parameters()).mul_(2))  # other logits
            other = (*CAPTURE[:-1], "8")
            assert subprocess.run([Path(sys.executable).with_name("softcache"), *other]).returncode == 0
            before = Path("data/caches/a/manifest.json").read_text()
            assert '"tile": 8' in before
        return span(self, record, out)

    monkeypatch.setattr(Cache, "span", reading)
    assert "expected sha256" in says(3, *DISTILL)


@pytest.mark.parametrize("rows", [1, 8, 9])
def test_few_rows(tmp_path, rows):
    run_capture(write_stage_one(tmp_path, rows=rows))
    from pipeline.cache.verify import verify

    assert verify(tmp_path / "caches/a", work=tmp_path / "work").findings == []


def test_growing_views_and_appended_rows_compute_only_what_is_new(tmp_path):
    write_stage_one(tmp_path, rows=17)
    assert run_capture(tmp_path, views=2).computed == 3 * 2 + 2
    grown = run_capture(tmp_path, views=4)
    assert (grown.computed, grown.kept) == (3 * 2, 3 * 2 + 2)
    import numpy as np
    import pyarrow.parquet as pq

    from conftest import write_split
    from pipeline.data.splits import Split

    former = Split.open(tmp_path / "transfer/train.parquet")
    pixels = np.concatenate([former.read_all(), former.read_all()[:6]])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.data.splits.span_rows", lambda classes, row_bytes: 8)
        write_split(tmp_path / "transfer/train.parquet", pixels, np.arange(23) % 3, 3)
    assert pq.read_table(tmp_path / "transfer/train.parquet").num_rows == 23
    appended = run_capture(tmp_path, views=4)
    assert (appended.computed, appended.kept) == (4, 2 * 4 + 2)  # the third span, which was not full
