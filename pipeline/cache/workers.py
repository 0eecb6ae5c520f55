"""Workers: a capture that a crew does. Each worker runs the teacher on spans and writes them; one process seals the cache.

What is done, the records say that the workers leave, not their word. So fewer or more of them, or others, go on where these
stopped, and give the same bytes; for that, each of them runs the teacher on one thread, or on as many as the user has set.
"""

import logging
import os
import platform
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from pipeline.base import runtime
from pipeline.base.crew import Workers, open_crew
from pipeline.base.differences import differences
from pipeline.base.errors import InputError, IntegrityError
from pipeline.cache.manifest import Part, SpanViews, by_span
from pipeline.cache.room import PLAN
from pipeline.cache.running import Running
from pipeline.cache.source import progress_of, size_of
from pipeline.cache.subject import Request, Subject
from pipeline.cache.writer import Ticket, Work
from pipeline.data import scratch

IN_HAND = 3  # spans of a worker: one is read, one is run, one is written
_SHARE = "Give all workers the same files: --work in a folder that they share, or --data in a store."
_log = logging.getLogger(__name__)


def spread(work: Work, request: Request, missing: Sequence[Part], workers: Workers) -> dict[str, Any]:
    """Let workers fill all that is missing.

    Args:
        work: The work, which this process holds.
        request: What the work is for.
        missing: What the workers shall fill; they take a span at a time, in all of its missing views.
        workers: Who they are.

    Returns:
        The workers' machine, for provenance: that of the last one to finish.

    Raises:
        InputError: The workers do not see the files of this process, or they die too often.
        IntegrityError: A worker's teacher, data or versions are others.
    """
    plan = by_span(missing)
    size, to_run = f"{size_of(work) / 1e6:,.1f}", f"{len(missing):,} views of {len(plan):,} spans"
    _log.info("%s: %s MB; %s to run, on %s", work.name, size, to_run, workers.on)
    bar, pids = progress_of(work, missing, work.name), set()
    made_by: dict[str, Any] = {}
    begin = partial(start, request, work.ticket, workers.device, runtime.threads_set() or 1)
    with open_crew(workers, begin, depth=IN_HAND) as crew:
        for span, (pid, made_by) in crew.run(plan, lambda each: f"{work.name}, span {each.span} of {each.split}"):
            if left := work.gather(span.parts):
                what, found = f"work of {made_by['host']} in {work.folder}", f"none of {len(left)}, {left[0]} among them"
                raise InputError(what, expected="its records", found=found, fix=_SHARE)
            pids.add((made_by["host"], pid))
            bar.update(len(span.views))
    bar.close()
    return {"workers": len(pids), **made_by}


def start(
    request: Request, ticket: Ticket, device: str, threads: int
) -> Callable[[SpanViews], tuple[int, dict[str, str | int]]]:
    """What a worker calls once: it loads the teacher, and returns what fills a span."""
    chosen = runtime.prepare(device, threads=threads)
    scratch.use(request.work)
    if not (ticket.room.kept / PLAN).is_file():
        what = f"work of {platform.node()}"
        raise InputError(what, expected=f"{ticket.room.kept}, as the others see it", found="no such folder", fix=_SHARE)
    subject = Subject.open(request, chosen)
    for field, expected, found in differences(ticket.identity, subject.identity):
        what = f"worker on {platform.node()}, {field}"
        fix = "Give all workers the same teacher, data, plug-ins and version of this program."
        raise IntegrityError(what, expected=str(expected), found=str(found), fix=fix)
    subject.source.load()
    return partial(_fill, Work.join(ticket), subject)


def _fill(work: Work, subject: Subject, span: SpanViews) -> tuple[int, dict[str, str | int]]:
    """Run the teacher on a span, and write what it gives; what a worker who died has written is left as it is."""
    source = subject.source
    if not isinstance(source, Running):
        raise ValueError("expected a net")
    if left := work.gather(span.parts):
        source.fill_span(work, SpanViews(span.split, span.span, tuple(view for _, view, _ in left)))
    return os.getpid(), runtime.provenance(source.device)
