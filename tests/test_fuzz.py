"""Whatever bytes lie in a file, and whatever a setting holds: an error of ours, or something that is sound; never another.

`make soak` tries 5,000 examples of each, `make test` a few dozen.
"""

import contextlib
import copy
import json
import warnings
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from ruamel.yaml import YAML

import elsewhere
import samples
import softcache_export
from conftest import images, run_capture, write_stage_one, write_tables
from pipeline.base import facts, runtime, table
from pipeline.base.errors import SoftcacheError
from pipeline.base.settings import gathered
from pipeline.cache import layout, manifest
from pipeline.cache.provenance import Provenance
from pipeline.cache.reader import Cache
from pipeline.data import pixels, selection
from pipeline.data.inputs.image import Images
from pipeline.data.logits import LogitFile
from pipeline.data.sources.table import SOURCES, parse_source
from pipeline.data.splits import Facts, Split, open_splits
from pipeline.data.views import Policy
from pipeline.models import modelfile
from pipeline.models.build import build, parse_model
from pipeline.models.ensemble import normalised
from pipeline.models.training import Training
from pipeline.results import tables, times
from pipeline.results.cost import cost
from pipeline.results.published import Published
from pipeline.training import losses, resume
from pipeline.training.objective import LossWeights
from pipeline.training.recipe import Recipe
from stages import capture, distill, evaluate, sweep, teach
from stages import ingest as ingest_stage
from stages.cli import main
from stages.options import Params

FEW, MANY = 40, 5000
OURS = (SoftcacheError, layout.Damaged, click.ClickException, softcache_export.Refused)


@pytest.fixture(params=[FEW, pytest.param(MANY, marks=pytest.mark.soak)], ids=["few", "many"])
def often(request) -> int:
    """How many examples."""
    return request.param


def fuzz(often: int, strategy: st.SearchStrategy, body: Callable[[object], object]) -> None:
    """Call `body` with examples; whatever is raised must be of our own family."""

    @settings(max_examples=often, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(strategy)
    def tried(example: object) -> None:
        with contextlib.suppress(*OURS):
            body(example)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tried()


def changed(data: bytes) -> st.SearchStrategy[bytes]:
    """Bytes with a few changes in them, or cut, or others altogether."""
    place, byte = st.integers(0, max(len(data) - 1, 0)), st.integers(0, 255)

    def flip(changes: list[tuple[int, int]]) -> bytes:
        held = bytearray(data)
        for where, value in changes:
            held[where] = value
        return bytes(held)

    flipped = st.lists(st.tuples(place, byte), min_size=1, max_size=6).map(flip)
    cut = st.tuples(place, place).map(lambda ends: data[min(ends) : max(ends)])
    inserted = st.tuples(place, st.binary(max_size=20)).map(lambda pair: data[: pair[0]] + pair[1] + data[pair[0] :])
    return st.one_of(flipped, flipped, cut, inserted, st.binary(max_size=300))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def sealed_like(held: bytes) -> st.SearchStrategy[bytes]:
    """Facts with a digest that is right, some of them of other types or gone: what a forger writes."""
    found = json.loads(held)
    found.pop("digest", None)
    paths = list(_paths(found))

    def forged(changes: list[tuple[tuple, object]]) -> bytes:
        made = json.loads(json.dumps(found))
        for path, value in changes:
            with contextlib.suppress(KeyError, IndexError, TypeError):
                inner = made
                for key in path[:-1]:
                    inner = inner[key]
                inner[path[-1]] = copy.deepcopy(value)  # one example must not change the next
        with contextlib.suppress(ValueError, TypeError):  # what JSON cannot hold
            if "format" in made:  # a manifest, whose digest leaves it out
                rest = {key: value for key, value in made.items() if key != "format"}
                digest = facts.files.sha256(facts.files.canonical_json(rest))
                return facts.files.readable_json({"format": made["format"], "digest": digest, **rest})
            return facts.sealed(made)
        return held

    huge = st.sampled_from([2**60, -1, 0, 10**30, "../../x", [], {}, None, True, 1.5])
    return st.lists(st.tuples(st.sampled_from(paths), huge | JSON), min_size=1, max_size=3).map(forged)


def _paths(value: object, prefix: tuple = ()) -> list[tuple]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*prefix, key)
        yield from _paths(inner, (*prefix, key))


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """Splits, a teacher, its cache and provenance, tables, times and a state."""
    runtime.prepare("cpu")
    folder = tmp_path_factory.mktemp("fuzz") / "data"
    write_stage_one(folder)
    run_capture(folder)
    write_tables(folder / "plots", runs=[{"run": "a", "seed": 1, "split": "test", "errors": 3, "accuracy": 0.5}])
    for name in ("a", "b"):
        times.append(folder / "times.csv", ("teach", name, name, "2026-01-01T00:00:00Z", "1.0", "done", "cpu", 1))
    member = {"a": 1}
    resume.State(folder, [member]).save({"model.0": torch.zeros(1, 3)}, {"histories": [[]], "diverged": [None]}, finished=True)
    return folder


