"""CUDA: the same results as on a CPU, up to rounding, and the same bits every time. Skipped where there is no such device."""

import shutil
from dataclasses import replace

import behaviour
import numpy as np
import pytest
import torch
from training_kills import RECIPE, VIEWS, jobs

import projects
from conftest import run_capture, tree, write_split, write_stage_one
from pipeline.base import runtime
from pipeline.cache.reader import Cache
from pipeline.data.inputs.image import Images
from pipeline.data.policies import table as policies
from pipeline.data.views import Policy
from pipeline.models.build import build, parse_model
from pipeline.models.checkpoint import Checkpoint
from pipeline.models.predict import predict, tiles
from pipeline.models.stack import Stack
from pipeline.training import fit, losses, resume
from pipeline.training.features import FEATURE_LOSSES, FeatureLoss
from pipeline.training.lesson import Ground, Lesson, Soft
from pipeline.training.losses import SoftLoss
from pipeline.training.objective import LossWeights
from pipeline.training.recipe import OPTIMIZERS, Recipe
from pipeline.training.teach import teach

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
SHAPE, CLASSES = (3, 8, 8), 5
NETS = ["mlp(hidden=[20, 20], dropout=0.3)", "cnn(channels=[8, 16])", "resnet(depth=8)", "wide_resnet(depth=10, width=1)"]

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.fixture(autouse=True)
def prepared():
    """Operations without a deterministic way are errors."""
    runtime.prepare("cuda", threads=1)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Splits, teachers and caches, made on the CPU."""
    runtime.prepare("cpu", threads=1)
    root = write_stage_one(tmp_path_factory.mktemp("cuda"), teachers="ab")
    for name in "ab":
        run_capture(root, name)
    return root


@pytest.fixture
def data(root, tmp_path):
    return shutil.copytree(root, tmp_path / "data")


def made(model: str) -> torch.nn.Module:
    return build(parse_model(model), Images("RGB", SHAPE), CLASSES, seed=0)


def pixels(count: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (count, *SHAPE), dtype=np.uint8))


def near(found: np.ndarray, expected: np.ndarray) -> bool:
    """Within 1e-5 of the range of what is expected."""
    return bool(np.abs(found - expected).max() <= 1e-5 * np.ptp(expected))


# ---------------------------------------------------------------- logits


@pytest.mark.parametrize("model", NETS)
def test_logits_are_those_of_a_cpu(model):
    net, shown = made(model), pixels(70)
    expected = predict(net, shown, tile=32)
    assert near(predict(net.to(CUDA), shown, tile=32), expected)
    assert near(predict(Stack([net.cpu()] * 3).to(CUDA), shown.to(CUDA), tile=32)[:, 2], expected)


def test_copies_beside_the_forward_passes_lose_nothing():
    """The teacher writes the next tiles while those before are copied: each arrives whole, and in its place."""
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 4096)).to(CUDA)
    shown = torch.randn(20_000, 64, generator=torch.Generator().manual_seed(0)).to(CUDA)
    expected = torch.cat([logits.cpu() for _, logits in tiles(net, len(shown), lambda rows: shown[rows], tile=256)])
    for _ in range(3):
        assert np.array_equal(predict(net, shown, tile=256), expected.numpy())


@pytest.mark.parametrize("options", [(), ("--knowledge", "hidden"), ("--features", "2")])
def test_a_capture_is_that_of_a_cpu_and_the_same_every_time(tmp_path, monkeypatch, options):
    folder = projects.make(tmp_path, monkeypatch)
    on_cpu = Cache.open(folder / "data/caches/a").read("transfer")
    found = []
    for _ in range(2):
        projects.says(0, "capture", "a", "--anew", "--device", "cuda", *options)
        found.append(tree(folder / "data/caches"))
    assert found[0] == found[1]
    assert near(Cache.open(folder / "data/caches/a").read("transfer"), on_cpu)
    projects.says(0, "verify", "a", "--deep", "5", "--device", "cuda")


@pytest.mark.parametrize("name", [name for name in policies.POLICIES if name not in policies.TEXTS])
def test_views_are_those_of_a_cpu(name):
    policy, rows = Policy.parse(behaviour.POLICIES[name], 5), np.arange(40)
    shown = torch.randn(40, *SHAPE, generator=torch.Generator().manual_seed(0)) if name in policies.ARRAYS else pixels(40)
    for view in range(1, 4):
        views = np.full(40, view)
        found = {}
        for device in (CPU, CUDA):
            own, mixed = shown.to(device), None
            if policy.mixes:
                partners, _ = policy.partners(rows, views, 40, 40, SHAPE)
                mixed = partners, own[torch.from_numpy(partners).to(device)]
            found[device] = policy.apply(own, rows, views, mixed).cpu()
        assert torch.equal(found[CUDA], found[CPU])


# ---------------------------------------------------------------- training


@pytest.mark.parametrize("nets", [None, 3])
@pytest.mark.parametrize("name", [*losses.LOSSES, "labels"])
def test_losses_and_gradients_are_those_of_a_cpu(name, nets):
    generator = torch.Generator().manual_seed(0)
    axes = () if nets is None else (nets,)
    logits, targets = (torch.randn(40, *axes, CLASSES, generator=generator, dtype=torch.float64) for _ in range(2))
    labels, found = torch.arange(40) % CLASSES, {}
    heat = 3.0 if nets is None else torch.tensor([[1.0], [2.0], [5.0]], dtype=torch.float64)
    for device in (CPU, CUDA):
        own, others, of_rows = logits.to(device, copy=True).requires_grad_(), targets.to(device), labels.to(device)
        if name == "labels":
            values = losses.cross_entropy(own, of_rows, 0.1)
        else:
            values = SoftLoss.parse(name)(own, others, of_rows, heat.to(device) if nets else heat)
        values.sum().backward()
        found[device] = torch.cat([values.detach().flatten(), own.grad.flatten()]).cpu()
    torch.testing.assert_close(found[CUDA], found[CPU], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("sizes", [(4, 4), (8, 4), (4, 8), (7, 3), (3, 7)])  # of maps of teacher and student
@pytest.mark.parametrize("name", FEATURE_LOSSES)
def test_feature_losses_and_gradients_are_those_of_a_cpu(name, sizes):
    generator, found = torch.Generator().manual_seed(0), {}
    loss = FeatureLoss.parse(behaviour.FEATURE_LOSSES[name])
    teacher, student = (
        [torch.randn(40, 3, size, size, generator=generator, dtype=torch.float64).float() for _ in loss.teacher]
        for size in sizes
    )
    for device in (CPU, CUDA):
        torch.manual_seed(1)
        made = loss.build([each.shape[1:] for each in teacher], [each.shape[1:] for each in student], 100).to(device)
        own = [each.to(device, copy=True).requires_grad_() for each in student]
        values = made([each.to(device) for each in teacher], own)
        values.sum().backward()
        gradients = [each.grad.flatten() for each in (*own, *made.parameters())]
        found[device] = torch.cat([values.detach().flatten(), *gradients]).cpu()
    torch.testing.assert_close(found[CUDA], found[CPU], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_of_an_optimizer_are_those_of_a_cpu(name):
    recipe, found = Recipe.parse(optimizer=behaviour.OPTIMIZERS[name], schedule="constant", epochs=1, batch_size=8), {}
    for device in (CPU, CUDA):
        weights = [torch.nn.Parameter(torch.linspace(-1, 1, 12).view(3, 4).to(device))]
        optimizer = recipe.optimizer(weights)
        for _ in range(3):
            weights[0].grad = weights[0].detach() ** 2 + 0.1
            optimizer.step()
        found[device] = weights[0].detach().cpu()
    torch.testing.assert_close(found[CUDA], found[CPU], rtol=1e-5, atol=1e-6)


class Interrupted(Exception):
    pass


@pytest.mark.parametrize(
    ("model", "precision"),
    [
        ("mlp(hidden=[30], dropout=0.3)", "float32"),
        ("cnn(channels=[4, 8])", "float32"),
        ("cnn(channels=[4, 8])", "bfloat16"),
        ("resnet(depth=8)", "float32"),
    ],
)
@pytest.mark.parametrize("what", ["teach", "distill", "sweep"])
def test_a_training_gives_the_same_bits_every_time_interrupted_or_not(data, monkeypatch, what, model, precision):
    settings = replace(RECIPE, settings=replace(RECIPE.settings, precision=precision, epochs=4))
    job = jobs(data, CUDA, model, settings)[what]
    found = []
    for _ in range(2):
        shutil.rmtree(data / "work/trainings", ignore_errors=True)
        job()
        found.append(tree(data / "out"))
    assert found[0] == found[1]
    real, count = resume.State.save, iter(range(100))

    def save(self, tensors, facts, *, finished):
        real(self, tensors, facts, finished=finished)
        if next(count) == 2:
            raise Interrupted

    shutil.rmtree(data / "work/trainings", ignore_errors=True)
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(fit, "SAVING", float("inf"))
        patch.setattr(resume.State, "save", save)
        job()
    job()
    assert tree(data / "out") == found[0]


def test_target_logits_are_the_same_from_a_cache_and_live(data):
    recipe = Recipe.parse(optimizer="sgd(lr=0.1)", schedule="constant", epochs=1, batch_size=8)
    batches = []
    for live in (False, True):
        places = {name: data / ("teachers" if live else "caches") / name for name in "ab"}
        soft = Soft(places, "probabilities", SoftLoss.parse("kl"), live=live)
        ground = Ground.open(data / "transfer", ("transfer", "train", "valid"), data / "work", CUDA)
        weightings = [LossWeights(1.0, 0.5), LossWeights(8.0, 0.5)]
        lesson = Lesson.prepare(ground, views=VIEWS, rows="all", soft=soft, weightings=weightings, correct=(), recipe=recipe)
        batches.append(list(lesson.examples.epoch(0, 0, 8)))
    assert len(batches[0]) == 3
    for cached, live in zip(*batches, strict=True):
        assert cached.inputs.is_cuda
        assert torch.equal(cached.inputs, live.inputs)
        assert near(live.targets.cpu().numpy(), cached.targets.cpu().numpy())


def test_a_student_is_that_of_a_cpu(data):
    """One epoch of a few steps, at which rounding does not grow yet."""
    settings = Recipe.parse(optimizer="sgd(lr=0.1, momentum=0.9)", schedule="constant", epochs=2, batch_size=8)
    found = []
    for device in (CPU, CUDA):
        jobs(data, device, "mlp(hidden=[30])", settings)["distill"]()
        student = Checkpoint.open(data / "out", kinds=["student"], name="out", fix="")
        weights = student.load(student.nets[0], CPU).parameters()
        found.append(torch.cat([each.detach().flatten() for each in weights]))
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-6)


def test_bfloat16_learns_with_other_bits(tmp_path):
    """Each class is bright in a band of its own."""
    labels = np.arange(60) % 3
    shown = np.random.default_rng(0).integers(0, 120, (60, 1, 6, 6), dtype=np.uint8)
    for row, label in enumerate(labels):
        shown[row, 0, 2 * label : 2 * label + 2] += 100
    for name in ("train", "valid"):
        write_split(tmp_path / f"transfer/{name}.parquet", shown, labels, 3)
    found = {}
    for precision in ("float32", "bfloat16"):
        settings = Recipe.parse(optimizer="adam(lr=0.01)", schedule="constant", epochs=10, batch_size=16, precision=precision)
        teach(
            model="cnn(channels=[8])", recipe=settings, policy="none", seed=0, splits=tmp_path / "transfer",
            work=tmp_path / "work", out=tmp_path / "out", device=CUDA,
        )  # fmt: skip
        found[precision] = Checkpoint.teacher(tmp_path / "out").history()
        assert found[precision][-1]["valid_accuracy"] > 0.95
    first, other = (found[precision][0]["train_loss"] for precision in ("float32", "bfloat16"))
    assert first != other
    assert other == pytest.approx(first, rel=0.02)


def test_every_command_runs(tmp_path, monkeypatch):
    folder = projects.make(tmp_path, monkeypatch)
    monkeypatch.setenv("SOFTCACHE_DEVICE", "cuda")
    projects.says(0, "verify", "a", "--deep", "5")  # of a cache that was made on the CPU
    projects.says(0, "capture", "a", "--anew")
    projects.says(0, "distill", "s", "-T", "2")
    projects.says(0, "distill", "s", "--hard")
    projects.says(0, "distill", "s", "-T", "2", "--live")
    projects.says(0, "sweep", "all")
    projects.says(0, "evaluate")
    projects.says(0, "export", "s-T2")
    assert (folder / "data/exports/s-T2/model.onnx").exists()


def test_students_of_features_have_the_same_bits_every_time(tmp_path, monkeypatch):
    folder = projects.make(tmp_path, monkeypatch)
    monkeypatch.setenv("SOFTCACHE_DEVICE", "cuda")
    projects.says(0, "capture", "a", "--knowledge", "hidden", "--dtype", "int8", "--features", "layer1")
    layers = "teacher=layer1, student=layer1"
    losses = (f"hint({layers})", f"sp({layers})", f"crd({layers}, width=4)")
    options = [word for loss in losses for word in ("--features", loss)]
    found = []
    for _ in range(2):
        projects.says(0, "distill", "s", "-T", "2", *options, "--learn_temperature", "ctkd(epochs=2)", "--epochs", "3")
        found.append((folder / "data/students/s-T2/seed-0.safetensors").read_bytes())
    assert found[0] == found[1]
