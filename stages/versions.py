"""softcache versions: the versions and sources that decide the results of each stage, for DVC to depend on."""

import difflib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.base.errors import InputError
from stages.options import Params, Stage, counted, example, local_data_option
from stages.terminal import echo

if TYPE_CHECKING:
    from pipeline.base.spec import Spec

# what the settings of a project are read from
SECTIONS = ("ingest", "teach", "teachers", "views", "recipe", "students", "distill", "exports", "sweeps")
_TRAINING = ("model", "optimizer", "schedule", "virtual_teacher", "policy")  # settings that name something with a version
_STUDENT = (*_TRAINING, "rows")
_SOFT = ("loss", "rule", "temperature_schedule", "alpha_schedule", "learn_temperature", "features")

Lines = dict[str, str]  # name → version, or hash of the source


@click.command(short_help="Write what decides the results of each stage, for DVC.", epilog=example("softcache versions"))
@local_data_option
def command(data: Path) -> None:
    """Write data/versions/: for every stage, the versions of everything that decides its results, by params.yaml.

    A version goes up when the same settings give another result. Plug-ins have the hash of their source instead, without
    comments and docstrings. In dvc.yaml, the files of plug-ins must be deps of this stage. It reads the settings of the
    other stages as they do, and refuses unknown keys, names and values of the wrong type before any of them runs.
    """
    from pipeline.base import files

    params = Params.read(None)
    plug_ins = _PlugIns()
    written = dict(_stages(params, plug_ins))
    if "DVC_STAGE" in os.environ:
        _require_deps(plug_ins.files)
    out = data / "versions"
    with files.replaced_folder(out) as folder:
        for stage, lines in written.items():
            text = "".join(f"{what}: {version}\n" for what, version in lines.items())
            files.write(folder / f"{stage}.txt", text.encode())
    detail = f", {counted(len(plug_ins.read), 'plug-in')}" if plug_ins.read else ""
    echo(f"wrote {out}: what decides results, in {counted(len(written), 'file')}{detail}")


class _PlugIns:
    """The plug-ins that settings name: read, not imported. files: theirs, and those that teachers are adopted from."""

    def __init__(self) -> None:
        self.read: Lines = {}
        self.files: set[Path] = set()

    def behaviour(self, name: str) -> str:
        """The hash of a plug-in's source."""
        from pipeline.base import source

        if name not in self.read:
            found = source.read(name)
            self.read[name] = found.sha256
            self.files |= set(found.files.values())
        return self.read[name]


