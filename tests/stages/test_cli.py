"""Whatever a user can do ends in a message, or in the work being done: pipes, links, odd settings, odd data, odd plug-ins."""

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import crews
import projects
from conftest import images, measured, tree, write_parquet
from pipeline.base import files, runtime
from pipeline.base.errors import InputError
from projects import PARAMS, says
from stages.cli import main

SOFTCACHE = Path(sys.executable).with_name("softcache")


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    return projects.make(tmp_path, monkeypatch)


def settings(project: Path, old: str, new: str) -> None:
    assert old in PARAMS
    (project / "params.yaml").write_text(PARAMS.replace(old, new))


# ---------------------------------------------------------------- pipes, and processes


@pytest.mark.parametrize(
    ("command", "reader"),
    [("verify a", "head -n 1"), ("verify a", "exec 0<&-; sleep 1"), ("distill s -T 2", "true"), ("distill --help", "true")],
)
def test_a_reader_that_goes_away_changes_nothing(project, command, reader):
    """The exit code is the command's own, and there is no word of a pipe."""
    line = f"set -o pipefail; ({SOFTCACHE} {command}; echo $? > code) 2> errors | {reader}"
    subprocess.run(["bash", "-c", line], cwd=project)
    if command != "distill --help":  # which click ends as it will
        assert (project / "code").read_text() == "0\n"
    assert "Traceback" not in (project / "errors").read_text()
    assert "ipe" not in (project / "errors").read_text()
    if command.startswith("distill s"):
        assert (project / "data/students/s-T2/model.json").exists()


@pytest.mark.parametrize("closed", ["2>&-", ">&- 2>/dev/full"])
def test_nowhere_to_say_it_is_no_reason_to_stop(project, closed):
    """A log that has gone, or a disk that is full of it."""
    done = subprocess.run(["bash", "-c", f"{SOFTCACHE} distill s -T 2 {closed}"], cwd=project, stdout=subprocess.DEVNULL)
    assert done.returncode == 0
    assert (project / "data/students/s-T2/model.json").exists()


def test_findings_of_verify_exit_with_3_though_nobody_reads_them(project):
    (project / "data/caches/a/logits.zarr/test/zarr.json").write_text("{}")
    line = f"({SOFTCACHE} verify a; echo $? > code) 2> errors | true"
    subprocess.run(["bash", "-c", line], cwd=project)
    assert (project / "code").read_text() == "3\n"


@pytest.mark.skipif(sys.platform != "linux", reason="PDEATHSIG is Linux's")
@pytest.mark.parametrize("under_dvc", [True, False])
def test_a_stage_whose_dvc_died_before_it_started_does_nothing(project, under_dvc):
    """The parent is gone before Python has started, so that no signal of its death is ever sent."""
    code = (
        "import subprocess, sys\n"
        f"child = subprocess.Popen(['sh', '-c', 'sleep 0.5; exec {SOFTCACHE} versions'])\n"
        "print(child.pid, flush=True)"
    )
    environment = {key: value for key, value in os.environ.items() if key != "DVC_STAGE"}
    environment |= {"DVC_STAGE": "ingest"} if under_dvc else {}  # whose deps `versions` does not look at
    if under_dvc:
        (project / "dvc.yaml").write_text("stages: {versions: {always_changed: true}}")
    parent = subprocess.run([sys.executable, "-c", code], cwd=project, env=environment, capture_output=True, text=True)
    child = int(parent.stdout.split()[0])
    for _ in range(100):
        stat = Path(f"/proc/{child}/stat")
        if not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z":
            break
        time.sleep(0.1)
    assert (project / "data/versions").exists() != under_dvc


