"""Reads that leave this host's page cache as they found it: a copy does not push out what others use."""

from __future__ import annotations

import ctypes
import mmap
import os
import threading
from functools import cache

PAGE = mmap.PAGESIZE
AREA = 16 << 20
"""Bytes that are looked at together. The kernel reads ahead by less than this."""

_MOST_AREAS = 512
"""How many areas are remembered, of 4 KiB each: a disk may be sampled all over before it is copied."""

_BEHIND = 4 << 20
"""Bytes behind a read that are dropped once more: the kernel drops together what it keeps together."""


_TMPFS_MAGIC = 0x01021994
"""<linux/magic.h>"""


@cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap64.restype = ctypes.c_void_p
    libc.mmap64.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_int64]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
    return libc


def cached_pages(fd: int, offset: int, length: int) -> bytearray:
    """Return a byte for each page of a range: 1 if it is in the page cache (mincore(2)), else 0.

    ``offset`` is a multiple of the page's size. Raises OSError. Of a file that this process may not write,
    the kernel says that all pages are cached.
    """
    pages = -(-length // PAGE)
    found = bytearray(pages)
    place = _libc().mmap64(None, length, mmap.PROT_READ, mmap.MAP_SHARED, fd, offset)
    if place in (None, ctypes.c_void_p(-1).value):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    try:
        room = (ctypes.c_char * pages).from_buffer(found)
        if _libc().mincore(place, length, ctypes.addressof(room)):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    finally:
        _libc().munmap(place, length)
    return found


def is_in_memory(fd: int) -> bool:
    """Whether a file is in this host's memory and nowhere else: it has no pages to drop. Raises OSError."""
    found = (ctypes.c_long * 32)()  # struct statfs has 15
    if _libc().fstatfs(fd, ctypes.byref(found)):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return found[0] == _TMPFS_MAGIC


class PassingReads:
    """Drops the pages that reads of the thread that makes it have brought into the page cache."""

    def __init__(self, fd: int) -> None:
        self.thread = threading.get_ident()
        self._fd = fd
        self._seen: dict[int, bytearray] = {}
        """By area, the oldest first: which pages were cached before it or the area before it was read."""

    def before(self, offset: int, length: int) -> None:
        """Look at the pages of a range that is about to be read, and at those that may be read ahead."""
        for area in range(max(0, offset - _BEHIND) // AREA, (offset + length) // AREA + 2):
            if area not in self._seen:
                self._seen[area] = self._look(area * AREA)
        while len(self._seen) > _MOST_AREAS:
            del self._seen[next(iter(self._seen))]

    def after(self, offset: int, length: int) -> None:
        """Drop those pages of a range that was read that were not cached before."""
        end = offset + length
        offset = max(0, offset - _BEHIND)
        while offset < end:
            area, place = divmod(offset, AREA)
            stop = min(end, (area + 1) * AREA)
            if seen := self._seen.get(area):
                self._drop(area * AREA, seen, place // PAGE, -(-(stop - area * AREA) // PAGE))
            offset = stop

    def _look(self, start: int) -> bytearray:
        length = min(AREA, os.lseek(self._fd, 0, os.SEEK_END) - start)
        try:
            return cached_pages(self._fd, start, length) if length > 0 else bytearray()
        except OSError:  # the pages stay in the cache
            return bytearray()

    def _drop(self, start: int, seen: bytearray, page: int, last: int) -> None:
        while (page := seen.find(0, page, last)) >= 0:
            stop = seen.find(1, page, last)
            if stop < 0:
                stop = min(last, len(seen))
            os.posix_fadvise(self._fd, start + page * PAGE, (stop - page) * PAGE, os.POSIX_FADV_DONTNEED)
            page = stop
