"""Pedigree: edges lead from what each learned from."""

from dataclasses import replace

import lineages
from lineages import ROWS, made, student, teacher
from pipeline.models.modelfile import Generation, Mutual
from pipeline.results.lineage import Part
from pipeline.results.page.pedigree import MOST, pedigree


def pairs(told, weights=None) -> set[tuple[str, str]]:
    """The edges by their ends."""
    return {(edge.start, edge.end) for edge in pedigree(told, weights or {})[1]}


def test_of_a_project():
    """Its second teacher was a student that is in the drawing."""
    chapter = lineages.opened()
    _, edges = pedigree(chapter.lineage, chapter.tables.basis.students)
    assert {(edge.start, edge.end) for edge in edges if not edge.back} == {
        ("data", "teacher a"), ("teacher a", "cache a"), ("data", "cache b"), ("teacher b", "cache b"),
        ("cache a", "student s"), ("cache a", "student t"), ("cache b", "student t"),
        ("data", "student s"), ("data", "student t"),
    }  # fmt: skip
    assert [(edge.start, edge.end) for edge in edges if edge.back] == [("student s", "teacher b")]


def test_students_of_teachers_in_the_loop_have_no_caches():
    chapter = lineages.opened("data/sweeps/live/plots")
    assert ("teacher a", "student t") in pairs(chapter.lineage)
    assert ("cache a", "student t") not in pairs(chapter.lineage)
    assert "alpha 0.5, 0.9 · dkd · live" in pedigree(chapter.lineage, {})[0][-1].lines


def test_generations_that_are_not_here_have_a_box_of_their_own():
    """A student of that name with other weights is another one."""
    first, second = Generation("x/y-T4", 1, "0" * 64, {"z": ""}), Generation("s-T2", 7, "f" * 64, {"a": "", "c": ""})
    told = made([teacher("b", kind="promoted", generations=(first, second))], [student("s", ["b"])])
    nodes, edges = pedigree(told, {"s-T2": {"7": "e" * 64}})
    assert nodes[1].lines == ("a + c → s-T2, seed 7", "z → x/y-T4, seed 1")
    assert [(edge.start, edge.end) for edge in edges if edge.end == "teacher b"] == [("before b", "teacher b")]
    assert ("student s", "teacher b") in pairs(told, {"s-T2": {"7": "f" * 64}})


def test_few_labels_are_rows_of_their_own():
    """Teachers and baselines learn from them; teachers are asked about the transfer set, whose labels their students know."""
    parts = {"train": ROWS, "transfer": Part(90, 20, "i", "l", 0), "valid": ROWS, "test": ROWS}
    told = made([teacher("a")], [student("s"), student("s", ["a"]), student("t")], parts=parts)
    nodes, _ = pedigree(told, {})
    assert [(node.name, node.lines) for node in nodes[:2]] == [
        ("transfer set", ("90 images of 4×4×1", "3 classes · 20 labelled", "valid 40 · test 40")),
        ("training split", ("40 rows · all labelled",)),
    ]
    assert pairs(told) == {
        ("labels", "teacher a"), ("teacher a", "cache a"), ("data", "cache a"), ("cache a", "student s"),
        ("data", "student s"), ("labels", "student s"), ("labels", "student t"),
    }  # fmt: skip
    bare = made([teacher("a")], [student("s", ["a"])], parts=parts | {"transfer": Part(90, 0, "i", "l", 0)})
    alone = student("s", ["a"])
    alone = replace(alone, runs=tuple(replace(run, alpha=1.0, label_weight=0.0) for run in alone.runs))
    for told in (bare, made([teacher("a")], [alone], parts=parts)):  # no labels, and labels without a weight
        assert ("data", "student s") not in pairs(told)
    assert nodes[-2].lines == (
        "mlp(hidden=[3])", "T = 1, 2, 4, 8, 20", "alpha 0.5 · kl", "also from hard labels", "99 parameters",
        "5 seeds · 30 nets",
    )  # fmt: skip


def test_whoever_gives_soft_targets_no_weight_learns_from_no_teacher():
    """Peers that learn from labels and each other."""
    of = student("s", ["a"], mutual=Mutual(1.0, (0, 1)))
    of = replace(of, runs=tuple(replace(run, alpha=0.0) for run in of.runs))
    assert pairs(made([teacher("a")], [of])) == {("data", "teacher a"), ("teacher a", "cache a"), ("data", "student s")}
    assert "alpha 0 · peers" in pedigree(made([teacher("a")], [of]), {})[0][-1].lines


def test_teachers_without_a_box_teach_from_the_box_that_stands_for_them():
    names = [f"n{number}" for number in range(MOST + 2)]
    live = student("t", names[-1:])
    live = replace(live, kind="live", soft=replace(live.soft, caches=None, live=live.soft.caches))
    told = pairs(made([teacher(name) for name in names], [student("s", names[-2:]), live]))
    assert {edge for edge in told if edge[1].startswith("student")} == {
        ("more cache", "student s"), ("data", "student s"), ("more teacher", "student t"), ("data", "student t"),
    }  # fmt: skip
