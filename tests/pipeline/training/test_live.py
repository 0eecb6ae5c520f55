"""Invariant 4, cached = live: what caches give is what teachers in the loop give, part by part."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import run_capture, write_split, write_teacher, write_texts
from pipeline.base import runtime
from pipeline.base.errors import InputError
from pipeline.cache.reader import Cache
from pipeline.data.inputs.image import Images
from pipeline.data.settings import Views
from pipeline.data.splits import open_splits
from pipeline.data.views import Policy
from pipeline.models.build import build, parse_model
from pipeline.models.checkpoint import Checkpoint
from pipeline.models.ensemble import Ensemble
from pipeline.models.predict import predict
from pipeline.training.course import STEADY, Course
from pipeline.training.distill import distill
from pipeline.training.examples import Examples
from pipeline.training.fit import Validation, fit
from pipeline.training.inputs import Numbers
from pipeline.training.lesson import Soft
from pipeline.training.live import Live
from pipeline.training.losses import SoftLoss
from pipeline.training.objective import LossWeights, Objective
from pipeline.training.packed import Field, Packed
from pipeline.training.recipe import Recipe
from pipeline.training.resume import State
from pipeline.training.signal import NoTeacher
from pipeline.training.targets import Targets

CPU = torch.device("cpu")
ROWS, SHAPE, CLASSES = 30, (1, 4, 4), 3
POLICY = Policy.parse("shift(1)", 5)  # with three views, what run_capture captures

# Integer weights on integer pixels, scaled by a power of two: every sum is exact in float32, in any order.
EXACT = """
import torch

def layer(inputs, outputs, step):
    return torch.nn.Parameter(((torch.arange(inputs * outputs) * step) % 5 - 2.0).reshape(outputs, inputs))

