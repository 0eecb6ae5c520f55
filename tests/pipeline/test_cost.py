"""Cost: folders and times made up by hand, and what they come to, worked out by hand."""

import json
from pathlib import Path

import pytest

from pipeline import table
from pipeline.cost import cost
from pipeline.errors import InputError

WIDE, NARROW = "mlp(hidden=[800, 800])", "mlp(hidden=[30])"
HEADER = "command,name,run,started,seconds,ended,device,threads"


def times(data: Path, *lines: str, machine: str = "cpu,2") -> None:
    """Each line as `teach a a 10.0 done`; a name of `none` is empty."""
    rows = []
    for line in lines:
        command, name, run, seconds, ended, *other = line.split()
        name, run = ("" if each == "none" else each for each in (name, run))
        rows.append(f"{command},{name},{run},2026-01-01T00:00:00Z,{seconds},{ended},{other[0] if other else machine}")
    data.mkdir(parents=True, exist_ok=True)
    (data / "times.csv").write_text("\n".join((HEADER, *rows)) + "\n")


def folder(path: Path, epochs: list[int], **facts) -> None:
    """model.json, and a history of so many epochs of each seed."""
    path.mkdir(parents=True)
    (path / "model.json").write_text(json.dumps(facts))
    rows = [{"seed": seed, "epoch": epoch} for seed, count in enumerate(epochs) for epoch in range(count)]
    (path / "history.csv").write_bytes(table.to_csv(rows))


def teacher(data: Path, name: str, epochs: int = 5) -> None:
    folder(data / "teachers" / name, [epochs], model=WIDE, seed=1, recipe={"epochs": 5})


def cache(data: Path, name: str, *, kept: int | None = None) -> None:
    path = data / "caches" / name
    path.mkdir(parents=True)
    (path / "manifest.json").write_text("{}")
    if kept is not None:
        (data / "provenance").mkdir(exist_ok=True)
        (data / f"provenance/{name}.json").write_text(json.dumps({"spans_kept": kept}))


def student(path: Path, epochs: list[int], *, soft: str | None = "caches", of=("a",), model=WIDE, rows=1000, t=20.0) -> None:
    targets = {"temperature": t, soft: dict.fromkeys(of, "digest")} if soft else None
    folder(path, epochs, model=model, seeds=list(range(len(epochs))), soft=targets, rows={"count": rows}, recipe={"epochs": 9})


def seconds(data: Path, command: str, name: str) -> float:
    """What the table says of one name."""
    (row,) = [row for row in cost(data)["rows"] if (row["command"], row["name"]) == (command, name)]
    return row["seconds"]


# ---------------------------------------------------------------- the table


def test_the_table_has_stages_commands_and_names(tmp_path):
    times(
        tmp_path,
        "teach a a 100.0 done",
        "capture a a 20.0 done",
        "teach b b 60.0 done",
        "distill s s-hard 10.0 done",
        "distill s s-T20 30.0 done",
        "distill s s-T20-live 40.0 done",
        "sweep wide wide 130.0 done",
        "evaluate none none 10.0 done",
    )
    for name in "ab":
        teacher(tmp_path, name)
    cache(tmp_path, "a")
    student(tmp_path / "students/s-hard", [4, 4], soft=None)
    student(tmp_path / "students/s-T20", [4, 3])  # stopped early
    student(tmp_path / "students/s-T20-live", [2], soft="live")
    for run in ("s-hard", "s-T20-alpha0.5", "s-T20-alpha0.9"):
        student(tmp_path / f"sweeps/wide/students/{run}", [6], soft=None if run == "s-hard" else "caches")
    found = cost(tmp_path)
    columns = ("stage", "command", "name", "live", "students", "epochs", "seconds", "share")
    assert [tuple(row[column] for column in columns) for row in found["rows"]] == [
        (1, None, None, False, 0, 10, 180.0, 0.45),
        (1, "teach", None, False, 0, 10, 160.0, 0.4),
        (1, "teach", "a", False, 0, 5, 100.0, 0.25),
        (1, "teach", "b", False, 0, 5, 60.0, 0.15),
        (1, "capture", None, False, 0, 0, 20.0, 0.05),
        (1, "capture", "a", False, 0, 0, 20.0, 0.05),
        (2, None, None, False, 8, 35, 220.0, 0.55),
        (2, "distill", None, False, 5, 17, 80.0, 0.2),
        (2, "distill", "s", False, 4, 15, 40.0, 0.1),
        (2, "distill", "s", True, 1, 2, 40.0, 0.1),
        (2, "sweep", None, False, 3, 18, 130.0, 0.325),
        (2, "sweep", "wide", False, 3, 18, 130.0, 0.325),
        (2, "evaluate", None, False, 0, 0, 10.0, 0.025),
    ]
    assert found["seconds"] == 400.0
    assert found["untimed"] == []
    assert columns == tuple(found["rows"][0])


