"""A training that was interrupted anywhere goes on, and ends with the bits of one that was not."""

import contextlib
import random
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
import training_kills
from training_kills import MODEL, RECIPE, VIEWS, jobs

from conftest import recipe, run_capture, tree, write_stage_one
from pipeline.base import files, runtime
from pipeline.base.errors import BusyError, InputError
from pipeline.base.places import Place, place
from pipeline.data.settings import Views
from pipeline.data.splits import Split, open_splits
from pipeline.models.build import parse_model
from pipeline.models.zoo import table as nets
from pipeline.training import fit, resume
from pipeline.training.distill import distill
from pipeline.training.lesson import Ground, Lesson, Soft
from pipeline.training.losses import SoftLoss
from pipeline.training.objective import HARD, LossWeights
from pipeline.training.recipe import Recipe
from pipeline.training.teach import teach

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Below `start`: splits, teachers and caches."""
    runtime.prepare("cpu", threads=1)
    root = tmp_path_factory.mktemp("resume")
    write_stage_one(root / "start", teachers="ab")
    for name in "ab":
        run_capture(root / "start", name)
    return root


@pytest.fixture
def data(root, tmp_path) -> Path:
    return training_kills.fresh(root, str(tmp_path.relative_to(tmp_path.parent)))


class Interrupted(Exception):
    pass


def interrupt_after(monkeypatch, saves: int) -> None:
    """The training keeps every epoch, and stops right after it kept so many."""
    real, count = resume.State.save, iter(range(10**6))

    def save(self, tensors, facts, *, finished):
        real(self, tensors, facts, finished=finished)
        if next(count) == saves:
            raise Interrupted

    monkeypatch.setattr(fit, "SAVING", float("inf"))
    monkeypatch.setattr(resume.State, "save", save)


@pytest.mark.parametrize("what", ["teach", "distill", "sweep"])
def test_interrupted_after_any_epoch(data, monkeypatch, what):
    """Each time a little further; every run ends where one without interruption ended."""
    job = jobs(data)[what]
    job()
    expected = tree(data / "out")
    assert any(name.endswith(".safetensors") for name in expected)
    for saves in (0, 2, 8):
        shutil.rmtree(data / "work/trainings", ignore_errors=True)  # what a sweep keeps for the next time
        with monkeypatch.context() as patch, pytest.raises(Interrupted):
            interrupt_after(patch, saves)
            job()
        assert tree(data / "out") == expected  # the former result stays until another is whole
        assert list(data.glob("work/trainings/*/*.state"))
        job()
        assert tree(data / "out") == expected
        assert bool(list(data.glob("work/trainings/*"))) == (what == "sweep")


def test_what_was_kept_is_used(data, monkeypatch):
    """Interrupted after nine epochs, a training shows its rows three more times, not twelve."""
    job, epochs = jobs(data)["teach"], []
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        interrupt_after(patch, 8)
        job()
    real = fit._Training.epoch
    monkeypatch.setattr(fit._Training, "epoch", lambda self, bar: epochs.append(self.done) or real(self, bar))
    job()
    assert epochs[0] == 9


def test_what_other_settings_had_reached_is_given_up(data, monkeypatch, caplog):
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        interrupt_after(patch, 3)
        jobs(data)["distill"]()
    students = {"model": MODEL, "recipe": RECIPE, "views": VIEWS, "rows": "all", "correct": (), "seeds": (0, 1)}
    given = {"splits": data / "transfer", "work": data / "work", "out": data / "out", "device": CPU}
    with caplog.at_level("WARNING", "pipeline"):
        distill(soft=None, weighting=HARD, **students, **given)
    assert "an unfinished training is dropped, because these have changed since" in caplog.text
    after = tree(data / "out")
    distill(soft=None, weighting=HARD, **students, **given)
    assert tree(data / "out") == after


def test_states_whose_settings_are_unknown_are_not_used(data, monkeypatch):
    """As after a kill amid the removal of what a finished training had kept."""
    jobs(data)["distill"]()
    expected = tree(data / "out")
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        interrupt_after(patch, 3)
        jobs(data)["teach"]()
    (path,) = data.glob("work/trainings/*/*.state")
    soft = Soft({name: data / "caches" / name for name in "ab"}, "probabilities", SoftLoss.parse("kl"))
    ground = Ground.open(data / "transfer", ("transfer", "valid"), data / "work", CPU)
    how = {"views": VIEWS, "rows": "all", "weightings": [LossWeights(2.0, 0.5)], "correct": (1,)}
    lesson = Lesson.prepare(ground, soft=soft, recipe=RECIPE, **how)
    member = lesson.identity(parse_model(MODEL), RECIPE, LossWeights(2.0, 0.5), 0)
    path.rename(resume.State(path.parent, [member]).path)  # a teacher's state under the name of a student's
    jobs(data)["distill"]()
    assert tree(data / "out") == expected


@pytest.mark.parametrize(("what", "saves"), [("teach", 3), ("distill", 15), ("sweep", 3)])
def test_a_state_is_taken_up_whole_or_given_up(data, monkeypatch, caplog, what, saves):
    """Flipped bits, truncations and swaps, of trainings half done and finished: it is said, and the result is the same."""
    job, chance = jobs(data)[what], random.Random(saves)
    job()
    expected = tree(data / "out")
    shutil.rmtree(data / "work/trainings", ignore_errors=True)
    with monkeypatch.context() as patch, contextlib.suppress(Interrupted):
        interrupt_after(patch, saves)
        job()
    shutil.copytree(data / "work", data / "before", dirs_exist_ok=True)
    for number in range(6):
        shutil.rmtree(data / "work")
        shutil.copytree(data / "before", data / "work")
        paths = sorted(data.glob("work/trainings/*/*.state"))
        path = chance.choice(paths)
        held = bytearray(path.read_bytes())
        if number % 3 < 2:
            held[chance.randrange(len(held))] ^= 1 << chance.randrange(8)
        else:
            held = held[: chance.randrange(len(held))]
        path.write_bytes(held)
        if number % 4 == 3 and len(paths) > 1:
            paths[0].rename(data / "aside")
            paths[1].rename(paths[0])
            (data / "aside").rename(paths[1])
        caplog.clear()
        job()
        assert tree(data / "out") == expected
        assert "damaged: " in caplog.text or "dropped, because" in caplog.text


def test_states_whose_names_were_swapped_are_taken_for_what_they_hold(data):
    """Also where one is damaged, and what is trained anew is written over another: of its seed, its stack, or neither."""
    job = jobs(data)["sweep"]
    job()
    expected = tree(data / "out")
    paths = sorted(data.glob("work/trainings/*/*.state"))
    assert len(paths) == 4  # two stacks of each seed
    shutil.copytree(data / "work", data / "before")
    for here, there in [pair for other in paths[1:] for pair in ((paths[0], other), (other, paths[0]))]:
        shutil.rmtree(data / "work")
        shutil.copytree(data / "before", data / "work")
        held = here.read_bytes(), there.read_bytes()
        here.write_bytes(held[1][:-1])
        there.write_bytes(held[0])
        job()
        assert tree(data / "out") == expected


def test_a_flipped_bit_that_makes_half_a_character(data, caplog):
    """A class named by a character of two halves, as JSON writes it: half of it is no text that could be hashed."""
    member = {"classes": ["😀", "b"]}
    resume.State(data / "states", [member]).save({"model.w": torch.zeros(1, 2)}, {"done": 1}, finished=True)
    (path,) = (data / "states").glob("*.state")
    held = path.read_bytes()
    assert b"ude00" in held
    path.write_bytes(held.replace(b"ude00", b"uee00"))
    kept = resume.Kept(data / "states")
    kept._look(data / "out", [member])
    assert "damaged: this training starts again from the beginning" in caplog.text
    assert kept.finished(member, alone=False) is None


def test_what_was_trained_together_otherwise_is_given_up_and_said(data, monkeypatch, caplog):
    """A sweep stopped amid a stack of three goes on one by one."""
    job = jobs(data)["sweep"]
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        interrupt_after(patch, 2)
        job()
    (path,) = data.glob("work/trainings/*/*.state")
    monkeypatch.setattr("pipeline.training.lesson.STACKED_WEIGHTS", 1)  # so that none is stacked
    job()
    assert f"{path}: dropped, because it holds other students than those that are trained together now" in caplog.text
    assert not path.exists()
    after = tree(data / "out")
    shutil.rmtree(data / "work/trainings")
    job()
    assert tree(data / "out") == after


def test_states_in_a_store_are_gone_on_from(data, bucket, monkeypatch):
    """As another machine would: nothing of the first run is left on this one."""

    def job(out: Place) -> None:
        work = place(bucket) / "work"
        teach(
            model=MODEL,
            recipe=recipe(epochs=4),
            policy="none",
            seed=0,
            splits=data / "transfer",
            work=work,
            out=out,
            device=CPU,
        )

    job(data / "out")
    out = place(bucket) / "out"
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        interrupt_after(patch, 0)
        job(out)
    [state] = files.sizes(place(bucket))
    assert state.endswith(".state")
    loaded = []
    with monkeypatch.context() as patch:
        real = resume.State.load
        patch.setattr(resume.State, "load", lambda self: loaded.append(real(self)) or loaded[-1])
        job(out)
    assert loaded[0] is not None
    base = files.current(out)
    assert {name: (base / name).read_bytes() for name in files.sizes(base)} == tree(data / "out")
    assert not (place(bucket) / "work").exists()


def test_two_at_once(data):
    """The second is told that the first is at it."""
    folder = next(iter(data.glob("work/trainings/*")), None)
    assert folder is None
    with resume.Kept.hold(data / "work", data / "out", [{"a": 1}]), pytest.raises(BusyError, match="training of out"):
        jobs(data)["teach"]()


def test_a_teacher_that_diverges_leaves_no_result(data):
    wild = Recipe.parse(optimizer="sgd(lr=1e30)", schedule="constant", epochs=3, batch_size=4)
    with pytest.raises(InputError, match="training of teacher out, epoch 1: expected a finite loss and finite logits"):
        teach(
            model="mlp(hidden=[5, 5])", recipe=wild, policy="none", seed=0, splits=data / "transfer", work=data / "work",
            out=data / "out", device=CPU,
        )  # fmt: skip
    assert not (data / "out").exists()


def killed(root: Path, runs: list[tuple[int, int]]) -> tuple[int, int]:
    """Run training_kills.py for each of `runs`, side by side; returns how many kills, and after how many there was a state."""

    def one(first: int, count: int) -> list[str]:
        command = [sys.executable, training_kills.__file__, str(root), str(first), str(count)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()

    with ThreadPoolExecutor(len(runs)) as pool:
        printed = list(pool.map(one, *zip(*runs, strict=True)))
    assert [line for lines in printed for line in lines[:-1]] == []
    kills, kept = zip(*(map(int, lines[-1].split()) for lines in printed), strict=True)
    return sum(kills), sum(kept)


def test_killed_at_random_moments(root):
    kills, _ = killed(root, [(0, 2)])
    assert kills >= 1


@pytest.mark.soak
def test_killed_at_fifty_random_moments(root):
    kills, kept = killed(root, [(1000, 40), (2000, 40)])
    assert kills >= 40
    assert kept >= 10


PLUGINS = """
import math, torch
from torch import nn
from pipeline.models.build import parse_model
from pipeline.models.zoo.layers import Pixels
from pipeline.training import losses

