"""Models side by side on the same rows."""

import numpy as np
import pytest
import torch

from conftest import write_split
from pipeline.base.errors import IntegrityError
from pipeline.results import trial
from pipeline.results.trial import Trial, apart, in_torch, require_equal, require_steady

PIXELS = np.random.default_rng(0).integers(0, 256, (150, 1, 2, 2), dtype=np.uint8)
LABELS = np.arange(150) % 3
NET = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3))


class Floats(torch.nn.Module):
    def forward(self, pixels):
        return NET(pixels.float() / 255)


@pytest.fixture
def split(tmp_path):
    return write_split(tmp_path / "valid.parquet", PIXELS, LABELS, 3)


def expected(rows: int) -> torch.Tensor:
    with torch.no_grad():
        return Floats()(torch.from_numpy(PIXELS[:rows])).softmax(1)


def test_probabilities_of_all_rows(split):
    found = Trial.of(split, NET).probabilities({"one": in_torch(Floats()), "zero": lambda rows: np.zeros((len(rows), 3))})
    np.testing.assert_allclose(found["one"], expected(150), rtol=1e-5)
    np.testing.assert_allclose(found["zero"], np.full((150, 3), 1 / 3), rtol=1e-6)


@pytest.mark.parametrize("most", [1, 64, 100])
def test_of_many_rows_the_first(split, monkeypatch, most):
    monkeypatch.setattr(trial, "CHECKED", most)
    made = Trial.of(split, NET)
    assert made.labels.tolist() == LABELS[:most].tolist()
    np.testing.assert_allclose(made.probabilities({"one": in_torch(Floats())})["one"], expected(most), rtol=1e-5)


def test_rows_that_went_through_are_counted_on_the_way(split, monkeypatch):
    seen = []

    def counting(pieces, what, rows, *, total):
        for piece in pieces:
            seen.append((what, rows(piece), total))
            yield piece

    monkeypatch.setattr(trial.runtime, "counting", counting)
    Trial.of(split, NET).probabilities({"one": in_torch(Floats()), "two": in_torch(Floats())})
    assert seen == [("one, two", 64, 150), ("one, two", 64, 150), ("one, two", 22, 150)]


def test_the_first_rows_by_themselves(split):
    sizes: list[int] = []

    def run(rows: np.ndarray) -> np.ndarray:
        sizes.append(len(rows))
        return in_torch(Floats())(rows)

    found = Trial.of(split, NET).alone({"one": run}, "run")["one"]
    assert sizes == [1] * 16
    np.testing.assert_allclose(found, expected(16), rtol=1e-5)


def test_steady_is_to_give_a_row_by_itself_what_it_has_among_others():
    shares = {name: np.full((20, 2), 0.5, np.float32) for name in ("x", "model.int8.onnx")}
    alone = {name: found[:16] for name, found in shares.items()}
    require_steady(alone, shares, "run")
    require_steady({"model.int8.onnx": alone["x"] + np.float32(0.01)}, shares, "run")  # a step of 8 bits, or two
    for name, far in (("x", 2e-5), ("x", np.nan), ("model.int8.onnx", 0.1)):
        with pytest.raises(IntegrityError, match=f"run, {name}: expected probabilities of a row by itself within"):
            require_steady({name: alone[name] + np.float32(far)}, shares, "run")


def test_batches_have_the_sizes_that_are_timed(split, monkeypatch):
    monkeypatch.setattr(trial, "latency", lambda run, batch: run(batch))
    found = Trial.of(split, NET).seconds({"rows": len, "first": lambda batch: batch[-1, 0, 0, 0]})
    assert found == {"rows": {1: 1, 64: 64}, "first": {1: PIXELS[0, 0, 0, 0], 64: PIXELS[63, 0, 0, 0]}}


def test_a_few_rows_are_repeated(tmp_path, monkeypatch):
    monkeypatch.setattr(trial, "latency", lambda run, batch: run(batch))
    few = Trial.of(write_split(tmp_path / "valid.parquet", PIXELS[:3], LABELS[:3], 3), NET)
    assert few.seconds({"last": lambda batch: batch[-1, 0, 0, 0]})["last"][64] == PIXELS[63 % 3, 0, 0, 0]


def test_equal_is_within_a_hundred_thousandth():
    usual = np.array([[0.5, 0.5], [0.25, 0.75]], np.float32)
    assert apart(usual, usual + np.float32([[0, 0], [0, -0.125]])) == 0.125
    require_equal({"torch": usual, "x": usual + np.float32(9e-6)}, "torch", "run")
    for wrong in (usual + np.float32(2e-5), usual * np.float32("nan")):
        with pytest.raises(IntegrityError, match="run, x: expected probabilities within 1e-05 of those in torch, on 2 valid"):
            require_equal({"torch": usual, "x": wrong}, "torch", "run")
