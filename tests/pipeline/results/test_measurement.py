"""What is measured of the nets in a folder, and what is left out."""

import shutil
from dataclasses import replace

import pytest
import torch

import elsewhere
import foreign
import plugs
from conftest import RECIPE, write_stage_one, write_teacher
from pipeline.base.errors import InputError, IntegrityError
from pipeline.cache.imported import import_logits
from pipeline.data.settings import Views
from pipeline.data.splits import open_splits
from pipeline.models.build import assemble, parse_model
from pipeline.models.checkpoint import Checkpoint
from pipeline.models.modelfile import Chosen, Data, Net, Shown
from pipeline.models.zoo.table import VERSIONS
from pipeline.results import measurement
from pipeline.results.footprint import FILE_NAME, Entry, Footprint
from pipeline.results.measurement import measure

SHAPE = (1, 4, 4)


@pytest.fixture
def clock(monkeypatch):
    """Latency by a clock of our own: a net runs once on each batch, which takes a hundredth of a second a row."""

    def latency(run, batch):
        assert run(batch).shape == (len(batch), 3)
        return len(batch) / 100

    monkeypatch.setattr(measurement, "latency", latency)


def add(data, name: str, model: str) -> None:
    """One more teacher in a folder of write_stage_one."""
    split = open_splits(data / "transfer", ["train"])["train"]
    write_teacher(data / "teachers" / name, assemble(parse_model(model), split.inputs, 3), split, model=model)


def add_baseline(data, sweep: str, name: str, model: str) -> None:
    """A student of a sweep there, whose first seed diverged."""
    found, spec = open_splits(data / "transfer", ["train", "valid"]), parse_model(model)
    net = assemble(spec, found["train"].inputs, 3)
    nets = {Net(0, None, None, diverged=1): None, Net(1, None, 1): net}
    Checkpoint.write(
        data / "sweeps" / sweep / "students" / name, kind="baseline", name=f"{sweep}/{name}", model=spec,
        split=found["train"], data=Data.of(*found.values()), nets=nets, history=[], recipe=RECIPE,
        views=Shown("none()", 0, ("version 1",), None), rows=Chosen("all()", 20, "0"),
    )  # fmt: skip


def test_each_architecture_is_measured_once_whatever_else_lies_there(clock, tmp_path, caplog):
    data = write_stage_one(tmp_path / "data", teachers="abc")
    import_logits(
        logits=[elsewhere.write_lists(tmp_path / "x.parquet", elsewhere.lines(data, elsewhere.made(data, 1)))],
        splits=data / "transfer", views=Views("none()", 1, 0), out=data / "teachers/x",
    )  # fmt: skip
    add(data, ".d.partial", "mlp(hidden=[7])")
    add_baseline(data, "some", "s-hard", "cnn(channels=[2])")
    damaged = data / "teachers/b/model.json"
    damaged.write_text(damaged.read_text().replace("103", "104"))
    (data / "teachers/a/model.safetensors").write_bytes(b"others")  # c, of the same architecture, takes its place
    made = measure(data, data / "footprint")
    assert made == Footprint.open(data / "footprint")
    times = {"1": 0.01, "64": 0.64}
    size = (data / "teachers/c/model.safetensors").stat().st_size
    of_sweep = (data / "sweeps/some/students/s-hard/seed-1.safetensors").stat().st_size
    assert all(len(entry.basis) == 64 for entry in made.entries)
    assert tuple(replace(entry, basis="") for entry in made.entries) == (
        Entry("cnn(channels=[2], dropout=0.0)", SHAPE, 3, 2 * 9 + 2 + 8 * 3 + 3, 16 * 2 * 9 + 8 * 3, of_sweep, times, ""),
        Entry("imported", SHAPE, 3, None, None, None, {}, ""),
        Entry("mlp(hidden=[5], dropout=0.0, input_dropout=0.0)", SHAPE, 3, 103, 16 * 5 + 5 * 3, size, times, ""),
    )
    [warning] = caplog.messages
    assert warning.startswith(f"{data / 'teachers/b'}: left out: {damaged}: expected facts with their digest")
    assert f"torch {torch.__version__}" in made.machine


def test_what_was_measured_stays_until_another_architecture_machine_or_code(clock, tmp_path, monkeypatch):
    """A second clock, which is slower, tells what is measured again."""
    data = write_stage_one(tmp_path / "data", teachers="ab")
    out, small, large = data / "footprint", "mlp(hidden=[5])", "mlp(hidden=[7])"

    def slow(**more) -> set[str]:
        made = measure(data, out, **more)
        assert made == Footprint.open(out)
        return {entry.model.partition(",")[0] for entry in made.entries if entry.seconds["1"] == 0.02}

    assert slow() == set()
    before = (out / FILE_NAME).read_bytes()
    monkeypatch.setattr(measurement, "latency", lambda run, batch: len(batch) / 50)
    add(data, "c", small)  # other weights
    shutil.rmtree(data / "teachers/a")
    add_baseline(data, "some", "s-hard", small)
    assert slow() == set()
    assert (out / FILE_NAME).read_bytes() == before
    add(data, "d", large)
    assert slow() == {"mlp(hidden=[7]"}
    shutil.rmtree(data / "teachers/d")
    assert slow() == set()
    assert (out / FILE_NAME).read_bytes() == before  # what is gone from the folder is gone from the file
    assert slow(anew=True) == {"mlp(hidden=[5]"}
    for changed in ("machine", "file", "code"):
        (out / FILE_NAME).write_bytes(before)
        with monkeypatch.context() as patch:
            if changed == "machine":
                patch.setattr(measurement.runtime, "processor", lambda: "another")
            elif changed == "file":
                (out / FILE_NAME).write_bytes(before.replace(b"0.01", b"0.03"))
            else:
                patch.setitem(VERSIONS, "mlp", 2)
                add(data, "0", small)
            assert slow() == {"mlp(hidden=[5]"}, changed


