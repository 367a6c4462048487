"""How a qcow2 image is written: in place, or into clusters that are found for it.

A write that needs clusters takes them under the lock, fills them without it, with what lies around the
guest's bytes in the same clusters, and enters them in the table when they are full. Until then whoever wants
to change the same guest clusters waits.
"""

from __future__ import annotations

import errno
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from qmon.block.node import Buffer
from qmon.block.qcow2.compressed import clusters as compressed_clusters
from qmon.block.qcow2.core import Core, clear
from qmon.block.qcow2.entries import CODEC_64, Entries, Table
from qmon.block.qcow2.header import AUTOCLEAR_OFFSET, FEATURES, Autoclear
from qmon.block.qcow2.mapping import COMPRESSED, COPIED, OFFSET_MASK, ZERO, Run, State, filled, row
from qmon.block.qcow2.refcounts import Refcounts
from qmon.block.qcow2.writeout import WriteOut

_ZEROS = memoryview(bytes(1 << 20))
_JOINED_BYTES = 64 << 10
"""Up to this size, copying a guest's bytes between what lies around them is cheaper than more calls."""


@dataclass(eq=False, slots=True)
class _InPlace:
    host: int
    length: int


@dataclass(eq=False, slots=True)
class _Filling:
    """``count`` guest clusters from ``first`` on get the clusters at offset ``host`` of the file."""

    first: int
    count: int
    host: int
    is_new: bool
    """Whether the clusters were found for this; else the table named them already, reading as zeros."""
    is_fresh: bool
    before: list[Run]
    after: list[Run]


