"""The section of training: nets, and their means."""

import math

import pytest

from charted import best, chapter, drawn, students
from pipeline.results.page.training import thinned, training
from runs import lost, rows


def epochs(run: str, seed: int | None, losses: list[float]) -> list[dict]:
    return [
        {"run": run, "seed": seed, "epoch": epoch, "train_loss": loss, "valid_accuracy": epoch / 10, "valid_nll": 0.5}
        for epoch, loss in enumerate(losses, 1)
    ]


def test_means_are_over_the_nets_at_epochs_that_all_have(tmp_path):
    """One net stopped early, and one diverged, whose last loss is no number."""
    every = (
        rows("a", "teacher")
        + students("s", 4, errors=(1, 2))
        + [lost(row) | {"seed": 2} for row in students("s", 4, errors=(1,))]
    )
    told = epochs("a", None, [3, 2]) + epochs("s-T4-0.5", 0, [2, 1, 0.5]) + epochs("s-T4-0.5", 1, [4, 2])
    told += epochs("s-T4-0.5", 2, [9, math.nan])
    loss, accuracy = training(chapter(tmp_path, every, epochs=told)).figures
    assert [(row["epoch"], row["value"]) for row in loss.spec["datasets"]["means"]] == [(1, 3), (2, 1.5)]
    nets = [(row["run"], row["net"], row["epoch"], row["value"]) for row in loss.spec["datasets"]["nets"]]
    assert nets == [
        ("teacher a", 0, 1, 3), ("teacher a", 0, 2, 2),
        ("s at T = 4", 0, 1, 2), ("s at T = 4", 0, 2, 1), ("s at T = 4", 0, 3, 0.5),
        ("s at T = 4", 1, 1, 4), ("s at T = 4", 1, 2, 2),
    ]  # fmt: skip
    assert loss.title == "Training loss of s at T = 4 ends at 1.5 after 2 epochs"
    assert max(row["value"] for row in drawn(accuracy)) == pytest.approx(30)  # %


def test_the_best_students_are_drawn_and_the_others_counted(tmp_path):
    """Of eight students, the first two are the worst; each has two settings and a baseline."""
    every, told, chosen = [], [], []
    for number in range(8):
        name = f"s{number}"
        every += [row | {"nll": 1 - number / 10} for row in students(name, 1, 4)] + rows(f"{name}-hard", "baseline", name)
        told += [row for run in (f"{name}-T1-0.5", f"{name}-T4-0.5", f"{name}-hard") for row in epochs(run, 0, [2, 1])]
        chosen.append(best(name, f"{name}-T4-0.5", valid_nll=1 - number / 10))
    section = training(chapter(tmp_path, every, epochs=told, best=chosen))
    assert {row["run"] for row in drawn(section.figures[0])} == {
        f"s{number} {how}" for number in range(2, 8) for how in ("at T = 4", "on hard labels")
    }
    assert section.content["sentences"] == ["Not drawn: 2 students more."]
    assert training(chapter(tmp_path, every)) is None


def test_some_epochs_stand_for_all():
    assert thinned(range(1, 6), 3) == [1, 3, 5]
    assert thinned([4, 7], 3) == [4, 7]
    assert (len(thinned(range(1, 1001))), thinned(range(1, 1001))[-1]) == (60, 1000)


def of_one_net(folder, accuracies: list[float]):
    """The charts of a student with these accuracies after its epochs."""
    told = [row | {"valid_accuracy": share} for row, share in zip(epochs("s-T4-0.5", 0, [1.5] * 999), accuracies, strict=False)]
    return training(chapter(folder, students("s", 4, errors=(1,)), epochs=told)).figures


def test_one_epoch_is_a_point(tmp_path):
    loss, accuracy = of_one_net(tmp_path, [0.5])
    assert loss.title == "Training loss of s at T = 4 ends at 1.5 after 1 epoch"
    assert [(row["epoch"], row["value"]) for row in accuracy.spec["datasets"]["points"]] == [(1, 50)]
    assert [layer["mark"]["type"] for layer in accuracy.spec["layer"]] == ["line", "point"]
    assert "params" not in accuracy.spec  # there is nothing to choose
    assert not of_one_net(tmp_path / "two", [0.5, 0.6])[1].spec["datasets"]["points"]


@pytest.mark.parametrize(
    ("accuracies", "domain", "note"),
    [
        ([0.6, 0.6] + [1.0] * 30, [60, 100], ""),
        ([1.0] * 8, [99, 100], ""),
        ([0.998, 0.999], [98.9, 99.9], ""),
        ([0.1, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.96], [50, 96], "Below 50 % is cut off."),
    ],
)
def test_an_axis_of_accuracies_has_a_span_and_cuts_the_first_steps_alone(tmp_path, accuracies, domain, note):
    _, figure = of_one_net(tmp_path, accuracies)
    assert figure.spec["layer"][0]["encoding"]["y"]["scale"]["domain"] == pytest.approx(domain)
    assert figure.note == note


def test_the_note_says_how_many_epochs_are_drawn(tmp_path):
    loss, _ = of_one_net(tmp_path, [0.5] * 150)
    shown = [row["epoch"] for row in loss.spec["datasets"]["means"]]
    assert (len(shown), shown[0], shown[-1]) == (60, 1, 150)
    assert loss.note == "Drawn: 60 of up to 150 epochs, with the first and the last."


def test_names_to_choose_from_are_data(tmp_path):
    """Of several runs one can be seen alone; long names are cut where they are read, not where they are compared."""
    name = "<script>" + "x" * 30
    every = students(name, 4) + rows(f"{name}-hard", "baseline", name)
    told = [row for run in (f"{name}-T4-0.5", f"{name}-hard") for row in epochs(run, 0, [2, 1])]
    (loss, _) = training(chapter(tmp_path, every, epochs=told)).figures
    (choice,) = loss.spec["params"]
    assert choice["bind"]["options"] == ["", f"{name} at T = 4", f"{name} on hard labels"]
    assert choice["bind"]["labels"][0] == "all"
    assert max(map(len, choice["bind"]["labels"])) == 36
    assert {row["run"] for row in drawn(loss)} == set(choice["bind"]["options"][1:])
