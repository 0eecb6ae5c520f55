"""Distillation from caches against plain training, live teachers, students one by one, and loops as they are often written."""

import contextlib
import functools
import itertools
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from ruamel.yaml import YAML
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from benchmarks.measure import (
    CPU,
    folder_for_data,
    in_turns,
    machine,
    median,
    options,
    ratio,
    show,
    write_splits,
    write_teacher,
)
from pipeline.base import runtime
from pipeline.cache.capture import capture
from pipeline.cache.reader import Cache
from pipeline.cache.settings import Keep
from pipeline.data import ingest
from pipeline.data.settings import Views
from pipeline.data.splits import open_splits
from pipeline.models.build import build, flops, parse_model
from pipeline.models.checkpoint import Checkpoint
from pipeline.models.stack import Stack
from pipeline.studies.groups import Plan
from pipeline.studies.sweep import sweep
from pipeline.training.course import START
from pipeline.training.fit import Validation, _Training
from pipeline.training.lesson import Ground, Lesson, Soft
from pipeline.training.losses import SoftLoss
from pipeline.training.objective import HARD, LossWeights, Objective
from pipeline.training.recipe import Recipe

ROWS = 55_000  # what MNIST has to train on when 5,000 rows validate
BATCH = 128
SMALL, LARGE = "mlp(hidden=[30, 30])", "mlp(hidden=[800, 800])"
TITLES = {SMALL: "2×30", LARGE: "2×800"}
TEACHERS = ("a", "b", "c", "d")
OPTIMIZER = "sgd(lr=0.1, momentum=0.9)"
SCHEDULE = "one_cycle()"  # at a constant rate, rounding alone moves a final accuracy by more than a standard error
BOTH = LossWeights(4.0, 0.9)  # both terms of the objective
TEMPERATURES, ALPHAS = (1, 2, 3, 4, 6, 8, 12, 20), (0.25, 0.5, 0.75, 0.9)
SWEPT = {f"T{t}-alpha{alpha}": LossWeights(float(t), alpha) for t, alpha in itertools.product(TEMPERATURES, ALPHAS)}
EPOCHS = 2  # of every student of the sweep
COMMANDS = 4  # of the commands that a sweep stands for, how many are run

Way = Callable[[], object]


# ---------------------------------------------------------------- what is timed


def prepare(folder: Path, mnist: Path | None, device: torch.device = CPU) -> None:
    """Splits, teachers with their initial weights, and their caches, where the commands look for them."""
    splits = folder / "transfer"
    if mnist:
        train, test = (str(mnist / f"mnist-{split}.parquet") for split in ("train", "test"))
        ingest.ingest(train=train, valid=5000, test=test, transfer_set=(), damaged="fail", seed=0, out=splits)
    else:
        write_splits(splits, ROWS, classes=10, size=28)
    for name in TEACHERS:
        write_teacher(folder / "teachers" / name, "mlp(hidden=[1200, 1200])", splits)
        capture(
            teacher=folder / "teachers" / name, splits=splits, views=Views(), keep=Keep(),
            work=folder / "work", out=folder / "caches" / name, provenance=folder / "provenance.json", device=device,
        )  # fmt: skip


def soft_of(folder: Path, live: bool = False) -> Soft:
    places = {name: folder / ("teachers" if live else "caches") / name for name in TEACHERS}
    return Soft(places, "probabilities", SoftLoss.parse("kl"), live=live)


def recipe_of(epochs: int, precision: str = "float32") -> Recipe:
    return Recipe.parse(optimizer=OPTIMIZER, schedule=SCHEDULE, epochs=epochs, batch_size=BATCH, precision=precision)


def lesson_of(folder: Path, soft: Soft | None, weightings: Iterable[LossWeights], device: torch.device = CPU) -> Lesson:
    ground = Ground.open(folder / "transfer", ("transfer", "train", "valid"), folder / "work", device)
    return Lesson.prepare(
        ground, views=Views("none", 1, 0), rows="all", soft=soft, weightings=list(weightings), correct=(), recipe=recipe_of(1)
    )


