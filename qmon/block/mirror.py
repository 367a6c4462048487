"""The mirror: a filter that sends each change of a disk to a second place before it is acknowledged.

Beside it a copy goes on, which sends every chunk that is marked. A change reaches the disk first. If the
copy has yet to send all chunks that it touches, that is all. Otherwise it is handed over, and its guest waits
until it has arrived. Where that fails, or takes too long, the chunks are marked instead.

One rule makes the order right: until a change is in the stream to the second place, or was withdrawn, no
other change of the same bytes reaches the disk. So what is handed over is what the disk holds, and it does
not matter whether the copy reads the disk before or after. No mark is ever cleared here.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from qmon.block.dirty import DirtyMap
from qmon.block.extents import visible_extents
from qmon.block.gate import Gate
from qmon.block.node import Buffer, Kind, Node, WriteFilter, WriteNow
from qmon.block.together import current

SLOW_SECONDS = 2.0
"""A guest does not wait longer for the second place. Until that has caught up, changes are only marked."""

SECTOR = 512
MOST_BYTES = 4 << 20
"""What is handed over at once: it is held in memory."""


@dataclass(frozen=True, slots=True)
class Change:
    """A range that has changed; ``data`` is None if it reads as zeros now."""

    offset: int
    length: int
    data: bytes | None


class Delivery(Protocol):
    """Changes on their way to the second place."""

    @property
    def is_over(self) -> bool:
        """Whether they have arrived, or never will."""

    @property
    def has_arrived(self) -> bool: ...

    @property
    def told(self) -> threading.Event:
        """Set when it is over, or when nobody should wait any more."""

    def withdraw(self) -> bool:
        """Return whether the changes are not in the stream and will not be; else they are."""


Send = Callable[[Sequence[Change]], Delivery]
"""Hands changes over, in this order; returns at once."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The bytes of a change that is under way."""

    offset: int
    end: int

    @property
    def length(self) -> int:
        return self.end - self.offset


class _Claims:
    """Claims that don't overlap, in order."""

    def __init__(self) -> None:
        self._offsets: list[int] = []
        self._ends: dict[int, int] = {}

    def add(self, claim: Claim) -> bool:
        """Add a claim, unless it overlaps another; return whether it does not."""
        place = bisect_left(self._offsets, claim.end)
        if place and self._ends[self._offsets[place - 1]] > claim.offset:
            return False
        self._offsets.insert(place, claim.offset)
        self._ends[claim.offset] = claim.end
        return True

    def remove(self, claim: Claim) -> None:
        del self._offsets[bisect_left(self._offsets, claim.offset)]
        del self._ends[claim.offset]


_Item = tuple[Claim, bytes | None]


