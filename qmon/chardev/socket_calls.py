"""Calls on sockets for the loop: accepting a client, naming both ends."""

from __future__ import annotations

import asyncio
import socket


async def accept(listener: socket.socket) -> socket.socket:
    """Accept a client. The loop's ``sock_accept`` loses a client that connects while it is cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            return listener.accept()[0]
        except (BlockingIOError, InterruptedError):
            ready = asyncio.Event()
            loop.add_reader(listener, ready.set)
            try:
                await ready.wait()
            finally:
                loop.remove_reader(listener)


def ends(sock: socket.socket) -> str:
    """Return both ends of a TCP connection, ours first; for a Unix socket its path."""
    if sock.family == socket.AF_UNIX:
        return str(sock.getsockname())
    shown = []
    for name in (sock.getsockname, sock.getpeername):
        try:
            host, port = name()[:2]
        except OSError:  # already disconnected
            host, port = "", 0
        shown.append(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    return " <-> ".join(shown)
