"""softcache_export.py, the file in every export: it needs little, reads inputs as ingest does, and finds what was changed."""

import io
import json
import re
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

import softcache_export
from conftest import png
from pipeline.base import facts, files
from pipeline.data import pixels
from softcache_export import CONFIG, FLOAT, INT8, MODULE, NET, WEIGHTS, Predictor, Refused, load

ROOT = Path(__file__).resolve().parent.parent
GENERATOR = np.random.default_rng(0)
NUMBERS = GENERATOR.standard_normal((12, 3)).astype(np.float32)  # the weights of the model: 12 numbers to 3 logits
KINDS = {
    "image": {"kind": "image", "mode": "L", "shape": [1, 3, 4], "decoder": "pillow version 2", "fit": "crop", "dtype": "uint8"},
    "array": {"kind": "array", "array_dtype": "float32", "shape": [4, 3], "dtype": "float32"},
    "text": {"kind": "text", "shape": [12], "dtype": "int32"},
}
NET_SOURCE = """import torch
PARAMETERS = ['layer.weight']
BUFFERS = []
def forward(weight, inputs):
    return inputs.float().flatten(1) @ weight
"""


def linear(kind: str, factor: float = 1.0) -> bytes:
    """Made without torch: logits are the inputs, in one row, times NUMBERS."""
    make, proto = onnx.helper, onnx.TensorProto
    dtype = {"uint8": proto.UINT8, "float32": proto.FLOAT, "int32": proto.INT32}[KINDS[kind]["dtype"]]
    nodes = [
        make.make_node("Cast", ["inputs"], ["floats"], to=proto.FLOAT),
        make.make_node("Flatten", ["floats"], ["flat"]),
        make.make_node("MatMul", ["flat", "weight"], ["logits"]),
    ]
    ends = [
        [make.make_tensor_value_info("inputs", dtype, ["batch", *KINDS[kind]["shape"]])],
        [make.make_tensor_value_info("logits", proto.FLOAT, ["batch", 3])],
    ]
    graph = make.make_graph(nodes, "linear", *ends, [onnx.numpy_helper.from_array(NUMBERS * np.float32(factor), "weight")])
    return make.make_model(graph, opset_imports=[make.make_opsetid("", 20)], ir_version=10).SerializeToString()


def write(folder: Path, kind: str = "image", **changes) -> Path:
    """An export as `softcache export` writes it, of a model of our own."""
    import safetensors.numpy

    own = (ROOT / MODULE).read_bytes()
    written = {FLOAT: linear(kind), INT8: linear(kind, 0.5), NET: NET_SOURCE.encode(), MODULE: own}
    written[WEIGHTS] = safetensors.numpy.save({"layer.weight": NUMBERS})
    encoding = {"name": "words", "features": 9, "ngrams": 2, "characters": [], "length": 12} if kind == "text" else None
    said = {
        "format": 1, "name": "x", "model": "linear()", "id2label": {"0": "zero", "1": "één", "2": "two"},
        "inputs": KINDS[kind], "encoding": encoding, "output": "logits",
        "files": {name: files.sha256(content) for name, content in written.items()},
    } | changes  # fmt: skip
    folder.mkdir(parents=True)
    for name, content in {**written, CONFIG: facts.sealed(said)}.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def folder(tmp_path) -> Path:
    return write(tmp_path / "export")


def shares(inputs: np.ndarray, factor: float = 1.0) -> np.ndarray:
    logits = inputs.reshape(len(inputs), -1).astype(np.float64) @ NUMBERS.astype(np.float64) * factor
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


# ---------------------------------------------------------------- models