def reader(project: Path, name: str) -> tuple[Path, Callable[[], object]]:
    """A stored file, and a call that reads it."""
    (state,) = project.glob("*.state")
    split = project / "transfer/train.parquet"

    def read_split() -> None:
        found = Split.open(split)
        found.labels()
        for span in range(len(found.span_digests)):
            found.ids(span)
            found.read(span)

    def read_cache() -> None:
        cache = Cache.open(project / "caches/a")
        cache.read("transfer")
        list(cache.strays())

    def read_tables() -> None:
        found = tables.Tables.open(project / "plots")
        found.read(tables.RunRow)

    return {
        "split": (split, read_split),
        "binding": (
            project / "transfer/splits.json",
            lambda: open_splits(project / "transfer", ("transfer", "valid")),
        ),
        "manifest": (project / "caches/a/manifest.json", read_cache),
        "metadata": (project / "caches/a/logits.zarr/valid/zarr.json", read_cache),
        "span": (project / "caches/a/logits.zarr/transfer/c/1/1/0", read_cache),
        "model": (project / "teachers/a/model.json", lambda: modelfile.ModelFile.teacher(project / "teachers/a").history()),
        "history": (
            project / "teachers/a/history.parquet",
            lambda: modelfile.ModelFile.teacher(project / "teachers/a").history(),
        ),
        "provenance": (project / "provenance/a.json", lambda: Provenance.open(project / "provenance/a.json")),
        "tables": (project / "plots/tables.json", read_tables),
        "runs": (project / "plots/runs.parquet", read_tables),
        "times": (project / "times.csv", lambda: cost(project)),
        "state": (state, lambda: resume.State(project, [{"a": 1}]).load()),
    }[name]


STORED = [
    "split",
    "binding",
    "manifest",
    "metadata",
    "span",
    "model",
    "history",
    "provenance",
    "tables",
    "runs",
    "times",
    "state",
]


@pytest.mark.parametrize("name", STORED)
def test_any_bytes_in_a_stored_file(project, often, name):
    path, read = reader(project, name)
    before = path.read_bytes()

    def replaced(data: bytes) -> None:
        path.unlink(missing_ok=True)
        path.write_bytes(data)
        read()

    try:
        fuzz(often, changed(before), replaced)
        path.write_bytes(before)
        read()
    finally:
        path.write_bytes(before)


@pytest.mark.parametrize("name", ["binding", "manifest", "model", "provenance", "tables"])
def test_forged_facts_with_a_digest_that_is_right(project, often, name):
    path, read = reader(project, name)
    before = path.read_bytes()
    try:
        fuzz(often, sealed_like(before), lambda data: (path.write_bytes(data), read()))
    finally:
        path.write_bytes(before)


