"""A connection to a QEMU besides its commands: descriptors, a copy of it, the process at its end."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from qmon.errors import CommandError
from qmon.host.peer_process import peer_process
from qmon.remote.address import parse_remote
from qmon.remote.greeting import Patience
from qmon.remote.opening import make_remote
from tests.support.connections import connected
from tests.support.peer import Peer
from tests.support.qmp_client import QmpClient
from tests.support.strange_server import StrangeServer
from tests.support.waiting import eventually


def test_a_descriptor_is_passed_and_used(qemu: Peer) -> None:
    async def run() -> None:
        async with connected(f"unix:{qemu.qmp_path}") as remote:
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(str(qemu.folder / "nbd"))
                listener.listen()
                assert remote.can_pass_descriptors
                busy = [asyncio.create_task(remote.execute("query-block")) for _ in range(8)]
                await remote.pass_descriptor("qmon-nbd", listener.fileno())
                await asyncio.gather(*busy)
            await remote.execute("nbd-server-start", {"addr": {"type": "fd", "data": {"str": "qmon-nbd"}}})
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(qemu.folder / "nbd"))
                assert (await asyncio.to_thread(client.recv, 8)) == b"NBDMAGIC"

    asyncio.run(run())


def test_where_none_can_be_passed_it_is_said(qemu: Peer) -> None:
    async def run() -> None:
        address = parse_remote(f"unix:{qemu.qmp_path}")
        brief = make_remote(address, Patience(), is_brief=True)
        await brief.open()
        assert not brief.can_pass_descriptors
        assert brief.duplicate() is None
        with pytest.raises(CommandError, match="can't pass file descriptors"):
            await brief.pass_descriptor("qmon-x", 0)
        await brief.close()

    asyncio.run(run())


def test_a_copy_keeps_the_connection_up(qemu: Peer) -> None:
    async def run() -> socket.socket:
        async with connected(f"unix:{qemu.qmp_path}") as remote:
            copy = remote.duplicate()
            assert copy is not None
        assert remote.duplicate() is None
        return copy

    copy = asyncio.run(run())
    copy.setblocking(True)
    copy.sendall(b'{"execute": "query-status", "id": "by the copy"}\r\n')
    with copy, copy.makefile("rb") as lines:
        assert b'"id": "by the copy"' in lines.readline()
    with QmpClient(qemu.qmp_path):
        pass


def test_the_end_of_its_process_is_known_and_nothing_else_is_taken_for_it(qemu: Peer) -> None:
    async def run() -> None:
        async with connected(f"unix:{qemu.qmp_path}") as remote:
            assert remote.peer_pid == qemu.process.pid
            assert not remote.peer_has_ended
            copy = remote.duplicate()
            assert copy is not None
            copy.shutdown(socket.SHUT_RDWR)
            copy.close()
            await asyncio.to_thread(eventually, lambda: bool(remote.why_lost), "the connection is lost")
            assert not remote.peer_has_ended
            qemu.process.kill()
            await asyncio.to_thread(eventually, lambda: remote.peer_has_ended, "its end is known")
            assert remote.peer_pid == qemu.process.pid
        assert remote.peer_has_ended

    asyncio.run(run())


def test_a_launcher_is_not_taken_for_the_program_that_it_has_started(tmp_path: Path) -> None:
    accept = "import socket, sys; peer, _ = socket.socket(fileno=int(sys.argv[1])).accept(); peer.recv(1)"
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(str(tmp_path / "qmp of a guest"))
        listener.listen()
        number = listener.fileno()
        with subprocess.Popen([sys.executable, "-c", accept, str(number)], pass_fds=[number]) as child:
            client.connect(str(tmp_path / "qmp of a guest"))
            assert peer_process(client) is None
            client.sendall(b"x")
            assert child.wait() == 0


def test_a_process_that_serves_its_own_socket_is_known_by_any_name(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(str(tmp_path / "qmp of a guest"))
        listener.listen()
        client.connect(str(tmp_path / "qmp of a guest"))
        served, _ = listener.accept()
        with served:
            peer = peer_process(client)
            assert peer is not None
            assert (peer.pid, peer.has_ended) == (os.getpid(), False)
            peer.close()


def test_what_can_not_be_run_out_of_band_is_said_in_one_line(qemu: Peer, tmp_path: Path) -> None:
    async def run() -> list[str]:
        said = []
        with StrangeServer(tmp_path / "strange", {"query-yank": []}):  # it offers no oob
            for path, command in ((qemu.qmp_path, "query-status"), (tmp_path / "strange", "query-yank")):
                async with connected(f"unix:{path}") as remote:
                    with pytest.raises(CommandError) as caught:
                        await remote.execute_out_of_band(command)
                    said.append(str(caught.value))
        return said

    assert asyncio.run(run()) == [
        "The command query-status does not support OOB",
        "query-yank can't run beside another command: this connection has no 'oob'",
    ]
