"""The disks of a counting guest: made, and judged by what must be on them."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.images import MIB
from tests.support.vms.boot_sector import SECTOR, Counting

RAW, QCOW2 = "raw", "qcow2"


@dataclass(frozen=True, slots=True)
class Filling:
    """What a disk of ``size`` bytes holds besides numbers: ``noise`` bytes in the middle, the rest is zeros.

    Sizes are whole MiB.
    """

    size: int = 32 * MIB
    noise: int = 4 * MIB
    seed: int = 1

    @property
    def _first(self) -> int:
        return (self.size - self.noise) // 2 // MIB * MIB

    def piece(self, start: int) -> bytes:
        """Return the MiB that begins at a byte."""
        first = self._first
        if first <= start < first + self.noise:
            return random.Random(f"{self.seed} {start}").randbytes(MIB)
        return bytes(MIB)

    def write(self, path: Path, beginning: bytes = b"") -> None:
        """Make a raw image, sparse, with other bytes at its beginning."""
        with path.open("wb") as file:
            file.truncate(self.size)
            file.write(beginning)
            for start in range(self._first, self._first + self.noise, MIB):
                file.seek(start)
                file.write(self.piece(start))


@dataclass(frozen=True, slots=True)
class Image:
    """An image of a disk: ``index`` is the disk's place in its machine, ``backing`` is raw."""

    path: Path
    format: str
    index: int = 0
    backing: Path | None = None

    @property
    def raw(self) -> Path:
        """A file with what the disk holds now. No program may write meanwhile."""
        if self.format == RAW:
            return self.path
        converted = self.path.with_suffix(".converted")
        _img("convert", "-U", "-f", self.format, "-O", "raw", self.path, converted)
        return converted


def source_image(path: Path, format_: str, filling: Filling, counting: Counting, *, inc: bool) -> Image:
    """The disk that the guest boots from; with ``inc`` an overlay, and all is in the file behind it."""
    index = int(path.stem[-1])
    made = path.with_suffix(".base" if inc else ".raw")
    filling.write(made, counting.boot_sector())
    return _image(path, format_, index, made, inc=inc)


def empty_image(path: Path, format_: str, filling: Filling, counting: Counting, *, inc: bool) -> Image:
    """A disk to copy to; with ``inc`` an empty overlay on a file like the source's.

    Otherwise it holds the rest of an old disk, which must not come through.
    """
    index = int(path.stem[-1])
    made = path.with_suffix(".base" if inc else ".raw")
    if inc:
        filling.write(made, counting.boot_sector())
    else:
        Filling(filling.size, MIB, seed=-1).write(made, b"an old disk" * 100_000)
    return _image(path, format_, index, made, inc=inc)


def _image(path: Path, format_: str, index: int, made: Path, *, inc: bool) -> Image:
    if inc:
        _img("create", "-q", "-f", QCOW2, "-b", made.name, "-F", RAW, path)
        return Image(path, QCOW2, index, made)
    if format_ == RAW:
        made.rename(path)
    else:
        _img("convert", "-f", RAW, "-O", format_, made, path)
        made.unlink()
    return Image(path, format_, index)


def _img(*words: str | Path) -> None:
    subprocess.run(["qemu-img", *map(str, words)], check=True)


def wrong(image: Image, filling: Filling, counting: Counting, last: int) -> list[str]:
    """Return a line for all that is wrong on a disk on which ``last`` was the last acknowledged number.

    The guest may have begun to write the next one.
    """
    path = image.raw
    try:
        return [*_wrong_numbers(path, counting, last, image.index), *_wrong_filling(path, filling, counting)]
    finally:
        if path != image.path:
            path.unlink()


def _wrong_numbers(path: Path, counting: Counting, last: int, disk: int) -> Iterator[str]:
    with path.open("rb") as file:

        def lies(sector: int, allowed: Sequence[int]) -> bool:
            file.seek(sector * SECTOR)
            return file.read(SECTOR) in [counting.content(number, disk) for number in allowed]

        # the next number may be in the place of the oldest one
        oldest = max(1, last - counting.numbers + 2)
        lost = [
            number for number in range(oldest, last + 1) if not lies(counting.sector_of(number), [number])
        ]
        if lost:
            yield f"{path.name}: {len(lost)} of {last} acknowledged numbers are lost, {lost[0]} is the first"
        if last and not lies(counting.hot, [last, last + 1]):
            yield f"{path.name}: the hot sector does not hold {last}"


def _wrong_filling(path: Path, filling: Filling, counting: Counting) -> Iterator[str]:
    size = path.stat().st_size
    if size != filling.size:
        yield f"{path.name}: {size} bytes, not {filling.size}"
        return
    with path.open("rb") as file:
        for start in range(0, size, MIB):
            found, wanted = file.read(MIB), filling.piece(start)
            if start < counting.end * SECTOR:
                found, wanted = (
                    _without_numbers(found, start, counting),
                    _without_numbers(wanted, start, counting),
                )
            if found != wanted:
                at = next(at for at in range(MIB) if found[at] != wanted[at])
                yield f"{path.name}: byte {start + at}, which the guest never wrote, has changed"
                return


def _without_numbers(piece: bytes, start: int, counting: Counting) -> bytes:
    """Return a piece of a disk with zeros where the guest writes, and where it has booted from."""
    changed = bytearray(piece)
    numbers = range(counting.ring, counting.ring + counting.numbers)
    for sectors in (numbers, range(counting.hot, counting.hot + 1), range(1)):
        first, last = (
            min(max(each * SECTOR - start, 0), len(piece)) for each in (sectors.start, sectors.stop)
        )
        changed[first:last] = bytes(last - first)
    return bytes(changed)
