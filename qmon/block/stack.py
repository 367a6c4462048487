"""The stack of nodes that a drive's requests pass: filters, and its image at the bottom."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from qmon.block.node import Filter, Node

_F = TypeVar("_F", bound=Filter)


class NodeStack:
    """The nodes of one drive. Data threads read ``top`` for each request; the other calls are thread-safe.

    Push only while the drive's gate is closed and drained, so that no request misses the new filter. Pop at
    any time: requests inside the filter still pass through it to its child.
    """

    def __init__(self, node: Node) -> None:
        self.top = node
        self._lock = threading.Lock()

    def put(self, node: Node) -> None:
        """Replace the whole stack, for example when an image was opened or closed."""
        with self._lock:
            self.top = node

    def push(self, make: Callable[[Node], _F]) -> _F:
        """Put a filter on top and return it; ``make(child)`` makes it."""
        with self._lock:
            self.top = made = make(self.top)
        return made

    def pop(self, popped: Filter) -> None:
        """Remove a filter, wherever it is. Does nothing if the stack was replaced meanwhile."""
        with self._lock:
            if self.top is popped:
                self.top = popped.child
            for each in self._filters():
                if each.child is popped:
                    each.child = popped.child

    def has(self, kind: type[Filter]) -> bool:
        """Whether the stack has a filter of this kind."""
        with self._lock:
            return any(isinstance(each, kind) for each in self._filters())

    def _filters(self) -> list[Filter]:
        found, node = [], self.top
        while isinstance(node, Filter):
            found.append(node)
            node = node.child
        return found
