"""In a migration without copying, the source proves that the destination has the same disks.

It compares ranges with the destination twice: first while guests write, to refuse early, then when they are
paused and all is flushed. The second time it compares the last writes and some more. A range that a guest
has written during the first comparison may differ: the second one includes it.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import NoReturn

from qmon.block.dirty import DirtyMap
from qmon.errors import QmonError, naming
from qmon.migration.compare import Question, Range, all_of, checksums, in_sectors, places, token
from qmon.migration.drive import MigratingDrive
from qmon.migration.source.errors import LinkError
from qmon.migration.source.link import Link
from qmon.migration.source.sender import Sender
from qmon.migration.wire.answers import Type

log = logging.getLogger("qmon.migration")

WHOLE = 64 << 20
"""The size up to which a disk is compared as a whole."""

PLACES = 256
"""Ranges of 64 KiB to compare of a larger disk; they take some tenths of a second from a slow disk."""

WRITES, WRITES_BYTES = 512, 16 << 20
"""The most of the last writes to compare, and the most bytes of these."""

LATE_PLACES = 16
LATE_WRITES, LATE_WRITES_BYTES = 128, 4 << 20
"""The same while guests are paused; they take some 10 ms from an SSD."""

TRIES = 3
"""How often to compare differing ranges: one host may see the other's flushed writes a moment later."""

MAX_OTHERS = 256
"""Ranges that are compared again besides the first that differs."""

PAUSE_SECONDS = 0.05
"""The pause between two comparisons."""

TIMEOUT, LATE_TIMEOUT = 60, 10
"""Seconds within which the destination must compare a drive: while guests run, and while they are paused."""


