"""Reproduction: what the page shows, given to a shell, makes the same bytes."""

import re
import shlex
import shutil
from dataclasses import replace

import lineages
from conftest import tree
from lineages import student, teacher
from pipeline.base.settings import settings_of
from pipeline.models.modelfile import Generation
from pipeline.results.page import reproduction
from pipeline.training.losses import SoftLoss
from pipeline.training.settings import Distillation
from projects import says


def test_commands_give_the_same_bytes_again(tmp_path, monkeypatch):
    """In a folder with nothing but rows, and no settings."""
    told = lineages.opened().lineage
    a, b = (reproduction.teacher(each) for each in told.teachers)
    (*of_a, _), of_b = (reproduction.cache(name, each) for name, each in told.caches.items())
    hard, soft, both = (reproduction.student(each, None) for each in told.students)
    monkeypatch.chdir(tmp_path)
    shutil.copytree(lineages.project() / "data/transfer", "data/transfer")
    for line in (a, *of_a, *hard, *soft, b, *of_b, *both):  # b was a student, and taught others
        loop = re.fullmatch("for T in (.*); do (.*); done", line)
        for t in loop[1].split() if loop else [""]:
            program, *words = shlex.split((loop[2] if loop else line).replace("$T", t))
            assert program == "softcache"
            says(0, *words)
    for name in ("teachers", "caches", "students"):
        assert tree(tmp_path / "data" / name) == tree(lineages.project() / "data" / name)


def test_what_is_recorded_nowhere_is_left_to_the_settings():
    """Of a teacher from elsewhere its name alone; of a student of a sweep the sweep."""
    assert reproduction.teacher(teacher("a", kind="adopted", recipe=None, views=None)) == "softcache adopt a"
    was = (Generation("x/y-T4", 1, "", {}), Generation("z-T2", 7, "", {}))
    assert reproduction.teacher(teacher("b", kind="promoted", generations=was)) == "softcache adopt b --student z-T2 --seed 7"
    assert reproduction.student(student("s", ["a"]), "alphas") == ["softcache sweep alphas"]


def test_runs_of_other_alphas_and_seeds_have_commands_of_their_own():
    of = student("s", ["a"])
    first, second, *others = of.runs
    lines = reproduction.student(replace(of, runs=(first, second, replace(others[0], alpha=0.7, kept={"9": 1}))), None)
    assert [line[:40] for line in lines] == [
        "for T in 1 2; do softcache distill s -T ",
        "softcache distill s -T 4 --model 'mlp(hi",
    ]
    assert lines[1].endswith("--seeds 9 --teachers a --alpha 0.7 --label-weight 0.5")


def test_what_is_usual_is_what_the_command_takes_where_nothing_is_said():
    usual = {key: field.default for key, (field, _) in settings_of(Distillation).items()}
    usual["loss"] = SoftLoss.parse(usual["loss"]).text
    assert {key: usual[key] for key in reproduction.USUAL} == reproduction.USUAL
    assert set(usual) - set(reproduction.USUAL) == {"teachers", "weights", "label_weight", "features"}  # which are told apart
    of = student("s", ["a"])
    plain = replace(of, soft=replace(of.soft, squared=True, standardised=False))
    odd = replace(of, soft=replace(of.soft, squared=False, standardised=True, rule="logits"))
    (plain, odd) = (reproduction.student(each, None)[0] for each in (plain, odd))
    assert plain.partition("--teachers")[2] == " a --alpha 0.5; done"
    assert odd.partition("--teachers")[2] == " a --rule logits --alpha 0.5 --no-t-squared --standardise; done"
