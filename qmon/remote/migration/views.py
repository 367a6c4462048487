"""What of one side's disks can be compared: exports on QEMU's NBD server, and their readers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qmon.errors import CommandError
from qmon.nbd.client import ALLOCATION_DEPTH
from qmon.notation.plain_text import one_line
from qmon.qmp.target import Target, well_formed
from qmon.remote.migration.checksums import Digester, Range, read_ranges
from qmon.remote.migration.message import Members
from qmon.remote.migration.private_server import PrivateServer
from qmon.remote.remote import Remote

VIEWS_MAX = 256
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
        if name not in self.server.exports or len(self._digesters) >= VIEWS_MAX:
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


async def start_server(server: PrivateServer, side: str) -> None:
    """Start a server by which disks are compared. Raises CommandError, which says how to do without."""
    try:
        await server.start()
    except CommandError as error:
        raise CommandError(
            f"the disks can't be compared: the {side}'s QEMU says: {one_line(str(error))}: end its NBD server"
            " with 'nbd_server_stop'"
        ) from error


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
