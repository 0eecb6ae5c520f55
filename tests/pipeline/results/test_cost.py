"""Cost: folders and times made up by hand, and what they come to, worked out by hand."""

import json
import shutil
from pathlib import Path

import pytest

from pipeline.base import table
from pipeline.base.errors import InputError, IntegrityError
from pipeline.base.facts import sealed
from pipeline.base.files import sha256
from pipeline.cache.manifest import Manifest
from pipeline.cache.provenance import Provenance
from pipeline.models import modelfile
from pipeline.models.modelfile import HISTORY_COLUMNS
from pipeline.results.cost import cost
from pipeline.results.times import checked

WIDE, NARROW = "mlp(hidden=[800, 800])", "mlp(hidden=[30])"
LESS = {"batch_size": 64, "precision": "bfloat16", "memory": 0.5, "draws": 2}
RECIPE = {
    "optimizer": "sgd(lr=0.1)", "schedule": "constant()", "epochs": 9, "batch_size": 128, "max_norm": None, "clip_grad": None,
    "label_smoothing": 0.0, "virtual_teacher": None, "draws": 1, "ema": None, "memory": 4.0,
    "keep": "last", "patience": None, "precision": "float32",
}  # fmt: skip
DATA = dict.fromkeys(("inputs", "labels", "valid_inputs", "valid_labels"), "digest")
GOLDEN = Path(__file__).parents[2] / "golden/cache-3"
HEADER = "command,name,run,started,seconds,ended,device,threads,check"


def times(data: Path, *lines: str, machine: str = "cpu,2") -> None:
    """Each line as `teach a a 10.0 done`; a name of `none` is empty."""
    rows = []
    for line in lines:
        command, name, run, seconds, ended, *other = line.split()
        name, run = ("" if each == "none" else each for each in (name, run))
        rows.append(f"{command},{name},{run},2026-01-01T00:00:00Z,{seconds},{ended},{other[0] if other else machine}")
    data.mkdir(parents=True, exist_ok=True)
    (data / "times.csv").write_bytes(f"{HEADER}\n".encode() + b"".join(checked(row.encode()) for row in rows))


def folder(path: Path, epochs: list[int], **facts) -> None:
    """model.json, and a history of so many epochs of each seed."""
    path.mkdir(parents=True)
    rows = [{"seed": seed, "epoch": epoch} for seed, count in enumerate(epochs) for epoch in range(count)]
    history = table.to_parquet(rows, HISTORY_COLUMNS)
    (path / "history.parquet").write_bytes(history)
    net = {"kept_epoch": 1, "sha256": "digest", "offsets": None, "diverged": None, "chance": False}
    nets = [{"seed": seed, **net} for seed in range(len(epochs))]
    usual = {
        "version": modelfile.FORMAT,
        "name": path.name,
        "behaviour": "version 1",
        "inputs": {"kind": "image", "mode": "L", "shape": [1, 28, 28], "decoder": "d", "fit": None},
        "classes": ["0", "1"],
        "nets": nets,
    }
    usual |= {
        "history_sha256": sha256(history),
        "rows": None,
        "soft": None,
        "imported": None,
        "outputs": None,
        "parameters": 9,
        "assets": {},
        "generations": [],
        "mutual": None,
        "data": DATA,
    }
    (path / "model.json").write_bytes(sealed(usual | facts))


def teacher(data: Path, name: str, epochs: int = 5) -> None:
    views = {"policy": "none()", "seed": 1, "count": None, "behaviours": ["version 1"]}
    folder(data / "teachers" / name, [epochs], kind="teacher", model=WIDE, recipe=RECIPE, views=views)


def cache(data: Path, name: str, *, kept: int = 0) -> None:
    """A cache that was captured just now, or one that kept some spans of a capture before."""
    path = data / "caches" / name
    path.mkdir(parents=True, exist_ok=True)
    shutil.copy(GOLDEN / "manifest.json", path)
    texts = dict.fromkeys(("host", "system", "processor", "device", "python", "torch", "numpy", "zarr"), "x")
    counts = {"threads": 1, "spans_computed": 0, "spans_kept": kept, "seconds": 1.0}
    Provenance(teacher=name, manifest=Manifest.read(path).digest, **texts, **counts).write(data / f"provenance/{name}.json")


