"""What the records of migrations mean to a machine that starts."""

from __future__ import annotations

from collections.abc import Iterable

from qmon.errors import CommandError
from qmon.machine.drive import Drive
from qmon.migration.journal import Entry, Journal, Record, counts
from qmon.migration.phases import Stand

_COUNTS_FIRST = (Stand.MOVED, Stand.GONE, Stand.PREPARED, Stand.REFUSED, Stand.RUNNING, Stand.SETTLED)
"""Which record counts where a process ended between those of two drives: nobody has acted yet on what the
other says, but for MOVED, which is written when it has become true."""


def find_record(journal: Journal, drives: Iterable[Drive], *, may_come_in: bool) -> Entry | None:
    """What the journal says of the drives, if it is more than nothing; ``may_come_in``: by -incoming.

    Raises CommandError where the drives' records don't agree or are older than what an image holds,
    JournalError for one that can't be read.
    """
    found: dict[str, Entry] = {}
    for drive in drives:
        if not drive.read_only:
            record = counts(journal.find(drive.image), may_come_in=may_come_in)
            if record is not None and (may_come_in or not record.entry.stand.is_over):
                _check_unchanged(drive, record)
                found[drive.id] = record.entry
    # A migration that has come to its end says nothing beside one that has not.
    entries = [entry for entry in found.values() if not entry.stand.is_over] or [
        entry for entry in found.values() if entry.stand not in (Stand.ENDED, Stand.KEPT)
    ]
    if not entries:
        return None
    if len({(entry.id, entry.role) for entry in entries}) > 1:
        names = ", ".join(f"'{name}' {entry.stand.value} by {entry.id}" for name, entry in found.items())
        raise CommandError(f"The drives are of different migrations, so nobody can say what runs: {names}")
    return min(entries, key=lambda entry: _COUNTS_FIRST.index(entry.stand))


def _check_unchanged(drive: Drive, record: Record) -> None:
    """Raises CommandError for an image that was written since it was to wait, as by a restored record."""
    if record.entry.stand.is_waiting and record.has_changed:
        raise CommandError(
            f"drive '{drive.id}': its image has changed since migration {record.entry.id} was recorded as"
            f" '{record.entry.stand.value}': find out which side ran last, then remove {record.path}"
        )
