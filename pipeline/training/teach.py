"""Teach: train one teacher on the training split's labels."""

import torch

from pipeline.base import files, ranks, runtime
from pipeline.base.errors import InputError
from pipeline.base.places import Place
from pipeline.base.spec import witnesses
from pipeline.data.splits import Split, open_splits
from pipeline.data.views import Policy
from pipeline.models import elsewhere
from pipeline.models.build import build, parse_model, placed
from pipeline.models.checkpoint import Checkpoint
from pipeline.models.encoding import example
from pipeline.models.modelfile import Data, Net, Shown
from pipeline.models.predict import predict
from pipeline.models.rows import Rows
from pipeline.models.transformers import Probe, probe_of
from pipeline.training.examples import Examples
from pipeline.training.fit import Epoch, Validation, fit, identity, synced
from pipeline.training.inputs import Computed, inputs_of
from pipeline.training.objective import HARD, Objective
from pipeline.training.recipe import Recipe
from pipeline.training.resume import Kept
from pipeline.training.signal import NoTeacher

TILE = 32  # rows that a frozen encoder is run on at a time: texts of a tile are as long as its longest one


def teach(
    *,
    model: str,
    recipe: Recipe,
    policy: str,
    seed: int,
    splits: Place,
    work: Place,
    out: Place,
    device: torch.device,
) -> Epoch:
    """Train a teacher on the labels of the training split, and write it to a folder, whose name is the teacher's.

    The folder gets model.safetensors, model.json and history.parquet. A training that was killed goes on from what it kept
    in `work`, and ends with the same bits.

    Args:
        model: A model spec, such as `mlp(hidden=[1200, 1200])`; see models.build.parse_model.
        recipe: Optimizer, schedule, epochs, batch size and so on.
        policy: How to augment, such as `shift(2) | flip()`: every epoch shows each row in a new view. `none` for no
            augmentation.
        seed: Decides initial weights, order of rows, augmentation and dropout.
        splits: The folder that ingest wrote.
        work: The folder where unfinished trainings are kept.
        out: The folder to write; it is replaced as a whole.
        device: Where to train; see base.runtime.prepare.

    Returns:
        The epoch whose weights the teacher has.

    Raises:
        InputError: For bad settings, and for a training that diverges.
        BusyError: Where another process trains the same teacher, or replaces the splits meanwhile.
    """
    train, valid = open_splits(splits, ("train", "valid")).values()
    if recipe.selects:
        valid.require_unfolded("keep: best")
    spec = parse_model(model)
    net = synced(placed(build(spec, train.inputs, len(train.classes), seed=seed), device))
    seen = Policy.parse(policy, seed)
    seen.require_kind(train.inputs.kind)
    learner, inputs = net, inputs_of(train, seen, net)
    validation = Validation.of(valid, device, recipe.memory_bytes).of_net(net)
    if (probe := probe_of(net)) is not None:
        _require_untouched(out.name, seen)
        learner, inputs = probe.head, Computed(train, _outputs(net, probe, train, recipe.memory_bytes, device))
        validation = Validation(_outputs(net, probe, valid, recipe.memory_bytes, device), valid.labels())
    settings = recipe.settings
    examples = Examples(inputs, seen, None, NoTeacher(), recipe.memory_bytes, device, draws=settings.draws)
    labels = torch.from_numpy(train.labels()).to(device)
    objective = Objective.of([HARD], labels, smoothing=settings.label_smoothing, virtual=recipe.virtual)
    files_read = elsewhere.witnesses_of(spec)
    own = {"views": seen.to_dict()} | ({"files": [each.digest for each in files_read]} if files_read else {})
    member = identity(spec, recipe, seed, own, train, valid, device)
    read = [train.witness, *files_read, *witnesses(spec, *recipe.specs, *seen.steps)]
    with Kept.hold(work, out, [member]) as kept, ranks.only_first(files.replaced_folder(out, read=read)) as folder:
        [fitted] = fit(
            learner, examples, objective, recipe, validation, seed=seed, name=f"teacher {out.name}", state=kept.state([member])
        )
        if fitted.diverged:
            what, found = f"training of teacher {out.name}, epoch {fitted.diverged}", "infinite or NaN ones: it diverged"
            raise InputError(what, expected="a finite loss and finite logits", found=found, fix="Lower the learning rate.")
        kept_epoch = fitted.kept(recipe)
        if folder is None:
            return kept_epoch
        taught = Net(seed, None, kept_epoch.epoch, chance=validation.at_chance(kept_epoch, f"teacher {out.name}"))
        Checkpoint.write(
            folder, kind="teacher", name=out.name, model=spec, split=train, data=Data.of(train, valid), nets={taught: net},
            history=[{"seed": seed, **epoch.to_dict()} for epoch in fitted.history], recipe=recipe.recorded,
            views=Shown(seen.text, seen.seed, seen.behaviours, None),
        )  # fmt: skip
    return kept_epoch


def _outputs(net: torch.nn.Module, probe: Probe, split: Split, memory_bytes: int, device: torch.device) -> torch.Tensor:
    """What the frozen encoder of a net makes of every row of a split: (N, width) float32, on the CPU.

    Raises InputError where they do not fit in the memory for training.
    """
    head, probe.head = probe.head, torch.nn.Identity()
    try:
        width = int(net(example(net, split.inputs)).shape[1])
        if (size := 4 * width * split.rows) > memory_bytes:
            expected = f"at least {size / 1e9:.3g} GB, for the outputs of the encoder"
            found = f"{memory_bytes / 1e9:g} GB"
            raise InputError("memory", expected=expected, found=found, fix="Raise the setting `memory`.")
        outputs, done = torch.empty(split.rows, width), 0
        pieces = Rows(split, device, 0, net).split(TILE)
        for held in runtime.counting(pieces, f"encoding {split.path.stem}", len, total=split.rows):
            outputs[done : done + len(held)] = torch.from_numpy(predict(net, held, tile=TILE))
            done += len(held)
        return outputs
    finally:
        probe.head = head


def _require_untouched(name: str, policy: Policy) -> None:
    """Raise InputError for views, where the outputs of a frozen encoder are computed once."""
    if policy.augments:
        what, expected = f"teacher {name}, policy", "none, because its encoder is frozen and sees every row once"
        raise InputError(what, expected=expected, found=policy.text, fix="Set `policy: none` for it.")
