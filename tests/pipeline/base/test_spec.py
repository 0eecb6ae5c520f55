"""Specs: canonical text, literals only, and plug-ins only where they are allowed."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.base import source, spec
from pipeline.base.errors import InputError


def net(shape, hidden, dropout=0.0):
    return shape, hidden, dropout


def grown(shape, hidden, *, later="no", needed):
    return shape, hidden, later, needed


ROOT = Path(__file__).resolve().parents[3]
TABLE = {"net": net, "grown": grown}
VERSIONS = {"net": 3, "grown": 1}


@pytest.mark.parametrize(
    "text", ["net([3])", "net(hidden=[3])", " net ( (3,) , dropout = 0.0 ) ", "net(dropout=0.0, hidden=[3])"]
)
def test_equal_settings_have_one_text(text):
    assert spec.parse(text, TABLE, VERSIONS, given=1).text == "net(hidden=[3], dropout=0.0)"


def test_a_setting_that_was_added_later_is_not_said_where_it_has_its_default():
    """By keyword alone: so texts that were written before it was added are still those of the same settings."""
    plain = spec.parse("grown(3, needed=1)", TABLE, VERSIONS, given=1)
    assert (
        plain.text == spec.parse("grown(3, later='no', needed=1)", TABLE, VERSIONS, given=1).text == "grown(hidden=3, needed=1)"
    )
    assert plain("shape") == ("shape", 3, "no", 1)
    other = spec.parse("grown(3, later='yes', needed=1)", TABLE, VERSIONS, given=1)
    assert (other.text, other("shape")) == ("grown(hidden=3, later='yes', needed=1)", ("shape", 3, "yes", 1))


def test_calls_the_target_with_what_the_room_gives():
    assert spec.parse("net(hidden=[3])", TABLE, VERSIONS, given=1)("shape") == ("shape", [3], 0.0)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("nett(hidden=[3])", "one of grown, net"),
        ("net(hiden=[3])", "hidden, dropout"),
        ("net()", "hidden"),
        ("net(hidden=open('x'))", "literals"),
        ("net(**{})", "literals"),
        ("net(hidden=[3]", "whole spec in quotes"),
        ("net)(", "name(setting=value"),
        ("net(1)(2)", "literals"),
        ("__import__('os')", "name(setting=value"),
        ("", "name(setting=value"),
    ],
)
def test_bad_specs_say_what_was_expected(text, part):
    with pytest.raises(InputError) as caught:
        spec.parse(text, TABLE, VERSIONS, given=1)
    assert part in str(caught.value)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("layer3|pool", "layer3 | pool"),
        ("' layer3 |pool'", "layer3 | pool"),
        ("encoder.layers | a | b", "encoder.layers | a | b"),
        ("'encoder.layer.3'", "encoder.layer.3"),
        ("[a, (b.c | d, 2)]", ["a", ["b.c | d", 2]]),
        ("-1.5", -1.5),
        ("None", None),
    ],
)
def test_words_may_go_without_quotes_where_a_caller_says_so(written, read):
    """And the canonical text says the same."""
    parsed = spec.parse(f"net({written})", TABLE, VERSIONS, given=1, words=True)
    assert parsed.arguments["hidden"] == read
    assert spec.parse(parsed.text, TABLE, VERSIONS, given=1, words=True) == parsed
    if isinstance(read, str):
        with pytest.raises(InputError, match="literals"):
            spec.parse(f"net({written.replace(chr(39), '')})", TABLE, VERSIONS, given=1)


@pytest.mark.parametrize("written", ["encoder.layer.3", "a | 3", "a + b", "a & b", "f(x)", "a[0]", "[a].b", "1e999", "{a}"])
def test_what_is_no_word_wants_quotes(written):
    with pytest.raises(InputError, match="'encoder.layer.3'"):
        spec.parse(f"net({written})", TABLE, VERSIONS, given=1, words=True)


def test_a_plug_in_needs_leave_and_is_hashed(tmp_path, monkeypatch):
    code = b"import my_helper\n\ndef build(shape, classes, width=2):\n    return my_helper.same(shape), classes, width\n"
    (tmp_path / "my_helper.py").write_text("def same(shape):\n    return shape\n")
    (tmp_path / "my_plug_in.py").write_bytes(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(InputError, match="SOFTCACHE_PLUGINS=my_plug_in"):
        spec.parse("my_plug_in:build()", {}, {}, given=2)
    assert "my_plug_in" not in sys.modules
    monkeypatch.setenv("SOFTCACHE_PLUGINS", "other,my_plug_in")
    found = spec.parse("my_plug_in:build(width=5)", {}, {}, given=2)
    assert found((1, 2, 3), 10) == ((1, 2, 3), 10, 5)
    assert found.behaviour == source.read("my_plug_in:build").sha256
    assert set(found.source.files) == {"my_plug_in", "my_helper"}


def test_another_process_imports_a_plug_in_itself_and_refuses_another_source(tmp_path, monkeypatch):
    code = "def scale(value, by=2, *, how=sorted):\n    return how(value * by)\n"
    (tmp_path / "my_scaling.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOFTCACHE_PLUGINS", "my_scaling")
    sent = pickle.dumps(
        [spec.parse("my_scaling:scale(by=3)", {}, {}, given=1), spec.parse("net([3])", TABLE, VERSIONS, given=1)]
    )

    def received(folder):
        lines = "import pickle, sys; mine, net = pickle.load(sys.stdin.buffer); print(mine.text, mine([2, 1]), net((5,)))"
        paths = os.pathsep.join([str(ROOT), str(ROOT / "tests/pipeline/base")])
        return subprocess.run(
            [sys.executable, "-c", lines], cwd=folder, env=os.environ | {"PYTHONPATH": paths}, input=sent, capture_output=True
        )

    assert received(tmp_path).stdout.decode() == "my_scaling:scale(by=3) [1, 1, 1, 2, 2, 2] ((5,), [3], 0.0)\n"
    (tmp_path / "other").mkdir()
    (tmp_path / "other/my_scaling.py").write_text(code.replace("* by", "* by * 1"))
    assert b"plug-in my_scaling:scale: expected the source with sha256" in received(tmp_path / "other").stderr


def test_a_private_attribute_is_no_plug_in(monkeypatch):
    monkeypatch.setenv("SOFTCACHE_PLUGINS", "os")
    with pytest.raises(InputError):
        spec.parse("os:_exit(0)", {}, {})
