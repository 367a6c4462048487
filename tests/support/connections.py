"""Connections to running programs, bare and with a monitor of qmon's, as ``-connect`` makes them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from qmon.hmp.editing.completion import complete
from qmon.hmp.monitor import Monitor
from qmon.remote.address import parse_remote
from qmon.remote.connection import Connection
from qmon.remote.greeting import Patience
from qmon.remote.opening import make_remote


@asynccontextmanager
async def connected(address: str) -> AsyncIterator[Connection]:
    """Connect as ``-connect`` does, and leave at the end."""
    remote = make_remote(parse_remote(address), Patience())
    await remote.open()
    try:
        yield remote
    finally:
        await remote.close()


@asynccontextmanager
async def connected_monitor(address: str) -> AsyncIterator[tuple[Connection, Monitor]]:
    """A monitor on such a connection."""
    async with connected(address) as remote:
        monitor = Monitor(remote)
        monitor.connected_to = address
        await monitor.meet_target()
        yield remote, monitor


async def words(monitor: Monitor, text: str) -> list[str]:
    """What may stand at the end of a text."""
    return [each.text for each in await complete(monitor, text)]