class SharedDisks:
    """Compares shared disks. For the migration's thread. Calls raise the error that ends the migration."""

    def __init__(
        self, drives: Sequence[MigratingDrive], sender: Sender, link: Link, chance: random.Random
    ) -> None:
        """``chance`` draws the ranges to compare, different ones in each migration."""
        self._drives = drives
        self._sender = sender
        self._link = link
        self._chance = chance
        self._late: dict[int, list[Range]] = {}
        """Ranges to compare while guests are paused, of drives that are not the destination's own file."""

    def prove(self, flush: Callable[[], None]) -> None:
        """Compare the disks while guests write. ``flush`` flushes all drives."""
        if self._link.is_one_way:
            return  # nobody says what differs
        written: dict[int, DirtyMap] = {}

        def choose(index: int) -> list[Range]:
            drive = self._drives[index]
            written[index] = drive.recent.watch(drive.size)
            self._late[index] = places(drive.node, LATE_PLACES, self._chance)
            if drive.size <= WHOLE:
                return all_of(drive.size)
            last = drive.recent.newest(drive.size, WRITES, WRITES_BYTES)
            return places(drive.node, PLACES, self._chance) + last

        try:
            self._settle(choose, flush, TIMEOUT, lambda index, place: _is_clean(written[index], place))
        finally:
            for index in written:
                self._drives[index].recent.unwatch()

    def prove_again(self, flush: Callable[[], None]) -> None:
        """Compare the disks while guests are paused; this takes little time."""
        if self._link.is_one_way:
            flush()
            self._describe()
            return

        def choose(index: int) -> list[Range]:
            drive = self._drives[index]
            if index not in self._late:
                self._late[index] = places(drive.node, LATE_PLACES, self._chance)
            return self._late[index] + drive.recent.newest(drive.size, LATE_WRITES, LATE_WRITES_BYTES)

        self._settle(choose, flush, LATE_TIMEOUT, lambda index, place: True)

    def _describe(self) -> None:
        """Send what the reader of the stream compares by itself."""
        for index, drive in enumerate(self._drives):
            with _reading(drive):
                ranges = (
                    all_of(drive.size) if drive.size <= WHOLE else places(drive.node, PLACES, self._chance)
                )
                sums = tuple(checksums(drive.node, ranges, self._sender.show_life))
                question = Question(token(drive.identify()), tuple(ranges), sums)
            self._sender.begin_part()
            self._sender.writer.compare(index, question.encode())
            self._sender.end_part()

    def _settle(
        self,
        choose: Callable[[int], list[Range]],
        flush: Callable[[], None],
        timeout: float,
        counts: Callable[[int, Range], bool],
    ) -> None:
        """Compare until there is no difference any more; refuse if one stays.

        ``choose`` returns the ranges to compare of a drive that is not the destination's own file. ``counts``
        says whether a difference counts, because no guest has written the range meanwhile.
        """
        asked = {index: self._first(choose, index) for index in range(len(self._drives))}
        tries = 0
        while asked:
            if any(asked.values()):
                flush()
            differing = self._ask(asked, timeout)
            fresh = [index for index in differing if index not in self._late]
            left = {
                index: kept
                for index, found in differing.items()
                if (kept := [place for place in found if counts(index, place)])
            }
            if left:
                tries += 1
                if tries == TRIES:
                    self._refuse(left)
                time.sleep(PAUSE_SECONDS)
            asked = {index: _nearer(found) for index, found in left.items()}
            asked |= {index: self._chosen(choose, index) for index in fresh}

    def _first(self, choose: Callable[[int], list[Range]], index: int) -> list[Range]:
        """Return the ranges to ask first: none as long as both sides may have the same file."""
        return self._chosen(choose, index) if index in self._late else []

    def _chosen(self, choose: Callable[[int], list[Range]], index: int) -> list[Range]:
        with _reading(self._drives[index]):
            return choose(index)

    def _ask(self, asked: Mapping[int, Sequence[Range]], timeout: float) -> dict[int, list[Range]]:
        """Compare these ranges of the drives; return those that differ, of drives that are not one file."""
        writer = self._sender.writer
        differing: dict[int, list[Range]] = {}
        for index, ranges in asked.items():
            drive = self._drives[index]
            with _reading(drive):
                sums = tuple(checksums(drive.node, ranges, self._sender.show_life))
                question = Question(token(drive.identify()), tuple(ranges), sums)
            self._sender.begin_part()
            writer.compare(index, question.encode())
            self._sender.expect(Type.COMPARED, Type.BUSY)
            self._sender.end_part()
            is_same, found = self._hear(timeout)
            if found and found[-1] >= len(ranges):
                raise LinkError("the destination's answer names ranges that were not compared")
            if not is_same:
                differing[index] = [ranges[place] for place in found]
        return differing

    def _hear(self, timeout: float) -> tuple[bool, list[int]]:
        deadline = time.monotonic() + timeout
        while True:
            left = max(0.0, deadline - time.monotonic())
            answer = self._link.wait_for(Type.COMPARED, Type.BUSY, timeout=left)
            if answer.type is Type.COMPARED:
                return answer.compared

    def _refuse(self, left: Mapping[int, Sequence[Range]]) -> NoReturn:
        """Report the first difference on both sides."""
        index = min(left)
        offset, length = min(left[index])
        drive = self._drives[index]
        right = "the destination needs the same one" if drive.read_only else "migrate blk copies it"
        why = (
            f"drive '{drive.id}' is not the same disk on both sides: it differs in the {length} bytes at"
            f" {offset}; {right}"
        )
        writer = self._sender.writer
        try:
            self._sender.begin_part()
            writer.withdraw(why)
            self._sender.end_part()
        except QmonError as error:
            log.debug("can't send the reason to the destination: %s", error)
        raise QmonError(why)


def _is_clean(written: DirtyMap, place: Range) -> bool:
    """Whether no part of a range was written since the map was made."""
    return list(written.clean(*place)) == [place]


def _nearer(found: Sequence[Range]) -> list[Range]:
    """Split the first differing range into sectors, so that the exact place of the difference is found."""
    first, *others = sorted(found)
    return in_sectors(first) + others[:MAX_OTHERS]


def _reading(drive: MigratingDrive) -> AbstractContextManager[None]:
    return naming(f"drive '{drive.id}' can't be read")
