"""All that an exported student needs to run, in one file: it lies in every folder that `softcache export` writes.

    python softcache_export.py FILE…     prints the likeliest classes; onnxruntime, numpy and Pillow are enough
    load(folder)                         is the net in torch; torch and safetensors are enough
    Predictor(folder)                    does what the command does, in a program of yours

Nothing else of Softcache is used here. Softcache uses this file: what opens, turns and resizes an image, or encodes a text,
when its inputs are read, does so here as well, and so both see the same numbers.
"""

import argparse
import functools
import hashlib
import io
import json
import re
import sys
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    import torch
    from PIL import Image

FORMAT = 1  # of config.json
CONFIG, WEIGHTS, NET = "config.json", "model.safetensors", "net.py"
FLOAT, INT8, MODULE = "model.onnx", "model.int8.onnx", "softcache_export.py"
TILE = 64  # rows of a forward pass

_FIX = "Copy the folder again, or export it anew."


class Refused(Exception):
    """What a user can mend. exit_code: 2 for a wrong input, 3 for damaged files."""

    def __init__(self, what: str, *, expected: str, found: str, fix: str, exit_code: int = 2):
        super().__init__(f"{what}: expected {expected}, found {found}. {fix}")
        self.what, self.expected, self.found, self.fix, self.exit_code = what, expected, found, fix, exit_code


# ---------------------------------------------------------------- the folder


def config(folder: Path) -> dict[str, Any]:
    """The content of config.json, which must be as it was written, like this file beside it. Raises Refused for another."""
    path = folder / CONFIG
    try:
        data = path.read_bytes()
    except OSError as error:
        fix = "Name a folder that `softcache export` wrote."
        raise Refused(str(folder), expected=f"an export, with {CONFIG}", found="none", fix=fix) from error
    try:
        found: dict[str, Any] = json.loads(data)
        again = digest({key: value for key, value in found.items() if key != "digest"})
        written = (json.dumps(found, indent=2, ensure_ascii=False) + "\n").encode()
        sound = found.get("digest") == again and written == data
    except (ValueError, AttributeError, RecursionError):
        sound = False
    if not sound:
        raise Refused(str(path), expected="its facts as they were written", found="others", fix=_FIX, exit_code=3)
    if found["format"] != FORMAT:
        version = f"format {found['format']}"
        raise Refused(str(path), expected=f"format {FORMAT}", found=version, fix=f"Use the {MODULE} that lies beside it.")
    bound(folder, found, MODULE)
    return found


def digest(facts: Mapping[str, Any]) -> str:
    """The sha256 of facts, as JSON with sorted keys."""
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def bound(folder: Path, facts: Mapping[str, Any], name: str) -> bytes:
    """The bytes of a file of the folder; raises Refused unless they are those that config.json names."""
    path, wanted = folder / name, facts["files"].get(name)
    if wanted is None:
        fix = f"It has {', '.join(facts['files'])}."
        raise Refused(str(path), expected="a file of the export", found="none of that name", fix=fix)
    data = path.read_bytes() if path.is_file() else b""
    if (found := hashlib.sha256(data).hexdigest()) != wanted:
        had = f"sha256 {found[:12]}…" if path.is_file() else "no file"
        raise Refused(str(path), expected=f"sha256 {wanted[:12]}…", found=had, fix=_FIX, exit_code=3)
    return data


# ---------------------------------------------------------------- in torch


def load(folder: str | Path) -> "torch.nn.Module":
    """The exported net in torch, in evaluation mode, on the CPU.

    Its forward pass is written out, an operation a line, in net.py, which runs once its sha256 is that in config.json. What is
    for training only, such as dropout, is not part of it.

    Args:
        folder: The folder of the export.

    Returns:
        A module from inputs (n, *shape), as config.json has them, to raw logits (n, classes) float32. The names of its
        weights are those in model.safetensors.

    Raises:
        Refused: The folder is no export, or a file of it has changed.
    """
    import safetensors.torch

    folder = Path(folder)
    facts = config(folder)
    tensors = safetensors.torch.load(bound(folder, facts, WEIGHTS))
    program: dict[str, Any] = {"__name__": f"softcache_export.{NET}"}
    exec(compile(bound(folder, facts, NET), str(folder / NET), "exec"), program)
    return assembled(program, tensors)


