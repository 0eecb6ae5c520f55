"""Packed rows: tensors of several dtypes side by side in bytes, which are views of them and not copies."""

import torch

from pipeline.training.packed import Field, Packed


def test_what_is_written_into_the_parts_is_in_the_bytes():
    """A row: three int64, then two float16 and four bytes of nothing, then a float32 and four bytes of nothing."""
    packed = Packed([Field.of(torch.zeros(9, 3, dtype=torch.int64)), Field((1, 2), torch.float16), Field((), torch.float32)])
    assert packed.size == 24 + 8 + 8
    stored = torch.zeros(5, packed.size, dtype=torch.uint8)
    whole, halves, single = packed.split(stored)
    assert [tuple(each.shape) for each in (whole, halves, single)] == [(5, 3), (5, 1, 2), (5,)]
    whole[1, 2], halves[2, 0, 1], single[3] = 258, 1.0, -2.0
    assert stored[1, 16:18].tolist() == [2, 1]  # little-endian
    assert stored[2, 26:28].tolist() == [0, 0x3C]
    assert stored[3, 32:36].tolist() == [0, 0, 0, 0xC0]
    assert int((stored != 0).sum()) == 2 + 1 + 1


def test_rows_may_be_any_of_a_larger_store():
    packed = Packed([Field((2,), torch.float32), Field((3,), torch.float16)])
    stored = torch.zeros(8, packed.size, dtype=torch.uint8)
    packed.split(stored)[1][:] = torch.arange(24).view(8, 3).half()
    assert packed.split(stored[3:5])[1].tolist() == [[9, 10, 11], [12, 13, 14]]
    assert packed.split(stored.index_select(0, torch.tensor([7, 0])))[1].tolist() == [[21, 22, 23], [0, 1, 2]]
