"""A ring buffer: keeps the last bytes that were written, to be read by a monitor command."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qmon.chardev.base import Chardev
from qmon.chardev.stream import Stream
from qmon.errors import CommandError

DEFAULT_BYTES = 65536
MAX_BYTES = 256 << 20
"""A limit of qmon's own. QEMU accepts any size, and aborts if it has not enough memory."""


class RingbufChardev(Chardev):
    """A ring buffer of ``data['size']`` bytes, a power of two."""

    kind = "ringbuf"

    def __init__(self, label: str, data: Mapping[str, Any]) -> None:
        super().__init__(label, data)
        self._size = int(data.get("size") or DEFAULT_BYTES)
        self._held = bytearray()

    async def _open(self) -> None:
        if self._size < 0 or self._size & (self._size - 1):
            raise CommandError("size of ringbuf chardev must be power of two")
        if self._size > MAX_BYTES:
            raise CommandError(f"size of ringbuf chardev must be at most {MAX_BYTES}")

    def write(self, data: bytes) -> None:
        """Add bytes; if the buffer is full, the oldest are dropped."""
        self.log(data)
        self._held += data[-self._size :]
        del self._held[: -self._size]

    def read(self, size: int) -> bytes:
        """Remove and return the oldest bytes, at most ``size``."""
        data = bytes(self._held[:size])
        del self._held[:size]
        return data

    def _attached(self) -> None:
        self.accept(_RingbufStream(self))


class MemoryChardev(RingbufChardev):
    """``ringbuf`` under its older name ``memory``."""

    kind = "memory"


class _RingbufStream(Stream):
    """The stream that a front end writes to; nothing can be read from it."""

    def __init__(self, ring: RingbufChardev) -> None:
        super().__init__(None, None)
        self._ring = ring

    def _send(self, data: bytes | bytearray) -> int:
        self._ring.write(bytes(data))
        return len(data)
