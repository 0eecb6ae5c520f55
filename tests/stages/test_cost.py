"""softcache cost as people read it, and the times that real commands leave."""

import csv
import json
import shlex
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from conftest import images, write_parquet
from pipeline.results.times import checked
from stages.cli import main

PARAMS = """
ingest: {train: source.parquet, valid: 0.25, test: 0.25, seed: 0}
teach: {optimizer: "sgd(lr=0.1, momentum=0.9)", epochs: 2, batch_size: 8}
teachers:
  a: {model: "mlp(hidden=[12])", seed: 1}
views: {policy: none, views: 1}
capture: {tile: 16}
recipe: {optimizer: adamw(lr=0.01), epochs: 2, batch_size: 8, seeds: [0, 1]}
students:
  tiny: {model: "mlp(hidden=[4])"}
temperatures: [2.5]
distill: {teachers: [a], alpha: 0.9}
"""


def run(*words: str, code: int = 0) -> str:
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOFTCACHE_DEVICE", "cpu")
    monkeypatch.setenv("SOFTCACHE_THREADS", "1")
    write_parquet(tmp_path / "source.parquet", *images(48), names=["low", "middle", "high"])
    (tmp_path / "params.yaml").write_text(PARAMS)
    return tmp_path


def lines(project: Path) -> list[tuple[str, ...]]:
    with (project / "data/times.csv").open(newline="") as file:
        return [tuple(row[key] for key in ("command", "name", "run", "ended", "threads")) for row in csv.DictReader(file)]


def set_seconds(project: Path, *seconds: str) -> None:
    """Other times for the same commands."""
    path = project / "data/times.csv"
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    for row, each in zip(rows[1:], seconds, strict=True):
        row[4] = each
    lines = [",".join(rows[0]).encode() + b"\n", *(checked(",".join(row[:-1]).encode()) for row in rows[1:])]
    path.write_bytes(b"".join(lines))


def test_commands_leave_their_times_and_cost_reads_them(project):
    run("teach", "a", code=2)
    assert not (project / "data").exists()
    run("ingest")
    assert "data/times.csv: expected times of commands, found no file" in run("cost", code=2)
    for words in ("teach a", "capture a", "distill tiny --hard", "distill tiny -T 2.5", "distill tiny -T 2.5 --rule none"):
        run(*words.split(), code=2 if "none" in words else 0)
    run("verify", "a")
    run("evaluate")
    assert lines(project) == [
        ("teach", "a", "a", "done", "1"),
        ("capture", "a", "a", "done", "1"),
        ("distill", "tiny", "tiny-hard", "done", "1"),
        ("distill", "tiny", "tiny-T2.5", "done", "1"),
        ("distill", "tiny", "tiny-T2.5", "failed", "1"),
        ("evaluate", "", "", "done", "1"),
    ]
    set_seconds(project, "3661.0", "36.6", "10.0", "20.0", "7.0", "1.0")
    alone = run("cost")
    assert "a student-epoch: 5.0 s from caches (mean of 4, start of the commands included)" in alone
    options = "-T 2.5 --live --teachers a --views 1 --batch-size 8 --precision float32 --memory 4 --draws 1"
    assert f"on this device and threads, `softcache distill tiny {options}` trains one" in alone
    run("distill", "tiny", "-T", "2.5", "--live", "--epochs", "2")
    assert lines(project)[-1][2:4] == ("tiny-T2.5-live", "done")
    set_seconds(project, "3661.0", "36.6", "10.0", "20.0", "7.0", "1.0", "60.0")
    model = "mlp(hidden=[4], dropout=0.0, input_dropout=0.0)"
    assert run("cost") == (
        "                students     epochs       time   share\n"
        "stage one                         2    1:01:38   97.6%\n"
        "  teach                           2    1:01:01   96.6%\n"
        "    a                             2    1:01:01   96.6%\n"
        "  capture                              0:00:37    1.0%\n"
        "    a                                  0:00:37    1.0%\n"
        "stage two              6         12    0:01:31    2.4%\n"
        "  distill              6         12    0:01:30    2.4%\n"
        "    tiny               4          8    0:00:30    0.8%\n"
        "    tiny, live         2          4    0:01:00    1.6%\n"
        "  evaluate                             0:00:01    0.0%\n"
        "\n"
        f"{model} from a (27 rows, 1 view, batches of 8, float32, cpu, 1 thread)\n"
        "  a student-epoch: 5.0 s from caches, 15.0 s live (mean of 4 and 4, start of the commands included)\n"
        "  captured in 0:00:37, paid for after 1.8 students of 2 epochs: with number 2\n"
    )
    facts = json.loads(run("cost", "--json"))
    assert facts["student_epochs"][0]["break_even"] == {"epochs": 2.0, "students": pytest.approx(36.6 / (2 * 10))}
    assert facts["student_epochs"][0]["teachers"] == ["a"]
    kind = {key: facts["student_epochs"][0][key] for key in ("rows", "views", "batch_size", "precision", "memory")}
    assert kind == {"rows": 27, "views": 1, "batch_size": 8, "precision": "float32", "memory": 4.0}
    (project / "data/times.csv").write_text("\n".join((project / "data/times.csv").read_text().splitlines()[:3]) + "\n")
    untimed = "distill tiny-T2.5, distill tiny-T2.5-live, distill tiny-hard"
    assert run("cost").endswith(f"\nNot counted, because no command in data/times.csv made it: {untimed}.\n")


