"""The training loop: schedules, norms, what the order depends on, and equality with a loop written another way."""

import copy
import math
import tempfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from conftest import recipe, write_split
from pipeline.base import randomness, runtime
from pipeline.base.errors import InputError
from pipeline.base.randomness import Use
from pipeline.base.ranks import Ranks
from pipeline.data.inputs.image import Images
from pipeline.data.views import Policy
from pipeline.models.build import build, parse_model
from pipeline.models.stack import Stack
from pipeline.training import losses
from pipeline.training.examples import Examples
from pipeline.training.fit import Validation, _Training, fit
from pipeline.training.inputs import Numbers
from pipeline.training.recipe import Recipe
from pipeline.training.resume import State
from pipeline.training.signal import NoTeacher

SHAPE, CLASSES, COUNT = (1, 4, 4), 3, 50
PIXELS = torch.from_numpy(np.random.default_rng(0).integers(0, 255, (COUNT, *SHAPE), dtype=np.uint8))
LABELS = torch.arange(COUNT) % CLASSES
PIXELS[torch.arange(COUNT), 0, LABELS] = 255  # a bright row of pixels tells the class
VALIDATION = Validation(PIXELS[:10], LABELS[:10].numpy())
FOLDER = tempfile.TemporaryDirectory()
SPLIT = write_split(Path(FOLDER.name) / "train.parquet", PIXELS.numpy(), LABELS.numpy(), CLASSES)


def examples(policy: str, views: int | None) -> Examples:
    return Examples(Numbers(SPLIT), Policy.parse(policy, 4), views, NoTeacher(), 10**9, torch.device("cpu"))


@pytest.fixture(autouse=True)
def _prepared():
    runtime.prepare("cpu")


def train(**settings):
    net, [fitted] = trained(**settings)
    assert fitted.diverged is None
    return net, fitted.history


def trained(seed=0, views=2, policy="shift(1)", model="mlp(hidden=[5], dropout=0.2)", **changes):
    net = build(parse_model(model), SPLIT.inputs, CLASSES, seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        fitted = fit(
            net,
            examples(policy, views),
            lambda z, batch, progress, features: losses.cross_entropy(z, LABELS[batch.rows]),
            recipe(**changes),
            VALIDATION,
            seed=seed,
            name="t",
            state=State(Path(folder), [{}]),
        )
    return net, fitted


def flat(net: torch.nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in net.parameters()])


def test_same_seed_same_bits_and_another_seed_others():
    assert torch.equal(flat(train(seed=1)[0]), flat(train(seed=1)[0]))
    assert not torch.equal(flat(train(seed=1)[0]), flat(train(seed=2)[0]))


def test_torchs_own_random_state_does_not_matter():
    torch.manual_seed(1)
    first = flat(train()[0])
    torch.manual_seed(2)
    assert torch.equal(first, flat(train()[0]))


def test_equals_a_loop_written_by_hand():
    """Two epochs of plain SGD, batches of 16, 16, 16 and 2, gradients through a hand-written softmax regression."""
    net, history = train(model="mlp(hidden=[])", policy="none", optimizer="sgd(lr=0.5)", seed=3)
    start = build(parse_model("mlp(hidden=[])"), SPLIT.inputs, CLASSES, seed=3)
    weight, bias = (parameter.detach().double().numpy() for parameter in start.parameters())
    inputs, labels = PIXELS.flatten(1).numpy() / 255.0, LABELS.numpy()
    for epoch in range(2):
        order, total = randomness.permutation(COUNT, 3, Use.ORDER, epoch), 0.0
        for first in range(0, COUNT, 16):
            rows = order[first : first + 16]
            scores = np.exp(inputs[rows] @ weight.T + bias)
            probabilities = scores / scores.sum(1, keepdims=True)
            total -= np.log(probabilities[np.arange(len(rows)), labels[rows]]).sum()
            slope = (probabilities - np.eye(CLASSES)[labels[rows]]) / len(rows)
            weight, bias = weight - 0.5 * slope.T @ inputs[rows], bias - 0.5 * slope.sum(0)
        assert history[epoch].train_loss == pytest.approx(total / COUNT, rel=1e-5)
    np.testing.assert_allclose(flat(net).numpy(), np.concatenate([weight.ravel(), bias]), rtol=1e-4, atol=1e-6)


def test_the_model_is_shown_the_rows_in_the_views_that_the_objective_is_told(tmp_path):
    """Pixels caught on their way into the model, against the policy applied to what the objective hears."""
    net = build(parse_model("mlp(hidden=[5])"), SPLIT.inputs, CLASSES)
    policy, shown = Policy.parse("shift(1)", 4), []
    net.register_forward_pre_hook(lambda module, inputs: shown.append(inputs[0]) if module.training else None)

    def objective(logits, batch, progress, features):
        assert set(batch.views.tolist()) == {0, 1, 2}
        assert torch.equal(shown[-1], policy.apply(PIXELS[batch.rows], batch.rows.numpy(), batch.views.numpy()))
        return losses.cross_entropy(logits, LABELS[batch.rows])

    state = State(tmp_path, [{}])
    fit(net, examples("shift(1)", 3), objective, recipe(batch_size=25), VALIDATION, seed=0, name="t", state=state)


