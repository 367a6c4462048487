"""What a console's relay costs a mirror between two QEMUs: a disk by TCP on loopback, with and without it.

    python -m bench.relay [--size-mib 1024] [--runs 5]

QEMU 10 mirrors a disk (blockdev-mirror, sync full) to an NBD export of another QEMU 10, in turn: straight to
that QEMU's TCP port; to a port of this program, which relays to the QEMU's Unix socket, as the destination's
console does; and with a second relay at the source. The images are in memory. CPU times are those of the run,
in seconds; the relay's is this program's.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import astuple, dataclass
from pathlib import Path

from bench import ground, results
from bench.results import Column
from qmon.remote.migration.lines.relay import Relay
from tests.support.ports import free_port
from tests.support.qmp_client import QmpClient

QEMU = ["/opt/qemu10/run", "qemu-system-x86_64", "-M", "none", "-nodefaults", "-display", "none", "-S"]
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Outcome:
    """A mirror: its rate in MB/s, and CPU seconds of the source's QEMU, the destination's, and the relays."""

    rate: float
    source: float
    destination: float
    relay: float


class Qemu:
    """A QEMU with one disk, the node ``disk``."""

    def __init__(self, folder: Path, name: str, image: Path) -> None:
        path = folder / f"{name}.qmp"
        node = f"driver=raw,node-name=disk,file.driver=file,file.filename={image},discard=unmap"
        self.process = subprocess.Popen([*QEMU, "-blockdev", node, "-qmp", f"unix:{path},server,nowait"])
        self.qmp = QmpClient(path)

    def cpu(self) -> float:
        """CPU seconds so far, of all its threads."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def close(self) -> None:
        self.qmp.close()
        self.process.kill()
        self.process.wait()


class Listener:
    """Accepts connections, and relays each to what ``connect`` returns."""

    def __init__(self, address: str | tuple[str, int], connect: Callable[[], socket.socket]) -> None:
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self._socket = socket.create_server(address, family=family)
        self._connect = connect
        self._relays: list[Relay] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            if client.family == socket.AF_INET:
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._relays.append(Relay(client, self._connect(), lambda why: None))

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()
        for relay in self._relays:
            relay.close()


def to_tcp(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def to_unix(path: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    return connection


def mirror(folder: Path, size: int, relays: int) -> Outcome:
    """Mirror the disk once, through so many relays."""
    copy = folder / "copy"
    with copy.open("wb") as file:
        file.truncate(size)
    port, near, far = free_port(), str(folder / "near"), str(folder / "far")
    inet = {"type": "inet", "host": "127.0.0.1", "port": str(port)}
    with ExitStack() as stack:
        source = Qemu(folder, "source", folder / "disk")
        stack.callback(source.close)
        destination = Qemu(folder, "destination", copy)
        stack.callback(destination.close)
        there = (
            {"type": "unix", "data": {"path": far}} if relays else {"type": "inet", "data": inet_data(port)}
        )
        destination.qmp.run("nbd-server-start", addr=there)
        destination.qmp.run(
            "block-export-add", {"type": "nbd", "id": "x", "node-name": "disk", "writable": True, "name": "x"}
        )
        if relays:
            stack.callback(Listener(("127.0.0.1", port), lambda: to_unix(far)).close)
        if relays == 2:
            stack.callback(Listener(near, lambda: to_tcp(port)).close)
        server = {"type": "unix", "path": near} if relays == 2 else inet
        source.qmp.run(
            "blockdev-add",
            {"driver": "nbd", "node-name": "t", "export": "x", "server": server, "discard": "unmap"},
        )
        began = (time.monotonic(), source.cpu(), destination.cpu(), time.process_time())
        source.qmp.run("blockdev-mirror", {"job-id": "m", "device": "disk", "target": "t", "sync": "full"})
        while "BLOCK_JOB_READY" not in source.qmp.event_names:
            message = source.qmp.read()
            source.qmp.events.append(message)
        ended = (time.monotonic(), source.cpu(), destination.cpu(), time.process_time())
        source.qmp.run("block-job-cancel", device="m")
    for path in (near, far):
        Path(path).unlink(missing_ok=True)
    took = [after - before for before, after in zip(began, ended, strict=True)]
    return Outcome(size / 1e6 / took[0], *took[1:])


def inet_data(port: int) -> dict[str, str]:
    return {"host": "127.0.0.1", "port": str(port)}


WAYS = ("straight", "a relay at the destination", "a relay at each side")
COLUMNS = (
    Column("MB/s", "{:.0f}"),
    Column("source's QEMU, CPU s"),
    Column("destination's QEMU, CPU s"),
    Column("relays, CPU s"),
)


def summary(outcomes: Sequence[Outcome]) -> list[float]:
    """The median of each figure."""
    return [statistics.median(figures) for figures in zip(*map(astuple, outcomes), strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--size-mib", type=int, default=1024)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    if ground.lacks(QEMU[:1], "nothing measured"):
        return
    found: list[list[Outcome]] = [[] for _ in WAYS]
    with ground.folder(2 * options.size_mib + 64) as folder:
        with (folder / "disk").open("wb") as disk:
            for _ in range(options.size_mib):
                disk.write(os.urandom(1 << 20))
        for run in range(options.runs):
            for relays, way in enumerate(WAYS):
                found[relays].append(mirror(folder, options.size_mib << 20, relays))
                print(f"run {run}, {way}: {found[relays][-1]}", flush=True)
    rows = [(way, summary(each)) for way, each in zip(WAYS, found, strict=True)]
    for way, figures in rows:
        cells = (column.format.format(figure) for column, figure in zip(COLUMNS, figures, strict=True))
        print(f"{way:28}", *(f"{cell:>8}" for cell in cells))
    what = (
        f"A mirror of {options.size_mib} MiB between two QEMU 10 by TCP on loopback; median of"
        f" {options.runs} runs in turn."
    )
    results.keep("relay", what, COLUMNS, rows)


if __name__ == "__main__":
    main()
