"""Good qcow2 images of many shapes, as QEMU makes them, and where in them what can be damaged lies."""

from __future__ import annotations

import random
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ADDRESS = 0x00FFFFFFFFFFFE00
COMPRESSED = 1 << 62
_MOST_ENTRIES = 64
"""Of a table that are damaged one by one; the rest of it is like them."""

HEADER = {
    "magic": (0, 4),
    "version": (4, 4),
    "backing_file_offset": (8, 8),
    "backing_file_size": (16, 4),
    "cluster_bits": (20, 4),
    "size": (24, 8),
    "crypt_method": (32, 4),
    "l1_size": (36, 4),
    "l1_table_offset": (40, 8),
    "refcount_table_offset": (48, 8),
    "refcount_table_clusters": (56, 4),
    "nb_snapshots": (60, 4),
    "snapshots_offset": (64, 8),
    "incompatible_features": (72, 8),
    "compatible_features": (80, 8),
    "autoclear_features": (88, 8),
    "refcount_order": (96, 4),
    "header_length": (100, 4),
    "compression_type": (104, 1),
    "padding": (105, 7),
}
"""The fields by QEMU's names (docs/interop/qcow2), as offsets and widths in bytes."""

SNAPSHOT_FIELDS = {"l1_table_offset": (0, 8), "l1_size": (8, 4), "id_str_size": (12, 2), "name_size": (14, 2)}
SNAPSHOT_FIELDS |= {"date": (16, 8), "vm_clock": (24, 8), "vm_state_size": (32, 4), "extra_size": (36, 4)}

Site = tuple[str, int, int]
"""What it is called, its offset in the file, its width in bytes."""


@dataclass(frozen=True, slots=True)
class Shape:
    """How an image is made: options of qemu-img create, and what is done to it then."""

    options: str
    backing: str | None = None
    packed: bool = False
    snapshot: bool = False
    bitmap: bool = False
    has_data_file: bool = False


SHAPES = (
    Shape("cluster_size=512", snapshot=True),
    Shape("cluster_size=512,refcount_bits=1"),
    Shape("cluster_size=512,refcount_bits=64", backing="raw"),
    Shape("cluster_size=4096", packed=True, snapshot=True),
    Shape("cluster_size=4096,compat=0.10", snapshot=True),
    Shape("cluster_size=4096,lazy_refcounts=on", bitmap=True),
    Shape("cluster_size=65536", backing="qcow2", snapshot=True),
    Shape("cluster_size=65536,compat=0.10", packed=True),
    Shape("cluster_size=65536,refcount_bits=2,preallocation=metadata"),
    Shape("cluster_size=65536", bitmap=True, snapshot=True),
    Shape("cluster_size=65536,compression_type=zstd", packed=True),
    Shape("cluster_size=2M"),
    Shape("cluster_size=65536,extended_l2=on"),
    Shape("cluster_size=65536,data_file=data.img", has_data_file=True),
    Shape("cluster_size=4096,data_file=data.img,data_file_raw=on", has_data_file=True),
)
SIZE = 700 << 10
NAME = "disk.qcow2"


def make(shape: Shape, folder: Path) -> None:
    """Make the image of a shape in a folder, with the files that it needs."""
    image = folder / NAME
    content = folder / "content"
    content.write_bytes(random.Random(3).randbytes(300 << 10) + b"ab" * (100 << 10) + bytes(200 << 10))
    more = []
    if shape.backing is not None:
        base = folder / "base"
        base.write_bytes(random.Random(4).randbytes(500 << 10))
        if shape.backing == "qcow2":
            base.rename(folder / "base.raw")
            _run("qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", "base.raw", "base", cwd=folder)
        more = ["-b", "base", "-F", shape.backing]
    if shape.packed:
        options = ["-o", shape.options, "content", NAME]
        _run("qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", *options, cwd=folder)
    else:
        options = ["-o", shape.options, *more, NAME, str(SIZE)]
        _run("qemu-img", "create", "-q", "-f", "qcow2", *options, cwd=folder)
        _io(image, "write -s content 0 300k" if shape.backing is None else "write -P 5 40k 100k")
    if "0.10" not in shape.options:
        _io(image, "write -z 64k 40k")
    if shape.snapshot:
        _run("qemu-img", "snapshot", "-c", "s", NAME, cwd=folder)
        _run("qemu-img", "snapshot", "-c", "another", NAME, cwd=folder)
    if shape.bitmap:
        _run("qemu-img", "bitmap", "--add", NAME, "b", cwd=folder)
    _io(image, "write -P 4 10k 10k")
    content.unlink()


def _run(*words: str, cwd: Path) -> None:
    subprocess.run(words, cwd=cwd, check=True, capture_output=True)


def _io(image: Path, line: str) -> None:
    _run("qemu-io", "-f", "qcow2", "-c", line, NAME, cwd=image.parent)


