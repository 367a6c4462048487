"""The bytes of an export as the file of an image (``ImageFile``).

A read past the end returns zeros. A write there fails with ENOSPC: an export can't grow. Where the server's
smallest block is larger than what is written, the block is read first, and no other write happens meanwhile.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence

from qmon.block.file import Discards
from qmon.block.locks import NO_LOCKS, LockSet
from qmon.block.node import Buffer, Extent, Kind
from qmon.block.transfers import Start, Transfer
from qmon.block.write_threshold import WriteThreshold
from qmon.nbd.asked import Request
from qmon.nbd.constants import Command, CommandFlag, State, TransmissionFlag
from qmon.nbd.links import Links

STEP = 1 << 30
"""The most bytes of one request to zero, discard or describe."""

EXTENDED_STEP = 1 << 40
"""The same with extended headers, whose lengths have 64 bits."""

_ZEROS = bytes(1 << 20)
_PROCESS = secrets.token_hex(8)
"""Distinguishes this process: elsewhere the same name may lead to another server."""


class RemoteFile:
    """An open export. Close it once; ``release`` is called then. For any thread."""

    is_device = False
    threshold: WriteThreshold | None = None

    def __init__(self, path: str, links: Links, release: Callable[[], None], *, read_only: bool) -> None:
        self.path = path
        self.discards = Discards()
        self._links = links
        self._release = release
        self._read_only = read_only
        self._is_closed = False
        agreed = links.agreed
        self._block = agreed.minimum_block
        self._flags = agreed.flags
        self._step = agreed.maximum_payload
        self._long_step = EXTENDED_STEP if agreed.extended else STEP
        self._blocks = _Blocks() if self._block > 1 else None

    @property
    def size(self) -> int:
        return self._links.agreed.size

    @property
    def read_only(self) -> bool:
        return self._read_only

    @property
    def identity(self) -> tuple[str, int, int]:
        return f"{_PROCESS} {self.path}", 0, 0

    @property
    def locks(self) -> LockSet:
        return NO_LOCKS

    def check_name(self) -> None:
        """The connection is to the export that was opened."""

    def change_locks(self, locks: LockSet) -> None:
        """An export has no locks."""

    def check_locks(self, locks: LockSet) -> None:
        """An export has no locks."""

    def forget_cached(self) -> None:
        """Nothing is cached here."""

    def spare_page_cache(self) -> None:
        """Nothing is cached here."""

    def use_page_cache(self) -> None:
        """Nothing is cached here."""

    def resize(self, size: int) -> None:
        if size != self.size:
            grow = "Cannot grow NBD nodes" if size > self.size else "Cannot resize NBD nodes"
            raise OSError(errno.ENOTSUP, grow)

    def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._release()

    # Reading

    def read_now(self, offset: int, buffer: memoryview) -> bool:
        """Return False: the server is always waited for."""
        return False

    def write_now(self, offset: int, data: Buffer) -> bool:
        """Return False: the server is always waited for."""
        return False

    @property
    def start(self) -> Start | None:
        return self._start if self._links.can_start else None

    def _start(self, transfers: Sequence[Transfer]) -> bool:
        if self.threshold is not None or not all(map(self._is_plain, transfers)):
            return False
        return self._links.start([_request(each) for each in transfers])

    def _is_plain(self, transfer: Transfer) -> bool:
        """Whether one request does it. A part of a block is not written while others are."""
        offset, length = transfer.offset, transfer.length
        if self._block > 1 and (transfer.is_write or offset % self._block or length % self._block):
            return False
        return 0 < length <= self._step and offset + length <= self.size

    def read_into(self, offset: int, buffer: memoryview) -> None:
        inside = max(0, min(len(buffer), self.size - offset))
        if inside < len(buffer):
            buffer[inside:] = bytes(len(buffer) - inside)
        first, last = offset // self._block * self._block, -(-(offset + inside) // self._block) * self._block
        if (first, last) == (offset, offset + inside):
            self._read(offset, buffer[:inside])
        else:
            wider = memoryview(bytearray(last - first))
            self._read(first, wider)
            buffer[:inside] = wider[offset - first : offset - first + inside]

    def _read(self, offset: int, buffer: memoryview) -> None:
        for start in range(0, len(buffer), self._step):
            view = buffer[start : start + self._step]
            self._links.ask(Request(Command.READ, offset + start, len(view), view=view))

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        end, inside = offset + length, min(offset + length, self.size)
        while offset < inside:
            first = offset // self._block * self._block
            for span, status in self._status(first, -(-inside // self._block) * self._block - first):
                upto = min(first + span, inside)
                if upto > offset:
                    kind = Kind.ZERO if status & State.ZERO else Kind.DATA
                    yield Extent(offset, upto - offset, kind)
                    offset = upto
                first += span
        if offset < end:
            yield Extent(offset, end - offset, Kind.ZERO)

    def _status(self, offset: int, length: int) -> list[tuple[int, int]]:
        if not self._links.agreed.contexts:
            return [(length, 0)]
        request = Request(Command.BLOCK_STATUS, offset, min(length, self._long_step))
        self._links.ask(request)
        return request.extents

    # Writing

    def write(self, offset: int, data: Buffer) -> None:
        if self.threshold is not None:
            self.threshold.check(offset + len(data))
        self._check(offset, len(data))
        with self._aligned(offset, len(data)) as (first, last):
            if (first, last) == (offset, offset + len(data)):
                self._write(offset, memoryview(data))
                return
            wider = memoryview(bytearray(last - first))
            self._read(first, wider)
            wider[offset - first : offset - first + len(data)] = data
            self._write(first, wider)

    @contextlib.contextmanager
    def _aligned(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """Yield the blocks around a range, as start and end. If they are more, no other write happens."""
        if self._blocks is None:
            yield offset, offset + length
            return
        first, last = offset // self._block * self._block, -(-(offset + length) // self._block) * self._block
        with self._blocks.writing(alone=(first, last) != (offset, offset + length)):
            yield first, last

    def _write(self, offset: int, data: memoryview) -> None:
        for start in range(0, len(data), self._step):
            piece = data[start : start + self._step]
            self._links.ask(Request(Command.WRITE, offset + start, len(piece), payload=piece))

    def zero(self, offset: int, length: int, *, unmap: bool = True) -> None:
        if self.threshold is not None:
            self.threshold.check(offset + length)
        self._check(offset, length)
        inner, end = -(-offset // self._block) * self._block, (offset + length) // self._block * self._block
        if TransmissionFlag.SEND_WRITE_ZEROES not in self._flags or inner >= end:
            self._write_zeros(offset, length)
            return
        self._write_zeros(offset, inner - offset)
        flags = 0 if unmap else int(CommandFlag.NO_HOLE)
        for start in range(inner, end, self._long_step):
            self._zero(start, min(self._long_step, end - start), flags)
        self._write_zeros(end, offset + length - end)

    def _zero(self, offset: int, length: int, flags: int) -> None:
        with self._aligned(offset, length):
            try:
                self._links.ask(Request(Command.WRITE_ZEROES, offset, length, flags))
                return
            except OSError as error:
                if error.errno != errno.ENOTSUP:
                    raise
        self._write_zeros(offset, length)

    def _write_zeros(self, offset: int, length: int) -> None:
        for start in range(offset, offset + length, len(_ZEROS)):
            self.write(start, _ZEROS[: min(len(_ZEROS), offset + length - start)])

    def discard(self, offset: int, length: int) -> None:
        with self.discards.counting(length):
            self._discard(offset, length)

    def give_back(self, offset: int, length: int) -> None:
        with contextlib.suppress(OSError):
            self.discard(offset, length)

    def _discard(self, offset: int, length: int) -> None:
        """Trim the whole blocks of a range, if the server can; as QEMU's it may leave what it holds."""
        if TransmissionFlag.SEND_TRIM not in self._flags:
            return
        start, end = -(-offset // self._block) * self._block, (offset + length) // self._block * self._block
        end = min(end, self.size)
        for each in range(start, end, self._long_step):
            self._links.ask(Request(Command.TRIM, each, min(self._long_step, end - each)))

    def allocate(self, offset: int, length: int) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    def flush(self) -> None:
        if TransmissionFlag.SEND_FLUSH in self._flags and TransmissionFlag.READ_ONLY not in self._flags:
            self._links.ask(Request(Command.FLUSH))

    def _check(self, offset: int, length: int) -> None:
        if offset + length > self.size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _request(transfer: Transfer) -> Request:
    """Return the request of a transfer, which is kept: it may be sent again."""
    transfer.keep()
    offset, buffer = transfer.offset, transfer.buffer
    if transfer.is_write:
        return Request(Command.WRITE, offset, len(buffer), payload=buffer, transfer=transfer)
    return Request(Command.READ, offset, len(buffer), view=buffer, transfer=transfer)


class _Blocks:
    """Lets one thread read and write part of a block, while no other writes."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._writers = 0
        self._is_alone = False

    @contextlib.contextmanager
    def writing(self, *, alone: bool) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._is_alone and not (alone and self._writers))
            self._writers += 1
            self._is_alone = alone
        try:
            yield
        finally:
            with self._changed:
                self._writers -= 1
                self._is_alone = False
                self._changed.notify_all()
