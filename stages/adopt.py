"""softcache adopt: take a teacher that was trained elsewhere."""

from collections.abc import Mapping
from math import isnan
from pathlib import Path

import click

from stages.options import (
    Name,
    Stage,
    Text,
    counted,
    data_option,
    example,
    machine_options,
    option,
    params_option,
)
from stages.teach import KEYS, from_elsewhere
from stages.terminal import echo

MODEL_HELP = (
    "timm('…') or torchvision('…') by name; transformers('folder'); onnx('file'); a built-in; or package.module:attribute(…)."
)


@click.command(
    cls=Stage,
    short_help="Take a teacher that was trained elsewhere.",
    epilog=example("softcache adopt vit --model \"timm('vit_tiny_patch16_224')\" --weights vit.safetensors"),
    sections={"teachers.{name}": KEYS},
)
@click.argument("name", type=Name())
@option("--model", type=Text(), required=True, help=MODEL_HELP)
@from_elsewhere(hidden=False)
@params_option
@data_option
@machine_options
def command(
    name: str,
    model: str,
    weights: str | None,
    classes: Mapping[str, object] | None,
    params: str | None,
    data: Path,
    device: str,
    threads: int | None,
) -> None:
    """Copy a trained teacher, NAME, to data/teachers/NAME/, after trying it on validation rows.

    Nothing is trained and nothing is unpickled. A teacher that does not fit the data is refused: other classes (unless
    --classes says which output is which), other inputs, weights of another net, logits that are not finite.
    """
    from pipeline.base import runtime
    from pipeline.cache.adopt import adopt

    out = data / "teachers" / name
    done = adopt(
        model=model,
        weights=None if weights is None else Path(weights),
        classes=classes,
        splits=data / "transfer",
        out=out,
        device=runtime.prepare(device, threads=threads),
    )
    right = "" if isnan(done.accuracy) else f", right on {done.accuracy:.2%} of {counted(done.rows, 'validation row')}"
    echo(f"wrote {out}: {counted(done.parameters, 'parameter')}{right}")
