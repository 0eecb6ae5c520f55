"""What each versioned thing does, on small fixed inputs: compared by test_versions.py with what it did when it was recorded.

    python tests/behaviour.py

records, in golden/versions.json, what has no record yet: something new, or something whose version has gone up. What is
recorded already stays as it is.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # as a script it would find tests/pipeline first

import json
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from unittest.mock import patch

import numpy as np
import onnx
import pyarrow as pa
import torch

import elsewhere
import samples
from conftest import NO_GALLERY, NO_LINEAGE, images, write_parquet, write_split, write_stage_one, write_teacher
from pipeline.base import files, randomness, runtime, table
from pipeline.cache import imported
from pipeline.data import ingest, pixels, selection
from pipeline.data.assignment import NOWHERE, Assignment
from pipeline.data.index import Index
from pipeline.data.inputs.array import Arrays
from pipeline.data.inputs.form import Form
from pipeline.data.inputs.image import Images
from pipeline.data.inputs.resizing import FITS
from pipeline.data.inputs.text import Texts
from pipeline.data.policies import table as policies
from pipeline.data.settings import Views
from pipeline.data.sources import table as sources_table
from pipeline.data.sources.source import Chunk, Source
from pipeline.data.sources.table import parse_source
from pipeline.data.views import Policy
from pipeline.models import ensemble, predict, stack
from pipeline.models.build import build, parse_model
from pipeline.models.encoding import encode
from pipeline.models.zoo import table as nets
from pipeline.models.zoo.layers import Pixels
from pipeline.results import evaluate, export, report, summary
from pipeline.results.choice import best
from pipeline.results.columns import columns, pairs
from pipeline.results.exporting import Exporting
from pipeline.results.run import Measure
from pipeline.stats import metrics
from pipeline.training import bias, curriculum, features, fit, losses, objective, recipe
from pipeline.training.course import Course, Progress
from pipeline.training.examples import Batch, Examples
from pipeline.training.features import FeatureLoss
from pipeline.training.inputs import Numbers
from pipeline.training.losses import SoftLoss
from pipeline.training.objective import LossWeights, Objective
from pipeline.training.recipe import Recipe
from pipeline.training.resume import State
from pipeline.training.signal import NoTeacher

GOLDEN = Path(__file__).parent / "golden"
RECORD = GOLDEN / "versions.json"
# how far numbers may be apart: integers; float sums; the same in float32 alone; weights after some steps
EXACT, CLOSE, FLOAT32, TRAINED = 0.0, 1e-6, 1e-5, 1e-4

LABELS = np.arange(10) % 3


def _numbers(*shape: int, seed: int = 0, low: float = -2, high: float = 2) -> np.ndarray:
    """Fixed numbers of float64, from addressed randomness."""
    return low + (high - low) * randomness.integers(10**6, seed, np.arange(np.prod(shape))).reshape(shape) / 10**6


def _pixels(count: int = 10, channels: int = 1, size: int = 6) -> torch.Tensor:
    return torch.from_numpy(randomness.integers(256, 1, np.arange(count * channels * size**2)).astype(np.uint8)).view(
        count, channels, size, size
    )


def _logits(seed: int, *shape: int) -> torch.Tensor:
    return torch.from_numpy(_numbers(*(shape or (10, 3)), seed=seed))


# ---------------------------------------------------------------- data


def _decoder() -> dict[str, Any]:
    """Pixels of every kind of image, in both modes, and resized; JPEG is a library's affair, which may round otherwise."""
    found: dict[str, Any] = {}
    for path in sorted((GOLDEN / "images").iterdir()):
        mode, height, width = pixels.peek(path.read_bytes(), path.name)
        shown = {each: pixels.decode(path.read_bytes(), each, path.name).transpose(2, 0, 1) for each in ("L", "RGB")}
        if path.suffix == ".jpg":
            shown = {each: (found.astype(int) + 4) // 8 for each, found in shown.items()}
        found[path.name] = [mode, height, width, shown["L"][:, ::3, ::3], shown["RGB"][:, ::4, ::4]]
    for way in FITS:
        for size in ((5, 7), (20, 9)):
            data = (GOLDEN / "images/lossless.webp").read_bytes()
            found[f"{way}, {size[0]}×{size[1]}"] = [pixels.decode(data, mode, "it", size, way) for mode in ("L", "RGB")]
    return found


POLICIES = {
    "none": "none()", "shift": "shift(2)", "flip": "flip()", "affine": "affine(rotate=40, zoom=0.3, shear=0.2)",
    "elastic": "elastic(2, points=3)", "resized_crop": "resized_crop(scale=[0.1, 0.9], ratio=[0.5, 2])",
    "jitter": "jitter(0.6, 0.7, 0.8)", "grey": "grey(0.5)", "erase": "erase(0.8, area=[0.1, 0.6])", "mixup": "mixup(0.8)",
    "cutmix": "cutmix(1)", "noise": "noise(1.5)", "roll": "roll(3, axis=1)", "mask": "mask(3, axis=0, count=2, value=1)",
    "drop": "drop(3)",
}  # fmt: skip
TWO_CHANNELS = ("none", "shift", "flip", "affine", "elastic")  # as they were recorded


def _policy(name: str) -> Any:
    if name in policies.MIXING:
        return _mixed(name)
    if name in policies.TEXTS:
        return [Policy.parse(POLICIES[name], 5).rewrite(TEXTS, np.arange(7, 10), np.full(3, view)) for view in range(6)]
    inputs = _pixels(3, 2 if name in TWO_CHANNELS else 3)
    if name in policies.ARRAYS:
        return [_shown(POLICIES[name], array) for array in (_logits(1, 3, 5, 4).float(), _logits(1, 3, 5, 4).half(), inputs)]
    return _shown(POLICIES[name], inputs)


TEXTS = ["one two  three four five", " a\tword\n", "the last of all of these texts is the longest"]


def _shown(text: str, inputs: torch.Tensor) -> torch.Tensor:
    """Three views of three rows, once and twice changed."""
    shown = [
        Policy.parse(each, 5).apply(inputs, np.arange(7, 10), np.full(3, view)).flatten()
        for each in (text, f"{text} | {text}")
        for view in range(3)
    ]
    return torch.stack(shown)


def _mixed(name: str) -> Any:
    """Partners, weights and pixels, with a step before and a step behind."""
    policy, images, found = Policy.parse(f"shift(1) | {POLICIES[name]} | flip()", 5), _pixels(6, 3), []
    for view in range(4):
        rows, views = np.arange(6), np.full(6, view)
        partners, weights = policy.partners(rows, views, 4, 6, (3, 6, 6))
        found.append([partners, weights, policy.apply(images, rows, views, (partners, images[partners]))])
    return found


ROWS = {"all": "all", "fraction": "fraction(0.5, seed=3)", "only": "only([0, 2])", "without": "without([1])"}


def _rows(name: str) -> Any:
    parsed = selection.Selection.parse(ROWS[name])
    return parsed.choose(np.arange(20) % 3, ("a", "b", "c"))


def _ingest() -> Any:
    """What sources give; which rows are carved out, and the order of all."""
    chunk = Chunk([str(row) for row in range(40)], (), [row % 3 for row in range(40)], str)
    source = Source(Form("image"), lambda with_inputs: iter([chunk]), (), 0)
    plan = Assignment.plan({"train": [Index.read(source, "train")]}, {"test": 0.25}, seed=4, fold=False)
    found: dict[str, Any] = {}
    for split, places in plan.places[0].of():
        rows = np.flatnonzero(places != NOWHERE)
        found[split] = [str(row) for row in rows[np.argsort(places[rows])]]
    with tempfile.TemporaryDirectory() as folder:
        file = write_parquet(Path(folder) / "x.parquet", *images(5), names=["low", "middle", "high"])
        for name in ("digits", str(file)):
            source = parse_source(name, "train")
            index = Index.read(source, "train", 3)
            _, chunk, ids = next(index.parts[0].read())
            shown = [pixels.decode(data, "L", "it").astype(int).sum() for data in chunk.inputs[:20]]
            found[Path(name).stem] = [ids[:5], len(index), index.labels[:20], index.classes, shown]
    return found


def _ingest_of_few_labels() -> Any:
    """The rows of each split and their labels, where each class keeps three."""
    chunk = Chunk([str(row) for row in range(40)], (), [row % 3 for row in range(40)], str)
    source = Source(Form("image"), lambda with_inputs: iter([chunk]), (), 0, classes=("a", "b", "c"))
    plan = Assignment.plan({"train": [Index.read(source, "train")]}, {"test": 0.25}, seed=4, fold=False, labels=3)
    found: dict[str, Any] = {}
    for split, places in plan.places[0].of():
        rows = np.flatnonzero(places != NOWHERE)
        rows = rows[np.argsort(places[rows])]
        found[split] = [rows, plan.indices[0].labels[rows]]
    return found


def _source(name: str) -> Any:
    """The rows of small files: form, ids, labels, class names and hashes of inputs; of the digits, which Pillow packs, sums."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for text in samples.write(Path(folder))[name]:
            source = parse_source(text, "transfer")
            for chunk in source.chunks(True):
                of = (lambda data: int(pixels.decode(data, "L", "it").sum())) if name == "digits" else files.sha256
                ids = None if chunk.ids is None else list(chunk.ids[:20])
                inputs = [of(data) for data in chunk.inputs[:20]]
                found.append([str(source.form), source.classes, len(chunk.labels), ids, list(chunk.labels[:20]), inputs])
    return found


# ---------------------------------------------------------------- nets and logits


MODELS = {
    "mlp": "mlp(hidden=[8, 5], dropout=0.25, input_dropout=0.1)",
    "cnn": "cnn(channels=[3, 4], dropout=0.5)",
    "resnet": "resnet(depth=8)",
    "wide_resnet": "wide_resnet(depth=10, width=2, dropout=0.25)",
    "bag": "bag(features=50, ngrams=3, characters=[2, 3], hidden=[5], width=4, dropout=0.25, length=30)",
}


def _net(name: str) -> Any:
    """Initial weights, logits, and logits in training, of which dropout is a part; how a net for text encodes."""
    text = name == "bag"
    net = build(parse_model(MODELS[name]), Texts() if text else Arrays("uint8", (2, 6, 6)), 3, seed=1)
    inputs = encode(net, TEXTS) if text else _pixels(4, 2)
    torch.manual_seed(2)
    with torch.no_grad():
        trained, plain = net.train()(inputs), net.eval()(inputs)
    found = {"weights": [tensor.sum() for tensor in net.state_dict().values()], "logits": plain, "training": trained}
    return found | {"encoded": inputs} if text else found


def _inference() -> Any:
    """Of whole numbers, whose sums are exact, in tiles that do not divide the rows."""
    net = torch.nn.Sequential(Pixels(), torch.nn.Flatten(), torch.nn.Linear(36, 3))
    with torch.no_grad():
        net[2].weight.copy_((torch.arange(108).view(3, 36) % 7 - 3) * 255)
        net[2].bias.copy_(torch.arange(3))
    return np.rint(predict.predict(net, _pixels(), tile=4))


def _rule(name: str) -> Any:
    members = [_logits(seed).float() for seed in (1, 2)]
    return [ensemble.combine(members, temperature, name, [1, 3]) for temperature in (1.0, 4.0)]


# ---------------------------------------------------------------- training


LOSSES = {"kl": "kl", "ce": "ce", "mse": "mse", "dkd": "dkd(alpha=1.5, beta=2)", "dist": "dist(beta=2, gamma=0.5)",
          "js": "js", "tv": "tv", "mlkd": "mlkd(instance=2, batch=0.5, classes=3)"}  # fmt: skip


def _loss(name: str) -> Any:
    """Values and gradient, at a temperature."""
    logits = _logits(3).requires_grad_()
    values = SoftLoss.parse(LOSSES[name], squared=False)(logits, _logits(4), torch.from_numpy(LABELS), 3.0)
    values.sum().backward()
    return {"values": values, "gradient": logits.grad}


CURRICULA = {"ctkd": "ctkd(least=2, range=9, epochs=5)"}
FEATURE_LOSSES = {
    "hint": "hint(teacher=a, student=a)", "at": "at(teacher=a, student=a)", "fsp": "fsp(teacher=[a, b], student=[a, b])",
    "sp": "sp(teacher=a, student=a)", "rkd_distance": "rkd_distance(teacher=a, student=a)",
    "rkd_angle": "rkd_angle(teacher=a, student=a)", "cc": "cc(teacher=a, student=a, gamma=0.7, order=3)",
    "crd": "crd(teacher=a, student=a, temperature=0.2, width=4)",
}  # fmt: skip


def _feature_loss(name: str) -> Any:
    """Values and gradient, of maps of two sizes."""
    loss = FeatureLoss.parse(FEATURE_LOSSES[name])
    layers = range(len(loss.teacher))
    teacher = [_logits(3 + layer, 5, 3, 4, 4).float() for layer in layers]
    student = [_logits(5 + layer, 5, 3, 2, 2).float().requires_grad_() for layer in layers]
    made = loss.build([(3, 4, 4) for _ in layers], [(3, 2, 2) for _ in layers], 20)
    with torch.no_grad():
        for number, weight in enumerate(made.parameters()):
            weight.copy_(_logits(7 + number, *weight.shape))
    values = made(teacher, student)
    values.sum().backward()
    return {"values": values, "gradients": [each.grad for each in student]}


def _objective() -> Any:
    """With T² and standardised logits, weights, and labels; of one student and of several."""
    found = {}
    for name, weightings in {
        "one": [LossWeights(2.0, 0.7)], "weighed": [LossWeights(2.0, 3.0, 0.5)], "hard": [objective.HARD],
        "several": [objective.HARD, LossWeights(2.0, 0.7), LossWeights(5.0, 1.0)],
    }.items():  # fmt: skip
        for loss in [LOSSES[each] for each in ("kl", "ce", "mse", "dkd", "dist")]:  # the others came later
            soft = SoftLoss.parse(loss, standardised=name == "weighed")
            made = Objective.of(weightings, torch.from_numpy(LABELS), soft, NoTeacher())
            logits = _logits(3) if len(weightings) == 1 else _logits(3, 10, len(weightings), 3)
            found[f"{name}, {loss}"] = made(logits, _batch())
    return found


def _batch(shares: torch.Tensor | None = None) -> Batch:
    """Ten rows; with shares, each is mixed with the row of three further on."""
    partners = torch.empty(10, 0, dtype=torch.int64) if shares is None else (torch.arange(10)[:, None] + 3) % 10
    shares = torch.empty(10, 0) if shares is None else shares[:, None]
    return Batch(torch.arange(10), torch.zeros(10), torch.zeros(10), _logits(4)[:, None], partners, shares)


def _mixed_objective() -> Any:
    """Labels of rows that are mixed with others, of one student and of two."""
    batch, found = _batch(torch.arange(10) / 16), {}
    for name, weightings in {"one": [objective.HARD], "two": [objective.HARD, LossWeights(2.0, 0.7)]}.items():
        made = Objective.of(weightings, torch.from_numpy(LABELS), SoftLoss.parse("kl"), NoTeacher())
        found[name] = made(_logits(3) if len(weightings) == 1 else _logits(3, 10, 2, 3), batch)
    return found


def _smoothed_objective() -> Any:
    """Smoothed labels, of one student and of two, and with rows that are mixed."""
    found = {}
    for name, weightings in {"one": [objective.HARD], "two": [objective.HARD, LossWeights(2.0, 0.7)]}.items():
        made = Objective.of(weightings, torch.from_numpy(LABELS), SoftLoss.parse("kl"), NoTeacher(), smoothing=0.2)
        logits = _logits(3) if len(weightings) == 1 else _logits(3, 10, 2, 3)
        found[name] = [made(logits, batch) for batch in (_batch(), _batch(torch.arange(10) / 16))]
    return found


def _objective_in_course() -> Any:
    """With schedules of temperature and alpha and a warm-up, of one student and of several, at three moments."""
    course, found = Course.parse(temperature="linear(end=0.25)", alpha="step", warmup=3), {}
    for name, weightings in {
        "one": [LossWeights(4.0, 0.7)],
        "several": [objective.HARD, LossWeights(2.0, 0.7), LossWeights(5.0, 1.0, 0.5)],
    }.items():
        made = Objective.of(weightings, torch.from_numpy(LABELS), SoftLoss.parse("kl"), NoTeacher(), course=course)
        logits = _logits(3) if len(weightings) == 1 else _logits(3, 10, len(weightings), 3)
        found[name] = [made(logits, _batch(), Progress(*each)) for each in ((1, 0.0), (2, 0.3), (4, 0.6))]
    return found


def _virtual(name: str) -> Any:
    """A virtual teacher instead of the cross-entropy with labels, of one student and of two, and with rows that are mixed."""
    how, found = Recipe.parse(optimizer="sgd(lr=1)", epochs=1, batch_size=1, virtual_teacher=VIRTUAL[name]), {}
    for number, weightings in enumerate(([objective.HARD], [objective.HARD, LossWeights(2.0, 0.7)])):
        made = Objective.of(weightings, torch.from_numpy(LABELS), SoftLoss.parse("kl"), NoTeacher(), virtual=how.virtual)
        logits = _logits(3) if len(weightings) == 1 else _logits(3, 10, 2, 3)
        found[f"{number + 1}"] = [made(logits, batch) for batch in (_batch(), _batch(torch.arange(10) / 16))]
    return found


VIRTUAL = {"tf_kd": "tf_kd(weight=0.3, probability=0.9, temperature=5, multiplier=2)"}


def _mutual_objective() -> Any:
    """Of three students that learn from each other: values and gradient."""
    made = Objective.of([LossWeights(2.0, 0.7, mutual=0.5)] * 3, torch.from_numpy(LABELS), SoftLoss.parse("kl"), NoTeacher())
    logits = _logits(3, 10, 3, 3).requires_grad_()
    values = made(logits, _batch())
    values.sum().backward()
    return {"values": values, "gradient": logits.grad}


OPTIMIZERS = {
    "sgd": "sgd(lr=0.1, momentum=0.9, weight_decay=0.01, nesterov=True)",
    "adam": "adam(lr=0.1, beta1=0.8, beta2=0.9, weight_decay=0.1)",
    "adamw": "adamw(lr=0.1, beta1=0.8, beta2=0.9, weight_decay=0.1)",
}


def _optimizer(name: str) -> Any:
    """Weights after each of three steps on gradients that are given."""
    weight, steps = torch.nn.Parameter(_logits(5).float()), []
    made = Recipe.parse(optimizer=OPTIMIZERS[name], schedule="constant", epochs=1, batch_size=1).optimizer([weight])
    for seed in range(3):
        weight.grad = _logits(seed).float()
        made.step()
        steps.append(weight.detach().clone())
    return steps


SCHEDULES = {"constant": "constant", "cosine": "cosine(warmup=0.2)", "step": "step", "one_cycle": "one_cycle(warmup=0.3)",
             "linear": "linear(start=0.9, end=0.2)"}  # fmt: skip


def _schedule(name: str) -> Any:
    made = Recipe.parse(optimizer="sgd(lr=1)", schedule=SCHEDULES[name], epochs=1, batch_size=1).schedule
    return [made(done / 10) for done in range(11)]


Case = tuple[str, int, int | None, dict[str, Any]]  # name, nets, views that are cached, settings


def _training() -> Any:
    """Short trainings: as a teacher, in views of its own; the best epoch kept; stacks; streamed; in bfloat16."""
    found = _trained(
        ("one", 1, None, {}),
        ("best", 1, 3, {"keep": "best", "patience": 2, "max_norm": 0.9, "schedule": "cosine(warmup=0.2)"}),
        ("stack", 2, 3, {"optimizer": "adamw(lr=0.01)"}),
        ("best of a stack", 2, 3, {"keep": "best"}),
        ("streamed", 1, 3, {"memory": 2.5e-6}),  # windows of two of the five spans
        ("bfloat16", 1, None, {"precision": "bfloat16"}),
    )
    away = np.abs(np.array(found["bfloat16"]["histories"]) - found["one"]["histories"]).max()
    found["bfloat16"] = bool(0 < away < 0.5)  # how it rounds is the processor's affair
    return found


def _averaged_training() -> Any:
    """With averaged weights, clipped gradients and biases that are not decayed, of one net and of two."""
    settings = {"ema": 0.7, "clip_grad": 0.4, "optimizer": "sgd(lr=0.3, momentum=0.9, weight_decay=0.1, decay_biases=False)"}
    return _trained(("one", 1, None, settings), ("best of a stack", 2, 3, {**settings, "keep": "best"}))


def _training_in_several_views() -> Any:
    """With two views of each row in a batch: as a teacher, from a few views, and streamed."""
    return _trained(
        ("one", 1, None, {"draws": 2}), ("stack", 2, 3, {"draws": 2}), ("streamed", 1, 3, {"draws": 2, "memory": 2.5e-6})
    )


def _trained(*cases: Case) -> dict[str, Any]:
    """Histories, and sums of weights, of short trainings."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, patch("pipeline.data.splits.span_rows", lambda classes, row_bytes: 8):
        split = write_split(Path(folder) / "data/train.parquet", _pixels(40).numpy(), np.arange(40) % 3, 3)
        validation = fit.Validation(_pixels(10), LABELS)
        labels = torch.from_numpy(np.arange(40) % 3)
        for name, nets, fresh, settings in cases:
            how = Recipe.parse(
                **{"optimizer": "sgd(lr=0.3, momentum=0.9)", "schedule": "constant", "epochs": 4, "batch_size": 16} | settings
            )
            spec = parse_model("mlp(hidden=[6], dropout=0.2)")
            built = [build(spec, Images("L", (1, 6, 6)), 3, seed=number) for number in range(nets)]
            net = built[0] if nets == 1 else stack.Stack(built)
            examples = Examples(
                Numbers(split),
                Policy.parse("shift(1)", 2),
                fresh,
                NoTeacher(),
                how.memory_bytes,
                torch.device("cpu"),
                draws=how.settings.draws,
            )
            fitted = fit.fit(
                net, examples, Objective.of([objective.HARD] * nets, labels), how, validation,
                seed=3, name="golden", state=State(Path(folder), [{"training": name}]),
            )  # fmt: skip
            histories = [[list(epoch.to_dict().values()) for epoch in each.history] for each in fitted]
            assert examples.whole == (name != "streamed")
            found[name] = {"histories": histories, "weights": [each.sum() for each in net.parameters()]}
    return found


def _curriculum(name: str) -> Any:
    """T, and the slope that its number follows, in some epochs."""
    heat = curriculum.parse_curriculum(CURRICULA[name])(4.0)
    found = []
    for epoch in (1, 3, 9):
        heat.zero_grad()
        heat(Progress(epoch, 0.0)).backward()
        found.append([heat(Progress(epoch, 0.0)).item(), heat.position.grad.item()])
    return found


def _bias() -> Any:
    return [bias.offsets(_numbers(60, 3, seed=6), np.arange(60) % 3, classes) for classes in ([1], [0, 2])]


# ---------------------------------------------------------------- results


def _measured() -> tuple[list, dict[str, np.ndarray]]:
    """Runs of a teacher, a baseline and two settings, of three seeds each."""
    labels = {"valid": LABELS, "test": np.arange(12) % 3}
    sizes = {split: len(each) for split, each in labels.items()}
    teacher = {split: _numbers(size, 3, seed=20) for split, size in sizes.items()}
    measure = Measure(labels, teacher)

    def nets(first: int) -> dict[int, dict[str, np.ndarray]]:
        return {
            seed: {split: _numbers(size, 3, seed=first + seed) + np.eye(3)[labels[split]] for split, size in sizes.items()}
            for seed in range(3)
        }

    runs = [measure.run("a", "teacher", 10, {None: teacher})]
    runs.append(measure.run("s-hard", "baseline", 5, nets(30), student="s"))
    for number, temperature in enumerate((1.0, 4.0)):
        name = f"s-T{temperature:g}"
        runs.append(measure.run(name, "student", 5, nets(40 + 5 * number), student="s", temperature=temperature, alpha=0.5))
    return runs, labels


def _metrics() -> Any:
    logits = _numbers(10, 3, seed=7)
    return {**metrics.summary(logits, LABELS, _numbers(10, 3, seed=8))._asdict(), "chance": metrics.at_chance(0.5, LABELS)}


def _evaluate() -> Any:
    runs, labels = _measured()
    rows = {"best": best(runs), "results": summary.by_seed(runs), "classes": summary.by_class(runs, labels, "xyz")[:6]}
    said = {name: [dict(zip(table.columns(type(row)), row, strict=True)) for row in each] for name, each in rows.items()}
    for row in said["results"]:
        del row["diverged"]  # as it was recorded: none did
    return said | {"columns": columns(runs, pairs(runs, rows["best"]), "a")}


def _report() -> Any:
    """The table in Markdown, and those of all runs on the page: not its charts and looks, which change nobody's figures."""
    from pipeline.results import summary, tables

    runs, labels = _measured()
    with tempfile.TemporaryDirectory() as folder:
        plots, out = Path(folder) / "plots", Path(folder) / "report"
        plots.mkdir()
        tables.write(
            plots, runs=summary.by_split(runs), classes=summary.by_class(runs, labels, "xyz"), best=best(runs),
            results=summary.by_seed(runs), gallery=NO_GALLERY, lineage=NO_LINEAGE, basis=tables.Basis({}, {}, {}),
        )  # fmt: skip
        report.report(plots={"": plots}, published=None, out=out)
        section = re.search('<section id="runs-1">.*?</section>', (out / "index.html").read_text(), re.DOTALL)
        assert section
        return {"results.md": (out / "results.md").read_text(), "runs": section[0]}


# ---------------------------------------------------------------- logits made elsewhere


def _imported() -> Any:
    """The table of logits of lists, of a column per class and of an .npz file, each with a part of the rows."""
    with tempfile.TemporaryDirectory() as name:
        folder = write_stage_one(Path(name), teachers="")
        logits = {
            "transfer": _numbers(2, 20, 3, seed=50),
            "valid": _numbers(1, 5, 3, seed=51),
            "test": _numbers(1, 3, 3, seed=52),
        }
        rows = elsewhere.lines(folder, logits)
        files = [
            elsewhere.write_lists(folder / "1.parquet", rows[:20], kind=pa.list_(pa.float64())),
            elsewhere.write_columns(folder / "2.parquet", rows[20:30], "012"),
            elsewhere.write_npz(folder / "3.npz", rows[30:]),
        ]
        imported.import_logits(logits=files, splits=folder / "transfer", views=Views("shift(1)", 2), out=folder / "teachers/a")
        return np.load(folder / "teachers/a/logits.npy")


def _export() -> Any:
    """What is in the files of an export, but for weights and times."""
    with tempfile.TemporaryDirectory() as name:
        data = Path(name)
        for role in ("train", "valid"):
            split = write_split(data / f"transfer/{role}.parquet", _pixels(40, 1, 8).numpy(), np.arange(40) % 3, 3)
        net = build(parse_model("cnn(channels=[2], dropout=0.5)"), split.inputs, 3, seed=3)
        write_teacher(data / "teachers/a", net, split, model="cnn(channels=[2], dropout=0.5)")
        export.export(run="a", data=data, out=data / "out", settings=Exporting(calibration=20))
        config = json.loads((data / "out/config.json").read_text())
        config["files"] = list(config["files"])
        for digest in ("digest", "weights_sha256", "data"):
            del config[digest]
        for later in ("virtual_teacher", "draws"):
            del config["recipe"][later]  # as it was recorded: without settings that came later
        models = [onnx.load(data / "out" / name).graph for name in ("model.onnx", "model.int8.onnx")]
        measured = re.compile("^[|]|[0-9a-f]{64}|On this machine|onnxruntime [0-9]")
        lines = (data / "out/README.md").read_text().splitlines()
        return {
            "config.json": config,
            "net.py": (data / "out/net.py").read_text(),
            "README.md": [line for line in lines if not measured.search(line)],
            "operations": [[node.op_type for node in graph.node] for graph in models],
        }


# ---------------------------------------------------------------- all of it


Measured = tuple[int, float, Callable[[], Any]]  # version, how far numbers may be apart, what it does


def everything() -> dict[str, Measured]:
    """All that has a version, by name."""
    found: dict[str, Measured] = {}
    for kind, versions, tolerance, what in (
        ("policy", policies.VERSIONS, EXACT, _policy),
        ("rows", selection.VERSIONS, EXACT, _rows),
        ("source", sources_table.VERSIONS, EXACT, _source),
        ("model", nets.VERSIONS, CLOSE, _net),
        ("rule", ensemble.RULES, CLOSE, _rule),
        ("loss", losses.VERSIONS, CLOSE, _loss),
        ("feature loss", features.VERSIONS, FLOAT32, _feature_loss),
        ("learned temperature", curriculum.VERSIONS, CLOSE, _curriculum),
        ("optimizer", recipe.OPTIMIZER_VERSIONS, CLOSE, _optimizer),
        ("schedule", recipe.SCHEDULE_VERSIONS, CLOSE, _schedule),
        ("virtual teacher", losses.VIRTUAL_VERSIONS, CLOSE, _virtual),
    ):
        for name, version in versions.items():
            found[f"{kind} {name}"] = (version, tolerance, lambda what=what, name=name: what(name))
    return found | {
        "policy shift, reflected": (
            policies.VERSIONS["shift"],
            EXACT,
            lambda: _shown("shift(2, edge='reflect')", _pixels(3, 2)),
        ),
        "decoder pillow": (pixels.VERSIONS["pillow"], EXACT, _decoder),
        "ingest": (ingest.VERSION, EXACT, _ingest),
        "ingest of few labels": (ingest.VERSION, EXACT, _ingest_of_few_labels),
        "inference": (predict.VERSION, EXACT, _inference),
        "imported": (imported.VERSION, EXACT, _imported),
        "objective": (objective.VERSION, CLOSE, _objective),
        "objective, mixed labels": (objective.VERSION, CLOSE, _mixed_objective),
        "objective, smoothed labels": (objective.VERSION, CLOSE, _smoothed_objective),
        "objective, in a course": (objective.VERSION, CLOSE, _objective_in_course),
        "objective, mutual": (objective.VERSION, CLOSE, _mutual_objective),
        "training": (fit.VERSION, TRAINED, _training),
        "training, averaged": (fit.VERSION, TRAINED, _averaged_training),
        "training, several views": (fit.VERSION, TRAINED, _training_in_several_views),
        "bias correction": (bias.VERSION, CLOSE, _bias),
        "metrics": (metrics.VERSION, CLOSE, _metrics),
        "evaluate": (evaluate.VERSION, CLOSE, _evaluate),
        "report": (report.VERSION, EXACT, _report),
        "export": (export.VERSION, EXACT, _export),
    }


def plain(value: Any) -> Any:
    """As JSON holds it."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, torch.Tensor | np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return round(value, 9) if isinstance(value, float) else value


def leaves(value: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    """Every value in nested lists and mappings, with its place."""
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(item, f"{where}/{key}")
    else:
        yield where, value


def record() -> None:
    """Add what is not recorded yet."""
    runtime.prepare("cpu", threads=1)
    held = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    for name, (version, _, what) in everything().items():
        if str(version) not in held.setdefault(name, {}):
            held[name][str(version)] = plain(what())
            print(f"recorded {name}, version {version}")
    lines = [f" {json.dumps(name)}: {json.dumps(held[name], ensure_ascii=False)}" for name in sorted(held)]
    RECORD.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    record()
