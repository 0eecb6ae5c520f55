"""Hands: what a task gives or raises can be sent, whatever it is."""

import os
import pickle
import threading

import pytest

from crews import Odd
from pipeline.base.errors import InputError
from pipeline.base.hand import Hand, Post, opened

POST = Post(pickle.dumps(list), 1, {}, os.getcwd(), (), 20)


def outcome(function, *given):
    return opened(Hand(POST)._outcome(function, *given))


def raises(error):
    raise error


def test_a_result_arrives():
    assert outcome(divmod, 7, 2) == ((3, 1), None, [])


def test_what_cannot_be_sent_is_told():
    found = outcome(threading.Lock)
    assert found.value is None
    assert "cannot pickle '_thread.lock' object" in str(found.error)
    odd = outcome(raises, Odd(3, 1))
    assert (type(odd.error), str(odd.error)) == (RuntimeError, "Odd: axis 3 of 1")
    assert "test_hand.py" in odd.error.__notes__[0]


@pytest.mark.parametrize("error", [OSError(28, "No space left", "x"), MemoryError("4 GB"), SystemExit(3), Exception()])
def test_other_errors_keep_their_type(error):
    found = outcome(raises, error).error
    assert (type(found), found.args) == (type(error), error.args)
    assert "in a worker:" in found.__notes__[0]


def test_what_a_user_can_mend_has_no_notes():
    found = outcome(raises, InputError("a", expected="b", found="c", fix="Mend it.")).error
    assert not hasattr(found, "__notes__")
    assert isinstance(found, InputError)


def test_a_hand_that_has_not_started_does_nothing():
    with pytest.raises(ValueError, match="has started"):
        Hand(POST).do(1)