@pytest.mark.parametrize("data", ["data", "data/held out"])
def test_the_command_that_a_sweep_is_compared_by(project, data):
    """The sweep learns from one teacher of two, and on other rows, views and batches than `softcache distill` would."""
    params = PARAMS.replace("\nviews:", '\n  b: {model: "mlp(hidden=[12])", seed: 2}\nviews:').replace("[a]", "[a, b]")
    views = "policy: shift(1), views: 2"
    sweep = f"{{teachers: [a], rows: fraction(0.5), {views}, batch_size: 4, draws: 2, memory: 0.25, seeds: [0]}}"
    (project / "params.yaml").write_text(f"{params}sweeps:\n  scarce: {sweep}\n")
    for words in ("ingest", "teach a", "capture a --views 2 --policy shift(1)", "sweep scarce"):
        run(*words.split(), "--data", data)
    (found,) = json.loads(run("cost", "--json", "--data", data))["student_epochs"]
    assert "2 views by shift(pixels=1), batches of 4 in 2 views each" in run("cost", "--data", data)
    assert (found["teachers"], found["cached"]["students"], found["live"]) == (["a"], 1, None)
    assert f"`{found['live_command']}`" in run("cost", "--data", data)
    run(*shlex.split(found["live_command"])[1:])
    (found,) = json.loads(run("cost", "--json", "--data", data))["student_epochs"]
    assert found["live"]["epochs"] == 2 * found["live"]["students"] == 2 * 2  # the seeds are those of the recipe


def test_what_failed_and_times_elsewhere(project):
    for place in ("data", "data/heldout", "data/held out"):
        (project / place).mkdir()
        lines = (
            "teach,a,a,2026-01-01T00:00:00Z,60.0,done,cpu,1",
            "distill,tiny,tiny-T1-live,2026-01-01T00:00:00Z,30.0,interrupted,cpu,1",
            "capture,z,z,2026-01-01T00:00:00Z,30.0,failed,cpu,1",
            "evaluate,,,2026-01-01T00:00:00Z,30.0,interrupted,cpu,1",
        )
        header = b"command,name,run,started,seconds,ended,device,threads,check\n"
        (project / place / "times.csv").write_bytes(header + b"".join(checked(line.encode()) for line in lines))
    assert run("cost") == (
        "                           students     epochs       time   share\n"
        "stage one                                         0:01:00   50.0%\n"
        "  teach                                           0:01:00   50.0%\n"
        "    a                                             0:01:00   50.0%\n"
        "stage two (not done)                              0:01:00   50.0%\n"
        "  distill (not done)                              0:00:30   25.0%\n"
        "    tiny, live (not done)                         0:00:30   25.0%\n"
        "  evaluate (not done)                             0:00:30   25.0%\n"
        "\n"
        "Other times: softcache cost --data 'data/held out', softcache cost --data data/heldout\n"
    )


def test_times_of_an_interrupted_command(project, monkeypatch):
    from pipeline.training import teach

    def interrupted(**settings):
        raise KeyboardInterrupt

    run("ingest")
    monkeypatch.setattr(teach, "teach", interrupted)
    run("teach", "a", code=1)
    assert lines(project) == [("teach", "a", "a", "interrupted", "1")]


def test_times_that_cannot_be_written_fail_nothing(project):
    run("ingest")
    (project / "data/times.csv").mkdir()
    assert run("teach", "a").startswith("wrote data/teachers/a: 2 epochs")


def test_times_are_no_part_of_git():
    root = Path(__file__).resolve().parents[2]
    for path in ("data/times.csv", "examples/mnist/data/times.csv"):
        assert subprocess.run(["git", "check-ignore", "-q", path], cwd=root).returncode == 0, path