def test_probabilities_are_the_softmax_of_logits(folder):
    rows = GENERATOR.integers(0, 3, (70, 1, 3, 4), dtype=np.uint8)  # more than fit one pass
    np.testing.assert_allclose(Predictor(folder).probabilities(rows), shares(rows), rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(Predictor(folder, int8=True).probabilities(rows), shares(rows, 0.5), rtol=1e-4, atol=1e-7)


def test_the_likeliest_classes_come_first(folder, tmp_path):
    shown = GENERATOR.integers(0, 3, (3, 4), dtype=np.uint8)
    (tmp_path / "x.png").write_bytes(png(shown))
    [found] = Predictor(folder).predict([tmp_path / "x.png"], top=2)
    expected = shares(shown[None])[0]
    order = np.argsort(-expected)[:2]
    assert found.what == str(tmp_path / "x.png")
    assert [name for name, _ in found.classes] == [("zero", "één", "two")[label] for label in order]
    assert [share for _, share in found.classes] == pytest.approx(expected[order], rel=1e-4)


def test_the_net_in_torch(folder):
    import torch

    net, rows = load(folder), torch.arange(24, dtype=torch.uint8).view(2, 1, 3, 4)
    assert list(net.state_dict()) == ["layer.weight"]
    assert [name for name, _ in net.named_parameters()] == ["layer.weight"]
    assert not net.training
    np.testing.assert_allclose(net(rows).detach().numpy(), rows.numpy().reshape(2, 12) @ NUMBERS, rtol=1e-5)


# ---------------------------------------------------------------- what it needs

BLOCKED = """
import sys
for name in {blocked!r}:
    sys.modules[name] = None
"""


def run(folder: Path, blocked: list[str], code: str) -> str:
    """Python in the folder of an export, which finds nothing of Softcache but that folder."""
    command = [sys.executable, "-c", BLOCKED.format(blocked=blocked) + code]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env={"PATH": "", "PYTHONIOENCODING": "utf-8"})
    assert done.returncode == 0, done.stderr
    return done.stdout


OURS = ["pipeline", "stages", "click", "zarr", "pyarrow"]


def test_load_needs_torch_and_safetensors_alone(folder):
    code = """
import torch
from softcache_export import load, __file__ as here
print(here, load(".")(torch.ones(1, 1, 3, 4, dtype=torch.uint8)).tolist()[0])"""
    where, _, logits = run(folder, [*OURS, "onnx", "onnxruntime", "PIL"], code).partition(" ")
    assert Path(where) == folder / MODULE
    assert json.loads(logits) == pytest.approx(NUMBERS.sum(axis=0), rel=1e-5)


def test_the_command_needs_no_torch(folder):
    (folder / "x.png").write_bytes(png(np.ones((3, 4), np.uint8)))
    code = f"import runpy; sys.argv = ['{MODULE}', 'x.png']; runpy.run_path('{MODULE}', run_name='__main__')"
    found = run(folder, [*OURS, "torch", "safetensors", "onnx"], code)
    expected = shares(np.ones((1, 12)))[0]
    label = int(expected.argmax())
    assert found.startswith(f"x.png: {('zero', 'één', 'two')[label]} {100 * expected[label]:.1f} %, ")


# ---------------------------------------------------------------- inputs as ingest reads them


def jpeg(shown: np.ndarray, turn: int | None = None) -> bytes:
    held, image = io.BytesIO(), Image.fromarray(shown)
    exif = image.getexif()
    if turn:
        exif[0x0112] = turn
    image.save(held, "JPEG", quality=90, exif=exif)
    return held.getvalue()


def saved(image: Image.Image, kind: str, **settings) -> bytes:
    held = io.BytesIO()
    image.save(held, kind, **settings)
    return held.getvalue()


COLOUR, GREY = (GENERATOR.integers(0, 256, shape, dtype=np.uint8) for shape in ((37, 23, 3), (19, 50)))
PICTURES = {
    "JPEG": jpeg(COLOUR),
    "grey JPEG": jpeg(GREY),
    "turned JPEG": jpeg(COLOUR, turn=6),
    "mirrored JPEG": jpeg(GREY, turn=4),
    "PNG": png(COLOUR),
    "grey PNG": png(GREY),
    "transparent PNG": saved(Image.fromarray(COLOUR).convert("RGBA"), "PNG"),
    "palette PNG": saved(Image.fromarray(COLOUR).convert("P"), "PNG"),
    "black and white PNG": saved(Image.fromarray(GREY).convert("1"), "PNG"),
    "WebP": saved(Image.fromarray(COLOUR), "WEBP", lossless=True),
    "one pixel": png(GREY[:1, :1]),
}


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("name", PICTURES)
def test_pixels_are_those_of_ingest(tmp_path, name, mode, fit):
    (tmp_path / "x").write_bytes(PICTURES[name])
    inputs = {"kind": "image", "mode": mode, "shape": [len(mode), 12, 9], "fit": fit}
    [([where], found)] = softcache_export.read(tmp_path / "x", {"inputs": inputs})
    expected = pixels.decode(PICTURES[name], mode, "x", (12, 9), fit)
    assert where == str(tmp_path / "x")
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected.transpose(2, 0, 1)[None])


