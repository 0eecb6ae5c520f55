"""Who works: options and variables of captures and sweeps."""

from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from pipeline.base.crew import Workers
from pipeline.cache.manifest import Extent
from stages.cli import main


@pytest.mark.parametrize(
    ("words", "variables", "expected"),
    [
        ((), {}, Workers()),
        (("--on", "processes", "--workers", "3"), {}, Workers("processes", 3)),
        ((), {"SOFTCACHE_ON": "processes", "SOFTCACHE_WORKERS": "4"}, Workers("processes", 4)),
        (("--on", "processes", "--device", "cuda:1"), {}, Workers("processes", gpus=0, device="cuda:1")),
        (
            ("--on", "ray", "--address", "a:1", "--gpus-per-worker", "0.5", "--cpus-per-worker", "2", "--device", "cuda"), {},
            Workers("ray", None, "a:1", 0.5, 2.0, "cuda"),
        ),
    ],
)  # fmt: skip
def test_options_and_variables_say_who_works(tmp_path, monkeypatch, words, variables, expected):
    given = {}

    def capture(**settings):
        given.update(settings)
        return SimpleNamespace(manifest=SimpleNamespace(extents={"transfer": Extent(1, 1, "")}, records=[]), computed=0, kept=0)

    monkeypatch.setattr("pipeline.cache.capture.capture", capture)
    monkeypatch.setattr("pipeline.base.runtime.prepare", lambda device, threads: device)
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["capture", "a", *words], env=variables)
    assert result.exit_code == 0, result.output
    assert given["workers"] == expected
    assert given["device"] == ("auto" if expected.on == "here" else "cpu")  # the coordinator's own


def test_what_is_no_number_of_workers_is_refused():
    result = CliRunner().invoke(main, ["capture", "a", "--on", "processes", "--workers", "0"])
    assert result.exit_code == 2
    assert "a number from 1 to 10000" in result.output
