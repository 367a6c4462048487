"""Requests of one thread that wait together.

A thread that serves several requests and answers them all at once need not wait for each one's copy
elsewhere: between ``begin`` and ``end`` what would wait is put off.
"""

from __future__ import annotations

import threading
from typing import Any, Protocol


class Waiter(Protocol):
    """Something that requests wait for."""

    def settle(self, items: list[Any]) -> None:
        """Wait for what was put off, given in its order. Does not raise."""


class Together:
    """What the requests of one thread still wait for."""

    def __init__(self) -> None:
        self._items: dict[Waiter, list[Any]] = {}

    def __bool__(self) -> bool:
        """Whether there is anything to wait for."""
        return bool(self._items)

    def put_off(self, waiter: Waiter, item: object) -> None:
        """Have ``waiter`` wait for an item later."""
        self._items.setdefault(waiter, []).append(item)

    def settle(self) -> None:
        """Wait now for all that was put off."""
        while self._items:
            waiter, items = self._items.popitem()
            waiter.settle(items)

    def end(self) -> None:
        """Wait for all; later requests of this thread wait by themselves."""
        _current.batch = None
        self.settle()


_current = threading.local()


def begin() -> Together:
    """Put off what this thread's requests wait for, until ``end`` of the result. It does not nest."""
    batch = _current.batch = Together()
    return batch


def current() -> Together | None:
    """Return what this thread has begun, None if it has not."""
    batch: Together | None = getattr(_current, "batch", None)
    return batch
