"""A disk that hangs holds up its own clients alone; they go on when it does."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from qmon.nbd.constants import Command
from tests.support.images import MIB, blank, noise
from tests.support.nbd_client import request
from tests.support.nbd_crowd import Crowd, client_of
from tests.support.nbd_house import SYSTEM, House, Way
from tests.support.peers import lack, require
from tests.support.waiting import PATIENCE, connect_when_there, eventually

SIZE = 8 * MIB
MINUTES = 600_000

pytestmark = pytest.mark.parametrize("house", [Way.UNIX], indirect=True, ids=["unix"])

REQUESTS = {
    "read": request(Command.READ, MIB, 4096, cookie=9),
    "write": request(Command.WRITE, MIB, cookie=9, data=noise(4096)),
    "flush": request(Command.FLUSH, cookie=9),
    "zero": request(Command.WRITE_ZEROES, MIB, 65536, cookie=9),
    "discard": request(Command.TRIM, MIB, 65536, cookie=9),
}


@pytest.mark.parametrize("operation", REQUESTS)
def test_a_disk_that_hangs_leaves_the_clients_of_others_alone(house: House, operation: str) -> None:
    hung, sound = house.disk(noise(SIZE)), house.disk(SIZE)
    rule = house.qmon.qmp("x-qmon-fault-add", drive=hung.name, operation=operation, delay=MINUTES)["id"]
    with client_of(house, hung.name) as client, Crowd(house, sound.name, 8) as others:
        client.send(REQUESTS[operation])
        eventually(
            lambda: [each["hits"] for each in house.qmon.qmp("x-qmon-query-faults")] == [1], "it hangs"
        )
        others.go_round(50)
        with Crowd(house, sound.name, 8, 100) as late, client_of(house, hung.name):
            late.go_round(50)
        assert house.qmon.status() == "running"
        house.qmon.qmp("x-qmon-fault-del", id=rule)
        reply = client.reply(4096 if operation == "read" else 0)
        assert (reply.cookie, reply.error) == (9, 0)
        assert reply.data == (noise(SIZE)[MIB:][:4096] if operation == "read" else b"")
        others.go_round(10)


class Fuse:
    """A file of a file system whose server can be stopped: then its reads and writes hang in the kernel."""

    def __init__(self, folder: Path) -> None:
        self._disk = blank(folder / "under.img", SIZE)
        self._disk.write_bytes(noise(SIZE))
        mount, socket = folder / "mount", folder / "nbdkit.sock"
        mount.mkdir()
        self.file = mount / "disk.img"
        self._mount = mount
        self._server = subprocess.Popen(["nbdkit", "-f", "-U", str(socket), "file", str(self._disk)])
        connect_when_there(socket).close()
        self._fuse = subprocess.Popen(
            ["nbdfuse", str(self.file), f"nbd+unix:///?socket={socket}"], env=SYSTEM, stderr=subprocess.PIPE
        )

    def is_mounted(self) -> bool:
        """Wait until it is; return False if this machine can't."""
        eventually(
            lambda: self.file.exists() or self._fuse.poll() is not None, "nbdfuse has mounted or ended"
        )
        return self._fuse.poll() is None

    def hang(self) -> None:
        self._server.send_signal(signal.SIGSTOP)
        eventually(self._is_stopped, "nbdkit has stopped")

    def _is_stopped(self) -> bool:
        try:
            threads = Path(f"/proc/{self._server.pid}/task").iterdir()
            return all(" T " in (thread / "stat").read_text() for thread in threads)
        except (FileNotFoundError, ProcessLookupError):  # one has just ended
            return False

    def go_on(self) -> None:
        self._server.send_signal(signal.SIGCONT)

    def close(self) -> None:
        self.go_on()
        if self._fuse.poll() is None:  # lazily: after a failure a qmon may have the file open
            subprocess.run(["fusermount3", "-u", "-z", str(self._mount)], check=True)
            self._fuse.terminate()
        self._fuse.communicate()
        self._server.terminate()
        self._server.wait()


@pytest.fixture
def fuse(tmp_path: Path) -> Iterator[Fuse]:
    require("nbdkit", "nbdfuse", "fusermount3")
    fuse = Fuse(tmp_path)
    with contextlib.closing(fuse):
        if not fuse.is_mounted():
            lack("FUSE")
        yield fuse


@pytest.mark.parametrize("operation", ["read", "write"])
def test_a_file_system_that_hangs_leaves_the_clients_of_others_alone(
    house: House, fuse: Fuse, operation: str
) -> None:
    hung, sound = house.opened(f"fuse-{operation}", fuse.file), house.disk(SIZE)
    with client_of(house, hung.name) as client, Crowd(house, sound.name, 8) as others:
        client.ask(Command.READ, 0, 512)
        fuse.hang()
        client.send(REQUESTS[operation])
        client.socket.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.socket.recv(1)
        client.socket.settimeout(PATIENCE)
        others.go_round(50)
        with Crowd(house, sound.name, 8, 100) as late, client_of(house, hung.name):
            late.go_round(50)
        assert house.qmon.status() == "running"
        fuse.go_on()
        reply = client.reply(4096 if operation == "read" else 0)
        assert (reply.cookie, reply.error) == (9, 0)
    house.qmon.quietly(f"nbd_server_remove -f {hung.name}", f"drive_del {hung.name}")
