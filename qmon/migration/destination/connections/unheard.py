"""A migration whose answers nobody reads: the stream may be stored.

It is read to its end, and everything in it is verified, before the machine runs.
"""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from qmon.errors import QmonError
from qmon.migration.compare import Question
from qmon.migration.destination.connections.reception import Reception
from qmon.migration.drive import MigratingDrive
from qmon.migration.wire.reader import Item
from qmon.migration.wire.stream import Finish, Go, Heard, Mark, StreamError


class UnheardReception(Reception):
    """The one connection of such a migration."""

    _order: Go | None = None
    _has_end = False
    """Whether the end mark has been read."""

    def why_short(self) -> str | None:
        return None if self._has_end else "the stream is cut off: it ends before its last record"

    def why_damaged(self, why: str) -> str:
        if not self._connection.is_pipe:
            return why
        return f"{why}; the backup is damaged: 'migrate_incoming URI' takes another"

    def take(self, item: Item) -> None:
        match item:
            case Go():
                self._order = item
            case Mark.EOF:
                self._has_end = True
                self.is_over = not self._connection.is_pipe  # the other end may stay connected
            case Heard() | Mark():
                pass
            case _:
                super().take(item)

    def _end_part(self, finish: Finish) -> None:
        """More may come: the source goes back without an answer."""

    def _go_back(self) -> None:
        self._finish, self._applier.is_whole = None, False
        self.progress.gates_closed = None

    def _differs(self, drive: MigratingDrive, question: bytes, differing: list[int]) -> None:
        offset, length = Question.decode(question, drive.size).ranges[differing[0]]
        raise QmonError(
            f"drive '{drive.id}' is not the same disk as at the source: it differs in the {length} bytes"
            f" at {offset}; a stream of migrate blk has the disk in it"
        )

    def end(self, rest: Callable[[], bytes]) -> None:
        """Run: the whole stream has been read. Raises QmonError, OSError."""
        if self._finish is None or self._order is None:
            raise StreamError("not a valid migration stream: GO came without FINISH")
        self._complete(self._finish)
        if self._obey(self._order):
            self._side.handover.heard(UUID(bytes=self._order.migration_id))