def _stages(params: Params | None, plug_ins: _PlugIns) -> Iterator[tuple[str, Lines]]:
    """For every stage, the name of its file and the versions that decide its results."""
    from pipeline.cache import manifest
    from pipeline.data import ingest, pixels
    from pipeline.data.splits import FORMAT
    from pipeline.models import modelfile, predict, watched
    from pipeline.results import evaluate, export, footprint, report, tables
    from pipeline.stats import metrics
    from pipeline.training import bias, fit, objective
    from stages import capture, distill, sweep, teach
    from stages import evaluate as evaluating
    from stages import export as exporting
    from stages import ingest as ingesting

    inference = {"inference": f"version {predict.VERSION}"}
    training = {"training": f"version {fit.VERSION}", "objective": f"version {objective.VERSION}", **inference}
    training["model.json"] = f"format {modelfile.FORMAT}"
    measuring = {"metrics": f"version {metrics.VERSION}", "evaluate": f"version {evaluate.VERSION}", **inference}
    measuring["tables"] = f"format {tables.FORMAT}"
    splits = {"rows": f"version {ingest.VERSION}", "decoder": pixels.DECODER, "splits": f"format {FORMAT}"}

    def student(settings: Mapping[str, Any], *, soft: bool) -> Lines:
        lines = training | _named(settings, _STUDENT, plug_ins)
        if settings["correct"]:
            lines["bias correction"] = f"version {bias.VERSION}"
        if soft and settings["features"]:
            lines["watched"] = f"version {watched.VERSION}"
        return lines | _named(settings, _SOFT, plug_ins) if soft else lines

    settings = _settings(ingesting.command, "") if params is not None and "ingest" in params.values else {}
    yield "ingest", splits | _sources(settings, plug_ins)
    yield "report", {"report": f"version {report.VERSION}", "tables": f"format {tables.FORMAT}"}
    yield "footprint", {"footprint": f"format {footprint.FORMAT}"}
    yield "export", {"export": f"version {export.VERSION}", "tables": f"format {tables.FORMAT}"}
    if params is None:
        return
    if {"teachers", "students", "distill"} <= params.values.keys():
        yield "evaluate", measuring | _named(_settings(evaluating.command, ""), ("rule",), plug_ins)
    if "views" in params.values:
        views = _settings(capture.command, "any")
        kept = {"cache": f"format {manifest.FORMAT}", "features": f"version {watched.VERSION}"}
        yield "capture", {**kept, **inference, **_named(views, ("policy",), plug_ins)}
    for name in params.names("teachers"):
        settings = _settings(teach.command, name)
        if settings["student"]:
            _require_trained(params, name, settings["student"])
        yield f"teach/{name}", _teacher(name, settings, training, plug_ins)
    for name in params.names("students"):
        yield f"baseline/{name}", student(_settings(distill.command, name, "--hard"), soft=False)
        if "distill" in params.values:
            yield f"distill/{name}", student(_settings(distill.command, name), soft=True)
    _require_known(params)
    for name in params.names("exports"):
        _settings(exporting.command, name)  # nothing in them has a version: they are only checked
        if name in params.names("teachers"):
            fix = f"Run `softcache export {name}` yourself, or export a student."
            raise params.error("exports", "names of students, which DVC trains first", f"teacher {name}", fix)
        student_name, _, how = name.rpartition("-")
        listed = [f"T{value}" for value in params.values.get("temperatures") or ()]
        if student_name not in params.names("students") or how not in [*listed, "hard"]:
            wanted = f"a student and one of {', '.join([*listed, 'hard'])}, such as {params.names('students')[0]}-hard"
            raise params.error("exports", wanted, name, "Correct the name, or take the entry away.")
    for name in params.names("sweeps"):
        lines = dict(measuring)
        for each in _settings(sweep.command, name)["students"]:
            found = student(sweep.settings_of(each, name, None), soft=True)
            lines |= {f"{each}, {what}": version for what, version in found.items()}
        yield f"sweep/{name}", lines


def _require_known(params: Params) -> None:
    """Raise InputError where students learn from teachers that there are not, or where dvc.yaml does not know them."""
    if not {"teachers", "students", "distill"} <= params.values.keys():
        return
    teachers = params.section("distill").get("teachers")
    names = list(map(str, teachers)) if isinstance(teachers, list) else []
    if unknown := [name for name in names if name not in params.names("teachers")]:
        known = ", ".join(params.names("teachers"))
        raise params.error("distill.teachers", f"some of {known}, as in teachers", unknown[0], "Correct one of the two.")
    path = Path("dvc.yaml")
    if "DVC_STAGE" not in os.environ or not path.exists():
        return
    stage = Params.of(path).section("stages").get("distill")
    deps = stage.get("deps") or [] if isinstance(stage, Mapping) else []
    held = {dep.removeprefix("data/caches/") for dep in deps if isinstance(dep, str) and dep.startswith("data/caches/")}
    if held and held != set(names):
        found, expected = (", ".join(f"data/caches/{name}" for name in sorted(each)) for each in (held, names))
        fix = "Name the cache of each teacher there, a line each: DVC takes no lists."
        raise InputError("dvc.yaml, stage distill, deps", expected=f"{expected}, as in distill.teachers", found=found, fix=fix)