def test_a_linked_folder_takes_every_capture(project, tmp_path_factory):
    """Of all caches, of one of them, and of the data as a whole."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    before = tree(project / "data/caches/a")
    for name in ("data/caches/a", "data/caches", "data"):
        place = elsewhere / name.replace("/", "-")
        (project / name).rename(place)
        (project / name).symlink_to(place)
        for _ in range(3):
            says(0, "capture", "a")
            assert (project / name).is_symlink()
            assert tree(project / "data/caches/a") == before
        says(0, "verify", "a")
    assert not list(elsewhere.rglob("*partial*"))


def test_progress_in_a_log_is_a_line_now_and_then(project):
    """Without a terminal: nothing of what is soon done, lines of what is not."""
    code = """
        import logging, sys, time
        from pipeline.base import runtime
        logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
        runtime.LOG_SECONDS = 0.2
        for _ in runtime.progress(range(10), "quick", unit="row"): pass
        for _ in runtime.progress(range(10), "slow", unit="row"): time.sleep(0.1)
        bar = runtime.progress((), "named", total=4, unit="step")
        for _ in range(4): time.sleep(0.15); bar.set_postfix(loss=3, refresh=False); bar.update()
        bar.close()
    """
    import textwrap

    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, cwd=root)
    lines = done.stdout.splitlines()
    assert done.stderr == ""
    assert not [line for line in lines if line.startswith("quick")]
    assert 2 <= len([line for line in lines if line.startswith("slow: ") and " of 10 row, 00:0" in line]) <= 6
    assert any(line.startswith("named: ") and " of 4 step, " in line and line.endswith("loss=3") for line in lines)
    assert not any("\r" in line for line in lines)


# ---------------------------------------------------------------- memory


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        MemoryError("Unable to allocate 74.5 GiB for an array"),
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
)
def test_too_little_memory_is_a_message(project, monkeypatch, error):
    from pipeline.training.fit import _Training

    monkeypatch.setattr(_Training, "_step", lambda self, *given: (_ for _ in ()).throw(error))
    message = says(2, "distill", "s", "-T", "2")
    assert "Not enough memory" in message
    assert "Lower batch_size, tile, views, `memory` or the size of the net, or choose another --device." in message


def test_what_is_our_own_fault_is_not_hidden(project, monkeypatch):
    from pipeline.training.fit import _Training

    monkeypatch.setattr(_Training, "_step", lambda self, *given: (_ for _ in ()).throw(RuntimeError("a bug")))
    result = CliRunner().invoke(main, ["distill", "s", "-T", "2"])
    assert isinstance(result.exception, RuntimeError)


# ---------------------------------------------------------------- torchrun


@pytest.fixture
def rank(monkeypatch):
    """Take this process for one of two ranks. What would end it is noted instead."""
    ended = []
    monkeypatch.setattr("stages.terminal.atexit", SimpleNamespace(register=lambda *given: ended.append(given[1])))
    monkeypatch.setattr("stages.terminal.time", SimpleNamespace(sleep=lambda seconds: None))
    monkeypatch.setattr("stages.terminal.os._exit", lambda code: (_ for _ in ()).throw(SystemExit(code)))
    monkeypatch.setattr("pipeline.base.runtime.die_with_parent", lambda parent: None)

    def started(number: int) -> list[int]:
        for key, value in {"TORCHELASTIC_RUN_ID": "r", "RANK": number, "WORLD_SIZE": 2, "LOCAL_RANK": number}.items():
            monkeypatch.setenv(key, str(value))
        return ended

    return started


@pytest.mark.parametrize("words", [("capture", "a"), ("sweep", "x"), ("report", "x"), ("adopt", "a", "--model", "mlp")])
def test_what_ranks_cannot_share_is_refused_in_one_message(project, rank, words):
    ended = rank(0)
    expected = f"expected softcache distill or teach, whose training is shared, found softcache {words[0]}, 2 times."
    assert f"torchrun: {expected}" in says(2, *words)
    assert ended == [2]
    rank(1)
    result = CliRunner().invoke(main, words)
    assert (result.exit_code, result.output) == (2, "")


def test_a_wrong_option_is_said_once(project, rank):
    rank(0)
    assert "No such option '--nope'" in says(2, "distill", "s", "--nope")
    rank(1)
    assert CliRunner().invoke(main, ["distill", "s", "--nope"]).output == ""


@pytest.mark.parametrize(
    ("error", "waits"), [(KeyboardInterrupt(), False), (InputError("a", expected="b", found="c", fix="D."), True)]
)
def test_a_rank_that_is_interrupted_waits_for_nobody(project, rank, monkeypatch, error, waits):
    waited = []
    monkeypatch.setattr("stages.terminal.time", SimpleNamespace(sleep=waited.append))
    monkeypatch.setattr("pipeline.base.ranks.joined", lambda device: (_ for _ in ()).throw(error))
    rank(1)
    result = CliRunner().invoke(main, ["distill", "s", "-T", "2"])
    assert (result.exit_code, result.output) == (getattr(error, "exit_code", 1), "")
    assert [seconds > 0 for seconds in waited] == [waits]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent has ended")
def test_ranks_end_with_their_torchrun_however_it_ends(tmp_path):
    os.mkfifo(tmp_path / "params.yaml")  # a rank waits there for its settings
    started = {"TORCHELASTIC_RUN_ID": "r", "RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}
    line = ["sh", "-c", f'"{SOFTCACHE}" distill s -T 2 & echo $!; wait']
    with subprocess.Popen(line, cwd=tmp_path, env=os.environ | started, stdout=subprocess.PIPE) as torchrun:
        process = int(torchrun.stdout.readline())
        try:
            with open(tmp_path / "params.yaml", "wb"):  # when it has begun to wait
                torchrun.kill()
                for _ in range(2000):
                    if crews.alive(process):
                        time.sleep(0.01)
                assert not crews.alive(process)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)


def test_help_is_for_every_rank(project, rank):
    ended = rank(0)
    assert "--no-python" in says(0, "distill", "--help")
    assert not ended


# ---------------------------------------------------------------- plug-ins

PLUGINS = """
import torch
from torch import nn
from pipeline.models.zoo.layers import Pixels