class Exact(torch.nn.Module):
    def __init__(self, shape, classes, step=7919):
        super().__init__()
        size = shape[0] * shape[1] * shape[2]
        self.hidden, self.out = layer(size, 6, step), layer(6, classes, step + 2)

    def forward(self, pixels):
        return (pixels.flatten(1).float() @ self.hidden.T).relu() @ self.out.T / 4096
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Spans of 8 rows; exact teachers a and b, an ordinary one c, and their caches in three views."""
    folder = tmp_path_factory.mktemp("live")
    runtime.prepare("cpu", threads=1)
    (folder / "exact_net.py").write_text(EXACT)
    generator = np.random.default_rng(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.setenv("SOFTCACHE_PLUGINS", "exact_net")
        patch.setattr("pipeline.data.splits.span_rows", lambda classes, row_bytes: 8)
        for name, count in {"train": ROWS, "valid": 6, "test": 3}.items():
            pixels = generator.integers(0, 256, (count, *SHAPE), dtype=np.uint8)
            write_split(folder / f"transfer/{name}.parquet", pixels, np.arange(count) % CLASSES, CLASSES)
        teachers = {"a": "exact_net:Exact()", "b": "exact_net:Exact(step=104729)", "c": "mlp(hidden=[40, 40])"}
        for name, text in teachers.items():
            net = build(parse_model(text), Images("L", SHAPE), CLASSES)
            write_teacher(folder / "teachers" / name, net, open_splits(folder / "transfer", ["train"])["train"], model=text)
            run_capture(folder, name)
        yield folder
    sys.modules.pop("exact_net", None)


def pixels_of(data: Path, view: int) -> torch.Tensor:
    split = open_splits(data / "transfer", ["train"])["train"]
    return POLICY.apply(torch.from_numpy(split.read_all()), np.arange(ROWS), np.full(ROWS, view))


def recipe(batch_size: int, memory: float = 4.0, draws: int = 1) -> Recipe:
    settings = {"optimizer": "sgd(lr=0.2, momentum=0.9)", "schedule": "one_cycle()", "epochs": 4, "max_norm": 1.0}
    return Recipe.parse(batch_size=batch_size, memory=memory, draws=draws, **settings)


def trained(
    data: Path, out: Path, *, live: bool, names="a", batch_size=7, temperature=2.0, rule="logits", views=3, memory=4.0,
    policy="shift(1)", caches="caches", rows="all", draws=1, loss="kl", course=STEADY,
) -> bytes:  # fmt: skip
    folder = data / ("teachers" if live else caches)
    distill(
        model="mlp(hidden=[4], dropout=0.2)", recipe=recipe(batch_size, memory, draws), views=Views(policy, views, 5),
        rows=rows, soft=Soft({name: folder / name for name in names}, rule, SoftLoss.parse(loss), live=live, course=course),
        weighting=LossWeights(temperature, 0.7), correct=(), seeds=(1,), splits=data / "transfer", work=data / "work",
        out=out, device=CPU,
    )  # fmt: skip
    return (out / "seed-1.safetensors").read_bytes()


@pytest.mark.parametrize("name", "abc")
def test_a_what_is_read_is_bitwise_what_predict_returned(data, name):
    checkpoint = Checkpoint.teacher(data / "teachers" / name)
    teacher = checkpoint.load(checkpoint.nets[0], CPU)
    targets = Targets.of({name: Cache.open(data / "caches" / name)}, temperatures=[3.0], rule="logits")
    examples = Examples.of_targets(targets, 3, 10**9, CPU)
    spans = [slice(start, min(start + 8, ROWS)) for start in range(0, ROWS, 8)]
    said = [np.concatenate([predict(teacher, pixels_of(data, view)[span], tile=4) for span in spans]) for view in range(3)]
    for epoch in range(3):
        for batch in examples.epoch(0, epoch, 11):
            assert (batch.targets[:, 0].numpy() == np.stack(said)[batch.views, batch.rows]).all()


def test_b_given_equal_targets_training_is_bitwise_equal(data):
    """Targets once out of the cache, once from a table of them that a function looks up by what the net is shown."""
    train, valid = open_splits(data / "transfer", ("train", "valid")).values()
    cache = Cache.open(data / "caches/c")
    shown = {pixels_of(data, view)[row].numpy().tobytes(): (view, row) for view in range(3) for row in range(ROWS)}
    table = torch.from_numpy(cache.read("transfer"))

    def look_up(pixels: torch.Tensor) -> torch.Tensor:
        return torch.stack([table[shown[one.numpy().tobytes()]] for one in pixels])

    class Table(NoTeacher):
        def targets(self, stored: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
            return look_up(pixels)[:, None]

    weights = []
    for signal in (Targets.of({"c": cache}, temperatures=[2.0], rule="logits"), Table()):
        net = build(parse_model("mlp(hidden=[4], dropout=0.2)"), Images("L", SHAPE), CLASSES, seed=1)
        labels = torch.from_numpy(train.labels())
        objective = Objective.of([LossWeights(2.0, 0.7)], labels, SoftLoss.parse("kl"), signal)
        examples = Examples(Numbers(train), POLICY, 3, signal, 10**9, CPU)
        state = State(data, [{"run": len(weights)}])
        fit(net, examples, objective, recipe(7), Validation.of(valid, CPU, 10**9), seed=1, name="b", state=state)
        weights.append(torch.cat([parameter.detach().flatten() for parameter in net.parameters()]))
    assert torch.equal(*weights)


CASES = [
    {"names": "a", "batch_size": 1},
    {"names": "a", "batch_size": 7, "temperature": 20.0},
    {"names": "a", "batch_size": 30, "views": 1},
    {"names": "a", "memory": 1e-6},  # pixels would fit, 480 bytes, and pixels with targets do not, 1,560: streamed
    {"names": "ab", "rule": "probabilities", "memory": 1e-6},
    {
        "names": "ab",
        "draws": 2,
        "loss": "mlkd",
        "course": Course.parse(temperature="linear(end=0.5)", alpha="linear", warmup=2),
    },
    {"names": "a", "draws": 3, "memory": 1.4e-6, "rows": "without([1])"},  # streamed
    *({"names": "ab", "rule": rule, "temperature": t} for rule in ("logits", "probabilities") for t in (0.5, 2.0, 20.0)),
    *({"names": "ab", "rule": rule, "batch_size": size} for rule in ("logits", "probabilities") for size in (1, 16, 64)),
]


@pytest.mark.parametrize(
    "case", CASES, ids=lambda case: ", ".join(str(value) for key, value in case.items() if key != "course")
)
def test_c_with_exact_arithmetic_students_are_bitwise_equal(data, tmp_path, case):
    assert trained(data, tmp_path / "s-live", live=True, **case) == trained(data, tmp_path / "s", live=False, **case)


def test_c_fails_for_another_teacher_temperature_or_view(data, tmp_path):
    """What the test above compares does depend on what it varies."""
    case = {"names": "ab", "rule": "probabilities"}
    reference = trained(data, tmp_path / "s", live=True, **case)
    for number, change in enumerate(
        [{"names": "a"}, {"temperature": 2.1}, {"views": 2}, {"rule": "logits"}, {"batch_size": 8}]
    ):
        assert trained(data, tmp_path / str(number), live=False, **case | change) != reference


# ---------------------------------------------------------------- views that mix two rows

MIXED = {"mixup": "mixup(1)", "cutmix": "shift(1) | cutmix(0.7) | flip()"}


@pytest.fixture(scope="module")
def mixed(data) -> Path:
    """Caches of the exact teacher a, in three views that mix two rows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(data)
        for name, policy in MIXED.items():
            (data / name).mkdir()
            for part in ("transfer", "teachers"):
                (data / name / part).symlink_to(data / part)
            run_capture(data / name, "a", policy=policy)
    return data


