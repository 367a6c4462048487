"""Reads and encodes the table of internal snapshots (QEMU, docs/interop/qcow2, "Snapshots")."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from qmon.block.image_file import ImageFile
from qmon.block.qcow2.header import MAX_L1_BYTES, Header, Qcow2Error

_FIXED = struct.Struct(">QIHHIIQII")
_MAX_EXTRA = 1024
_MAX_TABLE_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One entry of the table; ``length`` is its size in the table in bytes."""

    id: str
    name: str
    l1_offset: int
    l1_entries: int
    seconds: int
    nanoseconds: int
    vm_clock_nanoseconds: int
    vm_state_bytes: int
    icount: int | None
    disk_size: int | None
    length: int


def read_snapshots(file: ImageFile, header: Header, file_size: int) -> list[Snapshot]:
    """Read the snapshots, in the table's order. Raises Qcow2Error, OSError."""
    if not header.snapshots:
        return []
    length = min(_MAX_TABLE_BYTES, file_size - header.snapshots_offset)
    entries = (_FIXED.size + _MAX_EXTRA + 2 * 65535 + 8) * header.snapshots
    data = bytearray(min(length, entries))
    file.read_into(header.snapshots_offset, memoryview(data))
    return parse_snapshots(data, header.snapshots, header.cluster_size, file_size)


def parse_snapshots(data: bytes | bytearray, count: int, cluster_size: int, file_size: int) -> list[Snapshot]:
    """Parse the first ``count`` entries of a table. Raises Qcow2Error."""
    found: list[Snapshot] = []
    position = 0
    for number in range(1, count + 1):
        snapshot = _read_one(bytes(data[position : position + _FIXED.size + _MAX_EXTRA + 2 * 65535]), number)
        if (
            snapshot.l1_offset % cluster_size
            or snapshot.l1_entries * 8 > MAX_L1_BYTES
            or snapshot.l1_offset + snapshot.l1_entries * 8 > file_size
        ):
            raise Qcow2Error(f"Snapshot {number} has an L1 table that is damaged or outside the file")
        found.append(snapshot)
        position += snapshot.length
    return found


def encode_snapshot(snapshot: Snapshot) -> bytes:
    """Encode one entry; its ``length`` is ignored."""
    icount = (1 << 64) - 1 if snapshot.icount is None else snapshot.icount
    extra = struct.pack(">QQQ", snapshot.vm_state_bytes, snapshot.disk_size or 0, icount)
    name = snapshot.name.encode()
    fixed = _FIXED.pack(
        snapshot.l1_offset,
        snapshot.l1_entries,
        len(snapshot.id),
        len(name),
        snapshot.seconds,
        snapshot.nanoseconds,
        snapshot.vm_clock_nanoseconds,
        min(snapshot.vm_state_bytes, 0xFFFFFFFF),
        len(extra),
    )
    entry = fixed + extra + snapshot.id.encode() + name
    return entry + bytes(-len(entry) % 8)


def _read_one(data: bytes, number: int) -> Snapshot:
    if len(data) < _FIXED.size:
        raise Qcow2Error(f"Snapshot {number} lies outside the file")
    (
        l1_offset,
        l1_entries,
        id_length,
        name_length,
        seconds,
        nanoseconds,
        clock,
        vm_state,
        extra_length,
    ) = _FIXED.unpack_from(data)
    if extra_length > _MAX_EXTRA:
        raise Qcow2Error(f"Snapshot {number} has too much extra data")
    extra = data[_FIXED.size : _FIXED.size + extra_length]
    name_start = _FIXED.size + extra_length + id_length
    end = name_start + name_length
    if end > len(data):
        raise Qcow2Error(f"Snapshot {number} lies outside the file")
    icount = int.from_bytes(extra[16:24]) if len(extra) >= 24 else None
    return Snapshot(
        id=data[_FIXED.size + extra_length : name_start].decode(errors="replace"),
        name=data[name_start:end].decode(errors="replace"),
        l1_offset=l1_offset,
        l1_entries=l1_entries,
        seconds=seconds,
        nanoseconds=nanoseconds,
        vm_clock_nanoseconds=clock,
        vm_state_bytes=int.from_bytes(extra[:8]) if len(extra) >= 8 else vm_state,
        icount=None if icount == (1 << 64) - 1 else icount,
        disk_size=int.from_bytes(extra[8:16]) if len(extra) >= 16 else None,
        length=-(-end // 8) * 8,
    )
