"""The images whose power fails: one of each kind that qemu-img makes, as chance has it."""

from __future__ import annotations

import random
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.images import noise
from tests.support.qcow2_images import content, run, run_io

KINDS = (
    "plain",
    "backed",
    "snapshots",
    "again",
    "compressed",
    "bitmaps",
    "lazy",
    "dirty",
    "data file",
    "raw data file",
    "raw",
    "counts",
    "chain",
    "threads",
)
_VERSION_3 = ("again", "bitmaps", "lazy", "dirty", "data file", "raw data file")
_BACKED = ("backed", "chain")
_MAYBE_BACKED = ("snapshots", "again", "bitmaps", "lazy", "dirty", "data file", "threads")
_PIECE = 4096


@dataclass(frozen=True)
class Made:
    """The topmost image of a chain: what it holds, and what its snapshots hold, by name."""

    kind: str
    image: Path
    format: str
    version: int
    refcount_bits: int
    held: bytes
    data_file: Path | None = None
    snapshots: dict[str, bytes] = field(default_factory=dict)

    @property
    def has_raw_data(self) -> bool:
        return self.kind == "raw data file"


def make(kind: str, folder: Path, chance: random.Random) -> Made:
    """Make an image of a kind, and all that belongs to it, in an empty folder."""
    if kind == "raw":
        return _make_raw(folder, chance)
    version = 3 if kind in _VERSION_3 else chance.choice([2, 3, 3])
    cluster_size = chance.choice([512, 512, 4096, 65536])
    refcount_bits = chance.choice([2, 8, 16, 16, 64]) if version == 3 else 16
    size = chance.choice([1 << 20, (1 << 20) + 2560])
    if kind == "counts":  # the refcount table reaches as far as 2 MiB of the file
        version, cluster_size, refcount_bits, size = 3, 512, 64, 3 << 20
    if kind == "threads":
        size = 512 << 10
    options = [f"cluster_size={cluster_size}", f"compat={'1.1' if version == 3 else '0.10'}"]
    options.append(f"refcount_bits={refcount_bits}")
    if kind in ("lazy", "dirty"):
        options.append("lazy_refcounts=on")
    is_outside = kind in ("data file", "raw data file") or (
        kind == "threads" and version == 3 and chance.random() < 0.3
    )
    data_file = folder / "data.img" if is_outside else None
    if data_file:
        is_raw = kind == "raw data file"
        options += [f"data_file={data_file}", f"data_file_raw={'on' if is_raw else 'off'}"]
    image = folder / "disk.qcow2"
    if kind == "compressed":
        source = folder / "source.img"
        source.write_bytes(_mixed(size, chance))
        run("convert", "-c", "-f", "raw", "-O", "qcow2", "-o", ",".join(options), source, image)
        source.unlink()
    else:
        is_backed = kind in _BACKED or (kind in _MAYBE_BACKED and chance.random() < 0.5)
        backing = _make_backing(folder, size, chance) if is_backed else []
        run("create", "-q", "-f", "qcow2", "-o", ",".join(options), *backing, image, size)
    if kind == "counts":
        run_io(image, f"write -P 9 0 {chance.randrange(1600, 1950)}k")
    elif chance.random() < 0.8:
        run_io(image, *_lines(size, version, chance))
    snapshots = {}
    if kind in ("snapshots", "again"):
        run("snapshot", "-c", "first", image)
        snapshots["first"] = content(image)
        run_io(image, *_lines(size, version, chance))
    if kind == "bitmaps":
        run("bitmap", "--add", image, "b0")
        run_io(image, *_lines(size, version, chance))
    if kind == "dirty":
        _leave_dirty(image, _lines(size, version, chance))
    held = content(image)
    for path in folder.glob("*.raw"):
        path.unlink()
    return Made(kind, image, "qcow2", version, refcount_bits, held, data_file, snapshots)


def _make_raw(folder: Path, chance: random.Random) -> Made:
    image = folder / "disk.img"
    held = _mixed((1 << 20) + 512, chance)
    image.write_bytes(held)
    return Made("raw", image, "raw", 0, 0, held)


def _make_backing(folder: Path, size: int, chance: random.Random) -> list[str]:
    """An image that reaches as far as its overlay or less; returns the words that name it."""
    plain = folder / "base.img"
    plain.write_bytes(_mixed(chance.choice([size, size // 2 // 512 * 512]), chance))
    if chance.random() < 0.3:
        return ["-b", plain.name, "-F", "raw"]
    options = f"cluster_size={chance.choice([512, 4096, 65536])},compat={chance.choice(['0.10', '1.1'])}"
    packed = ["-c"] if chance.random() < 0.2 else []
    run("convert", *packed, "-f", "raw", "-O", "qcow2", "-o", options, plain, folder / "base.qcow2")
    plain.unlink()
    if "1.1" in options and chance.random() < 0.3:
        run("bitmap", "--add", folder / "base.qcow2", "b0")
    return ["-b", "base.qcow2", "-F", "qcow2"]


def _mixed(size: int, chance: random.Random) -> bytes:
    """Noise, zeros and what can be compressed."""
    held = bytearray(size)
    for start in range(0, size, _PIECE):
        length = min(_PIECE, size - start)
        match chance.choice("nzc"):
            case "n":
                held[start : start + length] = noise(length, chance.getrandbits(30))
            case "c":
                held[start : start + length] = bytes([chance.randrange(1, 256)]) * length
    return bytes(held)


def _lines(size: int, version: int, chance: random.Random) -> list[str]:
    """A few writes for qemu-io."""
    lines = []
    for _ in range(chance.randrange(1, 6)):
        offset = chance.randrange(size // 512) * 512
        length = min(size - offset, chance.choice([512, 4096, 70_144, 300_032]))
        zeros = version == 3 and chance.random() < 0.3
        lines.append(f"write {'-z' if zeros else f'-P {chance.randrange(1, 256)}'} {offset} {length}")
    return lines


def _leave_dirty(image: Path, lines: list[str]) -> None:
    """Write, and end before the reference counts are written down."""
    words = [word for line in [*lines, "flush", "abort"] for word in ("-c", line)]
    subprocess.run(["qemu-io", *words, image], capture_output=True, check=False, cwd=image.parent)
