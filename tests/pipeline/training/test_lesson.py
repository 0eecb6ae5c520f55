"""Lessons: what they refuse, what they say of students, and which students they train together."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import change_teacher, run_capture, write_split, write_stage_one, write_texts
from pipeline.base import files, runtime
from pipeline.base.errors import InputError, IntegrityError
from pipeline.cache.reader import Cache
from pipeline.data.settings import Views
from pipeline.data.splits import UNLABELLED
from pipeline.data.views import Policy
from pipeline.models.build import parse_model
from pipeline.models.checkpoint import Checkpoint
from pipeline.models.modelfile import Learned
from pipeline.models.stack import Stack
from pipeline.training import lesson as lessons
from pipeline.training.course import STEADY, Course
from pipeline.training.curriculum import parse_curriculum
from pipeline.training.lesson import Ground, Lesson, Soft, require_seeds
from pipeline.training.losses import SoftLoss
from pipeline.training.objective import HARD, LossWeights
from pipeline.training.recipe import Recipe
from pipeline.training.resume import Kept

CPU = torch.device("cpu")
SETTINGS = {"optimizer": "sgd(lr=0.1)", "schedule": "constant", "epochs": 2, "batch_size": 8}
RECIPE = Recipe.parse(**SETTINGS)
VIEWS = Views("shift(1)", 3, 5)
WEIGHTING = LossWeights(2.0, 0.5)
COURSE = {"temperature": "linear(end=0.5)", "alpha": "linear", "warmup": 3}
MODEL = "mlp(hidden=[4])"


@pytest.fixture(scope="module")
def captured(tmp_path_factory) -> Path:
    """Twenty rows in three classes, and the cache of a teacher in three views."""
    runtime.prepare("cpu", threads=1)
    folder = write_stage_one(tmp_path_factory.mktemp("lesson"))
    run_capture(folder)
    return folder


@pytest.fixture
def data(captured, tmp_path) -> Path:
    """A copy that a test may change."""
    return shutil.copytree(captured, tmp_path / "data")


def soft(
    data: Path, *, loss: str = "kl", live: bool = False, rule: str = "logits", course: Course = STEADY, names="a", **how
) -> Soft:
    folder = data / ("teachers" if live else "caches")
    return Soft({name: folder / name for name in names}, rule, SoftLoss.parse(loss, **how), live=live, course=course)


def prepare(data: Path, taught: Soft | None, **changes) -> Lesson:
    ground = Ground.open(data / "transfer", ("transfer", "train", "valid"), data / "work", CPU)
    given = {"views": VIEWS, "rows": "all", "weightings": [WEIGHTING], "correct": (), "recipe": RECIPE} | changes
    return Lesson.prepare(ground, soft=taught, **given)


def identity(lesson: Lesson, *, model=MODEL, recipe=RECIPE, weighting=WEIGHTING, seed: int = 0, cohort=()):
    return lesson.identity(parse_model(model), recipe, weighting, seed, cohort)


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"views": Views("shift(1)", 0, 5)}, "views: expected 1 or more, or all, found 0"),
        ({"views": Views("shift(1)", 4, 5)}, "views"),
        ({"views": Views("shift(1)", 3, 6)}, "seed"),
        ({"views": Views("shift(2)", 3, 5)}, "policy"),
        ({"views": Views("turn(1)", 3, 5)}, "turn"),
        ({"rows": "only([7])"}, "rows by class: expected a label from 0 to 2"),
        ({"correct": ("9",)}, "correct: expected a label from 0 to 2"),
        ({"recipe": Recipe.parse(memory=1e-8, **SETTINGS)}, "memory: expected at least"),
    ],
)
def test_settings_that_do_not_fit_are_refused(captured, changes, message):
    with pytest.raises(InputError, match=message):
        prepare(captured, soft(captured), **changes)


@pytest.mark.parametrize(("views", "draws"), [(Views("shift(1)", 3, 5), 4), (Views("none", 3, 5), 2)])
def test_more_draws_than_different_views_are_refused(captured, views, draws):
    with pytest.raises(InputError, match=rf"draws: expected [13] or less: a row has so many different views, found {draws}"):
        prepare(captured, None, views=views, weightings=[HARD], recipe=Recipe.parse(draws=draws, **SETTINGS))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"course": Course.parse(temperature="linear(end=0.5)")}, r"temperature_schedule linear\(start=1.0, end=0.5\)"),
        ({"loss": "mlkd(batch=0)"}, r"loss mlkd\(instance=1.0, batch=0, classes=1.0\)"),
    ],
)
def test_mean_probabilities_at_one_temperature_are_not_softened_at_others(captured, changes, message):
    """Of one teacher they do not depend on T, and neither does a mean of logits."""
    with pytest.raises(InputError, match=f"{message}: expected one teacher, or `rule: logits`.*found 2 teachers by rule prob"):
        prepare(captured, soft(captured, names="ab", rule="probabilities", **changes))
    prepare(captured, soft(captured, rule="probabilities", **changes))
    soft(captured, names="ab", rule="logits", **changes).require_any_temperature()
    soft(captured, names="ab", rule="probabilities", course=Course.parse(alpha="linear", warmup=3)).require_any_temperature()


@pytest.mark.parametrize("policy", ["mixup(1)", "flip() | cutmix(1)"])
def test_a_loss_that_needs_one_label_of_each_row_is_refused_for_mixed_views(captured, policy):
    given = {"views": Views(policy, 3, 5)}
    with pytest.raises(InputError, match="loss dkd.*: expected a loss without labels, where views mix two rows"):
        prepare(captured, soft(captured, loss="dkd", live=True), **given)
    assert prepare(captured, soft(captured, live=True), **given).examples.policy.mixes
    assert prepare(captured, None, weightings=[HARD], **given).examples.policy.mixes


@pytest.mark.parametrize(("policy", "kind"), [("noise(1)", "arrays"), ("drop(1)", "texts")])
def test_views_of_another_kind_of_input_are_refused(captured, policy, kind):
    with pytest.raises(InputError, match=f"expected a step for images: .* found one for {kind}"):
        prepare(captured, soft(captured, live=True), views=Views(policy, 3, 5))


def test_a_class_without_validation_rows_is_not_corrected(data):
    write_split(data / "transfer/valid.parquet", np.zeros((5, 1, 4, 4), np.uint8), np.arange(5) % 2, 3)
    with pytest.raises(InputError, match="bias correction of class 2: expected rows of it and of others, found 0 rows"):
        prepare(data, None, weightings=[HARD], correct=("2",))


@pytest.mark.parametrize("live", [False, True])
def test_a_loss_that_needs_three_classes_is_refused_for_two(tmp_path, live):
    folder = write_stage_one(tmp_path, classes=2)
    run_capture(folder)
    with pytest.raises(InputError, match="standardise: expected three classes or more"):
        prepare(folder, soft(folder, live=live, standardised=True))


def test_a_cache_that_is_not_there_or_not_finished_is_refused(data):
    shutil.rmtree(data / "caches/a")
    with pytest.raises(IntegrityError, match="caches/a: expected a sealed cache"):
        prepare(data, soft(data))


def test_a_damaged_cache_is_refused(data):
    manifest = data / "caches/a/manifest.json"
    manifest.write_bytes(manifest.read_bytes().replace(b'"seed": 5', b'"seed": 6'))
    with pytest.raises(IntegrityError, match="expected the manifest as it was sealed"):
        prepare(data, soft(data))


def test_a_cache_of_other_data_is_refused(data):
    write_split(data / "transfer/train.parquet", np.zeros((20, 1, 4, 4), np.uint8), np.arange(20) % 3, 3)
    with pytest.raises(InputError, match="cache a"):
        prepare(data, soft(data))


def test_a_cache_under_another_name_is_refused(data):
    (data / "caches/a").rename(data / "caches/b")
    with pytest.raises(InputError, match="teacher"):
        prepare(data, Soft({"b": data / "caches/b"}, "logits", SoftLoss.parse("kl")))


def test_a_cache_whose_teacher_was_trained_again_is_refused(data):
    change_teacher(data / "teachers/a", lambda net: next(net.parameters()).add_(1))
    with pytest.raises(InputError, match=r"teacher\.weights_sha256"):
        prepare(data, soft(data))


@pytest.mark.parametrize(
    ("loss", "weighting", "message"),
    [
        ("kl", LossWeights(2.0, 0.9), None),
        ("kl none", LossWeights(2.0, 0.9), "a label for some row, found 8 rows without. Set alpha to 1"),
        ("dkd", LossWeights(2.0, 1.0), r"a label for every row, as loss dkd\(.*\) needs, found 2 rows without"),
        ("kl none", LossWeights(2.0, 1.0), None),
        ("kl none falling", LossWeights(2.0, 1.0), "Set alpha to 1 .and no label_weight, no alpha_schedule"),
        ("kl none falling", LossWeights(2.0, 1.0, 0.0), None),
    ],
)
def test_rows_without_a_label(data, loss, weighting, message):
    """Where alpha falls, the labels get what it loses, unless their weight is given."""
    loss, none, falling = f"{loss}  ".split(" ")[:3]
    course = Course.parse(alpha="linear") if falling else STEADY
    labels = np.array([0, 1, 2, UNLABELLED, UNLABELLED, 0, 1, 2]) if not none else np.full(8, UNLABELLED)
    write_split(data / "transfer/transfer.parquet", np.zeros((8, 1, 4, 4), np.uint8), labels, 3)
    if message is None:
        assert prepare(data, soft(data, loss=loss, live=True, course=course), weightings=[weighting]).rows.count == 8
        return
    with pytest.raises(InputError, match=message):
        prepare(data, soft(data, loss=loss, live=True, course=course), weightings=[weighting])


def test_views_that_mix_rows_go_with_no_choice_of_rows(captured):
    """A class that is left out would be learned through the partners."""
    how = {"views": Views("shift(1) | cutmix(1)", 1, 5), "weightings": [HARD]}
    with pytest.raises(InputError, match=r"rows: expected all.*, as view policy .*cutmix\(strength=1\) mixes .*found 13 of 20"):
        prepare(captured, None, rows="without([0])", **how)
    assert prepare(captured, None, rows="fraction(1.0)", **how).rows.count == 20


@pytest.mark.parametrize(
    ("what", "changes"), [("keep: best", {"recipe": Recipe.parse(keep="best", **SETTINGS)}), ("correct", {"correct": ("1",)})]
)
def test_validation_rows_that_are_trained_on_decide_nothing(captured, what, changes):
    ground = Ground.open(captured / "transfer", ("train", "valid"), captured / "work", CPU)
    ground = replace(ground, splits=ground.splits | {"valid": replace(ground.splits["valid"], folded=True)})
    given = {"views": VIEWS, "rows": "all", "weightings": [HARD], "correct": (), "recipe": RECIPE} | changes
    with pytest.raises(InputError, match=what):
        Lesson.prepare(ground, soft=None, **given)


def test_seeds():
    require_seeds([3, 1])
    for seeds in ([], [1, 1]):
        with pytest.raises(InputError, match="seeds: expected one or more, all different"):
            require_seeds(seeds)


# ---------------------------------------------------------------- what is said of students


def test_learned_from_a_cache(captured):
    lesson = prepare(captured, soft(captured, loss="dkd(beta=2)", squared=False))
    assert lesson.learned(LossWeights(2.0, 0.7)) == Learned(
        temperature=2.0, alpha=0.7, label_weight=1 - 0.7, loss="dkd(alpha=1.0, beta=2)", loss_behaviour="version 1",
        squared=False, standardised=False, rule="logits", rule_version=1, weights=(1.0,),
        caches={"a": Cache.open(captured / "caches/a").manifest.digest}, live=None,
            features=(), feature_behaviours=(),
    )  # fmt: skip
    found = prepare(captured, soft(captured, course=Course.parse(**COURSE))).learned(WEIGHTING)
    assert found.temperature_schedule == "linear(start=1.0, end=0.5) of version 1"
    assert (found.alpha_schedule, found.loss_warmup) == ("linear(start=1.0, end=0.0) of version 1", 3)


def test_learned_from_a_teacher_in_the_loop(captured):
    found = prepare(captured, soft(captured, live=True)).learned(WEIGHTING)
    weights = files.sha256((captured / "teachers/a/model.safetensors").read_bytes())
    digest = files.sha256(files.canonical_json([Checkpoint.teacher(captured / "teachers/a").model, "version 1", weights]))
    assert (found.caches, dict(found.live), dict(found.teachers)) == (None, {"a": digest}, {"a": digest})


def test_a_baseline_has_learned_from_no_teacher(captured):
    assert prepare(captured, soft(captured)).learned(HARD) is None
    assert prepare(captured, None, weightings=[HARD]).learned(HARD) is None


def test_an_identity_is_the_same_for_the_same_and_json_holds_it(captured):
    one, other = (identity(prepare(captured, soft(captured))) for _ in range(2))
    assert one == other == json.loads(json.dumps(one))
    assert one["model"] == {"spec": "mlp(hidden=[4], dropout=0.0, input_dropout=0.0)", "behaviour": "version 1"}
    assert one["weighing"] == {"temperature": 2.0, "alpha": 0.5, "label_weight": 0.5}
    assert one["views"] == {"policy": Policy.parse("shift(1)", 5).text, "seed": 5, "behaviours": ["version 1"], "count": 3}
    assert one["rows"] == {"selection": "all()", "count": 20, "sha256": files.sha256(np.arange(20).tobytes())}
    assert (one["seed"], one["correct"]) == (0, None)


def test_an_identity_depends_on_all_that_decides_weights(captured, data):
    """Every part of it once; all of them differ from the first, and from each other."""
    lesson, live = prepare(captured, soft(captured)), prepare(captured, soft(captured, live=True))
    correcting = prepare(captured, soft(captured), correct=("1",))
    change_teacher(data / "teachers/a", lambda net: next(net.parameters()).add_(1))
    run_capture(data)
    found = [
        identity(lesson),
        identity(lesson, model="mlp(hidden=[5])"),
        identity(lesson, recipe=Recipe.parse(**SETTINGS | {"epochs": 3})),
        identity(lesson, weighting=LossWeights(3.0, 0.5)),
        identity(lesson, weighting=LossWeights(2.0, 0.6)),
        identity(lesson, weighting=LossWeights(2.0, 0.5, 1.0)),
        identity(lesson, weighting=HARD),
        identity(lesson, seed=1),
        identity(live),
        identity(correcting),
        identity(prepare(data, soft(data))),
        identity(prepare(captured, soft(captured), rows="fraction(0.5)")),
        identity(prepare(captured, soft(captured, loss="mse"))),
        identity(prepare(captured, soft(captured, squared=False))),
        identity(prepare(captured, soft(captured, standardised=True))),
        identity(prepare(captured, soft(captured, rule="probabilities"))),
        *(identity(prepare(captured, soft(captured, course=Course.parse(**{name: value})))) for name, value in COURSE.items()),
        *(
            identity(prepare(captured, replace(soft(captured), heat=parse_curriculum(each))))
            for each in ("ctkd()", "ctkd(epochs=3)")
        ),
        *(identity(lesson, weighting=LossWeights(2.0, 0.5, mutual=each), cohort=(0, 1)) for each in (0.5, 1.0)),
        identity(lesson, weighting=LossWeights(2.0, 0.5, mutual=1.0), cohort=(0, 2)),
        identity(lesson, recipe=Recipe.parse(**SETTINGS, draws=2)),
        identity(lesson, recipe=Recipe.parse(**SETTINGS, virtual_teacher="tf_kd(weight=0.1)")),
        identity(prepare(captured, None, views=Views("shift(1)", 2, 5), weightings=[HARD]), weighting=HARD),
        identity(prepare(captured, None, views=Views("shift(1)", 3, 6), weightings=[HARD]), weighting=HARD),
    ]
    digests = [files.sha256(files.canonical_json(each)) for each in found]
    assert len(set(digests)) == len(found)


# ---------------------------------------------------------------- together or alone


@pytest.fixture
def fits(monkeypatch) -> list[int]:
    """How many nets each training had: 0 for one that is not a stack."""
    found, real = [], lessons.fit

    def fit(model, *given, **how):
        found.append(len(model) if isinstance(model, Stack) else 0)
        return real(model, *given, **how)

    monkeypatch.setattr(lessons, "fit", fit)
    return found


def train(
    lesson: Lesson, out: Path, weightings: list[LossWeights], recipe: Recipe = RECIPE, text: str = MODEL
) -> list[dict[str, torch.Tensor]]:
    """The weights of the students."""
    model = parse_model(text)
    members = [lesson.identity(model, recipe, each, 1) for each in weightings]
    with Kept.hold(out / "work", out, members) as kept:
        names = [f"s{number}" for number in range(len(weightings))]
        students = lesson.train(model, recipe, weightings, seed=1, names=names, kept=kept)
    assert [(each.facts.seed, each.facts.kept_epoch, each.kept.epoch, len(each.history)) for each in students] == [
        (1, 2, 2, 2)
    ] * len(weightings)
    return [each.net.state_dict() for each in students]


THREE = [LossWeights(2.0, 0.5), HARD, LossWeights(2.0, 1.0)]


def assert_close(found: list[dict], wanted: list[dict], **how) -> None:
    for one, other in zip(found, wanted, strict=True):
        for name, tensor in one.items():
            torch.testing.assert_close(tensor, other[name], **how)


def test_students_of_one_seed_are_one_stack_and_as_they_would_be_alone(captured, tmp_path, fits):
    lesson = prepare(captured, soft(captured, loss="mlkd", course=Course.parse(**COURSE)))
    together = train(lesson, tmp_path / "together", THREE)
    alone = [train(lesson, tmp_path / str(number), [each])[0] for number, each in enumerate(THREE)]
    assert fits == [3, 0, 0, 0]
    assert_close(together, alone, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(alone[0]["2.weight"], alone[2]["2.weight"], rtol=1e-3)


def one_by_one(monkeypatch, reason: str) -> None:
    if reason == "optimizer":
        monkeypatch.setattr(Recipe, "elementwise", False)
    elif reason == "loss":
        monkeypatch.setattr(SoftLoss, "stacks", lambda loss, classes: False)
    elif reason == "stackable":
        monkeypatch.setattr(lessons, "stackable", lambda nets, shape: False)
    else:
        monkeypatch.setattr(lessons, "STACKED_WEIGHTS", 10)


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("optimizer", "their optimizer is a plug-in"),
        ("loss", "their loss takes one student at a time"),
        ("stackable", "they keep batch statistics"),
        ("large", None),
    ],
)
def test_students_that_cannot_share_steps_are_trained_one_by_one_to_the_same_bits(
    captured, tmp_path, fits, monkeypatch, caplog, reason, said
):
    lesson = prepare(captured, soft(captured))
    alone = [train(lesson, tmp_path / str(number), [each])[0] for number, each in enumerate(THREE)]
    one_by_one(monkeypatch, reason)
    with caplog.at_level("INFO", logger="pipeline"):
        assert_close(train(lesson, tmp_path / "three", THREE), alone, rtol=0, atol=0)
    assert fits == [0] * 6
    assert (f"s0 and others: trained one by one, because {said}" in caplog.text) == (said is not None)


def test_students_with_convolutions_are_trained_one_by_one_on_a_cpu(captured, tmp_path, fits):
    train(prepare(captured, soft(captured)), tmp_path, THREE, text="cnn(channels=[2])")
    assert fits == [0] * 3


def test_what_is_written_is_what_was_trained(captured, tmp_path):
    """Weights, history and facts come back from the folder; a student that diverged has no weights."""
    lesson, recipe, model = prepare(captured, soft(captured)), Recipe.parse(**SETTINGS), parse_model(MODEL)
    with Kept.hold(tmp_path / "work", tmp_path / "s", [identity(lesson, seed=4)]) as kept:
        [student] = lesson.train(model, recipe, [WEIGHTING], seed=4, names=["s"], kept=kept)
    lost = replace(student, facts=replace(student.facts, seed=5, kept_epoch=None, diverged=2), net=None, kept=None)
    (tmp_path / "s").mkdir()
    lesson.write(tmp_path / "s", model, recipe, WEIGHTING, [student, lost], name="s")
    found = Checkpoint.open(tmp_path / "s", kinds=["student"], name="s", fix="")
    assert [(net.seed, net.kept_epoch, net.diverged, net.sha256 is None) for net in found.nets] == [
        (4, 2, None, False),
        (5, None, 2, True),
    ]
    assert_close([found.load(found.nets[0], CPU).state_dict()], [student.net.state_dict()], rtol=0, atol=0)
    assert found.soft == lesson.learned(WEIGHTING)
    assert [row["epoch"] for row in found.history() if row["seed"] == 4] == [1, 2]


def test_nets_of_other_encodings_learn_from_one_streamed_lesson(tmp_path):
    """Each ends as it does in a lesson of its own: none is given what was read for another."""
    data, recipe = write_texts(tmp_path, rows=36, span=4), Recipe.parse(memory=6e-6, **SETTINGS)
    how = {"views": Views("none", 1, 5), "weightings": [HARD], "recipe": recipe}
    shared = prepare(data, None, **how)
    assert not shared.examples.whole
    for length in (70, 80, 60):
        found, alone = (
            train(lesson, tmp_path / f"{length}-{number}", [HARD], recipe, f"bag(length={length}, width=4)")
            for number, lesson in enumerate((shared, prepare(data, None, **how)))
        )
        assert_close(found, alone, rtol=0, atol=0)
