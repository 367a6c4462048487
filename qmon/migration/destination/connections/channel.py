"""A further connection for data (the capability multifd)."""

from __future__ import annotations

from dataclasses import replace

from qmon.migration.destination.connections.part import ENDLESS, Connection, Part
from qmon.migration.destination.connections.replies import Applied
from qmon.migration.destination.hub import Hub
from qmon.migration.wire.packing import unpacker
from qmon.migration.wire.reader import Item
from qmon.migration.wire.stream import Go, Heard, Kind, Mark, Record, StreamError


class Channel(Part):
    """One channel. It ends with the migration's own connection."""

    def __init__(self, hub: Hub, connection: Connection, record: Record) -> None:
        """``record`` is the CHANNEL record, which has been taken."""
        self._hub = hub
        self._unpack = unpacker(hub.packing)
        self._applied = Applied(connection.replies, hub.progress)
        self._applied.last = record.sequence

    def patience(self) -> float:
        return ENDLESS

    def why_late(self) -> str:
        return "no data"

    def why_short(self) -> str:
        return "the source closed the connection"

    def take(self, item: Item) -> None:
        match item:
            case Record(kind=Kind.DATA | Kind.ZERO):
                self._hub.apply(item)
            case Record(kind=Kind.PACKED):
                data = memoryview(self._unpack(item.payload))
                self._hub.apply(replace(item, kind=Kind.DATA, length=len(data), payload=data))
            case Record():
                raise StreamError(f"not a valid migration stream: {item.kind.name} came on a channel")
            case Go() | Heard():
                raise StreamError("not a valid migration stream: GO came on a channel")
            case Mark():
                return
        self._applied.last = item.sequence

    def taken(self) -> None:
        self._applied.tell_if_due()

    def pause(self) -> None:
        self._applied.tell()

    def fail(self, why: str, *, is_broken: bool) -> None:
        self._hub.lose(why)
