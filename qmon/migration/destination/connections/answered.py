"""After GO: the source confirms that it has heard the answer, and may forward its clients' requests."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from uuid import UUID

from qmon.errors import QmonError, reason
from qmon.migration.destination.connections.part import Connection, Part, seconds_until
from qmon.migration.destination.forwarded import Forwarded
from qmon.migration.destination.side import Side
from qmon.migration.wire.reader import Item
from qmon.migration.wire.stream import Go, Heard, Mark, StreamError

log = logging.getLogger("qmon.migration")

ANSWERED_TIMEOUT = 2
"""Seconds to wait for the source's confirmation of the final answer."""

FORWARD_TIMEOUT = 30
"""The same for a source that will forward requests."""


class Answered(Part):
    """The connection of a source that has sent GO, with the disks or to ask again."""

    def __init__(self, side: Side, connection: Connection) -> None:
        self._side = side
        self._connection = connection
        self._deadline = 0.0
        self._heard: Heard | None = None
        self._forwarded: Forwarded | None = None

    def obey(self, order: Go) -> bool:
        """Answer GO; return whether the source was told that this side runs. Raises QmonError, OSError."""
        side, connection = self._side, self._connection
        with side.course.lock:
            side.claim.release(connection)  # from now on any connection may ask
            is_told = side.handover.go(connection.replies, order)
        self.is_over = not is_told
        transfer = side.course.transfer
        forwards = transfer is not None and transfer.forwards
        self._deadline = time.monotonic() + (FORWARD_TIMEOUT if forwards else ANSWERED_TIMEOUT)
        return is_told

    def patience(self) -> float:
        return seconds_until(self._deadline)

    def why_late(self) -> str:
        return "it has not confirmed the answer"

    def why_short(self) -> str:
        return "the source closed the connection"

    def take(self, item: Item) -> None:
        match item:
            case Go():
                self.obey(item)
            case Heard():
                self._heard, self.is_over = item, True
                self._side.handover.heard(UUID(bytes=item.migration_id))
            case Mark():
                pass
            case _:
                raise StreamError(f"not a valid migration stream: {item.kind.name} came after GO")

    def end(self, rest: Callable[[], bytes]) -> None:
        """Carry out the requests of the source's clients, if it forwards them, until the connection ends."""
        if self._heard is None or not self._heard.forwards:
            return
        replies, forwarding = self._connection.replies, self._side.forwarding
        replies.limit()
        migration_id = UUID(bytes=self._heard.migration_id)
        forwarded = forwarding.begin(migration_id, replies.line, self._connection.peer, rest())
        self._forwarded = forwarded
        why = "the source closed the connection"
        try:
            forwarded.run()
        except (OSError, QmonError, MemoryError) as error:
            why = reason(error)
        finally:
            forwarding.end(forwarded, why)

    def fail(self, why: str, *, is_broken: bool) -> None:
        log.debug("incoming migration: the source's connection ended: %s", why)

    def leave(self) -> bool:
        if self._forwarded is not None:
            self._forwarded.stop()
        return True
