"""The model card, of made-up figures."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from ruamel.yaml import YAML

from pipeline.data.inputs.array import Arrays
from pipeline.data.inputs.image import Images
from pipeline.data.inputs.text import Texts
from pipeline.models.modelfile import Chosen, Data, Generation, Learned, Mutual, Shown
from pipeline.models.training import Training
from pipeline.results.card import Card, Figures, Measured, Quantised, Source
from pipeline.results.tables import RunRow
from runs import rows
from softcache_export import FLOAT, INT8

SOFT = Learned(4.0, 0.5, 0.5, "kl()", "version 1", True, False, "probabilities", 1, (1.0,), {"a": "c" * 64}, None)


def run_rows(*errors: int) -> list[RunRow]:
    """Of a student at T = 4: a seed for each number of errors in 100 rows."""
    return [RunRow(**dict.fromkeys(RunRow._fields) | row) for row in rows("s-T4", "student", "s", 4.0, errors)]


IMAGES = Images("L", (1, 8, 8))


def card(inputs=IMAGES, *, errors=(10, 12, 14), lost=0.0, encoding=None, **changes) -> Card:
    model = SimpleNamespace(
        name="s-T4", kind="student", model="mlp(hidden=[3])", classes=("cat", "dog"), inputs=inputs, soft=SOFT,
        data=Data("d" * 64, "e" * 64, "f" * 64, "0" * 64), views=Shown("flip()", 0, ("version 1",), 2),
        rows=Chosen("all()", 300, ""), recipe=Training(optimizer="sgd(lr=0.1)", epochs=7, batch_size=32),
        mutual=None, generations=(),
    )  # fmt: skip
    facts = {"shape": [1, 8, 8], "dtype": "uint8", "kind": inputs.kind, "mode": "L", "fit": None}
    config = {"inputs": facts, "encoding": encoding, "output": "logits", "seed": 1, "weights_sha256": "1" * 64}
    times = {"torch": (0.004, 0.008), FLOAT: (0.001, 0.004), INT8: (0.002, 0.003)}
    measured = {name: Measured(12345, 200, 5, 2e-7, {1: one, 64: many}) for name, (one, many) in times.items()}
    given = {
        "config": config,
        "model": model,
        "parameters": 1234,
        "license": "mit",
        "sources": [Source("a", "c" * 64, "cnn()", "b" * 64)],
        "figures": Figures(1, run_rows(*errors), {"valid": 100, "test": 100}),
        "models": measured,
        "quantised": Quantised("seven bits", lost, 200),
        "chosen": True,
        "folded": False,
    }
    return Card(**given | changes)


def line(text: str, start: str) -> str:
    [found] = [each for each in text.splitlines() if each.startswith(start)]
    return found


def test_accuracy_of_the_seed_with_its_interval_and_of_all_seeds():
    """12 errors in 100 rows: Wilson's interval is 80.19 to 93.00; seeds have 90, 88 and 86 %."""
    assert line(card().text(), "| test") == "| test | 100 | 88.00 | 80.19 to 93.00 | 0.2500 | 88.00 ± 2.00 | 3 |"


def test_times_of_all_models_and_how_int8_compares():
    text = card().text()
    assert line(text, "| `model.onnx`") == "| `model.onnx` | 12.3 | 97.50 | 2e-07 | 1.000 | 4.000 |"
    assert line(text, "| in torch").endswith("| 4.000 | 8.000 |")
    assert "it takes 2.00 times as long for 1 row and 0.75 times as long for 64 rows as `model.onnx`" in text


@pytest.mark.parametrize(
    ("lost", "said"), [(0.0, "loses no"), (0.01, "loses 1.00 points of"), (-0.005, "gains 0.50 points of")]
)
def test_what_int8_costs(lost, said):
    assert f"`model.int8.onnx` {said} accuracy on these rows (seven bits)" in card(lost=lost).text()


@pytest.mark.parametrize("name", ["mit", "no", "1.0"])
def test_the_header_is_yaml_of_the_hub_whatever_the_licence_is_called(name):
    """By the rules of YAML 1.1, as the Hub reads it."""
    yaml = YAML(typ="safe")
    yaml.version = (1, 1)
    head = yaml.load(card(license=name).text().split("\n---\n\n#")[0].removeprefix("---\n"))
    assert head["license"] == name
    assert head["pipeline_tag"] == "image-classification"
    [_, test] = head["model-index"][0]["results"]
    assert test["metrics"] == [{"type": "accuracy", "value": 0.88}]
    assert test["dataset"]["split"] == "test"


