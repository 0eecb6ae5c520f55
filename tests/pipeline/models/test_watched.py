"""Watched nets: what they give is what the layers give, by hooks of torch and by hand; the head is found where there is one."""

import pytest
import torch
from torch import nn

from pipeline.base.errors import InputError
from pipeline.data.inputs.array import Arrays
from pipeline.data.inputs.image import Images
from pipeline.models.build import build, parse_model
from pipeline.models.encoding import example
from pipeline.models.modelfile import Outputs
from pipeline.models.outputs import Mapped
from pipeline.models.scaled import Scaled
from pipeline.models.watched import Feature, Watched, head_of, layers_of

COLOUR = Images("RGB", (3, 16, 16))
NETS = {
    "mlp(hidden=[7, 5])": ["layer1", "layer2"],
    "cnn(channels=[4, 6])": ["layer1", "layer2"],
    "resnet(depth=8)": ["layer1", "layer2", "layer3"],
    "wide_resnet(depth=10, width=1)": ["layer1", "layer2", "layer3"],
}


def made(text: str) -> nn.Module:
    return build(parse_model(text), COLOUR, 4, seed=1).eval()


@pytest.mark.parametrize("text", NETS)
def test_layers_heads_and_logits_of_built_in_nets(text):
    net, shown = made(text), example(None, COLOUR, 3)
    assert [name for name in layers_of(net) if name.startswith("layer")][: len(NETS[text])] == NETS[text]
    head = head_of(net, COLOUR)
    found = Watched(net, [Feature(name) for name in NETS[text]], head.name)(shown)
    assert torch.equal(found[0], net(shown))
    torch.testing.assert_close(found[1] @ head.weight.T + head.bias, found[0], rtol=1e-5, atol=1e-6)
    assert [tuple(each.shape[1:]) for each in found] == Watched(net, [Feature(name) for name in NETS[text]], head.name).shapes(
        shown
    )
    rest = found[-1]  # what comes after the last layer leads from its output to the logits
    started = False
    for module in net:
        rest = module(rest) if started else rest
        started = started or module is layers_of(net)[NETS[text][-1]]
    torch.testing.assert_close(rest, found[0])
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


def test_steps_by_hand():
    output = torch.tensor([[[[1.0, -2.0], [3.0, 0.0]], [[0.0, 4.0], [1.0, 1.0]]]])
    assert Feature.parse("a|pool").of(output).tolist() == [[0.5, 1.5]]
    assert Feature.parse(" a | attention ").of(output).tolist() == [[[0.5, 10.0], [5.0, 0.5]]]
    assert Feature.parse("a | pool").of(output[0]).tolist() == [[2.0, -1.0], [0.5, 2.5]]  # positions of a text
    assert Feature.parse("a").of((output, None)) is output
    assert Feature.parse("a").of({"last": output}) is output


@pytest.mark.parametrize("text", ["", "a b", "a | mean", "a |", "| pool", "../a", "a | pool | pool", "a..b"])
def test_what_is_no_feature_is_refused(text):
    with pytest.raises(InputError, match="feature: expected a layer, or one with a step"):
        Feature.parse(text)


def test_canonical_text():
    assert [Feature.parse(text).text for text in ("layer3|pool", "encoder.layer.3")] == ["layer3 | pool", "encoder.layer.3"]


def test_layers_that_are_not_there_and_outputs_that_do_not_fit():
    net, shown = made("cnn(channels=[4, 6])"), example(None, COLOUR, 2)
    with pytest.raises(InputError, match="feature layer9: expected one of the layers layer1, layer2, 0, 1.*found layer9"):
        Watched(net, [Feature("layer9")])
    with pytest.raises(InputError, match=r"feature 8 \| pool: expected an output with 3 axes or more, found .*\(2, 4\)"):
        Watched(net, [Feature("8", "pool")])(shown)
    with pytest.raises(InputError, match="feature 3.spare: expected a layer that the net runs"):
        Watched(net[:3].append(Unused()), [Feature("3.spare")])(shown)


class Unused(nn.Module):
    def __init__(self):
        super().__init__()
        self.spare = nn.Linear(2, 2)

    def forward(self, values):
        return values


def test_what_only_wraps_a_net_is_left_out_of_the_names():
    inner = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    wrapped = Mapped(Scaled(inner, 3, [0.5], [0.5], None), Outputs(3, ((2,), (0,))))
    assert list(layers_of(wrapped)) == ["0", "1"]
    inputs = Arrays("float32", (3, 2, 2))
    shown = example(None, inputs, 4)
    logits, flat = Watched(wrapped, [Feature("0")])(shown)
    assert torch.equal(flat, shown.flatten(1))
    head = head_of(wrapped, inputs)
    torch.testing.assert_close(shown.flatten(1) @ head.weight.T + head.bias, logits)


class Branching(nn.Module):
    """Of two linear layers of the same size the second makes the logits; or none does."""

    def __init__(self, last: bool):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(12, 3), nn.Linear(3, 3, bias=False), last

    def forward(self, values):
        found = self.second(self.first(values.flatten(1)))
        return found if self.last else found * 2


def test_heads_that_are_none():
    inputs = Arrays("float32", (3, 2, 2))
    found = head_of(Branching(True), inputs)
    assert (found.name, found.bias.tolist()) == ("second", [0, 0, 0])
    assert head_of(Branching(False), inputs) is None
    linear = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    assert head_of(Mapped(linear, Outputs(3, ((0, 1), (2,)))), inputs) is None  # the logit of a sum of probabilities
    twice = nn.Linear(12, 12)
    assert head_of(nn.Sequential(nn.Flatten(), twice, twice), inputs) is None  # the same layer before itself


class InPlace(nn.Module):
    """Later layers change what a layer gave; the head is called with its input by name."""

    def __init__(self):
        super().__init__()
        self.first, self.bent, self.last = nn.Linear(12, 6), nn.ReLU(inplace=True), nn.Linear(6, 3)

    def forward(self, values):
        return self.last(input=self.bent(self.first(values.flatten(1))))


def test_a_feature_is_what_its_layer_gave_whatever_later_layers_do_to_it():
    net, shown = InPlace(), example(None, Arrays("float32", (3, 2, 2)), 4)
    nn.init.constant_(net.first.weight[:3], -0.5)
    logits, hidden, first = Watched(net, [Feature("first")], "last")(shown)
    wanted = shown.flatten(1) @ net.first.weight.T + net.first.bias
    assert (wanted < 0).any()
    torch.testing.assert_close(first, wanted)
    torch.testing.assert_close(hidden, wanted.clamp(min=0))
    torch.testing.assert_close(logits, wanted.clamp(min=0) @ net.last.weight.T + net.last.bias)


def test_a_layer_whose_first_axis_is_not_the_rows_is_refused():
    net = nn.Sequential(nn.Flatten(), nn.Unflatten(1, (3, 4)), Turned(), nn.Flatten(0, 1))
    with pytest.raises(
        InputError, match=r"feature 2: expected an output whose first axis is the 5 rows .*, found .*\(3, 5, 4\)"
    ):
        Watched(net, [Feature("2")])(example(None, Arrays("float32", (3, 2, 2)), 5))


class Turned(nn.Module):
    def forward(self, values):
        return values.transpose(0, 1)
