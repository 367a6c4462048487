"""Encodes the stream: collects records and elements of the container to be sent together. Pure."""

from __future__ import annotations

import mmap
from typing import Protocol

from qmon.migration.wire.chains import Before, Chains
from qmon.migration.wire.stream import (
    CHECKSUM,
    FINISH,
    HEAD,
    HEADER,
    MAX_PAYLOAD,
    MAX_TEXT,
    Digest,
    Kind,
    checksum_of,
)

IOV_LIMIT = 512
"""Half of Linux's IOV_MAX, because one record takes two buffers."""


class Notes(Protocol):
    """Who is told of each record that changes a drive, with the regions' checksums before it."""

    def note(self, sequence: int, drive: int, offset: int, length: int, before: Before) -> None: ...


class Elsewhere(Protocol):
    """Where data and zeros go that are not written into the stream itself: the channels of multifd."""

    def data(self, drive: int, offset: int, payload: memoryview | bytes) -> None: ...

    def zero(self, drive: int, offset: int, length: int) -> None: ...


class RecordWriter:
    """Collects records and container elements in a list of buffers for one ``sendmsg``.

    They are valid until ``clear``; a record's payload is not copied.
    """

    def __init__(self, chains: Chains | None = None, notes: Notes | None = None) -> None:
        """``chains`` are those of the migration, if there are any before this writer."""
        self.chains = Chains() if chains is None else chains
        self._notes = notes
        # mmap: aligned for O_DIRECT, and freed at once.
        self.payload = memoryview(mmap.mmap(-1, MAX_PAYLOAD, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
        """A buffer for the payloads of the next records."""
        self.used = 0
        """Bytes of ``payload`` that records in ``buffers`` refer to."""
        self.buffers: list[bytes | memoryview] = []
        self.size = 0
        """Bytes in ``buffers``."""
        self.elsewhere: Elsewhere | None = None
        self.next_sequence = 0
        self.digest = Digest()

    @property
    def is_full(self) -> bool:
        """Whether the list of buffers is as long as one ``sendmsg`` takes."""
        return len(self.buffers) >= IOV_LIMIT

    def raw(self, piece: bytes) -> None:
        """Add an element of the container."""
        self.buffers.append(piece)
        self.size += len(piece)

    def data(self, drive: int, offset: int, payload: memoryview | bytes) -> None:
        """Add a DATA record, which lies within one REGION."""
        if self.elsewhere is not None:
            self.elsewhere.data(drive, offset, payload)
            return
        length = len(payload)
        self._note(drive, offset, length, self._add(Kind.DATA, drive, offset, length, payload))

    def zero(self, drive: int, offset: int, length: int) -> None:
        """Add a ZERO record of at most MAX_ZERO_LENGTH bytes."""
        if self.elsewhere is not None:
            self.elsewhere.zero(drive, offset, length)
            return
        self._note(drive, offset, length, self._add(Kind.ZERO, drive, offset, length))

    def hello(self, offer: bytes) -> None:
        """Add a HELLO record."""
        self._add(Kind.HELLO, 0, 0, len(offer), offer)

    def trial(self, offer: bytes) -> None:
        """Add a TRIAL record."""
        self._add(Kind.TRIAL, 0, 0, len(offer), offer)

    def probe(self, payload: memoryview) -> None:
        """Add a PROBE record of at most MAX_PAYLOAD bytes."""
        self._add(Kind.PROBE, 0, 0, len(payload), payload)

    def answers(self, *, heard: bool) -> None:
        """Add an ANSWERS record."""
        self._add(Kind.ANSWERS, 0, int(heard), 0)

    def channel(self, migration_id: bytes, number: int) -> None:
        """Add a CHANNEL record."""
        self._add(Kind.CHANNEL, 0, number, len(migration_id), migration_id)

    def packed(self, drive: int, offset: int, payload: bytes, length: int) -> None:
        """Add a PACKED record of ``length`` bytes that were compressed."""
        self._note(drive, offset, length, self._add(Kind.PACKED, drive, offset, len(payload), payload))

    def flush(self) -> int:
        """Add a FLUSH record; return its sequence number."""
        self._add(Kind.FLUSH, 0, 0, 0)
        return self.next_sequence - 1

    def confirm(self) -> None:
        """Add a CONFIRM record."""
        self._add(Kind.CONFIRM, 0, 0, 0)

    def progress(self, remaining: int) -> None:
        """Add a PROGRESS record: ``remaining`` bytes are still to be sent."""
        self._add(Kind.PROGRESS, 0, remaining, 0)

    def finish(self, running: bool) -> tuple[int, int]:
        """Add a FINISH record; return the count and the digest of the records before it."""
        records, digest = self.digest.records, self.digest.value
        payload = FINISH.pack(records, digest, running, self.chains.digest)
        self._add(Kind.FINISH, 0, 0, len(payload), payload)
        return records, digest

    def back(self) -> None:
        """Add a BACK record."""
        self._add(Kind.BACK, 0, 0, 0)

    def compare(self, drive: int, question: bytes) -> None:
        """Add a COMPARE record."""
        self._add(Kind.COMPARE, drive, 0, len(question), question)

    def bitmap(self, number: int, chunk: int, marks: bytes) -> None:
        """Add a BITMAP record."""
        self._add(Kind.BITMAP, number, chunk, len(marks), marks)

    def withdraw(self, why: str) -> None:
        """Add a WITHDRAW record."""
        text = why.encode(errors="backslashreplace")[:MAX_TEXT]  # a file name may not be UTF-8
        self._add(Kind.WITHDRAW, 0, 0, len(text), text)

    def end(self) -> None:
        """Add an END record."""
        self._add(Kind.END, 0, 0, 0)

    def clear(self) -> None:
        """Empty ``buffers``: they have been sent."""
        self.buffers = []
        self.size = self.used = 0

    def _note(self, drive: int, offset: int, length: int, checksum: int) -> None:
        before = self.chains.add(drive, offset, length, checksum)
        if self._notes is not None:
            self._notes.note(self.next_sequence - 1, drive, offset, length, before)

    def _add(
        self, kind: Kind, drive: int, offset: int, length: int, payload: bytes | memoryview = b""
    ) -> int:
        """Add a record; return its checksum."""
        head = HEAD.pack(kind, 0, drive, length, self.next_sequence, offset)
        checksum = checksum_of(head, payload)
        packed = CHECKSUM.pack(checksum)
        self.digest.add(packed)
        self.next_sequence += 1
        self.buffers.append(packed + head)
        self.size += HEADER.size + len(payload)
        if payload:
            self.buffers.append(payload)
        return checksum
