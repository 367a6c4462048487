"""QMP messages about exports, and the drives that a QEMU and a qmon export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.images import MIB, blank
from tests.support.qcow2_images import run, run_io
from tests.support.two_qmp import Message

ADDRESS = {"type": "unix", "data": {"path": "nbd"}}
LISTED: Message = ("query-block-exports",)
NODES: Message = ("query-named-block-nodes",)


def export(id: str, node: str, **arguments: Any) -> Message:
    named = {name.replace("_", "-"): value for name, value in arguments.items()}
    return "block-export-add", {"type": "nbd", "id": id, "node-name": node, "name": id, **named}


def old(device: str, **arguments: Any) -> Message:
    return "nbd-server-add", {"device": device, **arguments}


def files(folder: Path) -> None:
    for name in ("0.img", "2.img"):
        blank(folder / name, MIB)
    run("create", "-q", "-f", "qcow2", folder / "b.qcow2", str(MIB))
    run_io(folder / "b.qcow2", "write -P 7 0 64k")
    run("create", "-q", "-f", "qcow2", "-b", "b.qcow2", "-F", "qcow2", folder / "1.qcow2")


OPTIONS = [
    *("-object", "iothread,id=io0"),
    *("-drive", "file=0.img,id=d0,if=none,format=raw"),
    *("-drive", "file=1.qcow2,id=d1,if=none,node-name=n1,file.node-name=f1,backing.node-name=b1"),
    *("-drive", "file=2.img,id=d2,if=none,format=raw,readonly=on,node-name=n2,file.node-name=f2"),
]
