"""Only what changed reruns: dvc.yaml read against the commands, and real `dvc repro` runs in a temporary repository."""

import json
import re
import shutil
import subprocess
from importlib import import_module
from pathlib import Path

import pytest
from ruamel.yaml import YAML

import stages.versions
from conftest import images, measured, tree, write_parquet
from pipeline.results.footprint import beside
from repositories import Repository

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = sorted(path.parent for path in (ROOT / "examples").glob("**/dvc.yaml"))


def load(path: Path) -> dict:
    return YAML(typ="safe", pure=True).load(path)


# ---------------------------------------------------------------- dvc.yaml and params.yaml agree with the commands


def body(stage: dict) -> dict:
    return stage.get("do", stage)


@pytest.mark.parametrize("folder", [ROOT, *EXAMPLES], ids=lambda folder: folder.name)
def test_every_stage_depends_on_the_versions_of_what_it_does(folder):
    for name, stage in load(folder / "dvc.yaml")["stages"].items():
        _, _, command, *words = body(stage)["cmd"].split()
        assert body(stage)["cmd"].startswith("exec softcache "), "without exec, killing dvc leaves the command running"
        if command == "versions":
            continue
        kind = "baseline" if "--hard" in words else command
        own = f"{kind}/{words[0]}" if command in ("teach", "distill", "sweep") else kind
        assert [dep for dep in body(stage)["deps"] if "versions" in dep] == [f"data/versions/{own}.txt"], name


@pytest.mark.parametrize("folder", [ROOT, *EXAMPLES], ids=lambda folder: folder.name)
def test_every_stage_tracks_the_sections_that_its_command_reads(folder):
    for name, stage in load(folder / "dvc.yaml")["stages"].items():
        words = body(stage)["cmd"].split()
        module = import_module(f"stages.{words[2]}")
        tracked = {entry for entry in body(stage).get("params", []) if isinstance(entry, str)}
        expected = set(getattr(module.command, "sections", ()))
        if "--hard" in words:
            expected -= set(module.command.unless[1])  # alpha and teachers mean nothing to hard labels
        if words[2] == "versions":
            expected = set() if body(stage).get("always_changed") else set(stages.versions.SECTIONS) - {"sweeps"}
        if words[2] == "evaluate":
            expected = {"teachers", "students", "temperatures", "distill"}
        if words[2] == "sweep":
            expected = set(module.SECTIONS)
        if words[2] == "report" and "published" in load(folder / "params.yaml"):
            expected = {"published"}
        assert tracked == {section.format(name=words[3]) if "{name}" in section else section for section in expected}, name


@pytest.mark.parametrize("folder", [ROOT, *EXAMPLES], ids=lambda folder: folder.name)
def test_students_wait_for_every_teacher_they_learn_from(folder):
    params = load(folder / "params.yaml")
    for name, stage in load(folder / "dvc.yaml")["stages"].items():
        words = body(stage)["cmd"].split()
        if words[2] not in ("distill", "sweep") or "--hard" in words or "--live" in words:
            continue
        items = stage.get("foreach", {words[3]: ""})
        for key in items:
            item = items[key] if isinstance(items, dict) else key
            given = {"${key}": str(key), "${item}": str(item)}
            filled = [
                re.sub(r"\$\{(key|item)\}", lambda found, given=given: given[found[0]], dep) for dep in body(stage)["deps"]
            ]
            caches = {dep.rpartition("caches/")[2] for dep in filled if "caches/" in dep}
            learned = set(params.get("sweeps", {}).get(key, {}).get("teachers") or params["distill"]["teachers"])
            assert caches == learned or caches == {""}, f"{name} {key}"
            assert learned <= set(params["teachers"])


@pytest.mark.parametrize("folder", EXAMPLES, ids=lambda folder: folder.name)
def test_examples_have_the_pipeline_and_no_other(folder):
    """Up to the caches; a stage of data held out is the same stage in another folder."""

    def general(path: Path) -> dict:
        found = load(path)["stages"]
        found["versions"] = found["versions"]["cmd"]  # an example cannot depend on sources outside of it
        if promote := found.get("promote"):  # teachers that are students: as other teachers, but once they are trained
            teach = found["teach"]
            teachers = load(path.parent / "params.yaml")["teachers"]
            students = {name: said["student"].split("/")[0] for name, said in teachers.items() if "student" in said}
            assert promote["foreach"] == students
            assert {*teach["foreach"], *students} == set(teachers)
            assert promote["do"].pop("deps") == [*teach["do"]["deps"], "data/sweeps/${item}/students"]
            assert promote["do"].items() <= teach["do"].items()
            teach["foreach"] = "${teachers}"
        return {name: found[name] for name in ("versions", "ingest", "teach", "capture")}

    assert general(folder / "dvc.yaml") == general(ROOT / "dvc.yaml")
    ignored = next(place / ".dvcignore" for place in (folder, folder.parent) if (place / ".dvcignore").exists())
    assert ignored.read_text() == (ROOT / ".dvcignore").read_text()


