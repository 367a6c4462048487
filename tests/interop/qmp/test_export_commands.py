"""Exports of drives and nodes, and their events: the same on QEMU and qmon."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support.exports import ADDRESS, LISTED, NODES, OPTIONS, export, files, old
from tests.support.images import MIB, blank
from tests.support.processes import Lab
from tests.support.two_qmp import Message, TwoQmp, two_qmp

LINES: list[Message] = [
    old("d0"),
    export("e", "n1"),
    ("nbd-server-remove", {"name": "x"}),
    ("block-export-del", {"id": "x"}),
    ("nbd-server-stop",),
    ("nbd-server-start", {"addr": ADDRESS, "tls-creds": "absent"}),
    ("nbd-server-start", {"addr": ADDRESS, "tls-creds": "io0"}),
    ("nbd-server-start", {"addr": ADDRESS, "max-connections": -1}),
    ("nbd-server-start", {"addr": ADDRESS, "max-connections": 3}),
    ("nbd-server-start", {"addr": ADDRESS, "tls-creds": "absent"}),
    NODES,
    old("d0"),
    old("d0"),
    old("n1", name="x"),
    LISTED,
    old("absent"),
    old("d1", name="y", writable=True),
    old("d2", name="z", writable=True),
    export("e", "d0"),
    export("e", "absent"),
    export("1e", "n1"),
    export("e", "n1"),
    export("e", "n1"),
    export("e2", "n1", name="e"),
    export("e3", "n2", writable=True),
    export("e3", "n2", writethrough=True, fixed_iothread=True),
    export("e4", "n2", iothread="absent"),
    export("e4", "n2", iothread="io0"),
    export("e5", "n1", writethrough=True, writable=True),
    export("e6", "n1", colour=1),
    export("e7", "n2", name="n2"),
    export("e8", "f1"),
    export("e8", "f1", writable=True),
    export("e8", "f2"),
    export("e9", "b1"),
    export("e10", "b1", writable=True),
    LISTED,
    ("block-export-del", {"id": "e"}),
    ("block-export-del", {"id": "e"}),
    ("block-export-del", {"id": "e5", "mode": "hard"}),
    ("nbd-server-remove", {"name": "n2"}),
    ("nbd-server-remove", {"name": "x"}),
    ("nbd-server-remove", {"name": "x", "mode": "hard"}),
    ("block-export-del", {"id": "e3", "mode": "soft"}),
    LISTED,
    ("nbd-server-stop",),
    LISTED,
    ("nbd-server-stop",),
]


def test_exports_and_what_is_told_of_them(tmp_path: Path) -> None:
    with two_qmp(tmp_path, files, OPTIONS) as both:
        assert both.differing(LINES) == ""


def content(both: TwoQmp, export: str) -> list[bytes]:
    """What a client of each side reads from an export."""
    read = []
    for side in (both.qemu, both.qmon):
        url = f"nbd+unix:///{export}?socket={side.folder / 'nbd'}"
        copy = side.folder / "copy"
        subprocess.run(["qemu-img", "convert", "-O", "raw", "-f", "raw", url, copy], check=True)
        read.append(copy.read_bytes())
    return read


def test_a_backing_image_and_a_files_bytes_can_be_read(tmp_path: Path) -> None:
    with two_qmp(tmp_path, files, OPTIONS) as both:
        lines: list[Message] = [
            ("nbd-server-start", {"addr": ADDRESS}),
            export("backing", "b1"),
            export("file", "f2"),
        ]
        assert both.differing(lines) == ""
        theirs, ours = content(both, "backing")
        assert ours == theirs == b"\7" * 65536 + bytes(MIB - 65536)
        theirs, ours = content(both, "file")
        assert ours == theirs
        assert ours == (both.qmon.folder / "2.img").read_bytes()


def test_at_the_prompt_an_export_is_removed_by_its_name(lab: Lab) -> None:
    image = blank(lab.folder / "d.img", MIB)
    qmon = lab.start("one", "-drive", f"file={image},format=raw,if=none,id=d0,node-name=n0")
    qmon.quietly(f"nbd_server_start unix:{lab.folder / 'nbd'}")
    qmon.qmp("block-export-add", type="nbd", id="e0", node_name="n0", name="disk")
    assert "Export 'disk'" in qmon.command("info nbd")
    qmon.quietly("nbd_server_remove disk")
    assert qmon.qmp("query-block-exports") == []
    assert qmon.command("nbd_server_remove disk") == "Error: Export 'disk' is not found"
