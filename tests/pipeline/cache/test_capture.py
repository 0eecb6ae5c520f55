"""Capture: every logit belongs to its row and view, in every span; all that it depends on is identity."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import change_teacher, images, run_capture, write_parquet, write_stage_one, write_teacher, write_texts
from pipeline.base import runtime
from pipeline.base.errors import InputError, IntegrityError
from pipeline.cache import running
from pipeline.cache.capture import Captured, capture
from pipeline.cache.manifest import fingerprint
from pipeline.cache.reader import Cache
from pipeline.cache.settings import Keep
from pipeline.data import views
from pipeline.data.ingest import ingest
from pipeline.data.inputs.image import Images
from pipeline.data.policies import table
from pipeline.data.settings import Views
from pipeline.data.splits import Split, open_splits
from pipeline.data.views import Policy
from pipeline.models import predict
from pipeline.models.build import build, parse_model
from pipeline.models.checkpoint import Checkpoint
from pipeline.models.encoding import encode
from pipeline.models.zoo import table as nets

CPU = torch.device("cpu")

# Integer weights on integer pixels, scaled by a power of two: every sum is exact in float32, in any order.
EXACT = """
import torch

class Exact(torch.nn.Module):
    def __init__(self, shape, classes):
        super().__init__()
        size = shape[0] * shape[1] * shape[2]
        self.weight = torch.nn.Parameter(((torch.arange(classes * size) * 7919) % 5 - 2.0).reshape(classes, size))

    def forward(self, pixels):
        return pixels.flatten(1).float() @ self.weight.T / 256
