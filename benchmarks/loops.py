"""The training loop against loops of plain PyTorch with everything in memory: a bare one, and one that is tuned by hand.

All of them distil the same rows from the same logits, T = 4, alpha = 0.9, starting from the same weights. They take turns, a
part of an epoch at a time, and the median of the ratios counts. The loops of plain PyTorch keep no account of the loss.
"""

import copy
import functools
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks.measure import CPU, in_turns, machine, median, options, ratio, show
from pipeline.base import runtime
from pipeline.data.views import Policy
from pipeline.models.build import placed
from pipeline.models.stack import Stack
from pipeline.models.zoo.cnn import cnn
from pipeline.models.zoo.mlp import mlp
from pipeline.training.examples import Examples
from pipeline.training.fit import Validation, _Training
from pipeline.training.losses import SoftLoss
from pipeline.training.objective import LossWeights, Objective
from pipeline.training.recipe import Recipe
from pipeline.training.signal import NoTeacher

BATCH, CLASSES = 128, 10
RATE, MOMENTUM = 0.05, 0.9
BOTH = LossWeights(4.0, 0.9)
TEMPERATURES, ALPHAS = (1, 2, 3, 4, 6, 8, 12, 20), (0.25, 0.5, 0.75, 0.9)
SWEPT = [LossWeights(float(t), alpha) for t, alpha in itertools.product(TEMPERATURES, ALPHAS)]
PART = {"2×30": 100, "2×800": 12}  # steps in a turn; of a convnet, 6
Way = Callable[[], None]


def normed(shape: Sequence[int], classes: int) -> nn.Module:
    """cnn(channels=[16, 32]) with batch normalisation."""
    plain = cnn(shape, classes, channels=[16, 32])
    layers = [(each, nn.BatchNorm2d(each.out_channels)) if isinstance(each, nn.Conv2d) else (each,) for each in plain]
    return nn.Sequential(*itertools.chain.from_iterable(layers))


NETS: dict[str, tuple[Callable[..., nn.Module], tuple[int, ...]]] = {
    "2×30": (functools.partial(mlp, hidden=[30, 30]), (1, 28, 28)),
    "2×800": (functools.partial(mlp, hidden=[800, 800]), (1, 28, 28)),
    "convnet": (functools.partial(cnn, channels=[16, 32]), (3, 32, 32)),
    "convnet with BatchNorm": (normed, (3, 32, 32)),
}


def made(title: str) -> nn.Module:
    """The net with its initial weights."""
    torch.manual_seed(0)
    make, shape = NETS[title]
    return make(shape, CLASSES)


# ---------------------------------------------------------------- data, and the library's own loop


@dataclass(frozen=True)
class Rows:
    """Synthetic inputs in memory: a training.inputs.Inputs. pixels: (N, channels, H, W) uint8; labels: (N,) int64."""

    pixels: np.ndarray
    labels: np.ndarray
    classes: Sequence[str] = tuple(map(str, range(CLASSES)))
    span: int = 512
    dtype: torch.dtype = torch.uint8
    replays: bool = False

    @classmethod
    def of(cls, count: int, shape: tuple[int, ...]) -> "Rows":
        """A bright mark for each class on noise, so that there is something to learn."""
        generator = np.random.default_rng(0)
        pixels = generator.integers(0, 128, (count, *shape), dtype=np.uint8)
        labels = generator.integers(0, CLASSES, count)
        pixels[np.arange(count), 0, 2 * labels] += 64
        return cls(pixels, labels)

    @property
    def rows(self) -> int:
        return len(self.pixels)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.pixels.shape[1:]

    def read(self, span: int, indices: np.ndarray | None, views: Sequence[np.ndarray]) -> Iterator[torch.Tensor]:
        pixels = self.pixels[span * self.span : (span + 1) * self.span]
        return itertools.repeat(torch.from_numpy(pixels if indices is None else pixels[indices]), len(views))

    def example(self, count: int) -> torch.Tensor:
        return torch.zeros((count, *self.shape), dtype=self.dtype)


class Given(NoTeacher):
    """Target logits in memory, as a cache gives them: (N, classes) float32."""

    shape = (1, CLASSES)

    def __init__(self, logits: torch.Tensor):
        self.logits = logits

    def read(self, view: int, span: int, out: torch.Tensor) -> None:
        out[:, 0] = self.logits[span * Rows.span : (span + 1) * Rows.span]


@dataclass(frozen=True)
class Data:
    """What the loops learn from. logits: (N, classes) float32, of the teacher."""

    rows: Rows
    logits: torch.Tensor

    @classmethod
    def of(cls, count: int, shape: tuple[int, ...]) -> "Data":
        rows = Rows.of(count, shape)
        noise = torch.randn(count, CLASSES, generator=torch.Generator().manual_seed(0))
        return cls(rows, 2 * noise + 4 * functional.one_hot(torch.from_numpy(rows.labels), CLASSES))

    @property
    def tensors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Pixels and labels."""
        return torch.from_numpy(self.rows.pixels), torch.from_numpy(self.rows.labels)

    def on(self, device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Pixels, labels and logits on a device."""
        pixels, labels = self.tensors
        return pixels.to(device), labels.to(device), self.logits.to(device)


