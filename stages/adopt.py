"""softcache adopt: take a teacher that was trained elsewhere, or its logits, or a student."""

from collections.abc import Mapping
from math import isnan
from pathlib import Path

import click
from click.core import ParameterSource

from pipeline.base.places import Place
from pipeline.data.settings import Views
from stages.options import (
    ClassMap,
    Name,
    Stage,
    Text,
    Whole,
    counted,
    data_option,
    example,
    keys,
    machine_options,
    option,
    options_of,
    params_option,
)
from stages.teach import KEYS
from stages.terminal import echo

MODEL_HELP = (
    "timm('…') or torchvision('…') by name; transformers('folder'); onnx('file'); a built-in; or package.module:attribute(…)."
)


@click.command(
    cls=Stage,
    short_help="Take a teacher that was trained elsewhere, or a student.",
    epilog=example("softcache adopt vit --model \"timm('vit_tiny_patch16_224')\" --weights vit.safetensors"),
    sections={"views": keys(Views), "teachers.{name}": KEYS},
    alone=("model", "logits", "student"),
)
@click.argument("name", type=Name())
@click.argument("more", nargs=-1, metavar="[FILE]...")
@option("--model", type=Text(), help=MODEL_HELP)
@option("--weights", type=Text(), help="Its weights: a safetensors file, or a state_dict.")
@option("--classes", type=ClassMap(), help="Which outputs each class is, such as `cat=281,dog=207+208`.")
@option("--logits", type=Text(), multiple=True, help="Instead of a model its logits: Parquet or .npz files, joined by id.")
@option("--student", type=Text(), help="Instead of a model a student: small-T4 or, of a sweep, alphas/small-T4-alpha0.5.")
@option("--seed", type=Whole(), help="Which of the student's nets.  [default: that of the lowest validation NLL]")
@options_of(Views, "views")
@params_option
@data_option
@machine_options
def command(
    name: str,
    more: tuple[str, ...],
    model: str | None,
    weights: str | None,
    classes: Mapping[str, object] | None,
    logits: tuple[str, ...],
    student: str | None,
    seed: int | None,
    views: Views,
    params: str | None,
    data: Place,
    device: str,
    threads: int | None,
) -> None:
    """Copy a trained teacher, NAME, to data/teachers/NAME/, after trying it on validation rows; or its logits, or a student.

    Nothing is trained and nothing is unpickled. A teacher that does not fit the data is refused: other classes (unless
    --classes says which output is which), other inputs, weights of another net, logits that are not finite.

    With --logits FILE... a teacher is what other programs have computed of it. The views say which views its logits are of.

    With --student RUN a student's net becomes the teacher of the next generation, and what it learned from is recorded.
    """
    from pipeline.base import runtime
    from pipeline.cache.adopt import adopt
    from pipeline.cache.imported import import_logits
    from pipeline.cache.promote import promote
    from pipeline.models.modelfile import descent

    out, splits = data / "teachers" / name, data / "transfer"
    if more and not logits:
        raise click.UsageError(f"{more[0]}: expected files after --logits only.")
    given = {"--logits": logits, "--student": student, "a model": model or weights or classes}
    if len(found := [what for what, value in given.items() if value]) > 1:
        expected = "--logits, --student, or a model with its weights and classes"
        raise click.UsageError(f"expected {expected}, found {' and '.join(found)}; an entry {name} in params.yaml counts.")
    ctx = click.get_current_context()
    if ctx.get_parameter_source("seed") is ParameterSource.COMMANDLINE and not student:
        raise click.UsageError("--seed: says which net of a --student is meant, and none is given.")
    if student:
        generations = promote(student=student, seed=seed, data=data, out=out)
        echo(f"wrote {out}: {descent(generations)}")
        return
    if logits:
        joined = import_logits(logits=[*logits, *more], splits=splits, views=views, out=out)
        ignored = f", {counted(joined.ignored, 'other row')} ignored" if joined.ignored else ""
        echo(f"wrote {out}: {counted(joined.rows, 'row')} of logits{ignored}")
        return
    if model is None:
        raise click.UsageError("Missing option '--model', or '--logits', or '--student'.")
    chosen = runtime.prepare(device, threads=threads)
    path = None if weights is None else Path(weights)
    done = adopt(model=model, weights=path, classes=classes, splits=splits, out=out, device=chosen)
    right = "" if isnan(done.accuracy) else f", right on {done.accuracy:.2%} of {counted(done.rows, 'validation row')}"
    echo(f"wrote {out}: {counted(done.parameters, 'parameter')}{right}")
