"""Dirty bitmaps: the same messages to a real QEMU and to qmon get the same answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.images import MIB, blank
from tests.support.peer import options_of
from tests.support.peers import require
from tests.support.qcow2_images import run
from tests.support.two_monitors import TwoMonitors

ADD, REMOVE, CLEAR = "block-dirty-bitmap-add", "block-dirty-bitmap-remove", "block-dirty-bitmap-clear"
ENABLE, DISABLE = "block-dirty-bitmap-enable", "block-dirty-bitmap-disable"
MERGE = "block-dirty-bitmap-merge"

Action = tuple[str, dict[str, Any]]

WRITES = (
    "write 0 64k",
    "write 100000 1",
    "discard 512k 64k",
    "write -z 768k 64k",
    "write -z 700001 5",
    "discard 1 9000",
)


def drives(folder: Path) -> list[str]:
    """The drives d0 (qcow2), v2 (an old qcow2), r and ro (raw)."""
    run("create", "-q", "-f", "qcow2", folder / "d0", "1M")
    run("create", "-q", "-f", "qcow2", "-o", "compat=0.10", folder / "v2", "1M")
    blank(folder / "r", MIB)
    blank(folder / "ro", MIB)
    return options_of(
        "id=d0,file=d0,format=qcow2,node-name=n,discard=unmap",
        "id=v2,file=v2,format=qcow2",
        "id=r,file=r,format=raw,discard=unmap",
        "id=ro,file=ro,format=raw,readonly=on",
    )


class Both:
    """A QEMU and a qmon to which messages are put; what differs fails the test."""

    def __init__(self, monitors: TwoMonitors) -> None:
        self.monitors = monitors
        self.clients = monitors.theirs.qmp(), monitors.ours.qmp()

    def close(self) -> None:
        for client in self.clients:
            client.close()

    def put(self, command: str, **arguments: Any) -> Any:
        """Put a message to both; return the result, or the text of the error."""
        theirs, ours = (each.ask(command, **arguments) for each in self.clients)
        assert ours == theirs, (command, arguments)
        return ours["return"] if "return" in ours else ours["error"]["desc"]

    def ask(self, command: str, **arguments: Any) -> Any:
        """As ``put``; it must succeed."""
        answer = self.put(command, **arguments)
        assert not isinstance(answer, str), answer
        return answer

    def line(self, line: str) -> None:
        """Give a line to both monitors."""
        self.monitors.lines(line)

    def bitmaps(self) -> dict[str, Any]:
        """The bitmaps of the nodes by their files; they must be the same ones."""
        theirs, ours = (
            {
                node["file"]: node["dirty-bitmaps"]
                for node in each.run("query-named-block-nodes")
                if node.get("dirty-bitmaps")
            }
            for each in self.clients
        )
        assert ours == theirs
        return ours


@pytest.fixture
def both(tmp_path: Path) -> Iterator[Both]:
    require("qemu-system-x86_64", "qemu-img")
    with TwoMonitors(tmp_path, drives=drives) as monitors:
        assert monitors.lines("drive_add 0 if=none,id=e") == (("OK",), ("OK",))
        both = Both(monitors)
        yield both
        both.close()


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
