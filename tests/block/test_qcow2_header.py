"""What is read from a qcow2 header, and what is refused there."""

from __future__ import annotations

import contextlib
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmon.block.qcow2.entries import Codec
from qmon.block.qcow2.header import Compression, Qcow2Error, parse_header

FILE_SIZE = 1 << 20
FIELDS = {
    "magic": (0, ">4s"),
    "version": (4, ">I"),
    "backing_offset": (8, ">Q"),
    "backing_length": (16, ">I"),
    "cluster_bits": (20, ">I"),
    "size": (24, ">Q"),
    "encryption": (32, ">I"),
    "l1_entries": (36, ">I"),
    "l1_offset": (40, ">Q"),
    "refcount_table_offset": (48, ">Q"),
    "refcount_table_clusters": (56, ">I"),
    "snapshots": (60, ">I"),
    "snapshots_offset": (64, ">Q"),
    "incompatible": (72, ">Q"),
    "compatible": (80, ">Q"),
    "autoclear": (88, ">Q"),
    "refcount_order": (96, ">I"),
    "length": (100, ">I"),
    "compression": (104, ">B"),
}
GOOD: dict[str, Any] = {
    "magic": b"QFI\xfb",
    "version": 3,
    "cluster_bits": 16,
    "size": 16 << 20,
    "l1_entries": 1,
    "l1_offset": 3 << 16,
    "refcount_table_offset": 1 << 16,
    "refcount_table_clusters": 1,
    "refcount_order": 4,
    "length": 112,
}


def header(extensions: bytes = b"", name: bytes = b"", **fields: Any) -> bytes:
    """The first cluster of an image; ``name`` is the backing file's."""
    data = bytearray(1 << 16)
    values = {**GOOD, **fields}
    if name:
        values = {"backing_offset": 1024, "backing_length": len(name), **values}
        data[values["backing_offset"] : values["backing_offset"] + len(name)] = name
    for field, value in values.items():
        offset, layout = FIELDS[field]
        struct.pack_into(layout, data, offset, value)
    start = 72 if values["version"] == 2 else values["length"]
    data[start : start + len(extensions)] = extensions
    return bytes(data)


def extension(kind: int, content: bytes) -> bytes:
    return struct.pack(">II", kind, len(content)) + content + bytes(-len(content) % 8)


def test_the_fields_of_both_versions() -> None:
    found = parse_header(header(), FILE_SIZE, for_writing=True)
    assert (found.version, found.size, found.cluster_size) == (3, 16 << 20, 65536)
    assert (found.backing_file, found.backing_format, found.compression) == (None, None, Compression.ZLIB)
    old = parse_header(header(version=2, refcount_order=9, incompatible=0xFF), FILE_SIZE, for_writing=True)
    assert (old.version, old.refcount_order, old.incompatible) == (2, 4, 0)


def test_a_backing_file_and_its_format() -> None:
    format_name = extension(0xE2792ACA, b"raw")
    unknown = extension(0x12345678, b"whatever")
    found = parse_header(header(unknown + format_name, b"base.img"), FILE_SIZE, for_writing=True)
    assert (found.backing_file, found.backing_format) == ("base.img", "raw")


