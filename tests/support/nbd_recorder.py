"""What real clients send in a session, to be replayed: ``python -m tests.support.nbd_recorder``.

A recording is the bytes of one connection from client to server, in ``tests/nbd/recordings/NAME``. Each is
of a client that uses the export d0 of DISK bytes.
"""

from __future__ import annotations

import contextlib
import select
import socket
import tempfile
import threading
from pathlib import Path

from tests.support.images import KIB, MIB, noise
from tests.support.nbd_house import House, Way, run
from tests.support.processes import Lab

RECORDINGS = Path(__file__).parents[1] / "nbd" / "recordings"
DISK = MIB
QEMU = "/opt/qemu10/run"

NBDSH = """
h.pwrite(b"a" * 4096, 0)
h.pwrite(b"b" * 1000, 4000, nbd.CMD_FLAG_FUA)
h.zero(512, 512, nbd.CMD_FLAG_NO_HOLE)
h.trim(65536, 131072)
h.flush()
h.pread(5000, 0)
h.pread_structured(65536, 0, lambda *_: 0, nbd.CMD_FLAG_DF)
h.block_status(1 << 20, 0, lambda *_: 0)
h.block_status(1 << 20, 0, lambda *_: 0, nbd.CMD_FLAG_REQ_ONE)
if h.can_cache(): h.cache(4096, 0)
h.shutdown()
"""
QEMU_IO = [
    "write -P 1 0 4k",
    "write -z 64k 4k",
    "write -z -u 128k 64k",
    "discard 256k 64k",
    "write -f -P 2 3 700",
]
QEMU_IO += ["flush", "read 0 8k", "read 3 5000"]


class Tap(threading.Thread):
    """Passes the connections to one Unix socket on to another, and keeps what their clients have sent."""

    def __init__(self, path: Path, server: Path) -> None:
        super().__init__(daemon=True)
        self.sent: list[bytearray] = []
        self._server = server
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self.start()

    def run(self) -> None:
        while True:
            client, _ = self._listener.accept()
            threading.Thread(target=self._pass_on, args=(client,), daemon=True).start()

    def _pass_on(self, client: socket.socket) -> None:
        sent = bytearray()
        self.sent.append(sent)
        with client, socket.socket(socket.AF_UNIX) as server, contextlib.suppress(ConnectionError):
            server.connect(str(self._server))
            while True:
                for readable in select.select([client, server], [], [])[0]:
                    data = readable.recv(1 << 16)
                    if not data:
                        return
                    if readable is client:
                        sent += data
                        server.sendall(data)
                    else:
                        client.sendall(data)


def record() -> None:
    """Make all recordings anew."""
    with tempfile.TemporaryDirectory() as name, Lab(Path(name)) as lab:
        house = House(lab, Way.UNIX)
        house.disk(DISK, allocation_depth=True)
        path, source = lab.folder / "tap", lab.folder / "source"
        source.write_bytes(noise(8 * KIB) + bytes(DISK - 8 * KIB))
        tap = Tap(path, house.path)
        uri = f"nbd+unix:///d0?socket={path}"
        sessions: dict[str, list[str | Path]] = {
            "libnbd-nbdsh": ["nbdsh", "--base-allocation", "-u", uri, "-c", NBDSH],
            "libnbd-nbdinfo": ["nbdinfo", "--map=qemu:allocation-depth", uri],
            "libnbd-nbdcopy": ["nbdcopy", "--connections=1", "--request-size=4096", source, uri],
            "libnbd-list": ["nbdinfo", "--list", uri],
            "qemu10-io": [QEMU, "qemu-io", "-f", "raw", *(w for c in QEMU_IO for w in ("-c", c)), uri],
            "qemu10-convert": [QEMU, "qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", source, uri],
            "qemu10-map": [QEMU, "qemu-img", "map", "-f", "raw", uri],
            "qemu10-list": [QEMU, "qemu-nbd", "--list", "-k", path],
        }
        for session, command in sessions.items():
            tap.sent.clear()
            run(*command)
            (RECORDINGS / session).write_bytes(max(tap.sent, key=len))


if __name__ == "__main__":
    record()
