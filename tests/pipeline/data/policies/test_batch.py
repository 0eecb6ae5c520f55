"""Rows of a batch taken and replaced, against indexing."""

import numpy as np
import pytest
import torch

from pipeline.data.policies.batch import replaced, taken

IMAGES = torch.arange(5 * 3 * 2 * 4, dtype=torch.uint8).view(5, 3, 2, 4)


@pytest.mark.parametrize(
    "inputs", [IMAGES, IMAGES.contiguous(memory_format=torch.channels_last), IMAGES[:, 0, 0].clone(), IMAGES.to(torch.int64)],
    ids=["images", "channels-last", "two axes", "int64"],
)  # fmt: skip
def test_rows(inputs):
    where = np.array([3, 0])
    expected = inputs.clone()
    expected[where] = inputs[[1, 2]]
    found = replaced(inputs, where, inputs[[1, 2]])
    assert torch.equal(found, expected)
    assert found.stride() == inputs.stride()
    assert torch.equal(taken(inputs, where), inputs[where])
    assert replaced(inputs, np.array([], int), inputs[:0]) is inputs
