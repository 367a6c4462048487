"""What of one side's disks can be compared: exports on QEMU's NBD server, and their readers."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from qmon.errors import CommandError, ConnectionLostError
from qmon.nbd.client import ALLOCATION_DEPTH
from qmon.notation.plain_text import one_line
from qmon.qmp.target import Target, well_formed
from qmon.remote.migration.lines.private_server import PrivateServer
from qmon.remote.migration.proof.checksums import Digester, Range, read_ranges
from qmon.remote.migration.wire.message import Members, MessageError
from qmon.remote.remote import Remote

VIEWS_MAX = 256
SHOWN = "shown"
"""The request to end all exports that were made before anything is copied."""
DIGESTS = "digests"
"""The request for digests, of which ``Views.answer`` is the answer."""


class Views:
    """Readers of exports by the names of these. ``close`` ends them all."""

    def __init__(self, server: PrivateServer) -> None:
        self.server = server
        self._digesters: dict[str, Digester] = {}

    async def export(self, node: str, name: str, *, allocation_depth: bool = False) -> Digester:
        """Export a node read-only, and make its reader. Raises QmonError."""
        await self.server.export(node, name, allocation_depth=allocation_depth)
        return await self.open(name, allocation_depth=allocation_depth)

    async def open(self, name: str, *, allocation_depth: bool = False) -> Digester:
        """Make the reader of an export that is there. Raises QmonError."""
        if name not in self.server.exports or name in self._digesters or len(self._digesters) >= VIEWS_MAX:
            raise CommandError(f"there is no export '{one_line(name)}' to compare")
        contexts = (ALLOCATION_DEPTH,) if allocation_depth else ()
        digester = self._digesters[name] = Digester(self.server.connect, name, contexts)
        await digester.open()
        return digester

    def __getitem__(self, name: str) -> Digester:
        """Raises CommandError if there is no such reader."""
        found = self._digesters.get(name)
        if found is None:
            raise CommandError(f"there is no export '{one_line(name)}' to compare")
        return found

    async def close(self) -> None:
        """End the readers; idempotent."""
        digesters, self._digesters = self._digesters, {}
        for each in digesters.values():
            await each.close()

    async def answer(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Answer the other side's question for digests. Raises QmonError."""
        message = Members(arguments, "a question about disks")
        digester = self[message.text("view")]
        ranges = read_ranges(message, digester.size)
        found = await digester.digests(ranges, message.number("milliseconds", MILLISECONDS_MAX) / 1000)
        return {"digests": found}


MILLISECONDS_MAX = 600_000


def question(view: str, ranges: list[Range], seconds: float) -> dict[str, Any]:
    """Return the arguments of ``DIGESTS``."""
    return {"view": view, "ranges": ranges, "milliseconds": round(seconds * 1000)}


def read_nodes(message: Members) -> tuple[str, ...]:
    """Read the ``nodes`` that the other side wants to see, each once. Raises MessageError."""
    nodes = message.texts("nodes", VIEWS_MAX)
    if len(set(nodes)) < len(nodes):
        raise MessageError("a node is named twice")
    return nodes


async def start_server(server: PrivateServer, side: str) -> None:
    """Start a server by which disks are compared. Raises CommandError, which says how to do without."""
    try:
        await server.start()
    except CommandError as error:
        raise CommandError(
            f"the disks can't be compared: the {side}'s QEMU says: {one_line(str(error))}: end its NBD server"
            " with 'nbd_server_stop'"
        ) from error


@asynccontextmanager
async def exports_before(
    remote: Remote, ask: Callable[[str, Mapping[str, Any]], Awaitable[Any]]
) -> AsyncIterator[Views]:
    """Make exports at the source for a block that compares before anything is copied. Raises QmonError.

    The destination's console is told at the end to remove its own.
    """
    views = Views(PrivateServer(remote))
    try:
        await start_server(views.server, "source")
        yield views
    finally:
        await stop_server(remote, views.server)  # first: else an older QEMU may fail
        await views.close()
        with contextlib.suppress(ConnectionLostError):  # then its console ends them by itself
            await ask(SHOWN, {})


async def stop_server(remote: Remote, server: PrivateServer) -> None:
    """Stop it; idempotent. Raises CommandError, but not because the QEMU has ended."""
    if remote.peer_has_ended:
        server.forget()
    else:
        await server.stop()


async def backing_nodes(target: Target) -> dict[str, str]:
    """Return the backing node of each node that has one, by their names. Raises CommandError."""
    graph = await target.execute("x-debug-query-block-graph")
    with well_formed():
        names = {node["id"]: node["name"] for node in graph["nodes"]}
        edges = [edge for edge in graph["edges"] if edge["name"] == "backing"]
        return {names[edge["parent"]]: names[edge["child"]] for edge in edges}
