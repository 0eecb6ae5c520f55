"""How long one question takes the teacher and a student: both as ONNX models, run by onnxruntime on one thread of the CPU.

python examples/banking77/speed.py    # after `make banking77`; prints a table
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from pipeline.data.splits import open_splits
from pipeline.models.build import parameter_count
from pipeline.models.checkpoint import Checkpoint
from pipeline.models.onnxfile import quiet
from pipeline.results.export import export
from pipeline.results.exporting import Exporting

DATA = Path(__file__).parent / "data"
STUDENT = "words/words-T1-alpha1"
QUESTIONS, REPEATS = 100, 5


class Plain(torch.nn.Module):
    """The teacher without its tokenizer: numbers of tokens, and which of them count, to logits."""

    def __init__(self, net: torch.nn.Module):
        super().__init__()
        self.net = net

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.net(tokens, attention_mask=mask)
        return logits


def teacher_of(net: torch.nn.Module, path: Path) -> None:
    """Write the teacher as an ONNX file for any number of tokens."""
    tokens, mask = (torch.ones(2, 16, dtype=torch.int64) for _ in range(2))
    axes = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    with quiet():
        program = torch.onnx.export(
            Plain(net.net).eval(), (tokens, mask), dynamo=True, dynamic_shapes=(axes, axes), input_names=["tokens", "mask"],
            verbose=False,
        )  # fmt: skip
    program.save(path)


def session(path: Path) -> onnxruntime.InferenceSession:
    """A model on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def median(answer: Callable[[int], object]) -> float:
    """The median time of one question in milliseconds."""
    times = []
    for question in [*range(QUESTIONS)] * REPEATS:
        started = time.perf_counter()
        answer(question)
        times.append(time.perf_counter() - started)
    return 1000 * statistics.median(times)


def _encoded(net: torch.nn.Module, texts: list[str], question: int) -> object:
    return net.encode([texts[question]])


def main() -> None:
    texts = open_splits(DATA / "transfer", ["valid"])["valid"].read(0)[:QUESTIONS].tolist()
    teacher = Checkpoint.teacher(DATA / "teachers/minilm")
    big = teacher.load(teacher.nets[0], torch.device("cpu"))
    student = Checkpoint.open(DATA / "sweeps/words/students/words-T1-alpha1", kinds=["student"], name=STUDENT, fix="")
    small = student.load(student.nets[0], torch.device("cpu"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        teacher_of(big, folder / "teacher.onnx")
        export(run=STUDENT, data=DATA, out=folder / "student", settings=Exporting(seed=student.nets[0].seed))
        large, little = session(folder / "teacher.onnx"), session(folder / "student/model.onnx")
        sizes = [
            sum(path.stat().st_size for path in folder.glob("teacher.onnx*")),
            (folder / "student/model.onnx").stat().st_size,
        ]
    tokens = [big.encode([text]).astype(np.int64) for text in texts]
    tokens = [row[:, row[0] > 0] - 1 for row in tokens]  # 0 is no token, and one question alone needs none
    words = [small.encode([text]) for text in texts]
    check = large.run(None, {"tokens": tokens[0], "mask": np.ones_like(tokens[0])})[0]
    with torch.no_grad():
        np.testing.assert_allclose(check, big(torch.from_numpy(big.encode(texts[:1]))).numpy(), atol=1e-3)
    times = [
        median(lambda question: large.run(None, {"tokens": tokens[question], "mask": np.ones_like(tokens[question])})),
        median(lambda question: little.run(None, {"inputs": words[question]})),
    ]
    encoding = [median(partial(_encoded, net, texts)) for net in (big, small)]
    print("| one question, one thread | teacher | student | ratio |")
    print("| --- | ---: | ---: | ---: |")
    for what, (first, second), form in (
        ("parameters", (parameter_count(big), parameter_count(small)), "{:,}"),
        ("ONNX file, MB", [size / 1e6 for size in sizes], "{:.1f}"),
        ("model, ms", times, "{:.4f}"),
        ("text to numbers, ms", encoding, "{:.3f}"),
    ):
        print(f"| {what} | {form.format(first)} | {form.format(second)} | {first / second:.0f} |")


if __name__ == "__main__":
    main()
