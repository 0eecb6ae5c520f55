"""Events: what an evaluation measured, as event files for TensorBoard: curves of every net, and rows of its HPARAMS tab."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from pipeline.base import files
from pipeline.base.errors import InputError
from pipeline.base.libraries import needed
from pipeline.base.places import Place
from pipeline.results.run import SPLITS
from pipeline.results.tables import EpochRow, RunRow, Tables

_MARK = ".tfevents."  # in the name of every event file
_SETTINGS = {
    "kind": "",
    "student": "",
    "temperature": 1.0,
    "alpha": 1.0,
    "parameters": 1,
}  # of RunRow; the tab shows five
_METRICS = {f"final/{split}_{metric}": (split, metric) for split in SPLITS for metric in ("accuracy", "nll")}


def write_events(plots: Mapping[str, Place], out: Path) -> None:
    """Write a folder that `tensorboard --logdir` shows.

    Each net has a folder <run>/seed-<seed>, a teacher <run>. It has train/loss, valid/accuracy and valid/nll by epoch, final
    figures on both splits, and its settings for the HPARAMS tab. Of a net that diverged there are curves alone.

    Args:
        plots: Folders of tables by name; the nets of one with a name lie in a folder of that name.
        out: The folder to write, which is replaced.

    Raises:
        InputError: tensorboard is not installed, `out` holds anything but event files, or a folder has no tables.
        IntegrityError: The tables are damaged.
    """
    needed("tensorboard", "event files")
    from torch.utils.tensorboard import SummaryWriter
    from torch.utils.tensorboard.summary import hparams

    _require_events(out)
    opened = {name: Tables.open(folder) for name, folder in plots.items()}
    nets = [(name, net) for name, tables in opened.items() for net in _nets(tables)]
    with files.replaced_folder(out) as folder:
        with SummaryWriter(folder) as writer:  # the columns of the tab, once: a teacher has fewer settings than a student
            writer.file_writer.add_summary(hparams(_SETTINGS, dict.fromkeys(_METRICS, 0.0))[0])
        for name, (run, seed, epochs, rows) in nets:
            parts = [part for part in (name, run, "" if seed is None else f"seed-{seed}") if part]
            with SummaryWriter(folder.joinpath(*map(_component, parts))) as writer:
                for row in epochs:
                    for tag, value in (
                        ("train/loss", row.train_loss), ("valid/accuracy", row.valid_accuracy), ("valid/nll", row.valid_nll),
                    ):  # fmt: skip
                        writer.add_scalar(tag, value, row.epoch)
                figures = {tag: getattr(rows[split], metric) for tag, (split, metric) in _METRICS.items() if split in rows}
                if not figures:
                    continue
                given = {name: value for name in _SETTINGS if (value := getattr(rows["test"], name)) is not None}
                for session in hparams(given, figures)[1:]:
                    writer.file_writer.add_summary(session)
                for tag, value in figures.items():
                    writer.add_scalar(tag, value, epochs[-1].epoch if epochs else 0)


def _nets(tables: Tables) -> Iterable[tuple[str, int | None, Sequence[EpochRow], Mapping[str, RunRow]]]:
    """Each net: run, seed, its epochs in their order, and by split what was measured of it unless it diverged."""
    epochs: dict[tuple[str, int | None], list[EpochRow]] = {}
    measured: dict[tuple[str, int | None], dict[str, RunRow]] = {}
    for row in tables.read(RunRow):
        found = measured.setdefault((row.run, row.seed), {})
        if row.diverged is None:
            found[row.split] = row
    for epoch in tables.read(EpochRow):
        epochs.setdefault((epoch.run, epoch.seed), []).append(epoch)
    for run, seed in dict.fromkeys((*measured, *epochs)):
        yield run, seed, epochs.get((run, seed), []), measured.get((run, seed), {})


def _component(name: str) -> str:
    """A name as one part of a path, whatever it is; names of runs are so as they are."""
    text = quote(name, safe="")[:200]
    return text if not text.startswith(".") else f"%2E{text[1:]}"


def _require_events(out: Path) -> None:
    """Raise InputError if the folder to replace has no name, or holds anything but event files."""
    held = sorted(path for path in out.rglob("*") if not path.is_dir()) if out.is_dir() else []
    others = [path.name for path in held if _MARK not in path.name or path.is_symlink()]
    if others or not out.name or (out.exists() and not out.is_dir()):
        found = ", ".join(others[:3]) or ("a file" if out.name else "no name")
        fix = "Name a folder for the event files."
        raise InputError(str(out), expected="event files, or nothing", found=found, fix=fix)