class Late(nn.Module):
    def __init__(self, shape, classes):
        super().__init__()
        self.layer = nn.Linear(shape[1] * shape[2], classes)

    def forward(self, pixels):
        if self.training:
            raise LookupError("of my own")
        return self.layer(pixels.flatten(1).float())

class Normed(nn.Sequential):
    def __init__(self, shape, classes):
        size = shape[1] * shape[2]
        super().__init__(Pixels(), nn.Flatten(), nn.Linear(size, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, classes))

class Hidden(Normed):
    # a mean that training moves, and that is in no state; Scratch keeps what it has just seen, which nothing depends on
    def __init__(self, shape, classes):
        super().__init__(shape, classes)
        self.register_buffer("mean", torch.zeros(()), persistent=False)

    def forward(self, pixels):
        if self.training:
            self.mean.mul_(0.9).add_(pixels.float().mean(), alpha=0.1)
        return super().forward(pixels) - self.mean

class Scratch(Normed):
    def __init__(self, shape, classes):
        super().__init__(shape, classes)
        self.register_buffer("seen", torch.full((), float("nan")), persistent=False)

    def forward(self, pixels):
        self.seen = pixels.float().mean()
        if self.training:
            self.register_buffer("noise", torch.zeros(1), persistent=False)
        return super().forward(pixels)

class Huge(Normed):
    def forward(self, pixels):
        return super().forward(pixels) + (torch.empty(10**15)[0] if self.training else 0)

class Pairs(Normed):
    def forward(self, pixels):
        return super().forward(pixels), None

class Whole(Normed):
    def forward(self, pixels):
        return super().forward(pixels).argmax(-1, keepdim=True).expand(-1, 3)

class Noted(Normed):
    def get_extra_state(self):
        return {"note": "mine"}

    def set_extra_state(self, state):
        pass

def frozen(shape, classes):
    return Normed(shape, classes).requires_grad_(False)

def wrong(images, draw):
    return images.float()

def cut(images, draw):
    return images[:, :, 1:]

def some(labels, names):
    return [[1], [2, 3]]

def none(parameters):
    return None

def loss(logits, targets, labels, temperature):
    return (logits - targets).pow(2).mean()