def ours(data: Data, net: nn.Module, weightings: Sequence[LossWeights], part: int, device: torch.device = CPU) -> Way:
    """The loop of the library; each call is the next `part` steps."""
    recipe = Recipe.parse(
        optimizer=f"sgd(lr={RATE}, momentum={MOMENTUM})", schedule="constant()", epochs=10**6, batch_size=BATCH
    )
    signal = Given(data.logits)
    examples = Examples(data.rows, Policy.parse("none", 0), 1, signal, 10**10, device)
    pixels, labels = data.tensors
    objective = Objective.of(weightings, labels.to(device), SoftLoss.parse("kl"), signal)
    training = _Training(net.to(device), examples, objective, recipe, Validation(pixels[:2], data.rows.labels[:2]), seed=0)
    bar = runtime.progress((), "steps")
    every = itertools.chain.from_iterable(examples.epoch(0, epoch, BATCH) for epoch in itertools.count())
    net.train()

    def steps() -> None:
        training.learn(itertools.islice(every, part), bar)

    return steps


# ---------------------------------------------------------------- plain PyTorch


def batches(count: int, device: torch.device) -> Iterator[torch.Tensor]:
    """Shuffled row numbers in batches, epoch after epoch."""
    while True:
        yield from torch.randperm(count, device=device).split(BATCH)


def in_parts(step: Callable[[torch.Tensor], None], count: int, part: int, device: torch.device) -> Way:
    """Each call takes the next `part` steps, in the mode that torch has by default."""
    every = batches(count, device)

    def steps() -> None:
        torch.set_deterministic_debug_mode("default")
        try:
            for rows in itertools.islice(every, part):
                step(rows)
        finally:
            torch.set_deterministic_debug_mode("error")

    return steps


def bare(data: Data, net: nn.Module, part: int, device: torch.device = CPU) -> Way:
    """As one writes it down: bytes are scaled in the step, and the optimizer has its defaults."""
    net, (pixels, labels, logits) = net.to(device), data.on(device)
    optimizer = torch.optim.SGD(net.parameters(), lr=RATE, momentum=MOMENTUM)
    heat, alpha = BOTH.temperature, BOTH.alpha

    def step(rows: torch.Tensor) -> None:
        answers = net(pixels[rows])
        student, teacher = functional.log_softmax(answers / heat, dim=1), functional.softmax(logits[rows] / heat, dim=1)
        soft = functional.kl_div(student, teacher, reduction="batchmean") * heat**2
        loss = alpha * soft + (1 - alpha) * functional.cross_entropy(answers, labels[rows])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return in_parts(step, len(pixels), part, device)


def tuned(data: Data, net: nn.Module, part: int, *, channels_last: bool, device: torch.device = CPU) -> Way:
    """Float inputs and soft targets made beforehand, the cross-entropy for the divergence, a fused optimizer."""
    net = nn.Sequential(*list(net)[1:]).to(device)  # without the layer that scales bytes
    pixels, labels, logits = data.on(device)
    soft_targets = functional.softmax(logits / BOTH.temperature, dim=1)
    inputs = pixels.float().div_(255)
    if channels_last:
        net, inputs = net.to(memory_format=torch.channels_last), inputs.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(net.parameters(), lr=RATE, momentum=MOMENTUM, fused=True)
    heat, soft_weight, label_weight = BOTH.temperature, BOTH.alpha * BOTH.temperature**2, BOTH.labels

    def step(rows: torch.Tensor) -> None:
        answers = net(inputs[rows])
        soft = functional.cross_entropy(answers / heat, soft_targets[rows])
        loss = soft_weight * soft + label_weight * functional.cross_entropy(answers, labels[rows])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return in_parts(step, len(pixels), part, device)


def batched_by_hand(data: Data, stack: Stack, part: int, device: torch.device = CPU) -> Way:
    """32 nets 2×30 as one: the first layer is one wide product, the others are products in a batch."""
    w1, b1, w2, b2, w3, b3 = (each.detach().to(device) for each in stack.stacked)
    nets, hidden = b1.shape
    start = (w1.flatten(0, 1), b1.flatten(), w2.mT.contiguous(), b2[:, None], w3.mT.contiguous(), b3[:, None])
    first, first_bias, second, second_bias, third, third_bias = weights = [each.clone().requires_grad_() for each in start]
    optimizer = torch.optim.SGD(weights, lr=RATE, momentum=MOMENTUM, fused=True)
    pixels, labels, logits = data.on(device)
    inputs = pixels.flatten(1).float().div_(255)
    heat = torch.tensor([each.temperature for each in SWEPT], device=device)[:, None, None]
    soft_weight = torch.tensor([each.alpha * each.temperature**2 for each in SWEPT], device=device)[:, None]
    label_weight = torch.tensor([each.labels for each in SWEPT], device=device)[:, None]

    def step(rows: torch.Tensor) -> None:
        wide = functional.linear(inputs[rows], first, first_bias).relu()  # (B, nets · hidden)
        values = wide.view(len(rows), nets, hidden).transpose(0, 1)
        values = torch.baddbmm(second_bias, values, second).relu()
        answers = torch.baddbmm(third_bias, values, third)  # (nets, B, classes)
        teacher, student = functional.softmax(logits[rows] / heat, dim=-1), functional.log_softmax(answers / heat, dim=-1)
        soft = functional.kl_div(student, teacher, reduction="none").sum(-1)  # (nets, B)
        hard = functional.cross_entropy(answers.flatten(0, 1), labels[rows].repeat(nets), reduction="none").view(nets, -1)
        loss = (soft_weight * soft + label_weight * hard).mean(1).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return in_parts(step, len(inputs), part, device)