def sites(image: bytes) -> dict[str, list[Site]]:
    """What there is to damage in a good image, by the structure that it belongs to."""
    version, cluster_bits = _number(image, 4, 4), _number(image, 20, 4)
    size = 1 << cluster_bits
    found: dict[str, list[Site]] = {"header": [], "extensions": [], "snapshots": [], "bitmaps": []}
    length = 72 if version == 2 else _number(image, 100, 4)
    found["header"] = [(name, *place) for name, place in HEADER.items() if place[0] < length]
    found["extensions"] = list(_extensions(image, length))
    name_offset, name_length = _number(image, 8, 8), _number(image, 16, 4)
    if name_offset:
        found["backing name"] = [("backing name", name_offset + each, 1) for each in range(name_length)]
    l1 = [("active", _number(image, 40, 8), _number(image, 36, 4))]
    l1 += list(_snapshots(image, found["snapshots"]))
    for name, offset, entries in l1:
        tables = [offset + 8 * each for each in range(min(entries, _MOST_ENTRIES))]
        found[f"{name} L1"] = [("L1 entry", place, 8) for place in tables]
        l2 = [_number(image, place, 8) & ADDRESS for place in tables]
        found[f"{name} L2"] = [
            ("L2 entry", table + 8 * each, 8)
            for table in l2
            if table
            for each in range(min(size // 8, _MOST_ENTRIES))
        ]
    refcount_table = _number(image, 48, 8)
    found["refcount table"] = [("refcount table entry", refcount_table + 8 * each, 8) for each in range(8)]
    block = _number(image, refcount_table, 8)
    found["refcount block"] = [("counts", block + each, 1) for each in range(min(size, 4 * _MOST_ENTRIES))]
    found["bitmaps"] = list(_bitmaps(image, found["extensions"]))
    return {name: places for name, places in found.items() if places}


def _extensions(image: bytes, position: int) -> Iterator[Site]:
    while True:
        kind, length = struct.unpack_from(">II", image, position)
        yield "extension type", position, 4
        yield "extension length", position + 4, 4
        if not kind:
            return
        for each in range(0, length, 4):
            yield f"extension {kind:#x}", position + 8 + each, 4
        position += 8 + -(-length // 8) * 8


def _snapshots(image: bytes, found: list[Site]) -> Iterator[tuple[str, int, int]]:
    position = _number(image, 64, 8)
    for number in range(_number(image, 60, 4)):
        found += [(f"snapshot {name}", position + at, width) for name, (at, width) in SNAPSHOT_FIELDS.items()]
        extra = _number(image, position + 36, 4)
        found += [("snapshot extra", position + 40 + each, 8) for each in range(0, extra, 8)]
        yield f"snapshot {number}", _number(image, position, 8), _number(image, position + 8, 4)
        names = _number(image, position + 12, 2) + _number(image, position + 14, 2)
        position += -(-(40 + extra + names) // 8) * 8


def _bitmaps(image: bytes, extensions: list[Site]) -> Iterator[Site]:
    place = next((at for name, at, _ in extensions if name == "extension 0x23852875"), None)
    if place is None:
        return
    directory = _number(image, place + 16, 8)
    for each in range(0, _number(image, place + 8, 8), 4):
        yield "bitmap directory", directory + each, 4
    table = _number(image, directory, 8)
    for each in range(_number(image, directory + 8, 4)):
        yield "bitmap table", table + 8 * each, 8


def _number(image: bytes | bytearray, offset: int, width: int) -> int:
    return int.from_bytes(image[offset : offset + width])


def damage(good: bytes, chance: random.Random) -> tuple[bytes, str]:
    """A good image with one to three things wrong, and what they are."""
    image = bytearray(good)
    places = sites(good)
    tables = [_number(good, at, 8) for at in (40, 48, 64)]
    tables += [_number(good, tables[0], 8) & ADDRESS, _number(good, tables[1], 8)]
    size = 1 << _number(good, 20, 4)
    done = []
    for _ in range(chance.choice([1, 1, 1, 2, 3])):
        what = chance.choice(sorted(places))
        name, offset, width = chance.choice(places[what])
        old = _number(image, offset, width)
        match chance.choice(["bit", "edge", "near", "table", "other", "random"]):
            case "bit":
                new = old ^ 1 << chance.randrange(8 * width)
            case "edge":
                new = chance.choice([0, 1, (1 << 8 * width) - 1, 1 << 8 * width - 1])
            case "near":
                new = old + chance.choice([-1, 1, -8, 8, 512, -512, size, -size])
            case "table":
                new = chance.choice([*tables, len(good) // size * size, len(good) + size, 1 << 40])
                new |= chance.choice([0, 1 << 63, 1])
            case "other":
                new = _number(image, chance.choice(places[what])[1], width)
            case _:
                new = chance.getrandbits(8 * width)
        new &= (1 << 8 * width) - 1
        image[offset : offset + width] = new.to_bytes(width)
        done.append(f"{what}: {name} at {offset:#x}: {old:#x} -> {new:#x}")
    if chance.random() < 0.04:
        del image[chance.randrange(len(image)) :]
        done.append(f"cut to {len(image)} bytes")
    return bytes(image), "; ".join(done)
