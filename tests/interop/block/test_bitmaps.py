"""Dirty bitmaps: the same messages to a real QEMU and to qmon get the same answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.both_by_qmp import Both, both_in
from tests.support.images import MIB
from tests.support.peers import require
from tests.support.qcow2_images import run

ADD, REMOVE, CLEAR = "block-dirty-bitmap-add", "block-dirty-bitmap-remove", "block-dirty-bitmap-clear"
ENABLE, DISABLE = "block-dirty-bitmap-enable", "block-dirty-bitmap-disable"
MERGE = "block-dirty-bitmap-merge"
SYNC, INTERNAL = "blockdev-snapshot-sync", "blockdev-snapshot-internal-sync"

Action = tuple[str, dict[str, Any]]

WRITES = (
    "write 0 64k",
    "write 100000 1",
    "discard 512k 64k",
    "write -z 768k 64k",
    "write -z 700001 5",
    "discard 1 9000",
)


@pytest.fixture
def both(tmp_path: Path) -> Iterator[Both]:
    require("qemu-system-x86_64", "qemu-img")
    with both_in(tmp_path) as both:
        yield both


def test_a_new_bitmaps_arguments(both: Both) -> None:
    for granularity in (0, 1, 256, 513, 1000, -1, 1 << 32, "a", 1.5, None):
        both.put(ADD, node="d0", name=f"g{granularity}", granularity=granularity)
    for bits in (9, 12, 30, 31):
        both.ask(ADD, node="d0", name=f"b{bits}", granularity=1 << bits)
    for arguments in (
        {"node": "d0"},
        {"name": "x"},
        {"node": "d0", "name": ""},
        {"node": "d0", "name": "x" * 1024},
        {"node": "nope", "name": "x"},
        {"node": "e", "name": "x"},
        {"node": "d0", "name": 3},
        {"node": "d0", "name": "b9"},
        {"node": "d0", "name": "", "granularity": 3},
        {"node": "d0", "name": "x", "disabled": "yes"},
        {"node": "d0", "name": "x", "nope": 1},
        {"node": "r", "name": "p", "persistent": True},
        {"node": "ro", "name": "p", "persistent": True},
        {"node": "v2", "name": "p", "persistent": True},
        {"node": "d0", "name": "p" * 1024, "persistent": True},
        {"node": "d0", "name": "b9", "persistent": True},
    ):
        assert isinstance(both.put(ADD, **arguments), str)
    for node in ("n", "ro", "r", "v2"):
        both.ask(ADD, node=node, name="x" * 1023)
        both.ask(ADD, node=node, name="für später", disabled=True)
    assert len(both.bitmaps()["d0"]) == 6


@pytest.mark.parametrize("command", [REMOVE, CLEAR, ENABLE, DISABLE])
def test_a_bitmap_that_is_not_there(both: Both, command: str) -> None:
    for arguments in (
        {"node": "d0", "name": "x"},
        {"node": "x", "name": "x"},
        {"node": "e", "name": "x"},
        {"node": "d0"},
    ):
        assert isinstance(both.put(command, **arguments), str)


def test_writes_are_marked_while_it_records(both: Both) -> None:
    for node in ("n", "r"):
        both.ask(ADD, node=node, name="small", granularity=512)
        both.ask(ADD, node=node, name="usual")
        both.ask(ADD, node=node, name="large", granularity=1 << 31)
        both.ask(ADD, node=node, name="off", disabled=True)
    for write in WRITES:
        for drive in ("d0", "r"):
            both.line(f'qemu-io {drive} "{write}"')
        found = both.bitmaps()
    assert [each["count"] for each in found["r"]] == [0, 1 << 31, 327680, 197632]
    both.ask(DISABLE, node="n", name="usual")
    both.ask(ENABLE, node="n", name="off")
    both.ask(CLEAR, node="n", name="small")
    both.line('qemu-io d0 "write 0 1M"')
    assert [each["count"] for each in both.bitmaps()["d0"]] == [MIB, 1 << 31, 327680, MIB]
    both.ask(REMOVE, node="n", name="off")
    assert [each["name"] for each in both.bitmaps()["d0"]] == ["large", "usual", "small"]


def test_merges(both: Both) -> None:
    both.ask(ADD, node="d0", name="a")
    both.ask(ADD, node="d0", name="small", granularity=512)
    both.ask(ADD, node="d0", name="off", disabled=True)
    both.ask(ADD, node="r", name="raw", granularity=4096)
    for write in WRITES:
        both.line(f'qemu-io d0 "{write}"')
    both.line('qemu-io r "write 900k 100"')
    raw, there = {"node": "r", "name": "raw"}, {"node": "d0", "name": "nope"}
    bitmaps: Any
    for bitmaps in (
        ["x"],
        ["a", "x"],
        [there],
        [{"node": "x", "name": "a"}],
        [{"node": "d0"}],
        [3],
        "a",
        None,
    ):
        assert isinstance(both.put(MERGE, node="d0", target="off", bitmaps=bitmaps), str)
    assert isinstance(both.put(MERGE, node="d0", target="nope", bitmaps=["a"]), str)
    assert isinstance(both.put(MERGE, node="nope", target="a", bitmaps=["a"]), str)
    both.bitmaps()
    for target, sources in (
        ("off", ["small", "a"]),
        ("small", ["off", raw]),
        ("a", ["a"]),
        ("a", [raw, raw]),
    ):
        both.ask(MERGE, node="d0", target=target, bitmaps=sources)
        both.bitmaps()
    both.ask("block_resize", node_name="n", size=2 * MIB)
    assert "different sizes" in both.put(MERGE, node="d0", target="a", bitmaps=[raw])


def test_it_follows_the_size(both: Both) -> None:
    for node in ("n", "r"):
        both.ask(ADD, node=node, name="small", granularity=512)
        both.ask(ADD, node=node, name="usual")
        both.line(f'qemu-io {"d0" if node == "n" else node} "write 0 1M"')
        for kib in (2048, 1028, 500, 8192, 3):
            both.ask("block_resize", node_name=node, size=kib << 10) if node == "n" else both.ask(
                "block_resize", device=node, size=kib << 10
            )
            both.bitmaps()


def test_transactions_are_done_whole_or_not_at_all(both: Both) -> None:
    def put(*actions: tuple[str, Any], **more: Any) -> Any:
        answer = both.put(
            "transaction", actions=[{"type": kind, "data": data} for kind, data in actions], **more
        )
        both.bitmaps()
        return answer

    abort: Action = ("abort", {})
    add_a: Action = (ADD, {"node": "d0", "name": "a"})
    a = {"node": "d0", "name": "a"}
    assert put() == {}
    failing: Sequence[tuple[str, Any]]
    for failing in (
        [abort],
        [add_a, abort],
        [add_a, add_a],
        [add_a, (ADD, {"node": "d0", "name": ""})],
        [add_a, (REMOVE, {"node": "d0", "name": "x"})],
        [add_a, (CLEAR, {"node": "nope", "name": "x"})],
        [(ADD, {"node": "d0"})],
        [add_a, (ADD, {"node": "d0", "name": "b", "x": 1})],
        [("nope", {})],
        [("abort", {"x": 1})],
    ):
        assert isinstance(put(*failing), str)
    assert put(add_a, (ADD, {"node": "r", "name": "b", "disabled": True})) == {}
    both.line('qemu-io d0 "write 0 64k"')
    for failing in (
        [(CLEAR, a), abort],
        [(DISABLE, a), (DISABLE, a), (ENABLE, a), abort],
        [(DISABLE, a), (DISABLE, a), abort],
        [(REMOVE, a), abort],
        [(REMOVE, a), add_a],
        [(REMOVE, a), (CLEAR, a)],
        [
            (ADD, {"node": "d0", "name": "c"}),
            (MERGE, {"node": "d0", "target": "c", "bitmaps": ["a"]}),
            (CLEAR, a),
            abort,
        ],
        [
            (MERGE, {"node": "r", "target": "b", "bitmaps": [dict(a)]}),
            (MERGE, {"node": "r", "target": "b", "bitmaps": ["x"]}),
        ],
    ):
        assert isinstance(put(*failing), str)
    merge = (MERGE, {"node": "d0", "target": "c", "bitmaps": ["a"]})
    assert put((ADD, {"node": "d0", "name": "c"}), merge, (CLEAR, a), (DISABLE, a)) == {}
    assert put((REMOVE, a), (REMOVE, {"node": "d0", "name": "c"})) == {}
    for mode in ("individual", "grouped", "x", 3, None):
        put(add_a, properties={"completion-mode": mode})
        put(abort, properties={"completion-mode": mode})
    for properties in ({}, {"x": 1}, 3):
        put(abort, properties=properties)
    wrong: Any
    for wrong in (
        3,
        [3],
        [{}],
        [{"type": "abort"}],
        [{"data": {}}],
        [{"type": 3, "data": {}}],
        [{"type": "abort", "data": 3}],
    ):
        assert isinstance(both.put("transaction", actions=wrong), str)
    assert isinstance(both.put("transaction"), str)


def test_snapshots_of_several_drives_are_one_moment(both: Both) -> None:
    def put(*actions: tuple[str, dict[str, Any]], **more: Any) -> Any:
        return both.put(
            "transaction", actions=[{"type": kind, "data": data} for kind, data in actions], **more
        )

    def sync(drive: str, file: str) -> Action:
        return SYNC, {"device": drive, "snapshot-file": file}

    def internal(drive: str, name: str) -> Action:
        return INTERNAL, {"device": drive, "name": name}

    add: Action = (ADD, {"node": "d0", "name": "p", "persistent": True})
    clear: Action = (CLEAR, {"node": "d0", "name": "p"})
    abort: Action = ("abort", {})
    assert put(add) == {}
    failing: Sequence[Action]
    for failing in (
        [internal("d0", "s"), internal("d0", "s")],
        [internal("d0", "s"), internal("r", "s")],
        [internal("d0", "s"), internal("ro", "s")],
        [internal("d0", "s"), abort],
        [internal("e", "s")],
        [internal("nope", "s")],
        [(SYNC, {"device": "d0"})],
        [(SYNC, {"device": "d0", "snapshot-file": "/nope/x"})],
        [sync("d0", "x1"), sync("nope", "x2")],
        [sync("d0", "x3"), sync("e", "x4")],
        [sync("d0", "x5"), (SYNC, {"device": "r", "snapshot-file": "/nope/x"})],
        [sync("d0", "x6"), sync("r", "x7"), abort],
        [clear, sync("r", "x8"), internal("d0", "s"), abort],
    ):
        assert isinstance(put(*failing), str)
        both.bitmaps()
    for kind in (SYNC, INTERNAL, "blockdev-snapshot", ADD):
        data = {
            SYNC: {"device": "d0", "snapshot-file": "x9"},
            INTERNAL: {"device": "d0", "name": "s"},
            ADD: {"node": "d0", "name": "n"},
            "blockdev-snapshot": {"node": "d0", "overlay": "r"},
        }[kind]
        answer = put((kind, data), abort, properties={"completion-mode": "grouped"})
        assert "does not support Transaction property" in answer
    assert list(both.monitors.ours.folder.glob("x*")) == []
    assert put(internal("d0", "s1"), internal("v2", "s1"), clear) == {}
    both.line('qemu-io d0 "write 0 64k"')
    later: Action = (ADD, {"node": "d0", "name": "later"})
    assert put(sync("d0", "y1"), sync("r", "y2"), sync("d0", "y3"), later) == {}
    both.line('qemu-io d0 "write 64k 64k"')
    assert {name: [each["count"] for each in found] for name, found in both.bitmaps().items()} == {
        "d0": [65536],
        "y3": [65536],
    }
    both.line('qemu-io r "write -P 7 64k 100k"')
    for drive in ("d0", "r"):
        both.line(f"drive_del {drive}")
    for image in ("y3", "y2"):
        theirs, ours = (each.folder / image for each in (both.monitors.theirs, both.monitors.ours))
        run("compare", "-f", "qcow2", "-F", "qcow2", theirs, ours)
        run("check", ours)


def test_an_overlay_that_is_a_node_is_given_back(both: Both) -> None:
    for client, folder in zip(
        both.clients, (both.monitors.theirs.folder, both.monitors.ours.folder), strict=True
    ):
        run("create", "-q", "-f", "qcow2", folder / "over", "1M")
        file = {"driver": "file", "filename": "over"}
        client.run("blockdev-add", driver="qcow2", node_name="over", file=file, backing=None)
    snapshot: Action = ("blockdev-snapshot", {"node": "n", "overlay": "over"})
    add: Action = (ADD, {"node": "over", "name": "b"})

    def put(*actions: Action) -> Any:
        return both.put("transaction", actions=[{"type": kind, "data": data} for kind, data in actions])

    for failing in (
        [snapshot, add, ("abort", {})],
        [snapshot, snapshot],
        [("blockdev-snapshot", {"node": "n"})],
    ):
        assert isinstance(put(*failing), str)
        both.bitmaps()
    both.line('qemu-io d0 "write -P 1 0 64k"')
    assert put((ADD, {"node": "n", "name": "below"}), snapshot, add) == {}
    both.line('qemu-io d0 "write -P 2 64k 64k"')
    found = both.bitmaps()
    assert found.pop("d0")[0]["count"] == 0
    assert [each["count"] for (each,) in found.values()] == [65536]