def test_an_image_of_another_size_is_refused_where_none_is_resized(tmp_path):
    (tmp_path / "x.png").write_bytes(png(GREY))
    inputs = KINDS["image"] | {"fit": None}
    with pytest.raises(Refused, match=r"x\.png: expected 3×4 pixels, found 19×50\. Bring it to that size\."):
        list(softcache_export.read(tmp_path / "x.png", {"inputs": inputs}))


def test_arrays_of_one_row_and_of_several(tmp_path):
    rows = GENERATOR.standard_normal((70, 4, 3)).astype(np.float32)
    np.save(tmp_path / "one.npy", rows[3])
    np.save(tmp_path / "all.npy", rows.astype(np.float16))
    said = {"inputs": KINDS["array"]}
    [(names, found)] = softcache_export.read(tmp_path / "one.npy", said)
    assert names == [str(tmp_path / "one.npy")]
    np.testing.assert_array_equal(found, rows[3:4])
    several = list(softcache_export.read(tmp_path / "all.npy", said))
    assert several[1][0][-1] == f"{tmp_path / 'all.npy'}, row 69"
    np.testing.assert_array_equal(np.concatenate([found for _, found in several]), rows.astype(np.float16).astype(np.float32))


def test_lines_of_text_are_counted_from_one(tmp_path):
    """They end with a line feed and with nothing else, as rows of a text file do."""
    (tmp_path / "x.txt").write_bytes("\ufeffTo\u2028be\r\n\r\nor, not\n".encode())
    encoding = {"name": "words", "features": 7, "ngrams": 2, "characters": [], "length": 5}
    [(names, found)] = softcache_export.read(tmp_path / "x.txt", {"inputs": KINDS["text"], "encoding": encoding})
    assert names == [f"{tmp_path / 'x.txt'}, line {line}" for line in (1, 2, 3)]
    hashed = [[b"to", b"be", b"to be"], [], [b"or", b",", b"not", b"or ,", b", not"]]
    expected = [[zlib.crc32(run) % 7 + 1 for run in runs] + [0] * (5 - len(runs)) for runs in hashed]
    assert found.tolist() == expected
    assert found.dtype == np.int32


BAD = {
    "no image": ("image", b"words", "expected a PNG, JPEG or WebP image, found 5 bytes that do not decode (not an image file)"),
    "half an image": ("image", PICTURES["PNG"][:300], "expected a PNG, JPEG or WebP image"),
    "deep image": ("image", png(GREY.astype(np.uint16)), "expected 8 bits per channel, found 16"),
    "an animation": (
        "image",
        saved(Image.fromarray(GREY), "PNG", save_all=True, append_images=[Image.fromarray(255 - GREY)]),
        "expected one picture, found an animation of 2",
    ),
    "no array": ("array", b"words", "expected a .npy file of float32 rows of shape (4, 3), or of one, found something else"),
    "no text": ("text", b"\xff\xfe\x00", "expected text in UTF-8, found something else"),
}


@pytest.mark.parametrize("name", BAD)
def test_other_files_are_refused_by_name(tmp_path, name):
    kind, data, message = BAD[name]
    (tmp_path / "x").write_bytes(data)
    said = {"inputs": KINDS[kind], "encoding": {"name": "words", "features": 7, "ngrams": 2, "characters": [], "length": 5}}
    with pytest.raises(Refused, match=re.escape(f"{tmp_path / 'x'}: {message}")) as caught:
        list(softcache_export.read(tmp_path / "x", said))
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        (np.zeros((4, 4), np.float32), r"found float32 \(4, 4\)\. Save rows of that shape"),
        (
            np.zeros((4, 3)),
            r"found float64 \(4, 3\)\. Convert it, such as by `rows\.astype\('float32'\)`",
        ),  # it would be rounded
        (np.zeros((0, 4, 3), np.float32), r"found float32 \(0, 4, 3\)"),
        (np.full((2, 4, 3), np.nan, np.float32), "expected finite numbers"),
        (np.array([{}]), "found something else"),  # a pickle
    ],
)
def test_other_arrays_are_refused(tmp_path, rows, found):
    np.save(tmp_path / "x.npy", rows)
    with pytest.raises(Refused, match=found):
        list(softcache_export.read(tmp_path / "x.npy", {"inputs": KINDS["array"]}))