FACTOR = 1.0

def course(done):
    return 0.5 * FACTOR

def loss(logits, targets, labels, temperature):
    return losses.kl(logits, targets, labels, temperature) * FACTOR

def some(labels, names):
    return torch.arange(len(labels)).numpy()[:: 1 if FACTOR == 1 else 2]

def pixels(images, draw):
    return images if FACTOR == 1 else images.flip(-1)

class Counting(torch.optim.SGD):
    '''Keeps a count in its group, and another as a plain number of each weight.'''
    def __init__(self, parameters, lr):
        super().__init__(parameters, lr=lr * FACTOR)
        self.param_groups[0]["count"] = 0

    def step(self):
        group = self.param_groups[0]
        group["count"] += 1
        for parameter in group["params"]:
            state = self.state[parameter]
            state["seen"] = state.get("seen", 0) + 1
            with torch.no_grad():
                parameter -= group["lr"] * parameter.grad / math.sqrt(group["count"] + state["seen"])

class Open(torch.optim.SGD):
    def step(self):
        super().step()
        self.param_groups[0]["what"] = object()

class Averaging(nn.Module):
    '''Puts another tensor in its buffer's place.'''
    def __init__(self, shape, classes):
        super().__init__()
        self.layer = nn.Linear(shape[1] * shape[2], classes)
        self.register_buffer("mean", torch.zeros(shape[1] * shape[2]))

    def forward(self, pixels):
        inputs = pixels.flatten(1).float() / 255
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * inputs.mean(0).detach()
        return self.layer(inputs - self.mean)

