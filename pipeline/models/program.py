"""Program: the forward pass of a net in evaluation mode, as torch.export traces it, so that it runs without the net's own code.

It is written out as Python, an operation a line, for `load` of softcache_export.py; ONNX is made of the same program.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import safetensors.torch
import torch
from torch import nn

from pipeline.base import plugins
from pipeline.base.errors import InputError, lacks_memory
from pipeline.models.quiet import quiet
from softcache_export import assembled

if TYPE_CHECKING:
    from torch.export import ExportedProgram

_FIX = "Write it in operations of torch, for any number of rows (`x.shape[0]`, not `len(x)`), with no branch by values."
_CPU = "device(type='cpu')"
_HEAD = '''"""The forward pass of {name}, an operation a line. `load` of softcache_export.py gives it the weights."""

import torch
from math import inf, nan

PARAMETERS = [{parameters}]
BUFFERS = [{buffers}]


'''


@dataclass(frozen=True)
class Program:
    """The forward pass of a net: of inputs (n, *shape), for any n, to logits (n, classes).

    tensors: by the names that they have in the net; constants of its code are among them. Each has memory of its own, as a
    safetensors file wants it: weights that a net uses in two places are two.
    """

    exported: "ExportedProgram"
    tensors: Mapping[str, torch.Tensor]

    @classmethod
    def of(cls, net: nn.Module, inputs: torch.Tensor, name: str) -> "Program":
        """Trace a net.

        Args:
            net: In evaluation mode, on the CPU.
            inputs: Some rows that it takes, two or more, (n, *shape).
            name: What it is called in messages.

        Returns:
            Its program.

        Raises:
            InputError: It cannot be traced, or only for one number of rows.
        """
        try:
            with quiet(), torch.no_grad():  # else a block without gradients is a program of its own in the program
                exported = torch.export.export(net, (inputs,), dynamic_shapes=({0: torch.export.Dim("batch")},))
        except Exception as error:  # of many kinds, as the net's own code may raise
            if lacks_memory(error):
                raise
            raise InputError(
                name, expected="a net that torch.export can trace", found=plugins.reason(error).rstrip("."), fix=_FIX
            ) from error
        if parts := [node.target for node in exported.graph.nodes if node.op == "get_attr"]:
            found = f"branches, loops or autocast in its code ({parts[0]})"
            raise InputError(name, expected="a net of plain operations", found=found, fix=_FIX)
        held = {**exported.state_dict, **exported.constants}
        wanted = [spec.target for spec in exported.graph_signature.input_specs if spec.target is not None]
        return cls(exported, _apart({key: held[key].detach().cpu().contiguous() for key in wanted}))

    def weights(self) -> bytes:
        """All tensors as a safetensors file."""
        return safetensors.torch.save(dict(self.tensors))

    def source(self, name: str) -> str:
        """The text of net.py: the forward pass as a function of all tensors and the inputs."""
        from torch.export.graph_signature import InputKind

        specs = self.exported.graph_signature.input_specs
        trained = [spec.target for spec in specs if spec.kind is InputKind.PARAMETER]
        others = [spec.target for spec in specs if spec.kind in (InputKind.BUFFER, InputKind.CONSTANT_TENSOR)]
        head = _HEAD.format(name=name, parameters=_listed(trained), buffers=_listed(others))
        return head + self._forward()

    def _forward(self) -> str:
        graph = torch.fx.Graph()
        copies: dict[torch.fx.Node, torch.fx.Node] = {}
        for node in self.exported.graph.nodes:
            if node.op == "output":
                [logits] = node.args[0]
                graph.output(copies[logits])
            elif not re.match("_assert_|sym_constrain", node.name):  # they check what tracing took for granted
                copies[node] = graph.node_copy(node, copies.__getitem__)
        *_, inputs = (node for node in graph.nodes if node.op == "placeholder")
        inputs._rename("inputs")
        inputs.target = "inputs"
        graph.eliminate_dead_code()
        first, *lines = graph.python_code("").src.strip().splitlines()
        first = first.replace("forward(self, ", "forward(")
        if any(_CPU in line for line in lines):  # where the inputs are, all is: so the module can move to another device
            lines = ["    _device = inputs.device", *(line.replace(_CPU, "_device") for line in lines)]
        return "\n".join(line.rstrip() for line in (first, *lines)) + "\n"

    def module(self, name: str) -> nn.Module:
        """What `load` of an export makes of this program."""
        program: dict[str, Any] = {}
        exec(compile(self.source(name), "net.py", "exec"), program)
        return assembled(program, safetensors.torch.load(self.weights()))


def _apart(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors, those copied whose memory another one before them has."""
    found: dict[str, torch.Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        place = tensor.untyped_storage().data_ptr()
        found[name] = tensor.clone() if place in seen else tensor
        seen.add(place)
    return found


def _listed(names: list[str | None]) -> str:
    return "".join(f"\n    {name!r}," for name in names) + "\n" * bool(names)
