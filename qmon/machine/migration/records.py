"""Decides from the records of migrations what a machine does when it starts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from qmon.errors import CommandError
from qmon.machine.drive import Drive
from qmon.migration.journal import Entry, Journal, JournalError, Record, counts
from qmon.migration.phases import Stand

_COUNTS_FIRST = (
    Stand.MOVED,
    Stand.GONE,
    Stand.COPYING,
    Stand.PARTIAL,
    Stand.UNCONFIRMED,
    Stand.PREPARED,
    Stand.REFUSED,
    Stand.RUNNING,
    Stand.SETTLED,
)
"""Which record counts if the process ended between the records of two drives. Nothing has happened yet that
the later record allows, except MOVED: it is written after the fact."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the records decide; ``entry`` is the one that counts, None if none does."""

    entry: Entry | None
    may_come_in: bool
    """Whether -incoming was given."""

    @property
    def _stand(self) -> Stand | None:
        return None if self.entry is None else self.entry.stand

    @property
    def is_held(self) -> bool:
        """Whether the machine does not run: the other side may have the disks, or they are incomplete."""
        stand = self._stand
        has_gone = stand in (Stand.MOVED, Stand.UNCONFIRMED) and not self.may_come_in
        return stand is not None and (stand.is_waiting or stand is Stand.PARTIAL or has_gone)

    @property
    def runs_again(self) -> bool:
        """Whether the machine runs although it waits for a migration, or one is paused."""
        stand = self._stand
        return stand is not None and stand.runs_again and (self.may_come_in or stand is Stand.COPYING)

    @property
    def continued(self) -> Entry | None:
        """The entry, if its migration goes on, or is shown as failed."""
        was_refused = self._stand is Stand.REFUSED and self.may_come_in
        return self.entry if self.is_held or self.runs_again or was_refused else None

    @property
    def takes_another(self) -> bool:
        """Whether a migration may come in at the address of -incoming."""
        return self.may_come_in and self._stand not in (Stand.GONE, Stand.COPYING)


def decide(journal: Journal, drives: Iterable[Drive], *, may_come_in: bool) -> Verdict:
    """Return what the records of the drives decide; ``may_come_in`` says whether -incoming was given.

    Raises CommandError if the drives' records contradict each other, an image was written after its record,
    or a record can't be read.
    """
    try:
        return Verdict(_find(journal, drives, may_come_in=may_come_in), may_come_in)
    except JournalError as error:
        raise CommandError(str(error)) from error


def _find(journal: Journal, drives: Iterable[Drive], *, may_come_in: bool) -> Entry | None:
    found: dict[str, Entry] = {}
    for drive in drives:
        if not drive.read_only:
            record = counts(journal.find(drive.image), may_come_in=may_come_in)
            if record is not None and (may_come_in or not record.entry.stand.is_over):
                _check_unchanged(drive, record)
                found[drive.id] = record.entry
    # A migration that has ended does not count beside one that has not.
    entries = [entry for entry in found.values() if not entry.stand.is_over] or [
        entry for entry in found.values() if entry.stand not in (Stand.ENDED, Stand.KEPT)
    ]
    if not entries:
        return None
    if _differ(entries):  # a source runs with a paused migration and without it
        entries = [entry for entry in entries if entry.stand is not Stand.COPYING]
    if not entries:
        return None
    if _differ(entries):
        names = ", ".join(f"'{name}' {entry.stand.value} by {entry.id}" for name, entry in found.items())
        raise CommandError(
            f"The drives have records of different migrations ({names}): find out which side ran last, then"
            " remove the wrong records from the state folder"
        )
    return min(entries, key=lambda entry: _COUNTS_FIRST.index(entry.stand))


def _differ(entries: Iterable[Entry]) -> bool:
    """Whether entries are of different migrations."""
    return len({(entry.id, entry.role) for entry in entries}) > 1


def _check_unchanged(drive: Drive, record: Record) -> None:
    """Raises CommandError if an image was written after its record, or an old record was restored."""
    if record.entry.stand.is_waiting and record.has_changed:
        raise CommandError(
            f"drive '{drive.id}': its image has changed since migration {record.entry.id} was recorded as"
            f" '{record.entry.stand.value}': find out which side ran last, then remove {record.path}"
        )
