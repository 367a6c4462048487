"""The nodes that a drive's requests pass: its image at the bottom, filters above it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from qmon.block.node import Filter, Node

_F = TypeVar("_F", bound=Filter)


class NodeStack:
    """Data threads read ``top`` for each request; the other calls are thread-safe.

    Push while the drive's gate is closed and drained, so that no request misses the new filter. Pop at any
    time: requests inside the filter still pass through it to its child.
    """

    def __init__(self, node: Node) -> None:
        self.top = node
        self._lock = threading.Lock()

    def put(self, node: Node) -> None:
        """Replace the whole stack, as when an image was opened or closed."""
        with self._lock:
            self.top = node

    def push(self, make: Callable[[Node], _F]) -> _F:
        """Put a filter on top; ``make`` takes what is to be its child."""
        with self._lock:
            self.top = made = make(self.top)
        return made

    def pop(self, popped: Filter) -> None:
        """Take a filter out, wherever it is; nothing when the stack was replaced meanwhile."""
        with self._lock:
            if self.top is popped:
                self.top = popped.child
            for each in self._filters():
                if each.child is popped:
                    each.child = popped.child

    def has(self, kind: type[Filter]) -> bool:
        """Whether a filter of this kind is there."""
        with self._lock:
            return any(isinstance(each, kind) for each in self._filters())

    def _filters(self) -> list[Filter]:
        found, node = [], self.top
        while isinstance(node, Filter):
            found.append(node)
            node = node.child
        return found
