"""A QMP server with commands of a test's own, and clients that write what they like."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from qmon.chardev.sockets import SocketChardev
from qmon.errors import DeviceNotFoundError
from qmon.notation.qapi import Schema, default_schema
from qmon.qmp.registry import Registry, command
from qmon.qmp.server import QmpServer
from tests.support.waiting import PATIENCE

SCHEMA = """
{ 'command': 'echo', 'data': { '*value': 'any' }, 'returns': 'any' }
{ 'command': 'nothing' }
{ 'command': 'emit', 'data': { 'name': 'str', '*data': 'any' } }
{ 'command': 'wait' }
{ 'command': 'fail', 'data': { 'name': 'str' } }
{ 'command': 'break' }
{ 'command': 'unsendable', 'returns': 'any' }
"""


class Commands:
    """What the server serves here."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.entered = asyncio.Event()
        self.may_end = asyncio.Event()
        self.ended = 0

    @command("echo")
    async def echo(self, value: Any = None) -> Any:
        return {"value": value}

    @command("nothing")
    async def nothing(self) -> None:
        pass

    @command("emit")
    async def emit(self, name: str, data: dict[str, Any] | None = None) -> None:
        self._registry.events.emit(name, data)

    @command("wait")
    async def wait(self) -> dict[str, Any]:
        self.entered.set()
        await self.may_end.wait()
        self.ended += 1
        return {}

    @command("migrate-pause")
    async def migrate_pause(self) -> None:
        pass

    @command("fail")
    async def fail(self, name: str) -> None:
        raise DeviceNotFoundError(name)

    @command("break")
    async def break_(self) -> None:
        raise ZeroDivisionError("a fault of ours")

    @command("unsendable")
    async def unsendable(self) -> object:
        return object()


class Client:
    """A client that reads and writes lines."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def read(self) -> Any:
        line = await asyncio.wait_for(self.reader.readline(), PATIENCE)
        assert line.endswith(b"\r\n"), f"not a line: {line!r}"
        return json.loads(line)

    def write(self, message: Any) -> None:
        self.writer.write(message if isinstance(message, bytes) else json.dumps(message).encode())

    async def ask(self, message: Any) -> Any:
        self.write(message)
        return await self.read()

    async def execute(self, name: str, **arguments: Any) -> Any:
        return await self.ask({"execute": name, "arguments": arguments})

    async def negotiate(self) -> None:
        assert "QMP" in await self.read()
        assert await self.ask({"execute": "qmp_capabilities"}) == {"return": {}}

    async def at_end(self) -> bool:
        return await asyncio.wait_for(self.reader.read(), PATIENCE) == b""

    async def close(self) -> None:
        self.writer.close()
        await self.writer.wait_closed()


class House:
    """A running server, and a way to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.registry = Registry(schema=Schema({**default_schema().texts, "test": SCHEMA}))
        self.commands = Commands(self.registry)
        self.registry.add_from(self.commands)
        address = {"type": "unix", "data": {"path": str(path)}}
        self.server = SocketChardev("qmp", {"addr": address})
        self.server.attach(QmpServer(self.registry).serve)

    async def connect(self) -> Client:
        return Client(*await asyncio.open_unix_connection(self.path, limit=1 << 24))

    @asynccontextmanager
    async def client(self, *, negotiated: bool = True) -> AsyncIterator[Client]:
        client = await self.connect()
        if negotiated:
            await client.negotiate()
        yield client
        await client.close()


Scene = Callable[[House], Awaitable[None]]


Play = Callable[[Scene], None]


async def run_scene(scene: Scene, path: Path) -> None:
    """Run a scene in a house whose server ends with it."""
    house = House(path)
    await house.server.open()
    try:
        await asyncio.wait_for(scene(house), 2 * PATIENCE)
    finally:
        await house.server.close()
