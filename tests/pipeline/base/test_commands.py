"""Commands as messages name them: run as they stand, they mend what the message is about."""

from pathlib import Path

import pytest

from pipeline.base import commands


@pytest.fixture(autouse=True)
def _settings(tmp_path, monkeypatch):
    """A folder with params.yaml, in which nobody is."""
    (tmp_path / "params.yaml").touch()
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("found", "command"),
    [
        (lambda: commands.ingest(Path("data/transfer")), "softcache ingest"),
        (lambda: commands.teach(Path("data/teachers/a")), "softcache teach a"),
        (lambda: commands.capture(Path("data/caches/a")), "softcache capture a"),
        (lambda: commands.distill("s", None, Path("data/students/s-hard")), "softcache distill s --hard"),
        (lambda: commands.distill("s", 2.5, Path("data/students/s-T2.5")), "softcache distill s -T 2.5"),
        (lambda: commands.sweep(Path("data/sweeps/all")), "softcache sweep all"),
        (lambda: commands.evaluate(Path("data/plots")), "softcache evaluate"),
        (lambda: commands.evaluate(Path("data/sweeps/all/plots")), "softcache sweep all"),
    ],
)
def test_commands_of_the_usual_data_folder(found, command):
    assert found() == f"`{command}`"


@pytest.mark.parametrize(
    ("found", "command"),
    [
        (lambda: commands.ingest(Path("other/transfer")), "softcache ingest --data other"),
        (lambda: commands.teach(Path("held out/teachers/a b")), "softcache teach 'a b' --data 'held out'"),
        (lambda: commands.distill("s", 4.0, Path("x/students/s-T4")), "softcache distill s -T 4 --data x"),
        (lambda: commands.sweep(Path("x/sweeps/all")), "softcache sweep all --data x"),
        (lambda: commands.evaluate(Path("x/sweeps/all/plots")), "softcache sweep all --data x"),
    ],
)
def test_commands_of_another_data_folder_name_it(found, command):
    assert found().strip("`").startswith(command)


def test_the_usual_folder_may_be_named_in_any_way(tmp_path):
    for path in (Path("data/../data/caches/a"), tmp_path / "data/caches/a"):
        assert commands.capture(path) == "`softcache capture a`"
    assert commands.capture(tmp_path / "other/caches/a") == f"`softcache capture a --data {tmp_path}/other`"


def test_without_settings_they_have_to_be_given(tmp_path):
    (tmp_path / "params.yaml").unlink()
    assert commands.teach(Path("data/teachers/a")) == "`softcache teach a` with its settings"
    whole = commands.capture(Path("data/caches/a"), "--policy", "shift(pixels=1)", "--views", "3")
    assert whole == "`softcache capture a --policy 'shift(pixels=1)' --views 3`"


def test_a_cache_is_captured_again_where_it_lies(tmp_path, monkeypatch):
    again = "Run `softcache capture a` to compute the damaged part again."
    assert commands.capture_again(Path("data/caches/a")) == again
    assert (
        commands.capture_again(tmp_path / "copies/a") == "It lies in no folder caches/, so it is a copy: copy all of it again."
    )
    (tmp_path / "data/caches/a").mkdir(parents=True)
    (tmp_path / "short").symlink_to("data/caches/a")
    assert commands.capture_again(tmp_path / "short") == again
    monkeypatch.chdir(tmp_path / "data/caches")
    assert f"capture a --data {tmp_path}/data`" in commands.capture_again(Path("a"))


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (4.0, "4"),
        (2.5, "2.5"),
        (0.1, "0.1"),
        (1e6, "1000000"),
        (1e-6, "1e-06"),
        (1e16, "1e+16"),
        (1 / 3, "0.3333333333333333"),
    ],
)
def test_numbers_in_names(number, text):
    assert commands.short(number) == text
    assert float(text) == number