def assembled(program: Mapping[str, Any], tensors: Mapping[str, "torch.Tensor"]) -> "torch.nn.Module":
    """A module of a written-out forward pass and its weights.

    program: what net.py defines: PARAMETERS and BUFFERS, names of tensors, and `forward`, which takes them and then the inputs.
    """
    import torch

    class Net(torch.nn.Module):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            """Logits of inputs."""
            parameters = [self.get_parameter(name) for name in program["PARAMETERS"]]
            buffers = [self.get_buffer(name) for name in program["BUFFERS"]]
            logits: torch.Tensor = program["forward"](*parameters, *buffers, inputs)
            return logits

    net = Net()
    for name in (*program["PARAMETERS"], *program["BUFFERS"]):
        *path, last = name.split(".")
        place: torch.nn.Module = net
        for part in path:
            if part not in dict(place.named_children()):
                place.add_module(part, torch.nn.Module())
            place = place.get_submodule(part)
        if name in program["PARAMETERS"]:
            place.register_parameter(last, torch.nn.Parameter(tensors[name], requires_grad=tensors[name].is_floating_point()))
        else:
            place.register_buffer(last, tensors[name])
    return net.eval()


# ---------------------------------------------------------------- in onnxruntime


class Prediction(NamedTuple):
    """The likeliest classes of an input, with their probabilities. what: its file, and its place there."""

    what: str
    classes: list[tuple[str, float]]


class Predictor:
    """An export that runs in onnxruntime, on one thread unless told otherwise.

    facts: the content of config.json. classes: the names of the classes, by label.
    """

    def __init__(self, folder: str | Path, *, int8: bool = False, threads: int = 1):
        """Open an export. int8: the smaller model. Raises Refused where it is none, or damaged, or onnxruntime is missing."""
        folder = Path(folder)
        self.facts = config(folder)
        self.classes = [self.facts["id2label"][str(label)] for label in range(len(self.facts["id2label"]))]
        self._run = session(bound(folder, self.facts, INT8 if int8 else FLOAT), threads)

    def probabilities(self, inputs: "np.ndarray") -> "np.ndarray":
        """Of inputs (n, *shape), as config.json has them: (n, classes) float32 probabilities. n may be 0."""
        import numpy as np

        if not len(inputs):  # the models take one row or more
            return np.zeros((0, len(self.classes)), np.float32)
        found = np.concatenate([self._run(inputs[start : start + TILE]) for start in range(0, len(inputs), TILE)])
        return found if self.facts["output"] == "probabilities" else softmax(found)

    def predict(self, files: Iterable[str | Path], top: int = 3) -> Iterable[Prediction]:
        """The `top` likeliest classes of every input in these files: images, .npy files of arrays, or texts, one a line.

        Raises Refused for a file that holds something else.
        """
        for file in files:
            for places, inputs in read(file, self.facts):
                for where, row in zip(places, self.probabilities(inputs), strict=True):
                    best = sorted(range(len(row)), key=lambda label: -row[label])[:top]
                    yield Prediction(where, [(self.classes[label], float(row[label])) for label in best])


def session(model: bytes, threads: int = 1) -> Callable[["np.ndarray"], "np.ndarray"]:
    """An ONNX model as a function from inputs to outputs. Raises Refused without onnxruntime."""
    try:
        import onnxruntime
    except ImportError as error:
        fix = "Run `pip install onnxruntime numpy pillow`."
        raise Refused("predict", expected="onnxruntime", found="not installed", fix=fix) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    options.log_severity_level = 3  # errors only
    held = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def run(inputs: "np.ndarray") -> "np.ndarray":
        [found] = held.run(None, {"inputs": inputs})
        outputs: np.ndarray = found
        return outputs

    return run


def softmax(logits: "np.ndarray") -> "np.ndarray":
    """Probabilities of logits (n, classes), of the same dtype."""
    import numpy as np

    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: np.ndarray = powers / powers.sum(axis=1, keepdims=True)
    return shares