def test_any_table_of_any_bytes(often):
    columns = table.columns(tables.ClassRow)
    whole = table.to_parquet([{"run": "a", "rows": 1}], columns)
    fuzz(often, changed(whole), lambda data: table.from_parquet(data, columns, "it", "Mend it."))


def test_any_bytes_as_a_shard(often):
    laid = layout.Layout.plan((3,), "float32", 8)
    whole = bytes(laid.encode(np.zeros((8, 3), np.float32)))

    def decoded(data: bytes) -> None:
        if len(data) == laid.shard_bytes(8):  # what a cache has looked at before
            laid.decode(data, 8)

    fuzz(often, changed(whole), decoded)


# ---------------------------------------------------------------- what users bring


def test_any_bytes_as_an_image(often):
    import io

    encoded, _ = images(1)
    wholes, exif = [encoded[0]], Image.Exif()
    exif[274] = 6
    for way in ({"format": "JPEG"}, {"format": "JPEG", "exif": exif}, {"format": "WEBP"}, {"format": "PNG", "exif": exif}):
        held = io.BytesIO()
        Image.new("RGB", (5, 4), "red").save(held, **way)
        wholes.append(held.getvalue())
    for whole in wholes:
        fuzz(often, changed(whole), lambda data: pixels.decode(data, pixels.peek(data, "it")[0], "it", (3, 3), "crop"))


@pytest.mark.parametrize("name", sorted(SOURCES.keys() - {"digits", "folder"}))
def test_any_bytes_as_a_source(tmp_path, often, name):
    """Of its first sample, the last file that it names."""
    text = samples.write(tmp_path)[name][0]
    path = max((path for path in tmp_path.rglob("*") if path.is_file() and str(path) in text), key=lambda path: str(path))

    def read(data: bytes) -> None:
        path.write_bytes(data)
        list(parse_source(text, "transfer").chunks(True))

    read(path.read_bytes())
    fuzz(often, changed(path.read_bytes()), read)


def test_any_bytes_as_an_array_to_predict(tmp_path, often):
    path = tmp_path / "x.npy"
    np.save(path, np.zeros((2, 4, 3), np.float32))
    said = {"inputs": {"kind": "array", "shape": [4, 3], "dtype": "float32"}}

    def read(data: bytes) -> None:
        path.write_bytes(data)
        list(softcache_export.read(path, said))

    read(path.read_bytes())
    fuzz(often, changed(path.read_bytes()), read)


@pytest.mark.parametrize("name", ["lists.parquet", "columns.parquet", "x.npz"])
def test_any_bytes_as_logits(tmp_path, often, name):
    rows = [elsewhere.Line("valid", row % 2, f"r{row}", np.arange(3) + row) for row in range(5)]
    path = tmp_path / name
    if name == "lists.parquet":
        elsewhere.write_lists(path, rows)
    elif name == "columns.parquet":
        elsewhere.write_columns(path, rows, "xyz")
    else:
        elsewhere.write_npz(path, [row._replace(logits=row.logits.astype(np.float32)) for row in rows])

    def read(data: bytes) -> None:
        path.write_bytes(data)
        list(LogitFile.open(str(path), "xyz").batches())

    read(path.read_bytes())
    fuzz(often, changed(path.read_bytes()), read)


def test_any_text_as_settings(tmp_path, often):
    path = tmp_path / "params.yaml"
    whole = b"teach: {epochs: 3, optimizer: 'sgd(lr=0.1)'}\nteachers:\n  a: {model: x, seed: 1}\nlist: [1, 2.5, 2024-01-01]\n"
    pieces = st.lists(st.sampled_from([*"{}[]:,-?&*!|>'\"%@`#\n \t0x1eE.~", "<<", "!!", "null", "a: "]), max_size=30)
    text = changed(whole) | pieces.map("".join).map(str.encode) | st.text(max_size=60).map(lambda t: t.encode(errors="replace"))
    fuzz(often, text, lambda data: path.write_bytes(data) and Params.read(path).section("teachers.a"))