def student(
    path: Path, epochs: list[int], *, soft: str | None = "caches", of=("a",), alpha=0.9, model=WIDE, rows=1000, t=20.0, **other
) -> None:
    """As `Lesson.write` leaves it; other: settings that the facts hold one level down, such as selection."""
    settings = {
        "selection": "all()",
        "policy": "none()",
        "count": 1,
        "batch_size": 128,
        "precision": "float32",
        "memory": 4.0,
        "draws": 1,
    }
    assert not other.keys() - settings, other
    selection, policy, views, batch_size, precision, memory, draws = (settings | other).values()
    learned = {
        "temperature": t, "alpha": alpha, "label_weight": 1 - alpha, "loss": "kl()", "loss_behaviour": "version 1",
        "rule_version": 1, "squared": True, "standardised": False, "rule": "probabilities", "weights": [1 / len(of)] * len(of),
        "caches": None, "live": None,
    }  # fmt: skip
    kind = {"caches": "student", "live": "live", None: "baseline"}[soft]
    sweep = f"{path.parents[1].name}/" if path.parents[2].name == "sweeps" else ""
    folder(
        path,
        epochs,
        kind=kind,
        name=f"{sweep}{path.name}",
        model=model,
        soft=learned | {soft: dict.fromkeys(of, "digest")} if soft else None,
        rows={"selection": selection, "count": rows, "sha256": "digest"},
        views={"policy": policy, "seed": 0, "count": views, "behaviours": ["version 1"]},
        recipe=RECIPE | {"batch_size": batch_size, "precision": precision, "memory": memory, "draws": draws},
    )


def baseline(path: Path, epochs: list[int], **settings) -> None:
    """One that learned from labels alone."""
    student(path, epochs, **(settings | {"soft": None}))


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
    baseline(tmp_path / "sweeps/wide/students/s-hard", [6])
    for run in ("s-T20-alpha0.5", "s-T20-alpha0.9"):
        student(tmp_path / f"sweeps/wide/students/{run}", [6])
    found = cost(tmp_path)
    columns = ("stage", "command", "name", "live", "students", "epochs", "seconds", "share")
    assert all(row["done"] for row in found["rows"])
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
    assert found["others"] == []
    assert (*columns[:4], "done", *columns[4:]) == tuple(found["rows"][0])


def test_what_is_unfinished_is_spent_and_not_done(tmp_path):
    times(
        tmp_path,
        "teach a a 1.0 interrupted",
        "teach b b 2.0 done",
        "teach b b 4.0 interrupted",  # of what b would have been next
        "capture a a 8.0 interrupted",
        "distill s s-T1 16.0 interrupted",
        "distill s s-T2 32.0 done",
        "distill s s-T2-live 64.0 interrupted",
        "evaluate none none 128.0 interrupted",
    )
    assert [tuple(row[key] for key in ("stage", "command", "name", "done", "seconds")) for row in cost(tmp_path)["rows"]] == [
        (1, None, None, True, 11.0),
        (1, "teach", None, True, 3.0),
        (1, "teach", "a", False, 1.0),
        (1, "teach", "b", True, 2.0),
        (1, "capture", None, False, 8.0),
        (1, "capture", "a", False, 8.0),
        (2, None, None, True, 240.0),
        (2, "distill", None, True, 112.0),
        (2, "distill", "s", True, 48.0),
        (2, "distill", "s", False, 64.0),
        (2, "evaluate", None, False, 128.0),
    ]


def test_what_failed_is_nobodys_cost(tmp_path):
    """A misspelt setting, say."""
    times(tmp_path, "distill s s-T1 9.0 failed", "distill s s-T1 1.0 done", "distill s s-T1 9.0 failed", "capture z z 5 failed")
    assert [(row["command"], row["seconds"]) for row in cost(tmp_path)["rows"]] == [
        (None, 1.0),
        ("distill", 1.0),
        ("distill", 1.0),
    ]


@pytest.mark.parametrize(
    ("ended", "expected"),
    [
        (["1 done"], 1),
        (["1 interrupted", "2 failed", "4 done"], 5),  # went on where it stopped
        (["1 done", "2 done"], 2),  # the first one's output was replaced
        (["1 interrupted", "2 done", "4 interrupted", "8 done", "16 failed"], 12),
        (["1 interrupted", "2 interrupted"], 3),
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
        (0, ["capture a a 60 done", "capture a a 50 done"], 50),
        (5, ["capture a a 60 done", "capture a a 1 done", "capture a a 2 done"], 63),  # nothing was computed again
        (5, ["capture a a 60 done", "teach a a 9 done", "capture a a 50 done", "capture a a 1 done"], 51),
        (5, ["capture a a 60 done", "capture a a 20 interrupted", "capture a a 30 done"], 50),  # it kept its own
        (5, ["capture a a 60 done", "teach a a 9 done"], 60),
        (5, ["capture a a 60 done", "capture a a 1 done", "capture a a 2 failed"], 61),  # it is there, and of the first two
    ],
)
def test_a_capture_that_kept_spans_costs_what_they_cost_too(tmp_path, kept, ended, expected):
    cache(tmp_path, "a", kept=kept)
    times(tmp_path, *ended)
    assert seconds(tmp_path, "capture", "a") == expected
    assert cost(tmp_path)["untimed"] == []


