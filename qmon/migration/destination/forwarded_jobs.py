"""Forwarded requests that may have to wait: for the gate, a limit, the disk. A few threads do them.

The source may have only so many on their way, so nothing here grows.
"""

from __future__ import annotations

import errno
import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

from qmon.block import hints
from qmon.block.extents import visible_extents
from qmon.block.gate import GateShutError, WaiterGoneError
from qmon.block.node import Buffer, Node
from qmon.errors import as_os_error, reason
from qmon.host.threads import Shortage, start_thread
from qmon.migration.destination.drive_counters import DriveCounters
from qmon.migration.destination.forwarded_replies import Sender
from qmon.migration.drive import MigratingDrive
from qmon.migration.wire.forward import (
    MAX_BYTES,
    MAX_EXTENTS,
    MAX_REQUESTS,
    Flag,
    ForwardError,
    Operation,
    pack_extents,
)

log = logging.getLogger("qmon.migration")

MAX_WORKERS = 16

_CHANGING = frozenset({Operation.WRITE, Operation.ZERO, Operation.DISCARD})
_ENOSPC_PAST_END = frozenset({Operation.WRITE, Operation.ZERO})
_CARRYING = frozenset({Operation.READ, Operation.WRITE})


@dataclass(frozen=True, slots=True)
class Job:
    """A request that may have to wait."""

    operation: Operation
    flags: int
    drive: MigratingDrive
    cookie: int
    offset: int
    length: int
    data: bytes

    @property
    def weight(self) -> int:
        """The bytes that it and its reply carry."""
        return self.length if self.operation in _CARRYING else 0


class Jobs:
    """The threads, and what they have to do. ``on_failure``: the connection can't go on, on any thread.

    One thread calls ``give`` and ``end``.
    """

    def __init__(self, sender: Sender, on_failure: Callable[[], None]) -> None:
        self._sender = sender
        self._on_failure = on_failure
        self._queue: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._bytes = 0
        self.waiting = self.done = 0
        """Jobs that are not done, and those that are."""
        self._workers: list[threading.Thread] = []
        self._shortage = Shortage(log, "can't start a thread for forwarded requests")
        self._is_over = False
        self._told: set[int | None] = set()

    def give(self, job: Job) -> None:
        """Have a job done, and answered. Raises ForwardError if there are too many."""
        with self._lock:
            self.waiting += 1
            self._bytes += job.weight
            if self.waiting > MAX_REQUESTS or self._bytes > MAX_BYTES:
                raise ForwardError("the source has more requests on their way than is allowed")
            is_short = len(self._workers) < min(self.waiting, MAX_WORKERS)
        if is_short:
            self._start_worker()
        self._queue.put(job)

    def end(self) -> None:
        """Wait for the threads; what has not begun is dropped."""
        self._is_over = True
        for _ in self._workers:
            self._queue.put(None)
        for worker in self._workers:
            worker.join()

    def _start_worker(self) -> None:
        name = f"forwarded {len(self._workers) + 1}"
        worker = threading.Thread(target=self._work, name=name, daemon=True)
        try:
            start_thread(worker)
        except (OSError, MemoryError) as error:
            self._shortage.tell(error)
            if not self._workers:
                raise
        else:
            self._workers.append(worker)

    def _work(self) -> None:
        counters = DriveCounters()
        try:
            while (job := self._queue.get()) is not None:
                self._do(job, counters)
        except Exception:
            log.exception("a forwarded request failed by an internal error")
            self._on_failure()
        finally:
            counters.close()

    def _do(self, job: Job, counters: DriveCounters) -> None:
        """Do one job and send its reply, unless the connection has ended meanwhile."""
        data: Buffer = b""
        try:
            job.drive.guest.gate.enter(lambda: self._is_over)
        except WaiterGoneError:
            return
        except GateShutError as error:
            code = error.errno or errno.EIO
        else:
            try:
                if self._is_over:
                    return
                code, data = self._carry_out(job, counters)
            finally:
                job.drive.guest.gate.leave()
        with self._lock:
            self.waiting -= 1
            self._bytes -= job.weight
            self.done += 1
        try:
            self._sender.reply(job.cookie, code, data)
        except OSError as error:
            log.debug("a forwarded request can't be answered: %s", reason(error))
            self._on_failure()

    def _carry_out(self, job: Job, counters: DriveCounters) -> tuple[int, Buffer]:
        """Do one job inside the gate; return its errno, or 0 and what it has read."""
        operation, offset, length = job.operation, job.offset, job.length
        try:
            node = job.drive.guest.node
            if offset + length > node.size:
                return (errno.ENOSPC if operation in _ENOSPC_PAST_END else errno.EINVAL), b""
            if operation in _CHANGING and job.drive.read_only:
                return errno.EROFS, b""
            started = time.monotonic_ns()
            data = _perform(node, job)
        except (OSError, MemoryError) as raised:
            failure = as_os_error(raised)
            self._tell(job, failure)
            return failure.errno or errno.EIO, b""
        counters.count(job.drive, operation, length, started)
        return 0, data

    def _tell(self, job: Job, failure: OSError) -> None:
        level = logging.DEBUG if failure.errno in self._told else logging.WARNING
        self._told.add(failure.errno)
        what = f"{job.operation.name} at {job.offset} of {job.length} bytes"
        log.log(level, "drive '%s': forwarded %s: %s", job.drive.id, what, reason(failure))


def _perform(node: Node, job: Job) -> Buffer:
    """Do a request on a node; return what it has read. Raises OSError."""
    offset, length = job.offset, job.length
    match job.operation:
        case Operation.READ:
            data = bytearray(length)
            node.read_into(offset, memoryview(data))
            return data
        case Operation.WRITE:
            node.write(offset, job.data)
        case Operation.ZERO:
            unmap = bool(job.flags & Flag.UNMAP)
            node.zero(offset, length, unmap=unmap)
        case Operation.DISCARD:
            node.discard(offset, length)
        case Operation.FLUSH:
            node.flush()
        case Operation.PREFETCH:
            hints.prefetch(node, offset, length)
        case Operation.EXTENTS if length:
            return pack_extents(islice(visible_extents(node, offset, length), MAX_EXTENTS))
    return b""
