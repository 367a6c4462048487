"""Writes to a qcow2 image: in place, or into newly allocated clusters.

A write that needs new clusters allocates them under the lock. It fills them without the lock: with the
guest's bytes, and with the old content around these. Then it links them into the L2 table. Until then other
writes to the same guest clusters wait.
"""

from __future__ import annotations

import errno
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace

from qmon.block import hints
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
"""Up to this size, joining the guest's bytes with their surroundings is cheaper than separate writes."""


@dataclass(eq=False, slots=True)
class _InPlace:
    host: int
    length: int


@dataclass(eq=False, slots=True)
class _Filling:
    """A plan: ``count`` guest clusters from ``first`` on are filled at file offset ``host``."""

    first: int
    count: int
    host: int
    is_new: bool
    """Whether the clusters are newly allocated; else the table already has them, marked as zeros."""
    is_fresh: bool
    before: list[Run]
    after: list[Run]


class Writer:
    """Changes the disk of one image. Thread-safe. All calls raise OSError."""

    def __init__(self, core: Core, refcounts: Refcounts, out: WriteOut) -> None:
        self._core = core
        self._refcounts = refcounts
        self._out = out
        self._bits = core.header.cluster_bits
        self._in_cluster = core.header.cluster_size - 1
        self._has_zero_clusters = core.header.version >= 3
        self._fillings: list[_Filling] = []
        self._kept = Autoclear.RAW_DATA_FILE if core.header.is_raw_outside else 0
        self._is_first_change = True

    def write(self, offset: int, data: Buffer) -> None:
        """Write all of ``data`` at ``offset``."""
        view = memoryview(data)
        self.before_change()
        done = 0
        while done < len(view):
            if self._out.is_due:
                self._out.flush()
            done += self._write_some(offset + done, view[done:])

    def write_now(self, offset: int, data: Buffer) -> bool:
        """Write in place, into one plain cluster, if nothing else has to be done."""
        core = self._core
        if self._is_first_change or not self._out.is_plain or not core.lock.acquire(blocking=False):
            return False
        try:
            place = core.mapping.place(offset, len(data), COPIED)
            return place >= 0 and core.data.write_now(place, data)
        finally:
            core.lock.release()

    def zero(self, offset: int, length: int, *, unmap: bool) -> None:
        """Make a range read as zeros; without ``unmap`` its allocated clusters are kept."""
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

    def zeroes_fast(self, offset: int, length: int, *, unmap: bool) -> bool:
        """Whether ``zero`` changes tables only, or a raw data file fast."""
        if self._kept:
            return hints.zeroes_fast(self._core.data, offset, length, unmap=unmap)
        if not self._has_zero_clusters and (self._core.backing is not None or not unmap):
            return False
        first, stop = self._whole_clusters(offset, offset + length)
        at_end = offset + length == self._core.size
        return first << self._bits == offset and (at_end or stop << self._bits == offset + length)

    def discard(self, offset: int, length: int) -> None:
        """Free the whole clusters of a range; they then read as zeros, or as before if that is impossible."""
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
        """Write zeros to a raw data file, which must be identical to the disk; the tables do not change."""
        self.before_change()
        self._core.data.zero(offset, length, unmap=unmap)

    def leave_to_backing(self, offset: int, length: int) -> None:
        """Free the whole clusters of a range, so that the backing image's content is visible."""
        if self._kept:
            raise OSError(errno.ENOTSUP, "an image with a raw external data file has no backing file")
        self.before_change()
        first, stop = self._whole_clusters(offset, offset + length)
        if first < stop:
            self.drop(first, stop)

    def drop(self, first: int, stop: int) -> None:
        """Free the clusters from ``first`` to ``stop - 1``, so that the backing image's content is visible.

        The caller has made sure that this content is right.
        """
        self._change_clusters(first, stop, unmap=True, drop=True)

    def before_change(self) -> None:
        """Before the first change, clear the autoclear bits of data that qmon does not keep up to date."""
        self._out.before_change()
        if self._is_first_change:
            core = self._core
            with core.lock:
                bits = core.header.autoclear & core.kept_autoclear
                if self._is_first_change and bits != core.header.autoclear:
                    core.file.write(AUTOCLEAR_OFFSET, FEATURES.pack(bits))
                    core.file.flush()
                    core.header = replace(core.header, autoclear=bits)
                self._is_first_change = False

    def _whole_clusters(self, offset: int, end: int) -> tuple[int, int]:
        """Return (first, stop) of the clusters that a range covers; the last may be cut by the disk's end."""
        at_end = end == self._core.size
        return -(-offset >> self._bits), (-(-end >> self._bits) if at_end else end >> self._bits)

    def _write_some(self, offset: int, data: memoryview) -> int:
        """Write as many bytes as possible in one step; return how many."""
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
        """Plan the first step of a write; None while another write fills its first cluster."""
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
        """Write a filling's clusters, then link them; return how many bytes of ``data`` were written."""
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
        """Return the content around the guest's bytes in the same clusters; empty if holes are enough."""
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
        if start + len(content) > core.size:  # bytes past the disk's end must be zeros if it grows
            clear(view[max(0, core.size - start) :])
        return bytes(content)

    def _allocate(self, first: int, wanted: int) -> tuple[int, int, bool]:
        """Do ``Refcounts.allocate``; in a data file return the fixed places of the guest clusters."""
        return (first, wanted, False) if self._core.is_outside else self._refcounts.allocate(wanted)

    def _take_back(self, filling: _Filling) -> None:
        """Free a filling's new clusters, which nothing refers to. Under the lock."""
        if filling.is_new and not self._core.is_outside:
            cluster = filling.host >> self._bits
            for each in range(cluster, cluster + filling.count):
                self._refcounts.change(each, -1)

    def _link(self, filling: _Filling) -> None:
        """Enter filled clusters in the L2 table. Under the lock."""
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
        """Free the clusters that an L2 entry referred to. Under the lock."""
        if self._core.is_outside:
            return
        clusters: Sequence[int] = ()
        if entry & COMPRESSED:
            clusters = compressed_clusters(entry, self._bits)
        elif entry & OFFSET_MASK:
            clusters = ((entry & OFFSET_MASK) >> self._bits,)
        for cluster in clusters:
            if cluster in self._core.metadata or not self._refcounts.get(cluster):
                raise self._core.damage.error(f"an L2 entry refers to a table or a free cluster: {entry:#x}")
            self._out.give_up(cluster)

    def _own_table(self, l1_index: int) -> Table:
        """Return a writable L2 table of an L1 entry: a new one, or a copy of a shared one. Under the lock."""
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
        """Return a table's entries for a copy. COPIED is cleared where a cluster has more references."""
        entries = table.entries[:]
        for index in () if self._core.is_outside else filled(entries, 0, len(entries)):
            entry = entries[index]
            if entry & COPIED and self._refcounts.get((entry & OFFSET_MASK) >> self._bits) != 1:
                entries[index] = entry & ~COPIED
        return entries

    def _zero_part(self, offset: int, length: int) -> None:
        """Write zeros within one cluster, unless it already reads as zeros there."""
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
        """Make clusters read as zeros; with ``drop`` free them, so that the backing image is visible."""
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
        """Return the new L2 entry of a guest cluster that is to read as zeros."""
        if drop:
            return 0
        if not entry:
            return 0 if self._core.backing is None else ZERO
        if not entry & COMPRESSED or self._core.is_outside:
            self._core.mapping.check_entry(entry, cluster << self._bits)
            if not unmap and is_own and entry & COPIED:
                return entry | ZERO
        return ZERO if self._has_zero_clusters else 0