def test_outputs_that_no_command_made_are_named_and_not_counted(tmp_path):
    times(tmp_path, "distill s s-T1 1.0 failed", "distill s s-T2 1.0 done")
    teacher(tmp_path, "a")
    cache(tmp_path, "a")
    for run in ("s-T1", "s-T2", ".s-T3.partial"):
        student(tmp_path / "students" / run, [2])
    baseline(tmp_path / "sweeps/wide/students/s-hard", [2])
    found = cost(tmp_path)
    assert found["untimed"] == ["teach a", "distill s-T1", "sweep wide", "capture a"]
    assert found["rows"][0]["students"] == 1
    assert found["rows"][0]["seconds"] == 1.0


def test_a_data_folder_with_a_dot(tmp_path):
    times(tmp_path / ".data", "distill s s-T2 1.0 done")
    student(tmp_path / ".data/students/s-T2", [2])
    assert cost(tmp_path / ".data")["rows"][0]["students"] == 1


def test_folders_with_times_of_their_own_are_named_and_not_counted(tmp_path):
    for place in ("", "heldout", "caches/none", ".heldout.partial"):
        times(tmp_path / place, "teach a a 1.0 done")
    found = cost(tmp_path)
    assert (found["seconds"], found["others"]) == (1.0, [str(tmp_path / "heldout")])


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
        "policy": "none()",
        "views": 1,
        "batch_size": 128,
        "precision": "float32",
        "memory": 4.0,
        "draws": 1,
        "teachers": ("a", "b"),
        "features": (),
        "device": "cpu",
        "threads": 2,
        "cached": {"students": 2, "epochs": 24, "seconds": 48.0, "seconds_per_epoch": 2.0},
        "live": {"students": 2, "epochs": 4, "seconds": 24.0, "seconds_per_epoch": 6.0},
        "capture_seconds": 36.0,
        "break_even": {"epochs": 12.0, "students": 0.75},
        "live_command": "softcache distill s -T 20 --live --teachers b --teachers a --views 1 --batch-size 128"
        f" --precision float32 --memory 4 --draws 1 --data {tmp_path}",
    }


def test_a_sweep_is_shared_out_by_rows_and_epochs(tmp_path):
    """1000·6 + 1000·2 + 500·8 = 12,000 rows shown in 120 s: 60, 20 and 40 s."""
    times(tmp_path, "sweep all all 120.0 done")
    students = tmp_path / "sweeps/all/students"
    baseline(students / "s-hard", [6])
    student(students / "s-T20-alpha0.5", [2])
    student(students / "n-T20-alpha0.5", [8], rows=500)
    few, many = cost(tmp_path)["student_epochs"]
    assert (many["rows"], many["cached"]) == (1000, {"students": 1, "epochs": 2, "seconds": 20, "seconds_per_epoch": 10})
    assert (few["rows"], few["cached"]["seconds"], few["cached"]["seconds_per_epoch"]) == (500, 40, 5)


def test_a_baseline_is_compared_with_nothing(tmp_path):
    times(tmp_path, "sweep all all 120.0 done", "distill s s-T1 9.0 done")
    baseline(tmp_path / "sweeps/all/students/s-hard", [6])
    baseline(tmp_path / "students/s-T1", [6])
    assert cost(tmp_path)["student_epochs"] == []


def test_a_sweep_of_live_students_and_a_baseline_is_in_the_table_alone(tmp_path):
    times(tmp_path, "sweep all all 120.0 done", "distill s s-T20 24.0 done")
    student(tmp_path / "students/s-T20", [12])
    student(tmp_path / "sweeps/all/students/s-T20-alpha0.5", [2], soft="live")
    assert cost(tmp_path)["student_epochs"][0]["live"]["seconds"] == 120.0
    baseline(tmp_path / "sweeps/all/students/s-hard", [2])
    assert cost(tmp_path)["student_epochs"][0]["live"] is None


