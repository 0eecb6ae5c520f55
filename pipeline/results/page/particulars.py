"""Particulars: all that a lineage says, in words: digests, versions, settings, and the commands that give it again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pipeline.base.commands import short
from pipeline.base.settings import settings_of
from pipeline.data.splits import described
from pipeline.models.modelfile import Learned, Shown, descent
from pipeline.models.training import Training
from pipeline.results.lineage import Lineage, Setting, Stored, Student, Teacher
from pipeline.results.page import reproduction
from pipeline.results.page.pedigree import Weights, fingerprint, together
from pipeline.results.wording import counted, size


class Fact(NamedTuple):
    """A line. exact: whether its value is a digest or a spec, letter for letter."""

    name: str
    value: str
    exact: bool = False


class NetRow(NamedTuple):
    """A net of a student. kept: the epoch of its weights; or why there are none."""

    run: str
    temperature: str
    alpha: str
    seed: str
    kept: str
    weights: str


@dataclass(frozen=True)
class Entry:
    """One thing of a lineage. commands: what gives it again."""

    name: str
    fingerprint: str
    facts: Sequence[Fact]
    nets: Sequence[NetRow] = ()
    commands: Sequence[str] = ()


def particulars(told: Lineage, weights: Weights) -> dict[str, list[Entry]]:
    """Entries by their heading.

    Args:
        told: The lineage.
        weights: Of students; see tables.Basis.

    Returns:
        Of splits, teachers, caches and students, in the order of the drawing; no headings without entries.
    """
    found = {
        "Rows": _splits(told),
        "Teachers": [_teacher(each) for each in told.teachers],
        "Caches": [_cache(name, each) for name, each in told.caches.items()],
        "Students": [_student(each, told.study, weights) for each in told.students],
    }
    return {heading: entries for heading, entries in found.items() if entries}


def _splits(told: Lineage) -> list[Entry]:
    """The transfer set first; it may be the training split."""
    parts = dict(told.parts)
    title = {"transfer": "transfer set", "train": "training split", "valid": "validation split", "test": "test split"}
    if parts["transfer"] == parts["train"]:
        del parts["train"]
        title["transfer"] += ", which is the training split"
    inputs = [Fact(key, _text(value), True) for key, value in described(told.inputs).items() if value is not None]
    entries = []
    for name in sorted(parts, key=list(title).index):
        part = parts[name]
        counts = {"rows": part.rows, "with a label": part.labelled, "left out, because damaged": part.excluded}
        said = [Fact(what, f"{count:,}") for what, count in (counts | {"classes": told.classes}).items()]
        digests = [Fact("digest of inputs", part.inputs, True), Fact("digest of labels", part.labels, True)]
        entries.append(Entry(title[name], fingerprint(part.inputs), [*said, *inputs, *digests], (), [reproduction.ingest()]))
    return entries


def _teacher(of: Teacher) -> Entry:
    facts = [
        Fact("kind", of.kind),
        Fact("net", of.model, True),
        Fact("code of the net", of.behaviour, True),
        Fact("parameters", "not known" if of.parameters is None else f"{of.parameters:,}"),
        *([Fact("descends from", descent(of.generations))] if of.generations else []),
        *([Fact("seed", str(of.seed)), Fact("weights are of epoch", _text(of.kept_epoch))] if of.recipe else []),
        *_training(of.recipe, of.views),
        *_data(of.data.inputs, of.data.labels),
        Fact("sha256 of its logits" if of.kind == "imported" else "sha256 of its weights", _text(of.sha256), True),
    ]
    return Entry(of.name, fingerprint(of.sha256), facts, (), [reproduction.teacher(of)])


def _cache(name: str, of: Stored) -> Entry:
    facts = [
        Fact("keeps", " and ".join([of.knowledge, *of.features]), True),
        Fact("numbers are", of.dtype),
        Fact("size", size(of.size_bytes)),
        Fact("rows", f"{of.rows:,}"),
        *_views(of.views),
        Fact("computed as", f"{of.precision}, {f'tiles of {of.tile:,} rows' if of.tile else 'made elsewhere'}"),
        *([] if of.inference is None else [Fact("version of the loop", str(of.inference))]),
        Fact("digest", of.digest, True),
    ]
    return Entry(f"cache of {name}", fingerprint(of.digest), facts, (), reproduction.cache(name, of))


def _student(of: Student, study: str | None, weights: Weights) -> Entry:
    """The runs of a student that share their settings."""
    facts = [
        Fact("net", of.model, True),
        Fact("code of the net", of.behaviour, True),
        Fact("parameters", "not known" if of.parameters is None else f"{of.parameters:,}"),
        *([] if of.soft is None else _soft(of.soft)),
        *(
            []
            if of.mutual is None
            else [Fact("peers", f"weight {short(of.mutual.weight)}, in cohorts of {len(of.mutual.cohort)}")]
        ),
        *_training(of.recipe, of.views),
        *([] if of.rows is None else [Fact("learns from", f"{counted(of.rows.count, 'row')}, {of.rows.selection}")]),
        *([Fact("bias corrected of", ", ".join(of.corrected))] if of.corrected else []),
        *_data(of.data.inputs, of.data.labels),
        Fact("digest of all weights", together([of], weights), True),
    ]
    way = {"baseline": "from labels alone", "live": "from teachers in the loop"}.get(of.kind, "from caches")
    nets = [net for run in of.runs for net in _nets(run, weights.get(run.run, {}))]
    return Entry(f"{of.name}, {way}", fingerprint(together([of], weights)), facts, nets, reproduction.student(of, study))


def _nets(run: Setting, weights: Mapping[str, str]) -> list[NetRow]:
    setting = (run.run, _text(run.temperature), _text(run.alpha))
    found = [NetRow(*setting, seed, _text(epoch), weights.get(seed, "—")) for seed, epoch in run.kept.items()]
    return [*found, *(NetRow(*setting, seed, f"diverged in {epoch}", "—") for seed, epoch in run.diverged.items())]


def _soft(soft: Learned) -> list[Fact]:
    """How soft targets are made and learned from."""
    shares = ", ".join(f"{name} × {weight:.3g}" for name, weight in zip(soft.teachers, soft.weights, strict=True))
    given = {
        "schedule of T": soft.temperature_schedule, "schedule of alpha": soft.alpha_schedule,
        "learned T": soft.learned_temperature, "warm-up": soft.loss_warmup or None,
    }  # fmt: skip
    features = [f"{text} of {version}" for text, version in zip(soft.features, soft.feature_behaviours, strict=True)]
    scaled = "times T²" if soft.squared else "not times T²"
    return [
        Fact("teachers", shares),
        Fact("combined as", f"mean of {soft.rule}, version {soft.rule_version}"),
        Fact("soft loss", f"{soft.loss} of {soft.loss_behaviour}", True),
        Fact("soft loss is", scaled + (", of standardised logits" if soft.standardised else "")),
        *(Fact(name, _text(value), True) for name, value in given.items() if value is not None),
        *(Fact("feature loss", text, True) for text in features),
        *(Fact(f"digest of {name}", digest, True) for name, digest in soft.teachers.items()),
    ]


def _training(recipe: Training | None, views: Shown | None) -> list[Fact]:
    """The settings of a training that are set."""
    said = [] if recipe is None else [(key, getattr(recipe, field.name)) for key, (field, _) in settings_of(Training).items()]
    facts = [Fact(key.replace("_", " "), _text(value), isinstance(value, str)) for key, value in said if value is not None]
    return facts + ([] if views is None else _views(views))


def _views(views: Shown) -> list[Fact]:
    count = "a new one in every epoch" if views.count is None else f"{views.count:,} of each row"
    seed = "every outcome of the policy" if views.seed is None else f"seed {views.seed}"
    policy = f"{views.policy} of {', '.join(views.behaviours)}" if views.behaviours else views.policy
    return [Fact("views", f"{count}, {seed}"), Fact("policy", policy, True)]


def _data(inputs: str, labels: str) -> list[Fact]:
    return [Fact("digest of its inputs", inputs, True), Fact("digest of its labels", labels, True)]


def _text(value: object) -> str:
    """A value as a line."""
    if isinstance(value, list):
        return "×".join(map(str, value))
    return "—" if value is None else short(value) if isinstance(value, float) else str(value)