@pytest.mark.parametrize("name", MIXED)
@pytest.mark.parametrize("case", [{}, {"memory": 1e-6}], ids=str)
def test_students_of_mixed_views_are_bitwise_equal(mixed, tmp_path, name, case):
    """Capture and training mix the same two rows, also where only one of them is learned from, and where rows are streamed."""
    case = {"policy": MIXED[name], **case}
    live = trained(mixed, tmp_path / "s-live", live=True, **case)
    assert trained(mixed, tmp_path / "s", live=False, caches=f"{name}/caches", **case) == live
    assert trained(mixed, tmp_path / "t", live=True, **{**case, "policy": "shift(1)"}) != live


def test_captured_logits_are_of_the_mixed_pixels(mixed):
    """By the policy on all pixels at once, with partners of the same span."""
    checkpoint = Checkpoint.teacher(mixed / "teachers/a")
    teacher, rows = checkpoint.load(checkpoint.nets[0], CPU), np.arange(ROWS)
    pixels = torch.from_numpy(open_splits(mixed / "transfer", ["train"])["train"].read_all())
    for name, text in MIXED.items():
        policy, stored = Policy.parse(text, 5), Cache.open(mixed / name / "caches/a").read("transfer")
        for view in range(3):
            views = np.full(ROWS, view)
            others, _ = policy.partners(rows, views, 8, ROWS, SHAPE)
            shown = policy.apply(pixels, rows, views, (others, pixels[others]))
            assert (stored[view] == predict(teacher, shown)).all()
        assert (stored[1] != stored[0]).any()


# ---------------------------------------------------------------- all views

EVERY = "shift(1) | flip()"


