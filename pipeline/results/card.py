"""Card: the README.md of an export, a model card as the Hugging Face Hub reads it. Its text is templates/card.md."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from importlib.metadata import version
from typing import Any

from pipeline.base import runtime
from pipeline.base.commands import short
from pipeline.base.errors import printable
from pipeline.models.modelfile import Learned, ModelFile, Shown, descent
from pipeline.models.training import Training
from pipeline.results.markdown import plain, table
from pipeline.results.run import SPLITS, mean_std
from pipeline.results.tables import RunRow
from pipeline.results.wording import spread
from pipeline.stats.proportion import wilson
from softcache_export import FLOAT, INT8, MODULE

FILE_NAME = "README.md"
_TASKS = {"image": "image-classification", "text": "text-classification", "array": "tabular-classification"}
_FILES = {"image": "photo.png", "array": "rows.npy", "text": "texts.txt"}
_ORIGINS = {
    "teacher": "A teacher",
    "promoted": "A student, and the teacher of others",
    "baseline": "A student of labels alone, for comparison",
}
_NAMES = {"valid": "validation", "test": "test", "torch": "in torch"}
_SHOWN = 10  # class names
_FITS = {
    None: "Files must have this size.",
    "crop": "Files of other sizes are resized until the shorter side fits, and the longer one is cut, centred.",
    "pad": "Files of other sizes are resized until the longer side fits; the rest is black.",
    "stretch": "Files of other sizes are stretched.",
}


@dataclass(frozen=True)
class Measured:
    """A model on validation rows. apart: largest difference of a probability from torch. seconds: by rows of a batch."""

    size_bytes: int
    rows: int
    errors: int
    apart: float
    seconds: Mapping[int, float]

    @property
    def accuracy(self) -> float:
        """The share of the rows that it is right on."""
        return 1 - self.errors / self.rows


@dataclass(frozen=True)
class Quantised:
    """How the int8 model was made, in words, and the share of accuracy that it lost on so many validation rows.

    way: None where nothing in it is in 8 bits.
    """

    way: str | None
    lost: float
    rows: int


@dataclass(frozen=True)
class Source:
    """A teacher. digest: of its cache, or of itself where it was in the loop. model, weights_sha256: None if not at hand."""

    name: str
    digest: str
    model: str | None
    weights_sha256: str | None


@dataclass(frozen=True)
class Figures:
    """What an evaluation says of a run. seed: of the net in question. nets: all seeds of the run. rows: of each split."""

    seed: int | None
    nets: Sequence[RunRow]
    rows: Mapping[str, int]

    def of(self, split: str) -> list[RunRow]:
        """Those of all nets that were measured on a split, that of the seed first."""
        found = [row for row in self.nets if row.split == split and row.accuracy is not None]
        return sorted(found, key=lambda row: row.seed != self.seed)


@dataclass(frozen=True)
class Card:
    """What a card says. config: the content of config.json. models: by the name of the file, and `torch`.

    chosen: whether its seed was chosen by validation NLL. folded: whether validation rows were trained on.
    """

    config: Mapping[str, Any]
    model: ModelFile
    parameters: int
    license: str
    sources: Sequence[Source]
    figures: Figures
    models: Mapping[str, Measured]
    quantised: Quantised
    chosen: bool
    folded: bool

    def text(self) -> str:
        """The text of README.md."""
        import jinja2

        page = jinja2.Environment(
            loader=jinja2.PackageLoader("pipeline.results"), autoescape=False, trim_blocks=True, lstrip_blocks=True,
            undefined=jinja2.StrictUndefined, keep_trailing_newline=True,
        )  # fmt: skip
        page.filters |= {"plain": plain, "code": _code, "short": short}
        inputs, classes = self.config["inputs"], self.model.classes
        kind, shape = inputs["kind"], "×".join(map(str, inputs["shape"]))
        takes = {"image": f"images of {shape} (channels, height, width)", "array": f"arrays of {shape}", "text": "texts"}
        return page.get_template("card.md").render(
            header=self._header(), model=self.model, parameters=self.parameters, license=self.license, inputs=inputs,
            origin=_ORIGINS.get(self.model.kind, "A student"), takes=takes[kind], example=_FILES[kind],
            classes=", ".join(map(plain, classes[:_SHOWN])) + (", …" if len(classes) > _SHOWN else ""),
            carried=kind != "text" or self.config["encoding"] is not None, output=self.config["output"],
            accuracies=self._accuracies(), chosen=self.chosen, folded=self.folded, models=self._models(),
            quantised=self.quantised, change=_change(self.quantised.lost), ratios=self._ratios(), described=self._input(),
            facts=self._facts(), sources=self._sources(), machine=_machine(), MODULE=MODULE, FLOAT=FLOAT, INT8=INT8,
        )  # fmt: skip

    def _header(self) -> str:
        """The fields that the Hub reads, in YAML."""
        from ruamel.yaml import YAML
        from ruamel.yaml.scalarstring import DoubleQuotedScalarString

        task = _TASKS[self.config["inputs"]["kind"]]
        found: dict[str, Any] = {
            "license": DoubleQuotedScalarString(self.license),  # else some readers take `no` for false, and 1.0 for a number
            "pipeline_tag": task,
            "tags": ["softcache", "distillation", "onnx"],
        }
        results = [
            {
                "task": {"type": task},
                "dataset": {"name": f"inputs {self.model.data.inputs[:12]}", "type": "other", "split": _NAMES[row.split]},
                "metrics": [{"type": "accuracy", "value": row.accuracy}],
            }
            for row in self._own()
        ]
        if results:
            found["model-index"] = [{"name": self.model.name, "results": results}]
        held, yaml = io.StringIO(), YAML()
        yaml.dump(found, held)
        return held.getvalue()

    def _own(self) -> list[RunRow]:
        """The figures of this net, by split, where it was evaluated."""
        return [row for split in SPLITS for row in self.figures.of(split)[:1] if row.seed == self.figures.seed]

    def _accuracies(self) -> str:
        rows = []
        for own in self._own():
            every = [row.accuracy for row in self.figures.of(own.split) if row.accuracy is not None]
            mean, std = mean_std(every)
            total, errors = self.figures.rows[own.split], own.errors or 0
            low, high = wilson(total - errors, total)
            cells = [_NAMES[own.split], f"{total:,}", f"{100 * (1 - errors / total):.2f}"]
            cells += [f"{100 * low:.2f} to {100 * high:.2f}", f"{own.nll:.4f}"]
            rows.append([*cells, spread(100 * mean, None if std is None else 100 * std, 2), str(len(every))])
        heading = ["split", "rows", "accuracy, %", "95 % interval", "NLL, nats", "accuracy of all seeds, %", "seeds"]
        return table(heading, rows) if rows else ""

    def _models(self) -> str:
        sizes = list(self.models["torch"].seconds)
        rows = [
            [
                _NAMES.get(name, f"`{name}`"), f"{each.size_bytes / 1000:,.1f}", f"{100 * each.accuracy:.2f}",
                f"{each.apart:.1g}", *(f"{1000 * each.seconds[size]:.3f}" for size in sizes),
            ]
            for name, each in self.models.items()
        ]  # fmt: skip
        times = [f"ms for {_rows(size)}" for size in sizes]
        return table(["model", "kB", "accuracy, %", "from torch", *times], rows)

    def _ratios(self) -> str:
        """How the times of int8 compare with those of float, in words."""
        pairs = [(size, self.models[INT8].seconds[size] / seconds) for size, seconds in self.models[FLOAT].seconds.items()]
        return " and ".join(f"{ratio:.2f} times as long for {_rows(size)}" for size, ratio in pairs) + f" as `{FLOAT}`"

    def _input(self) -> str:
        inputs, encoding = self.config["inputs"], self.config["encoding"]
        shape = f"{inputs['dtype']} (batch, {', '.join(map(str, inputs['shape']))})"
        if inputs["kind"] == "image":
            colours = {"L": "grey", "RGB": "red, green, blue"}[inputs["mode"]]
            files = f"PNG, JPEG or WebP, turned upright as EXIF says. {_FITS[inputs['fit']]}"
            return f"Pixels from 0 to 255, {colours}: {shape}. The models scale them. {files}"
        if inputs["kind"] == "array":
            return f"Numbers as they were trained on: {shape}."
        if encoding is None:
            return f"Texts as numbers: {shape}, as `encode` of {_code(self.model.model)} gives them."
        settings = ", ".join(f"{key}: {value}" for key, value in encoding.items() if key != "name")
        return f"Texts in UTF-8, one a line. `{MODULE}` makes numbers of their words: {shape} ({plain(settings)})."

    def _facts(self) -> dict[str, str]:
        model = self.model
        facts = {"seed": str(self.config["seed"]), "sha256 of the weights": str(self.config["weights_sha256"])}
        if model.soft:
            facts["soft targets"] = _learned(model.soft)
        if model.mutual:
            cohort = ", ".join(map(str, model.mutual.cohort))
            facts["students that learned from each other"] = f"seeds {cohort}, with weight {short(model.mutual.weight)}"
        if model.generations:
            facts["generations"] = descent(model.generations)
        if model.recipe is None or model.views is None:
            facts["training"] = "elsewhere, not known"
            return facts
        facts["recipe"], facts["views"] = _recipe(model.recipe), _views(model.views)
        if model.rows is not None:
            facts["rows"] = f"{model.rows.selection}: {model.rows.count:,}"
        return facts | {"digest of the training inputs": model.data.inputs, "of the labels": model.data.labels}

    def _sources(self) -> str:
        of = "teacher" if self.model.soft and self.model.soft.live is not None else "cache"
        lines = []
        for each in self.sources:
            known = [_code(each.model)] if each.model else []
            known += [f"sha256 of its weights {each.weights_sha256}"] if each.weights_sha256 else []
            lines.append(f"- {plain(each.name)}: {', '.join([*known, f'digest of the {of} {each.digest}'])}\n")
        return f"Its teachers:\n\n{''.join(lines)}" if lines else ""


def _learned(soft: Learned) -> str:
    parts = [
        f"{soft.loss} at T = {short(soft.temperature)} with alpha = {short(soft.alpha)} and label weight = "
        f"{soft.label_weight:.6g}",  # by default 1 − alpha, with an error in its last digit
        f"times T²: {_yes(soft.squared)}",
        f"standardised: {_yes(soft.standardised)}",
        f"what is averaged: {soft.rule}",
    ]
    courses = {"T": soft.temperature_schedule, "alpha": soft.alpha_schedule}
    parts += [f"{what} times {schedule}" for what, schedule in courses.items() if schedule is not None]
    parts += [f"its first {soft.loss_warmup} epochs a warm-up"] if soft.loss_warmup else []
    if len(soft.weights) > 1:
        parts.append(f"weights of the teachers: {', '.join(map(short, soft.weights))}")
    parts += [] if soft.learned_temperature is None else [f"T learned from there on by {soft.learned_temperature}"]
    parts += [f"of features: {loss}" for loss in soft.features]
    return "; ".join([*parts, f"from {'teachers in the loop' if soft.live is not None else 'caches'}"])


def _recipe(recipe: Training) -> str:
    """The optimizer, the schedule, what has no default, and what is not its default."""
    rest = [field for field in fields(recipe) if field.name not in ("optimizer", "schedule")]
    values = {field.name.replace("_", " "): getattr(recipe, field.name) for field in rest}
    shown = [name for field, name in zip(rest, values, strict=True) if values[name] != field.default]
    return ", ".join([recipe.optimizer, recipe.schedule, *(f"{name} {values[name]}" for name in shown)])


def _views(views: Shown) -> str:
    seed = [] if views.seed is None else [f"seed {views.seed}"]
    return ", ".join([views.policy, *seed, *([] if views.count is None else [f"{views.count:,} of each row"])])


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _code(text: str) -> str:
    """Text as a span of code in Markdown."""
    return f"`{printable(text).replace('`', chr(39))}`"


def _rows(count: int) -> str:
    return f"{count:,} row{'s' * (count != 1)}"


def _change(lost: float) -> str:
    if lost == 0:
        return "loses no accuracy"
    return f"{'loses' if lost > 0 else 'gains'} {abs(100 * lost):.2f} points of accuracy"


def _machine() -> str:
    """The processor, and the versions of what was timed."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("onnxruntime", "torch"))
    return f"{runtime.processor()}; {versions}"