@pytest.mark.parametrize("folder", EXAMPLES, ids=lambda folder: folder.name)
def test_examples_sweep_what_their_settings_name_and_report_all_of_it(folder):
    """Every sweep has a stage, and every stage of a sweep a section; every published figure is of a folder that is reported."""
    found, params = load(folder / "dvc.yaml")["stages"], load(folder / "params.yaml")
    alone = [stage["cmd"].split()[-1] for name, stage in found.items() if name.startswith("sweep-") and "cmd" in stage]
    swept = {f"data/sweeps/{name}" for name in (*found["sweep"]["foreach"], *alone)}
    swept |= {f"data/heldout/sweeps/{name}" for name in found.get("sweep-heldout", {"foreach": []})["foreach"]}
    assert {Path(path).name for path in swept} == set(params["sweeps"])
    reported = found["report"]["cmd"].split()[3:-2]
    assert set(reported) == swept
    assert {f"{path}/plots" for path in reported} <= set(found["report"]["deps"])
    assert {row["folder"] for row in params["published"]["rows"]} <= set(params["sweeps"])


@pytest.mark.parametrize("folder", [ROOT, *EXAMPLES], ids=lambda folder: folder.name)
def test_footprint_keeps_its_file_and_depends_on_every_net_that_it_measures_and_on_no_table(folder):
    stages = load(folder / "dvc.yaml")["stages"]
    outs = [
        re.sub(r"\$\{(key|item)\}", str(key), out)
        for stage in stages.values()
        for key in ([""] if isinstance(stage.get("foreach", ""), str) else stage["foreach"])
        for out in body(stage)["outs"]
        if isinstance(out, str)
    ]
    stages_of_it = [stage for stage in stages.values() if body(stage)["cmd"].startswith("exec softcache footprint")]
    for stage in stages_of_it:
        [(out, said)] = stage["outs"][0].items()
        assert said == {"persist": True}, "DVC would remove what was measured before"
        data = out.removesuffix("/footprint")
        nets = rf"{data}/((teachers|students)(?=/)|sweeps/[^/]+/students$)"  # as measurement.py walks them
        expected = {found[0] for found in (re.match(nets, each) for each in outs) if found}
        assert set(stage["deps"]) == {"data/versions/footprint.txt", f"{data}/transfer"} | expected
    kept = {next(iter(stage["outs"][0])) for stage in stages_of_it}
    plots = [dep for dep in stages["report"]["deps"] if dep.endswith("/plots")]
    assert {str(beside(Path(each))) for each in plots} == kept <= set(stages["report"]["deps"])


# ---------------------------------------------------------------- real runs

EVERY = ["versions", "ingest", *(f"{stage}@{name}" for name in "ab" for stage in ("teach", "capture"))]
EVERY += ["baseline@tiny", "distill@tiny-1", "footprint", "evaluate", "report"]


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Repository:
    """After its first `dvc repro`; each test below leaves it reproduced."""
    repository = Repository(tmp_path_factory.mktemp("repository"))
    assert sorted(repository.repro()) == sorted(EVERY)
    repository.edit("dvc.yaml", "cmd: exec softcache footprint\n", "cmd: exec softcache footprint\n    frozen: true\n")
    return repository  # it would run wherever a net is new; tests/pipeline/results/test_measurement.py has that


def test_a_second_repro_runs_nothing(repository):
    assert repository.repro() == []


def test_dvc_shows_a_few_named_columns_and_lines(repository):
    """Figures by name, settings, and files, but no constant of the code; and a line for each of what a person compares."""
    for words in ("add .", "-c user.name=a -c user.email=a@b commit --quiet -m all"):
        subprocess.run(["git", *words.split()], cwd=repository.folder, check=True)
    columns = repository.dvc("exp", "show", "--csv").splitlines()[0].split(",")
    student = ("temperature", "accuracy", "accuracy_std", "nll", "hard_accuracy", "errors_saved", "errors_saved_std")
    metrics = ["teacher.accuracy", "teacher.nll", *(f"tiny.{name}" for name in student)]
    first = columns.index(metrics[0])
    assert columns[first : first + len(metrics)] == metrics
    sections = tuple(load(repository.folder / "params.yaml"))
    deps = ("data/", "pipeline", "stages")
    assert [name for name in columns[first + len(metrics) :] if not name.startswith((*sections, *deps))] == []
    assert not any(".py" in name for name in columns)
    repository.dvc("plots", "diff", "HEAD", "-o", "plots")
    page = (repository.folder / "plots/index.html").read_text()
    specs = [json.loads(found) for found in re.findall(r"var spec = (\{.*\});$", page, re.MULTILINE)]
    lines = {
        (spec["title"]["text"], row["series"], row["rev"]) for spec in specs for row in spec["data"]["values"]
    }  # fmt: skip
    compared = ("tiny, distilled", "tiny, hard labels")
    assert lines == {
        (title, line, rev)
        for title, names in {
            "Which temperature suits each student": (*compared, "teacher"),
            "How teachers and students learn": (*compared, "a", "b"),
        }.items()
        for line in names
        for rev in ("HEAD", "workspace")
    }