class Writer:
    """Changes one image. Thread-safe. All calls raise OSError."""

    def __init__(self, core: Core, refcounts: Refcounts, out: WriteOut) -> None:
        self._core = core
        self._refcounts = refcounts
        self._out = out
        self._bits = core.header.cluster_bits
        self._in_cluster = core.header.cluster_size - 1
        self._has_zero_clusters = core.header.version >= 3
        self._fillings: list[_Filling] = []
        self._kept = Autoclear.RAW_DATA_FILE if core.header.is_raw_outside else 0
        self._autoclear = core.header.autoclear & ~self._kept
        """What is to be cleared yet."""

    def write(self, offset: int, data: Buffer) -> None:
        """Write all of ``data`` at ``offset``."""
        view = memoryview(data)
        self.before_change()
        done = 0
        while done < len(view):
            if self._out.is_due:
                self._out.flush()
            done += self._write_some(offset + done, view[done:])

    def zero(self, offset: int, length: int, *, unmap: bool) -> None:
        """Make a range read as zeros; without ``unmap`` clusters that it has are kept for it."""
        if self._kept:
            self._zero_outside(offset, length, unmap=unmap)
            return
        if not self._has_zero_clusters and (self._core.backing is not None or not unmap):
            self._write_zeros(offset, length)
            return
        self.before_change()
        end = offset + length
        first, stop = self._whole_clusters(offset, end)
        if first >= stop:
            self._zero_part(offset, length)
            return
        if offset < first << self._bits:
            self._zero_part(offset, (first << self._bits) - offset)
        self._change_clusters(first, stop, unmap=unmap)
        if end > stop << self._bits:
            self._zero_part(stop << self._bits, end - (stop << self._bits))

    def discard(self, offset: int, length: int) -> None:
        """Give up whole clusters; they read as zeros then, or as before where they can't."""
        if self._kept:
            self._zero_outside(offset, length, unmap=True)
            return
        if not self._has_zero_clusters and self._core.backing is not None:
            return
        self.before_change()
        first, stop = self._whole_clusters(offset, offset + length)
        if first < stop:
            self._change_clusters(first, stop, unmap=True)

    def _zero_outside(self, offset: int, length: int, *, unmap: bool) -> None:
        """What a raw data file holds must not differ from the disk; the tables say the same as before."""
        self.before_change()
        self._core.data.zero(offset, length, unmap=unmap)

    def leave_to_backing(self, offset: int, length: int) -> None:
        """Drop whole clusters."""
        if self._kept:
            raise OSError(errno.ENOTSUP, "an image with a raw external data file has no backing file")
        self.before_change()
        first, stop = self._whole_clusters(offset, offset + length)
        if first < stop:
            self.drop(first, stop)

    def drop(self, first: int, stop: int) -> None:
        """Leave the clusters from first to before stop to the backing image, which the caller has seen to."""
        self._change_clusters(first, stop, unmap=True, drop=True)

    @property
    def is_changed(self) -> bool:
        """Whether there has been a change that bitmaps don't know of."""
        return not self._autoclear

    def before_change(self) -> None:
        """Nobody may trust any more, after a crash, what this image says of itself and isn't kept up."""
        self._out.before_change()
        if self._autoclear:
            with self._core.lock:
                if self._autoclear:
                    self._core.file.write(AUTOCLEAR_OFFSET, FEATURES.pack(self._kept))
                    self._core.file.flush()
                    self._autoclear = 0

    def _whole_clusters(self, offset: int, end: int) -> tuple[int, int]:
        """The clusters from first to before stop that a range covers; the last may end with the disk."""
        at_end = end == self._core.size
        return -(-offset >> self._bits), (-(-end >> self._bits) if at_end else end >> self._bits)

    def _write_some(self, offset: int, data: memoryview) -> int:
        """Write as much from the start as can be in one go, and return how much."""
        core = self._core
        plan: _InPlace | _Filling | None
        with core.lock:
            place = core.mapping.place(offset, len(data), COPIED)
            plan = _InPlace(place, len(data)) if place >= 0 else self._plan(offset, len(data))
            while plan is None:
                core.changed.wait()
                self._out.check()
                plan = self._plan(offset, len(data))
            epoch = core.requests.enter()
        try:
            if isinstance(plan, _InPlace):
                core.data.write(plan.host, data[: plan.length])
                return plan.length
            return self._fill(plan, offset, data)
        finally:
            with core.lock:
                core.requests.leave(epoch)

    def _plan(self, offset: int, length: int) -> _InPlace | _Filling | None:
        """What to do with the first bytes of a write; None while others fill its first cluster."""
        mapping, bits = self._core.mapping, self._bits
        l1_index = offset >> mapping.table_bits
        stop = min(offset + length, (l1_index + 1) << mapping.table_bits)
        first, last = offset >> bits, (stop - 1) >> bits
        is_own = bool(mapping.l1[l1_index] & COPIED)
        table = mapping.table(l1_index)
        index = first & (mapping.in_table - 1)
        entry = table.entries[index] if table else 0
        if table and is_own and entry & COPIED and not entry & (ZERO | COMPRESSED):
            count = row(table.entries, index, last - first + 1, self._in_cluster + 1)
            mapping.check_row(entry, count, first << bits)
            end = min(stop, (first + count) << bits)
            return _InPlace((entry & OFFSET_MASK) + (offset & self._in_cluster), end - offset)
        for filling in self._fillings:
            if filling.first <= first < filling.first + filling.count:
                return None
            if first < filling.first <= last:
                last = filling.first - 1
        return self._plan_filling(offset, stop, first, last, l1_index)

    def _plan_filling(self, offset: int, stop: int, first: int, last: int, l1_index: int) -> _Filling:
        mapping, bits = self._core.mapping, self._bits
        table = self._own_table(l1_index)
        index = first & (mapping.in_table - 1)
        entry = table.entries[index]
        if entry & ZERO and entry & COPIED and not self._core.is_outside:
            count = row(table.entries, index, last - first + 1, self._in_cluster + 1)
            mapping.check_row(entry & ~ZERO, count, first << bits, may_be_new=True)
            filling = _Filling(first, count, entry & OFFSET_MASK, False, False, [], [])
        else:
            wanted = 1 if entry else row(table.entries, index, last - first + 1, 0)
            while wanted <= last - first:
                entry = table.entries[index + wanted]
                if entry & COPIED and not entry & COMPRESSED:
                    break
                wanted += 1
            cluster, count, is_fresh = self._allocate(first, wanted)
            filling = _Filling(first, count, cluster << bits, True, is_fresh, [], [])
        start, end = first << bits, (first + count) << bits
        try:
            if offset > start:
                filling.before = mapping.runs(start, offset - start)
            if stop < end:
                filling.after = mapping.runs(stop, end - stop)
        except BaseException:
            self._take_back(filling)
            raise
        self._fillings.append(filling)
        return filling

    def _fill(self, filling: _Filling, offset: int, data: memoryview) -> int:
        """Write a filling's clusters, then enter them in the table; returns how much of ``data`` that was."""
        end = (filling.first + filling.count) << self._bits
        part = data[: end - offset]
        try:
            before = self._surroundings(filling.before, filling.is_fresh)
            after = self._surroundings(filling.after, filling.is_fresh)
            host = filling.host
            place = host + (offset - (filling.first << self._bits))
            if (before or after) and len(part) <= _JOINED_BYTES:
                self._core.data.write(place - len(before), b"".join((before, part, after)))
            else:
                if before:
                    self._core.data.write(host, before)
                self._core.data.write(place, part)
                if after:
                    self._core.data.write(place + len(part), after)
        except BaseException:
            with self._core.lock:
                self._fillings.remove(filling)
                self._take_back(filling)
                self._core.changed.notify_all()
            raise
        with self._core.lock:
            self._fillings.remove(filling)
            self._core.changed.notify_all()
            self._link(filling)
        return len(part)

    def _surroundings(self, runs: list[Run], is_fresh: bool) -> bytes:
        """What lies around a guest's bytes in the same clusters; nothing where holes will do."""
        if not runs:
            return b""
        core = self._core
        if is_fresh and all(
            run.state == State.ZERO or (run.state == State.UNALLOCATED and core.backing is None)
            for run in runs
        ):
            return b""
        start = runs[0].offset
        content = bytearray(runs[-1].offset + runs[-1].length - start)
        view = memoryview(content)
        for run in runs:
            core.read_run(run, view[run.offset - start : run.offset - start + run.length])
        if start + len(content) > core.size:  # what lies behind the disk's end must not come up when it grows
            clear(view[max(0, core.size - start) :])
        return bytes(content)

    def _allocate(self, first: int, wanted: int) -> tuple[int, int, bool]:
        """As the counts' ``allocate``; in a data file each cluster has its place, which nobody counts."""
        return (first, wanted, False) if self._core.is_outside else self._refcounts.allocate(wanted)

    def _take_back(self, filling: _Filling) -> None:
        """Its clusters are free again: nothing refers to them. Under the lock."""
        if filling.is_new and not self._core.is_outside:
            cluster = filling.host >> self._bits
            for each in range(cluster, cluster + filling.count):
                self._refcounts.change(each, -1)

    def _link(self, filling: _Filling) -> None:
        """Enter filled clusters in the table. Under the lock."""
        mapping = self._core.mapping
        table = mapping.table(filling.first >> self._core.header.l2_bits)
        assert table is not None
        index = filling.first & (mapping.in_table - 1)
        stop = index + filling.count
        old = table.entries[index:stop]
        end = filling.host + (filling.count << self._bits)
        table.entries[index:stop] = array(
            "Q", range(filling.host | COPIED, end | COPIED, self._in_cluster + 1)
        )
        if filling.is_new and old.count(0) < filling.count:
            for entry in old:
                self._give_up(entry)
        mapping.cache.touch(table, index, stop - 1)

    def _give_up(self, entry: int) -> None:
        """What an L2 entry named is not referred to by it any more. Under the lock."""
        if self._core.is_outside:
            return
        clusters: Sequence[int] = ()
        if entry & COMPRESSED:
            clusters = compressed_clusters(entry, self._bits)
        elif entry & OFFSET_MASK:
            clusters = ((entry & OFFSET_MASK) >> self._bits,)
        for cluster in clusters:
            if cluster in self._core.metadata or not self._refcounts.get(cluster):
                raise self._core.damage.error(f"an L2 entry names a table or a free cluster: {entry:#x}")
            self._out.give_up(cluster)

    def _own_table(self, l1_index: int) -> Table:
        """The L2 table of an L1 entry, made or copied if it can't be changed where it is. Under the lock."""
        mapping = self._core.mapping
        old = mapping.l1[l1_index]
        table = mapping.table(l1_index)
        if table is not None and old & COPIED:
            return table
        entries = self._shared_entries(table) if table else CODEC_64.empty(mapping.in_table)
        cluster, is_hole = self._refcounts.allocate_table(1)
        new = mapping.cache.add(cluster << self._bits, entries, is_there=is_hole and table is None)
        mapping.l1[l1_index] = cluster << self._bits | COPIED
        mapping.dirty_l1.add(l1_index)
        if table is not None:
            self._out.give_up(table.offset >> self._bits)
        return new

    def _shared_entries(self, table: Table) -> Entries:
        """What a copy of a table holds: what is referred to more often can't be written in place."""
        entries = table.entries[:]
        for index in () if self._core.is_outside else filled(entries, 0, len(entries)):
            entry = entries[index]
            if entry & COPIED and self._refcounts.get((entry & OFFSET_MASK) >> self._bits) != 1:
                entries[index] = entry & ~COPIED
        return entries

    def _zero_part(self, offset: int, length: int) -> None:
        """Zeros within one cluster, unless they are there."""
        core = self._core
        with core.lock:
            runs = core.mapping.runs(offset, length)
        if any(
            run.state in (State.DATA, State.COMPRESSED)
            or (run.state == State.UNALLOCATED and core.backing is not None)
            for run in runs
        ):
            self._write_zeros(offset, length)

    def _write_zeros(self, offset: int, length: int) -> None:
        for start in range(offset, offset + length, len(_ZEROS)):
            self.write(start, _ZEROS[: min(len(_ZEROS), offset + length - start)])

    def _change_clusters(self, first: int, stop: int, *, unmap: bool, drop: bool = False) -> None:
        """Have clusters read as zeros; with ``drop`` they are left to the backing image."""
        core, mapping = self._core, self._core.mapping
        l2_bits = core.header.l2_bits
        leaves_holes = drop or core.backing is None
        while first < stop:
            if self._out.is_due:
                self._out.flush()
            with core.lock:
                l1_index = first >> l2_bits
                if leaves_holes and not mapping.l1[l1_index]:
                    following = filled(mapping.l1, l1_index, len(mapping.l1), 1)
                    first = following[0] << l2_bits if following else stop
                    continue
                end = min(stop, (l1_index + 1) << l2_bits)
                while any(each.first < end and first < each.first + each.count for each in self._fillings):
                    core.changed.wait()
                self._out.check()
                self._change_table(l1_index, first, end, unmap=unmap, drop=drop)
                first = end

    def _change_table(self, l1_index: int, first: int, stop: int, *, unmap: bool, drop: bool) -> None:
        mapping = self._core.mapping
        table = mapping.table(l1_index)
        is_own = bool(mapping.l1[l1_index] & COPIED)
        start = first & (mapping.in_table - 1)
        changes: list[tuple[int, int]] = []
        for index in range(start, start + stop - first):
            old = table.entries[index] if table else 0
            new = self._zeroed(old, first + index - start, is_own=is_own, unmap=unmap, drop=drop)
            if new != old:
                changes.append((index, new))
        if not changes:
            return
        own = self._own_table(l1_index)
        for index, new in changes:
            old = own.entries[index]
            own.entries[index] = new
            if not new & OFFSET_MASK:
                self._give_up(old)
        mapping.cache.touch(own, changes[0][0], changes[-1][0])

    def _zeroed(self, entry: int, cluster: int, *, is_own: bool, unmap: bool, drop: bool) -> int:
        """What the L2 entry of a guest's cluster becomes, so that it reads as zeros."""
        if drop:
            return 0
        if not entry:
            return 0 if self._core.backing is None else ZERO
        if not entry & COMPRESSED or self._core.is_outside:
            self._core.mapping.check_entry(entry, cluster << self._bits)
            if not unmap and is_own and entry & COPIED:
                return entry | ZERO
        return ZERO if self._has_zero_clusters else 0