def test_the_objective_is_told_how_far_the_training_is(tmp_path):
    """Epochs from 1, and the share of the steps before each; a loss is a mean over all views that were shown."""
    told, seen = [], []

    def objective(logits, batch, progress, features):
        told.append(tuple(progress))
        values = losses.cross_entropy(logits, LABELS[batch.rows])
        seen.append(values.detach())
        return values

    net, made = build(parse_model("mlp(hidden=[5])"), SPLIT.inputs, CLASSES), replace(examples("shift(1)", 3), draws=2)
    state, how = State(tmp_path, [{}]), recipe(batch_size=25, epochs=3)
    [fitted] = fit(net, made, objective, how, VALIDATION, seed=0, name="t", state=state)
    assert told == [(1, 0), (1, 1 / 6), (2, 2 / 6), (2, 3 / 6), (3, 4 / 6), (3, 5 / 6)]
    assert [len(each) for each in seen] == [50] * 6
    assert fitted.history[0].train_loss == pytest.approx(float(torch.cat(seen[:2]).mean()), rel=1e-12)


def test_max_norm_bounds_every_unit():
    free, bounded = (train(max_norm=bound, model="mlp(hidden=[5])")[0] for bound in (None, 0.3))
    norms = [parameter.detach().norm(dim=1) for parameter in bounded.parameters() if parameter.dim() > 1]
    assert max(float(norm.max()) for norm in norms) <= 0.3 + 1e-6
    assert max(float(parameter.detach().norm(dim=1).max()) for parameter in free.parameters() if parameter.dim() > 1) > 0.3


def test_max_norm_bounds_convolutions_in_any_memory_layout():
    net = build(parse_model("cnn(channels=[6])"), Images("RGB", (3, 8, 8)), 2).to(memory_format=torch.channels_last)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(50)
    before = [parameter.clone() for parameter in net.parameters()]
    recipe = Recipe.parse(optimizer="sgd(lr=0.1)", schedule="constant", epochs=1, batch_size=8, max_norm=1.5)
    holder = SimpleNamespace(model=net, recipe=recipe)
    _Training._limit_norms(holder)
    for parameter, old in zip(net.parameters(), before, strict=True):
        expected = torch.renorm(old, p=2, dim=0, maxnorm=1.5) if old.dim() > 1 else old
        torch.testing.assert_close(parameter.detach(), expected)


# ---------------------------------------------------------------- clipped gradients, averaged weights


def test_gradients_are_clipped_as_torch_does_net_by_net():
    """In a stack, whose nets have norms below and above the limit; and the same of each net alone."""
    nets, limit = [build(parse_model("cnn(channels=[3])"), SPLIT.inputs, CLASSES, seed=seed) for seed in range(3)], 5.0
    stack, numbers = Stack(nets), torch.Generator().manual_seed(1)
    for column in stack.stacked:
        sizes = torch.tensor([0.1, 3.0, 40.0]).view(-1, *[1] * (column.dim() - 1))
        column.grad = torch.randn(column.shape, generator=numbers) * sizes
    given = [column.grad.clone() for column in stack.stacked]
    _Training._clip_gradients(SimpleNamespace(model=stack, learner=stack), limit)
    for place, net in enumerate(nets):
        for clip in (torch.nn.utils.clip_grad_norm_, lambda held, limit, net=net: _clipped(net, limit)):
            for parameter, gradient in zip(net.parameters(), given, strict=True):
                parameter.grad = gradient[place].clone()
            clip(net.parameters(), limit)
            for column, parameter in zip(stack.stacked, net.parameters(), strict=True):
                torch.testing.assert_close(column.grad[place], parameter.grad)
    norms = [torch.cat([column.grad[place].flatten() for column in stack.stacked]).norm().item() for place in range(3)]
    assert norms[0] < 4
    assert norms[1:] == pytest.approx([limit, limit], rel=1e-5)


def _clipped(net: torch.nn.Module, limit: float) -> None:
    _Training._clip_gradients(SimpleNamespace(model=net, learner=net), limit)


def test_a_clipped_training_takes_shorter_steps():
    """At plain SGD with a learning rate of 1, no epoch of four steps moves the weights by more than four limits."""
    start = flat(build(parse_model("mlp(hidden=[5])"), SPLIT.inputs, CLASSES))
    settings = {"model": "mlp(hidden=[5])", "optimizer": "sgd(lr=1)", "epochs": 1}
    moved = [float((flat(train(clip_grad=limit, **settings)[0]) - start).norm()) for limit in (None, 0.01)]
    assert moved[1] <= 0.04 + 1e-6 < moved[0]