# ---------------------------------------------------------------- files

Rows = tuple[list[str], "np.ndarray"]  # what each row is called, and the rows (n, *shape)


def read(file: str | Path, facts: Mapping[str, Any]) -> Iterable[Rows]:
    """The inputs in a file, as the model takes them, some at a time. facts: of config.json. Raises Refused for another file."""
    kind = facts["inputs"]["kind"]
    return {"image": _image, "array": _arrays, "text": _lines}[kind](file, facts)


def _image(file: str | Path, facts: Mapping[str, Any]) -> Iterable[Rows]:
    import numpy as np

    wanted = facts["inputs"]
    channels, height, width = wanted["shape"]
    image = picture(_bytes(file), str(file), "Name an image file.").convert(wanted["mode"])
    if (image.height, image.width) != (height, width):
        if wanted["fit"] is None:
            found, fix = f"{image.height}×{image.width}", "Bring it to that size."
            raise Refused(str(file), expected=f"{height}×{width} pixels", found=found, fix=fix)
        image = resized(image, (height, width), wanted["fit"])
    yield [str(file)], np.asarray(image).reshape(1, height, width, channels).transpose(0, 3, 1, 2)


def _arrays(file: str | Path, facts: Mapping[str, Any]) -> Iterable[Rows]:
    import numpy as np

    shape, dtype = tuple(facts["inputs"]["shape"]), np.dtype(facts["inputs"]["dtype"])
    expected, fix = f"a .npy file of {dtype} rows of shape {shape}, or of one", "Save it by numpy.save."
    try:
        found = np.load(io.BytesIO(_bytes(file)), allow_pickle=False)
        dims, kind = found.shape, found.dtype
    except Refused:
        raise
    except Exception as error:  # numpy's parsers raise many kinds for bad bytes, MemoryError for a shape that they do not hold
        raise Refused(str(file), expected=expected, found="something else", fix=fix) from error
    rows = found[None] if dims == shape else found
    if not np.can_cast(kind, dtype, "safe"):
        fix = f"Convert it, such as by `rows.astype({str(dtype)!r})`."
        raise Refused(str(file), expected=expected, found=f"{kind} {dims}", fix=fix)
    if rows.shape[1:] != shape or not len(rows):
        fix = "Save rows of that shape."
        raise Refused(str(file), expected=expected, found=f"{kind} {dims}", fix=fix)
    for start in range(0, len(rows), TILE):
        some = rows[start : start + TILE].astype(dtype)
        if dtype.kind == "f" and not np.isfinite(some).all():
            raise Refused(str(file), expected="finite numbers", found="others", fix="Correct the rows.")
        yield [str(file) if dims == shape else f"{file}, row {start + row}" for row in range(len(some))], some