"""


@pytest.fixture
def plugins(project, monkeypatch) -> Path:
    (project / "odd_ones.py").write_text(PLUGINS)
    monkeypatch.setenv("SOFTCACHE_PLUGINS", "odd_ones")
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield project
    sys.modules.pop("odd_ones", None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--model", "odd_ones:Late()"),
            "training: expected a net that can be trained, found LookupError: of my own, at {place}, line 13",
        ),
        (
            ("--model", "odd_ones:Hidden()"),
            "its state does not keep buffers that training changes (mean): make them persistent",
        ),
        (("--model", "odd_ones:Huge()"), "Not enough memory: "),
        (("--model", "odd_ones:Pairs()"), "expected logits of shape (2, 3) for two rows, found tuple"),
        (("--model", "odd_ones:Whole()"), "expected logits of a float dtype, found torch.int64"),
        (("--model", "odd_ones:Noted()"), "expected a state of tensors, found _extra_state"),
        (("--model", "odd_ones:frozen()"), "expected parameters to train, found none"),
        (("--device", "meta"), "expected auto, cpu, cuda or cuda:N, present on this machine, found meta"),
        (
            ("--policy", "odd_ones:wrong"),
            "expected uint8 pixels of shape (20, 1, 4, 4), found torch.float32 of shape (20, 1, 4, 4)",
        ),
        (
            ("--policy", "odd_ones:cut"),
            "expected uint8 pixels of shape (20, 1, 4, 4), found torch.uint8 of shape (20, 1, 3, 4)",
        ),
        (("--rows", "odd_ones:some"), "rows odd_ones:some(): expected row numbers, found setting an array element"),
        (("--optimizer", "odd_ones:none()"), "expected a torch.optim.Optimizer, found NoneType"),
        (("--loss", "odd_ones:loss"), "loss odd_ones:loss(): expected a float tensor of shape (5,), found a scalar"),
    ],
)
def test_plug_ins_that_break_are_told_with_their_place(plugins, options, message):
    said = says(2, "distill", "s", "--hard" if "--loss" not in options else "-T2", *options)
    assert message.format(place=plugins / "odd_ones.py") in said
    assert not (plugins / "data/students").exists() or not list((plugins / "data/students").iterdir())


def test_what_a_net_notes_beside_its_state_may_change(plugins):
    says(0, "distill", "s", "--hard", "--model", "odd_ones:Scratch()")


@pytest.mark.parametrize(("batch", "fits"), [(19, False), (10, True), (1, False), (20, True)])
def test_batch_statistics_want_two_rows(plugins, batch, fits):
    """Of 20 rows: a last batch of one is told before anything is trained."""
    command = ("distill", "s", "--hard", "--model", "odd_ones:Normed()", "--batch-size", batch)
    if fits:
        says(0, *command)
    else:
        message = says(2, *command)
        assert (
            f"found 20 rows in batches of {batch}, the last with a single row (ValueError: Expected more than 1 value per"
            in message
        )
        assert message.endswith("Choose another batch_size.\n")


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("distill", "s", "-T", "2", "-T", "4"), "Invalid value for '-T' / '--temperature': given 2 times; give it once."),
        (("distill", "s", "-T", "2", "--alpha", "0.5", "--alpha", "0.6"), "'--alpha': given 2 times"),
        (("distill", "s", "--hard", "--hard"), "'--hard': given 2 times"),
        (("distill", "s", "-T", "2", "--t_squared", "--no-t_squared"), "given 2 times"),
        (("distill", "s", "-T", "2", "--teachers", "a", "--teachers", "a"), "'--teachers': 'a' twice; give each value once."),
        (("distill", "s", "-T", "2", "--seeds", "1", "--seeds", "01"), "'--seeds': 1 twice"),
        (("distill", "s", "-T", "2", "--data", "data", "--data", "data"), "'--data': given 2 times"),
        (("distill", "s", "--hard", "--alpha", "0.5", "--rule", "logits"), "--rule, --alpha: not used with --hard"),
        (("ingest", "--train", "a", "--train", "b"), "'--train': given 2 times"),
        (("sweep", "all", "--alphas", "0.5", "--alphas", ".50"), "'--alphas': 0.5 twice"),
        (("distill", "s", "-T", "2", "--seeds", "0,1"), "To give several, repeat the option: --seeds … --seeds …"),
        (("distill", "s", "-T", "2", "--teachers", "a,b"), "To give several, repeat the option: --teachers"),
        (("distill", "s", "-T", "2", "--epochs", "0"), "Invalid value for '--epochs': 0: expected a number above 0."),
        (("verify", "a", "data/caches/a"), "CACHE: the same one twice"),
        (("verify", "a", "--deep", "-1"), "-1: expected a number of pairs"),
    ],
)
def test_what_is_given_twice_or_in_vain_is_told(project, command, message):
    assert message in says(2, *command)


@pytest.mark.parametrize(
    ("temperature", "message"),
    [
        ("1e308", "'1e308': expected a number from 1e-06 to 1e+06"),
        ("1e-5", "'1e-5': expected 1e-05, written that way"),
        ("007", "'007': expected 7, written that way, because it names a folder"),
        ("2.0", "'2.0': expected 2, written"),
        ("1e999", "expected a number from 1e-06 to 1e+06"),
        ("9" * 5000, "expected a number from 1e-06 to 1e+06"),
        ("2024-01-01", "expected a number from 1e-06 to 1e+06"),
        ("٣", "expected a number from 1e-06 to 1e+06"),
    ],
)
def test_temperatures_that_are_none(project, temperature, message):
    assert message in says(2, "distill", "s", "-T", temperature)


RUN, TEACHERS, SEEDS, HEAT = "distill s -T 2", "teachers: [a]", "seeds: [0]", "temperatures: [2]"
EPOCHS, MODEL = "epochs: 1, batch_size: 8, seeds", 's: {model: "mlp(hidden=[3])"}'


@pytest.mark.parametrize(
    ("old", "new", "command", "message"),
    [
        (TEACHERS, "teachers: [a, a]", RUN, "'a' twice"),
        (TEACHERS, "teachers: [a, null]", RUN, "distill.teachers: expected a list of values, found ['a', None]"),
        (TEACHERS, "teachers: [[a]]", RUN, "params.yaml, distill.teachers: expected text, found ['a']"),
        (TEACHERS, "teachers: [a], weights: [.nan]", RUN, "distill.weights: expected a finite number, found nan"),
        (TEACHERS, "teachers: [a], weights: [2024-01-01]", RUN, "expected a number"),
        (SEEDS, "seeds: [99999999999999999999]", RUN, "expected a whole number of 64 bits"),
        (SEEDS, f"seeds: [0x{'f' * 5000}]", RUN, "recipe.seeds: expected a whole number of 64 bits, found a number of very"),
        (SEEDS, f"seeds: [{'9' * 5000}]", RUN, "params.yaml: expected YAML, found "),
        (SEEDS, "seeds: [null]", RUN, "recipe.seeds: expected a list of values, found [None]"),
        (SEEDS, "seeds: 2024-02-30", RUN, "params.yaml: expected YAML, found "),
        (SEEDS, f"seeds: [{'[' * 500}{']' * 500}]", RUN, "one of so many levels that it cannot be read"),
        (EPOCHS, "epochs: {a: 1}, batch_size: 8, seeds", RUN, "recipe.epochs: expected a value"),
        (EPOCHS, "epochs: 2024-01-01, batch_size: 8, seeds", RUN, "expected a whole number"),
    (EPOCHS, "epochs: sixty, batch_size: 8, seeds", RUN, "params.yaml, recipe.epochs: expected a whole number, found 'sixty'."),
    (EPOCHS, "epochs: 0, batch_size: 8, seeds", RUN, "params.yaml, recipe.epochs: expected a number above 0, found 0."),
    (EPOCHS, "epochs: 1, batch_size: 8, keep: first, seeds", RUN, "recipe.keep: expected last or best, found 'first'"),
    ("alpha: 0.9", "t_squared: maybe", RUN, "distill.t_squared: expected true or false, found 'maybe'"),
    (HEAT, "temperatures: [0]", "sweep all", "params.yaml, temperatures: expected a number from 1e-06 to 1e+06, found 0"),
        (EPOCHS, "epochs: 1.0, batch_size: 8, seeds", RUN, "expected a whole number"),
        ("alpha: 0.9", "alpha: [0.9]", RUN, "expected a number"),
        ("alpha: 0.9", "alpha: .inf", RUN, "distill.alpha: expected a finite number, found inf"),
        (HEAT, "temperatures: [2, 2.0]", "evaluate", "expected 2, written that way"),
        (HEAT, "temperatures: [2024-01-01]", "evaluate", "expected a number from 1e-06 to 1e+06"),
        (HEAT, "temperatures: {a: 1}", "evaluate", "temperatures: expected a list such as [1, 4]"),
        (HEAT, "temperatures: [2, 2]", "evaluate", "2 twice"),
        (MODEL, "s: null", RUN, "Missing option '--model'"),
        (MODEL, "s: [1]", RUN, "students.s: expected a section, found [1]"),
        (MODEL, "s: {model: [1]}", RUN, "students.s.model: expected text, found [1]"),
        (MODEL, 's: {model: "mlp(hidden=[1e999])"}', RUN, "expected arguments that are Python"),
        (MODEL, f's: {{model: "mlp(hidden={"[" * 3000})"}}', RUN, "spec "),
        (MODEL, 's: {model: "mlp(hidden=[99999999999])"}', RUN, "Not enough memory: "),
        (MODEL, "s: &s {model: *s}", RUN, "students.s.model: expected a value"),
    ],
)  # fmt: skip
def test_odd_settings_are_a_message(project, old, new, command, message):
    settings(project, old, new)
    said = says(2, *command.split())
    assert message in said
    assert len(said) < 1500


def test_a_yaml_of_many_copies_is_not_written_out(project):
    """Nine levels of nine references each: half a billion items, if anybody wrote them all."""
    levels = ["a: &a0 [x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{number}: &a{number} [{', '.join([f'*a{number - 1}'] * 9)}]" for number in range(1, 9)]
    settings(
        project, "recipe: {optimizer: sgd(lr=0.1), epochs: 1,", "\n".join((*levels, "recipe: {optimizer: *a8, epochs: *a8,"))
    )
    assert "expected text" in says(2, "distill", "s", "--hard")


# ---------------------------------------------------------------- data


def test_forged_manifests_take_no_time(project):
    path = project / "data/caches/a/manifest.json"
    before = path.read_bytes()
    for change in (
        lambda found: found["extents"]["transfer"].update(rows=2**60),
        lambda found: found["extents"]["transfer"].update(views=10**12),
        lambda found: found["identity"]["layout"].update(span=1, chunk=1) or found["extents"]["transfer"].update(rows=2**60),
        lambda found: found["identity"]["layout"].update(span=0),
        lambda found: found["extents"].update({"../../x": {"rows": 1, "views": 1, "inputs_digest": "x"}}),
        lambda found: found["extents"]["transfer"].update(rows=True),
        lambda found: found["records"].clear(),
        lambda found: found["identity"].update(classes=[]),
        lambda found: found["identity"].pop("teacher"),
        lambda found: found.update(records=7),
        lambda found: found["identity"].update(classes="abc"),
    ):
        found = json.loads(before)
        change(found)
        del found["format"], found["digest"]
        digest = files.sha256(files.canonical_json(found))
        path.write_bytes(files.readable_json({"format": 1, "digest": digest, **found}))
        for command in (("distill", "s", "-T", "2"), ("inspect", "a"), ("verify", "a")):
            assert "softcache capture a" in says(3, *command)
    path.write_text("[" * 200_000)
    assert "expected a manifest" in says(3, "inspect", "a")
    says(0, "capture", "a")
    assert path.read_bytes() == before


def test_control_characters_and_halves_of_them_out_of_data(project):
    """In class names, in files that are beside a cache, and on the command line."""
    (project / "data/caches/a/\x1b[2J\n").touch()
    said = says(3, "verify", "a")
    assert "\\x1b[2J\\n: expected nothing, found a stray file" in said
    for text in ("\x1b[31m", "\udcff"):
        said = says(2, "distill", "s", "-T", "2", "--rows", text)
        assert all(char.isprintable() or char == "\n" for char in said)
    encoded, labels = images(12)
    write_parquet(project / "odd.parquet", encoded, labels, names=["\x1b[31mred", "\u202eleft", "plain\n"])
    says(0, "ingest", "--train", "odd.parquet", "--valid", "0.25", "--test", "0.25", "--data", "other")
    says(0, "teach", "a", "--data", "other")
    says(0, "capture", "a", "--data", "other")
    said = says(0, "inspect", "a", "--data", "other")
    assert "classes          3: \\x1b[31mred, \\u202eleft, plain\\n" in said
    assert json.loads(says(0, "inspect", "a", "--data", "other", "--json"))["classes"][0] == "\x1b[31mred"


def test_a_message_names_the_data_folder_that_it_is_about(project):
    """`softcache capture a` would mend another cache."""
    (project / "data").rename(project / "held out")
    (project / "held out/caches/a/manifest.json").unlink()
    said = says(3, "distill", "s", "-T", "2", "--data", "held out")
    assert "Run `softcache capture a --data 'held out'`" in said
    says(0, "capture", "a", "--data", "held out")
    says(0, "distill", "s", "-T", "2", "--data", "held out")


def test_a_folder_that_another_command_wrote_is_told(project):
    """A teacher's as a student's, a student's as a teacher's, and a student's under another name."""
    says(0, "distill", "s", "-T", "2")
    says(0, "distill", "s", "--hard")
    says(0, "evaluate")
    students = project / "data/students"
    (students / "s-T2").rename(project / "aside")
    for source, message in (
        (project / "data/teachers/a", "model.json, kind: expected student, found teacher"),
        (students / "s-hard", "model.json, kind: expected student, found baseline"),
    ):
        (students / "s-T2").symlink_to(source)
        assert message in says(3, "evaluate")
        (students / "s-T2").unlink()
    (project / "aside").rename(students / "s-T4")
    settings(project, "temperatures: [2]", "temperatures: [4]")
    said = says(3, "evaluate")
    assert "model.json, name: expected s-T4, found s-T2. Run `softcache distill s -T 4`." in said
    (students / "s-T4").rename(project / "data/teachers/b")
    assert (
        "model.json, kind: expected teacher or adopted or imported or promoted, found student. Run `softcache teach b`."
        in says(3, "capture", "b")
    )