@pytest.mark.parametrize("header", [b"{'descr': '<f4', 'shape': (", b"{'descr': '<f4' 'x", b"(((", b"\\x", b"1_"])
def test_a_damaged_array_is_one_message_whatever_numpy_raises(tmp_path, header):
    data = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    for content in (data, b"PK\x03\x04" + bytes(9)):
        (tmp_path / "x.npy").write_bytes(content)
        with pytest.raises(Refused, match=r"x\.npy: expected a \.npy file .*, found something else"):
            list(softcache_export.read(tmp_path / "x.npy", {"inputs": KINDS["array"]}))


def test_texts_that_only_the_net_can_encode_are_refused(tmp_path):
    said = {"inputs": KINDS["text"], "encoding": None, "model": "my_nets:build()"}
    with pytest.raises(Refused, match="found encoded by my_nets:build"):
        list(softcache_export.read(tmp_path / "x.txt", said))


def test_a_missing_file(tmp_path):
    with pytest.raises(Refused, match=r"none\.png: expected a file, found No such file"):
        list(softcache_export.read(tmp_path / "none.png", {"inputs": KINDS["image"]}))


# ---------------------------------------------------------------- damage


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS, NET, FLOAT, INT8, MODULE])
@pytest.mark.parametrize("how", ["flipped", "cut", "gone"])
def test_a_changed_file_is_found_by_what_reads_it(folder, name, how):
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    if how == "gone":
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(data if how == "flipped" else data[:-1])

    def use() -> object:
        return load(folder) if name in (WEIGHTS, NET) else Predictor(folder, int8=name == INT8)

    with pytest.raises(Refused, match=re.escape(name)) as caught:
        use()
    assert caught.value.exit_code == (2 if (name, how) == (CONFIG, "gone") else 3)  # without it, the folder is no export


def test_a_net_that_was_changed_is_not_run(folder):
    (folder / NET).write_text(NET_SOURCE + "raise SystemExit('it was run')\n")
    with pytest.raises(Refused, match=r"net\.py: expected sha256"):
        load(folder)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"digest": 1}', b"\xff", b"[" * 100_000])
def test_another_config_is_refused(folder, content):
    (folder / CONFIG).write_bytes(content)
    with pytest.raises(Refused, match="expected its facts as they were written, found others"):
        Predictor(folder)


def test_another_format_names_the_file_that_reads_it(tmp_path):
    with pytest.raises(Refused, match=r"expected format 1, found format 2\. Use the softcache_export\.py that lies beside it"):
        load(write(tmp_path / "export", format=2))


def test_a_folder_that_is_no_export(tmp_path):
    with pytest.raises(Refused, match=r"expected an export, with config\.json, found none"):
        Predictor(tmp_path)


def test_the_command_tells_errors_by_codes(folder, capsys, monkeypatch):
    monkeypatch.setattr(softcache_export, "__file__", str(folder / MODULE))
    assert softcache_export.main([str(folder / "none.png")]) == 2
    assert "Error: " in capsys.readouterr().err
    shutil.copy(folder / INT8, folder / FLOAT)
    assert softcache_export.main([str(folder / "none.png")]) == 3
    assert "model.onnx: expected sha256" in capsys.readouterr().err


def test_names_of_classes_are_no_commands_of_a_terminal(tmp_path, capsys, monkeypatch):
    folder = write(tmp_path / "export", id2label={"0": "a\x1b[2J", "1": "a\x1b[2J", "2": "a\x1b[2J"})
    monkeypatch.setattr(softcache_export, "__file__", str(folder / MODULE))
    (tmp_path / "x.png").write_bytes(png(GREY))
    assert softcache_export.main([str(tmp_path / "x.png"), "--top", "1"]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_a_percent_sign_in_a_class_stays_as_it_is():
    found = softcache_export.Prediction("x", [("100% wool", 0.75), ("silk", 0.25)])
    assert softcache_export.shown(found) == "x: 100% wool 75.0 %, silk 25.0 %"


@pytest.mark.parametrize("top", ["0", "-1", "x", "1.5"])
def test_the_command_shows_one_class_at_least(folder, capsys, monkeypatch, top):
    monkeypatch.setattr(softcache_export, "__file__", str(folder / MODULE))
    with pytest.raises(SystemExit) as caught:
        softcache_export.main(["x.png", f"--top={top}"])
    assert caught.value.code == 2
    assert f"expected a whole number from 1, found {top}" in capsys.readouterr().err


def test_no_rows_have_no_probabilities(folder):
    found = Predictor(folder).probabilities(np.zeros((0, 1, 3, 4), np.uint8))
    assert found.shape == (0, 3)
    assert found.dtype == np.float32
