"""Injected faults: a filter that makes requests fail, or wait, by rules."""

from __future__ import annotations

import enum
import os
import threading
from dataclasses import dataclass, field

from qmon.block.node import Buffer, Filter, Node


class Operation(enum.Enum):
    """What a node is asked to do."""

    READ = "read"
    WRITE = "write"
    ZERO = "zero"
    DISCARD = "discard"
    FLUSH = "flush"


@dataclass(frozen=True, slots=True)
class Rule:
    """Which requests meet a fault, and which.

    A request is meant when it touches the ``length`` bytes from ``offset`` on (None: to the disk's end); a
    flush always is. It waits ``delay_seconds`` and then fails with ``errno``, or goes on when that is None.
    The first ``after`` requests that are meant pass unharmed, and so do all behind the ``count`` ones that
    were not (0: none does).
    """

    operation: Operation
    offset: int = 0
    length: int | None = None
    errno: int | None = None
    delay_seconds: float = 0.0
    count: int = 0
    after: int = 0

    def means(self, operation: Operation, offset: int, length: int) -> bool:
        """Whether a request is one of those that the rule is for."""
        if operation is not self.operation:
            return False
        if operation is Operation.FLUSH:
            return True
        return offset + length > self.offset and (self.length is None or offset < self.offset + self.length)


@dataclass(eq=False, slots=True)
class _Entry:
    rule: Rule
    seen: int = 0
    hits: int = 0
    removed: threading.Event = field(default_factory=threading.Event)


class Faults:
    """The rules of one disk; they outlive its node. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[str, _Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, name: str, rule: Rule) -> None:
        """Have a rule hold from now on, behind those that hold already."""
        with self._lock:
            self._entries = {**self._entries, name: _Entry(rule)}

    def remove(self, name: str) -> None:
        """Take a rule away; requests that it keeps waiting go on. Raises KeyError."""
        with self._lock:
            entries = dict(self._entries)
            entry = entries.pop(name)
            self._entries = entries
        entry.removed.set()

    def clear(self) -> None:
        """Take all rules away."""
        for name in list(self._entries):
            self.remove(name)

    def hits(self) -> dict[str, tuple[Rule, int]]:
        """Each rule by its name, with how many requests it has met."""
        return {name: (entry.rule, entry.hits) for name, entry in self._entries.items()}

    def meet(self, operation: Operation, offset: int = 0, length: int = 0) -> None:
        """Let a request meet the rules, in their order. Raises the OSError of the first that fails it."""
        for entry in self._entries.values():
            rule = entry.rule
            if not rule.means(operation, offset, length):
                continue
            with self._lock:
                entry.seen += 1
                if entry.seen <= rule.after or (rule.count and entry.hits == rule.count):
                    continue
                entry.hits += 1
            if rule.delay_seconds:
                entry.removed.wait(rule.delay_seconds)
            if rule.errno is not None:
                raise OSError(rule.errno, os.strerror(rule.errno))


class FaultFilter(Filter):
    """Has every request meet ``faults`` before ``child`` sees it: one that fails has changed nothing."""

    def __init__(self, child: Node, faults: Faults) -> None:
        super().__init__(child)
        self._faults = faults

    def read_into(self, offset: int, buffer: memoryview) -> None:
        self._faults.meet(Operation.READ, offset, len(buffer))
        self.child.read_into(offset, buffer)

    def write(self, offset: int, data: Buffer) -> None:
        self._faults.meet(Operation.WRITE, offset, len(data))
        self.child.write(offset, data)

    def zero(self, offset: int, length: int, *, unmap: bool = True) -> None:
        self._faults.meet(Operation.ZERO, offset, length)
        self.child.zero(offset, length, unmap=unmap)

    def discard(self, offset: int, length: int) -> None:
        self._faults.meet(Operation.DISCARD, offset, length)
        self.child.discard(offset, length)

    def flush(self) -> None:
        self._faults.meet(Operation.FLUSH)
        self.child.flush()