def _require_trained(params: Params, name: str, student: str) -> None:
    """Raise InputError where a teacher is a student that no setting trains, or that no stage of dvc.yaml waits for."""
    if student not in (runs := list(_runs(params))):
        known = ", ".join(difflib.get_close_matches(student, runs, n=3, cutoff=0.0))
        expected = f"a student that these settings train, such as {known}" if known else "a student that these settings train"
        raise params.error(f"teachers.{name}.student", expected, student, "Correct the name, or the settings of that student.")
    path = Path("dvc.yaml")
    if "DVC_STAGE" not in os.environ or not path.exists():
        return
    if any(_waits(stage, name) for stage in Params.of(path).section("stages").values()):
        return
    expected = f"a stage that runs `softcache teach {name}` once {student} is trained"
    fix = "Write one whose deps have the folder of that student: docs/teachers.md, on generations, has an example."
    raise InputError("dvc.yaml, stages", expected=expected, found="none", fix=fix)


def _waits(stage: Mapping[str, Any], name: str) -> bool:
    """Whether a stage of dvc.yaml may make this teacher, and depends on students. A foreach over settings is not looked up."""
    body, named = stage.get("do", stage), stage.get("foreach")
    own = name in (map(str, named) if isinstance(named, Mapping | list) else str(body.get("cmd")).split())
    return (own or isinstance(named, str)) and any("students" in str(dep) for dep in body.get("deps") or ())


def _runs(params: Params) -> Iterator[str]:
    """The names of all students that the settings train, those of sweeps too."""
    from pipeline.models.runname import run_name
    from stages import sweep

    for name in params.names("students"):
        yield from (f"{name}-{how}" for how in ("hard", *(f"T{each}" for each in params.values.get("temperatures") or ())))
    for name in params.names("sweeps"):
        given = _settings(sweep.command, name)
        for student in given["students"]:
            alphas = given["alphas"] or [sweep.settings_of(student, name, None)["alpha"]]
            settings = [(t, alpha) for t in given["temperatures"] for alpha in alphas] + [(None, None)] * given["baseline"]
            yield from (f"{name}/{run_name(student, *each)}" for each in settings)


def _teacher(name: str, settings: Mapping[str, Any], training: Lines, plug_ins: _PlugIns) -> Lines:
    """What decides the weights of a teacher: a training, or the files that it is adopted from."""
    from pipeline.base.spec import name_in
    from pipeline.cache import imported, promote
    from pipeline.cache.adopt import VERSION, adopts
    from pipeline.models import elsewhere, modelfile
    from pipeline.models.build import parse_model
    from stages import adopt

    model, weights, logits = settings["model"], settings["weights"], settings["logits"]
    format = {"model.json": f"format {modelfile.FORMAT}"}
    if settings["student"]:
        return {"promote": f"version {promote.VERSION}", **format}
    if logits:
        views = _settings(adopt.command, name)
        shown = {"views": f"{views['views']}, seed {views['view_seed']}", **_named(views, ("policy",), plug_ins)}
        return {"import": f"version {imported.VERSION}", **format, **shown, **_read(plug_ins, "logits", logits)}
    if model is None:
        raise click.UsageError(f"teach {name}: Missing option '--model'.", click.get_current_context())
    own = [] if ":" in name_in(model) else list(map(str, elsewhere.files_of(parse_model(model))))
    read = _read(plug_ins, "model", own) | _read(plug_ins, "weights", [] if weights is None else [weights])
    if weights is None and (":" in name_in(model) or not adopts(model, None)):
        return training | _named(settings, _TRAINING, plug_ins) | read
    return {"adopt": f"version {VERSION}", **format, **_named(settings, ("model",), plug_ins), **read}


def _read(plug_ins: _PlugIns, setting: str, paths: Iterable[str]) -> Lines:
    """The sha256 of each file that a setting names."""
    from pipeline.base import files

    lines = {}
    for path in map(Path, paths):
        if not path.is_file():
            raise InputError(str(path), expected="a file", found="none", fix=f"Correct `{setting}`.")
        plug_ins.files.add(path)
        lines[f"file {path}"] = files.sha256_file(path)
    return lines


def _sources(settings: Mapping[str, Any], plug_ins: _PlugIns) -> Lines:
    """The sources that ingest reads, with their versions, or the hashes of plug-ins."""
    from pipeline.base.spec import name_in
    from pipeline.data.sources.table import is_plug_in, parse_spec

    lines: Lines = {}
    for text in (*(settings.get(name) for name in ("train", "test", "valid")), *(settings.get("transfer") or ())):
        if isinstance(text, str) and is_plug_in(text):
            lines[f"source {name_in(text)}"] = plug_ins.behaviour(name_in(text))
        elif isinstance(text, str):
            found = parse_spec(text)
            lines[f"source {name_in(found.text)}"] = found.behaviour
    return lines


