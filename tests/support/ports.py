"""TCP ports for processes that are about to listen on them."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import socket
import time
from collections.abc import Iterator

FIRST_PORT, WORKER_PORTS = 20000, 3000
"""Below those that the system chooses from (Linux, ip_local_port_range)."""

ANNOUNCED_PORT = 4444

_numbers = itertools.count(random.randrange(WORKER_PORTS))


def free_port(wanted: int | None = None) -> int:
    """A port on which nobody listens. Raises OSError when the one wanted is taken.

    The system gives out none of these by itself, and each worker of the tests has its own, each once in a
    long while: nobody takes it between this and its use.
    """
    if wanted is not None:
        _probe(wanted)
        return wanted
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    for number in itertools.islice(_numbers, WORKER_PORTS):
        port = FIRST_PORT + worker * WORKER_PORTS + number % WORKER_PORTS
        with contextlib.suppress(OSError):
            _probe(port)
            return port
    raise OSError(f"none of {WORKER_PORTS} ports is free")


def _probe(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("0.0.0.0", port))


@contextlib.contextmanager
def announced_port() -> Iterator[int]:
    """The announcement's port, 4444, for one test at a time; another one where a stranger holds it."""
    with socket.socket(socket.AF_UNIX) as lock:
        deadline = time.monotonic() + 60
        while True:
            try:
                lock.bind(f"\0qmon tests hold port {ANNOUNCED_PORT}")
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        try:
            yield free_port(ANNOUNCED_PORT)
        except OSError:
            yield free_port()