def test_a_size_within_a_sector_is_cut_as_qemu_cuts_it() -> None:
    assert parse_header(header(size=1000), FILE_SIZE, for_writing=False).size == 512


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"magic": b"QFI\0"}, "Image is not in qcow2 format"),
        ({"version": 1}, "Unsupported qcow2 version 1"),
        ({"cluster_bits": 8}, "Unsupported cluster size: 2^8"),
        ({"cluster_bits": 22}, "Unsupported cluster size: 2^22"),
        ({"length": 96}, "header too short"),
        ({"length": 108}, "not a multiple of 8 bytes"),
        ({"length": 1 << 20}, "exceeds cluster size"),
        ({"backing_offset": 1 << 17}, "Invalid backing file offset"),
        ({"backing_offset": 512, "backing_length": 1024}, "Backing file name too long"),
        ({"encryption": 2}, "encrypted"),
        ({"incompatible": 4}, "'data-file' is required for this image"),
        ({"incompatible": 16}, "extended L2 entries"),
        ({"incompatible": 1 << 40}, "Unknown incompatible feature: 10000000000"),
        ({"incompatible": 8}, "must match the compression type"),
        ({"compression": 1}, "must match the compression type"),
        ({"incompatible": 8, "compression": 7}, "unknown compression type: 7"),
        ({"refcount_order": 7}, "width too large"),
        ({"l1_entries": 0}, "L1 table is too small"),
        ({"l1_entries": 1 << 23}, "L1 table too large"),
        ({"size": 1 << 62}, "L1 table too large"),
        ({"l1_offset": 100}, "L1 table offset invalid"),
        ({"l1_offset": 0}, "L1 table offset invalid"),
        ({"l1_offset": FILE_SIZE}, "outside the file"),
        ({"refcount_table_offset": 1 << 50}, "outside the file"),
        ({"refcount_table_clusters": 0}, "does not contain a reference count table"),
        ({"refcount_table_clusters": 1 << 20}, "Reference count table too large"),
        ({"snapshots": 70000}, "Snapshot table too large"),
        ({"snapshots": 1, "snapshots_offset": 7}, "Snapshot table offset invalid"),
    ],
)
def test_what_can_not_be_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(Qcow2Error) as caught:
        parse_header(header(**fields), FILE_SIZE, for_writing=False)
    assert message in str(caught.value.strerror)


def test_a_corrupt_image_is_only_read() -> None:
    assert parse_header(header(incompatible=2), FILE_SIZE, for_writing=False).is_corrupt
    with pytest.raises(Qcow2Error, match="cannot be opened read/write"):
        parse_header(header(incompatible=2), FILE_SIZE, for_writing=True)


def test_an_unknown_feature_is_called_by_the_name_that_the_image_gives_it() -> None:
    names = extension(0x6803F857, bytes([0, 9]) + b"quantum leaps".ljust(46, b"\0"))
    with pytest.raises(Qcow2Error, match=r"feature\(s\): quantum leaps$"):
        parse_header(header(names, incompatible=1 << 9), FILE_SIZE, for_writing=False)


def test_an_extension_that_does_not_fit_is_refused() -> None:
    with pytest.raises(Qcow2Error, match="Header extension too large"):
        parse_header(header(struct.pack(">II", 5, 1 << 20)), FILE_SIZE, for_writing=False)


@given(st.binary(max_size=600), st.booleans())
def test_any_bytes_are_read_or_refused(data: bytes, for_writing: bool) -> None:
    for head in (data, header()[:8] + data, header()[:72] + data):
        with contextlib.suppress(Qcow2Error):
            parse_header(head, FILE_SIZE, for_writing=for_writing)


@given(st.data(), st.integers(0, 6))
def test_entries_of_any_width_are_the_same_in_the_file_and_in_memory(data: st.DataObject, order: int) -> None:
    codec = Codec(order)
    stored = data.draw(st.binary(min_size=64, max_size=64))
    entries = codec.decode(stored)
    assert len(entries) == 64 * 8 >> order
    assert codec.encode(entries) == stored
    index = data.draw(st.integers(0, len(entries) - 1))
    if order <= 3:
        bits = 1 << order
        assert entries[index] == stored[index * bits // 8] >> index * bits % 8 & codec.max
    else:
        width = 1 << order - 3
        assert entries[index] == int.from_bytes(stored[index * width : (index + 1) * width])
    last = data.draw(st.integers(index, len(entries) - 1))
    for each in range(index, last + 1):
        entries[each] ^= 1
    start, changed = codec.dirty_bytes(entries, index, last)
    patched = stored[:start] + changed + stored[start + len(changed) :]
    assert codec.decode(patched) == entries
