"""A host file or block device as a node: positioned reads and writes, holes, locks."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from qmon.block.locks import NO_LOCKS, ImageLock, LockSet
from qmon.block.node import Buffer, Extent, Kind
from qmon.block.page_cache import PassingReads, is_in_memory
from qmon.block.write_threshold import WriteThreshold
from qmon.host.fdsets import open_file, real_name

# <linux/falloc.h>
FALLOC_FL_KEEP_SIZE = 0x01
FALLOC_FL_PUNCH_HOLE = 0x02

ZEROS = memoryview(bytes(1 << 20))
_NOT_SUPPORTED = (errno.EOPNOTSUPP, errno.EINVAL)
_CANNOT_PUNCH = (errno.EOPNOTSUPP, errno.ENOSYS, errno.ENODEV, errno.EINVAL)


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def punch_hole(fd: int, offset: int, length: int) -> None:
    """Punch a hole into a file: the range then reads as zeros. Raises OSError."""
    mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
    arguments = (ctypes.c_int(fd), ctypes.c_int(mode), ctypes.c_int64(offset), ctypes.c_int64(length))
    while _libc().fallocate64(*arguments) != 0:
        code = ctypes.get_errno()
        if code != errno.EINTR:
            raise OSError(code, os.strerror(code))


def _identity(found: os.stat_result) -> tuple[str, int, int]:
    if stat.S_ISBLK(found.st_mode):  # a device may have several names
        return "device", os.major(found.st_rdev), os.minor(found.st_rdev)
    return "file", found.st_dev, found.st_ino


class Discards:
    """Statistics of a file's discards: their number and bytes. Thread-safe."""

    def __init__(self) -> None:
        self.done = self.failed = self.done_bytes = 0
        self._lock = threading.Lock()

    @contextmanager
    def counting(self, length: int) -> Iterator[None]:
        """Count the discard of the ``with`` block as failed if it raises OSError, else as done."""
        try:
            yield
        except OSError:
            with self._lock:
                self.failed += 1
            raise
        with self._lock:
            self.done += 1
            self.done_bytes += length


