"""Dirty bitmaps: which parts of an image were written since a moment, under names that an operator gives.

They differ from a migration's dirty map: there may be many, they last, and persistent ones are stored in the
image (``block.qcow2.stored_bitmaps``).
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterable, Iterator

from qmon.block.flags import SEGMENT, Flags
from qmon.block.node import Node, NotingFilter

DEFAULT_GRANULARITY = 65536
MIN_GRANULARITY = 512
MAX_NAME_BYTES = 1023
MAX_CHUNKS = 1 << 32
"""The most chunks of a bitmap. Each takes at most one byte; where all chunks are alike, hardly any."""

_STEP = 1 << 18
"""Flags that are changed in one go under the lock; it takes at most 0.1 ms."""


class DirtyBitmap:
    """One flag per ``granularity`` bytes of an image of ``size`` bytes.

    ``mark``, ``runs`` and what follows new marks are for any thread. All other changes are made while the
    drive's gate is closed.
    """

    def __init__(
        self,
        name: str,
        size: int,
        granularity: int = DEFAULT_GRANULARITY,
        *,
        recording: bool = True,
        persistent: bool = False,
    ) -> None:
        self.name = name
        self.size = size
        self.granularity = granularity
        self.recording = recording
        """Whether writes are marked; call ``Bitmaps.refresh`` after a change."""
        self.persistent = persistent
        """Whether it is stored in the image when that is closed."""
        self.busy = False
        """Whether an operation, such as an export, uses it, so that it must not be changed."""
        self.inconsistent = False
        """Whether the image was not closed properly, so that only removing it makes sense."""
        self.read_only = False
        """Whether it is stored in an image that is open read-only."""
        self._bits = granularity.bit_length() - 1
        self._flags = Flags(self._chunks(size))
        self._segments = self._flags.segments
        self._dirty = 0
        self._new: Flags | None = None
        """The marks that were made since ``follow`` or ``new_marks``."""
        self._news = 0
        self._lock = threading.Lock()

    def _chunks(self, size: int) -> int:
        return -(-size >> self._bits)

    @property
    def count(self) -> int:
        """The dirty chunks in bytes, the last one as a whole."""
        return self._dirty << self._bits

    def mark(self, offset: int, length: int) -> None:
        """Mark every chunk that the range touches, as far as it is inside the image."""
        first, last = offset >> self._bits, (offset + length - 1) >> self._bits
        if first == last < self._flags.count:
            if not self._segments[first // SEGMENT][first % SEGMENT] and length:
                with self._lock:
                    if self._flags.raise_one(first):
                        self._dirty += 1
                        if self._new is not None:
                            self._news += self._new.raise_one(first)
            return
        stop = min(last + 1, self._flags.count)
        for start in range(first, stop, _STEP):
            with self._lock:
                self._dirty += (changed := self._flags.fill(start, min(start + _STEP, stop), 1))
                if changed and self._new is not None:
                    self._news += self._new.fill(start, min(start + _STEP, stop), 1)

    def mark_packed(self, first: int, bits: bytes) -> None:
        """Mark chunks from number ``first`` on, a multiple of SEGMENT, by their bits (``Flags.packed``)."""
        with self._lock:
            self._dirty += self._flags.put_packed(first, bits)
            self._all_is_new()

    @property
    def chunks(self) -> int:
        """How many chunks the image has."""
        return self._flags.count

    def part(self, first: int, stop: int) -> bytes:
        """Return the flags of whole segments of chunks, one byte each; empty if none is marked."""
        with self._lock:
            return self._flags.part(first, stop)

    def follow(self) -> None:
        """Note new marks apart from now on, until ``unfollow``."""
        with self._lock:
            self._new, self._news = Flags(self._flags.count), 0

    def unfollow(self) -> None:
        """Do not note new marks any more."""
        with self._lock:
            self._new, self._news = None, 0

    @property
    def news(self) -> int:
        """How many new marks there are, in chunks."""
        return self._news

    def new_marks(self) -> Flags:
        """Return the marks that were made since ``follow`` or since the last call."""
        with self._lock:
            assert self._new is not None
            found, self._new, self._news = self._new, Flags(self._flags.count), 0
        return found

    def _all_is_new(self) -> None:
        """Everything was replaced: count all marks as new."""
        if self._new is not None:
            self._new, self._news = self._flags.copy(), self._dirty

    def clear(self) -> None:
        """Clear all marks."""
        self.replace(Flags(self._flags.count))

    def mark_all(self) -> None:
        """Mark the whole image."""
        self.mark(0, self.size)

    def merge(self, other: DirtyBitmap) -> None:
        """Mark what ``other`` marks. It is of an image of the same size; granularities may differ."""
        for offset, length, dirty in other.runs(0, other.size):
            if dirty:
                self.mark(offset, length)

    def resize(self, size: int) -> None:
        """Follow the image to another size; a new part is not marked."""
        with self._lock:
            self.size = size
            self._dirty -= self._flags.resize(self._chunks(size))
            self._all_is_new()

    def flags(self) -> Flags:
        """Return a copy of the flags."""
        with self._lock:
            return self._flags.copy()

    def replace(self, flags: Flags) -> None:
        """Replace all flags: by a copy that ``flags`` has returned, or by those of an image."""
        with self._lock:
            self._flags, self._segments = flags, flags.segments
            self._dirty = flags.raised()
            self._all_is_new()

    def become(self, other: DirtyBitmap) -> None:
        """Take everything over from another bitmap of the same name, which is not used any more."""
        self.size, self.granularity, self._bits = other.size, other.granularity, other._bits
        self.recording, self.inconsistent, self.read_only = (
            other.recording,
            other.inconsistent,
            other.read_only,
        )
        with self._lock:
            self._flags, self._segments, self._dirty = other._flags, other._segments, other._dirty
            self._all_is_new()

    def runs(self, offset: int, length: int) -> Iterator[tuple[int, int, bool]]:
        """Yield (offset, length, whether it is dirty) of a range, in order and without gaps."""
        end = min(offset + length, self.size)
        while offset < end:
            first, stop = offset >> self._bits, self._chunks(end)
            with self._lock:
                value = self._segments[first // SEGMENT][first % SEGMENT]
                found = self._flags.find(1 - value, first + 1, stop)
            until = end if found < 0 else min(end, found << self._bits)
            yield offset, until - offset, bool(value)
            offset = until


class Bitmaps:
    """The bitmaps of one image, by their names. Changed only while the drive's gate is closed."""

    def __init__(self) -> None:
        self._all: dict[str, DirtyBitmap] = {}
        self.marks: tuple[Callable[[int, int], None], ...] = ()
        """The ``mark`` of each bitmap that records."""

    def __iter__(self) -> Iterator[DirtyBitmap]:
        """Yield the bitmaps, the last added first, as QEMU lists them. For any thread."""
        return reversed(list(self._all.values()))

    def __bool__(self) -> bool:
        return bool(self._all)

    def find(self, name: str) -> DirtyBitmap | None:
        """Return a bitmap by its name."""
        return self._all.get(name)

    def add(self, bitmap: DirtyBitmap) -> None:
        """Add a bitmap whose name is not in use."""
        self._all[bitmap.name] = bitmap
        self.refresh()

    def remove(self, bitmap: DirtyBitmap) -> None:
        """Remove a bitmap."""
        del self._all[bitmap.name]
        self.refresh()

    def take_over(self, others: Iterable[DirtyBitmap], size: int) -> None:
        """Go on with the bitmaps of the same image as it was open before; it has ``size`` bytes.

        Those that the image stores stay the same objects, but have the content that was stored.
        """
        for old in reversed(list(others)):
            stored = self._all.get(old.name)
            if stored is not None and old.persistent:
                old.become(stored)
                self._all[old.name] = old
            elif stored is None and not old.persistent:
                if old.size != size:
                    old.resize(size)
                    old.mark_all()
                self._all[old.name] = old
            else:
                old.mark_all()  # who still uses it must not take anything for unchanged
        self.refresh()

    def refresh(self) -> None:
        """Note which bitmaps record."""
        self.marks = tuple(each.mark for each in self._all.values() if each.recording)

    def mark(self, offset: int, length: int) -> None:
        """Mark a range in all bitmaps that record. For any thread."""
        for mark in self.marks:
            mark(offset, length)

    def check_resizable(self) -> None:
        """Raises OSError, with QEMU's message, if a bitmap can't follow the image to another size."""
        for bitmap in self._all.values():
            if bitmap.busy:
                why = "is currently in use by another operation and cannot be used"
                raise OSError(errno.EBUSY, f"Bitmap '{bitmap.name}' {why}")
            if bitmap.inconsistent:
                raise OSError(errno.ENOTSUP, f"Bitmap '{bitmap.name}' is inconsistent and cannot be used")

    def resize(self, size: int) -> None:
        """Follow the image to another size."""
        for bitmap in self._all.values():
            bitmap.resize(size)


class BitmapFilter(NotingFilter):
    """Marks every range that is changed in the bitmaps: after the change, also if it failed."""

    def __init__(self, child: Node, bitmaps: Bitmaps) -> None:
        super().__init__(child)
        self._bitmaps = bitmaps

    def note(self, offset: int, length: int, *, is_data: bool) -> None:
        self._bitmaps.mark(offset, length)

    def resize(self, size: int) -> None:
        self._bitmaps.check_resizable()
        self.child.resize(size)
        self._bitmaps.resize(size)
