"""Finds what tells the disks below a QEMU's drives from all others, as far as its console can see it.

Two drives that share one of these texts have the same disk: on one running kernel the same file or device,
and on any two hosts the same disk of a SAN or of a network protocol.
"""

from __future__ import annotations

import asyncio
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qmon.host.boot import boot_id
from qmon.qmp.target import Target, ask, well_formed

_GRAPH = "x-debug-query-block-graph"
_LOCAL = frozenset(("file", "host_device", "host_cdrom"))
_NETWORK = frozenset(("rbd", "iscsi", "nbd", "nfs", "ssh", "gluster", "http", "https"))
_OWN_HOST = re.compile(r"localhost|127\.|\[?::1\b|unix|\.sock")
"""In a network disk's name: its server is on the same host, and another one there."""
_EMULATED = "QEMU"
"""In the name of an emulated disk, which each guest of that host has."""
_FD_SET = re.compile(r"/dev/fdset/(\d+)")
_SYSFS = Path("/sys/dev/block")


@dataclass(frozen=True, slots=True)
class Leaf:
    """A node of a protocol, at the bottom of a drive's nodes."""

    driver: str
    file: str


@dataclass(frozen=True, slots=True)
class Known:
    """What the disks below a node are recognized by, and those of its backing images."""

    own: tuple[str, ...] = ()
    backing: tuple[str, ...] = ()


async def identities(target: Target, pid: int | None) -> dict[str, Known]:
    """Return for each node what its disks are recognized by, as far as that is known.

    ``pid`` is the QEMU's process, None if it is not known. Raises CommandError.
    """
    nodes = await ask(target, "query-named-block-nodes", [])
    graph = await ask(target, _GRAPH, {"nodes": [], "edges": []})
    descriptors = await ask(target, "query-fdsets", [])
    with well_formed():
        own = leaves_of(nodes, graph)
        every = leaves_of(nodes, graph, backing=True)
        sets = {str(each["fdset-id"]): [fd["fd"] for fd in each["fds"]] for each in descriptors}
    return await asyncio.to_thread(_look, own, every, pid, sets)


def leaves_of(
    nodes: Sequence[Mapping[str, Any]], graph: Mapping[str, Any], *, backing: bool = False
) -> dict[str, list[Leaf]]:
    """Return the leaves below each node; those of its backing images only if that is wanted. Pure."""
    found = {each["node-name"]: Leaf(each["drv"], each["file"]) for each in nodes}
    names = {each["id"]: each["name"] for each in graph["nodes"] if each["type"] == "block-driver"}
    below: dict[str, list[str]] = {}
    for edge in graph["edges"]:
        if edge["parent"] in names and (backing or edge["name"] != "backing"):
            below.setdefault(names[edge["parent"]], []).append(names[edge["child"]])

    def walk(name: str, seen: frozenset[str]) -> Iterator[Leaf]:
        children = [each for each in below.get(name, ()) if each not in seen]
        if not children and name in found:
            yield found[name]
        for each in children:
            yield from walk(each, seen | {each})

    return {name: list(walk(name, frozenset({name}))) for name in found}


def _look(
    own: Mapping[str, Sequence[Leaf]],
    every: Mapping[str, Sequence[Leaf]],
    pid: int | None,
    sets: Mapping[str, Sequence[int]],
) -> dict[str, Known]:
    def look(leaves: Sequence[Leaf]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(text for leaf in leaves for text in _identities(leaf, pid, sets)))

    return {
        name: Known(look(own[name]), look([leaf for leaf in every[name] if leaf not in own[name]]))
        for name in own
    }


def _identities(leaf: Leaf, pid: int | None, sets: Mapping[str, Sequence[int]]) -> Iterator[str]:
    if leaf.driver in _NETWORK and not _OWN_HOST.search(leaf.file):
        yield f"network disk {leaf.file}"
    if leaf.driver in _LOCAL and pid is not None:
        for path in _paths(leaf.file, pid, sets):
            yield from identities_of(path)


def _paths(file: str, pid: int, sets: Mapping[str, Sequence[int]]) -> list[Path]:
    """Return where this process finds a file of a QEMU, which may have another root folder."""
    process = Path(f"/proc/{pid}")
    if handed := _FD_SET.fullmatch(file):
        return [process / "fd" / str(each) for each in sets.get(handed[1], ())]
    return [process / "root" / file.lstrip("/") if file.startswith("/") else process / "cwd" / file]


def identities_of(path: Path) -> Iterator[str]:
    """Yield what a file or block device is recognized by; nothing if it can't be looked at."""
    try:
        found = path.stat()
    except (OSError, ValueError):  # another user's process, for example
        return
    if stat.S_ISBLK(found.st_mode):
        yield from identities_of_device(f"{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}")
    elif boot := boot_id():
        device = f"{os.major(found.st_dev)}:{os.minor(found.st_dev)}"
        yield f"inode {found.st_ino} of device {device} in kernel {boot}"


def identities_of_device(number: str) -> Iterator[str]:
    """Yield what the block device of a number, ``8:1``, is recognized by."""
    if boot := boot_id():
        yield f"block device {number} in kernel {boot}"
    folder = (_SYSFS / number).resolve()
    part = _line(folder / "partition")
    disk = folder.parent if part else folder
    for name in ("dm/uuid", "wwid", "device/wwid"):
        wwid = _line(disk / name)
        if wwid and _EMULATED not in wwid:
            yield f"{wwid}, partition {part}" if part else wwid
    if backing := _line(disk / "loop/backing_file"):
        yield from identities_of(Path(backing))


def _line(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
