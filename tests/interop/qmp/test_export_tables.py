"""Every argument of the NBD server's commands: what QEMU refuses is refused with the same words."""

from __future__ import annotations

import socket
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from qmon.nbd.client import NbdClient, NbdError
from tests.support.exports import ADDRESS, LISTED, NODES, OPTIONS, export, files, old
from tests.support.two_qmp import Message, TwoQmp, two_qmp
from tests.support.waiting import PATIENCE, connected, eventually

STOP: Message = ("nbd-server-stop",)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoQmp]:
    with two_qmp(tmp_path_factory.mktemp("both"), files, OPTIONS) as both:
        yield both


def start(addr: Any = ADDRESS, **arguments: Any) -> Message:
    named = {name.replace("_", "-"): value for name, value in arguments.items()}
    return "nbd-server-start", {"addr": addr, **named}


def inet(host: Any = "127.0.0.1", port: Any = "0", **more: Any) -> dict[str, Any]:
    return {"type": "inet", "data": {"host": host, "port": port, **more}}


def unix(path: Any, **more: Any) -> dict[str, Any]:
    return {"type": "unix", "data": {"path": path, **more}}


def remove(id: Any, **mode: Any) -> Message:
    return "block-export-del", {"id": id, **mode}


def remove_old(name: Any, **mode: Any) -> Message:
    return "nbd-server-remove", {"name": name, **mode}


def bitmap(node: str, name: str, **more: Any) -> Message:
    return "block-dirty-bitmap-add", {"node": node, "name": name, **more}


def named(verb: str, node: str, name: str) -> Message:
    return f"block-dirty-bitmap-{verb}", {"node": node, "name": name}


def line(text: str) -> Message:
    return "human-monitor-command", {"command-line": text}


STARTS = [
    start(inet(port="x")),
    start(inet(port="-1")),
    start(inet(port="")),
    start(inet(port=0)),
    start(inet(host=5)),
    start(inet(host="192.0.2.1")),
    start({"type": "inet", "data": {"host": "127.0.0.1"}}),
    start({"type": "inet", "data": {"port": "0"}}),
    start({"type": "inet", "host": "127.0.0.1", "port": "0"}),
    start(inet(ipv4=False, ipv6=False)),
    start(inet(host="", ipv4=False, ipv6=False)),
    start(inet(ipv4=True, ipv6=True)),
    start(inet(ipv4=True, ipv6=False)),
    start(inet(ipv6=True)),
    start(inet(ipv6=True, ipv4=False)),
    start(inet(ipv4=False)),
    start(inet(ipv4="on")),
    start(inet(host="::1")),
    start(inet(host="::1", ipv6=False)),
    start(inet(host="::1", ipv4=True)),
    start(inet(host="::1", ipv4=True, ipv6=True)),
    start(inet(host="", ipv4=True)),
    start(inet(host="", ipv6=True)),
    start(inet(numeric=True)),
    start(inet(to=5, numeric=5)),
    start(inet(to=-1)),
    start(inet(to=99999)),
    start(inet(**{"keep-alive": True})),
    start(inet(mptcp=True)),
    start(unix("x", x=1)),
    start(unix("nosuch/x")),
    start(unix(5)),
    start(unix("x", abstract=5)),
    start(unix("x", tight=True)),
    start({"type": "unix", "path": "x"}),
    start({"type": "unix"}),
    start({"type": "unix", "data": {}}),
    start({"data": {"path": "x"}}),
    start({"type": "fd", "data": {"str": "99"}}),
    start({"type": "fd", "data": {"str": "nosuch"}}),
    start({"type": "fd", "data": {"str": ""}}),
    start({"type": "fd", "data": {"str": "0"}}),
    start("x"),
    start(None),
    start(max_connections=1 << 32),
    start(max_connections="1"),
    start(max_connections=1.5),
    start(max_connections=0),
    start(tls_creds=""),
    start(tls_creds="d0"),
    start(tls_creds=1),
    start(tls_authz=1),
    start(colour=1),
]


def test_where_the_server_listens(both: TwoQmp) -> None:
    assert both.differing([each for one in STARTS for each in (one, STOP)]) == ""


def test_a_port_that_is_taken(both: TwoQmp) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        lines = [
            start(inet(port=str(port))),
            start(inet(port=str(port), to=port)),
            start(inet(port=str(port), to=min(port + 20, 65535))),
            STOP,
        ]
        assert both.differing(lines) == ""
        told = both.qmon.say(start(inet(port=str(port), to=port - 1)))[0]["error"]["desc"]
        assert told == f"no port is free: 'to' is {port - 1}, below the first port, {port}"


