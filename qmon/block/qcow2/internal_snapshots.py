"""Internal snapshots: takes, deletes and applies them (QEMU, docs/interop/qcow2, "Snapshots").

Each change takes effect by one write of a header sector, after all that the sector refers to is on stable
storage. Clusters are counted up before that write and counted down after it, so a crash can only leak
clusters. While counts and COPIED marks may be inconsistent, the dirty bit is set (if the image's version has
one), so that the next program that opens the image repairs them.
"""

from __future__ import annotations

import errno
import logging
import os
import re
from array import array
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace

from qmon.block.bitmaps import Bitmaps
from qmon.block.qcow2.compressed import clusters as compressed_clusters
from qmon.block.qcow2.core import Core
from qmon.block.qcow2.entries import CODEC_64, Entries
from qmon.block.qcow2.header import (
    FEATURES,
    INCOMPATIBLE_OFFSET,
    MAX_SNAPSHOTS,
    RESIZE_FIELDS,
    SECTOR,
    SIZE_OFFSET,
    SNAPSHOT_FIELDS,
    SNAPSHOTS_OFFSET,
    Incompatible,
    l1_entries_for,
)
from qmon.block.qcow2.mapping import COMPRESSED, COPIED, OFFSET_MASK, filled, read_l1, table_rows
from qmon.block.qcow2.refcounts import Refcounts
from qmon.block.qcow2.repair import mark_copied
from qmon.block.qcow2.snapshots import Snapshot, encode_snapshot, parse_snapshots
from qmon.block.qcow2.writeout import WriteOut
from qmon.block.qcow2.writer import Writer
from qmon.errors import reason

log = logging.getLogger("qmon.qcow2")

_MAX_NAME_BYTES = 255
"""QEMU does not read longer names (include/block/snapshot.h: QEMUSnapshotInfo)."""

_MAX_TABLE_BYTES = 64 << 20
_SHOWN_NAME = 32

HAS_BITMAPS = "Device has active dirty bitmaps"
"""Why a snapshot can't be applied, in QEMU's words: bitmaps would not know what has changed."""


def check_name(name: str) -> None:
    """Check the name of a new snapshot. Raises OSError that says which names are allowed."""
    try:
        length = len(name.encode())
    except UnicodeEncodeError as error:
        raise OSError(errno.EINVAL, "Snapshot name is not UTF-8 text") from error
    if length > _MAX_NAME_BYTES:
        shown = f"{name[:_SHOWN_NAME]}…"
        why = f"Snapshot name '{shown}' has {length} bytes: at most {_MAX_NAME_BYTES} bytes are allowed"
        raise OSError(errno.EINVAL, why)


