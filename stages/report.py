"""softcache report: one page with what came out."""

from pathlib import Path

import click

from stages.options import Stage, data_option, example, params_option


@click.command(cls=Stage, epilog=example("softcache report"))
@click.option("--sweep", is_flag=True, help="Report on data/sweep/ instead, to data/sweep/report/.")
@params_option
@data_option
def command(sweep: bool, params: str, data: Path) -> None:
    """Write data/report/index.html, a page that opens offline, from the tables in data/plots/."""
    from pipeline.report import report

    folder = data / "sweep" if sweep else data
    out = folder / "report"
    report(plots=folder / "plots", out=out)
    click.echo(f"wrote {out / 'index.html'}: open it in a browser")
