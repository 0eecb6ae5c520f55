"""The file model.json: it describes a folder of trained nets, with digests of their weights and history. No torch is needed.

A folder holds one teacher, or the students of one setting, one net per seed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

from pipeline.base import commands, facts, files, table
from pipeline.base.errors import InputError, IntegrityError
from pipeline.base.places import Place
from pipeline.data.inputs.kinds import Inputs
from pipeline.data.splits import Split, described
from pipeline.models.training import Training

FORMAT = 7
FILE_NAME = "model.json"
WEIGHTS = "model.safetensors"  # of a teacher
LOGITS = "logits.npy"  # of an imported teacher, which is a table of its logits: it has no weights
ASSETS = "assets"  # the folder of what a net is made of besides weights, such as a tokenizer
HISTORY = "history.parquet"
HISTORY_COLUMNS = {
    "seed": table.INTEGER, "epoch": table.INTEGER, "lr": table.NUMBER, "train_loss": table.NUMBER,
    "valid_accuracy": table.NUMBER, "valid_nll": table.NUMBER,
}  # fmt: skip

# Of the facts of inputs, those that a teacher must share. Not how images were resized: it may have seen them cropped otherwise.
FITTING = ("classes", "kind", "mode", "array_dtype", "shape")

Kind = Literal["teacher", "adopted", "imported", "promoted", "student", "baseline", "live"]
# A teacher of this project, one whose weights were made elsewhere, one of which there are logits only, and a former student.
TEACHERS: tuple[Kind, ...] = ("teacher", "adopted", "imported", "promoted")


@dataclass(frozen=True)
class Net:
    """One net of a folder. sha256: of its weights file, or of its logits.

    kept_epoch: the epoch that its weights are of; None where it is not known. offsets: what was added to the bias of each
    class after training, in logits; None without a correction. diverged: the epoch in which its loss or its logits stopped
    being finite; the net then has no weights. chance: whether it is no better on the validation split than always naming the
    commonest class.
    """

    seed: int
    sha256: str | None
    kept_epoch: int | None
    offsets: tuple[float, ...] | None = None
    diverged: int | None = None
    chance: bool = False


@dataclass(frozen=True)
class Shown:
    """The views that were trained on; see views.Policy.

    seed: None where the views are all outcomes of the policy, which no seed changes. count: views of each row; None for a new
    view in every epoch.
    """

    policy: str
    seed: int | None
    behaviours: tuple[str, ...]
    count: int | None


@dataclass(frozen=True)
class Chosen:
    """The rows that were trained on. sha256: of their numbers as int64."""

    selection: str
    count: int
    sha256: str


@dataclass(frozen=True)
class Data:
    """Digests of the splits for training and validation: of inputs and ids, and of labels."""

    inputs: str
    labels: str
    valid_inputs: str
    valid_labels: str

    @classmethod
    def of(cls, split: Split, valid: Split) -> Self:
        """The digests of the data as they are now."""
        return cls(split.inputs_digest, split.labels_digest, valid.inputs_digest, valid.labels_digest)


@dataclass(frozen=True)
class Learned:
    """The soft targets that students learned from, and their loss.

    caches, live: by teacher name, the digest of each cache, or of each teacher in the loop; the other is None.
    temperature_schedule, alpha_schedule, loss_warmup: see course.Course; a schedule is None where there is none.
    features: the feature losses. learned_temperature: how T was learned, if it was; it began at `temperature`.
    """

    temperature: float
    alpha: float
    label_weight: float
    loss: str
    loss_behaviour: str
    squared: bool
    standardised: bool
    rule: str
    rule_version: int
    weights: tuple[float, ...]
    caches: Mapping[str, str] | None
    live: Mapping[str, str] | None
    temperature_schedule: str | None = None
    alpha_schedule: str | None = None
    loss_warmup: int = 0
    features: tuple[str, ...] = ()
    feature_behaviours: tuple[str, ...] = ()
    learned_temperature: str | None = None

    @property
    def teachers(self) -> Mapping[str, str]:
        """The digest of each teacher by name, in the order given."""
        return self.live or self.caches or {}


@dataclass(frozen=True)
class Imported:
    """What the rows of an imported teacher's logits are, in their order.

    inputs: the inputs_digest of each split. views: those of the transfer set that there are logits of.
    """

    inputs: Mapping[str, str]
    views: Shown


@dataclass(frozen=True)
class Outputs:
    """The outputs of an adopted net that are those of the classes.

    count: how many it has. groups: for each class, the numbers of its own.
    """

    count: int
    groups: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Generation:
    """A student that became a teacher. run, seed, sha256: its name, and its net. teachers: see Learned; none for a baseline."""

    run: str
    seed: int
    sha256: str
    teachers: Mapping[str, str]


@dataclass(frozen=True)
class Mutual:
    """Students that learned from each other while they trained; see objective.py. cohort: the seed of each."""

    weight: float
    cohort: tuple[int, ...]


@dataclass(frozen=True)
class Facts:
    """The content of model.json.

    name: such as `a` or `tiny-T4`; a student of a sweep has the name of the sweep before it: `alphas/tiny-T4-alpha0.5`.
    model, behaviour: see spec.Spec. inputs: what they take. history_sha256: of the history's file.
    recipe, views: None for a teacher that was made elsewhere. rows: None for a teacher. soft: None for a teacher or a
    baseline. A promoted teacher has those of the student that it was. imported: None for all but an imported teacher. outputs:
    see outputs.Outputs; None where the net's own outputs are the classes. parameters: how many a net has; None where it is not
    known. assets: the sha256 of each file of the folder ASSETS; see elsewhere.assets_of. generations: the students that a
    promoted teacher descends from, oldest first, itself last. mutual: None for nets that did not learn from each other.
    """

    version: int
    kind: Kind
    name: str
    model: str
    behaviour: str
    inputs: Inputs
    classes: tuple[str, ...]
    nets: tuple[Net, ...]
    data: Data
    history_sha256: str
    recipe: Training | None
    views: Shown | None
    rows: Chosen | None
    soft: Learned | None
    imported: Imported | None
    outputs: Outputs | None
    parameters: int | None
    assets: Mapping[str, str]
    generations: tuple[Generation, ...]
    mutual: Mutual | None


@dataclass(frozen=True)
class ModelFile(Facts):
    """A folder with trained nets, opened without reading the weights.

    base: where its files lie, see files.current. fix: a sentence that says how to make it again.
    """

    folder: Place
    base: Place
    fix: str
    witness: files.Witness = field(compare=False)

    @classmethod
    def open(cls, folder: Place, *, kinds: Iterable[Kind], name: str, fix: str) -> Self:
        """Read model.json.

        Args:
            folder: The folder of the nets.
            kinds: What they may be, such as `student` and `live`.
            name: The name that model.json must have.
            fix: A sentence for error messages that says how to make the folder again.

        Returns:
            The opened folder.

        Raises:
            InputError: Where model.json is missing.
            IntegrityError: Where it is damaged, or has another version, kind or name.
        """
        base = files.current(folder)
        path = base / FILE_NAME
        said, witness = facts.read(Facts, path, fix, FORMAT)
        for what, expected, found in (("kind", list(kinds), said.kind), ("name", [name], said.name)):
            if found not in expected:
                wanted = " or ".join(map(str, expected))
                raise IntegrityError(f"{path}, {what}", expected=wanted, found=str(found), fix=fix)
        if not said.nets or len({net.seed for net in said.nets}) < len(said.nets) or len(said.classes) < 2:
            raise IntegrityError(str(path), expected="nets of different seeds", found="others", fix=fix)
        return cls(**vars(said), folder=folder, base=base, fix=fix, witness=witness)

    @classmethod
    def teacher(cls, folder: Place) -> Self:
        """Open the folder of a teacher, whose only net is `nets[0]`.

        Args:
            folder: Its folder, whose name is the name of the teacher.

        Returns:
            The opened folder.

        Raises:
            InputError, IntegrityError: As `open` does.
        """
        found = cls.open(folder, kinds=TEACHERS, name=folder.name, fix=f"Run {commands.teach(folder)}.")
        return found if found.kind == "teacher" else replace(found, fix=f"Run {commands.adopt(folder)}.")

    @property
    def weights_sha256(self) -> str:
        """The sha256 of the weights of a teacher; raises IntegrityError where it has none."""
        if (found := self.nets[0].sha256) is None:
            raise IntegrityError(str(self.folder / FILE_NAME), expected="a teacher with weights", found="none", fix=self.fix)
        return found

    @property
    def training(self) -> tuple[Training, Shown]:
        """How its nets were trained, and on which views; raises IntegrityError for nets that were made elsewhere."""
        if self.recipe is None or self.views is None:
            what, expected = f"{self.folder / FILE_NAME}, recipe and views", "those of a training"
            raise IntegrityError(what, expected=expected, found="none", fix=self.fix)
        return self.recipe, self.views

    @property
    def trained(self) -> list[Net]:
        """The nets that have weights."""
        return [net for net in self.nets if net.sha256 is not None]

    @property
    def net_digest(self) -> str:
        """What the logits of a teacher with a net are a function of, besides inputs."""
        return files.sha256(files.canonical_json([self.model, self.behaviour, self.weights_sha256]))

    def chosen(self, seed: int | None, *, folded: bool) -> Net:
        """The net of a seed; without one that of the lowest validation NLL, or the first where those rows were trained on.

        folded: whether they were. Raises InputError where there is no such net.
        """
        trained = {net.seed: net for net in self.trained}
        if seed is None and trained:
            nll = {(row["seed"], row["epoch"]): row["valid_nll"] for row in self.history()}
            candidates = list(trained.values())[: 1 if folded else None]
            return min(candidates, key=lambda net: nll.get((net.seed, net.kept_epoch), float("inf")))
        if seed is not None and seed in trained:
            return trained[seed]
        diverged = ", ".join(str(net.seed) for net in self.nets if net.seed not in trained)
        found = ("none" if seed is None else str(seed)) + (f" (diverged: {diverged})" if diverged else "")
        expected = f"one of {', '.join(map(str, trained))}" if trained else "a net that did not diverge"
        raise InputError(f"run {self.name}, seed", expected=expected, found=found, fix="Choose another seed, or another run.")

    def file(self, net: Net) -> Place:
        """The path of the weights of a net."""
        return self.base / weights_name(self.kind, net.seed)

    def read(self, path: Place, digest: str) -> bytes:
        """Read a file of the folder, whose sha256 is in model.json.

        Raises IntegrityError where its bytes have changed, BusyError where the whole folder was replaced meanwhile.
        """
        try:
            return files.read_bound(path, digest, self.fix)
        except IntegrityError:
            files.require_unchanged([self.witness])
            raise

    def history(self) -> list[dict[str, Any]]:
        """One entry for each epoch of each net, with HISTORY_COLUMNS; raises IntegrityError where the file has changed."""
        path = self.base / HISTORY
        return table.from_parquet(self.read(path, self.history_sha256), HISTORY_COLUMNS, str(path), self.fix)

    def require_net(self, what: str) -> None:
        """Raise InputError, naming the setting `what` that needs a net, for a teacher of which there are logits only."""
        if self.kind == "imported":
            expected, found = "a teacher with a net", "logits that were made elsewhere"
            fix = f"Leave {what} out: students learn from its cache."
            raise InputError(f"teacher {self.name}, {what}", expected=expected, found=found, fix=fix)

    def require_fit(self, split: Split) -> None:
        """Raise InputError unless this teacher has the kind and shape of inputs and the classes of `split`."""
        wanted = {"classes": split.classes} | described(split.inputs)
        have = {"classes": self.classes} | described(self.inputs)
        for what in FITTING:
            if (expected := wanted.get(what)) != (found := have.get(what)):
                wanted_as = f"{expected} as in the transfer set"
                fix = f"Train it on these data. {self.fix}"
                raise InputError(f"teacher {self.name}, {what}", expected=wanted_as, found=str(found), fix=fix)


def descent(generations: Sequence[Generation]) -> str:
    """Whom a promoted teacher descends from, in words, oldest first: of each student who taught it, as there may be several."""
    taught = [" + ".join(each.teachers) for each in generations]
    students = [f"{each.run} (seed {each.seed})" for each in generations]
    return "; ".join(" → ".join(filter(None, pair)) for pair in zip(taught, students, strict=True))


def weights_name(kind: Kind, seed: int) -> str:
    """The name of the file with the weights of a net, or with its logits."""
    if kind == "imported":
        return LOGITS
    return WEIGHTS if kind in TEACHERS else f"seed-{seed}.safetensors"
