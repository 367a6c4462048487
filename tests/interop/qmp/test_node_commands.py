"""Block nodes: added, deleted, put on top of each other; the same on QEMU and qmon."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support.guest import Guest
from tests.support.images import MIB, blank
from tests.support.qcow2_images import content, run, run_io
from tests.support.two_qmp import Message, Side, two_qmp

FLAT: Message = ("query-named-block-nodes", {"flat": True})
NODES: Message = ("query-named-block-nodes",)
BLOCKS: Message = ("query-block",)
ADDRESS = {"type": "unix", "data": {"path": "nbd"}}


def add(name: str, driver: str, file: object, **arguments: Any) -> Message:
    named = {key.replace("_", "-"): value for key, value in arguments.items()}
    return "blockdev-add", {"driver": driver, "node-name": name, "file": file, **named}


def add_file(name: str, file: str, **arguments: Any) -> Message:
    return "blockdev-add", {"driver": "file", "node-name": name, "filename": file, **arguments}


def on(file: str) -> Mapping[str, str]:
    return {"driver": "file", "filename": file}


def delete(name: str) -> Message:
    return "blockdev-del", {"node-name": name}


def snapshot(node: str, overlay: str) -> Message:
    return "blockdev-snapshot", {"node": node, "overlay": overlay}


def sync(file: str, **arguments: Any) -> Message:
    named = {key.replace("_", "-"): value for key, value in arguments.items()}
    return "blockdev-snapshot-sync", {"snapshot-file": file, **named}


def files(folder: Path) -> None:
    for name in ("a.img", "b.img"):
        blank(folder / name, MIB)
    for name in ("a", "p", "q", "b"):
        run("create", "-q", "-f", "qcow2", folder / f"{name}.qcow2", str(MIB))
    run_io(folder / "a.qcow2", "write -P 1 0 64k")
    run("create", "-q", "-f", "qcow2", "-b", "a.qcow2", "-F", "qcow2", folder / "o.qcow2")


OPTIONS = [
    *("-drive", "file=a.img,id=d0,if=none,format=raw,node-name=n0,file.node-name=f0,detect-zeroes=on"),
    *("-drive", "file=o.qcow2,id=d1,if=none,node-name=n1,file.node-name=f1,backing.node-name=b1"),
]

UP_AND_DOWN = [
    FLAT,
    add_file("pf", "p.qcow2"),
    add("pq", "qcow2", "pf"),
    NODES,
    delete("pf"),
    add_file("qf", "q.qcow2"),
    add("qq", "qcow2", "qf", backing="pq"),
    NODES,
    ("query-blockstats", {"query-nodes": True}),
    delete("pq"),
    delete("qf"),
    delete("f1"),
    delete("b1"),
    delete("n1"),
    delete("d1"),
    delete("absent"),
    delete("qq"),
    NODES,
    delete("qf"),
    delete("pq"),
    delete("pf"),
    FLAT,
]

OVERLAYS = [
    snapshot("n0", "absent"),
    snapshot("absent", "n0"),
    add("p", "qcow2", on("p.qcow2"), detect_zeroes="on"),
    snapshot("n0", "p"),
    FLAT,
    BLOCKS,
    snapshot("n0", "p"),
    delete("p"),
    snapshot("d0", "n1"),
    add("q", "qcow2", on("q.qcow2")),
    snapshot("p", "q"),
    FLAT,
    BLOCKS,
    snapshot("q", "q"),
    add("r", "raw", on("b.img")),
    snapshot("d0", "r"),
    add("b", "qcow2", on("b.qcow2")),
    snapshot("r", "b"),
    FLAT,
    delete("r"),
    delete("b"),
    FLAT,
    add("b", "qcow2", on("b.qcow2"), backing="r"),
    snapshot("n1", "b"),
    delete("b"),
    ("nbd-server-start", {"addr": ADDRESS}),
    ("block-export-add", {"type": "nbd", "id": "e", "node-name": "r", "writable": True}),
    delete("r"),
    sync("s1", device="d1", snapshot_node_name="ss", format="qcow2"),
    sync("s2", node_name="ss", snapshot_node_name="n1"),
    sync("s2", node_name="n1", snapshot_node_name="other"),
    sync("s2", node_name="ss"),
    sync("s2"),
    sync("s2", device="d1", node_name="ss"),
    sync("s2", device="d1", snapshot_node_name="z", format="none"),
    sync("s2", device="d1", snapshot_node_name="z", format="raw"),
    sync("s2", device="absent"),
    ("blockdev-snapshot-internal-sync", {"device": "n1", "name": "x"}),
    ("blockdev-snapshot-internal-sync", {"device": "ss", "name": "x"}),
    FLAT,
]


def test_nodes_are_added_and_deleted(tmp_path: Path) -> None:
    with two_qmp(tmp_path, files, OPTIONS) as both:
        assert both.differing(UP_AND_DOWN) == ""


def test_nodes_are_put_on_disks_as_overlays(tmp_path: Path) -> None:
    with two_qmp(tmp_path, files, OPTIONS) as both:
        assert both.differing(OVERLAYS[:-1]) == ""
        nodes = [side.say(FLAT)[-1]["return"] for side in (both.qemu, both.qmon)]
        for node in (*nodes[0], *nodes[1]):  # a snapshot has its own time
            node["image"].pop("snapshots", None)
            node["image"].pop("actual-size")
        assert nodes[1] == nodes[0]


def test_guests_go_on_in_an_overlay(tmp_path: Path) -> None:
    """An exported node gets an overlay: what its clients write from then on is there, and only there."""
    with two_qmp(tmp_path, files, OPTIONS) as both:
        lines = [
            add("r", "raw", on("b.img")),
            ("nbd-server-start", {"addr": ADDRESS}),
            ("block-export-add", {"type": "nbd", "id": "e", "node-name": "r", "writable": True}),
            add("b", "qcow2", on("b.qcow2")),
        ]
        assert both.differing(lines) == ""
        guests = [Guest(side.folder / "nbd", "r") for side in (both.qemu, both.qmon)]
        for guest in guests:
            guest.write(0, b"1" * 4096)
        assert both.differing([snapshot("r", "b"), ("query-block-exports",), FLAT, delete("b")]) == ""
        for guest in guests:
            guest.write(4096, b"2" * 4096)
            guest.flush()
            assert guest.read(0, 8192) == b"1" * 4096 + b"2" * 4096
            guest.close()
        lines = [("block-export-del", {"id": "e", "mode": "hard"}), delete("b"), delete("r"), FLAT]
        for line in lines:
            both.qmon.say(line)
        assert (both.qmon.folder / "b.img").read_bytes()[:8192] == b"1" * 4096 + bytes(4096)
        run("rebase", "-u", "-F", "raw", "-b", "b.img", both.qmon.folder / "b.qcow2")
        assert content(both.qmon.folder / "b.qcow2")[:8192] == b"1" * 4096 + b"2" * 4096


def rename(device: str, node: str, name: str) -> Message:
    return "change-backing-file", {"device": device, "image-node-name": node, "backing-file": name}


def test_the_name_of_a_backing_image_is_changed_in_the_overlay(tmp_path: Path) -> None:
    with two_qmp(tmp_path, files, OPTIONS) as both:
        lines = [
            rename("d1", "n1", "./a.qcow2"),
            FLAT,
            BLOCKS,
            rename("n1", "n1", "x" * 1023),
            FLAT,
            rename("d1", "n1", "other"),
            rename("d1", "b1", "a.qcow2"),
            rename("d1", "f1", "a.qcow2"),
            rename("d1", "absent", "a.qcow2"),
            rename("absent", "n1", "a.qcow2"),
            rename("b1", "n1", "a.qcow2"),
            rename("d0", "n1", "a.qcow2"),
            rename("d0", "n0", "a.qcow2"),
            rename("d1", "n1", ""),
            BLOCKS,
            rename("d1", "n1", "./a.qcow2"),
        ]
        assert both.differing(lines) == ""
        image = both.qmon.folder / "o.qcow2"
        assert both.qmon.say(rename("d1", "n1", "x" * 1024))[-1]["error"]
        run("check", "-U", image)
        assert "backing file: ./a.qcow2 (actual path:" in run("info", "-U", image)
    assert content(image)[:65536] == b"\1" * 65536


def watch(name: str, offset: int) -> Message:
    return "block-set-write-threshold", {"node-name": name, "write-threshold": offset}


def thresholds(side: Side) -> list[int]:
    nodes: list[dict[str, Any]] = side.say(FLAT)[-1]["return"]
    return [node["write_threshold"] for node in nodes]


def test_a_write_beyond_a_threshold_is_told_once(tmp_path: Path) -> None:
    with two_qmp(tmp_path, files, [*OPTIONS, "-S"]) as both:
        lines = [
            watch("d0", 4096),
            watch("absent", 4096),
            watch("n0", -1),
            FLAT,
            ("cont",),
            ("nbd-server-start", {"addr": ADDRESS}),
            *(
                ("block-export-add", {"type": "nbd", "id": node, "node-name": node, "writable": True})
                for node in ("n0", "n1")
            ),
        ]
        assert both.differing(lines) == ""
        disks = {
            node: [Guest(side.folder / "nbd", node) for side in (both.qemu, both.qmon)]
            for node in ("n0", "n1")
        }
        for node in ("n0", "f0", "n1", "n0"):
            assert both.differing([watch(node, 8192)]) == ""
            assert thresholds(both.qmon) == thresholds(both.qemu)
            for offset in (0, 8192, 16384):
                for guest in disks["n1" if node == "n1" else "n0"]:
                    guest.write(offset, b"x" * 4096)
                assert both.differing([("query-status",)]) == ""
            assert thresholds(both.qmon) == thresholds(both.qemu)
        told = [event for event in both.qmon.client.events if event["event"] == "BLOCK_WRITE_THRESHOLD"]
        assert [event["data"]["amount-exceeded"] for event in told] == [4096] * 4
        for guest in (*disks["n0"], *disks["n1"]):
            guest.close()
