"""Which nodes users have added, and in which order all nodes were opened."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import replace

from qmon.block.bitmaps import Bitmaps
from qmon.machine.drive import Drive
from qmon.notation.drive_options import DriveOptions


class NodeBook:
    """A node that a user added rests while other nodes use it. Later it is a drive again."""

    def __init__(self) -> None:
        self.resting: dict[str, DriveOptions] = {}
        """The resting nodes by name, with what opens them."""
        self.read_only: dict[str, bool] = {}
        """Whether nodes below others were reopened read-only. Here these are never written."""
        self._bitmaps: dict[str, Bitmaps] = {}
        """The dirty bitmaps of nodes whose image is closed, until another drive has it open."""
        self._numbers: dict[str, int] = {}
        """A number for each node; one that was opened later has a higher one."""
        self._next = itertools.count()

    def note(self, drive: Drive) -> None:
        """Note the nodes of a drive that was added or changed."""
        pairs = drive.names.pairs
        if drive.chain.is_temporary:  # QEMU opens the image first
            pairs = [*pairs[1:], pairs[0]]
        for name, file_name in pairs:  # and each file before the format
            self._number(file_name)
            self._number(name)
        self._number(drive.names.shown)
        for number, (name, _) in enumerate(drive.names.pairs):
            bitmaps = self._bitmaps.pop(name, None)
            if bitmaps is not None and drive.is_active:
                drive.bitmaps(number).take_over(bitmaps, drive.layer_size(number))
                drive.track_writes()

    def put_away(self, drive: Drive) -> None:
        """Keep the bitmaps of a drive whose nodes another one is to use."""
        for number, (name, _) in enumerate(drive.names.pairs):
            if drive.bitmaps(number):
                self._bitmaps[name] = drive.bitmaps(number)

    def _number(self, name: str) -> None:
        if name not in self._numbers:
            self._numbers[name] = next(self._next)

    def rest(self, settings: DriveOptions) -> None:
        """Note that a user has added a node which another node uses."""
        for name in settings.given_names:
            self._number(name)
        self.resting[settings.id] = settings

    def freeze(self, name: str) -> None:
        """Make a resting node read-only: it was written before, and an overlay was put on it."""
        if name in self.resting:
            self.resting[name] = replace(self.resting[name], read_only=True)

    def age(self, name: str) -> int:
        """The number of a node, for sorting."""
        return self._numbers.get(name, -1)

    def is_made(self, name: str) -> bool:
        """Whether the machine has made up this name, for a node that is or was there."""
        return name.startswith("#") and name in self._numbers

    def wake(self, drives: Iterable[Drive]) -> Iterator[DriveOptions]:
        """Take out the topmost nodes that rest although none of ``drives`` has them."""
        used = {name for drive in drives for pair in drive.names.pairs for name in pair}
        idle = {name: each for name, each in self.resting.items() if name not in used}
        for name, settings in idle.items():
            if not any(name in names_below(other) for other in idle.values()):
                del self.resting[name]
                yield settings

    def forget(self, drives: Iterable[Drive]) -> None:
        """Forget the nodes that are gone."""
        kept = {name for drive in drives for pair in drive.names.pairs for name in pair}
        kept |= {drive.names.shown for drive in drives} | set(self.resting)
        self._numbers = {name: number for name, number in self._numbers.items() if name in kept}
        self._bitmaps = {name: each for name, each in self._bitmaps.items() if name in self.resting}
        self.read_only = {name: value for name, value in self.read_only.items() if name in kept}


def names_below(settings: DriveOptions) -> set[str]:
    """The names of the nodes below a node."""
    names = {name for image in settings.given_backing for name in image.own_names}
    return (names | set(settings.given_names)) - {settings.id}
