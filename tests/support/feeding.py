"""Gives a stream to its reader in pieces, and keeps what comes out in a form that can be compared."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from qmon.migration.wire.reader import Item, StreamReader
from qmon.migration.wire.stream import (
    PREAMBLE,
    Go,
    Heard,
    Mark,
    Record,
    go,
    heard,
    section_end,
    section_footer,
    section_part,
    section_start,
)
from qmon.migration.wire.writer import RecordWriter

Fill = Callable[[RecordWriter], object]

ID = bytes(range(16))


def plain(item: Item) -> tuple[Any, ...]:
    """An item by value: a record's payload would be overwritten by what comes next."""
    match item:
        case Record():
            return (item.kind, item.drive, item.offset, item.length, item.sequence, bytes(item.payload))
        case Go():
            return ("go", item.migration_id, item.digest)
        case Heard():
            return ("heard", item.migration_id)
        case Mark():
            return (item,)


def stream(*parts: Iterable[Fill], ending: Fill | None = None) -> bytes:
    """A whole stream: a section start with the first part's records, then the others, GO and HEARD."""
    writer = RecordWriter()
    writer.raw(PREAMBLE)
    for number, part in enumerate(parts):
        writer.raw(section_part() if number else section_start())
        for fill in part:
            fill(writer)
        close(writer)
    writer.raw(section_end())
    if ending is not None:
        ending(writer)
    _, digest = writer.finish(True)
    close(writer)
    writer.raw(go(ID, digest) + heard(ID))
    return b"".join(writer.buffers)


def close(writer: RecordWriter) -> None:
    writer.end()
    writer.raw(section_footer())


def data(drive: int, offset: int, payload: bytes) -> Fill:
    return lambda writer: writer.data(drive, offset, memoryview(payload))


class Feed:
    """A reader, and all that it has delivered; ``error`` is what it says when it refuses the rest."""

    def __init__(self) -> None:
        self.reader = StreamReader()
        self.items: list[tuple[Any, ...]] = []

    def give(self, piece: bytes | memoryview) -> None:
        """Raises StreamError."""
        left = memoryview(piece)
        while left:
            room = self.reader.room()
            assert room, "no room for what comes"
            count = min(len(room), len(left))
            room[:count] = left[:count]
            self.reader.filled(count)
            for item in self.reader.items():
                self.items.append(plain(item))
            left = left[count:]