def test_a_name_in_the_abstract_space(both: TwoQmp) -> None:
    for side in (both.qemu, both.qmon):
        for tight in (True, False):
            name = f"qmon-test-{uuid.uuid4()}-{tight}"
            assert side.say(start(unix(name, abstract=True, tight=tight)))[-1] == {"return": {}}
            with closing(connected(Path("\0" + (name if tight else name.ljust(107, "\0"))))) as sock:
                assert sock.recv(8) == b"NBDMAGIC"
            side.say(STOP)


@pytest.fixture
def served(both: TwoQmp) -> Iterator[TwoQmp]:
    """Both while their servers run."""
    assert both.differing([start()]) == ""
    try:
        yield both
    finally:
        assert both.differing([STOP]) == ""


def add(**arguments: Any) -> Message:
    return "block-export-add", {name.replace("_", "-"): value for name, value in arguments.items()}


MORE: list[dict[str, Any]] = [
    {"name": ""},
    {"name": "a b/ü"},
    {"name": "x" * 4096},
    {"name": 5},
    {"description": ""},
    {"description": "x" * 4096},
    {"description": None},
    {"writable": "yes"},
    {"writable": 1},
    {"writethrough": 1},
    {"allocation_depth": "x"},
    {"allocation_depth": True},
    {"iothread": "io0", "fixed_iothread": True},
    {"iothread": "io0", "fixed_iothread": False},
    {"iothread": "absent", "fixed_iothread": True},
    {"iothread": 1},
    {"fixed_iothread": True},
    {"fixed_iothread": "on"},
    {"bitmap": "b"},
    {"bitmaps": "b"},
    {"bitmaps": [5]},
    {"bitmaps": [{}]},
    {"bitmaps": [{"node": "n1"}]},
    {"bitmaps": [{"node": "n1", "name": "b", "x": 1}]},
    {"device": "d1"},
]

MORE_OF_OLD: list[dict[str, Any]] = [
    {"name": ""},
    {"name": "1x"},
    {"name": "a b"},
    {"description": "d"},
    {"writable": False},
    {"writable": None},
    {"bitmap": {"node": "n1", "name": "off"}},
    {"bitmaps": ["off"]},
    {"allocation-depth": True},
]

NAMES = [
    add(type="nbd", id="e", node_name="n1"),
    LISTED,
    remove("e"),
    add(type="nbd", id="e", node_name=""),
    add(type="nbd", node_name="n1"),
    add(type="nbd", id="e"),
    add(id="e", node_name="n1"),
    add(type="x", id="e", node_name="n1"),
    add(type=5, id="e", node_name="n1"),
    add(type="nbd", id=5, node_name="n1"),
    *(
        each
        for id in ("", "a" * 300, "a-b.c_d", "_a", "1a", "ü", "a b")
        for each in (add(type="nbd", id=id, node_name="n1"), LISTED, remove(id))
    ),
    *(each for more in MORE for each in (export("e", "n1", **more), remove("e"))),
    export("i1", "n1", name="x1"),
    old("d1", name="x1"),
    old("d1", name="i1"),
    remove_old("x1"),
    remove_old("i1"),
    old("d1", name="x1"),
    export("x1", "n2", name="other"),
    export("x2", "n2", name="x1"),
    remove_old("x1", mode="soft"),
    remove_old("x1", mode=5),
    remove_old("x1", mode="safe"),
    remove_old(5),
    remove_old(""),
    ("nbd-server-remove",),
    remove(""),
    remove("x", mode="hard"),
    remove("x", force=True),
    *(each for more in MORE_OF_OLD for each in (old("d1", **more), LISTED, remove_old("d1"))),
    old(""),
    ("nbd-server-add", {"device": 5}),
    old("f1", writable=True),
    old("f2"),
    old("f2", writable=True, name="f2w"),
    old("n1"),
    old("d1"),
    LISTED,
    *(remove_old(name) for name in ("f2", "f2w", "n1", "d1")),
]


def test_names_and_types(served: TwoQmp) -> None:
    assert served.differing(NAMES) == ""


@pytest.mark.parametrize("what", ["name", "description"])
def test_a_text_that_is_too_long(served: TwoQmp, what: str) -> None:
    for side in (served.qemu, served.qmon):
        told = side.say(export("e", "n1", **{what: "x" * 4097}))[0]["error"]["desc"]
        assert told.startswith(f"{'export name' if what == 'name' else what} 'xxx")
        assert "' too long" in told


IN_CHAIN = ["on", "off", "both", "low", "lowon", "nosuch", ""]

