"""A net's forward pass, written out: it runs without the net's code, and gives the same."""

import os

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from pipeline.base.errors import InputError
from pipeline.models.program import Program


class Odd(nn.Module):
    """Many kinds of operation: a constant, a buffer that is not stored, attention, numbers made on the way, a dead end."""

    def __init__(self):
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.attention, self.logits = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 5)
        self.register_buffer("scale", torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1), persistent=False)

    def forward(self, pixels):
        values = pixels.float() / 255 * self.scale - torch.tensor([0.5, 0.4, 0.3]).view(1, 3, 1, 1)
        tokens = torch.relu(self.norm(self.convolution(values))).flatten(2).transpose(1, 2)
        tokens = tokens + torch.arange(tokens.shape[1]).float()[None, :, None] / 100
        with torch.no_grad():
            mean = tokens.mean(1)
        torch.full((pixels.shape[0], 1), float("-inf"))
        mixed, _ = self.attention(tokens, tokens, tokens, need_weights=False)
        return self.logits(nn.functional.dropout(mixed.mean(1) + mean, 0.5, self.training))


def pixels(rows: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(rows).integers(0, 256, (rows, 3, 4, 4), dtype=np.uint8))


@pytest.fixture(scope="module")
def net() -> nn.Module:
    torch.manual_seed(0)
    net = Odd()
    net(pixels(8))  # moves the means of the norm
    return net.eval()


@pytest.fixture(scope="module")
def program(net) -> Program:
    return Program.of(net, pixels(2), "odd")


@pytest.mark.parametrize("rows", [1, 2, 7])
@torch.no_grad()
def test_it_gives_the_same_for_any_number_of_rows(net, program, rows):
    torch.testing.assert_close(program.module("odd")(pixels(rows)), net(pixels(rows)), rtol=1e-5, atol=1e-6)


def test_weights_keep_their_names_and_bits(net, program):
    made = program.module("odd")
    assert dict(made.named_parameters()).keys() == dict(net.named_parameters()).keys()
    for name, tensor in net.state_dict().items():
        assert torch.equal(made.state_dict()[name], tensor)
    assert made.state_dict().keys() - net.state_dict().keys() == {"scale", "lifted_tensor_0"}


def test_it_learns_like_the_net(net, program):
    """Its weights are parameters: gradients are those of the net."""
    made = program.module("odd")
    for each in (net, made):
        each.zero_grad()
        each(pixels(3)).square().sum().backward()
    torch.testing.assert_close(made.logits.weight.grad, net.logits.weight.grad, rtol=1e-4, atol=1e-5)


def test_the_text_is_plain_python(program):
    text = program.source("odd")
    assert "import torch\n" in text
    assert "pipeline" not in text
    assert "_assert" not in text
    assert "full" not in text  # nothing used it
    assert text.count("torch.ops.aten.conv2d.default") == 1
    assert "device = _device" in text


class Branch(nn.Module):
    def __init__(self, how):
        super().__init__()
        self.layer, self.how = nn.Linear(4, 2), how

    def forward(self, values):
        return self.how(self, values)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (lambda net, values: net.layer(values) if values.sum() > 0 else values[:, :2], "a net that torch.export can trace"),
        (lambda net, values: net.layer(values).view(len(values), 2), "a net that torch.export can trace"),
        (
            lambda net, values: torch.cond(values.sum() > 0, lambda v: v[:, :2] + 0, lambda v: v[:, 2:] + 0, (values,)),
            "a net of plain operations",
        ),
    ],
    ids=["a branch", "two rows only", "a branch of torch's"],
)
def test_what_cannot_be_written_out_is_refused(how, message):
    with pytest.raises(InputError, match=f"odd: expected {message}"):
        Program.of(Branch(how).eval(), torch.ones(2, 4), "odd")


class Tied(nn.Module):
    """Two layers of one weight, and a part of it as a buffer."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.register_buffer("row", self.first.weight.detach()[1])

    def forward(self, values):
        return self.second(torch.relu(self.first(values))) + self.row


@torch.no_grad()
def test_tied_weights_are_written_as_often_as_they_are_named():
    torch.manual_seed(0)
    net, values = Tied().eval(), torch.rand(5, 4)
    traced = Program.of(net, values, "tied")
    torch.testing.assert_close(traced.module("tied")(values), net(values))
    stored = safetensors.torch.load(traced.weights())
    assert torch.equal(stored["second.weight"], net.first.weight)


def test_tracing_is_not_heard(capfd):
    class Talking(nn.Linear):
        def forward(self, values):
            os.write(2, b"from C++")
            return super().forward(values)

    Program.of(Talking(4, 2).eval(), torch.rand(2, 4), "talking")
    assert capfd.readouterr() == ("", "")


def test_a_message_ends_in_one_full_stop():
    class Failing(nn.Module):
        def forward(self, values):
            raise ValueError("It does not go.")

    with pytest.raises(InputError, match=r"found ValueError: It does not go\. Write it in operations"):
        Program.of(Failing().eval(), torch.rand(2, 4), "failing")
