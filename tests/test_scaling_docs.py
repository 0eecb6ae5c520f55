"""docs/scaling.md: what it shows of DVC is run as it stands, on remotes of this machine; its tables are worked out by hand."""

import hashlib
import json
import re
import shlex
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from dvc.cli import main as dvc
from ruamel.yaml import YAML

import projects
from benchmarks import plan
from benchmarks.scaling import Constants
from conftest import tree
from repositories import Repository

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs/scaling.md").read_text(encoding="utf-8")


def lines(title: str) -> list[str]:
    """The commands below a heading."""
    [section] = re.findall(rf"^### {title}$(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    return re.findall(r"^    (.*)$", section, re.MULTILINE)


class Shell:
    """Runs commands as a page shows them. shared: what lies at /mnt/shared there."""

    def __init__(self, shared: Path, monkeypatch: pytest.MonkeyPatch):
        self.shared = shared
        shared.mkdir()
        for role in ("AUTHOR", "COMMITTER"):
            monkeypatch.setenv(f"GIT_{role}_NAME", "somebody")
            monkeypatch.setenv(f"GIT_{role}_EMAIL", "somebody@example.org")
        monkeypatch.setenv("DVC_NO_ANALYTICS", "1")

    def run(self, *given: str, code: int = 0) -> str:
        """What softcache says; of several commands, the last one's exit code is `code`."""
        commands = [each for line in given for each in line.partition("   #")[0].split(" && ")]
        said = ""
        for number, command in enumerate(commands, start=1):
            program, *words = shlex.split(command.replace("/mnt/shared", str(self.shared)))
            expected = code if number == len(commands) else 0
            if program == "softcache":
                said = projects.says(expected, *words)
            elif program == "dvc":
                assert dvc(words) == expected, command
            else:
                assert subprocess.run([program, *words], capture_output=True).returncode == expected, command
        return said


def flip(path: Path) -> None:
    """One bit of an object in a remote, which DVC protects."""
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)


def object_of(remote: Path, digest: str) -> Path:
    return remote / "files/md5" / digest[:2] / digest[2:]


def test_a_remote_that_checks_and_a_cache_for_another_project(tmp_path, monkeypatch):
    shell = Shell(tmp_path / "shared", monkeypatch)
    own = projects.make(tmp_path / "shared/project", monkeypatch)
    shell.run(
        "softcache capture a --policy none --views 1 --view-seed 0", "rm params.yaml", "git init --quiet", "dvc init --quiet"
    )
    shell.run("dvc add --quiet data/transfer data/caches/a", "git add .", "git commit --quiet -m all")
    shell.run(*lines("A remote that checks what it gives"))
    span, remote = "data/caches/a/logits.zarr/transfer/c/0/1/0", tmp_path / "shared/dvc"
    damaged = object_of(remote, hashlib.md5((own / span).read_bytes()).hexdigest())
    flip(damaged)

    shell.run(f"git clone --quiet {own} {tmp_path / 'clone'}")
    monkeypatch.chdir(tmp_path / "clone")
    pull, verify = "dvc pull --quiet data/caches/a", "softcache verify a"
    shell.run(pull, code=1)
    assert not Path("data/caches/a").exists()
    shell.run("dvc remote modify --local shared verify false", pull, "dvc status --quiet data/caches/a.dvc")
    assert f"{span} (transfer view 0, rows 8 to 15): expected sha256" in shell.run(verify, code=3)

    monkeypatch.chdir(own)
    folder = YAML(typ="safe").load(own / "data/caches/a.dvc")["outs"][0]["md5"]
    for each in (damaged, object_of(remote, folder)):
        each.unlink()
    shell.run("dvc push --quiet")
    monkeypatch.chdir(tmp_path / "clone")
    shutil.rmtree(".dvc/cache")
    shutil.rmtree("data/caches/a")
    shell.run("dvc remote modify --local shared verify true", pull, verify)

    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.chdir(other)
    commands = lines("A cache for another project")
    shell.run(*commands)
    student = tree(other / "data/students/small-T4")
    monkeypatch.chdir(own)
    shell.run(commands[-1])
    assert tree(own / "data/students/small-T4") == student
    monkeypatch.chdir(other)
    Path("params.yaml").write_text(projects.PARAMS.replace("{policy: shift(1), views: 3, view_seed: 5}", "{}"))
    said = projects.says(2, "sweep", "all")
    assert "data/teachers/a/model.json: expected a file, found none" in said
    assert not Path("data/sweeps").exists()


def until_done(repository: Repository, count: int) -> None:
    """Until so many experiments of the queue have succeeded."""
    end = time.monotonic() + 600
    while time.monotonic() < end:
        found = repository.dvc("queue", "status")
        assert "Failed" not in found, found
        if found.count("Success") == count:
            return
        time.sleep(2)
    raise AssertionError(found)


def committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, apart: bool) -> Repository:
    """The pipeline as it ran, and was committed. apart: whether spans are kept outside of DVC, beside the project."""
    Shell(tmp_path / "shared", monkeypatch)
    repository = Repository(tmp_path / "project")
    if apart:
        [line] = lines("Spans outside of DVC")
        setting = YAML(typ="safe").load(line)["capture"] | {"store": str(tmp_path / "store"), "dtype": "float32", "tile": 16}
        repository.edit("params.yaml", "capture: {dtype: float32, tile: 16}", f"capture: {json.dumps(setting)}")
    repository.dvc("add", "data/source/source.parquet")
    repository.dvc("config", "cache.type", "hardlink,symlink")
    repository.repro()
    monkeypatch.chdir(repository.folder)
    for words in ("add .", "commit --quiet -m all"):
        subprocess.run(["git", *words.split()], check=True)
    return repository


