"""Tabled: logits that were made elsewhere as the source of a cache; they are looked up."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.base import files
from pipeline.base.errors import InputError
from pipeline.cache.knowledge.head import Head
from pipeline.cache.knowledge.knowledge import Knowledge
from pipeline.cache.manifest import Part
from pipeline.cache.settings import Keep
from pipeline.cache.source import progress_of, publish
from pipeline.cache.writer import Work
from pipeline.data.splits import Split
from pipeline.models.lookup import Lookup


@dataclass
class Tabled:
    """A table of logits: a source.Source."""

    lookup: Lookup
    knowledge: Knowledge
    witnesses: list[files.Witness] = field(default_factory=list)

    @classmethod
    def of(cls, lookup: Lookup, keep: Keep, split: Split) -> "Tabled":
        """Logits are all there is of such a teacher; raises InputError where anything else is asked for."""
        if keep.knowledge == "hidden" or keep.layers:
            what = f"teacher {lookup.teacher.name}, {'features' if keep.layers else 'knowledge'}"
            fix = "Leave it out: such a teacher has logits alone."
            raise InputError(what, expected="a teacher with a net", found="logits that were made elsewhere", fix=fix)
        keep.require_dtype("logits")
        return cls(lookup, Knowledge.of_logits(len(split.classes), keep.dtype, split.span))

    def load(self) -> None:
        """Compare all of them with their sha256."""
        if not self.witnesses:
            self.witnesses.append(self.lookup.check())

    def head(self) -> Head:
        """There is none."""
        raise ValueError("expected hidden states, found logits")

    def fill(self, work: Work, splits: Mapping[str, Split], missing: Sequence[Part]) -> None:
        """Look every span up."""
        self.load()
        bar = progress_of(work, missing, self.lookup.teacher.name)
        for split, view, span in missing:
            found = [self.lookup.read(split, view, *splits[split].spans()[span])]
            publish(work, self.lookup.teacher.name, splits[split], split, view, span, found.copy)
            bar.update()
        bar.close()
