"""Event files, read back by TensorBoard's own reader."""

import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from conftest import tree, write_tables
from pipeline.base.errors import InputError
from pipeline.results.events import write_events
from runs import lost, rows

EPOCHS = [
    {
        "run": run,
        "seed": seed,
        "epoch": epoch,
        "train_loss": 2.0 / epoch,
        "valid_accuracy": 0.25 * epoch,
        "valid_nll": 1.5 - epoch,
    }
    for run, seed in (("a", None), ("s-T4", 0), ("s-T4", 1), ("s-T8", 0))
    for epoch in (1, 2)
]
RUNS = [
    *(row | {"seed": None} for row in rows("a", "teacher", errors=(5,))),
    *rows("s-T4", "student", "s", 4.0, errors=(10, 20)),
    *map(lost, rows("s-T8", "student", "s", 8.0)),
    *rows("../../s", "student", "s", 2.0),
]


def found(folder: Path) -> dict[str, EventAccumulator]:
    """What TensorBoard finds in each folder below this one."""
    places = {path.parent for path in folder.rglob("*") if path.is_file()}
    return {str(place.relative_to(folder)): EventAccumulator(str(place)).Reload() for place in places}


def hparams(events: EventAccumulator, what: str) -> HParamsPluginData:
    data = HParamsPluginData.FromString(events.SummaryMetadata(f"_hparams_/{what}").plugin_data.content)
    return getattr(data, what)


def test_curves_figures_and_settings_of_every_net(tmp_path):
    plots = write_tables(tmp_path / "plots", runs=RUNS, epochs=EPOCHS)
    for _ in range(2):  # the second time over its own files
        write_events({"": plots, "more": plots}, tmp_path / "events")
    events = found(tmp_path / "events")
    nets = {"a", "s-T4/seed-0", "s-T4/seed-1", "s-T8/seed-0", "%2E.%2F..%2Fs/seed-0"}
    assert events.keys() == {".", *nets, *(f"more/{net}" for net in nets)}
    second = events["s-T4/seed-1"]
    assert [(each.step, each.value) for each in second.Scalars("valid/nll")] == [(1, 0.5), (2, -0.5)]
    assert [each.value for each in second.Scalars("train/loss")] == [2, 1]
    assert [each.value for each in second.Scalars("valid/accuracy")] == [0.25, 0.5]
    assert [(each.step, each.value) for each in second.Scalars("final/test_accuracy")] == [(2, pytest.approx(0.8))]
    assert [each.value for each in second.Scalars("final/valid_nll")] == [0.25]
    given = {key: value.WhichOneof("kind") for key, value in hparams(second, "session_start_info").hparams.items()}
    assert given == {
        "kind": "string_value", "student": "string_value", "temperature": "number_value", "alpha": "number_value",
        "parameters": "number_value",
    }  # fmt: skip
    assert hparams(second, "session_start_info").hparams["temperature"].number_value == 4
    assert set(hparams(events["a"], "session_start_info").hparams) == {"kind", "parameters"}
    columns = hparams(events["."], "experiment")
    assert {info.name for info in columns.hparam_infos} == given.keys()
    assert {info.name.tag for info in columns.metric_infos} <= set(second.Tags()["scalars"])
    assert set(events["s-T8/seed-0"].Tags()["scalars"]) == {"train/loss", "valid/accuracy", "valid/nll"}  # it diverged


def test_only_event_files_are_replaced(tmp_path, monkeypatch):
    plots, out = write_tables(tmp_path / "plots", runs=RUNS), tmp_path / "mine"
    (out / "deep").mkdir(parents=True)
    (out / "deep/thesis.tex").write_text("mine")
    with pytest.raises(InputError, match=r"mine: expected event files, or nothing, found thesis\.tex\."):
        write_events({"": plots}, out)
    with pytest.raises(InputError, match=r"none: expected tables, found none"):
        write_events({"": tmp_path / "none"}, tmp_path / "events")
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    expected = (
        r'event files: expected the library tensorboard, found none. Install it: `pip install "softcache\[tensorboard\]"`'
    )
    with pytest.raises(InputError, match=expected):
        write_events({"": plots}, tmp_path / "events")
    assert not (tmp_path / "events").exists()
    assert tree(out) == {"deep/thesis.tex": b"mine"}
