"""Any number of clients on every kind of QMP monitor; those that are slow or broken disturb nobody."""

from __future__ import annotations

import contextlib
import json
import socket
from pathlib import Path

from tests.support.images import MIB, blank, drive
from tests.support.ports import free_port
from tests.support.process_memory import MEMORY_MAX, peak
from tests.support.processes import Lab
from tests.support.qmp_client import QmpClient
from tests.support.waiting import connect_when_there

CLIENTS = 100


def tcp(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port))


def test_a_hundred_are_served_beside_one_that_never_reads_and_one_that_sends_byte_after_byte(
    lab: Lab,
) -> None:
    qmon = lab.start("qmon", *drive(blank(lab.folder / "disk.img", MIB)))
    with contextlib.ExitStack() as stack:
        deaf = stack.enter_context(QmpClient(qmon.qmp_path))
        deaf.socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                deaf.socket.send(b'{"execute": "query-qmp-schema"}' * 100)
        slow = stack.enter_context(QmpClient(qmon.qmp_path))
        told = iter(b'{"execute": "query-name", "id": "' + b"x" * CLIENTS * 2 + b'"}')
        clients = [stack.enter_context(QmpClient(qmon.qmp_path)) for _ in range(CLIENTS)]
        for number, client in enumerate(clients):
            slow.socket.sendall(bytes([next(told)]))
            client.socket.sendall(b'{"execute": "query-status", "id": %d}' % number)
        for number, client in enumerate(clients):
            slow.socket.sendall(bytes([next(told)]))
            assert client.answer()["id"] == number
        assert clients[0].run("stop") == {}
        for client in clients:
            client.run("query-name")
            assert client.event_names == ["STOP"]
        slow.socket.sendall(bytes(told))
        assert slow.answer()["id"] == "x" * CLIENTS * 2
        assert peak(qmon) < MEMORY_MAX


def test_each_kind_of_monitor_takes_several(lab: Lab, tmp_path: Path) -> None:
    port = free_port()
    qmon = lab.start(
        *("qmon", "-qmp", f"tcp:127.0.0.1:{port},server,nowait"),
        *("-qmp-pretty", f"unix:{tmp_path}/pretty,server,nowait"),
        *("-chardev", f"socket,id=c0,path={tmp_path}/mon,server=on,wait=off"),
        *("-mon", "chardev=c0,mode=control"),
    )
    qmon.status()
    with contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(QmpClient(where))
            for _ in range(3)
            for where in (qmon.qmp_path, tcp(port), tmp_path / "mon")
        ]
        pretty = [stack.enter_context(connect_when_there(tmp_path / "pretty")) for _ in range(2)]
        for client in clients:
            assert client.run("query-status")["status"] == "running"
        for sock in pretty:
            lines = sock.makefile("rb")
            assert json.loads(b"".join(iter(lines.readline, b"}\r\n")) + b"}")["QMP"]["capabilities"] == [
                "oob"
            ]
            sock.sendall(b"{'execute': 'qmp_capabilities'}")
            assert [lines.readline() for _ in range(4)] == [
                b"{\r\n",
                b'    "return": {\r\n',
                b"    }\r\n",
                b"}\r\n",
            ]
        clients[0].run("stop")
        for client in clients:
            client.run("query-name")
            assert client.event_names == ["STOP"]