BITMAPS = [
    bitmap("n1", "on"),
    bitmap("n1", "off", disabled=True),
    bitmap("n1", "both", disabled=True),
    bitmap("b1", "low", disabled=True),
    bitmap("b1", "both", disabled=True),
    bitmap("b1", "lowon"),
    bitmap("n2", "on"),
    bitmap("n2", "off", disabled=True),
    *(
        each
        for node in ("n1", "b1", "n2")
        for name in IN_CHAIN
        for writable in (False, True)
        for each in (export("e", node, bitmaps=[name], writable=writable), remove("e"))
    ),
    *(
        each
        for node in ("n1", "b1", "n2", "nosuch", "")
        for name in IN_CHAIN
        for each in (export("e", "n1", bitmaps=[{"node": node, "name": name}]), remove("e"))
    ),
    export("e", "n1", bitmaps=[]),
    remove("e"),
    export("e", "n1", bitmaps=["off", "off"]),
    NODES,
    remove("e"),
    export("e", "n1", bitmaps=["off", "both", "low"], allocation_depth=True),
    NODES,
    export("e2", "n1", bitmaps=["off"]),
    export("e2", "n1", bitmaps=["nosuch", "off"]),
    *(named(verb, "n1", "off") for verb in ("remove", "enable", "disable", "clear")),
    ("block-dirty-bitmap-merge", {"node": "n1", "target": "both", "bitmaps": ["off"]}),
    ("block-dirty-bitmap-merge", {"node": "n1", "target": "off", "bitmaps": ["both"]}),
    remove("e"),
    NODES,
    *(
        each
        for name in ("on", "off", "nosuch", "")
        for writable in (False, True)
        for each in (old("d1", bitmap=name, writable=writable), LISTED, remove_old("d1"))
    ),
    *(named("remove", "n1", name) for name in ("on", "off", "both")),
    *(named("remove", "b1", name) for name in ("low", "both", "lowon")),
    *(named("remove", "n2", name) for name in ("on", "off")),
    NODES,
]


def test_bitmaps(served: TwoQmp) -> None:
    assert served.differing(BITMAPS) == ""


USED = [
    export("e", "n1"),
    ("blockdev-del", {"node-name": "n1"}),
    ("blockdev-del", {"node-name": "b1"}),
    export("a1", "n2"),
    export("a2", "n2"),
    remove("a1"),
    LISTED,
    line("nbd_server_add d0"),
    line("nbd_server_add d0"),
    line("nbd_server_add -w d2 x"),
    line("nbd_server_add d2 x"),
    line("nbd_server_add nosuch"),
    line("nbd_server_remove nosuch"),
    line("nbd_server_start unix:x"),
    LISTED,
    STOP,
    LISTED,
    export("g", "n2"),
    old("d0"),
    line("nbd_server_start -w unix:all"),
    line("nbd_server_start -a unix:all"),
    LISTED,
    line("nbd_server_stop"),
    LISTED,
    start(),
]


def test_what_is_exported_is_in_use(served: TwoQmp) -> None:
    assert served.differing(USED) == ""


def test_the_clients_of_an_export_are_disconnected_by_force_only(both: TwoQmp) -> None:
    lines = [start(), export("e", "n2"), export("w", "n1", writable=True), old("d0")]
    assert both.differing(lines) == ""
    with ExitStack() as stack:
        clients = {
            name: [
                stack.enter_context(NbdClient(connected(side.folder / "nbd"), name, patience=PATIENCE))
                for side in (both.qemu, both.qmon)
            ]
            for name in ("e", "w", "d0")
        }

        def lost(client: NbdClient) -> bool:
            try:
                client.read(0, 512)
            except NbdError:
                return True
            return False

        def after(message: Message, *names: str) -> None:
            """Both say the same, in any order; these exports are gone, and each was told once."""
            for number, side in enumerate((both.qemu, both.qmon)):
                said = side.say(message)
                assert said[-1] in ({"return": {}}, {"return": ""})
                gone = [each["data"]["id"] for each in said[:-1]]
                while len(gone) < len(names):
                    gone += [each["data"]["id"] for each in side.say(("query-status",))[:-1]]
                assert sorted(gone) == sorted(names)
                for name in names:
                    eventually(lambda: lost(clients[name][number]), f"{name} has no clients")  # noqa: B023 - at once

        refused = [remove("e"), remove("e", mode="safe"), remove_old("d0"), remove_old("d0", mode="safe")]
        assert both.differing([*refused, LISTED]) == ""
        assert not any(lost(client) for each in clients.values() for client in each)
        after(remove("e", mode="hard"), "e")
        after(line("nbd_server_remove -f d0"), "d0")
        assert both.differing([LISTED]) == ""
        assert not any(lost(client) for client in clients["w"])
        after(STOP, "w")
        assert both.differing([LISTED]) == ""
