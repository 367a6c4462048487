"""Repairs the reference counts of an image that was not closed properly, before it is used.

QEMU, docs/interop/qcow2: the dirty bit says that counts may be wrong, while the L1 and L2 tables are right.
"""

from __future__ import annotations

import logging
from array import array

from qmon.block.qcow2.core import Core
from qmon.block.qcow2.entries import Entries
from qmon.block.qcow2.header import FEATURES, INCOMPATIBLE_OFFSET, Incompatible
from qmon.block.qcow2.mapping import COMPRESSED, COPIED, OFFSET_MASK, filled, table_rows
from qmon.block.qcow2.refcounts import Refcounts
from qmon.block.qcow2.references import References
from qmon.block.qcow2.writeout import WriteOut

log = logging.getLogger("qmon.qcow2")


def repair(core: Core, refcounts: Refcounts, out: WriteOut) -> None:
    """Recount, correct counts and COPIED marks, and clear the dirty bit. Raises Qcow2Error, OSError."""
    references = References(core, refcounts)
    _add_missing_blocks(references, refcounts)
    wrong = 0
    for cluster, count in enumerate(references.counts):
        have = refcounts.get(cluster)
        if have < count or (have > count and references.knows_all):
            refcounts.change(cluster, count - have)
            wrong += 1
        if refcounts.cache.dirty_is_much:
            out.flush()
    if references.knows_all:
        for cluster in refcounts.counted_from(len(references.counts)):
            refcounts.change(cluster, -refcounts.get(cluster))
    out.flush()
    mark_copied(core, refcounts, out)
    out.flush()
    core.file.write(INCOMPATIBLE_OFFSET, FEATURES.pack(core.header.incompatible & ~Incompatible.DIRTY))
    core.file.flush()
    core.is_repaired()
    log.warning("image '%s' was not closed properly: %d reference counts corrected", core.file.path, wrong)


def _add_missing_blocks(references: References, refcounts: Refcounts) -> None:
    """Add refcount blocks for used clusters that have none; put them after all used clusters."""
    position = 0
    while position < len(references.counts):
        index = position // refcounts.in_block
        end = min((index + 1) * refcounts.in_block, len(references.counts))
        if not refcounts.has_block(index) and any(references.counts[position:end]):
            refcounts.add_block_at(index, references.append())
        position = (index + 1) * refcounts.in_block
    while not refcounts.has_block(index := (len(references.counts) - 1) // refcounts.in_block):
        refcounts.add_block_at(index, references.append())


def mark_copied(core: Core, refcounts: Refcounts, out: WriteOut) -> None:
    """Set COPIED in the active tables exactly where the count is 1. Raises OSError."""
    mapping = core.mapping
    for index in filled(mapping.l1, 0, len(mapping.l1)):
        table = mapping.table(index)
        assert table is not None
        if _mark(mapping.l1, index, core, refcounts):
            mapping.dirty_l1.add(index)
        if core.is_outside:
            continue
        if (changed := _marked(table.entries, core, refcounts)) != table.entries:
            table.entries[:] = changed
            mapping.cache.touch(table, 0, len(changed) - 1)
        if mapping.cache.dirty_is_much:
            out.flush()


def _marked(entries: Entries, core: Core, refcounts: Refcounts) -> Entries:
    """Return the entries of an L2 table with correct COPIED marks."""
    bits, size = core.header.cluster_bits, core.header.cluster_size
    marked = entries[:]
    for start, count in table_rows(entries, size):
        entry = entries[start]
        if entry & COMPRESSED or not entry & OFFSET_MASK:
            continue
        counts = refcounts.get_row((entry & OFFSET_MASK) >> bits, count)
        single = counts.count(1)
        if single in (0, count):
            first = entry | COPIED if single else entry & ~COPIED
            marked[start : start + count] = array("Q", range(first, first + count * size, size))
            continue
        for place, each in enumerate(counts, start):
            marked[place] = entries[place] | COPIED if each == 1 else entries[place] & ~COPIED
    return marked


def _mark(entries: Entries, index: int, core: Core, refcounts: Refcounts) -> bool:
    old = entries[index]
    is_single = refcounts.get((old & OFFSET_MASK) >> core.header.cluster_bits) == 1
    entries[index] = old & ~COPIED | (COPIED if is_single else 0)
    return entries[index] != old
