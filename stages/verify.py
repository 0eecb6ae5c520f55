"""softcache verify: check that caches are unchanged, and that they fit their teachers."""

from typing import TYPE_CHECKING

import click

from pipeline.base.errors import InputError
from pipeline.base.places import ObjectPlace, Place
from stages.options import Whole, cache_folder, counted, data_option, example, machine_options, option, work_option
from stages.terminal import echo

if TYPE_CHECKING:
    from pipeline.cache.reader import Finding
    from pipeline.cache.verify import Compared, Probe


@click.command(short_help="Check caches for changed bytes.", epilog=example("softcache verify a b --deep 100"))
@click.argument("caches", metavar="CACHE...", nargs=-1, required=True)
@option("--deep", type=Whole(), default=0, help="Run this many sampled (row, view) pairs through the teacher again.")
@data_option
@work_option
@machine_options
def command(caches: tuple[str, ...], deep: int, data: Place, work: Place, device: str, threads: int) -> None:
    """Check caches, each named by its teacher or by a path: every span is there, no byte has changed, no file is added.

    With --deep the teacher runs again on a sample, twice. Cached and new logits may differ only by float32 rounding, and
    cached logits must fit their own rows clearly better than the next rows.

    The exit code is 3 for a damaged cache.
    """
    from pipeline.base import commands, files, runtime
    from pipeline.base.errors import IntegrityError
    from pipeline.cache import verify as job
    from pipeline.cache.writer import require_sealed

    if deep < 0:
        raise click.BadParameter(f"{deep}: expected a number of pairs.", param_hint="--deep")
    folders = [cache_folder(data, cache) for cache in caches]
    if len({files.resolved(path) for path in folders}) < len(folders):
        raise click.UsageError("CACHE: the same one twice; name each once.")
    for path in folders:
        if isinstance(path, ObjectPlace) or not path.is_dir():
            require_sealed(path, work)  # raises another error for a capture that is under way
        if not path.is_dir():
            fix = f"Run {commands.capture(path)}, or correct the name."
            raise InputError(str(path), expected="a cache", found="no such folder", fix=fix)
    done = []
    with runtime.progress((), "verify", total=sum(job.size_bytes(path) for path in folders), unit="B") as bar:
        for path in folders:
            done.append(job.verify(path, work=work, progress=bar.update))
    width = max(len("cache"), *(len(str(path)) for path in folders))
    echo(f"{'cache':{width}}  {'spans':>6}  {'MB':>10}  result")
    for found in done:
        result = counted(len(found.findings), "finding") if found.findings else "as sealed"
        echo(f"{found.path!s:{width}}  {found.spans:6,}  {found.size_bytes / 1e6:10,.1f}  {result}")
    findings = {found.path: list(found.findings) for found in done}
    fixes = {found.path: commands.capture_again(found.path, *found.options) for found in done if found.findings}
    if deep:
        chosen = runtime.prepare(device, threads=threads)
        for path, options in [(found.path, found.options) for found in done]:
            if not findings[path]:
                teacher = data / "teachers" / path.name
                try:
                    probe = job.probe(path, deep, teacher=teacher, splits=data / "transfer", device=chosen)
                except (InputError, IntegrityError) as error:
                    if fixes:  # the findings about other caches follow
                        echo(str(error))
                    _show_findings(findings, fixes)
                    raise
                _show_probe(path, probe)
                if others := probe.findings(path):
                    findings[path] += others
                    # without --anew the capture would keep these spans, which are undamaged
                    fixes[path] = commands.capture_again(path, *options, "--anew")
    _show_findings(findings, fixes)


def _show_probe(path: Place, probe: "Probe") -> None:
    shifted = "the same, because all rows have equal logits" if probe.shifted is None else f"{probe.shifted:.2g}"
    for what, each in probe.compared.items():
        echo(f"{path}: {counted(probe.pairs, 'pair')} run again, {what}, worst difference {_told(each)}")
    echo(f"{path}: KL to the cached logits in nats, own row {probe.aligned:.2g}, next row {shifted}")


def _told(each: "Compared") -> str:
    return f"{each.difference:.2g} (allowed {each.limit:.2g}, teacher against itself {each.control:.2g})"


def _show_findings(findings: dict[Place, list["Finding"]], fixes: dict[Place, str]) -> None:
    """Print every finding and the fix for each cache; exit with 3 where there is one."""
    for finding in (finding for found in findings.values() for finding in found):
        echo(f"{finding.where}: expected {finding.expected}, found {finding.found}")
    if fixes:
        echo(
            *fixes.values(),
            "Did the cache come from a DVC remote? Then `dvc remote modify <remote> verify true` and `dvc pull` once more.",
        )
        raise SystemExit(3)
