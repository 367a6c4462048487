"""Decides from the records of migrations what a machine does when it starts."""

from __future__ import annotations

from collections.abc import Iterable

from qmon.errors import CommandError
from qmon.machine.drive import Drive
from qmon.migration.journal import Entry, Journal, Record, counts
from qmon.migration.phases import Stand

_COUNTS_FIRST = (Stand.MOVED, Stand.GONE, Stand.PREPARED, Stand.REFUSED, Stand.RUNNING, Stand.SETTLED)
"""Which record counts if the process ended between the records of two drives. Nothing has happened yet that
the later record allows, except MOVED: it is written after the fact."""


def find_record(journal: Journal, drives: Iterable[Drive], *, may_come_in: bool) -> Entry | None:
    """Return the journal's entry that decides about the drives, or None.

    ``may_come_in`` says whether -incoming was given. Raises CommandError if the drives' records contradict
    each other or an image was written after its record, JournalError if a record can't be read.
    """
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
    if len({(entry.id, entry.role) for entry in entries}) > 1:
        names = ", ".join(f"'{name}' {entry.stand.value} by {entry.id}" for name, entry in found.items())
        raise CommandError(
            f"The drives have records of different migrations ({names}): find out which side ran last, then"
            " remove the wrong records from the state folder"
        )
    return min(entries, key=lambda entry: _COUNTS_FIRST.index(entry.stand))


def _check_unchanged(drive: Drive, record: Record) -> None:
    """Raises CommandError if an image was written after its record, or an old record was restored."""
    if record.entry.stand.is_waiting and record.has_changed:
        raise CommandError(
            f"drive '{drive.id}': its image has changed since migration {record.entry.id} was recorded as"
            f" '{record.entry.stand.value}': find out which side ran last, then remove {record.path}"
        )
