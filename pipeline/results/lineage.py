"""Lineage: what the nets of an evaluation come from: rows, teachers, their caches, and how students learned from these.

It repeats what splits, models and caches say of themselves, in one file beside the tables, so that a report needs nothing else.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace

import numpy as np

from pipeline.base import facts, files
from pipeline.base.places import Place
from pipeline.cache.manifest import Manifest
from pipeline.data.inputs.kinds import Inputs
from pipeline.data.splits import UNLABELLED, Split
from pipeline.models.modelfile import Chosen, Data, Generation, Kind, Learned, ModelFile, Mutual, Shown
from pipeline.models.training import Training

FORMAT = 1
FILE_NAME = "lineage.json"


@dataclass(frozen=True)
class Part:
    """A split. inputs, labels: digests. excluded: how many rows were left out because their inputs are damaged."""

    rows: int
    labelled: int
    inputs: str
    labels: str
    excluded: int

    @classmethod
    def of(cls, split: Split) -> "Part":
        """The facts of a split; its labels are read."""
        labelled = int(np.count_nonzero(split.labels() != UNLABELLED))
        return cls(split.rows, labelled, split.inputs_digest, split.labels_digest, len(split.excluded))


@dataclass(frozen=True)
class Teacher:
    """A teacher. sha256: of its weights, or of the logits that an imported one is; the other fields: see modelfile.Facts."""

    name: str
    kind: Kind
    model: str
    behaviour: str
    sha256: str | None
    parameters: int | None
    seed: int
    kept_epoch: int | None
    data: Data
    recipe: Training | None
    views: Shown | None
    generations: tuple[Generation, ...]

    @classmethod
    def of(cls, model: ModelFile) -> "Teacher":
        """The facts of a teacher."""
        net = model.nets[0]
        return cls(
            model.name, model.kind, model.model, model.behaviour, net.sha256, model.parameters, net.seed, net.kept_epoch,
            model.data, model.recipe, model.views, model.generations,
        )  # fmt: skip


@dataclass(frozen=True)
class Stored:
    """A cache. rows: of the transfer set. size_bytes: of all spans. views: of which `all` is every outcome of the policy.

    options: what `softcache capture` is given for it. inference, tile, precision: None and 0 where logits were made elsewhere.
    """

    digest: str
    knowledge: str
    features: tuple[str, ...]
    dtype: str
    rows: int
    size_bytes: int
    views: Shown
    inference: int | None
    precision: str
    tile: int
    options: tuple[str, ...]

    @classmethod
    def of(cls, manifest: Manifest) -> "Stored":
        """The facts of a cache."""
        said, views, extent = manifest.identity, manifest.identity["views"], manifest.extents["transfer"]
        seed = None if views.get("outcomes") is not None else views["seed"]
        shown = Shown(views["policy"], seed, tuple(views.get("behaviours", ())), extent.views)
        return cls(
            manifest.digest, manifest.knowledge.main.name, tuple(manifest.knowledge.features), said["layout"]["dtype"],
            extent.rows, sum(record.size_bytes for record in manifest.records), shown,
            said.get("inference"), said["precision"], said["tile"], manifest.options,
        )  # fmt: skip


@dataclass(frozen=True)
class Setting:
    """One run of a student. kept: the epoch that the weights of each net are of, by its seed in digits, as JSON wants keys.

    diverged: likewise, the epoch in which a net without weights diverged. tables.Basis has the sha256 of all weights.
    """

    run: str
    temperature: float | None
    alpha: float | None
    label_weight: float | None
    kept: Mapping[str, int | None]
    diverged: Mapping[str, int]


@dataclass(frozen=True)
class Student:
    """Runs of one student that share all settings but temperature, alpha and the weight of the labels.

    soft: that of the first run; None for a baseline. corrected: the classes whose bias was moved. Others: see modelfile.Facts.
    """

    name: str
    kind: Kind
    model: str
    behaviour: str
    parameters: int | None
    data: Data
    recipe: Training | None
    views: Shown | None
    rows: Chosen | None
    soft: Learned | None
    mutual: Mutual | None
    corrected: tuple[str, ...]
    runs: tuple[Setting, ...]

    @classmethod
    def of(cls, name: str, run: str, model: ModelFile) -> "Student":
        """The facts of one run."""
        soft = model.soft
        setting = Setting(
            run, soft.temperature if soft else None, soft.alpha if soft else None, soft.label_weight if soft else None,
            {str(net.seed): net.kept_epoch for net in model.trained},
            {str(net.seed): net.diverged for net in model.nets if net.diverged is not None},
        )  # fmt: skip
        moved = {index for net in model.nets for index, offset in enumerate(net.offsets or ()) if offset}
        return cls(
            name, model.kind, model.model, model.behaviour, model.parameters, model.data, model.recipe, model.views, model.rows,
            soft, model.mutual, tuple(model.classes[index] for index in sorted(moved)), (setting,),
        )  # fmt: skip

    @property
    def shared(self) -> bytes:
        """All that its runs share, as bytes that are equal where it is."""
        soft = self.soft and replace(self.soft, temperature=1.0, alpha=0.0, label_weight=0.0)
        return files.canonical_json(asdict(replace(self, soft=soft, corrected=(), runs=())))


@dataclass(frozen=True)
class Lineage:
    """The content of lineage.json. No times and no places: equal inputs have equal lineages.

    classes: their number. models: the net of each teacher and student, by run. parts: the splits by name; where no other
    transfer set was ingested, `transfer` is as `train`. caches: by teacher. study: the sweep, if it is of one.
    """

    version: int
    inputs: Inputs
    classes: int
    models: Mapping[str, str]
    parts: Mapping[str, Part]
    teachers: tuple[Teacher, ...]
    caches: Mapping[str, Stored]
    students: tuple[Student, ...]
    study: str | None

    @property
    def kind(self) -> str:
        """Of inputs, see inputs/kinds.py."""
        return self.inputs.kind

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a row of inputs."""
        return tuple(self.inputs.shape)

    @classmethod
    def of(
        cls,
        splits: Mapping[str, Split],
        models: Mapping[str, ModelFile],
        *,
        caches: Mapping[str, Manifest],
        students: Mapping[str, str],
        study: str | None = None,
    ) -> "Lineage":
        """The lineage of these nets.

        Args:
            splits: By name; `transfer` among them.
            models: By run: teachers, and runs of students.
            caches: The manifest of each teacher's cache, by its name.
            students: By run, the name of its student; runs that are not here are teachers.
            study: The sweep that the students belong to, if any.

        Returns:
            What lineage.json holds.
        """
        transfer = splits["transfer"]
        return cls(
            FORMAT, transfer.inputs, len(transfer.classes), {run: each.model for run, each in models.items()},
            {name: Part.of(split) for name, split in splits.items()},
            tuple(Teacher.of(each) for run, each in models.items() if run not in students),
            {name: Stored.of(manifest) for name, manifest in caches.items()},
            _grouped(Student.of(name, run, models[run]) for run, name in students.items()), study,
        )  # fmt: skip

    def to_json(self) -> bytes:
        """The bytes of lineage.json."""
        return facts.sealed(asdict(self))

    @classmethod
    def parse(cls, data: bytes, path: Place, fix: str) -> "Lineage":
        """The content of lineage.json. Raises IntegrityError if it is damaged."""
        return facts.unsealed(cls, data, str(path), fix, FORMAT)


def _grouped(students: Iterable[Student]) -> tuple[Student, ...]:
    """Runs that share their settings as one, in the order of the first of them."""
    found: dict[bytes, Student] = {}
    for each in students:
        first = found.get(each.shared, replace(each, runs=()))
        moved = dict.fromkeys((*first.corrected, *each.corrected))  # a class may need no correction at some temperature
        found[each.shared] = replace(first, runs=first.runs + each.runs, corrected=tuple(moved))
    return tuple(found.values())
