"""Names of runs are those of folders that users know."""

from pipeline.models.runname import run_name, setting


def test_names_of_runs():
    assert run_name("tiny", None) == "tiny-hard"
    assert run_name("tiny", 4.0) == "tiny-T4"
    assert run_name("tiny", 2.5, live=True) == "tiny-T2.5-live"
    assert run_name("tiny", 4.0, 0.5) == "tiny-T4-alpha0.5"
    assert run_name("tiny", 1e-6, 1.0) == "tiny-T1e-06-alpha1"


def test_a_name_ends_in_its_setting():
    for setting_of in ((None, None), (4.0, None), (2.5, 0.9)):
        assert run_name("tiny", *setting_of) == f"tiny-{setting(*setting_of)}"
