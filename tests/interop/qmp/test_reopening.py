"""blockdev-reopen: the same on QEMU and qmon, and what it does to locks, data and clients."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.images import MIB, blank
from tests.support.locks_probe import locked_bytes
from tests.support.processes import Lab, Qmon
from tests.support.qcow2_images import run, run_io
from tests.support.two_qmp import Message, two_qmp

FLAT: Message = ("query-named-block-nodes", {"flat": True})
BLOCKS: Message = ("query-block",)


def node(name: str, driver: str, file: str, **options: Any) -> dict[str, Any]:
    named = {key.replace("_", "-"): value for key, value in options.items()}
    return {"driver": driver, "node-name": name, "file": file, **named}


def reopen(*options: Mapping[str, Any]) -> Message:
    return "blockdev-reopen", {"options": list(options)}


def delete(name: str) -> Message:
    return "blockdev-del", {"node-name": name}


def files(folder: Path) -> None:
    for name in ("a.img", "b.img"):
        blank(folder / name, MIB)
    for name in ("a", "p"):
        run("create", "-q", "-f", "qcow2", folder / f"{name}.qcow2", str(MIB))
    run_io(folder / "a.qcow2", "write -P 1 0 64k")
    run("create", "-q", "-f", "qcow2", "-b", "a.qcow2", "-F", "qcow2", folder / "o.qcow2")


OPTIONS = [
    *("-drive", "file=a.img,id=d0,if=none,format=raw,node-name=n0,file.node-name=f0"),
    *("-drive", "file=o.qcow2,id=d1,if=none,node-name=n1,file.node-name=f1,backing.node-name=b1"),
]
ADDRESS = {"type": "unix", "data": {"path": "nbd"}}
PQ = node("pq", "qcow2", "pf")
N0, N1, BN = node("n0", "raw", "f0"), node("n1", "qcow2", "f1"), node("bn", "raw", "bf")
BF = {"driver": "file", "node-name": "bf", "filename": "b.img"}

LINES: list[Message] = [
    ("blockdev-reopen", {}),
    ("blockdev-reopen", {"options": 1}),
    reopen({"driver": "raw", "file": "f0"}),
    reopen({"driver": "raw", "node-name": "n0"}),
    reopen(node("absent", "raw", "f0")),
    reopen(node("d0", "raw", "f0")),
    ("blockdev-add", {"driver": "file", "filename": "p.qcow2", "node-name": "pf"}),
    ("blockdev-add", PQ),
    reopen(PQ),
    reopen({**PQ, "read-only": True}),
    FLAT,
    reopen({**PQ, "read-only": True, "lazy-refcounts": True}),
    reopen({**PQ, "detect-zeroes": "on"}),
    FLAT,
    reopen({**PQ, "driver": "raw"}),
    reopen({**PQ, "file": {"driver": "file", "filename": "p.qcow2"}}),
    reopen({**PQ, "file": "absent"}),
    reopen({**PQ, "colour": "red"}),
    reopen({**PQ, "backing": None}),
    reopen(N1),
    reopen({**N1, "backing": "absent"}),
    reopen({**N1, "backing": "n1"}),
    reopen({**N1, "backing": "b1"}),
    reopen({**N1, "backing": None}),
    FLAT,
    reopen({**N1, "backing": "pq"}),
    FLAT,
    BLOCKS,
    delete("pf"),
    reopen({**N1, "backing": None}),
    delete("pq"),
    delete("pf"),
    ("blockdev-add", {**BN, "file": BF}),
    reopen({**BN, "read-only": True}, {**BF, "read-only": True}),
    FLAT,
    reopen(BN, BF),
    reopen({**BN, "read-only": True}, node("absent", "raw", "bf")),
    reopen({**BN, "read-only": True}, N1, {**BF, "driver": "host_device"}),
    reopen({**BF, "filename": "a.img"}),
    reopen(BN, BN),
    delete("bn"),
    ("nbd-server-start", {"addr": ADDRESS}),
    ("block-export-add", {"type": "nbd", "id": "e", "node-name": "n0", "writable": True}),
    reopen({**N0, "read-only": True}),
    ("block-export-del", {"id": "e"}),
    ("block-export-add", {"type": "nbd", "id": "e", "node-name": "n0"}),
    reopen({**N0, "read-only": True}),
    BLOCKS,
    ("block-export-add", {"type": "nbd", "id": "w", "node-name": "n0", "writable": True}),
    reopen({**N0, "discard": "unmap", "detect-zeroes": "unmap"}),
    BLOCKS,
    ("nbd-server-stop",),
]


def test_nodes_are_reopened(tmp_path: Path) -> None:
    with two_qmp(tmp_path, files, OPTIONS) as both:
        assert both.differing(LINES) == ""


@pytest.fixture
def qmon(lab: Lab) -> Qmon:
    files(lab.folder)
    return lab.start("one")


def add_raw(qmon: Qmon, lab: Lab) -> None:
    file = {"driver": "file", "node-name": "bf", "filename": str(lab.folder / "b.img")}
    qmon.qmp("blockdev-add", driver="raw", node_name="bn", file=file)


def test_a_disk_that_becomes_read_only_gives_its_locks_back(qmon: Qmon, lab: Lab) -> None:
    add_raw(qmon, lab)
    assert locked_bytes(lab.folder / "b.img") == {100, 101, 201}
    qmon.qmp("blockdev-reopen", options=[{**BN, "read-only": True}])
    assert locked_bytes(lab.folder / "b.img") == {100, 201}
    reader = lab.start("two", "-drive", f"file={lab.folder}/b.img,format=raw,if=none,id=r,readonly=on")
    refused = qmon.qmp_error("blockdev-reopen", options=[BN])
    assert refused.startswith("Could not reopen 'bn': Failed to get")
    assert locked_bytes(lab.folder / "b.img") == {100, 201}
    reader.close()
    qmon.qmp("blockdev-reopen", options=[BN])
    assert locked_bytes(lab.folder / "b.img") == {100, 101, 201}


def test_all_nodes_are_reopened_or_none(qmon: Qmon, lab: Lab) -> None:
    add_raw(qmon, lab)
    over = {"driver": "file", "node-name": "of", "filename": str(lab.folder / "o.qcow2")}
    qmon.qmp("blockdev-add", driver="qcow2", node_name="o", file=over, backing=None)
    base = {"driver": "file", "filename": str(lab.folder / "a.qcow2")}
    qmon.qmp("blockdev-add", driver="qcow2", node_name="a", file=base)
    other = lab.start("two", "-drive", f"file={lab.folder}/p.qcow2,if=none,id=p")
    held = {"driver": "qcow2", "node-name": "o", "file": "of", "backing": "held", "read-only": True}
    options = [{**BN, "read-only": True}, {**held, "backing": "a"}, {**held, "backing": "absent"}]
    assert "absent" in qmon.qmp_error("blockdev-reopen", options=options)
    blocks = {each["inserted"]["node-name"]: each["inserted"] for each in qmon.qmp("query-block")}
    assert [blocks[name]["ro"] for name in ("bn", "o", "a")] == [False] * 3
    # one that fails only when it is opened
    (lab.folder / "o.qcow2").rename(lab.folder / "moved")
    refused = qmon.qmp_error("blockdev-reopen", options=[{**BN, "read-only": True}, {**held, "backing": "a"}])
    assert refused == "Could not reopen 'o': No such file or directory"
    blocks = {each["inserted"]["node-name"]: each["inserted"] for each in qmon.qmp("query-block")}
    assert [blocks[name]["ro"] for name in ("bn", "o", "a")] == [False] * 3
    assert locked_bytes(lab.folder / "b.img") == {100, 101, 201}
    qmon.export("bn", "o", "a")
    for name in ("bn", "o", "a"):
        with qmon.guest(name) as guest:
            guest.write(0, name.encode() * 256)
    other.close()


def test_clients_see_another_backing_image_and_stay_connected(qmon: Qmon, lab: Lab) -> None:
    for name in ("a", "o"):
        file = {"driver": "file", "node-name": f"{name}f", "filename": f"{lab.folder}/{name}.qcow2"}
        qmon.qmp("blockdev-add", driver="qcow2", node_name=name, file=file, backing=None)
    qmon.export("o")
    with qmon.guest("o") as guest:
        assert guest.read(0, 512) == bytes(512)
        qmon.qmp("blockdev-reopen", options=[node("o", "qcow2", "of", backing="a")])
        assert guest.read(0, 512) == b"\1" * 512
        guest.write(65536, b"o" * 512)
        qmon.qmp("blockdev-reopen", options=[node("o", "qcow2", "of", backing=None)])
        assert guest.read(65024, 1024) == bytes(512) + b"o" * 512
    qmon.qmp("blockdev-del", node_name="a")


def test_zeros_that_a_guest_writes_need_no_storage(lab: Lab) -> None:
    image = lab.folder / "d.img"
    image.write_bytes(b"x" * MIB)
    qmon = lab.start(
        "one", "-drive", f"file={image},format=raw,if=none,id=d0,detect-zeroes=unmap,discard=unmap"
    )
    assert "ignored: -drive discard" in qmon.log()
    qmon.export("d0")
    with qmon.guest("d0") as guest:
        guest.write(0, bytes(MIB // 2))
        guest.write(MIB // 2, b"y" + bytes(4095))
        guest.flush()
    qmon.close()
    assert image.read_bytes() == bytes(MIB // 2) + b"y" + bytes(4095) + b"x" * (MIB // 2 - 4096)
    assert image.stat().st_blocks * 512 <= MIB // 2 + 8192