def test_where_it_comes_from():
    text = card().text()
    assert f"- a: `cnn()`, sha256 of its weights {'b' * 64}, digest of the cache {'c' * 64}\n" in text
    assert "kl() at T = 4 with alpha = 0.5 and label weight = 0.5; times T²: yes; standardised: no; what is av" in text
    assert "- recipe: sgd(lr=0.1), constant, epochs 7, batch size 32\n" in text
    assert "- views: flip(), seed 0, 2 of each row\n" in text
    assert "learned from each other" not in text
    assert "generations" not in text
    unknown = card(sources=[Source("a", "c" * 64, None, None)]).text()
    assert f"- a: digest of the cache {'c' * 64}\n" in unknown


def test_whom_it_descends_from_and_whom_it_learned_beside():
    found = card()
    told = [("hard/s-hard", 1, ""), ("born/s-T4", 2, "ab"), ("more/s-T4", 0, "cd")]
    found.model.generations = tuple(Generation(run, seed, "", dict.fromkeys(teachers, "")) for run, seed, teachers in told)
    found.model.mutual = Mutual(0.5, (2, 0))
    text = found.text()
    assert line(text, "- generations").endswith("hard/s-hard (seed 1); a + b → born/s-T4 (seed 2); c + d → more/s-T4 (seed 0)")
    assert line(text, "- students that learned from each other").endswith(": seeds 2, 0, with weight 0.5")


def test_every_setting_that_is_not_its_default():
    found = card()
    others = {"max_norm": 2.5, "clip_grad": 1.0, "label_smoothing": 0.1, "draws": 2, "ema": 0.99, "keep": "best", "patience": 3,
              "precision": "bfloat16"}  # fmt: skip
    found.model.recipe = Training(optimizer="sgd(lr=0.1)", schedule="cosine()", epochs=7, batch_size=32, **others)
    course = {"temperature_schedule": "linear(end=0.25)", "alpha_schedule": "linear()", "loss_warmup": 20}
    given = {"weights": (1.0, 0.5), "standardised": True, "squared": False, "caches": None, "live": {"a": "", "b": ""}}
    beside = {"features": ("hint(a)", "sp(b)"), "learned_temperature": "ctkd() of version 1"}
    found.model.soft = replace(SOFT, **given, **course, **beside)
    text = found.text()
    for name, value in others.items():
        assert f", {name.replace('_', ' ')} {value}" in line(text, "- recipe")
    said = line(text, "- soft targets")
    for each in ("times T²: no", "standardised: yes", "weights of the teachers: 1, 0.5", "from teachers in the loop",
                 "T times linear(end=0.25)", "alpha times linear()", "its first 20 epochs a warm-up",
                 "; of features: hint(a); of features: sp(b);", "learned from there on by ctkd() of"):  # fmt: skip
        assert each in said


@pytest.mark.parametrize(
    ("inputs", "encoding", "task", "said"),
    [
        (Arrays("float32", (1, 8, 8)), None, "tabular-classification", "python softcache_export.py rows.npy"),
        (Texts(), {"name": "words", "length": 8}, "text-classification", "their words: uint8 (batch, 1, 8, 8) (length: 8)"),
        (Texts(), None, "text-classification", "as `encode` of `mlp(hidden=[3])` gives them"),
    ],
)  # fmt: skip
def test_inputs_of_other_kinds(inputs, encoding, task, said):
    text = card(inputs, encoding=encoding).text()
    assert f"pipeline_tag: {task}\n" in text
    assert said in text


def test_texts_that_only_the_net_encodes_name_no_command():
    assert "python softcache_export.py" not in card(Texts()).text()


def test_a_run_that_was_not_evaluated_has_no_figures():
    text = card(figures=Figures(1, [], {})).text()
    assert "This run was not evaluated" in text
    assert "model-index" not in text


def test_a_seed_that_was_chosen_says_by_what():
    assert "This seed has the lowest validation NLL of them." in card().text()
    assert "lowest" not in card(chosen=False).text()


def test_validation_rows_that_were_trained_on_are_named():
    assert "Validation rows were training rows too" in card(folded=True).text()
    assert "training rows too" not in card().text()


def test_names_are_no_markup():
    found = card()
    found.model.classes = ("<script>", "[x](y)")
    assert "&lt;script&gt;, \\[x\\](y)." in found.text()