class Mirror:
    """The changes of one disk that are under way. Thread-safe."""

    def __init__(
        self,
        dirty: DirtyMap,
        gate: Gate,
        send: Send,
        *,
        patience: float = SLOW_SECONDS,
    ) -> None:
        self._dirty = dirty
        self._gate = gate
        self._send = send
        self._patience = patience
        self._lock = threading.Lock()
        self._freed = threading.Condition(self._lock)
        self._claims = _Claims()
        self._behind: Delivery | None = None
        """What must be over before guests wait for the second place again."""

    def claim(self, offset: int, length: int) -> Claim:
        """Begin a change: wait until no other one of the same bytes is under way."""
        batch, claim = current(), Claim(offset, offset + length)
        while True:
            with self._lock:
                if self._claims.add(claim):
                    return claim
                if not batch:
                    self._freed.wait()
            if batch:  # it may be its own; and nobody waits while others may wait for it
                batch.settle()

    def claim_unsent(self, offset: int, length: int) -> Claim | None:
        """Begin a change that the copy has yet to send, without waiting; None if that is not possible."""
        claim = Claim(offset, offset + length)
        with self._lock:
            return claim if self._dirty.is_marked(offset, length) and self._claims.add(claim) else None

    def leave_marked(self, claim: Claim, *, is_data: bool) -> None:
        """End a change, whether it has failed or not, by marking it."""
        self._dirty.mark(claim.offset, claim.length, is_data=is_data)
        self._free([claim])

    def deliver(self, claim: Claim, data: Buffer | None) -> None:
        """End a change that has reached the disk; wait until it has arrived, or put that off."""
        if not self._is_to_send(claim):
            self.leave_marked(claim, is_data=data is not None)
            return
        if data is not None:
            self._dirty.count_written(claim.offset, claim.length)
        item = (claim, None if data is None else bytes(data))
        batch = current()
        if batch is None:
            self.settle([item])
        else:
            batch.put_off(self, item)

    def _is_to_send(self, claim: Claim) -> bool:
        """Whether a change is sent by itself: the copy need not send all of its chunks any more."""
        offset, length = claim.offset, claim.length
        return not (
            offset % SECTOR or length % SECTOR or self._has_to_mark or self._dirty.is_marked(offset, length)
        )

    @property
    def _has_to_mark(self) -> bool:
        behind = self._behind
        return self._gate.is_closed or (behind is not None and not behind.is_over)

    def settle(self, items: Sequence[_Item]) -> None:
        """Hand changes over, and wait until they have arrived; mark what can't be brought there."""
        try:
            for changes in _portions(items):
                if self._has_to_mark or not self._bring(changes):
                    for change in changes:
                        self._dirty.mark(change.offset, change.length)
        finally:
            self._free([claim for claim, _ in items])

    def _bring(self, changes: Sequence[Change]) -> bool:
        """Hand changes over and wait; return whether they are in the stream to the second place."""
        delivery = self._send(changes)
        is_closing = self._gate.wait_closing(self._patience, delivery.told)
        if delivery.has_arrived:
            return True
        if not is_closing:
            self._behind = self._send(())
        return not delivery.withdraw()

    def _free(self, claims: Sequence[Claim]) -> None:
        with self._lock:
            for claim in claims:
                self._claims.remove(claim)
            self._freed.notify_all()


def _portions(items: Sequence[_Item]) -> Iterator[list[Change]]:
    """Yield the changes in order, at most about MOST_BYTES of data at a time."""
    portion: list[Change] = []
    size = 0
    for claim, data in items:
        if data is None:
            portion.append(Change(claim.offset, claim.length, None))
            continue
        for start in range(0, len(data), MOST_BYTES):
            piece = data[start : start + MOST_BYTES]
            if size + len(piece) > MOST_BYTES:
                yield portion
                portion, size = [], 0
            portion.append(Change(claim.offset + start, len(piece), piece))
            size += len(piece)
    if portion:
        yield portion


class MirrorFilter(WriteFilter):
    """Has ``mirror`` send each change."""

    def __init__(self, child: Node, mirror: Mirror) -> None:
        super().__init__(child)
        self._mirror = mirror

    @property
    def write_now(self) -> WriteNow | None:
        return self._write_now if self.child.write_now else None

    def _write_now(self, offset: int, data: Buffer) -> bool:
        write = self.child.write_now
        claim = None if write is None else self._mirror.claim_unsent(offset, len(data))
        if write is None or claim is None:
            return False
        try:
            return write(offset, data)
        finally:
            self._mirror.leave_marked(claim, is_data=True)

    def write(self, offset: int, data: Buffer) -> None:
        self._change(offset, len(data), lambda: self.child.write(offset, data), data)

    def zero(self, offset: int, length: int, *, unmap: bool = True) -> None:
        self._change(offset, length, lambda: self.child.zero(offset, length, unmap=unmap), None)

    def _change(self, offset: int, length: int, change: Callable[[], None], data: Buffer | None) -> None:
        claim = self._mirror.claim(offset, length)
        try:
            change()
        except BaseException:
            self._mirror.leave_marked(claim, is_data=data is not None)
            raise
        self._mirror.deliver(claim, data)

    def discard(self, offset: int, length: int) -> None:
        """Afterwards the range may read as zeros or as before: only zeros are sent."""
        claim = self._mirror.claim(offset, length)
        is_zero = False
        try:
            self.child.discard(offset, length)
            extents = visible_extents(self.child, offset, length)
            is_zero = all(extent.kind is Kind.ZERO for extent in extents)
        finally:
            if not is_zero:
                self._mirror.leave_marked(claim, is_data=False)
        if is_zero:
            self._mirror.deliver(claim, None)
