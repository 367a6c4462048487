"""A stay inside the drives' gates, for the forwarded requests that wait for nothing.

The thread that receives them does them at once: cached reads, and writes into the cache. A long one takes no
longer than its bytes take to be received; by another thread it took 1.2 to 1.4 times the processor's time.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from qmon.block.gate import GateShutError
from qmon.block.node import Buffer, ReadNow, WriteNow
from qmon.migration.destination.drive_counters import DriveCounters
from qmon.migration.destination.forwarded_jobs import Job
from qmon.migration.destination.forwarded_replies import Replies
from qmon.migration.drive import MigratingDrive
from qmon.migration.wire.forward import MAX_LENGTH, REQUEST, ForwardError, Message, Operation

_READ, _WRITE = int(Operation.READ), int(Operation.WRITE)
_OPERATIONS = frozenset(map(int, Operation))


class _Way:
    """How a drive serves requests at once, and what it has served."""

    __slots__ = ("drive", "is_inside", "read", "read_bytes", "reads", "size", "write", "writes", "written")

    def __init__(self, drive: MigratingDrive) -> None:
        """Enter the gate; if it is closed or shut, nothing is served at once."""
        self.drive = drive
        self.reads = self.read_bytes = self.writes = self.written = 0
        self.size = 0
        self.read: ReadNow = _no_read
        self.write: WriteNow = _no_write
        try:
            self.is_inside = drive.guest.gate.enter_now()
        except GateShutError:
            self.is_inside = False
        if self.is_inside:
            node = drive.guest.node
            self.size = node.size
            self.read = node.read_now or _no_read
            self.write = (None if drive.read_only else node.write_now) or _no_write


class Visit:
    """Serves requests of the drives, which requests name by their place. For one thread."""

    def __init__(self, drives: Sequence[MigratingDrive], replies: Replies) -> None:
        self._drives = drives
        self._replies = replies
        self._counters = DriveCounters()
        self._ways: dict[int, _Way] = {}
        self._since = 0
        self.done = 0
        """How many requests were served."""

    def serve(self, message: Message) -> list[Job]:
        """Serve a message's requests; return those that may have to wait. Raises ForwardError, OSError."""
        records, data = message.records(REQUEST)
        replies, left = self._replies, []
        at = 0
        for operation, flags, number, cookie, offset, length in records:
            way = self._ways.get(number) or self._enter(number)
            payload: Buffer = b""
            if operation == _READ:
                if length > MAX_LENGTH:
                    raise ForwardError(f"a read of {length} bytes, at most {MAX_LENGTH} are allowed")
                if not replies.has_room(length):
                    self.leave()
                    replies.send()
                    way = self._enter(number)
                if offset + length <= way.size and not flags and way.read(offset, replies.space(length)):
                    replies.add(cookie, length)
                    way.reads += 1
                    way.read_bytes += length
                    continue
            elif operation == _WRITE:
                payload = data[at : at + length]
                at += length
                if at > len(data):
                    raise ForwardError(f"a write of {length} bytes with {len(payload)} bytes of data")
                if offset + length <= way.size and not flags and way.write(offset, payload):
                    replies.add(cookie)
                    way.writes += 1
                    way.written += length
                    continue
            elif operation not in _OPERATIONS:
                raise ForwardError(f"a request of kind {operation}, which is not known")
            left.append(Job(Operation(operation), flags, way.drive, cookie, offset, length, bytes(payload)))
        if at != len(data):
            raise ForwardError(f"{len(data) - at} bytes of data that belong to no request")
        return left

    def _enter(self, number: int) -> _Way:
        """Enter a drive's gate. Raises ForwardError."""
        if number >= len(self._drives):
            raise ForwardError(f"a request to drive {number}, which is not forwarded")
        if not self._ways:
            self._since = time.monotonic_ns()
        way = self._ways[number] = _Way(self._drives[number])
        return way

    def leave(self) -> None:
        """Leave all gates."""
        for way in self._ways.values():
            if way.reads or way.writes:
                counters = self._counters.of(way.drive)
                counters.count_batch(way.reads, way.read_bytes, way.writes, way.written, self._since)
                self.done += way.reads + way.writes
            if way.is_inside:
                way.drive.guest.gate.leave()
        self._ways.clear()

    def close(self) -> None:
        """Give the counters back."""
        self._counters.close()


def _no_read(offset: int, buffer: memoryview) -> bool:
    return False


def _no_write(offset: int, data: Buffer) -> bool:
    return False
