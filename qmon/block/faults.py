"""Injected faults: a filter that fails or delays requests by rules."""

from __future__ import annotations

import enum
import os
import threading
from dataclasses import dataclass, field

from qmon.block.node import Buffer, Filter, Node, ReadNow, WriteNow
from qmon.block.transfers import Start, starter


class Operation(enum.Enum):
    """The kinds of requests to a node."""

    READ = "read"
    WRITE = "write"
    ZERO = "zero"
    DISCARD = "discard"
    FLUSH = "flush"


@dataclass(frozen=True, slots=True)
class Rule:
    """A fault, and the requests that it applies to.

    A request of the kind ``operation`` matches if it touches the ``length`` bytes at ``offset`` (None: up to
    the disk's end); a flush always matches. The first ``after`` matching requests pass. The next ``count``
    (0: all) wait ``delay_seconds`` and then fail with ``errno``, or continue if it is None. Later ones pass.
    """

    operation: Operation
    offset: int = 0
    length: int | None = None
    errno: int | None = None
    delay_seconds: float = 0.0
    count: int = 0
    after: int = 0

    def means(self, operation: Operation, offset: int, length: int) -> bool:
        """Whether a request matches the rule."""
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
    """The rules of one disk. They stay when its node is replaced. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[str, _Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, name: str, rule: Rule) -> None:
        """Add a rule after the existing ones."""
        with self._lock:
            self._entries = {**self._entries, name: _Entry(rule)}

    def remove(self, name: str) -> None:
        """Remove a rule; requests that it delays continue. Raises KeyError."""
        with self._lock:
            entries = dict(self._entries)
            entry = entries.pop(name)
            self._entries = entries
        entry.removed.set()

    def clear(self) -> None:
        """Remove all rules."""
        for name in list(self._entries):
            self.remove(name)

    def hits(self) -> dict[str, tuple[Rule, int]]:
        """Return each rule by its name, with the number of requests that it has applied to."""
        return {name: (entry.rule, entry.hits) for name, entry in self._entries.items()}

    def meet(self, operation: Operation, offset: int = 0, length: int = 0) -> None:
        """Apply the rules in order to a request. Raises the OSError of the first rule that fails it."""
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
    """Applies ``faults`` to each request before ``child`` sees it, so a failed request has no effect."""

    def __init__(self, child: Node, faults: Faults) -> None:
        super().__init__(child)
        self._faults = faults

    @property
    def read_now(self) -> ReadNow | None:
        return None if self._faults else self.child.read_now

    @property
    def write_now(self) -> WriteNow | None:
        return None if self._faults else self.child.write_now

    @property
    def start(self) -> Start | None:
        return None if self._faults else starter(self.child)

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
