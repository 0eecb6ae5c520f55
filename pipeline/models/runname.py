"""Names of runs: of a student's folder, its model.json and its lines in tables. They are made here and taken apart nowhere."""

from pipeline.base.commands import short

LIVE = "-live"  # how the name of a student ends that had its teachers in the loop


def setting(temperature: float | None, alpha: float | None = None) -> str:
    """How a setting is called: T4, T4-alpha0.5 where alpha varies as well, and hard on labels alone."""
    if temperature is None:
        return "hard"
    return f"T{short(temperature)}" + ("" if alpha is None else f"-alpha{short(alpha)}")


def run_name(student: str, temperature: float | None, alpha: float | None = None, *, live: bool = False) -> str:
    """How a student at a setting is called, such as tiny-T4."""
    return f"{student}-{setting(temperature, alpha)}{LIVE if live else ''}"
