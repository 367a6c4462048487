"""A data connection that the kernel paces: how fast it may send, what it has sent, and its round trip.

SO_MAX_PACING_RATE holds for a connection whichever process sends on it, so the console paces what its QEMU
sends by a descriptor of its own. Measured on loopback: 5.00 and 20.0 MiB/s for limits of 5 and 20 MiB/s, and
a changed limit holds within half a second.
"""

from __future__ import annotations

import contextlib
import socket
import struct

from qmon.errors import QmonError
from qmon.remote.migration.rates.bandwidth import Load

SO_MAX_PACING_RATE = 47
"""From Linux's asm-generic/socket.h; Python has no name for it."""

NO_LIMIT = (1 << 64) - 1

TCP_NOTSENT_LOWAT = 25
"""From linux/tcp.h."""

QUEUE_SECONDS = 0.05
QUEUE_LEAST_BYTES = 64 << 10
"""A paced connection queues at most so much that is not yet sent. Without that, 2.5 MiB wait in the queue and
QEMU takes them for sent: it measures a rate that is not there, and the guest's writes wait behind them."""
QUEUE_NO_LIMIT = (1 << 31) - 1

_INFO_BYTES = 176
_ROUND_TRIP = struct.Struct("=I")
_ROUND_TRIP_AT = 68
"""``tcpi_rtt`` of struct tcp_info (linux/tcp.h), in microseconds."""
_UINT64 = struct.Struct("=Q")
_ACKNOWLEDGED_AT = 120
"""``tcpi_bytes_acked``."""
_BUSY_AT = 168
"""``tcpi_busy_time``, in microseconds."""


class PacedLine:
    """Keeps a descriptor of its own of a TCP connection until ``close``."""

    def __init__(self, connection: socket.socket) -> None:
        """Raises QmonError if the connection is not TCP: then it can't be paced."""
        if connection.family not in (socket.AF_INET, socket.AF_INET6):
            raise QmonError("only a TCP connection can have a bandwidth limit")
        self._socket = connection.dup()
        self._rate = 0

    def pace(self, rate: int) -> None:
        """Let the connection send at most so many bytes per second from now on; 0: no limit."""
        if rate != self._rate:
            self._rate = rate
            value = (rate or NO_LIMIT).to_bytes(8, "little")
            self._socket.setsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE, value)
            queue = max(int(rate * QUEUE_SECONDS), QUEUE_LEAST_BYTES) if rate else QUEUE_NO_LIMIT
            self._socket.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, min(queue, QUEUE_NO_LIMIT))

    @property
    def load(self) -> Load:
        """What the other end has confirmed, and how long there was something to send."""
        info = self._info()
        sent, busy = (int(_UINT64.unpack_from(info, place)[0]) for place in (_ACKNOWLEDGED_AT, _BUSY_AT))
        return Load(sent, busy / 1e6)

    @property
    def round_trip(self) -> float:
        """Seconds, as the kernel measures it."""
        return int(_ROUND_TRIP.unpack_from(self._info(), _ROUND_TRIP_AT)[0]) / 1e6

    def cut(self) -> None:
        """End the connection, whoever holds it."""
        with contextlib.suppress(OSError):  # it has ended
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let go of the descriptor; idempotent."""
        self._socket.close()

    def _info(self) -> bytes:
        return self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
