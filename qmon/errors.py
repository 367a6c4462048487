"""The errors that a user can see: one hierarchy, with QMP's classes.

A message is one line that names the thing, what is wrong with it and what would be right.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


class QmonError(Exception):
    """Any failure that is shown to a user; ``str()`` is the whole line."""


class CommandError(QmonError):
    """A QMP command failed (QMP specification, "Error"); ``str()`` is its ``desc``."""

    error_class = "GenericError"

    def __init__(self, desc: str, error_class: str | None = None) -> None:
        super().__init__(desc)
        if error_class is not None:
            self.error_class = error_class


class CommandNotFoundError(CommandError):
    """The target has no such command."""

    error_class = "CommandNotFound"

    def __init__(self, name: str) -> None:
        super().__init__(f"The command {name} has not been found")
        self.name = name


class ConnectionLostError(CommandError):
    """The connection to another program is lost: a command was not sent, or its answer did not come."""


class DeviceNotFoundError(CommandError):
    """There is no drive, node or export of that name."""

    error_class = "DeviceNotFound"

    def __init__(self, name: str) -> None:
        super().__init__(f"Device '{name}' not found")


class UsageError(QmonError):
    """A command line, option string, address or number that can't be read."""


class ProblemsError(QmonError):
    """Several failures that a user should see at once; ``problems`` has a line for each."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class Problems:
    """Collects failures, so that one does not hide the next."""

    def __init__(self) -> None:
        self.found: list[str] = []

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Note a QmonError that the block raises, and go on behind the block."""
        try:
            yield
        except ProblemsError as several:
            self.found += several.problems
        except QmonError as error:
            self.found.append(str(error))

    def check(self) -> None:
        """Raises ProblemsError if anything was noted."""
        if self.found:
            raise ProblemsError(self.found)


def as_os_error(error: OSError | MemoryError) -> OSError:
    """Return the error as an OSError: a MemoryError becomes ENOMEM."""
    return OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)) if isinstance(error, MemoryError) else error


def reason(error: BaseException) -> str:
    """Say why something failed, in one line for an operator.

    For an ``OSError`` this is its ``strerror`` ("No space left on device"); the caller names the file and
    the operation.
    """
    if isinstance(error, MemoryError):
        error = as_os_error(error)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = str(error).strip()
    if isinstance(error, ValueError) and "embedded null" in text:  # words differ by version of Python
        return "the name contains a null byte"
    return text.splitlines()[0] if text else type(error).__name__


@contextmanager
def naming(what: str, kind: type[QmonError] = QmonError) -> Iterator[None]:
    """Turn an OSError in the block into a ``kind`` whose text is ``what`` and the reason."""
    try:
        yield
    except OSError as error:
        raise kind(f"{what}: {reason(error)}") from error