def test_an_export_is_a_stage_of_its_own(repository):
    repository.edit("params.yaml", "exports: {}", "exports: {tiny-T1: {license: mit}}")
    assert repository.repro() == ["versions", "export@tiny-T1"]
    assert 'license: "mit"' in (repository.folder / "data/exports/tiny-T1/README.md").read_text()
    repository.edit("params.yaml", "exports: {tiny-T1: {license: mit}}", "exports: {}")


def test_one_changed_teacher_reruns_its_own_chain_and_going_back_restores(repository):
    repository.edit("params.yaml", "seed: 2}", "seed: 7}")
    assert repository.repro() == ["versions", "teach@b", "capture@b", "distill@tiny-1", "evaluate", "report"]
    manifest = repository.folder / "data/caches/b/manifest.json"
    changed = manifest.read_bytes()
    repository.edit("params.yaml", "seed: 7}", "seed: 2}")
    assert repository.repro() == []  # every stage comes out of DVC's run cache
    assert manifest.read_bytes() != changed


def test_a_new_temperature_runs_its_own_cells_and_what_sums_up(repository):
    repository.edit("params.yaml", "temperatures: [1]", "temperatures: [1, 2.5]")
    assert repository.repro() == ["distill@tiny-2.5", "evaluate", "report"]


REWORDED = {  # file → an edit that changes nothing that is computed
    "data/policies/warp.py": ('fix="Move by less."', 'fix="Move it by less, please."'),
    "models/zoo/requirements.py": ('fix="Correct the model\'s spec."', 'fix="Mend the spec of the model."'),
    "data/pixels.py": ("Repair the image, or set", "Mend the image, or set"),
    "training/losses.py": ('fix="Correct the setting."', 'fix="Mend the setting."'),
    "training/fit.py": ("learned nothing: its validation accuracy", "it learned nothing, for its validation accuracy"),
}
MOVED = """

def sizes(value: object) -> bool:
    \"\"\"Whether `value` is a list of whole numbers above 0.\"\"\"
    return isinstance(value, list) and all(isinstance(size, int) and not isinstance(size, bool) and size > 0 for size in value)
"""


def test_rewording_moving_and_adding_run_nothing_that_costs_and_refuse_no_cache(repository):
    """The stage versions alone, which says the same as before."""
    for name, (old, new) in REWORDED.items():
        repository.edit(f"pipeline/{name}", old, new)
    repository.edit("pipeline/models/zoo/requirements.py", MOVED, "")
    with (repository.folder / "pipeline/models/zoo/requirements.py").open("a") as file:
        file.write(MOVED)
    repository.edit("pipeline/models/zoo/table.py", '"bag": bag,', '"bag": bag, "other": cnn,')
    repository.edit("pipeline/models/zoo/table.py", '"bag": 2}', '"bag": 2, "other": 1}')
    repository.edit("pipeline/data/policies/table.py", '"flip": image.flip,', '"flip": image.flip, "mirror": image.flip,')
    repository.edit("pipeline/data/policies/table.py", '"flip": 1,', '"flip": 1, "mirror": 1,')
    assert repository.repro() == ["versions"]
    students = repository.folder / "data/students/tiny-T1"
    before = tree(students)
    for words in (["verify", "a", "b", "--deep", "20"], ["distill", "tiny", "-T", "1"]):
        repository.softcache(*words)
    assert tree(students) == before


