"""The format for ever: the golden cache stays readable, by this project and by the lines in docs/cache-format.md alone."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from conftest import tree
from pipeline.base import files
from pipeline.base.places import place
from pipeline.cache.reader import Cache
from pipeline.cache.verify import verify

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = {  # every format that there was → the digest of its golden cache
    "cache-1": "6cb803ea9dea3b7730924d69fe71b720bad3193fb75447b6f047e008d542ce9a",
    "cache-2": "ef4e2830feb31f3e27484c5e71789312357177407d97c0c6fa2920367d70cd42",
    "cache-3": "ece5f0c918a1a390b9db3c15c92ad9c2cb1d11f9a6859235f003c65e0ad2495e",
    "cache-4": "b134a76f65a093d11017b323e49dbeafe32e789362068d1d221aa279299b00be",
    "cache-4-hidden": "0fc28e4edc224c19862c48a36e2c7b3fc7126cc67fb77855d2d19c7282451437",
    "cache-4-int8": "4c503c594bdced773c83cf4038a293aa0c260294d7cd67b0fbe11da5125a8216",
}
# Row + class / 8, less 100 in the second view: six rows in spans of four, all of them exact in float16.
TRANSFER = np.array([[[row + label / 8 - 100 * view for label in range(3)] for row in range(6)] for view in range(2)])


def lines(block: int = 0) -> str:
    """The Python of docs/cache-format.md: of logits, of hidden states."""
    return re.findall(r"```python\n(.*?)```", (ROOT / "docs/cache-format.md").read_text(), re.DOTALL)[block]


def run(folder: Path, code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-I", "-c", code], cwd=folder, capture_output=True, text=True)


@pytest.mark.parametrize("name", GOLDEN)
def test_the_golden_cache_reads_as_it_always_did(name):
    path = ROOT / "tests/golden" / name
    cache = Cache.open(path)
    assert cache.manifest.digest == GOLDEN[name]
    assert (cache.read("transfer") == TRANSFER).all()
    assert (cache.read("valid") == TRANSFER[:1, :2]).all()
    assert (cache.read("test") == TRANSFER[:1, :1]).all()
    assert verify(path, work=path).findings == []


def test_the_golden_feature_reads_as_it_always_did():
    cache = Cache.open(ROOT / "tests/golden/cache-4-hidden")
    assert {text: (each.shape, each.dtype) for text, each in cache.features.items()} == {"layer1 | pool": ((2,), "float16")}
    found = np.concatenate([cache.feature("layer1 | pool", "transfer", 1, span) for span in (0, 1)])
    assert found.tolist() == [[row - 100, 100 - row] for row in range(6)]


@pytest.mark.parametrize("name", ["cache-4-hidden", "cache-4-int8"])
def test_the_lines_of_the_documentation_make_logits_of_hidden_states(tmp_path, name):
    shutil.copytree(ROOT / "tests/golden" / name, tmp_path / "data/caches/a")
    assert "pipeline" not in lines(1)
    done = run(tmp_path, lines(1) + "print(logits.tolist(), logits.dtype)")
    assert done.stdout.strip() == f"{TRANSFER.tolist()} float32", done.stderr


@pytest.fixture(params=[name for name in GOLDEN if "-4-" not in name])
def copied(request, tmp_path) -> Path:
    shutil.copytree(ROOT / "tests/golden" / request.param, tmp_path / "data/caches/a")
    return tmp_path


def test_the_lines_of_the_documentation_read_it_without_this_project(copied):
    assert len(lines().strip().splitlines()) <= 12
    assert "pipeline" not in lines()
    done = run(copied, lines() + "print(logits.tolist(), logits.dtype)")
    assert done.stdout.strip() == f"{TRANSFER.tolist()} float16", done.stderr


def test_the_lines_of_the_documentation_find_swapped_spans(copied):
    first, second = (copied / f"data/caches/a/logits.zarr/transfer/c/{view}/0/0" for view in (0, 1))
    data = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(data)
    assert "AssertionError: logits.zarr/transfer/c/0/0" in run(copied, lines()).stderr


def test_the_lines_for_a_store(bucket, tmp_path):
    """The third block reads a cache that lies in a store, and a copy of that folder reads like any other."""
    for name, data in tree(ROOT / "tests/golden/cache-4").items():
        files.write(place(bucket) / "0123456789abcdef" / name, data)
    files.set_current(place(bucket), "0123456789abcdef")
    code = lines(2).replace("s3://bucket/run/caches/a", bucket) + "\nprint(repr(logits.tolist()))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.stdout == f"{TRANSFER.tolist()!r}\n", ran.stderr
    for name in files.sizes(place(bucket)):
        files.write(tmp_path / "a" / name, (place(bucket) / name).read_bytes())
    assert np.array_equal(Cache.open(tmp_path / "a").read("transfer"), TRANSFER)
    assert verify(tmp_path / "a", work=tmp_path).findings == []
