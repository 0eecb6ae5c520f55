"""The errors a user can cause or meet: what was expected, what was found, what to do."""

SHOWN = 400  # characters of what was expected or found; a list of a thousand classes helps nobody


class SoftcacheError(Exception):
    """Base of the family. `exit_code` is what the command line exits with."""

    exit_code = 1

    def __init__(self, what: str, *, expected: str, found: str, fix: str):
        """`what` names the file, setting or row; `fix` is a sentence that says what to do.

        All four may hold text out of data: it is made printable, and what is very long is cut.
        """
        what, expected, found = (_cut(printable(text)) for text in (what, expected, found))
        super().__init__(f"{what}: expected {expected}, found {found}. {printable(fix)}")
        self.what, self.expected, self.found, self.fix = what, expected, found, printable(fix)


class InputError(SoftcacheError):
    """Bad input or bad settings."""

    exit_code = 2


class IntegrityError(SoftcacheError):
    """Stored data is damaged, incomplete or does not belong here."""

    exit_code = 3


class BusyError(SoftcacheError):
    """Another process holds or changes what this one needs; running again later can succeed."""

    exit_code = 4


def printable(text: str) -> str:
    """Text as one line that a terminal can be trusted with: what is no visible character is written as its escape."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def first_line(error: BaseException) -> str:
    """The first line of what another library says, or the error's own name where it says nothing."""
    try:
        return (str(error).strip() or type(error).__name__).splitlines()[0]
    except Exception:  # of the user's own, who may have got even that wrong
        return type(error).__name__


def lacks_memory(error: BaseException) -> bool:
    """Whether it says that there is too little memory, as Python or as torch says it, which may not be loaded."""
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "can't allocate" in first_line(error)


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"
