"""Dirty bitmaps in a run: where guests are served, they mark every write since they were made."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tests.support.bitmaps import nbd_map
from tests.support.guests import Write
from tests.support.processes import Qmon

GRAIN = 4096
IN_MEMORY, STORED = "m", "p"


def names(*, stored: bool) -> Sequence[str]:
    """The bitmaps of each drive, with or without one that its image stores."""
    return (IN_MEMORY, STORED) if stored else (IN_MEMORY,)


def add(source: Qmon, target: Qmon, drives: Iterable[str], *, stored: bool) -> None:
    """Give each drive of the source a bitmap in memory, and one that its image stores; let them go along."""
    for side in (source, target):
        side.quietly("migrate_set_capability dirty-bitmaps on")
    for drive in drives:
        for name in names(stored=stored):
            is_stored = name == STORED
            source.qmp(
                "block-dirty-bitmap-add", node=drive, name=name, granularity=GRAIN, persistent=is_stored
            )


def lost(side: Qmon, drive: str, writes: Sequence[Write], expected: Iterable[str]) -> list[str]:
    """A line for each bitmap of a drive that lacks the mark of a write, or that is not there."""
    inserted = next(each["inserted"] for each in side.qmp("query-block") if each["device"] == drive)
    found = [each["name"] for each in inserted.get("dirty-bitmaps", ()) if not each.get("inconsistent")]
    problems = [f"{side.name}: {drive} has no bitmap '{name}'" for name in expected if name not in found]
    for name in found:
        marked = _marked(side, inserted["node-name"], name)
        without = [write for write in writes if not _chunks(write.offset, write.length) <= marked]
        if without:
            problems.append(f"{side.name}: '{name}' of {drive} lacks {len(without)} writes, {without[0]}")
    return problems


def _chunks(offset: int, length: int) -> set[int]:
    return set(range(offset // GRAIN, -(-(offset + length) // GRAIN)))


def _marked(side: Qmon, node: str, name: str) -> set[int]:
    """The chunks that a bitmap marks, as an NBD client sees them."""
    side.qmp(
        "block-export-add", id="map", type="nbd", name="map", bitmaps=[name], writable=True, node_name=node
    )
    found = nbd_map(f"qemu:dirty-bitmap:{name}", f"nbd+unix:///map?socket={side.nbd}")
    side.qmp("block-export-del", id="map", mode="hard")
    return {chunk for offset, length, kind in found if kind == 1 for chunk in _chunks(offset, length)}
