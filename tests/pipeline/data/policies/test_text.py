"""Steps for texts, against splitting them into words."""

import numpy as np
import pytest

from pipeline.base.errors import InputError
from pipeline.data.policies.text import drop
from pipeline.data.views import Policy

WORDS = "one two three four five six"
ODD = ["", "   ", "\n", "word", " word ", "a\u00a0b\u3000c", "\ud800 x \udfff", "e\u0301 \u200d👩\u200d🔬 b", "\x00 \x1f y"]


def rewritten(text: str, texts: list[str], view: int = 1, seed: int = 5) -> list[str]:
    return Policy.parse(text, seed).rewrite(texts, np.arange(len(texts)), np.full(len(texts), view))


def is_part(few: list[str], many: list[str]) -> bool:
    """Whether `few` are some of `many`, in their order."""
    rest = iter(many)
    return all(word in rest for word in few)


def test_up_to_so_many_words_go_and_the_others_keep_their_order():
    found = [each.split() for each in rewritten("drop(3)", [WORDS] * 2000)]
    assert all(is_part(each, WORDS.split()) for each in found)
    counts = np.bincount([6 - len(each) for each in found])
    assert len(counts) == 4
    assert (np.abs(counts - 500) < 95).all()  # uniform in 0 to 3, five standard deviations
    lost = [sum(word not in each for each in found) for word in WORDS.split()]
    assert (np.abs(np.array(lost) - 500) < 95).all()  # 1.5 of 6 words, each as often as another


def test_one_word_stays():
    found = rewritten("drop(9)", ["a b", "word", "a b c"] * 200)
    assert all(each.split() for each in found)
    assert set(found[::3]) == {"a b", "a", "b"}
    assert set(found[1::3]) == {"word"}


def test_white_space():
    """What goes with a word is what is behind it; the ends of a text stay as they are."""

    class Draw:
        def __init__(self, *picks: float):
            self.picks = picks

        def __call__(self, high: int, slot: int) -> np.ndarray:
            return np.array([len(self.picks) if slot == 0 else int(self.picks[slot - 1] * high)])

    text = "\t one  two\nthree \r\n"
    assert drop([text], Draw(0.0), 3) == ["\t two\nthree \r\n"]
    assert drop([text], Draw(0.5), 3) == ["\t one  three \r\n"]
    assert drop([text], Draw(0.9), 3) == ["\t one  two \r\n"]
    assert drop([text], Draw(0.9, 0.9), 3) == ["\t one \r\n"]
    assert drop([text], Draw(0.9, 0.9, 0.9), 3) == ["\t one \r\n"]
    assert drop([text], Draw(), 3) == [text]


@pytest.mark.parametrize("text", ODD)
def test_odd_texts_are_no_trouble(text):
    for view in range(8):
        [found] = rewritten("drop(2)", [text], view)
        assert is_part(found.split(), text.split())
        assert bool(found.split()) == bool(text.split())
        assert len(text.split()) > 1 or found == text


def test_texts_do_not_depend_on_the_batch():
    texts = [" ".join(WORDS.split()[: 1 + row % 6]) for row in range(40)]
    policy, rows, views = Policy.parse("drop(2) | drop(1)", 3), np.arange(40), np.arange(40) % 3
    together = policy.rewrite(texts, rows, views)
    alone = [policy.rewrite(texts[i : i + 1], rows[i : i + 1], views[i : i + 1])[0] for i in range(40)]
    assert together == alone
    assert together[::3] == texts[::3]  # view 0
    assert together != texts


def test_seed_row_and_view_matter():
    base = rewritten("drop(3)", [WORDS] * 20)
    assert len(set(base)) > 5
    assert base != rewritten("drop(3)", [WORDS] * 20, seed=6)
    assert base != rewritten("drop(3)", [WORDS] * 20, view=2)


def test_nothing_to_do():
    assert rewritten("none", ["a b"]) == ["a b"]
    assert rewritten("drop(0)", ["a b"]) == ["a b"]
    assert rewritten("drop(2)", []) == []


PLUG_INS = """
def shout(texts, draw):
    return [text.upper() for text in texts]

def fewer(texts, draw):
    return texts[1:]

def nothing(texts, draw):
    pass

def number(texts, draw):
    return [*texts[1:], 7]

def several(texts, draw):
    return tuple(texts)
"""


def test_a_plug_in_gives_as_many_texts(tmp_path, monkeypatch):
    (tmp_path / "odd_texts.py").write_text(PLUG_INS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("SOFTCACHE_PLUGINS", "odd_texts")
    assert rewritten("odd_texts:shout()", ["a", "b", "c"]) == ["A", "B", "C"]
    for name, found in {"fewer": "2 texts", "nothing": "NoneType", "number": "int", "several": "tuple"}.items():
        with pytest.raises(InputError, match=rf"view policy odd_texts:{name}\(\): expected a list of 3 texts, found {found}"):
            rewritten(f"odd_texts:{name}()", ["a", "b", "c"])
