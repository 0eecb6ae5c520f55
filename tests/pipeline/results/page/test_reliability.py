"""Reliability: bins of several nets as one, and the words on them."""

import numpy as np
import pytest

from charted import chapter, drawn, students
from pipeline.results.page.judged import judged
from pipeline.results.page.reliability import pooled, reliability
from pipeline.results.tables import BinRow
from pipeline.stats import metrics


def bins(run: str, seed: int, logits: np.ndarray, labels: np.ndarray) -> list[BinRow]:
    sums = metrics.reliability(logits, labels).T.tolist()
    return [BinRow(run, seed, number, int(n), sure / n, right / n) for number, (n, sure, right) in enumerate(sums) if n]


def test_nets_are_pooled_as_if_their_rows_were_of_one(tmp_path):
    draws = np.random.default_rng(0)
    logits, labels = draws.normal(size=(2, 80, 4)) * 2, draws.integers(0, 4, 80)
    one = bins("s", 0, logits[0], labels) + bins("s", 1, logits[1], labels)
    whole = bins("s", 0, logits.reshape(160, 4), np.tile(labels, 2))
    found = pooled(one)
    assert len(found) == len(whole)
    for each, row in zip(found, whole, strict=True):
        assert each == pytest.approx((row.rows / 2, row.confidence, row.accuracy))
    apart = sum(each.rows * abs(each.accuracy - each.confidence) for each in found) / 80
    assert apart == pytest.approx(metrics.ece(logits.reshape(160, 4), np.tile(labels, 2)))


@pytest.mark.parametrize(
    ("right", "said"), [(0.95, "5.0 points (too cautious)"), (0.85, "5.0 points (too sure)"), (0.9, "0.0 points")]
)
def test_the_title_says_on_which_side(tmp_path, right, said):
    row = BinRow("s-T4-0.5", 0, 13, 100, 0.9, right)._asdict()
    every = [row | {"ece": abs(right - 0.9)} for row in students("s", 4, errors=(10,))]
    made = chapter(tmp_path, every, bins=[row])
    figure = reliability(made, judged(made))
    assert figure.title == f"How far confidence is off: s at T = 4 {said}"
    assert {(row["confidence"], row["accuracy"]) for row in drawn(figure)} == {(0, 0), (100, 100), (90, 100 * right)}


def test_without_bins_there_is_no_diagram(tmp_path):
    made = chapter(tmp_path, students("s", 4))
    assert reliability(made, judged(made)) is None