def test_one_missing_student_leaves_the_others_measured(project):
    says(0, "distill", "s", "-T", "2")
    said = says(0, "evaluate")
    assert "s-hard: not trained yet and left out. To train it, run `softcache distill s --hard`." in said
    assert said.endswith("wrote data/plots: 2 runs, 1 not trained yet\n")
    assert measured(project / "data/plots").keys() == {(run, split) for run in ("a", "s-T2") for split in ("valid", "test")}
    assert json.loads((project / "data/plots/metrics.json").read_text())["s"].keys() == {"temperature", "accuracy", "nll"}


def test_a_teacher_that_was_trained_anew_is_told_wherever_its_cache_is_read(project):
    says(0, "distill", "s", "-T", "2")
    says(0, "evaluate")
    says(0, "teach", "a", "--seed", "3")
    for command in (("distill", "s", "-T", "2"), ("evaluate",), ("sweep", "all")):
        said = says(2, *command)
        assert "cache a, teacher.weights_sha256: expected " in said
        assert said.endswith("Run `softcache capture a`.\n")
    assert "data/plots: teacher a was trained again after it was measured" in says(0, "report")
    says(0, "capture", "a")
    says(0, "distill", "s", "-T", "2")
    says(0, "evaluate")
    assert "trained again" not in says(0, "report")
    (project / "data/teachers/a").rename(project / "data/teachers/gone")
    says(0, "distill", "s", "-T", "2")  # a cache may come without its teacher