@pytest.mark.parametrize(
    ("path", "old", "new", "seen"),
    [
        ("training/losses", '"kl": 1', '"kl": 2', "distill/tiny"),
        ("training/losses", '"dkd": 1', '"dkd": 2', ""),
        ("stats/metrics", "VERSION = 1", "VERSION = 2", "evaluate"),
        ("models/predict", "VERSION = 2", "VERSION = 3", "teach/a teach/b capture baseline/tiny distill/tiny evaluate"),
        ("models/zoo/table", '"mlp": 1', '"mlp": 2', "teach/a teach/b baseline/tiny distill/tiny"),
    ],
)
def test_another_version_reruns_what_uses_it(repository, path, old, new, seen):
    """The files of versions that change: the test above holds that stages depend on them, and that of kl asks DVC as well."""
    versions, aside = repository.folder / "data/versions", repository.folder / "data/versions.aside"
    shutil.copytree(versions, aside)
    repository.edit(f"pipeline/{path}.py", old, new)
    try:
        repository.softcache("versions")
        before, after = tree(aside), tree(versions)
        assert {name.removesuffix(".txt") for name in after if after[name] != before.get(name)} == set(seen.split())
        if old == '"kl": 1':
            assert repository.repro("--dry") == ["versions", "distill@tiny-1", "distill@tiny-2.5"]
    finally:
        repository.edit(f"pipeline/{path}.py", new, old)
        shutil.rmtree(versions)
        aside.rename(versions)


@pytest.mark.parametrize(
    ("old", "new", "first"),
    [
        ("alpha: 0.9", "alpha: 0.8", {"distill@tiny-1", "distill@tiny-2.5", "evaluate"}),
        ("hidden=[3]", "hidden=[4]", {"baseline@tiny", "distill@tiny-1", "distill@tiny-2.5", "evaluate"}),
        (
            "views: 2",
            "views: 3",
            {f"capture@{name}" for name in "ab"} | {"baseline@tiny", "distill@tiny-1", "distill@tiny-2.5"},
        ),
        ("alpha: 0.9}", "alpha: 0.90} # the same", set()),
    ],
)
def test_what_a_setting_touches(repository, old, new, first):
    """`dvc repro --dry` names the stages that see the change themselves."""
    before = (repository.folder / "params.yaml").read_text()
    repository.edit("params.yaml", old, new)
    try:
        assert set(repository.repro("--dry")) - {"report", "versions"} == first  # the latter writes the same bytes
    finally:
        (repository.folder / "params.yaml").write_text(before)


def test_a_changed_source_file_is_noticed(repository):
    path = repository.folder / "data/source/source.parquet"
    before = path.read_bytes()
    write_parquet(path, *images(48, seed=9), names=["low", "middle", "high"])
    assert repository.repro("--dry")[:2] == ["versions", "ingest"]
    path.write_bytes(before)
    assert repository.repro() == []


def test_a_temperature_that_goes_back_trains_nothing(repository):
    """The summary may run again: it depends on the folder of students, where the removed cell still lies."""
    repository.edit("params.yaml", "temperatures: [1, 2.5]", "temperatures: [1]")
    assert set(repository.repro()) <= {"evaluate", "report"}
    assert "tiny-T2.5" not in {run for run, _ in measured(repository.folder / "data/plots")}
    assert "tiny-T2.5" not in (repository.folder / "data/report/index.html").read_text()


NETS = """
from torch import nn
from helper import layers

def tiny(shape, classes):
    return layers(shape, 3, classes)

def unused(shape, classes):
    return None
"""
HELPER = """
import math
from torch import nn
from pipeline.models.zoo.layers import Pixels

def layers(shape, width, classes):
    first = nn.Linear(math.prod(shape), width)
    return nn.Sequential(Pixels(), nn.Flatten(), first, nn.ReLU(), nn.Linear(width, classes))
"""


def test_a_plug_in_and_its_helper_are_followed(repository, monkeypatch):
    """Named in params.yaml: dvc.yaml must let DVC see both files; an edit that does something reruns what uses it."""
    monkeypatch.setenv("SOFTCACHE_PLUGINS", "nets")
    (repository.folder / "nets.py").write_text(NETS)
    (repository.folder / "helper.py").write_text(HELPER)
    repository.edit("params.yaml", 'tiny: {model: "mlp(hidden=[3])"}', "tiny: {model: nets:tiny}")
    message = repository.dvc("repro", code=255)
    assert (
        "expected every file of a plug-in, and every file that a teacher is adopted from, found no dep for helper.py" in message
    )
    assert "Add `- helper.py` and `- nets.py` there, so that DVC notices when it changes." in message
    repository.edit("dvc.yaml", "stages, data/source] #", "stages, data/source, helper.py, nets.py] #")
    students = ["baseline@tiny", "distill@tiny-1"]
    assert repository.repro(*students) == ["versions", *students]
    repository.edit("nets.py", "def unused(shape, classes):\n    return None", "def another():  # with a comment\n    return 1")
    assert repository.repro(*students) == ["versions"]
    assert repository.repro(*students) == []
    repository.edit("helper.py", "nn.ReLU()", "nn.Tanh()")
    repository.softcache("versions")
    assert repository.repro("--dry", *students) == ["versions", *students]
