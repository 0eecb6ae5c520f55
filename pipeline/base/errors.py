"""Errors that a user can mend: each says what was expected, what was found, and what to do."""

SHOWN = 400  # characters of each text; a list of a thousand classes helps nobody


class SoftcacheError(Exception):
    """Base class of all errors that a user can mend. `exit_code` is the exit code of the command line."""

    exit_code = 1

    def __init__(self, what: str, *, expected: str, found: str, fix: str):
        """Compose the message `<what>: expected <expected>, found <found>. <fix>`.

        All four texts may quote data: unprintable characters are escaped. All but `fix` are cut to `SHOWN` characters.

        Args:
            what: The file, setting or row that is wrong.
            expected: What it should be.
            found: What it is.
            fix: A sentence that says what to do.
        """
        what, expected, found = (_cut(printable(text)) for text in (what, expected, found))
        super().__init__(f"{what}: expected {expected}, found {found}. {printable(fix)}")
        self.what, self.expected, self.found, self.fix = what, expected, found, printable(fix)

    def __reduce__(self) -> tuple[object, ...]:
        """So that an error of another process arrives whole."""
        return _made, (type(self), self.what, self.expected, self.found, self.fix)


class InputError(SoftcacheError):
    """The input or a setting is wrong."""

    exit_code = 2


class IntegrityError(SoftcacheError):
    """Stored data is damaged or incomplete, or belongs to something else."""

    exit_code = 3


class BusyError(SoftcacheError):
    """Another process holds or changes what this one needs; a later run can succeed."""

    exit_code = 4


def printable(text: str) -> str:
    """Text as one line that is safe to print on a terminal: every unprintable character is escaped."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or the name of its type where the message is empty."""
    try:
        return (str(error).strip() or type(error).__name__).splitlines()[0]
    except Exception:  # a user's exception class may have a broken __str__
        return type(error).__name__


def lacks_memory(error: BaseException) -> bool:
    """Whether Python or torch ran out of memory; torch may not be imported, so its error is known by its name."""
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "can't allocate" in first_line(error)


def _made(kind: type[SoftcacheError], what: str, expected: str, found: str, fix: str) -> SoftcacheError:
    return kind(what, expected=expected, found=found, fix=fix)


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"