@pytest.mark.parametrize(
    "other",
    [
        {"model": NARROW},
        {"batch_size": 64},
        {"precision": "bfloat16"},
        {"memory": 1.0},
        {"draws": 2},
        {"count": 2},
        {"policy": "flip()"},
    ],
)
def test_a_sweep_of_students_that_differ_in_pace_is_in_the_table_alone(tmp_path, other):
    times(tmp_path, "sweep all all 120.0 done", "distill s s-T20 24.0 done")
    student(tmp_path / "students/s-T20", [12])
    student(tmp_path / "sweeps/all/students/s-T20-alpha0.5", [2])
    student(tmp_path / "sweeps/all/students/n-T20-alpha0.5", [2], **other)
    found = cost(tmp_path)
    assert [each["cached"]["seconds"] for each in found["student_epochs"]] == [24.0]
    assert (found["rows"][0]["students"], found["rows"][0]["seconds"]) == (3, 144.0)


@pytest.mark.parametrize(
    ("settings", "options"),
    [
        ({"t": 2.5}, "-T 2.5 --live --teachers a --views 1 --batch-size 128 --precision float32 --memory 4 --draws 1"),
        (
            dict(of=("b", "a"), t=1234567.0, selection="only(classes=['7'])", policy="shift(pixels=2)", count=32, **LESS),
            "-T 1234567 --live --teachers b --teachers a --rows 'only(classes=['\"'\"'7'\"'\"'])'"
            " --policy 'shift(pixels=2)' --views 32 --batch-size 64 --precision bfloat16 --memory 0.5 --draws 2",
        ),
    ],
)
def test_the_live_command_says_what_a_sweep_may_have_set(tmp_path, monkeypatch, settings, options):
    monkeypatch.chdir(tmp_path)
    for data, end in (("data", ""), ("my data", " --data 'my data'")):
        times(Path(data), "sweep all all 120.0 done")
        baseline(Path(data, "sweeps/all/students/my-s-hard"), [2], **settings)
        student(Path(data, f"sweeps/all/students/my-s-T{settings['t']:.7g}-alpha0.9"), [2], **settings)
        (found,) = cost(Path(data))["student_epochs"]
        assert found["live_command"] == f"softcache distill my-s {options}{end}"