@pytest.mark.parametrize("keep", ["last", "best"])
def test_averaged_weights_are_those_of_torch(keep):
    """What torch's AveragedModel makes of the weights after every step, and of a norm's statistics."""
    settings = {"model": "resnet(depth=8)", "epochs": 3, "optimizer": "sgd(lr=0.02)"}
    states = []

    def note(module, inputs):  # before every step, and so after the one before
        if module.training:
            states.append(copy.deepcopy(module.state_dict()))

    with pytest.MonkeyPatch.context() as patch:
        real = _Training.learn
        patch.setattr(_Training, "learn", lambda self, *given: noted(self.model, note, real, self, *given))
        plain, history = train(**settings)
    states = [*states[1:], plain.state_dict()]
    assert len(states) == 12
    found, averaged = train(**settings, ema=0.6, keep=keep)
    net = build(parse_model("resnet(depth=8)"), SPLIT.inputs, CLASSES)
    reference = torch.optim.swa_utils.AveragedModel(
        net, use_buffers=True, avg_fn=lambda old, new, n: old + (1 - min(0.6, (1 + int(n)) / (10 + int(n)))) * (new - old)
    )
    reference.update_parameters(net)  # the first is copied
    each = []
    for step, state in enumerate(states, 1):
        net.load_state_dict(state)
        reference.update_parameters(net)
        if step % 4 == 0:
            each.append((copy.deepcopy(reference.module), VALIDATION.measure(reference.module.eval())[0]))
    assert [one.train_loss for one in averaged] == [one.train_loss for one in history]  # the steps are those without averages
    assert [one.valid_nll for one in averaged] == pytest.approx([measured.valid_nll for _, measured in each], rel=1e-4)
    best = min(range(3), key=lambda epoch: each[epoch][1].valid_nll) if keep == "best" else 2
    for name, tensor in found.state_dict().items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor, each[best][0].state_dict()[name], rtol=1e-4, atol=1e-5)
        else:
            assert tensor == 4 * (best + 1)  # batches that the norm has seen
    assert (flat(found) - flat(plain)).abs().max() > 1e-3


def noted(model, note, real, *given):
    """Call `real`, with a hook on the model."""
    hook = model.register_forward_pre_hook(note)
    try:
        return real(*given)
    finally:
        hook.remove()


def test_history_has_a_row_per_epoch():
    _, history = train(epochs=3, schedule="cosine")
    assert [each.epoch for each in history] == [1, 2, 3]
    assert list(history[0].to_dict()) == ["epoch", "lr", "train_loss", "valid_accuracy", "valid_nll"]
    assert history[0].lr == pytest.approx(0.5 * (1 + math.cos(math.pi * 3 / 12)) / 2)


def test_training_learns():
    _, history = train(epochs=40, policy="none", model="mlp(hidden=[30])", optimizer="sgd(lr=0.2, momentum=0.9)")
    assert history[-1].train_loss < 0.5 * history[0].train_loss


def test_a_loss_that_is_not_finite_stops_at_once():
    [fitted] = trained(optimizer="sgd(lr=1e30)", model="mlp(hidden=[5, 5])", epochs=5)[1]
    assert (fitted.history, fitted.diverged) == ([], 1)


# ---------------------------------------------------------------- several ranks


def refused_by_ranks(model: str, how: Recipe, count: int, folder: Path) -> str:
    """What the second of so many ranks says; nothing is asked of the others before."""
    net, made = build(parse_model(model), SPLIT.inputs, CLASSES), replace(examples("none", None), ranks=Ranks(1, count))
    objective = lambda z, batch, progress, features: losses.cross_entropy(z, LABELS[batch.rows])  # noqa: E731
    with pytest.raises(InputError) as caught:
        fit(net, made, objective, how, VALIDATION, seed=0, name="t", state=State(folder, [{}]))
    return str(caught.value)


def test_ranks_on_a_cpu_share_no_statistics_of_a_batch(tmp_path):
    message = refused_by_ranks("wide_resnet(depth=10, width=1)", recipe(), 2, tmp_path)
    assert message.startswith("model under torchrun: expected a net without statistics of a batch")
    assert message.endswith("Train it without torchrun.")


def test_each_rank_has_a_row_in_a_step(tmp_path):
    message = refused_by_ranks("mlp(hidden=[5])", recipe(batch_size=4), 5, tmp_path)
    assert message == (
        "batch_size: expected 5 rows a step or more, one for each rank, found 4. Choose another, or start fewer ranks."
    )