SETTING = JSON | st.sampled_from(
    [float("nan"), float("inf"), -1, 0, 10**400, "1e308", "007", "mlp(hidden=[1])", "kl", "shift(1)", "9" * 5000, [[]], "\0"],
) | st.dates() | st.binary(max_size=4)  # fmt: skip
BASE = {
    "ingest": {"train": "digits", "valid": 0.1, "test": 0.1, "transfer": None, "size": [4, 4], "fit": "crop",
               "damaged": "fail", "seed": 0, "fold": False},
    "teach": {"optimizer": "sgd(lr=0.1)", "epochs": 1, "batch_size": 8, "policy": "none", "max_norm": 1.0, "memory": 1},
    "teachers": {"a": {"model": "mlp(hidden=[3])", "seed": 1}},
    "views": {"policy": "shift(1)", "views": 2, "view_seed": 0},
    "capture": {"dtype": "float32", "tile": 4},
    "recipe": {"optimizer": "sgd(lr=0.1)", "schedule": "constant", "epochs": 1, "batch_size": 8, "seeds": [0], "keep": "best",
               "patience": 3, "precision": "float32"},
    "students": {"s": {"model": "mlp(hidden=[3])"}},
    "temperatures": [1, 2.5],
    "distill": {"teachers": ["a"], "weights": [1], "rule": "logits", "loss": "kl", "alpha": 0.5, "label_weight": 0.1,
                "t_squared": True, "standardise": False},
    "sweeps": {"x": {"alphas": [0.1], "together": 4, "baseline": True}},
}  # fmt: skip


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (ingest_stage.command, []),
        (teach.command, ["a"]),
        (capture.command, ["a"]),
        (distill.command, ["s", "-T", "2"]),
        (distill.command, ["s", "--hard"]),
        (sweep.command, ["x"]),
        (evaluate.command, []),
    ],
    ids=["ingest", "teach", "capture", "distill", "hard", "sweep", "evaluate"],
)
def test_any_setting_anywhere(tmp_path, often, command, words):
    """Read by the command, and then as far as its job reads it before it looks at data."""
    path, yaml = tmp_path / "params.yaml", YAML()
    places = list(_paths(BASE))

    def tried(changes: list[tuple[tuple, object]]) -> None:
        made = json.loads(json.dumps(BASE))
        for place, value in changes:
            with contextlib.suppress(KeyError, IndexError, TypeError):
                inner = made
                for key in place[:-1]:
                    inner = inner[key]
                inner[place[-1]] = value
        try:
            with path.open("w") as file:
                yaml.dump(made, file)
        except Exception:
            return  # what YAML cannot hold, no file of settings does
        found = command.make_context("it", [*words, "--params", str(path)], parent=click.Context(main)).params
        _job(command, found, str(path))

    fuzz(often, st.lists(st.tuples(st.sampled_from(places), SETTING), min_size=1, max_size=3), tried)


def shown(policy: Policy) -> None:
    """Views of two rows of the kind that it is for."""
    rows, views = np.arange(2), np.arange(2)
    if policy.kind == "text":
        policy.rewrite(["", "one two"], rows, views)
        return
    inputs = (
        torch.zeros((2, 3, 4), dtype=torch.float32) if policy.kind == "array" else torch.zeros((2, 1, 3, 3), dtype=torch.uint8)
    )
    others, _ = policy.partners(rows, views, 2, 2, inputs.shape[1:])
    policy.apply(inputs, rows, views, (others, inputs[others]))