@pytest.mark.parametrize(
    ("live", "line"),
    [
        ({"of": ("a", "b")}, "distill s s-T20-live 24.0 done"),
        ({"rows": 500}, "distill s s-T20-live 24.0 done"),
        ({"model": NARROW}, "distill s s-T20-live 24.0 done"),
        ({"count": 2}, "distill s s-T20-live 24.0 done"),
        ({"policy": "shift(pixels=2)"}, "distill s s-T20-live 24.0 done"),
        ({"batch_size": 64}, "distill s s-T20-live 24.0 done"),
        ({"precision": "bfloat16"}, "distill s s-T20-live 24.0 done"),
        ({"memory": 1.0}, "distill s s-T20-live 24.0 done"),
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
    [
        b"teach,a,a",
        b"teach,a,a,2026,1.0,done,cpu,2,more",
        b"teach,a,a,2026,much,done,cpu,2",
        b"bake,a,a,2026,1.0,done,cpu,2",
        b"teach,a,a,2026,nan,done,cpu,2",
        b"teach,a,a,2026,inf,done,cpu,2",
        b"teach,a,a,2026,-1.0,done,cpu,2",
        b"teach,\xff,a,2026,1.0,done,cpu,2",
        b'teach,"a,a,2026,1.0,done,cpu,2',
        b"teach,a,a,2026,1.0,done,cpu," + b"2" * 200_000,
    ],
)
@pytest.mark.parametrize("whole", [True, False])
def test_a_line_that_is_none(tmp_path, line, whole):
    good = checked(b"teach,a,a,2026,1.0,done,cpu,2")
    bad = checked(line) if whole else line + b",0123456789abcdef\n"
    (tmp_path / "times.csv").write_bytes(HEADER.encode() + b"\n" + good + b"\n" + bad + good)
    with pytest.raises(IntegrityError, match=r"times.csv, line 4: expected command, name, .* Remove the line"):
        cost(tmp_path)


def test_a_flipped_digit_is_found(tmp_path):
    times(tmp_path, "teach a a 61.0 done", "capture a a 2.0 done")
    path = tmp_path / "times.csv"
    held = path.read_bytes()
    for place in range(len(HEADER) + 1, len(held)):
        path.write_bytes(held[:place] + bytes([held[place] ^ 1]) + held[place + 1 :])
        with pytest.raises(IntegrityError, match=r"times.csv, line [23]: expected"):
            cost(tmp_path)


@pytest.mark.parametrize("first", ["teach,a,a,2026,1.0,done,cpu,2", HEADER.replace("seconds", "hours"), "\0"])
def test_a_first_line_that_is_none(tmp_path, first):
    (tmp_path / "times.csv").write_text(f"{first}\nteach,a,a,2026,1.0,done,cpu,2\n")
    with pytest.raises(IntegrityError, match=rf"times.csv, line 1: expected {HEADER}, found .* Put that line there"):
        cost(tmp_path)


@pytest.mark.parametrize("text", ["{}", "[]", "null", "3", '{"seeds": 3, "recipe": {"epochs": 1}}', "not JSON", "[" * 100_000])
@pytest.mark.parametrize("place", ["teachers/a", "students/s-T20", "sweeps/all/students/s-T20-alpha0.5"])
def test_a_folder_of_others(tmp_path, place, text):
    times(tmp_path, "teach b b 1.0 done")
    (tmp_path / place).mkdir(parents=True)
    (tmp_path / place / "model.json").write_text(text)
    with pytest.raises(IntegrityError, match=rf"{place}/model.json: expected facts with their digest"):
        cost(tmp_path)


@pytest.mark.parametrize(
    ("command", "found", "fix"),
    [
        ("teachers/b", "teachers/a", "Run `softcache teach b --data"),
        ("teachers/s-T20", "students/s-T20", "Run `softcache teach s-T20 --data"),
        ("students/s-T4", "students/s-T20", "Remove "),
        ("students/a", "teachers/a", "Remove "),
        ("sweeps/more/students/s-T20", "sweeps/all/students/s-T20", "Run `softcache sweep more --data"),
        ("sweeps/all/students/s-T20", "students/s-T20", "Run `softcache sweep all --data"),
    ],
)
def test_a_copied_folder_is_not_what_it_was_copied_to(tmp_path, command, found, fix):
    teacher(tmp_path, "a")
    student(tmp_path / "students/s-T20", [2])
    student(tmp_path / "sweeps/all/students/s-T20", [2])
    times(tmp_path, "teach a a 1.0 done")
    cost(tmp_path)
    shutil.copytree(tmp_path / found, tmp_path / command, dirs_exist_ok=True)
    with pytest.raises(IntegrityError, match=f"{command}/model.json, (name|kind): expected") as caught:
        cost(tmp_path)
    assert caught.value.fix.startswith(fix)


@pytest.mark.parametrize("key", ["model", "nets", "views", "recipe", "history_sha256"])
def test_a_student_that_lacks_a_fact(tmp_path, key):
    times(tmp_path, "distill s s-T20 1.0 done")
    student(tmp_path / "students/s-T20", [2])
    path = tmp_path / "students/s-T20/model.json"
    facts = json.loads(path.read_text())
    del facts[key], facts["digest"]
    path.write_bytes(sealed(facts))
    with pytest.raises(IntegrityError, match=rf"model.json: expected facts of the right types, found {key}: Field required"):
        cost(tmp_path)


def test_a_damaged_provenance_is_told(tmp_path):
    cache(tmp_path, "a", kept=5)
    times(tmp_path, "capture a a 60 done", "capture a a 1 done")
    path = tmp_path / "provenance/a.json"
    path.write_text(path.read_text().replace('"spans_kept": 5', '"spans_kept": 0'))
    with pytest.raises(IntegrityError, match="provenance/a.json: expected .* Run `softcache capture a .* which writes it"):
        cost(tmp_path)


def test_a_cache_of_which_another_was_noted_or_none_is_not_taken_for_the_one_that_was_timed(tmp_path, caplog):
    for name in "ab":
        cache(tmp_path, name, kept=5)
    times(tmp_path, "capture a a 60 done")
    path = tmp_path / "provenance/a.json"
    facts = json.loads(path.read_text())
    path.write_bytes(sealed({name: value for name, value in facts.items() if name != "digest"} | {"manifest": "of another"}))
    for _ in range(2):
        found = cost(tmp_path)
        assert "caches/a: not the cache of the last capture in" in caplog.text
        assert found["untimed"] == ["capture a", "capture b"]
        assert found["rows"][-1]["done"] is False
        path.unlink(missing_ok=True)
        caplog.clear()
