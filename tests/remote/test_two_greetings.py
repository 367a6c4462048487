"""A QEMU greets a client twice that connects while it starts."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from qmon.remote.address import parse_remote
from qmon.remote.greeting import Patience
from qmon.remote.opening import make_remote

GREETING = {
    "QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 0}, "package": ""}, "capabilities": []}
}
ANSWERS = {"qmp_capabilities": {}, "query-commands": [{"name": "query-status"}]}


async def greet_twice(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(2 * (json.dumps(GREETING).encode() + b"\r\n"))
    while sent := await reader.read(4096):  # the client waits for each answer
        command = json.loads(sent)
        answer = {"return": ANSWERS[command["execute"]], "id": command.get("id")}
        writer.write(json.dumps(answer).encode() + b"\r\n")
    writer.close()


def test_a_second_greeting_is_passed_over(tmp_path: Path) -> None:
    async def run() -> frozenset[str]:
        server = await asyncio.start_unix_server(greet_twice, tmp_path / "qmp")
        async with server:
            remote = make_remote(parse_remote(f"unix:{tmp_path}/qmp"), Patience())
            await remote.open()
            commands = remote.commands()
            await remote.close()
        return commands

    assert "query-status" in asyncio.run(run())
