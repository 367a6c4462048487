"""A file that is read from storage directly, not from this host's page cache."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os

from qmon.block.file import FileNode
from qmon.block.locks import LockSet

ALIGNMENT = 4096
"""The alignment of offsets, lengths and buffers; it suits devices of any sector size."""

_BUFFER = 256 << 10


class DirectFileNode(FileNode):
    """Reads with O_DIRECT if the file system supports it. For one thread.

    This host's page cache may hold old contents of a disk that another host or another device has written.
    Direct reads see the storage, and leave nothing in the cache. A file system without O_DIRECT keeps its
    files in this host's memory (tmpfs), or keeps its cache coherent itself.
    """

    def __init__(self, path: str, *, read_only: bool, locks: LockSet | None) -> None:
        super().__init__(path, read_only=read_only, locks=locks)
        if self._is_duplicate:  # O_DIRECT would change the reads and writes of all that share it
            self.close()
            raise OSError(errno.EACCES, "this process may not open it once more, for direct reads", path)
        try:
            flags = fcntl.fcntl(self._fd, fcntl.F_GETFL)
            fcntl.fcntl(self._fd, fcntl.F_SETFL, flags | os.O_DIRECT)
            self._is_direct = True
        except OSError as error:
            if error.errno != errno.EINVAL:
                self.close()
                raise
            self._is_direct = False
        self._aligned = memoryview(mmap.mmap(-1, _BUFFER))

    def read_into(self, offset: int, buffer: memoryview) -> None:
        if not self._is_direct:
            super().read_into(offset, buffer)
            return
        end = offset + len(buffer)
        position = offset // ALIGNMENT * ALIGNMENT
        while position < end:
            count = min(len(self._aligned), -(-(end - position) // ALIGNMENT) * ALIGNMENT)
            self._read_aligned(position, self._aligned[:count])
            first, last = max(position, offset), min(position + count, end)
            buffer[first - offset : last - offset] = self._aligned[first - position : last - position]
            position += count

    def _read_aligned(self, offset: int, piece: memoryview) -> None:
        done = 0
        while done < len(piece):
            count = os.preadv(self._fd, [piece[done:]], offset + done)
            done += count
            if count == 0 or count % ALIGNMENT:  # the end of the file; the rest is zeros
                piece[done:] = bytes(len(piece) - done)
                return