@pytest.mark.soak
@pytest.mark.parametrize("apart", [False, True])
def test_students_in_a_queue(tmp_path, monkeypatch, apart):
    """No teacher runs again, in no folder: caches are those of the commit, linked, or two small files."""
    repository = committed(tmp_path, monkeypatch, apart=apart)
    caches = tree(repository.folder / "data/caches")
    for line in lines("Students in a queue"):
        variable, *words = shlex.split(line) if line.startswith("SOFTCACHE_") else ["", *shlex.split(line)]
        if variable:
            monkeypatch.setenv(*variable.split("="))
        repository.dvc(*words[1:])
    until_done(repository, 3)
    names = re.findall(r"^\w{7} +(\S+)", repository.dvc("queue", "status"), re.MULTILINE)
    for name in names:
        ran = re.findall(r"^Running stage '(.+)':$", repository.dvc("queue", "logs", name), re.MULTILINE)
        assert "distill@tiny-1" in ran
        assert not [stage for stage in ran if stage.startswith(("ingest", "teach", "capture"))], ran
    assert tree(repository.folder / "data/caches") == caches
    students = repository.folder / "data/students/tiny-T1"
    for name in names:
        repository.dvc("exp", "apply", name)
        queued = tree(students)
        shutil.rmtree(students)
        repository.softcache("distill", "tiny", "-T", "1")
        assert tree(students) == queued


@pytest.mark.soak
def test_spans_outside_of_dvc(tmp_path, monkeypatch):
    """DVC reruns what a change of the manifest touches, brings manifests back, and moves little."""
    repository = committed(tmp_path, monkeypatch, apart=True)
    caches, students = repository.folder / "data/caches", repository.folder / "data/students/tiny-T1"
    assert {Path(name).name for name in tree(caches)} == {"manifest.json", "address.json"}
    exact, held = tree(students), tree(caches)
    repository.edit("params.yaml", '"float32"', '"float16"')
    assert set(repository.repro()) - {"footprint"} == {"capture@a", "capture@b", "distill@tiny-1", "evaluate", "report"}
    assert tree(students) != exact
    repository.edit("params.yaml", '"float16"', '"float32"')
    assert set(repository.repro()) <= {"footprint", "report"}
    assert (tree(students), tree(caches)) == (exact, held)
    repository.softcache("verify", "a", "b")
    shutil.rmtree(students)
    repository.softcache("distill", "tiny", "-T", "1")
    assert tree(students) == exact

    repository.dvc("remote", "add", "--default", "shared", str(tmp_path / "remote"))
    repository.dvc("push", "data/caches/a")
    assert not list((tmp_path / "remote").rglob("*.zarr"))
    assert sum(path.stat().st_size for path in (tmp_path / "remote").rglob("*") if path.is_file()) < 10_000
    shutil.rmtree(tmp_path / "store/a")
    assert "missing or damaged" in repository.softcache("distill", "tiny", "-T", "1", code=3)
    shutil.rmtree(repository.folder / ".softcache")  # as on another machine: b is in the store
    assert "0 spans computed" not in repository.softcache("capture", "a")
    assert "0 spans computed" in repository.softcache("capture", "b")
    assert tree(caches) == held
    assert repository.repro("--dry", "distill@tiny-1") == []


# ---------------------------------------------------------------- how large will it be


def cells() -> dict[tuple[str, str], dict[str, str]]:
    """The rows of the table of plans: (what, kept) → column → cell."""
    table = PAGE.partition("<!-- plan -->\n")[2].partition("\n\n")[0].splitlines()
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    return {(row[0], row[1]): dict(zip(head, row, strict=True)) for row in rows}


def test_the_tables_are_those_of_the_benchmark():
    shown = re.search(r"<!-- plan -->\n(.*?)<!-- end -->", PAGE, re.DOTALL)[1]
    assert shown == plan.page(Constants.kept()), "docs/scaling.md is old: run `make scaling`"


def test_the_tables_by_hand():
    """224×224×3 bytes of pixels: 256 rows in 64 MiB. 1,000 float16 logits: 16 chunks of 16 rows of 2,000 bytes and 4 of crc32c,
    an index of 16 bytes a chunk and 4. ImageNet: 5,004 whole spans, and 143 rows, 9 chunks; 8 views of 4 teachers."""
    whole, rest = 16 * (16 * 2000 + 4) + 16 * 16 + 4, 9 * (16 * 2000 + 4) + 16 * 16 + 4
    assert (whole, rest, 5004 * 256 + 143) == (512_324, 288_296, 1_281_167)
    row = cells()["ImageNet-1k × 8 views × 4 teachers", "logits, float16"]
    assert 32 * (5004 * whole + rest) == 82_046_642_944
    assert (row["bytes"], row["files"], row["PUT"]) == ("82.0 GB", f"{32 * 5005:,}", f"{2 * 32 * 5005:,}")
    # 61.55e9 multiply-adds, twice as many operations; half of 67e12 a second
    assert row["H100 SXM hours"] == f"{123.1e9 * 1_281_167 * 32 / 33.5e12 / 3600:.1f}" == "41.8"
    # 128,000 logits: 131 rows in 64 MiB, so 128; 32 chunks of 4 rows of 256,000 bytes
    row = cells()["1e9 tokens × 128,000 classes", "logits, float16"]
    assert (row["rows a span"], row["files"]) == ("128", f"{10**9 // 128:,}")
    assert row["bytes"] == f"{(32 * (4 * 256_000 + 4) + 32 * 16 + 4) * (10**9 // 128) / 1e12:.0f} TB" == "256 TB"
    # 64 times a number of 4 bytes and one of 2, and one of 4
    assert cells()["1e9 tokens × 128,000 classes", "top 64 logits: a plan only"]["bytes"] == "388 GB"