def test_an_onnx_teacher_has_the_bytes_of_its_file(clock, tmp_path):
    foreign.onnx_file(tmp_path / "net.onnx")
    folder = foreign.pictures(tmp_path, 8)
    foreign.adopted(folder, f"onnx({str(tmp_path / 'net.onnx')!r})")
    [entry] = measure(folder, folder / "footprint").entries
    assert (entry.parameters, entry.multiply_adds) == (4 * 3 * 9 + 4 + 4 * 3 + 3 + 4, 36 * 4 * 3 * 9 + 4 * 3)
    weights = folder / "teachers/big/model.safetensors"
    assert entry.size_bytes == (tmp_path / "net.onnx").stat().st_size + weights.stat().st_size
    assert list(entry.seconds) == ["1", "64"]


PLUG_IN = """
import torch

class Few(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.out = torch.nn.Linear(16, 3)

    def forward(self, x):
        if len(x) > 8:
            raise ValueError("no more than 8 rows")
        return self.out(x.flatten(1).float())

def few(shape, classes):
    return Few()
"""


def test_what_cannot_be_measured_is_left_out_and_said(clock, tmp_path, monkeypatch, caplog):
    data = write_stage_one(tmp_path / "data")
    with plugs.module(tmp_path, monkeypatch, "few_rows", PLUG_IN):
        add(data, "z", "few_rows:few()")
        few, _ = measure(data, data / "footprint").entries
        assert (few.model, few.multiply_adds, few.seconds) == ("few_rows:few()", 48, {"1": 0.01})
        where = f"{data / 'teachers/z'}, few_rows:few()"
        assert caplog.messages == [f"{where}, time of 64 rows: left out: no more than 8 rows"]
        caplog.clear()
        monkeypatch.setattr(measurement, "latency", lambda run, batch: 1.0)
        shutil.rmtree(data / "teachers/a")
        [few] = measure(data, data / "footprint", anew=True).entries
        assert few.seconds == {"1": 1.0}
        assert caplog.messages == [f"{where}: no time of 64 rows, which would take about 64 s on one thread"]
        caplog.clear()
    monkeypatch.delenv("SOFTCACHE_PLUGINS", raising=False)
    monkeypatch.setattr(measurement, "latency", lambda run, batch: 0.1)
    with pytest.raises(InputError, match="few_rows"):  # nothing is left
        measure(data, data / "footprint", anew=True)
    add(data, "a", "mlp(hidden=[5])")
    [entry] = measure(data, data / "footprint", anew=True).entries
    assert entry.parameters == 103
    assert [message.split(": ")[:2] for message in caplog.messages] == [[str(data / "teachers/z"), "left out"]]


def attention(tokens: int) -> int:
    """A block of a transformer 16 wide: four projections, queries by keys, weights by values, and a perceptron of 32."""
    return tokens * 4 * 16**2 + 2 * tokens**2 * 16 + 2 * tokens * 16 * 32


def test_classifiers_of_transformers(clock, tmp_path):
    """A text has as many tokens as words, and two more; the one that is measured has median length."""
    texts, pictures = foreign.sentences(tmp_path / "texts"), foreign.pictures(tmp_path / "pictures", 32)
    foreign.text_classifier(tmp_path / "bert")
    foreign.image_classifier(tmp_path / "vit")
    lengths = sorted(len(text.split()) for text in open_splits(texts / "transfer", ["valid"])["valid"].read(0))
    tokens, patches = lengths[len(lengths) // 2] + 2, 4 * 4
    expected = {
        "bert": (texts, 2 * attention(tokens) + 16 * 16 + 16 * 3),  # with a pooler, and a head
        "vit": (pictures, patches * 3 * 8 * 8 * 16 + 2 * attention(patches + 1) + 16 * 3),
    }
    for name, (folder, count) in expected.items():
        foreign.adopted(folder, f"transformers({str(tmp_path / name)!r})")
        [entry] = measure(folder, folder / "footprint").entries
        assert (entry.multiply_adds, entry.seconds) == (count, {"1": 0.01, "64": 0.64})


def test_without_nets_nothing_is_written(tmp_path):
    with pytest.raises(InputError, match="expected teachers or students, found none. Run `softcache teach`"):
        measure(tmp_path, tmp_path / "footprint")
    data = write_stage_one(tmp_path / "data")
    (data / "teachers/a/model.safetensors").write_bytes(b"others")
    with pytest.raises(IntegrityError, match="model.safetensors: expected sha256"):
        measure(data, data / "footprint")
    model = data / "teachers/a/model.json"
    model.write_text(model.read_text().replace("103", "104"))
    with pytest.raises(IntegrityError, match="model.json: expected facts with their digest"):
        measure(data, data / "footprint")
    assert not (data / "footprint").exists()
