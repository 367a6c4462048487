from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from qmon.address import UnixAddress, listen
from qmon.hmp.monitor import Monitor
from qmon.hmp.readline import HISTORY_MAX, LINE_MAX, Key, Readline, columns, common_prefix
from qmon.hmp.socket_monitor import SocketMonitor
from qmon.version import VERSION
from tests.hmp.fake import NODE, FakeMachine

PROMPT = b"(qemu) "
ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Client:
    """Reads up to the prompt, as scripts do."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, path: Path) -> Client:
        client = cls(*await asyncio.open_unix_connection(path))
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
        server = SocketMonitor(Monitor(machine.registry), listen(UnixAddress(str(path))))
        await server.start()
        try:
            await use(path, machine)
        finally:
            await server.stop()

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
        assert await client.press(b"info name\n") == "info name\x1b[K\r\nweb1\r\n(qemu) "
        client.writer.write(b"inf")
        await client.writer.drain()
        await asyncio.sleep(0.1)
        assert await client.press(b"o name\n") == (
            "inf\x1b[K\x1b[D\x1b[D\x1b[Dinfo name\x1b[K\r\nweb1\r\n(qemu) "
        )
        await client.close()

    served(tmp_path, use)


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
        assert "\r\ndrive_add  drive_del  \r\n(qemu) " in listed
        machine.blocks.append({"device": "d10", "inserted": NODE})
        assert "d0        d10" in await client.press(b"del \t")
        assert await client.command("\x15info name") == "web1"
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
        listener = listen(UnixAddress(str(tmp_path / "m.sock")))
        server = SocketMonitor(Monitor(machine.registry), listener)
        await server.start()
        idle = await Client.connect(tmp_path / "m.sock")
        busy = await Client.connect(tmp_path / "m.sock")
        busy.writer.write(b"migrate tcp:0:4444\n")
        while not machine.calls:  # noqa: ASYNC110 - the machine has nothing to wait for
            await asyncio.sleep(0.01)
        await asyncio.wait_for(server.stop(), 5)
        assert await idle.rest() == b""
        await busy.rest()
        with pytest.raises(OSError, match="refused"), socket.socket(socket.AF_UNIX) as probe:
            probe.connect(str(tmp_path / "m.sock"))
        await idle.close()
        await busy.close()

    asyncio.run(run())


def typed(keys: str, editor: Readline | None = None) -> Readline:
    editor = editor or Readline("> ")
    for key in keys:
        if editor.feed(key) is Key.ENTER:
            editor.take_line()
    return editor


@pytest.mark.parametrize(
    ("keys", "line", "cursor"),
    [
        ("abc\x1b[D\x1b[DX", "aXbc", 2),
        ("abc\x01X\x05Y", "XabcY", 5),
        ("abc\x02\x02\x0b", "a", 1),
        ("abc\x02\x15", "c", 0),
        ("abc def \x17", "abc ", 4),
        ("abc\x7f\x08", "a", 1),
        ("abc\x1b[H\x1b[3~\x04", "c", 0),
        ("abc\x1b[1~\x06\x1b[4~Z", "abcZ", 4),
        ("abc\x1bOD\x1bOCx", "abcx", 4),
        ("one\rtwo\r\x10", "two", 3),
        ("one\rtwo\r\x1b[A\x1b[A", "one", 3),
        ("one\rtwo\r\x10\x10\x10\x0e", "two", 3),
        ("one\rtwo\r\x10\x0e", "", 0),
        ("\x1b[1;5D\x00\x1bzx", "x", 1),
    ],
)
def test_the_editing_keys_edit(keys: str, line: str, cursor: int) -> None:
    editor = typed(keys)
    assert (editor.line, editor.cursor) == (line, cursor)


def test_the_history_keeps_the_last_lines_once_each() -> None:
    editor = typed("".join(f"line {number}\r" for number in range(100)) + "line 50\r\r")
    assert len(editor.history) == HISTORY_MAX
    assert editor.history[-2:] == ["line 99", "line 50"]


def test_a_line_is_cut_at_its_most() -> None:
    assert len(typed("x" * (LINE_MAX + 10)).line) == LINE_MAX


def test_an_update_is_what_turns_the_old_line_into_the_new() -> None:
    editor = typed("abc")
    assert editor.update() == "abc\x1b[K"
    assert typed("\x02\x02", editor).update() == "\x1b[D\x1b[D"
    assert typed("X", editor).update() == "\x1b[DaXbc\x1b[K\x1b[D\x1b[D"
    assert editor.update() == ""
    assert editor.show_prompt() == "> aXbc\x1b[K\x1b[D\x1b[D"


def test_completions_are_laid_out_in_columns() -> None:
    assert columns(["stats", "status"]) == ["stats     status    "]
    assert columns(["a" * 38, "b", "c"]) == ["a" * 38 + "  " + "b".ljust(40), "c".ljust(40)]
    assert common_prefix(["status", "stats", "stab"]) == "sta"
