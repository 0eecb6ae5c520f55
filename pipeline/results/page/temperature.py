"""Temperature: what T, and alpha, do to each student."""

from pipeline.results.page.chapter import Chapter
from pipeline.results.page.section import Figure, Section


def temperature(chapter: Chapter) -> Section | None:
    """The section of temperature; None without students."""
    students = [line for line in chapter.lines if line.kind == "student" and line.seeds]
    if not students:
        return None
    return Section("temperature", "Temperature", [_accuracy(chapter)])


def _accuracy(chapter: Chapter) -> Figure:
    """Test accuracy against T."""
    import altair

    points = [
        {"student": line.student, "temperature": line.temperature, "accuracy": 100 * line.cells["test", "accuracy"][0]}
        for line in chapter.lines
        if line.kind == "student" and line.seeds
    ]
    chart = altair.Chart(altair.Data(values=points)).mark_line(point=True).encode(
        x=altair.X("temperature:Q", title="temperature T", scale=altair.Scale(type="log", nice=False, padding=16)),
        y=altair.Y("accuracy:Q", title="test accuracy, %", scale=altair.Scale(zero=False)),
        color=altair.Color("student:N", title=None, sort=None),
    ).properties(width="container", height=320)  # fmt: skip
    return Figure("temperature-accuracy", "Test accuracy against temperature", "A chart.", chart.to_dict())
