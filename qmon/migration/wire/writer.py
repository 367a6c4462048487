"""Encodes the stream: collects records and elements of the container to be sent together. Pure."""

from __future__ import annotations

import xxhash

from qmon.migration.wire.stream import DATA_PAYLOAD, FINISH, HEAD, MAX_TEXT, Digest, Kind

BATCH_SIZE = 1 << 20
"""Bytes of payload read and sent at once: the fastest of the sizes measured, 256 KiB to 1 MiB."""

IOV_LIMIT = 512
"""Half of Linux's IOV_MAX, because one record takes two buffers."""


class RecordWriter:
    """Collects records and container elements in a list of buffers for one ``sendmsg``.

    Payloads are filled in place: take ``room(length)``, fill it, then call ``data``. The buffers are valid
    until ``clear``.
    """

    def __init__(self, capacity: int = BATCH_SIZE) -> None:
        self._buffer = memoryview(bytearray(capacity))
        self._used = 0
        self.buffers: list[bytes | memoryview] = []
        self.size = 0
        """Bytes in ``buffers``."""
        self.next_sequence = 0
        self.digest = Digest()

    def free(self) -> int:
        """Return how many payload bytes fit before ``clear``; 0 if the list of buffers is full."""
        return len(self._buffer) - self._used if len(self.buffers) < IOV_LIMIT else 0

    def room(self, length: int) -> memoryview:
        """Return a buffer for ``length`` payload bytes, at most ``free()``."""
        start, self._used = self._used, self._used + length
        return self._buffer[start : self._used]

    def take_back(self, length: int) -> None:
        """Give back ``length`` unused bytes at the end of the last room."""
        self._used -= length

    def raw(self, piece: bytes) -> None:
        """Add an element of the container."""
        self.buffers.append(piece)
        self.size += len(piece)

    def data(self, drive: int, offset: int, payload: memoryview) -> None:
        """Add DATA records for a payload of any length."""
        for start in range(0, len(payload), DATA_PAYLOAD):
            piece = payload[start : start + DATA_PAYLOAD]
            self._add(Kind.DATA, drive, offset + start, len(piece), piece)

    def zero(self, drive: int, offset: int, length: int) -> None:
        """Add a ZERO record of at most MAX_ZERO_LENGTH bytes."""
        self._add(Kind.ZERO, drive, offset, length)

    def hello(self, offer: bytes) -> None:
        """Add a HELLO record."""
        self._add(Kind.HELLO, 0, 0, len(offer), offer)

    def trial(self, offer: bytes) -> None:
        """Add a TRIAL record."""
        self._add(Kind.TRIAL, 0, 0, len(offer), offer)

    def probe(self, payload: memoryview) -> None:
        """Add a PROBE record of at most DATA_PAYLOAD bytes."""
        self._add(Kind.PROBE, 0, 0, len(payload), payload)

    def flush(self) -> int:
        """Add a FLUSH record; return its sequence number."""
        self._add(Kind.FLUSH, 0, 0, 0)
        return self.next_sequence - 1

    def progress(self, remaining: int) -> None:
        """Add a PROGRESS record: ``remaining`` bytes are still to be sent."""
        self._add(Kind.PROGRESS, 0, remaining, 0)

    def finish(self, running: bool) -> tuple[int, int]:
        """Add a FINISH record; return the count and the digest of the records before it."""
        records, digest = self.digest.records, self.digest.value
        payload = FINISH.pack(records, digest, running)
        self._add(Kind.FINISH, 0, 0, len(payload), payload)
        return records, digest

    def back(self) -> None:
        """Add a BACK record."""
        self._add(Kind.BACK, 0, 0, 0)

    def compare(self, drive: int, question: bytes) -> None:
        """Add a COMPARE record."""
        self._add(Kind.COMPARE, drive, 0, len(question), question)

    def withdraw(self, why: str) -> None:
        """Add a WITHDRAW record."""
        text = why.encode(errors="backslashreplace")[:MAX_TEXT]  # a file name may not be UTF-8
        self._add(Kind.WITHDRAW, 0, 0, len(text), text)

    def end(self) -> None:
        """Add an END record."""
        self._add(Kind.END, 0, 0, 0)

    def clear(self) -> None:
        """Empty ``buffers``: they have been sent."""
        self.buffers.clear()
        self.size = self._used = 0

    def _add(
        self, kind: Kind, drive: int, offset: int, length: int, payload: bytes | memoryview | None = None
    ) -> None:
        head = HEAD.pack(kind, 0, drive, length, self.next_sequence, offset)
        state = xxhash.xxh3_64(head)
        if payload is not None:
            state.update(payload)
        checksum = state.digest()
        self.digest.add(checksum)
        self.next_sequence += 1
        self.raw(checksum + head)
        if payload is not None:
            self.buffers.append(payload)
            self.size += len(payload)