# ---------------------------------------------------------------- figures


def clock_of(threads: int, device: torch.device) -> Callable[[], float]:
    """Of one thread its own time counts, which other programs hardly touch."""
    return time.process_time if threads == 1 and device.type == "cpu" else time.perf_counter


def threads_on(device: torch.device) -> range:
    """All numbers of threads of a CPU; one where a GPU does the work."""
    return range(1, 2 if device.type == "cuda" else runtime.cores() + 1)


def one_net(title: str, data: Data, times: int, device: torch.device = CPU) -> None:
    part, net = PART.get(title, 6), made(title)
    new = functools.partial(copy.deepcopy, net)
    for threads in threads_on(device):
        torch.set_num_threads(threads)
        ways = {"ours": ours(data, placed(new(), device), [BOTH], part, device), "bare": bare(data, new(), part, device)}
        ways["tuned"] = tuned(data, new(), part, channels_last=False, device=device)
        if len(list(net)) > 1 and isinstance(net[1], nn.Conv2d):
            ways["tuned, channels last"] = tuned(data, new(), part, channels_last=True, device=device)
        seconds = in_turns(ways, times, warm=2, clock=clock_of(threads, device))
        best = min((name for name in ways if name.startswith("tuned")), key=lambda name: median(seconds[name]))
        for other, bar in (("bare", 1.02), (best, 1.05)):
            found = ratio(seconds["ours"], seconds[other])
            detail = f"{median(seconds['ours']) / part * 1e3:.3f} against {median(seconds[other]) / part * 1e3:.3f} ms a step"
            what = f"loop / {other} one, {title}, {threads} threads"
            show(what, found, f"≤ {bar}", found <= bar, detail, form=".3f")


def on_one_thread(ways: Sequence[Way]) -> None:
    """One after the other, on the thread that suits a small net."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    for way in ways:
        way()
    torch.set_num_threads(before)


def many_nets(data: Data, times: int, device: torch.device = CPU) -> None:
    net, part = made("2×30"), 5
    for threads in threads_on(device):
        torch.set_num_threads(threads)
        stack = Stack([copy.deepcopy(net) for _ in SWEPT])
        alone = [ours(data, copy.deepcopy(net), [each], part, device) for each in SWEPT]
        ways = {
            "by hand": batched_by_hand(data, stack, part, device),
            "ours": ours(data, stack, SWEPT, part, device),
            "one by one": functools.partial(on_one_thread, alone),
        }
        seconds = in_turns(ways, times, warm=2, clock=clock_of(threads, device))
        each = {name: f"{median(seconds[name]) / part * 1e3:.2f}" for name in ways}
        found = ratio(seconds["ours"], seconds["by hand"])
        detail = f"{each['ours']} against {each['by hand']} ms a step"
        show(f"32 × 2×30 / the same by hand, {threads} threads", found, "≤ 1.05", found <= 1.05, detail, form=".3f")
        found, title = ratio(seconds["one by one"], seconds["ours"]), f"32 × 2×30, one by one / stacked, {threads} threads"
        detail = f"{each['one by one']} against {each['ours']} ms for a step of all"
        bar = threads == threads_on(device)[-1]
        show(title, found, "≥ 5" if bar else "", found >= 5 if bar else None, detail)


def main() -> None:
    parser = options(__doc__, times=30)
    parser.add_argument("--only", help="A part of the title of a net, or `sweep`.")
    given = parser.parse_args()
    device = runtime.prepare(given.device)
    print(f"loops, batches of {BATCH}: {machine(device)}")
    for shape, count in (((1, 28, 28), 55_000), ((3, 32, 32), 20_000)):
        titles = [title for title, (_, wanted) in NETS.items() if wanted == shape and (given.only or title) in title]
        swept = shape == (1, 28, 28) and (given.only or "sweep") in "sweep"
        data = Data.of(count, shape) if titles or swept else None
        for title in titles:
            one_net(title, data, given.times, device)
        if swept:
            many_nets(data, given.times, device)


if __name__ == "__main__":
    main()
