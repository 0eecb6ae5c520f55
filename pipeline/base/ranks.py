"""Ranks: the processes of one training on several devices, as torchrun starts them. All compute, rank 0 decides and writes.

Without torchrun there is one rank, and nothing here does anything.
"""

import contextlib
import datetime
import json
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from pipeline.base.errors import InputError, SoftcacheError, first_line

if TYPE_CHECKING:
    import torch
    from torch.distributed.distributed_c10d import Store

T = TypeVar("T")

PATIENCE = datetime.timedelta(minutes=30)  # that a rank waits for others, such as for rank 0 to write
_FAILED = "softcache/failed"  # key of the store: how many ranks have failed


class LostError(SoftcacheError):
    """Another rank has ended, so this one cannot go on."""


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together. number: its rank, from 0. count: how many there are."""

    number: int = 0
    count: int = 1

    @property
    def alone(self) -> bool:
        """Whether there is one rank."""
        return self.count == 1

    @property
    def first(self) -> bool:
        """Whether this rank decides, writes and speaks."""
        return self.number == 0

    def piece(self, rows: int) -> slice:
        """Which rows of a step are this rank's. All pieces follow each other; some are empty where rows are few."""
        return slice(self.number * rows // self.count, (self.number + 1) * rows // self.count)

    def agreed(self, value: T) -> T:
        """What rank 0 has for `value`, which JSON can hold; all ranks ask for it at the same time."""
        if self.alone:
            return value
        found: T = json.loads(self.shared(json.dumps(value).encode() if self.first else b""))
        return found

    def shared(self, data: bytes) -> bytes:
        """The bytes that rank 0 gives; those of others do not count."""
        if self.alone:
            return data
        import torch
        from torch import distributed

        size = torch.tensor([len(data)])
        distributed.broadcast(size, 0)
        held = torch.zeros(int(size), dtype=torch.uint8)
        if self.first and data:
            held.copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))
        distributed.broadcast(held, 0)
        return held.numpy().tobytes()

    def total(self, values: "torch.Tensor") -> "torch.Tensor":
        """The sum over ranks of tensors of one shape, on the CPU."""
        held = values.detach().cpu().clone()
        if not self.alone:
            from torch import distributed

            distributed.all_reduce(held)
        return held

    def gathered(self, rows: "torch.Tensor") -> "torch.Tensor":
        """The rows of all ranks, (B, …), from those of each, (n, …).

        A gradient reaches the own rows alone, times the number of ranks: each rank computes the same from all rows, and
        DistributedDataParallel takes the mean of what they find.
        """
        import torch
        from torch import distributed

        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.count)]
        distributed.all_gather(sizes, torch.tensor([len(rows)]))
        held = rows.new_zeros((max(map(int, sizes)), *rows.shape[1:]))
        held[: len(rows)] = rows.detach()
        parts = [torch.empty_like(held) for _ in sizes]
        distributed.all_gather(parts, held)
        parts = [part[: int(size)] for part, size in zip(parts, sizes, strict=True)]
        parts[self.number] = rows
        if rows.requires_grad:
            parts[self.number] = rows.clone()
            parts[self.number].register_hook(lambda gradient: gradient * self.count)
        return torch.cat(parts)


ALONE = Ranks()
_joined = ALONE
_store: "Store | None" = None


def current() -> Ranks:
    """This process among the ranks that it has joined; alone as long as it has joined none."""
    return _joined


def started() -> Ranks:
    """What torchrun says that this process is, before it joins the others."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return ALONE
    return Ranks(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))


def require_alone(what: str) -> None:
    """Raise InputError for a command that torchrun has started several times, and that cannot share its work."""
    if not (found := started()).alone:
        expected, fix = "softcache distill or teach, whose training is shared", "Run it without torchrun."
        raise InputError("torchrun", expected=expected, found=f"{what}, {found.count} times", fix=fix)


@contextlib.contextmanager
def joined(device: str) -> Iterator[str]:
    """Join the other ranks for the time of the block, if torchrun has started some, and wait for them at its end.

    Args:
        device: As for runtime.prepare.

    Yields:
        The device of this rank, for runtime.prepare: of several GPUs, the one with its number on this machine.

    Raises:
        InputError: For one device of several, which all ranks on a machine would share.
        LostError: Where another rank ends during the block.
    """
    global _joined, _store
    if (here := started()).alone:
        yield device
        return
    import torch
    from torch import distributed
    from torch.distributed.rendezvous import rendezvous

    _store, *_ = next(rendezvous("env://", timeout=PATIENCE))
    distributed.init_process_group(store=_store, rank=here.number, world_size=here.count, timeout=PATIENCE)
    _joined = here
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated")  # torch 2.10 has no other name for it
            yield _own(device)
        here.shared(b"")  # until rank 0 has written everything
        distributed.destroy_process_group()
    except RuntimeError as error:
        if not isinstance(error, torch.distributed.DistError) and "gloo" not in str(error):
            raise
        found = "none, because one has ended" if "onnection" in str(error) else first_line(error)
        what, fix = f"rank {here.number} of {here.count}", "Run again; trainings go on where they stopped."
        raise LostError(what, expected="answers of the other ranks", found=found, fix=fix) from error
    finally:
        _joined = ALONE


def fails_first() -> bool:
    """Whether this rank, which fails, is the one to say why: the first one to ask; without others, rank 0."""
    if _store is None:
        return started().first
    try:
        return bool(_store.add(_FAILED, 1) == 1)
    except RuntimeError:  # the store is gone
        return True


def _own(device: str) -> str:
    """The device of this rank."""
    import torch

    if device == "cpu" or (device == "auto" and not torch.cuda.is_available()):
        return "cpu"
    if device not in ("auto", "cuda"):
        fix = "Leave --device out: each rank takes the GPU with its number on its machine."
        raise InputError("--device", expected="auto, cpu or cuda under torchrun", found=device, fix=fix)
    local = int(os.environ["LOCAL_RANK"])
    if local >= torch.cuda.device_count():
        expected, fix = "a GPU for each rank", "Start fewer with --nproc-per-node, or give --device cpu."
        raise InputError("torchrun", expected=expected, found=f"{torch.cuda.device_count()} GPUs, and rank {local}", fix=fix)
    torch.cuda.set_device(local)  # what NCCL computes on
    return f"cuda:{local}"


def only_first(context: contextlib.AbstractContextManager[T]) -> "contextlib.AbstractContextManager[T | None]":
    """A context that rank 0 alone enters; others get None."""
    return context if current().first else contextlib.nullcontext()
