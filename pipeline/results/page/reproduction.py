"""Reproduction: the commands that give what a lineage names, for a shell in the folder of the project.

A command holds the settings that a run records and that differ from their option's default; of one that does not differ,
params.yaml may say otherwise, and then it wins. Commands without settings have all of them from there: files that a teacher was
adopted from, for example, are recorded nowhere else.
"""

import shlex
from collections.abc import Iterable
from itertools import groupby

from pipeline.base.commands import short
from pipeline.base.settings import settings_of
from pipeline.data.settings import Views
from pipeline.models.modelfile import Learned, Shown
from pipeline.models.training import Training
from pipeline.results.lineage import Setting, Stored, Student, Teacher

NO_VIEWS = "none()"
_VIEWS = Views()
# The defaults of training.settings.Distillation as runs record them; results may not import it, so a test compares both.
USUAL = {
    "rule": "probabilities", "loss": "kl()", "t_squared": True, "standardise": False, "alpha": 0.9,
    "temperature_schedule": None, "alpha_schedule": None, "loss_warmup": 0, "learn_temperature": None,
}  # fmt: skip
_SWEPT = "$T"  # the variable of a loop over temperatures


def ingest() -> str:
    """The command that writes the splits."""
    return _command("ingest")


def teacher(of: Teacher) -> str:
    """The command that trains or adopts a teacher."""
    if of.kind == "promoted":
        last = of.generations[-1]
        return _command("adopt", of.name, "--student", last.run, "--seed", last.seed)
    if of.recipe is None or of.views is None:
        return _command("adopt", of.name)
    policy = _differing({"--policy": (of.views.policy, NO_VIEWS), "--seed": (of.seed, 0)})
    return _command("teach", of.name, "--model", of.model, *_training(of.recipe), *policy)


def cache(name: str, stored: Stored) -> list[str]:
    """The command that captures the cache of a teacher, and the one that compares its bytes with its manifest."""
    return [_command("capture", name, *stored.options), _command("verify", name)]


def student(of: Student, study: str | None) -> list[str]:
    """The commands that train these runs: temperatures in a loop of the shell, where only they differ."""
    if study is not None:
        return [_command("sweep", study)]
    if of.soft is None:
        return [_command("distill", of.name, "--hard", *_shared(of, _seeds(of.runs[0])))]
    found = []
    for (alpha, labels, seeds), runs in groupby(of.runs, key=lambda run: (run.alpha, run.label_weight, _seeds(run))):
        heats = [short(run.temperature) for run in runs if run.temperature is not None]
        words = [*_shared(of, seeds), *_soft(of.soft, of.kind == "live", alpha, labels)]
        if len(heats) == 1:
            found.append(_command("distill", of.name, "-T", heats[0], *words))
            continue
        one = _command("distill", of.name, "-T", _SWEPT, *words).replace(shlex.quote(_SWEPT), _SWEPT, 1)
        found.append(f"for T in {' '.join(heats)}; do {one}; done")
    return found


def whole(study: str | None) -> list[str]:
    """The command that brings all of it up to date, in a project under DVC, and the one that measures all nets."""
    return ["dvc repro", _command("evaluate") if study is None else _command("sweep", study)]


def bare(identity: str) -> str:
    """The text of a spec out of its identity, see spec.Spec."""
    return identity.rpartition(" of ")[0] or identity


def _seeds(run: Setting) -> tuple[str, ...]:
    """The seeds of a run, those that diverged last."""
    return *run.kept, *run.diverged


def _shared(of: Student, seeds: Iterable[str]) -> list[object]:
    """Options of a student that do not depend on what it learns from."""
    words = ["--model", of.model, *([] if of.recipe is None else _training(of.recipe))]
    words += _repeated("--seeds", seeds)
    if of.rows is not None:
        words += _differing({"--rows": (of.rows.selection, "all()")})
    return words + _repeated("--correct", of.corrected) + ([] if of.views is None else _views(of.views))


def _views(views: Shown) -> list[object]:
    """Options of views; without a seed they are all outcomes of the policy."""
    count, seed = ("all", _VIEWS.seed) if views.seed is None else (views.count, views.seed)
    return _differing(
        {"--policy": (views.policy, NO_VIEWS), "--views": (count, _VIEWS.count), "--view-seed": (seed, _VIEWS.seed)}
    )


def _training(recipe: Training) -> list[object]:
    """Options of the settings of a training; those that are specs are recorded with their behaviour."""
    named = {f"--{key.replace('_', '-')}": field for key, (field, _) in settings_of(Training).items()}
    return _differing({name: (_plain(getattr(recipe, field.name)), field.default) for name, field in named.items()})


def _soft(soft: Learned, live: bool, alpha: float | None, labels: float | None) -> list[object]:
    """Options of soft targets and their loss."""
    equal = len(set(soft.weights)) == 1
    words: list[object] = ["--live"] if live else []
    words += _repeated("--teachers", soft.teachers) + ([] if equal else _repeated("--weights", soft.weights))
    given = {
        "rule": soft.rule, "loss": soft.loss, "alpha": alpha, "temperature_schedule": _plain(soft.temperature_schedule),
        "alpha_schedule": _plain(soft.alpha_schedule), "loss_warmup": soft.loss_warmup,
        "learn_temperature": _plain(soft.learned_temperature),
    }  # fmt: skip
    words += _differing({f"--{key.replace('_', '-')}": (value, USUAL[key]) for key, value in given.items()})
    words += _differing({"--label-weight": (labels, None if alpha is None else 1 - alpha)})
    words += _flag("t_squared", soft.squared) + _flag("standardise", soft.standardised)
    return words + _repeated("--features", soft.features)


def _plain(value: object) -> object:
    """A text without a behaviour; other values as they are."""
    return bare(value) if isinstance(value, str) else value


def _differing(given: dict[str, tuple[object, object]]) -> list[object]:
    """Options whose value is not the usual one. given: the value and the usual one of each."""
    return [word for name, (value, usual) in given.items() if value != usual and value is not None for word in (name, value)]


def _flag(key: str, value: bool) -> list[object]:
    """An option of a yes or no, where it is not the usual one."""
    return [] if value == USUAL[key] else [f"--{'' if value else 'no-'}{key.replace('_', '-')}"]


def _repeated(name: str, values: Iterable[object]) -> list[object]:
    return [word for value in values for word in (name, value)]


def _command(*words: object) -> str:
    return shlex.join(["softcache", *(short(word) if isinstance(word, float) else str(word) for word in words)])
