"""A drive to which this and that is done, with what it and its snapshots held after each call."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from qmon.block.bitmaps import DirtyBitmap
from qmon.block.qcow2.snapshots import Snapshot
from qmon.machine.drive import Drive
from qmon.notation.drive_options import DriveOptions
from tests.fuzz.power_loss_images import Made
from tests.support.power_loss import SECTOR, Recorder
from tests.support.qcow2_images import read

MOST_OVERLAYS = 3
MOST_BYTES = 4 << 20
"""Of a disk that grows."""

NARROW = 1
"""The order of reference counts that have no room for every snapshot, which is refused then."""

TOO_OFTEN = "has too many references"


@dataclass(frozen=True)
class Call:
    """One that began and ended at these ticks of the recorder's clock, and what there was after it."""

    name: str
    begun: int
    ended: int
    is_flushed: bool
    """Whether all is on stable storage when it has ended."""
    is_switch: bool
    """Whether it changes the disk in one moment, after all that came before."""
    top: Path
    held: bytes
    snapshots: dict[str, bytes]
    """What those of the topmost image hold, by name."""


class Disk:
    """The drive of an image that was made, with all that is done to its files recorded."""

    def __init__(self, made: Made, recorder: Recorder, chance: random.Random) -> None:
        self.recorder = recorder
        self._chance = chance
        self._made = made
        self._held = bytearray(made.held)
        self._snapshots = dict(made.snapshots)
        self.references: dict[tuple[Path, str], bytes] = {}
        """What an image held when a bitmap was added, by the image and the bitmap's name."""
        self.smallest = len(made.held)
        """The least size of the disk so far; what a bitmap says of the rest ends when the disk shrinks."""
        self._overlays = 0
        self._has_own_data = made.data_file is not None
        self.calls = [Call("begin", 0, 0, True, True, made.image, made.held, dict(made.snapshots))]
        self.drive = self._new_drive(str(made.image), made.format)
        self._note("open", self.drive.activate, is_flushed=True)

    def _new_drive(self, image: str, image_format: str) -> Drive:
        names = (f"#block{number}" for number in itertools.count())
        return Drive(DriveOptions("d", image, image_format, "none", False), lambda: next(names))

    def _note(
        self, name: str, call: Callable[[], None], *, is_flushed: bool = False, is_switch: bool = False
    ) -> None:
        """Do one thing; it changes the model, too."""
        begun = self.recorder.tick()
        call()
        ended = self.recorder.tick()
        top = Path(self.drive.image)
        held, snapshots = bytes(self._held), dict(self._snapshots)
        self.calls.append(Call(name, begun, ended, is_flushed, is_switch, top, held, snapshots))

    def use(self, calls: int) -> None:
        """Do so many things, as chance has it, and close the drive."""
        for _ in range(calls):
            self._chance.choice(self._possible())()
        self._note("close", self.drive.close, is_flushed=True)

    def _possible(self) -> list[Callable[[], None]]:
        """What can be done now, the more often the more likely it is."""
        made, drive = self._made, self.drive
        is_qcow2 = drive.format == "qcow2"
        is_version_2 = made.version == 2 and not self._overlays
        possible = [*[self.write] * 6, *[self.zero] * 2, *[self.discard] * 2, *[self.flush] * 2, self.reopen]
        if is_qcow2 and not self._has_own_data:
            many = 4 if made.kind in ("snapshots", "again") else 2
            possible += [*[self.take] * 2, *[self.delete] * (many if self._snapshots else 0)]
            possible += [self.apply] * (many if self._snapshots and not drive.bitmaps() else 0)
        if made.kind == "bitmaps" and is_qcow2:
            possible += [self.add_bitmap, self.remove_bitmap]
        if is_qcow2 and not (is_version_2 and self._snapshots) and not self._raw_data_on_top:
            possible += [self.resize] * (8 if made.kind == "backed" else 2)
        if is_qcow2 and not self._raw_data_on_top:
            possible.append(self.leave)
        many = 3 if made.kind in ("chain", "raw") else 1
        if self._overlays < MOST_OVERLAYS:
            possible += [self.overlay] * many
        if self._can_commit:
            possible += [self.commit] * many
        return possible

    @property
    def _raw_data_on_top(self) -> bool:
        return self._made.has_raw_data and not self._overlays

    @property
    def _can_commit(self) -> bool:
        layers = self.drive.layers
        if len(layers) < 2 or self._snapshots:
            return False
        below = layers[1].header
        can_grow = below is None or not (below.is_raw_outside or (below.version < 3 and below.snapshots))
        return can_grow or layers[1].size >= self.drive.size

    def _place(self) -> tuple[int, int]:
        chance, size = self._chance, len(self._held)
        offset = chance.randrange(size // SECTOR) * SECTOR
        length = SECTOR * chance.choice([1, 2, 8, 100, chance.randrange(1, 400), 3000])
        return offset, min(length, size - offset)

    def write(self) -> None:
        offset, length = self._place()
        data = self._chance.randbytes(length)
        self._held[offset : offset + length] = data
        self._note("write", lambda: self.drive.node.write(offset, data))

    def zero(self) -> None:
        offset, length = self._place()
        unmap = self._chance.random() < 0.5
        self._held[offset : offset + length] = bytes(length)
        self._note("zero", lambda: self.drive.node.zero(offset, length, unmap=unmap))

    def discard(self) -> None:
        offset, length = self._place()

        def discard() -> None:
            self.drive.node.discard(offset, length)
            self._held[offset : offset + length] = read(self.drive.node, offset, length)

        self._note("discard", discard)

    def leave(self) -> None:
        offset, length = self._place()

        def leave() -> None:
            self.drive.leave_to_backing(offset, length)
            self._held[offset : offset + length] = read(self.drive.node, offset, length)

        self._note("leave", leave)

    def flush(self) -> None:
        self._note("flush", lambda: self.drive.node.flush(), is_flushed=True)

    def resize(self) -> None:
        size = self._chance.choice([len(self._held) // 2, len(self._held) + (1 << 20), len(self._held) + 512])
        size = max(1 << 18, min(size, MOST_BYTES)) // SECTOR * SECTOR

        def resize() -> None:
            self.drive.node.resize(size)
            self.smallest = min(self.smallest, size)
            self._held = self._held[:size] + bytearray(max(0, size - len(self._held)))

        self._note("resize", resize, is_flushed=True, is_switch=True)

    def add_bitmap(self) -> None:
        name = f"new{len(self.calls)}"
        granularity = self._chance.choice([512, 4096, 65536])

        def add() -> None:
            self.drive.bitmaps().add(DirtyBitmap(name, self.drive.size, granularity, persistent=True))
            self.drive.track_writes()
            self.references[Path(self.drive.image), name] = bytes(self._held)

        self._note("add bitmap", add)

    def remove_bitmap(self) -> None:
        bitmaps = list(self.drive.bitmaps())
        if bitmaps:
            self._note("remove bitmap", lambda: self.drive.remove_bitmap(0, self._chance.choice(bitmaps)))

    def take(self) -> None:
        name = self._chance.choice(["s0", "s1", "s2"])

        def take() -> None:
            there = [each for each in self.drive.snapshots if each.name == name]
            try:
                self.drive.internal_snapshots.take(name, 1, 2, instead_of=there)
            except OSError as error:
                if self._made.refcount_bits > 1 << NARROW or TOO_OFTEN not in str(error):
                    raise
            else:
                self._snapshots[name] = bytes(self._held)

        self._note("take", take, is_flushed=True)

    def apply(self) -> None:
        name = self._chance.choice(list(self._snapshots))

        def apply() -> None:
            try:
                self.drive.internal_snapshots.apply(self._named(name))
            except OSError as error:
                if self._made.refcount_bits > 1 << NARROW or TOO_OFTEN not in str(error):
                    raise
            else:
                self._held = bytearray(self._snapshots[name])

        self._note("apply", apply, is_flushed=True, is_switch=True)

    def delete(self) -> None:
        name = self._chance.choice(list(self._snapshots))

        def delete() -> None:
            self.drive.internal_snapshots.delete([self._named(name)])
            del self._snapshots[name]

        self._note("delete", delete, is_flushed=True)

    def _named(self, name: str) -> Snapshot:
        return next(each for each in self.drive.snapshots if each.name == name)

    def overlay(self) -> None:
        self._overlays += 1
        file = self.drive.image.removesuffix(".qcow2") + "-over.qcow2"

        def overlay() -> None:
            self.drive.put_overlay(file, create=True, name=None)
            self._snapshots = {}
            self._has_own_data = False

        self._note("overlay", overlay, is_flushed=True, is_switch=True)

    def commit(self) -> None:
        self._note("commit", self.drive.commit, is_flushed=True)

    def reopen(self) -> None:
        def reopen() -> None:
            self.drive.close()
            self.drive = self._new_drive(self.drive.image, self.drive.format)
            self.drive.activate()

        self._note("reopen", reopen, is_flushed=True)
