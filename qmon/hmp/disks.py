"""The disks of a target: the drives of a machine, or the topmost nodes of a storage daemon."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qmon.hmp.clients import drive_name
from qmon.notation.keyval import is_identifier
from qmon.notation.plain_text import in_one_line
from qmon.qmp.target import Kind, Target, ask, kind_of

Node = Mapping[str, Any]
"""QAPI's BlockDeviceInfo."""

_FILTERS_OF_JOBS = frozenset(("mirror_top", "commit_top", "copy-before-write"))
"""Drivers of the nodes that a job puts above its disk."""

_GENERATED = "#"
"""Begins the name of a node that was given none."""


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk: the name that lines call it by, and its node, None for a drive without a medium."""

    name: str
    node: Node | None

    @property
    def size_bytes(self) -> int | None:
        size = (self.node or {}).get("image", {}).get("virtual-size")
        return None if size is None else int(size)


async def query_disks(target: Target) -> list[Disk]:
    """Return the target's disks in its order. Raises CommandError."""
    if kind_of(target) is Kind.STORAGE_DAEMON:
        return [Disk(node["node-name"], node) for node in await query_top_nodes(target)]
    blocks: list[dict[str, Any]] = in_one_line(await ask(target, "query-block", []))
    return [Disk(drive_name(block), block.get("inserted")) for block in blocks]


async def query_top_nodes(target: Target) -> list[Node]:
    """Return the nodes with a name that no other node uses, the oldest first; not those of running jobs."""
    nodes: list[Node] = in_one_line(await ask(target, "query-named-block-nodes", []))
    graph = await ask(target, "x-debug-query-block-graph", {"nodes": [], "edges": []})
    by_name = {node["node-name"]: node for node in nodes}
    tops = _tops(graph, {name: node["drv"] for name, node in by_name.items()}) if graph["nodes"] else by_name
    shown = [by_name[name] for name in tops if name in by_name and not name.startswith(_GENERATED)]
    return shown[::-1]  # QMP has the newest first


def _tops(graph: Mapping[str, Sequence[Mapping[str, Any]]], drivers: Mapping[str, str]) -> list[str]:
    """Return the names of the nodes that no other node uses; ``graph`` is QAPI's XDbgBlockGraph."""
    names = {each["id"]: each["name"] for each in graph["nodes"] if each["type"] == "block-driver"}
    filters = {number for number, name in names.items() if drivers.get(name) in _FILTERS_OF_JOBS}
    used = {
        edge["child"] for edge in graph["edges"] if edge["parent"] in names and edge["parent"] not in filters
    }
    return [name for number, name in names.items() if number not in used and number not in filters]


async def find_disk(target: Target, name: str) -> Disk | None:
    """Return the disk, or the node, of a name; None if there is none. Raises CommandError."""
    found = next((disk for disk in await query_disks(target) if disk.name == name), None)
    if found is not None:
        return found
    if kind_of(target) is Kind.STORAGE_DAEMON:
        nodes: list[Node] = await ask(target, "query-named-block-nodes", [])
    else:
        blocks: list[dict[str, Any]] = await ask(target, "query-block", [])
        nodes = [block["inserted"] for block in blocks if "inserted" in block]
    return next((Disk(name, node) for node in nodes if node.get("node-name") == name), None)


def as_device(target: Target, name: str) -> dict[str, str]:
    """Return the argument that names a disk to a command with ``device`` and ``node-name``."""
    return {"node-name" if kind_of(target) is Kind.STORAGE_DAEMON else "device": name}


def with_job_id(target: Target, name: str) -> dict[str, str]:
    """Return the arguments that name the disk of a job, and the job, where a disk has no device.

    A machine calls a job by its device. The job of a node is called by the node's name, if that may be an id.
    """
    if kind_of(target) is not Kind.STORAGE_DAEMON:
        return {"device": name}
    job = name if is_identifier(name) else "job-" + re.sub(r"[^A-Za-z0-9._-]", "", name)
    return {"device": name, "job-id": job}