"""


@pytest.fixture
def data(tmp_path, monkeypatch) -> Path:
    """48 images in spans of 8 rows, so that the transfer set has four, and an exact teacher."""
    runtime.prepare("cpu")
    (tmp_path / "exact_net.py").write_text(EXACT)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("SOFTCACHE_PLUGINS", "exact_net")
    monkeypatch.setattr("pipeline.data.ingest.span_rows", lambda classes, row_bytes: 8)
    source = write_parquet(tmp_path / "source.parquet", *images(48))
    ingest(train=str(source), valid=0.25, test=0.25, transfer_set=(), damaged="fail", seed=0, out=tmp_path / "transfer")
    net = build(parse_model("exact_net:Exact()"), Images("L", (1, 6, 6)), 3)
    write_teacher(tmp_path / "a", net, open_splits(tmp_path / "transfer", ["train"])["train"], model="exact_net:Exact()")
    yield tmp_path
    sys.modules.pop("exact_net", None)


KEPT = ("knowledge", "dtype", "features", "tile")


def run(data: Path, **changes) -> Captured:
    settings = {"keep": Keep(**{"tile": 4} | {key: changes.pop(key) for key in KEPT if key in changes})} | changes
    views = Views(*(settings.pop(key, usual) for key, usual in (("policy", "shift(1)"), ("views", 3), ("view_seed", 5))))
    return capture(
        teacher=data / "a", splits=data / "transfer", work=data / "work", out=data / "cache",
        provenance=data / "provenance.json", device=CPU, views=views, **settings,
    )  # fmt: skip


def teacher(data: Path) -> torch.nn.Module:
    checkpoint = Checkpoint.teacher(data / "a")
    return checkpoint.load(checkpoint.nets[0], CPU)


def test_every_logit_is_that_of_its_row_and_view_in_every_span(data):
    assert run(data).computed == 4 * 3 + 2 + 2
    splits, cache, net = (
        open_splits(data / "transfer", ("transfer", "valid", "test")),
        Cache.open(data / "cache"),
        teacher(data),
    )
    assert len(splits["transfer"].spans()) == 4
    policy, rows = Policy.parse("shift(1)", 5), np.arange(splits["transfer"].rows)
    for view in range(3):
        pixels = policy.apply(torch.from_numpy(splits["transfer"].read_all()), rows, np.full(len(rows), view))
        assert (cache.read("transfer")[view] == net(pixels).detach().numpy()).all()
    for split in ("valid", "test"):
        assert (cache.read(split)[0] == net(torch.from_numpy(splits[split].read_all())).detach().numpy()).all()


def test_a_cache_grows_by_the_validation_rows_that_are_folded_in(data):
    """27 rows become 36, in spans of 8: the full ones are kept, the fourth and the fifth are computed."""
    run(data)
    before = Cache.open(data / "cache").read("transfer")
    source = str(data / "source.parquet")
    ingest(train=source, valid=0.25, test=0.25, transfer_set=(), damaged="fail", seed=0, out=data / "transfer", fold=True)
    grown = run(data)
    assert (grown.computed, grown.kept) == (2 * 3, 3 * 3 + 2 + 2)
    cache = Cache.open(data / "cache")
    assert (cache.read("transfer")[:, :27] == before).all()
    assert (cache.read("transfer")[0, 27:] == cache.read("valid")[0]).all()


@pytest.mark.parametrize("tile", [1, 3, 64])
def test_with_exact_arithmetic_the_tile_changes_no_logit(data, tile):
    run(data)
    before = Cache.open(data / "cache").read("transfer")
    run(data, tile=tile)
    assert (Cache.open(data / "cache").read("transfer") == before).all()


@pytest.mark.parametrize(
    "changes", [{"policy": "shift(2)"}, {"policy": "none"}, {"view_seed": 6}, {"dtype": "float16"}, {"tile": 8}]
)
def test_every_setting_is_identity(data, changes):
    first = run(data).manifest
    again = run(data, **changes)
    assert fingerprint(again.manifest.identity) != fingerprint(first.identity)
    assert again.kept == 0


def test_weights_and_behaviour_are_identity(data, monkeypatch):
    first = fingerprint(run(data).manifest.identity)
    change_teacher(data / "a", lambda net: net.weight[0, 0].add_(1))
    second = fingerprint(run(data).manifest.identity)
    monkeypatch.setattr(predict, "VERSION", 7)
    third = fingerprint(run(data).manifest.identity)
    monkeypatch.setitem(table.VERSIONS, "shift", 2)
    assert len({first, second, third, fingerprint(run(data).manifest.identity)}) == 4


def test_more_views_are_no_other_identity(data):
    first = run(data, views=1)
    grown = run(data, views=4)
    assert fingerprint(grown.manifest.identity) == fingerprint(first.manifest.identity)
    assert (grown.computed, grown.kept) == (4 * 3, 4 + 2 + 2)


def test_a_student_refuses_views_that_another_version_made(data, monkeypatch):
    run(data)
    monkeypatch.setitem(table.VERSIONS, "shift", 2)
    policy = views.Policy.parse("shift(1)", 5)
    expected = r"cache cache, views.behaviours: expected \['version 2'\] as in the setting, found \['version 1'\]"
    with pytest.raises(InputError, match=expected):
        Cache.open(data / "cache").require_views(policy.to_dict(), 3)


def test_another_version_of_a_net_refuses_its_teachers(tmp_path, monkeypatch):
    folder = write_stage_one(tmp_path)
    run_capture(folder)
    monkeypatch.setitem(nets.VERSIONS, "mlp", 2)
    expected = r"model mlp\(.*\): expected version 1, with which it was trained, found version 2"
    with pytest.raises(IntegrityError, match=expected):
        run_capture(folder)


def test_another_version_of_the_decoder_refuses_the_data(data, monkeypatch):
    monkeypatch.setattr("pipeline.data.splits.DECODER", "pillow version 3")
    with pytest.raises(InputError, match=r"decoder: expected pillow version 3 as it is now, found pillow version 2. Run"):
        run(data)


@pytest.mark.parametrize("changes", [{"views": 0}, {"tile": 0}, {"dtype": "int8"}, {"policy": "shift(99)"}])
def test_bad_settings_are_refused(data, changes):
    with pytest.raises(InputError):
        run(data, **changes)
    assert not (data / "cache").exists()


def test_texts_are_read_once_for_all_views(tmp_path, monkeypatch):
    """28 texts to train on make four spans of 8; every view has its own logits."""
    runtime.prepare("cpu")
    write_texts(tmp_path)
    split = open_splits(tmp_path / "transfer", ["transfer"])["transfer"]
    net = build(parse_model("bag(width=4)"), split.inputs, 3)
    write_teacher(tmp_path / "a", net, open_splits(tmp_path / "transfer", ["train"])["train"], model="bag(width=4)")
    monkeypatch.setattr(running, "TIMED_SHARE", 2)  # nothing is read to measure the time of
    reads, read = [], Split._read
    monkeypatch.setattr(Split, "_read", lambda split, span: reads.append((split.role, span)) or read(split, span))
    assert run(tmp_path, policy="drop(2)").computed == 4 * 3 + 2 + 2
    assert sorted(reads) == sorted(
        [("train", span) for span in range(4)] + [(role, span) for role in ("valid", "test") for span in range(2)]
    )
    policy, rows, texts = Policy.parse("drop(2)", 5), np.arange(split.rows), split.read_all()
    for view, logits in enumerate(Cache.open(tmp_path / "cache").read("transfer")):
        expected = net.eval()(encode(net, policy.rewrite(texts.tolist(), rows, np.full(len(rows), view))))
        np.testing.assert_allclose(logits, expected.detach().numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("tile", "timed"), [(4, 4), (300, 64)])
def test_a_capture_says_how_long_it_takes_by_a_few_rows(data, monkeypatch, caplog, tile, timed):
    """At most 64 of them, twice; and says nothing of time where little is missing."""
    shown, run_net = [], predict.predict

    def timing(net, rows, tile):
        shown.append((len(rows), tile))
        return run_net(net, rows, tile=tile)

    monkeypatch.setattr(running, "predict", timing)
    with caplog.at_level("INFO", logger="pipeline"):
        run(data, tile=tile)
    assert shown == [(timed, timed)] * 2
    assert re.search(r"cache: .* MB, 27 rows × 3 views; 102 rows to run, about 1 s at [\d,]+ rows a second$", caplog.text, re.M)
    caplog.clear()
    with caplog.at_level("INFO", logger="pipeline"):
        run(data, tile=tile, views=4)  # 4 of 20 spans: a fifth
        run(data, tile=tile, views=4, anew=True)
    assert shown == [(timed, timed)] * 6
    monkeypatch.setattr(running, "TIMED_SHARE", 0.25)
    caplog.clear()
    with caplog.at_level("INFO", logger="pipeline"):
        run(data, tile=tile, views=5)  # 4 of 24
    assert shown == [(timed, timed)] * 6
    assert re.search(r"27 rows × 5 views; 27 rows to run$", caplog.text, re.M)