def _settings(command: Stage, name: str, *options: str) -> Mapping[str, Any]:
    """The settings of a command for this name, read as the command itself reads them."""
    words = [name, *options] if any(isinstance(each, click.Argument) for each in command.params) else []
    try:
        return command.make_context(command.name, words, parent=click.get_current_context()).params
    except click.UsageError as error:
        what = str(command.callback.__module__).rpartition(".")[2]  # what the command is called
        raise click.UsageError(f"{what} {name}: {error.format_message()}", click.get_current_context()) from error


def _named(settings: Mapping[str, Any], keys: tuple[str, ...], plug_ins: _PlugIns) -> Lines:
    """What these settings name, with the version of a built-in and the hash of a plug-in."""
    from pipeline.base.spec import name_in

    parsers, lines = _parsers(), {}
    for key in keys:
        if settings[key] is None:  # it need not be given
            continue
        given = settings[key].split("|") if key == "policy" else settings[key]
        for text in [given] if isinstance(given, str) else given:
            name = name_in(text)
            lines[f"{key} {name}"] = plug_ins.behaviour(name) if ":" in name else parsers[key](text).behaviour
    return lines


def _parsers() -> "Mapping[str, Callable[[str], Spec]]":
    """How each setting is parsed that names a built-in."""
    from pipeline.base.spec import parse
    from pipeline.data import selection
    from pipeline.data.policies.table import POLICIES, VERSIONS
    from pipeline.models import ensemble
    from pipeline.models.build import parse_model
    from pipeline.training import losses, recipe
    from pipeline.training.curriculum import parse_curriculum
    from pipeline.training.features import FeatureLoss

    rules = dict.fromkeys(ensemble.RULES, ensemble.combine)
    schedule = partial(parse, table=recipe.SCHEDULES, versions=recipe.SCHEDULE_VERSIONS, given=1)
    return {
        "model": parse_model,
        "optimizer": partial(parse, table=recipe.OPTIMIZERS, versions=recipe.OPTIMIZER_VERSIONS, given=1),
        **dict.fromkeys(("schedule", "temperature_schedule", "alpha_schedule"), schedule),
        "virtual_teacher": partial(parse, table=losses.VIRTUAL, versions=losses.VIRTUAL_VERSIONS, given=2),
        "policy": partial(parse, table=POLICIES, versions=VERSIONS, given=2),
        "rows": partial(parse, table=selection.ROWS, versions=selection.VERSIONS, given=2),
        "learn_temperature": parse_curriculum,
        "features": lambda text: FeatureLoss.parse(text).spec,
        "loss": partial(parse, table=losses.LOSSES, versions=losses.VERSIONS, given=4),
        "rule": partial(parse, table=rules, versions=ensemble.RULES, given=4),
    }


def _require_deps(paths: set[Path]) -> None:
    """Raise InputError where a file of a plug-in is not a dep of this stage in dvc.yaml: DVC would not see it change.

    Files in site-packages are not checked.
    """
    if not paths:
        return
    stage = Params.of(Path("dvc.yaml"), "Run it where dvc.yaml is.").section("stages").get("versions") or {}
    if stage.get("always_changed"):
        return
    deps = [Path(dep).resolve() for dep in stage.get("deps") or [] if isinstance(dep, str)]
    own = sorted(path.resolve() for path in paths if "site-packages" not in path.parts)
    missing = [path for path in own if not any(path.is_relative_to(dep) for dep in deps)]
    if missing:
        lines = " and ".join(f"`- {os.path.relpath(path)}`" for path in missing)
        raise InputError(
            "dvc.yaml, stage versions, deps",
            expected="every file of a plug-in, and every file that a teacher is adopted from",
            found=f"no dep for {os.path.relpath(missing[0])}",
            fix=f"Add {lines} there, so that DVC notices when it changes.",
        )
