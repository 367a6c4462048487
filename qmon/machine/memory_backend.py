"""Memory backends: kept as they are described. No memory is allocated and no file is made for them."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from typing import Any, ClassVar

from qmon.errors import CommandError
from qmon.machine.qom import Node, Property, Tree
from qmon.machine.user_object import UserObject

NODES_MAX = 128
"""Host NUMA nodes have numbers below this."""

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
REGION = "memory-region"


def memory_region(size_bytes: int) -> Node:
    """What stands in the tree for a region of memory."""
    return Node(
        REGION,
        {
            "container": Property(f"link<{REGION}>", lambda: ""),
            "addr": Property("uint64", lambda: 0),
            "size": Property("uint64", lambda: size_bytes),
            "priority": Property("uint32", lambda: 0),
        },
    )


class MemoryBackend(UserObject):
    """``memory-backend-ram``; its region is a child as soon as it is complete."""

    defaults: ClassVar[Mapping[str, Any]] = {
        "dump": True,
        "merge": True,
        "reserve": True,
        "policy": "default",
        "prealloc-threads": 1,
    }
    fixed: ClassVar[Mapping[str, str]] = {"size": "cannot change property size of {type} "}

    def __init__(self, type_name: str, tree: Tree) -> None:
        super().__init__(type_name, tree)
        self.values["host-nodes"] = []
        self.values["prealloc-context"] = ""

    def store(self, name: str, value: Any) -> None:
        match name:
            case "size" | "prealloc-threads" if not value:
                raise CommandError(f"property '{name}' of {self.type} doesn't take value '0'")
            case "share" | "reserve" if self.completed:
                raise CommandError("cannot change property value")
            case "host-nodes":
                value = self._add_nodes(value)
            case "prealloc":
                value = value or self.values[name]  # what is allocated stays so
            case "prealloc-context" if value:
                value = self._context(value)
        super().store(name, value)

    def _add_nodes(self, nodes: list[int]) -> list[int]:
        for node in nodes:
            if node >= NODES_MAX:
                raise CommandError(f"Invalid host-nodes value: {node}")
        return sorted({*self.values["host-nodes"], *nodes})

    def _context(self, path: str) -> str:
        node = self.tree.resolve(path)
        if not node.is_a("thread-context"):
            raise CommandError("Invalid parameter type for 'prealloc-context', expected: thread-context")
        return node.path

    def check(self) -> None:
        nodes, policy = self.values["host-nodes"], self.values["policy"]
        if nodes and policy == "default":
            raise CommandError(
                "host-nodes must be empty for policy default,"
                " or you should explicitly specify a policy other than default"
            )
        if not nodes and policy != "default":
            raise CommandError(f"host-nodes must be set for policy {policy}")
        self.add(f"{self.name}[0]", memory_region(self.values["size"]))

    def describe(self) -> dict[str, Any]:
        """A Memdev (qapi/machine.json)."""
        shown = ("share", "reserve", "prealloc", "host-nodes", "size", "merge", "dump", "policy")
        return {**{name: self.values[name] for name in shown}, "id": self.name}


class MemfdBackend(MemoryBackend):
    """``memory-backend-memfd``."""

    defaults: ClassVar[Mapping[str, Any]] = {**MemoryBackend.defaults, "share": True, "seal": True}
    fixed: ClassVar[Mapping[str, str]] = {
        **MemoryBackend.fixed,
        "hugetlbsize": "cannot change property value",
    }

    def store(self, name: str, value: Any) -> None:
        if name == "hugetlbsize" and not value:
            raise CommandError(f"Property '{self.type}.{name}' doesn't take value '0'")
        super().store(name, value)


class FileBackend(MemoryBackend):
    """``memory-backend-file``: its path is looked at, not written to."""

    fixed: ClassVar[Mapping[str, str]] = {
        **MemoryBackend.fixed,
        "align": "cannot change property 'align' of {type}",
        "mem-path": "cannot change property 'mem-path' of {type}",
    }

    def store(self, name: str, value: Any) -> None:
        if name in ("pmem", "readonly") and self.completed:
            raise CommandError(f"cannot change property '{name}' of {self.type}.")
        super().store(name, value)

    def check(self) -> None:
        align = self.values["align"]
        if align % PAGE_BYTES:
            raise CommandError(f"alignment {align:#x} must be multiples of page size {PAGE_BYTES:#x}")
        if align & (align - 1):
            raise CommandError(f"alignment {align:#x} must be a power of two")
        super().check()

    def complete(self) -> None:
        path, size = self.values["mem-path"], self.values["size"]
        try:
            status = self._look_at(path)
        except (OSError, ValueError) as error:
            said = error.strerror if isinstance(error, OSError) else "Invalid argument"
            raise CommandError(f"can't open backing store {path} for guest RAM: {said}") from error
        if stat.S_ISREG(status.st_mode) and 0 < status.st_size < size:
            desc = f"backing store size {status.st_size:#x} does not match 'size' option {size:#x}"
            raise CommandError(desc)

    def _look_at(self, path: str) -> os.stat_result:
        """The status of the file, or of the folder in which it would be made. Raises OSError, ValueError."""
        try:
            return os.stat(path)
        except FileNotFoundError:
            folder, name = os.path.split(path)
            if not name:
                raise
            return os.stat(folder or ".")
