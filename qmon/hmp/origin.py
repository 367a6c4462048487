"""Where a line stands that was not typed: in a script, at a line, maybe by way of an ``include``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from qmon.hmp.line.reading import Reading
from qmon.hmp.line.transcript import LeftOut


class Report(Protocol):
    """Who is told what becomes of a script's lines."""

    def begin(self, origin: Origin) -> None:
        """A line is about to run."""

    def end(self, origin: Origin, error: str | None) -> bool:
        """A line has run; ``error`` is what it failed with, maybe "". Returns whether the script goes on."""

    def left_out(self, file: str, lines: LeftOut) -> None:
        """Lines of a script, at least one, were not run; called when it has ended."""


@dataclass(frozen=True, slots=True)
class Origin:
    """One line of a script."""

    file: str
    """What messages call the script."""
    number: int
    reading: Reading
    report: Report
    paths: tuple[str, ...] = ()
    """The absolute paths of the files that are being run, each included by the one before it."""

    def __str__(self) -> str:
        return f"{self.file}:{self.number}"