def training_of(
    lesson: Lesson, model: str, weightings: Iterable[LossWeights] = (BOTH,), precision: str = "float32", seed: int = 0
) -> _Training:
    """The library's own loop between two epochs; as many nets as weightings, stacked where there are several.

    It has hardly any validation rows: they are not what is timed.
    """
    weightings = list(weightings)
    nets = [build(parse_model(model), lesson.source.inputs, len(lesson.source.classes), seed=seed) for _ in weightings]
    net = (Stack(nets) if len(nets) > 1 else nets[0]).to(lesson.ground.device)
    recipe = recipe_of(10**6, precision)
    valid = lesson.ground.splits["valid"]
    few = Validation(torch.from_numpy(valid.read(0)[:BATCH]), valid.labels()[:BATCH])
    objective = Objective.of(weightings, lesson.labels, lesson.soft.loss if lesson.soft else None, lesson.signal)
    return _Training(net, lesson.examples, objective, recipe, few, seed)


def tenths(training: _Training) -> Way:
    """Each call is the next tenth of an epoch."""
    batches = itertools.chain.from_iterable(training.examples.epoch(training.seed, n, BATCH) for n in itertools.count())

    def one() -> None:
        with suited(training):
            for batch in itertools.islice(batches, max(training.steps // 10, 1)):
                training._step(batch, START, len(batch.rows))

    return one


def suited(training: _Training) -> contextlib.AbstractContextManager:
    """The threads on which `fit` would train it."""
    net, count = (training.model.pattern, len(training.model)) if isinstance(training.model, Stack) else (training.model, 1)
    shown = training.examples.inputs.example(2).to(training.examples.device)
    return runtime.suited_threads(flops(net, shown) * BATCH * count)


def steps(training: _Training, count: int) -> None:
    """The first steps of an epoch, at the rate of the optimiser itself, on the threads that suit them."""
    with suited(training):
        steps_on(training, count)


def steps_on(training: _Training, count: int) -> None:
    """The same on as many threads as there are now."""
    training.model.train()
    for batch in itertools.islice(training.examples.epoch(training.seed, training.done, BATCH), count):
        training._step(batch, START, len(batch.rows))


def timed(ways: Mapping[str, _Training], count: int, times: int) -> dict[str, list[float]]:
    """Seconds of `count` steps of each."""
    return in_turns({name: functools.partial(steps, training, count) for name, training in ways.items()}, times)


def per_step(seconds: list[float], count: int) -> str:
    return f"{median(seconds) / count * 1e3:.2f}"


# ---------------------------------------------------------------- figures


def against_labels(cached: Lesson, hard: Lesson, times: int) -> None:
    """Epochs of distillation against epochs on labels alone, a tenth of one at a time, so that noise hits both."""
    for model, bar in ((LARGE, 1.05), (SMALL, None)):
        ways = {"cached": training_of(cached, model), "labels": training_of(hard, model, (HARD,))}
        seconds = in_turns({name: tenths(training) for name, training in ways.items()}, 10 * times)
        found = ratio(seconds["cached"], seconds["labels"])
        detail = f"{10 * median(seconds['cached']):.2f} s against {10 * median(seconds['labels']):.2f} s"
        title = f"epoch from the cache / on labels alone, {TITLES[model]}"
        show(title, found, f"≤ {bar}" if bar else "", found <= bar if bar else None, detail)


def against_live(folder: Path, cached: Lesson, times: int) -> None:
    live = lesson_of(folder, soft_of(folder, live=True), [BOTH], cached.ground.device)
    for model in (SMALL, LARGE):
        seconds = timed({"live": training_of(live, model), "cached": training_of(cached, model)}, 100, times)
        found = ratio(seconds["live"], seconds["cached"])
        detail = f"{per_step(seconds['live'], 100)} against {per_step(seconds['cached'], 100)} ms a step"
        show(f"4 teachers 2×1200 live / from their caches, {TITLES[model]}", found, detail=detail)


def run_sweep(folder: Path, together: int, device: torch.device = CPU) -> None:
    out = folder / f"sweep-{together}"
    shutil.rmtree(out, ignore_errors=True)
    plan = Plan(SMALL, recipe_of(EPOCHS), Views("none", 1, 0), "all", soft_of(folder), (), (0,))
    given = {"splits": folder / "transfer", "work": folder / "work", "device": device, "anew": True}
    teachers = {name: folder / "teachers" / name for name in TEACHERS}
    weightings = list(SWEPT.values())
    sweep(plans={"small": plan}, weightings=weightings, baseline=True, together=together, teachers=teachers, out=out, **given)


def process(code: str, *words: object) -> None:
    """Run Python in a process of its own."""
    subprocess.run([sys.executable, "-c", code, *map(str, words)], check=True, stdout=subprocess.DEVNULL)


def distill(folder: Path, temperature: float, alpha: float, device: torch.device) -> None:
    """The command softcache distill, for one of the students that are swept."""
    places = ("--params", folder / "params.yaml", "--data", folder, "--work", folder / "work", "--device", device)
    process("from stages.cli import main; main()", "distill", "small", "-T", temperature, "--alpha", alpha, *places)


def sweep_apart(folder: Path, together: int, device: torch.device) -> None:
    code = (
        "import sys; from pathlib import Path; from pipeline.base import runtime; device = runtime.prepare(sys.argv[3])\n"
        "from benchmarks.training import run_sweep; run_sweep(Path(sys.argv[1]), int(sys.argv[2]), device)"
    )
    process(code, folder, together, device)


def sweeping(folder: Path, device: torch.device = CPU) -> None:
    """32 students and their baseline, stacked and one by one in this process; and 32 by a command each."""
    count = len(SWEPT) + 1
    ways = {"before": count, "alone": 1, "after": count}  # of the long one a single run, between two of the other
    seconds = in_turns({name: functools.partial(run_sweep, folder, each, device) for name, each in ways.items()}, 1, warm=0)
    [alone], stacked = seconds["alone"], median(seconds["before"] + seconds["after"])
    detail = f"{alone:.1f} s against {stacked:.1f} s, {EPOCHS} epochs, reading included"
    show(f"sweep of {count} students 2×30, one by one / stacked", alone / stacked, "≥ 3", alone / stacked >= 3, detail)

    settings = {
        "recipe": {"optimizer": OPTIMIZER, "schedule": SCHEDULE, "epochs": EPOCHS, "batch_size": BATCH},
        "views": {"policy": "none"},
        "students": {"small": {"model": SMALL}},
        "distill": {"teachers": list(TEACHERS)},
    }
    with (folder / "params.yaml").open("w") as file:
        YAML().dump(settings, file)
    some = list(itertools.product(TEMPERATURES, ALPHAS))[:: len(SWEPT) // COMMANDS]
    commands = {str(each): functools.partial(distill, folder, *each, device) for each in some}
    seconds = in_turns({**commands, "sweep": functools.partial(sweep_apart, folder, count, device)}, 1, warm=0)
    each, [stacked] = median([median(seconds[name]) for name in commands]), seconds["sweep"]
    found = len(SWEPT) * each / stacked
    detail = f"{len(SWEPT)} × {each:.1f} s, the median of {COMMANDS} commands that were run, against {stacked:.1f} s"
    show(f"{len(SWEPT)} commands distill / a process with the sweep", found, "≥ 5", found >= 5, detail)
    accuracies(folder / f"sweep-{count}", folder / "sweep-1", open_splits(folder / "transfer", ("valid",))["valid"].rows)


def accuracies(together: Path, alone: Path, rows: int) -> None:
    """The largest difference of final validation accuracies, in standard errors of one of them."""
    worst, where = 0.0, "no difference"
    for path in sorted((alone / "students").iterdir()):
        one, other = (last_accuracy(folder / "students" / path.name, path.name) for folder in (alone, together))
        error = max((one * (1 - one) / rows) ** 0.5, 1 / rows)
        if abs(one - other) / error > worst:
            worst, where = abs(one - other) / error, f"{path.name}: {one:.2%} and {other:.2%} of {rows:,} rows"
    show("accuracy, stacked and alone: farthest, in standard errors", worst, "≤ 1", worst <= 1, where, unit="")


def last_accuracy(folder: Path, run: str) -> float:
    """On the validation split, after the last epoch."""
    name = f"{folder.parent.parent.name}/{run}"
    checkpoint = Checkpoint.open(folder, kinds=["student", "baseline"], name=name, fix="Run the benchmark again.")
    return checkpoint.history()[-1]["valid_accuracy"]


def same_students(lesson: Lesson) -> None:
    """How far stacked students are from those that are trained alone: gradients of the first step, weights after 100.

    A rectifier whose input is 0 up to rounding may pass in one and not in the other, which moves its weights by the
    gradient of a row: 1e-4 here. On MNIST that befalls one of the 32 within 100 steps, so the bar is for the median one.
    """
    weightings = list(SWEPT.values())
    for what, count in (("gradients of a step", 1), ("weights after 100 steps", 100)):
        stacked, alone = training_of(lesson, SMALL, weightings), [training_of(lesson, SMALL, [each]) for each in weightings]
        for training in (stacked, *alone):
            steps(training, count)
        far = [0.0] * len(alone)
        for place, single in enumerate(alone):
            for one, other in zip(stacked.model.parameters(), single.model.parameters(), strict=True):
                one, other = (one.grad, other.grad) if count == 1 else (one.detach(), other.detach())
                far[place] = max(far[place], float((one[place] - other).abs().max()))
        value, which = (max(far), "farthest student") if count == 1 else (median(far), "median student")
        detail = f"{sum(each <= 1e-5 for each in far)} of {len(far)} students within the bar, the farthest {max(far):.1e}"
        show(f"{what}, stacked and alone: {which}", value, "≤ 1e-5", value <= 1e-5, detail, unit="", form=".1e")


# ---------------------------------------------------------------- loops as they are often written


class FilePerRow(Dataset):
    """Logits in a file per row, as torch.save writes them; pixels and labels in memory."""

    def __init__(self, folder: Path, pixels: torch.Tensor, labels: torch.Tensor):
        self.folder, self.pixels, self.labels = folder, pixels, labels

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return self.pixels[row], self.labels[row], torch.load(self.folder / f"{row}.pt")


class MappedFile(Dataset):
    """Logits in one file that is mapped into memory."""

    def __init__(self, logits: np.ndarray, pixels: torch.Tensor, labels: torch.Tensor):
        self.logits, self.pixels, self.labels = logits, pixels, labels

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return self.pixels[row], self.labels[row], torch.from_numpy(np.array(self.logits[row]))


def plain_epoch(net: torch.nn.Module, optimizer: torch.optim.Optimizer, loader: DataLoader) -> None:
    """Hinton's objective in a few lines of torch."""
    heat, alpha = BOTH.temperature, BOTH.alpha
    device = next(net.parameters()).device
    for batch in loader:
        pixels, labels, targets = (each.to(device) for each in batch)
        logits = net(pixels)
        student, teacher = functional.log_softmax(logits / heat, dim=1), functional.softmax(targets / heat, dim=1)
        soft = functional.kl_div(student, teacher, reduction="batchmean") * heat**2
        loss = alpha * soft + (1 - alpha) * functional.cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def against_plain_loops(folder: Path, cached: Lesson, times: int, rows: int = 4096) -> None:
    """Time per row of loops that read logits of one teacher row by row, and of ours."""
    pixels = torch.from_numpy(cached.source.read(0))[:rows]
    labels = torch.from_numpy(cached.source.labels())[:rows]
    logits = Cache.open(folder / "caches/a").read("transfer")[0].astype(np.float32)
    np.save(folder / "logits.npy", logits)
    (folder / "rows").mkdir()
    for row in range(rows):
        torch.save(torch.from_numpy(logits[row].copy()), folder / f"rows/{row}.pt")
    files = FilePerRow(folder / "rows", pixels, labels)
    mapped = MappedFile(np.load(folder / "logits.npy", mmap_mode="r"), pixels, labels)
    shared = {"batch_size": BATCH, "shuffle": True}
    ways = {
        "a file per row": {n: DataLoader(files, num_workers=n, persistent_workers=n > 0, **shared) for n in (0, 2)},
        "numpy memmap": {n: DataLoader(mapped, num_workers=n, persistent_workers=n > 0, **shared) for n in (0, 2)},
    }

    def plain(net: torch.nn.Module, optimizer: torch.optim.Optimizer, loader: DataLoader) -> None:
        torch.set_deterministic_debug_mode("default")  # such loops do not ask for it
        try:
            plain_epoch(net, optimizer, loader)
        finally:
            torch.set_deterministic_debug_mode("error")

    for model in (SMALL, LARGE):
        net = build(parse_model(model), cached.source.inputs, 10).to(cached.ground.device)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
        loops = {
            f"{kind}, {n} workers": functools.partial(plain, net, optimizer, loader)
            for kind, loaders in ways.items()
            for n, loader in loaders.items()
        }
        ours = functools.partial(steps, training_of(cached, model), rows // BATCH)
        seconds = in_turns({"ours": ours, **loops}, times)
        for kind, loaders in ways.items():
            best = min((f"{kind}, {n} workers" for n in loaders), key=lambda name: median(seconds[name]))
            found = ratio(seconds[best], seconds["ours"])
            per_row = [median(seconds[name]) / rows * 1e6 for name in (best, "ours")]
            detail = f"{per_row[0]:.0f} against {per_row[1]:.0f} µs a row; {best.rpartition(', ')[2]}, the better of 0 and 2"
            show(f"loop over {kind} / ours, {TITLES[model]}", found, detail=detail)


# ---------------------------------------------------------------- what the machine could do besides


def precisions(cached: Lesson, times: int) -> None:
    for model in (SMALL, LARGE):
        ways = {kind: training_of(cached, model, precision=kind) for kind in ("float32", "bfloat16")}
        seconds = timed(ways, 100, times)
        detail = f"{per_step(seconds['float32'], 100)} against {per_step(seconds['bfloat16'], 100)} ms a step"
        found = ratio(seconds["float32"], seconds["bfloat16"])
        show(f"step in float32 / in bfloat16, {TITLES[model]}", found, detail=detail)


def threads(cached: Lesson, swept: Lesson, times: int) -> None:
    """One thread against all of them, where a step is a few small products."""

    def on(count: int, training: _Training) -> None:
        torch.set_num_threads(count)
        try:
            steps_on(training, 100)
        finally:
            torch.set_num_threads(runtime.cores())

    for title, training in (
        ("2×30", training_of(cached, SMALL)),
        ("32 × 2×30 stacked", training_of(swept, SMALL, SWEPT.values())),
    ):
        ways: dict[str, Way] = {
            "all": functools.partial(on, runtime.cores(), training),
            "one": functools.partial(on, 1, training),
        }
        seconds = in_turns(ways, times)
        detail = f"{per_step(seconds['all'], 100)} against {per_step(seconds['one'], 100)} ms a step"
        show(f"step on all threads / on one, {title}", ratio(seconds["all"], seconds["one"]), detail=detail)


def compiled(folder: Path, cached: Lesson, times: int) -> None:
    title = "step eager / torch.compile, 2×800"
    if not any(map(shutil.which, ("c++", "g++", "clang++"))):
        print(f"{title}: left out, this machine has no C++ compiler")
        return
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder / "compiled")
    eager, faster = training_of(cached, LARGE), training_of(cached, LARGE)
    faster.model = torch.compile(faster.model)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            seconds = timed({"eager": eager, "compiled": faster}, 100, times)
    except Exception as error:  # whatever the compiler finds missing here
        print(f"{title}: left out, {type(error).__name__}: {str(error).splitlines()[0]}")
        return
    detail = f"{per_step(seconds['eager'], 100)} against {per_step(seconds['compiled'], 100)} ms a step, after warm-up"
    show(title, ratio(seconds["eager"], seconds["compiled"]), detail=detail)


def main() -> None:
    parser = options(__doc__, times=5)
    parser.add_argument("--mnist", type=Path, help="Folder with mnist-train.parquet and mnist-test.parquet.")
    given = parser.parse_args()
    some = max(3, given.times // 2)  # rounds of what is no close call
    device = runtime.prepare(given.device)
    torch.set_num_threads(runtime.cores())  # as torch does by itself, for the loops that are not ours
    root = folder_for_data()
    print(f"training, {'MNIST' if given.mnist else f'{ROWS:,} synthetic rows'}, batches of {BATCH}: {machine(device)}")
    try:
        prepare(root, given.mnist, device)
        cached = lesson_of(root, soft_of(root), [BOTH], device)
        swept = lesson_of(root, soft_of(root), SWEPT.values(), device)
        against_labels(cached, lesson_of(root, None, [HARD], device), given.times)
        against_live(root, cached, some)
        sweeping(root, device)
        same_students(swept)
        against_plain_loops(root, cached, some)
        precisions(cached, some)
        if device.type == "cpu":
            threads(cached, swept, some)
        compiled(root, cached, some)
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
