"""A dictionary that iterates in the order of GLib's hash table with string keys (GLib: glib/ghash.c).

QEMU lists the children of an object in that order, so that it is seen by whoever reads its answers.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import TypeVar

_V = TypeVar("_V")

_MIN_SHIFT = 3
_PRIMES = (1, 2, 3, 7, 13, 31, 61, 127, 251, 509, 1021, 2039, 4093, 8191, 16381, 32749, 65521, 131071)
"""By which a hash is taken modulo in a table of two to the power of the index."""

_TOMBSTONE = object()


class HashOrdered(MutableMapping[str, _V]):
    """Open addressing: a removed key leaves a mark; a table too full or too empty is made anew.

    Not when a key is deleted, since QEMU removes a child while it iterates over all of them: GLib leaves the
    table as it is then, until the next key comes or ``shrink`` is called.
    """

    def __init__(self) -> None:
        self._values: dict[str, _V] = {}
        self._slots: list[object] = [None] * (1 << _MIN_SHIFT)
        self._shift = _MIN_SHIFT
        self._occupied = 0

    def __getitem__(self, key: str) -> _V:
        return self._values[key]

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[str]:
        return iter([slot for slot in self._slots if isinstance(slot, str)])

    def __setitem__(self, key: str, value: _V) -> None:
        if key not in self._values:
            slot = self._find_free(key)
            was_unused = self._slots[slot] is None
            self._slots[slot] = key
            self._values[key] = value
            if was_unused:
                self._occupied += 1
                self._maybe_resize()
        self._values[key] = value

    def __delitem__(self, key: str) -> None:
        del self._values[key]
        self._slots[self._slots.index(key)] = _TOMBSTONE

    def shrink(self) -> None:
        """What a removal by its key brings with it in GLib."""
        self._maybe_resize()

    def _find_free(self, key: str) -> int:
        """Where a new key goes: the first mark of a removed one on its way to a place never used."""
        slot = self._home(key)
        tombstone = None
        step = 0
        while self._slots[slot] is not None:
            if tombstone is None and self._slots[slot] is _TOMBSTONE:
                tombstone = slot
            step += 1
            slot = (slot + step) & (len(self._slots) - 1)
        return slot if tombstone is None else tombstone

    def _home(self, key: str) -> int:
        code = 5381
        for byte in key.encode(errors="surrogateescape"):
            signed = byte - 256 if byte > 127 else byte
            code = (code * 33 + signed) & 0xFFFFFFFF
        return ((max(code, 2) * 11) & 0xFFFFFFFF) % _PRIMES[self._shift]

    def _maybe_resize(self) -> None:
        size = len(self._slots)
        sparse = size > len(self._values) * 4 and size > 1 << _MIN_SHIFT
        if sparse or size <= self._occupied + self._occupied // 16:
            self._resize()

    def _resize(self) -> None:
        """Place all keys anew in the same array: one that stands in another's way is placed next."""
        old_size = len(self._slots)
        self._shift = max(_MIN_SHIFT, int(len(self._values) * 1.333).bit_length())
        size = 1 << self._shift
        slots = self._slots + [None] * (size - old_size)
        placed: set[int] = set()
        for number in range(old_size):
            if number in placed:
                continue
            evicted, slots[number] = slots[number], None
            while isinstance(evicted, str):
                slot = self._home(evicted)
                step = 0
                while slot in placed:
                    step += 1
                    slot = (slot + step) & (size - 1)
                placed.add(slot)
                evicted, slots[slot] = slots[slot], evicted
        self._slots = slots[:size]
        self._occupied = len(self._values)