def test_a_net_whose_logits_are_not_finite_on_test_rows_alone(project):
    """All rows but those of the test split are dark: logits that overflow there do not end the evaluation of the others."""
    from pipeline.data.splits import open_splits
    from pipeline.models.build import parse_model
    from pipeline.models.checkpoint import Checkpoint

    says(0, "distill", "s", "-T", "2")
    says(0, "distill", "s", "--hard")
    found = Checkpoint.open(project / "data/students/s-T2", kinds=["student"], name="s-T2", fix="")
    net = found.load(found.nets[0], torch.device("cpu"))
    with torch.no_grad():
        list(net.parameters())[-2].fill_(3e38)
        list(net.parameters())[-1].copy_(torch.tensor([-3e38, 3e38, 0]))
    Checkpoint.write(
        found.folder, kind="student", name="s-T2", nets={found.nets[0]: net}, history=found.history(), recipe=found.recipe,
        views=found.views, rows=found.rows, soft=found.soft, data=found.data, model=parse_model(found.model),
        split=open_splits(project / "data/transfer", ["train"])["train"],
    )  # fmt: skip
    said = says(0, "evaluate")
    assert "s-T2, seed 0: its logits are not finite, so it is left out" in said
    assert {run for run, _ in measured(project / "data/plots")} == {"a", "s-hard"}
    assert json.loads((project / "data/plots/metrics.json").read_text())["s"].keys() == {"hard_accuracy"}