def test_without_a_history_epochs_are_those_of_the_recipe(tmp_path):
    times(tmp_path, "distill s s-T20 30.0 done")
    student(tmp_path / "students/s-T20", [1, 1])
    (tmp_path / "students/s-T20/history.csv").unlink()
    assert cost(tmp_path)["rows"][0]["epochs"] == 2 * 9


@pytest.mark.parametrize(
    ("ended", "expected"),
    [
        (["1 done"], 1),
        (["1 interrupted", "2 failed", "4 done"], 7),  # went on where it stopped
        (["1 done", "2 done"], 2),  # the first one's output was replaced
        (["1 interrupted", "2 done", "4 interrupted", "8 done", "16 failed"], 12),
        (["1 failed", "2 interrupted"], 3),
    ],
)
@pytest.mark.parametrize("command", ["teach", "capture", "sweep"])
def test_several_lines_of_one_name(tmp_path, command, ended, expected):
    times(tmp_path, *(f"{command} a a {each}" for each in ended))
    assert seconds(tmp_path, command, "a") == expected


def test_students_of_one_name_are_added_up(tmp_path):
    """Each temperature is an output of its own: its last command counts."""
    times(tmp_path, "distill s s-T1 1.0 done", "distill s s-T4 2.0 done", "distill s s-T4 4.0 done", "distill s s-hard 8 done")
    assert seconds(tmp_path, "distill", "s") == 13


@pytest.mark.parametrize(
    ("kept", "ended", "expected"),
    [
        (None, ["capture a a 60 done", "capture a a 1 done"], 1),
        (0, ["capture a a 60 done", "capture a a 50 done"], 50),
        (5, ["capture a a 60 done", "capture a a 1 done", "capture a a 2 done"], 63),  # nothing was computed again
        (5, ["capture a a 60 done", "teach a a 9 done", "capture a a 50 done", "capture a a 1 done"], 51),
        (5, ["capture a a 60 done", "capture a a 20 interrupted", "capture a a 30 done"], 50),  # it kept its own
        (5, ["capture a a 60 done", "teach a a 9 done"], 60),
    ],
)
def test_a_capture_that_kept_spans_costs_what_they_cost_too(tmp_path, kept, ended, expected):
    cache(tmp_path, "a", kept=kept)
    times(tmp_path, *ended)
    assert seconds(tmp_path, "capture", "a") == expected


def test_outputs_that_no_command_made_are_named_and_not_counted(tmp_path):
    times(tmp_path, "distill s s-T1 1.0 failed", "distill s s-T2 1.0 done")
    teacher(tmp_path, "a")
    cache(tmp_path, "a")
    for run in ("s-T1", "s-T2", ".s-T3.partial"):
        student(tmp_path / "students" / run, [2])
    student(tmp_path / "sweeps/wide/students/s-hard", [2], soft=None)
    found = cost(tmp_path)
    assert found["untimed"] == ["teach a", "distill s-T1", "sweep wide", "capture a"]
    assert found["rows"][0]["students"] == 1
    assert found["rows"][0]["seconds"] == 2.0


def test_a_data_folder_with_a_dot(tmp_path):
    times(tmp_path / ".data", "distill s s-T2 1.0 done")
    student(tmp_path / ".data/students/s-T2", [2])
    assert cost(tmp_path / ".data")["rows"][0]["students"] == 1


# ---------------------------------------------------------------- break-even


