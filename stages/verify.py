"""softcache verify: are caches what was sealed, and what their teachers say?"""

from pathlib import Path

import click

from stages.options import Whole, cache_folder, counted, data_option, example, machine_options, work_option


@click.command(epilog=example("softcache verify a b --deep 100"))
@click.argument("caches", metavar="CACHE...", nargs=-1, required=True)
@click.option("--deep", type=Whole(), default=0, help="Run this many sampled (row, view) pairs through the teacher again.")
@data_option
@work_option
@machine_options
def command(caches: tuple[str, ...], deep: int, data: Path, work: Path, device: str, threads: int) -> None:
    """Check caches, each named by its teacher or by a path: all spans there, no bit changed, nothing stray.

    With --deep the teacher runs again on a sample, twice: cached logits may differ from fresh ones by no more than float32
    rounding, and must fit their own rows clearly better than the next ones.

    A damaged cache exits with 3.
    """
    from pipeline import runtime
    from pipeline import verify as job

    folders = [cache_folder(data, cache) for cache in caches]
    found = []
    with runtime.progress((), "verify", total=sum(job.size_bytes(path) for path in folders), unit="B") as bar:
        for path in folders:
            found.append(job.verify(path, work=work, progress=bar.update))
    probes = {}
    if deep:
        chosen = runtime.prepare(device, threads=threads)
        for done in found:
            if not done.findings:
                probes[done.path] = job.probe(
                    done.path, deep, teacher=data / "teachers" / done.path.name, splits=data / "transfer", device=chosen
                )
    _show(found, probes)


def _show(found: list, probes: dict) -> None:
    width = max(len("cache"), *(len(str(done.path)) for done in found))
    click.echo(f"{'cache':{width}}  {'spans':>6}  {'MB':>10}  result")
    findings = []
    for done in found:
        probe = probes.get(done.path)
        wrong = [*done.findings, *(probe.findings(done.path) if probe else ())]
        result = f"{counted(len(wrong), 'finding')}" if wrong else "as sealed"
        click.echo(f"{done.path!s:{width}}  {done.spans:6,}  {done.size_bytes / 1e6:10,.1f}  {result}")
        if probe:
            allowed = f"allowed {probe.limit:.2g}, teacher against itself {probe.control:.2g}"
            click.echo(f"  {counted(probe.pairs, 'pair')} run again: largest difference {probe.difference:.2g} ({allowed})")
            click.echo(f"  KL to the cached logits, nats: own row {probe.aligned:.2g}, next row {probe.shifted:.2g}")
        findings += [(done.path, finding) for finding in wrong]
    for _, finding in findings:
        click.echo(f"{finding.where}: expected {finding.expected}, found {finding.found}")
    if findings:
        names = " and ".join(f"`softcache capture {name}`" for name in dict.fromkeys(path.name for path, _ in findings))
        click.echo(
            f"Run {names} to compute what is damaged again. A cache that came from a DVC remote: "
            "`dvc remote modify <remote> verify true`, then `dvc pull` again."
        )
        raise SystemExit(3)