@pytest.fixture(scope="module")
def all_views(data) -> str:
    """The folder, below data, of a cache of all 18 views."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(data)
        (data / "every").mkdir()
        for name in ("transfer", "teachers"):
            (data / "every" / name).symlink_to(data / name)
        run_capture(data / "every", "a", policy=EVERY, views="all")
    return "every/caches"


def test_all_views_are_all_that_random_augmentation_can_show(data, all_views):
    """So a cache of them says what the teacher in the loop would, whatever is drawn: here for 600 new views of each row."""
    manifest = Cache.open(data / all_views / "a").manifest
    policy, random = Policy.of(manifest.identity["views"]), Policy.parse(EVERY, 5)
    count, rows = manifest.extents["transfer"].views, np.arange(ROWS)
    assert count == policy.outcomes == 18
    untouched = torch.from_numpy(open_splits(data / "transfer", ["train"])["train"].read_all())
    stored = Cache.open(data / all_views / "a").read("transfer")
    checkpoint = Checkpoint.teacher(data / "teachers/a")
    teacher, known, drawn = checkpoint.load(checkpoint.nets[0], CPU), {}, set()
    for view in range(count):
        for row, pixels in enumerate(policy.apply(untouched, rows, np.full(ROWS, view)).numpy()):
            known[row, pixels.tobytes()] = stored[view, row]
    assert len(known) == ROWS * count
    for view in range(1, 600):
        pixels = random.apply(untouched, rows, np.full(ROWS, view))
        said = predict(teacher, pixels, tile=7)
        keys = [(row, one.tobytes()) for row, one in enumerate(pixels.numpy())]
        assert all((known[key] == logits).all() for key, logits in zip(keys, said, strict=True))
        drawn.update(keys)
    assert drawn == known.keys()


@pytest.mark.parametrize("case", [{"batch_size": 1}, {"batch_size": 7}, {"temperature": 20.0}], ids=str)
def test_a_student_of_all_views_is_that_of_the_teacher_in_the_loop(data, all_views, tmp_path, case):
    case = {"policy": EVERY, "views": "all"} | case
    live = trained(data, tmp_path / "s-live", live=True, **case)
    assert trained(data, tmp_path / "s", live=False, caches=all_views, **case) == live
    assert trained(data, tmp_path / "t", live=True, **case | {"views": 18}) != live  # of 18 views that are drawn
    facts = Checkpoint.open(tmp_path / "s", kinds=["student"], name="s", fix="").views
    assert (facts.policy, facts.seed, facts.count) == ("shift(pixels=1) | flip()", None, 18)


def test_all_views_and_drawn_ones_are_not_taken_for_each_other(data, all_views, tmp_path):
    with pytest.raises(InputError, match="cache a, views.outcomes: expected 9 as in the setting, found None"):
        trained(data, tmp_path / "s", live=False, views="all")
    with pytest.raises(InputError, match="cache a, views.seed: expected 5 as in the setting, found 0"):
        trained(data, tmp_path / "s", live=False, caches=all_views, policy=EVERY, views=18)


@pytest.mark.parametrize("size", [1, 7, 30])
@pytest.mark.parametrize("rule", ["logits", "probabilities"])
@pytest.mark.parametrize("names", ["c", "ac"])
def test_d_live_logits_agree_within_1e5_of_the_range(data, size, rule, names):
    split = open_splits(data / "transfer", ["transfer"])["transfer"]
    how = {"temperatures": [4.0, 9.0], "rule": rule}
    live = Live.open({name: data / "teachers" / name for name in names}, split, POLICY, CPU, **how)
    targets = Targets.of({name: Cache.open(data / "caches" / name) for name in names}, **how)
    for batch in Examples(Numbers(split), POLICY, 3, targets, 10**9, CPU).epoch(0, 0, size):
        said = live.targets(torch.empty(len(batch.rows), 0), batch.inputs)
        assert said.shape == batch.targets.shape
        assert (said - batch.targets).abs().max() <= 1e-5 * (said.max() - said.min()).clamp(min=1)
        assert not said.requires_grad


def test_a_live_student_says_which_teachers_it_had(data, tmp_path):
    trained(data, tmp_path / "s", live=True, names="ab")
    model = Checkpoint.open(tmp_path / "s", kinds=["live"], name="s", fix="")
    assert set(model.soft.live) == {"a", "b"}
    assert model.soft.caches is None


def test_a_teacher_of_other_data_is_refused(data, tmp_path):
    folder = tmp_path / "other"
    split = write_split(tmp_path / "transfer/train.parquet", np.zeros((6, 1, 5, 5), np.uint8), np.arange(6) % 3, 3)
    write_teacher(folder, build(parse_model("mlp(hidden=[4])"), Images("L", (1, 5, 5)), 3), split, model="mlp(hidden=[4])")
    split = open_splits(data / "transfer", ["transfer"])["transfer"]
    with pytest.raises(InputError, match=r"teacher other, shape: expected \[1, 4, 4\]"):
        Live.open({"other": folder}, split, POLICY, CPU, temperatures=[4.0], rule="logits")


class Told(torch.nn.Module):
    """Encodes a text as what it is told, and returns what it gets."""

    def __init__(self, dtype: torch.dtype, values: list):
        super().__init__()
        self.dtype, self.values = dtype, values

    def encode(self, texts):
        return torch.tensor([self.values] * len(texts), dtype=self.dtype)

    def forward(self, encoded):
        assert encoded.dtype == self.dtype
        self.seen = encoded
        return encoded.double()


def test_teachers_in_the_loop_get_texts_as_each_encodes_them(tmp_path, monkeypatch):
    """Token ids beside floats: in one float32, ids above 2^24 would be others, and nn.Embedding takes no floats."""
    ids, odd = 2**24 + 1, 2**62 + 1
    nets = [Told(torch.bool, [True]), Told(torch.int32, [ids]), Told(torch.float16, [0.5]), Told(torch.int64, [odd])]
    split = open_splits(write_texts(tmp_path, span=4) / "transfer", ["transfer"])["transfer"]
    reads, policy = [], Policy.parse("drop(1)", 5)
    read = type(split)._read
    monkeypatch.setattr(type(split), "_read", lambda split, span: reads.append(span) or read(split, span))
    ensemble = Ensemble("logits", (0.25,) * 4, (1.0,))
    encoded = Packed([Field.of(net.encode(["a"])) for net in nets])
    live = Live(nets, ensemble, {}, [], shape=(encoded.size,), texts=split, policy=policy, encoded=encoded)
    stored = torch.zeros(4, *live.shape, dtype=live.dtype)
    live.read(1, 2, stored)
    assert reads == [2]
    monkeypatch.setattr(Ensemble, "combine", lambda ensemble, members, layer: members[0])
    for rows in (stored, stored[:1], stored[3:]):
        live.targets(rows, torch.empty(len(rows), 0))
        assert [net.seen.unique().tolist() for net in nets] == [[True], [ids], [0.5], [odd]]
