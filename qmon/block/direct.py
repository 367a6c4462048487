"""A file that is read and written on storage directly, past this host's page cache."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from qmon.block.file import FileNode
from qmon.block.locks import LockSet
from qmon.block.node import Buffer

ALIGNMENT = 4096
"""The alignment of offsets, lengths and buffers; it suits devices of any sector size."""

_BUFFER = 1 << 20


class DirectFileNode(FileNode):
    """Uses O_DIRECT (open(2)); requests of any offset and length are possible.

    Direct requests see the storage, not what this host's page cache has kept of it, and leave nothing in
    the cache. A write that begins or ends within a block of ALIGNMENT bytes reads that block first.
    """

    def __init__(
        self,
        path: str,
        *,
        read_only: bool,
        locks: LockSet | None,
        flushes: bool = True,
        is_needed: bool = True,
    ) -> None:
        """Unless it ``is_needed``, a file system without O_DIRECT is used through the page cache.

        Such a file system keeps its files in this host's memory, or keeps its cache coherent itself.
        """
        super().__init__(path, read_only=read_only, locks=locks, flushes=flushes)
        try:
            self._is_direct = self._become_direct(is_needed)
        except BaseException:
            self.close()
            raise
        self._buffers: list[memoryview] = []
        """Aligned buffers that no thread uses now."""
        self._changed = threading.Condition()
        self._whole = 0
        """Writes of whole blocks that are under way."""
        self._is_patching = False
        """Whether a write of a part of a block is under way; there is no other write meanwhile."""

    def _become_direct(self, is_needed: bool) -> bool:
        if self._is_duplicate:  # O_DIRECT would change the reads and writes of all that share it
            why = "this process may not open it once more, for direct requests"
            raise OSError(errno.EACCES, why, self.path)
        try:
            flags = fcntl.fcntl(self._fd, fcntl.F_GETFL)
            fcntl.fcntl(self._fd, fcntl.F_SETFL, flags | os.O_DIRECT)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            if is_needed:
                raise OSError(
                    errno.EINVAL,
                    "its file system has no O_DIRECT, which cache=none and cache=directsync need: use"
                    " cache=writeback or cache=writethrough",
                    self.path,
                ) from error
            return False
        return True

    def read_now(self, offset: int, buffer: memoryview) -> bool:
        """Return False: storage is always waited for."""
        return False

    def write_now(self, offset: int, data: Buffer) -> bool:
        """Return False: storage is always waited for."""
        return False

    def read_into(self, offset: int, buffer: memoryview) -> None:
        if not self._is_direct:
            super().read_into(offset, buffer)
            return
        end = offset + len(buffer)
        position = offset // ALIGNMENT * ALIGNMENT
        with self._aligned() as aligned:
            while position < end:
                count = min(len(aligned), -(-(end - position) // ALIGNMENT) * ALIGNMENT)
                self._read_aligned(position, aligned[:count])
                first, last = max(position, offset), min(position + count, end)
                buffer[first - offset : last - offset] = aligned[first - position : last - position]
                position += count

    def write(self, offset: int, data: Buffer) -> None:
        if not self._is_direct:
            super().write(offset, data)
            return
        end = offset + len(data)
        if self.threshold is not None:
            self.threshold.check(end)
        view = memoryview(data)
        first, last = -(-offset // ALIGNMENT) * ALIGNMENT, end // ALIGNMENT * ALIGNMENT
        if offset == first and end == last:
            with self._writing_whole_blocks():
                self._write_aligned(offset, view)
            return
        with self._patching():
            if first > last:  # all within one block
                self._patch(offset, view)
                return
            self._patch(offset, view[: first - offset])
            self._write_aligned(first, view[first - offset : last - offset])
            self._patch(last, view[last - offset :])

    def _punch(self, offset: int, length: int) -> None:
        if not self._is_direct or not (offset % ALIGNMENT or length % ALIGNMENT):
            super()._punch(offset, length)
            return
        with self._patching():  # the kernel zeroes parts of blocks in its page cache
            super()._punch(offset, length)
            os.fdatasync(self._fd)

    def _read_aligned(self, offset: int, piece: memoryview) -> None:
        done = 0
        while done < len(piece):
            count = os.preadv(self._fd, [piece[done:]], offset + done)
            done += count
            if count == 0 or count % ALIGNMENT:  # the end of the file; the rest is zeros
                piece[done:] = bytes(len(piece) - done)
                return

    def _write_aligned(self, offset: int, data: memoryview) -> None:
        with self._aligned() as aligned:
            while data:
                piece = aligned[: min(len(aligned), len(data))]
                piece[:] = data[: len(piece)]
                done = 0
                while done < len(piece):
                    done += os.pwrite(self._fd, piece[done:], offset + done)
                offset += len(piece)
                data = data[len(piece) :]

    def _patch(self, offset: int, data: memoryview) -> None:
        """Write a part of one block."""
        if not data:
            return
        start = offset // ALIGNMENT * ALIGNMENT
        if start + ALIGNMENT > self.size:
            self._write_tail(offset, data)
            return
        with self._aligned() as aligned:
            block = aligned[:ALIGNMENT]
            self._read_aligned(start, block)
            block[offset - start : offset - start + len(data)] = data
            os.pwrite(self._fd, block, start)

    def _write_tail(self, offset: int, data: memoryview) -> None:
        """Write in the file's last block, which is not whole, without making it whole."""
        fd = os.open(f"/proc/self/fd/{self._fd}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            done = 0
            while done < len(data):
                done += os.pwrite(fd, data[done:], offset + done)
            os.fdatasync(fd)
            os.posix_fadvise(fd, offset, len(data), os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)

    @contextmanager
    def _aligned(self) -> Iterator[memoryview]:
        try:
            buffer = self._buffers.pop()
        except IndexError:
            buffer = memoryview(mmap.mmap(-1, _BUFFER))
        try:
            yield buffer
        finally:
            self._buffers.append(buffer)

    @contextmanager
    def _writing_whole_blocks(self) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._is_patching)
            self._whole += 1
        try:
            yield
        finally:
            with self._changed:
                self._whole -= 1
                self._changed.notify_all()

    @contextmanager
    def _patching(self) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._is_patching)
            self._is_patching = True
            self._changed.wait_for(lambda: not self._whole)
        try:
            yield
        finally:
            with self._changed:
                self._is_patching = False
                self._changed.notify_all()