class Tied(nn.Module):
    def __init__(self, shape, classes):
        super().__init__()
        size = shape[1] * shape[2]
        self.first, self.second, self.last = nn.Linear(size, size), nn.Linear(size, size), nn.Linear(size, classes)
        self.second.weight = self.first.weight

    def forward(self, pixels):
        return self.last(self.second(self.first(pixels.flatten(1).float() / 255)))
"""


@pytest.fixture
def plugins(tmp_path, monkeypatch) -> Path:
    """A file of plug-ins, `odd_parts`, that a test may edit."""
    path = tmp_path / "odd_parts.py"
    path.write_text(PLUGINS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("SOFTCACHE_PLUGINS", "odd_parts")
    yield path
    sys.modules.pop("odd_parts", None)


def student(data: Path, model=MODEL, optimizer="adamw(lr=0.01)", schedule="constant", keep="last", loss="kl", rows="all"):
    recipe = Recipe.parse(optimizer=optimizer, schedule=schedule, epochs=6, batch_size=4, keep=keep)
    soft = Soft({"a": data / "caches/a"}, "probabilities", SoftLoss.parse(loss))
    return distill(
        model=model, recipe=recipe, views=VIEWS, rows=rows, soft=soft, weighting=LossWeights(2.0, 0.5), correct=(), seeds=(0,),
        splits=data / "transfer", work=data / "work", out=data / "out", device=CPU,
    )  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"optimizer": "odd_parts:Counting(lr=0.5)"},
        {"model": "odd_parts:Averaging()"},
        {"model": "odd_parts:Averaging()", "keep": "best", "optimizer": "sgd(lr=2.0)"},
        {"model": "odd_parts:Tied()", "keep": "best"},
    ],
    ids=["counts in the optimizer", "a buffer that is replaced", "the best of it", "tied weights"],
)
def test_state_in_odd_places_is_kept_too(data, plugins, monkeypatch, change):
    student(data, **change)
    expected = tree(data / "out")
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        interrupt_after(patch, 2)
        student(data, **change)
    student(data, **change)
    assert tree(data / "out") == expected


def test_state_that_cannot_be_kept_is_refused(data, plugins):
    with pytest.raises(InputError, match="optimizer odd_parts:Open.*: expected a state of tensors and plain values"):
        student(data, optimizer="odd_parts:Open(lr=0.1)")


@pytest.mark.parametrize(
    "change",
    [
        {"optimizer": "odd_parts:Counting(lr=0.5)"},
        {"schedule": "odd_parts:course()"},
        {"loss": "odd_parts:loss()"},
        {"rows": "odd_parts:some()"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_an_edited_plug_in_starts_anew(data, plugins, monkeypatch, change):
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        interrupt_after(patch, 2)
        student(data, **change)
    plugins.write_text(PLUGINS.replace("FACTOR = 1.0", "FACTOR = 0.25"))
    sys.modules.pop("odd_parts")
    student(data, **change)
    resumed = tree(data / "out")
    student(data, **change)
    assert tree(data / "out") == resumed


def test_an_edited_view_step_starts_a_teacher_anew(data, plugins, monkeypatch):
    def train() -> None:
        given = {"splits": data / "transfer", "work": data / "work", "out": data / "out", "device": CPU}
        teach(model=MODEL, recipe=RECIPE, policy="odd_parts:pixels()", seed=1, **given)

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        interrupt_after(patch, 2)
        train()
    plugins.write_text(PLUGINS.replace("FACTOR = 1.0", "FACTOR = 0.25"))
    sys.modules.pop("odd_parts")
    train()
    resumed = tree(data / "out")
    train()
    assert tree(data / "out") == resumed


def test_a_cache_of_an_edited_view_step_is_refused(data, plugins):
    run_capture(data, "a", policy="odd_parts:pixels()")
    plugins.write_text(PLUGINS.replace("FACTOR = 1.0", "FACTOR = 0.25"))
    sys.modules.pop("odd_parts")
    with pytest.raises(InputError, match="cache a, views.behaviours: expected"):
        distill(
            model=MODEL, recipe=RECIPE, views=Views("odd_parts:pixels()", 3, 5), rows="all",
            soft=Soft({"a": data / "caches/a"}, "logits", SoftLoss.parse("kl")), weighting=LossWeights(2.0, 0.5), correct=(),
            seeds=(0,), splits=data / "transfer", work=data / "work", out=data / "out", device=CPU,
        )  # fmt: skip


@pytest.mark.parametrize("what", ["a class without validation rows", "a net without a last bias"])
def test_what_cannot_be_corrected_is_told_before_training(data, monkeypatch, what):
    monkeypatch.setattr(fit._Training, "epoch", None)
    model = "mlp(hidden=[5])"
    if what == "a class without validation rows":
        labels = open_splits(data / "transfer", ["valid"])["valid"].labels()
        assert len(set(labels)) == 3
        monkeypatch.setattr(Split, "labels", lambda self: labels * 0)
    else:
        monkeypatch.setitem(nets.MODELS, "mlp", lambda shape, classes, hidden: Unbiased(shape, classes))
    with pytest.raises(InputError, match="bias correction"):
        distill(
            model=model, recipe=RECIPE, views=VIEWS, rows="all", soft=None, weighting=HARD, correct=(1,), seeds=(0,),
            splits=data / "transfer", work=data / "work", out=data / "out", device=CPU,
        )  # fmt: skip


class Unbiased(torch.nn.Module):
    def __init__(self, shape, classes):
        super().__init__()
        self.layer = torch.nn.Linear(shape[1] * shape[2], classes, bias=False)

    def forward(self, pixels):
        return self.layer(pixels.flatten(1).float())
