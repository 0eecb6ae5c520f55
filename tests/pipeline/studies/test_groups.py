"""Groups: which students share a lesson, without any being trained."""

from types import SimpleNamespace

import pytest

from pipeline.data.settings import Views
from pipeline.studies import groups
from pipeline.studies.groups import Plan, groups_of, key
from pipeline.training.objective import HARD, LossWeights
from pipeline.training.recipe import Recipe

RECIPE = Recipe.parse(optimizer="sgd(lr=0.1)", schedule="constant", epochs=4, batch_size=7)
SOFT, FEATURED = SimpleNamespace(features=()), SimpleNamespace(features=("hint",))
ONE, EIGHT, MORE = LossWeights(1.0, 0.5), LossWeights(8.0, 0.5), LossWeights(8.0, 0.9)


def plan(**changes) -> Plan:
    settings = {
        "model": "mlp(hidden=[3])", "recipe": RECIPE, "views": Views("none", 1, 0), "rows": "all", "soft": SOFT,
        "correct": (), "seeds": (0,),
    }  # fmt: skip
    return Plan(**settings | changes)


@pytest.fixture
def lessons(monkeypatch) -> list[tuple]:
    """What lessons were prepared, none of which is read: of which targets, and for whom. Each has room for one temperature."""
    made = []

    def prepare(ground, *, soft, weightings, **given):
        made.append((soft, list(weightings)))
        room = SimpleNamespace(temperatures=ROOM)
        return SimpleNamespace(number=len(made), examples=room, require_guided=lambda model: None)

    monkeypatch.setattr(groups, "Lesson", SimpleNamespace(prepare=prepare))
    return made


ROOM = 2


def formed(plans: dict, weightings: list, *, baseline=True, transfer=False, together=64) -> list[tuple]:
    found = groups_of(SimpleNamespace(has_transfer_set=transfer), plans, weightings, baseline, together)
    return [(group.name, group.lesson.number, list(group.weightings)) for group in found]


def test_a_baseline_is_in_a_stack_with_others(lessons):
    assert formed({"s": plan()}, [ONE, EIGHT, MORE]) == [("s", 2, [HARD, ONE, EIGHT, MORE])]
    assert formed({"s": plan()}, [ONE], baseline=False) == [("s", 4, [ONE])]


def test_a_baseline_is_apart_where_it_learns_from_other_rows(lessons):
    assert formed({"s": plan()}, [ONE, EIGHT], transfer=True) == [("s", 2, [ONE, EIGHT]), ("s", 3, [HARD])]
    assert lessons[2] == (None, [HARD])


def test_a_baseline_is_apart_where_features_take_memory_beside_it(lessons):
    assert formed({"s": plan(soft=FEATURED)}, [ONE]) == [("s", 2, [ONE]), ("s", 3, [HARD])]
    assert lessons[2] == (None, [HARD])


def test_a_baseline_alone(lessons):
    assert formed({"s": plan()}, []) == [("s", 1, [HARD])]
    assert lessons == [(None, [HARD])]


def test_no_more_temperatures_than_there_is_room_for(lessons, monkeypatch):
    monkeypatch.setitem(globals(), "ROOM", 1)
    assert formed({"s": plan()}, [EIGHT, ONE, MORE]) == [("s", 2, [HARD, ONE]), ("s", 3, [EIGHT, MORE])]


def test_no_more_nets_than_may_train_together(lessons):
    assert formed({"s": plan()}, [ONE, EIGHT, MORE], together=3) == [("s", 2, [HARD, ONE, EIGHT]), ("s", 2, [MORE])]


def test_plans_share_a_lesson_where_all_that_it_holds_is_the_same(lessons):
    """Whatever their nets, their seeds and their learning rates are."""
    other = Recipe.parse(optimizer="sgd(lr=0.9)", schedule="cosine", epochs=9, batch_size=3)
    alike = {"s": plan(), "apart": plan(rows="fraction(0.5)"), "u": plan(model="mlp(hidden=[9])", recipe=other, seeds=(1, 2))}
    every = [HARD, ONE]
    assert formed(alike, [ONE]) == [("s", 2, every), ("u", 2, every), ("apart", 4, every)]


@pytest.mark.parametrize(
    "change",
    [
        {"views": Views("none", 2, 0)},
        {"soft": SimpleNamespace(features=(), loss="mse")},
        {"correct": (1,)},
        {"recipe": Recipe.parse(optimizer="sgd(lr=0.1)", schedule="constant", epochs=4, batch_size=7, memory=1)},
        {"recipe": Recipe.parse(optimizer="sgd(lr=0.1)", schedule="constant", epochs=4, batch_size=7, keep="best")},
    ],
    ids=["views", "targets", "correction", "budget", "choice of an epoch"],
)
def test_plans_that_differ_have_lessons_of_their_own(lessons, change):
    assert [number for _, number, _ in formed({"s": plan(), "u": plan(**change)}, [ONE])] == [2, 4]


def test_keys():
    assert [key(each) for each in (HARD, ONE, LossWeights(2.5, 0.25))] == ["hard", "T1-alpha0.5", "T2.5-alpha0.25"]