class FileNode:
    """A file of any length. Reads past its end return zeros, writes there extend it.

    ``locks`` are taken when it is opened; None takes none. Without ``flushes``, ``flush`` does nothing.
    Raises OSError with the file's name.
    """

    def __init__(self, path: str, *, read_only: bool, locks: LockSet | None, flushes: bool = True) -> None:
        self.path = path
        self._flushes = flushes
        self.discards = Discards()
        self.threshold: WriteThreshold | None = None
        self._passing: PassingReads | None = None
        self._data = (0, 0)
        """Start and end of the last run of data found. It may contain holes by now, but it is not larger."""
        self._cached_only = os.RWF_NOWAIT
        """The flag of a read that must not wait; 0 if the file system has none, as tmpfs, in memory."""
        self._read_only = read_only
        self._can_punch: bool | None = None
        """Whether the file system can punch holes; None until it was asked."""
        # O_NONBLOCK has no effect on a disk. Without it the open would wait for a FIFO's other end.
        access = os.O_RDONLY if read_only else os.O_RDWR
        self._fd, self._is_duplicate = open_file(path, access | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            mode = os.fstat(self._fd).st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
                raise OSError(errno.EINVAL, "not a regular file or block device", path)
            self._is_device = stat.S_ISBLK(mode)
            self._lock = ImageLock(self._fd, path)
            self._locks = locks
            if locks is not None:
                self._lock.change(locks)
        except BaseException:
            os.close(self._fd)
            raise

    @property
    def size(self) -> int:
        """The current length in bytes; other processes that share the file may have extended it."""
        return os.lseek(self._fd, 0, os.SEEK_END)

    @property
    def read_only(self) -> bool:
        return self._read_only

    @property
    def identity(self) -> tuple[str, int, int]:
        """The open file's identity on this running kernel: its kind and two numbers."""
        return _identity(os.fstat(self._fd))

    @property
    def locks(self) -> LockSet:
        """The locks that it holds."""
        return self._locks or NO_LOCKS

    @property
    def is_device(self) -> bool:
        """Whether it is a block device: its size is fixed, and its contents are unknown."""
        return self._is_device

    def check_name(self) -> None:
        """Raises OSError if the path now names another file, or none."""
        try:
            is_same = _identity(os.stat(real_name(self.path))) == self.identity
        except FileNotFoundError:
            is_same = False
        if not is_same:
            raise OSError(errno.ESTALE, f"'{self.path}' was removed or replaced while it was open")

    def spare_page_cache(self) -> None:
        """From now on, reads of this thread leave the page cache as they found it, until it is undone."""
        self._passing = None if is_in_memory(self._fd) else PassingReads(self._fd)

    def use_page_cache(self) -> None:
        """Undo ``spare_page_cache``."""
        self._passing = None

    def read_into(self, offset: int, buffer: memoryview) -> None:
        passing = self._passing
        if passing is not None and passing.thread == threading.get_ident():
            passing.before(offset, len(buffer))
            self._read_into(offset, buffer)
            passing.after(offset, len(buffer))
        else:
            self._read_into(offset, buffer)

    def _read_into(self, offset: int, buffer: memoryview) -> None:
        done = 0
        while done < len(buffer):
            count = os.preadv(self._fd, (buffer[done:] if done else buffer,), offset + done)
            if count == 0:  # past the end
                left = len(buffer) - done
                buffer[done:] = ZEROS[:left] if left <= len(ZEROS) else bytes(left)
                return
            done += count

    def read_now(self, offset: int, buffer: memoryview) -> bool:
        """Fill the buffer if it is cached, and return whether it is filled."""
        try:
            return os.preadv(self._fd, (buffer,), offset, self._cached_only) == len(buffer)
        except BlockingIOError:
            return False
        except OSError as error:
            if self._cached_only and error.errno in _NOT_SUPPORTED:
                self._cached_only = 0
            return False

    def write_now(self, offset: int, data: Buffer) -> bool:
        """Write into the cache and return True; return False if something has to be done besides."""
        if self.threshold is not None:
            return False
        try:
            return os.pwrite(self._fd, data, offset) == len(data)
        except OSError:
            return False  # ``write`` meets it again, and tells it

    def write(self, offset: int, data: Buffer) -> None:
        if self.threshold is not None:
            self.threshold.check(offset + len(data))
        done = os.pwrite(self._fd, data, offset)
        while done < len(data):
            done += os.pwrite(self._fd, memoryview(data)[done:], offset + done)

    def zero(self, offset: int, length: int, *, unmap: bool = True) -> None:
        if self.threshold is not None:
            self.threshold.check(offset + length)
        self._zero(offset, length, unmap=unmap)

    def _zero(self, offset: int, length: int, *, unmap: bool) -> None:
        if unmap and length:
            try:
                self._punch(offset, length)
                return
            except OSError as error:
                if error.errno not in _CANNOT_PUNCH:
                    raise
        end = offset + length if self._is_device else min(offset + length, self.size)
        while offset < end:
            count = min(end - offset, len(ZEROS))
            self.write(offset, ZEROS[:count])
            offset += count

    def zeroes_fast(self, offset: int, length: int, *, unmap: bool) -> bool:
        """Whether ``zero`` punches a hole. Of a device this is not known before it is tried."""
        if not unmap or self._is_device or self._read_only:
            return False
        if self._can_punch is None:
            try:
                punch_hole(self._fd, self.size, 1)  # behind the end, so that nothing changes
                self._can_punch = True
            except OSError as error:
                if error.errno not in _CANNOT_PUNCH:
                    raise
                self._can_punch = False
        return self._can_punch

    @property
    def knows_holes(self) -> bool:
        return True

    def prefetch(self, offset: int, length: int) -> None:
        """Begin to read a range into the page cache; do not wait for it. Raises OSError."""
        if self._passing is not None:
            self._passing.before(offset, length)
        os.posix_fadvise(self._fd, offset, length, os.POSIX_FADV_WILLNEED)

    def discard(self, offset: int, length: int) -> None:
        with self.discards.counting(length):
            self._zero(offset, length, unmap=True)

    def give_back(self, offset: int, length: int) -> None:
        """Punch a hole if the file system supports it, else do nothing. Raises OSError."""
        try:
            with self.discards.counting(length):
                self._punch(offset, length)
        except OSError as error:
            if error.errno not in _CANNOT_PUNCH:
                raise

    def _punch(self, offset: int, length: int) -> None:
        try:
            punch_hole(self._fd, offset, length)
        finally:
            self._data = (0, 0)

    def allocate(self, offset: int, length: int) -> None:
        """Reserve storage for a range. Raises OSError."""
        self._data = (0, 0)
        os.posix_fallocate(self._fd, offset, length)

    def flush(self) -> None:
        if self._flushes:
            os.fdatasync(self._fd)

    def forget_cached(self) -> None:
        """Drop this host's page cache of the file, so that other hosts' writes are read."""
        os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        end = offset + length
        while offset < end:
            data, hole = self._next_data(offset, end)
            if data > offset:
                yield Extent(offset, data - offset, Kind.ZERO)
            if hole > data:
                yield Extent(data, hole - data, Kind.DATA)
            offset = hole

    def _next_data(self, offset: int, end: int) -> tuple[int, int]:
        """Return the first run of data at or after ``offset`` as (start, end), neither past ``end``."""
        try:
            data = os.lseek(self._fd, offset, os.SEEK_DATA)
            if data >= end:
                return end, end
            begin, hole = self._data
            if not begin <= data < hole:
                # tmpfs checks every page of the run, even if only the first bytes matter.
                hole = os.lseek(self._fd, data, os.SEEK_HOLE)
                self._data = (data, hole)
            return data, min(hole, end)
        except OSError as error:
            if error.errno == errno.ENXIO:  # no data up to the file's end
                return end, end
            if error.errno in (errno.EINVAL, errno.EOPNOTSUPP):  # SEEK_DATA is not supported
                return offset, end
            raise

    def change_locks(self, locks: LockSet) -> None:
        """Replace the held locks. Raises ImageLockedError."""
        self._lock.change(locks)
        self._locks = locks

    def check_locks(self, locks: LockSet) -> None:
        """Raises ImageLockedError if another opener keeps these locks from being held. Takes none."""
        self._lock.check(locks)

    def resize(self, size: int) -> None:
        self._data = (0, 0)
        if self._is_device:
            raise OSError(errno.ENOTSUP, f"{self.path} is a block device: its size can't be changed")
        os.ftruncate(self._fd, size)

    def close(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)  # this releases the locks, which belong to the open file description
