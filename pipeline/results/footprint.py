"""The footprint: how large and how fast each architecture is, as one file. It is measured in measurement.py."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from pipeline.base import commands, facts, files
from pipeline.base.places import Place, artifact

FORMAT = 2  # of the file; it goes up where a figure means something else, too
FILE_NAME = "footprint.json"

Key = tuple[str, tuple[int, ...], int]  # what two nets of one architecture share: model, shape, classes


@dataclass(frozen=True)
class Entry:
    """An architecture, whatever its weights.

    model, shape: as model.json has them, `shape` being that of a row of inputs. parameters: None where they are not known.
    multiply_adds: of a forward pass of one row, of a text of usual length; see operations.py. None where they cannot be
    counted. size_bytes: of the file of weights of one net; None for a teacher that is a table of logits. seconds: by the rows
    of a batch, "1" and "64", the median time on one thread of a CPU. It lacks what could not be measured, or would have taken
    too long, and is empty for a table of logits. basis: a digest of what else decides these figures; see measurement.py.
    """

    model: str
    shape: tuple[int, ...]
    classes: int
    parameters: int | None
    multiply_adds: int | None
    size_bytes: int | None
    seconds: Mapping[str, float]
    basis: str

    @property
    def key(self) -> Key:
        """What it is found by."""
        return self.model, self.shape, self.classes


@dataclass(frozen=True)
class Footprint:
    """The content of footprint.json. machine: the processor, and the version of torch."""

    version: int
    machine: str
    entries: tuple[Entry, ...]

    @classmethod
    def open(cls, folder: Place) -> "Footprint":
        """Read the file in a folder. Raises InputError where there is none, IntegrityError where it is damaged."""
        fix = f"Run {commands.footprint(folder)}."
        found, _ = facts.read(cls, files.current(folder) / FILE_NAME, fix, FORMAT)
        return found

    def write(self, folder: Place) -> None:
        """Write the file into a folder."""
        files.write(folder / FILE_NAME, facts.sealed(asdict(self)))

    def of(self, model: str, shape: Sequence[int], classes: int) -> Entry | None:
        """The entry of an architecture; None where it was not measured."""
        return next((entry for entry in self.entries if entry.key == (model, tuple(shape), classes)), None)


def beside(plots: Place) -> Place:
    """The folder of the footprint in the data folder that these tables are of; those of a sweep lie deeper in it."""
    folder = artifact(plots.parent)
    return (folder.parent.parent if folder.parent.name == "sweeps" else folder) / "footprint"
