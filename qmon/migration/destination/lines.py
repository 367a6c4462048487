"""The lines of one migration so far: it has several when it was interrupted and continued."""

from __future__ import annotations

from dataclasses import dataclass, field

from qmon.migration.wire.offer import Resume


@dataclass(slots=True)
class Lines:
    """The lines of a migration so far, by the source's numbers: which records this side has applied.

    An attempt older than one taken up is refused: it may arrive when its source has sent GO on another line.
    """

    number: int = 0
    """The last one that was taken up."""
    applied: dict[int, int] = field(default_factory=dict)
    """By number of the line: the sequence number of the last record, -1 before the first."""

    def broken(self, line: int, applied: int) -> None:
        """A line has ended."""
        self.applied[line] = applied

    def last_applied(self, resume: Resume) -> int | None:
        """Return what a source that resumes must know; None if both sides must compare checksums.

        Forgets the lines before.
        """
        known = None if resume.last is None else self.applied.get(resume.last)
        self.applied = {} if known is None or resume.last is None else {resume.last: known}
        return known
