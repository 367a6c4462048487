"""Loads an image's persistent bitmaps when it is opened, and stores them when it is closed.

QEMU, docs/interop/qcow2, "Bitmaps". While the image is open for writing its bitmaps are marked as in use.
So after a crash they are known to be inconsistent.
"""

from __future__ import annotations

import errno
import logging
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, replace

from qmon.block.bitmaps import MAX_CHUNKS, MAX_NAME_BYTES, Bitmaps, DirtyBitmap
from qmon.block.flags import Flags
from qmon.block.qcow2.bitmaps import (
    MAX_BITMAPS,
    MAX_DIRECTORY_BYTES,
    Bitmap,
    Flag,
    encode_directory,
    entry_length,
    read_directory,
)
from qmon.block.qcow2.bitmaps_extension import FIELDS, remove_extension, set_valid, write_extension
from qmon.block.qcow2.core import Core
from qmon.block.qcow2.entries import CODEC_64
from qmon.block.qcow2.header import SECTOR, Qcow2Error
from qmon.block.qcow2.mapping import read_l1
from qmon.block.qcow2.refcounts import Refcounts
from qmon.block.qcow2.writeout import WriteOut
from qmon.errors import reason

log = logging.getLogger("qmon.qcow2")

_OFFSET_MASK = 0x00FFFFFFFFFFFE00
_ALL_ONES = 1
"""An entry of a bitmap's table without a cluster: all of its bits are 1."""

_MAX_LOADED_CHUNKS = 4 * MAX_CHUNKS
"""The most chunks of all bitmaps of an image together."""


@dataclass(frozen=True, slots=True)
class _Stored:
    """A bitmap that was just written: its entry of the directory, and the clusters that it takes."""

    entry: Bitmap
    clusters: array[int]


