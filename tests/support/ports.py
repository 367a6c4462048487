"""TCP ports for processes that are about to listen on them."""

from __future__ import annotations

import contextlib
import itertools
import socket
from collections.abc import Iterator
from functools import cache

FIRST_PORT, BLOCK_PORTS, BLOCKS = 11000, 100, 48
"""Below those that the system chooses from (ip_local_port_range): from 32768 on, in gVisor from 16000 on."""

ANNOUNCED_PORT = 4444

_claims: list[socket.socket] = []
"""What shows that a block of ports is this process's; it ends with the process."""


def free_port(wanted: int | None = None) -> int:
    """A port on which nobody listens. Raises OSError when the one wanted is taken.

    The system gives out none of these by itself, and each process of the tests has its own, each once in a
    while: nobody takes it between this and its use, nor while a listener is away for a moment.
    """
    if wanted is not None:
        _probe(wanted)
        return wanted
    for port in itertools.islice(_own_ports(), BLOCK_PORTS):
        with contextlib.suppress(OSError):
            _probe(port)
            return port
    raise OSError(f"none of {BLOCK_PORTS} ports is free")


@cache
def _own_ports() -> Iterator[int]:
    """This process's ports, again and again."""
    for first in range(FIRST_PORT, FIRST_PORT + BLOCKS * BLOCK_PORTS, BLOCK_PORTS):
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0qmon tests hold ports from {first}")
        except OSError:
            claim.close()
            continue
        _claims.append(claim)
        return itertools.cycle(range(first, first + BLOCK_PORTS))
    raise OSError(f"all {BLOCKS} blocks of ports are taken")


def _probe(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("0.0.0.0", port))


@contextlib.contextmanager
def announced_port() -> Iterator[int]:
    """The announcement's port, 4444; another one where another test or a stranger holds it."""
    with socket.socket(socket.AF_UNIX) as lock:
        try:
            lock.bind(f"\0qmon tests hold port {ANNOUNCED_PORT}")
            port = free_port(ANNOUNCED_PORT)
        except OSError:
            port = free_port()
        yield port
