"""The person behind a script's lines, and the report of their results as text or as JSON lines."""

from __future__ import annotations

import errno
import json
import os
import stat
import sys

from qmon.errors import QmonError, reason
from qmon.hmp.line.secrets import without_secrets
from qmon.hmp.line.transcript import LeftOut
from qmon.hmp.monitor import Monitor
from qmon.hmp.origin import Origin
from qmon.hmp.person import Person, Progress
from qmon.hmp.scripts import failure, unrun
from qmon.notation.plain_text import plain
from qmon.notation.units import human_size


class OutputGoneError(QmonError):
    """Standard output is closed, so the script can't print any more."""


class ScriptPerson:
    """The Person (``qmon.hmp.person``) and the Report of a script. Nobody answers questions.

    Answers go to stdout. A failing line's error and hints go to stderr, each with its file and line number.
    ``keep_going``: a failing line does not end the script. ``quiet``: no progress. Printing raises
    OutputGoneError.
    """

    interactive = False
    comments = True

    def __init__(self, monitor: Monitor, *, keep_going: bool = False, quiet: bool = False) -> None:
        self._monitor = monitor
        self._keep_going = keep_going
        self._quiet = quiet
        self.history: list[str] = []
        self.failed = 0
        """The number of lines that have failed."""
        self._origins: list[Origin] = []
        self._hints: list[str] = []
        self._gone: OutputGoneError | None = None

    @property
    def origin(self) -> Origin | None:
        """The running line, the innermost of nested ones; None between lines."""
        return self._origins[-1] if self._origins else None

    def print(self, text: str) -> None:
        try:
            write_out(text)
        except OutputGoneError as error:
            self._gone = error  # the line's own error would hide it
            raise

    async def ask(self, question: str) -> bool:
        return True

    def progress(self, title: str) -> Progress:
        return NoProgress() if self._quiet else PlainProgress(self, title)

    def hint(self, text: str) -> None:
        self._hints.append(text)

    def warn(self, text: str) -> None:
        print(f"{self.origin}: warning: {plain(text)}", file=sys.stderr, flush=True)

    def begin(self, origin: Origin) -> None:
        self._origins.append(origin)

    def end(self, origin: Origin, error: str | None) -> bool:
        self._origins.pop()
        hints, self._hints = self._hints, []
        if self._gone is not None:
            raise self._gone
        if error is None:
            return True
        self.failed += 1
        reasons = [*without_secrets(origin.reading).clean(error).splitlines(), *hints]
        for text in [*(f"{origin}: {each}" for each in reasons if each), failure(origin)]:
            print(text, file=sys.stderr, flush=True)
        return self._keep_going

    def left_out(self, file: str, lines: LeftOut) -> None:
        print(f"{file}: {unrun(self._monitor, lines)}", file=sys.stderr, flush=True)


class JsonPerson(ScriptPerson):
    """As ScriptPerson, but stdout gets a JSON object for each line that has run, and nothing else."""

    def __init__(self, monitor: Monitor, *, keep_going: bool = False) -> None:
        super().__init__(monitor, keep_going=keep_going, quiet=True)
        self._printed: list[list[str]] = []

    def print(self, text: str) -> None:
        self._printed[-1].append(text)

    def begin(self, origin: Origin) -> None:
        super().begin(origin)
        self._printed.append([])

    def end(self, origin: Origin, error: str | None) -> bool:
        shown = without_secrets(origin.reading)
        found = {
            "file": origin.file,
            "number": origin.number,
            "line": str(shown),
            "ok": error is None,
            "output": "\n".join(self._printed[-1]),
        }
        if error is not None:
            found["error"] = shown.clean(error)
        write_out(json.dumps({name: _text(value) for name, value in found.items()}))
        self._printed[-1] = []
        goes_on = super().end(origin, error)
        self._printed.pop()
        return goes_on


def _text(value: object) -> object:
    """Return a text that every JSON reader accepts; any other value unchanged."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return value


def write_out(text: str) -> None:
    """Print a text and a newline to stdout. Raises OutputGoneError."""
    data = f"{plain(text)}\n".encode("utf-8", "surrogateescape")
    try:
        print(data.decode("utf-8", "replace"), end="", flush=True)
    except OSError as error:
        if error.errno == errno.EIO and stat.S_ISCHR(os.fstat(sys.stdout.fileno()).st_mode):
            return  # the terminal has hung up: SIGHUP decides what the process does
        raise OutputGoneError(f"standard output: {reason(error)}") from error


class NoProgress:
    """A Progress that shows nothing."""

    def update(self, done: int, total: int, note: str | None = None) -> None:
        pass

    def close(self) -> None:
        pass


class PlainProgress:
    """A Progress that prints a line for each 10 percent. It leaves out the pace, which differs each time."""

    def __init__(self, person: Person, title: str) -> None:
        self._person = person
        self._title = title
        self._shown = 0

    def update(self, done: int, total: int, note: str | None = None) -> None:
        tenth = done * 10 // total if total > 0 else 0
        if tenth > self._shown:
            self._shown = tenth
            sizes = f"{human_size(done)} of {human_size(total)}"
            self._person.print(f"{self._title}: {done * 100 // total}%, {sizes}")

    def close(self) -> None:
        """Do nothing: printed lines stay."""