def _lines(file: str | Path, facts: Mapping[str, Any]) -> Iterable[Rows]:
    encoding = facts["encoding"]
    if encoding is None:
        found = f"encoded by {facts['model']}, which is no part of the export"
        fix = "Encode them by that net, and run model.onnx on the numbers."
        raise Refused("predict", expected="a model whose texts are encoded here", found=found, fix=fix)
    try:
        text = (sys.stdin.buffer.read() if str(file) == "-" else _bytes(file)).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Refused(str(file), expected="text in UTF-8", found="something else", fix="Name a text file.") from error
    lines = [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")] if text else []
    for start in range(0, len(lines), TILE):
        some = lines[start : start + TILE]
        yield [f"{file}, line {start + row + 1}" for row in range(len(some))], encoded(encoding, some)


def _bytes(file: str | Path) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise Refused(str(file), expected="a file", found=error.strerror or "none", fix="Correct the path.") from error


# ---------------------------------------------------------------- texts


def encoded(encoding: Mapping[str, Any], texts: Sequence[str]) -> "np.ndarray":
    """Texts as numbers. encoding: the name of a function in ENCODINGS, and its settings."""
    settings = {key: value for key, value in encoding.items() if key != "name"}
    return ENCODINGS[encoding["name"]](texts, **settings)


_WORDS = 2**16  # so many words a process remembers the parts of


def words(texts: Sequence[str], features: int, ngrams: int, characters: Sequence[int], length: int) -> "np.ndarray":
    """Texts to the features of their n-grams, by their CRC-32 (Joulin et al. 2017, arXiv 1607.01759).

    The n-grams are the words, runs of up to `ngrams` of them, and parts of words of characters[0] to characters[1] characters,
    `<` and `>` being the ends of a word (Bojanowski et al. 2017, arXiv 1607.04606).

    Args:
        texts: n texts.
        features: How many there are, besides 0, which is none.
        ngrams: The most words of a run.
        characters: The fewest and the most characters of a part; empty for none.
        length: The most features of a text.

    Returns:
        (n, length) int32, filled up with 0. Words come first, then longer and longer runs of them, then the parts of each word;
        what does not fit is left out.
    """
    import numpy as np

    encoded = np.zeros((len(texts), length), np.int32)
    for row, text in enumerate(texts):
        each = re.findall(r"\w+|[^\w\s]", text.lower())
        runs = (" ".join(each[at : at + size]) for size in range(1, ngrams + 1) for at in range(len(each) - size + 1))
        found = _features(runs, features)
        for word in each if characters else ():
            found += _parts(word, *characters, features)
        found = found[:length]
        encoded[row, : len(found)] = found
    return encoded


def _features(grams: Iterable[str], features: int) -> list[int]:
    return [1 + zlib.crc32(gram.encode()) % features for gram in grams]


@functools.lru_cache(_WORDS)
def _parts(word: str, fewest: int, most: int, features: int) -> list[int]:
    """The features of parts of a word. The sign before each, which no word has, tells a part from a word."""
    whole = f"<{word}>"
    sizes = range(fewest, most + 1)
    return _features((f"#{whole[at : at + size]}" for size in sizes for at in range(len(whole) - size + 1)), features)


ENCODINGS: dict[str, Callable[..., "np.ndarray"]] = {"words": words}

# ---------------------------------------------------------------- images

GREY, COLOUR = {"1", "L"}, {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"}  # modes of 8 bits per channel, or less
_FORMATS = ("PNG", "JPEG", "WEBP")
_OF_ONE_PICTURE = ("JPEG", "MPO")  # what phones add to a photo in MPO, such as a map of depth, is no animation
_PNG, _PNG_DEPTH = b"\x89PNG\r\n\x1a\n", 24  # how a PNG begins, and where it says its bits per channel
_ORIENTATION = 0x0112  # the tag of EXIF (Exif 2.3, 4.6.4) that says how an image is turned, by the numbers 1 to 8
_TURNS = {
    2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_270", 7: "TRANSVERSE",
    8: "ROTATE_90",
}  # fmt: skip


def picture(data: bytes, where: str, fix: str) -> "Image.Image":
    """The first picture of an image file, upright.

    Raises Refused, naming `where`, for anything but a sound PNG, JPEG or WebP of one picture and 8 bits per channel. Of the
    pictures in a JPEG the first one counts. fix: what the message says to do about it.
    """
    from PIL import Image

    limit = Image.MAX_IMAGE_PIXELS
    try:
        image: Image.Image = Image.open(io.BytesIO(data), formats=_FORMATS)
        pictures = 1 if image.format in _OF_ONE_PICTURE else getattr(image, "n_frames", 1)
        if limit and (pixels := image.width * image.height) > limit:
            raise Image.DecompressionBombError(f"{image.height}×{image.width}, which is {pixels} pixels")
        image.load()
    except MemoryError:
        raise
    except Image.DecompressionBombError as error:
        raise Refused(where, expected=f"an image of at most {limit:,} pixels", found=_reason(error), fix=fix) from error
    except Exception as error:  # Pillow's parsers raise many kinds for bad bytes
        found = f"{len(data):,} bytes that do not decode ({_reason(error)})"
        raise Refused(where, expected="a PNG, JPEG or WebP image", found=found, fix=fix) from error
    if pictures > 1:
        raise Refused(where, expected="one picture", found=f"an animation of {pictures}", fix=fix)
    if data.startswith(_PNG) and data[_PNG_DEPTH] > 8:  # Pillow cuts those in colour to 8 without a word
        raise Refused(where, expected="8 bits per channel", found=f"{data[_PNG_DEPTH]}", fix="Convert the image.")
    if image.mode not in COLOUR:
        raise Refused(where, expected="8 bits per channel", found=f"pixel mode {image.mode}", fix="Convert the image.")
    turn = _turn(image)
    return image if turn is None else image.transpose(Image.Transpose[turn])


def _turn(image: "Image.Image") -> str | None:
    """What makes an image upright, as its EXIF says. One whose EXIF cannot be read is taken as it is."""
    if "exif" not in image.info:
        return None
    try:
        orientation = image.getexif().get(_ORIENTATION)
    except MemoryError:
        raise
    except Exception:  # of many kinds, as above
        return None
    return _TURNS.get(orientation) if isinstance(orientation, int) else None


def _reason(error: Exception) -> str:
    lines = (str(error).strip() or type(error).__name__).splitlines()
    return "not an image file" if "cannot identify" in lines[0] else lines[0]


def resized(image: "Image.Image", size: tuple[int, int], fit: str) -> "Image.Image":
    """An image of another size, by Pillow's bilinear filter, which averages where it shrinks. size: (height, width).

    crop: the shorter side fits, the longer one is cut, centred. pad: the longer side fits, the rest is black. stretch: both
    sides fit. Sizes are rounded half up, and Pillow computes in integers, so that every machine gives the same pixels.
    """
    from PIL import Image

    height, width = size
    if fit != "stretch":
        ends = (image.width * height, image.height * width)  # the image is wider than the size where the first is larger
        by_height = (ends[0] >= ends[1]) == (fit == "crop")
        height, width = (
            (height, _scaled(image.width, height, image.height))
            if by_height
            else (_scaled(image.height, width, image.width), width)
        )
    left, top = (width - size[1]) // 2, (height - size[0]) // 2
    if fit == "crop":
        # Only what stays is resized: the whole long side of a thin image would not fit the memory.
        box = (left * image.width / width, top * image.height / height,
               (left + size[1]) * image.width / width, (top + size[0]) * image.height / height)  # fmt: skip
        return image.resize(size[::-1], Image.Resampling.BILINEAR, box)
    if (height, width) != (image.height, image.width):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    return image.crop((left, top, left + size[1], top + size[0]))  # what lies outside is black


def _scaled(side: int, wanted: int, other: int) -> int:
    return max(1, (2 * side * wanted + other) // (2 * other))


# ---------------------------------------------------------------- the command


def shown(found: Prediction) -> str:
    """A prediction as a line: `photo.jpg: cat 97.1 %, dog 2.0 %`."""
    return f"{found.what}: " + ", ".join(f"{name} {100 * share:.1f} %" for name, share in found.classes)


def main(words: Sequence[str] | None = None) -> int:
    """Print the likeliest classes of files, by the export in whose folder this file lies. Returns the exit code."""
    parser = argparse.ArgumentParser(description="Print the likeliest classes of images, .npy arrays, or lines of text.")
    parser.add_argument("files", nargs="+", metavar="FILE", help="a file; - is standard input, for text")
    parser.add_argument("--top", type=_count, default=3, help="how many classes of each (default: 3)")
    parser.add_argument("--int8", action="store_true", help=f"use {INT8}")
    given = parser.parse_args(words)
    try:
        for found in Predictor(Path(__file__).resolve().parent, int8=given.int8).predict(given.files, given.top):
            print(_printable(shown(found)))
    except Refused as error:
        print(f"Error: {_printable(str(error))}", file=sys.stderr)
        return error.exit_code
    return 0


def _count(text: str) -> int:
    """A whole number from 1; argparse makes a message of what is raised."""
    if not text.isdecimal() or int(text[:9]) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, found {text}")
    return int(text[:9])


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


if __name__ == "__main__":
    sys.exit(main())