def test_break_even(tmp_path):
    """24 student-epochs in 48 s from caches, 4 in 24 s live: 4 s saved an epoch, 48 s a student; captures took 36 s."""
    times(
        tmp_path,
        "capture a a 30.0 done",
        "capture b b 6.0 done",
        "distill s s-T20 24.0 done",
        "distill s s-T4 24.0 done",
        "distill s s-T20-live 24.0 done",
        "distill s s-hard 1.0 done",
    )
    for run in ("s-T20", "s-T4"):
        student(tmp_path / "students" / run, [12], of=("b", "a"))
    student(tmp_path / "students/s-T20-live", [2, 2], soft="live", of=("a", "b"))
    student(tmp_path / "students/s-hard", [12], soft=None)
    (found,) = cost(tmp_path)["student_epochs"]
    assert found == {
        "model": WIDE,
        "rows": 1000,
        "teachers": ("a", "b"),
        "device": "cpu",
        "threads": 2,
        "cached": {"students": 2, "epochs": 24, "seconds": 48.0, "seconds_per_epoch": 2.0},
        "live": {"students": 2, "epochs": 4, "seconds": 24.0, "seconds_per_epoch": 6.0},
        "capture_seconds": 36.0,
        "break_even": {"epochs": 12.0, "students": 0.75},
        "live_command": "softcache distill s -T 20 --live --epochs 2",
    }


def test_a_sweep_is_shared_out_by_rows_and_epochs(tmp_path):
    """1000·6 + 1000·2 + 500·8 = 12,000 rows shown in 120 s: 60, 20 and 40 s."""
    times(tmp_path, "sweep all all 120.0 done")
    students = tmp_path / "sweeps/all/students"
    student(students / "s-hard", [6], soft=None)
    student(students / "s-T20-alpha0.5", [2], t=2.5)
    student(students / "n-T2.5-alpha0.5", [8], model=NARROW, rows=500, t=2.5)
    narrow, wide = cost(tmp_path)["student_epochs"]
    assert (wide["model"], wide["rows"], wide["cached"]["seconds"], wide["cached"]["seconds_per_epoch"]) == (WIDE, 1000, 20, 10)
    assert (narrow["model"], narrow["rows"], narrow["cached"]["seconds_per_epoch"]) == (NARROW, 500, 5)
    assert narrow["live_command"] == "softcache distill n -T 2.5 --live --epochs 2"


@pytest.mark.parametrize(
    ("live", "line"),
    [
        ({"of": ("a", "b")}, "distill s s-T20-live 24.0 done"),
        ({"rows": 500}, "distill s s-T20-live 24.0 done"),
        ({"model": NARROW}, "distill s s-T20-live 24.0 done"),
        ({}, "distill s s-T20-live 24.0 done cuda,2"),
        ({}, "distill s s-T20-live 24.0 done cpu,1"),
        ({}, "distill s s-T20-live 24.0 interrupted"),
    ],
)
def test_only_what_is_alike_is_compared(tmp_path, live, line):
    times(tmp_path, "capture a a 1.0 done", "distill s s-T20 24.0 done", line)
    student(tmp_path / "students/s-T20", [12])
    student(tmp_path / "students/s-T20-live", [2], soft="live", **live)
    (found,) = cost(tmp_path)["student_epochs"]
    assert found["live"] is None
    assert found["break_even"] is None


def test_what_is_not_known_or_never_is_null(tmp_path):
    student(tmp_path / "students/s-T20", [12])
    student(tmp_path / "students/s-T20-live", [2], soft="live")
    times(tmp_path, "distill s s-T20 24.0 done", "distill s s-T20-live 24.0 done", "capture a a 1.0 failed")
    (found,) = cost(tmp_path)["student_epochs"]
    assert (found["capture_seconds"], found["break_even"]) == (None, None)
    times(tmp_path, "distill s s-T20 24.0 done", "distill s s-T20-live 4.0 done", "capture a a 1.0 done")
    (found,) = cost(tmp_path)["student_epochs"]
    assert (found["capture_seconds"], found["break_even"]) == (1.0, None)


# ---------------------------------------------------------------- what cannot be read


def test_no_times(tmp_path):
    with pytest.raises(InputError, match=r"times.csv: expected times of commands, found no file. Every command that trains"):
        cost(tmp_path)


@pytest.mark.parametrize(
    "line",
    ["teach,a,a", "teach,a,a,2026,much,done,cpu,2", "bake,a,a,2026,1.0,done,cpu,2"],
)
def test_a_line_that_is_none(tmp_path, line):
    (tmp_path / "times.csv").write_text(f"{HEADER}\nteach,a,a,2026,1.0,done,cpu,2\n{line}\n")
    with pytest.raises(InputError, match=r"times.csv, line 3: expected command, name, .* Remove the line"):
        cost(tmp_path)
