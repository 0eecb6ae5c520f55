"""Tables in Markdown, word by word, and text that cannot break out of them."""

from types import SimpleNamespace

from pipeline.results import markdown
from pipeline.results.line import Line
from pipeline.results.published import Figure, Measured
from pipeline.results.tables import BestRow

CELLS = {"accuracy": (0.86, 0.0283), "errors": (14, 2.83), "nll": (0.25, None), "agreement": (1, 0)}
NAME = "<script>alert(1)</script>[x](y)`|\x1b[2J\u202e"
BEST = BestRow(NAME, "s-T4", 4.0, 0.5, 1, 0, 0.3, None, 14.0, None, 21.0, None, 7.0, None, None, None, 2.0, 12.0)
HEAD = (
    "| run | parameters | accuracy, % | errors | NLL, nats | agrees with teacher, % |\n"
    "| --- | ---: | ---: | ---: | ---: | ---: |\n"
)  # fmt: skip
ROW = "| s-T4 | 1,234 | 86.00 ± 2.83 | 14.0 ± 2.8 | 0.2500 | 100.00 ± 0.00 |\n"


def line(run: str, diverged: int = 0) -> Line:
    cells = {} if diverged else {("test", metric): cell for metric, cell in CELLS.items()}
    return Line(run, "student", "s", 4.0, 0.5, 1234, 1 - diverged, diverged, 0, cells)


def chapter(name: str, *lines: Line, best=()) -> SimpleNamespace:
    """What a table in Markdown asks a chapter for."""
    return SimpleNamespace(name=name, lines=lines, best=best)


def test_one_folder_has_no_heading():
    found = markdown.results([chapter("", line("s-T4"), line("s-T8", diverged=1))])
    assert found == HEAD + ROW + "| s-T8 (1 diverged) | 1,234 | — | — | — | — |\n\n"


def test_folders_stand_under_their_names_with_a_line_between():
    found = markdown.results([chapter("first", line("s-T4")), chapter("a|b", line("s-T4"))])
    assert found == f"### first\n\n{HEAD}{ROW}\n### a\\|b\n\n{HEAD}{ROW}"


def test_what_is_best_stands_below():
    text = markdown.results([chapter("", line("s-T4"), best=[BEST._replace(student="s")])])
    assert text.startswith(HEAD + ROW + "\n- s at T = 4 and alpha = 0.5 (lowest validation NLL): 14.0 test errors; ")
    assert text.endswith("(bootstrap).\n")


def test_names_are_escaped():
    """HTML, Markdown, what steers a terminal, and the end of a line."""
    text = markdown.results([chapter(NAME, line(NAME), line("a\n\nb"), best=[BEST])])
    plain = "&lt;script&gt;alert(1)&lt;/script&gt;\\[x\\](y)\\`\\|\\\\x1b\\[2J\\\\u202e"
    assert f"### {plain}\n" in text
    assert f"| {plain} |" in text
    assert "| a b |" in text
    assert f"- {plain} at T = 4" in text


def test_published_beside_measured():
    measured = [
        Measured(Figure("teachers", "", ("a", "b"), None, "errors", 67), (10, 13)),  # a deviation of √4.5
        Measured(Figure("one | teacher\n", "", ("a",), None, "errors", None), (10,)),
        Measured(Figure("<script>", "", ("w",), None, "error_rate", 13.2), (50, 51)),  # of √0.5
        Measured(Figure("right", "", ("w",), None, "accuracy", None), (20, 16)),  # of √8
    ]
    assert markdown.comparison("Hinton & <i>others</i>", measured) == (
        "| experiment | published | measured | runs |\n"
        "| --- | ---: | ---: | ---: |\n"
        "| teachers | 67 | 11.5 ± 2.1 | 2 |\n"
        "| one \\| teacher | — | 10 | 1 |\n"
        "| &lt;script&gt; | 13.2 % | 50.50 ± 0.71 % | 2 |\n"
        "| right | — | 18.00 ± 2.83 % | 2 |\n"
        "\nPublished: Hinton &amp; &lt;i&gt;others&lt;/i&gt;\n"
    )
