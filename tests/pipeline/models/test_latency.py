"""How long a batch takes: by a clock of our own."""

import numpy as np
import pytest
import torch

from pipeline.models import latency


@pytest.mark.parametrize(
    ("lengths", "counted"),
    [
        ([3.0, 2.0, 1.0, 0.1, 0.4, 0.2, 7.0, 0.3], 5),  # three that do not count; 8 seconds later no run begins
        ([4.9, 4.0, 3.9, 3.8, 3.7], 3),  # the second run ended after 8 seconds
        ([9.0], 1),  # a slow net runs once
        ([0.01] * 403 + [8.0], 401),  # a quick one as often as it can
    ],
)
def test_it_is_the_median_of_the_runs_after_the_first(monkeypatch, lengths, counted):
    clock, calls = [0.0], []

    def run(batch):
        calls.append(batch)
        clock[0] += lengths[len(calls) - 1]

    monkeypatch.setattr(latency.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(latency, "SECONDS", 8.0)
    assert latency.latency(run, np.ones(3)) == pytest.approx(np.median(lengths[-counted:]))
    assert len(calls) == len(lengths)


def test_one_thread_is_for_the_block_alone():
    before = torch.get_num_threads()
    with latency.one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before
