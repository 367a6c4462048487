"""A monitor of qmon's on a connection to a running program, for tests of what it answers and completes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from qmon.hmp.editing.completion import complete
from qmon.hmp.monitor import Monitor
from qmon.remote.address import parse_remote
from qmon.remote.greeting import Patience
from qmon.remote.opening import make_remote
from qmon.remote.remote import Remote


@asynccontextmanager
async def connected_monitor(address: str) -> AsyncIterator[tuple[Remote, Monitor]]:
    """Connect as ``-connect`` does, and leave at the end."""
    remote = make_remote(parse_remote(address), Patience())
    await remote.open()
    try:
        monitor = Monitor(remote)
        monitor.connected_to = address
        await monitor.meet_target()
        yield remote, monitor
    finally:
        await remote.close()


async def words(monitor: Monitor, text: str) -> list[str]:
    """What may stand at the end of a text."""
    return [each.text for each in await complete(monitor, text)]