def test_a_deep_look_that_finds_other_logits_is_mended_by_doing_it_anew(project, monkeypatch):
    """The bytes are as they were sealed, so a plain capture would link them again."""
    from pipeline.cache.writer import Work

    publish = Work.publish
    with monkeypatch.context() as patch:
        patch.setattr(Work, "publish", lambda self, *given: publish(self, *given[:4], np.roll(given[4], 1, axis=0)))
        says(0, "capture", "a", "--anew")
    said = says(3, "verify", "a", "--deep", "100")
    assert "alignment of rows" in said
    (fix,) = re.findall("Run `softcache (.* --anew)` to compute the damaged part again.", said)
    says(0, "capture", "a")
    says(3, "verify", "a", "--deep", "100")
    assert "11 spans computed" in says(0, *shlex.split(fix))
    says(0, "verify", "a", "--deep", "100")


def test_a_record_that_lies_about_its_size_is_no_endless_loop(project):
    """verify → capture → verify: what a record says is whole or discarded."""
    (record,) = (project / ".softcache").glob("*/records/logits-transfer-1-1.json")
    for old, new in (('"size_bytes": 260', '"size_bytes": 261'), ('"low": ', '"low": -9'), ('"high": ', '"high": 9')):
        record.write_text(record.read_text().replace(old, new))
        assert "1 span computed, 10 kept from before" in says(0, "capture", "a")
        says(0, "verify", "a")
        says(0, "distill", "s", "-T", "2")


