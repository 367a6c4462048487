"""What a source remembers over the lines of one migration."""

from __future__ import annotations

from collections.abc import Sequence

from qmon.migration.journal import Entry
from qmon.migration.phases import Stand
from qmon.migration.source.copy import DriveCopy
from qmon.migration.source.unconfirmed import Unconfirmed
from qmon.migration.wire.chains import Chains
from qmon.migration.wire.offer import Offer


class Recovery:
    """For the migration's thread; any thread may read ``is_agreed``."""

    def __init__(self, entry: Entry | None) -> None:
        """``entry`` is a journal record that was found at the start."""
        self.is_agreed = entry is not None and entry.stand is Stand.COPYING
        """Whether both sides keep what they have when the line breaks."""
        self.offer: Offer | None = None
        """What was offered to the destination; None before that, also after a restart."""
        self.knows = entry is None
        """Whether this process has sent or compared all that the destination has; False after a restart."""
        self.line = 0 if entry is None else entry.line
        """The number of the last line that was tried; each has its own sequence numbers."""
        self.agreed_line = 0
        """The number of the last line on which records were sent."""
        self.lost = Unconfirmed()
        """The records of that line that are not confirmed."""

    def mark_lost(self, copies: Sequence[DriveCopy], chains: Chains, applied: int) -> None:
        """Mark again what the destination lacks; ``applied`` is the last record of the line that it has."""
        self.lost.confirm(applied)
        by_index = {copy.index: copy for copy in copies}
        for index, offset, length in self.lost.left():
            by_index[index].dirty.mark(offset, length)
        self.lost.undo(chains)
        self.lost = Unconfirmed()

    def note_compared(self) -> None:
        """Both sides' disks were compared, and what differs is marked."""
        self.knows, self.lost = True, Unconfirmed()