def _job(command: click.Command, given: dict, params: str) -> None:
    """What the jobs make of settings, before they open anything."""
    if "optimizer" in given:
        Recipe.parse(**vars(gathered(Training, given)))
    if given.get("model"):
        build(parse_model(given["model"]), Images("L", (1, 3, 3)), 3)
    if given.get("policy"):
        policy = Policy.parse(given["policy"], given.get("view_seed", given.get("seed", 0)))
        shown(policy)
    if given.get("rows"):
        selection.Selection.parse(given["rows"]).choose(np.array([0, 1, 2, -1]), ["x", "y", "z"])
    if given.get("loss"):
        loss = losses.SoftLoss.parse(given["loss"], squared=given["t_squared"], standardised=given["standardise"])
        loss.require_use(3)
        LossWeights(float(given["temperature"] or 1), given["alpha"], given["label_weight"])
        normalised(given["weights"], len(given["teachers"]))
    if command is sweep.command:
        for student in given["students"]:
            _job(distill.command, sweep.settings_of(student, given["name"], params), params)


@pytest.mark.parametrize("place", ["model", "optimizer", "schedule", "policy", "rows", "loss"])
def test_any_spec(often, place):
    parse = {
        "model": lambda text: build(parse_model(text), Images("L", (1, 3, 3)), 3),
        "optimizer": lambda text: Recipe.parse(optimizer=text, schedule="constant", epochs=1, batch_size=1),
        "schedule": lambda text: Recipe.parse(optimizer="sgd(lr=0.1)", schedule=text, epochs=1, batch_size=1),
        "policy": lambda text: shown(Policy.parse(text, 0)),
        "rows": lambda text: selection.Selection.parse(text).choose(np.array([0, 1, 2, -1]), ["x", "y", "z"]),
        "loss": lambda text: losses.SoftLoss.parse(text).require_use(3),
    }[place]
    names = [
        "mlp",
        "cnn",
        "sgd",
        "adamw",
        "cosine",
        "one_cycle",
        "shift",
        "affine",
        "elastic",
        "flip",
        "resized_crop",
        "jitter",
        "grey",
        "erase",
        "mixup",
        "cutmix",
        "noise",
        "roll",
        "mask",
        "drop",
        "fraction",
        "only",
        "dkd",
        "dist",
    ]
    keys = [
        "hidden",
        "dropout",
        "channels",
        "lr",
        "momentum",
        "beta1",
        "warmup",
        "start",
        "pixels",
        "points",
        "rotate",
        "share",
        "scale",
        "ratio",
        "size",
        "brightness",
        "area",
        "strength",
        "steps",
        "axis",
        "count",
        "value",
        "words",
        "classes",
    ]
    value = st.sampled_from(
        ["[3]", "[[3]]", "0", "-1", "True", "None", "1e999", "1e308", "'x'", "[]", "2**3", "10**9", "{}", "9" * 30, "0.5"]
    )
    argument = value | st.tuples(st.sampled_from(keys), value).map("=".join)
    call = st.tuples(st.sampled_from(names), st.lists(argument, max_size=3).map(", ".join)).map(
        lambda pair: f"{pair[0]}({pair[1]})"
    )
    text = (
        call
        | st.text(max_size=20)
        | st.lists(call, max_size=3).map("|".join)
        | st.sampled_from(["(" * 500, "mlp(" + "[" * 5000])
    )
    fuzz(often, text, parse)


def test_any_published_figures(often):
    row = st.fixed_dictionaries({}, optional=dict.fromkeys(("what", "folder", "runs", "class", "metric", "published"), JSON))
    section = st.fixed_dictionaries(
        {}, optional={"source": JSON, "rows": JSON | st.lists(row | JSON, max_size=3), "more": JSON}
    )
    fuzz(often, section, lambda found: Published.parse(found))


@pytest.mark.parametrize("kind", [manifest._Identity, manifest.Record, modelfile.Facts, Provenance, Facts])
def test_any_json_as_typed_facts(often, kind):
    fuzz(
        often, st.dictionaries(st.text(max_size=8), JSON, max_size=4), lambda found: facts.typed(kind, found, "it", "Mend it.")
    )
