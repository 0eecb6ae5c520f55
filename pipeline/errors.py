"""The errors a user can cause or meet: what was expected, what was found, what to do."""


class SoftcacheError(Exception):
    """Base of the family. `exit_code` is what the command line exits with."""

    exit_code = 1

    def __init__(self, what: str, *, expected: str, found: str, fix: str):
        """`what` names the file, setting or row; `fix` is a sentence that says what to do."""
        super().__init__(f"{what}: expected {expected}, found {found}. {fix}")
        self.what, self.expected, self.found, self.fix = what, expected, found, fix


class InputError(SoftcacheError):
    """Bad input or bad settings."""

    exit_code = 2


class IntegrityError(SoftcacheError):
    """Stored data is damaged, incomplete or does not belong here."""

    exit_code = 3


class BusyError(SoftcacheError):
    """Another process holds what this one needs; running again later can succeed."""

    exit_code = 4
