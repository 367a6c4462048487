from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from qmon.chardev.sockets import SocketChardev
from qmon.hmp.fronts.socket_monitor import SocketMonitor
from qmon.hmp.monitor import Monitor
from qmon.version import VERSION
from tests.support.fake_target import NODE, FakeMachine

PROMPT = b"(qemu) "
ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Client:
    """Reads up to the prompt, as scripts do."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, path: Path) -> Client:
        client = cls(*await asyncio.open_unix_connection(path, limit=1 << 20))
        client.greeting = await client.read()
        return client

    greeting = ""

    async def read(self) -> str:
        data = await asyncio.wait_for(self._reader.readuntil(PROMPT), 10)
        return data.decode("utf-8", "surrogateescape")

    async def press(self, keys: bytes) -> str:
        """Send keys; return everything up to the next prompt, as it came."""
        self.writer.write(keys)
        return await self.read()

    async def command(self, line: str) -> str:
        text = ANSI.sub("", await self.press(line.encode() + b"\n")).replace("\r", "")
        return "\n".join(text.split("\n")[1:-1])

    async def rest(self) -> bytes:
        return await asyncio.wait_for(self._reader.read(), 10)

    async def close(self) -> None:
        self.writer.close()
        await asyncio.gather(self.writer.wait_closed(), return_exceptions=True)


def served(tmp_path: Path, use: Callable[[Path, FakeMachine], Awaitable[None]]) -> None:
    """Run a socket monitor on a fake machine while ``use`` talks to it."""

    async def run() -> None:
        machine = FakeMachine()
        path = tmp_path / "m.sock"
        server = SocketChardev("monitor", {"addr": {"type": "unix", "data": {"path": str(path)}}})
        await server.open()
        server.attach(SocketMonitor(Monitor(machine.registry)).serve)
        try:
            await use(path, machine)
        finally:
            await server.close()

    asyncio.run(run())


def test_it_greets_answers_and_prompts(tmp_path: Path) -> None:
    async def use(path: Path, machine: FakeMachine) -> None:
        client = await Client.connect(path)
        greeting = f"qmon {VERSION} monitor - type 'help' for more information\r\n(qemu) "
        assert client.greeting == greeting
        assert await client.command("stop") == ""
        assert await client.command("info status") == "VM status: paused"
        assert await client.command("# info status") == "unknown command: '#'"
        assert await client.command("info history") == (
            "0: 'stop'\n1: 'info status'\n2: '# info status'\n3: 'info history'"
        )
        assert await client.press(b"\n") == "\r\n(qemu) "
        await client.close()

    served(tmp_path, use)


def test_lines_end_with_cr_lf_and_typing_is_echoed(tmp_path: Path) -> None:
    async def use(path: Path, machine: FakeMachine) -> None:
        client = await Client.connect(path)
        assert await client.press(b"q x\n") == (
            "q\x1b[K\x1b[Dq \x1b[K\x1b[D\x1b[Dq x\x1b[K\r\n"
            "quit|q: extraneous characters at the end of line\r\n"
            'Try "help q" for more information\r\n(qemu) '
        )
        await client.close()

    served(tmp_path, use)


class OneLine:
    """A client that sends a line and disconnects; it counts what is sent to it."""

    def __init__(self, line: bytes) -> None:
        self._line = line
        self.pieces: list[bytes] = []

    async def read(self, limit: int = 65536) -> bytes:
        line, self._line = self._line, b""
        return line

    def write(self, data: bytes) -> None:
        self.pieces.append(data)

    async def drain(self) -> None:
        """Everything is taken at once."""


def test_a_long_answer_is_sent_in_one_piece() -> None:
    client = OneLine(b"help\n")
    asyncio.run(SocketMonitor(Monitor(FakeMachine().registry)).serve(client))
    lines = b"".join(client.pieces).count(b"\r\n")
    assert lines > 100
    assert len(client.pieces) < 5


def test_lines_sent_at_once_run_one_after_another(tmp_path: Path) -> None:
    async def use(path: Path, machine: FakeMachine) -> None:
        client = await Client.connect(path)
        client.writer.write(b"stop\ninfo status\ncont\ninfo status\n")
        answers = [ANSI.sub("", await client.read()) for _ in range(4)]
        assert "paused" in answers[1]
        assert "running" in answers[3]
        await client.close()

    served(tmp_path, use)


def test_tab_completes_or_lists(tmp_path: Path) -> None:
    async def use(path: Path, machine: FakeMachine) -> None:
        client = await Client.connect(path)
        assert "info name \x1b[K\r\nweb1" in await client.press(b"info na\t\n")
        listed = await client.press(b"drive_\t")
        assert "\r\ndrive_add     drive_backup  drive_del     drive_mirror  \r\n(qemu) " in listed
        machine.blocks.append({"device": "d10", "inserted": NODE})
        assert "d0        d10" in await client.press(b"del \t")
        assert await client.command("\x17\x17info name") == "web1"
        await client.close()

    served(tmp_path, use)


def test_quit_closes_the_connection(tmp_path: Path) -> None:
    async def use(path: Path, machine: FakeMachine) -> None:
        client = await Client.connect(path)
        client.writer.write(b"quit\nstop\n")
        assert (await client.rest()).endswith(b"\r\n")
        assert machine.running
        await client.close()

    served(tmp_path, use)


def test_clients_harm_nobody_but_themselves(tmp_path: Path) -> None:
    async def use(path: Path, machine: FakeMachine) -> None:
        good = await Client.connect(path)
        half = await Client.connect(path)
        half.writer.write(b"info sta")
        gone = await Client.connect(path)
        gone.writer.write(b"info block\n" * 100)
        gone.writer.transport.abort()
        binary = await Client.connect(path)
        binary.writer.write(bytes(range(256)).replace(b"\n", b"").replace(b"\t", b"") * 10 + b"\n")
        await binary.read()
        long = await Client.connect(path)
        long.writer.write(b"x" * (1 << 20) + b"\n")
        assert "unknown command" in await long.read()
        silent = await Client.connect(path)
        assert await good.command("info status") == "VM status: running"
        assert await half.command("tus") == "VM status: running"
        for client in (half, binary, long, silent, good):
            await client.close()
        again = await Client.connect(path)
        assert await again.command("info name") == "web1"
        await again.close()

    served(tmp_path, use)


def test_waiting_shows_the_per_cent(tmp_path: Path) -> None:
    async def use(path: Path, machine: FakeMachine) -> None:
        disk = {"transferred": 1, "remaining": 3, "total": 4}
        machine.migration = [{"status": "active", "disk": disk}, {"status": "completed"}]
        client = await Client.connect(path)
        assert "Completed 25 %\r\r\n(qemu) " in await client.press(b"migrate -b tcp:0:4444\n")
        await client.close()

    served(tmp_path, use)


def test_stopping_closes_every_connection_also_in_the_middle_of_a_command(tmp_path: Path) -> None:
    async def run() -> None:
        machine = FakeMachine()
        machine.migration = [{"status": "active"}]
        path = str(tmp_path / "m.sock")
        server = SocketChardev("monitor", {"addr": {"type": "unix", "data": {"path": path}}})
        await server.open()
        server.attach(SocketMonitor(Monitor(machine.registry)).serve)
        idle = await Client.connect(tmp_path / "m.sock")
        busy = await Client.connect(tmp_path / "m.sock")
        busy.writer.write(b"migrate tcp:0:4444\n")
        while not machine.calls:  # noqa: ASYNC110 - the machine has nothing to wait for
            await asyncio.sleep(0.01)
        await asyncio.wait_for(server.close(), 5)
        assert await idle.rest() == b""
        await busy.rest()
        with pytest.raises(OSError, match="No such file"), socket.socket(socket.AF_UNIX) as probe:
            probe.connect(str(tmp_path / "m.sock"))
        await idle.close()
        await busy.close()

    asyncio.run(run())