class InternalSnapshots:
    """Changes the internal snapshots. No other request may use the image during a call.

    All calls raise OSError; then the image is unchanged. The exception: if the header write itself fails,
    the result is unknown, and the image accepts no more writes.
    """

    def __init__(
        self, core: Core, refcounts: Refcounts, out: WriteOut, writer: Writer, bitmaps: Bitmaps
    ) -> None:
        self._core = core
        self._bitmaps = bitmaps
        self._refcounts = refcounts
        self._out = out
        self._writer = writer
        self._bits = core.header.cluster_bits
        self._is_settled = True
        """Whether counts and marks are consistent."""

    def take(
        self, name: str, seconds: int, nanoseconds: int, *, instead_of: Collection[Snapshot] = ()
    ) -> Snapshot:
        """Take a snapshot with a name and a new id; the same write deletes those in ``instead_of``."""
        core = self._core
        check_name(name)
        if core.is_outside:
            raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))  # a data file can't share clusters
        kept = [each for each in core.snapshots if each not in instead_of]
        if len(kept) >= MAX_SNAPSHOTS:
            raise OSError(errno.EFBIG, f"an image has at most {MAX_SNAPSHOTS} snapshots")
        self._begin()
        l1 = _without_copied(core.mapping.l1)
        counted = array("Q")
        try:
            dropped = self._all_of(instead_of)
            offset = self._allocate(len(l1) * 8, counted)
            self._count(l1, counted)
            self._out.flush()
            mark_copied(core, self._refcounts, self._out)
            core.file.write(offset, CODEC_64.encode(l1))
            new = Snapshot(
                id=str(max((_number(each.id) for each in kept), default=0) + 1),
                name=name,
                l1_offset=offset,
                l1_entries=len(l1),
                seconds=seconds,
                nanoseconds=nanoseconds,
                vm_clock_nanoseconds=0,
                vm_state_bytes=0,
                icount=None,
                disk_size=core.size,
                length=0,
            )
            self._use_table([*self._entries_of(kept), encode_snapshot(new)], counted)
        except BaseException:
            self._undo(counted)
            raise
        self._give_up(dropped)
        self._settle(has_dropped=bool(dropped))
        return core.snapshots[-1]

    def delete(self, snapshots: Collection[Snapshot]) -> None:
        """Delete snapshots and free the clusters that only they use."""
        core = self._core
        kept = [each for each in core.snapshots if each not in snapshots]
        self._begin()
        counted = array("Q")
        try:
            dropped = self._all_of(snapshots)
            self._use_table(self._entries_of(kept), counted)
        except BaseException:
            self._undo(counted)
            raise
        self._give_up(dropped)
        self._settle()

    def apply(self, snapshot: Snapshot) -> None:
        """Revert the disk to a snapshot, including its size. As in QEMU, there must be no dirty bitmaps."""
        if self._bitmaps:
            raise OSError(errno.EINVAL, HAS_BITMAPS)
        core, mapping = self._core, self._core.mapping
        size = core.size if snapshot.disk_size is None else snapshot.disk_size // SECTOR * SECTOR
        entries = l1_entries_for(size, self._bits)
        if entries > snapshot.l1_entries:
            raise OSError(errno.EINVAL, f"snapshot '{snapshot.name}' has an L1 table that is too short")
        self._begin()
        counted = array("Q")
        try:
            # further entries are the saved machine state, which is not used
            l1 = _without_copied(read_l1(core.file, snapshot.l1_offset, entries))
            old = self._tree(mapping.l1)
            old.extend(self._clusters(mapping.l1_offset, len(mapping.l1) * 8))
            offset = self._allocate(entries * 8, counted)
            self._count(l1, counted)
            core.file.write(offset, CODEC_64.encode(l1))
            self._out.flush()
            self._out.sync()
            self._out.switch(SIZE_OFFSET, RESIZE_FIELDS.pack(size, 0, entries, offset))
        except BaseException:
            self._undo(counted)
            raise
        with core.lock:
            mapping.l1, mapping.l1_offset = l1, offset
            core.header = replace(core.header, size=size, l1_entries=entries, l1_offset=offset)
            core.size = size
            core.metadata.update((entry & OFFSET_MASK) >> self._bits for entry in l1 if entry)
        self._give_up(old)
        self._settle()

    def _begin(self) -> None:
        self._writer.before_change()
        self._out.flush()
        self._out.flush()  # also writes counts that the first flush has counted down
        self._set_dirty(True)
        self._is_settled = False

    def finish(self) -> None:
        """Before the image is closed, retry the clean-up that failed after a change."""
        if not self._is_settled:
            self._settle()

    def _settle(self, *, has_dropped: bool = True) -> None:
        """Clean up after a change took effect. A failure is retried on closing, or repaired on opening."""
        try:
            self._end(has_dropped=has_dropped)
        except OSError as error:
            log.error(
                "image '%s': can't correct the reference counts after a change of its snapshots: %s",
                self._core.file.path,
                reason(error),
            )

    def _end(self, *, has_dropped: bool = True) -> None:
        self._out.flush()
        self._out.sync()  # the counts before the marks
        if has_dropped:
            mark_copied(self._core, self._refcounts, self._out)
            self._out.flush()
        self._out.sync()
        self._set_dirty(False)
        self._is_settled = True

    def _set_dirty(self, dirty: bool) -> None:
        core = self._core
        if core.header.version < 3:
            return
        bits = core.header.incompatible & ~Incompatible.DIRTY | (Incompatible.DIRTY if dirty else 0)
        self._out.switch(INCOMPATIBLE_OFFSET, FEATURES.pack(bits))
        core.set_incompatible(bits)

    def _undo(self, counted: Entries) -> None:
        """Undo the counting of a change that failed. If the image accepts no more writes, do nothing."""
        self._out.check()
        with self._core.lock:
            self._refcounts.change_all(counted, -1)
        self._end()

    def _allocate(self, length: int, counted: Entries) -> int:
        """Allocate clusters for a table of ``length`` bytes; return its offset, 0 for no bytes."""
        if not length:
            return 0
        count = -(-length >> self._bits)
        with self._core.lock:
            start, _ = self._refcounts.allocate_table(count)
        counted.extend(range(start, start + count))
        return start << self._bits

    def _count(self, l1: Entries, counted: Entries) -> None:
        """Add one reference to all clusters of an L1 table; add them to ``counted`` as it goes."""
        for clusters in self._referred(l1):
            with self._core.lock:
                self._refcounts.change_all(clusters, 1)
            counted.extend(clusters)
            if self._out.is_due:
                self._out.flush()

    def _use_table(self, entries: Sequence[bytes], counted: Entries) -> None:
        """Write a new snapshot table, switch the header to it, and free the old one."""
        core, header = self._core, self._core.header
        table = b"".join(entries)
        if len(table) > _MAX_TABLE_BYTES:
            raise OSError(errno.EFBIG, "the snapshot table would be too large")
        offset = self._allocate(len(table), counted)
        self._out.flush()
        if table:
            core.file.write(offset, table)
        self._out.sync()
        new = parse_snapshots(table, len(entries), header.cluster_size, core.file.size)
        self._out.switch(SNAPSHOTS_OFFSET, SNAPSHOT_FIELDS.pack(len(entries), offset))
        old = self._clusters(header.snapshots_offset, sum(each.length for each in core.snapshots))
        core.header = replace(core.header, snapshots=len(entries), snapshots_offset=offset)
        core.snapshots = new
        self._give_up(old)

    def _entries_of(self, kept: Collection[Snapshot]) -> list[bytes]:
        """Return the entries as they are in the file, including unknown extra data."""
        core = self._core
        entries = []
        position = core.header.snapshots_offset
        for snapshot in core.snapshots:
            if snapshot in kept:
                entry = bytearray(snapshot.length)
                core.file.read_into(position, memoryview(entry))
                entries.append(bytes(entry))
            position += snapshot.length
        return entries

    def _all_of(self, snapshots: Iterable[Snapshot]) -> Entries:
        """Return all clusters that snapshots refer to, each as often as it is referred to."""
        found = array("Q")
        for snapshot in snapshots:
            found.extend(self._tree(read_l1(self._core.file, snapshot.l1_offset, snapshot.l1_entries)))
            found.extend(self._clusters(snapshot.l1_offset, snapshot.l1_entries * 8))
        return found

    def _tree(self, l1: Entries) -> Entries:
        found = array("Q")
        for clusters in self._referred(l1):
            found.extend(clusters)
        return found

    def _clusters(self, offset: int, length: int) -> range:
        return range(offset >> self._bits, -(-(offset + length) >> self._bits)) if length else range(0)

    def _referred(self, l1: Entries) -> Iterator[Entries]:
        """Yield for each L2 table, as it is in the file, its own cluster and those that it refers to."""
        core = self._core
        in_cluster = core.header.cluster_size - 1
        for index in filled(l1, 0, len(l1)):
            offset = l1[index] & OFFSET_MASK
            if not offset or offset & in_cluster or offset + in_cluster >= core.file.size:
                raise core.damage.error(f"an L1 entry is invalid: {l1[index]:#x}")
            data = bytearray(in_cluster + 1)
            core.file.read_into(offset, memoryview(data))
            entries = CODEC_64.decode(data)
            found = array("Q")
            for start, count in table_rows(entries, in_cluster + 1):
                entry = entries[start]
                place = entry & OFFSET_MASK
                first = place >> self._bits
                if entry & COMPRESSED:
                    for each in entries[start : start + count]:
                        found.extend(compressed_clusters(each, self._bits))
                elif place & in_cluster or (place and core.metadata.meets(first, first + count)):
                    raise core.damage.error(f"the L2 table at {offset:#x} has an invalid entry")
                elif place:
                    found.extend(range(first, first + count))
            found.append(offset >> self._bits)
            with core.lock:
                if 0 in self._refcounts.get_all(found):
                    raise core.damage.error(f"the L2 table at {offset:#x} refers to a cluster with count 0")
            yield found

    def _give_up(self, clusters: Iterable[int]) -> None:
        with self._core.lock:
            self._out.give_up_all(clusters)


def _without_copied(l1: Entries) -> Entries:
    return array("Q", (entry & ~COPIED for entry in l1))


def _number(id: str) -> int:
    """Return the number at the start of an id, as QEMU reads it."""
    match = re.match(r"\d+", id)
    return int(match[0]) if match else 0
