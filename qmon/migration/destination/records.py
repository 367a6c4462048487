"""The journal's records of incoming migrations, one for each image that is written."""

from __future__ import annotations

from uuid import UUID

from qmon.migration.destination.transfer import Transfer
from qmon.migration.journal import Entry, Journal
from qmon.migration.phases import RAN, Role, Stand
from qmon.migration.wire.offer import Mode


class Records:
    """What a restart must know of a migration. All methods raise JournalError."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def write(self, transfer: Transfer, stand: Stand) -> None:
        """Record how far a migration is."""
        copied = {drive.id for drive in transfer.copied} if stand is Stand.PARTIAL else ()
        named = transfer.can_resume
        self._journal.write(
            *(
                Entry(
                    drive.image,
                    transfer.id.hex,
                    stand,
                    peer="",
                    digest=transfer.digest,
                    resume=transfer.resume,
                    shared=transfer.mode is Mode.SHARED,
                    mode=transfer.mode.value,
                    drive=drive.id if named else "",
                    size=drive.size if named else 0,
                    line=transfer.lines.number,
                )
                for drive in transfer.drives
                if not drive.read_only or drive.id in copied
            )
        )

    def write_again(self, transfer: Transfer, stand: Stand) -> None:
        """Change the record, unless a later migration of the disks has replaced it."""
        if self._journal.of_migration(transfer.id, Role.DESTINATION):
            self.write(transfer, stand)

    def forget_partial(self, transfer: Transfer) -> None:
        """Remove the record that the images are partial."""
        self._journal.forget(transfer.id, Role.DESTINATION, {Stand.PARTIAL})

    def has_run(self, migration_id: UUID) -> bool:
        """Whether this side has run after a migration."""
        return bool(self._journal.of_migration(migration_id, Role.DESTINATION, RAN))

    def has_refused(self, migration_id: UUID) -> bool:
        """Whether this side has refused to run after a migration."""
        return bool(self._journal.of_migration(migration_id, Role.DESTINATION, {Stand.REFUSED}))

    def drives_of(self, migration_id: UUID) -> set[str]:
        """Return the ids of the drives whose images have a record of a migration."""
        return {each.entry.drive for each in self._journal.of_migration(migration_id, Role.DESTINATION)}

    def is_of(self, image: str, migration_id: UUID) -> bool:
        """Whether an image has a record of a migration."""
        return any(each.entry.id == migration_id for each in self._journal.find(image))

    def forget(self, migration_id: UUID) -> None:
        """Remove the record of a migration."""
        self._journal.forget(migration_id, Role.DESTINATION)
