"""The connection that brings a migration: its records are applied in order, until GO."""

from __future__ import annotations

import logging
import time

from qmon.errors import QmonError
from qmon.host.logs import TOLD_BY_EVENT
from qmon.migration.compare import answer_question
from qmon.migration.destination import bitmaps, images
from qmon.migration.destination.connections.answered import Answered
from qmon.migration.destination.connections.applier import Applier
from qmon.migration.destination.connections.part import Connection, Part
from qmon.migration.destination.connections.replies import Applied
from qmon.migration.destination.hub import Hub
from qmon.migration.destination.side import Side
from qmon.migration.destination.transfer import Transfer
from qmon.migration.drive import MigratingDrive
from qmon.migration.wire import answers
from qmon.migration.wire.offer import Mode, Offer
from qmon.migration.wire.reader import Item
from qmon.migration.wire.stream import Finish, Go, Kind, Record, StreamError

log = logging.getLogger("qmon.migration")


class Reception(Part):
    """A migration's own connection; ``line`` is the source's number of it (``wire.offer.Resume``)."""

    def __init__(
        self,
        side: Side,
        connection: Connection,
        transfer: Transfer,
        *,
        line: int = 0,
        has_written: bool = False,
    ) -> None:
        self._transfer = transfer
        self.progress = side.course.progress
        self._applier = Applier(
            transfer, self.progress, connection.replies.show_life, has_written=has_written
        )
        self._side = side
        self._connection = connection
        self._replies = connection.replies
        self._applied = Applied(connection.replies, self.progress)
        self._line = line
        self._hub: Hub | None = None
        self._finish: Finish | None = None
        self._compared: set[int] = set()
        """Drives, by their number, that the source has compared."""

    def open_hub(self, offer: Offer) -> None:
        """Let the channels join that the source has offered."""
        if offer.channels:
            self._hub = Hub(offer, self.progress, self._applier.apply, self._lose_channel)
            self._transfer.hub = self._hub

    def _lose_channel(self) -> None:
        """A channel has ended. Once all data is here, that is no loss. For any thread."""
        if not self._applier.is_whole:
            self._connection.abort()

    def patience(self) -> float:
        return self._side.options.patience.silence

    def why_late(self) -> str:
        return f"no data for {self._side.options.patience.silence} s"

    def why_short(self) -> str | None:
        failure = None if self._hub is None else self._hub.failure
        return failure or "the source closed the connection"

    def take(self, item: Item) -> None:
        match item:
            case Record():
                self._apply(item)
                self._applied.last = item.sequence
            case Go():
                self._obey(item)

    def _obey(self, order: Go) -> bool:
        """Run, if nothing is against it; return whether the source was told so. Raises QmonError, OSError."""
        answered = Answered(self._side, self._connection)
        self._connection.become(answered)
        return answered.obey(order)

    def _apply(self, record: Record) -> None:
        match record.kind:
            case Kind.DATA | Kind.ZERO:
                self._applier.apply(record)
            case Kind.FLUSH:
                self._applier.flush()
                self._replies.send(answers.flushed(record.sequence))
            case Kind.FINISH:
                self._finish, self._applier.is_whole = record.finish, True
            case Kind.END:
                if self._finish is not None:
                    self._end_part(self._finish)
            case Kind.BACK:
                if self._finish is None:
                    raise StreamError("not a valid migration stream: BACK came without FINISH")
                self._go_back()
            case Kind.PROGRESS:
                self.progress.remaining = record.offset
                self._note_total()
            case Kind.CONFIRM:
                self._applied.tell()
            case Kind.BITMAP:
                bitmaps.take(record, self._transfer.bitmaps.bitmaps)
            case Kind.COMPARE:
                self._compare(record)
            case Kind.WITHDRAW:
                raise QmonError(record.text)
            case Kind.HELLO:
                raise StreamError("not a valid migration stream: a second HELLO")
            case Kind.TRIAL | Kind.PROBE | Kind.ANSWERS | Kind.CHANNEL | Kind.PACKED:
                raise StreamError(f"not a valid migration stream: {record.kind.name} came after HELLO")

    def _end_part(self, finish: Finish) -> None:
        """The last part has ended."""
        self._complete(finish)

    def _complete(self, finish: Finish) -> None:
        """All data has arrived: compare, flush, record, and answer PREPARED. Raises OSError or QmonError."""
        if self._transfer.mode is Mode.SHARED and len(self._compared) < len(self._transfer.offered):
            raise StreamError("not a valid migration stream: the disks were not compared")
        self._applier.compare(finish)
        self._applied.tell()
        self.progress.remaining = 0
        self._note_total()
        self.progress.gates_closed = time.monotonic()
        self._side.handover.finish(self._replies, finish)

    def _go_back(self) -> None:
        self._side.handover.go_back(self._replies)
        self._finish, self._applier.is_whole = None, False
        self.progress.gates_closed = None

    def _compare(self, record: Record) -> None:
        """Answer a COMPARE: whether a shared drive is the source's disk. Raises QmonError."""
        number, offered = record.drive, self._transfer.offered
        if number >= len(offered) or offered[number].is_copied or self._finish is not None:
            raise StreamError(
                f"not a valid migration stream: drive number {number} can't be compared at this point"
            )
        drive, question = offered[number].drive, bytes(record.payload)
        with images.reading(drive):
            seen, differing = answer_question(drive, drive.size, question, self._replies.show_life)
        self._transfer.seen[drive.id] = seen  # it is opened only if it is still so
        self._compared.add(number)
        if differing:
            self._differs(drive, question, differing)
        self._replies.send(answers.compared(seen.is_same, differing))

    def _differs(self, drive: MigratingDrive, question: bytes, differing: list[int]) -> None:
        """A shared disk is another one here: the source ends the migration."""

    def _note_total(self) -> None:
        """Update the total: how much of an overlay is copied is known only from the source's progress."""
        if self._transfer.has_overlays:
            progress = self.progress
            progress.total = max(progress.total, progress.transferred, progress.remaining)

    def taken(self) -> None:
        self._applied.tell_if_due()
        self._applier.save_if_due()

    def pause(self) -> None:
        self._applied.tell()

    def fail(self, why: str, *, is_broken: bool) -> None:
        partial = "; the images here are partial" if self._applier.has_written else ""
        # Release the images first: after the answer the source may open shared ones again.
        is_lost = self._side.interruption.lost(
            self._connection, self._line, self._applied.last, why, partial, is_broken=is_broken
        )
        if is_lost:
            self._replies.try_send(answers.refused(why))
            message = "incoming migration %s failed: %s%s"
            log.error(message, self._transfer.id, why, partial, extra=TOLD_BY_EVENT)
        else:
            self._replies.try_send(answers.dismissed(why))
            log.error("incoming migration %s: %s; waiting for the source", self._transfer.id, why)
            self._applier.save()

    def close(self) -> None:
        if self._hub is not None:
            self._hub.close()
