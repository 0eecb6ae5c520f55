"""What is said within the block does not reach the terminal; what is said around it does."""

import logging
import os
import sys
import warnings

import pytest

from pipeline.models.quiet import quiet


def test_nothing_is_heard_from_within(capfd, recwarn):
    os.write(2, b"before ")
    with quiet():
        print("printed", file=sys.stderr)
        os.write(1, b"from C++")
        os.write(2, b"from C++")
        warnings.warn("warned", stacklevel=1)
        logging.getLogger("some").error("logged")
    os.write(2, b"after")
    assert capfd.readouterr() == ("", "before after")
    assert not recwarn.list


def test_errors_come_through_and_end_it(capfd):
    with pytest.raises(ValueError, match="wrong"), quiet():
        raise ValueError("wrong")
    os.write(2, b"after")
    assert capfd.readouterr().err == "after"
