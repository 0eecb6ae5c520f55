"""Students: what their order and views depend on, and that a cached target is the teacher's."""

from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import images, write_parquet
from pipeline.base import runtime
from pipeline.base.errors import InputError
from pipeline.cache.capture import capture
from pipeline.cache.settings import Keep
from pipeline.data.ingest import ingest
from pipeline.data.settings import Views
from pipeline.training.distill import distill
from pipeline.training.lesson import Soft
from pipeline.training.losses import SoftLoss
from pipeline.training.objective import HARD, LossWeights
from pipeline.training.recipe import Recipe
from pipeline.training.teach import teach

CPU = torch.device("cpu")
VIEWS = Views("shift(1)", 3, 7)


def recipe(**changes) -> Recipe:
    return Recipe.parse(
        **{"optimizer": "sgd(lr=0.2, momentum=0.9)", "schedule": "constant", "epochs": 3, "batch_size": 8, "max_norm": None}
        | changes
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Splits of 48 images, and the caches of two teachers."""
    folder = tmp_path_factory.mktemp("data")
    runtime.prepare("cpu")
    source = write_parquet(folder / "source.parquet", *images(48))
    ingest(train=str(source), valid=0.25, test=0.25, transfer_set=(), damaged="fail", seed=0, out=folder / "transfer")
    for seed, name in enumerate("ab"):
        teach(
            model="mlp(hidden=[9])", recipe=recipe(), policy="none", seed=seed, splits=folder / "transfer",
            work=folder / "work", out=folder / "teachers" / name, device=CPU,
        )  # fmt: skip
        capture(
            teacher=folder / "teachers" / name, splits=folder / "transfer", views=VIEWS,
            keep=Keep(tile=16), work=folder / "work", out=folder / "caches" / name,
            provenance=folder / "provenance.json", device=CPU,
        )  # fmt: skip
    return folder


def weights(data: Path, out: Path, given: tuple[Soft, LossWeights] | None, seeds=(0,), **changes) -> dict[str, bytes]:
    soft, weighting = given or (None, HARD)
    settings = {"model": "mlp(hidden=[4])", "recipe": recipe(), "views": VIEWS, "rows": "all", "correct": ()} | changes
    distill(
        soft=soft, weighting=weighting, seeds=seeds, splits=data / "transfer", work=data / "work", out=out, device=CPU,
        **settings,
    )  # fmt: skip
    return {path.name: path.read_bytes() for path in out.glob("*.safetensors")}


def soft(
    data: Path, temperature=2.0, alpha=0.5, names="ab", rule="probabilities", chosen=None, loss="kl", live=False, **flags
) -> tuple[Soft, LossWeights]:
    weighting = LossWeights(temperature, alpha, flags.pop("label_weight", None))
    folder = data / ("teachers" if live else "caches")
    return Soft({name: folder / name for name in names}, rule, SoftLoss.parse(loss, **flags), chosen, live), weighting


def test_order_and_views_agree_between_temperatures_and_with_the_baseline(data, tmp_path):
    """At alpha 0 the soft term is gone, so whatever still differed would be order or views."""
    cold, warm = (weights(data, tmp_path / str(t), soft(data, t, alpha=0.0), seeds=(0, 1)) for t in (1.0, 20.0))
    assert cold == warm == weights(data, tmp_path / "hard", None, seeds=(0, 1))
    assert cold["seed-0.safetensors"] != cold["seed-1.safetensors"]


def test_a_seed_gives_the_same_student_in_any_list(data, tmp_path):
    alone = weights(data, tmp_path / "a", soft(data), seeds=(3,))
    among = weights(data, tmp_path / "b", soft(data), seeds=(1, 3, 2))
    assert alone["seed-3.safetensors"] == among["seed-3.safetensors"]


def test_temperature_alpha_rule_weights_and_members_all_matter(data, tmp_path):
    settings = [{}, {"temperature": 4.0}, {"alpha": 1.0}, {"rule": "logits"}, {"chosen": [1, 3]}, {"names": "a"}]
    settings += [{"loss": loss} for loss in ("mse", "dkd", "dist", "js", "tv")]
    settings += [{"squared": False}, {"standardised": True}, {"label_weight": 1.0}]
    found = [
        weights(data, tmp_path / str(i), soft(data, **changes))["seed-0.safetensors"] for i, changes in enumerate(settings)
    ]
    assert len(set(found)) == len(settings)


def test_a_member_of_weight_0_is_as_if_it_were_not_there(data, tmp_path):
    first = weights(data, tmp_path / "a", soft(data, chosen=[1, 0], rule="logits"))
    assert first == weights(data, tmp_path / "b", soft(data, names="a"))


def test_soft_targets_alone_bring_the_student_to_the_teacher(data, tmp_path):
    """alpha 1 and 300 epochs on view 0: the student's logits on its own rows approach the teacher's distribution."""
    from pipeline.cache.reader import Cache
    from pipeline.data.splits import open_splits
    from pipeline.models.checkpoint import Checkpoint
    from pipeline.models.predict import predict
    from pipeline.stats import metrics

    out = tmp_path / "s"
    views, long = Views("shift(1)", 1, 7), recipe(epochs=300)
    weights(data, out, soft(data, 1.0, alpha=1.0, names="a"), model="mlp(hidden=[40])", recipe=long, views=views)
    checkpoint = Checkpoint.open(out, kinds=["student"], name="s", fix="")
    net = checkpoint.load(checkpoint.nets[0], CPU)
    pixels = torch.from_numpy(open_splits(data / "transfer", ["transfer"])["transfer"].read_all())
    target = Cache.open(data / "caches/a").read("transfer")[0]
    assert metrics.kl_to_teacher(predict(net, pixels), target) < 0.01 * metrics.kl_to_teacher(np.zeros_like(target), target)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"soft": {"alpha": 1.5}}, "alpha: expected a number from 0 to 1"),
        ({"soft": {"names": ""}}, "teachers: expected at least one"),
        ({"soft": {"chosen": [1]}}, "ensemble weights: expected 2 finite numbers"),
        ({"soft": {"alpha": -1.0, "label_weight": 1.0}}, "alpha: expected a number of at least 0"),
        ({"soft": {"alpha": 0.0, "label_weight": 0.0}}, "alpha and label_weight: expected not both 0"),
        ({"soft": {"label_weight": -1.0}}, "label_weight"),
        ({"soft": {"temperature": 0.0}}, "temperature: expected a number from 1e-06 to 1e"),
        ({"soft": {"loss": "mae"}}, "one of ce, dist, dkd, js, kl, mlkd, mse, tv"),
        ({"soft": {"names": "", "live": True}}, "teachers: expected at least one"),
        ({"correct": ("9",)}, "correct: expected a label from 0 to 2"),
        ({"rows": "only([9])"}, "rows by class: expected a label from 0 to 2"),
        ({"seeds": ()}, "seeds: expected one or more"),
        ({"seeds": (1, 1)}, "all different"),
        ({"views": Views("shift(1)", 0, 7)}, "views: expected 1 or more"),
    ],
)
def test_bad_settings_are_refused_and_nothing_is_written(data, tmp_path, changes, message):
    changed = dict(changes)
    with pytest.raises(InputError, match=message):
        weights(data, tmp_path / "out", soft(data, **changed.pop("soft", {})), **changed)
    assert not list(tmp_path.iterdir())
