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
        (("--on", "processes", "--device", "cuda:1"), {}, Workers("processes", device="cuda:1")),
        (("--on", "ray", "--gpus-per-worker", "0"), {}, Workers("ray", gpus=0, device="cpu")),  # else all would share a GPU
        (("--on", "ray"), {"SOFTCACHE_GPUS_PER_WORKER": "2"}, Workers("ray", gpus=2)),
        ((), {"SOFTCACHE_WORKERS": "2"}, Workers(count=2)),  # for those commands that have workers
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
    monkeypatch.setattr("pipeline.base.runtime.prepare", lambda device, threads: (device, threads))
    monkeypatch.delenv("SOFTCACHE_THREADS", raising=False)
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["capture", "a", *words], env=variables)
    assert result.exit_code == 0, result.output
    assert given["workers"] == expected
    # of the coordinator, whose measure of int8 is one of many threads else: last bits depend on them
    assert given["device"] == (("auto", None) if expected.on == "here" else ("cpu", 1))
    if expected.on != "here":
        assert CliRunner().invoke(main, ["capture", "a", *words, "--threads", "3"], env=variables).exit_code == 0
        assert given["device"] == ("cpu", 3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--on", "processes", "--workers", "0"), "a number from 1 to 10000"),
        (("--on", "ray", "--gpus-per-worker", "1.5"), "'1.5': expected 0, 0.0001 to 1, or a whole number"),
        (("--on", "ray", "--gpus-per-worker", "-1"), "'-1': expected 0, 0.0001"),
        (("--on", "ray", "--cpus-per-worker", "0.00001"), "'0.00001': expected 0, 0.0001"),
        (("--workers", "4"), "--workers is for --on processes or --on ray, not for --on here."),
        (("--on", "processes", "--address", "a:1"), "--address is for --on ray, not for --on processes."),
        (("--on", "processes", "--gpus-per-worker", "3"), "--gpus-per-worker is for --on ray, not"),
        (("--on", "processes", "--cpus-per-worker", "3"), "--cpus-per-worker is for --on ray, not"),
    ],
)
def test_what_says_nothing_is_refused(words, message):
    result = CliRunner().invoke(main, ["capture", "a", *words])
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
