"""The place of a line in a script, and of the scripts that include it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from qmon.hmp.line.reading import Reading
from qmon.hmp.line.transcript import LeftOut


class Report(Protocol):
    """Is told the result of each line of a script."""

    def begin(self, origin: Origin) -> None:
        """A line is about to run."""

    def end(self, origin: Origin, error: str | None) -> bool:
        """A line has run; ``error`` is its error, which may be "", or None. Return whether to continue."""

    def left_out(self, file: str, lines: LeftOut) -> None:
        """At least one line of a script was not run; called at the script's end."""


@dataclass(frozen=True, slots=True)
class Origin:
    """One line of a script."""

    file: str
    """The script's name in messages."""
    number: int
    reading: Reading
    report: Report
    paths: tuple[str, ...] = ()
    """The absolute paths of the running files; each is included by the one before it."""

    def __str__(self) -> str:
        return f"{self.file}:{self.number}"