class StoredBitmaps:
    """The bitmaps of one image. No request may use the image during a call, except ``entries``."""

    def __init__(self, core: Core, bitmaps: Bitmaps) -> None:
        """Load the bitmaps into ``bitmaps``. Raises OSError if the file can't be read."""
        self._core = core
        self._bitmaps = bitmaps
        self._bits = core.header.cluster_bits
        self._directory = (0, 0)
        self.entries: tuple[Bitmap, ...] = ()
        """The entries of the directory in the file."""
        self._writer: tuple[Refcounts, WriteOut] | None = None
        self.is_kept = False
        """Whether they are kept up to date, so that the header may say so."""
        try:
            self._load()
            self.is_kept = True
        except Qcow2Error as error:
            log.warning("image '%s': its bitmaps can't be used: %s", core.file.path, reason(error))

    def _load(self) -> None:
        core = self._core
        directory = read_directory(core.file, core.header)
        if directory is None:
            return
        names = {each.shown_name for each in directory.bitmaps}
        if not all(each.is_known for each in directory.bitmaps) or len(names) < len(directory.bitmaps):
            raise Qcow2Error("the bitmap directory has entries that are not known here")
        self.entries = directory.bitmaps
        self._directory = directory.offset, directory.length
        budget = _MAX_LOADED_CHUNKS
        for entry in directory.bitmaps:
            chunks = core.size >> entry.granularity_bits
            budget -= chunks
            self._bitmaps.add(self._load_one(entry, is_too_large=chunks > MAX_CHUNKS or budget < 0))

    def _load_one(self, entry: Bitmap, *, is_too_large: bool) -> DirtyBitmap:
        """Return an entry's bitmap, inconsistent if its content is not known."""
        flags = None
        if is_too_large:
            log.warning("image '%s': bitmap '%s' is too large", self._core.file.path, entry.shown_name)
        elif not entry.flags & Flag.IN_USE:
            try:
                flags = self._read(entry)
            except Qcow2Error as error:
                log.warning(
                    "image '%s': bitmap '%s' is damaged: %s",
                    self._core.file.path,
                    entry.shown_name,
                    reason(error),
                )
        bitmap = DirtyBitmap(
            entry.shown_name,
            0 if flags is None else self._core.size,
            1 << entry.granularity_bits,
            recording=flags is not None and bool(entry.flags & Flag.AUTO),
            persistent=True,
        )
        bitmap.inconsistent = flags is None
        bitmap.read_only = self._core.file.read_only
        if flags is not None:
            bitmap.replace(flags)
        return bitmap

    def _read(self, entry: Bitmap) -> Flags:
        core = self._core
        flags = Flags(-(-core.size >> entry.granularity_bits))
        table = self._table(entry)
        in_cluster = 8 << self._bits
        if len(table) < -(-flags.count // in_cluster):
            raise Qcow2Error("its table is too short")
        data = bytearray(core.header.cluster_size)
        for number, place in enumerate(table[: -(-flags.count // in_cluster)]):
            offset, start = place & _OFFSET_MASK, number * in_cluster
            if offset:
                core.file.read_into(offset, memoryview(data))
                flags.put_packed(start, bytes(data))
            elif place & _ALL_ONES:
                flags.fill(start, min(start + in_cluster, flags.count), 1)
        return flags

    def _table(self, entry: Bitmap) -> array[int]:
        """Return the table of an entry. Raises Qcow2Error if it is damaged."""
        core, end = self._core, self._core.file.size
        offset, size = entry.table_offset, core.header.cluster_size
        if offset & (size - 1) or not 0 < offset <= end - entry.table_entries * 8:
            raise Qcow2Error("its table lies outside the file, or is not aligned")
        table = read_l1(core.file, offset, entry.table_entries)
        for each in table:
            place = each & _OFFSET_MASK
            if each & ~(_OFFSET_MASK | _ALL_ONES) or place & (size - 1) or (place and place + size > end):
                raise Qcow2Error(f"its table has an invalid entry: {each:#x}")
            if place and each & _ALL_ONES:
                raise Qcow2Error(f"its table has an invalid entry: {each:#x}")
        return table

    def begin(self, refcounts: Refcounts, out: WriteOut) -> None:
        """Mark the bitmaps as in use before the first change, of the disk or of a bitmap. Raises OSError."""
        self._writer = refcounts, out
        if all(entry.flags & Flag.IN_USE for entry in self.entries):
            return
        core = self._core
        self.entries = tuple(replace(entry, flags=entry.flags | Flag.IN_USE) for entry in self.entries)
        data = encode_directory(self.entries)
        offset = self._directory[0]
        at_once = offset // SECTOR == (offset + len(data) - 1) // SECTOR
        if not at_once:
            set_valid(core, out, valid=False)
        out.switch(offset, data)
        set_valid(core, out, valid=True)

    def check_new(self, name: str, granularity: int) -> None:
        """Check whether one more bitmap could be stored. Raises OSError with QEMU's message."""
        persistent = [each for each in self._bitmaps if each.persistent]
        length = sum(entry_length(each.name.encode()) for each in persistent) + entry_length(name.encode())
        why = None
        if self._core.header.version < 3:
            why = "Cannot store dirty bitmaps in qcow2 v2 files"
        elif self._core.size // granularity > MAX_CHUNKS:
            why = "Too much space will be occupied by the bitmap. Use larger granularity"
        elif len(name.encode()) > MAX_NAME_BYTES:
            why = f"Name length exceeds maximum ({MAX_NAME_BYTES} characters)"
        elif not self.is_kept:
            why = "its bitmaps are damaged"
        elif len(persistent) >= MAX_BITMAPS:
            why = "Maximum number of persistent bitmaps is already reached"
        elif length > MAX_DIRECTORY_BYTES:
            why = "Not enough space in the bitmap directory"
        if why is not None:
            raise OSError(errno.EINVAL, why)

    def remove(self, bitmap: DirtyBitmap) -> None:
        """Remove a bitmap from the file, if it is there. Raises OSError."""
        gone = [entry for entry in self.entries if entry.shown_name == bitmap.name]
        if gone and self._writer is not None:
            self._use([entry for entry in self.entries if entry not in gone], gone)

    def store(self) -> None:
        """Write the bitmaps, and mark them as not in use, until ``begin``. Raises OSError."""
        if self._writer is None or not self.is_kept:
            return
        persistent = {each.name: each for each in self._bitmaps if each.persistent and not each.inconsistent}
        if not persistent:
            self._writer = None
            return
        kept: list[Bitmap] = []
        replaced: list[Bitmap] = []
        stored: list[_Stored] = []
        try:
            for entry in self.entries:
                bitmap = persistent.pop(entry.shown_name, None)
                if bitmap is None:
                    kept.append(entry)
                    continue
                stored.append(self._write(bitmap, entry.name))
                kept.append(stored[-1].entry)
                replaced.append(entry)
            for name, bitmap in persistent.items():
                stored.append(self._write(bitmap, name.encode()))
                kept.append(stored[-1].entry)
            self._use(kept, replaced)
        except BaseException:
            if not any(each.entry in self.entries for each in stored):
                self._give_up(cluster for each in stored for cluster in each.clusters)
            raise
        self._writer = None

    def _write(self, bitmap: DirtyBitmap, name: bytes) -> _Stored:
        """Write a bitmap's clusters and its table. They are flushed before something refers to them."""
        core = self._core
        flags, in_cluster = bitmap.flags(), 8 << self._bits
        table: list[int] = []
        clusters = array("Q")
        for start in range(0, flags.count, in_cluster):
            stop = start + in_cluster
            constant = flags.constant(start, min(stop, flags.count))
            if constant == 0 or (constant == 1 and stop <= flags.count):
                table.append(constant)
                continue
            place = self._allocate(core.header.cluster_size, clusters)
            data = flags.packed(start, min(stop, flags.count))
            core.file.write(place, data.ljust(core.header.cluster_size, b"\0"))
            table.append(place)
        offset = self._allocate(max(1, len(table)) * 8, clusters)
        if table:
            core.file.write(offset, CODEC_64.encode(array("Q", table)))
        bits = bitmap.granularity.bit_length() - 1
        flag = Flag.AUTO if bitmap.recording else 0
        return _Stored(Bitmap(name, flag, 1, bits, offset, len(table)), clusters)

    def _use(self, entries: list[Bitmap], gone: list[Bitmap]) -> None:
        """Write a new directory and make the header refer to it. Free the old one and ``gone``."""
        assert self._writer is not None
        core, (_, out) = self._core, self._writer
        old = self._clusters(*self._directory)
        freed = [cluster for entry in gone for cluster in self._clusters_of(entry)]
        data = encode_directory(entries)
        added = array("Q")
        try:
            offset = self._allocate(len(data), added) if entries else 0
            if entries:
                core.file.write(offset, data)
            out.flush()
        except BaseException:
            self._give_up(added)
            raise
        if entries:
            write_extension(core, out, FIELDS.pack(len(entries), 0, len(data), offset))
        else:
            remove_extension(core, out)
        self.entries = tuple(entries)
        self._directory = offset, len(data)
        self._give_up([*old, *freed])
        out.flush()

    def _clusters_of(self, entry: Bitmap) -> list[int]:
        """Return the clusters of an entry, none if its table is damaged: they are leaked then."""
        try:
            table = self._table(entry)
        except Qcow2Error:
            return []
        found = [(each & _OFFSET_MASK) >> self._bits for each in table if each & _OFFSET_MASK]
        return [*found, *self._clusters(entry.table_offset, entry.table_entries * 8)]

    def _clusters(self, offset: int, length: int) -> range:
        return range(offset >> self._bits, -(-(offset + length) >> self._bits))

    def _allocate(self, length: int, clusters: array[int]) -> int:
        """Allocate clusters for ``length`` bytes, and add them to ``clusters``; return their offset."""
        assert self._writer is not None
        refcounts, out = self._writer
        if out.is_due:
            out.flush()
        count = -(-length >> self._bits)
        with self._core.lock:
            start, _ = refcounts.allocate_table(count)
        clusters.extend(range(start, start + count))
        return start << self._bits

    def _give_up(self, clusters: Iterable[int]) -> None:
        assert self._writer is not None
        with self._core.lock:
            self._writer[1].give_up_all(clusters)
