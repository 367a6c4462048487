"""The first line of each connection to a destination's console, and its answer. No byte behind it is read.

The line is a JSON object: ``qmon-migration`` is the version, ``connection`` one of KINDS, ``id`` the
migration's; a disk's has ``export``. The answer is one JSON line, too: ``return`` or ``error``. Behind it
come the messages of the consoles (``qmon.remote.migration.wire.channel``), NBD, or QEMU's migration stream.
"""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

from qmon.errors import QmonError
from qmon.notation.plain_text import one_line
from qmon.notation.strangers import excerpt, protocol_of

VERSION = 1
VERSION_KEY = "qmon-migration"
CONTROL, DISK, MEMORY = "control", "disk", "memory"
KINDS = (CONTROL, DISK, MEMORY)

LINE_BYTES_MAX = 4096
PATIENCE_SECONDS = 10.0
"""How long the other side may take for its line."""


async def open_connection(sock: socket.socket, kind: str, migration: str, export: str = "") -> None:
    """Send the first line, and read its answer. Raises QmonError, OSError."""
    line: dict[str, Any] = {VERSION_KEY: VERSION, "connection": kind, "id": migration}
    if export:
        line["export"] = export
    loop = asyncio.get_running_loop()
    sock.setblocking(False)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await loop.sock_sendall(sock, json.dumps(line).encode() + b"\n")
        answer = await _read_object(sock)
    if "error" in answer:
        raise QmonError(one_line(str(answer["error"])))
    if answer.get("return") != {VERSION_KEY: VERSION}:
        raise QmonError("the other side speaks another version of qmon's migration between QEMUs")


async def read_first_line(sock: socket.socket) -> dict[str, Any]:
    """Read the first line of a connection. Raises QmonError, OSError, TimeoutError."""
    sock.setblocking(False)
    async with asyncio.timeout(PATIENCE_SECONDS):
        line = await _read_object(sock)
    if line.get(VERSION_KEY) != VERSION:
        raise QmonError("it speaks another version of qmon's migration between QEMUs")
    fits = line.get("connection") in KINDS and isinstance(line.get("id"), str)
    if not fits or not isinstance(line.get("export", ""), str):
        raise QmonError("its first line is none of a migration between QEMUs")
    return line


async def answer(sock: socket.socket, error: str = "") -> None:
    """Answer the first line. Raises OSError."""
    text = json.dumps({"error": error} if error else {"return": {VERSION_KEY: VERSION}})
    async with asyncio.timeout(PATIENCE_SECONDS):
        await asyncio.get_running_loop().sock_sendall(sock, text.encode() + b"\n")


async def _read_object(sock: socket.socket) -> dict[str, Any]:
    """Read one line that holds a JSON object."""
    line = bytearray()
    while not line.endswith(b"\n"):
        if len(line) >= LINE_BYTES_MAX or (len(line) >= 4 and not line.startswith(b"{")):
            raise QmonError(_stranger(bytes(line)))
        # One byte after the other: what follows the line is for somebody else.
        byte = await asyncio.get_running_loop().sock_recv(sock, 1)
        if not byte:
            raise QmonError("it closed the connection" + (f" after {excerpt(bytes(line))}" if line else ""))
        line += byte
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise QmonError(_stranger(bytes(line))) from error
    if not isinstance(value, dict):
        raise QmonError(_stranger(bytes(line)))
    return value


def _stranger(first: bytes) -> str:
    protocol = protocol_of(first)
    who = f"{protocol} peer" if protocol else f"a program that sends {excerpt(first)}"
    hint = ""
    if first.startswith(b"QEVM"):
        hint = (
            ": a migration without disks, or one of an embedded machine. Here arrive the guests of QEMUs"
            " that a qmon console sends by 'migrate blk'"
        )
    return f"it is {who}, not a qmon console on a QEMU{hint}"
