"""Further connections for a migration's data (the capability multifd), each with a thread of its own.

All data of an area of a drive goes through one channel, so that no copy of a chunk overtakes an earlier one.
Before FLUSH and FINISH the source waits until everything is confirmed on every channel.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from qmon.errors import QmonError, reason
from qmon.host.threads import start_thread
from qmon.migration.progress import Progress, RateMeter
from qmon.migration.source.errors import LinkError
from qmon.migration.source.link import STALL_TIMEOUT, Link
from qmon.migration.wire.answers import Type
from qmon.migration.wire.chains import Chains
from qmon.migration.wire.packing import Pack, packer
from qmon.migration.wire.stream import PREAMBLE, section_start
from qmon.migration.wire.writer import RecordWriter

AREA = 16 << 20
"""Bytes of a drive that go through one channel."""

MOST_WAITING = 4 << 20
"""Bytes that may wait for a channel."""

MOST_PIECES = 1024
"""How many pieces may wait: those of zeros have no bytes."""

LOOK_SECONDS = 0.05
"""How often a thread that waits for channels looks whether the migration has ended."""


@dataclass(frozen=True, slots=True)
class _Piece:
    drive: int
    offset: int
    length: int
    data: bytes | None
    """None for zeros."""


class Channel:
    """One connection. The migration's thread puts pieces in, the channel's own thread sends them."""

    def __init__(self, link: Link, number: int, migration_id: bytes, pack: Pack, chains: Chains) -> None:
        """Raises OSError without a thread, LinkError or PeerRefusedError; then the link is to be closed."""
        self.link = link
        self.failure: QmonError | None = None
        self.waiting = 0
        """Bytes that are put in and not sent."""
        self.sent = 0
        """Bytes that were sent."""
        self.moved = threading.Condition()
        self._pack = pack
        self._pieces: deque[_Piece] = deque()
        self._is_over = False
        self._writer = RecordWriter(chains)
        self._writer.raw(PREAMBLE + section_start())
        self._writer.channel(migration_id, number)
        link.expect(Type.AGREED)
        self._send()
        link.wait_for(Type.AGREED, timeout=STALL_TIMEOUT)
        self._thread = threading.Thread(target=self._run, name=f"migration-channel-{number}", daemon=True)
        start_thread(self._thread)

    def put(self, piece: _Piece) -> None:
        with self.moved:
            self._pieces.append(piece)
            self.waiting += piece.length if piece.data is not None else 0
            self.moved.notify_all()

    @property
    def in_flight(self) -> int:
        """Bytes that are put in or sent, and not confirmed."""
        return self.waiting + self.link.in_flight

    @property
    def is_full(self) -> bool:
        """Whether nothing may be put in now."""
        return self.waiting >= MOST_WAITING or len(self._pieces) >= MOST_PIECES

    @property
    def is_idle(self) -> bool:
        """Whether everything is confirmed."""
        return not self._pieces and not self.in_flight

    def close(self) -> None:
        self.link.abort()
        with self.moved:
            self._is_over = True
            self.moved.notify_all()
        self._thread.join()
        self.link.close()

    def _run(self) -> None:
        try:
            while (piece := self._next()) is not None:
                self._write(piece)
                self._send()
                with self.moved:
                    self._pieces.popleft()
                    self.waiting -= piece.length if piece.data is not None else 0
                    self.moved.notify_all()
        except QmonError as error:
            self.failure = error
        except (OSError, MemoryError) as error:
            self.failure = LinkError(reason(error))

    def _next(self) -> _Piece | None:
        with self.moved:
            self.moved.wait_for(lambda: self._pieces or self._is_over)
            return None if self._is_over else self._pieces[0]

    def _write(self, piece: _Piece) -> None:
        if piece.data is None:
            self._writer.zero(piece.drive, piece.offset, piece.length)
        elif (packed := self._pack(piece.data)) is not None:
            self._writer.packed(piece.drive, piece.offset, packed, piece.length)
        else:
            self._writer.data(piece.drive, piece.offset, piece.data)

    def _send(self) -> None:
        size = self._writer.size
        self.link.send(self._writer)
        self.sent += size


class Channels:
    """All channels of a migration. For its thread; ``wait`` is called while it waits, and may raise."""

    def __init__(self, channels: Sequence[Channel], wait: Callable[[], None]) -> None:
        self._channels = channels
        self._wait = wait
        self._meter = RateMeter()
        self._counted = 0

    def data(self, drive: int, offset: int, payload: memoryview | bytes) -> None:
        """Send data that lies within an area. Waits for room. Raises the error that ends the migration."""
        channel = self._channel(drive, offset)
        while channel.is_full:
            self._rest(channel)
        channel.put(_Piece(drive, offset, len(payload), bytes(payload)))

    def zero(self, drive: int, offset: int, length: int) -> None:
        """Send zeros. Raises the error that ends the migration."""
        end = offset + length
        while offset < end:
            stop = min(end, (offset // AREA + 1) * AREA)
            channel = self._channel(drive, offset)
            while channel.is_full:
                self._rest(channel)
            channel.put(_Piece(drive, offset, stop - offset, None))
            offset = stop

    def _channel(self, drive: int, offset: int) -> Channel:
        return self._channels[(offset // AREA + drive) % len(self._channels)]

    @property
    def in_flight(self) -> int:
        """Bytes that are sent, or wait for it, and are not confirmed as applied."""
        return sum(each.in_flight for each in self._channels)

    def settle(self) -> None:
        """Wait until everything is confirmed on each channel. Raises the error that ends the migration."""
        left, since = self.in_flight, time.monotonic()
        for channel in self._channels:
            while not channel.is_idle:
                self._rest(channel)
                if self.in_flight != left:
                    left, since = self.in_flight, time.monotonic()
                elif time.monotonic() - since > STALL_TIMEOUT:
                    raise LinkError(f"the destination has confirmed no data for {STALL_TIMEOUT} s")

    def wait_applied(self) -> None:
        """Wait a moment. Raises the error that ends the migration."""
        self._rest(self._channels[0])

    def _rest(self, channel: Channel) -> None:
        with channel.moved:
            channel.moved.wait(LOOK_SECONDS if channel.is_full else LOOK_SECONDS / 10)
        self._wait()
        self.check()

    def check(self) -> None:
        """Raises the error of a channel that has ended."""
        for channel in self._channels:
            if channel.failure is not None:
                raise channel.failure
            channel.link.check()

    def count(self, progress: Progress) -> int:
        """Note the figures in ``progress``; return how many bytes were sent since the last call."""
        sent = sum(each.sent for each in self._channels)
        applied = sent - sum(each.link.in_flight for each in self._channels)
        progress.rate = self._meter.add(applied)
        new, self._counted = sent - self._counted, sent
        progress.transferred += new
        progress.channel_bytes = sent
        return new

    def close(self) -> None:
        """Close all channels."""
        for channel in self._channels:
            channel.close()


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the parameters of multifd ask for."""

    count: int
    packing: str
    level: int

    def open(
        self, migration_id: bytes, chains: Chains, connect: Callable[[], Link], wait: Callable[[], None]
    ) -> Channels:
        """Open all channels by ``connect``. Raises the error that ends the migration."""
        opened: list[Channel] = []
        try:
            for number in range(self.count):
                link = connect()
                try:
                    pack = packer(self.packing, self.level)
                    opened.append(Channel(link, number, migration_id, pack, chains))
                except BaseException:
                    link.close()
                    raise
        except BaseException:
            Channels(opened, wait).close()
            raise
        return Channels(opened, wait)