@pytest.mark.parametrize("number", ["0", "2000", "2147483648", "9" * 30])
def test_numbers_of_threads_that_are_none(project, monkeypatch, number):
    monkeypatch.setenv("OMP_NUM_THREADS", number)
    assert "threads: expected 1 to 1,024, found" in says(2, "distill", "s", "--hard")
    monkeypatch.setenv("OMP_NUM_THREADS", "1,1")  # for nested loops, which torch reads by itself
    says(0, "distill", "s", "--hard")


def test_what_is_noted_are_the_threads_that_worked(project, monkeypatch):
    for name in ("OMP_NUM_THREADS", "SOFTCACHE_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(runtime, "cores", lambda: 2)
    monkeypatch.setattr(runtime, "_THREAD_FLOPS", 1e5)  # of 190 for a row
    for tile, expected in ((4, 1), (2000, 2)):
        says(0, "capture", "a", "--tile", tile, "--anew")
        assert json.loads((project / "data/provenance/a.json").read_text())["threads"] == expected
        assert (project / "data/times.csv").read_text().splitlines()[-1].split(",")[-2] == "2"  # what it might have used
    runtime.prepare("cpu")


def test_threads_suit_the_work(project, monkeypatch):
    """One for a small net, whatever the cores; what is asked for where something is."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    runtime.prepare("cpu")
    with runtime.suited_threads(1e6):
        assert torch.get_num_threads() == 1
        with runtime.suited_threads(1e12):
            assert torch.get_num_threads() == runtime.cores()
        assert torch.get_num_threads() == 1
    assert runtime.shaping(torch.device("cpu"))["threads"] == f"as suits the work, of {runtime.cores()}"
    assert runtime.threads_used() == runtime.cores()  # the most; it is what is noted of a command
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    runtime.prepare("cpu")
    assert runtime.threads_used() == 3
    assert runtime.shaping(torch.device("cpu"))["threads"] == 3
    runtime.prepare("cpu", threads=2)
    with runtime.suited_threads(1e6):
        assert torch.get_num_threads() == 2
    assert runtime.shaping(torch.device("cpu"))["threads"] == 2
    runtime.prepare("cpu")


@pytest.mark.parametrize(("given", "missing"), [(("--epochs", "1"), "optimizer"), (("--optimizer", "sgd(lr=0.1)"), "epochs")])
def test_a_recipe_that_is_not_whole_names_what_is_missing(project, given, missing):
    """Without params.yaml."""
    (project / "params.yaml").unlink(missing_ok=True)
    assert f"Missing option '--{missing}'" in says(2, "teach", "c", "--model", "mlp(hidden=[2])", *given)
    whole = ("--optimizer", "sgd(lr=0.1)", "--epochs", "1")
    assert "Missing option '--batch_size'" in says(2, "teach", "c", "--model", "mlp(hidden=[2])", *whole)
